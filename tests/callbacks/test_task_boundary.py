"""One fit, three tasks: steps, optimisers, learning rates and events of each; and trainers that do not fit."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from lightning import Trainer
from lightning.pytorch import Callback

from callbacks import AccuracyMatrix, TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import Task, TaskSequence
from datamodules.mini import Counting, Flags, Shapes
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import Finetune, ZeroShot
from gift_lightning.numerics.schedule import warmup_cosine
from gift_lightning.records.checkpoint import AtomicCheckpointIO
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS

MINI = CLIPSource("package:datamodules.mini.clip")
STEPS = [3, 5, 2]
LR = {"Flags": 1e-3, "Shapes": 5e-4, "Counting": 2e-3}
WARMUP = 2


def three_tasks() -> list[Task]:
    return [Flags(20, 9), Shapes(33, 10), Counting(16, 11)]


def sequence_of(tasks: list[Task], kind: type[TaskSequence] = TaskSequence) -> TaskSequence:
    return kind(tasks, batch_size=8, steps="epoch")


def finetune(kind: type[Finetune] = Finetune, **arguments: Any) -> Finetune:
    return kind(clip=MINI, lr=LR, warmup_steps=WARMUP, **arguments)


def trainer_with(*callbacks: Callback, folder: RunFolder | None = None, **settings: Any) -> Trainer:
    defaults = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 3}
    own = [TaskBoundary(folder), AccuracyMatrix(), *callbacks]
    settings = {"accelerator": "cpu", **SEQUENCE_DEFAULTS, **defaults, **settings}
    return Trainer(callbacks=own, plugins=[AtomicCheckpointIO()], **settings)


def rows_of(trainer: Trainer) -> list[list[float]]:
    return next(callback for callback in trainer.callbacks if isinstance(callback, AccuracyMatrix)).rows  # type: ignore[attr-defined]


class Steps(TaskCallback):
    """Counts the real steps of each task's optimiser, and keeps their learning rates."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.rates: dict[int, list[float]] = {}
        self.optimizers: list[Any] = []
        self.moments_at_start: list[int] = []

    def prepare_task(self, trainer: Any, module: Any, task: int) -> None:
        (optimizer,) = trainer.optimizers
        self.optimizers.append(optimizer)
        self.moments_at_start.append(len(optimizer.state))
        optimizer.register_step_pre_hook(lambda *_: self._step(optimizer, task))

    def _step(self, optimizer: Any, task: int) -> None:
        self.counts[task] += 1
        self.rates.setdefault(task, []).append(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_task_gets_its_steps_and_its_own_optimiser(accumulate: int) -> None:
    steps = Steps()
    trainer = trainer_with(steps, accumulate_grad_batches=accumulate)
    trainer.fit(finetune(), sequence_of(three_tasks()))
    assert [steps.counts[task] for task in range(3)] == STEPS
    assert trainer.global_step == sum(STEPS)
    assert len({id(optimizer) for optimizer in steps.optimizers}) == 3
    assert steps.moments_at_start == [0, 0, 0]
    for task, (name, total) in enumerate(zip(LR, STEPS, strict=True)):
        expected = [LR[name] * warmup_cosine(step, WARMUP, total) for step in range(total)]
        assert steps.rates[task] == pytest.approx(expected, rel=1e-12)
    assert [len(row) for row in rows_of(trainer)] == [3, 3, 3]


def test_a_number_of_steps_is_made_exactly_in_every_task() -> None:
    steps = Steps()
    trainer_with(steps).fit(finetune(), TaskSequence(three_tasks(), batch_size=8, steps=5))
    assert dict(steps.counts) == {0: 5, 1: 5, 2: 5}


# --- events -----------------------------------------------------------------------------------------------------------

EVENTS: list[str] = []


class RecordedSequence(TaskSequence):
    def on_sequence_start(self) -> None:
        EVENTS.append("on_sequence_start data")

    def on_task_start(self, task: int) -> None:
        EVENTS.append(f"on_task_start {task} data")

    def prepare_task(self, task: int) -> None:
        EVENTS.append(f"prepare_task {task} data")

    def on_task_end(self, task: int) -> None:
        EVENTS.append(f"on_task_end {task} data")

    def on_task_evaluate(self, task: int) -> None:
        EVENTS.append(f"on_task_evaluate {task} data")

    def on_task_report(self, task: int) -> None:
        EVENTS.append(f"on_task_report {task} data")


class RecordedFinetune(Finetune):
    def on_task_start(self, task: int) -> None:
        assert self.task == task
        EVENTS.append(f"on_task_start {task} module")

    def prepare_task(self, task: int) -> None:
        assert self.task == task
        super().prepare_task(task)
        EVENTS.append(f"prepare_task {task} module")

    def on_task_end(self, task: int) -> None:
        EVENTS.append(f"on_task_end {task} module")

    def configure_optimizers(self) -> Any:
        EVENTS.append(f"optimiser of task {self.task}")
        return super().configure_optimizers()


class RecordedCallback(TaskCallback):
    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_sequence_start(self, trainer: Any, module: Any) -> None:
        EVENTS.append("on_sequence_start callback")

    def on_task_start(self, trainer: Any, module: Any, task: int) -> None:
        EVENTS.append(f"on_task_start {task} callback")

    def prepare_task(self, trainer: Any, module: Any, task: int) -> None:
        EVENTS.append(f"prepare_task {task} callback")

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        EVENTS.append(f"step {trainer.global_step}")

    def on_task_end(self, trainer: Any, module: Any, task: int) -> None:
        EVENTS.append(f"on_task_end {task} callback")

    def on_task_evaluate(self, trainer: Any, module: Any, task: int) -> None:
        EVENTS.append(f"on_task_evaluate {task} callback")

    def on_task_report(self, trainer: Any, module: Any, task: int) -> None:
        EVENTS.append(f"on_task_report {task} callback")

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        weights = [path.name for path in sorted(self.folder.checkpoints.glob("*.safetensors"))]
        EVENTS.append(f"checkpoint beside {weights}")


def start_of(task: int) -> list[str]:
    return [
        f"prepare_task {task} data",
        *(f"on_task_start {task} {receiver}" for receiver in ("data", "module", "callback")),
        f"optimiser of task {task}",
        *(f"prepare_task {task} {receiver}" for receiver in ("module", "callback")),
    ]


def end_of(task: int) -> list[str]:
    weights = [f"task{number:02d}.safetensors" for number in range(1, task + 2)]
    return [
        *(f"on_task_end {task} {receiver}" for receiver in ("data", "module", "callback")),
        *(f"on_task_evaluate {task} {receiver}" for receiver in ("data", "callback")),
        *(f"on_task_report {task} {receiver}" for receiver in ("data", "callback")),
        f"checkpoint beside {weights}",
    ]


def test_events_come_in_the_documented_order(tmp_path: Path) -> None:
    EVENTS.clear()
    folder = RunFolder(str(tmp_path))
    trainer = trainer_with(RecordedCallback(folder), folder=folder)
    trainer.fit(finetune(RecordedFinetune), sequence_of(three_tasks(), RecordedSequence))
    expected = ["on_sequence_start data", "on_sequence_start callback", "checkpoint beside []"]
    for task, first in enumerate([0, 3, 8]):
        expected += [*start_of(task), *(f"step {first + step}" for step in range(STEPS[task])), *end_of(task)]
    assert EVENTS[0] == "optimiser of task 0"  # Lightning's own, before the sequence starts
    assert EVENTS[1:] == expected


class StoppedError(Exception):
    pass


class Stop(TaskCallback):
    """Ends a run after a step, its checkpoint written."""

    def __init__(self, step: int, folder: RunFolder) -> None:
        self.step, self.folder = step, folder

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.folder.last_checkpoint)
            raise StoppedError


