"""Runs over training images that do not decode."""

from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.conftest import kill_at, read_results, run_command, run_on_ranks
from tests.e2e.test_own_images import SMALL, user  # noqa: F401 (a fixture)
from tests.e2e.test_ranks import FLOAT64

RUN = ["fit", *SMALL, *FLOAT64, "--data.steps", "6", "--run.checkpoint_every", "2"]
SKIP = [*RUN, "--data.on_bad_image", "skip"]


@pytest.fixture
def broken(user: Path) -> list[str]:  # noqa: F811
    """Every third training image of the first task is broken; which, below the task's folder."""
    folder = user / "data" / "birds"
    paths = sorted((folder / "train").rglob("*.png"))[::3]
    for path in paths:
        path.write_bytes(path.read_bytes()[:100])
    return [path.relative_to(folder).as_posix() for path in paths]


def tear(path: Path) -> str:
    """Make an image a JPEG that ends early, which Pillow takes; returns its path below the task's folder."""
    with Image.open(path) as image:
        image.convert("RGB").save(path, "JPEG")
    data = path.read_bytes()
    path.write_bytes(data[:-30] + data[-2:])
    return path.relative_to(path.parents[2]).as_posix()


def test_a_bad_training_image_is_named(user: Path, broken: list[str]) -> None:  # noqa: F811
    log = user / "log.txt"
    assert run_command(RUN, log) == 2
    (told,) = [line for line in log.read_text().splitlines() if line.startswith("error:")]
    assert "error: Task 'birds', image " in told and told.endswith("remove it before a run begins.")
    (named,) = [path for path in broken if path in told]

    for path in set(broken) - {named}:
        Image.new("RGB", (32, 32), "red").save(user / "data" / "birds" / path)
    once = [*RUN, "--run.name", "once"]
    assert run_command(once, log) == 2
    assert run_command([*once, "--ckpt_path", "last", "--data.on_bad_image", "skip"], log) == 2  # that is another run
    assert "another data.on_bad_image (error there, skip here)" in log.read_text()
    Image.new("RGB", (32, 32), "red").save(user / "data" / "birds" / named)
    assert run_command([*once, "--ckpt_path", "last"], log) == 0, log.read_text()
    assert read_results(user / "runs" / "once")["complete"]


def test_skipping_is_the_same_for_ranks_workers_and_restarts(user: Path, broken: list[str]) -> None:  # noqa: F811
    log, runs = user / "log.txt", user / "runs"
    torn = [tear(path) for path in sorted((user / "data" / "birds" / "train").rglob("*.png"))[1::6]]
    torn += [tear(path) for path in sorted((user / "data" / "birds" / "test").rglob("*.png"))[:2]]
    whole = [*SKIP, "--run.name", "whole"]
    assert run_command(whole, log) == 0, log.read_text()
    results = read_results(runs / "whole")
    skipped = results["skipped"]["birds"]
    assert list(results["skipped"]) == ["birds"]
    assert set(skipped["images"]) <= set(broken)
    assert skipped["draws"] == len(skipped["images"]) > 10  # 48 draws of 56 images: none is drawn twice
    (warning,) = [line for line in log.read_text().splitlines() if line.startswith("warning: Task")]
    assert set(results["damaged"]["birds"]) <= set(torn) and set(torn[-2:]) <= set(results["damaged"]["birds"])
    assert len(results["damaged"]["birds"]) > 5
    assert f"'birds' has {len(skipped['images'])} training images that do not decode" in warning

    assert run_command([*SKIP, "--run.name", "alone", "--data.num_workers", "0"], log) == 0, log.read_text()
    assert run_on_ranks(2, [*SKIP, "--run.name", "two"], log) == 0, log.read_text()
    # what the second rank skipped before the kill is in no process and drawn by nobody after it
    resumed = [*SKIP, "--run.name", "resumed"]
    assert run_on_ranks(2, [*resumed, *kill_at("step", 4)], log) == -9
    assert run_command([*resumed, "--ckpt_path", "last"], log) == 0, log.read_text()
    for name in ("alone", "two", "resumed"):
        ours = read_results(runs / name)
        assert ours["skipped"] == results["skipped"], name
        assert ours["damaged"] == results["damaged"], name
        assert ours["R"] == results["R"], name
    assert read_results(runs / "two")["complete"]


def test_methods_that_read_training_images_otherwise_skip_them_too(user: Path, broken: list[str]) -> None:  # noqa: F811
    log, runs = user / "log.txt", user / "runs"
    for name, replay, setting in (
        ("LwF", "CurrentTask", "--data.replay.batch_size=8"),
        ("ICaRL", "ExemplarMemory", "--data.replay.batch_size=8"),
    ):
        flags = ["--model", f"gift_lightning.methods.{name}", "--data.replay", f"datamodules.{replay}", setting]
        assert run_command([*SKIP, "--run.name", name, *flags], log) == 0, log.read_text()
        assert read_results(runs / name)["skipped"]["birds"]["draws"] > 10
