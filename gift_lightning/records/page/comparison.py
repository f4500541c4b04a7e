"""The sections that compare methods: triplets, Transfer against Last, tasks."""

from collections.abc import Sequence

from gift_lightning.errors import InputError, nearest
from gift_lightning.records.page.groups import mean, spread
from gift_lightning.records.page.rows import METRICS, Row, rows
from gift_lightning.records.page.scatter import scatter, without_point
from gift_lightning.records.page.section import Cells, Chart, Pieces, ReportedRun, Section, Tone
from gift_lightning.records.published import Published
from gift_lightning.records.report.words import percent, printed_difference

_NARROW, _FEW = 760, 8  # pixels of a scatter of few rows


def comparison(runs: Sequence[ReportedRun], theirs: Sequence[Published], baseline: str | None) -> Section:
    """Transfer, Avg and Last of each method, and their differences to ``baseline``, a label of the table.

    Without ``baseline``, differences are to the first row that does not learn, as in the papers; of several measured
    models, to the row of the same model.

    Raises:
        InputError: no row is named ``baseline``.
    """
    found = rows(runs, theirs)
    bases, base_name = _bases(found, baseline)
    alike = len({row.sequence for row in found}) == 1  # means over other tasks are no better or worse
    best = _best([row.metrics for row in found if alike and row.competes], len(METRICS))
    table: list[list[str | Pieces]] = []
    for row, base in zip(found, bases, strict=True):
        others = base.metrics if base else [[] for _ in METRICS]
        bests = best if row.competes else [""] * len(METRICS)
        cells = [_with_difference(*cell) for cell in zip(row.metrics, bests, others, strict=True)]
        table.append([_name(row), *cells, [(row.origin, "soft")]])
    note = "Accuracy in percent."
    if any(len(values) > 1 for row in found for values in row.metrics):
        note += " Of several seeds the mean ± standard deviation, and the 95 % interval of the mean (Student's t from 3"
        note += " seeds, bootstrap from 10)."
    note += " In bold: the best, among methods that learn, of finished runs and verified numbers." if any(best) else ""
    note += f" In colour: the difference to {base_name}, of the printed numbers." if base_name else ""
    note += " Measured numbers: `metrics` and `zero_shot` in the `results.json` of each run."
    note += " Published ones: `tables.json` and `further.json` in `gift_lightning/records/published`." if theirs else ""
    caption = "Transfer against Last: above and to the right is better."
    if theirs:
        caption += " Hollow marks are published (in a narrow window without their names), full ones measured."
    caption += " A name without room is left out; point at its mark."
    if missing := without_point(runs):
        caption += f" Without a Transfer there is no mark: {', '.join(missing)}."
    points = scatter(runs, theirs)
    parts: list[Cells | Chart] = [Cells(["Method", *METRICS, "From"], table, colours=_colours(found))]
    if points:
        parts.append(Chart(points, caption, widest=_NARROW if len(found) <= _FEW else 0))
    return Section("Transfer, Avg, Last", note, parts)


def tasks(runs: Sequence[ReportedRun], theirs: Sequence[Published]) -> Section:
    """Accuracy on each task after the last one, for each method."""
    names: list[str] = list(dict.fromkeys(task for run in runs for task in run.results["tasks"]))
    found = [row for row in rows(runs, theirs) if row.tasks]
    alike = len({row.sequence for row in found}) == 1
    best = _best([[row.tasks.get(name, []) for name in names] for row in found if alike and row.competes], len(names))
    unfinished = any(not run.results["complete"] for run in runs)
    table = []
    for row in found:
        cells = [spread(row.tasks.get(name, []), False) for name in names]
        bests = best if row.competes else [""] * len(names)
        table.append([_name(row), *map(_marked, cells, bests)])
    note = "Accuracy in percent on each task: last row of `R`, or `zero_shot`, in `results.json`."
    note += " In bold: the best, as above." if any(best) else ""
    note += " Methods of which no matrix is published are left out." if theirs else ""
    note += " An unfinished run has that after the last task so far." if unfinished else ""
    note += " Published ones: last rows of `mtil_order_*.csv` in `gift_lightning/records/published`." if theirs else ""
    return Section("Each task at the end", note, [Cells(["Method", *names], table, colours=_colours(found))])


def _bases(found: Sequence[Row], baseline: str | None) -> tuple[list[Row | None], str]:
    """The row from which the differences of each row are counted, and a name for it; empty without one."""
    if baseline is not None:
        base = _named(found, baseline)
        return [base] * len(found), base.label
    unchanged = [row for row in found if not row.learns]
    if not unchanged:
        return [None] * len(found), ""
    models = {(row.sequence, row.start): row for row in reversed(unchanged)}
    if len(models) == 1:
        base = unchanged[0]
        return [base if row.sequence == base.sequence else None for row in found], base.label
    if unchanged[0].is_published:  # with a measured row beside it
        bases = [unchanged[0] if row.is_published else models.get((row.sequence, row.start)) for row in found]
        return bases, "Zero-shot of the same model"
    return [models.get((row.sequence, row.start)) for row in found], "the same model before learning"


def _named(found: Sequence[Row], baseline: str) -> Row:
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
    return [(row.label, ""), (row.mark, "mark")] if row.mark else [(row.label, "")]


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
    difference = printed_difference(ours, other)
    tone: Tone = "up" if difference.startswith("+") else "down" if difference.startswith("-") else "soft"
    return [number, (difference, tone), *rest]
