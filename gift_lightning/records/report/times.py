"""Where the time of a run went, in a line."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

_PARTS = {
    "steps": "steps",
    "data": "waiting for images",
    "evaluation": "evaluation",
    "checkpoints": "checkpoints",
    "replay": "preparing replay",
    "rest": "the rest",
}
"""The names of the shares in ``results.json``, in words."""
_PHASES = {
    "train": "training",
    "evaluate": "evaluation",
    "replay": "replay",
    "zero_shot": "zero-shot",
    "other": "other",
}


def task_time(results: Mapping[str, Any]) -> Text:
    """Images per second of the latest task, and the parts of its time that are at least 1 %; empty without figures.

    Args:
        results: content of ``results.json``: needs ``tasks``, ``R`` and ``cost``.

    >>> cost = {"images_per_second": [512.4], "shares": {"steps": [80.6], "data": [19.1], "rest": [0.3]}}
    >>> task_time({"tasks": ["Flags", "Shapes"], "R": [[90.0, 60.0]], "cost": cost}).plain
    'Flags: 512 images/s; 81 % steps, 19 % waiting for images'
    """
    cost, task = results["cost"], len(results["R"]) - 1
    rates, shares = cost.get("images_per_second") or [], cost.get("shares") or {}
    if not 0 <= task < len(rates) or rates[task] is None:
        return Text()
    shown = [(words, shares[part][task]) for part, words in _PARTS.items() if part in shares]
    parts = ", ".join(f"{share:.0f} % {words}" for words, share in shown if share >= 0.5)
    rate = f"{rates[task]:.0f}" if rates[task] >= 10 else f"{rates[task]:.2g}"
    return Text(f"{results['tasks'][task]}: {rate} images/s; {parts}", style="dim")


def run_time(results: Mapping[str, Any]) -> Text:
    """The seconds of a whole run, in its phases, and the machine.

    Args:
        results: content of ``results.json``: needs ``cost``.

    >>> cost = {"machine": "NVIDIA H200", "train_seconds": [250.0, 310.2], "evaluate_seconds": [20.0, 21.0]}
    >>> run_time({"cost": cost}).plain
    '601 s on NVIDIA H200: 560 training, 41 evaluation'
    """
    cost = results["cost"]
    sums = {words: sum(cost.get(f"{phase}_seconds") or []) for phase, words in _PHASES.items()}
    parts = ", ".join(f"{seconds:.0f} {words}" for words, seconds in sums.items() if seconds >= 0.5)
    return Text(f"{sum(sums.values()):.0f} s on {cost['machine']}{': ' * bool(parts)}{parts}", style="dim")
