"""The compiled loop of the automaton."""
