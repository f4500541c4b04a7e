"""The page: all sections in one file of HTML."""

import base64
from collections.abc import Callable, Sequence
from typing import Any

import altair
import jinja2
import vl_convert

from gift_lightning.records.page import course, differences
from gift_lightning.records.page.comparison import comparison, tasks
from gift_lightning.records.page.section import Cells, Chart, Picture, ReportedRun, Section
from gift_lightning.records.published import Published

SECTIONS: tuple[Callable[[Sequence[ReportedRun]], Section | None], ...] = (
    tasks,
    course.curves,
    course.matrices,
    course.losses,
    course.costs,
    course.replayed,
    differences.configs,
)
"""The sections below the comparison, in the order of the page; one without content returns ``None``."""

_MANY = 4  # parts of a section, beyond which they are collapsed
_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


def page(runs: Sequence[ReportedRun], theirs: Sequence[Published] = (), baseline: str | None = None) -> str:
    """The page of ``runs`` beside published rows: HTML that loads nothing; the same runs give the same text.

    Args:
        runs: at least one, with distinct labels.
        theirs: published rows on the same tasks.
        baseline: label of the row from which differences are counted.

    Raises:
        InputError: no row is named ``baseline``, or a file of a run is damaged.
    """
    found = [differences.warnings(runs), comparison(runs, theirs, baseline), *(section(runs) for section in SECTIONS)]
    sections = [section for section in found if section]
    specs: list[dict[str, Any]] = []
    views = [{"title": s.title, "note": s.note, "parts": [_view(part, specs) for part in s.parts]} for s in sections]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gift_lightning.records.page", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle = vl_convert.javascript_bundle(vl_version=version).replace("</script", "<\\/script")
    return environment.get_template("page.html").render(
        sections=views, many=_MANY, specs=specs, bundle=bundle, runs=[run.label for run in runs]
    )


def _view(part: Chart | Picture | Cells, specs: list[dict[str, Any]]) -> dict[str, Any]:
    """What the template needs of a part; the chart's JSON is added to ``specs``."""
    if isinstance(part, Chart):
        specs.append(part.chart.to_dict())
        return {"kind": "chart", "caption": part.caption}
    if isinstance(part, Picture):
        kind = next(kind for start, kind in _MAGIC.items() if part.data.startswith(start))
        data = base64.b64encode(part.data).decode()
        return {"kind": "picture", "caption": part.caption, "alt": part.alt, "url": f"data:{kind};base64,{data}"}
    return {"kind": "cells", "caption": part.caption, "heads": part.heads, "rows": part.rows}
