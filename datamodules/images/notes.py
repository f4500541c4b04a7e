"""Notes to a user on a folder of images: images in no class folder, classes without test images, copies."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.images.duplicates import equal_files
from datamodules.images.layout import Layout
from datamodules.images.listing import broken_links, images_beside
from datamodules.images.sets import Sample

COMPARED = 50_000
"""Largest number of images of a task among which copies are searched: the size of each file is read."""


def notes_of_folders(
    layout: Layout, classes: Sequence[str], train: Sequence[Sample], test: Sequence[Sample]
) -> list[str]:
    """Sentences, without their full stops, on images in no class folder and classes without test images.

    Args:
        layout: the folders of the splits.
        classes: names of the class folders, in the order of the labels.
        train: the training images.
        test: the test images.
    """
    notes = []
    beside = [layout.train] if layout.test is None else [layout.train.parent, layout.train, layout.test]
    for folder in beside:
        stray = images_beside(folder)
        if stray:
            notes.append(
                f"{_count(stray, 'image')} directly in {folder} {_are(stray)} skipped, in no class"
                f" folder; the first one is {stray[0]}"
            )
        if broken := broken_links(folder):
            leads = "leads" if len(broken) == 1 else "lead"
            notes.append(f"{_count(broken, 'link')} in {folder} {leads} to nothing, the first one is {broken[0]}")
    tested = {label for _, label in test}
    untested = [name for label, name in enumerate(classes) if label not in tested]
    if untested:
        has = "has" if len(untested) == 1 else "have"
        notes.append(f"{_count(untested, 'class', 'classes')} {has} no test images, the first one is '{untested[0]}'")
    depth = 1 if layout.test is None else 2  # of the images in <class>/ and in <split>/<class>/
    inner = [path.split("/")[depth:-1] for path, _ in [*train, *test]]
    nested = sorted({folders[0] for folders in inner if folders})
    if all(inner) and len(nested) > 1:
        advice = ", whose names are not used"
        if layout.test is None:
            advice = f": if {' and '.join(classes[:2])} are splits, call them train and test"
        notes.append(f"every class holds only folders (e.g. {Path(train[0][0]).parent}){advice}")
    return notes


def notes_of_copies(folder: Path, train: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    """Sentences, without their full stops, on copies of images: in two classes, or in the training and the test set.

    Among more than ``COMPARED`` images, copies are not searched; one sentence says so.

    Args:
        folder: the start of the paths.
        train: the training images.
        test: the test images.
    """
    samples = [*train, *test]
    if len(samples) > COMPARED:
        return [f"copies are not searched among its {len(samples)} images: {COMPARED} are the most for that"]
    groups = equal_files([folder / path for path, _ in samples])
    torn, leaked = [], []
    for group in groups:
        first = samples[group[0]]
        other = next((index for index in group if samples[index][1] != first[1]), None)
        if other is not None:
            torn.append((first, samples[other]))
        leaked += [(first, samples[index]) for index in group if group[0] < len(train) <= index != other]
    notes = []
    if torn:
        (one, _), (copy, _) = torn[0]
        notes.append(
            f"{_count(torn, 'image')} {_are(torn)} in more than one class, byte for byte; the first one is"
            f" {folder / one} and {folder / copy}"
        )
    if leaked:
        (one, _), (copy, _) = leaked[0]
        notes.append(
            f"{_count(leaked, 'test image')} {_are(leaked)} among the training images too, byte for byte, so that the"
            f" accuracy says less: the first one is {folder / copy}, as {folder / one}"
        )
    return notes


def _count(things: Sequence[object], one: str, many: str = "") -> str:
    return f"{len(things)} {one if len(things) == 1 else many or one + 's'}"


def _are(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"