@pytest.fixture(scope="module")
def whole_rows() -> list[list[float]]:
    """The accuracy matrix of an uninterrupted run."""
    trainer = trainer_with()
    trainer.fit(finetune(), sequence_of(three_tasks()))
    return rows_of(trainer)


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (5, [*(f"prepare_task 1 {receiver}" for receiver in ("data", "module", "callback")), "step 5"]),
        (8, [*end_of(1), *start_of(2), "step 8"]),
        (10, end_of(2)),
    ],
)
def test_a_resumed_run_continues_with_the_next_event(
    stop: int, expected: list[str], whole_rows: list[list[float]], tmp_path: Path
) -> None:
    folder = RunFolder(str(tmp_path))
    with pytest.raises(StoppedError):
        trainer_with(Stop(stop, folder), folder=folder).fit(finetune(), sequence_of(three_tasks()))
    EVENTS.clear()
    steps = Steps()
    trainer = trainer_with(RecordedCallback(folder), steps, folder=folder)
    sequence = sequence_of(three_tasks(), RecordedSequence)
    trainer.fit(finetune(RecordedFinetune), sequence, ckpt_path=folder.last_checkpoint)
    assert EVENTS[0].startswith("optimiser")  # Lightning's own, before it restores the old one's state
    assert EVENTS[1 : 1 + len(expected)] == expected
    assert rows_of(trainer) == whole_rows
    assert sum(steps.counts.values()) == sum(STEPS) - stop
    task = 1 if stop < 8 else 2
    if stop < 10:
        name, done = list(LR)[task], stop - sum(STEPS[:task])
        assert steps.rates[task][0] == pytest.approx(LR[name] * warmup_cosine(done, WARMUP, STEPS[task]), rel=1e-12)


