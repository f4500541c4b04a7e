"""The image transforms through which data reaches a model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor

from gift_lightning.clip.transforms import split_transforms


class Preprocessing(Protocol):
    """The transforms of a model's images: a ``CLIP`` has them, ``ImageTransforms`` has nothing else.

    Attributes:
        train_geometry: the part of the training transform that runs on a single PIL image, with the augmentation, up to
            ``[3, H, W]`` in uint8 where the transform allows it.
        test_geometry: the same of the test transform, run once on each image.
        normalize: the rest of both, on ``[n, 3, H, W]`` on the device, at each use.
    """

    train_geometry: Callable[[Any], Tensor]
    test_geometry: Callable[[Any], Tensor]
    normalize: Callable[[Tensor], Tensor]


@runtime_checkable
class Vocabulary(Protocol):
    """A model that draws random texts from its vocabulary, as a ``CLIP`` does."""

    def random_texts(self, count: int, words: int = 10, generator: torch.Generator | None = None) -> list[str]:
        """``count`` texts of random words, see ``CLIP.random_texts``."""
        ...


@dataclass
class ImageTransforms(Preprocessing):
    """A ``Preprocessing`` without a model."""

    train_geometry: Callable[[Any], Tensor]
    test_geometry: Callable[[Any], Tensor]
    normalize: Callable[[Tensor], Tensor]

    @classmethod
    def of_clip(cls, size: int = 224) -> "ImageTransforms":
        """The usual transforms of CLIP, as open_clip has them: bicubic, with the mean and deviation of OpenAI's images.

        Args:
            size: height and width in pixels. In training a random part of 90 to 100 % of the image is resized to it, in
                testing the shorter side, of which the centre is cropped.
        """
        config = PreprocessCfg(size=size)
        return cls(*split_transforms(*(image_transform_v2(config, is_train) for is_train in (True, False))))


CLIP_TRANSFORMS = ImageTransforms.of_clip()
"""CLIP's usual transforms for 224 pixels: the default without a model."""
