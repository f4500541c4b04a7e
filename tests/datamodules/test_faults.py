"""What ranks know of images with faults: each its own alone, until all of them exchange it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from callbacks import TaskBoundary
from datamodules import ImageFolderTask, TaskSequence
from tests.callbacks.test_task_boundary import Stop, StoppedError, finetune, trainer_with
from tests.damaging import encoded
from tests.datamodules.test_image_folder import ready

CLASSES = ("ant", "bee")


@pytest.fixture
def task(tmp_path: Path) -> ImageFolderTask:
    """Sixteen training images, of which 3 and 12 are no images, and 1 and 5 end early; Pillow takes these."""
    for split in ("train", "test"):
        for name in CLASSES:
            for index in range(8):
                file = tmp_path / "pets" / split / name / f"{index}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(encoded("JPEG", (48, 40), seed=index))
    made = ready(tmp_path / "pets")
    for index in (3, 12):
        (tmp_path / "pets" / made.train_set.samples[index][0]).write_bytes(b"no image")
    for index in (1, 5):
        file = tmp_path / "pets" / made.train_set.samples[index][0]
        file.write_bytes(file.read_bytes()[:-30] + file.read_bytes()[-2:])
    return made


def sequence_of(task: ImageFolderTask) -> TaskSequence:
    return TaskSequence([task], batch_size=8, steps=3, on_bad_image="skip")


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("A collective call was made.")


def rank_of(broadcast: Any) -> Any:
    """The trainer of the first of two ranks."""
    return SimpleNamespace(world_size=2, global_rank=0, strategy=SimpleNamespace(broadcast=broadcast, reduce=refuse))


FOUND = {"substitutes": {0: [3]}, "damaged": {"pets": ["train/ant/1.jpg"]}}
OF_THE_OTHER = {"substitutes": {0: [12]}, "damaged": {"pets": ["train/ant/5.jpg"], "more": ["a.jpg"]}}
OF_BOTH = {"substitutes": {0: [3, 12]}, "damaged": {"pets": ["train/ant/1.jpg", "train/ant/5.jpg"], "more": ["a.jpg"]}}


def test_a_rank_tells_alone_what_it_knows(task: ImageFolderTask) -> None:
    sequence = sequence_of(task)
    sequence.trainer = rank_of(refuse)
    assert sequence.state_dict() == {"substitutes": {}}
    for index in (1, 3):
        _ = sequence.train_set(0)[index]
    assert sequence.state_dict() == FOUND and not sequence.faults.damaged  # only asked
    with pytest.raises(AssertionError, match="collective"):
        sequence.faults.collect()


def test_a_checkpoint_has_what_all_ranks_found(task: ImageFolderTask) -> None:
    sequence = sequence_of(task)
    sequence.trainer = rank_of(lambda state, src: OF_THE_OTHER if src == 1 else state)
    for index in (1, 3):
        _ = sequence.train_set(0)[index]
    checkpoint: dict[str, Any] = {"TaskSequence": sequence.state_dict()}
    trainer: Any = SimpleNamespace(datamodule=sequence)
    TaskBoundary().on_save_checkpoint(trainer, None, checkpoint)
    assert checkpoint["TaskSequence"] == OF_BOTH == sequence.state_dict()


def test_another_set_has_none_of_the_bad_images_of_the_one_before(task: ImageFolderTask) -> None:
    sequence = sequence_of(task)
    sequence.setup()
    before: Any = sequence.train_set(0)
    _ = before[3]
    sequence.setup()
    assert sequence.train_set(0) is before and before.bad_indices == [3]

    (task.folder / task.train_set.samples[3][0]).write_bytes(encoded("JPEG", (48, 40), seed=3))
    del task.train_set  # so that it lists its images anew
    sequence.setup()
    assert sequence.state_dict() == {"substitutes": {0: []}}
    after: Any = sequence.train_set(0)
    for index in range(len(after)):
        _ = after[index]
    sequence.on_task_trained(0)
    assert after is sequence.train_set(0) is not before and after.bad_indices == [12]
    assert sequence.faults.skipped["pets"]["images"] == ["train/bee/4.jpg"]


def test_nothing_stands_in_a_checkpoint_where_nothing_is_known(task: ImageFolderTask) -> None:
    checkpoint: dict[str, Any] = {}
    trainer: Any = SimpleNamespace(datamodule=TaskSequence([task], batch_size=8, steps=3))
    TaskBoundary().on_save_checkpoint(trainer, None, checkpoint)
    assert checkpoint == {}


def test_any_saver_writes_what_was_found(task: ImageFolderTask, tmp_path: Path) -> None:
    folder: Any = SimpleNamespace(last_checkpoint=tmp_path / "theirs.ckpt")
    method = finetune()
    method.lr = 1e-4
    with pytest.raises(StoppedError):
        trainer_with(Stop(2, folder), max_epochs=1).fit(method, sequence_of(task))
    state = torch.load(folder.last_checkpoint, weights_only=True)["TaskSequence"]
    assert state == {  # two steps draw each image once
        "substitutes": {0: [3, 12]},
        "damaged": {"pets": ["train/ant/1.jpg", "train/ant/5.jpg"]},
    }


def test_what_was_skipped_is_counted_on_all_ranks_alike(task: ImageFolderTask) -> None:
    """In a task of which this rank has read nothing."""
    alone, other = sequence_of(task), sequence_of(task)
    alone.faults.load_state_dict(OF_BOTH)
    alone.on_task_trained(0)
    other.trainer = rank_of(lambda state, src: OF_BOTH if src == 1 else state)
    other.on_task_trained(0)
    assert alone.faults.skipped == other.faults.skipped
    assert set(other.faults.skipped["pets"]["images"]) == {"train/ant/3.jpg", "train/bee/4.jpg"}
