"""What a run leaves behind, beside what its end-to-end tests show."""

from types import SimpleNamespace
from typing import Any

from callbacks.run_record import _notes


def test_only_the_first_rank_reads_the_files_of_which_notes_tell() -> None:
    asked = []

    def part(name: str) -> Any:
        return SimpleNamespace(notes=lambda: asked.append(name) or [f"of {name}"])

    for rank, expected in ((1, []), (0, ["of model", "of data"])):
        trainer: Any = SimpleNamespace(is_global_zero=rank == 0, datamodule=part("data"))
        assert _notes(trainer, part("model")) == expected
    assert asked == ["model", "data"]
