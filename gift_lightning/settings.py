"""Objects that know the arguments they were made with, and so can be written into a config."""

import dataclasses
import inspect
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from gift_lightning.errors import InputError


class Configurable:
    """Base of all that a config names by ``class_path`` and ``init_args``; the last one, behind those of libraries.

    An object keeps the arguments of its constructor as the caller gave them: those of the class that was called, not
    those that its constructor hands to the classes it derives from.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    # in __new__, which sees the outermost call alone; no constructor has to be wrapped, so that all signatures stay
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        made.__dict__["_arguments"] = (args, kwargs)  # a torch module takes no attributes by name at this point
        return made

    def __init__(self) -> None:  # where object's is called, it would accept any arguments in silence
        super().__init__()


def settings_of(described: Any) -> dict[str, Any]:
    """What a config says of an object, as ``{"class_path": ..., "init_args": {...}}`` in types of YAML.

    ``init_args`` has the arguments that were given, without the defaults of the others. An argument that is a dataclass
    (``CLIPSource``, ``LoRA``) is a plain mapping, as in a config.

    Args:
        described: a ``Configurable``.

    Raises:
        InputError: an argument is of no type that YAML has.
    """
    return {"class_path": _path_of(type(described)), "init_args": arguments_of(described)}


def arguments_of(described: Any) -> dict[str, Any]:
    """The ``init_args`` of ``settings_of``."""
    arguments = _given(described)
    return {name: plain(value, f"{type(described).__name__}: {name}") for name, value in arguments.items()}


def plain(value: Any, name: str) -> Any:
    """A value in types of YAML.

    Args:
        value: text, number, path, container, dataclass or ``Configurable``.
        name: for the message, as "GIFT: lr".

    Raises:
        InputError: it is none of these.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Integral | Real):  # numpy's too
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, list | tuple):
        return [plain(item, f"{name}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, Configurable):
        return settings_of(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return {field: plain(getattr(value, field), f"{name}.{field}") for field in fields}
    raise InputError(
        f"{name} is of type {type(value).__name__}, which no config can hold: give a text, a number, a list, a"
        " dictionary, or an object of a class that a config can name."
    )


def make_anew(made: Configurable) -> None:
    """Put an object back into the state in which its constructor left it, and first those among its arguments."""
    args, kwargs = made._arguments
    for part in _parts([*args, *kwargs.values()]):
        make_anew(part)
    made.__dict__.clear()
    made.__dict__["_arguments"] = (args, kwargs)
    made.__init__(*args, **kwargs)  # type: ignore[misc]


def _parts(values: Any) -> Iterator[Configurable]:
    """The objects in nested containers that know their arguments."""
    for value in values.values() if isinstance(values, Mapping) else values:
        if isinstance(value, Configurable):
            yield value
        elif isinstance(value, list | tuple | Mapping):
            yield from _parts(value)


def _given(described: Any) -> dict[str, Any]:
    """The arguments that a constructor was called with, by name."""
    kind = type(described)
    args, kwargs = described._arguments
    signature = inspect.signature(kind.__init__)
    arguments = {}
    for name, value in list(signature.bind(described, *args, **kwargs).arguments.items())[1:]:
        form = signature.parameters[name].kind
        if form is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        elif form is inspect.Parameter.VAR_POSITIONAL:
            raise InputError(f"{kind.__name__} takes *{name}, which no config can hold: give each argument a name.")
        else:
            arguments[name] = value
    return arguments


def _path_of(kind: type) -> str:
    """The shortest path of a class, as ``gift_lightning.methods.GIFT``."""
    if "<locals>" in kind.__qualname__:
        raise InputError(
            f"{kind.__name__} is a class within a function, which no config can name: define it in a module."
        )
    parts = kind.__module__.split(".")
    exporting = (".".join(parts[:count]) for count in range(1, len(parts) + 1))  # the package it is imported from
    module = next(
        (m for m in exporting if getattr(sys.modules.get(m), kind.__qualname__, None) is kind), kind.__module__
    )
    return f"{module}.{kind.__qualname__}"
