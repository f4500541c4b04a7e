"""The sections that follow a run: accuracy after each task, the matrix, losses, cost, replayed images."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import altair

from gift_lightning.records.logged import PARTS, Logged, logged
from gift_lightning.records.page.groups import COLOURS, GREY, Group, grouped, keys, mean, title_of
from gift_lightning.records.page.looks import domain
from gift_lightning.records.page.section import (
    Cells,
    Chart,
    Grid,
    Key,
    Matrix,
    Picture,
    ReportedRun,
    Section,
    first_of,
)
from gift_lightning.records.page.shrunk import shrunk
from gift_lightning.records.page.thinned import thinned
from gift_lightning.records.report.words import NO_NUMBER
from gift_lightning.records.run_folder import RunFolder

_MOST = 40  # tasks with a curve, and with cells that hold numbers
_ACCURACIES = 25_000  # of all curves together: a page draws that many in a second
_CELLS = 12_000  # of all matrices together, of 40 bytes each
_POINTS = 60  # of a curve of a loss
_CURVES = 8  # methods whose losses are shown
_PICTURES = 450_000  # bytes of all replayed images together, and of all matrices of many tasks
_WIDEST = 1500  # pixels of a picture

PATTERNS = ((1, 0), (6, 3), (2, 2))
"""Dashes of lines, by the pattern of their ``Key``."""


def curves(runs: Sequence[ReportedRun]) -> Section:
    """Accuracy of every task against the number of learned tasks, the methods overlaid."""
    names, shown = tasks_of(runs), drawn_tasks(runs)
    charts = [Chart(curve(runs, task).properties(width="container", height=150), title=task) for task in shown]
    note = "The dotted line is the moment at which a task has just been learned. Left of it, the task is predicted"
    note += " zero-shot; a curve that falls right of it shows forgetting."
    note += " Means over seeds of `zero_shot` (0 tasks learned) and `R` in `results.json`."
    if len(shown) < len(names):
        note += f" Of {len(names)} tasks, {len(shown)} are shown; all are in `accuracy_matrix.csv`."
    return Section("Accuracy of every task along the sequence", note, [Grid(charts, keys(runs))])


def tasks_of(runs: Sequence[ReportedRun]) -> list[str]:
    """The names of the tasks of all runs."""
    return list(dict.fromkeys(task for run in runs for task in run.results["tasks"]))


def drawn_tasks(runs: Sequence[ReportedRun]) -> Sequence[str]:
    """Some of these tasks, evenly spread, as many as a page or a picture can show curves of."""
    of_a_task = sum(len(group.runs[0].results["R"]) + 1 for group in grouped(runs))
    return thinned(tasks_of(runs), max(1, min(_MOST, _ACCURACIES // of_a_task)))


def curve(runs: Sequence[ReportedRun], task: str, legend: altair.Legend | None = None) -> Any:
    """Accuracy of ``task`` against the number of learned tasks, as a chart: a line for each method."""
    lines: list[dict[str, Any]] = []
    learned: dict[int, None] = {}
    for group in grouped(runs):
        order = list(group.runs[0].results["tasks"])
        if task in order:
            learned[order.index(task) + 1] = None
            means = [mean(_cells(group, step, order.index(task))) for step in range(len(order) + 1)]
            # a missing value breaks the line
            accuracies = [None if value is None else round(value, 3) for value in means]
            lines.append({"method": group.label, "learned": [*range(len(means))], "accuracy": accuracies})
    entries = keys(runs)
    labels, colours = [key.label for key in entries], [key.colour for key in entries]
    dashes = [PATTERNS[key.pattern] for key in entries]
    values = [value for line in lines for value in line["accuracy"] if value is not None]
    y = altair.Scale(domain=domain(values), zero=False, nice=True)
    last = max((line["learned"][-1] for line in lines), default=0)
    # whole numbers, named one by one: Vega takes halves for a short sequence
    x = altair.Axis(values=[*range(0, last + 1, max(1, -(-last // 8)))], format="d", grid=False)
    drawn = (
        altair.Chart(altair.Data(values=lines))
        .transform_flatten(["learned", "accuracy"])
        .mark_line(point=altair.OverlayMarkDef(size=22), strokeWidth=2)
        .encode(
            x=altair.X("learned:Q", title="tasks learned", axis=x),
            y=altair.Y("accuracy:Q", title="accuracy (%)", scale=y, axis=altair.Axis(tickCount=5)),
            color=altair.Color("method:N", scale=altair.Scale(domain=labels, range=colours), legend=legend),
            strokeDash=altair.StrokeDash("method:N", scale=altair.Scale(domain=labels, range=dashes), legend=legend),
            tooltip=["method:N", "learned:Q", altair.Tooltip("accuracy:Q", format=".1f")],
        )
    )
    return _with_rules([*learned], drawn)


def _with_rules(places: Sequence[int], lines: Any) -> Any:
    """Lines in front of dotted vertical ones."""
    data = altair.Data(values=[{"place": place} for place in places])
    rules = altair.Chart(data).mark_rule(strokeDash=[2, 3], color=GREY).encode(x=altair.X("place:Q"))
    return altair.layer(*([rules] if places else []), lines)  # Vega warns of rules without a place


def _cells(group: Group, step: int, column: int) -> list[float]:
    """Accuracies of a task after ``step`` tasks, of each run that has one."""
    rows = [run.results["R"][step - 1 : step] if step else [run.results.get("zero_shot") or []] for run in group.runs]
    return [row[0][column] for row in rows if row and row[0] and row[0][column] is not None]


def matrices(runs: Sequence[ReportedRun]) -> Section | None:
    """The accuracy matrix of each run as a heatmap, of many tasks the run's picture; of as many runs as fit.

    ``None`` if the pictures are missing.

    Raises:
        InputError: such a picture is damaged.
    """
    parts: list[Matrix | Picture] = []
    cells = size = shown = 0
    for run in runs:
        part = _matrix(run)
        cells += len(part.heads) * len(part.rows) if isinstance(part, Matrix) else 0
        size += len(part.data) if isinstance(part, Picture) else 0
        if parts and (cells > _CELLS or size > _PICTURES):
            break
        shown += 1
        parts += [part] if part else []
    note = "Accuracy in percent after each task (rows) on each task (columns). The frame is the task that was learned"
    note += " last; left of it are the earlier tasks, right of it those to come, predicted zero-shot."
    note += " `R` and `zero_shot` in `results.json`."
    note += first_of(shown, len(runs), "runs")
    width = min(900, 80 + 44 * max(min(len(run.results["tasks"]), _MOST) for run in runs))
    return Section("Accuracy matrix of each run", note, [Grid(parts, width=width, shown=6)]) if parts else None


def _matrix(run: ReportedRun) -> Matrix | Picture | None:
    """The matrix of a run, or its picture; ``None`` if that is needed and missing."""
    order, zero_shot = list(run.results["tasks"]), run.results.get("zero_shot")
    if len(order) > _MOST:
        path = RunFolder.at(run.folder).matrix_png
        return shrunk(path, f"accuracy matrix of {title_of(run)}", title_of(run), _WIDEST)
    rows = list(zip(order, run.results["R"], strict=False))
    framed = [*[None] * bool(zero_shot), *range(len(rows))]
    return Matrix(order, [("zero-shot", zero_shot), *rows] if zero_shot else rows, title_of(run), framed)


def losses(runs: Sequence[ReportedRun]) -> Section | None:
    """The parts of the loss over steps, of the first run of each method; ``None`` where nothing is logged.

    Raises:
        InputError: a ``metrics.csv`` is damaged.
    """
    groups = grouped(runs)
    parts = []
    read_runs = [(group.runs[0], logged(group.runs[0].folder)) for group in groups[:_CURVES]]
    drawn = [(run, read, list(_points(read))) for run, read in read_runs]
    every = dict.fromkeys(point["part"] for *_, points in drawn for point in points)  # a part has one colour
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(every)}
    for run, read, points in drawn:
        if points:
            names = list(dict.fromkeys(point["part"] for point in points))
            entries = [Key(name, colours[name]) for name in names]
            scale = altair.Scale(domain=names, range=[key.colour for key in entries])
            whole = altair.Axis(grid=False, tickMinStep=1)
            lines = (
                altair.Chart(altair.Data(values=points))
                .mark_line(strokeWidth=1.5)
                .encode(
                    x=altair.X("step:Q", title="step", scale=altair.Scale(nice=False), axis=whole),
                    y=altair.Y("value:Q", title="loss", axis=altair.Axis(tickCount=5)),
                    color=altair.Color("part:N", scale=scale, legend=None),
                    tooltip=["part:N", "step:Q", altair.Tooltip("value:Q", format=".4g")],
                )
            )
            alone = Counter(point["part"] for point in points)
            if singles := [point for point in points if alone[point["part"]] == 1]:  # a line of one point is no line
                dots = altair.Chart(altair.Data(values=singles)).mark_point(filled=True, size=40, opacity=1)
                dots = dots.encode(x="step:Q", y="value:Q", color=altair.Color("part:N", scale=scale, legend=None))
                lines = altair.layer(dots, lines)
            chart = _with_rules(read.ends, lines).properties(width="container", height=200)
            parts.append(Chart(chart, title=title_of(run), legend=entries))
    note = "Of the first run of each method and setting; dotted lines are the ends of tasks. Columns"
    note += f" `loss/…` and `cl/task` of `metrics.csv`, at most {_POINTS} points of each." + first_of(
        _CURVES, len(groups), "methods"
    )
    return Section("Parts of the loss", note, [Grid(parts, width=420, shown=6)]) if parts else None


def _points(read: Logged) -> Iterator[dict[str, Any]]:
    """The points of the curves, thinned out; JSON has no infinity."""
    for column, values in read.losses.items():
        if column.startswith(PARTS):
            name = column.removeprefix(PARTS).replace("_", " ")
            for step, value in thinned(values, _POINTS):
                if value is not None:
                    yield {"part": name, "step": step, "value": float(f"{value:.5g}")}


def costs(runs: Sequence[ReportedRun]) -> Section:
    """Seconds of each phase, memory and parameters of each run."""
    phases = ("replay", "train", "evaluate", "zero_shot", "other")
    heads = ["Run", *(f"{phase.replace('_', '-')}, s" for phase in phases), "total, s", "memory, MB"]
    heads += ["trained", "frozen", "in memory", "stored"]
    rows = []
    for run in runs:
        cost = run.results.get("cost") or {}
        seconds = [_sum(cost.get(f"{phase}_seconds")) for phase in phases]
        seconds.append(_sum(seconds))
        memory = cost.get("peak_memory_bytes")
        sizes = [cost.get(f"{kind}_parameters") for kind in ("trainable", "frozen", "total", "stored")]
        numbers = [NO_NUMBER if size is None else f"{size:,}" for size in sizes]
        megabytes = NO_NUMBER if memory is None else f"{memory / 1e6:,.0f}"
        times = [NO_NUMBER if value is None else f"{value:,.1f}" for value in seconds]
        rows.append([title_of(run), *times, megabytes, *numbers])
    note = "`cost` in `results.json`. Seconds are sums over tasks, memory is the peak; both differ from run to run."
    note += " Replay is the drawing of images: those that were there already, of an earlier run, cost no time."
    note += f" {NO_NUMBER}: not measured." * any(NO_NUMBER in row for row in rows)
    caption = (
        "Numbers of parameters: trained; frozen beside the CLIP; all in memory; stored between tasks beside the CLIP."
    )
    return Section("Cost", note, [Cells(heads, rows, caption)])


def _sum(seconds: Sequence[float | None] | None) -> float | None:
    """The sum of seconds; ``None`` if they, or a part of them, are not known: an earlier version measured less."""
    known = [value for value in seconds or [] if value is not None]
    return None if seconds is None or len(known) < len(seconds) else sum(known)


def replayed(runs: Sequence[ReportedRun]) -> Section | None:
    """The replayed images of the latest task of each run, made small; ``None`` without any.

    Raises:
        InputError: such a picture is damaged.
    """
    files = [(run, RunFolder.at(run.folder).replay_png) for run in runs]
    files = [(run, path) for run, path in files if path.is_file()]
    parts: list[Picture] = []
    size = 0
    for run, path in files:
        picture = shrunk(path, f"replayed images of {title_of(run)}", title_of(run), _WIDEST)
        size += len(picture.data) if picture else 0
        if parts and size > _PICTURES:
            break
        parts += [picture] if picture else []
    note = "While the latest task was learned, with their texts; below an image, the likeliest of these texts for the"
    note += " teacher, in green if the first one is the image's own. `replay.png` of each run, smaller."
    note += first_of(len(parts), len(files), "runs")
    return Section("Replayed images", note, [Grid(parts, width=560, shown=4)]) if parts else None
