"""The tables of ``doctor``: a line for each data set and for each of the other sources, and their faults."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gift_lightning.commands.doctor.estimate import common_folder
from gift_lightning.console import visible
from gift_lightning.sources import Inspection

READY = {"present": "green", "left to fit": "yellow"}
"""The states in which a run can begin, and their colours."""


def show_data(data: Sequence[Inspection], console: Console) -> None:
    """A line for each task, and a sentence for each that is not all right."""
    places = [each.where for each in data if each.where]
    above = common_folder(places) if places else None
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("data set", overflow="fold")
    table.add_column("state", no_wrap=True)
    for title in ("train", "test"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column(Text(visible(f"in {above}" if above else "in")), overflow="fold")
    table.add_column("download", justify="right")
    for each in data:
        where = str(each.where.absolute().relative_to(above)) if each.where and above else ""
        table.add_row(Text(each.name), _state(each.status), *_counts(each), Text(visible(where)), _offer(each))
    console.print(table)
    _show_sentences([(each.name, _advice(each)) for each in data if each.status != "present"], console)


def show_needed(needed: Sequence[Inspection], console: Console) -> None:
    """The same for weights and for images that are replayed."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("weights and replay" if len(needed) > 1 else "weights", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("where", overflow="fold")
    table.add_column("download", justify="right")
    for each in needed:
        place = Text(visible(str(each.where or each.url or "")))
        table.add_row(each.name, _state(each.status), place, _offer(each))
    console.print()
    console.print(table)
    _show_sentences([(each.name, _advice(each)) for each in needed if each.status != "present"], console)


def amount(count: int) -> str:
    """As ``3.2 GB``, or ``12 MB`` below one.

    >>> amount(2_753_340_328), amount(11_594_722), amount(400_000)
    ('2.8 GB', '12 MB', '1 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


def _show_sentences(rows: Sequence[tuple[str, str]], console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, sentence in rows:
        table.add_row(Text(name), Text(visible(sentence)))
    if rows:
        console.print()
        console.print(table)


def _state(word: str) -> Text:
    return Text(word, READY.get(word, "red"))


def _counts(inspection: Inspection) -> list[str]:
    """Training and test images: their numbers, and the expected ones where they differ."""
    counts, expected = inspection.counts, inspection.expected
    cells = []
    for split in (0, 1):
        count = "0" if inspection.status == "missing" else str(counts[split]) if counts else "?"
        cells.append(count if not expected or count == str(expected[split]) else f"{count} / {expected[split]}")
    return cells


def _offer(inspection: Inspection) -> str:
    if inspection.status == "present":
        return ""
    if inspection.automatic:
        return amount(inspection.bytes) if inspection.bytes else ""
    return "by hand" if inspection.by_hand else ""


def _advice(inspection: Inspection) -> str:
    """What is amiss with a data set, and what to do."""
    licence = inspection.licence or "not stated"
    if inspection.status == "missing" and inspection.automatic:
        return f"{inspection.detail} Fetch it with --download (licence: {licence}; {inspection.url})."
    if inspection.status == "missing" and inspection.by_hand:
        size = f", {amount(inspection.bytes)}" if inspection.bytes else ""
        return f"{inspection.detail} {inspection.by_hand} Licence: {licence}{size}; {inspection.url}."
    return inspection.detail
