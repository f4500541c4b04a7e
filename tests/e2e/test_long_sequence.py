"""Nothing that a run holds grows with its tasks."""

import tempfile
from pathlib import Path

import pytest

from gift_lightning.files import read_json
from tests.e2e.long_sequence import growth, run


def test_many_tasks_leave_no_files_processes_or_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    rows = run(tmp_path, 12)
    assert len(rows) == len(read_json(tmp_path / "run" / "results.json")["R"]) == 12
    assert not growth(rows, 4), rows
    assert {row["processes"] for row in rows} != {0}  # the workers were seen
    assert not list((tmp_path / "run").rglob(".*"))
