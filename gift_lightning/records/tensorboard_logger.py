"""A run in TensorBoard: event files in the run folder."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from gift_lightning.errors import InputError
from gift_lightning.files import path_of
from gift_lightning.records.report.formats import markdown, markdown_table
from gift_lightning.records.report.replay_grid import plot_replay_grid
from gift_lightning.records.report.words import percent
from gift_lightning.records.sequence_logger import SequenceLogger

_LINES = {
    "cl": {
        "accuracy of every task": ["Multiline", ["cl/accuracy/.*"]],
        "Transfer, Avg, Last": ["Multiline", ["cl/transfer", "cl/avg", "cl/last"]],
    }
}
"""Charts of TensorBoard's page "custom scalars": title -> what its lines show."""


class SequenceTensorBoardLogger(SequenceLogger, TensorBoardLogger):
    """Event files in the folder ``tensorboard`` of the run: scalars, the accuracy matrix, its picture, replayed images.

    The step of ``cl/...`` is the number of learned tasks, of replayed images the number of the task, from 1; that of
    all else is the optimiser step. A run that was killed and resumed leaves the events of an uninterrupted one: each
    checkpoint holds the sizes of the event files, and what was written after it is cut off.

    Args:
        save_dir: the run's folder, of this run alone.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, save_dir: str) -> None:
        try:
            super().__init__(str(path_of(save_dir)), name="tensorboard", version="", default_hp_metric=False)
        except ModuleNotFoundError as error:
            raise InputError("TensorBoard is not installed: pip install tensorboard.") from error

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = dict(metrics)
        at = values.pop("cl/task", step or 0)
        super().log_metrics(values, int(at))

    @rank_zero_only
    def begin(self, position: dict[str, int] | None) -> None:
        self._close()
        for path in self._files():
            size = (position or {}).get(path.name)
            if size is None:
                path.unlink()
            else:
                os.truncate(path, min(size, path.stat().st_size))  # a crash of the machine may have lost its end
        if position is None:
            self.experiment.add_custom_scalars(_LINES)

    @rank_zero_only
    def position(self) -> dict[str, int]:
        self.experiment.flush()
        return {path.name: path.stat().st_size for path in self._files()}

    @rank_zero_only
    def log_results(self, results: Mapping[str, Any], picture: Path, step: int) -> None:
        rows = [("zero-shot", results["zero_shot"]), *zip(results["tasks"], results["R"], strict=False)]
        cells = [[markdown(name), *map(percent, row)] for name, row in rows]
        table = markdown_table(["after", *map(markdown, results["tasks"])], cells)
        self.experiment.add_text("cl/accuracy_matrix", table, len(results["R"]))
        self._add_picture("cl/heatmap", picture, len(results["R"]))

    @rank_zero_only
    def log_replay(self, pairs: Any, texts: Sequence[str], task: int, step: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "replay.png"
            plot_replay_grid(picture, pairs, texts, f"Replayed while learning task {task + 1}")
            self._add_picture("cl/replay", picture, task + 1)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._experiment is not None:
            super().finalize(status)
            self._close()

    def _add_picture(self, name: str, picture: Path, step: int) -> None:
        with Image.open(picture) as image:
            self.experiment.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def _files(self) -> list[Path]:
        return sorted(Path(self.log_dir).glob("*tfevents*"))

    def _close(self) -> None:
        if self._experiment is not None:
            self._experiment.close()
            self._experiment = None
