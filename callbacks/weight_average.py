"""Averages of the weights that training passes through."""

from typing import Literal

import torch

from callbacks.task_callback import Module, TaskCallback, Trainer
from gift_lightning.numerics.fusion import interpolate, running_mean_


class WeightAverage(TaskCallback):
    """Averages weights along a task, at its first step and at every ``every`` steps after it.

    * ``mean``: the mean of the weights at these steps and of those before the task is kept in ``module.average``, while
      training goes on as if there were none (ZSCL's weight ensemble). It takes the place of the weights at the task's
      end. With ``pull``, that share of the weights before the task, ``module.start``, is mixed into it each time.
    * ``start`` and ``last``: that share of the weights before the task, or of those at the time before, is mixed into
      the weights themselves, with which training goes on. ``module.average`` holds what is mixed in.

    A task whose steps are a multiple of ``every`` is averaged once more at its end, as in its authors' loop, which
    makes one step more at rate 0.

    Args:
        mode: which average.
        every: optimiser steps from one update to the next.
        pull: the share.
    """

    def __init__(self, mode: Literal["mean", "start", "last"], every: int, pull: float = 0.0) -> None:
        self.mode, self.every, self.pull = mode, every, pull

    def on_task_start(self, trainer: Trainer, module: Module, task: int) -> None:
        module.average.copy_from(module.clip)
        if self.mode == "mean" and self.pull:
            module.start.copy_from(module.clip)

    def on_train_batch_end(
        self, trainer: Trainer, module: Module, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._update(module, trainer.global_step - trainer.datamodule.first_step(module.task) - 1)

    def on_task_trained(self, trainer: Trainer, module: Module, task: int) -> None:
        self._update(module, trainer.datamodule.steps(task))
        if self.mode == "mean":
            module.average.copy_to(module.clip)

    @torch.no_grad()
    def _update(self, module: Module, step: int) -> None:
        """Average at ``step`` of the task, if it is one of those."""
        if step % self.every:
            return
        weights, average = list(module.clip.parameters()), list(module.average.parameters())
        if self.mode == "mean":
            running_mean_(average, weights, step // self.every + 1)
            if self.pull:
                start = list(module.start.parameters())
                torch._foreach_copy_(average, interpolate(start, average, alpha=1 - self.pull))
            return
        mixed = interpolate(average, weights, alpha=1 - self.pull)
        if self.mode == "last":
            module.average.copy_from(module.clip)
        torch._foreach_copy_(weights, mixed)
