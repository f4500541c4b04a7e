"""The files of ``--config``, and those that they build on."""

import argparse
import os
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile

from gift_lightning.config.yaml_text import load_yaml
from gift_lightning.errors import InputError, first_line
from gift_lightning.files import path_of

LINKED = {"data.seed": "seed_everything", "trainer.max_epochs": "data.num_tasks"}
"""Settings that follow from others; the parser refuses them as flags, and ignores them in files."""


class ConfigFile(ActionConfigFile):
    """``--config``: reads the bases of a config before the config itself."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        for config in with_bases(values):
            self.apply_config(parser, cfg, self.dest, config)


class OnlyInConfigs(argparse.Action):
    """A key of configs that is no flag."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        raise InputError(f"{option_string} is a key of configs and no flag: give that file first, with --config.")


def with_bases(config: str) -> list[str]:
    """A config after all its bases, in the order in which they are to be read.

    A config may name others under ``base``, by their paths from where it lies, one or a list: they are read first, so
    that its own settings come on top. They may have bases of their own.

    Args:
        config: path of a file, or the YAML itself, whose bases lie in the current folder.

    Raises:
        InputError: a file is missing, is no YAML with keys, or builds on itself. The parser does not say which file is
            broken, or where.
    """
    inline = None if os.path.exists(config) else _parse(config, "The config")
    if not isinstance(inline, dict):
        return [str(path) for path in _chain(path_of(config), ())]
    return [*map(str, _below(inline, Path("config"), ())), config]


def _chain(path: Path, above: tuple[Path, ...]) -> list[Path]:
    """A config after all its bases."""
    if path.resolve() in above:
        raise InputError(f"The config {path} builds on itself: remove it from 'base' there or in its bases.")
    return [*_below(_read(path), path, (*above, path.resolve())), path]


def _below(content: dict[str, Any], path: Path, above: tuple[Path, ...]) -> list[Path]:
    """All bases of the config in ``path``."""
    bases = content.get("base") or []
    if isinstance(bases, str):
        bases = [bases]
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise InputError(f"The config {path} has 'base: {bases}': name a file, or a list of files.")
    if "config" in content:
        raise InputError(f"The config {path} has a key 'config': name the files that it builds on under 'base'.")
    paths = [path_of(base) if base.startswith("~") else path.parent / base for base in bases]
    for target, origin in LINKED.items():
        group, _, key = target.partition(".")
        if isinstance(content.get(group), dict) and key in content[group]:
            raise InputError(f"The config {path} has {target}, which follows from {origin}: remove it.")
    return [file for base in paths for file in _chain(Path(os.path.normpath(base)), above)]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "is not a file" if path.exists() else "does not exist"
        raise InputError(f"The config {path} {fault}: name a file.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"The config {path} is not text in UTF-8: byte {error.start} does not decode.") from error
    except OSError as error:
        raise InputError(f"The config {path} cannot be read: {first_line(error)}") from error
    content = _parse(text, f"The config {path}")
    if not isinstance(content, dict):
        raise InputError(f"The config {path} has no keys, as in 'data:': {type(content).__name__} is no config.")
    return content


def _parse(text: str, whose: str) -> Any:
    try:
        return load_yaml(text)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{whose} is not valid YAML{line}: {error.problem}.") from error
    except (yaml.YAMLError, InputError) as error:
        raise InputError(f"{whose} cannot be read: {first_line(error)}") from error
