"""The folder of a run: its files, and the checked reading of its results and its config."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar, TypedDict

import yaml

from gift_lightning.errors import InputError, advice
from gift_lightning.files import path_of, read_json
from gift_lightning.names import fault_of
from gift_lightning.records.earlier_results import completed
from gift_lightning.records.json_types import misfit
from gift_lightning.records.results_json import SCHEMA, fault_in

_ANEW = "run again in another folder"


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
        """The accuracy matrix, metrics and costs, see ``gift_lightning.records.results_json``."""
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
            InputError: the file is damaged: it is not JSON, has other types, or contradicts itself; or it is of a newer
                version of gift-lightning.
        """
        if not os.path.exists(self.results):
            return None
        again = advice("go on with fit and --ckpt_path last", "call fit again")
        remedy = f"delete it and {again}, which writes it anew" if self.latest_checkpoint else _ANEW
        results: dict[str, Any] = read_json(self.results, f"restore it, or {remedy}")
        version = results.get("schema", SCHEMA) if isinstance(results, dict) else SCHEMA
        if isinstance(version, int) and version > SCHEMA:
            raise InputError(
                f"{self.results} is of a newer gift-lightning (schema {version}, this one reads {SCHEMA}): update"
                " gift-lightning."
            )
        fault = fault_in(results)
        if fault:
            raise InputError(f"{self.results} is damaged ({fault}): restore it, or {remedy}.")
        return completed(results)

    def finished_results(self, unfinished: str = "") -> dict[str, Any]:
        """The content of ``results.json`` of a finished run, see ``read_results``.

        Args:
            unfinished: more to do about a run that is not finished, as the end of a sentence.

        Raises:
            InputError: also if there is no run, or an unfinished one.
        """
        results = self.existing_results()
        if not results["complete"]:
            progress = f"{len(results['R'])} of {len(results['tasks'])} tasks"
            remedy = advice("go on with fit and --ckpt_path last", "let fit go on with it")
            raise InputError(
                f"{self.path} holds an unfinished run ({progress}): wait for its end, or {remedy}{unfinished}."
            )
        return results

    def existing_results(self) -> dict[str, Any]:
        """The content of ``results.json`` of a run, finished or not, see ``read_results``.

        Raises:
            InputError: also if there is no run.
        """
        results = self.read_results()
        if results is not None:
            return results
        if not os.path.isdir(self.path):  # pathlib raises an error for a name that is too long
            what = "is a file" if os.path.exists(self.path) else "does not exist"
            raise InputError(f"{self.path} {what}: name the folder of a run, as runs/quickstart.")
        inner = sorted(file.parent for file in self.path.glob("*/results.json"))
        hint = f", as {inner[0]}" if inner else ""
        raise InputError(f"{self.path} holds no run: name the folder with its results.json{hint}.")

    def read_config(self) -> dict[str, Any]:
        """The config of the run.

        Raises:
            InputError: the file is missing or damaged.
        """
        try:
            config: dict[str, Any] = yaml.safe_load(self.config.read_text(encoding="utf-8"))
            fault = misfit(config, _Config)
        except FileNotFoundError:
            raise InputError(f"{self.config} is missing: restore it, or {_ANEW}.") from None
        except OSError as error:
            fault = error.strerror
        except (ValueError, yaml.YAMLError, RecursionError):  # ValueError: no UTF-8, or a date that does not exist
            fault = "it is not valid YAML"
        if fault:
            raise InputError(f"{self.config} is damaged ({fault}): restore it, or {_ANEW}.")
        return config


def _age(file: Path) -> float:
    """The time of the last change; a file that is missing is the oldest."""
    return file.stat().st_mtime if file.is_file() else 0.0
