"""The default logger: one CSV file that survives a resume."""

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from gift_lightning.files import path_of, write_text


class MetricsCSV(Logger):
    """Writes ``metrics.csv``, a row for each logged step.

    A resumed run keeps the rows of its first part. Rows from the first step that it logs again onwards are dropped, so
    that the file is the one of an uninterrupted run. (Lightning's own CSV logger deletes the file.)

    Args:
        save_dir: folder of the file.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._folder = path_of(save_dir)
        self._rows: list[dict[str, Any]] | None = None

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self._folder)

    @property
    def path(self) -> Path:
        return self._folder / "metrics.csv"

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run folder holds the whole config."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        step = step or 0
        if self._rows is None:
            self._rows = [row for row in self._read() if int(row["step"]) < step]
        row = {"step": step, **metrics}
        if self._rows and self._rows[-1]["step"] == step and not self._rows[-1].keys() & metrics.keys():
            self._rows[-1].update(row)
        else:
            self._rows.append(row)

    @rank_zero_only
    def save(self) -> None:
        if not self._rows:
            return
        columns = sorted({column for row in self._rows for column in row} - {"step"})
        text = io.StringIO()
        writer = csv.DictWriter(text, ["step", *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self.path, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            return [{key: value for key, value in row.items() if value != ""} for row in csv.DictReader(file)]
