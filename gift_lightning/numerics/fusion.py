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

    It lies in the memory of the host, and what is asked of it is computed where it is needed, some entries at a time.

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


class Decoupled(Mapping[str, Tensor]):
    """The delta model of one task, brought back tensor by tensor: ``unified * mask * rescaler`` (ConDU, decoupling).

    No more than what is asked for is ever in memory.

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
        return self.entries(name, 0, tensor.numel(), tensor.device).view_as(tensor)

    def __iter__(self) -> Iterator[str]:
        return iter(self._unified)

    def __len__(self) -> int:
        return len(self._unified)

    def entries(self, name: str, first: int, last: int, device: torch.device) -> Tensor:
        """Entries ``first`` to ``last - 1`` of a tensor, counted through all its dimensions, on a device."""
        begin, end = self._first[name] + first, self._first[name] + last
        packed = self._packed[begin // 8 : (end + 7) // 8].to(device)
        values = self._unified[name].flatten()[first:last].to(device)
        return (values * self._rescaler).mul_(unpack_mask(packed, begin % 8, end - begin))


@torch.no_grad()
def write_expert_(weights: Mapping[str, Tensor], start: Mapping[str, Tensor], delta: Decoupled) -> None:
    """Make ``weights`` those of a task's expert, ``start + delta``, in place; those that no task changed stay.

    Beside the two models next to nothing is in memory, however large the largest tensor.
    """
    for name in delta:
        weight, begin = weights[name].view(-1), start[name].view(-1)
        for first, last in _parts(weight):
            change = delta.entries(name, first, last, weight.device)
            torch.add(begin[first:last], change, out=weight[first:last])


@torch.no_grad()
def unify(deltas: Sequence[Delta]) -> Fusion:
    """Fuse delta models into one (ConDU, unifying).

    sign = that of the mean of the deltas (of 0: negative)
    mask_i = delta_i has this sign
    unified = sign * max_i |delta_i|, over those that have it
    rescaler_i = sum_n mean |delta_i,n| / sum_n mean |mask_i,n * unified_n|, over tensors n

    Small tensors weigh as much in a rescaler as large ones, as in the authors' code. A delta without any entry gets the
    rescaler 1. Computed on the device of the last delta, some entries at a time.

    >>> fusion = unify([{"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([3.0, 1.0])}])
    >>> fusion.unified["w"], fusion.rescalers
    (tensor([ 3., -2.]), [0.6000000238418579, 1.3333333730697632])
    >>> Decoupled(fusion, 0)["w"]
    tensor([ 1.8000, -1.2000])
    """
    unified: dict[str, Tensor] = {}
    sample = next(iter(deltas[-1].values()))
    dtype = torch.promote_types(sample.dtype, torch.float32)  # sums in half precision would lose the small tensors
    own, kept = (sample.new_zeros(len(deltas), dtype=dtype) for _ in range(2))
    masks = _MaskWriter(sample.new_zeros(len(deltas), 0, dtype=torch.bool))
    for name, last_delta in deltas[-1].items():
        whole = torch.empty(last_delta.shape, dtype=last_delta.dtype)
        for first, last in _parts(last_delta):
            stacked = torch.stack([_entries(delta, name, first, last, sample.device) for delta in deltas])
            own += torch.linalg.vector_norm(stacked, 1, dim=1, dtype=dtype) / whole.numel()
            sign = stacked.mean(0).gt(0).to(stacked.dtype).mul_(2).sub_(1)
            stacked.mul_(sign)
            size = stacked.amax(0).clamp_(min=0)
            mask = stacked > 0
            kept += (stacked.sign_().clamp_(min=0).to(dtype) @ size.to(dtype)) / whole.numel()
            part = size.mul_(sign)
            masks.add(mask)
            whole.view(-1)[first:last] = part
        unified[name] = whole
    empty = kept == 0
    if empty.any():
        warnings.warn("A delta model has no entry that the fusion keeps: its rescaler is set to 1.", stacklevel=2)
    rescalers = torch.where(empty, torch.ones_like(own), own / kept).tolist()
    return Fusion(unified, masks.packed(), rescalers)


def fuse(fusion: Fusion | None, delta: Delta) -> Fusion:
    """Take in a further delta model (ConDU, iterative update): the earlier ones are decoupled, and all unified anew.

    What the earlier fusions lost is not brought back, so the result depends on the order, and differs from ``unify`` of
    all deltas at once.
    """
    earlier = [] if fusion is None else [Decoupled(fusion, task) for task in range(len(fusion))]
    return unify([*earlier, delta])


def _parts(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """The entries of a tensor in ranges: what is computed of each is small beside a model, and stays in the caches."""
    size = tensor.numel()
    return ((first, min(first + 2**18, size)) for first in range(0, size, 2**18))


def _entries(delta: Delta, name: str, first: int, last: int, device: torch.device) -> Tensor:
    if isinstance(delta, Decoupled):
        return delta.entries(name, first, last, device)
    return delta[name].flatten()[first:last].to(device)


def pack_mask(mask: Tensor) -> Tensor:
    """Eight entries of a boolean mask ``[..., n]`` to a byte, the first in the highest bit: ``[..., ceil(n / 8)]``.

    >>> pack_mask(torch.tensor([True, False, False, False, False, False, False, True, True]))
    tensor([129, 128], dtype=torch.uint8)
    """
    padded = F.pad(mask, (0, -mask.shape[-1] % 8))
    # one product moves the lowest bit of each of eight bytes to its place in the highest one
    packed = (padded.flatten().view(torch.int64) * -0x7FBFDFEFF7FBFDFF) >> 56
    return packed.to(torch.uint8).view(*mask.shape[:-1], padded.shape[-1] // 8)


def unpack_mask(packed: Tensor, first: int, count: int) -> Tensor:
    """``count`` entries of a packed mask, from entry ``first`` on: boolean ``[count]``.

    >>> unpack_mask(torch.tensor([129, 128], dtype=torch.uint8), 7, 2)
    tensor([True, True])
    """
    last = first + count
    eights = _EIGHTS.to(packed.device).index_select(0, packed[first // 8 : (last + 7) // 8].int())
    return eights.view(torch.bool)[first % 8 :][:count]


_EIGHTS = (torch.arange(256)[:, None] >> torch.arange(7, -1, -1) & 1).bool().view(torch.int64).flatten()
"""What each byte of a packed mask stands for: eight booleans, seen as one number."""


class _MaskWriter:
    """Packs the masks of several tasks, ``[T, n]`` at a time, as if they came in one piece."""

    def __init__(self, rest: Tensor) -> None:
        self._rest, self._bytes = rest, [rest.cpu().to(torch.uint8)]

    def add(self, masks: Tensor) -> None:
        masks = torch.cat([self._rest, masks], dim=1)
        whole = masks.shape[1] // 8 * 8
        self._bytes.append(pack_mask(masks[:, :whole]).cpu())
        self._rest = masks[:, whole:]

    def packed(self) -> list[Tensor]:
        rows = torch.cat([*self._bytes, pack_mask(self._rest).cpu()], dim=1)
        return [row.clone() for row in rows]  # each a tensor of its own, as files of tensors want them
