"""Runs of the command line in processes of their own, cheaply: the stack is imported once and then forked."""

import contextlib
import io
import itertools
import json
import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from datamodules.mini import Flags, Shapes
from gift_lightning.__main__ import main
from gift_lightning.tensors import save_tensors

CONFIG = str(Path(__file__).parent / "three_tasks.yaml")

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["gift_lightning.commands.cli"])

Fit = Callable[..., int]


def _command(argv: Sequence[str], log: str, largest_file: int | None, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    if "PYTHONPATH" in environment:  # Python itself reads it when it starts
        sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    multiprocessing.set_start_method("fork", force=True)  # for workers: those of a fork server would import the stack
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would not hear it
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with quietly(log):
        from gift_lightning.__main__ import main

        status = main(argv)
    os._exit(status)


@contextlib.contextmanager
def quietly(log: str) -> Iterator[None]:
    """Within it, what the process says goes to a file."""
    with open(log, "a", buffering=1) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield


def start_process(function: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """Call a function in a new process, which has imported the stack."""
    process = _processes.Process(target=function, args=arguments)
    process.start()
    return process


def free_port() -> str:
    """A port of this machine that nobody listens at, from those that the system gives to no outgoing connection."""
    for number in _port_numbers:
        port = 16000 + (101 * os.getpid() + number) % 16000  # processes beside this one begin elsewhere
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return str(port)
    raise AssertionError


_port_numbers = itertools.count()


def run_command(argv: Sequence[str], log: Path, largest_file: int | None = None, **environment: str) -> int:
    """Run a command in a new process; returns its exit status, negative after a signal.

    ``largest_file``: bytes beyond which the system refuses to write, as on a full disk.
    """
    process = _processes.Process(target=_command, args=(list(argv), str(log), largest_file, environment))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def start_ranks(
    count: int, argv: Sequence[str], log: Path, slurm: bool = False, **environment: str
) -> list[multiprocessing.process.BaseProcess]:
    """Start a command in ``count`` new processes, as a cluster's launcher does: SLURM's, or any other."""
    port = free_port()
    flags = [*argv, "--trainer.devices", str(count), "--trainer.strategy", "ddp"]
    ranks: list[multiprocessing.process.BaseProcess] = []
    for rank in map(str, range(count)):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **environment}
        if slurm:
            place |= {"SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "test", "SLURM_NTASKS": str(count), "SLURM_NODEID": "0"}
            place |= {"SLURM_NTASKS_PER_NODE": str(count), "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        else:
            place |= {"NODE_RANK": "0", "LOCAL_RANK": rank}
        ranks.append(start_process(_command, flags, str(log), None, place))
    return ranks


def statuses_of(ranks: Sequence[multiprocessing.process.BaseProcess], seconds: float = 300) -> list[int]:
    """The exit status of each rank, which has ``seconds`` to end; -9 if it does not."""
    limit = time.monotonic() + seconds
    for process in ranks:
        process.join(max(0.0, limit - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in ranks]


def run_on_ranks(count: int, argv: Sequence[str], log: Path, **environment: str) -> int:
    """Run a command in ``count`` new processes, as a cluster's launcher does; returns the worst exit status."""
    return max(statuses_of(start_ranks(count, argv, log, **environment)), key=abs)


def call(*argv: str) -> tuple[int, str, str]:
    """Run a command in this process: exit status, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(argv)
        except SystemExit as end:
            status = int(end.code or 0)
    return status, out.getvalue(), err.getvalue()


def fit_here(root: Path, *flags: str) -> tuple[int, str, str]:
    """A run of three small tasks below ``root``, in this process."""
    return call("fit", "--config", CONFIG, "--run.root", str(root), *flags)


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    """``fit(*flags)``: a run of three small tasks below ``tmp_path``; returns the exit status."""

    def call(*flags: str, **options: Any) -> int:
        log = tmp_path / "log.txt"
        return run_command(["fit", "--config", CONFIG, "--run.root", str(tmp_path), *flags], log, **options)

    return call


def kill_at(event: str, number: int, **options: int) -> list[str]:
    """Flags that kill the run, or send it a signal: see ``KillAt``."""
    settings = {"event": event, "number": number, **options}
    given = [f"--trainer.callbacks.{name}={value}" for name, value in settings.items()]
    return ["--trainer.callbacks+=tests.e2e.kill.KillAt", *given]


def read_results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def final_weights(folder: Path) -> dict[str, Tensor]:
    """The weights after the last task, from the weights file; they must be those of the last checkpoint.

    Of a method that keeps more than one model, all that it keeps.
    """
    knowledge = folder / "checkpoints" / "knowledge.safetensors"
    if knowledge.is_file():
        assert not list(knowledge.parent.glob("task*"))
        kept, checkpoint = load_file(knowledge), torch.load(knowledge.with_name("last.ckpt"), weights_only=True)
        assert kept.keys() == checkpoint["knowledge"].keys()
        assert all(torch.equal(tensor, checkpoint["knowledge"][name]) for name, tensor in kept.items())
        return checkpoint["knowledge"]  # in the order in which masks are packed
    weights = load_file(folder / "checkpoints" / "task03.safetensors")
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in weights.items():
        assert torch.equal(tensor, checkpoint[f"clip.model.{name}"]), name
    return weights


def assert_same_run(folder: Path, reference: Path) -> None:
    """Two runs left bit-identical results, weights and logged metrics."""
    assert (folder / "metrics.csv").read_bytes() == (reference / "metrics.csv").read_bytes()
    assert not [path for path in folder.rglob(".*") if "tmp" in path.name]
    ours, theirs = read_results(folder), read_results(reference)
    for key in ("R", "zero_shot", "metrics", "protocol", "complete"):
        assert ours[key] == theirs[key], key
    mine, other = final_weights(folder), final_weights(reference)
    assert mine.keys() == other.keys()
    for name in mine:
        assert torch.equal(mine[name], other[name]), name


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an uninterrupted run."""
    root = tmp_path_factory.mktemp("reference")
    status = run_command(["fit", "--config", CONFIG, "--run.root", str(root)], root / "log.txt")
    assert status == 0, (root / "log.txt").read_text()
    return root / "three_tasks"


@pytest.fixture(scope="session")
def small_vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A vision transformer with fresh weights, as a model folder."""
    return write_vit(tmp_path_factory.mktemp("vit"), image_size=32, layers=2, patch_size=8)


def write_vit(folder: Path, image_size: int, layers: int, patch_size: int) -> str:
    """Write a model folder with fresh weights; returns its name for ``model.clip.name``."""
    size = {"image_size": image_size, "layers": layers, "patch_size": patch_size}
    vision = {"width": 64, "head_width": 32, **size}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": {"width": 32, "heads": 1, "layers": 1}}
    whole = {"model_cfg": config, "preprocess_cfg": {"size": image_size}}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    torch.manual_seed(0)
    save_tensors(open_clip.model.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def write_own_images(folder: Path) -> None:
    """The folders that ``conf/own_images.yaml`` names, in small: ``birds`` are flags, ``tools`` are shapes."""
    birds, tools = Flags(56, 28), Shapes(60, 1)
    for task in (birds, tools):
        task.setup()
    names = {"birds/train": birds.class_names, "birds/test": birds.class_names, "tools": ["m8", *tools.class_names[1:]]}
    for where, images in zip(names, (birds.train_set, birds.test_set, tools.train_set), strict=True):
        for index, (image, label) in enumerate(images):
            path = folder / where / names[where][label] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
