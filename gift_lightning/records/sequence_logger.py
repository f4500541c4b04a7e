"""What a logger has that follows a sequence: its pictures, and its place in a run that goes on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class SequenceLogger:
    """A base beside Lightning's: shows matrix and replayed images of a run, and goes on at a checkpoint's place.

    ``RunRecord`` calls it beside the methods of every logger: ``begin`` before anything is logged, ``position`` for
    each checkpoint. Subclasses log on the first rank alone.
    """

    def begin(self, position: Any) -> None:
        """Begin or go on: what was logged after the checkpoint is logged again, and must not stand there twice.

        Args:
            position: what ``position`` returned for the checkpoint; ``None`` if the run had no such logger before.
        """
        raise NotImplementedError

    def position(self) -> Any:
        """The place after all that is logged by now, for a checkpoint: plain values."""
        raise NotImplementedError

    def log_results(self, results: Mapping[str, Any], picture: Path, step: int) -> None:
        """Log the accuracy matrix.

        Args:
            results: content of ``results.json``.
            picture: the file ``accuracy_matrix.png`` in the run's folder.
            step: of the optimiser, for loggers that have it beside the number of learned tasks.
        """
        raise NotImplementedError

    def log_replay(self, pairs: Any, texts: Sequence[str], task: int, step: int) -> None:
        """Log some of the replayed images of ``task``.

        Args:
            pairs: map-style set of ``(PIL image, index into texts, or -1)``.
            texts: the distinct texts of the set.
            task: its number, from 0.
            step: of the optimiser, for loggers that have it beside the number of learned tasks.
        """
        raise NotImplementedError
