"""The YAML of configs and flags."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import yaml
from jsonargparse._loaders_dumpers import get_yaml_default_loader

from gift_lightning.errors import InputError

DEEPEST = 50
"""Levels that a config may have."""
LARGEST = 100_000
"""Values that a config may have; those behind an alias count each time."""


def load_yaml(text: str) -> Any:
    """The value that a YAML text stands for, with keys as they are typed: ``0``, ``yes`` and ``1.0`` are texts.

    Raises:
        yaml.YAMLError: the text is not YAML; the value of a flag may still be a plain text.
        InputError: it has more levels or values than a config has, or a key twice.
    """
    _check(text)
    return yaml.load(text, _TextKeys)


def dump_yaml(value: Any) -> str:
    """A value as YAML; an object that is neither text, number nor container, as some class's default, is a text."""
    return yaml.dump(value, Dumper=_AnyDefault, sort_keys=False, allow_unicode=True)


class _AnyDefault(yaml.SafeDumper):
    """Writes enumerations, functions and classes by their names, and other objects as they call themselves.

    An object without a text of its own is written by its class: its address is another one in each process.

    A text is in quotes if any reader would take it for another value: ``1e3`` is a text for PyYAML alone.
    """

    yaml_implicit_resolvers: dict[Any, list[Any]] = {**yaml.SafeDumper.yaml_implicit_resolvers}


def _text_of(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name
    named = value if isinstance(getattr(value, "__qualname__", None), str) else type(value)
    text = str(value)
    if named is not value and " at 0x" not in text:
        return text
    return f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"


_AnyDefault.add_multi_representer(object, lambda dumper, value: dumper.represent_str(_text_of(value)))


class _TextKeys(get_yaml_default_loader()):  # type: ignore[misc]
    """The parser's reader of YAML, for which dates are text and 1e-3 is a number; keys are text as well."""


def _mapping(loader: _TextKeys, node: yaml.MappingNode) -> Iterator[dict[str, Any]]:
    """A dictionary, as PyYAML makes it, but for the keys."""
    content: dict[str, Any] = {}
    yield content  # it is filled later: its content may be large
    loader.flatten_mapping(node)
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
        content[key.value] = loader.construct_object(value)


_TextKeys.add_constructor("tag:yaml.org,2002:map", _mapping)
for first in {*_AnyDefault.yaml_implicit_resolvers, *_TextKeys.yaml_implicit_resolvers}:
    theirs, ours = (reader.yaml_implicit_resolvers.get(first, []) for reader in (_AnyDefault, _TextKeys))
    _AnyDefault.yaml_implicit_resolvers[first] = [*ours, *(each for each in theirs if each not in ours)]


@dataclass
class _Level:
    """A list or mapping whose end has not come yet."""

    anchor: str | None = None
    is_mapping: bool = False
    nodes: int = 0
    """Nodes directly in it, keys and values alike."""
    size: int = 0
    """Values in it at all levels."""
    keys: set[str] = field(default_factory=set)


def _check(text: str) -> None:
    """Refuse a text that would take the parser minutes or overflow its stack, before it is built."""
    levels, sizes = [_Level()], dict[str, int]()
    for event in yaml.parse(text, _TextKeys):
        if isinstance(event, yaml.CollectionStartEvent):
            levels.append(_Level(event.anchor, isinstance(event, yaml.MappingStartEvent)))
            if len(levels) > DEEPEST:
                raise InputError(f"it has more than {DEEPEST} levels{_line(event)}: no setting is that deep.")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            ended = levels.pop()
            anchor, size = ended.anchor, ended.size
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
            _check_key(levels[-1], event)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in [level.anchor for level in levels]:
                raise InputError(f"*{event.anchor}{_line(event)} refers to a value that contains it.")
            anchor, size = None, sizes.get(event.anchor or "", 1)
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        levels[-1].nodes += 1
        levels[-1].size += size
        if levels[-1].size > LARGEST:
            raise InputError(f"it has more than {LARGEST} values{_line(event)}: no config is that large.")


def _check_key(level: _Level, event: yaml.ScalarEvent) -> None:
    """The last one of equal keys would win in silence."""
    if level.is_mapping and level.nodes % 2 == 0:
        if event.value in level.keys:
            raise InputError(f"it has the key '{event.value}' twice{_line(event)}: remove one of them.")
        level.keys.add(event.value)


def _line(event: yaml.Event) -> str:
    return f" (line {event.start_mark.line + 1})" if event.start_mark else ""
