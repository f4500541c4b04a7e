"""The types of ``results.json``, and the check of its content."""

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
    count, rows = len(results["tasks"]), results["R"]
    zero_shot, sizes = results.get("zero_shot"), results.get("test_sizes")
    cells = [cell for row in [*rows, zero_shot or []] for cell in row if cell is not None]
    if results.get("schema", SCHEMA) != SCHEMA:
        return f"it has schema {results['schema']}, which no version wrote"
    if len({*results["tasks"]}) != count or not count:
        return "it has no tasks, or tasks with equal names"
    if any(fault_of(name) for name in results["tasks"]):
        return "the name of a task is not one that a run can have"
    if len(rows) > count or (results["complete"] and len(rows) < count):
        return f"R has {len(rows)} rows for {count} tasks"
    if sizes and min(sizes) < 1:
        return "a task has no test images"
    if any(len(row) != count for row in [*rows, *filter(None, (zero_shot, sizes))]):
        return f"a row of R, zero_shot or test_sizes has not {count} values, one for each task"
    if not all(0 <= cell <= 100 for cell in cells):
        return "an accuracy is not between 0 and 100"
    stored, weights = results.get("metrics"), sizes if results["protocol"].get("label_space") == "seen" else None
    if stored and not _agree(stored, metrics.summary(rows, weights)):
        return "its metrics are not those of R"
    return None


def _agree(stored: dict[str, float | None], computed: dict[str, float | None]) -> bool:
    if not stored.keys() >= {"transfer", "avg", "last"}:
        return False
    pairs = [(value, stored[name]) for name, value in computed.items() if name in stored]
    return all(a is b is None or (a is not None and b is not None and abs(a - b) < 1e-6) for a, b in pairs)
