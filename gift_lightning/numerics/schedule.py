"""Learning rates of the tasks, and their schedule."""

import math
from collections.abc import Mapping, Sequence

from gift_lightning.errors import InputError, nearest


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Fraction of the base learning rate at ``step``, counted from 0: linear warm-up, then half a cosine down to 0.

    ``(step + 1) / warmup`` while ``step < warmup``, then ``(1 + cos(pi (step - warmup) / (total - warmup))) / 2``. So
    the first step is taken at ``1 / warmup``, steps ``warmup - 1`` and ``warmup`` at the full rate, ``total`` at 0.

    >>> [round(warmup_cosine(step, warmup=2, total=6), 3) for step in range(7)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    if step >= total:
        return 0.0
    return (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def checked_rates(lr: float | dict[str, float], names: Sequence[str]) -> float | dict[str, float]:
    """The setting ``model.lr``, with the names of tasks as texts.

    Args:
        lr: one rate for all tasks, or one for each by name.
        names: of the tasks in the sequence.

    Raises:
        InputError: a rate is negative or missing, or names a task outside the sequence.

    >>> checked_rates({2024: 1e-3}, ["2024"])
    {'2024': 0.001}
    """
    rates = lr.values() if isinstance(lr, dict) else [lr]
    if any(rate < 0 for rate in rates):
        raise InputError(f"`model.lr` is {min(rates)}: a learning rate cannot be negative.")
    if not isinstance(lr, dict):
        return lr
    lr = {str(name): rate for name, rate in lr.items()}  # a task may be called 2024
    for name in lr:
        if name not in names:
            raise InputError(f"`model.lr` names a task '{name}' that is not in the sequence{nearest(name, names)}.")
    missing = [name for name in names if name not in lr]
    if missing:
        raise InputError(f"`model.lr` has no learning rate for task '{missing[0]}': add it, or give one for all.")
    return lr


def warmup_notes(steps: Mapping[str, int], warmup_steps: int) -> list[str]:
    """A sentence on the tasks shorter than the warm-up, for each of their lengths: the share of the rate they reach.

    Args:
        steps: optimiser steps of the tasks, by name.
        warmup_steps: those of the warm-up.

    >>> warmup_notes({"A": 50, "B": 200}, warmup_steps=100)[0][:61]
    'The learning rate reaches 50% of model.lr at most in A: a tas'
    """
    short: dict[int, list[str]] = {}
    for name, count in steps.items():
        if count < warmup_steps:
            short.setdefault(count, []).append(name)
    return [
        f"The learning rate reaches {count / warmup_steps:.0%} of model.lr at most in {', '.join(names[:3])}"
        f"{f' and {len(names) - 3} more' if len(names) > 3 else ''}: a task of {count} steps ends before"
        f" model.warmup_steps, {warmup_steps}."
        for count, names in short.items()
    ]
