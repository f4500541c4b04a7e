"""Data sets with label files: for each split a list of image names and labels."""

import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from torchvision import datasets

from datamodules.images.sets import Sample
from datamodules.mtil.checks import DataError, check_image_folders, check_label_file, check_listed
from datamodules.mtil.task import Contents, MTILTask

Lists = Literal["classes", "train", "test", "labels"]
"""The content of a label file."""


class LabelFileTask(MTILTask):
    """A data set whose label files torchvision reads.

    Attributes:
        label_files: its label files and their content, those of training images before those of test images.
        image_folders: the folders of the listed images.
    """

    label_files: dict[str, Lists]
    image_folders: tuple[str, ...]

    def _contents(self) -> Contents:
        for file, lists in self.label_files.items():
            noun = {"classes": "classes", "train": "training images", "test": "test images", "labels": "labels"}[lists]
            check_label_file(self.where / file, noun, None if lists == "labels" else getattr(self.facts, lists))
        check_image_folders(self.where, self.image_folders)
        dataset, train = self._read("train")
        _, test = self._read("test")
        check_listed(self.where, train, test)
        return Contents(getattr(dataset, "classes", ()), self._files(train), self._files(test))

    def _read(self, split: Literal["train", "test"]) -> tuple[Any, list[Sample]]:
        try:
            dataset = self._dataset(os.fspath(self._root.absolute()), split)
        except Exception as error:  # torchvision trusts these files: a damaged one raises any exception
            files = [file for file, lists in self.label_files.items() if lists == split] or [*self.label_files]
            which = " or ".join(str(self.where / file) for file in files)
            raise DataError("incomplete", f"{which} is damaged: unpack its archive again.") from error
        start = len(os.fspath(self.where.absolute())) + 1
        return dataset, [
            (os.fspath(path)[start:].replace(os.sep, "/"), int(label)) for path, label in self._samples(dataset)
        ]

    def _samples(self, dataset: Any) -> Iterable[Sequence[Any]]:
        """Paths and labels of torchvision's data set, in its order."""
        return zip(dataset._image_files, dataset._labels, strict=True)

    @abstractmethod
    def _dataset(self, root: str, split: Literal["train", "test"]) -> Any:
        """Torchvision's data set."""


class Aircraft(LabelFileTask):
    """FGVC-Aircraft: 100 variants of aircraft."""

    name = "Aircraft"
    folder = "fgvc-aircraft-2013b"
    markers = ("data/variants.txt",)
    label_files = {
        "data/variants.txt": "classes",
        "data/images_variant_train.txt": "train",
        "data/images_variant_test.txt": "test",
    }
    image_folders = ("data/images",)

    def _dataset(self, root: str, split: Literal["train", "test"]) -> Any:
        return datasets.FGVCAircraft(root, split)


class DTD(LabelFileTask):
    """Describable Textures: 47 of them, in the first of its ten splits."""

    name = "DTD"
    folder = "dtd/dtd"
    markers = ("labels/train1.txt",)
    label_files = {"labels/train1.txt": "train", "labels/test1.txt": "test"}
    image_folders = ("images",)

    def _dataset(self, root: str, split: Literal["train", "test"]) -> Any:
        return datasets.DTD(root, split, partition=1)


class Flowers(LabelFileTask):
    """Oxford Flowers: 102 kinds, ten training images of each."""

    name = "Flowers"
    folder = "flowers-102"
    markers = ("imagelabels.mat",)
    label_files = {"imagelabels.mat": "labels", "setid.mat": "test"}  # the test images are the longest list
    image_folders = ("jpg",)

    def _dataset(self, root: str, split: Literal["train", "test"]) -> Any:
        return datasets.Flowers102(root, split)


class Food(LabelFileTask):
    """Food-101: 101 dishes."""

    name = "Food"
    folder = "food-101"
    markers = ("meta/train.json",)
    label_files = {"meta/train.json": "train", "meta/test.json": "test"}
    image_folders = ("images",)

    def _dataset(self, root: str, split: Literal["train", "test"]) -> Any:
        return datasets.Food101(root, split)


class OxfordPet(LabelFileTask):
    """Oxford-IIIT Pet: 37 breeds of cats and dogs, trained on ``trainval``."""

    name = "OxfordPet"
    folder = "oxford-iiit-pet"
    markers = ("annotations/trainval.txt",)
    label_files = {"annotations/trainval.txt": "train", "annotations/test.txt": "test"}
    image_folders = ("images",)

    def _dataset(self, root: str, split: Literal["train", "test"]) -> Any:
        return datasets.OxfordIIITPet(root, "trainval" if split == "train" else "test")

    def _samples(self, dataset: Any) -> Iterable[Sequence[Any]]:
        return zip(dataset._images, dataset._labels, strict=True)


class StanfordCars(LabelFileTask):
    """Stanford Cars: 196 models."""

    name = "StanfordCars"
    folder = "stanford_cars"
    markers = ("devkit/cars_meta.mat",)
    label_files = {
        "devkit/cars_meta.mat": "classes",
        "devkit/cars_train_annos.mat": "train",
        "cars_test_annos_withlabels.mat": "test",
    }
    image_folders = ("cars_train", "cars_test")

    def _dataset(self, root: str, split: Literal["train", "test"]) -> Any:
        return datasets.StanfordCars(root, split)

    def _samples(self, dataset: Any) -> Iterable[Sequence[Any]]:
        return dataset._samples  # type: ignore[no-any-return]
