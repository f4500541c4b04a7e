"""What methods see beside a task: the task itself, a memory of earlier ones, pictures of the general world."""

import pytest
import torch

from datamodules import CurrentTask, ExemplarMemory, TaskSequence
from datamodules.mini import Counting, Flags, GeneralReference, Shapes
from datamodules.shard import LazyShard, ReplayBatch, TestShard
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.numerics.herding import herding, herding_by_class


def sequence(replay, seed=0):
    tasks = [Flags(16, 9), Shapes(24, 10), Counting(8, 11)]
    for task in tasks:
        task.setup()
    return TaskSequence(tasks, batch_size=8, steps=3, seed=seed, replay=replay)


def test_the_current_task_is_a_source_of_its_own_images():
    replay = CurrentTask(batch_size=4)
    tasks = sequence(replay).tasks
    for number, task in enumerate(tasks):
        replay.prepare_task(number)
        assert replay.pairs is task.train_set and replay.texts == task.training_prompts()


def test_a_memory_has_equal_shares_and_keeps_the_best():
    memory = ExemplarMemory(size=13)
    memory.add(0, list(range(100, 113)))
    assert memory.exemplars == [list(range(100, 113))]
    memory.add(1, list(range(200, 206)))
    memory.add(2, [300, 301])
    assert memory.exemplars == [[100, 101, 102, 103], [200, 201, 202, 203], [300, 301]]
    memory.add(0, [7])  # a new run
    assert memory.exemplars == [[7]]


def test_a_memory_has_room_for_each_task():
    memory = ExemplarMemory(size=1)
    sequence(memory)
    with pytest.raises(InputError, match=r"size is 1: give at least one image for each of 2 tasks"):
        memory.setup("fit")


def test_a_memory_shows_images_of_earlier_tasks_and_the_prompts_of_this_one():
    memory = ExemplarMemory(size=4)
    tasks = sequence(memory).tasks
    memory.exemplars = [[3, 1], [5]]
    memory.prepare_task(2)
    assert len(memory.pairs) == 3 and memory.texts == tasks[2].training_prompts()
    expected = [tasks[0].train_set[3], tasks[0].train_set[1], tasks[1].train_set[5]]
    for index, (image, _) in enumerate(expected):
        ours, text = memory.pairs[index]
        assert ours.tobytes() == image.tobytes() and text == -1


def test_a_memory_is_in_the_checkpoint_of_its_sequence():
    ours, theirs = sequence(ExemplarMemory(size=4)), sequence(ExemplarMemory(size=4))
    ours.replay.add(0, [7, 2])
    theirs.load_state_dict(ours.state_dict())
    assert theirs.replay.exemplars == [[7, 2]]
    assert sequence(None).state_dict() == {}


def test_pictures_of_the_general_world_are_made_once_and_follow_the_seed():
    replay = GeneralReference(size=12)
    sequence(replay)
    replay.prepare_task(0)
    pairs = replay.pairs
    replay.prepare_task(1)
    assert replay.pairs is pairs and len(pairs) == 12
    assert sorted({text for _, text in pairs}) == list(range(len(replay.texts)))
    assert len(set(replay.texts)) == len(replay.texts)
    for seed, same in ((0, True), (1, False)):
        other = GeneralReference(size=12)
        sequence(other, seed)
        other.prepare_task(0)
        assert (other.pairs[0][0].tobytes() == pairs[0][0].tobytes()) == same


@pytest.mark.parametrize("kind", [CurrentTask, ExemplarMemory, GeneralReference])
def test_a_batch_has_at_least_one_image(kind):
    with pytest.raises(InputError, match=r"batch_size is 0: give at least 1"):
        kind(batch_size=0)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_images_that_are_not_kept_are_those_that_are(num_workers):
    task, clip = Flags(9, 9), CLIPSource("package:datamodules.mini.clip").load()
    task.setup()
    kept = TestShard(task.train_set, clip.test_geometry, clip.normalize)
    lazy = LazyShard(task.train_set, clip.test_geometry, clip.normalize, num_workers)
    assert len(lazy) == len(kept) == 9
    assert torch.equal(lazy[2:5], kept[2:5])
    index = torch.tensor([8, 0, 5, 0])
    ours, theirs = (ReplayBatch.of(images, index).received(images) for images in (lazy, kept))
    assert all(torch.equal(part, other) for part, other in zip(ours, theirs, strict=True))
    assert torch.equal(ours.images, kept[index]) and torch.equal(ours.text_index, kept.labels[index])
    assert torch.equal(ours.distinct_texts[ours.text_row], ours.text_index)
    assert len(ours.distinct_texts.unique()) == len(ours.distinct_texts)
    share = torch.tensor([1, 3, 5, 7])
    for (ours, labels), (theirs, expected) in zip(lazy.batches(share, 3), kept.batches(share, 3), strict=True):
        assert torch.equal(ours, theirs) and torch.equal(labels, expected)


def test_herding_comes_as_close_to_the_mean_as_any_next_choice_does():
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    chosen = herding(features, 7)
    assert len(set(chosen)) == 7
    for size in range(1, 8):
        earlier = chosen[: size - 1]
        distances = {
            index: (features[[*earlier, index]].mean(0) - features.mean(0)).norm().item()
            for index in set(range(20)) - set(earlier)
        }
        assert distances[chosen[size - 1]] == pytest.approx(min(distances.values()))
    assert sorted(herding(features, 50)) == list(range(20))


def test_herding_by_class_is_fair_as_long_as_there_are_images():
    labels = torch.tensor([0] * 10 + [1] * 2 + [2] * 5)
    features = torch.randn(17, 3, generator=torch.Generator().manual_seed(1))
    chosen = herding_by_class(features, labels, 9)
    assert len(set(chosen)) == 9
    assert labels[chosen[:6]].bincount().tolist() == [2, 2, 2]
    assert len(set(labels[herding_by_class(features, labels, 2)].tolist())) == 2
    assert labels[chosen].bincount().tolist() == [4, 2, 3]
    assert sorted(herding_by_class(features, labels, 100)) == list(range(17))
    members = (labels == 2).nonzero().flatten()
    of_class = [index for index in chosen if labels[index] == 2]
    assert of_class == members[herding(features[members], 3)].tolist()
