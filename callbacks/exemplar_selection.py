"""The choice of images that stay in memory."""

from lightning.pytorch import Trainer

from callbacks.encoding import encode_train_set
from callbacks.method import Method
from callbacks.task_callback import TaskCallback, is_trial, sequence_of
from datamodules.replay.exemplar_memory import ExemplarMemory
from gift_lightning.numerics.herding import herding, herding_by_class


class ExemplarSelection(TaskCallback):
    """At the end of a task, chooses training images of it by herding, with the features that the model then has.

    They go into the exemplar memory, which is the sequence's replay.

    Args:
        official_quirks: choose as the code does that ZSCL's authors compare with, slips included; see ``ICaRL``.
    """

    def __init__(self, official_quirks: bool = False) -> None:
        self.official_quirks = official_quirks

    def on_task_end(self, trainer: Trainer, method: Method, task: int) -> None:
        sequence = sequence_of(trainer)
        if task == sequence.num_tasks - 1 or is_trial(trainer):
            return
        memory, train_set = sequence.replay, sequence.train_set(task)
        assert isinstance(memory, ExemplarMemory)  # ReplayCLIP.setup refuses another one
        count = memory.share(task + 1)
        if self.official_quirks and task == 0:
            memory.add(task, list(range(min(count, len(train_set)))))
            return
        features, labels = encode_train_set(trainer, method, train_set)
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
