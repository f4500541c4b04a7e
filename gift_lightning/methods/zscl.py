"""ZSCL: distillation on reference data, and an ensemble of the weights."""

from typing import Any, Literal

from lightning.pytorch import Callback
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from callbacks.weight_average import WeightAverage
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.errors import InputError
from gift_lightning.methods.parts.distillation import DistillationCLIP
from gift_lightning.numerics.consolidation import pull_to_anchor
from gift_lightning.numerics.losses import Pairs, distillation, similarities


class ZSCL(DistillationCLIP):
    """The pre-trained model is distilled on images and texts like those of its pre-training, and weights are averaged.

    loss = CE + alpha * (D(M_teacher, M) + D(M_teacher', M')) + l2 * sum (theta - theta_start)^2
           (+ f * mean squared error of image features + g * D of each image's cosines to the others, as ablations)
    theta after a task = mean of theta_start and of theta at steps 0, k, 2k, ... of the task

    ``M`` are the logits of reference images over reference texts (``DistillationCLIP``), with ``data.replay`` a
    ``datamodules.Reference``. The initial model stays the teacher. Without the average it is
    the "ZSCL*" of its authors (``average_every: null``).

    Reference: Zheng, Ma, Wang, Qin, Yue, You, "Preventing Zero-Shot Transfer Degradation in Continual Learning of
    Vision-Language Models", ICCV 2023, arXiv 2303.06628.

    Args:
        l2: weight of the penalty on the distance to the weights before the task.
        average_every: k; ``null`` for no average.
        feature_weight: f.
        image_image_weight: g.
        teacher: see ``DistillationCLIP``; "wise" is the authors' WiSE reference model.
        kwargs: see ``DistillationCLIP``.
    """

    def __init__(
        self,
        l2: float = 1.0,
        average_every: int | None = 100,
        feature_weight: float = 0.0,
        image_image_weight: float = 0.0,
        teacher: Literal["last", "initial", "wise"] = "initial",
        **kwargs: Any,
    ) -> None:
        weights = {"l2": l2, "feature_weight": feature_weight, "image_image_weight": image_image_weight}
        for name, value in weights.items():
            if value < 0:
                raise InputError(f"`model.{name}` is {value}: it cannot be negative.")
        if average_every is not None and average_every < 1:
            raise InputError(f"`model.average_every` is {average_every}: give at least 1 step, or null for no average.")
        super().__init__(teacher=teacher, **kwargs)
        self.l2, self.feature_weight, self.image_image_weight = l2, feature_weight, image_image_weight
        self.average_every = average_every
        self.anchor = FrozenCopy(self.clip) if l2 else None
        self.average = FrozenCopy(self.clip) if average_every is not None else None

    def configure_callbacks(self) -> list[Callback]:
        callbacks = super().configure_callbacks()
        if self.average is not None and self.average_every is not None:
            callbacks.append(WeightAverage(self.average, "mean", self.average_every))
        return callbacks

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.image_image_weight:
            together = self.replay.batch_size // self.trainer.accumulate_grad_batches
            if together < 2:
                raise InputError(
                    "`model.image_image_weight` compares images: give `data.replay.batch_size` at least 2."
                )

    def on_task_start(self, task: int) -> None:
        if self.anchor is not None:
            self.anchor.copy_from(self.clip)

    def distil(self, teacher: Pairs, image: Tensor) -> dict[str, Tensor]:
        losses = super().distil(teacher, image)
        if self.feature_weight:
            losses["feature_distance"] = self.feature_weight * F.mse_loss(image, teacher.image)
        if self.image_image_weight:
            scale = self.clip.logit_scale
            both = similarities(teacher.image, scale), similarities(image, scale)
            losses["image_image_distillation"] = self.image_image_weight * distillation(*both, self.temperature)
        return losses

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        if self.anchor is not None:
            weights, anchors = self.anchor.pairs(self.clip)
            self.record("l2", pull_to_anchor(weights, anchors, self.l2))
