"""Fields of ``results.json`` that earlier versions did not write, from what they did write."""

import re
from collections.abc import Mapping
from typing import Any


def completed(results: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a ``results.json`` with ``learns`` and the protocol's ``shots``, whatever version wrote it.

    >>> earlier = {"cost": {"trainable_parameters": 0}, "protocol": {"id": "x", "fingerprints": {"A": "5f, 3 shots"}}}
    >>> completed(earlier)["learns"], completed(earlier)["protocol"]["shots"]
    (False, {'A': 3})
    """
    protocol = {"shots": _shots(results["protocol"].get("fingerprints", {})), **results["protocol"]}
    return {**results, "learns": _learns(results), "protocol": protocol}


def _learns(results: Mapping[str, Any]) -> bool:
    """Whether the method of a run learns; where the field is missing, the costs say it."""
    said: bool | None = results.get("learns")
    return (results.get("cost") or {}).get("trainable_parameters") != 0 if said is None else said


def _shots(fingerprints: Mapping[str, str]) -> dict[str, int]:
    """Training images of each class, of the tasks that have few: their number ends the fingerprint."""
    few = {name: re.search(r", (\d+) shots$", text) for name, text in fingerprints.items()}
    return {name: int(found[1]) for name, found in few.items() if found}
