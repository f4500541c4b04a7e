"""The sections that follow a run: accuracy after each task, the matrix, losses, cost, replayed images."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import altair
from PIL import Image

from gift_lightning.records.page.groups import grouped, mean, title_of
from gift_lightning.records.page.section import Cells, Chart, Picture, ReportedRun, Section
from gift_lightning.records.report.words import NO_NUMBER
from gift_lightning.records.run_folder import RunFolder

_POINTS = 60  # of a curve of a loss
_CURVES = 8  # runs whose losses are shown
_PICTURES = 600_000  # bytes of all replayed images together
_WIDEST = 900  # pixels of a replay picture


def curves(runs: Sequence[ReportedRun]) -> Section:
    """Accuracy of every task against the number of learned tasks, the methods overlaid."""
    points: list[dict[str, Any]] = []
    names: list[str] = []
    for group in grouped(runs):
        order = list(group.runs[0].results["tasks"])
        names += [name for name in order if name not in names]
        for column, task in enumerate(order):
            for step in range(len(order) + 1):
                cells = [_row(run, step)[column] for run in group.runs if _row(run, step)]
                value = mean([cell for cell in cells if cell is not None])
                if value is not None:
                    points.append({"method": group.label, "task": task, "learned": step, "accuracy": round(value, 4)})
    chart = (
        altair.Chart(altair.Data(values=points))
        .mark_line(point=True)
        .encode(
            x=altair.X("learned:Q", title="tasks learned", axis=altair.Axis(tickMinStep=1, format="d")),
            y=altair.Y("accuracy:Q", title="accuracy (%)", scale=altair.Scale(zero=False)),
            color=altair.Color("method:N", title=None, legend=altair.Legend(orient="top", columns=3, labelLimit=0)),
            facet=altair.Facet("task:N", title=None, columns=3, sort=names),
            tooltip=["method:N", "task:N", "learned:Q", altair.Tooltip("accuracy:Q", format=".1f")],
        )
        .properties(width=230, height=150)
    )
    note = "A line that falls after its task was learned is forgetting: `zero_shot` and `R` in `results.json`."
    return Section("Accuracy of every task along the sequence", note, [Chart(chart)])


def _row(run: ReportedRun, step: int) -> list[float | None]:
    if step:
        rows: list[list[float | None]] = run.results["R"]
        return rows[step - 1] if step <= len(rows) else []
    return run.results.get("zero_shot") or []


def matrices(runs: Sequence[ReportedRun]) -> Section:
    """The accuracy matrix of each run as a heatmap."""
    parts = []
    for run in runs:
        order = list(run.results["tasks"])
        rows = [("zero-shot", run.results.get("zero_shot") or []), *zip(order, run.results["R"], strict=False)]
        cells = [
            {"after": after, "task": task, "accuracy": round(cell, 2)}
            for after, row in rows
            for task, cell in zip(order, row, strict=False)
            if cell is not None
        ]
        base = altair.Chart(altair.Data(values=cells)).encode(
            x=altair.X("task:N", sort=order, title=None, axis=altair.Axis(orient="top", labelAngle=-45, labelLimit=0)),
            y=altair.Y("after:N", sort=["zero-shot", *order], title="after", axis=altair.Axis(labelLimit=0)),
            tooltip=["after:N", "task:N", altair.Tooltip("accuracy:Q", format=".2f")],
        )
        scale = altair.Scale(domain=[0, 100], scheme="yellowgreenblue")
        colours = base.mark_rect().encode(color=altair.Color("accuracy:Q", scale=scale, legend=None))
        light = altair.condition("datum.accuracy > 60", altair.value("#ffffff"), altair.value("#1b1f24"))
        numbers = base.mark_text(fontSize=11).encode(text=altair.Text("accuracy:Q", format=".1f"), color=light)
        chart = altair.layer(colours, numbers).properties(width=altair.Step(46), height=altair.Step(26))
        parts.append(Chart(chart, title_of(run)))
    return Section("Accuracy matrix of each run", "Percent: `R` and `zero_shot` in `results.json`.", parts)


def losses(runs: Sequence[ReportedRun]) -> Section | None:
    """The parts of the loss over steps, of the first run of each method; ``None`` where nothing is logged."""
    parts = []
    for group in grouped(runs)[:_CURVES]:
        run = group.runs[0]
        path = RunFolder.at(run.folder).path / "metrics.csv"
        points = _losses(path.read_text(encoding="utf-8")) if path.is_file() else []
        if points:
            chart = (
                altair.Chart(altair.Data(values=points))
                .mark_line()
                .encode(
                    x=altair.X("step:Q", title="step"),
                    y=altair.Y("value:Q", title="loss"),
                    color=altair.Color("part:N", title=None, legend=altair.Legend(orient="top", labelLimit=0)),
                    tooltip=["part:N", "step:Q", altair.Tooltip("value:Q", format=".4g")],
                )
                .properties(width="container", height=220)
            )
            parts.append(Chart(chart, title_of(run)))
    note = f"Columns `loss/…` of `metrics.csv` of the first run of each method, about {_POINTS} points of each."
    return Section("Parts of the loss", note, parts) if parts else None


def _losses(text: str) -> list[dict[str, Any]]:
    rows = list(csv.DictReader(io.StringIO(text)))
    points: list[dict[str, Any]] = []
    for column in rows[0] if rows else []:
        if column.startswith("loss/"):
            logged = [row for row in rows if row[column]]
            for row in logged[:: max(1, len(logged) // _POINTS)]:
                value = float(row[column])
                if value - value == 0:  # JSON has no infinity
                    points.append({"part": column, "step": int(row["step"]), "value": value})
    return points


def costs(runs: Sequence[ReportedRun]) -> Section:
    """Seconds of each phase, memory and parameters of each run."""
    phases = ("replay", "train", "evaluate", "zero_shot", "other")
    heads = ["Run", *(f"{phase.replace('_', '-')} (s)" for phase in phases), "peak memory (MB)"]
    heads += [f"{kind} parameters" for kind in ("trained", "frozen", "stored")]
    rows = []
    for run in runs:
        cost = run.results.get("cost") or {}
        seconds = [sum(value or 0.0 for value in cost.get(f"{phase}_seconds") or []) for phase in phases]
        memory = cost.get("peak_memory_bytes")
        sizes = [cost.get(f"{kind}_parameters") for kind in ("trainable", "frozen", "stored")]
        numbers = [NO_NUMBER if size is None else str(size) for size in sizes]
        megabytes = NO_NUMBER if memory is None else f"{memory / 1e6:.0f}"
        rows.append([title_of(run), *(f"{value:.1f}" for value in seconds), megabytes, *numbers])
    return Section("Cost", "`cost` in `results.json`, summed over tasks.", [Cells(heads, rows)])


def replayed(runs: Sequence[ReportedRun]) -> Section | None:
    """The replayed images of the latest task of each run, made small; ``None`` without any."""
    files = [(run, RunFolder.at(run.folder).replay_png) for run in runs]
    files = [(run, path) for run, path in files if path.is_file()]
    parts: list[Picture] = []
    left = _PICTURES
    for run, path in files:
        with Image.open(path) as image:
            small = image.convert("RGB")
        small.thumbnail((_WIDEST, 4 * _WIDEST))
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=60)
        if buffer.tell() <= left:
            left -= buffer.tell()
            parts.append(Picture(buffer.getvalue(), f"replayed images of {title_of(run)}", title_of(run)))
    left_out = len(files) - len(parts)
    note = "`replay.png` of each run, smaller." + (f" {left_out} more would make the page too large." * bool(left_out))
    return Section("Replayed images", note, parts) if parts else None
