"""The section of the page on validation images."""

from collections.abc import Sequence

from gift_lightning.records.page.groups import title_of
from gift_lightning.records.page.section import Cells, Grid, Matrix, ReportedRun, Section, first_of
from gift_lightning.records.report.words import percent

MOST_TASKS, MOST_RUNS = 20, 6
"""Of the matrices that are shown; the table has all runs."""


def validation(runs: Sequence[ReportedRun]) -> Section | None:
    """Transfer, Avg and Last on the images held out, and their matrices; ``None`` if no run has evaluated any."""
    held = [(run, part) for run in runs if (part := run.results.get("validation")) and part["R"]]
    if not held:
        return None
    keys = ("transfer", "avg", "last")
    rows = [[run.label, *(percent(part["metrics"].get(key)) for key in keys)] for run, part in held]
    matrices = []
    for run, part in held:
        order, first = list(run.results["tasks"]), part["zero_shot"]
        if len(order) <= MOST_TASKS:
            learned = list(zip(order, part["R"], strict=False))
            framed = [*[None] * bool(first), *range(len(learned))]
            matrices.append(
                Matrix(order, [("zero-shot", first), *learned] if first else learned, title_of(run), framed)
            )
    note = (
        "Accuracy in percent on images that are neither trained on nor tested on (`data.validation_share`), to choose"
    )
    note += " settings by; the other sections are of test images. `validation` in `results.json`."
    note += first_of(min(MOST_RUNS, len(matrices)), len(matrices), "matrices")
    grid = [Grid(matrices[:MOST_RUNS], width=420)] if matrices else []
    return Section("On validation images", note, [Cells(["Run", "Transfer", "Avg", "Last"], rows), *grid])
