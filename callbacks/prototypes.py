"""Prototypes of the classes of each task."""

from torch.utils.data import Subset

from callbacks.encoding import encode_images, evaluation_mode
from callbacks.task_callback import Module, TaskCallback, Trainer
from datamodules.shard import LazyShard
from gift_lightning.prototypes import class_prototypes


class Prototypes(TaskCallback):
    """Adds the prototypes ``[C, D]`` of a task's classes to ``module.prototypes`` at the task's end.

    They are those of the pre-trained model, which the module's CLIP is then again, of all training images as in testing
    and of the prompts in all templates.
    """

    def on_task_end(self, trainer: Trainer, module: Module, task: int) -> None:
        current, clip = trainer.datamodule.tasks[task], module.clip
        few = range(min(len(current.train_set), trainer.datamodule.batch_size))
        train_set = Subset(current.train_set, few) if trainer.fast_dev_run else current.train_set
        images = LazyShard(train_set, clip.test_geometry, clip.normalize, trainer.datamodule.num_workers)
        with evaluation_mode(module), trainer.precision_plugin.val_step_context():
            features, labels = encode_images(trainer, module, clip, images)
            prompts = [template.format(name) for name in current.class_names for template in current.templates]
            texts = clip.encode_texts(prompts).unflatten(0, (len(current.class_names), -1))
        module.prototypes = [*module.prototypes[:task], class_prototypes(features, labels, texts)]
