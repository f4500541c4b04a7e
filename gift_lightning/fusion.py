"""Weights made of the weights of several models."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F


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


Delta: TypeAlias = Mapping[str, Tensor]
"""A delta model: how far the weights of a fine-tuned model are from those it started from, by name."""


def delta_of(start: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``trained - start``, tensor by tensor (ConDU, delta model)."""
    return {name: trained[name].detach() - weight.detach() for name, weight in start.items()}


@dataclass(frozen=True)
class Fusion:
    """Several delta models in one, with what brings each back: its *task trigger*, a mask and a rescaler.

    Attributes:
        unified: the unified delta model.
        masks: for each task, which entries of the unified delta point the way that the task's own did; packed, eight
            entries to a byte, tensors one after the other (``pack_mask``).
        rescalers: for each task a factor.
    """

    unified: dict[str, Tensor]
    masks: list[Tensor]
    rescalers: list[float]

    def __len__(self) -> int:
        return len(self.masks)

    def to(self, device: torch.device) -> "Fusion":
        """The same on a device."""
        unified = {name: tensor.to(device) for name, tensor in self.unified.items()}
        return Fusion(unified, [mask.to(device) for mask in self.masks], self.rescalers)


class Decoupled(Mapping[str, Tensor]):
    """The delta model of one task, brought back tensor by tensor: ``unified * mask * rescaler`` (ConDU, decoupling).

    No more than the tensor that is asked for is ever in memory.

    Args:
        fusion: what holds the task.
        task: its place among the fused ones.
    """

    def __init__(self, fusion: Fusion, task: int) -> None:
        self._unified, self._packed, self._rescaler = fusion.unified, fusion.masks[task], fusion.rescalers[task]
        ends = list(accumulate(tensor.numel() for tensor in fusion.unified.values()))
        self._first = dict(zip(fusion.unified, [0, *ends], strict=False))

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._unified[name]
        mask = unpack_mask(self._packed, self._first[name], tensor.numel()).view_as(tensor)
        return (tensor * self._rescaler).masked_fill(~mask, 0.0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._unified)

    def __len__(self) -> int:
        return len(self._unified)


@torch.no_grad()
def unify(deltas: Sequence[Delta]) -> Fusion:
    """Fuse delta models into one (ConDU, unifying).

    sign = that of the mean of the deltas (of 0: negative)
    mask_i = delta_i has this sign
    unified = sign * max_i |delta_i|, over those that have it
    rescaler_i = sum_n mean |delta_i,n| / sum_n mean |mask_i,n * unified_n|, over tensors n

    Small tensors weigh as much in a rescaler as large ones, as in the authors' code. A delta without any entry gets the
    rescaler 1.

    >>> fusion = unify([{"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([3.0, 1.0])}])
    >>> fusion.unified["w"], fusion.rescalers
    (tensor([ 3., -2.]), [0.6000000238418579, 1.3333333730697632])
    >>> Decoupled(fusion, 0)["w"]
    tensor([ 1.8000, -1.2000])
    """
    unified: dict[str, Tensor] = {}
    masks: list[list[Tensor]] = [[] for _ in deltas]
    first = next(iter(deltas[0].values()))
    dtype = torch.promote_types(first.dtype, torch.float32)  # sums in half precision would lose the small tensors
    own, kept = (first.new_zeros(len(deltas), dtype=dtype) for _ in range(2))
    for name in deltas[0]:
        stacked = torch.stack([delta[name] for delta in deltas])
        sign = torch.where(stacked.mean(0) > 0, 1.0, -1.0).to(stacked.dtype)
        mask = stacked * sign > 0
        unified[name] = sign * stacked.abs().masked_fill(~mask, 0.0).amax(0)
        count = unified[name].numel()
        own += stacked.abs().view(len(deltas), -1).sum(1, dtype=dtype) / count
        kept += (unified[name] * mask).abs().view(len(deltas), -1).sum(1, dtype=dtype) / count
        for task, part in enumerate(mask):
            masks[task].append(part.flatten())
    empty = kept == 0
    if empty.any():
        warnings.warn("A delta model has no entry that the fusion keeps: its rescaler is set to 1.", stacklevel=2)
    rescalers = torch.where(empty, torch.ones_like(own), own / kept).tolist()
    return Fusion(unified, [pack_mask(torch.cat(parts)) for parts in masks], rescalers)


def fuse(fusion: Fusion | None, delta: Delta) -> Fusion:
    """Take in a further delta model (ConDU, iterative update): the earlier ones are decoupled, and all unified anew.

    What the earlier fusions lost is not brought back, so the result depends on the order, and differs from ``unify`` of
    all deltas at once.
    """
    earlier = [] if fusion is None else [Decoupled(fusion, task) for task in range(len(fusion))]
    return unify([*earlier, delta])


def pack_mask(mask: Tensor) -> Tensor:
    """Eight entries of a boolean mask ``[n]`` to a byte, the first in the highest bit: ``[ceil(n / 8)]``.

    >>> pack_mask(torch.tensor([True, False, False, False, False, False, False, True, True]))
    tensor([129, 128], dtype=torch.uint8)
    """
    padded = F.pad(mask.to(torch.uint8), (0, -len(mask) % 8)).view(-1, 8)
    return (padded << torch.arange(7, -1, -1, device=mask.device, dtype=torch.uint8)).sum(1).to(torch.uint8)


def unpack_mask(packed: Tensor, first: int, count: int) -> Tensor:
    """``count`` entries of a packed mask, from entry ``first`` on: boolean ``[count]``.

    >>> unpack_mask(torch.tensor([129, 128], dtype=torch.uint8), 7, 2)
    tensor([True, True])
    """
    bits = packed[first // 8 : (first + count + 7) // 8]
    shifts = torch.arange(7, -1, -1, device=packed.device, dtype=torch.uint8)
    return ((bits[:, None] >> shifts) & 1).bool().flatten()[first % 8 :][:count]
