"""A task over any folder of images, one subfolder for each class."""

from dataclasses import replace
from pathlib import Path
from random import Random

import yaml

from datamodules.base import Task
from datamodules.image_files import ImageFiles, Sample, samples_hash
from datamodules.images import class_folders, image_paths
from datamodules.inspection import Inspection
from gift_lightning.errors import InputError, first_line, nearest
from gift_lightning.files import path_of
from gift_lightning.seeding import stream_seed


class ImageFolderTask(Task):
    """Images in folders named after their classes.

    Either ``<folder>/train/<class>/...`` and ``<folder>/test/<class>/...``, or ``<folder>/<class>/...``, of which a
    part of each class is kept for testing. Files that are no images by their name, and hidden ones, are passed over.

    Args:
        folder: where the images are.
        name: what the task is called; the folder's name if not given.
        class_names: what the classes are called in prompts, by folder name, or a YAML file that says so
            (``n02099601: golden retriever``); for the others, the folder's name with spaces for underscores.
        templates: prompts with one ``{}`` for the class name. The first is the training prompt; testing averages all.
        test_share: part of each class that is kept for testing where there is no folder ``test``; at least one image.
        split_seed: of the choice; the seed of a run does not change it.
        shots: training images of each class; ``data.shots`` if not given.

    Raises:
        InputError: in ``setup``, a folder is missing or empty, or names a class that does not exist; when an image is
            asked for that does not decode.
    """

    INDIFFERENT = frozenset({"folder"})
    """See ``gift_lightning.same_run``; what is in it has a fingerprint."""

    train_set: ImageFiles
    test_set: ImageFiles

    def __init__(
        self,
        folder: str,
        name: str | None = None,
        class_names: dict[str, str] | str | None = None,
        templates: list[str] = ["a photo of a {}."],  # noqa: B006 (never changed)
        test_share: float = 0.2,
        split_seed: int = 0,
        shots: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 < test_share < 1:
            raise InputError(f"test_share is {test_share}: give a number between 0 and 1.")
        self.folder = path_of(folder)
        self.name = name or self.folder.resolve().name
        self.templates, self._given_names = list(templates), class_names
        self.test_share, self.split_seed, self.shots = test_share, split_seed, shots

    def setup(self, stage: str | None = None) -> None:
        """List the files, once."""
        if hasattr(self, "train_set"):
            return
        if not self.folder.is_dir():
            raise InputError(f"Task '{self.name}': the folder {self.folder} does not exist.")
        parts = [self.folder / "train", self.folder / "test"]
        there = [part.is_dir() for part in parts]
        if any(there) and not all(there):
            found, missing = (part.name for part in sorted(parts, key=Path.is_dir, reverse=True))
            raise InputError(
                f"Task '{self.name}': {self.folder / found} has no folder '{missing}' beside it: add it, or name a"
                " folder of classes alone, of which a part is kept for testing."
            )
        if all(there):
            classes, (train, test) = self._two_folders(*parts)
        else:
            classes, (train, test) = self._one_folder()
        self.class_names = self._class_names(classes)
        known = [ImageFiles(self.folder, samples, f"Task '{self.name}'") for samples in (train, test)]
        self.train_set, self.test_set = known
        self._fingerprint = samples_hash(*known)

    def inspect(self) -> Inspection:
        return replace(super().inspect(), where=self.folder)

    @property
    def fingerprint(self) -> str:
        """Hash of the paths and labels of both sets, in their order."""
        return self._fingerprint

    def _two_folders(self, train: Path, test: Path) -> tuple[list[str], tuple[list[Sample], list[Sample]]]:
        classes = self._classes(train)
        for name in self._classes(test):
            if name not in classes:
                raise InputError(f"Task '{self.name}': {test} has a class '{name}' that {train} does not have.")
        listed = [(self._images(train / name), self._images(test / name)) for name in classes]
        for name, (images, _) in zip(classes, listed, strict=True):
            if not images:
                raise InputError(f"Task '{self.name}': {train / name} holds no images: add some or remove it.")
        return classes, _labelled(listed)

    def _one_folder(self) -> tuple[list[str], tuple[list[Sample], list[Sample]]]:
        classes = self._classes(self.folder)
        listed = []
        for name in classes:
            images = self._images(self.folder / name)
            if len(images) < 2:
                raise InputError(
                    f"Task '{self.name}': {self.folder / name} holds {len(images)} images: give at least two, one of"
                    " them for testing."
                )
            kept = min(max(1, round(self.test_share * len(images))), len(images) - 1)
            chosen = set(Random(stream_seed(self.split_seed, "split", name)).sample(images, kept))
            listed.append(([path for path in images if path not in chosen], sorted(chosen)))
        return classes, _labelled(listed)

    def _classes(self, folder: Path) -> list[str]:
        classes = class_folders(folder)
        if not classes:
            raise InputError(f"Task '{self.name}': {folder} holds no folders: give each class a folder of its own.")
        return classes

    def _images(self, folder: Path) -> list[str]:
        """Paths below the task's folder, in an order that no file system changes."""
        if not folder.is_dir():
            return []
        above = folder.relative_to(self.folder).as_posix()
        return [f"{above}/{path}" for path in image_paths(folder)]

    def _class_names(self, classes: list[str]) -> list[str]:
        given = self._given_names or {}
        if isinstance(given, str):
            given = self._read_names(path_of(given))
        for name in given:
            if name not in classes:
                raise InputError(
                    f"Task '{self.name}': class_names has a class '{name}' without a folder{nearest(name, classes)}."
                )
        names = [given.get(name, name.replace("_", " ")) for name in classes]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"Task '{self.name}': two classes are called '{name}': give them other class_names.")
        return names

    def _read_names(self, path: Path) -> dict[str, str]:
        try:
            names = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # all text: 007 and no are names too
        except FileNotFoundError:
            raise InputError(f"Task '{self.name}': class_names is '{path}', a file that does not exist.") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"Task '{self.name}': {path} cannot be read as YAML: {first_line(error)}") from error
        if not isinstance(names, dict) or not all(isinstance(name, str) and name for name in names.values()):
            raise InputError(f"Task '{self.name}': {path} needs lines 'folder: class name', and no others.")
        return names


def _labelled(listed: list[tuple[list[str], list[str]]]) -> tuple[list[Sample], list[Sample]]:
    """Training and test paths of each class as two lists of samples."""
    train = [(path, label) for label, (paths, _) in enumerate(listed) for path in paths]
    test = [(path, label) for label, (_, paths) in enumerate(listed) for path in paths]
    return train, test
