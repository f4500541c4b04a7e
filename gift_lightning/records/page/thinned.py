"""Fewer items of a long list."""

from collections.abc import Sequence
from typing import TypeVar

_Item = TypeVar("_Item")


def thinned(items: Sequence[_Item], most: int) -> Sequence[_Item]:
    """At most ``most`` items, evenly spread over ``items`` from the first one on; all of them if they are no more.

    >>> thinned(range(119), 60)[:3], len(thinned(range(119), 60)), len(thinned(range(60), 60))
    (range(0, 6, 2), 60, 60)
    """
    return items[:: max(1, -(-len(items) // most))]
