"""Constants of each data set: class names, prompts, counts, licence, and addresses to download from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gift_lightning.files import read_json


@dataclass(frozen=True)
class Download:
    """A file to download.

    Attributes:
        url: its address.
        into: the folder below the root where its content goes.
        md5: its checksum, where one is published.
        inner: of an archive of archives, the one to unpack.
    """

    url: str
    into: str
    md5: str | None = None
    inner: str | None = None


@dataclass(frozen=True)
class Facts:
    """The constants of a data set, fixed before a file of it is read.

    Attributes:
        classes, train, test: numbers of classes, training images and test images.
        templates: prompts with one ``{}`` for the class name; the first trains, all test.
        class_names: in the order of the labels; ``None`` if they come with the data.
        url: of a page about the data set.
        bytes: of all files to download; ``None`` if unpublished.
        licence: ``None`` if its authors name none.
        files: to download; empty if the data set has to be fetched by hand.
        by_hand: one sentence on how to fetch it by hand.
        folders: names of the class folders in the order of the labels, if that is not the alphabetical order.
    """

    classes: int
    train: int
    test: int
    templates: tuple[str, ...]
    class_names: tuple[str, ...] | None
    url: str
    bytes: int | None
    licence: str | None
    files: tuple[Download, ...]
    by_hand: str | None = None
    folders: tuple[str, ...] | None = None


def _read(path: Path) -> dict[str, Facts]:
    facts: dict[str, Facts] = {}
    for name, values in read_json(path).items():
        files = tuple(Download(**file) for file in values.pop("files"))
        frozen: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        facts[name] = Facts(files=files, **frozen)
    return facts


FACTS = _read(Path(__file__).with_name("facts.json"))
"""The constants of each data set, by its name in the benchmark."""
