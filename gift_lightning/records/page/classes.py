"""The section of the page on classes: what was forgotten, class by class and image by image."""

import io
from collections.abc import Sequence
from typing import Any

import altair
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from gift_lightning.console import visible
from gift_lightning.records.page.section import Cells, Chart, Picture, ReportedRun, Section
from gift_lightning.records.report.classes import (
    ClassAccuracy,
    ClassReport,
    ForgottenImage,
    class_report,
    has_predictions,
    tables,
)
from gift_lightning.records.report.words import any_letters, cut

MOST_RUNS = 4
"""Runs with charts, tables of classes and pictures: they take some hundred kilobytes each."""

_ROWS = 12
_COLUMNS, _WIDTH, _HEIGHT = 8, 1.25, 1.6  # inches of an image with its text


def classes_section(runs: Sequence[ReportedRun]) -> Section | None:
    """The section, of the runs that have written their predictions; ``None`` without any.

    Raises:
        InputError: a file with predictions is missing or damaged.
    """
    chosen = [run for run in runs if has_predictions(run.folder, run.results)]
    if not chosen:
        return None
    reports = [class_report(run.label, run.folder, run.results) for run in chosen]
    heads = ["run", *tables(reports[0])[0][1]]
    counts = [[report.label, *row] for report in reports for row in tables(report)[0][2]]
    parts: list[Chart | Picture | Cells] = [Cells(heads, counts, "Test images, by what became of them.")]
    for report in reports[:MOST_RUNS]:
        parts.append(Chart(_chart(report.classes), f"{report.label}: below the line is what was forgotten."))
        parts += [Cells(heads, rows, title) for title, heads, rows in tables(report, _ROWS)[1:] if rows]
        if report.forgotten:
            parts.append(_picture(report))
    note = (
        "Accuracy of each class of the pre-trained model, after its task and at the end; the classes that are confused"
        " most at the end; and images that were right after their task and are wrong at the end. The numbers are in"
        " predictions/ in the folder of a run, and 'report --classes RUN' prints all classes with --format markdown."
    )
    if len(reports) > MOST_RUNS:
        note += f" The first {MOST_RUNS} of {len(reports)} runs are shown class by class."
    return Section("Classes and forgotten images", note, parts)


def _chart(classes: Sequence[ClassAccuracy]) -> altair.LayerChart:
    """Accuracy at the end over that after the task, a point for each class."""
    points = [
        {"task": row.task, "class": row.name, "learned": round(row.learned, 2), "end": round(row.end, 2)}
        for row in classes
    ]
    scale = altair.Scale(domain=[0, 100])
    place: dict[str, Any] = {
        "x": altair.X("learned:Q", title="after its task (%)", scale=scale),
        "y": altair.Y("end:Q", title="at the end (%)", scale=scale),
    }
    line = altair.Chart(altair.Data(values=[{"learned": 0, "end": 0}, {"learned": 100, "end": 100}]))
    same = line.mark_line(color="gray", strokeDash=[4, 4]).encode(**place)
    dots = altair.Chart(altair.Data(values=points)).mark_circle(size=50, opacity=0.7)
    marked = dots.encode(
        **place,
        color=altair.Color("task:N", title="task", sort=None),
        tooltip=["task:N", "class:N", "learned:Q", "end:Q"],
    )
    return altair.layer(same, marked).properties(width=320, height=320)


def _picture(report: ClassReport) -> Picture:
    """The forgotten images with their classes and what they are taken for, a task after the other."""
    shown = report.forgotten
    width, height = _WIDTH * _COLUMNS, _HEIGHT * -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(width, height), dpi=96)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for position, image in enumerate(shown):
        left, top = _WIDTH * (position % _COLUMNS), _HEIGHT * (position // _COLUMNS)
        pixels = _read(image)
        if pixels is not None:
            side = _WIDTH - 0.1
            scale = max(pixels.size) / side
            across, down = pixels.width / scale / 2, pixels.height / scale / 2
            middle, centre = left + _WIDTH / 2, top + _WIDTH / 2
            extent = (middle - across, middle + across, centre + down, centre - down)
            axes.imshow(pixels, extent=extent, interpolation="nearest" if pixels.width < 96 else "antialiased")
        text = f"{cut(visible(image.name), 20)}\nnow {cut(visible(image.predicted), 16)}"
        axes.text(left + 0.06, top + _WIDTH, text, fontsize=6.5, va="top", parse_math=False)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    buffer = io.BytesIO()
    with any_letters():
        figure.savefig(buffer, format="webp", pil_kwargs={"quality": 80})
    alt = f"{len(shown)} images that {report.label} has forgotten"
    caption = f"{report.label}: images that were right after their task, with their class and what they are taken for."
    return Picture(buffer.getvalue(), alt, caption)


def _read(image: ForgottenImage) -> Image.Image | None:
    """The small copy of an image; ``None``, which leaves its place empty, if it is missing or damaged."""
    try:
        with Image.open(image.picture) as file:
            return file.convert("RGB")
    except OSError:
        return None
