"""A method that learns without steps: ridge regression on features that never change."""

from typing import Any, Literal

import pytest
import torch

from datamodules import TaskSequence
from datamodules.mini import Shapes
from datamodules.shard import TestShard
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


@pytest.mark.parametrize("label_space", ["seen", "all"])
def test_classes_of_several_tasks_are_refused(label_space: Literal["seen", "all"]) -> None:
    sequence = TaskSequence(three_tasks(), steps="epoch", label_space=label_space)
    with pytest.raises(InputError, match="one classifier for each task: set label_space to task"):
        trainer_with().fit(Ridge(clip=MINI), sequence)


def test_classes_without_a_training_image_have_a_column_and_features_come_in_batches() -> None:
    class FewLabels(Shapes):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.train_set = [sample for sample in map(self.train_set.__getitem__, range(33)) if sample[1] < 2]

    sizes: list[int] = []
    method = Ridge(clip=MINI, eval_batch_size=4)
    method.clip.model.visual.register_forward_hook(lambda _, images, __: sizes.append(len(images[0])))
    task, trainer = FewLabels(33, 10), trainer_with(max_epochs=1)
    trainer.fit(method, sequence_of([task]))
    assert method.state["Shapes"].shape[1] == len(task.class_names) > 2 and max(sizes) == 4
    shard = TestShard(task.test_set, method.clip.test_geometry, method.clip.normalize)
    whole = Ridge(clip=MINI)
    whole.load_knowledge(method.knowledge())
    with torch.no_grad():
        torch.testing.assert_close(whole.evaluate(task, shard), method.evaluate(task, shard))
    assert method.evaluate(task, TestShard.empty()).shape == (0, len(task.class_names))


def test_features_may_have_another_type_or_device_than_a_state_that_was_loaded() -> None:
    """In float64 here; ``.to(features)`` takes over the device as well."""
    trainer = trainer_with(max_epochs=1)
    trainer.fit(method := Ridge(clip=MINI), sequence_of([Shapes(33, 10)]))
    task = Shapes(33, 10)
    task.setup("test")
    shard = TestShard(task.test_set, method.clip.test_geometry, method.clip.normalize)
    double = Ridge(clip=MINI)
    double.load_knowledge(method.knowledge())
    with torch.no_grad():
        exact = double.double().evaluate(task, shard)
        torch.testing.assert_close(exact.float(), method.evaluate(task, shard), rtol=1e-3, atol=1e-2)
    assert exact.dtype == torch.float64


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
