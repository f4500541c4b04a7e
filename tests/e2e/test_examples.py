"""The examples, run as a user runs them."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_plain_trainer_stops_and_resumes_with_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(EXAMPLES / "plain_trainer.py"))["main"](str(tmp_path))
    matrices = [line for line in capsys.readouterr().out.splitlines() if line.startswith("accuracy after task")]
    assert len(matrices) == 3 and matrices[0] == matrices[2] != matrices[1]
