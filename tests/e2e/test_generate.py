"""Replay images made ahead of time: the same files whoever makes them and whatever happens meanwhile."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import CONFIG, free_port, run_command
from tests.e2e.test_command_line import call

FLAGS = ["--config", CONFIG, "--config", str(Path(__file__).parent / "gift.yaml"), "--run.root"]
GENERATOR = "--data.replay.init_args.generator"


def generate(root: Path, *flags: str, **environment: str) -> int:
    return run_command(["generate", *FLAGS, str(root), *flags], root / "log.txt", **environment)


def files(root: Path) -> dict[str, bytes]:
    folder = root / "replay"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def together(*commands: list[str], log: Path) -> list[int]:
    """Run commands as the ranks that torchrun would start; returns their exit statuses."""
    common = {
        "WORLD_SIZE": str(len(commands)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "GROUP_RANK": "0",
    }
    common |= {"GROUP_RANK": "0", "LOCAL_WORLD_SIZE": str(len(commands)), "TORCHELASTIC_RUN_ID": "test"}

    def run(rank: int) -> int:
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        return run_command(commands[rank], log.with_name(f"rank{rank}.txt"), **common, **own)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(run, range(len(commands))))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes."""
    root = tmp_path_factory.mktemp("generate")
    assert generate(root) == 0, (root / "log.txt").read_text()
    return root


def test_all_tasks_are_made_and_told(reference: Path) -> None:
    made = files(reference)
    assert {name.split("/")[0] for name in made} == {"Flags_Syn", "Shapes_Syn", "Counting_Syn"}
    assert len(made) == 3 * (40 + 2)
    out = (reference / "log.txt").read_text()
    for name in ("Flags", "Shapes", "Counting"):
        assert re.search(rf"^ *{name} +40 +40 +\d+\.\d *$", out, re.MULTILINE), out
    assert f"Images: {reference}/replay" in out
    assert sorted(path.name for path in reference.iterdir()) == ["log.txt", "replay"]  # no run was begun


def test_complete_folders_are_left_alone(reference: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference.rglob("*.*") if path.name != "log.txt"}
    status, out, err = call("generate", *FLAGS, str(reference), "--model.l2", "null", "--trainer.devices", "2")
    assert status == 2 and "has no option 'l2'" in err  # the flags are those of fit
    status, out, err = call("generate", *FLAGS, str(reference), "--model.temperature", "3", "--trainer.devices", "2")
    assert status == 0, err
    assert re.search(r"^ *Flags +40 +0 *$", out, re.MULTILINE), out
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("die_at", [0, 50])
def test_killed_and_started_again(die_at: int, reference: Path, tmp_path: Path) -> None:
    dying = [GENERATOR, "tests.e2e.generators.DyingGenerator", f"{GENERATOR}.batch_size", "4"]
    assert generate(tmp_path, *dying, f"{GENERATOR}.die_at", str(die_at)) == -9, (tmp_path / "log.txt").read_text()
    left = files(tmp_path)
    assert sum("tmp" in name for name in left) == 1
    whole = {name: content for name, content in left.items() if name.endswith(".png") and "tmp" not in name}
    assert len(whole) == die_at
    before = {name: (tmp_path / "replay" / name).stat().st_mtime_ns for name in whole}
    # the oracle calls itself by the name of its class
    for manifest in (tmp_path / "replay").rglob("manifest.json"):
        manifest.write_text(manifest.read_text().replace("DyingGenerator", "OracleGenerator"))
    assert generate(tmp_path) == 0, (tmp_path / "log.txt").read_text()
    assert files(tmp_path) == files(reference)
    assert {name: (tmp_path / "replay" / name).stat().st_mtime_ns for name in whole} == before


def test_two_processes_share_the_work(reference: Path, tmp_path: Path) -> None:
    command = ["generate", *FLAGS, str(tmp_path)]
    assert together(command, command, log=tmp_path / "log.txt") == [0, 0], (tmp_path / "rank0.txt").read_text()
    assert files(tmp_path) == files(reference)
    assert (tmp_path / "rank1.txt").read_text() == ""


