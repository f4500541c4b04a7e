"""What a run leaves behind, beside what its end-to-end tests show."""

import time
from types import SimpleNamespace
from typing import Any

from callbacks import RunRecord
from callbacks.run_record import _notes
from datamodules import Task, TaskSequence
from datamodules.mini import Counting, Flags, GeneralReference, Shapes
from gift_lightning.methods import ZSCL
from tests.callbacks.test_task_boundary import MINI, trainer_with


def test_only_the_first_rank_reads_the_files_that_notes_describe() -> None:
    asked = []

    class Noted(TaskSequence):
        def notes(self) -> list[str]:
            asked.append("data")
            return ["of data"]

    method: Any = SimpleNamespace(notes=lambda: asked.append("model") or ["of model"])
    for rank, expected in ((1, []), (0, ["of model", "of data"])):
        trainer: Any = SimpleNamespace(is_global_zero=rank == 0, datamodule=Noted([Flags(8, 9)]))
        assert _notes(trainer, method) == expected
    assert asked == ["model", "data"]


class Slow(GeneralReference):
    """A replay set from the second task on, which takes its time."""

    first_task = 1

    def prepare_task(self, task: int) -> None:
        time.sleep(0.2)
        super().prepare_task(task)


def test_the_preparation_of_replay_is_a_cost_of_the_tasks_that_have_it() -> None:
    record = RunRecord()
    tasks: list[Task] = [Flags(8, 9), Shapes(8, 10), Counting(8, 11)]
    sequence = TaskSequence(tasks, batch_size=8, steps=1, replay=Slow(8, batch_size=8))
    trainer = trainer_with(record)
    trainer.fit(ZSCL(clip=MINI, warmup_steps=0), sequence)
    first, *others = record.seconds["replay"]
    assert first == 0 and len(others) == 2 and min(others) >= 0.2
    assert record.results(trainer, trainer.lightning_module)["cost"]["replay_seconds"][0] == 0
