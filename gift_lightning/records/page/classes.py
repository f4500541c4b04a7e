"""The section of the page on classes: what was forgotten, class by class and image by image."""

from collections.abc import Sequence
from typing import Any

import altair

from gift_lightning.records.page.groups import COLOURS, GREY, grouped, title_of
from gift_lightning.records.page.section import Cells, Chart, Grid, Key, Picture, ReportedRun, Section
from gift_lightning.records.page.shrunk import shrunk
from gift_lightning.records.report.class_tables import tables
from gift_lightning.records.report.classes import ClassReport, class_report, has_predictions
from gift_lightning.records.run_folder import RunFolder

MOST_RUNS = 3
"""Runs with tables of classes and pictures: they take a hundred kilobytes each, and much of the page."""

_MOST_CHARTS = 12
_ROWS = 8


def classes_section(runs: Sequence[ReportedRun]) -> Section | None:
    """The section, of the runs that have written their predictions; ``None`` without any.

    Raises:
        InputError: a file with predictions is missing or damaged, or a picture is damaged.
    """
    chosen = [run for run in runs if has_predictions(run.folder, run.results)]
    if not chosen:
        return None
    reports = [class_report(title_of(run), run.folder, run.results) for run in chosen]
    names = list(dict.fromkeys(row.task for report in reports for row in report.tasks))
    keys = [Key(name, COLOURS[place % len(COLOURS)]) for place, name in enumerate(names)]
    charts = [Chart(_chart(report, keys), title=report.label) for report in reports[:_MOST_CHARTS]]
    parts: list[Chart | Picture | Cells | Grid] = [Grid(charts, keys)]
    if any(len(report.tasks) > 1 for report in reports):
        parts.insert(0, _counts(reports))
    firsts = {group.runs[0].label for group in grouped(chosen)}
    ordered = sorted(zip(chosen, reports, strict=True), key=lambda pair: pair[0].label not in firsts)  # of each method
    for run, report in ordered[:MOST_RUNS]:
        parts += [_names_first(heads, rows, title) for title, heads, rows in tables(report, _ROWS)[1:] if rows]
        alt = f"Images that {report.label} has forgotten"
        if (picture := shrunk(RunFolder.at(run.folder).forgotten_png, alt, report.label)) is not None:
            parts.append(picture)
    note = "An image is forgotten that was right after its task and is wrong at the end. In the charts, a point is a"
    note += " class, and those below the line have lost images. The numbers follow from `predictions` in the folder of"
    note += " a run; `report RUN --classes --format markdown` prints all classes."
    if len(reports) > MOST_RUNS:
        note += f" Tables and pictures are those of {MOST_RUNS} of {len(reports)} runs, of one of each method first."
    if missing := [run.label for run in runs if run not in chosen]:
        note += f" Runs without predictions, or with files of some rows alone: {', '.join(missing)}."
    return Section("Classes and forgotten images", note, parts)


def _counts(reports: Sequence[ClassReport]) -> Cells:
    """How many of the images that were right after their task are forgotten, of each run and task but its latest."""
    rows, names = [], list(dict.fromkeys(row.task for report in reports for row in report.tasks[:-1]))
    for report in reports:
        texts = {row.task: f"{row.forgotten} of {row.learned}" for row in report.tasks[:-1]}
        lost, learned = (sum(getattr(row, count) for row in report.tasks[:-1]) for count in ("forgotten", "learned"))
        rows.append([report.label, *(texts.get(name, "") for name in names), f"{lost} of {learned}"])
    return Cells(["Run", *names, "all"], rows, title="Test images forgotten, of those right after their task")


def _names_first(heads: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Cells:
    """A table of classes with the class, not the task, in the first column, which the page has to the left."""
    return Cells([heads[1], heads[0], *heads[2:]], [[row[1], row[0], *row[2:]] for row in rows], title=title)


def _chart(report: ClassReport, keys: Sequence[Key]) -> altair.TopLevelMixin:
    """Accuracy at the end over that after the task, a point for each class."""
    points = [
        {"task": row.task, "class": row.name, "learned": round(row.learned, 2), "end": round(row.end, 2)}
        for row in report.classes
    ]
    scale, domain = altair.Scale(domain=[0, 100]), [key.label for key in keys]
    place: dict[str, Any] = {
        "x": altair.X("learned:Q", title="after its task (%)", scale=scale),
        "y": altair.Y("end:Q", title="at the end (%)", scale=scale),
    }
    line = altair.Chart(altair.Data(values=[{"learned": 0, "end": 0}, {"learned": 100, "end": 100}]))
    colours = altair.Scale(domain=domain, range=[key.colour for key in keys])
    marked = (
        altair.Chart(altair.Data(values=points))
        .mark_circle(size=45, opacity=0.75)
        .encode(
            **place,
            color=altair.Color("task:N", scale=colours, legend=None),
            tooltip=["task:N", "class:N", "learned:Q", "end:Q"],
        )
    )
    same = line.mark_line(color=GREY, strokeDash=[4, 4]).encode(**place)
    return altair.layer(same, marked).properties(width="container", height=260)
