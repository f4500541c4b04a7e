"""Overfitting of distillation: its loss on replayed pairs and on held-out pairs of the same generator, over steps."""

import bisect
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import altair

from gift_lightning.records.logged import HELD_OUT, REPLAYED, Logged, logged
from gift_lightning.records.page.groups import COLOURS, GREY, grouped, keys, mean
from gift_lightning.records.page.section import Cells, Chart, Key, ReportedRun, Section, first_of
from gift_lightning.records.page.thinned import thinned
from gift_lightning.records.report.words import NO_NUMBER

_KINDS = {REPLAYED: "replayed pairs", HELD_OUT: "held-out pairs"}
_RUNS = 6
_POINTS = 150  # of a line


class _Measured(NamedTuple):
    """A run with both losses in its ``metrics.csv``."""

    label: str
    colour: str
    tasks: Sequence[str]
    logged: Logged


def overfitting(runs: Sequence[ReportedRun]) -> Section | None:
    """The distillation loss of runs with the callback ``HeldOutPairs``; ``None`` if there are none.

    Raises:
        InputError: a ``metrics.csv`` is damaged.
    """
    found = _measured(runs)
    if not found:
        return None
    shown = found[:_RUNS]
    note = (
        "How far the model is from its teacher on the pairs that it replays, and on held-out pairs that the same"
        " generator drew: the distillation loss less the teacher's entropy. A held-out loss above the replayed one is"
        " overfitting. Columns `distillation/…` of `metrics.csv` of each run."
    ) + first_of(len(shown), len(found), "runs")
    points, spans = _points(shown), _spans(shown)
    legend = [*(Key(run, colour) for run, colour in _colours(points).items())]
    legend += [Key(kind, GREY, pattern) for pattern, kind in enumerate(_KINDS.values())]
    chart = _chart(points, spans).properties(width="container", height=280)
    drawn = [Chart(chart, "Dotted lines are the ends of tasks." if spans else "", legend=legend)] if points else []
    return Section("Overfitting of distillation", note, (*drawn, _table(shown)))


def overfitting_picture(runs: Sequence[ReportedRun], width: int) -> Any:
    """The chart, ``width`` pixels wide and with the legend that a picture needs; ``None`` if there is none.

    Raises:
        InputError: a ``metrics.csv`` is damaged.
    """
    shown = _measured(runs)[:_RUNS]
    points = _points(shown)
    legend = altair.Legend(orient="top", direction="vertical", labelLimit=0, title=None, symbolSize=300, offset=26)
    return _chart(points, _spans(shown), legend).properties(width=width, height=280) if points else None


def _measured(runs: Sequence[ReportedRun]) -> list[_Measured]:
    # the colour of its method; of a further seed, one that no method has
    of_first = {group.runs[0].label: key.colour for group, key in zip(grouped(runs), keys(runs), strict=True)}
    free = itertools.cycle([colour for colour in COLOURS if colour not in of_first.values()] or COLOURS)
    read = [
        _Measured(run.label, of_first.get(run.label) or next(free), run.results["tasks"], logged(run.folder))
        for run in runs
    ]
    return [run for run in read if all(run.logged.losses.get(column) for column in _KINDS)]


def _spans(runs: Sequence[_Measured]) -> list[dict[str, Any]]:
    """Where each finished task begins and ends; nothing if runs differ in it."""
    spans = [
        [
            {"task": task, "start": start, "end": end}
            for task, start, end in zip(run.tasks, [0, *run.logged.ends], run.logged.ends, strict=False)
        ]
        for run in runs
    ]
    return spans[0] if spans and all(each == spans[0] for each in spans) else []


def _points(runs: Sequence[_Measured]) -> list[dict[str, Any]]:
    """The measurements of the runs, thinned out; the last one of each task stays. JSON has no infinity."""
    points: list[dict[str, Any]] = []
    for run in runs:
        for column, kind in _KINDS.items():
            measured = run.logged.losses[column]
            at_ends = (pair for pair in measured if pair[0] in run.logged.ends)
            kept = {*thinned(measured, _POINTS), *at_ends, *measured[-1:]}
            for step, loss in sorted((step, loss) for step, loss in kept if loss is not None):
                task = run.tasks[min(bisect.bisect_left(run.logged.ends, step), len(run.tasks) - 1)]
                value = float(f"{loss:.5g}")
                points.append(
                    {"run": run.label, "colour": run.colour, "kind": kind, "task": task, "step": step, "loss": value}
                )
    return points