def test_a_process_of_srun_makes_its_share(reference: Path, tmp_path: Path) -> None:
    batch_script = {"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}
    for rank in ("1", "0"):
        step = {**batch_script, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": rank}
        assert generate(tmp_path, **step) == 0, (tmp_path / "log.txt").read_text()
        assert len(files(tmp_path)) == (3 * 22 if rank == "1" else 3 * 42)
    assert files(tmp_path) == files(reference)
    alone = tmp_path / "alone"
    alone.mkdir()
    assert generate(alone, **batch_script) == 0  # not started by srun: it is the only one
    assert files(alone) == files(reference)


def test_what_other_processes_have_not_made_is_told(tmp_path: Path) -> None:
    assert generate(tmp_path, RANK="0", WORLD_SIZE="2") == 0
    assert "60 images are left to the other processes" in (tmp_path / "log.txt").read_text()


def test_what_fails_on_one_rank_of_a_fit_ends_all_at_once(tmp_path: Path) -> None:
    failing = [GENERATOR, "tests.e2e.generators.FailingGenerator", f"{GENERATOR}.rank", "1"]
    ranks = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = ["fit", *FLAGS, str(tmp_path), *ranks, *failing, f"{GENERATOR}.batch_size", "4"]
    began = time.monotonic()
    assert together(command, command, log=tmp_path / "log.txt") == [2, 2], (tmp_path / "rank0.txt").read_text()
    assert time.monotonic() - began < 60
    told = (tmp_path / "rank0.txt").read_text()
    assert told.endswith("error: Rank 1 has no more paint: buy some.\n")
    pictures = [name for name in files(tmp_path) if name.endswith(".png")]
    assert len(pictures) in (12, 16)  # one round of both, and what the other rank made of the second


def test_sigterm_ends_a_fit_between_two_batches(tmp_path: Path) -> None:
    stopped = [GENERATOR, "tests.e2e.generators.StoppedGenerator", f"{GENERATOR}.batch_size", "4"]
    assert run_command(["fit", *FLAGS, str(tmp_path), *stopped], tmp_path / "log.txt") == 143
    assert "stopped by SIGTERM: go on with --ckpt_path last" in (tmp_path / "log.txt").read_text()
    assert len([name for name in files(tmp_path) if name.endswith(".png")]) == 8


def test_fast_dev_run_leaves_nothing(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = ["fit", *FLAGS, str(tmp_path / "root"), "--trainer.fast_dev_run", "true"]
    assert run_command(command, tmp_path / "log.txt", TMPDIR=str(temporary)) == 0, (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "root").exists()


BAD_INPUT = {
    "no replay": (["--data.replay", "null"], "There are no images to make: data.replay must be"),
    "no generator": ([GENERATOR, "null"], "There are no images to make: data.replay must be"),
    "misspelt generator": (
        [GENERATOR, "datamodules.replay.diffusion.DifusionGenerator"],
        "there is no class 'datamodules.replay.diffusion.DifusionGenerator' (did you mean 'DiffusionGenerator'?).",
    ),
    "misspelt option": ([f"{GENERATOR}.batch_sise", "3"], "(did you mean 'batch_size'?)"),
    "missing pipeline": (
        [GENERATOR, "datamodules.replay.diffusion.DiffusionGenerator", f"{GENERATOR}.name", "/no/where"],
        "data.replay.generator.name: /no/where does not exist",
    ),
    "missing prompts": (
        ["--data.replay.init_args.initial_prompts", "nowhere.txt"],
        "data.replay.initial_prompts: nowhere.txt does not exist",
    ),
    "prompts that cannot be drawn": (["--data.replay.init_args.initial_prompts", "[a dream]"], "a dream"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_sentence(case: str, tmp_path: Path) -> None:
    flags, expected = BAD_INPUT[case]
    status, _, err = call("generate", *FLAGS, str(tmp_path), *flags)
    assert status == 2
    assert err.startswith("error: ") and len(err.strip().splitlines()) == 1
    assert expected in err


def test_help_explains_the_options() -> None:
    status, out, _ = call("generate", "--help")
    assert status == 0
    assert "Make the replay images of a sequence ahead of time" in " ".join(out.split())
    assert len(out.split("options:")[0].splitlines()) < 6
    assert "generate" in call("--help")[1]


def test_interrupted_by_the_keyboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datamodules.mini import OracleGenerator

    whole, left = OracleGenerator.generate, [3]

    def interrupted(self: OracleGenerator, prompts: list[str], seeds: list[int]) -> list:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return whole(self, prompts, seeds)

    monkeypatch.setattr(OracleGenerator, "generate", interrupted)
    status, _, err = call("generate", *FLAGS, str(tmp_path))
    assert (status, err) == (130, "stopped.\n")
    assert len(os.listdir(tmp_path / "replay" / "Flags_Syn")) == 2 * 4 + 2
