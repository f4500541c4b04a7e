"""Learning without forgetting."""

from typing import Any

import torch
from torch import Tensor

from datamodules.replay.current_task import CurrentTask
from gift_lightning.methods.parts.distillation import DistillationCLIP
from gift_lightning.numerics.losses import Pairs


class LwF(DistillationCLIP):
    """The model before the task is distilled on the images of the task while it is learned.

    loss = CE + alpha * (D(M_teacher, M) + D(M_teacher', M'))

    ``M`` are the logits of images of the current task, drawn independently of the task loss (``data.replay`` is a
    ``datamodules.CurrentTask``), over its class prompts: a CLIP has no outputs of earlier tasks to keep. Between tasks
    nothing is stored but the weights.

    Reference: Li, Hoiem, "Learning without Forgetting", ECCV 2016, arXiv 1606.09282, as the authors of ZSCL
    (arXiv 2303.06628) put it to CLIP.

    Args:
        official_quirks: distil the model from itself, as the class-incremental code of ZSCL's authors does, whose
            teacher shares its memory with the student: the loss then has a value and no gradient. It is a slip, and
            off.
        kwargs: see ``DistillationCLIP``; the teacher is the model before the task.
    """

    replay_type = CurrentTask

    def __init__(self, official_quirks: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.official_quirks = official_quirks

    def teacher_of(self, image: Tensor, pair_index: Tensor) -> Pairs:
        if not self.official_quirks:
            return super().teacher_of(image, pair_index)
        with torch.no_grad():
            return Pairs(image.detach(), self.clip.encode_texts(self.replay_texts()))
