"""The teacher: its weights during a task, and its features of the replay set."""

from typing import Literal, Protocol

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.encoding import encode_images
from callbacks.method import Method
from callbacks.task_callback import TaskCallback, sequence_of
from datamodules.shard import ReplayImages
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import CLIP
from gift_lightning.numerics.fusion import interpolate
from gift_lightning.numerics.losses import Pairs


class Distilled(Protocol):
    """A method with a teacher.

    Attributes:
        teacher: set when a task starts.
        initial: the initial model, for a teacher that is a mixture ("wise").
        teacher_features: of the images ``[N, D]`` and all texts ``[P, D]`` of the replay set, NaN of images that no
            step of the task will draw; ``None`` before the first task that has one.
    """

    teacher: FrozenCopy[CLIP]
    initial: FrozenCopy[CLIP] | None
    teacher_features: Pairs | None

    def replay_texts(self) -> list[str]:
        """The texts of the current task's replay set."""


class TeacherSnapshot(TaskCallback):
    """Sets the teacher of a method when a task starts, and its features of the replayed images and texts.

    The teacher is frozen and replayed images are not augmented, so its features of an image are computed once for each
    task, not once for each step. Which images the steps will draw is known, and no others are encoded; on a resume,
    those that its steps will still draw. If neither the teacher nor the images change, all are encoded once for the
    whole run. Every rank encodes its share of the images.

    Args:
        method: whose teacher it is.
        teacher: the model before the task, the initial model, or a mixture of both ("wise").
        initial_weight: weight of the initial model in the mixture.

    Attributes:
        encodes_all: whether all images are encoded, whatever the steps draw.
    """

    def __init__(
        self, method: Distilled, teacher: Literal["last", "initial", "wise"] = "last", initial_weight: float = 0.2
    ) -> None:
        self.method, self.teacher, self.initial_weight = method, teacher, initial_weight
        self.encodes_all = teacher == "initial"
        self._encoded: tuple[ReplayImages, list[str]] | None = None  # by a teacher that never changes

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._encoded = None  # the images of another run, or features on another device

    def on_task_start(self, trainer: Trainer, method: Method, task: int) -> None:
        if self.teacher == "last":
            self.method.teacher.copy_from(method.clip)
        elif self.teacher == "wise":
            assert self.method.initial is not None
            initial: list[Tensor] = list(self.method.initial.parameters())
            mixed = interpolate(initial, list(method.clip.parameters()), alpha=1 - self.initial_weight)
            with torch.no_grad():
                torch._foreach_copy_(list(self.method.teacher.parameters()), mixed)

    @torch.no_grad()
    def prepare_task(self, trainer: Trainer, method: Method, task: int) -> None:
        """Encode the replay set of the task, or as much of it as the steps to come will draw."""
        sequence = sequence_of(trainer)
        if not sequence.replays_in(task):
            return
        clip, images, texts = self.method.teacher.module, sequence.replay_images, self.method.replay_texts()
        before, features = self._encoded, self.method.teacher_features
        self._encoded = (images, texts) if self.teacher == "initial" else None
        if features is not None and before is not None and before[0] is images:
            image = features.image
        else:
            rows = torch.arange(len(images)) if self.encodes_all else _drawn(trainer, task, method.eval_batch_size)
            encoded, _ = encode_images(trainer, clip, images, method.eval_batch_size, rows)
            image = encoded.new_full((len(images), encoded.shape[1]), torch.nan)
            image[rows.to(image.device)] = encoded
        if features is not None and before is not None and before[1] == texts:
            text = features.text
        else:
            with trainer.precision_plugin.val_step_context():
                text = clip.encode_texts(texts)
        self.method.teacher_features = Pairs(image, text)


def _drawn(trainer: Trainer, task: int, batch_size: int) -> Tensor:
    """Numbers ``[n]`` of the images that the steps to come will draw, by the step that draws them last.

    In this order a resume skips complete batches. The remaining batches are those of an uninterrupted run: the features
    of an image may differ in their last bits if its batch differs.
    """
    sequence = sequence_of(trainer)
    drawn = sequence.replayed(task)
    done = trainer.global_step - sequence.first_step(task)
    past = sum(step < done for step in drawn.values())
    together = batch_size * trainer.world_size
    return torch.tensor([*drawn][past - past % together :])
