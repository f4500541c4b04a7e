"""The classes that a config may name, by the paths that they had before and have now."""

import importlib
from typing import Any

_MOVED = {
    "gift_lightning.checkpoint.AtomicCheckpointIO": "gift_lightning.records.AtomicCheckpointIO",
    "gift_lightning.generation.DiffusionGenerator": "datamodules.DiffusionGenerator",
    "gift_lightning.generation.ImageGenerator": "datamodules.ImageGenerator",
    "gift_lightning.logger.MetricsCSV": "gift_lightning.records.MetricsCSV",
    "gift_lightning.low_rank.LoRA": "gift_lightning.numerics.low_rank.LoRA",
    "gift_lightning.wandb_logger.SequenceWandbLogger": "gift_lightning.records.SequenceWandbLogger",
    **{
        f"datamodules.mtil.listed.{name}": f"datamodules.{name}"
        for name in ("Aircraft", "DTD", "Flowers", "Food", "OxfordPet", "StanfordCars")
    },
}
"""Where the classes of version 0.1.0 are that configs, and runs that were begun with it, name by another path."""


def current_path(path: str) -> str:
    """The path of a class as it is now.

    >>> current_path("gift_lightning.generation.DiffusionGenerator")
    'datamodules.DiffusionGenerator'
    >>> current_path("gift_lightning.methods.GIFT")
    'gift_lightning.methods.GIFT'
    """
    return _MOVED.get(path, path)


def class_of(path: str) -> Any:
    """The class that a config names; ``None`` if there is none of that path any more."""
    module, _, name = current_path(path).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError):  # of a name that is none, such as ".."
        return None
