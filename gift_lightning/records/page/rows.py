"""What the tables and the scatter compare: published methods, the models before learning, measured methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gift_lightning.records.page.groups import GREY, Group, grouped, keys
from gift_lightning.records.page.section import Key, ReportedRun
from gift_lightning.records.published import Published
from gift_lightning.records.report.words import row_mean, zero_shot_transfer

METRICS = ("Transfer", "Avg", "Last")
"""Of a run, as the papers name them."""


@dataclass(frozen=True)
class Row:
    """A method; values are accuracies in percent, one for each seed, none without a number.

    Attributes:
        label: distinct among the rows.
        origin: of the numbers, in words.
        metrics: values of each of ``METRICS``.
        tasks: values of each task after the last one.
        key: its colour.
        learns: whether it is a method that learns.
        is_published: not measured.
        mark: to be shown beside the name, of numbers that do not compete for the best: how far an unfinished run is, or
            that a published number was read in no publication.
        sequence: the names of the tasks in learning order.
        start: the zero-shot accuracies of the model before learning, which tell models apart; empty if not known.
    """

    label: str
    origin: str
    metrics: Sequence[Sequence[float]]
    tasks: Mapping[str, Sequence[float]]
    key: Key
    learns: bool = True
    is_published: bool = False
    mark: str = ""
    sequence: Sequence[str] = ()
    start: Sequence[float | None] = ()

    @property
    def competes(self) -> bool:
        """Whether the row may be the best: an unfinished run has not yet forgotten what a finished one has."""
        return self.learns and not self.mark

    @property
    def marked_label(self) -> str:
        """The label, with the mark after it."""
        return f"{self.label} ({self.mark})" if self.mark else self.label


def rows(runs: Sequence[ReportedRun], theirs: Sequence[Published]) -> list[Row]:
    """Published rows, then the models before learning, then the measured methods in the order of their runs."""
    published = [_published(row, list(runs[0].results["tasks"])) for row in theirs]
    taken = {row.label for row in published}
    measured = [*_before_learning(runs), *map(_measured, grouped(runs), keys(runs))]
    return published + [replace(row, label=f"{row.label}, measured") if row.label in taken else row for row in measured]


def _published(row: Published, tasks: Sequence[str]) -> Row:
    named = {task: [cell] for task, cell in zip(tasks, row.last_row or [], strict=False) if cell is not None}
    metrics = [[row.transfer], [row.avg], [row.last]]
    key, sequence = Key(row.method, GREY), tuple(tasks)
    return Row(row.method, "published", metrics, named, key, row.learns, True, row.source, sequence=sequence)


def _measured(group: Group, key: Key) -> Row:
    results, count = group.runs[0].results, len(group.runs)
    last = [run.results["R"][-1] for run in group.runs if run.results["R"]]
    named = {
        task: [row[position] for row in last if row[position] is not None]
        for position, task in enumerate(results["tasks"])
    }
    metrics = [group.values(name.lower()) for name in METRICS]
    origin = f"{count} run{'s' * (count > 1)}"
    progress = "" if results["complete"] else f"after task {len(results['R'])} of {len(results['tasks'])}"
    learns, start = results.get("learns", True), tuple(results.get("zero_shot") or ())
    sequence = tuple(results["tasks"])
    return Row(group.label, origin, metrics, named, key, learns, mark=progress, sequence=sequence, start=start)


def _before_learning(runs: Sequence[ReportedRun]) -> list[Row]:
    """One row for each pre-trained model and sequence, unless a run that does not learn has it."""
    unchanged = [_start(run) for run in runs if not run.results.get("learns", True)]
    found: dict[tuple[tuple[str, ...], tuple[float | None, ...]], Row] = {}
    for run in runs:
        cells, start = run.results.get("zero_shot"), _start(run)
        if cells and start not in unchanged and start not in found:
            last = row_mean(run.results, cells)
            # no Avg: the mean over rows would need the zero-shot accuracy on the classes seen after each task
            avg = None if run.results["protocol"].get("label_space") == "seen" else last
            metrics = [[] if value is None else [value] for value in (zero_shot_transfer(run.results), avg, last)]
            named = {task: [cell] for task, cell in zip(run.results["tasks"], cells, strict=True) if cell is not None}
            label = f"Zero-shot ({run.label})" if found or unchanged else "Zero-shot"
            origin, key = "before learning", Key(label, GREY)
            found[start] = Row(label, origin, metrics, named, key, learns=False, sequence=start[0], start=start[1])
    return list(found.values())


def _start(run: ReportedRun) -> tuple[tuple[str, ...], tuple[float | None, ...]]:
    """What tells models before learning apart: the tasks, and the zero-shot accuracies on them."""
    return tuple(run.results["tasks"]), tuple(run.results.get("zero_shot") or ())
