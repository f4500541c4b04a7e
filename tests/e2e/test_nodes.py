"""A run on two nodes, of which one is lost; ``tests/e2e/two_nodes.py`` does so with the agents of torchrun."""

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from datamodules.mini import Flags
from tests.e2e.conftest import (
    CONFIG,
    _command,
    free_port,
    kill_at,
    read_results,
    run_command,
    run_on_ranks,
    start_process,
    statuses_of,
)
from tests.e2e.same import assert_same_end
from tests.e2e.test_ranks import FLOAT64
from tests.e2e.two_nodes import GIFT, GONE, LIMIT

ROOT = Path(__file__).parents[2]
SHORT = ["--data.steps", "3", "--data.replay.images_per_task", "16", "--run.checkpoint_every", "1"]
COMMAND = ["fit", "--config", CONFIG, "--config", GIFT, *FLOAT64, *SHORT, "--run.root"]
RESUME = ["--ckpt_path", "last"]


def in_folder(folder: Path, *arguments: Any) -> None:
    os.chdir(folder)
    _command(*arguments)


def start_ranks(
    argv: list[str], log: Path, places: Sequence[dict[str, str]], folders: Sequence[Path] = (ROOT, ROOT)
) -> list[BaseProcess]:
    """Start a command in a new process for each rank, whose environment says its place."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [
        start_process(in_folder, folder, argv, str(log), None, {**meeting, **place})
        for place, folder in zip(places, folders, strict=True)
    ]


def start_on_two_nodes(argv: list[str], log: Path, folders: Sequence[Path] = (ROOT, ROOT)) -> list[BaseProcess]:
    """Start one rank on each of two nodes, in the environment that torchrun gives them."""
    places = []
    for rank in ("0", "1"):
        place = {"RANK": rank, "GROUP_RANK": rank, "LOCAL_RANK": "0"}
        places.append({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", **place})
    return start_ranks([*argv, "--trainer.num_nodes", "2", "--trainer.strategy", "ddp"], log, places, folders)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run on two nodes left, of which one was killed within the second task."""
    root = tmp_path_factory.mktemp("stopped")
    ranks = start_on_two_nodes([*COMMAND, str(root), *kill_at("step", 5, rank=1)], root / "log.txt")
    ranks[1].join()
    statuses, told = statuses_of(ranks, LIMIT), (root / "log.txt").read_text()
    assert statuses == [2, -9], told
    assert GONE.search(told), told
    return root


def test_what_two_nodes_have_begun_four_ranks_and_one_finish(stopped: Path, tmp_path: Path) -> None:
    one, log = tmp_path / "one", tmp_path / "log.txt"
    assert run_command([*COMMAND, str(one)], log) == 0, log.read_text()
    root = str(shutil.copytree(stopped, tmp_path / "runs"))
    assert run_on_ranks(4, [*COMMAND, root, *RESUME, *kill_at("step", 7)], log) == -9, log.read_text()
    assert run_command([*COMMAND, root, *RESUME], log) == 0, log.read_text()
    assert_same_end(tmp_path / "runs" / "gift", one / "gift")


class OtherImages(Flags):
    """The first node has another copy."""

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {os.environ.get('GROUP_RANK')}"


def test_nodes_with_other_data_are_refused(tmp_path: Path) -> None:
    tasks = "[{class_path: tests.e2e.test_nodes.OtherImages, init_args: {train_size: 16, test_size: 8}}]"
    command = ["fit", "--config", CONFIG, "--data.tasks", tasks, "--run.root", str(tmp_path)]
    assert statuses_of(start_on_two_nodes(command, tmp_path / "log.txt")) == [2, 2]
    assert "Rank 1 has other data, prompts or starting weights than rank 0" in (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "three_tasks").exists()


def test_nodes_without_a_shared_folder_are_refused(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "node0" / "runs")
    (tmp_path / "node1").mkdir()
    log, folders = tmp_path / "log.txt", (tmp_path / "node0", tmp_path / "node1")
    assert statuses_of(start_on_two_nodes([*COMMAND, "runs", *RESUME], log, folders)) == [2, 2], log.read_text()
    assert "Rank 1 has another checkpoint to go on from than rank 0" in log.read_text()


def test_the_script_for_slurm_runs_on_two_nodes(tmp_path: Path) -> None:
    """With an ``srun`` that writes down what it should run, on which this test starts the ranks."""
    job = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NAME": "gift-lightning", "SLURM_NNODES": "2", "SLURM_NTASKS": "2"}
    job |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_CPUS_PER_TASK": "1"}
    (tmp_path / "srun").write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{tmp_path}/words.txt'\n")
    (tmp_path / "srun").chmod(0o755)
    flags = ["--config", CONFIG, "--data.steps", "2", "--model.warmup_steps", "1", "--run.root", str(tmp_path)]
    script = ["bash", str(ROOT / "scripts" / "slurm.sbatch"), *flags]
    subprocess.run(script, env={"PATH": f"{tmp_path}:/usr/bin:/bin", **job}, check=True)
    words = (tmp_path / "words.txt").read_text().splitlines()
    start = words.index("python")
    assert words[start : start + 3] == ["python", "-m", "gift_lightning"]
    assert all(word.startswith("--") for word in words[:start])
    places = [
        {**job, "SLURM_NODEID": rank, "SLURM_PROCID": rank, "SLURM_LOCALID": "0", "CUDA_VISIBLE_DEVICES": ""}
        for rank in ("0", "1")
    ]
    statuses = statuses_of(start_ranks(words[start + 3 :], tmp_path / "log.txt", places))
    assert statuses == [0, 0], (tmp_path / "log.txt").read_text()
    assert read_results(tmp_path / "three_tasks")["complete"]


def test_a_port_of_another_program_is_told_in_one_sentence(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        place = {"WORLD_SIZE": "2", "MASTER_PORT": port, "RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "0"}
        flags = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--run.root", str(tmp_path)]
        assert run_command(["fit", "--config", CONFIG, *flags], log, MASTER_ADDR="127.0.0.1", **place) == 2
    (told,) = [line for line in log.read_text().splitlines() if line.startswith("error:")]
    assert told.startswith(f"error: No ranks can meet at 127.0.0.1:{port}: address already in use. Set MASTER_ADDR")
