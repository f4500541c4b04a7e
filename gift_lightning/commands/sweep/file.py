"""The file of a sweep."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import yaml

from gift_lightning.commands.sweep.trials import SEED, Choice, Trial, is_key, points, trial_of
from gift_lightning.config.yaml_text import load_yaml
from gift_lightning.errors import InputError, first_line, nearest
from gift_lightning.files import path_of, read_lines
from gift_lightning.names import alike_as_files
from gift_lightning.records.json_types import misfit
from gift_lightning.records.run_folder import RunFolder

VALIDATION = ("cl/val/avg", "cl/val/last", "cl/val/transfer")
"""What a search can maximise, the first one unless it says otherwise."""
TEST = ("cl/avg", "cl/last", "cl/transfer")
"""What it maximises on the test images, if it is told so twice."""


class _Search(TypedDict):
    space: dict[str, Any]
    trials: int


class _SearchOptions(_Search, total=False):
    batch: int
    metric: str


class _Needed(TypedDict):
    name: str
    grid: dict[str, list[Any] | dict[str, str | list[str]]]


class _File(_Needed, total=False):
    """The types of the file."""

    root: str
    set: dict[str, Any]
    search: _SearchOptions
    submitit: dict[str, Any]


class Search(NamedTuple):
    """Of the best values, by Optuna.

    Attributes:
        space: values of a key, or ``{low, high}`` and perhaps ``log``.
        trials: suggestions for each point of the grid.
        batch: suggestions that are made from the same results, and can run at the same time.
        metric: one of ``VALIDATION`` or ``TEST``.
    """

    space: dict[str, Any]
    trials: int
    batch: int
    metric: str


@dataclass(frozen=True)
class Sweep:
    """The content of a file.

    Attributes:
        file: its path.
        root: of all runs.
        name: of the folder of the trials, below ``root``.
        points: of the grid.
        files: configs by the names of an axis and of its values.
        fixed: keys of all trials.
        search: in each point of the grid, or ``None``.
        submitit: parameters of its executor.
    """

    file: Path
    root: str
    name: str
    points: list[tuple[Choice, ...]]
    files: dict[str, dict[str, list[str]]]
    fixed: dict[str, Any]
    search: Search | None
    submitit: dict[str, Any]

    @property
    def count(self) -> int:
        """The number of trials."""
        return len(self.points) * (self.search.trials if self.search else 1)

    @property
    def folder(self) -> Path:
        """The folder of the trials."""
        return RunFolder(self.root, self.name).path

    @property
    def notes(self) -> Path:
        """The folder of what the sweep itself writes; hidden, so that ``name/*`` are trials alone."""
        return self.folder / ".sweep"

    def run(self, trial: Trial) -> RunFolder:
        """The folder of a trial."""
        return RunFolder(self.root, f"{self.name}/{trial.name}")

    def words(self, trial: Trial) -> list[str]:
        """Those of ``fit`` for a trial, but for where it begins."""
        run = self.run(trial)
        return [*trial.words, f"--run.root={run.root}", f"--run.name={run.name}"]

    def config(self, trial: Trial) -> Path:
        """The whole config of a trial as it was checked, by which it runs: its files may be edited meanwhile."""
        return self.notes / f"{trial.name}.yaml"

    def trials(self, points: Sequence[Sequence[Choice]]) -> list[Trial]:
        """The trials of some points.

        Raises:
            InputError: two would have one folder.
        """
        trials = [trial_of(point, self.files, self.fixed) for point in points]
        counts = Counter(alike_as_files(trial.name) for trial in trials)
        if twice := [trial.name for trial in trials if counts[alike_as_files(trial.name)] > 1]:
            raise InputError(f"{self.file} has two trials called '{twice[0]}': give each value of an axis once.")
        return trials


def read_sweep(path: Path) -> Sweep:
    """Read a file: ``name`` and ``grid``, and perhaps ``root``, ``set``, ``search`` and ``submitit``.

    An axis of the grid is a list of values of a key (``data.steps: [60, 120]``), or names for config files
    (``method: {gift: ../mini/gift.yaml}``; several files are a list), by their paths from where the file lies. ``set``
    has keys for all trials.

    Raises:
        InputError: the file is missing or damaged, has another key, or stands for no trial or for two of one name.
    """
    content = _content(path)
    grid, fixed = content["grid"], content.get("set", {})
    if empty := [key for key, values in grid.items() if not values]:
        raise InputError(f"{path}: grid.{empty[0]} is empty: give at least one value.")
    axes = {axis: names for axis, names in grid.items() if isinstance(names, dict)}
    if of_key := [axis for axis in axes if is_key(axis)]:
        raise InputError(f"{path}: grid.{of_key[0]} names config files: call it method, or give a list of values.")
    for key, values in grid.items():
        if isinstance(values, list) and (same := _first_twice(values)) is not None:
            raise InputError(f"{path}: grid.{key} has {same[0]!r} twice: give each value once.")
    if not axes:
        raise InputError(f"{path} names no config: give one as grid: {{method: {{gift: ../mini/gift.yaml}}}}.")
    search = _search(content["search"], path) if "search" in content else None
    _check_keys(path, [*(key for key in grid if key not in axes), *fixed, *(search.space if search else ())])
    files = {axis: {name: _configs(path, given) for name, given in names.items()} for axis, names in axes.items()}
    if len(content["name"].encode()) > 200 or ".sweep" in Path(content["name"]).parts:
        raise InputError(f"{path}: name is '{content['name'][:40]}': give a shorter one, without .sweep.")
    root = str(path_of(content.get("root", "runs")))
    sweep = Sweep(path, root, content["name"], points(grid), files, fixed, search, content.get("submitit", {}))
    for trial in sweep.trials(sweep.points):
        sweep.run(trial)  # refuses names that no folder can have
    return sweep


def _content(path: Path) -> dict[str, Any]:
    text = "\n".join(read_lines(path, "sweep"))
    try:
        content = load_yaml(text)
    except (yaml.YAMLError, InputError, ValueError) as error:
        raise InputError(f"{path} is not valid YAML: {first_line(error)}") from error
    if isinstance(content, dict) and {"method", "parameters"} <= content.keys():
        raise InputError(f"{path} is a sweep of Weights & Biases: 'wandb sweep {path}' begins it, see docs/sweeps.md.")
    known = sorted(_File.__annotations__.keys() | _Needed.__annotations__.keys())
    if isinstance(content, dict) and (unknown := [key for key in content if key not in known]):
        hint = nearest(str(unknown[0]), known)
        raise InputError(f"{path} has the key '{unknown[0]}'{hint}: a sweep has {', '.join(known)}.")
    if fault := misfit(content, _File):
        raise InputError(f"{path} is no sweep ({fault}): see conf/sweeps/mini.yaml.")
    return dict(content)


def _first_twice(values: list[Any]) -> tuple[Any] | None:
    """The first value that is equal to an earlier one; ``None`` without one."""
    for place, value in enumerate(values):
        if any(value == earlier and isinstance(value, bool) is isinstance(earlier, bool) for earlier in values[:place]):
            return (value,)
    return None


def _configs(path: Path, given: str | list[str]) -> list[str]:
    """The configs of a name, from the current folder."""
    if "" in ([given] if isinstance(given, str) else given):
        raise InputError(f"{path} has a config file without a name in its grid: give its path, or [] for none.")
    return [
        str(path_of(file)) if file.startswith("~") else str(path.parent / file)
        for file in ([given] if isinstance(given, str) else given)
    ]


def _check_keys(path: Path, keys: Sequence[str]) -> None:
    """Raise an ``InputError`` for a key that no sweep may set, or that is set twice."""
    for key in keys:
        if key in ("run.root", "run.name"):
            raise InputError(f"{path} sets {key}, which follows from root, name and what differs: leave it out.")
        if not is_key(key):
            raise InputError(f"{path}: '{key}' is no key of a config: give one as model.init_args.lr or data.steps.")
    plain = [key.replace(".init_args", "") for key in keys]
    for key, other in ((a, b) for i, a in enumerate(plain) for j, b in enumerate(plain) if i != j):
        if key == other or other.startswith(f"{key}."):
            raise InputError(f"{path} sets {other} twice, in grid, set or search: give it once.")


def _search(content: dict[str, Any], path: Path) -> Search:
    known = ["batch", "metric", "space", "trials"]
    if unknown := [key for key in content if key not in known]:
        raise InputError(f"{path} has the key 'search.{unknown[0]}': a search has {', '.join(known)}.")
    search = Search(content["space"], content["trials"], content.get("batch", 1), content.get("metric", VALIDATION[0]))
    for name, value in (("trials", search.trials), ("batch", search.batch)):
        if value < 1:
            raise InputError(f"{path}: search.{name} is {value}: give at least 1.")
    if search.metric not in VALIDATION + TEST:
        raise InputError(f"{path}: search.metric is '{search.metric}': give one of {', '.join(VALIDATION + TEST)}.")
    if not search.space:
        raise InputError(f"{path}: search.space is empty: name a key and its values, or its low and high.")
    if SEED in search.space:
        raise InputError(f"{path}: search.space has {SEED}: give the seeds in the grid, where their mean counts.")
    for key, values in search.space.items():
        if fault := _fault_of_space(values):
            raise InputError(f"{path}: search.space.{key} {fault}.")
    return search


def _fault_of_space(values: Any) -> str:
    if isinstance(values, list):
        is_plain = all(value is None or isinstance(value, bool | int | float | str) for value in values)
        if values and _first_twice(values) is not None:
            return "has a value twice: give each once"
        return "" if values and is_plain else "is no list of numbers and texts"
    if not isinstance(values, dict) or not {"low", "high"} <= values.keys() <= {"low", "high", "log"}:
        return "is neither a list of values nor {low, high} or {low, high, log}"
    low, high, log = values["low"], values["high"], values.get("log", False)
    if misfit([low, high], list[float]) or not isinstance(log, bool):
        return "has a low or high that is no finite number, or a log that is neither true nor false"
    return "" if low < high and (low > 0 or not log) else "needs a low below high, and above 0 if log is true"
