"""The events of a sequence, as a callback sees them."""

from typing import Any, TypeAlias

from lightning.pytorch import Callback

Trainer: TypeAlias = Any
"""Lightning's ``Trainer``, whose attributes are set where a type checker does not see them."""

Module: TypeAlias = Any
"""A ``ContinualCLIP``; callbacks rely on its hooks and do not know the methods."""


class TaskCallback(Callback):
    """A Lightning callback that is also told of tasks. All events have empty defaults; tasks count from 0."""

    def on_sequence_start(self, trainer: Trainer, module: Module) -> None:
        """Once before the first task."""

    def on_sequence_end(self, trainer: Trainer, module: Module) -> None:
        """After everything that belongs to the last task is on disk; again when a finished run is resumed."""

    def on_task_start(self, trainer: Trainer, module: Module, task: int) -> None:
        """Before the first step of ``task``, after the module's own ``on_task_start``."""

    def prepare_task(self, trainer: Trainer, module: Module, task: int) -> None:
        """Before the first step of ``task`` and on every resume into it; must change no weights."""

    def on_task_trained(self, trainer: Trainer, module: Module, task: int) -> None:
        """After the last step of ``task``, before the module's own ``on_task_end``; may change weights in place."""

    def on_task_end(self, trainer: Trainer, module: Module, task: int) -> None:
        """After the last step of ``task``, before evaluation."""

    def on_task_evaluate(self, trainer: Trainer, module: Module, task: int) -> None:
        """Evaluate the model as it is after ``task``."""

    def on_task_report(self, trainer: Trainer, module: Module, task: int) -> None:
        """Write down what is known after ``task``."""


def callback_of(trainer: Trainer, kind: type) -> Any:
    """The trainer's callback of a kind, e.g. the ``AccuracyMatrix`` of a run."""
    found = [callback for callback in trainer.callbacks if isinstance(callback, kind)]
    if len(found) != 1:
        raise ValueError(f"The trainer has {len(found)} callbacks of type {kind.__name__}, one is needed.")
    return found[0]
