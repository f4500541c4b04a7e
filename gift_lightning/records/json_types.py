"""Whether the content of a JSON file has the types that its reader relies on."""

import sys
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

_NAMES = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "null"}


def misfit(value: Any, kind: Any, where: str = "it") -> str | None:
    """What in ``value`` is not of the type ``kind``, or ``None`` if all of it is.

    Args:
        value: what ``json.loads`` returned.
        kind: ``str``, ``bool``, ``int`` (of 64 bits), ``float`` (any finite number), ``None``, ``Any``, ``list[...]``,
            ``dict[str, ...]``, a union, or a ``TypedDict``; such an object may have other keys besides.
        where: what the message calls ``value``.

    >>> misfit([[90.5, None]], list[list[float | None]], "R")
    >>> misfit([[90.5, "x"]], list[list[float]], "R")
    'R[0][1] is not a number'
    """
    if is_typeddict(kind):
        return _object_misfit(value, kind, where)
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is UnionType:
        found = [misfit(value, option, where) for option in inner]
        # the one that looks deepest has recognised most of the value
        return None if None in found else max((told for told in found if told), key=len)
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
            told = misfit(value[key], inner, key if where == "it" else f"{where}.{key}")
            if told:
                return told
        elif key in kind.__required_keys__:
            return f"{where} has no {key}"
    return None


def _first(found: Any) -> str | None:
    return next((told for told in found if told), None)
