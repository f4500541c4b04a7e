"""Files of tensors: written atomically with a checksum, read without running code."""

import contextlib
import errno
import zlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from gift_lightning.errors import InputError
from gift_lightning.files import atomic_write

_CHECKSUM = "crc32"
"""Key of the checksum among the metadata of safetensors."""


def save_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Write a mapping with ``torch.save``, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_write(path) as temporary, _as_os_error(RuntimeError):
        torch.save(checkpoint, temporary)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors by name, a state dict for instance, as safetensors with metadata and a checksum, atomically.

    Args:
        tensors: of any shapes, on any device.
        path: the file.
        metadata: texts for the header of the file.

    Raises:
        InputError: the file cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary, _as_os_error(SafetensorError):
        save_file(state, temporary, {"format": "pt", **(metadata or {}), _CHECKSUM: _checksum(state)})


def _checksum(state: Mapping[str, Tensor]) -> str:
    """CRC-32 of all tensors, in the order of their names: safetensors has no checksum."""
    value = 0
    for name in sorted(state):
        value = crc32_of(state[name], value)
    return f"{value:08x}"


def crc32_of(tensor: Tensor, value: int = 0) -> int:
    """CRC-32 of the bytes of a tensor ``[...]``; an eighth of a second for 150 million parameters on a CPU.

    Args:
        tensor: of any shape, on any device.
        value: the CRC-32 of the bytes before it, to continue.
    """
    return zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data, value)


@contextlib.contextmanager
def _as_os_error(kind: type[Exception]) -> Iterator[None]:
    """Turn the errors of torch and safetensors about a full disk into an ``OSError``."""
    try:
        yield
    except kind as error:
        if kind is not RuntimeError:
            raise OSError(errno.EIO, str(error).split("\n")[0]) from error
        if "inline_container" in str(error) or "PytorchStreamWriter" in str(error):
            raise OSError(errno.EIO, "the end of it could not be written, as on a full disk") from error
        raise


def hash_of(weights: Iterable[Tensor]) -> Tensor:
    """SHA-256 of weights as float32, uint8 ``[32]``. Stored beside derived tensors, it names the weights they are from.

    Weights on the meta device are left out.
    """
    digest = sha256()
    for weight in weights:
        if weight.is_meta:
            continue
        digest.update(weight.detach().float().cpu().flatten().contiguous().view(torch.uint8).numpy().data)
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors ``[...]`` in a safetensors file, by name, on the CPU.

    Raises:
        InputError: the file is missing or damaged; without a checksum in it, some damage goes unnoticed.
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
    """The checksum that ``save_tensors`` wrote into a file; ``None`` for a file of another program.

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
