"""Replay: image-text pairs that a method sees beside the current task."""

from datamodules.replay.synthetic import SyntheticReplay

__all__ = ["SyntheticReplay"]
