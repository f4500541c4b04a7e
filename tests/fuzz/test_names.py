"""Names with the markup of four languages come through all reports as they are."""

import io
import random
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from markdown_it import MarkdownIt
from PIL import Image
from rich.console import Console

from callbacks.sequence_progress import progress_bar
from datamodules import SyntheticReplay
from datamodules.replay.drawing import Progress
from gift_lightning.commands.generate import _bar, _bars, _summarise
from gift_lightning.console import plain_console, visible
from gift_lightning.names import alike_as_files, fault_of, fault_of_task
from gift_lightning.records.report import (
    accuracy_table,
    comparison_markdown,
    comparison_table,
    read_accuracy_csv,
    row_table,
    side_by_side,
    write_accuracy_csv,
)
from gift_lightning.records.report.formats import latex
from gift_lightning.records.report.heatmap import plot_accuracy_matrix
from gift_lightning.records.report.replay_grid import plot_replay_grid
from gift_lightning.records.report.side_by_side import latex_tabular, markdown, terminal
from tests.fuzz.cases import cases

PIECES = [
    *("[v2]", "[/web]", "[/b]", "[bold red]", "[", "]", "[link=x]", ":bird:", "\\[", "[@click=x]", "[#ff0000]"),  # Rich
    *("$", "$$", "$x^2$", "^2", "_i", "\\frac", "{", "}", "\\", "\\\\", "$\\"),  # matplotlib, LaTeX
    *(
        "&",
        "%",
        "#",
        "~",
        "--",
        "---",
        "''",
        ",,",
        "``",
        '"',
        "\\\\*",
        "*",
        "<<",
        "?`",
        "\\textbf{a}",
        "\\end{tabular}",
    ),
    *("|", "\\|", "`", "`c`", "**", "*a*", "__", "_a_", "<b>", "</td>", "<!--", "&amp;", "![x](y)", "[x](y)", "~~a~~"),
    *(
        "http://x.y",
        "a@b.c",
        "1. ",
        "# ",
        "> ",
        "+",
        "- ",
        "=",
        "!",
        "'",
        ",",
        ";",
        "%s",
        "{0}",
        "${x}",
        "a\u200db",
        "…",
    ),
    *("鳥", "写真", "🐦", "👩‍🚀", "🇩🇪", "طيور", "שלום", "é", "e\u0301", "ß", "İ", "\u00a0", "–", "à la", "𝔘"),
    *("cat", "Birds", "v2", "x", "7", "007", "no", " ", "a b", "LongerWordsOfMany", "InputError: "),
]
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def names_of(rng: random.Random, count: int) -> list[str]:
    names: dict[str, str] = {}
    while len(names) < count:
        name = "".join(rng.choices(PIECES, k=rng.randint(1, 5))).strip()[:34]
        if not fault_of(name) and name == name.strip():
            names.setdefault(alike_as_files(name), name)
    return list(names.values())


