"""Checkpoints within a task."""

from typing import Any

from lightning.pytorch.callbacks import Checkpoint

from callbacks.task_callback import Module, Trainer
from gift_lightning.run_folder import RunFolder


class StepCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` every ``folder.checkpoint_every`` optimiser steps; task boundaries write it themselves.

    Unlike Lightning's ``ModelCheckpoint`` it never saves amid accumulated batches, whose gradients are in no
    checkpoint, and keeps nothing in memory that a resumed run would miss. Lightning calls it after all other callbacks.

    Args:
        folder: where the checkpoint goes.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and trainer.global_step % self.folder.checkpoint_every == 0:
            trainer.save_checkpoint(self.folder.last_checkpoint)
