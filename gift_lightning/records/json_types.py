"""Type checks of the content of a JSON file."""

import sys
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

_NAMES = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "null"}


def misfit(value: Any, kind: Any, where: str = "it") -> str | None:
    """The first fault of ``value`` as a ``kind``, as a clause; ``None`` without a fault.

    Args:
        value: the result of ``json.loads``.
        kind: ``str``, ``bool``, ``int`` (of 64 bits), ``float`` (any finite number), ``None``, ``Any``, ``list[...]``,
            ``dict[str, ...]``, a union, or a ``TypedDict``; an object may have further keys.
        where: the name of ``value`` in the clause.

    >>> misfit([[90.5, None]], list[list[float | None]], "R")
    >>> misfit([[90.5, "x"]], list[list[float]], "R")
    'R[0][1] is not a number'
    """
    if is_typeddict(kind):
        return _object_misfit(value, kind, where)
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is UnionType:
        faults = [misfit(value, option, where) for option in inner]
        # the longest names the deepest place: its type fits the value best
        return None if None in faults else max((fault for fault in faults if fault), key=len)
    if origin is list and isinstance(value, list):
        return _first(misfit(item, inner[0], f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return _first(misfit(item, inner[1], f"{where}[{key!r}]") for key, item in value.items())
    if kind is float:
        fits = type(value) in (int, float) and abs(value) <= sys.float_info.max  # false for NaN
    else:
        fits = kind is Any or (type(value) is kind and (kind is not int or abs(value) < 1 << 63))
    name = {list: "a list", dict: "an object", **_NAMES}.get(origin, "")
    return None if fits else f"{where} is not {name}"


def _object_misfit(value: Any, kind: Any, where: str) -> str | None:
    if not isinstance(value, dict):
        return f"{where} is not an object"
    for key, inner in get_type_hints(kind).items():
        if key in value:
            fault = misfit(value[key], inner, key if where == "it" else f"{where}.{key}")
            if fault:
                return fault
        elif key in kind.__required_keys__:
            return f"{where} has no {key}"
    return None


def _first(faults: Iterable[str | None]) -> str | None:
    return next((fault for fault in faults if fault), None)
