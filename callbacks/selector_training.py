"""The auto-encoders that say which task an image looks like."""

import torch

from callbacks.encoding import evaluation_mode
from callbacks.task_callback import Module, TaskCallback, Trainer
from datamodules.base import ImageSet
from datamodules.replay.in_step import in_step
from gift_lightning.selector import AutoEncoder, AutoEncoderTraining


class SelectorTraining(TaskCallback):
    """Trains ``module.selector``: the auto-encoder of a task at its end, that of reference images before all tasks.

    Images are augmented as in training, in an order of their own, the same on any number of ranks. A rank encodes its
    share of each batch, and all learn from the whole of it.
    """

    def on_task_start(self, trainer: Trainer, module: Module, task: int) -> None:
        if task == 0 and module.selector.reference is not None:
            images = trainer.datamodule.replay.pairs
            self.train(trainer, module, module.selector.reference, images, task, module.reference_steps)

    def on_task_end(self, trainer: Trainer, module: Module, task: int) -> None:
        images = trainer.datamodule.tasks[task].train_set
        self.train(trainer, module, module.selector.tasks[task], images, task, module.selector_steps)

    def train(
        self, trainer: Trainer, module: Module, autoencoder: AutoEncoder, images: ImageSet, task: int, steps: int
    ) -> None:
        """Train on batches as large as those of the task."""
        sequence = trainer.datamodule
        steps = 1 if trainer.fast_dev_run else steps
        training = AutoEncoderTraining(autoencoder, module.selector_lr, -(-len(images) // sequence.batch_size))
        loader = sequence.loader_of(images, task, "selector", steps)
        with evaluation_mode(module):
            for batch, _ in in_step(trainer, iter(loader)):
                with torch.no_grad(), trainer.precision_plugin.val_step_context():
                    features = module.selector_features(batch.to(module.device, module.clip.logit_scale.dtype))
                training.step(trainer.strategy.all_gather(features).view(-1, features.shape[1]))
