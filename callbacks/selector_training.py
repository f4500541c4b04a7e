"""The auto-encoders that say which task an image looks like."""

from typing import Any

from callbacks.encoding import evaluation_mode
from callbacks.task_callback import TaskCallback, is_trial, sequence_of
from datamodules.base import ImageSet
from datamodules.ranks import in_step
from gift_lightning.numerics.autoencoder import AutoEncoder, AutoEncoderTraining


class SelectorTraining(TaskCallback):
    """Trains ``module.selector``: the auto-encoder of a task at its end, that of reference images before all tasks.

    Images are augmented as in training, in an order of their own, the same on any number of ranks. A rank encodes its
    share of each batch, and all learn from the whole of it.
    """

    def on_task_start(self, trainer: Any, module: Any, task: int) -> None:
        if task == 0 and module.selector.reference is not None:
            images, autoencoder = sequence_of(trainer).replay.pairs, module.selector.reference
            self.train(trainer, module, autoencoder, images, module.reference_steps, "reference")

    def on_task_end(self, trainer: Any, module: Any, task: int) -> None:
        images, autoencoder = sequence_of(trainer).train_set(task), module.selector.tasks[task]
        self.train(trainer, module, autoencoder, images, module.selector_steps, task)

    def train(
        self, trainer: Any, module: Any, autoencoder: AutoEncoder, images: ImageSet, steps: int, name: int | str
    ) -> None:
        """Train on batches as large as those of the task, in the stream of a name."""
        sequence, dtype = sequence_of(trainer), module.clip.logit_scale.dtype
        # few images do not make the rate fall sooner
        whole = sequence.tasks[name].train_set if isinstance(name, int) else images
        training = AutoEncoderTraining(autoencoder, module.selector_lr, -(-len(whole) // sequence.batch_size))
        loader = sequence.loader_of(images, 1 if is_trial(trainer) else steps, "selector", name)
        with evaluation_mode(module):
            for batch, _ in in_step(trainer, iter(loader)):
                with trainer.precision_plugin.val_step_context():
                    features = module.selector_features(batch.to(module.device, dtype))
                training.step(trainer.strategy.all_gather(features).view(-1, features.shape[1]))
