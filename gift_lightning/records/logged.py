"""Reading ``metrics.csv`` of a run, also while the run adds rows to it."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gift_lightning.errors import InputError
from gift_lightning.records.run_folder import RunFolder

REPLAYED, HELD_OUT = "distillation/replayed", "distillation/held_out"
"""Columns of the callback ``HeldOutPairs``: the distillation loss on pairs that steps replay, and on others."""

PARTS = "loss/"
"""Before the name of a part of the loss, in its column."""

_TASK = "cl/task"


class Logged(NamedTuple):
    """The losses of a run; a step is the number of optimiser steps that were done by then.

    ``metrics.csv`` counts the steps of losses from 0, as Lightning does, and those of ``cl/task`` as here.
    """

    losses: Mapping[str, Sequence[tuple[int, float | None]]]
    """``(step, value)`` by column, of the parts of the loss and of ``REPLAYED`` and ``HELD_OUT``: the value is ``None``
    if it was not finite."""
    ends: Sequence[int]
    """The last step of each finished task."""


def logged(folder: Path) -> Logged:
    """The losses in the ``metrics.csv`` of a run folder; none without it. A last line without its end is left out.

    Raises:
        InputError: the file cannot be read, or a cell holds no number.
    """
    path = RunFolder.at(folder).path / "metrics.csv"
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        rows = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))  # a running fit may be adding a line
        steps = [int(row["step"]) for row in rows]
        columns = [name for name in rows[0] if _is_loss(name)] if rows else []
        losses = {
            name: [(step + 1, _finite(row[name])) for step, row in zip(steps, rows, strict=True) if row[name]]
            for name in columns
        }
        tasks = [(step, float(row[_TASK])) for step, row in zip(steps, rows, strict=True) if row.get(_TASK)]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}): restore or delete it.") from error
    return Logged(losses, [step for step, task in tasks if task > 0])


def _is_loss(column: str | None) -> bool:
    return column is not None and (column.startswith(PARTS) or column in (REPLAYED, HELD_OUT))


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
