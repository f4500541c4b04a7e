"""The runs of a sweep: their names, and the words of ``fit`` that each stands for."""

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gift_lightning.errors import InputError

SEED = "seed_everything"
"""The key whose values are repetitions of a trial."""

Choice = tuple[str, Any]
"""A key and its value; or the name of an axis of configs, and one of its names."""

_LONGEST = 60  # letters of a value in a name
_LONGEST_NAME = 150  # of the name; file systems allow 255 bytes
_KEY = re.compile(rf"{SEED}|model|(model|data|trainer|run)(\.\w+)+")


class Trial(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: of its folder, by what differs from other trials: ``gift,lr=0.001,seed=0``.
        group: the name without the seed.
        words: of ``fit``, but for its folder.
    """

    name: str
    group: str
    words: tuple[str, ...]


def is_key(name: str) -> bool:
    """Whether a name is a key of a config that a sweep may set."""
    return _KEY.fullmatch(name) is not None


def points(grid: Mapping[str, Any]) -> list[tuple[Choice, ...]]:
    """The points of a grid, the last axis first: of each axis one value, or one name of configs."""
    axes = [[(axis, value) for value in values] for axis, values in grid.items()]  # of a mapping, its names
    return list(itertools.product(*axes))


def trial_of(
    choices: Sequence[Choice], files: Mapping[str, Mapping[str, Sequence[str]]], fixed: Mapping[str, Any]
) -> Trial:
    """The trial of a point.

    Args:
        choices: one of each axis.
        files: configs by the names of an axis and of its values.
        fixed: keys of all trials.

    Raises:
        InputError: a value is none that a config can have.
    """
    ends = Counter(axis.rpartition(".")[2] for axis, _ in choices)
    labels, configs, flags = [], list[str](), list[str]()
    for axis, value in choices:
        end = axis.rpartition(".")[2]
        if axis in files:
            labels.append((axis, _short(value)))
            configs += [word for file in files[axis][value] for word in ("--config", file)]
        else:
            name = "seed" if axis == SEED else end if ends[end] == 1 else axis
            labels.append((axis, f"{name}={_short(text_of(axis, value))}"))
            flags.append(f"--{axis}={text_of(axis, value)}")
    common = [f"--{key}={text_of(key, value)}" for key, value in fixed.items()]
    group = ",".join(label for axis, label in labels if axis != SEED)
    return Trial(_cut(",".join(label for _, label in labels)), _cut(group), (*configs, *common, *flags))


def text_of(key: str, value: Any) -> str:
    """A value as a word of the command line.

    Raises:
        InputError: it is none that a config can have.
    """
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{key} is {value!r}: give a finite number, a text, a list or a mapping of these.") from error


def _short(text: str) -> str:
    """A text as a part of the name of a folder; one that has to be changed gets six letters of its hash."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("._")[:_LONGEST]
    return plain if plain == text else f"{plain}~{_hash(text)}"


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}~{_hash(name)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
