"""The training stream is a function of its key: not of ranks, workers, restarts or what else was drawn."""

import multiprocessing
import pickle
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.mini import Flags
from datamodules.shard import ResizedImages
from datamodules.stream import SeededSamples, Split, StepBatches, StepLoader
from gift_lightning.clip.source import CLIPSource

SIZE, BATCH_SIZE, STEPS = 10, 16, 5
KEY = (0, "task", 1)
WHOLE = Split()


def step_batches(split: Split = WHOLE, key: tuple[int | str, ...] = KEY, shuffle: bool = True) -> StepBatches:
    return StepBatches(range(SIZE), BATCH_SIZE, STEPS, key, shuffle, split)


def indices(batches: StepBatches) -> list[int]:
    return [index for batch in batches for index, _ in batch]


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_and_micro_batches_share_the_global_batch(world_size: int, accumulate: int) -> None:
    ranks = [list(step_batches(Split(rank, world_size, accumulate))) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {STEPS * accumulate}
    assert {len(batch) for rank in ranks for batch in rank} == {BATCH_SIZE // world_size // accumulate}
    for step, expected in enumerate(step_batches()):
        micro_batches = slice(step * accumulate, (step + 1) * accumulate)
        drawn = [draw for rank in ranks for batch in rank[micro_batches] for draw in batch]
        assert sorted(drawn, key=lambda draw: draw[1]) == expected


def test_ordinals_count_the_draws_of_the_stream() -> None:
    assert [ordinal for batch in step_batches() for _, ordinal in batch] == list(range(STEPS * BATCH_SIZE))


def test_every_shuffle_has_every_sample_once_and_batches_span_shuffles() -> None:
    drawn = indices(step_batches())
    shuffles = [drawn[first : first + SIZE] for first in range(0, len(drawn), SIZE)]
    assert all(sorted(shuffle) == list(range(SIZE)) for shuffle in shuffles)
    assert len({tuple(shuffle) for shuffle in shuffles}) == len(shuffles)


def test_without_shuffle_the_stored_order_repeats() -> None:
    assert indices(step_batches(shuffle=False)) == [draw % SIZE for draw in range(STEPS * BATCH_SIZE)]


@pytest.mark.parametrize("key", [(1, "task", 1), (0, "replay", 1), (0, "task", 2)])
def test_another_key_is_another_order(key: tuple[int | str, ...]) -> None:
    assert indices(step_batches(key=key)) != indices(step_batches())
    assert indices(step_batches()) == indices(step_batches())


@pytest.mark.parametrize("start", [0, 1, 7, 9, 10])
def test_a_late_start_is_the_tail(start: int) -> None:
    batches = step_batches(Split(1, 2, 2))
    whole = list(batches)
    batches.start = start
    assert list(batches) == whole[start:]


def jitter(image: Tensor) -> Tensor:
    """Noise from each of the three generators that image transforms use."""
    return image + torch.rand(()) + float(np.random.rand()) + random.random()


def samples(key: tuple[int | str, ...] = KEY) -> SeededSamples:
    return SeededSamples([(torch.full((1,), 100.0 * index), index) for index in range(SIZE)], jitter, key)


def test_augmentation_depends_on_key_and_ordinal_alone() -> None:
    image, label = samples()[3, 17]
    assert label == 3
    drawn = samples()
    assert drawn[4, 18][0] - 400 != image - 300  # another ordinal, and a different state of all generators
    assert torch.equal(drawn[3, 17][0], image)
    assert drawn[3, 27][0] != image
    assert samples((1, "task", 1))[3, 17][0] != image
    assert drawn[0, 17][0].item() == pytest.approx(image.item() - 300, abs=1e-4)


def loader(num_workers: int = 0, task: int = 1) -> StepLoader:
    return StepLoader(task, samples(), step_batches(Split(0, 2, 2)), num_workers)


def delivered(of: StepLoader) -> list[list[float]]:
    return [[*images.flatten().tolist(), *labels.tolist()] for images, labels in of]


def test_workers_deliver_the_same_images() -> None:
    assert delivered(loader(num_workers=2)) == delivered(loader())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_restarted_loader_continues_with_the_next_batch(num_workers: int) -> None:
    first = loader(num_workers)
    stream = iter(first)
    for _ in range(3):
        next(stream)
    state = first.state_dict()
    assert state == {"task": 1, "delivered": 3}  # although workers have prefetched more
    second = loader(num_workers)
    second.load_state_dict(state)
    assert second.state_dict() == state
    assert delivered(second) == delivered(loader())[3:]
    assert second.state_dict() == {"task": 1, "delivered": len(second)}


def test_the_state_of_another_task_is_ignored() -> None:
    later = loader(task=2)
    later.load_state_dict({"task": 1, "delivered": 3})
    assert later.state_dict() == {"task": 2, "delivered": 0}
    assert delivered(later) == delivered(loader(task=2))


def test_an_iterator_that_is_not_read_changes_nothing() -> None:
    read = loader(num_workers=1)
    stream = iter(read)
    next(stream)
    children = multiprocessing.active_children()
    unread = iter(read)
    assert multiprocessing.active_children() == children
    assert read.state_dict() == {"task": 1, "delivered": 1}
    next(stream)
    assert read.state_dict() == {"task": 1, "delivered": 2}
    del unread


def test_samples_can_be_sent_to_workers_that_are_not_forked() -> None:
    clip, task = CLIPSource("package:datamodules.mini.clip").load(), Flags(4, 4)
    task.setup("fit")
    train = SeededSamples(task.train_set, clip.train_geometry, KEY)
    test = ResizedImages(task.test_set, clip.test_geometry)
    for samples, index in ((train, (2, 7)), (test, 2)):
        image, label = pickle.loads(pickle.dumps(samples))[index]
        assert torch.equal(image, samples[index][0]) and label == samples[index][1]  # type: ignore[index]
