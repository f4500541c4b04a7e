"""Tables, CSV and picture: right numbers, right places, the same bytes for the same run."""

import io
import math
import re
import warnings
from importlib import resources

import matplotlib.image
import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from gift_lightning.errors import InputError
from gift_lightning.records import published
from gift_lightning.records.report import (
    accuracy_table,
    comparison_markdown,
    comparison_table,
    read_accuracy_csv,
    write_accuracy_csv,
)
from gift_lightning.records.report.comparison import total_seconds
from gift_lightning.records.report.heatmap import _ink_on, plot_accuracy_matrix

MINI = ["Counting", "Digits", "Flags", "LandUse", "Shapes", "Textures"]


def results_of(tasks, rows, **more):
    return {"schema": 1, "method": "Finetune", "seed": 0, "tasks": tasks, "R": rows, "zero_shot": None} | more


def random_results(n, learned=None, seed=0, **more):
    rng = np.random.default_rng(seed)
    tasks = MINI if n == 6 else [*published.matrix("I", "zscl").tasks, *(f"task {i}" for i in range(12, 201))][:n]
    rows = rng.uniform(0, 100, (n if learned is None else learned, n)).round(4).tolist()
    return results_of(tasks, rows, zero_shot=rng.uniform(0, 100, n).round(4).tolist(), **more)


def rendered(renderable, width=80, **options):
    console = Console(width=width, file=io.StringIO(), **options)
    console.print(renderable)
    return console.file.getvalue()


# --- the table in the terminal ---


@pytest.mark.parametrize("n", [1, 2, 6, 11])
@pytest.mark.parametrize("width", [80, 100])
def test_table_fits_and_holds_every_cell(n, width):
    results = random_results(n)
    lines = rendered(accuracy_table(results), width).splitlines()
    assert max(map(len, lines)) <= width and "…" not in "".join(lines)
    numbers = [
        [float(word) for word in line.split()[1:]]
        for line in lines
        if line.split()[:1] in [[t] for t in results["tasks"]]
    ]
    assert numbers == [[pytest.approx(cell, abs=0.051) for cell in row] for row in results["R"]]
    zero_shot = next(line for line in lines if line.startswith("zero-shot"))
    assert len(zero_shot.split()) == n + 1


def test_table_names_run_and_metrics():
    matrix = published.matrix("I", "finetune")
    text = rendered(accuracy_table(results_of(matrix.tasks, matrix.R, zero_shot=[0.0] + [69.4] * 10)))
    assert text.startswith("\nFinetune, seed 0  (accuracy, %)\n")
    assert "Transfer 44.6 (zero-shot 69.4)   Avg 55.9   Last 77.3   Forgetting 12.0\n" in text


def test_table_of_an_unfinished_run_says_so():
    text = rendered(accuracy_table(random_results(6, learned=2)))
    assert "after task 2 of 6" in text and "\nDigits" in text and "\nFlags" not in text


def test_table_of_a_long_sequence_that_goes_on_has_its_latest_rows():
    lines = rendered(accuracy_table(random_results(40, learned=35))).splitlines()
    assert len(lines) < 20 and any(line.startswith("task 35") for line in lines)
    assert len(rendered(accuracy_table(random_results(40))).splitlines()) > 40


def test_table_before_the_first_task_shows_zero_shot_alone():
    text = rendered(accuracy_table(random_results(6, learned=0)))
    assert "zero-shot" in text and "Transfer – (zero-shot" in text


def test_table_marks_unknown_cells_and_metrics():
    rows = [[90.0, None], [80.0, 70.0]]
    assert "Transfer –   Avg 82.5   Last 75.0" in rendered(accuracy_table(results_of(["A", "B"], rows)))


def test_table_styles_the_diagonal_and_the_cells_above_it():
    results = results_of(["A", "B"], [[90.0, 61.0], [80.0, 70.0]])
    text = rendered(accuracy_table(results), force_terminal=True, color_system="standard", no_color=False)
    assert "\x1b[1;32m 90.0\x1b[0m" in text and "\x1b[1;32m 70.0\x1b[0m" in text  # bold green
    assert "\x1b[2m 61.0\x1b[0m" in text  # dim
    assert "m 80.0" not in text  # plain


