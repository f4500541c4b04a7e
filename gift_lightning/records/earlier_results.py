"""Fields of ``results.json`` that earlier versions did not write, computed from others."""

import re
from collections.abc import Mapping
from typing import Any


def completed(results: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a ``results.json`` of any version, with ``learns`` and the protocol's ``shots``.

    >>> earlier = {"cost": {"trainable_parameters": 0}, "protocol": {"id": "x", "fingerprints": {"A": "5f, 3 shots"}}}
    >>> completed(earlier)["learns"], completed(earlier)["protocol"]["shots"]
    (False, {'A': 3})
    """
    protocol = {"shots": _shots(results["protocol"].get("fingerprints", {})), **results["protocol"]}
    return {**results, "learns": _learns(results), "protocol": protocol}


def _learns(results: Mapping[str, Any]) -> bool:
    """Whether the method of a run learns; without this field, whether it has trainable parameters."""
    learns: bool | None = results.get("learns")
    return (results.get("cost") or {}).get("trainable_parameters") != 0 if learns is None else learns


def _shots(fingerprints: Mapping[str, str]) -> dict[str, int]:
    """Training images of each class, of the few-shot tasks: this number ends their fingerprint."""
    matches = {name: re.search(r", (\d+) shots$", text) for name, text in fingerprints.items()}
    return {name: int(match[1]) for name, match in matches.items() if match}
