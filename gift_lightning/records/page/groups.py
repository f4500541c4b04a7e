"""Runs that differ in the seed alone, as one method with a mean and its uncertainty."""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gift_lightning.records.page.section import Key, Pieces, ReportedRun, Tone
from gift_lightning.records.report.words import metrics_of, percent, run_name

COLOURS = ("#3b7dd8", "#e8710a", "#12a17c", "#b44ac0", "#d9a400", "#e0405e", "#1aa3b8", "#7a9a01", "#8a63d2", "#a0643c")
"""Of methods, and of parts of a loss: to tell apart on white and on black."""

GREY = "#8b949e"
"""Of what is published, or does not learn."""


@dataclass(frozen=True)
class Group:
    """Runs of equal progress that differ in the seed alone.

    Attributes:
        label: names the group on the page.
        runs: at least one.
    """

    label: str
    runs: Sequence[ReportedRun]

    def values(self, metric: str) -> list[float]:
        """``metric`` (``transfer``, ``avg`` or ``last``, percent) of each run that has it."""
        numbers = [metrics_of(run.results).get(metric) for run in self.runs]
        return [number for number in numbers if number is not None]


def grouped(runs: Sequence[ReportedRun]) -> list[Group]:
    """The runs in groups, in the order of their first runs; labels are methods, else labels of the first runs.

    A copy of a run is no further seed: it is in another group.
    """
    groups: dict[tuple[str, int], list[ReportedRun]] = {}
    repeated: Counter[tuple[str, Any]] = Counter()
    for run in runs:
        method, seed = _method(run), run.results.get("seed")
        groups.setdefault((method, repeated[method, seed]), []).append(run)
        repeated[method, seed] += 1
    methods = [str(members[0].results["method"]) for members in groups.values()]
    labels = [
        method if methods.count(method) == 1 else f"{method} ({members[0].label})"
        for method, members in zip(methods, groups.values(), strict=True)
    ]
    return [Group(label, members) for label, members in zip(labels, groups.values(), strict=True)]


def keys(runs: Sequence[ReportedRun]) -> list[Key]:
    """The colour and pattern of each group, the same in all charts; grey is a group that does not learn."""
    found: list[Key] = []
    for group in grouped(runs):
        number = sum(key.colour != GREY for key in found)
        learns = group.runs[0].results.get("learns", True)
        colour = COLOURS[number % len(COLOURS)] if learns else GREY
        found.append(Key(group.label, colour, number // len(COLOURS) % 3 if learns else 0))
    return found


def data_of(run: ReportedRun) -> dict[str, Any]:
    """The protocol of a run without what its seed decides: the files of few-shot training sets."""
    protocol = dict(run.results["protocol"])
    few = protocol.get("shots") or {}
    protocol["file_sizes"] = {
        task: {part: digits for part, digits in sizes.items() if part != "train" or task not in few}
        for task, sizes in (protocol.get("file_sizes") or {}).items()
    }
    return protocol


def copies(runs: Sequence[ReportedRun]) -> list[tuple[ReportedRun, ReportedRun]]:
    """The runs that differ from an earlier one in nothing, not even the seed, and that one."""
    first: dict[tuple[str, Any], ReportedRun] = {}
    pairs = [(run, first.setdefault((_method(run), run.results.get("seed")), run)) for run in runs]
    return [(run, earlier) for run, earlier in pairs if run is not earlier]


def _method(run: ReportedRun) -> str:
    """What is equal in the seeds of one method, and the progress; without a config, a run is alone."""
    results, settings = run.results, run.label if run.settings is None else dict(run.settings)
    key = [results["method"], results["tasks"], len(results["R"]), data_of(run), settings]
    return json.dumps(key, sort_keys=True)


def mean(values: Sequence[float]) -> float | None:
    """The mean; ``None`` without values.

    >>> mean([1.0, 2.0]), mean([])
    (1.5, None)
    """
    return statistics.fmean(values) if values else None


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean: Student's t from 3 values, SciPy's bootstrap from 10; ``None`` with fewer.

    >>> low, high = interval([69.0, 70.0, 71.0])
    >>> round(low, 2), round(high, 2)
    (67.52, 72.48)
    """
    if len(values) < 3:
        return None
    if len({*values}) == 1:
        return values[0], values[0]
    import numpy as np
    from scipy import stats  # which takes most of a second, for few pages

    if len(values) < 10:
        low, high = stats.t.interval(0.95, len(values) - 1, statistics.fmean(values), stats.sem(values))
    else:
        low, high = stats.bootstrap((values,), np.mean, random_state=np.random.default_rng(0)).confidence_interval
    return float(low), float(high)


def spread(values: Sequence[float], with_interval: bool = True) -> Pieces:
    r"""Mean, and below it standard deviation and 95 % interval, as far as the number of values allows.

    >>> spread([69.0, 70.0, 71.0])
    [('70.0', ''), ('±\xa01.0 [67.5,\xa072.5]', 'below')]
    >>> spread([69.0]), spread([])
    ([('69.0', '')], [('–', '')])
    """
    number: tuple[str, Tone] = (percent(mean(values)), "")
    if len(values) < 2:
        return [number]
    bounds = interval(values) if with_interval else None
    between = f" [{bounds[0]:.1f},\u00a0{bounds[1]:.1f}]" if bounds else ""  # a narrow cell breaks before it alone
    return [number, (f"±\u00a0{statistics.stdev(values):.1f}{between}", "below")]


def title_of(run: ReportedRun) -> str:
    """Method, seed and label of a run."""
    return f"{run_name(run.results)} ({run.label})"
