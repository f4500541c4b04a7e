"""Contexts in which it is an error to wait for the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = ("_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "is_nonzero", "equal")


class NoWait(TorchDispatchMode):
    """Fails, on any device, at an operation whose value or shape a GPU would have to send back to the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in WAITS, f"aten.{name} waits for the device"
        return func(*args, **(kwargs or {}))


@contextmanager
def no_wait(device: torch.device) -> Iterator[None]:
    """``NoWait``, and on a GPU CUDA's own check."""
    is_cuda = device.type == "cuda"
    with NoWait():
        if is_cuda:
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            if is_cuda:
                torch.cuda.set_sync_debug_mode("default")
