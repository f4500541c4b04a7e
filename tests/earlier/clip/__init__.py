"""A CLIP of 18,000 parameters with fresh weights."""
