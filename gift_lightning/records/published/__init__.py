"""Published results on MTIL, as data for comparison with reproductions.

``tables.json`` holds the triplets Transfer, Avg and Last per method and order, ``mtil_order_<order>_<method>.csv`` the
accuracy matrices behind some of them, all in percent; ``tables()["source"]`` names the publications.
"""

import json
from importlib import resources
from typing import Any, NamedTuple

from gift_lightning.errors import InputError, nearest
from gift_lightning.records.accuracy_csv import NamedMatrix, parse_accuracy_csv

CLIP = "ViT-B-16"
"""The model of all published results, by open_clip's name."""

ORDERS = ("I", "II")
"""The two task orders of MTIL: alphabetical, and shuffled."""

BENCHMARKS = {"mtil_order_1": "I", "mtil_order_2": "II"}
"""The orders by their names on the command line."""

TABLE_ROW = {
    "finetune": "Continual Finetune",
    "lwf": "LwF",
    "icarl": "iCaRL",
    "lwf_vr": "LwF-VR",
    "wise_ft": "WiSE-FT",
    "zscl": "ZSCL",
}
"""The row of ``tables()["MTIL Order <order>"]`` for the matrix of a method (``zscl_star`` has none)."""

_PREFIX = "mtil_order_{order}_"


class Published(NamedTuple):
    """The published results of a method on MTIL, in percent."""

    method: str
    last_row: list[float | None] | None
    """Accuracy on each task after the last one; None without a published matrix."""
    transfer: float
    avg: float
    last: float
    learns: bool
    """Whether the method learns; the pre-trained model does not."""
    source: str = ""
    """A mark that is shown with the numbers: where they were read, if not in the publication."""


def tables() -> dict[str, Any]:
    """The published triplets: ``tables()["MTIL Order I"]["GIFT"]["Transfer"]`` is 69.3 (percent)."""
    content: dict[str, Any] = json.loads(resources.files(__name__).joinpath("tables.json").read_text(encoding="utf-8"))
    return content


def methods(order: str) -> list[str]:
    """Names of the methods whose accuracy matrix is published for ``order`` ("I" or "II"), sorted.

    Raises:
        ValueError: MTIL has no such order.
    """
    if order not in ORDERS:
        raise ValueError(f"MTIL has no order {order!r}: it is one of {', '.join(ORDERS)}.")
    prefix = _PREFIX.format(order=order)
    names = (entry.name for entry in resources.files(__name__).iterdir())
    return sorted(name.removeprefix(prefix).removesuffix(".csv") for name in names if name.startswith(prefix))


def matrix(order: str, method: str) -> NamedMatrix:
    """The published accuracy matrix of ``method`` on MTIL ``order``: task names, and 11 x 11 accuracies in percent.

    Raises:
        ValueError: MTIL has no such order, or no matrix of this method is published.
    """
    if method not in (names := methods(order)):
        raise ValueError(f"No matrix of {method!r} is published on MTIL Order {order}: {', '.join(names)}.")
    name = f"{_PREFIX.format(order=order)}{method}.csv"
    return parse_accuracy_csv(resources.files(__name__).joinpath(name).read_text(encoding="utf-8"), name)


def rows(benchmark: str, tasks: list[str]) -> list[Published]:
    """The published rows of ``benchmark`` ("mtil_order_1" or "mtil_order_2"), for runs on ``tasks``.

    Raises:
        InputError: no such benchmark is published, or it has other tasks or another order.
    """
    if benchmark not in BENCHMARKS:
        names = " or ".join(BENCHMARKS)
        raise InputError(f"No benchmark '{benchmark}' is published{nearest(benchmark, BENCHMARKS)}: name {names}.")
    order = BENCHMARKS[benchmark]
    matrices = {TABLE_ROW[method]: matrix(order, method) for method in methods(order) if method in TABLE_ROW}
    theirs = next(iter(matrices.values())).tasks
    if tasks != theirs:
        raise InputError(
            f"The runs are not on the tasks of {benchmark}, which are {', '.join(theirs)} in this order: name other"
            " runs, or leave out --published."
        )
    return [
        Published(
            method,
            last_row=matrices[method].R[-1] if method in matrices else None,
            transfer=row["Transfer"],
            avg=row["Avg"],
            last=row["Last"],
            learns=row.get("learns", True),
        )
        for method, row in tables()[f"MTIL Order {order}"].items()
    ]


def all_rows(benchmark: str, tasks: list[str]) -> list[Published]:
    """``rows``, and after them ``further_rows``."""
    return [*rows(benchmark, tasks), *further_rows(benchmark)]


def further_rows(benchmark: str) -> list[Published]:
    """Published rows of ``benchmark`` not read in the paper itself: each has a ``source`` to show beside it.

    >>> further_rows("mtil_order_1")[0].source
    'third-party summary, unverified'
    """
    content = json.loads(resources.files(__name__).joinpath("further.json").read_text(encoding="utf-8"))
    return [
        Published(method, None, row["Transfer"], row["Avg"], row["Last"], learns=True, source=row["source"])
        for method, row in content[f"MTIL Order {BENCHMARKS[benchmark]}"].items()
    ]
