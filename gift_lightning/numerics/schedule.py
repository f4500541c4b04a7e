"""The learning-rate schedule of all methods."""

import math


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
