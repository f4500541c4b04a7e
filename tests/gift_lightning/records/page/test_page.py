"""The page of runs: its numbers, hostile names, its size, and its looks in a browser."""

import html
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from gift_lightning.errors import InputError
from gift_lightning.records.page.comparison import comparison, tasks
from gift_lightning.records.page.course import costs, curve, drawn_tasks, replayed
from gift_lightning.records.page.differences import differing, reference
from gift_lightning.records.page.groups import interval, spread
from gift_lightning.records.page.pictures import write_pictures
from gift_lightning.records.page.scatter import scatter
from gift_lightning.records.page.section import Cells, ReportedRun
from gift_lightning.records.page.write import page
from gift_lightning.records.published import further_rows, matrix, rows
from gift_lightning.records.report.side_by_side import csv_text, latex_tabular, markdown, side_by_side, terminal
from gift_lightning.runs.same_run import method_settings
from tests.e2e.conftest import call
from tests.e2e.same_files import MEASURED

HOSTILE = ["<script>alert(1)</script>", "=cmd()", r"\input{x}", "a|b"]


def write_run(folder: Path, method: str, seed: int, tasks: Sequence[str], **more: Any) -> ReportedRun:
    """A run folder with the files that the page reads."""
    count = len(tasks)
    R = [[round(90 - 3 * abs(i - j) + seed, 2) for j in range(count)] for i in range(count)]
    results = {
        "method": method, "seed": seed, "tasks": [*tasks], "R": R, "zero_shot": [50.0] * count, "learns": True,
        "protocol": {"id": "one", "label_space": "task", "shots": {}}, "complete": True,
        "cost": {"train_seconds": [1.5] * count, "peak_memory_bytes": 5_000_000, "trainable_parameters": 10}, **more,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    settings = {"seed_everything": seed, "data": {"steps": 10}, "model": {"class_path": method}}
    arguments = {"clip": {"name": "x"}}
    config: dict[str, Any] = {"trainer": {}, **settings, "model": {"class_path": method, "init_args": arguments}}
    (folder / "config.yaml").write_text(json.dumps(config))
    logged = "".join(f"{step},{1 / (step + 1)},{2.0},\n" for step in range(500))
    logged += "".join(f"500,,,{task}\n" for task in range(len(results["R"]) + 1))
    (folder / "metrics.csv").write_text(f"step,loss/task,loss/distillation,cl/task\n{logged}")
    Image.new("RGB", (1200, 600), "teal").save(folder / "replay.png")
    return ReportedRun(folder.name, folder, results, method_settings(config))


def tables(text: str) -> list[dict[str, list[str]]]:
    """The texts of the cells of each table, by the text in front of a row."""

    def plain(cell: str) -> str:
        return html.unescape(" ".join(re.sub("<[^>]+>", " ", cell).split()))

    found = []
    for body in re.findall(r'<table class="cells">.*?<tbody>(.*?)</tbody>', text, re.DOTALL):
        rows = [list(map(plain, re.findall(r"<td>(.*?)</td>", row, re.DOTALL))) for row in body.split("</tr>")]
        found.append({row[0]: row[1:] for row in rows if row})
    return found


@pytest.fixture
def runs(tmp_path: Path) -> list[ReportedRun]:
    names = [(method, seed) for method in ("GIFT", "Finetune") for seed in range(3)]
    return [write_run(tmp_path / f"{method}{seed}", method, seed, HOSTILE) for method, seed in names]


def test_seeds_are_one_row_with_an_interval(runs: list[ReportedRun]) -> None:
    text = page(runs, baseline="Finetune")
    assert spread([84.0, 85.0, 86.0]) == [("85.0", ""), ("±\u00a01.0 [82.5,\u00a087.5]", "below")]
    assert text.count(">3 runs<") == 2 and text.count('"soft delta">0.0<') == 6  # to Finetune, and of GIFT here
    low, high = interval([float(number) for number in range(10)]) or (0, 0)
    assert 2 < low < 4.5 < high < 7  # of the bootstrap
    with pytest.raises(InputError, match="--baseline GFT names no row of the report"):
        page(runs, baseline="GFT")


def test_hostile_names_are_text_in_each_format(runs: list[ReportedRun]) -> None:
    text = page(runs)
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    table = side_by_side([{**runs[0].results, "folder": "a"}])
    assert ",'=cmd()," in csv_text(table)
    assert r"\input" not in latex_tabular(table) and r"a\|b" in markdown(table) and "<script>" not in markdown(table)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(terminal(table, 200))
    shown = console.export_text()
    assert all(name in shown for name in HOSTILE), shown


def test_published_triplets_are_printed_as_published(tmp_path: Path) -> None:
    published = matrix("I", "zscl")
    run = write_run(tmp_path / "zscl", "ZSCL", 0, published.tasks, R=published.R)
    theirs = [*rows("mtil_order_1", published.tasks), *further_rows("mtil_order_1")]
    text = page([run], theirs)
    warned, table = tables(text)[:2]
    assert "published results are those of ViT-B-16" in text and list(warned) == ["zscl (x)"]
    for row in theirs:
        cells = table[row.method + " third-party summary, unverified" * row.method.startswith("ConDU")]
        assert [cell.split()[0] for cell in cells[:3]] == [f"{n:.1f}" for n in (row.transfer, row.avg, row.last)]
    assert table["ZSCL"][0].split() == ["68.1", "-1.3"], "as in its paper"
    assert table["ZSCL, measured"][0].split() == ["68.1", "+18.1"], "to its own model before learning"


def test_runs_that_may_not_be_compared_are_shown_with_a_warning(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", "GIFT", 0, ["A", "B"])
    two = write_run(tmp_path / "two", "GIFT", 1, ["A", "B"], protocol={"id": "two", "label_space": "seen"})
    assert 'class="warning"' not in page([one])
    assert tables(page([one, two]))[0]["label space"] == ["two"]


def test_the_steps_of_a_run_that_learns_nothing_are_no_difference(tmp_path: Path) -> None:
    one, two = (write_run(tmp_path / name, name, 0, ["A", "B"], learns=name == "GIFT") for name in ("GIFT", "ZeroShot"))
    other = replace(two, settings={**(two.settings or {}), "data.steps": "20"})
    assert differing([one, other]) == differing([other, one]) == []
    learned = replace(other, results={**other.results, "learns": True})
    assert differing([one, learned]) == [["steps of each task", "ZeroShot"]]
    other = replace(one, label="third", settings={**(one.settings or {}), "data.steps": "30"})
    assert reference([two, one, other]) is one and differing([two, one, other]) == [["steps of each task", "third"]]


def test_a_metrics_csv_that_is_cut_is_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a run", "GIFT", 0, ["A", "B"])
    assert 'class="warning"' not in page([run])
    for kept in (100, 0):
        (run.folder / "metrics.csv").write_text((run.folder / "metrics.csv").read_text()[:kept])
        assert "a run" in tables(page([run]))[0] and "has fewer tasks than its" in page([run])


def test_forty_runs_are_less_than_3_mb(tmp_path: Path) -> None:
    names = [f"Task{number}" for number in range(11)]
    runs = [write_run(tmp_path / str(number), f"M{number % 20}", number // 20, names) for number in range(40)]
    text = page(runs)
    assert len(text.encode()) < 3e6 and str(tmp_path) not in text
    assert text.count('<table class="matrix">') == 40 and "<summary>Show 34 more</summary>" in text


def test_forty_runs_of_forty_tasks_are_less_than_3_mb(tmp_path: Path) -> None:
    names = [f"Task{number}" for number in range(40)]
    runs = [write_run(tmp_path / str(number), f"M{number}", 0, names) for number in range(40)]
    text = page(runs)
    told = ["The first 7 of 40 runs are shown", "Of 40 tasks, 14 are shown", "The first 8 of 40 methods are shown"]
    assert len(text.encode()) < 3e6 and not [sentence for sentence in told if sentence not in text]


def test_pictures_of_many_tasks_show_some_of_them(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(n), f"M{n}", 0, [f"Task{number}" for number in range(200)]) for n in range(3)]
    assert drawn_tasks(runs[:1]) == drawn_tasks(runs) == [f"Task{number}" for number in range(0, 200, 5)]


def test_of_many_tasks_the_page_holds_some_curves_and_the_picture_of_the_run(tmp_path: Path) -> None:
    names = [f"Task{number}" for number in range(50)]
    run = write_run(tmp_path / "long", "GIFT", 0, names)
    Image.new("RGB", (2000, 2000), "teal").save(run.folder / "accuracy_matrix.png")
    text = page([run])
    assert "Of 50 tasks, 25 are shown" in text and text.count('class="chart"') == 1 + 25 + 1
    assert '<table class="matrix">' not in text and 'alt="accuracy matrix of GIFT, seed 0 (long)"' in text


@pytest.mark.parametrize("name", ["replay.png", "features.png", "accuracy_matrix.png"])
@pytest.mark.parametrize("content", [b"", b"text", b"half"])
def test_a_damaged_picture_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    run = write_run(tmp_path / "run", "GIFT", 0, [f"Task{number}" for number in range(50)])
    whole = (run.folder / "replay.png").read_bytes()
    (run.folder / name).write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    with pytest.raises(InputError, match=f"{name} is damaged"):
        page([run])


@pytest.mark.parametrize(
    ("cost", "seconds"),  # of replay, train, evaluate, zero-shot, other, and in all
    [
        (None, ["–"] * 6),
        ({}, ["–"] * 6),
        ({"replay_seconds": [], "train_seconds": [1.0, 0.5]}, ["0.0", "1.5", *["–"] * 4]),
        ({"train_seconds": [1.0, None]}, ["–"] * 6),
        (
            {f"{phase}_seconds": [0.5] for phase in ("replay", "train", "evaluate", "zero_shot", "other")},
            [*["0.5"] * 5, "2.5"],
        ),
    ],
)
def test_a_cost_that_is_not_known_is_no_zero(tmp_path: Path, cost: Any, seconds: list[str]) -> None:
    run = write_run(tmp_path / "run", "GIFT", 0, ["A", "B"], cost=cost)
    (table,) = costs([run]).parts
    assert isinstance(table, Cells) and list(table.rows[0][1:]) == [*seconds, *["–"] * 5]


@pytest.mark.parametrize(
    ("tasks", "more"),
    [
        (["A"], {"R": [[80.0]]}),
        (["A", "B"], {"R": [[80.0, None], [70.0, 60.0]], "zero_shot": [None, None]}),
    ],
)
def test_without_a_transfer_there_is_no_scatter(tmp_path: Path, tasks: list[str], more: dict[str, Any]) -> None:
    protocol = {"id": "one", "label_space": "seen" if len(tasks) > 1 else "task"}
    run = write_run(tmp_path / "run", "GIFT", 0, tasks, protocol=protocol, **more)
    assert scatter([run], []) is None and '<section id="cost">' in page([run])
    assert [path.name for path in write_pictures(tmp_path / "png", [run])] == ["curves.png"]


def test_each_model_before_learning_is_a_row_and_the_base_of_its_runs(tmp_path: Path) -> None:
    small = write_run(tmp_path / "z", "ZeroShot", 0, ["A", "B"], learns=False, R=[[50.0] * 2] * 2)
    large = write_run(tmp_path / "l", "LwF", 0, ["A", "B"], zero_shot=[70.0, 80.0])
    table = tables(page([small, write_run(tmp_path / "g", "GIFT", 0, ["A", "B"]), large]))[0]
    assert [*table] == ["Zero-shot (l)", "ZeroShot", "GIFT", "LwF"]
    assert table["Zero-shot (l)"][0] == "80.0 0.0" and table["ZeroShot"][0] == "50.0 0.0"
    assert table["GIFT"][0] == "87.0 +37.0" and table["LwF"][0] == "87.0 +7.0"


def test_what_does_not_learn_is_not_the_best(tmp_path: Path) -> None:
    learned = write_run(tmp_path / "g", "GIFT", 0, ["A", "B"])
    still = write_run(tmp_path / "z", "ZeroShot", 0, ["A", "B"], learns=False, R=learned.results["R"])
    other = write_run(tmp_path / "l", "LwF", 0, ["A", "B"], R=[[10.0, 10.0], [10.0, 10.0]])
    for section in (comparison([still, learned, other], [], None), tasks([still, learned, other], [])):
        table = section.parts[0]
        assert isinstance(table, Cells)
        best = {row[0][0][0]: [cell[0][1] == "best" for cell in row[1:3]] for row in table.rows}
        assert best == {"ZeroShot": [False, False], "GIFT": [True, True], "LwF": [False, False]}


def test_a_run_on_other_tasks_has_no_foreign_base(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", "GIFT", 0, ["A", "B"])
    other = write_run(tmp_path / "other", "LwF", 0, ["X", "Y"], zero_shot=None)
    table = tables(page([one, other]))[1]  # after the warnings
    assert table["GIFT"][0] == "87.0 +37.0" and table["LwF"][0] == "87.0"
    same = write_run(tmp_path / "same", "ZSCL", 0, ["X", "Y"])  # equal numbers, of other tasks
    found = tables(page([one, same]))[1:]
    assert [*found[0]] == ["Zero-shot", "Zero-shot (same)", "GIFT", "ZSCL"]
    assert found[0]["ZSCL"][0] == "87.0 +37.0" and found[1]["Zero-shot (same)"] == ["–", "–", "50.0", "50.0"]


def test_an_unfinished_run_is_not_the_best(tmp_path: Path) -> None:
    finished = [write_run(tmp_path / name, name, 0, ["A", "B"]) for name in ("GIFT", "ZSCL")]
    running = write_run(tmp_path / "l", "LwF", 0, ["A", "B"], R=[[99.0, 99.0]], complete=False)
    for section in (comparison([*finished, running], [], None), tasks([*finished, running], [])):
        table = section.parts[0]
        assert isinstance(table, Cells)
        best = {row[0][0][0]: any(piece[1] == "best" for cell in row[1:] for piece in cell) for row in table.rows}
        assert best == {"Zero-shot": False, "GIFT": True, "ZSCL": True, "LwF": False}


def test_published_results_are_for_runs_on_their_tasks_alone(tmp_path: Path) -> None:
    published = matrix("I", "zscl")
    theirs = write_run(tmp_path / "zscl", "ZSCL", 0, published.tasks, R=published.R)
    other = write_run(tmp_path / "other", "GIFT", 0, ["A", "B"])
    for runs in ([theirs, other], [other, theirs]):
        folders = [str(run.folder) for run in runs]
        status, _, err = call("report", *folders, "--published", "mtil_order_1", "--out", str(tmp_path / "o.html"))
        assert status == 2 and err.count("\n") == 1 and not (tmp_path / "o.html").exists(), err


def test_tables_and_pictures_warn_of_runs_with_other_steps(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, name, 0, ["A", "B"]) for name in ("GIFT", "ZSCL", "LwF")]
    config = runs[2].folder / "config.yaml"
    folders = [str(run.folder) for run in runs]
    formats = [[], ["--format", "markdown"], ["--format", "latex"], ["--format", "csv"]]
    formats.append(["--format", "png", "--out", str(tmp_path / "png")])
    assert all(call("report", *folders, *form)[2] == "" for form in formats)
    config.write_text(config.read_text().replace('"steps": 10', '"steps": 20'))
    told = "warning: LwF and GIFT differ in more than the method (steps of each task): compare with care.\n"
    assert all(call("report", *folders, *form)[::2] == (0, told) for form in formats)


def test_sequences_that_differ_have_no_best_and_no_tasks_in_the_head(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, name, 0, tasks) for name, tasks in (("GIFT", "AB"), ("LwF", "BA"))]
    text = page(runs)
    assert "on 2 sequences of tasks, 2 runs" in text and 'class="path"' not in text
    parts = comparison(runs, [], None).parts[0]
    assert isinstance(parts, Cells) and "best" not in repr(parts.rows)
    assert "on 2 tasks, 1 run<" in page(runs[:1])


def test_a_missing_accuracy_breaks_the_curve(tmp_path: Path) -> None:
    R = [[80.0, None], [70.0, 60.0]]
    run = write_run(tmp_path / "icarl", "ICaRL", 0, ["A", "B"], R=R, zero_shot=[50.0, 40.0])
    lines = curve([run], "B").to_dict()["layer"][1]["data"]["values"]
    assert lines == [{"method": "ICaRL", "learned": [0, 1, 2], "accuracy": [40.0, None, 60.0]}]


def test_a_picture_that_is_large_is_shown_if_it_is_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gift_lightning.records.page.course._PICTURES", 10)
    runs = [write_run(tmp_path / name, name, 0, ["A", "B"]) for name in ("GIFT", "ZSCL")]
    section = replayed(runs)
    assert section is not None and "The first 1 of 2 runs" in section.note


def test_runs_in_folders_of_one_name_have_labels_of_their_own(tmp_path: Path) -> None:
    folders = [str(write_run(tmp_path / name / "run", "GIFT", 0, ["A", "B"]).folder) for name in ("x", "y")]
    status, out, _ = call("report", *folders, "--format", "csv")
    assert status == 0 and all(folder in out for folder in folders)
    status, _, err = call("report", folders[0], folders[0])
    assert status == 2 and "are one run: name each run once" in err


def test_a_killed_and_resumed_run_has_the_same_page_but_for_its_costs(tmp_path: Path) -> None:
    """The folders differ in measured costs alone (``tests.e2e.same_files``)."""
    whole = write_run(tmp_path / "a" / "run", "GIFT", 0, ["A", "B"])
    cost = {name: [9.0, 9.0] if name.endswith(MEASURED[0]) else value for name, value in whole.results["cost"].items()}
    resumed = write_run(tmp_path / "b" / "run", "GIFT", 0, ["A", "B"], cost=cost | {"peak_memory_bytes": 7})
    pages = [page([run]) for run in (whole, whole, resumed)]
    assert pages[0] == pages[1] != pages[2]
    without = [re.sub(r'<section id="cost">.*?</section>', "", text, flags=re.DOTALL) for text in pages]
    assert without[0] == without[2] and "was killed and resumed" not in without[0]


def test_each_section_names_the_files_of_its_numbers(runs: list[ReportedRun]) -> None:
    notes = re.findall(r'<section id="([^"]+)">.*?<p>(.*?)</p>', page(runs), re.DOTALL)
    assert len(notes) >= 7 and not [
        name for name, note in notes if not re.search(r"\.(json|csv|png|yaml)</code>", note)
    ]


def test_the_command_writes_the_page_or_pictures(runs: list[ReportedRun], tmp_path: Path) -> None:
    folders, out = [str(run.folder) for run in runs], tmp_path / "out"
    for flags, names in (
        (["report.html"], ["report.html"]),
        ([".", "--format", "png"], ["curves.png", "transfer_last.png"]),
    ):
        status, printed, error = call("report", *folders, "--out", str(out / flags[0]), *flags[1:])
        assert (status, error, printed.split()) == (0, "", [str(out / name) for name in names])
    for name in ("curves.png", "transfer_last.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 20) or []) > 10


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--baseline", "GIFT"], "--baseline is for the page"),
        (["--out", "report"], "report is no page: give a name that ends in .html"),
        (["--format", "png"], "--format png writes pictures: give their folder too"),
        (["--format", "csv", "--out", "report.html"], "--format csv is printed"),
        (
            ["--format", "png", "--out", f"{__file__}/x"],
            "Earlier files are whole: after a remedy, give the same command again",
        ),
        (["--out", "report.html", "--published", "mtil_order_1"], "The runs are not on the tasks of mtil_order_1"),
    ],
)
def test_flags_that_do_not_go_together(runs: list[ReportedRun], flags: list[str], told: str) -> None:
    status, _, error = call("report", str(runs[0].folder), *flags)
    assert status != 0 and told in error


NAMES_INSIDE = """
const svg = document.querySelector('.chart svg'), plot = svg.querySelector('.background').getBoundingClientRect();
const names = [...svg.querySelectorAll('.role-mark.mark-text text')].map(name => name.getBoundingClientRect());
return names.map(name => name.width > 0 && plot.left <= name.left && name.right <= plot.right);
"""
"""Of the scatter: whether each name lies within the axes."""


def test_the_page_in_a_browser(runs: list[ReportedRun], tmp_path: Path, browser: webdriver.Chrome) -> None:
    """It draws without errors and requests, fits narrow and wide windows, has two themes, and its tables sort."""
    file = tmp_path / "report.html"
    file.write_text(page(runs), encoding="utf-8")
    grounds = set()
    for theme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": theme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        for width in (400, 1600):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            browser.get(file.as_uri())
            WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, "body[data-drawn]"))
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width, (theme, width)
            assert browser.execute_script(NAMES_INSIDE) == [True] * 3, (theme, width)
            grounds.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
            browser.get_screenshot_as_file(str(tmp_path / f"{theme}{width}.png"))
    assert len(grounds) == 2
    assert all(name in browser.find_element(By.CSS_SELECTOR, "header").text for name in HOSTILE)
    assert len(browser.find_elements(By.CSS_SELECTOR, ".chart svg")) >= 3

    body = "return [...document.querySelector('table.cells').tBodies[0].rows].map(row => row.cells[1].textContent)"
    browser.find_elements(By.CSS_SELECTOR, "th button")[1].click()
    down = browser.execute_script(body)
    browser.find_elements(By.CSS_SELECTOR, "th button")[1].click()
    assert browser.execute_script(body) == down[::-1] and len(down) == 3

    assert not browser.get_log("browser")
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert all(url.startswith(("file:", "data:")) for url in asked), asked
