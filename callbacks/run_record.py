"""The files of a run: results, matrix, picture, costs."""

import shutil
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from rich.console import RenderableType
from rich.text import Text
from torch import Tensor, nn

from callbacks.accuracy_matrix import AccuracyMatrix
from callbacks.encoding import likeliest_texts
from callbacks.method import Method
from callbacks.run_time import RunTime
from callbacks.task_boundary import TaskBoundary
from callbacks.task_callback import TaskCallback, callback_of, method_of, sequence_of
from datamodules.base import Task
from datamodules.sequence import TaskSequence
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import CLIP
from gift_lightning.console import note, plain_console, warn
from gift_lightning.errors import InputError, first_line
from gift_lightning.files import remove_unfinished, write_json, write_text
from gift_lightning.numerics import metrics
from gift_lightning.records.environment import environment, peak_memory, versions
from gift_lightning.records.metrics_csv import MetricsCSV
from gift_lightning.records.page.growing import GrowingPage
from gift_lightning.records.report import accuracy_table, run_time, task_time, write_accuracy_csv
from gift_lightning.records.report.forgotten import plot_forgotten
from gift_lightning.records.report.heatmap import plot_accuracy_matrix
from gift_lightning.records.report.replay_grid import SHOWN, plot_replay_grid, spread
from gift_lightning.records.results_json import SCHEMA
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.records.sequence_logger import SequenceLogger
from gift_lightning.tensors import checksum_in

_Logger = TypeVar("_Logger")


