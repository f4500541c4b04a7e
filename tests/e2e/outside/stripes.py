"""A data set of its own: stripes in four directions, drawn when they are asked for."""

import hashlib
import math

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from datamodules import Task

DIRECTIONS = {"horizontal": 90, "vertical": 0, "rising": 135, "falling": 45}
"""Angle of the waves of brightness, in degrees."""


class Drawn(Dataset[tuple[Image.Image, int]]):
    """Grey pictures of 32 x 32 pixels, and the number of their direction."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if index >= self.size:
            raise IndexError(index)
        random = np.random.default_rng([self.seed, index])
        label = index % len(DIRECTIONS)
        angle = math.radians([*DIRECTIONS.values()][label] + random.normal(0, 6))
        y, x = np.mgrid[:32, :32]
        waves = np.sin((x * math.cos(angle) + y * math.sin(angle)) * random.uniform(0.8, 1.2) + random.uniform(0, 6))
        pixels = 127 + 100 * waves + random.normal(0, 15, waves.shape)
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), label


class Stripes(Task):
    """Four directions of stripes.

    Args:
        train_size: training images.
        test_size: test images.
    """

    def __init__(self, train_size: int = 64, test_size: int = 32) -> None:
        super().__init__()
        self.name, self.sizes = "Stripes", (train_size, test_size)
        self.class_names = [f"{direction} stripes" for direction in DIRECTIONS]
        self.templates = ["a photo of {}"]

    def setup(self, stage: str) -> None:
        self.train_set, self.test_set = Drawn(self.sizes[0], seed=1), Drawn(self.sizes[1], seed=2)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"stripes {self.sizes}".encode()).hexdigest()
