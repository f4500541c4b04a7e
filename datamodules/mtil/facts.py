"""What is known of each data set: class names, prompts, counts, and where it comes from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gift_lightning.files import read_json


@dataclass(frozen=True)
class Source:
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
    """What is known of a data set before a file of it is read.

    Attributes:
        classes, train, test: numbers of classes and images.
        templates: prompts with one ``{}`` for the class name; the first trains, all test.
        class_names: in the order of the labels; ``None`` for those that come with the data.
        source: a page about it.
        bytes: of all files to download; ``None`` where nobody says.
        licence: ``None`` where its authors name none.
        files: what to download; empty if it has to be fetched by hand.
        by_hand: what to do then.
        folders: names of the class folders in the order of the labels, where it is not that of the alphabet.
    """

    classes: int
    train: int
    test: int
    templates: tuple[str, ...]
    class_names: tuple[str, ...] | None
    source: str
    bytes: int | None
    licence: str | None
    files: tuple[Source, ...]
    by_hand: str | None = None
    folders: tuple[str, ...] | None = None


def _read(path: Path) -> dict[str, Facts]:
    facts: dict[str, Facts] = {}
    for name, values in read_json(path).items():
        files = tuple(Source(**file) for file in values.pop("files"))
        frozen: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        facts[name] = Facts(files=files, **frozen)
    return facts


FACTS = _read(Path(__file__).with_name("facts.json"))
"""By the names that the benchmark gives its data sets."""
