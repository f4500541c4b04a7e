"""Held-out pairs of distillation: measured beside a training that does not change, resumed, and on two ranks."""

import csv
from pathlib import Path

import pytest

from gift_lightning.records.logged import HELD_OUT, REPLAYED
from tests.e2e.conftest import CONFIG, final_weights, fit_here, kill_at, read_results, run_command
from tests.e2e.same_files import assert_same_files
from tests.e2e.test_ranks import FLOAT64, fit_on_two_ranks

SMALL = ["--data.steps", "5", "--data.replay.images_per_task", "17", *FLOAT64]
GIFT = ["--config", str(Path(__file__).parent / "gift.yaml"), *SMALL]
MEASURED = [
    "--trainer.callbacks+=callbacks.HeldOutPairs",
    "--trainer.callbacks.pairs=20",
    "--trainer.callbacks.every=2",
]


def fit(root: Path, *flags: str) -> int:
    return run_command(["fit", "--config", CONFIG, *GIFT, "--run.root", str(root), *flags], root / "log.txt")


def losses(root: Path) -> dict[int, tuple[float, float]]:
    """The two losses by their step."""
    with open(root / "gift" / "metrics.csv") as file:
        return {
            int(row["step"]): (float(row[REPLAYED]), float(row[HELD_OUT]))
            for row in csv.DictReader(file)
            if row[HELD_OUT]
        }


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("measured")
    assert fit(root, *MEASURED) == 0, (root / "log.txt").read_text()
    return root


def test_the_training_is_the_same_and_both_losses_are_logged(measured: Path, tmp_path: Path) -> None:
    assert fit(tmp_path) == 0, (tmp_path / "log.txt").read_text()
    mine, other = final_weights(measured / "gift"), final_weights(tmp_path / "gift")
    assert all(mine[name].equal(other[name]) for name in other)
    assert read_results(measured / "gift")["R"] == read_results(tmp_path / "gift")["R"]
    found = losses(measured)
    assert [*found] == [1, 3, 4, 6, 8, 9, 11, 13, 14]  # every second step of a task, and its last one
    assert all(replayed > 0 and held_out > 0 and replayed != held_out for replayed, held_out in found.values())
    assert found[6] < found[9]  # a task begins where its teacher is


def test_held_out_images_are_no_replayed_ones(measured: Path) -> None:
    for task in ("Flags", "Shapes", "Counting"):
        replayed, held_out = (
            {file.read_bytes() for file in (measured / "replay" / f"{task}_{kind}").glob("*.png")}
            for kind in ("Syn", "HeldOut20")
        )
        assert len(replayed) == 17 and len(held_out) == 20 and not replayed & held_out


def test_killed_run_resumes_bit_identical(measured: Path, tmp_path: Path) -> None:
    assert fit(tmp_path, *MEASURED, *kill_at("step", 8)) == -9, (tmp_path / "log.txt").read_text()
    assert fit(tmp_path, *MEASURED, "--ckpt_path", "last") == 0, (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path / "gift", measured / "gift")
    assert_same_files(tmp_path / "replay", measured / "replay")


def test_two_ranks_measure_what_one_process_measures(measured: Path, tmp_path: Path) -> None:
    fit_on_two_ranks(tmp_path, *GIFT, *MEASURED)
    one, two = losses(measured), losses(tmp_path)
    assert one.keys() == two.keys()
    for step, both in two.items():
        assert both == pytest.approx(one[step], rel=1e-6), step


def test_a_method_without_drawn_pairs_is_refused(tmp_path: Path) -> None:
    status, _, error = fit_here(tmp_path, *MEASURED)
    assert status == 2 and "L2 has none" in " ".join(error.split())
