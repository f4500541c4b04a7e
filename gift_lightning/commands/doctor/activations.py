"""Bytes that a step takes beside weights, gradients and optimiser, counted without computing anything."""

import weakref
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gift_lightning.methods import ContinualCLIP


def activation_bytes(method: ContinualCLIP, images: int, texts: tuple[int, int], half: bool) -> int | None:
    """The most bytes alive in a forward and a backward pass of both towers, without the gradients of weights.

    The tensors have shapes and no memory, on any machine: it takes seconds. Attention is the fused one, as on a GPU.

    Args:
        method: an outline of it, which is not changed.
        images: in the batch.
        texts: in the batch, and tokens of each.
        half: whether products are in bfloat16 (``trainer.precision`` bf16-mixed).

    Returns:
        ``None`` if the method trains nothing by way of ``encode``, or its towers look at values.
    """
    outlined, alive = deepcopy(method), AliveBytes()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            _materialise(outlined)
            size = outlined.clip.model.visual.image_size
            height, width = size if isinstance(size, tuple | list) else (size, size)
            batch, tokens = torch.empty(images, 3, height, width), torch.zeros(texts, dtype=torch.long)
            with alive:
                with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
                    features, classes = outlined.encode(batch, tokens)
                if not (features.requires_grad or classes.requires_grad):
                    return None
                (features.sum() + classes.sum()).backward()
    except DataDependentOutputException:
        return None
    return alive.most


class AliveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are made within it and alive.

    Attributes:
        now: bytes alive.
        most: the largest number of bytes that were alive at a time.

    >>> with AliveBytes() as alive:
    ...     total = torch.ones(1000).add(1).sum()
    >>> alive.most, alive.now
    (8000, 4)
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.device.type != "meta":
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._storages:
            self._storages.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.now -= size


def _materialise(method: nn.Module) -> None:
    """Give an outline tensors of the current mode in the place of those on the meta device; no gradient stays."""
    for module in method.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                made = nn.Parameter(_like(parameter), requires_grad=parameter.requires_grad)
                module._parameters[name] = made
                if made.requires_grad:
                    made.register_post_accumulate_grad_hook(_drop_gradient)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else _like(buffer)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None
