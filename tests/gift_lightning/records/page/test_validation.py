from pathlib import Path
from typing import Any

from gift_lightning.records.page.section import Cells, Grid, Matrix, ReportedRun
from gift_lightning.records.page.validation import MOST_RUNS, validation
from gift_lightning.records.page.write import page


def a_run(label: str, tasks: int = 2, held: bool = True) -> ReportedRun:
    names = [f"T{number}" for number in range(tasks)]
    results: dict[str, Any] = {"method": "GIFT", "tasks": names, "complete": True, "protocol": {"id": "x"}}
    results |= {"R": [[90.0] * tasks] * tasks, "zero_shot": [50.0] * tasks}
    if held:
        metrics = {"transfer": 41.25, "avg": 52.0, "last": None}
        results["validation"] = {"sizes": [9] * tasks, "zero_shot": None, "R": [[40.0] * tasks] * tasks}
        results["validation"]["metrics"] = metrics
    return ReportedRun(label, Path("none"), results)


def test_numbers_and_matrices_of_the_runs_that_have_some() -> None:
    section = validation([a_run("<b>"), a_run("plain", held=False)])
    assert section is not None
    table, grid = section.parts
    assert isinstance(table, Cells) and table.rows == [["<b>", "41.2", "52.0", "–"]]
    assert isinstance(grid, Grid) and isinstance(grid.parts[0], Matrix)
    assert grid.parts[0].rows == [("T0", [40.0, 40.0]), ("T1", [40.0, 40.0])]


def test_without_validation_there_is_nothing() -> None:
    assert validation([a_run("a", held=False)]) is None and validation([]) is None
    assert "On validation images" not in page([a_run("a", held=False)])
    assert "On validation images" in page([a_run("a")])


def test_many_tasks_and_runs_are_fewer_matrices() -> None:
    section = validation([a_run("long", tasks=50), *(a_run(str(number)) for number in range(9))])
    assert section is not None and isinstance(section.parts[0], Cells) and isinstance(section.parts[1], Grid)
    assert len(section.parts[0].rows) == 10 and len(section.parts[1].parts) == MOST_RUNS
    assert f"The first {MOST_RUNS} of 9 matrices are shown" in section.note
