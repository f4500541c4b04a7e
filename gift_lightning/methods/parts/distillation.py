"""What the methods share that distil a teacher on images and texts of the past."""

from typing import Any, Literal

from lightning.pytorch import Callback
from torch import Tensor

from callbacks.teacher_snapshot import TeacherSnapshot
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.errors import InputError
from gift_lightning.methods.parts.replay import ReplayCLIP
from gift_lightning.numerics.losses import Pairs, contrastive_distillation


class DistillationCLIP(ReplayCLIP):
    """A teacher says how images go with texts, and the model keeps to it while it learns the task.

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
        self.teacher_snapshot = TeacherSnapshot(teacher, initial_weight)

    def configure_callbacks(self) -> list[Callback]:
        return [self.teacher_snapshot]

    def stored_copies(self) -> list[FrozenCopy]:
        if self.initial is not None:
            return [self.initial]
        return [self.teacher] if self.teacher_snapshot.teacher == "initial" else []

    def replay_loss(self, images: Tensor, prompts: Tensor, pairs: Tensor) -> dict[str, Tensor]:
        """The distillation of the global batch of images over all texts."""
        image = self.gather(self.clip.encode_image(images))
        return self.distil(self.taught(image, self.gather(pairs)), image)

    def taught(self, image: Tensor, pairs: Tensor) -> Pairs:
        """The teacher's features ``[B, D]`` of a batch of images, by index ``[B]``, and ``[P, D]`` of all texts."""
        known = self.teacher_snapshot.features
        return Pairs(known.image[pairs], known.text)

    def distil(self, known: Pairs, image: Tensor) -> dict[str, Tensor]:
        """Named parts of the distillation of what is known to the student's features ``[B, D]`` of the same images."""
        scale, student = self.clip.logit_scale, Pairs(image, known.text)
        parts = contrastive_distillation(known.logits(scale), student.logits(scale), self.temperature)
        return {name: self.distillation_weight * part for name, part in parts.items()}
