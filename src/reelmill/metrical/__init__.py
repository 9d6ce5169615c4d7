"""Where a tune is in its meter, character by character."""
