"""The folder of a run: its files, and the checked reading of its results and its config."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar, TypedDict

import yaml

from gift_lightning.errors import InputError, advice
from gift_lightning.files import path_of, read_json
from gift_lightning.names import fault_of
from gift_lightning.numerics import metrics
from gift_lightning.records.earlier_results import completed
from gift_lightning.records.json_types import misfit

SCHEMA = 1
"""Version of ``results.json``; raised when a field changes its meaning."""


class _ProtocolID(TypedDict):
    id: str


class _Protocol(_ProtocolID, total=False):
    label_space: str
    fingerprints: dict[str, str]
    shots: dict[str, int]
    file_sizes: dict[str, dict[str, str]]


class _Needed(TypedDict):
    method: str
    tasks: list[str]
    R: list[list[float | None]]
    protocol: _Protocol
    complete: bool


class _Cost(TypedDict, total=False):
    replay_seconds: list[float | None]
    train_seconds: list[float | None]
    evaluate_seconds: list[float | None]
    zero_shot_seconds: list[float | None]
    other_seconds: list[float | None]
    machine: str
    images_per_second: list[float | None]
    shares: dict[str, list[float | None]]
    peak_memory_bytes: float | None
    total_parameters: float | None
    trainable_parameters: float | None
    frozen_parameters: float | None
    stored_parameters: float | None


class Results(_Needed, total=False):
    """The types of ``results.json``; accuracies in percent, ``R [learned tasks, tasks]``."""

    schema: int
    learns: bool
    seed: int | None
    zero_shot: list[float | None] | None
    metrics: dict[str, float | None]
    train_sizes: list[int]
    test_sizes: list[int]
    skipped: dict[str, Any]
    notes: list[str]
    cost: _Cost
    weights: str | None
    versions: dict[str, str]


class _CLIP(TypedDict):
    name: str


class _ModelArguments(TypedDict):
    clip: _CLIP


class _Model(TypedDict):
    class_path: str
    init_args: _ModelArguments


class _Config(TypedDict):
    """The types of ``config.yaml`` for readers other than the parser, which checks all of it."""

    model: _Model
    data: dict[str, Any]
    trainer: dict[str, Any]


@dataclass
class RunFolder:
    """The folder of a run.

    Attributes:
        root: folder of all runs.
        name: name of this run, a folder below ``root``.
        checkpoint_every: optimiser steps between two checkpoints within a task, whatever the time; ``None`` for none.
        checkpoint_minutes: from one checkpoint within a task to the next; a task's end always writes one.
        predictions: write those on each test image after each task, see ``gift_lightning.records.predictions``.

    Raises:
        InputError: the name is empty or leads out of ``root``, ``checkpoint_every`` is below 1, or
            ``checkpoint_minutes`` are not above 0.
    """

    INDIFFERENT: ClassVar[frozenset[str]] = frozenset(  # see same_run
        {"root", "name", "checkpoint_every", "checkpoint_minutes", "predictions"}
    )

    root: str = "runs"
    name: str = "run"
    checkpoint_every: int | None = None
    checkpoint_minutes: float = 10.0
    predictions: bool = False

    def __post_init__(self) -> None:
        if not self.name.strip("./ "):
            raise InputError(
                f"`run.name` is '{self.name}': give the run a name, as in {advice('--run.name ', '')}first."
            )
        folders = PurePath(self.name).parts
        if PurePath(self.name).is_absolute() or ".." in folders or folders[0] == "~" or fault_of(self.name):
            raise InputError(f"`run.name` is {self.name!r}: give the name of a folder below `run.root`, '{self.root}'.")
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise InputError(f"`run.checkpoint_every` is {self.checkpoint_every}: give at least 1 optimiser step.")
        if not self.checkpoint_minutes > 0:  # nor nan
            raise InputError(f"`run.checkpoint_minutes` is {self.checkpoint_minutes}: give more than 0 minutes.")

    @classmethod
    def at(cls, path: str | Path) -> "RunFolder":
        """The folder of a run by its path."""
        path = path_of(path)
        path = path if path.name.strip(".") else path.resolve()
        return cls(root=str(path.parent), name=path.name)

    @property
    def path(self) -> Path:
        """The folder."""
        return path_of(self.root) / self.name

    @property
    def config(self) -> Path:
        """The whole config of the run, with which it can be repeated."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, device and settings, see ``gift_lightning.records.environment``."""
        return self.path / "environment.json"

    @property
    def results(self) -> Path:
        """The accuracy matrix, metrics and costs, see ``Results``."""
        return self.path / "results.json"

    @property
    def matrix_csv(self) -> Path:
        """The accuracy matrix, see ``gift_lightning.records.accuracy_csv``."""
        return self.path / "accuracy_matrix.csv"

    @property
    def matrix_png(self) -> Path:
        """The accuracy matrix as a picture."""
        return self.path / "accuracy_matrix.png"

    def predictions_csv(self, learned: int, task: int) -> Path:
        """The predictions on task number ``task`` (from 0) after ``learned`` tasks; files count from 1."""
        return self._predictions / f"after{learned:02d}" / f"task{task + 1:02d}.csv"

    @property
    def written_in(self) -> list[Path]:
        """The folders in which a killed process may have left temporary files."""
        folders = [path for path in self._predictions.glob("**/*") if path.is_dir()]
        return [self.path, self.checkpoints, *folders]

    @property
    def _predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def forgotten_png(self) -> Path:
        """Some test images that were right after their task and are wrong now, of a run with ``predictions``."""
        return self.path / "forgotten.png"

    @property
    def features_csv(self) -> Path:
        """Test images in the space of features of each model, see ``gift_lightning.records.feature_map``."""
        return self.path / "features.csv"

    @property
    def features_png(self) -> Path:
        """The content of ``features_csv`` as a picture."""
        return self.path / "features.png"

    @property
    def replay_png(self) -> Path:
        """Some replayed images of the latest task, with their texts."""
        return self.path / "replay.png"

    @property
    def page(self) -> Path:
        """Tables and charts of the run, see ``gift_lightning.records.page``."""
        return self.path / "report.html"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints and weights."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint from which the run resumes."""
        return self.checkpoints / "last.ckpt"

    @property
    def requeue_checkpoints(self) -> list[Path]:
        """Checkpoints that Lightning wrote on SLURM's signal to requeue, in runs of earlier versions; oldest first."""
        return sorted(self.path.glob("hpc_ckpt_*.ckpt"), key=_age)

    @property
    def latest_checkpoint(self) -> Path | None:
        """The checkpoint from which the run resumes now: ``last_checkpoint``, or a newer one of an earlier version."""
        checkpoints = sorted([*self.requeue_checkpoints, self.last_checkpoint], key=_age)
        return checkpoints[-1] if checkpoints[-1].is_file() else None

    @property
    def knowledge(self) -> Path:
        """The state of a method beside the pre-trained CLIP, after the latest task."""
        return self.checkpoints / "knowledge.safetensors"

    def task_weights(self, task: int) -> Path:
        """Weights after task number ``task`` (from 0), a plain open_clip state dict; files count from 1."""
        return self.checkpoints / f"task{task + 1:02d}.safetensors"

    def final_weights(self, tasks: int) -> Path:
        """The file for predictions after the last of ``tasks``: ``knowledge``, or the weights of a single model."""
        return self.knowledge if self.knowledge.is_file() else self.task_weights(tasks - 1)

    def read_results(self) -> dict[str, Any] | None:
        """The content of ``results.json``, completed by ``learns`` and ``shots``; ``None`` without the file.

        Raises:
            InputError: the file is damaged: it is not JSON, has other types, or contradicts itself.
        """
        if not os.path.exists(self.results):
            return None
        results: dict[str, Any] = read_json(self.results)
        fault = misfit(results, Results) or _contradiction(results)
        if fault:
            raise InputError(f"{self.results} is damaged ({fault}): restore it, or delete {self.path}.")
        return completed(results)

    def read_config(self) -> dict[str, Any]:
        """The config of the run.

        Raises:
            InputError: the file is missing or damaged.
        """
        try:
            config: dict[str, Any] = yaml.safe_load(self.config.read_text(encoding="utf-8"))
            fault = misfit(config, _Config)
        except FileNotFoundError:
            raise InputError(f"{self.config} is missing: restore it, or delete {self.path}.") from None
        except OSError as error:
            fault = error.strerror
        except (ValueError, yaml.YAMLError, RecursionError):  # ValueError: no UTF-8, or a date that does not exist
            fault = "it is not valid YAML"
        if fault:
            raise InputError(f"{self.config} is damaged ({fault}): restore it, or delete {self.path}.")
        return config


