"""The page: all sections in one file of HTML."""

import base64
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jinja2
import vl_convert

from gift_lightning.records.page import course, differences
from gift_lightning.records.page.ablation import ablations
from gift_lightning.records.page.classes import classes_section
from gift_lightning.records.page.comparison import comparison, tasks
from gift_lightning.records.page.features import features_section
from gift_lightning.records.page.groups import grouped
from gift_lightning.records.page.looks import LOOKS, VL_VERSION, specification
from gift_lightning.records.page.overfitting import overfitting
from gift_lightning.records.page.section import Cells, Chart, Grid, Matrix, Picture, ReportedRun, Section
from gift_lightning.records.page.validation import validation
from gift_lightning.records.published import Published

SECTIONS: tuple[Callable[[Sequence[ReportedRun]], Section | None], ...] = (
    course.curves,
    course.matrices,
    validation,
    ablations,
    course.losses,
    overfitting,
    course.costs,
    classes_section,
    course.replayed,
    features_section,
    differences.configs,
)
"""The sections below the comparison, in the order of the page; one without content returns ``None``."""


def page(runs: Sequence[ReportedRun], theirs: Sequence[Published] = (), baseline: str | None = None) -> str:
    """The page of ``runs`` beside published rows: HTML that loads nothing; the same runs give the same text.

    Args:
        runs: at least one, with distinct labels.
        theirs: published rows on the same tasks.
        baseline: label of the row from which differences are counted; else the first one that does not learn.

    Raises:
        InputError: no row is named ``baseline``, or a file of a run is damaged.
    """
    found = [comparison(runs, theirs, baseline), tasks(runs, theirs), *(section(runs) for section in SECTIONS)]
    specs: list[Any] = []
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gift_lightning.records.page", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        sections=[_view(section, specs) for section in found if section],
        warnings=differences.warnings(runs, theirs),
        specs=specs,  # those of the charts, for the template asks for it behind the sections
        looks=LOOKS,
        bundle=_scripts(),
        runs=[run.label for run in runs],
        methods=[group.label for group in grouped(runs)],
        sequences=list(dict.fromkeys(tuple(run.results["tasks"]) for run in runs)),
    )


@functools.cache
def _scripts() -> str:
    """Vega, Vega-Lite and their embedding, minified."""
    bundle: str = vl_convert.javascript_bundle(vl_version=VL_VERSION)  # type: ignore[call-arg]
    return bundle.replace("</script", "<\\/script")


def _view(section: Section, specs: list[Any]) -> dict[str, Any]:
    """What the template needs of a section; the JSON of its charts is added to ``specs``."""
    slug = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")
    parts = [_part(part, specs) for part in section.parts]
    return {"id": slug, "title": section.title, "note": section.note, "parts": parts}


def _part(part: Chart | Picture | Cells | Matrix | Grid, specs: list[Any]) -> dict[str, Any]:
    view: dict[str, Any] = {"kind": type(part).__name__, "part": part}
    if isinstance(part, Chart):
        specs.append(specification(part.chart))
        # with its axis, so that the page does not move while it is drawn
        view |= {"number": len(specs) - 1, "height": specs[-1].get("height", 0) + 50}
    elif isinstance(part, Picture):
        view["url"] = f"data:image/webp;base64,{base64.b64encode(part.data).decode()}"
    elif isinstance(part, Grid):
        view["parts"] = [_part(inner, specs) for inner in part.parts]
    return view
