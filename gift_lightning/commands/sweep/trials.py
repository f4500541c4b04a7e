"""The file of a sweep, and the runs that it stands for."""

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import yaml

from gift_lightning.errors import InputError, nearest
from gift_lightning.files import path_of, read_lines
from gift_lightning.records.json_types import misfit
from gift_lightning.records.run_folder import RunFolder

SEED = "seed_everything"
"""The key whose values are repetitions of a trial."""


class _Named(TypedDict):
    name: str


class _File(_Named, total=False):
    """The types of the file."""

    root: str
    processes: int
    set: dict[str, Any]
    grid: dict[str, list[Any] | dict[str, str | list[str]]]


class Trial(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: of its folder, what differs from other trials: ``gift,lr=0.001,seed_everything=0``.
        group: the name without the seed.
        words: of ``fit``, but for the folder.
    """

    name: str
    group: str
    words: tuple[str, ...]


class Sweep(NamedTuple):
    """The content of a file.

    Attributes:
        folder: of all trials.
        processes: trials at a time.
        trials: in the order of the grid, the last axis first.
    """

    folder: Path
    processes: int
    trials: list[Trial]

    def run(self, trial: Trial) -> RunFolder:
        """The folder of a trial."""
        return RunFolder(str(self.folder), trial.name)


def read_sweep(path: Path) -> Sweep:
    """Read a file: ``name``, ``grid``, and perhaps ``root``, ``processes`` and ``set``.

    An axis of the grid is a list of values of a key (``data.steps: [60, 120]``), or names for config files
    (``method: {gift: conf/mini/gift.yaml}``; several files are a list). ``set`` has keys for all trials.

    Raises:
        InputError: the file is missing or damaged, has another key, or stands for no trial or for two of one name.
    """
    text = "\n".join(read_lines(path, "sweep"))
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML: {str(error).splitlines()[0]}.") from error
    if fault := misfit(content, _File):
        raise InputError(f"{path} is no sweep ({fault}): give name and grid, as in conf/sweeps/mini.yaml.")
    known = sorted(_File.__annotations__.keys() | _Named.__annotations__.keys())
    if unknown := [key for key in content if key not in known]:
        hint = nearest(str(unknown[0]), known)
        raise InputError(f"{path} has the key '{unknown[0]}'{hint}: a sweep has {', '.join(known)}.")
    processes, grid = content.get("processes", 1), content.get("grid", {})
    if processes < 1:
        raise InputError(f"{path}: processes is {processes}: give at least 1.")
    if empty := [key for key, values in grid.items() if not values]:
        raise InputError(f"{path}: grid.{empty[0]} is empty: give at least one value.")
    every = {**dict.fromkeys(grid), **content.get("set", {})}
    if taken := [key for key in ("run.root", "run.name") if key in every]:
        raise InputError(f"{path} sets {taken[0]}, which follows from root, name and what differs: leave it out.")
    trials = _trials(grid, content.get("set", {}))
    if twice := [name for name, count in Counter(trial.name for trial in trials).items() if count > 1]:
        raise InputError(f"{path} has two trials called '{twice[0]}': give each value of an axis once.")
    sweep = Sweep(RunFolder(content.get("root", "runs"), content["name"]).path, processes, trials)
    for trial in trials:
        sweep.run(trial)  # refuses names that no folder can have
    return sweep


def _trials(grid: dict[str, Any], fixed: dict[str, Any]) -> list[Trial]:
    short = Counter(key.rpartition(".")[2] for key, values in grid.items() if isinstance(values, list))
    axes = [
        [_choice(key, value, short) for value in (values.items() if isinstance(values, dict) else values)]
        for key, values in grid.items()
    ]
    common = [word for key, value in fixed.items() for word in (f"--{key}", _text(value))]
    trials = []
    for chosen in itertools.product(*axes):
        name = ",".join(label for _, label, _, _ in chosen) or "trial"
        group = ",".join(label for key, label, _, _ in chosen if key != SEED) or "trial"
        configs, flags = ([word for choice in chosen for word in choice[part]] for part in (2, 3))
        trials.append(Trial(name, group, (*configs, *common, *flags)))
    return trials


def _choice(axis: str, value: Any, short: Counter[str]) -> tuple[str, str, list[str], list[str]]:
    """One value of an axis: its key, its label, and the words that it adds to a command, configs and others."""
    if isinstance(value, tuple):  # of a mapping
        label, files = value
        paths = [files] if isinstance(files, str) else files
        return axis, label, [word for file in paths for word in ("--config", str(path_of(file)))], []
    last = axis.rpartition(".")[2]
    label = f"{last if short[last] == 1 else axis}={_text(value)}"
    return axis, label.replace("/", "_").replace(" ", ""), [], [f"--{axis}", _text(value)]


def _text(value: Any) -> str:
    """A value as a word of the command line."""
    return value if isinstance(value, str) else json.dumps(value)
