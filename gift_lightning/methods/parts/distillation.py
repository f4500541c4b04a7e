"""The base of the methods that distil a teacher on images and texts of the past."""

from typing import Any, Literal

from lightning.pytorch import Callback
from torch import Tensor

from callbacks.teacher_snapshot import TeacherSnapshot
from datamodules.shard import ReplayBatch
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.errors import InputError
from gift_lightning.methods.parts.replay import ReplayCLIP
from gift_lightning.numerics.losses import Pairs, contrastive_distillation


class DistillationCLIP(ReplayCLIP):
    """A teacher's logits of images over texts are distilled while the model learns the task.

    loss = CE + alpha * (D(M_teacher, M) + D(M_teacher', M'))

    ``M[i, j] = exp(s) * cos(image i, text j)``, with the teacher's text features in both: the texts are fixed classes,
    and the text tower learns from the task alone. A text that is longer than the CLIP reads is cut. ``D``
    is the soft cross-entropy ``T^2 H(softmax(. / T), .)``. The methods differ in where images and texts come from:

    ========  =======================================  ==============================  ==============
    method    images (``data.replay``)                 texts (``replay_texts``)        teacher
    ========  =======================================  ==============================  ==============
    ZSCL      of pre-training (``Reference``)          of pre-training (its sentences) initial
    LwF       of the task (``CurrentTask``)            the task's class prompts        before the task
    LwF-VR    of the task (``CurrentTask``)            random words                    before the task
    iCaRL     of earlier tasks (``ExemplarMemory``)    the task's class prompts        before the task
    GIFT      drawn (``SyntheticReplay``)              their prompts, also learned     before the task
    ========  =======================================  ==============================  ==============

    Args:
        teacher: the model before the task, the initial model, or a mixture of both ("wise").
        initial_weight: weight of the initial model in the mixture.
        distillation_weight: alpha.
        temperature: T.
        kwargs: see ``ContinualCLIP``.
    """

    not_in_knowledge = ("teacher_features",)

    def __init__(
        self,
        teacher: Literal["last", "initial", "wise"] = "last",
        initial_weight: float = 0.2,
        distillation_weight: float = 1.0,
        temperature: float = 2.0,
        **kwargs: Any,
    ) -> None:
        if distillation_weight < 0:
            raise InputError(f"`model.distillation_weight` is {distillation_weight}: it cannot be negative.")
        if temperature <= 0:
            raise InputError(f"`model.temperature` is {temperature}: give a positive number.")
        if not 0 <= initial_weight <= 1:
            raise InputError(f"`model.initial_weight` is {initial_weight}: give a number from 0 to 1.")
        super().__init__(**kwargs)
        self.distillation_weight, self.temperature = distillation_weight, temperature
        self.teacher = FrozenCopy(self.clip)
        self.initial = FrozenCopy(self.clip) if teacher == "wise" else None
        self.teacher_features: Pairs | None = None
        self.teacher_snapshot = TeacherSnapshot(self, teacher, initial_weight)

    def configure_callbacks(self) -> list[Callback]:
        return [self.teacher_snapshot]

    def stored_copies(self) -> list[FrozenCopy[Any]]:
        if self.initial is not None:
            return [self.initial]
        return [self.teacher] if self.teacher_snapshot.teacher == "initial" else []

    def replay_loss(self, batch: ReplayBatch) -> dict[str, Tensor]:
        """The distillation of the global batch of images over all texts."""
        image = self.gather(self.clip.encode_image(batch.images))
        return self.distil(self.teacher_of(image, self.gather(batch.pair_index)), image)

    def teacher_of(self, image: Tensor, pair_index: Tensor) -> Pairs:
        """The teacher's features ``[B, D]`` of a batch of images, by their index ``[B]``, and ``[P, D]`` of all texts.

        Args:
            image: the student's features ``[B, D]`` of the images.
            pair_index: of the images in the replay set ``[B]``.
        """
        assert self.teacher_features is not None
        return Pairs(self.teacher_features.image[pair_index], self.teacher_features.text)

    def distil(self, teacher: Pairs, image: Tensor) -> dict[str, Tensor]:
        """Named terms of the distillation of the teacher to the student's features ``[B, D]`` of the same images."""
        scale, student = self.clip.logit_scale, Pairs(image, teacher.text)
        losses = contrastive_distillation(teacher.logits(scale), student.logits(scale), self.temperature)
        return {name: self.distillation_weight * loss for name, loss in losses.items()}
