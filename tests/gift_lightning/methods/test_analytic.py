"""A method that learns without steps: ridge regression on features that never change."""

from typing import Any

import pytest
import torch

from gift_lightning.errors import InputError
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.tensors import load_tensors
from tests.callbacks.test_task_boundary import MINI, rows_of, sequence_of, three_tasks, trainer_with
from tests.e2e.outside.ridge import Ridge


def test_each_task_is_learned_at_its_end_and_has_a_row_of_its_own(tmp_path: Any) -> None:
    folder = RunFolder(str(tmp_path), "ridge")
    method = Ridge(clip=MINI)
    before = [weight.clone() for weight in method.clip.parameters()]
    trainer = trainer_with(folder=folder)
    trainer.fit(method, sequence_of(three_tasks()))
    rows = rows_of(trainer)
    assert trainer.global_step == 0 and len(rows) == 3
    assert all(rows[task][task] != rows[task - 1][task] for task in (1, 2))  # from zero-shot to ridge regression
    assert all(torch.equal(a, b) for a, b in zip(before, method.clip.parameters(), strict=True))
    assert load_tensors(folder.knowledge).keys() == {"gram", "Flags", "Shapes", "Counting"}


def test_a_run_goes_on_after_the_last_task_that_was_learned(tmp_path: Any) -> None:
    whole = trainer_with()
    whole.fit(method := Ridge(clip=MINI), sequence_of(three_tasks()))

    class Stopped(Ridge):
        def on_task_end(self, task: int) -> None:
            super().on_task_end(task)
            if task == 1:
                raise KeyboardInterrupt

    folder = RunFolder(str(tmp_path), "ridge")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer_with(folder=folder).fit(Stopped(clip=MINI), sequence_of(three_tasks()))
    resumed, rest = trainer_with(folder=folder), Ridge(clip=MINI)
    with pytest.raises(InputError, match="is of a run of Stopped, and this is Ridge"):
        resumed.fit(rest, sequence_of(three_tasks()), ckpt_path=folder.last_checkpoint)
    stopped = type("Stopped", (Ridge,), {})(clip=MINI)
    resumed = trainer_with(folder=folder)
    resumed.fit(stopped, sequence_of(three_tasks()), ckpt_path=folder.last_checkpoint)
    assert rows_of(resumed) == rows_of(whole)
    assert all(torch.equal(stopped.state[name], tensor) for name, tensor in method.state.items())
