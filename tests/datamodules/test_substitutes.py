"""Training images that do not decode: told, or replaced by others that do not depend on who asks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from datamodules import ImageFolderTask, TaskSequence
from datamodules.shard import ResizedImages
from datamodules.stream import SeededSamples, Split, StepBatches, StepLoader
from datamodules.substitutes import Substituted
from gift_lightning.clip.source import CLIPSource
from gift_lightning.config.sentences import find_input_error
from gift_lightning.errors import ImageInputError, InputError
from tests.datamodules.test_image_folder import ready, write

KEY = (0, "substitute", 0)


def task(folder: Path, bad: list[int], count: int = 10) -> ImageFolderTask:
    """``2 * count`` training images, of which those with the given indices are no images."""
    write(folder, [f"{split}/{name}/{i:02d}.png" for split in ("train", "test") for name in "ab" for i in range(count)])
    made = ready(folder)
    for index in bad:
        (folder / made.train_set.samples[index][0]).write_bytes(b"no image")
    return made


def indices(samples: Any, num_workers: int = 0) -> list[int]:
    """The labels of all samples, told apart by their images' names."""
    loader = DataLoader(samples, batch_size=4, num_workers=num_workers)
    return [value for batch in loader for value in batch.tolist()]


class Traced:
    """A set that gives the index it was asked for, where the image decodes."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        self.samples[index]
        return index


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_substitute_follows_from_key_and_index(num_workers: int, tmp_path: Path) -> None:
    made = Traced(task(tmp_path / "pets", bad=[3, 17]).train_set)
    samples = Substituted(made, KEY)
    drawn = indices(samples, num_workers)
    assert [index for index in range(20) if drawn[index] != index] == [3, 17]
    assert not {3, 17} & set(drawn)
    assert drawn == indices(Substituted(made, KEY)) != indices(Substituted(made, (1, "substitute", 0)))
    assert samples.bad.nonzero().flatten().tolist() == [3, 17]  # also if other processes found it


def test_a_set_of_bad_images_is_an_error_that_names_the_one_asked_for(tmp_path: Path) -> None:
    samples = Substituted(task(tmp_path / "pets", bad=list(range(20))).train_set, KEY)
    with pytest.raises(ImageInputError, match=r"Task 'pets', image 5: .* is not an image"):
        _ = samples[5]


def test_what_may_be_whole_tomorrow_is_not_skipped(tmp_path: Path) -> None:
    made = task(tmp_path / "pets", bad=[])
    path = tmp_path / "pets" / made.train_set.samples[4][0]
    path.unlink()
    samples = Substituted(made.train_set, KEY)
    with pytest.raises(InputError, match=r"Task 'pets', image 4: .* has disappeared"):
        _ = samples[4]
    path.mkdir()
    with pytest.raises(InputError, match=r"Task 'pets', image 4: .* cannot be read: .*Is a directory"):
        _ = samples[4]
    assert not samples.bad.any()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_stream_names_a_bad_image_in_one_sentence(num_workers: int, tmp_path: Path) -> None:
    made = task(tmp_path / "pets", bad=[11])
    clip = CLIPSource("package:datamodules.mini.clip").load()
    batches = StepBatches(made.train_set, 4, 5, (0, "task", 0), True, Split())
    loader = StepLoader(0, SeededSamples(made.train_set, clip.train_geometry, (0, "task", 0)), batches, num_workers)
    with pytest.raises(ImageInputError) as error:
        list(loader)
    told = str(find_input_error(error.value))
    assert told.startswith("Task 'pets', image 11: ") and "\n" not in told
    assert "train/b/01.png is not an image: replace it, or remove it before a run begins." in told


def test_draws_are_counted_as_they_are_made(tmp_path: Path) -> None:
    made = task(tmp_path / "pets", bad=[3, 17])
    sequence = TaskSequence([made], batch_size=8, steps=7, seed=5, on_bad_image="skip")
    sequence.setup("fit")
    assert sequence.train_set(0) is sequence.train_set(0)
    batches = StepBatches(made.train_set, 8, 7, (5, "task", 0), True, Split())
    drawn = [index for batch in batches for index, _ in batch]
    for index in drawn:
        _ = ResizedImages(sequence.train_set(0), torch.as_tensor).images[index]
    sequence.on_task_trained(0)
    expected = [made.train_set.samples[index][0] for index in (3, 17)]
    assert sequence.faults.skipped == {"pets": {"draws": drawn.count(3) + drawn.count(17), "images": expected}}


def test_the_state_of_a_sequence_knows_what_was_found(tmp_path: Path) -> None:
    made = task(tmp_path / "pets", bad=[3, 12])
    ours, theirs = (TaskSequence([made], batch_size=8, steps=3, on_bad_image="skip") for _ in range(2))
    assert ours.state_dict() == {"substitutes": {}}
    _ = ours.train_set(0)[3]
    assert ours.state_dict() == {"substitutes": {0: [3]}}
    theirs.load_state_dict(ours.state_dict())
    assert theirs.state_dict() == ours.state_dict()
    _ = theirs.train_set(0)[12]
    theirs.on_task_trained(0)
    strict = TaskSequence([made], batch_size=8, steps=3)
    strict.load_state_dict(theirs.state_dict())
    assert strict.faults.skipped == theirs.faults.skipped and strict.train_set(0) is made.train_set
