"""Replay: images and texts that a method sees beside the current task."""