def shown(renderable: Any, width: int = 400) -> str:
    """As anyone's console shows it, that of a user of the library too."""
    console = Console(width=width, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def read_latex(text: str) -> str:
    """What LaTeX prints for a text that is written with ``latex``; fails where it would obey instead."""
    words = {"backslash": "\\", "asciicircum": "^", "asciitilde": "~", "asciigrave": "`", "less": "<", "greater": ">"}
    words["bar"] = "|"
    tokens = r"\\text(?P<word>[a-z]+)\{\}|\\(?P<sign>[_%&#${}])|\{(?P<plain>[*[])\}|\{\}|(?P<dash>--)|(?P<any>.)"
    said = ""
    for found in re.finditer(tokens, text, re.DOTALL):
        if found["any"]:
            assert found["any"] not in "\\_%&#${}^~`<>|[*", text
            said += found["any"]
        said += words.get(found["word"] or "", "") + (found["sign"] or "") + (found["plain"] or "")
        said += "–" if found["dash"] else ""
    return said


def cells_of_markdown(text: str) -> list[list[str]]:
    """The cells of the table that Markdown makes of a text; fails if it makes something else of it."""
    tokens = MARKDOWN.parse(text)
    assert [token.type for token in tokens[:1] + tokens[-1:]] == ["table_open", "table_close"]
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline":
            kinds = {child.type for child in token.children or []} - {"strong_open", "strong_close"}  # the best cell
            assert kinds <= {"text"}, token.content
            rows[-1].append("".join(child.content for child in token.children or []))
    return rows


def results_of(names: list[str], method: str) -> dict[str, Any]:
    rows = [[round(7.3 * i + j, 1) for j in range(len(names))] for i in range(len(names))]
    return {"method": method, "seed": 0, "tasks": names, "R": rows, "zero_shot": rows[0], "protocol": {"id": "x"}}


@cases(20)
def test_names_come_through_all_reports(case: int, tmp_path: Path) -> None:
    rng = random.Random(case)
    names = names_of(rng, rng.randint(2, 6))
    method, other = names_of(rng, 2)
    runs = [results_of(names, method), results_of(names, other)]
    table = shown(accuracy_table(runs[0]))
    assert all(f"\n{name} " in table for name in names) and f"\n{method}, seed 0  (accuracy, %)" in table
    write_accuracy_csv(tmp_path / "R.csv", runs[0])
    assert read_accuracy_csv(tmp_path / "R.csv") == (names, runs[0]["R"])

    both = side_by_side(runs)
    assert all(text in shown(terminal(both, 400)) for text in [*names, method, other])
    assert all(text in shown(comparison_table(runs)) for text in (method, other))
    heads, *rows = cells_of_markdown(markdown(both))
    assert heads == ["Method", *names, "Transfer", "Avg", "Last"]
    assert [row[0] for row in rows] == ["zero-shot", method, other] and {len(row) for row in rows} == {len(heads)}
    assert {row[0] for row in cells_of_markdown(comparison_markdown(runs))[1:]} == {method, other}
    lines = [line.removesuffix(" \\\\") for line in latex_tabular(both).splitlines() if line.endswith(" \\\\")]
    cells = [[read_latex(cell) for cell in re.split(r"(?<!\\)& | (?<!\\)&(?= )", line)] for line in lines[:1]]
    assert [cell.strip() for cell in cells[0]] == heads
    assert [read_latex(line.split(" & ")[0]) for line in lines[1:]] == ["zero-shot", method, other]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if case % 5 == 0:
            plot_accuracy_matrix(tmp_path / "R.png", runs[0])
            plot_replay_grid(tmp_path / "replay.png", [(Image.new("RGB", (8, 8)), 0)], [names[0]], f"After {names[1]}")


@cases(40)
def test_names_come_through_what_a_run_shows(case: int) -> None:
    rng = random.Random(case)
    name = names_of(rng, 1)[0]
    console = plain_console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    with progress_bar(console) as bar:
        bar.add_task(f"task 1/2 {name}", total=3, loss="")
    console.print(row_table([name], [50.0], 50.0))
    progress = Progress(name, 0, 1, 0, 0.0)
    with _bars(console) as bars:
        _bar(bars, name, 3)(progress)
    _summarise(cast(SyntheticReplay, SimpleNamespace(root=name)), [progress], console)
    console.print(str(progress), name)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"task 1/2 {name}" in said and f"\x1b[2K{name} " in said and said.count(f"\n  {name} ") == 2
    assert f"\nImages: {name}\n" in said and said.endswith(f" {name}\n")
    assert read_latex(latex(name)) == name


@cases(60)
def test_a_name_that_is_accepted_is_one_line_that_a_file_may_be_called(case: int, tmp_path: Path) -> None:
    rng = random.Random(case)
    letters = ["\n", "\t", "\x00", "\x1b", "\x85", "\u2028", "\ud83d", "\udcff", "/", "\\", ".", " ", *PIECES]
    name = "".join(rng.choices(letters, k=rng.randint(0, 4))) * rng.choice([1, 1, 1, 60])
    assert len(visible(name).splitlines()) <= 1 and visible(name).encode().decode() == visible(name)
    if not fault_of_task(name):
        folder = tmp_path / "below" / f"{name}_Syn"
        folder.mkdir(parents=True)
        assert folder.resolve().is_relative_to(tmp_path / "below") and f"{name}_Syn".endswith(folder.name)
        assert len(name.splitlines()) == 1
