"""Overfitting of distillation: its loss on replayed pairs and on held-out pairs of the same generator, over steps."""

import bisect
import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import altair

from gift_lightning.records.page.groups import COLOURS, GREY
from gift_lightning.records.page.section import Cells, Chart, Key, ReportedRun, Section
from gift_lightning.records.run_folder import RunFolder

KINDS = {"distillation/replayed": "replayed pairs", "distillation/held_out": "held-out pairs"}
"""Columns of ``metrics.csv``, which the callback ``HeldOutPairs`` logs."""

_RUNS = 6
_POINTS = 150  # of a line


def overfitting(runs: Sequence[ReportedRun]) -> Section | None:
    """The distillation loss of runs with the callback ``HeldOutPairs``; ``None`` if there are none."""
    points, spans = _measured(runs)
    if not points:
        return None
    note = (
        "How far the model is from its teacher on the pairs that it replays, and on held-out pairs that the same"
        " generator drew: the distillation loss less the teacher's entropy. A held-out loss above the replayed one is"
        f" overfitting. Columns `distillation/…` of `metrics.csv` of each run, at most {_RUNS} of them."
    )
    runs_drawn = [Key(run, colour) for run, colour in _colours(points).items()]
    kinds = [Key(kind, GREY, pattern) for pattern, kind in enumerate(KINDS.values())]
    chart = _chart(points, spans).properties(width="container", height=280)
    caption = "Dotted lines are the ends of tasks." if spans else ""
    shown = Chart(chart, caption, legend=[*runs_drawn, *kinds])
    return Section("Overfitting of distillation", note, (shown, _table(points)))


def overfitting_picture(runs: Sequence[ReportedRun], width: int) -> Any:
    """The chart, ``width`` pixels wide and with the legend that a picture needs; ``None`` if there is none."""
    points, spans = _measured(runs)
    legend = altair.Legend(orient="top", direction="vertical", labelLimit=0, title=None, symbolSize=300, offset=26)
    return _chart(points, spans, legend).properties(width=width, height=280) if points else None


def _measured(runs: Sequence[ReportedRun]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The points of the lines, and where each task begins and ends; nothing of that if runs differ in it."""
    points, spans = list[dict[str, Any]](), list[list[dict[str, Any]]]()
    for run in runs:
        path = RunFolder.at(run.folder).path / "metrics.csv"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if len(spans) < _RUNS and all(kind in text.partition("\n")[0].split(",") for kind in KINDS):
            rows, tasks = list(csv.DictReader(io.StringIO(text))), run.results["tasks"]
            ends = [int(row["step"]) for row in rows if row.get("cl/task") and float(row["cl/task"]) > 0]
            points += [{"run": run.label, **point} for point in _points(rows, ends, tasks)]
            starts = [0, *ends]
            spans.append([{"task": t, "start": a, "end": b} for t, a, b in zip(tasks, starts, ends, strict=False)])
    return points, spans[0] if spans and all(each == spans[0] for each in spans) else []


def _points(rows: Sequence[Mapping[str, str]], ends: Sequence[int], tasks: Sequence[str]) -> list[dict[str, Any]]:
    """The measurements of a run, thinned out; the last one of each task stays."""
    points: list[dict[str, Any]] = []
    for column, kind in KINDS.items():
        measured = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
        stride = max(1, math.ceil(len(measured) / _POINTS))
        last = {bisect.bisect_right(ends, step): step for step, _ in measured}
        for place, (step, loss) in enumerate(measured):
            task = bisect.bisect_right(ends, step)
            if math.isfinite(loss) and (place % stride == 0 or last[task] == step):  # JSON has no infinity
                points.append({"kind": kind, "task": tasks[task], "step": step + 1, "loss": float(f"{loss:.5g}")})
    return points


def _colours(points: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return dict(zip(dict.fromkeys(point["run"] for point in points), COLOURS, strict=False))


def _chart(
    points: Sequence[Mapping[str, Any]], spans: Sequence[Mapping[str, Any]], legend: altair.Legend | None = None
) -> Any:
    step = altair.X("step:Q", title="optimiser step", scale=altair.Scale(nice=False))
    colours = altair.Scale(domain=[*_colours(points)], range=[*_colours(points).values()])
    dashes = altair.Scale(domain=[*KINDS.values()], range=[[1, 0], [6, 3]])
    lines = (
        altair.Chart(altair.Data(values=[dict(point) for point in points]))
        .mark_line(strokeWidth=2)
        .encode(
            x=step.axis(grid=False, tickCount=8),
            y=altair.Y("loss:Q", title="distillation loss, less the teacher's"),
            color=altair.Color("run:N", scale=colours, legend=legend),
            strokeDash=altair.StrokeDash("kind:N", scale=dashes, legend=legend),
            detail="task:N",
            tooltip=["run:N", "kind:N", "task:N", "step:Q", altair.Tooltip("loss:Q", format=".3g")],
        )
    )
    if not spans:
        return altair.layer(lines)
    ends = altair.Chart(altair.Data(values=[dict(span) for span in spans[:-1]]))
    rules = ends.mark_rule(strokeDash=[2, 3], color=GREY).encode(x="end:Q")
    middles = [{"task": span["task"], "middle": (span["start"] + span["end"]) / 2} for span in spans]
    longest = max(len(span["task"]) for span in spans)
    fits = altair.ExprRef(f"width / {len(spans)} > {7 * longest} ? 1 : 0")  # names that fit side by side, or none
    names = altair.Chart(altair.Data(values=middles)).mark_text(color=GREY, baseline="bottom", opacity=fits)
    named = names.encode(x="middle:Q", y=altair.value(-6), text="task:N")
    return altair.layer(rules, named, lines)


def _table(points: Sequence[Mapping[str, Any]]) -> Cells:
    """The two losses of each run at the ends of tasks, their means, and how far apart they are."""
    rows = []
    for run in dict.fromkeys(point["run"] for point in points):
        last = {(p["kind"], p["task"]): p["loss"] for p in points if p["run"] == run}  # later steps replace earlier
        replayed, held_out = (
            statistics.fmean(loss for (kind, _), loss in last.items() if kind == name) for name in KINDS.values()
        )
        ratio = f"{held_out / replayed:.2f}" if replayed > 0 else "–"
        rows.append([run, f"{replayed:.3f}", f"{held_out:.3f}", f"{held_out - replayed:+.3f}", ratio])
    heads = ["Run", "replayed pairs", "held-out pairs", "difference", "ratio"]
    return Cells(heads, rows, "Losses after the last step of a task, the mean over tasks.")
