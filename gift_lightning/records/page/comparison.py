"""The sections that compare methods: triplets, tasks, Transfer against Last."""

from collections.abc import Sequence
from typing import Any

import altair

from gift_lightning.errors import InputError, nearest
from gift_lightning.records.page.groups import Group, grouped, mean, spread
from gift_lightning.records.page.section import Cells, Chart, ReportedRun, Section
from gift_lightning.records.published import Published
from gift_lightning.records.report.words import percent

METRICS = ("transfer", "avg", "last")
_SOURCE = "Measured numbers: `metrics` and `R` in the `results.json` of each run."


def comparison(runs: Sequence[ReportedRun], theirs: Sequence[Published], baseline: str | None) -> Section:
    """Transfer, Avg and Last of each method, and their differences to ``baseline``, a label of the table.

    Raises:
        InputError: no row is named ``baseline``.
    """
    rows: list[tuple[str, list[list[float]], str]] = []
    for row in theirs:
        origin = f"published, {row.source}" if row.source else "published"
        rows.append((row.method, [[row.transfer], [row.avg], [row.last]], origin))
    for group in grouped(runs):
        seeds = f"{len(group.runs)} run{'s' * (len(group.runs) > 1)}"
        rows.append((group.label, [group.values(name) for name in METRICS], seeds))
    labels = [label for label, _, _ in rows]
    if baseline is not None and baseline not in labels:
        raise InputError(
            f"--baseline {baseline} names no row of the report{nearest(baseline, labels)}: give one of"
            f" {', '.join(dict.fromkeys(labels))}."
        )
    base = None if baseline is None else rows[labels.index(baseline)][1]
    heads = ["Method"]
    for name in METRICS:
        heads += [name.capitalize(), *(["Δ"] if base else [])]
    table = []
    for label, values, origin in rows:
        cells = [label]
        for position, numbers in enumerate(values):
            cells += [spread(numbers), *([_difference(numbers, base[position])] if base else [])]
        table.append([*cells, origin])
    note = f"Accuracy in percent; mean ± standard deviation over seeds, and the 95 % interval from 3 seeds. {_SOURCE}"
    caption = f"Δ: difference to {baseline}, of the printed numbers." if base else ""
    return Section("Transfer, Avg, Last", note, [Cells([*heads, "From"], table, caption), _scatter(runs, theirs)])


def _difference(values: Sequence[float], base: Sequence[float]) -> str:
    """As the papers print it: the difference of the rounded numbers, with its sign."""
    ours, other = mean(values), mean(base)
    return percent(None) if ours is None or other is None else f"{round(ours, 1) - round(other, 1):+.1f}"


def _scatter(runs: Sequence[ReportedRun], theirs: Sequence[Published]) -> Chart:
    points: list[dict[str, Any]] = [
        {"method": row.method, "transfer": row.transfer, "last": row.last, "from": "published"} for row in theirs
    ]
    for group in grouped(runs):
        transfer, last = mean(group.values("transfer")), mean(group.values("last"))
        if transfer is not None and last is not None:  # a sequence of one task has no Transfer
            points.append({"method": group.label, "transfer": transfer, "last": last, "from": "measured"})
    base = altair.Chart(altair.Data(values=points)).encode(
        x=altair.X("transfer:Q", title="Transfer (%)", scale=altair.Scale(zero=False, padding=24)),
        y=altair.Y("last:Q", title="Last (%)", scale=altair.Scale(zero=False, padding=24)),
        tooltip=[altair.Tooltip(f"{name}:N") for name in ("method", "from")]
        + [altair.Tooltip(f"{name}:Q", format=".1f") for name in ("transfer", "last")],
    )
    hollow = base.transform_filter("datum.from == 'published'").mark_point(size=90, filled=False, strokeWidth=2)
    full = base.transform_filter("datum.from == 'measured'").mark_point(size=110, filled=True, opacity=1)
    text = base.mark_text(dy=-11, fontSize=10).encode(text="method:N")
    chart = altair.layer(hollow, full, text).properties(width="container", height=380)
    return Chart(chart, "Above and to the right is better. Hollow marks are published, full ones are measured.")


def tasks(runs: Sequence[ReportedRun]) -> Section:
    """Accuracy on each task after the last one, for each method."""
    groups = grouped(runs)
    names: list[str] = list(dict.fromkeys(task for run in runs for task in run.results["tasks"]))
    rows = [[group.label, *(spread(_after_last(group, task)) for task in names)] for group in groups]
    note = "Accuracy in percent on each task after the last one: the last row of `R` in `results.json`."
    return Section("Each task at the end", note, [Cells(["Method", *names], rows)])


def _after_last(group: Group, task: str) -> list[float]:
    order = list(group.runs[0].results["tasks"])
    if task not in order:
        return []
    cells = [run.results["R"][-1][order.index(task)] for run in group.runs]
    return [cell for cell in cells if cell is not None]
