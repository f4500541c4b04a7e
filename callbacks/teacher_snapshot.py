"""The teacher: which weights it has during a task, and what it says about the replay set."""

from typing import Any, Literal

import torch

from callbacks.encoding import encode_images
from callbacks.task_callback import Module, TaskCallback, Trainer
from gift_lightning.numerics.fusion import interpolate
from gift_lightning.numerics.losses import Pairs


class TeacherSnapshot(TaskCallback):
    """Sets ``module.teacher`` when a task starts, and keeps its features of all replayed images and texts.

    The teacher is frozen and replayed images are not augmented, so its features of the replay set are computed once for
    each task, and again on a resume, not once for each step; for the whole run if neither the teacher nor the images
    change. Every rank encodes its share of the images.

    Args:
        teacher: the model before the task, the initial model, or a mixture of both ("wise"), for which the module has a
            copy ``module.initial``.
        initial_weight: weight of the initial model in the mixture.
    """

    def __init__(self, teacher: Literal["last", "initial", "wise"] = "last", initial_weight: float = 0.2) -> None:
        self.teacher, self.initial_weight = teacher, initial_weight
        self._features: Pairs | None = None
        self._seen: tuple[Any, list[str]] | None = None

    def on_task_start(self, trainer: Trainer, module: Module, task: int) -> None:
        if self.teacher == "last":
            module.teacher.copy_from(module.clip)
        elif self.teacher == "wise":
            initial, last = list(module.initial.parameters()), list(module.clip.parameters())
            mixed = interpolate(initial, last, alpha=1 - self.initial_weight)
            with torch.no_grad():
                torch._foreach_copy_(list(module.teacher.parameters()), mixed)

    @torch.no_grad()
    def prepare_task(self, trainer: Trainer, module: Module, task: int) -> None:
        """Encode the replay set of the task: ``[N, D]`` images, and ``[P, D]`` texts."""
        if not trainer.datamodule.replays_in(task):
            return
        clip, images, texts = module.teacher.module, trainer.datamodule.replay_images, module.replay_texts()
        known, self._seen = self._seen, (images, texts) if self.teacher == "initial" else None
        if known is None or known[0] is not images:
            image, _ = encode_images(trainer, module, clip, images)
        else:
            image = self.features.image
        if known is None or known[1] != texts:
            with trainer.precision_plugin.val_step_context():
                text = clip.encode_texts(texts)
        else:
            text = self.features.text
        self._features = Pairs(image, text)

    @property
    def features(self) -> Pairs:
        """What the teacher says about all images ``[N, D]`` and all texts ``[P, D]`` of the replay set."""
        if self._features is None:
            raise RuntimeError("The teacher has not seen the replay set yet.")
        return self._features
