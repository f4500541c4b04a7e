"""Progress of the whole sequence in the terminal: which task, which step, and when it will be over."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from callbacks.method import Method
from callbacks.task_callback import TaskCallback, logs_step, method_of, sequence_of
from gift_lightning.console import plain_console


class SequenceProgress(TaskCallback, ProgressBar):
    """One bar for the sequence: ``task 3/6 Flags``, optimiser steps of all tasks, time spent and time left.

    Outside a terminal it draws nothing; the table after each task is progress enough for a log file.
    """

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        console, has_steps = plain_console(), method_of(trainer).learning == "steps"
        if not (self._enabled and console.is_terminal and trainer.is_global_zero and has_steps):
            return
        self._progress = progress_bar(console)
        sequence = sequence_of(trainer)
        total = sequence.first_step(sequence.num_tasks)
        self._bar = self._progress.add_task("starting", total=total, completed=trainer.global_step, loss="")
        self._progress.start()
        sequence.report = self._show
        if sequence.replay is not None:
            sequence.replay.report = self._show

    def on_task_start(self, trainer: Trainer, method: Method, task: int) -> None:
        self._describe(trainer, task)

    def prepare_task(self, trainer: Trainer, method: Method, task: int) -> None:
        self._describe(trainer, task)

    def _describe(self, trainer: Trainer, task: int, suffix: str = "") -> None:
        sequence = sequence_of(trainer)
        self._show(f"task {task + 1}/{sequence.num_tasks} {sequence.names[task]}{suffix}")

    def _show(self, description: str) -> None:
        if self._progress is not None:
            self._progress.update(self._bar, description=description)

    def on_task_end(self, trainer: Trainer, method: Method, task: int) -> None:
        self._describe(trainer, task, suffix=" (evaluating)")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._progress is not None:
            self._progress.update(self._bar, completed=trainer.global_step)
            if logs_step(trainer, trainer.global_step):
                losses = method_of(trainer).losses.items()
                loss = "  ".join(f"{name} {value.item():.3f}" for name, value in losses)
                self._progress.update(self._bar, loss=loss)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def progress_bar(console: Console) -> Progress:
    """The bar; the names of tasks and losses are text, whatever the task is called."""
    return Progress(
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}", style="dim", markup=False),
        console=console,
        expand=True,
    )
