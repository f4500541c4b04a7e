"""Weights made of the weights of several models."""

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def interpolate(start: Sequence[Tensor], trained: Sequence[Tensor], alpha: float) -> list[Tensor]:
    """``(1 - alpha) * start + alpha * trained``, tensor by tensor: ``alpha`` is the weight of ``trained``.

    >>> interpolate([torch.tensor([0.0])], [torch.tensor([10.0])], alpha=0.8)
    [tensor([8.])]
    """
    return [(1 - alpha) * before + alpha * after for before, after in zip(start, trained, strict=True)]


@torch.no_grad()
def running_mean_(mean: Sequence[Tensor], weights: Sequence[Tensor], count: int) -> None:
    """Take ``weights`` into the mean of ``count`` others, in place: ``(count * mean + weights) / (count + 1)``.

    >>> mean = [torch.tensor([2.0])]
    >>> running_mean_(mean, [torch.tensor([5.0])], count=2)
    >>> mean
    [tensor([3.])]
    """
    torch._foreach_lerp_(list(mean), list(weights), 1 / (count + 1))
