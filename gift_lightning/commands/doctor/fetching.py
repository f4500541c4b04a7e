"""Fetching of what a run lacks."""

from collections.abc import Iterable
from functools import partial

from rich.console import Console
from rich.status import Status
from rich.text import Text

from gift_lightning.console import visible
from gift_lightning.errors import InputError
from gift_lightning.sources import Source


def download(sources: Iterable[Source], console: Console) -> None:
    """Fetch what is missing and can be fetched, one after the other; one that fails keeps no other from coming."""
    for source in sources:
        inspection = source.inspect()
        if not inspection.can_be_fetched:
            continue
        console.print(f"{source.name}: fetching ({inspection.url})", soft_wrap=True)
        line = console.status("")
        try:
            source.download(partial(_report, line, source.name))
            fault = source.inspect().detail
        except InputError as error:
            fault = str(error)
        finally:
            line.stop()
        outcome, style = (fault, "red") if fault else (f"{source.name}: fetched.", "green")
        console.print(visible(outcome), style=style, soft_wrap=True)


def _report(line: Status, name: str, text: str) -> None:
    line.update(Text(f"{name}: {text}"))
    line.start()  # not before: the hub shows its own bars
