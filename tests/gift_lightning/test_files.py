"""Files are the old version or the new one, whatever happens in between; what cannot be read is named."""

import csv
import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from gift_lightning.clip.weights import load_weights
from gift_lightning.errors import InputError
from gift_lightning.files import atomic_write, read_json, remove_unfinished, write_json, write_text, writing_in
from gift_lightning.records.checkpoint import AtomicCheckpointIO
from gift_lightning.records.metrics_csv import MetricsCSV
from gift_lightning.tensors import load_tensors, save_tensors


class Calls:
    """An object that calls a function when it is pickled (``now``) or else when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, now: bool = False) -> None:
        self.function, self.arguments, self.now = function, arguments, now

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.now:
            return self.function, self.arguments
        self.function(*self.arguments)
        return dict, ()


class BadValueError(Exception):
    pass


def fail() -> None:
    raise BadValueError


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 100 kB."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# --- atomic files -----------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(BadValueError), atomic_write(path) as temporary:
        temporary.write_text("half of the n")
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["file.txt"]


def test_what_killed_writes_left_is_removed(tmp_path: Path) -> None:
    kept = [".hidden.tmp", "file.txt", "other.tmp.txt"]
    for name in kept:
        (tmp_path / name).touch()
    with atomic_write(tmp_path / "file.txt") as temporary:
        temporary.write_text("whole")
    for _ in range(2):
        for left in (temporary, tmp_path / ".tmpQx3aZ9"):  # safetensors writes to another file and renames it
            left.write_text("left by a process that was killed")
        remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == kept
    assert (tmp_path / "file.txt").read_text() == "whole"


@pytest.mark.skipif(os.name != "posix", reason="no locks on folders")
def test_the_last_who_writes_into_a_folder_removes_what_killed_writes_left(tmp_path: Path) -> None:
    with writing_in(tmp_path / "new" / "folder"), atomic_write(tmp_path / "new" / "folder" / "file.txt") as temporary:
        temporary.write_text("of a process that lives")
        with writing_in(tmp_path / "new" / "folder"):
            pass
        assert temporary.exists()
    with writing_in(tmp_path / "new" / "folder"):
        temporary.write_text("left by a process that was killed")
    assert os.listdir(tmp_path / "new" / "folder") == ["file.txt"]
    with pytest.raises(InputError, match="cannot be written"), writing_in(tmp_path / "new" / "folder" / "file.txt"):
        pass


def test_processes_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with atomic_write(path) as one:
        one.write_text("the first to begin")
        with atomic_write(path, durable=False) as other:
            other.write_text("the first to end")
        assert path.read_text() == "the first to end"
        one.write_text("the last to end")
    assert path.read_text() == "the last to end"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"R": [[0.1, 2], []], "name": "é", "none": None, "of": {'a"b': [{"x": [True]}], "empty": {}}}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value
    lines = (tmp_path / "value.json").read_text().split("\n")
    assert lines[:6] == ["{", ' "R": [', "  [0.1, 2],", "  []", " ],", ' "name": "\\u00e9",']  # a row of R on a line


@pytest.mark.parametrize("writer", ["text", "checkpoint", "weights"])
@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_told_and_leaves_the_old_file_alone(writer: str, tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write(size: int) -> None:
        if writer == "text":
            write_text(path, "x" * size)
        elif writer == "checkpoint":
            AtomicCheckpointIO().save_checkpoint({"weight": torch.zeros(size)}, path)
        else:
            save_tensors(nn.Linear(size, 1).state_dict(), path)

    write(100)
    old = path.read_bytes()
    with pytest.raises(InputError, match=f"{path} cannot be written"):
        write(1_000_000)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_another_process_began_is_kept(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no hard links")))
    for text in ("first", "second"):
        with atomic_write(tmp_path / "file", keep=True) as temporary:
            temporary.write_text(text)
    assert (tmp_path / "file").read_text() == ("first" if links else "second")
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"{tmp_path}/file/folder/x cannot be written"):
        write_text(tmp_path / "file" / "folder" / "x", "")


def test_unserialisable_json_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"tensor": torch.zeros(1)})
    assert read_json(path) == 1


@pytest.mark.parametrize("content", [None, b"", b'{"R": [1, ', b"\xff\xfe\x00"])
def test_json_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        read_json(path)


# --- checkpoints ------------------------------------------------------------------------------------------------------

PARTS: dict[str, Any] = {"state_dict": {}, "loops": {}, "callbacks": {}, "optimizer_states": [], "global_step": 3}
"""A checkpoint of Lightning, as far as reading one looks at it."""


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    checkpoint = {**PARTS, "state_dict": {"weight": torch.arange(3.0)}, "rows": [[1.0, 2.0]], "best": None}
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    loaded = AtomicCheckpointIO().load_checkpoint(path)
    assert torch.equal(loaded["state_dict"].pop("weight"), torch.arange(3.0))
    assert loaded == {**PARTS, "rows": [[1.0, 2.0]], "best": None}


def test_checkpoint_is_written_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, elsewhere = tmp_path / "checkpoints", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    monkeypatch.setattr(tempfile, "tempdir", None)
    seen: list[tuple[int, int]] = []

    def look() -> None:
        seen.append((len(os.listdir(folder)), len(os.listdir(elsewhere))))

    AtomicCheckpointIO().save_checkpoint({}, folder / "last.ckpt")
    AtomicCheckpointIO().save_checkpoint({"spy": Calls(look, now=True)}, folder / "last.ckpt")
    assert seen == [(2, 0)]
    assert os.listdir(folder) == ["last.ckpt"]
    assert not os.listdir(elsewhere)


def test_a_failed_checkpoint_leaves_the_old_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(PARTS, path)
    with pytest.raises(BadValueError):
        AtomicCheckpointIO().save_checkpoint({"task": 2, "bad": Calls(fail, now=True)}, path)
    assert AtomicCheckpointIO().load_checkpoint(path) == PARTS
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_checkpoint_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "code": Calls(os.mkdir, str(tmp_path / "made"))}, path)
    for weights_only in (None, True, False):
        with pytest.raises(InputError, match=str(path)):
            AtomicCheckpointIO().load_checkpoint(path, weights_only=weights_only)
    assert not (tmp_path / "made").exists()


def test_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({**PARTS, "weight": torch.zeros(1000)}, path)
    for size in (path.stat().st_size // 2, 0):
        os.truncate(path, size)
        with pytest.raises(InputError, match=str(path)):
            AtomicCheckpointIO().load_checkpoint(path)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path, weights = tmp_path / "last.ckpt", tmp_path / "task01.safetensors"
    AtomicCheckpointIO().save_checkpoint({**PARTS, "state_dict": {"weight": torch.ones(1000)}}, path)
    save_tensors({"weight": torch.ones(1000)}, weights)
    for file, read in ((path, AtomicCheckpointIO().load_checkpoint), (weights, load_tensors)):
        read(file)
        damaged = bytearray(file.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=f"{file} cannot be read: it is damaged"):
            read(file)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], torch.zeros(3)])
def test_what_is_no_checkpoint_of_a_run_is_named(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt is not the checkpoint of a run"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "other.pt")


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path / 'last.ckpt'} does not exist"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_round_trip(tmp_path: Path) -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_tensors(model.state_dict(), tmp_path / "task01.safetensors")
    load_weights(other, tmp_path / "task01.safetensors")
    assert torch.equal(model.weight, other.weight)
    assert os.listdir(tmp_path) == ["task01.safetensors"]


def test_the_same_weights_and_metadata_give_the_same_bytes(tmp_path: Path) -> None:
    state = {"é": torch.ones(3), "b": torch.zeros(2, dtype=torch.uint8)}
    metadata = {name: f'{name}\u2028é"\n\x7f\x1f' for name in "dacbe"}
    files = [tmp_path / f"{number}.safetensors" for number in range(4)]
    for file in files:
        save_tensors(state, file, metadata)
    assert len({file.read_bytes() for file in files}) == 1
    assert load_tensors(files[0]).keys() == state.keys()
    with safe_open(files[0], "pt") as opened:
        assert opened.metadata().items() >= metadata.items()


def test_weights_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    path = tmp_path / "task01.safetensors"
    with pytest.raises(InputError, match=f"{path} does not exist"):
        load_weights(nn.Linear(3, 2), path)
    save_tensors(nn.Linear(3, 2).state_dict(), path)
    for other in (nn.Linear(3, 4), nn.Linear(3, 2, bias=False), nn.Sequential(nn.Linear(3, 2))):
        with pytest.raises(InputError, match=f"{path} does not fit"):
            load_weights(other, path)
    os.truncate(path, 100)
    with pytest.raises(InputError, match=f"{path} cannot be read"):
        load_weights(nn.Linear(3, 2), path)


# --- metrics.csv ------------------------------------------------------------------------------------------------------


def read_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def log(folder: Path, rows: dict[int, dict[str, float]]) -> MetricsCSV:
    logger = MetricsCSV(str(folder))
    for step, metrics in rows.items():
        logger.log_metrics(metrics, step)
        logger.save()
        assert len(read_rows(folder)) >= 1
    return logger


def test_resumed_file_is_that_of_an_uninterrupted_run(tmp_path: Path) -> None:
    rows: dict[int, dict[str, float]] = {0: {"loss": 9.5}, 2: {"loss": 7.25}, 4: {"cl/avg": 60.0, "loss": 0.1}}
    log(tmp_path / "whole", rows).finalize("success")
    killed = log(tmp_path / "resumed", {0: rows[0], 2: rows[2]})
    kept = killed.text  # in a checkpoint
    for step, values in ((4, {"loss": 99.0}), (5, {"killed": 1.0})):
        killed.log_metrics(values, step)
    killed.save()
    resumed_logger = MetricsCSV(str(tmp_path / "resumed"))
    resumed_logger.restore(kept)
    resumed_logger.log_metrics({"cl/avg": 60.0}, 4)
    resumed_logger.restore(resumed_logger.text)  # a checkpoint amid what one step logs
    resumed_logger.log_metrics({"loss": 0.1}, 4)
    resumed_logger.finalize("success")
    whole, resumed = ((tmp_path / name / "metrics.csv").read_bytes() for name in ("whole", "resumed"))
    assert resumed == whole
    assert json.dumps(read_rows(tmp_path / "whole")[0]) == '{"step": "0", "cl/avg": "", "loss": "9.5"}'


def test_a_new_column_appears_in_all_rows(tmp_path: Path) -> None:
    log(tmp_path, {1: {"b": 1.0}, 2: {"c": 2.0}, 3: {"a": 3.0}})
    empty = {"a": "", "b": "", "c": ""}
    expected = [{"step": "1", "b": "1.0"}, {"step": "2", "c": "2.0"}, {"step": "3", "a": "3.0"}]
    assert read_rows(tmp_path) == [{**empty, **row} for row in expected]


def test_a_row_is_added_to_the_file_in_place_and_a_column_or_a_changed_file_writes_it_anew(tmp_path: Path) -> None:
    logger, path, files = MetricsCSV(str(tmp_path)), tmp_path / "metrics.csv", []
    logged: list[tuple[int, dict[str, float]]] = [(1, {"b": 1.0, "a": 0.5}), (2, {"b": 2.0}), (2, {"a": 3.0})]
    for step, values in [*logged, (3, {"a": 4.0}), (4, {"c": 5.0}), (5, {"c": 6.0, "a": 7.0}), (6, {"b": 8.0})]:
        if step == 6:
            path.write_text("part of a")  # as after a kill of another process
        logger.log_metrics(values, step)
        logger.save()
        assert path.read_text() == logger.text
        files.append(path.stat().st_ino if step < 6 else 0)
    assert files[0] == files[1] == files[2] == files[3] != files[4] == files[5]
    logger.finalize("success")
    final = path.stat().st_mtime_ns
    logger.finalize("success")
    assert path.read_text() == logger.text and path.stat().st_mtime_ns == final
    logger.log_metrics({"b": 9.0}, 7)
    logger.finalize("success")
    assert path.read_text() == logger.text


def test_values_of_one_step_share_a_row_unless_they_repeat(tmp_path: Path) -> None:
    logger = MetricsCSV(str(tmp_path))
    for metrics in ({"loss": 1.0}, {"lr": 2.0}, {"loss": 3.0}):
        logger.log_metrics(metrics, 7)
    logger.save()
    rows = [{"step": "7", "loss": "1.0", "lr": "2.0"}, {"step": "7", "loss": "3.0", "lr": ""}]
    assert read_rows(tmp_path) == rows


def test_a_logger_that_logged_nothing_keeps_the_file(tmp_path: Path) -> None:
    log(tmp_path, {1: {"loss": 1.0}})
    before = (tmp_path / "metrics.csv").read_bytes()
    MetricsCSV(str(tmp_path)).finalize("success")
    assert (tmp_path / "metrics.csv").read_bytes() == before
    assert os.listdir(tmp_path) == ["metrics.csv"]


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_hides_no_other_error(tmp_path: Path) -> None:
    logger = MetricsCSV(str(tmp_path))
    for step in range(10_000):
        logger.log_metrics({"loss": 0.123456789}, step)
    logger.finalize("failed")  # by an error that is to be told
    with pytest.raises(InputError, match=r"metrics\.csv cannot be written"):
        logger.finalize("success")
