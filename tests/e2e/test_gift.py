"""GIFT from the command line: killed at any moment, on any number of ranks, it is the same run."""

from pathlib import Path

import pytest
import torch

from tests.e2e.conftest import CONFIG, Fit, kill_at, read_results, run_command
from tests.e2e.gradients import keep_steps
from tests.e2e.same import assert_same_end, assert_same_steps, walked
from tests.e2e.same_files import assert_same_files
from tests.e2e.test_ranks import FLOAT64, fit_on_two_ranks

GIFT = ["--config", str(Path(__file__).parent / "gift.yaml")]
MOMENTS = {
    "while images are drawn": ("draw", 13),
    "before the teacher sees the pairs": ("on_task_start", 1),
    "mid-task": ("step", 11),
    "last step of a task, its checkpoint written": ("on_task_end", 1),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    root = tmp_path_factory.mktemp("gift")
    status = run_command(["fit", "--config", CONFIG, *GIFT, "--run.root", str(root)], root / "log.txt")
    assert status == 0, (root / "log.txt").read_text()
    return root / "gift"


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_run_resumes_bit_identical(moment: str, fit: Fit, tmp_path: Path, whole: Path) -> None:
    assert fit(*GIFT, *kill_at(*MOMENTS[moment])) == -9, (tmp_path / "log.txt").read_text()
    assert fit(*GIFT, "--ckpt_path", "last") == 0, (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path / "gift", whole)
    assert_same_files(tmp_path / "replay", whole.parent / "replay")


CLIP_AT = 0.5
FEW_STEPS = ["--data.steps", "5", "--trainer.gradient_clip_val", str(CLIP_AT)]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float64 run in one process, and in ``steps`` what ``KeepSteps`` kept of it."""
    return in_one_process(tmp_path_factory.mktemp("one"))


def in_one_process(root: Path, *flags: str) -> Path:
    command = ["fit", "--config", CONFIG, *GIFT, "--run.root", str(root), *FLOAT64, *FEW_STEPS, *flags]
    status = run_command([*command, *keep_steps(root / "steps")], root / "log.txt")
    assert status == 0, (root / "log.txt").read_text()
    return root


def assert_equal_on_ranks(root: Path, one: Path, *flags: str) -> None:
    flags = (*FLOAT64, *FEW_STEPS, *flags, *keep_steps(root / "steps", follow=one / "steps"))
    fit_on_two_ranks(root, *GIFT, *flags)
    assert_same_steps(root / "steps", one / "steps", walked(one / "gift"))
    assert_same_end(root / "gift", one / "gift")


def test_two_ranks_equal_one_process(one_process: Path, tmp_path: Path) -> None:
    assert_equal_on_ranks(tmp_path, one_process)
    files = list((tmp_path / "replay").rglob("*.png"))
    assert len(files) == 3 * 40
    for file in files:
        assert file.read_bytes() == (one_process / file.relative_to(tmp_path)).read_bytes()
    for task in range(3):  # what monitors see is clipped, and nothing beside it
        step = torch.load(tmp_path / "steps" / f"step{task}.pt")
        norm = torch.stack([gradient.norm() for gradient in step["monitored"].values()]).norm()
        assert norm > CLIP_AT
        for name, gradient in step["monitored"].items():
            torch.testing.assert_close(step["gradients"][name], gradient * CLIP_AT / norm, rtol=1e-5, atol=0)


def test_a_boundary_fisher_is_the_same_on_two_ranks(tmp_path: Path) -> None:
    # a set that is no multiple of the batch, and so of the ranks
    flags = ["--model.consolidation", "boundary", "--data.replay.images_per_task", "21"]
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    in_one_process(one, *flags)
    assert_equal_on_ranks(two, one, *flags)


def test_killed_while_one_rank_draws_resumed_on_two(one_process: Path, tmp_path: Path) -> None:
    command = ["fit", "--config", CONFIG, *GIFT, "--run.root", str(tmp_path), *FLOAT64, *FEW_STEPS]
    assert run_command([*command, *kill_at("draw", 13)], tmp_path / "log.txt") == -9, (tmp_path / "log.txt").read_text()
    fit_on_two_ranks(tmp_path, *GIFT, *FLOAT64, *FEW_STEPS, "--ckpt_path", "last")
    assert_same_end(tmp_path / "gift", one_process / "gift")


def test_weights_of_a_run_are_evaluated_without_its_images(whole: Path, tmp_path: Path) -> None:
    weights = str(whole / "checkpoints" / "task03.safetensors")
    command = ["test", "--config", CONFIG, *GIFT, "--run.root", str(tmp_path), "--ckpt_path", weights]
    assert run_command(command, tmp_path / "log.txt") == 0, (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "replay").exists()
    last = read_results(whole)["R"][-1]
    assert all(f"{accuracy:.2f}" in (tmp_path / "log.txt").read_text() for accuracy in last)


def test_a_run_leaves_a_picture_of_what_it_replayed(whole: Path) -> None:
    from PIL import Image

    with Image.open(whole / "replay.png") as picture:
        assert picture.width > 500 and picture.height > 300
