"""The variants of GIFT in the ablations of its authors."""

from collections.abc import Sequence
from typing import Any, Literal

from lightning.pytorch import Callback
from torch import Tensor

from callbacks.fisher_estimate import FisherEstimate, FisherShares
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import CLIP
from gift_lightning.errors import InputError
from gift_lightning.methods.gift import GIFT
from gift_lightning.numerics.losses import Pairs, contrastive_distillation, feature_distance


class GIFTAblation(GIFT):
    """GIFT with another teacher, another distillation, or another weight consolidation.

    With the defaults it is ``GIFT``. Between tasks it also keeps the initial model if the teacher has a part of it.

    Args:
        teacher: the model before the task, the initial model, or a mixture of both ("wise").
        initial_weight: weight of the initial model in the mixture.
        distillation: of the image-text logits in both directions ("contrastive"); the same with the teacher's text
            features on both sides ("image") or its image features ("text"); mean squared error of features; or the
            divergence in the reversed direction.
        consolidation: F from the gradient of every step ("adaptive"); from the replay set at the task's start
            ("boundary", the classic Fisher information); 1 ("l2"); or no penalty.
        kwargs: see ``GIFT``.
    """

    def __init__(
        self,
        teacher: Literal["last", "initial", "wise"] = "last",
        initial_weight: float = 0.2,
        distillation: Literal["contrastive", "image", "text", "feature", "reversed"] = "contrastive",
        consolidation: Literal["adaptive", "boundary", "l2", "off"] = "adaptive",
        **kwargs: Any,
    ) -> None:
        self.teacher_type, self.initial_weight = teacher, initial_weight  # before GIFT, which hands them on
        super().__init__(**kwargs)
        if consolidation == "boundary" and self.alignment_weight == 0:
            raise InputError(
                "`model.consolidation` 'boundary' needs `model.alignment_weight` above 0: where a task starts, the"
                " student still equals its teacher, and the distillation has no gradient."
            )
        self.distillation, self.consolidation = distillation, consolidation
        self.teacher_snapshot.encodes_all |= (
            consolidation == "boundary"
        )  # the Fisher information is that of the whole set
        has_anchor = consolidation != "off" and teacher != "last"
        self.own_anchor = FrozenCopy(self.clip) if has_anchor else None
        self.fisher = FrozenCopy(self.clip) if consolidation == "boundary" else None

    def configure_callbacks(self) -> list[Callback]:
        callbacks: list[Callback] = [self.teacher_snapshot]
        if self.consolidation == "adaptive":
            callbacks.append(FisherShares(self))
        elif self.fisher is not None:
            callbacks.append(FisherEstimate(self, self.fisher))
        return callbacks

    def pair_loss(self, teacher: Pairs, student: Pairs, text_index: Tensor) -> dict[str, Tensor]:
        if self.distillation == "image":
            student = Pairs(student.image, teacher.text)
        elif self.distillation == "text":
            student = Pairs(teacher.image, student.text)
        return super().pair_loss(teacher, student, text_index)

    def contrast(self, teacher: Pairs, student: Pairs, logits: Tensor) -> dict[str, Tensor]:
        if self.distillation == "feature":
            return feature_distance(teacher, student)
        reverse = self.distillation == "reversed"
        return contrastive_distillation(teacher.logits(self.clip.logit_scale), logits, self.temperature, reverse)

    @property
    def anchor(self) -> FrozenCopy[CLIP]:
        """The weights before the task: those of the teacher, if it is the last model."""
        return self.teacher if self.own_anchor is None else self.own_anchor

    def on_task_start(self, task: int) -> None:
        if self.own_anchor is not None:
            self.own_anchor.copy_from(self.clip)

    def importance(self, gradient: Sequence[Tensor | None]) -> list[Tensor] | None:
        if self.consolidation == "adaptive":
            return super().importance(gradient)
        return self.fisher.pairs(self.clip)[1] if self.fisher is not None else None

    def consolidate(self, gradient: Sequence[Tensor | None]) -> None:
        if self.consolidation != "off":
            super().consolidate(gradient)
