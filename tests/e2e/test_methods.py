"""Every method from the command line: killed at any moment, on any number of ranks, it is the same run."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from gift_lightning import methods
from tests.e2e.conftest import CONFIG, final_weights, kill_at, read_results, run_command, run_on_ranks
from tests.e2e.gradients import keep_steps
from tests.e2e.same import assert_same_end, assert_same_steps, walked
from tests.e2e.test_ranks import FLOAT64

ORACLE = "{class_path: datamodules.mini.OracleGenerator}"
DRAWN = (
    "SyntheticReplay, init_args: {folder: '${run.root}/replay', images_per_task: 20, batch_size: 8, initial_prompts:"
    f" ['a photo of a star', 'a photo of a house'], generator: {ORACLE}}}"
)
TASK, MEMORY = "CurrentTask, init_args: {batch_size: 8}", "ExemplarMemory, init_args: {size: 9, batch_size: 4}"
GENERAL = "mini.GeneralReference, init_args: {size: 21, batch_size: 8}"
FEW_GENERAL = "mini.GeneralReference, init_args: {size: 21, batch_size: 4}"

METHODS = {
    "ConDU": ("{task_id: unknown, experts: 2}", None),
    "ConDU, low rank": (
        "{task_id: unknown, experts: 2, weighting: similarity, prototype_images: augmented, lora: {rank: 2}}",
        None,
    ),
    "Finetune": ("{restart: true}", None),
    "L2": ("{l2: 0.5}", None),
    "GIFT": ("{consolidation_weight: 0.5}", DRAWN),
    "GIFTAblation, wise": ("{teacher: wise, consolidation_weight: 0.5}", DRAWN),
    "GIFTAblation, boundary": ("{consolidation: boundary, consolidation_weight: 0.5}", DRAWN),
    "ZSCL": ("{average_every: 3, l2: 0.5}", GENERAL),
    "ZSCLAblation": ("{average_every: 3, l2: 0.5, image_image_weight: 0.5, feature_weight: 1.0}", GENERAL),
    "LwF": ("{}", TASK),
    "LwFVR": ("{texts: 7}", TASK),
    "ICaRL": ("{}", MEMORY),
    "WiSEFT": ("{alpha: 0.7}", None),
    "MoEAdapter": (
        "{experts: 4, width: 8, selector_steps: 9, reference_steps: 5, selector_width: 8, threshold: 0.02}",
        FEW_GENERAL,
    ),
    "WeightAveraging": ("{average: last, every: 2, pull: 0.2}", None),
}
"""Settings of each method, and its ``data.replay``."""


@dataclass
class Whole:
    """An uninterrupted run of three small tasks in float64, what ``KeepSteps`` kept of it, and its command."""

    folder: Path
    steps: Path
    command: list[str]


def command_of(name: str, folder: Path, generator: str = ORACLE) -> list[str]:
    """The command of a run of three tasks with a method of ``METHODS``, whose settings go into ``folder``.

    ``generator``: of the replay images of a method that draws some.
    """
    settings, source = METHODS[name]
    method, source = name.split(",")[0], (source or "").replace(ORACLE, generator)
    replay = f"data: {{replay: {{class_path: datamodules.{source}}}}}" if source else ""
    (folder / "overlay.yaml").write_text(f"""
run: {{name: run}}
model:
  class_path: gift_lightning.methods.{method}
  init_args: {settings}
{replay}
""")
    return ["fit", "--config", CONFIG, "--config", str(folder / "overlay.yaml"), "--data.steps", "4"]


@pytest.fixture(scope="module", params=METHODS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    root = tmp_path_factory.mktemp("whole")
    command = [*command_of(request.param, root), *FLOAT64, "--run.root"]
    status = run_command([*command, str(root), *keep_steps(root / "steps")], root / "log.txt")
    assert status == 0, (root / "log.txt").read_text()
    return Whole(root / "run", root / "steps", command)


def test_every_method_is_tried_here() -> None:
    kinds = {name: getattr(methods, name) for name in methods.__all__ if name != "ContinualCLIP"}
    learning = {name for name, kind in kinds.items() if kind.learning == "steps"}
    assert {name.split(",")[0] for name in METHODS} == learning


def test_killed_run_resumes_bit_identical(whole: Whole, tmp_path: Path) -> None:
    def run(*flags: str) -> int:
        return run_command([*whole.command, str(tmp_path), *flags], tmp_path / "log.txt")

    assert run(*kill_at("step", 7)) == -9, (tmp_path / "log.txt").read_text()
    assert run("--ckpt_path", "last", *kill_at("evaluate", 4)) == -9, (tmp_path / "log.txt").read_text()
    assert run("--ckpt_path", "last") == 0, (tmp_path / "log.txt").read_text()
    assert read_results(tmp_path / "run")["R"] == read_results(whole.folder)["R"]
    assert (tmp_path / "run" / "metrics.csv").read_text() == (whole.folder / "metrics.csv").read_text()
    ours, theirs = final_weights(tmp_path / "run"), final_weights(whole.folder)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_two_ranks_equal_one_process(whole: Whole, tmp_path: Path) -> None:
    flags = keep_steps(tmp_path / "steps", follow=whole.steps)
    status = run_on_ranks(2, [*whole.command, str(tmp_path), *flags], tmp_path / "log.txt")
    assert status == 0, (tmp_path / "log.txt").read_text()
    assert_same_steps(tmp_path / "steps", whole.steps, walked(whole.folder))
    assert_same_end(tmp_path / "run", whole.folder)
