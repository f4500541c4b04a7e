"""A finished run whose files are damaged: one sentence or the right result, never a traceback or another result."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import gift_lightning
from gift_lightning.errors import InputError
from gift_lightning.records.run_folder import RunFolder
from tests.e2e.conftest import assert_same_run, call, fit_here, reference  # noqa: F401  # a fixture
from tests.fuzz.cases import cases

READ = ("results.json", "config.yaml", "checkpoints/task03.safetensors", "checkpoints/last.ckpt")
"""What is read back."""
WRITTEN = ("metrics.csv", "environment.json", "accuracy_matrix.csv", "accuracy_matrix.png")
"""What is only written."""
ODD: list[Any] = [
    None,
    True,
    -1,
    3,
    1e308,
    float("nan"),
    "",
    "x\ny",
    [],
    [[]],
    [1, "a"],
    {},
    {"id": {}},
    "[/b]$",
    10**400,
]


def _flip(path: Path, random: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(random.choice([1, 1, 3, 100])):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def _truncate(path: Path, random: random.Random) -> None:
    os.truncate(path, random.randrange(path.stat().st_size))


def _overwrite(path: Path, random: random.Random) -> None:
    size = path.stat().st_size
    begin = random.randrange(size)
    with open(path, "r+b") as file:
        file.seek(begin)
        file.write(bytes(random.choice([1, 100, size - begin])))


def _swap(path: Path, random: random.Random) -> None:
    other = path.parents[path.parent.name == "checkpoints"] / random.choice(READ + WRITTEN)
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.unlink()
    other.write_bytes(content)


def _replace(path: Path, random: random.Random) -> None:
    path.unlink()
    kind = random.choice(["folder", "link", "nothing", "deep", "empty"])
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("nowhere")
    elif kind != "nothing":
        path.write_text("" if kind == "empty" else random.choice("[{") * 100_000)


def _retype(path: Path, random: random.Random) -> None:
    """Another type somewhere in a JSON (or YAML) file."""
    try:
        content = holder = json.loads(path.read_text())
    except ValueError:  # another format, or damaged already
        return _flip(path, random)
    while True:
        key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        if not isinstance(holder[key], dict | list) or not holder[key] or random.random() < 0.3:
            break
        holder = holder[key]
    if random.random() < 0.2:
        del holder[key]
    else:
        holder[key] = random.choice(ODD)
    path.write_text(json.dumps(content))
    return None


DAMAGES: list[Callable[[Path, random.Random], None]] = [_flip, _truncate, _overwrite, _swap, _replace, _retype, _retype]


@pytest.fixture
def damaged(case: int, reference: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A copy of the run with one or two damaged files."""
    chance, run = random.Random(case), tmp_path / "three_tasks"
    shutil.copytree(reference, run, copy_function=os.link)
    for _ in range(chance.choice([1, 1, 2])):
        path = run / chance.choice([READ[0], *READ, *READ, *WRITTEN])
        if path.is_file():
            content = path.read_bytes()
            path.unlink()  # not the file of the reference
            path.write_bytes(content or b"x")
            chance.choice(DAMAGES)(path, chance)
    return run


def _is_one_sentence(err: str) -> bool:
    return err.startswith("error: ") and len(err.strip().splitlines()) == 1


@cases(16)
def test_readers_of_a_damaged_run(case: int, damaged: Path, reference: Path, tmp_path: Path) -> None:  # noqa: F811
    cells = call("report", str(reference), "--format", "markdown")[1].splitlines()[-1].split("|")[2:]
    for runs in ([str(damaged)], [str(reference), str(damaged)]):
        for form in ("terminal", "markdown", "latex"):
            status, _, err = call("report", *runs, "--format", form)
            assert (status, err) == (0, "") or (status == 2 and _is_one_sentence(err)), err
        if status == 0 and len(runs) == 1:
            assert call("report", *runs, "--format", "markdown")[1].splitlines()[-1].split("|")[2:] == cells
    final = load_file(reference / "checkpoints" / "task03.safetensors")
    try:
        weights = gift_lightning.load(damaged).clip.model.state_dict()
        assert all(torch.equal(weights[name], tensor) for name, tensor in final.items())
    except InputError as error:
        assert "\n" not in str(error)
    status, _, err = call("export", "--run", str(damaged), "--out", str(tmp_path / "out.safetensors"))
    assert status == 0 or (status == 2 and _is_one_sentence(err)), err
    if status == 0:
        exported = load_file(tmp_path / "out.safetensors")
        assert all(torch.equal(exported[name], tensor) for name, tensor in final.items())


@cases(4)
def test_a_damaged_run_goes_on_or_says_why_not(case: int, damaged: Path, reference: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = RunFolder.at(damaged)
    try:
        results = folder.read_results()
    except InputError:
        results = None
    if results is not None:  # as after a kill
        (damaged / "results.json").unlink()  # not the file of the reference
        (damaged / "results.json").write_text(json.dumps({**results, "complete": False}))
    status, _, err = fit_here(tmp_path, "--ckpt_path", "last")
    assert status == 0 or (status == 2 and _is_one_sentence(err)), err
    if status == 0:
        assert_same_run(damaged, reference)
