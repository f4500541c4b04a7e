"""LwF with vocabulary replay."""

from typing import Any

import torch

from datamodules.replay.current_task import CurrentTask
from gift_lightning.errors import InputError
from gift_lightning.methods.parts.distillation import DistillationCLIP
from gift_lightning.seeding import stream_seed


class LwFVR(DistillationCLIP):
    """The model before the task is distilled on the images of the task, over random words instead of classes.

    loss = CE + alpha * (D(M_teacher, M) + D(M_teacher', M'))

    ``M`` are the logits of images of the current task (``data.replay`` is a ``datamodules.CurrentTask``) over ``texts``
    random sequences of words from the vocabulary of the CLIP, drawn anew for each task. Between tasks nothing is stored
    but the weights.

    Reference: Ding, Liu, Tian, Yang, Ding, "Don't Stop Learning: Towards Continual Learning for the CLIP Model",
    arXiv 2207.09248. The authors of ZSCL draw any 10 tokens, end tokens among them, at which a sequence then
    ends early; here they are whole words, and none ends a sequence.

    Args:
        texts: how many.
        words: in each.
        kwargs: see ``DistillationCLIP``; the teacher is the model before the task.
    """

    replay_type = CurrentTask

    def __init__(self, texts: int = 1000, words: int = 10, **kwargs: Any) -> None:
        for name, value in {"texts": texts, "words": words}.items():
            if value < 1:
                raise InputError(f"`model.{name}` is {value}: give at least 1.")
        super().__init__(**kwargs)
        self.texts, self.words = texts, words

    def replay_texts(self) -> list[str]:
        seed = stream_seed(self.sequence.seed, "random texts", self.task)
        return self.clip.random_texts(self.texts, self.words, torch.Generator().manual_seed(seed))
