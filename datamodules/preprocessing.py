"""What data needs of a model: its image transforms, and random texts of its vocabulary."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor


class Preprocessing(Protocol):
    """The transforms of a model's images, and texts of words that it reads: a ``CLIP``, or a stand-in in tests.

    Attributes:
        train_transform: PIL image to ``[3, H, W]`` with augmentation.
        test_geometry: the part of the test transform that runs once on a PIL image, up to ``[3, H, W]`` in uint8 where
            the transform allows it.
        normalize: the rest of the test transform, on ``[n, 3, H, W]`` at each use.
    """

    train_transform: Callable[[Any], Tensor]
    test_geometry: Callable[[Any], Tensor]
    normalize: Callable[[Tensor], Tensor]

    def random_texts(self, count: int, words: int = 10, generator: torch.Generator | None = None) -> list[str]:
        """``count`` texts of random words, see ``CLIP.random_texts``."""
        ...
