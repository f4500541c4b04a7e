"""Data sets without label files: the folder of an image is its class."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import random_split

from datamodules.images.listing import class_folders, image_paths
from datamodules.images.sets import Sample
from datamodules.mtil.checks import DataError, check_label_file, check_listed, check_total
from datamodules.mtil.task import Contents, MTILTask


class ClassFolderTask(MTILTask):
    """A data set with a folder for each class and no split: a random fifth of all images is the test set.

    The draw is over the sorted paths, so that it does not depend on the file system.
    """

    def _contents(self) -> Contents:
        folders, paths = self._class_folders(), self._paths()
        size = int(0.8 * len(paths))
        counts = (size, len(paths) - size)
        self._check_folders(folders, paths, counts)
        check_total(self.where, paths, self.facts.train + self.facts.test, counts)
        labels = {folder: label for label, folder in enumerate(folders)}
        samples = [(path, labels[os.path.dirname(path)]) for path in paths]
        generator = torch.Generator().manual_seed(42)
        subsets: list[Any] = random_split(samples, counts, generator)  # type: ignore[arg-type]
        train, test = ([samples[index] for index in subset.indices] for subset in subsets)
        return Contents(self._names(folders), self._files(train), self._files(test))

    def _check_folders(self, folders: Sequence[str], paths: Sequence[str], counts: tuple[int, int]) -> None:
        number, expected, classes = len(folders), self.facts.classes, set(folders)
        if number < expected:
            sentence = f"{self.where} has folders of {number} classes, not {expected}: unpack its archive again."
            raise DataError("incomplete", sentence, counts)
        if number > expected:
            sentence = f"{self.where} has {number} folders for {expected} classes: remove those that are no class."
            raise DataError("wrong layout", sentence, counts)
        stray = next((path for path in paths if os.path.dirname(path) not in classes), None)
        if stray:
            raise DataError("wrong layout", f"{self.where / stray} is in the folder of no class: remove it.", counts)

    def _names(self, folders: Sequence[str]) -> Sequence[str]:
        return folders

    def _paths(self) -> list[str]:
        """Paths of all images, sorted."""
        return image_paths(self.where)

    @abstractmethod
    def _class_folders(self) -> list[str]:
        """The folder of each class, in the order of the labels."""


class Caltech101(ClassFolderTask):
    """Caltech 101: 101 kinds of things, without the folder of background images that comes with them."""

    name = "Caltech101"
    folder = "caltech101/101_ObjectCategories"
    markers = ("accordion/", "yin_yang/")
    _background = "BACKGROUND_Google"

    def _class_folders(self) -> list[str]:
        return [name for name in class_folders(self.where) if name != self._background]

    def _paths(self) -> list[str]:
        return [path for path in super()._paths() if not path.startswith(f"{self._background}/")]


class EuroSAT(ClassFolderTask):
    """EuroSAT: ten uses of land, seen by a satellite."""

    name = "EuroSAT"
    folder = "eurosat/2750"
    markers = ("AnnualCrop/", "SeaLake/")

    def _class_folders(self) -> list[str]:
        return class_folders(self.where)


class SUN397(ClassFolderTask):
    """SUN397: 397 kinds of places."""

    name = "SUN397"
    folder = "SUN397"
    markers = ("ClassName.txt",)

    def _class_folders(self) -> list[str]:
        file = self.where / "ClassName.txt"
        check_label_file(file, "classes", self.facts.classes)
        return [line.strip().strip("/") for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]

    def _names(self, folders: Sequence[str]) -> Sequence[str]:
        return [folder.partition("/")[2] for folder in folders]  # the first is a letter of the alphabet


class TinyImageNet(MTILTask):
    """Tiny ImageNet: 200 classes of small images, tested on its validation images."""

    name = "TinyImageNet"
    folder = "tiny-imagenet-200"
    markers = ("wnids.txt", "train/")

    def _contents(self) -> Contents:
        labels = {wnid: label for label, wnid in enumerate(self.facts.folders or ())}
        folders = {f"train/{wnid}/images": label for wnid, label in labels.items()}
        test = self._annotated(self.where / "val" / "val_annotations.txt", labels)
        paths = [path for path in image_paths(self.where) if path.startswith("train/")]
        stray = next((path for path in paths if os.path.dirname(path) not in folders), None)
        if stray:
            wanted = self.where / "train" / "<class>" / "images"
            raise DataError("wrong layout", f"{self.where / stray} has to lie in {wanted}: move such images.")
        train = [(path, folders[os.path.dirname(path)]) for path in paths]
        check_listed(self.where, train, test)
        check_total(self.where, paths, self.facts.train, (len(train), len(test)))
        return Contents((), self._files(train), self._files(test))

    def _annotated(self, file: Path, labels: dict[str, int]) -> list[Sample]:
        check_label_file(file, "test images", self.facts.test)
        samples = []
        for line in file.read_text(encoding="utf-8").splitlines():
            name, _, wnid = line.partition("\t")
            wnid = wnid.partition("\t")[0]
            if wnid not in labels:
                raise DataError("incomplete", f"{file} has a line without a class ('{line}'): unpack it again.")
            samples.append((f"val/images/{name}", labels[wnid]))
        return samples
