"""Settings of Lightning's trainer that would cut or mix tasks."""

from typing import Any, cast

from lightning.pytorch import Trainer

from datamodules.sequence import TaskSequence
from gift_lightning.errors import InputError


def check_trainer(trainer: Trainer, sequence: TaskSequence, stage: str) -> None:
    """Raise an ``InputError`` for settings of the trainer that would cut or mix tasks."""
    if stage == "test":
        if _limited(trainer.limit_test_batches):
            raise InputError("`trainer.limit_test_batches` does not apply: every test image counts.")
        return
    if trainer.max_epochs != sequence.num_tasks or trainer.max_steps != -1:
        raise InputError(
            "`trainer.max_epochs` and max_steps belong to the sequence, one epoch for each task: set `data.tasks` and"
            " `data.steps` instead."
        )
    if (
        trainer.min_epochs
        or trainer.min_steps
        or _limited(trainer.limit_train_batches)
        or cast(Any, trainer).overfit_batches
    ):
        raise InputError(
            "`trainer.min_epochs`, min_steps, limit_train_batches and overfit_batches do not apply: set `data.steps`."
        )
    if cast(Any, trainer).reload_dataloaders_every_n_epochs != 1:
        raise InputError("`trainer.reload_dataloaders_every_n_epochs` must be 1: each task has its own loaders.")
    if trainer._accelerator_connector.use_distributed_sampler:
        raise InputError("`trainer.use_distributed_sampler` must be false: the training stream slices itself.")


def _limited(batches: float) -> bool:
    """Whether a limit of Lightning leaves batches out: 1.0 means all of them, 1 means a single one."""
    return isinstance(batches, int) or batches != 1.0
