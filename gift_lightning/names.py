"""Names of tasks and classes are data: what a name may hold, and when two names are the same."""

import re
import unicodedata
from collections.abc import Callable

LONGEST = 200
"""Bytes of a task's name in UTF-8: with what is added to it, it is the name of a file, of at most 255."""

_CONTROL = {"Cc", "Zl", "Zp"}  # of Unicode: control characters, and the two that end a line or a paragraph


def fault_of(name: object) -> str:
    r"""Why a value cannot be the name of a class, as the end of a sentence; empty if it can.

    >>> fault_of("birds [v2]"), fault_of("\u200b "), fault_of("a\nb"), fault_of(7)
    ('', 'is empty', 'has a line break, a tab or another control character', 'is no text')
    """
    if not isinstance(name, str):
        return "is no text"
    kinds = {unicodedata.category(character) for character in name}
    if not name.strip() or kinds <= {"Cf", "Zs"}:  # or of letters that nobody sees
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
    """A key that is the same for names that a CLIP reads as the same text.

    They differ only in case, in spaces, or in how Unicode composes their letters.

    >>> alike("Grey Cat") == alike("grey  cat "), alike("cat") == alike("cats"), alike("Strasse") == alike("Straße")
    (True, False, False)
    """
    return _key(name, str.lower)


def alike_as_files(name: str) -> str:
    """A key that is the same for names that some file systems take for the same file: ``alike`` and more.

    >>> alike_as_files("Grey Cat") == alike_as_files("grey cat"), alike_as_files("Strasse") == alike_as_files("Straße")
    (True, True)
    """
    return _key(name, str.casefold)


def _key(name: str, without_case: Callable[[str], str]) -> str:
    return " ".join(unicodedata.normalize("NFC", without_case(unicodedata.normalize("NFC", name))).split())