class RunRecord(TaskCallback):
    """Writes ``results.json``, the matrix as CSV and picture, and shows the table after each task.

    Rank 0 writes and prints; the memory is that of rank 0. All files are written anew after each task, whole; the page
    of a run not more often than ``GrowingPage`` says.

    Args:
        folder: where to write; ``None`` shows the table and writes nothing.
        config: the config of the run as YAML, for the folder.
    """

    def __init__(self, folder: RunFolder | None = None, config: str = "") -> None:
        self.folder, self.config = folder, config
        self.peak_memory = 0
        self._positions: dict[str, Any] = {}  # of loggers, by name: also of those that a resumed run has no longer
        self._page: GrowingPage | None = None
        self._complete = False
        self._warned_of: dict[str, int] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"peak_memory": self.peak_memory}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.peak_memory = state_dict["peak_memory"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the rows logged until now, and the places of other loggers: a resumed run logs what comes after."""
        checkpoint["metrics"] = [logger.text for logger in _loggers(trainer, MetricsCSV)]
        self._positions |= {name: logger.position() for name, logger in _followers(trainer).items()}
        if self._positions:
            checkpoint["positions"] = dict(self._positions)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if "metrics" not in checkpoint:
            raise InputError("The checkpoint was written by an earlier version of this program: begin a new run.")
        # the logger of the run is the first; one that was added since starts here
        for logger, text in zip(_loggers(trainer, MetricsCSV), checkpoint["metrics"], strict=False):
            logger.restore(text)
        positions = checkpoint.get("positions", {})
        if isinstance(positions, list):  # an earlier version knew them by their order
            positions = dict(zip(_followers(trainer), positions, strict=False))
        self._positions = dict(positions)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.folder is not None and trainer.is_global_zero:
            self._page = GrowingPage(self.folder)
            for folder in self.folder.written_in:
                remove_unfinished(folder)
            write_text(self.folder.config, self.config)
            where = environment(trainer.strategy.root_device, trainer.world_size, trainer.precision)
            write_json(self.folder.environment, where)
        self._print_notes(trainer, method_of(trainer))
        for name, follower in _followers(trainer).items():
            follower.begin(self._positions.get(name))
        for logger in trainer.loggers:
            logger.log_hyperparams(yaml.safe_load(self.config) or {})

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print_notes(trainer, method_of(trainer))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._warn_of_damaged(trainer)

    def on_sequence_start(self, trainer: Trainer, method: Method) -> None:
        results = self._write(trainer, method)
        _log_row(trainer, 0, results)

    def on_task_start(self, trainer: Trainer, method: Method, task: int) -> None:
        sequence, replay = sequence_of(trainer), sequence_of(trainer).replay
        if replay is not None and sequence.replays_in(task):
            for logger in _followers(trainer).values():
                logger.log_replay(replay.pairs, replay.texts, task, trainer.global_step)

    def prepare_task(self, trainer: Trainer, method: Method, task: int) -> None:
        sequence = sequence_of(trainer)
        replay = sequence.replay if sequence.replays_in(task) else None
        if self.folder is not None and trainer.is_global_zero and replay is not None:
            title = f"Replayed while learning {sequence.names[task]} (task {task + 1} of {sequence.num_tasks})"
            with callback_of(trainer, RunTime).outside("train"):
                answers = _answers_of_teacher(trainer, method, len(replay.pairs), replay.texts)
                if answers:
                    title += "; below each image, what the teacher says"
                plot_replay_grid(self.folder.replay_png, replay.pairs, replay.texts, title, answers)

    def on_task_report(self, trainer: Trainer, method: Method, task: int) -> None:
        if self.folder is not None and trainer.is_global_zero and not self.folder.predictions:
            # of a run that was killed and goes on with another setting, where they would not be those of R
            shutil.rmtree(self.folder.predictions_csv(task + 1, 0).parent, ignore_errors=True)
            self.folder.forgotten_png.unlink(missing_ok=True)
        results = self._write(trainer, method)
        if trainer.is_global_zero:
            _warn_of_skipped(results, results["tasks"][task])
            if self.folder is not None and self.folder.predictions:
                _draw_forgotten(self.folder, sequence_of(trainer).tasks[: task + 1])
        _log_row(trainer, task + 1, results)
        if self._page is not None and task < sequence_of(trainer).num_tasks - 1:
            self._page.update()
        if self.folder is not None:
            for logger in _followers(trainer).values():
                logger.log_results(results, self.folder.matrix_png, trainer.global_step)
        if trainer.is_global_zero and method.learning != "none" and task < sequence_of(trainer).num_tasks - 1:
            _show(accuracy_table(results), task_time(results))

    def on_sequence_end(self, trainer: Trainer, method: Method) -> None:
        self._complete = True
        for logger in _loggers(trainer, MetricsCSV):
            logger.finalize("success")  # nothing is written after results that are complete: no process would mend it
        results = self._write(trainer, method, matrix=False)  # it is that of the last task's report
        if trainer.is_global_zero:
            _show(accuracy_table(results), task_time(results), run_time(results))
        if self._page is not None:
            self._page.finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._page is not None:
            self._page.stop()

    def _print_notes(self, trainer: Trainer, method: Method) -> None:
        for sentence in _notes(trainer, method):
            note(sentence)

    def _warn_of_damaged(self, trainer: Trainer) -> None:
        """Once for each task, and again if there are more."""
        for name, paths in sequence_of(trainer).faults.damaged.items() if trainer.is_global_zero else []:
            if len(paths) > self._warned_of.get(name, 0):
                self._warned_of[name] = len(paths)
                images = "1 image" if len(paths) == 1 else f"{len(paths)} images"
                warn(
                    f"libjpeg reports damage in {images} of '{name}' that decode all the same: their pixels may be"
                    f" wrong. The first one is {paths[0]}."
                )

    def _write(self, trainer: Trainer, method: Method, matrix: bool = True) -> dict[str, Any]:
        results = self.results(trainer, method)
        self._warn_of_damaged(trainer)
        if self.folder is not None and trainer.is_global_zero:
            write_json(self.folder.results, results)
            if matrix:
                write_accuracy_csv(self.folder.matrix_csv, results)
                plot_accuracy_matrix(self.folder.matrix_png, results)
        return results

    def results(self, trainer: Trainer, method: Method) -> dict[str, Any]:
        """The content of ``results.json``; accuracies in percent."""
        matrix = callback_of(trainer, AccuracyMatrix)
        boundary = callback_of(trainer, TaskBoundary)
        sequence = sequence_of(trainer)
        sizes = [len(task.test_set) for task in sequence.tasks]
        # one softmax over all classes seen has one accuracy, that over all their images
        weights = sizes if sequence.label_space == "seen" else None
        return {
            "schema": SCHEMA,
            "method": type(method).__name__,
            "learns": method.learning != "none",
            "seed": sequence.seed,
            "tasks": sequence.names,
            "protocol": boundary.protocol,
            "train_sizes": [len(sequence.training_images.to_train(task)) for task in range(sequence.num_tasks)],
            "test_sizes": sizes,
            "zero_shot": matrix.zero_shot,
            "R": matrix.rows,
            "metrics": metrics.summary(matrix.rows, weights) if matrix.rows else {},
            **_validation(sequence, matrix),
            "skipped": sequence.faults.skipped,
            "damaged": sequence.faults.damaged,
            "notes": _notes(trainer, method),
            "cost": self._cost(trainer, method),
            "weights": self._final_checksum(trainer, method),
            "versions": versions(),
            "complete": self._complete,
        }

    def _final_checksum(self, trainer: Trainer, method: Method) -> str | None:
        """Checksum of the weights that a finished run keeps, by which they and the results belong together."""
        if not (self._complete and self.folder is not None and method.learning != "none" and trainer.is_global_zero):
            return None
        return checksum_in(self.folder.final_weights(sequence_of(trainer).num_tasks))

    def _cost(self, trainer: Trainer, method: Method) -> dict[str, Any]:
        self.peak_memory = max(self.peak_memory, peak_memory(trainer.strategy.root_device))
        trained, timing = method.learned_parameters(), callback_of(trainer, RunTime)
        clip = set(method.clip.parameters())
        beside = [parameter for parameter in method.parameters() if parameter not in clip]
        trained_beside = [tensor for tensor in trained if tensor not in clip]
        packed = sum(tensor.numel() * tensor.element_size() for tensor in method.knowledge().values())
        return {
            **{f"{phase}_seconds": [round(value, 3) for value in values] for phase, values in timing.seconds.items()},
            "machine": " and ".join(timing.machines),
            "images_per_second": timing.images_per_second,
            "shares": timing.shares,
            "peak_memory_bytes": self.peak_memory,
            "total_parameters": sum(map(Tensor.numel, [*clip, *beside])),  # in memory
            "trainable_parameters": sum(map(Tensor.numel, trained)),
            # in memory beside the CLIP
            "frozen_parameters": sum(map(Tensor.numel, beside)) - sum(map(Tensor.numel, trained_beside)),
            # between tasks beside the CLIP; bits and bytes count as fractions of a float
            "stored_parameters": sum(map(_size, method.stored_copies())) + packed // 4,
        }


def _validation(sequence: TaskSequence, matrix: AccuracyMatrix) -> dict[str, Any]:
    """The field ``validation``, as those of the test sets; none without validation images."""
    if not sequence.training_images.validates:
        return {}
    held = map(sequence.training_images.to_validate, range(sequence.num_tasks))
    sizes = [0 if images is None else len(images) for images in held]
    weights = sizes if sequence.label_space == "seen" else None
    rows, zero_shot = matrix.validation_rows, matrix.validation_zero_shot
    summary = metrics.summary(rows, weights) if rows else {}
    return {"validation": {"sizes": sizes, "zero_shot": zero_shot, "R": rows, "metrics": summary}}


def _show(*parts: RenderableType) -> None:
    for part in filter(None, parts):
        plain_console().print(part, soft_wrap=isinstance(part, Text))  # a line of a log stays one line


def _notes(trainer: Trainer, method: Method) -> list[str]:
    """What a user should know of this run, the model first; on rank 0, because the files of tasks are read for it."""
    return [] if not trainer.is_global_zero else [*method.notes(), *sequence_of(trainer).notes()]


def _answers_of_teacher(
    trainer: Trainer, method: Method, count: int, texts: Sequence[str]
) -> list[list[tuple[str, float]]]:
    """For each image of the replay picture, the texts in the picture that the teacher finds likeliest.

    Empty without a teacher or texts. The images are encoded here, those of the picture together: the features that
    training needs are encoded in other batches after a resume, and the picture would not be the same.
    """
    teacher, images = getattr(method, "teacher", None), sequence_of(trainer).replay_images
    if not isinstance(teacher, FrozenCopy) or not isinstance(teacher.module, CLIP) or len(images) != count:
        return []
    rows = spread(count, SHOWN)
    (_, labels), *_ = images.batches(torch.tensor(rows), len(rows))
    shown = list(dict.fromkeys(texts[label] for label in labels.tolist() if label >= 0))
    return likeliest_texts(trainer, teacher.module, images, rows, shown) if shown else []


def _warn_of_skipped(results: dict[str, Any], task: str) -> None:
    skipped = results["skipped"].get(task)
    if skipped:
        warn(
            f"Task '{task}' has {len(skipped['images'])} training images that do not decode; they were skipped in"
            f" {skipped['draws']} draws: see results.json, the first one is {skipped['images'][0]}."
        )


def _log_row(trainer: Trainer, learned: int, results: dict[str, Any]) -> None:
    """Log the metrics and accuracies after ``learned`` tasks as ``cl/...``, on images held out as ``cl/val/...``."""
    named: dict[str, float | None] = {}
    for prefix, part in (("cl", results), ("cl/val", results.get("validation"))):
        if part is not None:
            row = part["R"][-1] if learned else part["zero_shot"]
            named |= {f"{prefix}/{name}": value for name, value in part["metrics"].items()}
            named |= {f"{prefix}/accuracy/{name}": value for name, value in zip(results["tasks"], row, strict=True)}
    numbers = {name: value for name, value in named.items() if value is not None}
    for logger in trainer.loggers:
        logger.log_metrics({"cl/task": learned, **numbers}, step=trainer.global_step)
        logger.save()  # before the checkpoint, after which this row is never logged again


def _followers(trainer: Trainer) -> dict[str, SequenceLogger]:
    """Loggers that go on at the place of a checkpoint, by name: that of the class, with a number if there are more."""
    named: dict[str, SequenceLogger] = {}
    for logger in _loggers(trainer, SequenceLogger):
        name = type(logger).__name__
        named[name if name not in named else f"{name} {len(named)}"] = logger
    return named


def _draw_forgotten(folder: RunFolder, learned: Sequence[Task]) -> None:
    """Draw the picture; whatever its files or the user's test images bring, the run goes on."""
    try:
        plot_forgotten(folder, [task.name for task in learned], [task.test_set for task in learned])
    except Exception as error:  # noqa: BLE001 (a user's test set may raise anything)
        warn(f"{folder.forgotten_png} is not drawn: {first_line(error)}")


def _loggers(trainer: Trainer, kind: type[_Logger]) -> list[_Logger]:
    return [logger for logger in trainer.loggers if isinstance(logger, kind)]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
