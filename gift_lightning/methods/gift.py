"""GIFT: distillation on synthetic images of the classes of the past and of pre-training."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.optim import Optimizer

from callbacks.fisher_estimate import FisherShares
from datamodules.shard import ReplayBatch
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import CLIP
from gift_lightning.errors import InputError
from gift_lightning.methods.parts.distillation import DistillationCLIP
from gift_lightning.numerics.consolidation import distance_to_anchor, normalised_fisher_, pull_to_anchor
from gift_lightning.numerics.losses import Pairs, alignment, alignment_targets, contrastive_distillation


class GIFT(DistillationCLIP):
    """Synthetic image-text pairs stand for all data of the past, that of pre-training included.

    loss = CE + alpha * CD + beta * ITA + lambda * sum F (theta - theta_start)^2

    * CD, contrastive distillation: the image-text logits ``M`` of a batch of pairs, as the teacher has them, over texts
      and over images: ``T^2 (H(M_teacher / T, M / T) + H(M_teacher' / T, M' / T))``.
    * ITA, image-text alignment: ``CE(M, Y) + CE(M', Y)`` with the hard targets ``Y``, which correct the teacher where
      it has forgotten.
    * F, adaptive weight consolidation: ``g^2 / mean(g^2)`` within each tensor, where ``g`` is the gradient of
      ``alpha * CD + beta * ITA`` at the current step. Weights that distillation pulls at are held back.

    The weights before the task are stored: as the teacher, and as the anchor ``theta_start``.

    Reference: Wu, Shi, Wang, Ye, "Synthetic Data is an Elegant GIFT for Continual Vision-Language Models", CVPR 2025,
    arXiv 2503.04229. The variants of its ablations are in ``GIFTAblation``.

    Args:
        distillation_weight: alpha.
        alignment_weight: beta.
        temperature: T.
        consolidation_weight: lambda.
        kwargs: see ``ContinualCLIP``; ``label_smoothing`` also applies to ITA.
    """

    teacher_type: Literal["last", "initial", "wise"] = "last"
    initial_weight = 0.0
    """Of ``DistillationCLIP``; a variant sets others before it calls ``__init__``."""

    trains_on_texts = True

    def __init__(
        self,
        distillation_weight: float = 1.0,
        alignment_weight: float = 0.25,
        temperature: float = 2.0,
        consolidation_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        for name, value in {"alignment_weight": alignment_weight, "consolidation_weight": consolidation_weight}.items():
            if value < 0:
                raise InputError(f"`model.{name}` is {value}: it cannot be negative.")
        if distillation_weight == alignment_weight == 0:
            raise InputError(
                "`model.distillation_weight` and `model.alignment_weight` are both 0: use Finetune or L2 instead."
            )
        super().__init__(
            teacher=self.teacher_type,
            initial_weight=self.initial_weight,
            distillation_weight=distillation_weight,
            temperature=temperature,
            **kwargs,
        )
        self.alignment_weight, self.consolidation_weight = alignment_weight, consolidation_weight

    def configure_callbacks(self) -> list[Callback]:
        return [*super().configure_callbacks(), FisherShares(self)]

    # --- alpha * CD + beta * ITA --------------------------------------------------------------------------------------

    def replay_loss(self, batch: ReplayBatch) -> dict[str, Tensor]:
        image, text = self.gather(self.clip.encode_image(batch.images)), self.gather(self.encode_pair_texts(batch))
        text_index = self.gather(batch.text_index)
        teacher = self.teacher_of(image, self.gather(batch.pair_index))  # with all texts
        return self.pair_loss(Pairs(teacher.image, teacher.text[text_index]), Pairs(image, text), text_index)

    def pair_loss(self, teacher: Pairs, student: Pairs, text_index: Tensor) -> dict[str, Tensor]:
        """Named losses of ``B`` pairs from their features ``[B, D]`` and the texts' indices ``[B]``."""
        logits = student.logits(self.clip.logit_scale)
        losses: dict[str, Tensor] = {}
        if self.distillation_weight:
            distilled = self.contrast(teacher, student, logits)
            losses |= {name: self.distillation_weight * loss for name, loss in distilled.items()}
        if self.alignment_weight:
            aligned = alignment(logits, alignment_targets(text_index, logits.dtype), self.label_smoothing)
            losses |= {name: self.alignment_weight * loss for name, loss in aligned.items()}
        return losses

    def contrast(self, teacher: Pairs, student: Pairs, logits: Tensor) -> dict[str, Tensor]:
        """CD in both directions, from the features of both models and the student's logits ``[B, B]``."""
        return contrastive_distillation(teacher.logits(self.clip.logit_scale), logits, self.temperature)

    # --- adaptive weight consolidation --------------------------------------------------------------------------------

    @property
    def anchor(self) -> FrozenCopy[CLIP]:
        """The weights before the task, which ``TeacherSnapshot`` copies into the teacher."""
        return self.teacher

    @torch.no_grad()
    def importance(self, gradient: Sequence[Tensor | None]) -> list[Tensor] | None:
        """F of each trained tensor from its replay gradient, whose place it takes; ``None`` stands for 1."""
        squares = [None if part is None else part.mul_(part) for part in gradient]
        return normalised_fisher_(squares, self.trained)

    def complete_gradient(self, optimizer: Optimizer) -> None:
        """Add the gradients of the replay loss and of the penalty to that of the task."""
        gradient = self.replay_gradient
        super().complete_gradient(optimizer)
        self.consolidate(gradient)

    def consolidate(self, gradient: Sequence[Tensor | None]) -> None:
        """Add the gradient of ``lambda * sum F (theta - theta_start)^2``; the replay gradient is used up."""
        penalty = *self.anchor.pairs(self.clip), self.consolidation_weight, self.importance(gradient)
        pull_to_anchor(*penalty)
        if self.is_logged:
            self.record("consolidation", distance_to_anchor(*penalty))
