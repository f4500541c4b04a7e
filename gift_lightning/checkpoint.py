"""Checkpoints and weights that survive a kill at any moment."""

import contextlib
import errno
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from gift_lightning.errors import InputError
from gift_lightning.files import atomic_write

_PARTS = {"state_dict", "loops", "callbacks", "optimizer_states", "global_step"}
"""What every checkpoint of Lightning has that a run can go on from."""

_CHECKSUM = "crc32"
"""Key of the checksum among the metadata of safetensors."""

_OTHER = "is not the checkpoint of a run: give the last.ckpt of a run folder"
_WEIGHTS_ALONE = (
    "holds weights alone, and no progress to resume from: give the last.ckpt of a run; to start a new run from these"
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
        checkpoint = read_checkpoint(Path(path))
        if not checkpoint.keys() >= _PARTS:
            raise InputError(f"Checkpoint {path} {_OTHER}.")
        return checkpoint


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
        broken = None if lazy else _broken_part(path)
        content: Any = None if broken else torch.load(path, map_location="cpu", weights_only=True, mmap=lazy or None)
    except Exception as error:
        raise InputError(f"Checkpoint {path} cannot be read: it is damaged, or not a checkpoint.") from error
    if broken:
        raise InputError(f"Checkpoint {path} cannot be read: it is damaged, for its checksums do not fit.")
    if not isinstance(content, dict):
        raise InputError(f"Checkpoint {path} {_OTHER}.")
    return content


def _broken_part(path: Path) -> str | None:
    """The first part of a checkpoint whose checksum does not fit: torch writes checksums and does not look at them."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


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
    """Write tensors by name, a state dict for instance, as safetensors with metadata and a checksum, atomically."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary, _as_os_error(SafetensorError):
        save_file(state, temporary, {"format": "pt", **(metadata or {}), _CHECKSUM: _checksum(state)})


def _checksum(state: Mapping[str, Tensor]) -> str:
    """The format has none of its own, and a flipped bit is another weight."""
    value = 0
    for name in sorted(state):
        value = crc32_of(state[name], value)
    return f"{value:08x}"


def crc32_of(tensor: Tensor, value: int = 0) -> int:
    """CRC-32 of the bytes of a tensor, which a change of any entry or of their order changes; an eighth of a second
    for 150 million parameters on a CPU.

    Args:
        tensor: on any device.
        value: the CRC-32 of what comes before it.
    """
    return zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data, value)


@contextlib.contextmanager
def _as_os_error(kind: type[Exception]) -> Iterator[None]:
    """torch and safetensors tell of a full disk by errors of their own."""
    try:
        yield
    except kind as error:
        if kind is not RuntimeError:
            raise OSError(errno.EIO, str(error).split("\n")[0]) from error
        if "inline_container" in str(error) or "PytorchStreamWriter" in str(error):
            raise OSError(errno.EIO, "only a part of it could be written, as on a full disk") from error
        raise


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
        InputError: the file is missing or damaged, as far as a checksum is in it.
    """
    expected = checksum_in(path)
    try:
        state = load_file(path)
    except Exception as error:
        raise InputError(f"{path} cannot be read: it is damaged.") from error
    if expected is not None and _checksum(state) != expected:
        raise InputError(f"{path} cannot be read: it is damaged, for its checksum does not fit.")
    return state


def checksum_in(path: Path) -> str | None:
    """The checksum that ``save_tensors`` wrote into a file; ``None`` if other programs wrote it.

    Raises:
        InputError: the file is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get(_CHECKSUM)
    except Exception as error:
        raise InputError(f"{path} cannot be read: it is damaged.") from error
