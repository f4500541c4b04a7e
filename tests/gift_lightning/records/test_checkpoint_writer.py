"""Checkpoints in two files are read as they were written, whatever changes between them and whenever it is killed."""

import os
import random
import shutil
import threading
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gift_lightning.clip import weights as weights_module
from gift_lightning.clip.weights import read_file
from gift_lightning.errors import InputError
from gift_lightning.records import checkpoint as checkpoint_module
from gift_lightning.records import checkpoint_writer
from gift_lightning.records.checkpoint import IN_BACKGROUND, AtomicCheckpointIO, read_checkpoint
from gift_lightning.records.checkpoint_writer import CheckpointWriter, host_copy
from gift_lightning.tensors import with_constants


def a_checkpoint(step: int) -> dict[str, Any]:
    """The checkpoint of a method with a teacher, at a step of a task."""
    model = nn.ModuleDict({"clip": nn.Linear(100, 100), "teacher": nn.Linear(100, 100), "average": nn.Linear(100, 100)})
    knowledge = {"masks": torch.arange(500).reshape(50, 10).T, "hash": torch.tensor(3, dtype=torch.uint8)}
    rest = {"loops": {}, "callbacks": {}, "optimizer_states": [{"state": {0: torch.randn(100, 100)}}]}
    return {"global_step": step, "state_dict": model.state_dict(), "knowledge": knowledge, **rest}


def stepped(checkpoint: dict[str, Any], *moving: str) -> dict[str, Any]:
    """The checkpoint of the next step, after which all tensors of these modules are others."""
    following = deepcopy(checkpoint)
    following["global_step"] += 1
    for name, tensor in following["state_dict"].items():
        if name.startswith(moving):
            tensor += 1
    return following


def assert_same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert [*ours] == [*theirs]
        for name in theirs:
            assert_same(ours[name], theirs[name])
    elif isinstance(theirs, torch.Tensor):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    else:
        assert str(ours) == str(theirs)


def second_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("last_constants_*"))


@pytest.fixture
def last(tmp_path: Path) -> Path:
    """The path of a checkpoint in two files, of step 2."""
    writer, checkpoint = CheckpointWriter(tmp_path / "last.ckpt"), a_checkpoint(1)
    writer.write(checkpoint)
    writer.write(stepped(checkpoint, "clip"))
    return tmp_path / "last.ckpt"


def test_what_does_not_change_is_written_once(tmp_path: Path) -> None:
    writer, checkpoint, path = CheckpointWriter(tmp_path / "last.ckpt"), a_checkpoint(1), tmp_path / "last.ckpt"
    writer.write(checkpoint)
    whole = path.stat().st_size
    assert not second_files(tmp_path)
    written = set()
    for _ in range(3):
        checkpoint = stepped(checkpoint, "clip")
        writer.write(checkpoint)
        written |= {(file, file.stat().st_mtime_ns) for file in second_files(tmp_path)}
        assert path.stat().st_size < 0.7 * whole  # two of four matrices
        assert_same(read_checkpoint(path), checkpoint)
        assert_same(read_checkpoint(path, lazy=True), checkpoint)
    assert len(written) == 1
    assert read_file(path)["state_dict"]["teacher.weight"].shape == (100, 100)
    assert read_file(path, "meta")["state_dict"]["teacher.weight"].shape == (100, 100)


