"""Runs that differ in the seed alone, as one method with a mean and its uncertainty."""

import functools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gift_lightning.records.page.section import Key, Pieces, ReportedRun, Tone
from gift_lightning.records.report.words import metrics_of, percent, run_name
from gift_lightning.records.run_folder import RunFolder

_INDIFFERENT = ("run", "seed_everything", "data.root", "data.cache", "data.replay.init_args.folder", "trainer.logger")
"""Settings that name a run or a place: they change no number."""

_SPEED = frozenset({"activation_checkpointing", "compile", "device", "eval_batch_size", "num_workers"})
"""Settings of any object that say how fast something runs."""

COLOURS = ("#3b7dd8", "#e8710a", "#12a17c", "#b44ac0", "#d9a400", "#e0405e", "#1aa3b8", "#7a9a01", "#8a63d2", "#a0643c")
"""Of methods, and of parts of a loss: to tell apart on white and on black."""

GREY = "#8b949e"
"""Of what is published, or does not learn."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed alone.

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
    """The runs in groups, in the order of their first runs; labels are methods, else labels of the first runs."""
    groups: dict[str, list[ReportedRun]] = {}
    for run in runs:
        results = run.results
        key = [results["method"], results["protocol"], results["tasks"], sorted(settings(run).items())]
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(run)
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


def settings(run: ReportedRun) -> dict[str, str]:
    """The settings of ``config.yaml`` that can change a number, by their dotted keys; empty without the file."""
    path = RunFolder.at(run.folder).config
    if not path.is_file():
        return {}
    state = path.stat()
    return _settings(run.folder, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=256)
def _settings(folder: Path, time: int, size: int) -> dict[str, str]:
    """The settings of a folder whose config has this ``time`` and ``size``: each section asks for them."""
    found: dict[str, str] = {}
    _collect(RunFolder.at(folder).read_config(), "", found)
    return {key: text for key, text in found.items() if not _is_indifferent(key)}


def _is_indifferent(key: str) -> bool:
    is_speed = key.rpartition(".")[2] in _SPEED
    return is_speed or any(key == name or key.startswith(f"{name}.") for name in _INDIFFERENT)


def _collect(value: Any, key: str, found: dict[str, str]) -> None:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            _collect(inner, f"{key}.{name}" if key else str(name), found)
    else:
        found[key] = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


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
