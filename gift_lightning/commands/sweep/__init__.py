"""The command ``sweep``: many runs from one file."""
