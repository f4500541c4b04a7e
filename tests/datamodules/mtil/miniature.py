"""The official layout of each data set of MTIL with a handful of images: what its archives unpack to.

``write("Aircraft", root)`` writes one; ``expect(monkeypatch, "Aircraft", root)`` writes it and has the datamodules
expect its counts and checksums in the place of the official ones.
"""

import functools
import gzip
import io
import json
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets
from torchvision.datasets.utils import calculate_md5

from datamodules.mtil.facts import FACTS


class Counts(NamedTuple):
    classes: int
    train: int
    test: int


def write(name: str, root: Path) -> Counts:
    """Write the data set ``name`` below ``root``: its numbers of classes, training and test images."""
    return _WRITERS[name](root)


def expect(monkeypatch: pytest.MonkeyPatch, name: str, root: Path) -> Counts:
    """Write the data set ``name`` below ``root`` and have its counts and checksums expected."""
    counts = write(name, root)
    monkeypatch.setitem(FACTS, name, replace(FACTS[name], **counts._asdict()))
    if name == "CIFAR100":
        md5 = {file: calculate_md5(root / "cifar-100-python" / file) for file in ("train", "test", "meta")}
        monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", md5["train"]]])
        monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", md5["test"]]])
        monkeypatch.setattr(datasets.CIFAR100, "meta", datasets.CIFAR100.meta | {"md5": md5["meta"]})
    if name == "Flowers":
        labels, sets = "imagelabels.mat", "setid.mat"
        files = {
            "label": (labels, calculate_md5(root / "flowers-102" / labels)),
            "setid": (sets, calculate_md5(root / "flowers-102" / sets)),
        }
        monkeypatch.setattr(datasets.Flowers102, "_file_dict", datasets.Flowers102._file_dict | files)
    return counts


def shade(label: int) -> int:
    """The gray of the images of a class."""
    return 5 + label


@functools.cache
def _jpeg(label: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 8), (shade(label),) * 3).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _image(path: Path, label: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_jpeg(label))


def _lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _aircraft(root: Path) -> Counts:
    data = root / "fgvc-aircraft-2013b" / "data"
    variants = ["707-320", "727-200", "A300B4"]
    _lines(data / "variants.txt", variants)
    numbers = iter(range(1000000, 1000018))
    for split in ("train", "val", "test"):
        listed = [(next(numbers), label) for label in (2, 0, 1, 0, 1, 2)]
        _lines(data / f"images_variant_{split}.txt", [f"{number} {variants[label]}" for number, label in listed])
        for number, label in listed:
            _image(data / "images" / f"{number}.jpg", label)
    return Counts(3, 6, 6)


def _caltech(root: Path) -> Counts:
    folder = root / "caltech101" / "101_ObjectCategories"
    middle = [f"class_{index:02}" for index in range(95)]
    for label, name in enumerate(["Faces", "Faces_easy", "Leopards", "Motorbikes", "accordion", *middle, "yin_yang"]):
        for number in range(1, 4 if name == "accordion" else 3):
            _image(folder / name / f"image_{number:04}.jpg", label)
    _image(folder / "BACKGROUND_Google" / "image_0001.jpg", 0)
    (folder / "BACKGROUND_Google" / "tmp").write_text("as in the archive")
    return Counts(101, 162, 41)


def _cifar(root: Path) -> Counts:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for split, labels in (("train", [2, 0, 1, 1, 0, 2]), ("test", [1, 0, 2])):
        data = np.repeat(np.array([[shade(label)] for label in labels], np.uint8), 3072, axis=1)
        (folder / split).write_bytes(pickle.dumps({"data": data, "fine_labels": labels}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple", "aquarium_fish", "baby"]}))
    return Counts(3, 6, 3)


def _dtd(root: Path) -> Counts:
    folder, classes = root / "dtd" / "dtd", ["banded", "blotchy", "zigzagged"]
    for place, split in enumerate(("train1", "val1", "test1")):
        paths = [f"{name}/{name}_{number:04}.jpg" for name in classes for number in (2 * place, 2 * place + 1)]
        _lines(folder / "labels" / f"{split}.txt", paths)
        for path in paths:
            _image(folder / "images" / path, classes.index(path.split("/")[0]))
    return Counts(3, 6, 6)


_LAND = [
    "AnnualCrop",
    "Forest",
    "HerbaceousVegetation",
    "Highway",
    "Industrial",
    "Pasture",
    "PermanentCrop",
    "Residential",
    "River",
    "SeaLake",
]


def _eurosat(root: Path) -> Counts:
    for label, name in enumerate(_LAND):
        for number in (1, 2, 3):
            _image(root / "eurosat" / "2750" / name / f"{name}_{number}.jpg", label)
    return Counts(10, 24, 6)


def _flowers(root: Path) -> Counts:
    folder = root / "flowers-102"
    labels = [*range(102), 0, 1, *reversed(range(102)), 0, 1]
    for index, label in enumerate(labels):
        _image(folder / "jpg" / f"image_{index + 1:05}.jpg", label)
    ids = np.arange(1, len(labels) + 1)
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels]) + 1})
    savemat(folder / "setid.mat", {"trnid": ids[None, :102], "valid": ids[None, 102:104], "tstid": ids[None, 104:]})
    return Counts(102, 102, 104)


