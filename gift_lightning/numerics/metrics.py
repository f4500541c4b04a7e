"""Metrics of continual learning from the accuracy matrix, as the papers print them.

``R[i, j]`` is the accuracy on task ``j`` after learning task ``i`` (both from 0), in any unit: the metrics have the
same one. ``R`` is an array, a tensor or a list of rows. It may be *unfinished*: fewer rows ``k`` than columns ``n``,
for a run in progress. Single cells may be *empty* (``None`` or NaN), like those above the diagonal when unseen classes
cannot be predicted. A metric is then the mean over the other cells, as its docstring says, and NaN without any. All
arithmetic is in float64.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # importing torch takes longer than all else that a table needs
    from torch import Tensor

Matrix: TypeAlias = Union[NDArray[np.float64], "Tensor", Sequence[Sequence[float | None]]]
"""An accuracy matrix, argument of the functions of this module: ``[k, n]`` with k <= n."""

METRICS = ("transfer", "avg", "last", "forgetting", "backward_transfer")
"""The keys of :func:`summary`, in order."""


def transfer(R: Matrix) -> float:
    """Remaining zero-shot ability: accuracy on a task before it was learned, averaged over tasks.

    Transfer = mean over columns j = 1 .. n-1 of ( mean over rows i < j of R[i, j] ).

    The inner mean is taken **per column**, so that every task weighs the same however often it was tested before its
    turn. Averaging the rows first gives another number (40.4 instead of the published 44.6 for fine-tuning on MTIL
    Order I). In an unfinished matrix, the existing rows count. A column without a number above the diagonal is left
    out; NaN if that leaves none (one task, or no zero-shot prediction at all).

    Reference: Zheng et al., "Preventing Zero-Shot Transfer Degradation in Continual Learning of Vision-Language
    Models", ICCV 2023, arXiv 2303.06628.

    >>> transfer([[90, 60, 50], [80, 95, 40], [70, 85, 99]])
    52.5
    """
    a = _as_array(R)
    return _mean([_mean(a[:j, j]) for j in range(1, a.shape[1])])


def avg(R: Matrix, sizes: Sequence[float] | None = None) -> float:
    """Accuracy over the whole sequence: mean over rows of the mean of the row.

    Avg = mean over i of ( mean over j of R[i, j] ); on a complete matrix the mean of all cells. With empty cells above
    the diagonal this is the average incremental accuracy of the class-incremental literature, in which each row counts
    once; with ``sizes``, the numbers of test images, the mean of a row is that over all its images. In an unfinished
    matrix, the existing rows count.

    Reference: as :func:`transfer`.

    >>> avg([[90, 60], [80, 70]])
    75.0
    >>> avg([[90, None], [80, 70]])
    82.5
    >>> avg([[90, None], [80, 70]], sizes=[300, 100])
    83.75
    """
    return _mean([_mean(row, sizes) for row in _as_array(R)])


def last(R: Matrix, sizes: Sequence[float] | None = None) -> float:
    """Accuracy after the last task: mean of the last row (of the newest one in an unfinished matrix).

    With ``sizes`` the tasks count by their numbers of test images.

    Reference: as :func:`transfer`.

    >>> last([[90, 60], [80, 70]])
    75.0
    """
    a = _as_array(R)
    return _mean(a[-1], sizes) if len(a) else math.nan


def forgetting(R: Matrix) -> float:
    """Loss of the learned tasks from their best accuracy: positive means forgetting.

    Forgetting = mean over j < m of ( max over i < m of R[i, j] - R[m, j] ), with m the last row.

    Only tasks learned before the last one count. The best may lie above the diagonal (zero-shot better than learned);
    the value is negative if the last row is better than all before it. NaN before the second task.

    Reference: Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018, arXiv 1801.10112.

    >>> forgetting([[90, 60, 50], [80, 95, 40], [70, 85, 99]])
    15.0
    """
    a = _as_array(R)
    m = len(a) - 1
    return _mean([_max(a[:m, j]) - a[m, j] for j in range(m)])


def backward_transfer(R: Matrix) -> float:
    """Change of a task's accuracy by later tasks, averaged over tasks: **negative means forgetting**.

    Backward transfer = sum over tasks j of ( R[m, j] - R[j, j] ) / m, with m the last row. The last task adds 0 to the
    sum, hence the division by m = T - 1 for T learned tasks. NaN before the second task; empty cells are left out of
    sum and count.

    Reference: Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, arXiv 1706.08840
    (the authors' code of GIFT prints it as "Forget").

    >>> backward_transfer([[90, 60, 50], [80, 95, 40], [70, 85, 99]])
    -15.0
    """
    a = _as_array(R)
    m = len(a) - 1
    return _mean([a[m, j] - a[j, j] for j in range(m)])


def summary(R: Matrix, sizes: Sequence[float] | None = None) -> dict[str, float | None]:
    """All metrics of one matrix, for JSON: the keys of :data:`METRICS`, and None for an undefined metric.

    Args:
        R: the accuracy matrix.
        sizes: numbers of test images, by which the tasks count in Avg and Last; all alike if not given.

    >>> summary([[90, None], [80, 70]])["transfer"] is None
    True
    >>> summary([[90, 60], [80, 70]])["backward_transfer"]
    -10.0
    """
    array = _as_array(R)  # once: a long sequence has many cells
    numbers = (transfer(array), avg(array, sizes), last(array, sizes), forgetting(array), backward_transfer(array))
    values = dict(zip(METRICS, numbers, strict=True))
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _as_array(R: Matrix) -> NDArray[np.float64]:
    """``R`` as a float64 array ``[k, n]``, empty cells as NaN; an empty list becomes ``[0, 0]``.

    Raises:
        ValueError: ``R`` is not a matrix of numbers with at most as many rows as columns.
    """
    if hasattr(R, "detach"):  # a tensor
        array = R.detach().cpu().double().numpy()
    else:
        try:
            array = np.asarray(R, dtype=np.float64)  # None becomes NaN
        except (TypeError, ValueError):
            raise ValueError(
                "The accuracy matrix has rows of different lengths or cells that are not numbers: "
                "every row needs one number (or None) per task."
            ) from None
    if array.size == 0:
        return np.empty((0, 0))
    if array.ndim != 2:
        raise ValueError(
            f"The accuracy matrix has shape {list(array.shape)} where [learned tasks, tasks] is needed: "
            "one row per learned task and one column per task."
        )
    if array.shape[0] > array.shape[1]:
        raise ValueError(
            f"The accuracy matrix has {array.shape[0]} rows but only {array.shape[1]} columns: "
            "a sequence of n tasks has at most n rows, one after each task."
        )
    if np.isinf(array).any():
        raise ValueError("The accuracy matrix holds an infinite value: an empty cell is None or NaN.")
    return array


def _mean(values: NDArray[np.float64] | Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Mean of the values that are not NaN; NaN (and no warning) without any."""
    array = np.asarray(values, dtype=np.float64)
    finite = ~np.isnan(array)
    if not finite.any():
        return math.nan
    return float(np.average(array[finite], weights=None if weights is None else np.asarray(weights)[finite]))


def _max(values: NDArray[np.float64]) -> float:
    """Largest value that is not NaN; NaN without any."""
    finite = values[~np.isnan(values)]
    return float(finite.max()) if finite.size else math.nan
