"""Curves of an ablation: Transfer, Avg and Last against a numeric setting in which runs differ."""

import json
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import altair

from gift_lightning.records.page.course import PATTERNS
from gift_lightning.records.page.groups import COLOURS, Group, data_of, grouped
from gift_lightning.records.page.rows import METRICS
from gift_lightning.records.page.section import Cells, Chart, Grid, Key, ReportedRun, Section
from gift_lightning.records.report.words import NO_NUMBER

_LONGEST = 30  # letters of a value in the name of a line
_TOLD = 3  # settings in it

_LEGEND: dict[str, Any] = {"orient": "bottom", "direction": "vertical", "title": None, "labelLimit": 0}
_LEGEND |= {"symbolType": "stroke", "symbolSize": 400, "symbolStrokeWidth": 2}  # which shows dashes, as no circle does


class _Line(NamedTuple):
    """Groups that differ in one number, by its value, in rising order."""

    name: str
    values: dict[float, Group]


class _Sweep(NamedTuple):
    """A numeric setting, and a point of each line, value and metric."""

    setting: str
    points: list[dict[str, Any]]

    @property
    def keys(self) -> list[Key]:
        """The colour and pattern of each line."""
        names = dict.fromkeys(point["line"] for point in self.points)
        count = len(COLOURS)
        return [Key(name, COLOURS[place % count], place // count % len(PATTERNS)) for place, name in enumerate(names)]

    @property
    def metrics(self) -> list[str]:
        """Those that the runs have."""
        return [metric for metric in METRICS if any(point["metric"] == metric for point in self.points)]


def ablations(runs: Sequence[ReportedRun]) -> Section | None:
    """For each numeric setting in which alone some runs differ, Transfer, Avg and Last against it, over their seeds.

    The setting is found: runs belong to one line if all else is equal that can change a number, the data of their tasks
    too; the seed is no setting. A setting may have several lines, of methods or of the values of another setting.
    ``None`` if there is no such setting, among runs that are finished.

    Raises:
        InputError: the ``config.yaml`` of a run is damaged.
    """
    parts: list[Grid | Cells] = []
    for sweep in _sweeps(runs):
        charts = [_chart(sweep, metric).properties(width="container", height=200) for metric in sweep.metrics]
        shown = [Chart(chart, title=metric) for chart, metric in zip(charts, sweep.metrics, strict=True)]
        parts += [Grid(shown, sweep.keys), _table(sweep)]
    note = (
        "Runs that differ in one number, beside the seed: means over seeds, with one standard deviation to each side."
        " Accuracies are `metrics` in `results.json` of the runs, the setting is in `config.yaml`."
    )
    return Section("Ablations", note, parts) if parts else None


def ablation_pictures(runs: Sequence[ReportedRun], width: int) -> list[Any]:
    """The charts of each setting side by side, ``width`` pixels each, with the legend that a picture needs."""
    pictures = []
    for sweep in _sweeps(runs):
        legend = altair.Legend(**_LEGEND)
        charts = [_chart(sweep, m, legend).properties(width=width, height=200, title=m) for m in sweep.metrics]
        pictures.append(altair.concat(*charts, columns=len(charts), bounds="flush", spacing=70))
    return pictures


def _sweeps(runs: Sequence[ReportedRun]) -> Iterator[_Sweep]:
    groups = grouped([run for run in runs if run.results["complete"]])
    described = [_settings(group.runs[0]) for group in groups]
    for key in sorted({key for each in described for key, text in each.items() if _number(text) is not None}):
        if lines := _lines(key, described, groups):
            yield _Sweep(key.replace(".init_args", ""), [*_points(lines)])


def _settings(run: ReportedRun) -> dict[str, str]:
    """The settings that change numbers, the method, and the data."""
    data = json.dumps([run.results["tasks"], data_of(run)], sort_keys=True)
    return {**(run.settings or {}), "method": run.results["method"], "protocol": data}


def _number(text: str | None) -> float | None:
    """The number of a setting; ``None`` for any other."""
    return float(text) if text is not None and re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", text) else None


def _lines(key: str, described: Sequence[Mapping[str, str]], groups: Sequence[Group]) -> list[_Line]:
    """The groups with equal settings beside ``key``, as far as there are two values of it or more."""
    families: dict[str, dict[float, int]] = defaultdict(dict)
    for number, each in enumerate(described):
        value = _number(each.get(key))
        if value is not None:
            rest = {name: text for name, text in each.items() if name != key}
            families[json.dumps(rest, sort_keys=True)].setdefault(value, number)  # not the group of copies
    swept = {min(family.values()): family for family in families.values() if len(family) > 1}
    first = sorted(swept, key=lambda number: [_rank(text) for text in described[number].values()])
    names = _names([described[number] for number in first], [groups[number].runs[0].label for number in first])
    return [
        _Line(name, {value: groups[family[value]] for value in sorted(family)})
        for name, family in zip(names, (swept[number] for number in first), strict=True)
    ]


def _rank(text: str) -> tuple[bool, float, str]:
    """Numbers by their size, before other texts."""
    number = _number(text)
    return number is None, number or 0.0, text


def _names(described: Sequence[Mapping[str, str]], labels: Sequence[str]) -> list[str]:
    """Distinct names of lines: the method, and what else differs; the label of a run if that is long or not enough."""
    keys = dict.fromkeys(
        key for each in described for key in each if key.split(".")[-1] not in ("class_path", "method")
    )
    odd = [key for key in keys if key != "protocol" and len({each.get(key) for each in described}) > 1]
    told = [key for key in odd if _is_short(key, described)][:_TOLD]
    names = [
        ", ".join([each["method"], *(f"{_short(key)} {each[key]}" for key in told if key in each)])
        for each in described
    ]
    is_whole = len(told) == len(odd)
    return [
        name if is_whole and names.count(name) == 1 else f"{name} ({label})"
        for name, label in zip(names, labels, strict=True)
    ]


def _is_short(key: str, described: Sequence[Mapping[str, str]]) -> bool:
    """Whether a setting tells lines apart in few words, as those of the tasks do not."""
    return not key.startswith("data.tasks.") and all(len(each.get(key, "")) <= _LONGEST for each in described)


def _short(key: str) -> str:
    """The last name of a setting, and the place in its list."""
    found = re.search(r"[^.]+(\.\d+)*$", key)
    return found[0] if found else key


def _points(lines: Sequence[_Line]) -> Iterator[dict[str, Any]]:
    """Mean and standard deviation of each metric over the runs of a line with one value of the setting."""
    for line in lines:
        for value, group in line.values.items():
            for metric in METRICS:
                numbers = group.values(metric.lower())
                if numbers:
                    mean, spread = statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else 0.0
                    seeds = [str(run.results.get("seed")) for run in group.runs]
                    facts = {"mean": mean, "spread": spread, "low": mean - spread, "high": mean + spread}
                    names = {"line": line.name, "metric": metric, "seeds": ", ".join(seeds)}
                    yield {**names, "setting": value, "runs": len(numbers), **facts}


def _chart(sweep: _Sweep, metric: str, legend: altair.Legend | None = None) -> Any:
    """A metric against the setting, a line for each line of runs."""
    points = [point for point in sweep.points if point["metric"] == metric]
    values = sorted({point["setting"] for point in points})
    is_wide = values[0] > 0 and values[-1] >= 8 * values[0]
    ticks = altair.Axis(values=values, grid=False, labelExpr="datum.value", labelOverlap=True)
    x = altair.X("setting:Q", title=f"{sweep.setting} (log scale)" if is_wide else sweep.setting, axis=ticks)
    x = x.scale(type="log", nice=False, padding=16) if is_wide else x.scale(zero=False, nice=False, padding=16)
    scale = altair.Scale(zero=False, padding=8)
    y = altair.Y("mean:Q", title="accuracy (%)", scale=scale, axis=altair.Axis(tickCount=5))
    labels, colours = [key.label for key in sweep.keys], [key.colour for key in sweep.keys]
    colour = altair.Color("line:N", scale=altair.Scale(domain=labels, range=colours), legend=legend)
    shown = [
        altair.Tooltip("line:N", title="Runs"),
        altair.Tooltip("setting:Q", title=sweep.setting),
        altair.Tooltip("mean:Q", title=f"{metric}, mean (%)", format=".1f"),
        altair.Tooltip("spread:Q", title="Standard deviation", format=".1f"),
        altair.Tooltip("seeds:N", title="Seeds"),
    ]
    base = altair.Chart(altair.Data(values=points)).encode(x=x, color=colour)
    bars = base.mark_rule(strokeWidth=1.5).encode(y=altair.Y("low:Q", title="accuracy (%)"), y2="high:Q")
    patterns = altair.Scale(domain=labels, range=[PATTERNS[key.pattern] for key in sweep.keys])
    dash = altair.StrokeDash("line:N", scale=patterns, legend=legend)
    lines = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash)
    marks = base.mark_point(filled=True, opacity=1, size=45).encode(y=y, tooltip=shown)
    return altair.layer(bars, lines, marks)


def _table(sweep: _Sweep) -> Cells:
    rows, dots = [], []
    colours = {key.label: key.colour for key in sweep.keys}
    for line, value in dict.fromkeys((point["line"], point["setting"]) for point in sweep.points):
        found = {p["metric"]: p for p in sweep.points if (p["line"], p["setting"]) == (line, value)}
        cells = [_cell(found[metric]) if metric in found else NO_NUMBER for metric in METRICS]
        rows.append([line, f"{value:.12g}", *cells, _seeds(found.values())])
        dots.append(colours[line])
    other = len({point["seeds"] for point in sweep.points}) > 1
    caption = "The points are of different seeds, so that a part of the differences may be chance." if other else ""
    return Cells(["Runs", sweep.setting, *METRICS, "Seeds"], rows, caption, colours=dots)


def _seeds(points: Iterable[Mapping[str, Any]]) -> str:
    point = max(points, key=lambda point: int(point["runs"]))
    return f"{point['runs']} (seed{'s' * (point['runs'] > 1)} {point['seeds']})"


def _cell(point: Mapping[str, Any]) -> str:
    return f"{point['mean']:.1f}" + (f" ± {point['spread']:.1f}" if point["runs"] > 1 else "")