def _food(root: Path) -> Counts:
    folder, classes = root / "food-101", ["apple_pie", "baby_back_ribs", "waffles"]
    _lines(folder / "meta" / "classes.txt", classes)
    for split, numbers in (("train", (1005649, 100057)), ("test", (1011328,))):
        listed = {name: [f"{name}/{number}" for number in numbers] for name in reversed(classes)}
        (folder / "meta" / f"{split}.json").write_text(json.dumps(listed))
        for label, name in enumerate(classes):
            for path in listed[name]:
                _image(folder / "images" / f"{path}.jpg", label)
    return Counts(3, 6, 3)


def _mnist(root: Path) -> Counts:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for split, labels in (("train", [*range(10), 5, 0]), ("t10k", [9, *range(10)])):
        pixels = np.repeat([[shade(label)] for label in labels], 28 * 28, axis=1).astype(np.uint8)
        _idx(folder / f"{split}-images-idx3-ubyte", (len(labels), 28, 28), pixels.tobytes())
        _idx(folder / f"{split}-labels-idx1-ubyte", (len(labels),), bytes(labels))
    return Counts(10, 12, 11)


def _idx(path: Path, sizes: Sequence[int], content: bytes) -> None:
    head = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    path.write_bytes(head + content)
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(head + content))


def _pets(root: Path) -> Counts:
    folder, breeds = root / "oxford-iiit-pet", ["Abyssinian", "american_bulldog", "yorkshire_terrier"]
    for split, numbers in (("trainval", (100, 101)), ("test", (1,))):
        listed = [(f"{breed}_{number}", label) for label, breed in enumerate(breeds) for number in numbers]
        _lines(folder / "annotations" / f"{split}.txt", [f"{image} {label + 1} 2 1" for image, label in listed])
        for image, label in listed:
            _image(folder / "images" / f"{image}.jpg", label)
    trimap = folder / "annotations" / "trimaps" / "Abyssinian_1.png"
    trimap.parent.mkdir()
    Image.new("L", (12, 8)).save(trimap)
    return Counts(3, 6, 3)


def _cars(root: Path) -> Counts:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    names = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "smart fortwo Convertible 2012"]
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([names], dtype=object)})
    _annotations(folder / "devkit" / "cars_train_annos.mat", folder / "cars_train", [2, 0, 1, 1])
    _annotations(folder / "cars_test_annos_withlabels.mat", folder / "cars_test", [0, 1, 2])
    return Counts(3, 4, 3)


def _annotations(path: Path, images: Path, labels: Sequence[int]) -> None:
    records = np.empty((1, len(labels)), dtype=[("class", object), ("fname", object)])
    for index, label in enumerate(labels):
        records[0, index] = (np.uint8(label + 1), f"{index + 1:05}.jpg")
        _image(images / f"{index + 1:05}.jpg", label)
    savemat(path, {"annotations": records})


def _sun(root: Path) -> Counts:
    folder, classes = root / "SUN397", ["a/abbey", "a/airplane_cabin", "c/church/indoor", "z/zen_garden"]
    _lines(folder / "ClassName.txt", [f"/{name}" for name in classes])
    for label, name in enumerate(classes):
        for letters in ("kbcu", "axzo", "dqlm"):
            _image(folder / name / f"sun_{letters}{chr(ord('a') + label)}.jpg", label)
    return Counts(4, 9, 3)


def _tiny(root: Path) -> Counts:
    folder, wnids = root / "tiny-imagenet-200", FACTS["TinyImageNet"].folders or ()
    _lines(folder / "wnids.txt", sorted(wnids))
    for label, wnid in enumerate(wnids):
        for number in range(3 if label == 0 else 1):
            _image(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", label)
    labels = [199, 0, 7, 7]
    rows = [f"val_{number}.JPEG\t{wnids[label]}\t0\t32\t44\t62" for number, label in enumerate(labels)]
    _lines(folder / "val" / "val_annotations.txt", rows)
    for number, label in enumerate(labels):
        _image(folder / "val" / "images" / f"val_{number}.JPEG", label)
    _image(folder / "test" / "images" / "test_0.JPEG", 0)  # whose class nobody knows
    return Counts(200, 202, 4)


_WRITERS: dict[str, Any] = {
    "Aircraft": _aircraft,
    "Caltech101": _caltech,
    "CIFAR100": _cifar,
    "DTD": _dtd,
    "EuroSAT": _eurosat,
    "Flowers": _flowers,
    "Food": _food,
    "MNIST": _mnist,
    "OxfordPet": _pets,
    "StanfordCars": _cars,
    "SUN397": _sun,
    "TinyImageNet": _tiny,
}
