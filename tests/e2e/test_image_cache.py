"""The cache of decoded test images in whole runs: made once, by all ranks, whole in spite of a kill or a full disk."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import kill_at, read_results, run_command, run_on_ranks, write_vit

IMAGES = 130  # more than are kept in memory at 224 pixels
BYTES = IMAGES * (8 + 1 + 3 * 224 * 224)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One task with more test images than are kept in memory, and a model that wants them at 224 pixels."""
    folder = tmp_path_factory.mktemp("vit")
    task = {"class_path": "datamodules.mini.Flags", "init_args": {"train_size": 8, "test_size": IMAGES}}
    clip = {"name": write_vit(folder, image_size=224, layers=1, patch_size=56)}
    content = {
        "model": {"class_path": "gift_lightning.methods.ZeroShot", "init_args": {"clip": clip}},
        "data": {"batch_size": 8, "steps": 1, "tasks": [task]},
        "trainer": {"accelerator": "cpu", "devices": 1},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder / "config.yaml"


Flags = Callable[..., list[str]]


@pytest.fixture
def fit(config: Path, tmp_path: Path) -> Flags:
    """The command of a run ``name`` below ``tmp_path``."""
    return lambda name, *flags: [
        *("fit", "--config", str(config), "--run.root", str(tmp_path), "--run.name", name, *flags)
    ]


@pytest.fixture(scope="module")
def expected(config: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The row of a run that keeps its images in memory."""
    root = tmp_path_factory.mktemp("memory")
    command = ["fit", "--config", str(config), "--run.root", str(root), "--run.name", "run", "--data.cache", "null"]
    assert run_command(command, root / "log") == 0, (root / "log").read_text()
    assert sorted(path.name for path in root.iterdir()) == ["log", "run"]
    return read_results(root / "run")["zero_shot"]


NO_DECODING = kill_at("decode", 0)


def test_two_ranks_make_what_one_process_uses(fit: Flags, expected: list[float], tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert run_on_ranks(2, fit("two"), log) == 0, log.read_text()
    (file,) = (tmp_path / "cache").iterdir()
    assert file.name.startswith("Flags_") and file.stat().st_size == BYTES
    assert run_command(fit("one", *NO_DECODING), log) == 0, log.read_text()
    assert run_on_ranks(2, fit("again", *NO_DECODING), log) == 0, log.read_text()
    for name in ("two", "one", "again"):
        assert read_results(tmp_path / name)["zero_shot"] == expected


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_while_it_is_made(ranks: int, fit: Flags, expected: list[float], tmp_path: Path) -> None:
    log, cache = tmp_path / "log", tmp_path / "cache"
    run = run_command if ranks == 1 else lambda command, log: run_on_ranks(2, command, log)
    assert run(fit("run", *kill_at("decode", 64)), log) == -9, log.read_text()
    (left,) = cache.iterdir()
    assert left.name.startswith(".Flags_") and left.stat().st_size == BYTES  # sparse, but of full length
    assert run(fit("run", "--ckpt_path", "last"), log) == 0, log.read_text()
    assert [path.stat().st_size for path in cache.glob("Flags_*")] == [BYTES]
    assert read_results(tmp_path / "run")["zero_shot"] == expected
    assert run_command(fit("again", *NO_DECODING), log) == 0, log.read_text()
    assert read_results(tmp_path / "again")["zero_shot"] == expected


def test_a_full_disk_is_told_in_one_sentence(fit: Flags, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert run_command(fit("run"), log, largest_file=BYTES // 2) == 2
    (told,) = [line for line in log.read_text().splitlines() if line.startswith("error:")]
    assert told.endswith("or keep them in memory with null.") and ".uint8 cannot be written: File too large." in told
    assert not list((tmp_path / "cache").iterdir())
