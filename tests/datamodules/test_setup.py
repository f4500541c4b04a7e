"""``TaskSequence.setup`` called again: with the same result for the same trainer, and nothing left of another one."""

from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from open_clip.transform import PreprocessCfg, image_transform_v2

from datamodules import CurrentTask, Reference, Task, TaskSequence
from datamodules.base import Replay
from datamodules.mini import Flags, GeneralReference, Shapes
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import ZeroShot

MINI = CLIPSource("package:datamodules.mini.clip")


def two_tasks() -> list[Task]:
    return [Flags(60, 9), Shapes(50, 10)]


def set_up(sequence: TaskSequence, stage: str = "fit", darker: float = 1, **settings: Any) -> TaskSequence:
    """As a trainer sets it up, with a model that sees images so much darker."""
    module = ZeroShot(clip=MINI)
    module.clip.normalize = lambda images: images.float() / darker
    sequence.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **settings)
    sequence.trainer.strategy._lightning_module = module
    sequence.setup(stage)
    return sequence


def test_a_model_without_image_transforms_is_refused() -> None:
    sequence = TaskSequence(two_tasks())
    sequence.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    sequence.trainer.strategy._lightning_module = BoringModel()
    with pytest.raises(InputError, match="`clip`, and that of BoringModel has no train_geometry: train a ContinualC"):
        sequence.setup("fit")


def test_without_a_trainer_a_sequence_has_the_usual_transforms() -> None:
    sequence = TaskSequence(two_tasks())
    sequence.setup()
    transforms, image = sequence.preprocessing, sequence.tasks[0].test_set[0][0]
    for geometry, is_train in ((transforms.train_geometry, True), (transforms.test_geometry, False)):
        torch.manual_seed(0)
        expected = image_transform_v2(PreprocessCfg(), is_train)(image)
        torch.manual_seed(0)
        assert torch.equal(transforms.normalize(geometry(image)[None])[0], expected)
        assert expected.shape == (3, 224, 224)


@pytest.mark.parametrize("again", ["fit", "validate", "test", None])
def test_the_same_few_images_again(again: str | None) -> None:
    sequence = set_up(TaskSequence(two_tasks(), shots=2, steps="epoch", batch_size=4))
    few: list[Any] = [sequence.training_images.to_train(task) for task in range(2)]
    steps = [sequence.steps(task) for task in range(2)]
    sequence.setup(again)
    for task, before in enumerate(few):
        assert sequence.training_images.to_train(task) is sequence.train_set(task) is before
        assert before.whole is sequence.tasks[task].train_set
        assert len(before) < len(before.whole) and steps[task] == sequence.steps(task) == -(-len(before) // 4)


def test_tasks_are_those_of_several_sequences() -> None:
    tasks = two_tasks()
    few, all_of_them, one = (TaskSequence(tasks, shots=shots) for shots in (2, None, 1))
    for sequence in (few, all_of_them, one):
        sequence.setup()
    assert all_of_them.training_images.to_train(0) is tasks[0].train_set and len(tasks[0].train_set) == 60
    assert len(one.training_images.to_train(0)) == len(tasks[0].class_names) < len(few.training_images.to_train(0)) < 60


def test_few_images_of_another_set_are_chosen_anew() -> None:
    """A task may list its images in each ``setup``."""
    sequence = set_up(TaskSequence(two_tasks(), shots=2, on_bad_image="skip"))
    before: Any = sequence.training_images.to_train(0)
    substituted: Any = sequence.train_set(0)
    assert substituted is sequence.train_set(0) and substituted.original is before
    sequence.tasks[0].train_set = list(before.whole)  # type: ignore[assignment, call-overload]
    after: Any = sequence.training_images.to_train(0)
    assert after.whole is sequence.tasks[0].train_set and after.indices == before.indices
    substituted = sequence.train_set(0)
    assert substituted is sequence.train_set(0) and substituted.original is after


def test_the_same_test_images_again_and_those_of_another_model() -> None:
    sequence = set_up(TaskSequence(two_tasks()))
    first = sequence.test_shard(0)
    assert sequence.test_shard(0) is first
    sequence.setup("test")
    again = sequence.test_shard(0)
    assert torch.equal(again[:], first[:]) and torch.equal(again.labels, first.labels)
    assert torch.equal(set_up(sequence, "test", darker=2).test_shard(0)[:], first[:] / 2)
    assert len(sequence.test_shard(1, limit=3)) == 3


@pytest.mark.parametrize("replay", [GeneralReference(20), CurrentTask(), "reference"])
def test_the_same_replay_set_again_and_that_of_another_model(replay: Replay | str, tmp_path: Any) -> None:
    if isinstance(replay, str):
        pictures = GeneralReference(20)
        TaskSequence(two_tasks(), replay=pictures)
        pictures.prepare_task(0)
        for number in range(20):
            pictures.pairs[number][0].save(tmp_path / f"{number}.png")
        replay = Reference(str(tmp_path), "random", num_images=10, num_sentences=5)
    sequence = TaskSequence(two_tasks(), replay=replay)
    set_up(sequence, fast_dev_run=True).prepare_task(0)
    set_up(sequence).prepare_task(0)
    first, prompts = sequence.replay_images, replay.texts
    assert len(first) == len(replay.pairs)  # not those of one batch
    sequence.setup("fit")
    assert torch.equal(sequence.replay_images[:], first[:])
    sequence.prepare_task(0)
    assert torch.equal(sequence.replay_images[:], first[:]) and replay.texts == prompts
    set_up(sequence, darker=2).prepare_task(0)
    assert torch.equal(sequence.replay_images[:], first[:] / 2)
