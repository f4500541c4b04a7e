"""The sections that follow a run: accuracy after each task, the matrix, losses, cost, replayed images."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair
from PIL import Image

from gift_lightning.records.page.groups import COLOURS, GREY, Group, grouped, keys, mean, title_of
from gift_lightning.records.page.section import Cells, Chart, Grid, Key, Matrix, Picture, ReportedRun, Section
from gift_lightning.records.report.words import NO_NUMBER
from gift_lightning.records.run_folder import RunFolder

_MOST = 40  # tasks with a curve, and with cells that hold numbers
_POINTS = 60  # of a curve of a loss
_CURVES = 8  # methods whose losses are shown
_PICTURES = 600_000  # bytes of all replayed images together
_WIDEST = 1500  # pixels of a picture

PATTERNS = ((1, 0), (6, 3), (2, 2))
"""Dashes of lines, by the pattern of their ``Key``."""


def curves(runs: Sequence[ReportedRun]) -> Section:
    """Accuracy of every task against the number of learned tasks, the methods overlaid."""
    names = list(dict.fromkeys(task for run in runs for task in run.results["tasks"]))
    shown = names[:: -(-len(names) // _MOST)]
    charts = [Chart(curve(runs, task).properties(width="container", height=150), title=task) for task in shown]
    note = "Before the dotted line a task is predicted zero-shot, at the line it was learned last, behind it a falling"
    note += " line is forgetting. Means over seeds of `zero_shot` (0 tasks learned) and `R` in `results.json`."
    if len(shown) < len(names):
        note += f" Of {len(names)} tasks, {len(shown)} are shown; all are in `accuracy_matrix.csv`."
    return Section("Accuracy of every task along the sequence", note, [Grid(charts, keys(runs))])


def curve(runs: Sequence[ReportedRun], task: str, legend: altair.Legend | None = None) -> Any:
    """Accuracy of ``task`` against the number of learned tasks, as a chart: a line for each method."""
    points: list[dict[str, Any]] = []
    learned: dict[int, None] = {}
    for group in grouped(runs):
        order = list(group.runs[0].results["tasks"])
        if task in order:
            learned[order.index(task) + 1] = None
            for step in range(len(order) + 1):
                value = mean(_cells(group, step, order.index(task)))
                if value is not None:
                    points.append({"method": group.label, "learned": step, "accuracy": round(value, 3)})
    entries = keys(runs)
    labels, colours = [key.label for key in entries], [key.colour for key in entries]
    dashes = [PATTERNS[key.pattern] for key in entries]
    y = altair.Scale(zero=False, nice=True)
    x = altair.Axis(tickMinStep=1, format="d", grid=False)
    lines = (
        altair.Chart(altair.Data(values=points))
        .mark_line(point=altair.OverlayMarkDef(size=22), strokeWidth=2)
        .encode(
            x=altair.X("learned:Q", title="tasks learned", axis=x),
            y=altair.Y("accuracy:Q", title="accuracy (%)", scale=y, axis=altair.Axis(tickCount=5)),
            color=altair.Color("method:N", scale=altair.Scale(domain=labels, range=colours), legend=legend),
            strokeDash=altair.StrokeDash("method:N", scale=altair.Scale(domain=labels, range=dashes), legend=legend),
            tooltip=["method:N", "learned:Q", altair.Tooltip("accuracy:Q", format=".1f")],
        )
    )
    return _with_rules([*learned], lines)


def _with_rules(places: Sequence[int], lines: altair.Chart) -> Any:
    """Lines in front of dotted vertical ones."""
    data = altair.Data(values=[{"place": place} for place in places])
    rules = altair.Chart(data).mark_rule(strokeDash=[2, 3], color=GREY).encode(x=altair.X("place:Q"))
    return altair.layer(*([rules] if places else []), lines)  # Vega warns of rules without a place


def _cells(group: Group, step: int, column: int) -> list[float]:
    """Accuracies of a task after ``step`` tasks, of each run that has one."""
    rows = [run.results["R"][step - 1 : step] if step else [run.results.get("zero_shot") or []] for run in group.runs]
    return [row[0][column] for row in rows if row and row[0] and row[0][column] is not None]


def matrices(runs: Sequence[ReportedRun]) -> Section:
    """The accuracy matrix of each run as a heatmap; of many tasks the run's picture."""
    parts: list[Matrix | Picture] = []
    for run in runs:
        order = list(run.results["tasks"])
        picture = RunFolder.at(run.folder).matrix_png
        if len(order) > _MOST:
            if picture.is_file():
                parts.append(Picture(_small(picture), f"accuracy matrix of {title_of(run)}", title=title_of(run)))
            continue
        rows = list(zip(order, run.results["R"], strict=False))
        zero_shot = run.results.get("zero_shot")
        framed: list[int | None] = [None] * bool(zero_shot)
        framed += range(len(rows))
        parts.append(Matrix(order, [("zero-shot", zero_shot), *rows] if zero_shot else rows, title_of(run), framed))
    note = "Accuracy in percent after each task (rows) on each task (columns): right of the frame zero-shot, in it what"
    note += " was learned last, left of it what is kept. `R` and `zero_shot` in `results.json`."
    width = 80 + 44 * max(min(len(run.results["tasks"]), _MOST) for run in runs)
    return Section("Accuracy matrix of each run", note, [Grid(parts, width=min(width, 900), shown=6)])


