"""The accuracies of a run, as Python gets them."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gift_lightning.console import plain_console
from gift_lightning.records.report import accuracy_table


@dataclass(frozen=True)
class Results:
    """The accuracies of a run in percent; ``print`` shows them as a table.

    Attributes:
        R: ``R[i][j]`` after task i on the test images of task j; ``None`` where the run does not evaluate.
        transfer: mean above the diagonal, column by column; ``None`` without such entries.
        avg: mean of all cells.
        last: mean of the last row.
        tasks: their names.
        run: the folder of the run.
        record: the whole content of ``results.json``.
        is_new: whether this call has trained; ``False`` if the run was complete before.
    """

    R: list[list[float | None]]
    transfer: float | None
    avg: float | None
    last: float | None
    tasks: list[str]
    run: Path
    record: dict[str, Any] = field(repr=False)
    is_new: bool = True

    @classmethod
    def of(cls, record: dict[str, Any], run: Path, is_new: bool = True) -> "Results":
        """The results in the content of a ``results.json``."""
        metrics = record.get("metrics") or {}
        transfer, avg, last = (metrics.get(name) for name in ("transfer", "avg", "last"))
        return cls(record["R"], transfer, avg, last, record["tasks"], run, record, is_new)

    def __str__(self) -> str:
        console = plain_console(file=io.StringIO(), width=80)
        with console.capture() as capture:
            console.print(accuracy_table(self.record))
        return capture.get().strip("\n")
