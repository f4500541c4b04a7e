"""The one exception that a user is meant to read; this module imports nothing heavy."""

import difflib
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path

_names_keys = ContextVar("_names_keys", default=False)


class InputError(ValueError):
    """Bad input. One sentence names the fault, its place and its remedy.

    The command line prints the sentence and exits with status 2; every other exception keeps its traceback, because it
    is a defect of the program.

    Args:
        sentence: a setting stands in it between backquotes, by its key in a config, as in "`model.l2` is -1.0: it
            cannot be negative.". Within ``naming_keys`` the user reads the key; otherwise, from Python, the argument.

    >>> print(InputError("`model.l2` is -1.0: it cannot be negative."))
    l2 is -1.0: it cannot be negative.
    """

    def __init__(self, sentence: str) -> None:
        whole = _names_keys.get()
        super().__init__(_SETTING.sub(lambda key: key[1] if whole else key[1].rpartition(".")[2], sentence))


_SETTING = re.compile(r"`((?:model|data|trainer|run)(?:\.\w+)+)`")


@contextmanager
def naming_keys() -> Iterator[None]:
    """Within it, an ``InputError`` names settings by their keys, and commands: for those who write configs.

    >>> with naming_keys():
    ...     print(InputError("`model.l2` is -1.0: it cannot be negative."))
    model.l2 is -1.0: it cannot be negative.
    """
    token = _names_keys.set(True)
    try:
        yield
    finally:
        _names_keys.reset(token)


def advice(command_line: str, python: str) -> str:
    """A part of a sentence in the words of its reader: within ``naming_keys`` the first, from Python the second.

    >>> advice("go on with --ckpt_path last", "call fit again")
    'call fit again'
    """
    return command_line if _names_keys.get() else python


class ImageInputError(InputError):
    """An image that does not decode: its file is damaged, is no image, or has an unsuitable format."""

    # its name ends in "InputError": the exception of a worker process arrives as text, searched for "InputError: "


def nearest(name: str, candidates: Iterable[str]) -> str:
    """A hint `` (did you mean 'x'?)`` for a misspelt ``name``, or an empty string.

    >>> nearest("Digit", ["Digits", "Flags"])
    " (did you mean 'Digits'?)"
    >>> nearest("zzz", ["Digits"])
    ''
    """
    close = difflib.get_close_matches(name, list(candidates), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def first_line(error: BaseException) -> str:
    """The message of an exception, cut to its first line, as a sentence; the name of its class if it has none.

    >>> first_line(ValueError("no such model\\n  (see the docs)"))
    'no such model.'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".") + "."


def install_command(error: BaseException) -> str | None:
    """The command that installs what an exception of a library asks for; ``None`` if it asks for nothing.

    >>> install_command(ImportError("Requirement 'mlflow>=1.0' not met. HINT: Try `pip install -U 'mlflow>=1.0'`"))
    "pip install 'mlflow>=1.0'"
    """
    if not isinstance(error, ImportError):
        return None
    packages = re.findall(r"pip install (?:-U )?'?([\w.\-\[\],<>=~!]+)", str(error))
    return f"pip install {shlex.quote(packages[-1])}" if packages else None  # of several, one is enough


def hidden_package() -> str | None:
    """One sentence if a folder named like one of our packages, in the current directory for instance, hides it."""
    home = Path(__file__).resolve().parent.parent
    for package in ("callbacks", "datamodules"):
        spec = find_spec(package)
        places = (spec.submodule_search_locations or [spec.origin or ""]) if spec else [""]
        place = Path(next(iter(places))).resolve()
        if place != home / package:
            return f"{place} hides the package '{package}' of gift-lightning: run from another folder."
    return None
