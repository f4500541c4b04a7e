"""Checks of the names of tasks and classes, and keys that are equal for names that look the same."""

import re
import unicodedata
from collections.abc import Callable

LARGEST_SIZE = 200
"""Largest length of a task's name in UTF-8 bytes: file names, at most 255 bytes long, are made from it."""

_CONTROL = {"Cc", "Zl", "Zp"}  # of Unicode: control characters, and the two that end a line or a paragraph


def fault_of(name: object) -> str:
    r"""The fault of a value as the name of a class, as the end of a sentence; empty without a fault.

    >>> fault_of("birds [v2]"), fault_of("\u200b "), fault_of("a\nb"), fault_of(7)
    ('', 'is empty', 'has a line break, a tab or another control character', 'is no text')
    """
    if not isinstance(name, str):
        return "is no text"
    kinds = {unicodedata.category(character) for character in name}
    if not name.strip() or kinds <= {"Cf", "Zs"}:  # or of invisible letters
        return "is empty"
    if kinds & _CONTROL:
        return "has a line break, a tab or another control character"
    return "is not UTF-8 text" if "Cs" in kinds else ""


def fault_of_task(name: object) -> str:
    """The fault of a value as the name of a task, which is also a folder's name: ``a/b`` is valid, ``../b`` is not.

    >>> fault_of_task("Ba$$in"), fault_of_task("../x"), fault_of_task("..")
    ('', 'is a path that may lead elsewhere', 'is a path that may lead elsewhere')
    """
    fault = fault_of(name)
    if fault:
        return fault
    name = str(name)
    if not all(part.strip(". ") for part in re.split(r"[/\\]", name)):
        return "is a path that may lead elsewhere"
    return f"is longer than {LARGEST_SIZE} bytes" if len(name.encode()) > LARGEST_SIZE else ""


def alike(name: str) -> str:
    """A key that is equal for names that a CLIP reads as the same text.

    Such names differ only in case, in spaces, or in how Unicode composes their letters.

    >>> alike("Grey Cat") == alike("grey  cat "), alike("cat") == alike("cats"), alike("Strasse") == alike("Straße")
    (True, False, False)
    """
    return _key(name, str.lower)


def alike_as_files(name: str) -> str:
    """A key that is equal for names that some file systems take for the same file: ``alike`` and more.

    >>> alike_as_files("Grey Cat") == alike_as_files("grey cat"), alike_as_files("Strasse") == alike_as_files("Straße")
    (True, True)
    """
    return _key(name, str.casefold)


def _key(name: str, without_case: Callable[[str], str]) -> str:
    return " ".join(unicodedata.normalize("NFC", without_case(unicodedata.normalize("NFC", name))).split())
