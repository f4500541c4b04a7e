"""The one exception that a user is meant to read."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Bad input, told in one sentence: what is wrong, where, and what to do.

    The command line prints the sentence and exits with status 2; every other exception keeps its traceback, because it
    is a defect of the program and not of what the user gave it.
    """


class ImageInputError(InputError):
    """An image that does not decode, now or ever."""

    # what a worker process raises arrives as text, in which its sentence is found by "InputError: "


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint `` (did you mean 'x'?)`` for a misspelt ``name``, or an empty string.

    >>> nearest("Digit", ["Digits", "Flags"])
    " (did you mean 'Digits'?)"
    >>> nearest("zzz", ["Digits"])
    ''
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def first_line(error: BaseException) -> str:
    """What an exception of a library says, cut to one sentence.

    >>> first_line(ValueError("no such model\\n  (see the docs)"))
    'no such model.'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".") + "."
