"""A run as a whole: begin it or go on with it, compare it with another, load its final model."""