@pytest.mark.parametrize(("tasks", "cut"), [(published.matrix("I", "zscl").tasks, True), (MINI, False)])
def test_names_of_tasks_are_never_cut(tasks, cut):
    """They head the columns; if they have no room there, numbers do, which a line below the table explains."""
    n = len(tasks)
    text = rendered(accuracy_table(results_of(tasks, [[50.0] * n] * n)))
    heads = text.splitlines()[2].split()[1:]
    assert heads == ([str(i + 1) for i in range(n)] if cut else tasks)
    line = ", ".join(f"{i + 1}={name}" for i, name in enumerate(tasks))
    assert (line in " ".join(text.split())) == cut


@pytest.mark.parametrize("name", ["abcdefghij" * 15, "鳥の写真を集めたもの" * 6])
def test_a_long_name_is_shown_whole_and_in_the_width_of_the_terminal(name):
    text = rendered(accuracy_table(results_of([name, "B"], [[90.0, 61.0], [80.0, 70.0]])))
    assert name in re.sub(r"[\s\d.]", "", text)
    assert max(map(cell_len, text.splitlines())) <= 80


def test_a_dollar_in_a_name_is_no_formula_and_a_letter_without_a_font_no_warning(tmp_path):
    tasks = ["Ba$$in", "US$ and CA$", "鳥 🐦"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_accuracy_matrix(tmp_path / "R.png", results_of(tasks, [[50.0] * 3] * 3, method="$x$"))
        plot_accuracy_matrix(tmp_path / "other.png", results_of(["Ba$$in", "USandCA", "鳥 🐦"], [[50.0] * 3] * 3))
    assert (tmp_path / "R.png").read_bytes() != (tmp_path / "other.png").read_bytes()


# --- CSV ---


def test_csv_has_the_published_layout(tmp_path):
    for order in published.ORDERS:
        for method in published.methods(order):
            matrix = published.matrix(order, method)
            write_accuracy_csv(tmp_path / "R.csv", results_of(matrix.tasks, matrix.R))
            original = resources.files("gift_lightning.records.published").joinpath(f"mtil_order_{order}_{method}.csv")
            assert (tmp_path / "R.csv").read_text().splitlines() == original.read_text().splitlines()


def test_csv_round_trip_keeps_unfinished_and_unknown(tmp_path):
    rows = [[90.0, None, math.nan], [80.25, 70.125, None]]
    write_accuracy_csv(tmp_path / "R.csv", results_of(["A", "B, or C", "D"], rows))
    assert read_accuracy_csv(tmp_path / "R.csv") == (["A", "B, or C", "D"], [[90.0, None, None], [80.25, 70.125, None]])
    write_accuracy_csv(tmp_path / "R.csv", results_of(["A", "B"], []))
    assert read_accuracy_csv(tmp_path / "R.csv") == (["A", "B"], [])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "first line"),
        ("task,A\nA,1\n", "first line"),
        ("after_task,A,B\nB,1,2\n", "line 2 must be the row"),
        ("after_task,A,B\nA,1\n", "line 2 must be the row"),
        ("after_task,A\nA,1\nA,1\n", "line 3 must be the row"),
        ("after_task,A,B\nA,1,x\n", "line 2 holds no numbers"),
    ],
)
def test_other_csv_files_are_refused_with_the_line(tmp_path, text, cause):
    (tmp_path / "R.csv").write_text(text)
    with pytest.raises(InputError, match=f"R.csv is no accuracy matrix: .*{cause}"):
        read_accuracy_csv(tmp_path / "R.csv")


def test_missing_csv_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_accuracy_csv(tmp_path / "none.csv")


# --- the picture ---


@pytest.mark.parametrize("n", [2, 11, 200])
def test_heatmap_is_a_reproducible_png(tmp_path, n):
    for name in ("a.png", "b.png"):
        plot_accuracy_matrix(tmp_path / name, random_results(n))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]  # no temporary file is left
    assert (np.std(matplotlib.image.imread(tmp_path / "a.png")[..., :3], axis=(0, 1)) > 0.05).all()


