"""Images and sentences that stand for the pre-training data of CLIP."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import torch

from datamodules.base import Replay, is_template
from datamodules.images.layout import splits_in
from datamodules.images.listing import Skipped, class_folders, list_images, note_of_skipped
from datamodules.images.sets import ImageFiles
from datamodules.preprocessing import Vocabulary
from gift_lightning.errors import InputError, nearest
from gift_lightning.files import package_file, path_of, read_lines
from gift_lightning.names import fault_of
from gift_lightning.seeding import stream_seed
from gift_lightning.sources import Inspection, Source, Status

RANDOM_WORDS = 10
"""Words in a sentence of random words."""

_IMAGES, _SENTENCES = "`data.replay.images`", "`data.replay.sentences`"
_KEYWORDS = ("classes", "imagenet", "random")
_WORDNET = re.compile(r"n\d{8}")

T = TypeVar("T")


class Reference(Replay):
    """The reference images and sentences of ZSCL: pre-training data of CLIP, or data like it.

    The same set for every task, listed once. Images and sentences are no pairs: no sentence belongs
    to an image, their numbers differ, and the labels in ``pairs`` are all -1. Images are in the order of their paths
    and decoded when they are asked for; sentences are in the order of their file, each of them once.

    Reference: ZSCL, Zheng et al., ICCV 2023, arXiv 2303.06628.

    Args:
        images: a folder with a folder of images for each class, or with images alone; or a text file with the path of
            one image a line, relative to that file or absolute. Files in a folder that are no images by their name,
            and hidden ones, are passed over.
        sentences: ``classes`` for the template with the names of the folders of classes (spaces for underscores);
            ``imagenet`` for the template with the 1000 class names of ImageNet; ``random`` for ``num_sentences``
            sequences of random words; a text file with one sentence a line (``package:<module>/<file>`` for one in an
            installed package) or a ``.tsv`` with sentences in its first column, as Conceptual Captions come; or a list
            of sentences.
        num_images: so many of the images, chosen by the sequence's seed; all of them if there are fewer, or with
            ``null``. The teacher encodes each of them.
        num_sentences: so many of the sentences, likewise. Each image is compared with each of them.
        batch_size: images in one optimiser step, over all devices and accumulated batches.
        template: a prompt with one ``{}`` for a class name.

    Raises:
        InputError: a setting has an impossible value; in ``setup``, images or sentences are missing,
            or in a resumed run not those with which it began; when an image is asked for that does not decode.
    """

    name = "reference"
    paired = False

    def __init__(
        self,
        images: str,
        sentences: str | list[str] = "classes",
        num_images: int | None = 100_000,
        num_sentences: int | None = 10_000,
        batch_size: int = 64,
        template: str = "a photo of a {}.",
    ) -> None:
        super().__init__(batch_size)
        self.images, self.sentences = path_of(images), sentences
        self.num_images, self.num_sentences = num_images, num_sentences
        self.template = template
        self._skipped: list[Skipped] = []
        self._check_arguments()

    def setup(self, stage: str | None = None) -> None:
        """List images and sentences: before anything else of a run, so that it does not begin with a wrong path."""
        folder, paths = self._list_images()
        prompts = self._choose(list(dict.fromkeys(self._list_sentences(paths))), self.num_sentences, "sentences")
        chosen = self._choose(paths, self.num_images, "images")
        if folder != self.images:
            self._check_listed(folder, chosen)
        self.texts, self.pairs = prompts, ImageFiles(folder, [(path, -1) for path in chosen])
        named = "\n".join([*chosen, *prompts]).encode(errors="surrogateescape")  # names may not be UTF-8 on disk
        self.fingerprint = hashlib.sha256(named).hexdigest()[:16]

    def inspect(self) -> Inspection:
        """The state of images and sentences on this machine; random words need the CLIP, and are not looked at."""
        count, detail = 0, ""
        try:
            folder, paths = self._list_images()
            count = len(paths)
            if folder != self.images:
                self._check_listed(folder, paths)
            if self.sentences != "random":
                self._list_sentences(paths)
        except InputError as error:
            detail = str(error)
        status: Status = "present" if not detail else "incomplete" if count else "missing"
        return Inspection(self.name, status, detail, counts=(count, 0), where=self.images)

    def sources(self) -> list[Source]:
        return [self]

    def notes(self) -> list[str]:
        """The files of the folder that were skipped."""
        return note_of_skipped(self._skipped, _IMAGES.strip("`"), self.images)

    def prepare_task(self, task: int) -> None:
        """Nothing: the set is that of all tasks."""

    def state_dict(self) -> dict[str, Any]:
        return {"reference": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["reference"] != self.fingerprint:
            raise InputError(
                f"{_IMAGES}: the images in {self.images}, or the sentences, are no longer those with which the run"
                " began: restore them, or start another run."
            )

    def _list_images(self) -> tuple[Path, list[str]]:
        """Where the paths start, and all paths, sorted."""
        if self.images.is_dir():
            self._check_splits()
            (paths, self._skipped), folder = _list_by_class(self.images), self.images
        elif self.images.exists():
            lines = (line.strip() for line in read_lines(self.images, _IMAGES))
            folder, paths = self.images.parent, sorted({line for line in lines if line})
        else:
            raise InputError(
                f"{_IMAGES}: {self.images} does not exist: give a folder of images, or a text file with the path of one"
                " image a line."
            )
        if not paths:
            raise InputError(f"{_IMAGES}: there are no images in {self.images}: add some, or name another place.")
        return folder, paths

    def _check_splits(self) -> None:
        """Raise an ``InputError`` if the folder is that above a training and a test set, of which one is meant."""
        splits, flat = splits_in(self.images)
        if len(set(splits.values())) < 2 or (len(flat) == len(splits) < len(class_folders(self.images))):
            return
        first = min(splits, key=lambda name: ("train", "val", "test").index(splits[name]))
        raise InputError(
            f"{_IMAGES}: {self.images} has the folders {' and '.join(splits)}: name the one to take, e.g."
            f" {self.images / first}."
        )

    def _check_listed(self, folder: Path, paths: list[str]) -> None:
        missing = [path for path in paths if not os.path.isfile(folder / path)]
        if missing:
            word, them = ("path", "it") if len(missing) == 1 else ("paths", "them")
            raise InputError(
                f"{_IMAGES}: {self.images} lists {len(missing)} {word} at which there is no file, the first one is"
                f" {folder / missing[0]}: restore {them}, or take {them} from the list."
            )

    def _list_sentences(self, paths: list[str]) -> list[str]:
        """All sentences, before some are chosen; ``paths`` are those of all images."""
        setting = self.sentences
        if setting == "classes":
            return self._class_prompts(paths)
        if setting == "imagenet":
            from open_clip import IMAGENET_CLASSNAMES

            return [self.template.format(name) for name in IMAGENET_CLASSNAMES]
        if setting == "random":
            generator = torch.Generator().manual_seed(stream_seed(self.sequence.seed, "reference", "words"))
            model, count = self.sequence.preprocessing, self.num_sentences
            assert count is not None  # checked before
            if not isinstance(model, Vocabulary):
                raise InputError(
                    f"{_SENTENCES} is 'random', and random words need the vocabulary of a CLIP: choose other sentences,"
                    " or give a CLIP to the sequence as its `preprocessing`."
                )
            return model.random_texts(count, words=RANDOM_WORDS, generator=generator)
        if isinstance(setting, str):
            return _read_sentences(package_file(setting, _SENTENCES))
        return setting

    def _class_prompts(self, paths: list[str]) -> list[str]:
        is_folder = self.images.is_dir()
        names = list(dict.fromkeys(path.split("/", 1)[0] for path in paths if is_folder and "/" in path))
        if not names:
            raise InputError(
                f"{_SENTENCES} is 'classes', but {self.images} has no folders of classes: give each class a folder of"
                " its own, or choose other sentences."
            )
        if all(_WORDNET.fullmatch(name) for name in names):  # as ImageNet is distributed
            raise InputError(
                f"{_SENTENCES} is 'classes', but the folders in {self.images} have WordNet's numbers for names, as"
                f" {names[0]}: choose 'imagenet', or other sentences."
            )
        for name in names:
            if fault := fault_of(name.replace("_", " ")):
                raise InputError(
                    f"{_SENTENCES} is 'classes', but the name {name!r} of a folder in {self.images} {fault}: give it"
                    " another one."
                )
        return [self.template.format(name.replace("_", " ")) for name in names]

    def _choose(self, entries: list[T], count: int | None, name: str) -> list[T]:
        """``count`` of the entries, in their order."""
        if count is None or count >= len(entries):
            return entries
        rng = Random(stream_seed(self.sequence.seed, "reference", name))
        return [entries[index] for index in sorted(rng.sample(range(len(entries)), count))]

    def _check_arguments(self) -> None:
        counts = {"num_images": self.num_images, "num_sentences": self.num_sentences}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise InputError(f"`data.replay.{name}` is {count}: give at least 1.")
        if not is_template(self.template):
            raise InputError(f"`data.replay.template` is '{self.template}': give one {{}} for the class name.")
        if not self.sentences:
            raise InputError(f"{_SENTENCES} is empty: give sentences, a file, or 'imagenet'.")
        if self.sentences == "random" and self.num_sentences is None:
            raise InputError(f"{_SENTENCES} is 'random': say with `data.replay.num_sentences` how many.")
        if not isinstance(self.sentences, str) or self.sentences in _KEYWORDS:
            return
        if Path(self.sentences).suffix.lower() not in (".txt", ".tsv"):
            raise InputError(
                f"{_SENTENCES} is '{self.sentences}': give {', '.join(map(repr, _KEYWORDS))}, a .txt or .tsv file, or a"
                f" list{nearest(self.sentences, _KEYWORDS)}."
            )


def _list_by_class(folder: Path) -> tuple[list[str], list[Skipped]]:
    """Images below a folder, those of classes that are links to folders too, unless they lead back up."""
    names = [name for name in class_folders(folder) if (folder / name).is_symlink()]
    linked = [name for name in names if not folder.resolve().is_relative_to((folder / name).resolve())]
    listings = [list_images(folder), *(list_images(folder / name).below(name) for name in linked)]
    images = sorted(path for listing in listings for path in listing.images)
    return images, sorted(each for listing in listings for each in listing.skipped if each.path not in linked)


def _read_sentences(file: Path) -> list[str]:
    """Lines of a text file, or the first column of a table, without the empty ones."""
    lines: Sequence[str] = read_lines(file, _SENTENCES)
    if file.suffix.lower() == ".tsv":
        lines = [line.split("\t", 1)[0] for line in lines]
    sentences = [line.strip() for line in lines if line.strip()]
    if not sentences:
        raise InputError(f"{_SENTENCES}: {file} holds no sentences: give one a line.")
    return sentences
