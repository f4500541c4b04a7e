"""Curves of an ablation: Transfer, Avg and Last against the one number in which the settings of runs differ."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair

from gift_lightning.records.page.section import Cells, Chart, ReportedRun, Section
from gift_lightning.records.report.words import NO_NUMBER, metrics_of
from gift_lightning.records.run_folder import RunFolder

METRICS = ("Transfer", "Avg", "Last")

_INDIFFERENT = frozenset(
    {"activation_checkpointing", "cache", "compile", "device", "eval_batch_size", "folder", "num_workers", "root"}
)
"""Settings that say where or how fast something runs. ``folder`` is that of a task or of the replay images, whose name
has the other settings in it; the folder of a task has a fingerprint in ``results.json``."""


def ablation_section(runs: Sequence[ReportedRun]) -> Section | None:
    """Lines of Transfer, Avg and Last against the numeric setting that runs differ in, seeds as mean and spread.

    ``None`` if the finished runs differ in no setting of ``model`` or ``data``, in several, or in one that is no number;
    or if their tasks have other data. The seed is no setting, and neither are names, places and speeds.

    Raises:
        InputError: the ``config.yaml`` of a run is missing or damaged.
    """
    finished = [run for run in runs if run.results["complete"]]
    if len({_data_of(run.results) for run in finished}) != 1:
        return None
    settings = [_settings(RunFolder.at(run.folder).read_config()) for run in finished]
    key = _only_difference(settings)
    if key is None:
        return None
    groups: dict[float, list[Mapping[str, float | None]]] = {}
    for value, run in sorted(((each[key], run) for each, run in zip(settings, finished, strict=True)), key=_value):
        groups.setdefault(value, []).append(metrics_of(run.results))
    points = [point for value, group in groups.items() for point in _points(value, group)]
    name = key.replace(".init_args", "")
    note = (
        f"The runs differ in {name} alone, beside the seed. Lines join the means over seeds; a bar is one standard"
        " deviation to each side. The numbers are in results.json of the runs, the setting in config.yaml."
    )
    return Section(f"Ablation of {name.rpartition('.')[2]}", note, (Chart(_chart(points, name)), _table(points, name)))


def _data_of(results: Mapping[str, Any]) -> str:
    """What must be equal for the accuracies of two runs to be compared."""
    protocol = results["protocol"]
    return repr((results["tasks"], protocol.get("fingerprints"), protocol.get("label_space")))


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``model`` and ``data`` that change numbers, flat."""
    return {key: leaf for part in ("model", "data") for key, leaf in _leaves(config[part], part)}


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in _INDIFFERENT:
                yield from _leaves(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{key}.{number}")
    else:
        yield key, value


def _only_difference(settings: Sequence[Mapping[str, Any]]) -> str | None:
    """The key of the only setting that is not equal in all, if it is a number in each."""
    first = settings[0]
    differing = {key for each in settings for key in first.keys() | each.keys() if first.get(key) != each.get(key)}
    if len(differing) != 1:
        return None
    [key] = differing
    numbers = [each.get(key) for each in settings]
    return key if all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers) else None


def _value(pair: tuple[float, ReportedRun]) -> float:
    return pair[0]


def _points(value: float, group: Sequence[Mapping[str, float | None]]) -> Iterator[dict[str, Any]]:
    """Mean and standard deviation of each metric over the runs with one value of the setting."""
    for metric in METRICS:
        numbers = [number for run in group if (number := run.get(metric.lower())) is not None]
        if numbers:
            mean, spread = statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else 0.0
            ends = {"low": mean - spread, "high": mean + spread}
            yield {"setting": value, "metric": metric, "mean": mean, "spread": spread, "runs": len(numbers), **ends}


def _chart(points: Sequence[Mapping[str, Any]], name: str) -> altair.TopLevelMixin:
    values = sorted({point["setting"] for point in points})
    is_wide = values[0] > 0 and values[-1] >= 20 * values[0]
    x = altair.X("setting:Q").title(name).axis(values=values, grid=False)
    x = x.scale(type="log" if is_wide else "linear", zero=False, padding=20)
    y = altair.Y("mean:Q").title("Accuracy (%)").scale(zero=False)
    colour = altair.Color("metric:N").title(None).sort(METRICS).legend(orient="top")
    shown = [
        altair.Tooltip("metric:N", title="Metric"),
        altair.Tooltip("setting:Q", title=name),
        altair.Tooltip("mean:Q", title="Mean (%)", format=".1f"),
        altair.Tooltip("spread:Q", title="Standard deviation", format=".1f"),
        altair.Tooltip("runs:Q", title="Runs"),
    ]
    base = altair.Chart(altair.InlineData(values=[dict(point) for point in points])).encode(x=x, color=colour)
    lines = base.mark_line(point=altair.OverlayMarkDef(size=60)).encode(y=y, tooltip=shown)
    bars = base.mark_rule(strokeWidth=1.5).encode(y=altair.Y("low:Q").scale(zero=False), y2="high:Q")
    return altair.layer(bars, lines).properties(width="container", height=280)


def _table(points: Sequence[Mapping[str, Any]], name: str) -> Cells:
    rows = []
    for value in dict.fromkeys(point["setting"] for point in points):
        of_value = {point["metric"]: point for point in points if point["setting"] == value}
        cells = [_cell(of_value[metric]) if metric in of_value else NO_NUMBER for metric in METRICS]
        rows.append([f"{value:g}", *cells, str(max(point["runs"] for point in of_value.values()))])
    return Cells([name, *METRICS, "Runs"], rows)


def _cell(point: Mapping[str, Any]) -> str:
    return f"{point['mean']:.1f}" + (f" ± {point['spread']:.1f}" if point["runs"] > 1 else "")