def _colours(points: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {point["run"]: point["colour"] for point in points}


def _chart(
    points: Sequence[Mapping[str, Any]], spans: Sequence[Mapping[str, Any]], legend: altair.Legend | None = None
) -> Any:
    step = altair.X("step:Q", title="optimiser step", scale=altair.Scale(nice=False))
    colours = altair.Scale(domain=[*_colours(points)], range=[*_colours(points).values()])
    colour = altair.Color("run:N", scale=colours, legend=legend)
    dashes = altair.Scale(domain=[*_KINDS.values()], range=[[1, 0], [6, 3]])
    lines = (
        altair.Chart(altair.Data(values=[dict(point) for point in points]))
        .mark_line(strokeWidth=2)
        .encode(
            x=step.axis(grid=False, tickCount=8),
            y=altair.Y("loss:Q", title="distillation loss, less the teacher's"),
            color=colour,
            strokeDash=altair.StrokeDash("kind:N", scale=dashes, legend=legend),
            detail="task:N",
            tooltip=["run:N", "kind:N", "task:N", "step:Q", altair.Tooltip("loss:Q", format=".3g")],
        )
    )
    # a line of one measurement is no line
    alone = Counter((point["run"], point["kind"], point["task"]) for point in points)
    singles = [dict(point) for point in points if alone[point["run"], point["kind"], point["task"]] == 1]
    dots = altair.Chart(altair.Data(values=singles)).mark_point(size=40, opacity=1, strokeWidth=2)
    hollow = altair.condition(altair.datum.kind == _KINDS[HELD_OUT], altair.value("transparent"), colour)
    dots = dots.encode(x="step:Q", y="loss:Q", color=colour, fill=hollow)
    drawn = [dots, lines] if singles else [lines]
    if not spans:
        return altair.layer(*drawn)
    ends = altair.Chart(altair.Data(values=[dict(span) for span in spans[:-1]]))
    rules = ends.mark_rule(strokeDash=[2, 3], color=GREY).encode(x="end:Q")
    middles = [{"task": span["task"], "middle": (span["start"] + span["end"]) / 2} for span in spans]
    longest = max(len(span["task"]) for span in spans)
    fits = altair.ExprRef(f"width / {len(spans)} > {7 * longest} ? 1 : 0")  # names that fit side by side, or none
    names = altair.Chart(altair.Data(values=middles)).mark_text(color=GREY, baseline="bottom", opacity=fits)
    named = names.encode(x="middle:Q", y=altair.value(-6), text="task:N")
    return altair.layer(rules, named, *drawn)


def _table(runs: Sequence[_Measured]) -> Cells:
    """The two losses of each run at the ends of tasks, their means, and how far apart they are."""
    rows = []
    for run in runs:
        replayed, held_out = (_mean_at_ends(run.logged, column) for column in _KINDS)
        texts = [NO_NUMBER if value is None else f"{value:.3f}" for value in (replayed, held_out)]
        if replayed is None or held_out is None:
            texts += [NO_NUMBER, NO_NUMBER]
        else:
            texts += [f"{held_out - replayed:+.3f}", f"{held_out / replayed:.2f}" if replayed > 0 else NO_NUMBER]
        rows.append([run.label, *texts])
    heads = ["Run", "replayed pairs", "held-out pairs", "difference", "ratio"]
    caption = "Losses after the last step of a task, the mean over finished tasks; none if one of them is not finite."
    return Cells(heads, rows, caption)


def _mean_at_ends(read: Logged, column: str) -> float | None:
    """The mean of the measurements after the last steps of tasks; ``None`` without one, or if one is not finite."""
    last = [value for step, value in read.losses[column] if step in read.ends]
    finite = [value for value in last if value is not None]
    return mean(finite) if len(finite) == len(last) else None
