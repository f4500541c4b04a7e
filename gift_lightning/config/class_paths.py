"""Class paths and constructor arguments of earlier versions, and those that stand for them now."""

import importlib
import re
from collections.abc import Mapping
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
"""Path of a class in version 0.1.0 -> its path now."""

_SPLIT: dict[str, tuple[str, dict[str, Any]]] = {
    "GIFT": (
        "GIFTAblation",
        {"teacher": "last", "initial_weight": 0.2, "distillation": "contrastive", "consolidation": "adaptive"},
    ),
    "ZSCL": ("ZSCLAblation", {"feature_weight": 0.0, "image_image_weight": 0.0}),
}
"""Name of a method -> its subclass, and the arguments that the subclass took over, with their defaults."""

_RENAMED = {"MoEAdapter": {"noise": "gate_noise", "code": "selector_width"}}
"""Name of a method -> its earlier arguments by their names now."""


def current_path(path: str) -> str:
    """The path of a class as it is now.

    >>> current_path("gift_lightning.generation.DiffusionGenerator")
    'datamodules.DiffusionGenerator'
    >>> current_path("gift_lightning.methods.GIFT")
    'gift_lightning.methods.GIFT'
    """
    return _MOVED.get(path, path)


def current_settings(path: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A class and arguments of its constructor, all or some, as they are written now.

    Where a part of a method became a subclass, settings of the method that use this part are the subclass's; those that
    have it at its defaults lose these arguments.

    >>> current_settings("gift_lightning.methods.GIFT", {"teacher": "last", "temperature": 2.0})
    ('gift_lightning.methods.GIFT', {'temperature': 2.0})
    >>> current_settings("gift_lightning.methods.GIFT", {"teacher": "initial"})
    ('gift_lightning.methods.GIFTAblation', {'teacher': 'initial'})
    >>> current_settings("gift_lightning.methods.MoEAdapter", {"code": 100})
    ('gift_lightning.methods.MoEAdapter', {'selector_width': 100})
    """
    path, arguments = current_path(path), dict(arguments)
    method = re.fullmatch(r"(?:gift_lightning\.methods\.(?:\w+\.)?)?(\w+)", path)
    if method is None:
        return path, arguments
    renamed = _RENAMED.get(method[1], {})
    arguments = {renamed.get(name, name): value for name, value in arguments.items()}
    subclass, defaults = _SPLIT.get(method[1], ("", {}))
    used = [name for name in defaults if name in arguments]
    if any(not _is(arguments[name], defaults[name]) for name in used):
        return f"gift_lightning.methods.{subclass}", arguments
    return path, {name: value for name, value in arguments.items() if name not in used}


def _is(value: Any, default: Any) -> bool:
    """Whether a setting has this default; a flag is a text."""
    try:
        return value == default or (isinstance(default, float) and float(value) == default)
    except (TypeError, ValueError):
        return False


def class_of(path: str) -> Any:
    """The class that a config names; ``None`` if there is none of that path any more, or its module fails here."""
    module, _, name = current_path(path).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception:  # noqa: BLE001  # a user's module may raise anything, and a name may be none, such as ".."
        return None
