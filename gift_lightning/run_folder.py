"""The folder that a run leaves."""

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar

import yaml

from gift_lightning.errors import InputError
from gift_lightning.files import path_of, read_json
from gift_lightning.names import fault_of

SCHEMA = 1
"""Version of ``results.json``; raised when a field changes its meaning."""


@dataclass
class RunFolder:
    """Where a run writes.

    Attributes:
        root: folder of all runs.
        name: name of this run, a folder below ``root``.
        checkpoint_every: optimiser steps between two checkpoints within a task; a task's end always writes one.
    """

    INDIFFERENT: ClassVar[frozenset[str]] = frozenset({"root", "name", "checkpoint_every"})  # see same_run

    root: str = "runs"
    name: str = "run"
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if not self.name.strip("./ "):
            raise InputError(f"run.name is '{self.name}': give the run a name, as in --run.name first.")
        parts = PurePath(self.name).parts
        if PurePath(self.name).is_absolute() or ".." in parts or parts[0] == "~" or fault_of(self.name):
            raise InputError(f"run.name is {self.name!r}: give the name of a folder below run.root, '{self.root}'.")
        if self.checkpoint_every < 1:
            raise InputError(f"run.checkpoint_every is {self.checkpoint_every}: give at least 1 optimiser step.")

    @classmethod
    def at(cls, path: str | Path) -> "RunFolder":
        """The folder of a run by its path."""
        path = path_of(path)
        path = path if path.name.strip(".") else path.resolve()
        return cls(root=str(path.parent), name=path.name)

    @property
    def path(self) -> Path:
        return path_of(self.root) / self.name

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    @property
    def matrix_csv(self) -> Path:
        return self.path / "accuracy_matrix.csv"

    @property
    def matrix_png(self) -> Path:
        return self.path / "accuracy_matrix.png"

    @property
    def replay_png(self) -> Path:
        return self.path / "replay.png"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoints / "last.ckpt"

    @property
    def knowledge(self) -> Path:
        """What a method keeps beside the pre-trained CLIP, after the latest task."""
        return self.checkpoints / "knowledge.safetensors"

    def task_weights(self, task: int) -> Path:
        """Weights after task number ``task`` (from 0), a plain open_clip state dict; files count from 1."""
        return self.checkpoints / f"task{task + 1:02d}.safetensors"

    def read_results(self) -> dict[str, Any] | None:
        """What an earlier run of this name recorded, or ``None`` if there was none.

        Raises:
            InputError: the file is damaged.
        """
        if not self.results.exists():
            return None
        results = read_json(self.results)
        if not isinstance(results, dict) or not results.keys() >= {"method", "tasks", "R", "protocol", "complete"}:
            raise InputError(
                f"{self.results} is damaged: restore it, or delete {self.path}, for it is not what a run writes."
            )
        return results

    def read_config(self) -> dict[str, Any]:
        """The config of the run.

        Raises:
            InputError: the file is missing or damaged.
        """
        try:
            config: dict[str, Any] = yaml.safe_load(self.config.read_text(encoding="utf-8"))
            whole = config.keys() >= {"model", "data", "trainer"} and "name" in config["model"]["init_args"]["clip"]
        except FileNotFoundError:
            raise InputError(f"{self.config} is missing: restore it, or delete {self.path}.") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, AttributeError):
            whole = False
        if not whole:
            raise InputError(f"{self.config} is damaged: restore it, or delete {self.path}.")
        return config
