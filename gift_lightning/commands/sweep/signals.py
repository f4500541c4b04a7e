"""Signals that end a sweep: they are heard, and its loop decides."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""The signals."""


class Interrupted(BaseException):
    """A signal has ended the sweep; its number is the argument."""


@contextmanager
def signals_heard() -> Iterator[list[int]]:
    """Within it, signals that end a process are added to the list instead; those that were ignored still are."""
    heard: list[int] = []

    def hear(number: int, frame: object) -> None:
        heard.append(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, hear)
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
