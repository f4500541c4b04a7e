"""Writing checkpoints one after the other, and what they have in common once."""

import contextlib
import glob
import json
from collections.abc import Iterable, Mapping
from copy import copy, deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gift_lightning.tensors import CONSTANTS, save_checkpoint, sha256_of

_Key = tuple[str, str]

_SHARE = 1 / 8
"""Of all tensors by name, in bytes: when so much has stopped changing, a file of constants pays."""


class CheckpointWriter:
    """Writes checkpoints of a task to one path, and the tensors that they have in common into a second file beside it.

    Teachers, anchors and frozen models do not change within a task. Nothing declares them: a tensor is constant if its
    SHA-256 is that in the checkpoint before. A checkpoint leaves out tensors whose SHA-256 is that of the tensor in the
    second file, and no others; it holds these hashes for its reader, see ``with_constants``. When another eighth of the
    tensors has become constant, a new second file is written.

    A second file has a hash of its content in its name. It is on the disk before a checkpoint that names it takes the
    place of the one before, and is deleted only after a checkpoint that does not: a kill at any moment leaves both.

    Args:
        path: the checkpoint; the second file is ``<stem>_constants_<hash>.pt`` in the same folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Path | None = None
        self._stored: dict[_Key, str] = {}  # the tensors in the second file, by SHA-256
        self._before: dict[_Key, str] = {}  # those of the checkpoint before

    def write(self, checkpoint: Mapping[str, Any]) -> None:
        """Write a checkpoint, atomically; the tensors in its mappings, as ``state_dict``, may go to the second file.

        Raises:
            InputError: a file cannot be written; the checkpoint before it is kept.
        """
        tensors = {
            (group, name): tensor
            for group, value in checkpoint.items()
            if isinstance(value, dict)
            for name, tensor in value.items()
            if isinstance(name, str) and isinstance(tensor, Tensor) and tensor.layout is torch.strided
        }
        digests = {key: sha256_of(tensor) for key, tensor in tensors.items()}
        if self._file is None or not self._file.is_file():
            self._stored = {}
        constant = {key for key, digest in digests.items() if self._stored.get(key) == digest}
        unchanged = {key for key, digest in digests.items() if self._before.get(key) == digest}
        if _size(tensors, unchanged - constant) > _SHARE * _size(tensors, tensors):
            constant |= unchanged
            self._write_constants({key: tensors[key] for key in sorted(constant)}, digests)
        save_checkpoint(self._without(checkpoint, constant), self.path)
        self._before = digests
        remove_constants(self.path, self._file if constant else None)

    def _write_constants(self, tensors: Mapping[_Key, Tensor], digests: Mapping[_Key, str]) -> None:
        """Write a second file of these tensors."""
        stored = {key: digests[key] for key in tensors}
        name = sha256(json.dumps([*stored.items()]).encode()).hexdigest()[:16]
        file = self.path.with_name(f"{self.path.stem}_constants_{name}.pt")
        save_checkpoint(_nested(tensors), file)
        self._file, self._stored = file, stored

    def _without(self, checkpoint: Mapping[str, Any], constant: set[_Key]) -> dict[str, Any]:
        """The checkpoint with ``None`` in the place of constants, and the name of the file that has them."""
        content = dict(checkpoint)
        if not constant or self._file is None:
            return content
        for group in {group for group, _ in constant}:
            content[group] = copy(content[group])
        for group, name in constant:
            content[group][name] = None
        digests = _nested({key: self._stored[key] for key in sorted(constant)})
        return content | {CONSTANTS: {"file": self._file.name, "sha256": digests}}


def remove_constants(path: Path, but: Path | None = None) -> None:
    """Remove the second files of a checkpoint, once it is written: all, or all but one."""
    for file in path.parent.glob(f"{glob.escape(path.stem)}_constants_{'[0-9a-f]' * 16}.pt"):
        if file != but:
            with contextlib.suppress(OSError):
                file.unlink()


def _size(tensors: Mapping[_Key, Tensor], keys: Iterable[_Key]) -> int:
    return sum(tensors[key].nbytes for key in keys)


def _nested(values: Mapping[_Key, Any]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for (group, name), value in values.items():
        nested.setdefault(group, {})[name] = value
    return nested


def host_copy(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A copy that no training step changes, its tensors in host memory; tensors that share memory share its copy."""
    copies: dict[int, Any] = {}
    storages: dict[int, torch.UntypedStorage] = {}
    for tensor in _tensors_within(checkpoint):
        copies[id(tensor)] = _on_host(tensor, storages)
    return deepcopy(checkpoint, copies)


def _tensors_within(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors_within(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _tensors_within(inner)


def _on_host(tensor: Tensor, storages: dict[int, torch.UntypedStorage]) -> Tensor:
    if tensor.layout is not torch.strided or tensor.is_conj() or tensor.is_neg():
        return tensor.detach().cpu().clone()
    storage = tensor.untyped_storage()
    host = storages.get(storage._cdata)
    if host is None:
        host = storages[storage._cdata] = storage.clone() if storage.device.type == "cpu" else storage.cpu()
    return torch.empty(0, dtype=tensor.dtype).set_(host, tensor.storage_offset(), tensor.size(), tensor.stride())
