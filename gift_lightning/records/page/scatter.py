"""Transfer against Last of all methods."""

from collections.abc import Sequence
from typing import Any

import altair

from gift_lightning.records.page.groups import mean
from gift_lightning.records.page.looks import with_names
from gift_lightning.records.page.rows import rows
from gift_lightning.records.page.section import ReportedRun
from gift_lightning.records.published import Published


def scatter(runs: Sequence[ReportedRun], theirs: Sequence[Published], width: int | str = "container") -> Any:
    """The chart as Vega: a hollow mark for each published method, a full one for each measured, with its name.

    ``None`` without a point: a sequence of one task has no Transfer.
    """
    points: list[dict[str, Any]] = []
    for row in rows(runs, theirs):
        transfer, last = mean(row.metrics[0]), mean(row.metrics[2])
        if transfer is not None and last is not None:
            colours: dict[str, Any] = {
                "colour": row.key.colour,
                "fill": "transparent" if row.is_published else row.key.colour,
            }
            origin = "published" if row.is_published else "measured"
            numbers = {"transfer": round(transfer, 4), "last": round(last, 4)}
            points.append({"method": row.label, "from": origin, **numbers, **colours})
    if not points:
        return None
    tooltip = [altair.Tooltip("method:N"), altair.Tooltip("from:N")]
    tooltip += [altair.Tooltip(f"{name}:Q", format=".1f") for name in ("transfer", "last")]
    wide = altair.Scale(zero=False, padding=48)
    base = altair.Chart(altair.Data(values=points)).encode(
        x=altair.X("transfer:Q", title="Transfer (%)", scale=wide, axis=altair.Axis(tickCount=8)),
        y=altair.Y("last:Q", title="Last (%)", scale=wide),
    )
    marks = base.mark_point(size=110, strokeWidth=2, opacity=1).encode(
        stroke=altair.Stroke("colour:N", scale=None), fill=altair.Fill("fill:N", scale=None), tooltip=tooltip
    )
    names = base.mark_text(style="name").encode(text="method:N")
    return with_names(altair.layer(marks, names).properties(width=width, height=400), "method")