@pytest.mark.parametrize(
    "results",
    [
        random_results(6, learned=3),
        random_results(6, learned=0),
        results_of(["A", "B"], [[90.0, None], [80.0, 70.0]]),
        results_of(["A", "B"], [[0.0, 100.0]], zero_shot=[None, 50.0]),
    ],
    ids=["unfinished", "not begun", "unknown cells", "no seed"],
)
def test_heatmap_takes_what_is_there(tmp_path, results):
    plot_accuracy_matrix(tmp_path / "R.png", results)
    assert (tmp_path / "R.png").read_bytes().startswith(b"\x89PNG")


def test_heatmap_of_many_tasks_is_no_larger_than_that_of_twenty(tmp_path):
    sizes = {}
    for n in (20, 40, 200):
        plot_accuracy_matrix(tmp_path / f"{n}.png", random_results(n))
        sizes[n] = matplotlib.image.imread(tmp_path / f"{n}.png").shape
    assert all(max(size) <= max(sizes[20]) for size in sizes.values())


def test_digits_are_dark_on_light_and_white_on_dark():
    assert _ink_on((1.0, 1.0, 0.85, 1.0)) == "#000000"
    assert _ink_on((0.03, 0.11, 0.35, 1.0)) == "white"


# --- several runs ---


def run(method, seed, last, seconds=(10.0, 20.0)):
    rows = [[80.0, 50.0], [60.0, last]]
    cost = {"train_seconds": list(seconds), "evaluate_seconds": [1.0, 1.0], "peak_memory_bytes": 10**9}
    learns = method != "zero_shot"
    return {"method": method, "seed": seed, "learns": learns, "R": rows, "zero_shot": [50.0, 50.0], "cost": cost}


RUNS = [run("l2", 0, 80.0), run("finetune", 0, 70.0), run("finetune", 1, 74.0, (12.0, 24.0)), run("zero_shot", 0, 99.0)]


def test_comparison_averages_over_seeds():
    lines = comparison_markdown(RUNS).splitlines()
    assert lines[:2] == [
        "| Method | Transfer | Avg | Last | Seconds | Seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    assert lines[2].startswith("| zero_shot |") and lines[4].startswith("| l2 |")  # zero-shot first, then by Avg
    # Last: (65, 67) -> 66 and sample deviation 1.414; seconds: (32, 38) -> 35 and 4.24
    assert lines[3] == "| finetune | 50.0 ± 0.0 | 65.5 ± 0.7 | 66.0 ± 1.4 | 35 ± 4 | 2 |"
    assert lines[4] == "| l2 | 50.0 | 67.5 | 70.0 | 32 | 1 |"


def test_what_learns_nothing_comes_first_whatever_it_is_called():
    first = run("as_it_is", 0, 99.0) | {"learns": False}
    assert comparison_markdown([*RUNS[:3], first]).splitlines()[2].startswith("| as_it_is |")


def test_comparison_does_not_depend_on_the_order_of_runs():
    assert comparison_markdown(RUNS) == comparison_markdown(RUNS[::-1])


def test_comparison_table_shows_the_same_cells():
    text = rendered(comparison_table(RUNS), 100)
    for line in comparison_markdown(RUNS).splitlines()[2:]:
        cells = line.strip("| ").split(" | ")
        assert any(all(cell in row for cell in cells) for row in text.splitlines())


def test_comparison_prefers_stored_metrics_and_survives_missing_cost():
    stored = {"transfer": None, "avg": 12.0, "last": 13.0, "forgetting": None, "backward_transfer": None}
    entry = {"method": "x", "seed": 0, "R": [[1.0]], "metrics": stored, "cost": {}}
    assert comparison_markdown([entry]).splitlines()[-1] == "| x | – | 12.0 | 13.0 | – | 1 |"


def test_total_seconds_skips_what_is_not_time():
    assert total_seconds({"train_seconds": [1.0, None], "export_seconds": 2.0, "peak_memory_bytes": 9}) == 3.0
    assert total_seconds({"peak_memory_bytes": 9}) is None
