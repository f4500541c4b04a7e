"""Continual learning in one ``Trainer.fit``: Lightning's epoch t is task t, and a stopped run resumes exactly.

``python examples/plain_trainer.py [FOLDER]`` takes 15 seconds on a CPU. A run of ``gift_lightning.fit`` is this and
more: tables, logs, a config, and the check that a folder holds the same run.
"""

import sys

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import LambdaCallback

from callbacks import AccuracyMatrix, StepCheckpoint, TaskBoundary
from datamodules.mini import Flags, Shapes
from gift_lightning import CLIPSource, TaskSequence
from gift_lightning.methods import L2
from gift_lightning.records import AtomicCheckpointIO
from gift_lightning.records.run_folder import RunFolder


def train(folder: RunFolder, stop_at: int | None = None) -> L2:
    """Two tasks of 10 steps each: begun, or gone on with from the last checkpoint in the folder."""
    method = L2(clip=CLIPSource("package:datamodules.mini.clip"), lr=1e-3, warmup_steps=2)
    sequence = TaskSequence([Flags(train_size=64, test_size=32), Shapes(train_size=64, test_size=32)], 16, steps=10)
    stop = LambdaCallback(on_train_batch_end=lambda t, *_: setattr(t, "should_stop", t.global_step == stop_at))
    trainer = Trainer(
        max_epochs=sequence.num_tasks,
        callbacks=[
            TaskBoundary(folder),  # starts and ends tasks: a new optimiser and schedule, the method's hooks, last.ckpt
            matrix := AccuracyMatrix(),  # evaluates on all tasks after each
            StepCheckpoint(folder),  # last.ckpt within a task
            stop,
        ],
        plugins=AtomicCheckpointIO(),  # a checkpoint is written whole or not at all, and none is unpickled
        reload_dataloaders_every_n_epochs=1,  # each task has loaders of its own,
        use_distributed_sampler=False,  # which slice their batches for ranks themselves
        num_sanity_val_steps=0,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
    )
    is_begun = folder.last_checkpoint.exists()
    trainer.fit(method, datamodule=sequence, ckpt_path=folder.last_checkpoint if is_begun else None)
    print("accuracy after task i on task j:", matrix.rows)
    return method


def main(root: str) -> None:
    """Train to the end; train again, stop in the second task, and resume: both end with the same bits."""
    whole, stopped = (RunFolder(root, name, checkpoint_every=3) for name in ("whole", "stopped"))
    expected = train(whole).state_dict()
    train(stopped, stop_at=16)
    for name, weight in train(stopped).state_dict().items():
        assert torch.equal(weight, expected[name]), name
    print("the run that was stopped ended with the same weights")


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "runs/plain_trainer")
