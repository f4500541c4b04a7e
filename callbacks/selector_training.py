"""The training of a selector's auto-encoders."""

from typing import Protocol

from lightning.pytorch import Trainer
from torch import Tensor

from callbacks.encoding import evaluation_mode
from callbacks.method import Method
from callbacks.task_callback import TaskCallback, is_trial, sequence_of
from datamodules.images.sets import ImageSet
from datamodules.ranks import in_step
from gift_lightning.numerics.autoencoder import AutoEncoder, AutoEncoderTraining


class Encoders(Protocol):
    """The auto-encoders of a selector."""

    @property
    def reference(self) -> AutoEncoder | None:
        """That of reference images, if there are any."""

    def of_task(self, task: int) -> AutoEncoder:
        """That of a task."""


class Selecting(Protocol):
    """A method with a selector.

    Attributes:
        selector_steps: optimiser steps of a task's auto-encoder.
        reference_steps: of that of reference images.
        selector_lr: first learning rate of all of them.
    """

    selector_steps: int
    reference_steps: int
    selector_lr: float

    @property
    def selector(self) -> Encoders | None:
        """The auto-encoders, once the number of tasks is set."""

    def selector_features(self, images: Tensor) -> Tensor:
        """Features ``[n, F]`` between 0 and 1 of normalised images ``[n, 3, H, W]``."""


class SelectorTraining(TaskCallback):
    """Trains a method's selector: the auto-encoder of a task at its end, that of reference images before all tasks.

    Images are augmented as in training, in an order of their own, the same on any number of ranks. A rank encodes its
    share of each batch, and all learn from the whole of it.

    Args:
        method: whose selector it is; only this callback changes it.
    """

    def __init__(self, method: Selecting) -> None:
        self.method = method

    def on_task_start(self, trainer: Trainer, method: Method, task: int) -> None:
        reference, replay = self._encoders.reference, sequence_of(trainer).replay
        if task == 0 and reference is not None:
            assert replay is not None
            self._train(trainer, method, reference, replay.pairs, self.method.reference_steps, "reference")

    def on_task_end(self, trainer: Trainer, method: Method, task: int) -> None:
        images, autoencoder = sequence_of(trainer).train_set(task), self._encoders.of_task(task)
        self._train(trainer, method, autoencoder, images, self.method.selector_steps, task)

    def _train(
        self, trainer: Trainer, method: Method, autoencoder: AutoEncoder, images: ImageSet, steps: int, name: int | str
    ) -> None:
        """Train on batches as large as those of the task, in the stream of a name."""
        sequence, scale = sequence_of(trainer), method.clip.logit_scale
        # few images do not make the rate fall sooner
        whole = sequence.training_images.before_shots(name) if isinstance(name, int) else images
        training = AutoEncoderTraining(autoencoder, self.method.selector_lr, -(-len(whole) // sequence.batch_size))
        loader = sequence.loader_of(images, 1 if is_trial(trainer) else steps, "selector", name)
        with evaluation_mode(method):
            for batch, _ in in_step(trainer, iter(loader)):
                with trainer.precision_plugin.val_step_context():
                    normalized = method.clip.normalize(batch.to(scale.device))
                    features = self.method.selector_features(normalized.to(scale.dtype))
                of_ranks = trainer.strategy.all_gather(features)
                assert isinstance(of_ranks, Tensor)
                training.step(of_ranks.view(-1, features.shape[1]))

    @property
    def _encoders(self) -> Encoders:
        assert self.method.selector is not None
        return self.method.selector
