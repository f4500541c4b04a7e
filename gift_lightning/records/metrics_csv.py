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

    The file is written and never read: each checkpoint holds its text (see ``RunRecord``), so that the file of a
    resumed run is equal to that of an uninterrupted run, byte for byte. (Lightning's ``CSVLogger`` deletes the file on
    resume.)

    Args:
        save_dir: folder of the file.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._folder = path_of(save_dir)
        self._rows: list[dict[str, Any]] = []

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
        """The file."""
        return self._folder / "metrics.csv"

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run folder holds the whole config."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": step or 0, **metrics}
        if self._rows and self._rows[-1]["step"] == row["step"] and not self._rows[-1].keys() & metrics.keys():
            self._rows[-1].update(row)
        else:
            self._rows.append(row)

    @property
    def text(self) -> str:
        """The content of the file with all rows so far; empty before the first row."""
        if not self._rows:
            return ""
        columns = sorted({column for row in self._rows for column in row} - {"step"})
        text = io.StringIO()
        writer = csv.DictWriter(text, ["step", *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        return text.getvalue()

    def restore(self, text: str) -> None:
        """Restore the rows from ``text``, the content of the file at the time of a checkpoint."""
        rows = csv.DictReader(io.StringIO(text))
        self._rows = [{key: value for key, value in row.items() if value != ""} for row in rows]
        for row in self._rows:
            row["step"] = int(row["step"])

    @rank_zero_only
    def save(self) -> None:
        if self._rows:
            write_text(self.path, self.text)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if status == "success":  # after a failure, an error of this file would hide the first error
            self.save()
