"""The precision of products of float32 matrices in a run on CUDA."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning import Trainer


@contextmanager
def float32_products(trainer: Trainer, tf32: bool) -> Iterator[None]:
    """Within it, a CUDA device multiplies float32 matrices as TF32 or in full precision; after it, as before.

    TF32 rounds the factors to 10 bits, adds up in float32, and is several times as fast on GPUs from Ampere on.
    Weights, gradients and the optimiser stay in float32. Other devices and precisions are left alone.

    Args:
        trainer: of the run.
        tf32: whether; in convolutions, too.
    """
    if trainer.strategy.root_device.type != "cuda" or trainer.precision != "32-true":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
