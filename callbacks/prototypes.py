"""Prototypes of the classes of each task."""

from typing import Any, Protocol, cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import Dataset, Subset

from callbacks.encoding import encode_images, encode_train_set, evaluation_mode
from callbacks.method import Method
from callbacks.task_callback import TaskCallback, is_trial, sequence_of
from datamodules.base import ImageSet
from datamodules.shard import LazyShard
from datamodules.stream import SeededSamples
from gift_lightning.numerics.prototypes import class_prototypes


class HasPrototypes(Protocol):
    """A method with prototypes.

    Attributes:
        prototypes: of the classes ``[C, D]`` of each task learned.
    """

    prototypes: list[Tensor]


class Prototypes(TaskCallback):
    """Adds the prototypes ``[C, D]`` of a task's classes to those of the method at the task's end.

    They are those of the pre-trained model, which the method's CLIP is then again, of all training images and of the
    prompts in all templates (``class_prototypes``).

    Args:
        method: which has them.
        augmented: the images are those that one pass of training would see, and not as in testing.
    """

    def __init__(self, method: HasPrototypes, augmented: bool = False) -> None:
        self.method, self.augmented = method, augmented

    def on_task_end(self, trainer: Trainer, method: Method, task: int) -> None:
        sequence, clip = sequence_of(trainer), method.clip
        current, train_set = sequence.tasks[task], sequence.train_set(task)
        if is_trial(trainer):
            first = range(min(len(train_set), sequence.batch_size))
            train_set = cast(ImageSet, Subset(cast(Any, train_set), first))
        with evaluation_mode(method), trainer.precision_plugin.val_step_context():
            if self.augmented:
                key = (sequence.seed, "prototypes", task)
                once = _OnePass(SeededSamples(train_set, clip.train_geometry, key))
                device = trainer.strategy.root_device
                images = LazyShard(once, torch.as_tensor, clip.normalize, sequence.num_workers, device)
                features, labels = encode_images(trainer, clip, images, method.eval_batch_size)
            else:
                features, labels = encode_train_set(trainer, method, train_set)
            prompts = [prompt for of_class in current.class_prompts() for prompt in of_class]
            texts = clip.encode_texts(prompts).unflatten(0, (len(current.class_names), -1))
        earlier = self.method.prototypes[:task]
        self.method.prototypes = [*earlier, class_prototypes(features, labels, texts)]


class _OnePass(Dataset[tuple[Tensor, int]]):
    """Each sample once, augmented as if drawn in the stored order."""

    def __init__(self, samples: SeededSamples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._samples[index, index]
