"""Names of tasks and classes are data: what a name may hold, and when two names are the same."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import yaml

from gift_lightning.errors import InputError, nearest

LONGEST = 200
"""Bytes of a task's name in UTF-8: with what is added to it, it is the name of a file, of at most 255."""

_CONTROL = {"Cc", "Zl", "Zp"}  # of Unicode: control characters, and the two that end a line or a paragraph

V = TypeVar("V")


def fault_of(name: object) -> str:
    r"""Why a value is no name of a class, as the end of a sentence; empty if it is one.

    >>> fault_of("birds [v2]"), fault_of(" "), fault_of("a\nb"), fault_of(7)
    ('', 'is empty', 'has a line break, a tab or another control character', 'is no text')
    """
    if not isinstance(name, str):
        return "is no text"
    kinds = {unicodedata.category(character) for character in name}
    if not name.strip():
        return "is empty"
    if kinds & _CONTROL:
        return "has a line break, a tab or another control character"
    return "is no text in UTF-8" if "Cs" in kinds else ""


def fault_of_task(name: object) -> str:
    """The same for the name of a task, by which folders below another are called too: ``a/b`` will do, ``../b`` not.

    >>> fault_of_task("Ba$$in"), fault_of_task("../x"), fault_of_task("..")
    ('', 'is a path that may lead elsewhere', 'is a path that may lead elsewhere')
    """
    fault = fault_of(name)
    if fault:
        return fault
    name = str(name)
    if not all(part.strip(". ") for part in re.split(r"[/\\]", name)):
        return "is a path that may lead elsewhere"
    return f"is longer than {LONGEST} bytes" if len(name.encode()) > LONGEST else ""


def alike(name: str) -> str:
    """A key that is the same for names that differ only in case or in how Unicode composes their letters.

    A CLIP reads such names as the same text, and some file systems take them for the same file.

    >>> alike("Grey Cat") == alike("grey cat"), alike("cat") == alike("cats")
    (True, False)
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def text_keys(given: Mapping[Any, V], known: Iterable[str], setting: str) -> dict[str, V]:
    """A mapping from a config with the text that was written in place of keys that YAML read as something else.

    YAML reads ``2024`` as a number and ``yes`` as a truth value: the key is the known name that YAML reads likewise.

    Args:
        given: what the config has.
        known: names that the keys may be.
        setting: the config key, for messages.

    Raises:
        InputError: a key is no text and no known name, or stands for several, is written like it.

    >>> text_keys({2024: 0.1, True: 0.2, "x": 0.3}, ["2024", "yes", "x"], "model.lr")
    {'2024': 0.1, 'yes': 0.2, 'x': 0.3}
    """
    written = {name: _as_yaml(name) for name in known}
    named: dict[str, V] = {}
    for key, value in given.items():
        names = [name for name, read in written.items() if type(read) is type(key) and read == key]
        if not isinstance(key, str) and len(names) != 1:
            hint = nearest(str(key), written)
            raise InputError(f"{setting} has the key {key}, which YAML reads as no text: put it in quotes{hint}.")
        named[key if isinstance(key, str) else names[0]] = value
    return named


def _as_yaml(name: str) -> object:
    """How YAML reads a name without quotes."""
    try:
        return yaml.safe_load(name)
    except (yaml.YAMLError, ValueError):  # as [v2, or 2024-13-99
        return name
