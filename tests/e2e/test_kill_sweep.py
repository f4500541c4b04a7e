"""A short form of ``python -m tests.e2e.kill_sweep``: kills at random moments, and every file is the same."""

from pathlib import Path

from tests.e2e.kill_sweep import Sweep


def test_killed_at_random_moments(tmp_path: Path) -> None:
    sweep = Sweep("GIFT", tmp_path)
    spans = sweep.whole()
    for number, kind in enumerate(("drawing", "checkpoint", "report")):
        found = sweep.try_out([sweep.moment(number, spans, kind)])
        assert not found["found"], found
