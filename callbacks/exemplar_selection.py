"""The choice of images that stay in memory."""

from callbacks.encoding import encode_images, evaluation_mode
from callbacks.task_callback import Module, TaskCallback, Trainer
from datamodules.shard import LazyShard
from gift_lightning.numerics.herding import herding, herding_by_class


class ExemplarSelection(TaskCallback):
    """Chooses training images of a task at its end by herding, as the model then sees them, for the exemplar memory.

    Args:
        official_quirks: choose as the code does that ZSCL's authors compare with, slips included; see ``ICaRL``.
    """

    def __init__(self, official_quirks: bool = False) -> None:
        self.official_quirks = official_quirks

    def on_task_end(self, trainer: Trainer, module: Module, task: int) -> None:
        if task == trainer.datamodule.num_tasks - 1 or trainer.fast_dev_run:
            return
        memory, clip = trainer.datamodule.replay, module.clip
        train_set = trainer.datamodule.train_set(task)
        count = memory.share(task + 1)
        if self.official_quirks and task == 0:
            memory.add(task, list(range(min(count, len(train_set)))))
            return
        images = LazyShard(train_set, clip.test_geometry, clip.normalize, trainer.datamodule.num_workers)
        with evaluation_mode(module):
            features, labels = encode_images(trainer, module, clip, images)
        if self.official_quirks:
            memory.add(task, shifted(herding(features, count)))
        else:
            memory.add(task, herding_by_class(features, labels, count))


def shifted(chosen: list[int]) -> list[int]:
    """What remains of a choice if each chosen feature is taken out of the list, but the list of images stays whole.

    >>> shifted([57, 10, 2, 47])
    [57, 10, 2, 45]
    """
    return [index - sum(earlier < index for earlier in chosen[:place]) for place, index in enumerate(chosen)]
