"""The command ``doctor``: what it asks, estimates, fetches and prints."""