def test_a_method_that_does_not_learn_only_evaluates(tmp_path: Path) -> None:
    EVENTS.clear()
    folder = RunFolder(str(tmp_path))
    trainer = trainer_with(RecordedCallback(folder), folder=folder)
    trainer.fit(ZeroShot(clip=MINI), sequence_of(three_tasks()))
    assert [event for event in EVENTS if "evaluate" in event] == [f"on_task_evaluate {t} callback" for t in range(3)]
    assert not [event for event in EVENTS if event.startswith(("step", "on_task_start", "prepare_task"))]
    assert trainer.global_step == 0


# --- what does not fit ------------------------------------------------------------------------------------------------


class Repainted(Flags):
    @property
    def fingerprint(self) -> str:
        return "other data"


class OtherPrompts(Flags):
    templates = [*Flags.templates, "{}"]


@pytest.mark.parametrize(
    "tasks",
    [
        [Shapes(33, 10), Flags(20, 9), Counting(16, 11)],
        [Flags(20, 9), Shapes(33, 10), Counting(16, 12)],
        [Repainted(20, 9), Shapes(33, 10), Counting(16, 11)],
        [OtherPrompts(20, 9), Shapes(33, 10), Counting(16, 11)],
    ],
    ids=["order", "size", "data", "prompts"],
)
def test_a_checkpoint_of_another_sequence_is_refused(tasks: list[Task], checkpoint: Path) -> None:
    with pytest.raises(InputError, match="belongs to another sequence"):
        trainer_with().fit(finetune(), sequence_of(tasks), ckpt_path=checkpoint)


def test_a_checkpoint_of_other_starting_weights_is_refused(checkpoint: Path) -> None:
    method = finetune()
    method.clip.model.ln_final.weight.data += 1
    with pytest.raises(InputError, match="belongs to another sequence"):
        trainer_with().fit(method, sequence_of(three_tasks()), ckpt_path=checkpoint)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = RunFolder(str(tmp_path_factory.mktemp("run")))
    with pytest.raises(StoppedError):
        trainer_with(Stop(1, folder), folder=folder).fit(finetune(), sequence_of(three_tasks()))
    return folder.last_checkpoint


@pytest.mark.parametrize(
    "settings",
    [
        {"max_epochs": 2},
        {"max_epochs": 4},
        {"max_epochs": -1},
        {"max_steps": 5},
        {"limit_train_batches": 1},
        {"limit_train_batches": 2},
        {"limit_train_batches": 0.5},
        {"overfit_batches": 1},
    ],
)
def test_a_trainer_that_would_cut_the_sequence_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(settings))}"):
        trainer_with(**settings).fit(finetune(), sequence_of(three_tasks()))


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match="batch_size 8 does not divide into 1 devices x 3"):
        trainer_with(accumulate_grad_batches=3).fit(finetune(), sequence_of(three_tasks()))


def test_fast_dev_run_takes_one_step() -> None:
    steps = Steps()
    trainer = trainer_with(steps, fast_dev_run=True)
    trainer.fit(finetune(), sequence_of(three_tasks()))
    assert dict(steps.counts) == {0: 1}
    assert [len(row) for row in rows_of(trainer)] == [3]


def test_a_sequence_can_be_run_after_a_fast_dev_run(whole_rows: list[list[float]]) -> None:
    sequence, trainer = sequence_of(three_tasks()), trainer_with()
    trainer_with(fast_dev_run=True).fit(finetune(), sequence)
    trainer.fit(finetune(), sequence)
    assert rows_of(trainer) == whole_rows


def test_a_sequence_can_be_run_with_another_model() -> None:
    def other() -> ZeroShot:
        method = ZeroShot(clip=MINI)
        method.clip.normalize = lambda images: images.float().div(-255)
        return method

    sequence, trainers = sequence_of(three_tasks()), [trainer_with() for _ in range(3)]
    trainers[0].fit(ZeroShot(clip=MINI), sequence)
    trainers[1].fit(other(), sequence)
    trainers[2].fit(other(), sequence_of(three_tasks()))
    assert rows_of(trainers[1]) == rows_of(trainers[2]) != rows_of(trainers[0])
