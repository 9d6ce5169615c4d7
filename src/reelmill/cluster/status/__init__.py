"""How runs and songs stand, and what may go of them."""
