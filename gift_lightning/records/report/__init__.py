"""Reports of runs: tables in the terminal and in Markdown, a CSV file, a heatmap.

Every function takes the plain content of ``results.json`` (or a list of runs with the same keys) and returns or writes
a report; the same input gives the same output, byte for byte. The pictures are in ``heatmap`` and ``replay_grid``, for
a table needs no matplotlib.
"""

from gift_lightning.records.accuracy_csv import (
    NamedMatrix,
    parse_accuracy_csv,
    read_accuracy_csv,
    write_accuracy_csv,
)
from gift_lightning.records.report.comparison import comparison_markdown, comparison_table
from gift_lightning.records.report.side_by_side import side_by_side
from gift_lightning.records.report.table import accuracy_table, row_table
from gift_lightning.records.report.times import run_time, task_time

__all__ = [
    "NamedMatrix",
    "accuracy_table",
    "comparison_markdown",
    "comparison_table",
    "parse_accuracy_csv",
    "read_accuracy_csv",
    "row_table",
    "run_time",
    "side_by_side",
    "task_time",
    "write_accuracy_csv",
]
