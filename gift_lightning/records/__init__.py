"""What a run leaves and what others left: run folder, checkpoints, protocol, loggers, tables, published numbers.

Nothing here knows the trainer or a method: tables and pictures are functions of ``results.json``.
"""

from importlib import import_module
from typing import Any

_LOGGERS = {
    "MetricsCSV": "gift_lightning.records.metrics_csv",
    "SequenceWandbLogger": "gift_lightning.records.wandb_logger",
}

__all__ = ["MetricsCSV", "SequenceWandbLogger"]


def __getattr__(name: str) -> Any:
    """The loggers, when a config names them: they import Lightning, which a table does without."""
    if name not in _LOGGERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LOGGERS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LOGGERS})
