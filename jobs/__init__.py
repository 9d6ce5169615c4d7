"""What a person submits. Each module parses a command line and calls one function of ``reelmill.cluster``."""
