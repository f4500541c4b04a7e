"""The end of an optimiser step: checkpoints within a task, and the point where a run is stopped."""

import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, Timer

from datamodules.signals import OUT_OF_TIME, signals_of
from gift_lightning.records.checkpoint import IN_BACKGROUND, AtomicCheckpointIO
from gift_lightning.records.run_folder import RunFolder

_STEPS_BETWEEN_QUESTIONS = 50
"""Optimiser steps after which ranks ask the first one for the time: the answer is a message, for which all wait."""


class StepCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` when ``folder.checkpoint_minutes`` have passed, or every ``folder.checkpoint_every`` steps.

    Task boundaries write it themselves. Minutes count from the beginning of the task's steps, or from the checkpoint
    before. Of several ranks the first one's clock decides; the others hear of it every 50 steps. With
    ``AtomicCheckpointIO`` the file is written in the background, while training goes on.

    It writes when a step is over and its rows of metrics are logged: Lightning has no hook there, and logs a
    step after the last hook of its batch. A checkpoint of that hook would be ahead of the loggers, and a kill between
    the two would lose a row.

    The end of a step is also where a run is stopped, with a checkpoint: by a signal, see ``Signals``, by a limit of its
    time, or by what sets ``trainer.should_stop``. Amid accumulated batches, they wait for the end of the step.

    Unlike Lightning's ``ModelCheckpoint`` it never saves amid accumulated batches, whose gradients are in no
    checkpoint, and keeps nothing in memory that a resumed run would miss.

    Args:
        folder: where the checkpoint goes.
        max_time: of this call, as Lightning's ``Trainer`` takes it, from the beginning of the training; the next call
            has as much again. The first rank's clock decides. Lightning's own ``Timer`` asks it at every step, and
            waits for the answer on the device. It has effect in ``fit`` alone, whose ranks agree on it by ``Signals``.
    """

    def __init__(self, folder: RunFolder, max_time: str | timedelta | dict[str, int] | None = None) -> None:
        self.folder = folder
        self._limit = Timer(max_time).time_remaining()  # reads all forms of max_time
        self._began = self._since = 0.0
        self._is_stopping = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = self._since = time.monotonic()
        self._is_stopping = False
        loop = trainer.fit_loop.epoch_loop
        finish_batch = loop.on_advance_end

        def finish(*arguments: Any) -> None:
            finish_batch(*arguments)
            self._stop_later(trainer)
            if (loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0:
                self._finish_step(trainer)

        loop.on_advance_end = finish  # type: ignore[method-assign, assignment]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._stop_later(trainer)  # Lightning logs the step at which it stops, and a run that goes on has no such row

    def _stop_later(self, trainer: Trainer) -> None:
        self._is_stopping |= trainer.should_stop
        trainer.should_stop = False

    def _finish_step(self, trainer: Trainer) -> None:
        signals = signals_of(trainer)
        is_over = self._limit is not None and time.monotonic() - self._began >= self._limit
        if is_over and trainer.is_global_zero:
            signals.raise_flag(OUT_OF_TIME)
        leaves = signals.safe_point()
        trainer.should_stop = self._is_stopping
        if leaves or self._is_stopping:
            trainer.save_checkpoint(self.folder.last_checkpoint)
        elif self._is_due(trainer):
            self._save(trainer)
        if leaves:
            signals.leave()

    def _is_due(self, trainer: Trainer) -> bool:
        every = self.folder.checkpoint_every
        if every is not None and trainer.global_step % every == 0:
            return True
        passed = time.monotonic() - self._since >= 60 * self.folder.checkpoint_minutes
        if trainer.world_size == 1:
            return passed
        if trainer.global_step % _STEPS_BETWEEN_QUESTIONS:
            return False
        return trainer.strategy.reduce_boolean_decision(passed and trainer.is_global_zero, all=False)

    def _save(self, trainer: Trainer) -> None:
        has_thread = isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
        trainer.save_checkpoint(self.folder.last_checkpoint, storage_options=IN_BACKGROUND if has_thread else None)
        self._since = time.monotonic()
