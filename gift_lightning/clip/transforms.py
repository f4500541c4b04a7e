"""Image transforms in two steps: one on a single image, on the CPU; the other on a batch, where the model is."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import Compose, Normalize, PILToTensor

Geometry = Callable[[Any], Tensor]
"""PIL image to ``[3, H, W]``."""


def split_transforms(train: Geometry, test: Geometry) -> tuple[Geometry, Geometry, Callable[[Tensor], Tensor]]:
    """Split the transforms of a model into a step for single images each, and one step for batches of both.

    Args:
        train: PIL image to ``[3, H, W]``, with augmentation.
        test: the same without.

    Returns:
        The geometry of both, PIL image to uint8 ``[3, H, W]``, and ``ToTensor`` with ``Normalize``, uint8
        ``[n, 3, H, W]`` to float32. A transform that does not end in these two, or in those of ``test``, is returned
        whole: the last step leaves its floating-point images as they are.
    """
    test_geometry, normalize = split_transform(test)
    train_geometry, other = split_transform(train)
    return train_geometry if other == normalize else train, test_geometry, normalize


def split_transform(transform: Geometry) -> tuple[Geometry, Callable[[Tensor], Tensor]]:
    """Split one transform: geometry and normalisation, see ``split_transforms``; or it, whole, and the identity."""
    steps = list(getattr(transform, "transforms", []))
    if len(steps) < 2 or not isinstance(steps[-1], Normalize) or "ToTensor" not in type(steps[-2]).__name__:
        return transform, _identity
    mean, std = (tuple(torch.as_tensor(part, dtype=torch.float32).tolist()) for part in (steps[-1].mean, steps[-1].std))
    return Compose([*steps[:-2], PILToTensor()]), _FromBytes(mean, std)


def _identity(images: Tensor) -> Tensor:
    return images


@dataclass(frozen=True)
class _FromBytes:
    """``ToTensor`` and ``Normalize`` on batches of integer images, with the mean and deviation of each channel.

    The values are those of torchvision's ``Normalize``, which on a GPU would wait for the device at each call.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        if images.is_floating_point():
            return images
        mean, std = (_channels(values, images.device) for values in (self.mean, self.std))
        return images.float().div_(255).sub_(mean).div_(std)


@functools.cache
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """``[C, 1, 1]`` in float32, sent to a device once."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
