"""The teacher: which weights it has during a task, and what it says about the replay set."""

from typing import Literal

import torch
from torch import Tensor

from callbacks.task_callback import Module, TaskCallback, Trainer
from gift_lightning.fusion import interpolate
from gift_lightning.losses import Pairs


class TeacherSnapshot(TaskCallback):
    """Sets ``module.teacher`` when a task starts, and keeps its features of all replayed pairs.

    The teacher is frozen and replayed images are not augmented, so its features of the replay set are computed once for
    each task, and again on a resume, not once for each step. Every rank encodes its share of the images.

    Args:
        teacher: the model before the task, the initial model, or a mixture of both ("wise"), for which the module has a
            copy ``module.initial``.
        initial_weight: weight of the initial model in the mixture.
    """

    def __init__(self, teacher: Literal["last", "initial", "wise"] = "last", initial_weight: float = 0.2) -> None:
        self.teacher, self.initial_weight = teacher, initial_weight
        self._features: Pairs | None = None

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
        """Encode the replay set of the task: ``[N, D]`` images, and ``[P, D]`` prompts."""
        clip, images = module.teacher.module, trainer.datamodule.replay_images
        share = torch.arange(trainer.global_rank, len(images), trainer.world_size)
        with trainer.precision_plugin.val_step_context():
            parts = [
                clip.encode_image(images[part].to(module.device, clip.logit_scale.dtype))
                for part in share.split(module.eval_batch_size)
            ]
            text = clip.encode_texts(trainer.datamodule.replay.prompts)
        width = text.shape[1]
        found = torch.cat(parts) if parts else text.new_empty(0, width)
        encoded = found.new_zeros(len(images), width)
        encoded[share.to(encoded.device)] = found
        self._features = Pairs(trainer.strategy.reduce(encoded, reduce_op="sum"), text)

    def features(self, pairs: Tensor, prompts: Tensor) -> Pairs:
        """What the teacher says about pairs, by their indices and those of their prompts, ``[B]`` each."""
        if self._features is None:
            raise RuntimeError("The teacher has not seen the replay set yet.")
        return Pairs(self._features.image[pairs], self._features.text[prompts])
