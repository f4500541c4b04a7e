"""The events of a sequence as a callback hears them, and the trainer's objects, typed."""

from typing import Any, TypeVar, cast

from lightning.pytorch import Callback, Trainer

from callbacks.method import Method
from datamodules.sequence import TaskSequence
from gift_lightning.errors import InputError

_Callback = TypeVar("_Callback", bound=Callback)


class TaskCallback(Callback):
    """A Lightning callback that also hears of tasks: ``TaskEvents`` with the trainer and the method.

    All events have empty defaults; tasks count from 0. A method of another name that begins with ``on_`` and is no hook
    of Lightning is refused when the run starts.
    """

    def on_sequence_start(self, trainer: Trainer, method: Method) -> None:
        """Once, before the first task; not on a resume."""

    def on_sequence_end(self, trainer: Trainer, method: Method) -> None:
        """After all files of the last task are written; again when a finished run is resumed."""

    def on_task_start(self, trainer: Trainer, method: Method, task: int) -> None:
        """Before the first step of ``task``, after the method's own ``on_task_start``."""

    def prepare_task(self, trainer: Trainer, method: Method, task: int) -> None:
        """Before the first step of ``task`` and on every resume into it; must change no weights."""

    def on_task_trained(self, trainer: Trainer, method: Method, task: int) -> None:
        """After the last step of ``task``, before the method's own ``on_task_end``; may change weights in place."""

    def on_task_end(self, trainer: Trainer, method: Method, task: int) -> None:
        """After the last step of ``task``, before evaluation."""

    def on_task_evaluate(self, trainer: Trainer, method: Method, task: int) -> None:
        """Evaluate the model in its state after ``task``."""

    def on_task_report(self, trainer: Trainer, method: Method, task: int) -> None:
        """Write the results after ``task``."""


def sequence_of(trainer: Trainer) -> TaskSequence:
    """The datamodule of a run.

    Raises:
        InputError: it is no ``TaskSequence``.
    """
    sequence = getattr(trainer, "datamodule", None)
    if not isinstance(sequence, TaskSequence):
        raise InputError(f"The trainer's datamodule is {_name_of(sequence)}: give it a TaskSequence.")
    return sequence


def method_of(trainer: Trainer) -> Method:
    """The LightningModule of a run.

    Raises:
        InputError: it is no method.
    """
    method = trainer.lightning_module
    if not isinstance(method, Method):
        raise InputError(f"The trainer's module is {_name_of(method)}: derive it from ContinualCLIP.")
    return method


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """All callbacks of a run, in the order in which Lightning calls them."""
    return cast(list[Callback], cast(Any, trainer).callbacks)


def callback_of(trainer: Trainer, kind: type[_Callback]) -> _Callback:
    """The trainer's callback of a kind, e.g. the ``AccuracyMatrix`` of a run.

    Raises:
        InputError: it has none, or several.
    """
    matching = [callback for callback in callbacks_of(trainer) if isinstance(callback, kind)]
    if len(matching) != 1:
        raise InputError(f"The trainer has {len(matching)} callbacks of type {kind.__name__}: give it one.")
    return matching[0]


# Lightning sets these attributes of its Trainer where a type checker does not see them.


def is_trial(trainer: Trainer) -> bool:
    """Whether the run only tries whether all works (``fast_dev_run``)."""
    return bool(cast(Any, trainer).fast_dev_run)


def logs_step(trainer: Trainer) -> bool:
    """Whether the figures of the latest step are logged (``log_every_n_steps``)."""
    every = cast(Any, trainer).log_every_n_steps
    return bool(every > 0 and trainer.global_step % every == 0)


def _name_of(thing: object) -> str:
    return "missing" if thing is None else f"of {type(thing).__name__}"
