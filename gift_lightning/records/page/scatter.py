"""Transfer against Last of all methods."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import altair

from gift_lightning.records.page.groups import GREY, mean
from gift_lightning.records.page.looks import domain, with_names
from gift_lightning.records.page.rows import rows
from gift_lightning.records.page.section import ReportedRun
from gift_lightning.records.published import Published

_HEIGHT = 420  # pixels
_MARGINS = {"transfer": 72, "last": 48}  # pixels between the edges and the outer marks: room for names
_LETTER = 6.6  # pixels

# places of a name beside its mark: alignment, and the middle of the line in pixels; the far ones have a leader
_PLACES: tuple[tuple[Literal["left", "center", "right"], int, int], ...] = (
    *(("left", 9, 0), ("right", -9, 0), ("center", 0, -15), ("center", 0, 15)),
    *(("left", 5, -13), ("left", 5, 13), ("right", -5, -13), ("right", -5, 13)),
    *(place for far in (30, 45, 60, 75) for place in (("center", 0, -far), ("center", 0, far))),
    *(place for far in (30, 45, 60, 75) for place in (("left", 12, far), ("right", -12, -far))),
)


def scatter(runs: Sequence[ReportedRun], theirs: Sequence[Published]) -> dict[str, Any] | None:
    """The chart for the page: a hollow mark for each published method, a full one for each measured, with its name.

    ``None`` without a point: a sequence of one task has no Transfer.
    """
    points = _points(runs, theirs)
    if not points:
        return None
    base = _base(points)
    names = base.mark_text(style="name").encode(text="method:N")
    chart = altair.layer(_marks(base), names).properties(width="container", height=_HEIGHT).configure_view(stroke=None)
    return with_names(chart, "method", aside="datum.datum.from == 'published'")


def scatter_of_width(runs: Sequence[ReportedRun], theirs: Sequence[Published], width: int) -> Any:
    """The same chart ``width`` pixels wide, for a picture; its names are placed here, for that needs a browser.

    ``None`` without a point.
    """
    points = _points(runs, theirs)
    if not points:
        return None
    _place(points, width)
    base = _base(points)
    names = []
    for place in sorted({point["place"] for point in points if point["place"] is not None}):
        here, (align, dx, dy) = base.transform_filter(altair.datum.place == place), _PLACES[place]
        if abs(dy) > 15:
            leader = here.mark_rule(color=GREY, x2Offset=dx * 0.8, y2Offset=dy - math.copysign(8, dy))
            names.append(leader.encode(x2="transfer:Q", y2="last:Q"))
        names.append(here.mark_text(style="name", align=align, dx=dx, dy=dy, baseline="middle").encode(text="method:N"))
    return altair.layer(*names, _marks(base)).properties(width=width, height=_HEIGHT)


def without_point(runs: Sequence[ReportedRun]) -> list[str]:
    """The labels of measured methods without a Transfer, which the chart lacks."""
    return [row.label for row in rows(runs, []) if mean(row.metrics[0]) is None]


def _points(runs: Sequence[ReportedRun], theirs: Sequence[Published]) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = []
    for row in rows(runs, theirs):
        transfer, last = mean(row.metrics[0]), mean(row.metrics[2])
        if transfer is not None and last is not None:
            fill = "transparent" if row.is_published else row.key.colour
            point = {"method": row.marked_label, "from": "published" if row.is_published else "measured", "fill": fill}
            points.append({**point, "transfer": round(transfer, 4), "last": round(last, 4), "colour": row.key.colour})
    return points


def _base(points: Sequence[dict[str, Any]]) -> altair.Chart:
    x, y = (_scale([point[name] for point in points], margin) for name, margin in _MARGINS.items())
    return altair.Chart(altair.Data(values=points)).encode(
        x=altair.X("transfer:Q", title="Transfer (%)", scale=x, axis=altair.Axis(tickCount=8)),
        y=altair.Y("last:Q", title="Last (%)", scale=y, axis=altair.Axis(tickCount=7)),
    )


def _scale(values: Sequence[float], margin: int) -> altair.Scale:
    return altair.Scale(domain=domain(values), zero=False, nice=False, padding=margin)


def _marks(base: altair.Chart) -> altair.Chart:
    tooltip = [altair.Tooltip("method:N"), altair.Tooltip("from:N")]
    tooltip += [altair.Tooltip(f"{name}:Q", format=".1f") for name in ("transfer", "last")]
    colours = {"stroke": altair.Stroke("colour:N", scale=None), "fill": altair.Fill("fill:N", scale=None)}
    return base.mark_point(size=110, strokeWidth=2, opacity=1).encode(**colours, tooltip=tooltip)


def _place(points: list[dict[str, Any]], width: int) -> None:
    """Give each point the first place for its name that no mark and no earlier name takes, or none."""
    where = zip(_pixels(points, "transfer", width), _pixels(points, "last", _HEIGHT), strict=True)
    middles = [(x, _HEIGHT - y) for x, y in where]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in middles]
    for point, (x, y) in zip(points, middles, strict=True):
        point["place"], size = None, _LETTER * len(point["method"])
        for place, (align, dx, dy) in enumerate(_PLACES):
            left = x + dx - size * {"left": 0.0, "center": 0.5, "right": 1.0}[align]
            box = (left, y + dy - 7, left + size, y + dy + 7)
            if left >= 0 and left + size <= width and not any(_overlap(box, other) for other in taken):
                point["place"] = place
                taken.append(box)
                break


def _pixels(points: Sequence[dict[str, Any]], name: str, size: int) -> list[float]:
    low, high = min(point[name] for point in points), max(point[name] for point in points)
    margin = _MARGINS[name]
    if low == high:
        return [size / 2] * len(points)
    return [margin + (point[name] - low) / (high - low) * (size - 2 * margin) for point in points]


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
