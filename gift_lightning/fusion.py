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
