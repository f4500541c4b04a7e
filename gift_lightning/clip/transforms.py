"""The transform of test images in two parts: what runs once on an image, and what runs on every batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torchvision.transforms import Compose, Normalize, PILToTensor


def split_transform(transform: Callable[[Any], Tensor]) -> tuple[Callable[[Any], Tensor], Callable[[Tensor], Tensor]]:
    """Split a test transform into what runs once on an image and what runs on every batch of it.

    The first part ends in uint8, the second does what ``ToTensor`` and ``Normalize`` do, in the same order. A transform
    of another form is all first part.
    """
    parts = list(getattr(transform, "transforms", []))
    if len(parts) < 2 or not isinstance(parts[-1], Normalize) or "ToTensor" not in type(parts[-2]).__name__:
        return transform, lambda images: images
    return Compose([*parts[:-2], PILToTensor()]), _FromBytes(parts[-1])


@dataclass
class _FromBytes:
    """What ``ToTensor`` and ``Normalize`` do, on uint8 images; not a lambda, which no worker process could be sent."""

    normalize: Normalize

    def __call__(self, images: Tensor) -> Tensor:
        return self.normalize(images.float().div(255))
