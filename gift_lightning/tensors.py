"""Files of tensors: written atomically with a checksum, read without running code."""

import contextlib
import errno
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from gift_lightning.errors import InputError
from gift_lightning.files import atomic_write

T = TypeVar("T")

_CHECKSUM = "crc32"
"""Key of the checksum among the metadata of safetensors."""

CONSTANTS = "constants"
"""Key in a checkpoint of ``{"file": name, "sha256": {group: {name: digest}}}``: tensors that a second file holds."""


def save_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Write a mapping with ``torch.save``, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_write(path) as temporary, _as_os_error(RuntimeError):
        torch.save(checkpoint, temporary)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors by name, a state dict for instance, as safetensors with metadata and a checksum, atomically.

    The same tensors and metadata give the same bytes.

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
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata in the header of a safetensors file by name: the library writes them in a random order."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        if len(text) == size:  # tensors follow
            file.seek(8)
            file.write(text)


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
    return zlib.crc32(_bytes_of(tensor), value)


def sha256_of(tensor: Tensor) -> str:
    """SHA-256 of a tensor ``[...]``, of its type, its shape and its bytes."""
    digest = sha256(f"{tensor.dtype} {[*tensor.shape]} ".encode())
    digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


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
        digest.update(_bytes_of(weight.detach().float()))
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def with_constants(checkpoint: Any, path: Path, device: str = "cpu", lazy: bool = False) -> Any:
    """The content of a checkpoint with the tensors that are in a second file beside it; other content as it is.

    Args:
        checkpoint: what ``torch.load`` gives; the tensors are put into it.
        path: its file.
        device: of the tensors; ``meta`` for their shapes alone.
        lazy: they are read at their first use, and not verified.

    Raises:
        InputError: the second file is missing or damaged, or has other content than when the checkpoint was written.
    """
    constants = checkpoint.pop(CONSTANTS, None) if isinstance(checkpoint, dict) else None
    if constants is None:
        return checkpoint
    try:
        places = [place.with_name(Path(constants["file"]).name) for place in (path, path.resolve())]  # or behind a link
        file = next((place for place in places if place.is_file()), places[0])
        tensors = torch.load(file, device, weights_only=True, mmap=(lazy and device == "cpu") or None)
        for group, digests in constants["sha256"].items():
            for name, digest in digests.items():
                tensor = checkpoint[group][name] = tensors[group][name]
                if not lazy and device != "meta" and sha256_of(tensor) != digest:
                    raise ValueError(name)
    except FileNotFoundError:
        raise InputError(
            f"Checkpoint {path} lacks a part of its weights: {file.name} is missing beside it; copy both from the"
            " checkpoints folder of the run."
        ) from None
    except Exception as error:  # a damaged file raises any exception
        raise InputError(
            f"Checkpoint {path} cannot be read: {file.name} beside it is damaged, or of another run."
        ) from error
    return checkpoint


def read_whole(path: Path, read: Callable[[], T]) -> T:
    """The result of ``read``, called again if the file was replaced meanwhile.

    A run that writes its next checkpoint removes the second file of the one before: a reader may come between the two.

    Args:
        path: the file that ``read`` reads.
        read: raises an ``InputError`` if a part is missing.
    """
    while True:
        before = _version(path)
        try:
            return read()
        except InputError:
            if _version(path) in (before, None):
                raise


def _version(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        state = path.stat()
        return state.st_ino, state.st_mtime_ns
    return None


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
