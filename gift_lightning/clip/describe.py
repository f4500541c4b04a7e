"""Descriptions of image transforms: equal in every process, different for different transforms."""

import collections
import contextlib
import enum
import functools
import hashlib
import json
import logging
import re
import sys
import sysconfig
import types
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gift_lightning.errors import InputError

_PRINTED: dict[str, dict[str, tuple[Any, ...]]] = {
    "torchvision.transforms.transforms.Compose": {},
    "torchvision.transforms.transforms.Resize": {},
    "torchvision.transforms.transforms.CenterCrop": {},
    "torchvision.transforms.transforms.ToTensor": {},
    "torchvision.transforms.transforms.PILToTensor": {},
    "torchvision.transforms.transforms.Normalize": {},
    "open_clip.transform.MaybeConvertMode": {"mode": ("RGB",)},
    "open_clip.transform.MaybeToTensor": {},
    "open_clip.transform.CenterCropOrPad": {"fill": (0,)},
    "open_clip.transform.ResizeKeepRatio": {"longest": (0, 1), "random_scale_prob": (0,), "random_aspect_prob": (0,)},
}
"""The transforms of CLIPs, with the default values of the settings that their ``repr`` omits or rounds."""

_BUILTIN = (dict, list, tuple, set, frozenset, str, bytes, bool, int, float, complex)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, re.Pattern, type(Ellipsis))
_TORCH = (torch.dtype, torch.device, torch.Size, torch.layout, np.dtype, np.generic, PurePath)
_MAPPINGS = (dict, collections.OrderedDict, types.MappingProxyType)

_HIDING = (collections.deque, collections.defaultdict, functools.partial)
"""Classes of C in modules of Python, whose subclasses have state beside their attributes."""

_COMPILED = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, np.ufunc)

_CONTENT = (
    *("torch", "torchvision", "open_clip"),
    *("builtins", "collections", "functools", "numpy", "pathlib", "PIL", "re"),
)
"""Packages whose objects are described if a function uses them as globals; for other packages the class is named."""

_LIBRARIES = tuple(sysconfig.get_paths()[place] for place in ("stdlib", "platstdlib", "purelib", "platlib"))


def describe(transform: Any) -> str:
    """The content of a transform as text, without addresses in memory.

    The usual transforms of CLIPs are described by their ``repr``. Others by their class, all attributes, and a hash of
    the code of functions and methods with the global values that they use; classes and functions of libraries by name.

    Args:
        transform: a callable, PIL image to ``[3, H, W]``.

    Raises:
        InputError: it holds an object without describable content: a generator of random numbers, an open file, an
            object of a compiled library.
    """
    if _is_printed(transform):
        return repr(transform)
    return json.dumps(_Description().of(transform), sort_keys=True)


def can_be_described(transform: Any) -> bool:
    """Whether ``describe`` accepts this transform."""
    try:
        describe(transform)
    except InputError:
        return False
    return True


def _is_printed(value: Any) -> bool:
    """Whether a transform's ``repr`` shows all its settings, except those with their default values."""
    if type(value) in (list, tuple):
        return all(map(_is_printed, value))
    usual = _PRINTED.get(_path(type(value)))
    if usual is None:
        return type(value) in _PLAIN or _path(type(value)) == "torchvision.transforms.functional.InterpolationMode"
    settings = vars(value)
    if any(settings.get(name) not in values for name, values in usual.items()):
        return False
    # the other attributes of a module of torch are empty, unless it has hooks or submodules
    return all(_is_printed(entry) for entry in settings.values() if type(entry) not in (*_MAPPINGS, set) or entry)


class _Description:
    """Describes values as JSON; a repeated object is described by its number."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # or another object might get the same id

    def of(self, value: Any) -> Any:
        is_library = _is_library(type(value).__module__)
        if type(value) in _PLAIN or (isinstance(value, _TORCH) and is_library):
            return repr(value)
        if isinstance(value, enum.Enum) and is_library:
            return f"{_path(type(value))}.{value.name}"
        if isinstance(value, types.ModuleType):
            return value.__name__
        if isinstance(value, logging.Logger):  # it refers to all others of the process
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
        if isinstance(value, enum.Enum):
            return ["enum", self.of(type(value)), value.name]
        if type(value) in _MAPPINGS:
            return [_path(type(value)), [[self.of(key), self.of(part)] for key, part in value.items()]]
        if type(value) in (set, frozenset):
            return [_path(type(value)), sorted(json.dumps(_Description().of(part)) for part in value)]
        if type(value) in (list, tuple):
            return [_path(type(value)), [self.of(part) for part in value]]
        if type(value) is functools.partial:
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
        """A global value whose name is in the code of a function."""
        kind, before = type(value), dict(self._seen)
        try:
            is_open = not _is_library(kind.__module__) or kind.__module__.partition(".")[0] in _CONTENT
            return self.of(value) if is_open or isinstance(value, (type, enum.Enum, logging.Logger)) else _path(kind)
        except InputError:
            self._seen = before  # the objects met on the way may differ from process to process
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
        kinds, slots = type(value).__mro__, _slots(value)
        builtin = next((kind for kind in _BUILTIN if kind in kinds), None)
        is_open = hasattr(value, "__dict__") or slots or builtin
        if not is_open or any(kind in _HIDING or (kind is not builtin and _is_compiled(kind)) for kind in kinds):
            raise InputError(f"It holds a {_path(type(value))}, which cannot be described by its content.")
        content = None if builtin is None else self.of(builtin(value))
        state = {**slots, **getattr(value, "__dict__", {})}
        return [self.of(type(value)), content, [[name, self.of(state[name])] for name in sorted(state, key=str)]]


def _slots(value: Any) -> dict[str, Any]:
    """The attributes of an object that are in slots, by the names that Python gives them."""
    slots = {}
    for kind in type(value).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, types.MemberDescriptorType):
                with contextlib.suppress(AttributeError):  # not set
                    slots[f"{kind.__name__}.{name}"] = member.__get__(value)
    return slots


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
    """Whether a module belongs to an installed library, and not to the user or this program."""
    name = (module or "").partition(".")[0]
    if name in sys.stdlib_module_names and name != "__main__":
        return True
    file = getattr(sys.modules.get(name), "__file__", None)
    return name != "__main__" and file is not None and any(Path(file).is_relative_to(place) for place in _LIBRARIES)


def _is_compiled(base: type) -> bool:
    """Whether a class may have state beside its attributes, as classes of C have."""
    module = sys.modules.get(base.__module__)
    file = getattr(module, "__file__", None) or ""
    return base is not object and module is not None and base.__module__ != "__main__" and not file.endswith(".py")


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
