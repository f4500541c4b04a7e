"""An event that nobody would ever hear is refused when the run starts."""

from typing import Any

import pytest
from lightning import LightningModule
from lightning.pytorch import Callback

from callbacks import TaskCallback
from datamodules import TaskSequence
from gift_lightning.errors import InputError
from gift_lightning.methods import Finetune
from tests.callbacks.test_task_boundary import MINI, sequence_of, three_tasks, trainer_with


class MisspeltMethod(Finetune):
    def on_task_strat(self, task: int) -> None: ...


class MisspeltHook(Finetune):
    def on_train_epoch_begin(self) -> None: ...


class SwappedLetters(Finetune):
    def prepare_tsak(self, task: int) -> None: ...


class OtherArguments(Finetune):
    def on_task_end(self) -> None: ...  # type: ignore[override]


class MisspeltSequence(TaskSequence):
    def on_task_finished(self, task: int) -> None: ...


class MisspeltCallback(TaskCallback):
    def on_task_ends(self, trainer: Any, method: Any, task: int) -> None: ...


class CallbackWithoutTrainer(TaskCallback):
    def on_task_end(self, task: int) -> None: ...  # type: ignore[override]


class PlainCallback(Callback):
    def on_task_end(self, trainer: Any, method: Any, task: int) -> None: ...


class MisspeltPlainCallback(Callback):
    def on_task_strat(self, trainer: Any, method: Any, task: int) -> None: ...


@pytest.mark.parametrize(
    ("method", "sequence", "callbacks", "message"),
    [
        (MisspeltMethod, TaskSequence, [], r"MisspeltMethod.on_task_strat is no event .* mean 'on_task_start'"),
        (MisspeltHook, TaskSequence, [], r"MisspeltHook.on_train_epoch_begin is no event"),
        (SwappedLetters, TaskSequence, [], r"SwappedLetters.prepare_tsak is no event .* mean 'prepare_task'"),
        (OtherArguments, TaskSequence, [], r"OtherArguments.on_task_end has to take the arguments \(task\)"),
        (Finetune, MisspeltSequence, [], r"MisspeltSequence.on_task_finished is no event"),
        (Finetune, TaskSequence, [MisspeltCallback()], r"MisspeltCallback.on_task_ends .* mean 'on_task_end'"),
        (Finetune, TaskSequence, [CallbackWithoutTrainer()], r"has to take the arguments \(trainer, method, task\)"),
        (Finetune, TaskSequence, [MisspeltPlainCallback()], r"event on_task_strat, but is no TaskCallback"),
        (Finetune, TaskSequence, [PlainCallback()], r"PlainCallback has the event on_task_end, .* derive it from"),
    ],
)
def test_a_receiver_that_would_never_be_called_is_refused(
    method: type[Finetune], sequence: type[TaskSequence], callbacks: list[Callback], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        trainer_with(*callbacks).fit(method(clip=MINI), sequence_of(three_tasks(), sequence))


def test_a_module_that_is_no_method_is_refused() -> None:
    class Plain(LightningModule):
        clip = MINI.load()

        def test_step(self, batch: Any) -> None: ...

    with pytest.raises(InputError, match="module is of Plain: derive it from ContinualCLIP"):
        trainer_with().test(Plain(), sequence_of(three_tasks()))


def test_a_way_to_learn_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=r"Closed\.learning is 'closed form': give one of steps, analytic, none"):
        type("Closed", (Finetune,), {"learning": "closed form"})
    with pytest.raises(InputError, match=r"Frozen\.learns is out of use: say how it learns with Frozen\.learning\."):
        type("Frozen", (Finetune,), {"learns": False})
