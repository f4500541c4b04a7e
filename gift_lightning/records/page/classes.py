"""The section of the page on classes: what was forgotten, class by class and image by image."""

from collections.abc import Sequence
from typing import Any

import altair

from gift_lightning.records.page.section import Cells, Chart, Picture, ReportedRun, Section
from gift_lightning.records.page.shrunk import shrunk
from gift_lightning.records.report.class_tables import tables
from gift_lightning.records.report.classes import ClassAccuracy, class_report, has_predictions
from gift_lightning.records.run_folder import RunFolder

MOST_RUNS = 4
"""Runs with charts, tables of classes and pictures: they take some hundred kilobytes each."""

_ROWS = 12
_COUNTS = (
    "Test images that are right after their task (learned), of these wrong at the end (forgotten), and right at the end"
    " alone (gained)."
)


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
    parts: list[Chart | Picture | Cells] = [Cells(heads, counts, _COUNTS)]
    for run, report in zip(chosen[:MOST_RUNS], reports, strict=False):
        parts.append(
            Chart(
                _chart([task.task for task in report.tasks], report.classes),
                f"{report.label}: a point is a class; those below the line have lost images.",
            )
        )
        parts += [Cells(heads, rows, title) for title, heads, rows in tables(report, _ROWS)[1:] if rows]
        forgotten = RunFolder.at(run.folder).forgotten_png
        caption = f"{run.label}: images that were right after their task, with their class and what they are taken for."
        if (picture := shrunk(forgotten, f"Images that {run.label} has forgotten", caption)) is not None:
            parts.append(picture)
    note = (
        "Accuracy of each class of the pre-trained model, after its task and at the end; the classes that are confused"
        " most at the end; and images that were right after their task and are wrong at the end. The numbers are in"
        " predictions/ in the folder of a run, and report RUN --classes --format markdown prints all of them."
    )
    if len(reports) > MOST_RUNS:
        note += f" The first {MOST_RUNS} of {len(reports)} runs are shown class by class."
    return Section("Classes and forgotten images", note, parts)


def _chart(tasks: Sequence[str], classes: Sequence[ClassAccuracy]) -> altair.TopLevelMixin:
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
        color=altair.Color("task:N", title="task", sort=list(tasks), legend=altair.Legend(symbolLimit=20)),
        tooltip=["task:N", "class:N", "learned:Q", "end:Q"],
    )
    return altair.layer(same, marked).properties(width=320, height=320)
