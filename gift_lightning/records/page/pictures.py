"""The charts that compare methods, as PNG files for a paper or a README."""

from collections.abc import Sequence
from pathlib import Path

import altair
import vl_convert

from gift_lightning.files import atomic_write
from gift_lightning.records.page import course
from gift_lightning.records.page.ablation import ablation_pictures
from gift_lightning.records.page.groups import keys
from gift_lightning.records.page.looks import LOOKS, VL_VERSION, specification
from gift_lightning.records.page.overfitting import overfitting_picture
from gift_lightning.records.page.scatter import scatter_of_width
from gift_lightning.records.page.section import ReportedRun
from gift_lightning.records.published import Published

_LOOK = LOOKS["light"] | {"background": "white", "font": "Arial, Helvetica, sans-serif", "padding": 12}
_ROW = 3  # tasks side by side
_WIDTH = 250  # pixels of a task's chart


def write_pictures(folder: Path, runs: Sequence[ReportedRun], theirs: Sequence[Published] = ()) -> list[Path]:
    """Write ``curves.png``, and ``transfer_last.png`` if there is a Transfer, into ``folder``; their paths.

    Also ``ablation.png`` and ``overfitting.png`` if the page has these sections; further settings are numbered. Of very
    many tasks, some are drawn, evenly spread, and the picture says how many.

    Raises:
        InputError: a file cannot be written, or a ``metrics.csv`` is damaged.
    """
    tasks, drawn_tasks = course.tasks_of(runs), course.drawn_tasks(runs)
    title = f"{len(drawn_tasks)} of {len(tasks)} tasks" if len(drawn_tasks) < len(tasks) else ""
    # as many entries of the legend side by side as fit: it is never cut
    longest = max(len(key.label) for key in keys(runs))
    legend = altair.Legend(orient="bottom", title=None, labelLimit=0, columns=max(1, 3 * _WIDTH // (7 * longest + 40)))
    charts = [course.curve(runs, task, legend).properties(width=_WIDTH, height=150, title=task) for task in drawn_tasks]
    drawn = {"curves.png": _png(altair.concat(*charts, columns=_ROW, title=title))}
    points = scatter_of_width(runs, theirs, 3 * _WIDTH)
    if points is not None:
        drawn["transfer_last.png"] = _png(points)
    for number, sweep in enumerate(ablation_pictures(runs, _WIDTH), 1):
        drawn["ablation.png" if number == 1 else f"ablation_{number}.png"] = _png(sweep)
    losses = overfitting_picture(runs, 3 * _WIDTH)
    if losses is not None:
        drawn["overfitting.png"] = _png(losses)
    for name, content in drawn.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(content)
    return [folder / name for name in drawn]


def _png(chart: altair.TopLevelMixin) -> bytes:
    content: bytes = vl_convert.vegalite_to_png(specification(chart), vl_version=VL_VERSION, config=_LOOK, scale=2)
    return content
