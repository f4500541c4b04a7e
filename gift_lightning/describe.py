"""Image transforms in words that are the same in every process, and differ if the transforms do."""

import enum
import functools
import hashlib
import json
import logging
import re
import sys
import sysconfig
import types
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gift_lightning.errors import InputError

_COMPLETE = ("torch", "torchvision", "open_clip")
"""Packages whose transforms name all their settings when they are printed."""

_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, PurePath, re.Pattern, type(Ellipsis))
_TORCH = (torch.dtype, torch.device, torch.Size, torch.layout, np.dtype, np.generic)

_COMPILED = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, np.ufunc)

_CONTENT = (*_COMPLETE, "builtins", "collections", "functools", "numpy", "pathlib", "PIL", "re")
"""Packages whose objects are described where a function uses them from outside; of others the class is named."""

_LIBRARIES = tuple(sysconfig.get_paths()[place] for place in ("stdlib", "platstdlib", "purelib", "platlib"))


def describe(transform: Any) -> str:
    """A transform by what it does, without addresses in memory.

    Transforms of torch, torchvision and open_clip as they print themselves. Of others: the class, all attributes, and a
    hash of the code of functions and methods with the values outside that they use; of libraries the names alone.

    Raises:
        InputError: it holds something that cannot be told from another by its content: a source of random numbers, an
            open file, an object of a compiled library.
    """
    printed = repr(transform)
    if " at 0x" not in printed and _is_complete(transform, set()):
        return printed
    return json.dumps(_Description().of(transform), sort_keys=True)


def can_be_described(transform: Any) -> bool:
    """Whether ``describe`` can tell this transform from others."""
    try:
        describe(transform)
    except InputError:
        return False
    return True


def _is_complete(value: Any, seen: set[int]) -> bool:
    """Whether all parts of a transform are plain values or of packages that print all settings."""
    if id(value) in seen or isinstance(value, (*_PLAIN, *_TORCH, enum.Enum)):
        return True
    seen.add(id(value))
    if isinstance(value, Mapping):
        return all(_is_complete(part, seen) for part in [*value.keys(), *value.values()])
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_is_complete(part, seen) for part in value)
    is_known = type(value).__module__.partition(".")[0] in _COMPLETE and hasattr(value, "__dict__")
    return is_known and all(_is_complete(part, seen) for part in vars(value).values())


class _Description:
    """Describes values as what JSON can hold; an object that occurs again is named by its number."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # or another object might get the same id

    def of(self, value: Any) -> Any:
        if isinstance(value, (*_PLAIN, *_TORCH)):
            return repr(value)
        if isinstance(value, enum.Enum):
            return f"{_path(type(value))}.{value.name}"
        if isinstance(value, types.ModuleType):
            return value.__name__
        if isinstance(value, logging.Logger):  # it knows all others of the process
            return f"logger {value.name}"
        if id(value) in self._seen:
            return f"#{self._seen[id(value)]}"
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        return self._of_new(value)

    def _of_new(self, value: Any) -> Any:
        if isinstance(value, (Tensor, np.ndarray)):
            return self._numbers(value)
        if isinstance(value, Image.Image):
            return ["image", value.mode, list(value.size), _hash(value.tobytes())]
        if isinstance(value, Mapping):
            return [_path(type(value)), [[self.of(key), self.of(part)] for key, part in value.items()]]
        if isinstance(value, (set, frozenset)):
            return [_path(type(value)), sorted(json.dumps(_Description().of(part)) for part in value)]
        if isinstance(value, (list, tuple)):
            return [_path(type(value)), [self.of(part) for part in value]]
        if isinstance(value, functools.partial):
            return ["partial", self.of(value.func), self.of(value.args), self.of(value.keywords)]
        if isinstance(value, types.MethodType):
            return ["method", value.__func__.__qualname__, self.of(value.__self__), self.of(value.__func__)]
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        of_module = isinstance(getattr(value, "__self__", None), (types.ModuleType, type, type(None)))
        if isinstance(value, _COMPILED) and of_module:
            return f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', value.__name__)}"
        return self._object(value)

    def _numbers(self, value: Tensor | np.ndarray) -> Any:
        facts = [type(value).__name__, str(value.dtype), list(value.shape)]
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().flatten()
            return facts if value.is_meta else [*facts, _hash(flat.view(torch.uint8).numpy().tobytes())]
        if value.dtype == object:
            return [*facts, [self.of(part) for part in value.flatten()]]
        return [*facts, _hash(value.tobytes())]

    def _function(self, function: types.FunctionType) -> Any:
        name = f"{function.__module__}.{function.__qualname__}"
        cells = [_cell(cell) for cell in function.__closure__ or ()]
        outside = [self.of(function.__defaults__), self.of(function.__kwdefaults__), self.of(cells)]
        if _is_library(function.__module__):
            return ["function", name, outside]
        used = {key: function.__globals__[key] for key in _names(function.__code__) if key in function.__globals__}
        values = [[key, self._used(used[key])] for key in sorted(used)]
        return ["function", name, outside, _code(function.__code__), values]

    def _used(self, value: Any) -> Any:
        """A value outside a function that its code may use, or only mention."""
        kind, before = type(value), dict(self._seen)
        try:
            is_open = not _is_library(kind.__module__) or kind.__module__.partition(".")[0] in _CONTENT
            return self.of(value) if is_open or isinstance(value, (type, enum.Enum, logging.Logger)) else _path(kind)
        except InputError:
            self._seen = before  # what was met on the way may differ from process to process
            return _path(kind)

    def _class(self, kind: type) -> Any:
        if _is_library(kind.__module__):
            return _path(kind)
        members = []
        for name, member in sorted(vars(kind).items()):
            member = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
            if isinstance(member, types.FunctionType) or not name.startswith("__"):
                members.append([name, self._used(member)])
        return ["class", _path(kind), members, [self.of(base) for base in kind.__bases__ if base is not object]]

    def _object(self, value: Any) -> Any:
        slots = [
            name for base in type(value).__mro__ for name in getattr(base, "__slots__", ()) if hasattr(value, name)
        ]
        is_open = hasattr(value, "__dict__") or slots
        if not is_open or any(_is_compiled(base) for base in type(value).__mro__):
            raise InputError(f"It holds a {_path(type(value))}, which cannot be described by its content.")
        state = {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}
        return [self.of(type(value)), [[name, self.of(state[name])] for name in sorted(state, key=str)]]


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _names(code: types.CodeType) -> set[str]:
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return {*code.co_names}.union(*map(_names, inner))


def _code(code: types.CodeType) -> str:
    consts = [_code(part) if isinstance(part, types.CodeType) else _constant(part) for part in code.co_consts]
    return _hash(json.dumps([code.co_code.hex(), code.co_names, code.co_varnames, consts]).encode())


def _constant(part: Any) -> str:
    return repr(sorted(map(repr, part))) if isinstance(part, frozenset) else repr(part)


def _is_library(module: str | None) -> bool:
    """Whether a module is installed, and no code of the user's or of this program."""
    name = (module or "").partition(".")[0]
    if name in sys.stdlib_module_names and name != "__main__":
        return True
    file = getattr(sys.modules.get(name), "__file__", None)
    return name != "__main__" and file is not None and any(Path(file).is_relative_to(place) for place in _LIBRARIES)


def _is_compiled(base: type) -> bool:
    """Whether a class may keep more than its attributes show, as those of C do."""
    module = sys.modules.get(base.__module__)
    file = getattr(module, "__file__", None) or ""
    return base is not object and module is not None and base.__module__ != "__main__" and not file.endswith(".py")


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
