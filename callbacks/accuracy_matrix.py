"""The accuracy matrix: every model of the sequence on every task."""

import os
import time
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.encoding import evaluation_mode, sum_over_ranks
from callbacks.method import Method
from callbacks.task_callback import TaskCallback, is_trial, method_of, sequence_of
from datamodules.base import Candidates
from gift_lightning.records.predictions import TOP, Predictions, write_predictions
from gift_lightning.records.run_folder import RunFolder


class AccuracyMatrix(TaskCallback):
    """Fills ``R[i, j]``, the accuracy in percent on task ``j`` after task ``i``, and the zero-shot row before task 0.

    The candidate classes of a test image follow from the sequence's ``label_space``; a task whose classes do not count
    yet has no accuracy.

    Accuracies are ratios of integer counts, summed over ranks by one all-reduce, of test sets that are neither padded
    nor truncated. Prediction is the method's: ``method.evaluate(task, shard)`` gives the logits. The shards come
    from ``datamodules.evaluation``. Where the sequence holds out images for validation, a second matrix is filled
    with the accuracies on these, in the same way.

    Args:
        folder: of the run, which with ``predictions`` gets those of each row; ``None`` writes nothing.

    Attributes:
        rows: ``R`` so far, one list of percentages for each finished task.
        zero_shot: the row of the starting weights.
        validation_rows: as ``rows``, on the images held out; a task without any has no accuracy; empty without any.
        validation_zero_shot: as ``zero_shot``.
        seconds: how long the latest rows took.
    """

    def __init__(self, folder: RunFolder | None = None) -> None:
        self.folder = folder if folder is not None and folder.predictions else None
        self.rows: list[list[float | None]] = []
        self.zero_shot: list[float | None] | None = None
        self.validation_rows: list[list[float | None]] = []
        self.validation_zero_shot: list[float | None] | None = None
        self.seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"rows": _packed(self.rows), "zero_shot": self.zero_shot}
        if self.validation_zero_shot is not None:
            state["validation_rows"] = _packed(self.validation_rows)
            state["validation_zero_shot"] = self.validation_zero_shot
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.zero_shot = _unpacked(state_dict["rows"]), state_dict["zero_shot"]
        self.validation_rows = _unpacked(state_dict.get("validation_rows", []))
        self.validation_zero_shot = state_dict.get("validation_zero_shot")

    def on_sequence_start(self, trainer: Trainer, method: Method) -> None:
        began = time.perf_counter()
        self.zero_shot = self.evaluate(trainer, method, learned=0)
        if sequence_of(trainer).training_images.validates:
            self.validation_zero_shot = self.evaluate(trainer, method, learned=0, validation=True)
        self.seconds = time.perf_counter() - began

    def on_task_evaluate(self, trainer: Trainer, method: Method, task: int) -> None:
        if len(self.rows) != task:
            raise RuntimeError(f"The accuracy matrix has {len(self.rows)} rows at the end of task {task}.")
        began, sequence = time.perf_counter(), sequence_of(trainer)
        same = method.learning == "none" and sequence.label_space != "seen"
        if same and self.folder is None and self.zero_shot is not None:
            self.rows.append(self.zero_shot)
        else:  # with predictions each row has files
            self.rows.append(self.evaluate(trainer, method, learned=task + 1))
        if sequence.training_images.validates:
            held = self.validation_zero_shot if same else None
            self.validation_rows.append(held or self.evaluate(trainer, method, learned=task + 1, validation=True))
        self.seconds = time.perf_counter() - began

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The row of ``test``. Lightning hands over one task at a time, but a row is evaluated as a whole."""
        sequence = sequence_of(trainer)
        row = self.evaluate(trainer, method_of(trainer), learned=sequence.num_tasks)
        self.rows = [row]
        named = zip(sequence.names, row, strict=True)
        pl_module.log_dict({f"test/{name}": value for name, value in named if value is not None})

    @torch.no_grad()
    def evaluate(self, trainer: Trainer, method: Method, learned: int, validation: bool = False) -> list[float | None]:
        """Accuracy in percent on every task, of the method in its present state; mode and gradients stay untouched.

        Args:
            trainer: of the run.
            method: which predicts.
            learned: number of tasks that count as learned.
            validation: on the images held out, instead of the test images.
        """
        sequence = sequence_of(trainer)
        sets = [
            sequence.training_images.to_validate(index) if validation else task.test_set
            for index, task in enumerate(sequence.tasks)
        ]
        limit = sequence.batch_size if is_trial(trainer) else None
        asked = {index: sequence.candidates(index, learned) for index in range(sequence.num_tasks)}
        counts = torch.zeros(sequence.num_tasks, 2, dtype=torch.long, device=method.device)
        with evaluation_mode(method):
            for index, task in asked.items():
                if task is None or sets[index] is None:
                    continue
                shard = sequence.validation_shard(index, limit) if validation else sequence.test_shard(index, limit)
                with trainer.precision_plugin.val_step_context():
                    logits = method.evaluate(task, shard)
                if logits.shape != (len(shard), len(task.class_names)):
                    wanted = f"{len(shard)} images of task '{task.name}' over {len(task.class_names)} classes"
                    raise RuntimeError(f"evaluate gave logits {list(logits.shape)} for {wanted}.")
                best = logits.argmax(1)
                counts[index, 0] = task.right(best.cpu(), shard.labels).sum()
                counts[index, 1] = len(logits)
                if self.folder is not None and not validation:
                    predicted = self._gathered(trainer, index, task, shard.labels, logits, best)
                    if trainer.is_global_zero:
                        write_predictions(self.folder.predictions_csv(learned, index), predicted)
        sequence.faults.collect()
        counts = trainer.strategy.reduce(counts, reduce_op="sum")
        for (_, seen), images, task, name in zip(counts.tolist(), sets, asked.values(), sequence.names, strict=True):
            expected = 0 if task is None or images is None else len(images)
            if seen != (expected if limit is None else min(limit, expected)):
                raise RuntimeError(f"{seen} of {expected} images of task '{name}' were evaluated.")
        return [100.0 * right / seen if seen else None for right, seen in counts.tolist()]

    def _gathered(
        self, trainer: Trainer, index: int, task: Candidates, labels: Tensor, logits: Tensor, best: Tensor
    ) -> Predictions:
        """The predictions on all images of a test set, from the shards of the ranks, which have to call this."""
        classes = _top(logits, best)
        shares = logits.float().softmax(1).gather(1, classes)
        numbers = torch.cat([(task.first_class + labels)[:, None].to(classes.device), classes], 1)
        test_set: Any = sequence_of(trainer).tasks[index].test_set
        # each image is one rank's, so that the sum is exact; so are the numbers of classes up to 16 million
        table = torch.zeros(len(test_set), 2 * classes.shape[1] + 1, device=classes.device)
        table[trainer.global_rank :: trainer.world_size] = torch.cat([numbers.float(), shares], 1)
        table = sum_over_ranks(trainer, table).cpu()
        merged = task.merged(table[:, : numbers.shape[1]].long()).numpy()
        names = dict(enumerate(task.class_names))
        return Predictions(_paths(test_set), merged[:, 0], merged[:, 1:], table[:, numbers.shape[1] :].numpy(), names)


def _packed(rows: list[list[float | None]]) -> Tensor:
    """As one tensor: a checkpoint takes long to write so many numbers one by one."""
    return torch.from_numpy(np.array(rows, dtype=np.float64))  # None becomes NaN


def _unpacked(rows: Tensor | list[list[float | None]]) -> list[list[float | None]]:
    if isinstance(rows, Tensor):  # an earlier version wrote lists
        return [[None if value != value else value for value in row] for row in rows.tolist()]
    return rows


def _paths(test_set: Any) -> list[str]:
    """The path of each image, if the set has ``(path, label)`` pairs as torchvision's have; else empty texts."""
    samples = getattr(test_set, "samples", [])
    try:
        paths = [str(path) if isinstance(path, (str, os.PathLike)) else "" for path, _ in samples]
    except (TypeError, ValueError):
        paths = []
    return paths if len(paths) == len(test_set) else [""] * len(test_set)


def _top(logits: Tensor, best: Tensor) -> Tensor:
    """The most probable classes ``[n, k]``, ``best`` ``[n]`` first: of equal logits, ``topk`` may take another."""
    others = logits.scatter(1, best[:, None], float("-inf")).topk(min(TOP, logits.shape[1]) - 1).indices
    return torch.cat([best[:, None], others], 1)
