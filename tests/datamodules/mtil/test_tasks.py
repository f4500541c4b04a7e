"""The data sets of MTIL, each in its official layout: counts, labels, class names, prompts, splits, fingerprints."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from torchvision import datasets

import datamodules
from datamodules.mtil.facts import FACTS
from datamodules.mtil.task import MTILTask
from gift_lightning.errors import InputError
from tests.datamodules.mtil.miniature import expect, shade

FIRST_PROMPTS = {
    "Aircraft": ["a photo of a 707-320, a type of aircraft.", "a photo of a 727-200, a type of aircraft."],
    "Caltech101": ["a photo of a off-center face.", "a photo of a centered face."],
    "CIFAR100": ["a photo of a apple.", "a photo of a aquarium fish."],
    "DTD": ["a photo of a banded texture.", "a photo of a blotchy texture."],
    "EuroSAT": ["a centered satellite photo of annual crop land.", "a centered satellite photo of forest."],
    "Flowers": ["a photo of a pink primrose, a type of flower."],
    "Food": ["a photo of a apple pie, a type of food.", "a photo of a baby back ribs, a type of food."],
    "MNIST": ['a photo of the number: "0 - zero".', 'a photo of the number: "1 - one".'],
    "OxfordPet": ["a photo of a Abyssinian, a type of pet.", "a photo of a American Bulldog, a type of pet."],
    "StanfordCars": ["a photo of a AM General Hummer SUV 2000, a type of car."],
    "SUN397": ["a photo of a abbey.", "a photo of a airplane cabin.", "a photo of a church/indoor."],
    "TinyImageNet": ["a bad photo of a Egyptian Mau.", "a bad photo of a fishing casting reel."],
}
NAMES = list(FACTS)
RANDOM_SPLITS = ["Caltech101", "EuroSAT", "SUN397"]


def ready(name: str, root: Path) -> MTILTask:
    task: MTILTask = getattr(datamodules, name)(root=str(root))
    task.setup()
    return task


def test_every_data_set_is_a_task() -> None:
    assert list(FIRST_PROMPTS) == NAMES
    assert [getattr(datamodules, name).name for name in NAMES] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_facts_agree_with_each_other(name: str) -> None:
    facts = FACTS[name]
    assert facts.class_names is None or len(set(facts.class_names)) == facts.classes
    assert facts.folders is None or len(set(facts.folders)) == facts.classes
    assert all(template.count("{}") == 1 for template in facts.templates)
    assert bool(facts.files) != bool(facts.by_hand)
    if name in RANDOM_SPLITS:
        assert facts.train == int(0.8 * (facts.train + facts.test))


def test_the_numbers_of_the_benchmark() -> None:
    counts = {name: (facts.classes, facts.train, facts.test) for name, facts in FACTS.items()}
    assert counts == {
        "Aircraft": (100, 3334, 3333),
        "Caltech101": (101, 6941, 1736),
        "CIFAR100": (100, 50000, 10000),
        "DTD": (47, 1880, 1880),
        "EuroSAT": (10, 21600, 5400),
        "Flowers": (102, 1020, 6149),
        "Food": (101, 75750, 25250),
        "MNIST": (10, 60000, 10000),
        "OxfordPet": (37, 3680, 3669),
        "StanfordCars": (196, 8144, 8041),
        "SUN397": (397, 87003, 21751),
        "TinyImageNet": (200, 100000, 10000),
    }
    assert sum(facts[0] for name, facts in counts.items() if name != "TinyImageNet") == 1201


@pytest.mark.parametrize("name", NAMES)
def test_images_labels_and_prompts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = expect(monkeypatch, name, tmp_path)
    task = ready(name, tmp_path)
    train = task.train_set
    assert (len(task.class_names), len(task.train_set), len(task.test_set)) == counts
    assert task.training_prompts()[: len(FIRST_PROMPTS[name])] == FIRST_PROMPTS[name]
    for images in (task.train_set, task.test_set):
        assert all(type(label) is int for label in images.labels) and set(images.labels) <= set(range(counts.classes))
        for index, expected in enumerate(images.labels):
            image, label = images[index]
            assert label == expected and image.mode == "RGB"
            assert abs(image.getpixel((3, 3))[0] - shade(label)) <= 2, images.samples[index]
    task.setup()
    assert task.train_set is train


TORCHVISION: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = {
    "Aircraft": (datasets.FGVCAircraft, {"split": "train"}, {"split": "test"}),
    "CIFAR100": (datasets.CIFAR100, {"train": True}, {"train": False}),
    "DTD": (datasets.DTD, {"split": "train"}, {"split": "test"}),
    "Flowers": (datasets.Flowers102, {"split": "train"}, {"split": "test"}),
    "Food": (datasets.Food101, {"split": "train"}, {"split": "test"}),
    "MNIST": (datasets.MNIST, {"train": True}, {"train": False}),
    "OxfordPet": (datasets.OxfordIIITPet, {"split": "trainval"}, {"split": "test"}),
    "StanfordCars": (datasets.StanfordCars, {"split": "train"}, {"split": "test"}),
}


@pytest.mark.parametrize("name", TORCHVISION)  # of the others torchvision has no split
def test_torchvision_has_the_same_samples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expect(monkeypatch, name, tmp_path)
    task, (source, train, test) = ready(name, tmp_path), TORCHVISION[name]
    for images, split in ((task.train_set, train), (task.test_set, test)):
        theirs = source(str(tmp_path), **split)
        assert len(theirs) == len(images)
        for index, (image, label) in enumerate(images):
            assert image.tobytes() == theirs[index][0].convert("RGB").tobytes() and label == theirs[index][1]


@pytest.mark.parametrize("name", RANDOM_SPLITS)
def test_torchvision_has_the_same_images_with_the_same_labels(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect(monkeypatch, name, tmp_path)
    task, theirs = ready(name, tmp_path), getattr(datasets, name)(str(tmp_path))
    ours = sorted(task.train_set.labels + task.test_set.labels)
    assert ours == sorted(theirs[index][1] for index in range(len(theirs)))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_a_folder_does_not_matter(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expect(monkeypatch, name, tmp_path)
    before = ready(name, tmp_path)
    scandir, listdir, rng = os.scandir, os.listdir, random.Random(1)

    class Shuffled:
        def __init__(self, *arguments: Any) -> None:
            with scandir(*arguments) as entries:
                self.entries = list(entries)
            rng.shuffle(self.entries)

        def __iter__(self) -> Any:
            return iter(self.entries)

        def __enter__(self) -> "Shuffled":
            return self

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Shuffled)
    monkeypatch.setattr(os, "listdir", lambda *path: rng.sample(listdir(*path), len(listdir(*path))))
    after = ready(name, tmp_path)
    assert after.train_set.samples == before.train_set.samples
    assert after.test_set.samples == before.test_set.samples
    assert after.fingerprint == before.fingerprint


@pytest.mark.parametrize("name", RANDOM_SPLITS)
def test_splits_are_those_of_seed_42(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    expect(monkeypatch, name, tmp_path)
    task = ready(name, tmp_path)
    everything = sorted([*task.train_set.samples, *task.test_set.samples])
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(42)).tolist()
    assert [*task.train_set.samples, *task.test_set.samples] == [everything[index] for index in order]


def test_a_renamed_file_is_another_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expect(monkeypatch, "EuroSAT", tmp_path)
    before = ready("EuroSAT", tmp_path).fingerprint
    forest = tmp_path / "eurosat" / "2750" / "Forest"
    (forest / "Forest_2.jpg").rename(forest / "Forest_2b.jpg")
    assert ready("EuroSAT", tmp_path).fingerprint != before


def test_a_broken_image_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expect(monkeypatch, "Aircraft", tmp_path)
    task = ready("Aircraft", tmp_path)
    broken = tmp_path / "fgvc-aircraft-2013b" / task.test_set.samples[4][0]
    broken.write_bytes(b"no image")
    with pytest.raises(InputError) as error:
        _ = task.test_set[4]
    assert str(error.value) == f"Task 'Aircraft', image 4: {broken} is not an image: put a whole copy in its place."


@pytest.mark.parametrize("root", ["data", "./data/", "../here/data"])
def test_the_root_may_be_relative(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    expect(monkeypatch, "Food", tmp_path / "here" / "data")
    monkeypatch.chdir(tmp_path / "here")
    task = ready("Food", Path(root))
    assert task.train_set.samples[0] == ("images/waffles/1005649.jpg", 2)
    assert task.train_set[0][1] == 2


def test_missing_data_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        ready("Aircraft", tmp_path)
    told = f"Task 'Aircraft': {tmp_path}/fgvc-aircraft-2013b does not exist"
    assert str(error.value) == f"{told}."
    tasks = [datamodules.Aircraft(str(tmp_path)), datamodules.DTD(str(tmp_path)), datamodules.Food(str(tmp_path))]
    for count, more in {1: "", 2: ", and 1 more source of images cannot be used"}.items():
        with pytest.raises(InputError) as error:
            datamodules.TaskSequence(tasks[:count]).setup("fit")
        assert str(error.value) == f"{told}{more} ('python -m gift_lightning doctor' says more)."


def test_yaml_names_a_data_set_by_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jsonargparse import ArgumentParser

    expect(monkeypatch, "DTD", tmp_path)
    parser = ArgumentParser()
    parser.add_argument("--tasks", type=list[datamodules.Task])
    given = yaml.safe_dump([{"class_path": "datamodules.DTD", "init_args": {"root": str(tmp_path)}}])
    (task,) = parser.instantiate_classes(parser.parse_args([f"--tasks={json.dumps(yaml.safe_load(given))}"])).tasks
    sequence = datamodules.TaskSequence([task])
    sequence.setup("fit")
    assert (sequence.names, sequence.num_tasks) == (["DTD"], 1)
