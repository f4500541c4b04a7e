"""Reading ``metrics.csv``: of a run that goes on, with numbers that are not finite, and damaged."""

from pathlib import Path

import pytest

from gift_lightning.errors import InputError
from gift_lightning.records.logged import HELD_OUT, REPLAYED, logged

HEAD = f"step,cl/task,{HELD_OUT},{REPLAYED},loss/task,lr\n"
ROWS = "0,0,,,,\n1,,0.2,0.1,3.0,0.1\n3,,inf,nan,2.0,0.1\n4,1,,,,\n"


def read(folder: Path, text: str) -> object:
    (folder / "metrics.csv").write_text(text)
    return logged(folder)


def test_steps_are_those_done_and_values_are_finite_or_none(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(HEAD + ROWS)
    losses, ends = logged(tmp_path)
    assert losses == {
        HELD_OUT: [(2, 0.2), (4, None)],
        REPLAYED: [(2, 0.1), (4, None)],
        "loss/task": [(2, 3.0), (4, 2.0)],
    }
    assert ends == [4]


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    whole, line = read(tmp_path, HEAD + ROWS), "5,,1e-05,1e-06,2.5e-1,1e-3"
    assert {repr(read(tmp_path, HEAD + ROWS + line[:end])) for end in range(len(line) + 1)} == {repr(whole)}
    assert repr(read(tmp_path, HEAD + ROWS + line + "\n")) != repr(whole)
    assert {repr(read(tmp_path, text)) for text in ("", HEAD, HEAD[:9])} == {"Logged(losses={}, ends=[])"}


@pytest.mark.parametrize("line", ["x,,0.1,0.1,1.0,0.1", "5,,1e-,0.1,1.0,0.1", "5,one,,,,", ",,0.1,,,", "5,,,,a"])
def test_a_damaged_line_is_told(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=r"metrics.csv is damaged"):
        read(tmp_path, HEAD + line + "\n")
