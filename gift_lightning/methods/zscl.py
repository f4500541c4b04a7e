"""ZSCL: distillation on reference data, and an ensemble of the weights."""

from typing import Any, Literal

from lightning.pytorch import Callback
from torch.optim import Optimizer

from callbacks.weight_average import WeightAverage
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.errors import InputError
from gift_lightning.methods.parts.distillation import DistillationCLIP
from gift_lightning.numerics.consolidation import distance_to_anchor, pull_to_anchor


class ZSCL(DistillationCLIP):
    """The pre-trained model is distilled on images and texts like those of its pre-training, and weights are averaged.

    loss = CE + alpha * (D(M_teacher, M) + D(M_teacher', M')) + l2 * sum (theta - theta_start)^2
    theta after a task = mean of theta_start and of theta at steps 0, k, 2k, ... of the task

    ``M`` are the logits of reference images over reference texts (``DistillationCLIP``), with ``data.replay`` a
    ``datamodules.Reference``. The initial model stays the teacher. Without the average it is
    the "ZSCL*" of its authors (``average_every: null``).

    Reference: Zheng, Ma, Wang, Qin, Yue, You, "Preventing Zero-Shot Transfer Degradation in Continual Learning of
    Vision-Language Models", ICCV 2023, arXiv 2303.06628. The further losses of its ablations are in ``ZSCLAblation``.

    Args:
        l2: weight of the penalty on the distance to the weights before the task.
        average_every: k; ``null`` for no average.
        teacher: see ``DistillationCLIP``; "wise" is the authors' WiSE reference model.
        kwargs: see ``DistillationCLIP``.
    """

    def __init__(
        self,
        l2: float = 1.0,
        average_every: int | None = 100,
        teacher: Literal["last", "initial", "wise"] = "initial",
        **kwargs: Any,
    ) -> None:
        if l2 < 0:
            raise InputError(f"`model.l2` is {l2}: it cannot be negative.")
        if average_every is not None and average_every < 1:
            raise InputError(f"`model.average_every` is {average_every}: give at least 1 step, or null for no average.")
        super().__init__(teacher=teacher, **kwargs)
        self.l2, self.average_every = l2, average_every
        self.anchor = FrozenCopy(self.clip) if l2 else None
        self.average = FrozenCopy(self.clip) if average_every is not None else None

    def configure_callbacks(self) -> list[Callback]:
        callbacks = super().configure_callbacks()
        if self.average is not None and self.average_every is not None:
            callbacks.append(WeightAverage(self.average, "mean", self.average_every))
        return callbacks

    def on_task_start(self, task: int) -> None:
        if self.anchor is not None:
            self.anchor.copy_from(self.clip)

    def complete_gradient(self, optimizer: Optimizer) -> None:
        super().complete_gradient(optimizer)
        if self.anchor is not None:
            penalty = *self.anchor.pairs(self.clip), self.l2
            pull_to_anchor(*penalty)
            if self.is_logged:
                self.record("l2", distance_to_anchor(*penalty))
