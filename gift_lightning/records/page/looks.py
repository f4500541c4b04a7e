"""The looks of the charts, light and dark, and names beside the points of a chart."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair
import vl_convert

VL_VERSION = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
"""Of Vega-Lite, as Altair writes it and vl-convert reads it."""

_NARROW = 560  # pixels of a chart

_FONT = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def domain(values: Sequence[float]) -> Any:
    """The ends of an axis for these values: Vega's own, but around a single value, which Vega would round.

    >>> domain([6.5, 6.5])
    [5.5, 7.5]
    """
    return [values[0] - 1, values[0] + 1] if len({*values}) == 1 else altair.Undefined


def look(ink: str, soft: str, line: str) -> dict[str, Any]:
    """Vega's configuration with the colours of text, of what is aside, and of lines."""
    text = {
        "labelColor": soft,
        "titleColor": soft,
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 12,
    }
    axis = {
        **text,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "gridColor": line,
        "domainColor": line,
        "tickColor": line,
        "labelLimit": 0,
        "labelFlush": False,
        "titlePadding": 8,
    }
    return {
        "background": None,
        "font": _FONT,
        "view": {"stroke": None},
        "axis": axis,
        "legend": {**text, "labelLimit": 0},
        "header": {**text, "labelColor": ink, "labelFontSize": 13},
        "title": {"color": ink, "fontSize": 13, "anchor": "start"},
        "style": {"name": {"fill": ink, "fontSize": 12}},
    }


LOOKS = {"light": look("#1c2128", "#59636e", "#e4e8ec"), "dark": look("#e6edf3", "#9aa5b1", "#2b323a")}
"""The configuration of each theme."""


def with_names(chart: altair.TopLevelMixin, field: str, aside: str) -> dict[str, Any]:
    """A chart whose last layer are texts, as Vega: a text stands beside the mark of the first layer, on free ground.

    Vega-Lite cannot place texts. A name without free ground is left out.

    Args:
        chart: layers; the first one has a mark for each datum.
        field: of the datum, its name.
        aside: expression of Vega for the data whose names are left out in a narrow window.
    """
    spec: dict[str, Any] = vl_convert.vegalite_to_vega(specification(chart), vl_version=VL_VERSION)
    del spec["background"]  # the look has it
    marks, names = spec["marks"][0], spec["marks"][-1]
    names["from"] = {"data": marks["name"]}
    named = f"datum.datum.{field}"
    # in a narrow window, a name would stand beside the mark of another method
    names["encode"] = {"update": {"text": {"signal": f"width < {_NARROW} && {aside} ? '' : {named}"}}}
    places = ["right", "left", "top", "bottom", "top-right", "bottom-right", "top-left", "bottom-left"]
    names["transform"] = [
        {
            "type": "label",
            "size": {"signal": "[max(width, 100), height]"},
            "anchor": places,
            "offset": [5],
            "padding": 0,
        }
    ]
    return spec


def specification(chart: altair.TopLevelMixin | Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a chart; not validated, which would take a second for ten charts."""
    return dict(chart) if isinstance(chart, Mapping) else chart.to_dict(validate=False)
