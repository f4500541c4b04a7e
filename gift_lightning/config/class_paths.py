"""The classes that a config may name, by the paths that they had before and have now."""

_MOVED = {
    "gift_lightning.generation.DiffusionGenerator": "datamodules.DiffusionGenerator",
    "gift_lightning.generation.ImageGenerator": "datamodules.ImageGenerator",
    "gift_lightning.logger.MetricsCSV": "gift_lightning.records.MetricsCSV",
    "gift_lightning.low_rank.LoRA": "gift_lightning.numerics.low_rank.LoRA",
    "gift_lightning.wandb_logger.SequenceWandbLogger": "gift_lightning.records.SequenceWandbLogger",
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
