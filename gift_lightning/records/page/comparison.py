"""The sections that compare methods: triplets, Transfer against Last, tasks."""

from collections.abc import Sequence

from gift_lightning.errors import InputError, nearest
from gift_lightning.records.page.groups import mean, spread
from gift_lightning.records.page.rows import METRICS, Row, rows
from gift_lightning.records.page.scatter import scatter
from gift_lightning.records.page.section import Cells, Chart, Pieces, ReportedRun, Section, Tone
from gift_lightning.records.published import Published
from gift_lightning.records.report.words import percent


def comparison(runs: Sequence[ReportedRun], theirs: Sequence[Published], baseline: str | None) -> Section:
    """Transfer, Avg and Last of each method, and their differences to ``baseline``, a label of the table.

    Without ``baseline``, differences are to the first row that does not learn, as in the papers.

    Raises:
        InputError: no row is named ``baseline``.
    """
    found = rows(runs, theirs)
    base = _base(found, baseline)
    best = _best([row.metrics for row in found if row.learns], len(METRICS))
    table: list[list[str | Pieces]] = []
    for row in found:
        others = base.metrics if base else [[] for _ in METRICS]
        cells = [_with_difference(*cell) for cell in zip(row.metrics, best, others, strict=True)]
        table.append([_name(row), *cells, [(row.origin, "soft")]])
    note = "Accuracy in percent; of several seeds the mean ± standard deviation, and the 95 % interval of the mean"
    note += " (Student's t from 3 seeds, bootstrap from 10)."
    note += f" In colour: the difference to {base.label}, of the printed numbers." if base else ""
    note += " Measured numbers: `metrics` and `zero_shot` in the `results.json` of each run."
    note += " Published ones: `tables.json` and `further.json` in `gift_lightning/records/published`." if theirs else ""
    caption = "Transfer against Last: above and to the right is better. Hollow marks are published, full ones measured."
    caption += " A name without room is left out; point at its mark."
    points = scatter(runs, theirs)
    parts: list[Cells | Chart] = [Cells(["Method", *METRICS, "From"], table, colours=_colours(found))]
    if points:
        parts.append(Chart(points, caption))
    return Section("Transfer, Avg, Last", note, parts)


def tasks(runs: Sequence[ReportedRun], theirs: Sequence[Published]) -> Section:
    """Accuracy on each task after the last one, for each method."""
    names: list[str] = list(dict.fromkeys(task for run in runs for task in run.results["tasks"]))
    found = [row for row in rows(runs, theirs) if row.tasks]
    best = _best([[row.tasks.get(name, []) for name in names] for row in found if row.learns], len(names))
    table = [
        [
            _name(row),
            *(_marked(spread(row.tasks.get(name, []), False), text) for name, text in zip(names, best, strict=True)),
        ]
        for row in found
    ]
    note = "Accuracy in percent on each task after the last one: last row of `R`, or `zero_shot`, in `results.json`."
    note += " Published ones: last rows of `mtil_order_*.csv` in `gift_lightning/records/published`." if theirs else ""
    return Section("Each task at the end", note, [Cells(["Method", *names], table, colours=_colours(found))])


def _base(found: Sequence[Row], baseline: str | None) -> Row | None:
    if baseline is None:
        return next((row for row in found if not row.learns), None)
    for row in found:
        if row.label == baseline:
            return row
    labels = [row.label for row in found]
    hint = nearest(baseline, labels)
    raise InputError(f"--baseline {baseline} names no row of the report{hint}: give one of {', '.join(labels)}.")


def _best(table: Sequence[Sequence[Sequence[float]]], count: int) -> list[str]:
    """The best mean of each of ``count`` columns as printed, so that equal texts are equally good; empty of one row."""
    if len(table) < 2:
        return [""] * count
    columns = [[value for cell in column if (value := mean(cell)) is not None] for column in zip(*table, strict=True)]
    return [percent(max(column)) if column else "" for column in columns]


def _name(row: Row) -> Pieces:
    name: tuple[str, Tone] = (row.label, "" if row.is_published or not row.learns else "ours")
    return [name, (row.mark, "mark")] if row.mark else [name]


def _colours(found: Sequence[Row]) -> list[str]:
    return ["" if row.is_published else row.key.colour for row in found]


def _marked(pieces: Pieces, best: str) -> Pieces:
    return [(pieces[0][0], "best"), *pieces[1:]] if pieces[0][0] == best else pieces


def _with_difference(values: Sequence[float], best: str, base: Sequence[float]) -> Pieces:
    """A metric, and its difference to ``base``: that of the rounded numbers, with its sign, as the papers print it."""
    number, *rest = _marked(spread(values), best)
    ours, other = mean(values), mean(base)
    if ours is None or other is None:
        return [number, *rest]
    difference = round(round(ours, 1) - round(other, 1), 1)
    tone: Tone = "up" if difference > 0 else "down" if difference < 0 else "soft"
    return [number, (f"{difference:+.1f}" if difference else "0.0", tone), *rest]
