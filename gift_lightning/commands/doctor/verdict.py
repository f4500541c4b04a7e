"""The end of what ``doctor`` prints: room on disks and in memory, and whether a run would begin."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gift_lightning.commands.doctor.estimate import Need, Size, machine_memory
from gift_lightning.commands.doctor.tables import READY, amount
from gift_lightning.console import note, visible
from gift_lightning.sources import Inspection


def show_estimates(
    needs: Sequence[Need], size: Size | None, activations: int | None, accelerator: str, console: Console
) -> list[str]:
    """Show the disk and memory that a run needs beside those of this machine; returns those that are too small.

    Memory is what a run would lack for sure, without activations; if it would be short of it with them, a note says so.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("disk and memory", no_wrap=True)
    table.add_column("about", justify="right", no_wrap=True)
    table.add_column("there is", justify="right", no_wrap=True)
    table.add_column("in", overflow="fold")
    for need in needs:
        table.add_row(need.what, amount(need.bytes), amount(need.free), Text(visible(str(need.folder))))
    memory = machine_memory(accelerator)
    if size is not None and memory is not None:
        what, needed = "memory: model", size.memory
        if activations is not None:
            what, needed = "memory: model and activations", size.memory + activations
        table.add_row(what, amount(needed), amount(memory[1]), memory[0])
        if size.memory <= memory[1] < needed:
            note(
                f"Weights, gradients, optimiser, copies and activations take about {amount(needed)}, and there are"
                f" {amount(memory[1])}: set `trainer.accumulate_grad_batches` to 2 or more,"
                " `model.activation_checkpointing` to true, or `trainer.precision` to bf16-mixed."
            )
    console.print()
    console.print(table)
    short = ["memory"] if size is not None and memory is not None and size.memory > memory[1] else []
    for device in dict.fromkeys(need.device for need in needs):
        together = [need for need in needs if need.device == device]
        if sum(need.bytes for need in together) > together[0].free:
            short.append(f"room on the disk of {together[0].folder}")
    return short


def show_verdict(inspections: Sequence[Inspection], short: Sequence[str], console: Console) -> int:
    """Print the last line; returns the exit status.

    Args:
        inspections: of all sources.
        short: disk or memory, if it is too small.
        console: to print on.
    """
    lacking = [each.name for each in inspections if each.status not in READY] + list(short)
    console.print()
    if not lacking:
        console.print(Text("A fit with this config can begin.", "green"))
        return 0
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    console.print(Text(f"A fit with this config would fail: it lacks {', '.join(lacking[:3])}{more}.", "red"))
    return 1
