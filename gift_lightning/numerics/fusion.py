"""Interpolation, running means and fusion of the weights of several models."""

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

    Reference: Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT), CVPR 2022, arXiv 2109.01903.

    >>> interpolate([torch.tensor([0.0])], [torch.tensor([10.0])], alpha=0.8)
    [tensor([8.])]
    """
    return [(1 - alpha) * before + alpha * after for before, after in zip(start, trained, strict=True)]


@torch.no_grad()
def running_mean_(mean: Sequence[Tensor], weights: Sequence[Tensor], count: int) -> None:
    """Add ``weights`` to the mean of ``count`` others, in place: ``(count * mean + weights) / (count + 1)``.

    >>> mean = [torch.tensor([2.0])]
    >>> running_mean_(mean, [torch.tensor([5.0])], count=2)
    >>> mean
    [tensor([3.])]
    """
    torch._foreach_lerp_(list(mean), list(weights), 1 / (count + 1))


Delta: TypeAlias = Mapping[str, Tensor]
"""A delta model: the differences of a fine-tuned model's weights from its starting weights, by name."""


def delta_of(start: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``trained - start``, tensor by tensor (ConDU, delta model).

    >>> delta_of({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.5, 2.0])})
    {'w': tensor([0.5000, 0.0000])}
    """
    return {name: trained[name].detach() - weight.detach() for name, weight in start.items()}


@dataclass(frozen=True)
class Fusion:
    """Several delta models in one, with a *task trigger* for each: a mask and a rescaler that restore it.

    The tensors lie in the memory of the host. Deltas are computed on the device of their use, some entries at a time.

    Reference: Gao et al., "Enhanced Continual Learning of Vision-Language Models with Model Fusion", arXiv 2503.10705.

    Attributes:
        unified: the unified delta model, ``N`` entries in all.
        masks: for each task uint8 ``[ceil(N / 8)]``: the entries whose sign in the task's delta is that of the unified
            one, packed by ``pack_mask``, tensors one after the other.
        rescalers: for each task a factor.

    >>> fusion = unify([{"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([3.0, 1.0])}])
    >>> len(fusion), unpack_mask(fusion.masks[1], 0, 2)
    (2, tensor([ True, False]))
    """

    unified: dict[str, Tensor]
    masks: list[Tensor]
    rescalers: list[float]

    def __len__(self) -> int:
        return len(self.masks)


class Decoupled(Mapping[str, Tensor]):
    """The delta model of one task, restored tensor by tensor: ``unified * mask * rescaler`` (ConDU, decoupling).

    Only the requested tensor is in memory.

    Args:
        fusion: of several tasks.
        task: index of the task among them.

    >>> delta = Decoupled(unify([{"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([3.0, 1.0])}]), task=1)
    >>> delta["w"], delta.entries("w", 0, 1, torch.device("cpu"))
    (tensor([4., -0.]), tensor([4.]))
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
        """Entries ``first`` to ``last - 1`` of a flattened tensor, ``[last - first]``, on a device."""
        begin, end = self._first[name] + first, self._first[name] + last
        packed = self._packed[begin // 8 : (end + 7) // 8].to(device)
        values = self._unified[name].flatten()[first:last].to(device)
        return (values * self._rescaler).mul_(unpack_mask(packed, begin % 8, end - begin))


@torch.no_grad()
def write_expert_(weights: Mapping[str, Tensor], start: Mapping[str, Tensor], delta: Decoupled) -> None:
    """Set ``weights`` to those of a task's expert, ``start + delta``, in place; weights without a delta stay.

    The working memory is that of 2^18 entries, however large the largest tensor.

    Args:
        weights: of the model, by name.
        start: of the pre-trained model, with the names of ``delta``.
        delta: of the task.

    >>> weights, start = {"w": torch.zeros(2)}, {"w": torch.tensor([1.0, 1.0])}
    >>> write_expert_(weights, start, Decoupled(unify([{"w": torch.tensor([0.5, -0.5])}]), task=0))
    >>> weights
    {'w': tensor([1.5000, 0.5000])}
    """
    for name in delta:
        weight, begin = weights[name].view(-1), start[name].view(-1)
        for first, last in _ranges(weight):
            change = delta.entries(name, first, last, weight.device)
            torch.add(begin[first:last], change, out=weight[first:last])


@torch.no_grad()
def unify(deltas: Sequence[Delta]) -> Fusion:
    """Fuse delta models into one (ConDU, unifying).

    sign = sign of the mean of the deltas (negative for 0)
    mask_i = delta_i has this sign
    unified = sign * max_i |delta_i|, over the deltas with this sign
    rescaler_i = sum_n mean |delta_i,n| / sum_n mean |mask_i,n * unified_n|, over tensors n

    Small tensors weigh as much in a rescaler as large ones, as in the authors' code. A delta with an empty mask gets
    the rescaler 1, with a warning. Computed on the device of the last delta, some entries at a time.

    Reference: as ``Fusion``.

    Args:
        deltas: of the tasks, with the same names and shapes.

    >>> fusion = unify([{"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([3.0, 1.0])}])
    >>> fusion.unified["w"], fusion.rescalers
    (tensor([ 3., -2.]), [0.6000000238418579, 1.3333333730697632])
    >>> Decoupled(fusion, 0)["w"]
    tensor([ 1.8000, -1.2000])
    """
    unified: dict[str, Tensor] = {}
    sample = next(iter(deltas[-1].values()))
    dtype = torch.promote_types(sample.dtype, torch.float32)  # sums in half precision would lose the small tensors
    full, masked = (sample.new_zeros(len(deltas), dtype=dtype) for _ in range(2))  # mean sizes, summed over tensors
    masks = _MaskWriter(sample.new_zeros(len(deltas), 0, dtype=torch.bool))
    for name, last_delta in deltas[-1].items():
        whole = torch.empty(last_delta.shape, dtype=last_delta.dtype)
        for first, last in _ranges(last_delta):
            stacked = torch.stack([_entries(delta, name, first, last, sample.device) for delta in deltas])
            full += torch.linalg.vector_norm(stacked, 1, dim=1, dtype=dtype) / whole.numel()
            sign = stacked.mean(0).gt(0).to(stacked.dtype).mul_(2).sub_(1)
            stacked.mul_(sign)
            size = stacked.amax(0).clamp_(min=0)
            mask = stacked > 0
            masked += (stacked.sign_().clamp_(min=0).to(dtype) @ size.to(dtype)) / whole.numel()
            part = size.mul_(sign)
            masks.add(mask)
            whole.view(-1)[first:last] = part
        unified[name] = whole
    empty = masked == 0
    if empty.any():
        warnings.warn("The mask of a delta model is empty: its rescaler is set to 1.", stacklevel=2)
    rescalers = torch.where(empty, torch.ones_like(full), full / masked).tolist()
    return Fusion(unified, masks.packed(), rescalers)


def fuse(fusion: Fusion | None, delta: Delta) -> Fusion:
    """Add a delta model (ConDU, iterative update): the earlier ones are decoupled, and all are unified again.

    Entries lost in earlier fusions stay lost, so the result depends on the order of the tasks, and differs from
    ``unify`` of all deltas at once.

    Args:
        fusion: of the earlier tasks; ``None`` before the first one.
        delta: of the new task.

    >>> fusion = fuse(fuse(None, {"w": torch.tensor([1.0, -2.0])}), {"w": torch.tensor([3.0, 1.0])})
    >>> fusion.unified, len(fusion)
    ({'w': tensor([ 3., -2.])}, 2)
    """
    earlier = [] if fusion is None else [Decoupled(fusion, task) for task in range(len(fusion))]
    return unify([*earlier, delta])


def _ranges(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of a tensor's entries, small enough for the caches of a CPU."""
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
"""The eight booleans of each byte of a packed mask, viewed as one number."""


class _MaskWriter:
    """Packs the masks of several tasks, added in pieces of ``[T, n]``."""

    def __init__(self, rest: Tensor) -> None:
        self._rest, self._bytes = rest, [rest.cpu().to(torch.uint8)]

    def add(self, masks: Tensor) -> None:
        masks = torch.cat([self._rest, masks], dim=1)
        whole = masks.shape[1] // 8 * 8
        self._bytes.append(pack_mask(masks[:, :whole]).cpu())
        self._rest = masks[:, whole:]

    def packed(self) -> list[Tensor]:
        rows = torch.cat([*self._bytes, pack_mask(self._rest).cpu()], dim=1)
        return [row.clone() for row in rows]  # without shared storage: safetensors refuses it
