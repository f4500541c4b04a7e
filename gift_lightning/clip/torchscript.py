"""The tensors in a TorchScript archive, the form of OpenAI's CLIP files, without running the code in it."""

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}


def is_torchscript(path: Path) -> bool:
    """Whether a file is a whole TorchScript archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, ValueError, struct.error):
        return False


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters, buffers and other tensors of the module in the archive, by the names of a state dict.

    ``torch.jit.load`` would run code in the file. Here its modules become objects with attributes and no methods, and
    the only functions called make a tensor from bytes in the archive.

    Raises:
        pickle.UnpicklingError: the archive refers to other objects than modules and tensors.
        Exception: the archive is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        data = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        reader = _Reader(archive, data.removesuffix("data.pkl"))
        return dict(_tensors(reader.load(), ""))


class _Reader(pickle.Unpickler):
    """Unpickles modules and tensors alone."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(BytesIO(archive.read(f"{root}data.pkl")))
        self._archive, self._root = archive, root
        self._module = type("Module", (_Module,), {})  # a class for this file alone: unpickling may change it
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return self._module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        allowed = {("torch._utils", "_rebuild_tensor_v2"): _tensor, ("collections", "OrderedDict"): OrderedDict}
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"Unsupported: GLOBAL {module}.{name}")  # in the words of torch.load
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, *_ = pid
        if key not in self._storages:
            content = bytearray(self._archive.read(f"{self._root}data/{key}"))
            self._storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return self._storages[key]


class _Module:
    """The attributes of a module, in its place."""


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _tensors(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
