"""Printing to the terminal: text is data, never markup, an emoji's code or a command to the terminal."""

import logging
import unicodedata
import warnings
from typing import Any

from rich.console import Console


def plain_console(stderr: bool = False, **options: Any) -> Console:
    """A console that prints every text verbatim, also in the cells of a table."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, **options)


def note(sentence: str) -> None:
    """Print a note on standard error: an assumption of the run, or images that it leaves out."""
    print_styled(f"note: {sentence}", "yellow")


def warn(sentence: str) -> None:
    """Print a warning on standard error: a circumstance that may make a result wrong."""
    print_styled(f"warning: {sentence}", "yellow")


def print_styled(line: str, style: str) -> None:
    """Print one line on standard error, in a style of rich, without line breaks."""
    plain_console(stderr=True, soft_wrap=True).print(visible(line), style=style)


def visible(text: str) -> str:
    r"""A text on one line, with control characters and unprintable ones as escapes.

    >>> visible("a\nb [v2]")
    'a\\nb [v2]'
    """
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)


def quiet_libraries() -> None:
    """Silence the libraries' warnings about settings that are intended here."""
    logging.raiseExceptions = False  # a log file of a library that cannot be written, as on a full disk
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # their reports, which were asked for
    for message in (
        ".*does not have many workers.*",
        ".*DataLoader will create .* worker processes.*",
        ".*treespec, LeafSpec.*",
        ".*number of training batches.*",
        ".*exists and is not empty.*",
        ".*in eval mode at the start of training.*",
        ".*this fit will run with no optimizer.*",  # of a method that takes no steps
        ".*Grad strides do not match bucket view.*",  # of 1x1 kernels, whose layout is two at once
    ):
        warnings.filterwarnings("ignore", message=message)
