"""Continual learning of vision-language models: the methods of the field as PyTorch Lightning modules.

A run from Python needs ``from gift_lightning import CLIPSource, TaskSequence, fit`` and a method, as ``from
gift_lightning.methods import GIFT``. These names are imported at their first use, for the whole stack takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.sequence import TaskSequence
    from gift_lightning.clip.source import CLIPSource
    from gift_lightning.runs.load import load
    from gift_lightning.runs.load import load_checkpoint as load_checkpoint
    from gift_lightning.runs.python import fit
    from gift_lightning.runs.results import Results

__version__ = "0.1.0"

__all__ = ["CLIPSource", "Results", "TaskSequence", "fit", "load"]

_MODULES = {
    "CLIPSource": "gift_lightning.clip.source",
    "Results": "gift_lightning.runs.results",
    "TaskSequence": "datamodules.sequence",
    "fit": "gift_lightning.runs.python",
    "load": "gift_lightning.runs.load",
    "load_checkpoint": "gift_lightning.runs.load",  # for ContinualCLIP.load_from_checkpoint
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from gift_lightning.errors import InputError, hidden_package

    hidden = hidden_package()
    if hidden:
        raise InputError(hidden)
    globals()[name] = value = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
