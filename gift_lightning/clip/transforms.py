"""The test transform in two steps: one runs once on an image, the other on every batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torchvision.transforms import Compose, Normalize, PILToTensor


def split_transform(transform: Callable[[Any], Tensor]) -> tuple[Callable[[Any], Tensor], Callable[[Tensor], Tensor]]:
    """Split a test transform into a step for single images and a step for batches.

    Args:
        transform: PIL image to ``[3, H, W]``.

    Returns:
        The geometry, PIL image to uint8 ``[3, H, W]``, and ``ToTensor`` with ``Normalize``, uint8 ``[n, 3, H, W]`` to
        float32. A transform that does not end in these two is returned whole, with the identity.
    """
    steps = list(getattr(transform, "transforms", []))
    if len(steps) < 2 or not isinstance(steps[-1], Normalize) or "ToTensor" not in type(steps[-2]).__name__:
        return transform, lambda images: images
    return Compose([*steps[:-2], PILToTensor()]), _FromBytes(steps[-1])


@dataclass
class _FromBytes:
    """``ToTensor`` and ``Normalize`` on uint8 images; a class, because a lambda cannot be sent to worker processes."""

    normalize: Normalize

    def __call__(self, images: Tensor) -> Tensor:
        return self.normalize(images.float().div(255))
