"""The command ``generate``: the replay images of a whole sequence, made before a run needs them."""

import os
from collections.abc import Callable
from contextlib import closing

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from datamodules import SyntheticReplay, TaskSequence
from datamodules.replay.drawing import Progress, follow, lines, print_line
from datamodules.stream import Split
from gift_lightning.console import plain_console, print_styled
from gift_lightning.errors import InputError


def generate(sequence: TaskSequence) -> None:
    """Make the replay images of all tasks; those on disk are checked and stay.

    Any number of processes (of torchrun, of srun, or this one alone) take a share each and do not wait for each other.

    Raises:
        InputError: the sequence has no images to make, or they cannot be made.
    """
    replay = sequence.replay
    if not isinstance(replay, SyntheticReplay) or replay.generator is None:
        raise InputError(
            "There are no images to make: data.replay must be a datamodules.SyntheticReplay with a generator, as in"
            " conf/mini/gift.yaml."
        )
    split = _share()
    console = plain_console(quiet=split.rank > 0)
    try:
        with _bars(console) as bars:
            rows = [_generate(replay, task, split, bars) for task in range(sequence.num_tasks)]
    except InputError as error:
        if split.rank > 0:  # what is wrong on the first process, or on all of them, the command line tells
            print_styled(f"error in process {split.rank}: {error}", "red")
        raise
    _summarise(replay, rows, console)


def _generate(replay: SyntheticReplay, task: int, split: Split, bars: Bars) -> Progress:
    """Make this process's share of the images of one task; returns how far all processes are then."""
    name, drawing = replay.sequence.names[task], replay.drawing(task)
    if drawing is None:  # made by others: checked and counted
        count = len(replay.folder(task).read(replay.images_per_task))
        return Progress(name, count, count, 0, 0.0)
    show = _bar(bars, name, replay.images_per_task) if bars.console.is_terminal else lines()
    with closing(drawing.make(split)) as work:  # after Ctrl-C too, what is being written is written
        progress = follow(drawing, name, work, show if split.rank == 0 else lambda progress: None)
    if progress.new and split.rank == 0 and not bars.console.is_terminal:
        print_line(progress)
    return progress


def _share() -> Split:
    """This process's part of the work, and its own GPU."""
    # not SLURM_NTASKS: that is also set in a batch script, where a command without srun is one process alone
    for rank, world, local in (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ):
        if rank in os.environ and world in os.environ:
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get(local, 0)) % torch.cuda.device_count())
            return Split(int(os.environ[rank]), int(os.environ[world]))
    return Split()


def _bars(console: Console) -> Bars:
    columns = [
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
    ]
    rate = TextColumn("{task.fields[rate]}", style="dim", markup=False)
    return Bars(*columns, TimeRemainingColumn(), rate, console=console, expand=True, disable=not console.is_terminal)


def _bar(bars: Bars, name: str, total: int) -> Callable[[Progress], None]:
    """A bar for one task, as what shows its progress."""
    bar = bars.add_task(name, total=total, rate="")
    return lambda progress: bars.update(bar, completed=progress.on_disk, rate=f"{progress.rate:.1f} images/s")


def _summarise(replay: SyntheticReplay, rows: list[Progress], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("task", overflow="fold")
    for title in ("images", "new", "images/s"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(Text(row.name), str(row.on_disk), str(row.new), f"{row.rate:.1f}" if row.new else "")
    console.print(table)
    left = sum(row.total - row.on_disk for row in rows)
    if left:
        console.print(f"{left} images are left to the other processes; the same command makes what they do not.")
    console.print(f"Images: {replay.root}", soft_wrap=True)
