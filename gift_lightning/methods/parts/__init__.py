"""What several methods share, and what is no method by itself."""
