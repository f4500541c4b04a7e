"""Run folder, checkpoints, protocol, loggers, tables and pictures; published numbers.

No module here imports the trainer or a method: tables and pictures are functions of ``results.json``.
"""

from importlib import import_module
from typing import Any

_CLASSES = {
    "AtomicCheckpointIO": "gift_lightning.records.checkpoint",
    "MetricsCSV": "gift_lightning.records.metrics_csv",
    "SequenceTensorBoardLogger": "gift_lightning.records.tensorboard_logger",
    "SequenceWandbLogger": "gift_lightning.records.wandb_logger",
}

__all__ = ["AtomicCheckpointIO", "MetricsCSV", "SequenceTensorBoardLogger", "SequenceWandbLogger"]


def __getattr__(name: str) -> Any:
    """The classes that a config names, imported at first use: they import Lightning, which a table does not need."""
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_CLASSES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_CLASSES})
