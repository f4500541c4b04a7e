"""The types of ``results.json``, and the check of its content."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from gift_lightning.names import fault_of
from gift_lightning.numerics import metrics
from gift_lightning.records.json_types import misfit

SCHEMA = 1
"""Version of ``results.json``; raised when a field changes its meaning."""


class _ProtocolID(TypedDict):
    id: str


class _Protocol(_ProtocolID, total=False):
    label_space: str
    fingerprints: dict[str, str]
    shots: dict[str, int]
    file_sizes: dict[str, dict[str, str]]


class _Needed(TypedDict):
    method: str
    tasks: list[str]
    R: list[list[float | None]]
    protocol: _Protocol
    complete: bool


class _Validation(TypedDict):
    sizes: list[int]
    zero_shot: list[float | None] | None
    R: list[list[float | None]]
    metrics: dict[str, float | None]


class _Cost(TypedDict, total=False):
    replay_seconds: list[float | None]
    train_seconds: list[float | None]
    evaluate_seconds: list[float | None]
    zero_shot_seconds: list[float | None]
    other_seconds: list[float | None]
    machine: str
    images_per_second: list[float | None]
    shares: dict[str, list[float | None]]
    peak_memory_bytes: float | None
    total_parameters: float | None
    trainable_parameters: float | None
    frozen_parameters: float | None
    stored_parameters: float | None


class Results(_Needed, total=False):
    """The types of ``results.json``; accuracies in percent, ``R [learned tasks, tasks]``."""

    schema: int
    learns: bool
    seed: int | None
    zero_shot: list[float | None] | None
    metrics: dict[str, float | None]
    train_sizes: list[int]
    test_sizes: list[int]
    validation: _Validation
    skipped: dict[str, Any]
    notes: list[str]
    cost: _Cost
    weights: str | None
    versions: dict[str, str]


def fault_in(results: dict[str, Any]) -> str | None:
    """The first value of another type, or the first contradiction, as a clause; ``None`` without one."""
    return misfit(results, Results) or _contradiction(results)


def _contradiction(results: dict[str, Any]) -> str | None:
    """The first contradiction in ``results.json``, as a clause; ``None`` without one."""
    count, sizes = len(results["tasks"]), results.get("test_sizes")
    if results.get("schema", SCHEMA) != SCHEMA:
        return f"it has schema {results['schema']}, which no version wrote"
    if len({*results["tasks"]}) != count or not count:
        return "it has no tasks, or tasks with equal names"
    if any(fault_of(name) for name in results["tasks"]):
        return "the name of a task is not one that a run can have"
    if sizes and min(sizes) < 1:
        return "a task has no test images"
    fault = _fault_of_matrix(results, results, sizes, "")
    if fault is None and (held := results.get("validation")):
        fault = _fault_of_matrix(results, held, held["sizes"], "validation.")
    return fault


def _fault_of_matrix(
    results: Mapping[str, Any], part: Mapping[str, Any], sizes: Sequence[int] | None, place: str
) -> str | None:
    """The first contradiction in the numbers on the test images, or in those on the images held out."""
    count, rows, zero_shot = len(results["tasks"]), part["R"], part.get("zero_shot")
    if len(rows) > count or (results["complete"] and len(rows) < count):
        return f"{place}R has {len(rows)} rows for {count} tasks"
    if any(len(row) != count for row in [*rows, *filter(None, (zero_shot, sizes))]):
        return f"a row of {place}R, zero_shot or test_sizes has not {count} values, one for each task"
    cells = [cell for row in [*rows, zero_shot or []] for cell in row if cell is not None]
    if not all(0 <= cell <= 100 for cell in cells):
        return f"an accuracy {f'of {place}R ' if place else ''}is not between 0 and 100"
    stored, weights = part.get("metrics"), sizes if results["protocol"].get("label_space") == "seen" else None
    if stored and not _agree(stored, metrics.summary(rows, weights)):
        return f"its {place}metrics are not those of R"
    return None


def _agree(stored: dict[str, float | None], computed: dict[str, float | None]) -> bool:
    if not stored.keys() >= {"transfer", "avg", "last"}:
        return False
    pairs = [(value, stored[name]) for name, value in computed.items() if name in stored]
    return all(a is b is None or (a is not None and b is not None and abs(a - b) < 1e-6) for a, b in pairs)
