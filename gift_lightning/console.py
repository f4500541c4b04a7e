"""What a run tells beside its results: one sentence a line, on standard error, as it is."""

from rich.console import Console


def note(sentence: str) -> None:
    """Print what a user should know of a run that goes on: an assumption, or images that are left out."""
    _print(f"note: {sentence}", "yellow")


def warn(sentence: str) -> None:
    """Print what may make a result wrong."""
    _print(f"warning: {sentence}", "yellow")


def _print(line: str, style: str) -> None:
    # names are data: no markup, and no line break of ours
    Console(stderr=True, soft_wrap=True).print(line, style=style, markup=False, highlight=False)
