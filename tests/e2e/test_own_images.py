"""A run over folders of a user's own images."""

from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.conftest import read_results, run_command, run_on_ranks, write_own_images

ROOT = Path(__file__).parents[2]
SMALL = [
    *("--config", "own_images.yaml", "--trainer.accelerator", "cpu"),
    *("--model.clip.name", "package:datamodules.mini.clip", "--model.clip.pretrained", "null"),
    *("--data.steps", "2", "--data.batch_size", "8", "--data.num_workers", "1", "--model.warmup_steps", "1"),
]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder a user works in, with the two folders of images that the config names."""
    write_own_images(tmp_path / "data")
    config = (ROOT / "conf" / "own_images.yaml").read_text()
    (tmp_path / "own_images.yaml").write_text(config.replace(", a type of bird.", ""))  # the small CLIP reads few words
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_over_own_images(user: Path) -> None:
    status = run_command(["fit", *SMALL], user / "log.txt")
    assert status == 0, (user / "log.txt").read_text()
    results = read_results(user / "runs" / "own_images")
    assert results["complete"]
    assert results["tasks"] == ["birds", "tools"]
    assert results["zero_shot"][0] > 20  # the names of the folders are those of the flags


REFERENCE = [
    *("--model", "gift_lightning.methods.ZSCL", "--model.average_every", "1", "--run.name", "zscl"),
    *("--data.replay", "datamodules.Reference", "--data.replay.images", "data/birds/train"),
    *("--data.replay.sentences", "classes", "--data.replay.num_images", "20", "--data.replay.batch_size", "8"),
]


def test_zscl_with_own_images_as_reference(user: Path) -> None:
    assert run_command(["fit", *SMALL, *REFERENCE], user / "log.txt") == 0, (user / "log.txt").read_text()
    assert (user / "runs" / "zscl" / "replay.png").is_file()
    results = read_results(user / "runs" / "zscl")
    assert results["complete"] and results["method"] == "ZSCL"
    assert results["cost"]["stored_parameters"] > 1e6  # the initial model, as the teacher of all tasks


def test_a_wrong_place_of_reference_images_is_told_before_the_run_begins(user: Path) -> None:
    assert run_command(["fit", *SMALL, *REFERENCE, "--data.replay.images", "data/bird"], user / "log.txt") == 2
    assert "data.replay.images: data/bird does not exist: give a folder" in (user / "log.txt").read_text()
    assert not (user / "runs" / "zscl" / "results.json").exists()
    assert run_command(["fit", *SMALL, *REFERENCE], user / "log.txt") == 0, (user / "log.txt").read_text()


def test_a_broken_image_is_named_by_a_worker_too(user: Path) -> None:
    broken = user / "data" / "birds" / "test" / "japan" / "broken.png"
    Image.effect_noise((64, 64), 90).save(broken)
    broken.write_bytes(broken.read_bytes()[:2000])
    status = run_command(["fit", *SMALL], user / "log.txt")
    assert status == 2
    told = [line for line in (user / "log.txt").read_text().splitlines() if line.startswith("error:")]
    assert told and f"{broken.relative_to(user)} cannot be decoded" in told[0]
    assert told[0].endswith("remove it before a run begins.")


def test_a_broken_image_that_one_rank_alone_meets_is_named(user: Path) -> None:
    images = sorted((user / "data" / "birds" / "test").rglob("*.png"))
    images[1].write_bytes(b"no image")  # of two ranks, the second tests every other image from here
    assert run_on_ranks(2, ["fit", *SMALL], user / "log.txt") != 0
    told = f"rank 1: error: Task 'birds', image 1: {images[1].relative_to(user)} is not an image"
    log = (user / "log.txt").read_text()
    assert log.splitlines()[-1].startswith(told) and "Traceback" not in log
    assert log.count("error: ") == 1  # the first rank has nothing of its own to tell
