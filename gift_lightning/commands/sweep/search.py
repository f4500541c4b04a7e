"""The search of a sweep: Optuna suggests values, and each suggestion is an ordinary run for each seed."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from gift_lightning.commands.sweep.file import VALIDATION, Search, Sweep
from gift_lightning.commands.sweep.state import check, results_of
from gift_lightning.commands.sweep.trials import SEED, Choice, Trial
from gift_lightning.errors import InputError
from gift_lightning.records.report.words import metrics_of

Run = Callable[[Sequence[Trial]], dict[str, str]]
"""Runs trials that are not finished; names of those that failed, and why."""


def searched(
    sweep: Sweep, search: Search, run: Run, report: Callable[[str], None]
) -> tuple[list[Trial], dict[str, str]]:
    """Search in each point of the grid, all points together, batch after batch.

    Optuna's sampler starts anew in each call with a fixed seed, and hears the results of the trials that are finished:
    so it makes the same suggestions again, and the folders of the trials are all that a search has to keep. Within a
    batch it knows no results, whatever the number of processes. At a trial that failed the search ends, as the next
    suggestions depend on its result.

    Args:
        sweep: whose trials they are.
        search: of it.
        run: of a launcher.
        report: shows a line.

    Returns:
        the trials in the order of their suggestions, and those that failed.

    Raises:
        InputError: Optuna is not installed, or a suggestion is no run.
    """
    studies = [_Study(sweep, search, seeds) for seeds in _without_seeds(sweep.points)]
    trials = dict[Trial, None]()
    for start in range(0, search.trials, search.batch):
        count = min(search.batch, search.trials - start)
        batch = list(dict.fromkeys(trial for study in studies for trial in study.ask(count)))
        if not check(sweep, batch) and search.metric in VALIDATION:
            raise InputError(
                f"{sweep.file}: a search needs validation images: add data.validation_share: 0.1 under 'set'."
            )
        report(f"suggestions {start + 1} to {start + count} of {search.trials}")
        trials |= dict.fromkeys(batch)
        if failed := run(batch):
            return list(trials), failed  # what comes next depends on their results
        for study in studies:
            study.tell()
    return list(trials), {}


def value_of(results: dict[str, Any], metric: str) -> float:
    """A metric of a finished run, by its name in the loggers.

    Raises:
        InputError: the run has no validation images, or no such value.
    """
    part: Any = (results.get("validation") if metric in VALIDATION else results) or {}
    value = metrics_of(part).get(metric.rpartition("/")[2]) if part else None
    if value is None:
        raise InputError(f"A trial of the search has no {metric} to maximise: give another search.metric.")
    return float(value)


class _Study:
    """Optuna's, of one point of the grid.

    Args:
        sweep: whose search it is.
        search: of it.
        seeds: the point with each of the grid's seeds.
    """

    def __init__(self, sweep: Sweep, search: Search, seeds: Sequence[tuple[Choice, ...]]) -> None:
        optuna = _optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sweep, self._search, self._seeds = sweep, search, seeds
        self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
        self._asked: list[tuple[Any, list[Trial]]] = []

    def ask(self, count: int) -> list[Trial]:
        """The trials of the next suggestions."""
        for _ in range(count):
            suggestion = self._study.ask()
            chosen = [(key, _suggested(suggestion, key, space)) for key, space in self._search.space.items()]
            points = [[*(c for c in point if c[0] != SEED), *chosen, *_seed_of(point)] for point in self._seeds]
            self._asked.append((suggestion, self._sweep.trials(points)))
        return [trial for _, trials in self._asked for trial in trials]

    def tell(self) -> None:
        """Let Optuna know the results of what was asked: the mean over the seeds."""
        for suggestion, trials in self._asked:
            finished = [results_of(self._sweep, trial) for trial in trials]
            values = [value_of(results, self._search.metric) for results in finished if results is not None]
            self._study.tell(suggestion, statistics.fmean(values))
        self._asked = []


def _suggested(suggestion: Any, key: str, space: Any) -> Any:
    if isinstance(space, list):
        return space[suggestion.suggest_categorical(key, list(range(len(space))))]
    low, high, log = space["low"], space["high"], space.get("log", False)
    if isinstance(low, int) and isinstance(high, int):
        return suggestion.suggest_int(key, low, high, log=log)
    value = float(f"{suggestion.suggest_float(key, low, high, log=log):.4g}")  # names of folders stay short
    return min(max(value, float(low)), float(high))


def _without_seeds(points: Sequence[tuple[Choice, ...]]) -> list[list[tuple[Choice, ...]]]:
    """The points of a grid, together where the seed alone differs."""
    groups: dict[str, list[tuple[Choice, ...]]] = {}
    for point in points:
        groups.setdefault(repr([choice for choice in point if choice[0] != SEED]), []).append(point)
    return list(groups.values())


def _seed_of(point: Sequence[Choice]) -> list[Choice]:
    return [choice for choice in point if choice[0] == SEED]


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InputError('A search needs Optuna: pip install "gift-lightning[optuna]".') from error
    return optuna
