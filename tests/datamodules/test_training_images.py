"""The images that a run trains on, and those that it holds out for validation."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datamodules import ClassIncremental, ImageFolderTask, Task, TaskSequence
from datamodules.images.selection import Selection
from datamodules.mini import Flags, Shapes
from datamodules.training_images import TrainingImages
from gift_lightning.errors import InputError


def images(share: float | dict[str, float], shots: int | None = None, seed: int = 0) -> TrainingImages:
    tasks: list[Task] = [Flags(90, 9), Shapes(80, 10)]
    for task in tasks:
        task.setup()
    return TrainingImages(tasks, shots, share, seed)


def numbers(samples: Any) -> list[int]:
    return samples.indices if isinstance(samples, Selection) else list(range(len(samples)))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_parts_are_all_images_and_share_none(seed: int) -> None:
    parts = images(0.2, seed=seed)
    for task, count in enumerate((90, 80)):
        train, held = numbers(parts.to_train(task)), numbers(parts.to_validate(task))
        assert sorted([*train, *held]) == list(range(count)) and len(held) == count / 5
        assert parts.to_train(task) is parts.to_train(task) and parts.to_validate(task) is parts.to_validate(task)
    again = images(0.2, seed=seed)
    assert numbers(parts.to_validate(0)) == numbers(again.to_validate(0))
    assert numbers(parts.to_validate(0)) != numbers(images(0.2, seed=2).to_validate(0))


def test_each_class_gives_its_part() -> None:
    held: Any = images(0.25).to_validate(1)
    assert {*Counter(held.labels).values()} == {1} and len(held) == 20


def test_shots_are_drawn_among_the_others() -> None:
    parts = images(0.2, shots=2)
    few: Any = parts.to_train(0)
    chosen = {few.whole.indices[index] for index in few.indices}
    assert {*Counter(few.labels).values()} == {2} and not chosen & {*numbers(parts.to_validate(0))}


def test_some_tasks_by_name() -> None:
    parts = images({"Shapes": 0.5})
    assert parts.validates and parts.to_validate(0) is None and len(parts.to_train(0)) == 90
    assert len(parts.to_train(1)) == 40 and not images(0.0).validates and not images({}).validates


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (1.0, "`data.validation_share` is 1.0: give a number from 0 to below 1."),
        (-0.1, "is -0.1: give a number"),
        ({"Shape": 0.1}, r"names 'Shape', which is no task of the sequence \(did you mean 'Shapes'\?\)"),
    ],
)
def test_impossible_shares(share: Any, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("`data.", "").replace("`", "")):
        images(share)


def test_one_image_of_each_class_is_told() -> None:
    with pytest.raises(InputError, match="Task 'Flags' has one training image of each class, and so none"):
        TaskSequence([Flags(1, 9)], validation_share=0.5).setup()


def test_the_name_of_a_data_set_that_is_cut_stands_for_its_parts() -> None:
    sequence = TaskSequence([ClassIncremental(Flags(90, 40), 10, 10)], validation_share={"Flags": 0.25})
    sequence.setup()
    assert sequence.num_tasks > 1 and all(sequence.training_images.to_validate(n) for n in range(sequence.num_tasks))


def write(folder: Path, *paths: str) -> None:
    for number, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / path)


def test_a_folder_for_validation_is_used_in_the_place_of_a_share(tmp_path: Path) -> None:
    write(
        tmp_path, *(f"{split}/{name}/{n}.png" for split in ("train", "test") for name in ("a", "b") for n in range(3))
    )
    write(tmp_path, "val/b/7.png", "val/a/9.png", "val/b/8.png")
    task = ImageFolderTask(str(tmp_path), "own")
    sequence = TaskSequence([task, Shapes(80, 10)], validation_share=0.25)
    sequence.setup()
    held: Any = sequence.training_images.to_validate(0)
    assert held.samples == [("val/a/9.png", 0), ("val/b/7.png", 1), ("val/b/8.png", 1)]
    assert sequence.training_images.to_train(0) is task.train_set and len(task.train_set) == 6
    assert sequence.training_images.words_of(task).startswith("own validation images ")
    assert [len(part) for part in task._held_out()] == [6, 3]
    write(tmp_path, "val/c/1.png")
    sequence.setup()
    cut = TaskSequence([ClassIncremental(ImageFolderTask(str(tmp_path), "own"), 2, 2)])
    cut.setup()  # without validation, the folder is not read
    other = TaskSequence([ImageFolderTask(str(tmp_path), "own")], validation_share=0.25)
    with pytest.raises(InputError, match=r"val has a class 'c' that .*train does not have"):
        other.setup()
    TaskSequence([ImageFolderTask(str(tmp_path), "own")]).setup()


def test_labels_of_validation_images_are_checked() -> None:
    class Own(Flags):
        """Flags with validation images of its own."""

        def setup(self, stage: str | None = None) -> None:
            super().setup(stage)
            self.validation_set = Selection(self.train_set, [0, 1], [0, 99])

    with pytest.raises(InputError, match="Task 'Flags' has a validation image with the label 99, and 28 class"):
        TaskSequence([Own(60, 9)], validation_share=0.1).setup()
    TaskSequence([Own(60, 9)]).setup()
