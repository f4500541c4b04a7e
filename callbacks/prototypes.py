"""Prototypes of the classes of each task."""

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from callbacks.encoding import encode_images, evaluation_mode
from callbacks.task_callback import Module, TaskCallback, Trainer
from datamodules.shard import LazyShard
from datamodules.stream import SeededSamples
from gift_lightning.numerics.prototypes import class_prototypes


class Prototypes(TaskCallback):
    """Adds the prototypes ``[C, D]`` of a task's classes to ``module.prototypes`` at the task's end.

    They are those of the pre-trained model, which the module's CLIP is then again, of all training images and of the
    prompts in all templates.

    Args:
        augmented: the images are those that one pass of training would see, and not as in testing.
    """

    def __init__(self, augmented: bool = False) -> None:
        self.augmented = augmented

    def on_task_end(self, trainer: Trainer, module: Module, task: int) -> None:
        current, clip, train_set = trainer.datamodule.tasks[task], module.clip, trainer.datamodule.train_set(task)
        if trainer.fast_dev_run:
            train_set = Subset(train_set, range(min(len(train_set), trainer.datamodule.batch_size)))
        workers = trainer.datamodule.num_workers
        if self.augmented:
            key = (trainer.datamodule.seed, "prototypes", task)
            once = _OnePass(SeededSamples(train_set, clip.train_transform, key))
            images = LazyShard(once, torch.as_tensor, torch.as_tensor, workers)
        else:
            images = LazyShard(train_set, clip.test_geometry, clip.normalize, workers)
        with evaluation_mode(module), trainer.precision_plugin.val_step_context():
            features, labels = encode_images(trainer, module, clip, images)
            prompts = [prompt for prompts in current.class_prompts() for prompt in prompts]
            texts = clip.encode_texts(prompts).unflatten(0, (len(current.class_names), -1))
        module.prototypes = [*module.prototypes[:task], class_prototypes(features, labels, texts)]


class _OnePass(Dataset[tuple[Tensor, int]]):
    """Each sample once, augmented as if drawn in the stored order."""

    def __init__(self, samples: SeededSamples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._samples[index, index]
