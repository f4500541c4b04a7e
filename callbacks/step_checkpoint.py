"""Checkpoints within a task."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gift_lightning.records.run_folder import RunFolder


class StepCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` every ``folder.checkpoint_every`` optimiser steps; task boundaries write it themselves.

    It writes when a step is over and its rows of metrics are logged: Lightning has no hook there, and logs a
    step after the last hook of its batch. A checkpoint of that hook would be ahead of the loggers, and a kill between
    the two would lose a row.

    Unlike Lightning's ``ModelCheckpoint`` it never saves amid accumulated batches, whose gradients are in no
    checkpoint, and keeps nothing in memory that a resumed run would miss.

    Args:
        folder: where the checkpoint goes.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loop = trainer.fit_loop.epoch_loop
        finish_batch = loop.on_advance_end

        def finish_and_save(*arguments: Any) -> None:
            finish_batch(*arguments)
            stepped = (loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0
            if stepped and trainer.global_step % self.folder.checkpoint_every == 0:
                trainer.save_checkpoint(self.folder.last_checkpoint)

        loop.on_advance_end = finish_and_save  # type: ignore[method-assign, assignment]
