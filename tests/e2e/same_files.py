"""Whether two commands left the same files: all of them, but for what no two runs have in common."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from gift_lightning.records.checkpoint import read_checkpoint
from gift_lightning.tensors import sha256_of

MEASURED = ("_seconds", "shares", "images_per_second", "peak_memory_bytes")
"""What ``results.json`` has measured among its costs."""


def assert_same_files(folder: Path, reference: Path) -> None:
    """Two folders of runs of the same name and the same settings have the same files; see ``differences``."""
    differing = differences(folder, reference, (folder.parent, reference.parent))
    assert not differing, differing


def differences(ours: Path, theirs: Path, roots: tuple[Path, Path]) -> list[str]:
    """What differs between the files below two folders, temporary and hidden ones included; empty if nothing does.

    Left out are the times and the memory of a run, its command line, its page, and the place of ``run.root``. Of
    ``last.ckpt``, in which times are, the content is compared; of all other files, each byte.
    """
    mine, other = contents(ours, roots[0]), contents(theirs, roots[1])
    missing = [f"{name} is missing" for name in other if name not in mine]
    left = [f"{name} is left over" for name in mine if name not in other]
    differing = [name + where for name in mine if name in other and (where := _difference(mine[name], other[name]))]
    return missing + left + differing


def contents(folder: Path, root: Path) -> dict[str, Any]:
    """The content of each file below ``folder`` by its path there; ``root`` is the ``run.root`` that they name."""
    # the page shows the other files, and a clock says when it is written
    files = [file for file in sorted(folder.rglob("*")) if not file.is_dir() and file.name != "report.html"]
    return {file.relative_to(folder).as_posix(): _content(file, str(root)) for file in files}


def _content(file: Path, root: str) -> Any:
    if file.name == "last.ckpt":
        checkpoint = read_checkpoint(file)
        del checkpoint["callbacks"]["RunTime"], checkpoint["callbacks"]["RunRecord"]["peak_memory"]
        return _plain(checkpoint, root)
    if file.name == "results.json":
        results = json.loads(file.read_text())
        return {**results, "cost": {k: v for k, v in results["cost"].items() if not k.endswith(MEASURED)}}
    if file.name == "environment.json":
        return {**json.loads(file.read_text()), "command": None}
    return file.read_bytes().replace(root.encode(), b"<root>")


def _plain(value: Any, root: str) -> Any:
    """The content of a checkpoint with the hash of each tensor; dictionaries keep the order of their keys."""
    if isinstance(value, Tensor):
        return f"tensor {sha256_of(value)}, strides {value.stride()}, of {value.untyped_storage().nbytes()} bytes"
    if isinstance(value, dict):
        return {key: _plain(inner, root) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *(_plain(inner, root) for inner in value)]
    return value.replace(root, "<root>") if isinstance(value, str) else value


def _difference(mine: Any, other: Any) -> str:
    """Where two contents differ, and how; empty if they are equal, in their types and the order of keys too."""
    if type(mine) is not type(other):
        return f": {mine!r:.60}, not {other!r:.60}"
    if isinstance(mine, dict):
        if [*mine] != [*other]:
            return f": keys {[*mine]!s:.200}, not {[*other]!s:.200}"
        return next((f"/{key}{where}" for key in mine if (where := _difference(mine[key], other[key]))), "")
    if isinstance(mine, list) and len(mine) == len(other):
        pairs = enumerate(zip(mine, other, strict=True))
        return next((f"/{place}{where}" for place, pair in pairs if (where := _difference(*pair))), "")
    return "" if mine == other or mine != mine else f": {mine!r:.100}, not {other!r:.100}"
