"""A task over any folder of images, one subfolder for each class."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from random import Random

import yaml

from datamodules.base import Task
from datamodules.images.layout import find_layout
from datamodules.images.listing import Skipped, class_folders, list_images, note_of_skipped
from datamodules.images.notes import notes_of_copies, notes_of_folders
from datamodules.images.sets import ImageFiles, Sample, samples_hash
from gift_lightning.errors import InputError, first_line, nearest
from gift_lightning.files import path_of
from gift_lightning.names import alike, fault_of
from gift_lightning.seeding import stream_seed
from gift_lightning.sources import Inspection


class ImageFolderTask(Task):
    """Images in folders named after their classes.

    Either ``<folder>/train/<class>/...`` and ``<folder>/test/<class>/...``, or ``<folder>/<class>/...`` with a random
    test set. ``Train``, ``training`` and ``train_set`` are read as ``train``, and without a ``test`` folder, ``val`` is
    the test set; a number may follow (``train2017``). Images are recognised by their suffix: the formats of the
    installed Pillow, except icons (ICO, CUR), documents (PDF, EPS), films and measurements (FITS, PFM). Other files are
    skipped and counted in ``notes``, except hidden files and those of operating systems (``@eaDir``). A ``val`` folder
    beside ``train`` and ``test`` has the images for validation, where a run asks for some.

    Args:
        folder: of the images.
        name: of the task; the folder's name if not given.
        class_names: names of the classes in prompts, by folder name, or a YAML file with them (``n02099601: golden
            retriever``). A class without an entry has the folder's name, with spaces for underscores.
        templates: prompts with one ``{}`` for the class name. The first is the training prompt; testing averages all.
        test_share: share of each class in the random test set, at least one image; without effect beside a test folder.
        split_seed: of the random test set; the seed of a run does not change it.
        shots: training images of each class; ``data.shots`` if not given.

    Raises:
        InputError: in ``setup``, a folder is missing or empty, its layout is ambiguous, a class name is invalid or that
            of two classes; at access, an image does not decode.
    """

    INDIFFERENT = frozenset({"folder"})
    """See ``gift_lightning.runs.same_run``: the fingerprint covers the images."""

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
        self.name = self.folder.resolve().name if name is None else name
        self.templates, self._given_names = list(templates), class_names
        self.test_share, self.split_seed, self.shots = test_share, split_seed, shots
        self._notes: list[str] | None = None

    def setup(self, stage: str | None = None) -> None:
        """List the files, once.

        Raises:
            InputError: see the class.
        """
        if hasattr(self, "train_set"):
            return
        if not self.folder.is_dir():
            raise InputError(f"Task '{self.name}': the folder {self.folder} does not exist.")
        try:
            self._layout = find_layout(self.folder)
        except InputError as error:
            raise InputError(f"Task '{self.name}': {error}") from None
        self._folders, self._skipped = self._classes(self._layout.train), list[Skipped]()
        listed = self._one_folder() if self._layout.test is None else self._two_folders(self._layout.test)
        self.class_names = self._class_names()
        self._samples = _labelled(listed)
        train, test = (ImageFiles(self.folder, samples, f"Task '{self.name}'") for samples in self._samples)
        self._fingerprint = samples_hash(train, test)
        self.train_set, self.test_set = train, test

    @cached_property
    def validation_set(self) -> ImageFiles | None:  # type: ignore[override]
        """The images in ``val``, listed when a run asks for them; ``None`` without that folder."""
        if (val := self._layout.val) is None:
            return None
        self._check_classes(val)
        listed = [(path, label) for label, name in enumerate(self._folders) for path in self._images(val / name)]
        return ImageFiles(self.folder, listed, f"Task '{self.name}'")

    def inspect(self) -> Inspection:
        return replace(super().inspect(), where=self.folder)

    def notes(self) -> list[str]:
        """Sentences on the layout of the folders, on skipped files, and on copies of images; after ``setup``.

        Among more than 50 000 images, copies are not searched: one sentence says so.
        """
        if not hasattr(self, "train_set"):
            return []
        if self._notes is None:  # once: it reads files
            task, (train, test) = f"Task '{self.name}'", self._samples
            layout = [*self._layout.notes, *notes_of_folders(self._layout, self._folders, train, test)]
            notes = [f"{task}: {sentence}." for sentence in [*layout, *notes_of_copies(self.folder, train, test)]]
            self._notes = notes + note_of_skipped(self._skipped, task, self.folder)
        return self._notes

    @property
    def fingerprint(self) -> str:
        """Hash of the paths and labels of both sets, in their order."""
        return self._fingerprint

    def _two_folders(self, test: Path) -> list[tuple[list[str], list[str]]]:
        train = self._layout.train
        self._check_classes(test)
        listed = [(self._images(train / name), self._images(test / name)) for name in self._folders]
        for name, (images, _) in zip(self._folders, listed, strict=True):
            if not images:
                raise InputError(f"Task '{self.name}': {train / name} holds no images: add some or remove it.")
        return listed

    def _one_folder(self) -> list[tuple[list[str], list[str]]]:
        listed = []
        for name in self._folders:
            images = self._images(self.folder / name)
            if len(images) < 2:
                raise InputError(
                    f"Task '{self.name}': {self.folder / name} holds {len(images)} images: give at least two, one of"
                    " them for testing."
                )
            count = min(max(1, round(self.test_share * len(images))), len(images) - 1)
            chosen = set(Random(stream_seed(self.split_seed, "split", name)).sample(images, count))
            listed.append(([path for path in images if path not in chosen], sorted(chosen)))
        return listed

    def _check_classes(self, split: Path) -> None:
        for name in self._classes(split):
            if name not in self._folders:
                known, hint = self._layout.train, nearest(name, self._folders)
                raise InputError(f"Task '{self.name}': {split} has a class '{name}' that {known} does not have{hint}.")

    def _classes(self, folder: Path) -> list[str]:
        classes = class_folders(folder)
        if not classes:
            raise InputError(f"Task '{self.name}': {folder} holds no folders: make one folder for each class.")
        return classes

    def _images(self, folder: Path) -> list[str]:
        """Paths below the task's folder, sorted as text."""
        if not folder.is_dir():
            return []
        listing = list_images(folder).below(folder.relative_to(self.folder).as_posix())
        self._skipped += listing.skipped
        return listing.images

    def _class_names(self) -> list[str]:
        given = self._given_names or {}
        if isinstance(given, str):
            given = self._read_names(path_of(given))
        given = {str(folder): name for folder, name in given.items()}  # a folder may be called 0
        for folder in given:
            if folder not in self._folders:
                hint = nearest(folder, self._folders)
                raise InputError(f"Task '{self.name}': class_names has a class '{folder}' without a folder{hint}.")
        names = [given.get(folder, folder.replace("_", " ")) for folder in self._folders]
        spellings: dict[str, str] = {}
        for folder, name in zip(self._folders, names, strict=True):
            if fault := fault_of(name):
                raise InputError(
                    f"Task '{self.name}': the name {name!r} of the class in folder {folder!r} {fault}: rename"
                    " the folder, or name the class in class_names."
                )
            if alike(name) in spellings:
                both = _both(spellings[alike(name)], name)
                raise InputError(f"Task '{self.name}': two classes are called {both}: give them other class_names.")
            spellings[alike(name)] = name
        return names

    def _read_names(self, path: Path) -> dict[str, str]:
        try:
            names = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # all text: 007 and no are names too
        except FileNotFoundError:
            raise InputError(f"Task '{self.name}': class_names is '{path}', a file that does not exist.") from None
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"Task '{self.name}': {path} cannot be read as YAML: {first_line(error)}") from error
        if not isinstance(names, dict) or not all(isinstance(name, str) and name for name in names.values()):
            raise InputError(f"Task '{self.name}': {path} needs lines 'folder: class name', and no others.")
        return names


def _both(one: str, other: str) -> str:
    """Two similar names and their similarity, for messages; one name if they are equal."""
    if one == other:
        return f"'{one}'"
    why = "differ only in case" if one.lower() == other.lower() else "a CLIP reads alike"
    return f"'{one}' and '{other}', which {why}"


def _labelled(listed: list[tuple[list[str], list[str]]]) -> tuple[list[Sample], list[Sample]]:
    """Training and test paths of each class as two lists of samples."""
    train = [(path, label) for label, (paths, _) in enumerate(listed) for path in paths]
    test = [(path, label) for label, (_, paths) in enumerate(listed) for path in paths]
    return train, test
