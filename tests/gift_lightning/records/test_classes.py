"""Files of predictions, and what reports of classes make of them: names are texts in each format."""

import csv
import io
from pathlib import Path
from typing import Any

import altair
import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from gift_lightning.console import plain_console
from gift_lightning.errors import InputError
from gift_lightning.records.page.classes import classes_section
from gift_lightning.records.page.section import Cells, Chart, Grid, Picture, ReportedRun
from gift_lightning.records.page.write import page
from gift_lightning.records.predictions import (
    Predictions,
    forgotten,
    read_predictions,
    write_predictions,
)
from gift_lightning.records.report.class_tables import classes_csv, classes_terminal, classes_text
from gift_lightning.records.report.classes import ClassAccuracy, class_report
from gift_lightning.records.report.forgotten import forgotten_images, plot_forgotten
from gift_lightning.records.run_folder import RunFolder

HOSTILE = ["<script>alert(1)</script>", "=cmd()", r"\input{x}", "a | b", "$x_1$", "[bold]7 'quoted', name"]
LABELS = [0, 1, 2, 3, 4, 5, 0, 1]
MODELS = {0: [1] * 8, 1: LABELS, 2: [1, 1, 0, 3, 5, 4, 0, 0]}
"""Predicted classes after so many tasks."""


def predictions(first: list[int], names: list[str] = HOSTILE) -> Predictions:
    numbers = np.array(first)
    classes = np.stack([numbers, (numbers + 1) % len(names)], 1)
    shares = np.tile(np.array([0.75, 0.25], dtype=np.float32), (len(first), 1))
    paths = ["a,b.jpg", "=c.jpg", '"', "x y.png", "", "", "", "odd\n\udc80"]
    return Predictions(paths, np.array(LABELS), classes, shares, dict(enumerate(names)))


def test_a_task_with_one_class_has_no_confusions(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path / "run")
    shares = np.ones((3, 1), dtype=np.float32)
    for learned in range(2):
        one = Predictions([""] * 3, np.zeros(3, dtype=np.int64), np.zeros((3, 1), dtype=np.int64), shares, {0: "x"})
        write_predictions(folder.predictions_csv(learned, 0), one)
    report = class_report("a", folder.path, {"tasks": ["A"], "R": [[100.0]], "zero_shot": [100.0]})
    assert not report.confusions and [row.end for row in report.classes] == [100.0]
    assert classes_csv([report]).splitlines()[1].endswith(",100.0000,100.0000,0.0000")


@pytest.fixture
def run(tmp_path: Path) -> ReportedRun:
    """A run of two tasks with the same predictions on both, but for what comes before a task is learned."""
    folder = RunFolder.at(tmp_path / "run")
    for learned, first in MODELS.items():
        for task in range(2):
            write_predictions(folder.predictions_csv(learned, task), predictions(first))
    images = [(Image.new("RGB", (200, 100), (image * 30, 0, 0)), 0) for image in range(8)]
    plot_forgotten(folder, [HOSTILE[0], "second"], [images, images])
    accuracy = {learned: predictions(first).accuracy for learned, first in MODELS.items()}
    results: dict[str, Any] = {
        "method": "Finetune",
        "protocol": {"id": "0"},
        "cost": {},
        "complete": True,
        "tasks": [HOSTILE[0], "second"],
        "zero_shot": [accuracy[0]] * 2,
        "R": [[accuracy[1]] * 2, [accuracy[2]] * 2],
    }
    return ReportedRun("a run", folder.path, results)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = predictions(MODELS[2])
    write_predictions(tmp_path / "x.csv", written)
    read = read_predictions(tmp_path / "x.csv")
    assert (read.labels == written.labels).all() and (read.classes == written.classes).all()
    assert (read.probabilities == written.probabilities).all() and read.names == written.names
    assert read.images == [*written.images[:-1], r"odd\n\udc80"]
    assert read.accuracy == written.accuracy == 37.5
    for row in csv.reader(io.StringIO((tmp_path / "x.csv").read_text())):
        assert not [cell for cell in row if cell[0] in "=+-@"]


@pytest.mark.parametrize("text", ["", "image,label\n", "image,label,class_1,probability_1\n0,x,1 a,0.5\n", "\0"])
def test_a_damaged_file_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match="damaged"):
        read_predictions(tmp_path / "x.csv")