def _age(file: Path) -> float:
    """The time of the last change; a file that is missing is the oldest."""
    return file.stat().st_mtime if file.is_file() else 0.0


def _contradiction(results: dict[str, Any]) -> str | None:
    """The first contradiction in ``results.json``, as a clause; ``None`` without one."""
    count, rows = len(results["tasks"]), results["R"]
    zero_shot, sizes = results.get("zero_shot"), results.get("test_sizes")
    cells = [cell for row in [*rows, zero_shot or []] for cell in row if cell is not None]
    if results.get("schema", SCHEMA) != SCHEMA:
        return f"it has version {results['schema']}, this program reads version {SCHEMA}"
    if len({*results["tasks"]}) != count or not count:
        return "it has no tasks, or tasks with equal names"
    if any(fault_of(name) for name in results["tasks"]):
        return "the name of a task is not one that a run can have"
    if len(rows) > count or (results["complete"] and len(rows) < count):
        return f"R has {len(rows)} rows for {count} tasks"
    if sizes and min(sizes) < 1:
        return "a task has no test images"
    if any(len(row) != count for row in [*rows, *filter(None, (zero_shot, sizes))]):
        return f"a row of R, zero_shot or test_sizes has not {count} values, one for each task"
    if not all(0 <= cell <= 100 for cell in cells):
        return "an accuracy is not between 0 and 100"
    stored, weights = results.get("metrics"), sizes if results["protocol"].get("label_space") == "seen" else None
    if stored and not _agree(stored, metrics.summary(rows, weights)):
        return "its metrics are not those of R"
    return None


def _agree(stored: dict[str, float | None], computed: dict[str, float | None]) -> bool:
    if not stored.keys() >= {"transfer", "avg", "last"}:
        return False
    pairs = [(value, stored[name]) for name, value in computed.items() if name in stored]
    return all(a is b is None or (a is not None and b is not None and abs(a - b) < 1e-6) for a, b in pairs)
