"""A callback that keeps the gradients of the first optimiser step."""

from typing import Any

import torch
from lightning.pytorch import Callback

from gift_lightning.methods import GIFT


class SaveFirstGradients(Callback):
    """Writes ``{"gradients": {parameter name: gradient}}`` as the optimiser of step 0 used it, averaged over ranks, and
    for GIFT the ``"importances"`` of the weights.

    Args:
        path: the file; rank 0 writes it.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step != 1 or not trainer.is_global_zero:
            return
        trained = {name: p for name, p in pl_module.clip.named_parameters() if p.requires_grad}
        kept = {"gradients": {name: parameter.grad for name, parameter in trained.items()}}
        if isinstance(pl_module, GIFT):
            kept["importances"] = dict(zip(trained, pl_module.importance(), strict=True))
        torch.save(kept, self.path)
