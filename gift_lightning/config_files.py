"""The files given with ``--config``, and those that they build on."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gift_lightning.errors import InputError, first_line

_FLAG = "--config"


def with_bases(argv: Sequence[str]) -> list[str]:
    """The command line with the files that a config builds on before it.

    A config may name others under ``base``, by their paths from where it lies, one or a list: they are read first, so
    that what it says itself comes on top. They may have bases of their own.

    Raises:
        InputError: a file is missing, is no YAML with keys, or builds on itself. The parser does not say which file is
            broken, or where.
    """
    expanded: list[str] = []
    words = iter(argv)
    for word in words:
        name = next(words, None) if word == _FLAG else word.removeprefix(f"{_FLAG}=")
        if name is None or name == word or name.startswith("{"):
            expanded += [word] if name in (None, word) else [_FLAG, name]
        else:
            expanded += [part for path in _chain(Path(name), ()) for part in (_FLAG, str(path))]
    return expanded


def _chain(path: Path, above: tuple[Path, ...]) -> list[Path]:
    """A config after all that it builds on."""
    if path.resolve() in above:
        raise InputError(f"The config {path} builds on itself: remove it from 'base' there or in what it builds on.")
    bases = _read(path).get("base") or []
    if isinstance(bases, str):
        bases = [bases]
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise InputError(f"The config {path} has 'base: {bases}': name a file, or a list of files.")
    below = [file for base in bases for file in _chain(_beside(path, base), (*above, path.resolve()))]
    return [*below, path]


def _beside(path: Path, name: str) -> Path:
    return Path(os.path.normpath(path.parent / name))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"The config {path} {'is a folder' if path.is_dir() else 'does not exist'}: name a file.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"The config {path} is not valid YAML{line}: {error.problem}.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"The config {path} cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"The config {path} has no keys, as in 'data:': {type(content).__name__} is no config.")
    return content