def test_a_reader_between_two_checkpoints_reads_the_next_one(last: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for reader, module in ((read_checkpoint, checkpoint_module), (read_file, weights_module)):
        first, following = a_checkpoint(1), a_checkpoint(3)

        def meanwhile(*arguments: Any, next_one: dict[str, Any] = following, **options: Any) -> Any:
            if second_files(last.parent):
                CheckpointWriter(last).write(next_one)  # and remove the second file of the one that is being read
            return with_constants(*arguments, **options)

        writer = CheckpointWriter(last)
        writer.write(first)
        writer.write(stepped(first, "clip"))
        monkeypatch.setattr(module, "with_constants", meanwhile)
        assert_same(reader(last), following)


def test_an_average_that_changes_is_in_the_checkpoint_itself(tmp_path: Path) -> None:
    writer, checkpoint, path = CheckpointWriter(tmp_path / "last.ckpt"), a_checkpoint(1), tmp_path / "last.ckpt"
    for moving in (["clip"], ["clip"], ["clip", "average"], ["clip"]):
        checkpoint = stepped(checkpoint, *moving)
        writer.write(checkpoint)
        alone = torch.load(path, weights_only=True)
        held = {name.partition(".")[0] for name, tensor in alone["state_dict"].items() if tensor is not None}
        assert held >= {*moving}
        assert_same(read_checkpoint(path), checkpoint)
    assert len(second_files(tmp_path)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_between_any_two_changes_of_the_folder_leaves_a_whole_checkpoint(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is looked at whenever a file is about to get its name or to go, as after a kill at this moment."""
    folder, path = tmp_path / "checkpoints", tmp_path / "checkpoints" / "last.ckpt"
    chance, checkpoint = random.Random(seed), a_checkpoint(1)
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    writer, allowed, looked = CheckpointWriter(path), [checkpoint], []

    def look(function: Any) -> Any:
        def watched(*arguments: Any, **named: Any) -> Any:
            shutil.copytree(folder, tmp_path / "killed")
            found = read_checkpoint(tmp_path / "killed" / "last.ckpt")
            assert_same(found, next(one for one in allowed if one["global_step"] == found["global_step"]))
            shutil.rmtree(tmp_path / "killed")
            looked.append(function)
            return function(*arguments, **named)

        return watched

    for owner, name in ((os, "replace"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, look(getattr(owner, name)))
    for _ in range(8):
        moving = [name for name in ("clip", "teacher", "average") if chance.random() < 0.4]
        allowed = [allowed[-1], stepped(allowed[-1], *moving)]
        if chance.random() < 0.2:  # a new process knows nothing of the files before
            writer = CheckpointWriter(path)
        writer.write(allowed[-1])
        assert_same(read_checkpoint(path), allowed[-1])
        assert len(second_files(folder)) <= 1
    AtomicCheckpointIO().save_checkpoint(allowed[-1], path)
    assert os.listdir(folder) == ["last.ckpt"]
    assert len(looked) > 10


def test_a_second_file_that_is_gone_is_written_again(last: Path) -> None:
    writer, checkpoint = CheckpointWriter(last), a_checkpoint(1)
    for _ in range(3):
        checkpoint = stepped(checkpoint, "clip")
        writer.write(checkpoint)
        for file in second_files(last.parent):
            file.unlink()
    with pytest.raises(InputError, match="is missing beside it"):
        read_checkpoint(last)
    writer.write(stepped(checkpoint, "clip"))
    assert_same(read_checkpoint(last), stepped(checkpoint, "clip"))


def test_a_copy_needs_both_files(last: Path, tmp_path: Path) -> None:
    [second], other = second_files(last.parent), tmp_path / "other"
    other.mkdir()
    shutil.copy(last, other / "mine.ckpt")
    for read in (read_checkpoint, read_file):
        with pytest.raises(InputError, match=f"mine.ckpt lacks a part of its weights: {second.name} is missing beside"):
            read(other / "mine.ckpt")
    with pytest.raises(InputError, match=f"{second.name} is missing beside it"):
        read_checkpoint(other / "mine.ckpt", lazy=True)
    shutil.copy(second, other)
    assert_same(read_checkpoint(other / "mine.ckpt"), read_checkpoint(last))
    (tmp_path / "link.ckpt").symlink_to(last)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "link.ckpt").symlink_to(last)
    assert_same(read_checkpoint(tmp_path / "far" / "link.ckpt"), read_checkpoint(last))


@pytest.mark.parametrize("damage", ["flipped", "cut", "other", "lacking", "folder", "list"])
def test_a_second_file_that_is_damaged_is_told(damage: str, last: Path) -> None:
    [second] = second_files(last.parent)
    content, data = torch.load(second, weights_only=True), bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "flipped":
        second.write_bytes(data)
    elif damage == "cut":
        os.truncate(second, len(data) // 2)
    elif damage == "folder":
        second.unlink()
        second.mkdir()
    else:
        content["state_dict"]["teacher.weight"] = content["state_dict"]["average.weight"]
        torch.save({"other": content, "lacking": {}, "list": []}[damage], second)
    with pytest.raises(InputError, match=f"last.ckpt cannot be read: {second.name} beside it is damaged, or of"):
        read_checkpoint(last)


def test_a_thread_writes_what_was_when_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io, path, checkpoint = AtomicCheckpointIO(), tmp_path / "last.ckpt", a_checkpoint(1)
    expected, may_write, whole = deepcopy(checkpoint), threading.Event(), torch.save
    monkeypatch.setattr(torch, "save", lambda *arguments: may_write.wait(60) and whole(*arguments))
    io.save_checkpoint(checkpoint, path, IN_BACKGROUND)
    for weight in checkpoint["state_dict"].values():  # training goes on
        weight.zero_()
    checkpoint["callbacks"]["rows"] = [1.0]
    assert not path.exists()
    may_write.set()
    io.teardown()
    assert_same(io.load_checkpoint(path), expected)


@pytest.mark.parametrize("after", ["background", "save", "end"])
def test_what_a_thread_cannot_write_is_told_once(after: str, tmp_path: Path) -> None:
    io, path, checkpoint = AtomicCheckpointIO(), tmp_path / "folder" / "last.ckpt", a_checkpoint(1)
    (tmp_path / "folder").touch()
    io.save_checkpoint(checkpoint, path, IN_BACKGROUND)
    with pytest.raises(InputError, match=r"last.ckpt cannot be written: .* Earlier files are whole: after a remedy"):
        if after == "end":
            io.teardown()
        else:
            io.save_checkpoint(checkpoint, path, IN_BACKGROUND if after == "background" else None)
    (tmp_path / "folder").unlink()
    io.teardown()
    io.save_checkpoint(checkpoint, path, IN_BACKGROUND)
    io.teardown()
    assert_same(read_checkpoint(path), checkpoint)


def test_a_full_disk_between_the_two_files_loses_nothing(last: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, whole = read_checkpoint(last), checkpoint_writer.save_checkpoint
    writer = CheckpointWriter(last)

    def full(content: Any, path: Path) -> None:
        if path == last:
            raise InputError("full")
        whole(content, path)

    writer.write(before)
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", full)
    with pytest.raises(InputError, match="full"):
        writer.write(stepped(before, "clip"))
    assert len(second_files(last.parent)) == 1
    assert_same(read_checkpoint(last), before)
    monkeypatch.undo()
    writer.write(stepped(before, "clip"))
    assert_same(read_checkpoint(last), stepped(before, "clip"))


def test_tensors_that_share_memory_share_its_copy() -> None:
    stack = torch.arange(12.0).reshape(3, 4)
    copied = host_copy({"state_dict": {"stack": stack}, "knowledge": {"row": stack[1], "column": stack[:, 2]}})
    stack.zero_()
    assert copied["knowledge"]["column"].tolist() == [2.0, 6.0, 10.0]
    copied["state_dict"]["stack"][1, 2] = 7.0
    assert copied["knowledge"]["row"].tolist() == [4.0, 5.0, 7.0, 7.0]
