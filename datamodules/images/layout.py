"""Which folders of a user's images are for training, which for testing, and which are classes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from datamodules.images.listing import class_folders, images_beside
from gift_lightning.errors import InputError

Split = Literal["train", "test", "val"]

_SPELLINGS: dict[Split, str] = {
    "train": "train|training",
    "test": "test|testing",
    "val": "val|valid|validation|dev|eval|evaluation",
}


class Layout(NamedTuple):
    """Where the folders of classes are."""

    train: Path
    test: Path | None
    """``None`` if a part of each class in ``train`` is to be kept for testing."""
    notes: list[str]
    """What was decided that a user may not expect: sentences without their beginning and their full stop."""


def split_of(name: str) -> Split | None:
    """The split that a folder's name stands for, whatever its case; a number may follow.

    >>> split_of("Train"), split_of("test_set"), split_of("val2017"), split_of("trains")
    ('train', 'test', 'val', None)
    """
    for split, spellings in _SPELLINGS.items():
        if re.fullmatch(f"({spellings})([ _-]?(set|data|images))?([ _-]?[0-9]+)?", name, re.IGNORECASE):
            return split
    return None


def splits_in(folder: Path) -> tuple[dict[str, Split], list[str]]:
    """The split of each folder in ``folder`` that has a split's name, and those of them with images and no folders."""
    named = {name: split for name in class_folders(folder) if (split := split_of(name))}
    return named, [name for name in named if images_beside(folder / name) and not class_folders(folder / name)]


def find_layout(folder: Path) -> Layout:
    """Where training and test images lie in ``folder``.

    A folder is a split if it is called ``train``, ``test`` or ``val`` (or ``training``, ``Test``, ``valid_set``, ...)
    and holds folders of classes; one of such a name that holds images and no folders is a class, if it has other
    classes and no other split beside it. Validation images are the test set where there is no other.

    Raises:
        InputError: a split lacks, holds images without classes, is there twice, or may as well be a class.
    """
    named, flat = splits_in(folder)
    others = [name for name in class_folders(folder) if name not in named]
    if len(flat) == len(named):
        if named and not others:
            raise InputError(f"{_list(flat)} in {folder} {_holds(flat)}: give each class a folder of its own.")
        if len(set(named.values())) > 1:
            raise InputError(
                f"{_list(flat)} in {folder} {_holds(flat)}, so that the classes of these images are unknown:"
                " give each class a folder of its own, or rename what is a class and no split."
            )
        return Layout(folder, None, [f"{folder / name} is taken as a class, for it {_HOLDS_IMAGES}" for name in flat])
    splits = _splits(folder, {name: split for name, split in named.items() if name not in flat})
    test = splits.get("test") or splits.get("val")
    if "train" not in splits or test is None:
        raise InputError(_what_lacks(folder, splits, flat, others))
    notes = (
        [] if "test" in splits else [f"{folder / test} is taken as the test set, for there is no other with classes"]
    )
    unused = [*flat, *others, *([splits["val"]] if "val" in splits and "test" in splits else [])]
    if unused:
        beside = f"{_list([splits['train'], test])} in {folder}"
        notes.append(f"beside {beside}, {_list(sorted(unused))} {'is' if len(unused) == 1 else 'are'} not used")
    return Layout(folder / splits["train"], folder / test, notes)


def _splits(folder: Path, named: dict[str, Split]) -> dict[Split, str]:
    """The folder of each split."""
    folders: dict[Split, str] = {}
    for name, split in named.items():
        if split in folders:
            raise InputError(
                f"{folder} has {folders[split]} and {name}, which are the same split: merge or remove one."
            )
        folders[split] = name
    return folders


def _what_lacks(folder: Path, splits: dict[Split, str], flat: Sequence[str], others: Sequence[str]) -> str:
    """The sentence for a folder whose splits are not whole."""
    if flat:
        apart = (
            f", or name {folder / splits['train']}, of which a part is kept for testing" if "train" in splits else ""
        )
        return (
            f"{folder / flat[0]} {_HOLDS_IMAGES}, so that their classes are unknown: give each class a"
            f" folder of its own{apart}."
        )
    found = splits.get("train") or next(iter(splits.values()))
    missing = "train" if "train" not in splits else "test"
    if others:
        return (
            f"{folder / found} may be a split, which has no folder '{missing}' beside it, or a class as"
            f" {folder / others[0]}: add '{missing}', or put the images of the class directly into its folder."
        )
    alone = folder / found if missing == "test" else "a folder of classes alone"
    return (
        f"{folder / found} has no folder '{missing}' beside it: add it, or name {alone}, of which a part is kept for"
        " testing."
    )


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _holds(names: Sequence[str]) -> str:
    return _HOLDS_IMAGES if len(names) == 1 else "hold images and no folders"


_HOLDS_IMAGES = "holds images and no folders"
