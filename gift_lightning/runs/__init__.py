"""A run as a whole: begin it or go on with it, tell whether another is the same, load what it ended with."""
