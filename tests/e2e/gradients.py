"""A callback that keeps the gradients of the first optimiser step."""

from typing import Any

import torch
from lightning.pytorch import Callback


class SaveFirstGradients(Callback):
    """Writes ``{parameter name: gradient}`` as the optimiser of step 0 gets it, averaged over ranks.

    Args:
        path: the file; rank 0 writes it.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if trainer.global_step == 0 and trainer.is_global_zero:
            parameters = pl_module.clip.named_parameters()
            torch.save({name: p.grad for name, p in parameters if p.grad is not None}, self.path)
