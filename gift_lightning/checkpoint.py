"""Checkpoints and weights that survive a kill at any moment."""

import contextlib
import errno
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gift_lightning.errors import InputError
from gift_lightning.files import atomic_write

_WEIGHTS_ALONE = (
    "holds weights alone, and no progress to resume from: give the last.ckpt beside it; to start a new run from these"
    " weights, name it as model.clip.weights"
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the old one and then renames it, so that ``last.ckpt`` is always a whole checkpoint.

    Lightning's own way writes through ``$TMPDIR``: on another file system the last step is a copy over the only good
    file. Loading never unpickles code.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        save_checkpoint(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path, lazy: bool = False) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU; no code in it is run.

    Args:
        path: the file.
        lazy: tensors are read when they are used: for a look at the rest.

    Raises:
        InputError: the file is missing or damaged, or is no checkpoint.
    """
    if path.is_dir():
        raise InputError(f"Checkpoint {path} is a folder: name the file in it, such as checkpoints/last.ckpt of a run.")
    if not path.is_file():
        raise InputError(f"Checkpoint {path} does not exist: give a file, or 'last'.")
    if path.suffix == ".safetensors":
        raise InputError(f"Checkpoint {path} {_WEIGHTS_ALONE}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=lazy or None)
    except Exception as error:
        raise InputError(f"Checkpoint {path} cannot be read: it is damaged, or not a checkpoint.") from error
    if not isinstance(content, dict):
        raise InputError(f"Checkpoint {path} cannot be read: it holds a {type(content).__name__}, not a checkpoint.")
    return content


def config_in(checkpoint: Mapping[str, Any], path: Path) -> str:
    """The config of the run that wrote a checkpoint, as YAML; empty if an older version wrote it.

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
            " start from its weights, name it as model.clip.weights."
        )
    return str(callbacks["TaskBoundary"].get("config", ""))


def save_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Write what ``torch.save`` can write, atomically."""
    with atomic_write(path) as temporary, _as_os_error(RuntimeError):
        torch.save(checkpoint, temporary)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors by name, a state dict for instance, as safetensors with metadata, atomically."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary, _as_os_error(SafetensorError):
        save_file(state, temporary, dict(metadata) if metadata else None)


@contextlib.contextmanager
def _as_os_error(kind: type[Exception]) -> Iterator[None]:
    """torch and safetensors tell of a full disk by errors of their own."""
    try:
        yield
    except kind as error:
        if kind is RuntimeError and "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
            raise
        raise OSError(errno.EIO, str(error).split("\n")[0]) from error


def hash_of(weights: Iterable[Tensor]) -> Tensor:
    """Hash of weights as float32, 32 bytes: what is kept beside them belongs to them. An outline has none to hash."""
    digest = sha256()
    for weight in weights:
        if weight.is_meta:
            continue
        digest.update(weight.detach().float().cpu().flatten().contiguous().view(torch.uint8).numpy().data)
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file.

    Raises:
        InputError: the file is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    try:
        return load_file(path)
    except Exception as error:
        raise InputError(f"{path} cannot be read: it is damaged.") from error
