"""Checkpoints that survive a kill at any moment: atomic writing, checked reading."""

import zipfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from gift_lightning.errors import InputError
from gift_lightning.records.checkpoint_writer import CheckpointWriter, host_copy, remove_constants
from gift_lightning.tensors import read_whole, save_checkpoint, with_constants

IN_BACKGROUND = {"background": True}
"""``storage_options`` of a checkpoint that a thread writes."""

_KEYS = {"state_dict", "loops", "callbacks", "optimizer_states", "global_step"}
"""Keys of every Lightning checkpoint from which a run can resume."""

_OTHER = "is not the checkpoint of a run: give the last.ckpt of a run folder"
_WEIGHTS_ALONE = (
    "holds weights alone, and no progress to resume from: give the last.ckpt of a run; to start a new run from these"
    " weights, name it as `model.clip.weights`"
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the old one and then renames it, so that ``last.ckpt`` is always a whole checkpoint.

    Lightning's class writes through ``$TMPDIR``: on another file system its last step is a copy over the only good
    file. Loading never unpickles code.

    A checkpoint is one file, on the disk when the call returns. One with ``storage_options=IN_BACKGROUND`` is written
    by a thread from a copy in host memory, one at a time, and in two files, see ``CheckpointWriter``. The next save and
    the end of the trainer's work wait for the thread, and raise its error.

    Raises:
        InputError: a checkpoint cannot be written or read, or a run cannot resume from it.
    """

    def __init__(self) -> None:
        self._writer: CheckpointWriter | None = None
        self._writing: Future[None] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        self.wait()
        if storage_options != IN_BACKGROUND:
            save_checkpoint(checkpoint, path)
            remove_constants(Path(path))
            return
        if self._writer is None or self._writer.path != Path(path):
            self._writer = CheckpointWriter(Path(path))
        executor = ThreadPoolExecutor(1, "checkpoint")
        # with the context of this thread: the sentence of an error depends on it
        self._writing = executor.submit(copy_context().run, self._writer.write, host_copy(checkpoint))
        executor.shutdown(wait=False)  # its thread ends with the file

    def wait(self) -> None:
        """Wait until what is written in the background is on the disk.

        Raises:
            InputError: it cannot be written.
        """
        writing = self._writing
        try:
            if writing is not None:
                writing.result()
        finally:  # Ctrl-C ends the waiting, not the writing; a signal's own save may have waited for it already
            if writing is not None and writing.done() and self._writing is writing:
                self._writing = None

    def teardown(self) -> None:
        self.wait()

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        checkpoint = read_checkpoint(Path(path))
        if not checkpoint.keys() >= _KEYS:
            raise InputError(f"Checkpoint {path} {_OTHER}.")
        return checkpoint


def read_checkpoint(path: Path, lazy: bool = False) -> dict[str, Any]:
    """The content of a checkpoint, that of its second file included, on the CPU; no code in it is run.

    Args:
        path: the file.
        lazy: tensors are read at their first use, and checksums are not verified: for reading the rest alone.

    Raises:
        InputError: a file is missing or damaged, or is no checkpoint.
    """
    if path.is_dir():
        raise InputError(f"Checkpoint {path} is a folder: name the file in it, such as checkpoints/last.ckpt of a run.")
    if not path.is_file():
        raise InputError(f"Checkpoint {path} does not exist: give a file, or 'last'.")
    if path.suffix == ".safetensors":
        raise InputError(f"Checkpoint {path} {_WEIGHTS_ALONE}.")
    return read_whole(path, lambda: _read(path, lazy))


def _read(path: Path, lazy: bool) -> dict[str, Any]:
    """See ``read_checkpoint``."""
    try:
        broken = None if lazy else _damaged_member(path)
        content: Any = None if broken else torch.load(path, map_location="cpu", weights_only=True, mmap=lazy or None)
    except Exception as error:
        raise InputError(f"Checkpoint {path} cannot be read: it is damaged, or not a checkpoint.") from error
    if broken:
        raise InputError(f"Checkpoint {path} cannot be read: it is damaged, for its checksums do not fit.")
    if not isinstance(content, dict):
        raise InputError(f"Checkpoint {path} {_OTHER}.")
    checkpoint: dict[str, Any] = with_constants(content, path, lazy=lazy)
    return checkpoint


def _damaged_member(path: Path) -> str | None:
    """The first file in a checkpoint's archive with a wrong checksum: torch writes checksums and ignores them."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def config_in(checkpoint: Mapping[str, Any], path: Path) -> str:
    """The config of the run that wrote a checkpoint, as YAML; empty in a checkpoint of version 0.1.0.

    Args:
        checkpoint: its content.
        path: its file, for messages.

    Raises:
        InputError: no run wrote it.
    """
    callbacks = checkpoint.get("callbacks")
    if not isinstance(callbacks, Mapping) and "loops" not in checkpoint:
        raise InputError(f"Checkpoint {path} {_WEIGHTS_ALONE}.")
    if not isinstance(callbacks, Mapping) or "TaskBoundary" not in callbacks:
        raise InputError(
            f"Checkpoint {path} was not written by a run of this program: resume from a run's checkpoints/last.ckpt; to"
            " start from its weights, name it as `model.clip.weights`."
        )
    return str(callbacks["TaskBoundary"].get("config", ""))
