"""The command ``report``: finished runs on the same tasks, side by side."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gift_lightning.__main__ import main
from gift_lightning.errors import InputError
from gift_lightning.records.published import matrix, rows
from gift_lightning.records.report.side_by_side import latex_tabular, markdown, side_by_side, terminal


def run(method: str, last: float, **more: Any) -> dict[str, Any]:
    tasks = ["Counting", "Textures"]
    rows = [[80.0, 50.0], [60.0, last]]
    common = {"seed": 0, "tasks": tasks, "zero_shot": [40.0, 55.0], "protocol": {"id": "one"}, "complete": True}
    return {"method": method, "R": rows, **common, **more}


def rendered(*runs: dict[str, Any], width: int = 80, benchmark: str | None = None) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(terminal(side_by_side(runs, benchmark), width))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def test_one_row_for_each_run_and_the_best_stand_out() -> None:
    text = rendered(run("Finetune", 70.0), run("GIFT", 75.0))
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert ["zero-shot", "40.0", "55.0", "55.0", "47.5", "47.5"] in lines
    assert ["Finetune", "60.0", "70.0", "50.0", "65.0", "65.0"] in lines
    assert ["GIFT", "60.0", "75.0", "50.0", "66.2", "67.5"] in lines
    assert max(len(line) for line in text.splitlines()) <= 80


def test_runs_of_one_method_are_told_apart_by_their_seeds() -> None:
    text = rendered(run("GIFT", 70.0), run("GIFT", 75.0, seed=1))
    assert "GIFT, seed 0" in text and "GIFT, seed 1" in text


def test_many_tasks_leave_the_metrics_alone() -> None:
    tasks = [f"Dataset{number:02d}" for number in range(11)]
    rows = [[50.0] * 11 for _ in tasks]
    many = run("GIFT", 70.0, tasks=tasks, R=rows, zero_shot=[40.0] * 11)
    text = rendered(many)
    assert "Transfer" in text and text.count("50.0") == 3
    assert text.endswith("Each task: in a terminal of 96 columns, or with --format markdown.")
    assert rendered(many, width=95) == text
    assert rendered(many, width=96).count("50.0") == 14
    assert max(len(line) for line in rendered(many, width=96).splitlines()) <= 96


def test_runs_of_other_benchmarks_are_not_compared() -> None:
    with pytest.raises(InputError, match=r"a and b have other class names.* take runs of one benchmark"):
        rendered(run("GIFT", 70.0, folder="a"), run("Finetune", 70.0, folder="b", protocol={"id": "other"}))


def test_runs_with_other_tasks_are_not_compared() -> None:
    other = run("GIFT", 70.0, tasks=["Counting", "Textures", "Shapes"], folder="b")
    with pytest.raises(InputError, match="a and b have other tasks, or the same in another order"):
        rendered(run("GIFT", 70.0, folder="a"), other)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "holds no run"),
        ("{}", "is damaged (it has no method): restore it, or run again in another folder."),
        ("[]", "is damaged (it is not an object): restore it, or run again"),
        (json.dumps(run("GIFT", 70.0, schema=2)), "is of a newer gift-lightning (schema 2, this one reads 1): update"),
        (json.dumps(run("GIFT", 70.0, complete=False)), "holds an unfinished run (2 of 2 tasks): wait for its end, or"),
    ],
)
def test_bad_folders(content: str | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err


def test_a_wrong_path_is_told_with_the_runs_near_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gift").mkdir()
    (tmp_path / "gift" / "results.json").write_text(json.dumps(run("GIFT", 70.0)))
    for path, sentence in (
        (tmp_path, f"{tmp_path} holds no run: name the folder with its results.json, as {tmp_path / 'gift'}."),
        (tmp_path / "none", f"{tmp_path / 'none'} does not exist: name the folder of a run"),
        (tmp_path / "gift" / "results.json", "results.json is a file: name the folder of a run"),
    ):
        assert main(["report", str(path)]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["report", str(tmp_path / "gift"), "--out", str(tmp_path / "gift" / "results.json" / "x.html")]) == 2
    assert "results.json is a file, not a folder." in capsys.readouterr().err


def test_a_damaged_file_is_written_anew_from_the_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "results.json").write_text("{}")
    assert main(["report", str(tmp_path)]) == 2
    assert "restore it, or delete it and go on with fit and --ckpt_path last" in capsys.readouterr().err


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, last in (("a", 70.0), ("b", 75.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(run(name.upper(), last)))
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "After the last task" in capsys.readouterr().out


# --- formats ----------------------------------------------------------------------------------------------------------

RUNS = [run("Fine_tune", 70.0), run("GIFT", 75.0)]


def test_a_table_in_the_terminal_byte_for_byte() -> None:
    assert rendered(*RUNS) == (
        "\nAfter the last task  (accuracy, %)\n"
        "          Counting Textures Transfer   Avg  Last\n"
        "────────────────────────────────────────────────\n"
        "zero-shot     40.0     55.0     55.0  47.5  47.5\n"
        "\n"
        "Fine_tune     60.0     70.0     50.0  65.0  65.0\n"
        "GIFT          60.0     75.0     50.0  66.2  67.5"
    )


def test_a_table_in_markdown_byte_for_byte() -> None:
    assert markdown(side_by_side(RUNS)) == (
        "| Method | Counting | Textures | Transfer | Avg | Last |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| zero-shot | 40.0 | 55.0 | 55.0 | 47.5 | 47.5 |\n"
        "| Fine_tune | **60.0** | 70.0 | **50.0** | 65.0 | 65.0 |\n"
        "| GIFT | **60.0** | **75.0** | **50.0** | **66.2** | **67.5** |"
    )


def test_a_table_in_latex_byte_for_byte() -> None:
    assert latex_tabular(side_by_side(RUNS)) == (
        "\\begin{tabular}{lrrrrr}\n"
        "\\toprule\n"
        "Method & Counting & Textures & Transfer & Avg & Last \\\\\n"
        "\\midrule\n"
        "zero-shot & 40.0 & 55.0 & 55.0 & 47.5 & 47.5 \\\\\n"
        "\\midrule\n"
        "Fine\\_tune & \\textbf{60.0} & 70.0 & \\textbf{50.0} & 65.0 & 65.0 \\\\\n"
        "GIFT & \\textbf{60.0} & \\textbf{75.0} & \\textbf{50.0} & \\textbf{66.2} & \\textbf{67.5} \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}"
    )


# --- beside what is published -----------------------------------------------------------------------------------------


def mtil(order: str, **more: Any) -> dict[str, Any]:
    published = matrix(order, "zscl")
    return run("GIFT", 0.0, tasks=published.tasks, R=published.R, zero_shot=[65.0] * 11, **more)


def test_a_run_beside_the_published_rows_byte_for_byte() -> None:
    assert rendered(mtil("I"), benchmark="mtil_order_1") == (
        "\nAfter the last task  (accuracy, %), published on mtil_order_1 and measured\n"
        "                    Transfer   Avg  Last\n"
        "────────────────────────────────────────\n"
        "Zero-shot               69.4  65.3  65.3\n"
        "Continual Finetune      44.6  55.9  77.3\n"
        "l2 baseline             61.0  62.7  75.9\n"
        "LwF                     56.9  64.7  74.6\n"
        "iCaRL                   50.4  65.7  80.1\n"
        "LwF-VR                  57.2  65.1  76.6\n"
        "WiSE-FT                 52.3  60.7  77.7\n"
        "ZSCL                    68.1  75.4  83.6\n"
        "MoE-Adapter             68.9  76.7  85.0\n"
        "GIFT                    69.3  77.3  86.0\n"
        "GIFT w/o AWC            68.9  76.6  85.0\n"
        "ConDU (FT) *            70.8  78.8  87.1\n"
        "ConDU (LoRA) *          70.3  78.3  86.2\n"
        "\n"
        "zero-shot, measured     65.0  65.0  65.0\n"
        "\n"
        "GIFT, seed 0            68.1  75.4  83.6\n"
        "* third-party summary, unverified\n"
        "Each task: in a terminal of 106 columns, or with --format markdown."
    )


@pytest.mark.parametrize("order", ["I", "II"])
def test_each_task_where_a_matrix_is_published(order: str) -> None:
    text = rendered(mtil(order), benchmark=f"mtil_order_{len(order)}", width=120)
    lines = {line.split("  ")[0]: line.split()[-14:] for line in text.splitlines()}
    assert lines["ZSCL"] == lines["GIFT, seed 0"]  # the run is made of that matrix
    assert lines["GIFT"][:11] == ["–"] * 11
    assert max(map(len, text.splitlines())) <= 120


def test_the_best_is_never_what_learned_nothing() -> None:
    lines = markdown(side_by_side([mtil("I")], "mtil_order_1")).splitlines()
    assert "| Zero-shot |" in lines[2] and "**" not in lines[2]
    assert "| ConDU (FT) (third-party summary, unverified) |" in lines[13] and "**" not in lines[13]
    assert "| **69.3** | **77.3** | **86.0** |" in next(line for line in lines if line.startswith("| GIFT |"))


def test_published_metrics_are_those_of_the_published_matrices() -> None:
    for benchmark, order in (("mtil_order_1", "I"), ("mtil_order_2", "II")):
        with_matrix = [row for row in rows(benchmark, matrix(order, "zscl").tasks) if row.last_row]
        assert len(with_matrix) == 6
        for row in with_matrix:
            known = [cell for cell in row.last_row or [] if cell is not None]
            assert sum(known) / 11 == pytest.approx(row.last, abs=0.051)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["--published", "mtil_order_2"],
            "The runs are not on the tasks of mtil_order_2, which are StanfordCars, Food,",
        ),
        (["--published", "mtil"], "No benchmark 'mtil' is published: name mtil_order_1 or mtil_order_2."),
        (
            ["--format", "tex"],
            "--format tex is none of terminal, markdown, latex, csv, png (did you mean 'latex'?)",
        ),
    ],
)
def test_what_cannot_be_shown(flags: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.json").write_text(json.dumps(mtil("I")))
    assert main(["report", str(tmp_path), *flags]) == 2
    err = capsys.readouterr().err
    assert told in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(("name", "begin"), [("markdown", "| Method | Aircraft |"), ("latex", "\\begin{tabular}{l")])
def test_the_command_prints_a_table_to_paste(
    name: str, begin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.json").write_text(json.dumps(mtil("I")))
    assert main(["report", str(tmp_path), "--published", "mtil_order_1", "--format", name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(begin) and "[/" not in out
    assert len(out.splitlines()) == 17 + (6 if name == "latex" else 0)  # no line is wrapped


def test_zero_shot_among_classes_seen_is_that_of_all_images() -> None:
    seen = {
        "method": "Finetune",
        "seed": 0,
        "tasks": ["A", "B"],
        "protocol": {"id": "x", "label_space": "seen"},
        "test_sizes": [300, 100],
        "zero_shot": [80.0, 40.0],
        "R": [[90.0, None], [70.0, 50.0]],
        "metrics": {"transfer": None, "avg": 77.5, "last": 65.0},
    }
    (zero_shot,), _ = side_by_side([seen]).sections
    assert zero_shot.metrics == [None, None, 70.0]
