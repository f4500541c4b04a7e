"""The layout of a user's image folders: training split, test split, classes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from datamodules.images.listing import class_folders, images_beside
from gift_lightning.errors import InputError

Split = Literal["train", "test", "val"]
"""The splits that a folder's name may stand for."""

_SPELLINGS: dict[Split, str] = {
    "train": "train|training",
    "test": "test|testing",
    "val": "val|valid|validation|dev|eval|evaluation",
}


class Layout(NamedTuple):
    """The folders that hold the class folders of each split."""

    train: Path
    test: Path | None
    """``None`` if the test set is drawn from ``train``."""
    val: Path | None
    """Validation images beside test images; ``None`` without both."""
    notes: list[str]
    """Decisions that a user may not expect: sentences without their beginning and their full stop."""


def split_of(name: str) -> Split | None:
    """The split that a folder's name stands for, ``None`` if none; case is ignored, a number may follow.

    >>> split_of("Train"), split_of("test_set"), split_of("val2017"), split_of("trains")
    ('train', 'test', 'val', None)
    """
    for split, spellings in _SPELLINGS.items():
        if re.fullmatch(f"({spellings})([ _-]?(set|data|images))?([ _-]?[0-9]+)?", name, re.IGNORECASE):
            return split
    return None


def splits_in(folder: Path) -> tuple[dict[str, Split], list[str]]:
    """The splits among the folders in ``folder``, by folder name, and the names of those with images and no folders.

    Raises:
        InputError: ``folder`` cannot be read.
    """
    named = {name: split for name in class_folders(folder) if (split := split_of(name))}
    return named, [name for name in named if images_beside(folder / name) and not class_folders(folder / name)]


def find_layout(folder: Path) -> Layout:
    """The folders of training and test images in ``folder``.

    A folder is a split if its name is ``train``, ``test`` or ``val`` (or ``training``, ``Test``, ``valid_set``, ...)
    and it holds class folders. A folder of such a name that holds images and no folders is a class, if other classes
    and no other split lie beside it. Without a test split, the validation split is the test set.

    Raises:
        InputError: a split is missing, holds images without classes, occurs twice, or may as well be a class.
    """
    named, flat = splits_in(folder)
    others = [name for name in class_folders(folder) if name not in named]
    if len(flat) == len(named):
        if named and not others:
            raise InputError(f"{_list(flat)} in {folder} {_holds(flat)}: make one folder for each class.")
        if len(set(named.values())) > 1:
            raise InputError(
                f"{_list(flat)} in {folder} {_holds(flat)}, so that the classes of these images are unknown:"
                " make one folder for each class, or rename the folders that are classes and not splits."
            )
        return Layout(
            folder, None, None, [f"{folder / name} is taken as a class, for it {_HOLDS_IMAGES}" for name in flat]
        )
    splits = _splits(folder, {name: split for name, split in named.items() if name not in flat})
    test = splits.get("test") or splits.get("val")
    if "train" not in splits or test is None:
        raise InputError(_missing_split(folder, splits, flat, others))
    notes = [] if "test" in splits else [f"{folder / test} is taken as the test set, for no folder 'test' has classes"]
    beside = f"beside {_list([splits['train'], test])} in {folder}"
    if unused := sorted([*flat, *others]):
        notes.append(f"{beside}, {_list(unused)} {'is' if len(unused) == 1 else 'are'} not used")
    val = folder / splits["val"] if "val" in splits and "test" in splits else None
    if val is not None:
        notes.append(f"{beside}, {val.name} is used for validation alone (validation_share)")
    return Layout(folder / splits["train"], folder / test, val, notes)


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


def _missing_split(folder: Path, splits: dict[Split, str], flat: Sequence[str], others: Sequence[str]) -> str:
    """The sentence for a folder without all splits."""
    if flat:
        apart = f", or name {folder / splits['train']}, {_RANDOM_TEST_SET}" if "train" in splits else ""
        return (
            f"{folder / flat[0]} {_HOLDS_IMAGES}, so that their classes are unknown: make one folder for each"
            f" class{apart}."
        )
    split = splits.get("train") or next(iter(splits.values()))
    missing = "train" if "train" not in splits else "test"
    if others:
        return (
            f"{folder / split} may be a split, without a folder '{missing}' beside it, or a class as"
            f" {folder / others[0]}: add '{missing}', or put the images of the class directly into its folder."
        )
    alone = folder / split if missing == "test" else "a folder of classes alone"
    return f"{folder / split} has no folder '{missing}' beside it: add it, or name {alone}, {_RANDOM_TEST_SET}."


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _holds(names: Sequence[str]) -> str:
    return _HOLDS_IMAGES if len(names) == 1 else "hold images and no folders"


_HOLDS_IMAGES = "holds images and no folders"
_RANDOM_TEST_SET = "from which a random test set is drawn"
