"""Averages of the weights that training passes through."""

from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.method import Method
from callbacks.task_callback import TaskCallback, method_of, sequence_of
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import CLIP
from gift_lightning.numerics.fusion import interpolate, running_mean_


class WeightAverage(TaskCallback):
    """Averages weights along a task, at its first step and at every ``every`` steps after it.

    * ``mean``: ``average`` is the mean of the weights at these steps and of those before the task, while training goes
      on as if there were none (ZSCL's weight ensemble). It takes the place of the weights at the task's end. With
      ``pull``, that share of the weights before the task, ``start``, is mixed into it each time.
    * ``start`` and ``last``: that share of the weights before the task, or of those at the time before, is mixed into
      the weights themselves, with which training goes on. ``average`` holds the weights that are mixed in.

    A task whose steps are a multiple of ``every`` is averaged once more at its end, as in its authors' loop, which
    makes one step more at rate 0.

    Args:
        average: the method's copy for the average, so that it is in each checkpoint; this callback alone writes it.
        mode: which average.
        every: optimiser steps from one update to the next.
        pull: the share.
        start: likewise, for the weights before the task; needed in the mode ``mean`` with ``pull``.
    """

    def __init__(
        self,
        average: FrozenCopy[CLIP],
        mode: Literal["mean", "start", "last"],
        every: int,
        pull: float = 0.0,
        start: FrozenCopy[CLIP] | None = None,
    ) -> None:
        self.average, self.start = average, start
        self.mode, self.every, self.pull = mode, every, pull

    def on_task_start(self, trainer: Trainer, method: Method, task: int) -> None:
        self.average.copy_from(method.clip)
        if self.start is not None:
            self.start.copy_from(method.clip)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            method = method_of(trainer)
            self._update(method.clip, trainer.global_step - sequence_of(trainer).first_step(method.task) - 1)

    def on_task_trained(self, trainer: Trainer, method: Method, task: int) -> None:
        self._update(method.clip, sequence_of(trainer).steps(task))
        if self.mode == "mean":
            self.average.copy_to(method.clip)

    @torch.no_grad()
    def _update(self, clip: CLIP, step: int) -> None:
        """Average at ``step`` of the task, if it is one of those."""
        if step % self.every:
            return
        weights: list[Tensor] = list(clip.parameters())
        average: list[Tensor] = list(self.average.parameters())
        if self.mode == "mean":
            running_mean_(average, weights, step // self.every + 1)
            if self.start is not None:
                start: list[Tensor] = list(self.start.parameters())
                torch._foreach_copy_(average, interpolate(start, average, alpha=1 - self.pull))
            return
        mixed = interpolate(average, weights, alpha=1 - self.pull)
        if self.mode == "last":
            self.average.copy_from(clip)
        torch._foreach_copy_(weights, mixed)
