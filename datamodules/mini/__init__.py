"""MiniMTIL: an embedded benchmark of six small tasks, with a small CLIP pre-trained on a general world of pictures."""

from datamodules.mini.oracle import NoiseGenerator, OracleGenerator
from datamodules.mini.reference import GeneralReference
from datamodules.mini.tasks import Counting, Digits, Flags, LandUse, Shapes, Textures

__all__ = [
    "Counting",
    "Digits",
    "Flags",
    "GeneralReference",
    "LandUse",
    "NoiseGenerator",
    "OracleGenerator",
    "Shapes",
    "Textures",
]
