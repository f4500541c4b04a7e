"""Continual learning of vision-language models: the methods of the field as PyTorch Lightning modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gift_lightning.methods import ContinualCLIP

__version__ = "0.1.0"


def load(run: str | Path) -> ContinualCLIP:
    """The model that a finished run ended with, in evaluation mode on the CPU.

    ``load("runs/quickstart").predict(images, ["cat", "dog"])`` gives a probability for each image and class.

    Args:
        run: the folder of the run.

    Raises:
        InputError: the folder holds no finished run, or a file of it is missing or damaged; or another package named
            ``callbacks`` or ``datamodules`` hides that of gift-lightning.
    """
    from gift_lightning.errors import InputError
    from gift_lightning.stray import stray_package

    hidden = stray_package()
    if hidden:
        raise InputError(hidden)
    from gift_lightning.runs.load import load_run  # the whole stack: what imports the package alone does without

    return load_run(run)
