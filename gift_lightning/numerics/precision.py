"""The precision of products of float32 matrices on CUDA."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32_products(device: torch.device, tf32: bool) -> Iterator[None]:
    """Within it, a CUDA device multiplies float32 matrices as TF32 or in full precision; after it, as before.

    TF32 rounds factors to 10 bits and adds up in float32; tensors stay in float32. Other devices are left alone, and so
    is a process that has chosen a precision by ``torch.backends.*.fp32_precision``.

    Args:
        device: of the matrices.
        tf32: whether; in convolutions, too.

    >>> with float32_products(torch.device("cpu"), tf32=True):
    ...     torch.get_float32_matmul_precision()
    'highest'
    """
    before = products_of_process()
    if device.type != "cuda" or before is None:
        yield
        return
    try:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def products_of_process() -> tuple[str, bool] | None:
    """Of matrices, "highest" or "high" (TF32), and whether convolutions are in TF32; ``None`` if set one by one.

    >>> products_of_process() is None or products_of_process()[0] in ("highest", "high", "medium")
    True
    """
    try:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:  # by ``torch.backends.*.fp32_precision``, which the functions before it cannot tell
        return None
