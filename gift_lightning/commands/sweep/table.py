"""The table of a sweep: mean and standard deviation over seeds of the trials that are finished."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from gift_lightning.commands.sweep.file import TEST, Search, Sweep
from gift_lightning.commands.sweep.state import results_of
from gift_lightning.commands.sweep.trials import Trial
from gift_lightning.records.report.comparison import comparison_table
from gift_lightning.records.report.words import metrics_of


def table_of(sweep: Sweep, trials: Sequence[Trial]) -> tuple[Table | None, list[str]]:
    """The table, and what has to be said below it.

    If all trials have validation images, the numbers are those on them: a sweep is there to choose. Test accuracies
    stay in the trials' own folders.

    Args:
        sweep: whose trials they are.
        trials: all of them.

    Returns:
        no table if none is finished.
    """
    finished = [(trial, results) for trial in trials if (results := results_of(sweep, trial)) is not None]
    lines = [f"{len(finished)} of {len(trials)} trials are finished: {sweep.folder}"]
    if not finished:
        return None, lines
    validated = all(results.get("validation") for _, results in finished)
    on_test = sweep.search is not None and sweep.search.metric in TEST
    runs = [_row(trial, results, validated and not on_test) for trial, results in finished]
    table = comparison_table(runs)
    table.title, table.title_justify = "On test images", "left"
    if on_test:
        lines.insert(0, "CHOSEN ON TEST IMAGES: the best of these rows is no result on them.")
    elif validated:
        table.title = "On validation images"
    if validated or on_test:
        lines.insert(0, _best(sweep.search, runs))
    if len({results["protocol"]["id"] for _, results in finished}) > 1:
        lines.insert(0, "The rows differ in their protocol (tasks, their order, images or candidate classes).")
    return table, lines


def _row(trial: Trial, results: dict[str, Any], on_validation: bool) -> dict[str, Any]:
    part = results["validation"] if on_validation else {}
    return {**results, **part, "method": trial.group}


def _best(search: Search | None, runs: Sequence[dict[str, Any]]) -> str:
    """The group with the highest mean, by the metric of the search, or by Avg."""
    metric = search.metric if search is not None else "cl/val/avg"
    groups: dict[str, list[float]] = {}
    for run in runs:
        value = metrics_of(run).get(metric.rpartition("/")[2])
        groups.setdefault(run["method"], []).append(0.0 if value is None else value)
    means = {group: sum(values) / len(values) for group, values in groups.items()}
    best = max(means, key=lambda group: means[group])
    return f"Best by {metric}: {best} ({means[best]:.1f})"
