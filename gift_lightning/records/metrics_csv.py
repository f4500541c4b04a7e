"""The default logger: one CSV file that survives a resume."""

import csv
import io
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from gift_lightning.files import path_of, write_end, write_text


class MetricsCSV(Logger):
    """Writes ``metrics.csv``, a row for each logged step.

    The file is written and never read: each checkpoint holds its text (see ``RunRecord``), so that the file of a
    resumed run is equal to that of an uninterrupted run, byte for byte. (Lightning's ``CSVLogger`` deletes the file on
    resume.) So nothing is lost with the file: a row is added at its end, without waiting for the disk, and a log costs
    the same after any number of rows. A new column, and the end of the run, write the whole file anew.

    Args:
        save_dir: folder of the file.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._folder = path_of(save_dir)
        self._rows: list[dict[str, Any]] = []
        self._texts: list[str] = []  # of the rows that do not grow any more, with the columns of the text
        self._text_columns: list[str] = []
        self._columns: list[str] = []  # of the file
        self._whole = 0  # rows of the file that do not grow any more
        self._end = self._size = 0  # bytes of these rows, and of the file
        self._is_final = False

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
        row, self._is_final = {"step": step or 0, **metrics}, False
        if self._rows and self._rows[-1]["step"] == row["step"] and not self._rows[-1].keys() & metrics.keys():
            self._rows[-1].update(row)
        else:
            self._rows.append(row)

    @property
    def text(self) -> str:
        """The content of the file with all rows so far; empty before the first row."""
        if not self._rows:
            return ""
        if not {*_columns_of(self._rows[len(self._texts) :])} <= {*self._text_columns}:
            self._texts, self._text_columns = [], _columns_of(self._rows)
        columns = self._text_columns
        self._texts += [_csv([row], columns) for row in self._rows[len(self._texts) : -1]]
        return _csv([], columns, head=True) + "".join(self._texts) + _csv(self._rows[-1:], columns)

    def restore(self, text: str) -> None:
        """Restore the rows from ``text``, the content of the file at the time of a checkpoint."""
        rows = csv.DictReader(io.StringIO(text))
        self._rows = [{key: value for key, value in row.items() if value != ""} for row in rows]
        for row in self._rows:
            row["step"] = int(row["step"])
        self._texts, self._text_columns = [], []
        self._columns, self._is_final = [], False  # the file has rows of steps that are made again

    @rank_zero_only
    def save(self) -> None:
        """Bring the file up to date, by its end alone where that is possible.

        Raises:
            InputError: it cannot be written.
        """
        if not self._rows:
            return
        new = self._rows[self._whole :]
        if not self._columns or not {*_columns_of(new)} <= {*self._columns} or self._size != _size(self.path):
            self._whole, self._columns, new = 0, _columns_of(self._rows), self._rows
            self._end = len(_csv([], self._columns, head=True).encode())
            write_text(self.path, self.text, durable=False)
        else:
            write_end(self.path, self._end, _csv(new, self._columns))
        self._size = self._end + len(_csv(new, self._columns).encode())
        self._end = self._size - len(_csv(new[-1:], self._columns).encode())
        self._whole = len(self._rows) - 1

    @rank_zero_only
    def finalize(self, status: str) -> None:
        # after a failure, an error of this file would hide the first error
        if status == "success" and self._rows and not self._is_final:
            write_text(self.path, self.text)
            self._columns, self._is_final = [], True


def _columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return ["step", *sorted({column for row in rows for column in row} - {"step"})]


def _csv(rows: Iterable[Mapping[str, Any]], columns: list[str], head: bool = False) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if head:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
