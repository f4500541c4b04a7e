"""Images that decode although libjpeg reports damage: which ones a sequence knows of."""

from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from datamodules import ClassIncremental, ImageFolderTask, TaskSequence
from datamodules.images.damage import damaged_paths
from datamodules.images.sets import ImageSet
from tests.damaging import encoded

CLASSES = ("ant", "bee", "cat", "dog")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for name in CLASSES:
            for index in range(3):
                file = tmp_path / split / name / f"{index}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(encoded("JPEG", (48, 40), seed=index))
    return tmp_path


def tear(*files: Path) -> None:
    """Pillow takes an early end with its marker."""
    for file in files:
        data = file.read_bytes()
        file.write_bytes(data[:-30] + data[-2:])


def read(*sets: ImageSet, num_workers: int = 0) -> None:
    for samples in sets:
        for _ in DataLoader(samples, batch_size=None, num_workers=num_workers):  # type: ignore[arg-type]
            pass


def collected(sequence: TaskSequence) -> dict[str, list[str]]:
    sequence.faults.collect()
    return sequence.faults.damaged


@pytest.mark.parametrize("num_workers", [0, 1])
def test_steps_of_one_data_set_know_their_own_damaged_images(folder: Path, num_workers: int) -> None:
    tear(*(folder / path for path in ("train/bee/1.jpg", "train/cat/0.jpg", "train/dog/2.jpg", "test/cat/2.jpg")))
    sequence = TaskSequence([ClassIncremental(ImageFolderTask(str(folder), "x"), 2, 1)])
    tasks = sequence.tasks
    for task in tasks:
        task.setup()
    assert collected(sequence) == {}
    read(tasks[0].train_set, num_workers=num_workers)
    assert collected(sequence) == {"x_1": ["train/bee/1.jpg"]}
    read(tasks[1].train_set, tasks[1].test_set, tasks[0].test_set, num_workers=num_workers)
    expected = {"x_1": ["train/bee/1.jpg"], "x_2": ["test/cat/2.jpg", "train/cat/0.jpg"]}
    assert collected(sequence) == expected and collected(sequence) == expected  # the third is not read


def test_few_shots_of_a_step_know_their_damaged_images(folder: Path) -> None:
    tear(*(folder / "train").rglob("1.jpg"))
    sequence = TaskSequence([ClassIncremental(ImageFolderTask(str(folder), "x"), 2, 2)], shots=2)
    sequence.setup()
    few: Any = sequence.training_images.to_train(1)
    read(few)
    chosen = {path for path, _ in few.samples}
    torn = sorted(path for path in chosen if path.endswith("1.jpg"))
    assert len(chosen) == 4 and torn and sorted(damaged_paths(few)) == torn
    assert collected(sequence) == {"x_2": torn}