def test_lines_out_of_place_are_told(run: ReportedRun) -> None:
    file = RunFolder.at(run.folder).predictions_csv(2, 0)
    head, *lines = file.read_text().splitlines()
    file.write_text("\n".join([head, *lines[::-1]]))
    with pytest.raises(InputError, match=r"task01.csv is damaged"):
        class_report(run.label, run.folder, run.results)
    swapped = predictions(MODELS[2])._replace(
        labels=np.array(LABELS[::-1]), classes=predictions(MODELS[2]).classes[::-1]
    )
    write_predictions(file, swapped)  # the accuracy is the same
    with pytest.raises(InputError, match=r"after00/task01.csv and .*after02/task01.csv have other images or labels"):
        class_report(run.label, run.folder, run.results)


def test_what_was_forgotten(run: ReportedRun) -> None:
    assert forgotten(predictions(MODELS[1]), predictions(MODELS[2])) == [0, 2, 4, 5, 7]
    report = class_report(run.label, run.folder, run.results)
    first, second = report.tasks
    assert first[1:] == (8, 8, 5, 0) and second[1:] == (8, 3, 0, 0)  # of the second task, the end is the same model
    accuracies = {row.name: row for row in report.classes if row.task != "second"}
    assert accuracies["=cmd()"] == ClassAccuracy(HOSTILE[0], "=cmd()", 2, 100.0, 100.0, 50.0)
    assert accuracies["$x_1$"][3:] == (0.0, 100.0, 0.0)
    taken = {(pair.name, pair.predicted): pair.times for pair in report.confusions if pair.task == "second"}
    assert taken[HOSTILE[0], "=cmd()"] == 1 and sum(taken.values()) == 5
    (images,) = forgotten_images(RunFolder.at(run.folder), 2)
    assert images.task == 0 and images.images == [0, 2, 4, 5, 7]
    assert images.names[0] == (HOSTILE[0], HOSTILE[1])


def test_predictions_of_other_results_are_refused(run: ReportedRun) -> None:
    with pytest.raises(InputError, match="is not of these results"):
        class_report("x", run.folder, {**run.results, "zero_shot": [1.0, 1.0]})


def test_names_are_texts_in_each_format(run: ReportedRun) -> None:
    report = class_report(run.label, run.folder, run.results)
    console = plain_console(width=240, record=True, file=io.StringIO())
    console.print(classes_terminal(report))
    shown = console.export_text()
    assert all(name in shown for name in HOSTILE)
    html = MarkdownIt("commonmark").enable("table").render(classes_text(report, "markdown"))
    assert "<script>" not in html and html.count("&lt;script&gt;") > 3 and ">a | b</td>" in html
    assert r"\input" not in classes_text(report, "latex") and r"\textbackslash{}input" in classes_text(report, "latex")
    cells = [cell for row in csv.reader(io.StringIO(classes_csv([report]))) for cell in row]
    assert "'=cmd()" in cells and not [cell for cell in cells if cell.startswith("=")]


def test_the_section_of_the_page(run: ReportedRun) -> None:
    section = classes_section([run, ReportedRun("other", run.folder.parent / "other", run.results)])
    assert section is not None and section.note.endswith(
        "Runs without predictions, or with files of some rows alone: other."
    )
    counts, *names = [part for part in section.parts if isinstance(part, Cells)]
    assert counts.heads == ["Run", HOSTILE[0], "all"] and [row[1:] for row in counts.rows] == [["5 of 8", "5 of 8"]]
    assert [row[0] for row in names[0].rows].count("=cmd()") == 2, "of two tasks"
    (grid,) = [part for part in section.parts if isinstance(part, Grid)]
    (chart,) = [part for part in grid.parts if isinstance(part, Chart)]
    assert isinstance(chart.chart, altair.LayerChart) and "=cmd()" in chart.chart.to_json()
    (picture,) = [part for part in section.parts if isinstance(part, Picture)]
    with Image.open(io.BytesIO(picture.data)) as image:
        assert image.format == "WEBP" and image.width == 1000
    assert classes_section([ReportedRun("other", run.folder.parent / "other", run.results)]) is None
    assert "<script>alert" not in page([run])
    RunFolder.at(run.folder).forgotten_png.write_bytes(b"")
    with pytest.raises(InputError, match=r"forgotten.png is damaged"):
        page([run])
