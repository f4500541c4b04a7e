"""A standard output or standard error that cannot be written costs no run, and is told."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import CONFIG, _processes, assert_same_run

OUTPUTS = {
    "full disk": "No space left on device",
    "closed": "Bad file descriptor",
    "broken pipe": "Broken pipe",
}


def _spoil(descriptor: int, how: str) -> None:
    if how == "closed":
        os.close(descriptor)
    elif how == "full disk":
        os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, descriptor)
        os.close(writer)


def _program(argv: list[str], spoilt: dict[int, str], log: str) -> None:
    for descriptor in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), descriptor)
    for descriptor, how in spoilt.items():
        _spoil(descriptor, how)
    if spoilt.get(1) == "closed":
        sys.stdout = None  # type: ignore[assignment]  # as Python finds it
    sys.argv = ["gift_lightning", *argv]
    multiprocessing.set_start_method("fork", force=True)
    from gift_lightning.__main__ import program

    program()


def run_program(argv: list[str], spoilt: dict[int, str], log: Path) -> int | None:
    """Run a command as a program whose standard output (1) or standard error (2) is spoilt; what is left goes to
    ``log``."""
    process = _processes.Process(target=_program, args=(argv, spoilt, str(log)))
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def commands(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    root = tmp_path_factory.mktemp("output")
    weights = str(reference / "checkpoints" / "task03.safetensors")
    return {
        "report": ["report", str(reference)],
        "export": ["export", "--run", str(reference), "--out", str(root / "model.safetensors")],
        "doctor": ["doctor", "--config", CONFIG, "--run.root", str(root)],
        "generate": [
            *("generate", "--config", CONFIG, "--config", str(Path(CONFIG).with_name("gift.yaml"))),
            *("--run.root", str(root), "--data.replay.images_per_task", "4"),
        ],
        "test": ["test", "--config", CONFIG, "--weights", weights],
        "help": ["report", "--help"],
    }


@pytest.mark.parametrize("command", ["report", "export", "doctor", "generate", "test", "help"])
def test_a_full_disk_is_told(command: str, commands: dict[str, list[str]], tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert run_program(commands[command], {1: "full disk"}, log) == 2, log.read_text()
    assert log.read_text() == "error: The standard output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("how", OUTPUTS)
def test_other_outputs_that_cannot_be_written(how: str, commands: dict[str, list[str]], tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert run_program(commands["report"], {1: how}, log) == 2
    assert log.read_text() == f"error: The standard output cannot be written: {OUTPUTS[how]}.\n"
    # nobody can be told, but for the status
    assert run_program([*commands["report"], "--format", "no"], {2: how}, log) == 2
    assert run_program(commands["report"], {1: how, 2: how}, log) == 2
    assert len(log.read_text().splitlines()) == 1


def test_a_run_goes_on_without_its_output(reference: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert run_program(["fit", "--config", CONFIG, "--run.root", str(tmp_path)], {1: "full disk"}, log) == 2
    assert log.read_text() == "error: The standard output cannot be written: No space left on device.\n"
    assert_same_run(tmp_path / "three_tasks", reference)


def test_output_that_can_be_written_is_as_ever(commands: dict[str, list[str]], tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert run_program(commands["report"], {}, log) == 0
    assert "After the last task" in log.read_text()
