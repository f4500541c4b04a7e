"""GIFT: distillation on images that a diffusion model draws of what the model knew."""

from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.optim import Optimizer

from callbacks.fisher_estimate import FisherEstimate
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import CLIP
from gift_lightning.errors import InputError
from gift_lightning.methods.parts.distillation import DistillationCLIP
from gift_lightning.numerics.consolidation import normalised_fisher, pull_to_anchor
from gift_lightning.numerics.losses import (
    Pairs,
    alignment,
    alignment_targets,
    contrastive_distillation,
    feature_distance,
)


class GIFT(DistillationCLIP):
    """Synthetic image-text pairs stand for all data of the past, that of pre-training included.

    loss = CE + alpha * CD + beta * ITA + lambda * sum F (theta - theta_start)^2

    * CD, contrastive distillation: the image-text logits ``M`` of a batch of pairs, as the teacher has them, over texts
      and over images: ``T^2 (H(M_teacher / T, M / T) + H(M_teacher' / T, M' / T))``.
    * ITA, image-text alignment: ``CE(M, Y) + CE(M', Y)`` with the hard targets ``Y``, which correct the teacher where
      it has forgotten.
    * F, adaptive weight consolidation: ``g^2 / mean(g^2)`` within each tensor, where ``g`` is the gradient of
      ``alpha * CD + beta * ITA`` at the current step. Weights that distillation pulls at are held back.

    Between tasks the weights before the task are kept: as the teacher, and as the anchor ``theta_start``.

    Reference: Wu, Shi, Wang, Ye, "Synthetic Data is an Elegant GIFT for Continual Vision-Language Models", CVPR 2025,
    arXiv 2503.04229.

    Args:
        teacher: who is distilled: the model before the task, the initial model, or a mixture of both ("wise").
        initial_weight: weight of the initial model in the mixture.
        distillation: both directions of the image-text logits; or, as ablations, those in which only image or only text
            features are the student's, a distance of features, the reversed divergence.
        distillation_weight: alpha.
        alignment_weight: beta.
        temperature: T.
        consolidation: F from the gradient of every step, from the replay set at the task's start ("boundary", the
            classic), 1 ("l2"), or no penalty.
        consolidation_weight: lambda.
        kwargs: see ``ContinualCLIP``; ``label_smoothing`` also applies to ITA.
    """

    not_in_knowledge = ("_prompt_tokens",)

    def __init__(
        self,
        teacher: Literal["last", "initial", "wise"] = "last",
        initial_weight: float = 0.2,
        distillation: Literal["contrastive", "image", "text", "feature", "reversed"] = "contrastive",
        distillation_weight: float = 1.0,
        alignment_weight: float = 0.25,
        temperature: float = 2.0,
        consolidation: Literal["adaptive", "boundary", "l2", "off"] = "adaptive",
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
        if consolidation == "boundary" and alignment_weight == 0:
            raise InputError(
                "`model.consolidation` 'boundary' needs `model.alignment_weight` above 0: where a task starts, the"
                " student still equals its teacher, and the distillation has no gradient."
            )
        super().__init__(
            teacher=teacher,
            initial_weight=initial_weight,
            distillation_weight=distillation_weight,
            temperature=temperature,
            **kwargs,
        )
        self.distillation, self.alignment_weight = distillation, alignment_weight
        self.consolidation, self.consolidation_weight = consolidation, consolidation_weight
        self._prompt_tokens: Tensor | None = None
        anchored = consolidation != "off" and teacher != "last"
        self.own_anchor = FrozenCopy(self.clip) if anchored else None
        self.fisher = FrozenCopy(self.clip) if consolidation == "boundary" else None
        self.fisher_estimate = FisherEstimate(consolidation)

    def configure_callbacks(self) -> list[Callback]:
        return [*super().configure_callbacks(), self.fisher_estimate]

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and not self.replay.paired:
            raise InputError("GIFT needs a text for each image, and `data.replay` has images alone: choose another.")

    def prepare_task(self, task: int) -> None:
        super().prepare_task(task)
        prompts = self.replay_texts()
        too_long = self.clip.first_too_long(prompts)
        if too_long is not None:
            raise InputError(f"The CLIP cannot read the whole replay prompt '{too_long}': shorten it in `data.replay`.")
        self._prompt_tokens = self.clip.tokenize(prompts)

    def replay_loss(self, images: Tensor, prompts: Tensor, pairs: Tensor) -> dict[str, Tensor]:
        """alpha * CD + beta * ITA of the global batch, in both directions each."""
        image, text = self.gather(self.clip.encode_image(images)), self.gather(self.encode_prompts(prompts))
        prompts = self.gather(prompts)
        known = self.teacher_features
        assert known is not None
        teacher = Pairs(known.image[self.gather(pairs)], known.text[prompts])
        # ablations in which one tower alone learns see the other as the teacher has it
        student = Pairs(
            image=teacher.image if self.distillation == "text" else image,
            text=teacher.text if self.distillation == "image" else text,
        )
        logits = student.logits(self.clip.logit_scale)
        parts: dict[str, Tensor] = {}
        if self.distillation_weight:
            distilled = self.contrast(teacher, student, logits)
            parts |= {name: self.distillation_weight * part for name, part in distilled.items()}
        if self.alignment_weight:
            aligned = alignment(logits, alignment_targets(prompts, logits.dtype), self.label_smoothing)
            parts |= {name: self.alignment_weight * part for name, part in aligned.items()}
        return parts

    def encode_prompts(self, prompts: Tensor) -> Tensor:
        """Unit features ``[b, D]`` of prompts by index; each distinct one is encoded once."""
        assert self._prompt_tokens is not None
        distinct, position = prompts.unique(return_inverse=True)
        return self.clip.encode_text(self._prompt_tokens[distinct])[position]

    def contrast(self, teacher: Pairs, student: Pairs, logits: Tensor) -> dict[str, Tensor]:
        """CD, or what stands for it in an ablation."""
        if self.distillation == "feature":
            return feature_distance(teacher, student)
        reverse = self.distillation == "reversed"
        return contrastive_distillation(teacher.logits(self.clip.logit_scale), logits, self.temperature, reverse)

    # --- the anchor: set when a task starts, pulled to at every step --------------------------------------------------

    @property
    def anchor(self) -> FrozenCopy[CLIP]:
        """The weights before the task. A teacher that is the last model has them (``TeacherSnapshot`` copies them into
        it when the task starts): then it is the anchor too.
        """
        return self.teacher if self.own_anchor is None else self.own_anchor

    def on_task_start(self, task: int) -> None:
        if self.own_anchor is not None:
            self.own_anchor.copy_from(self.clip)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Add the gradients of the replay loss and of the penalty to that of the task."""
        super().on_before_optimizer_step(optimizer)
        if self.consolidation != "off":
            weights, anchors = self.anchor.pairs(self.clip)
            penalty = pull_to_anchor(weights, anchors, self.consolidation_weight, self.importance())
            self.record("consolidation", penalty)

    @torch.no_grad()
    def importance(self) -> list[Tensor] | None:
        """F for each trained tensor, of this step or as ``FisherEstimate`` left it; ``None`` stands for 1."""
        if self.consolidation == "adaptive":
            squares = [None if part is None else part.square() for part in self.replay_gradient]
            return normalised_fisher(squares, self.trained)
        return self.fisher.pairs(self.clip)[1] if self.fisher is not None else None
