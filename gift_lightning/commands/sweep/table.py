"""The table of a sweep: mean and standard deviation over seeds of the trials that are finished."""

import shlex
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from gift_lightning.commands.sweep.file import TEST, VALIDATION, Search, Sweep
from gift_lightning.commands.sweep.state import results_of
from gift_lightning.commands.sweep.trials import SEED, Trial
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
    validated = [bool(results.get("validation")) for _, results in finished]
    on_test = sweep.search is not None and sweep.search.metric in TEST
    on_validation = all(validated) and not on_test
    runs = [_row(trial, results, on_validation) for trial, results in finished]
    table = comparison_table(runs)
    table.title, table.title_justify = "On validation images" if on_validation else "On test images", "left"
    if any(validated) and not all(validated):
        lines.insert(0, f"Without validation images, so that no row is chosen: {validated.count(False)} trials.")
    if on_test:
        lines.insert(0, "CHOSEN ON TEST IMAGES: the test accuracy of the best row is too high.")
    if len({results["protocol"]["id"] for _, results in finished}) > 1:
        lines.insert(0, "The rows differ in their protocol (tasks, their order, images or candidate classes).")
    elif on_validation or on_test:
        lines[:0] = _best(sweep.search, trials, runs)
    return table, lines


def _row(trial: Trial, results: dict[str, Any], on_validation: bool) -> dict[str, Any]:
    part = results["validation"] if on_validation else {}
    return {**results, **part, "method": trial.group}


def _best(search: Search | None, trials: Sequence[Trial], runs: Sequence[dict[str, Any]]) -> list[str]:
    """The group with the highest mean, by the metric of the search, or by Avg; and the command of its final run.

    Groups of which a seed is missing do not compete.
    """
    metric, groups = search.metric if search is not None else VALIDATION[0], dict[str, list[float]]()
    for run in runs:
        if (value := metrics_of(run).get(metric.rpartition("/")[2])) is not None:
            groups.setdefault(run["method"], []).append(value)
    seeds = Counter(trial.group for trial in trials)
    means = {group: statistics.fmean(values) for group, values in groups.items() if len(values) == seeds[group]}
    if not means:
        return []
    best = max(means, key=lambda group: means[group])
    words = next(trial.words for trial in trials if trial.group == best)
    kept = [word for word in words if not word.startswith((f"--{SEED}=", "--data.validation_share="))]
    final = shlex.join(["python", "-m", "gift_lightning", "fit", *kept])
    without = f" (without {len(seeds) - len(means)} that lack a seed)" if len(means) < len(seeds) else ""
    return [f"Best by {metric}{without}: {best} ({means[best]:.1f})", f"With all training images: {final}"]
