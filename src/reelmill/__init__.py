"""reelmill."""