def losses(runs: Sequence[ReportedRun]) -> Section | None:
    """The parts of the loss over steps, of the first run of each method; ``None`` where nothing is logged."""
    parts = []
    for group in grouped(runs)[:_CURVES]:
        run = group.runs[0]
        path = RunFolder.at(run.folder).path / "metrics.csv"
        points, ends = _losses(path.read_text(encoding="utf-8")) if path.is_file() else ([], [])
        if points:
            names = list(dict.fromkeys(point["part"] for point in points))
            entries = [Key(name, COLOURS[place % len(COLOURS)]) for place, name in enumerate(names)]
            scale = altair.Scale(domain=names, range=[key.colour for key in entries])
            lines = (
                altair.Chart(altair.Data(values=points))
                .mark_line(strokeWidth=1.5)
                .encode(
                    x=altair.X("step:Q", title="step", scale=altair.Scale(nice=False), axis=altair.Axis(grid=False)),
                    y=altair.Y("value:Q", title="loss", axis=altair.Axis(tickCount=5)),
                    color=altair.Color("part:N", scale=scale, legend=None),
                    tooltip=["part:N", "step:Q", altair.Tooltip("value:Q", format=".4g")],
                )
            )
            chart = _with_rules(ends, lines).properties(width="container", height=200)
            parts.append(Chart(chart, title=title_of(run), legend=entries))
    note = "Of the first run of each method; dotted lines are the ends of tasks. Columns `loss/…` and `cl/task` of"
    note += f" `metrics.csv`, about {_POINTS} points of each."
    return Section("Parts of the loss", note, [Grid(parts, width=420, shown=6)]) if parts else None


def _losses(text: str) -> tuple[list[dict[str, Any]], list[int]]:
    """The points of the curves, and the steps at which tasks end."""
    whole = text[: text.rfind("\n") + 1]  # a run that goes on may be adding a row
    rows = list(csv.DictReader(io.StringIO(whole)))
    ends = [int(row["step"]) for row in rows if row.get("cl/task") and float(row["cl/task"]) > 0]
    points: list[dict[str, Any]] = []
    for column in rows[0] if rows else []:
        if column.startswith("loss/"):
            logged = [row for row in rows if row[column]]
            for row in logged[:: max(1, len(logged) // _POINTS)]:
                value = float(row[column])
                if value - value == 0:  # JSON has no infinity
                    name = column.removeprefix("loss/").replace("_", " ")
                    points.append({"part": name, "step": int(row["step"]), "value": float(f"{value:.5g}")})
    return points, ends


def costs(runs: Sequence[ReportedRun]) -> Section:
    """Seconds of each phase, memory and parameters of each run."""
    phases = ("replay", "train", "evaluate", "zero_shot", "other")
    heads = ["Run", *(f"{phase.replace('_', '-')}, s" for phase in phases), "total, s", "memory, MB"]
    heads += ["trained", "frozen", "in memory", "stored"]
    rows = []
    for run in runs:
        cost = run.results.get("cost") or {}
        seconds = [sum(value or 0.0 for value in cost.get(f"{phase}_seconds") or []) for phase in phases]
        memory = cost.get("peak_memory_bytes")
        sizes = [cost.get(f"{kind}_parameters") for kind in ("trainable", "frozen", "total", "stored")]
        numbers = [NO_NUMBER if size is None else f"{size:,}" for size in sizes]
        megabytes = NO_NUMBER if memory is None else f"{memory / 1e6:,.0f}"
        rows.append([title_of(run), *(f"{value:,.1f}" for value in [*seconds, sum(seconds)]), megabytes, *numbers])
    note = (
        "`cost` in `results.json`. Seconds are sums over tasks, memory is the peak. Both are measured: a run that was"
    )
    note += " killed and resumed has other ones, and everything else on this page the same."
    caption = (
        "Numbers of parameters: trained; frozen beside the CLIP; all in memory; stored between tasks beside the CLIP."
    )
    return Section("Cost", note, [Cells(heads, rows, caption)])


def replayed(runs: Sequence[ReportedRun]) -> Section | None:
    """The replayed images of the latest task of each run, made small; ``None`` without any."""
    files = [(run, RunFolder.at(run.folder).replay_png) for run in runs]
    files = [(run, path) for run, path in files if path.is_file()]
    parts: list[Picture] = []
    size = 0
    for run, path in files:
        data = _small(path)
        size += len(data)
        if size > _PICTURES:
            break
        parts.append(Picture(data, f"replayed images of {title_of(run)}", title=title_of(run)))
    note = "While the latest task was learned, with their texts; below an image, the likeliest of these texts for the"
    note += " teacher, in green if the first one is the image's own. `replay.png` of each run, smaller."
    if len(parts) < len(files):
        note += f" Those of {len(files) - len(parts)} more runs would make the page too large."
    return Section("Replayed images", note, [Grid(parts, width=560, shown=4)]) if files else None


def _small(path: Path) -> bytes:
    """A picture as WebP, at most ``_WIDEST`` pixels wide."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((_WIDEST, 4 * _WIDEST))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=70)
    return buffer.getvalue()
