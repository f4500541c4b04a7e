"""What a run leaves behind, beside what its end-to-end tests show."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from PIL import Image

from callbacks import RunRecord, RunTime, StepCheckpoint
from callbacks.encoding import likeliest_texts
from callbacks.run_record import _notes
from callbacks.task_callback import TaskCallback
from datamodules import Task, TaskSequence
from datamodules.mini import Counting, Flags, GeneralReference, Shapes
from datamodules.shard import TestShard
from gift_lightning.methods import ZSCL, Finetune, ZeroShot
from gift_lightning.records.report.comparison import total_seconds
from gift_lightning.records.report.replay_grid import plot_replay_grid
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.records.sequence_logger import SequenceLogger
from tests.callbacks.test_task_boundary import MINI, trainer_with


def test_loggers_go_on_from_a_checkpoint_of_an_earlier_version() -> None:
    """It has a list of places, in the order of the loggers."""

    class Follower(SequenceLogger):
        pass

    trainer: Any = SimpleNamespace(loggers=[Follower(), Follower()])
    for places in ([{"a": 5}, {"a": 5, "b": 7}], [3, 4]):
        record = RunRecord()
        record.on_load_checkpoint(trainer, SimpleNamespace(), {"metrics": [], "positions": places})  # type: ignore[arg-type]
        assert record._positions == {"Follower": places[0], "Follower 1": places[1]}


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
    trainer = trainer_with(RunTime(), record)
    trainer.fit(ZSCL(clip=MINI, warmup_steps=0), sequence)
    first, *others = record.results(trainer, trainer.lightning_module)["cost"]["replay_seconds"]
    assert first == 0 and len(others) == 2 and min(others) >= 0.2
    assert record.results(trainer, trainer.lightning_module)["cost"]["replay_seconds"][0] == 0


def test_the_teacher_names_the_texts_that_it_finds_likeliest(tmp_path: Path) -> None:
    """Below the images of the replay picture: the logits of the model before the task, on the texts of the picture."""
    clip, task, trainer = ZeroShot(clip=MINI).clip.eval(), Flags(8, 40), trainer_with()
    task.setup()
    shard = TestShard(task.test_set, clip.test_geometry, clip.normalize)
    texts = [f"a photo of the flag of {name}" for name in task.class_names]
    said = likeliest_texts(trainer, clip, shard, range(40), texts)
    with torch.no_grad():
        logits = clip.logit_scale * clip.encode_image(shard[:]) @ clip.encode_texts(texts).T
    assert [answers[0][0] for answers in said] == [texts[index] for index in logits.argmax(1)]
    assert sum(answers[0][0] == texts[label] for answers, label in zip(said, shard.labels, strict=True)) > 20
    for answers in said:
        values = [value for _, value in answers]
        assert values == sorted(values, reverse=True) and len(values) == 3 and 30 < sum(values) < 100.001
    pairs = [task.test_set[index] for index in range(40)]
    sizes = []
    for answers in ((), said):
        plot_replay_grid(tmp_path / "replay.png", pairs, texts, "Flags", answers)
        with Image.open(tmp_path / "replay.png") as picture:
            sizes.append(picture.height)
    assert sizes[1] > sizes[0]


class Stop(TaskCallback):
    """Stops a run after a step, and knows when it began."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == self.step


def test_the_phases_of_a_run_add_up_to_its_wall_time_without_the_time_in_which_it_stood_still(tmp_path: Path) -> None:
    folder, walls, cost = RunFolder(str(tmp_path), "run", checkpoint_every=5), [], {}
    for last in (10, 18):  # the first part ends amid the second task
        stop, record = Stop(last), RunRecord()
        sequence = TaskSequence([Flags(16, 9), Shapes(16, 10), Counting(8, 11)], batch_size=8, steps=6)
        trainer = trainer_with(
            stop, RunTime(), record, StepCheckpoint(folder), folder=folder, enable_checkpointing=True
        )
        checkpoint = folder.last_checkpoint if walls else None
        trainer.fit(Finetune(clip=MINI, warmup_steps=0), sequence, ckpt_path=checkpoint)
        walls.append(time.perf_counter() - stop.began)
        cost = record.results(trainer, trainer.lightning_module)["cost"]
        time.sleep(1)
    seconds = [sum(values) for name, values in cost.items() if name.endswith("_seconds")]
    assert 0.9 * sum(walls) < sum(seconds) < sum(walls) and total_seconds(cost) == pytest.approx(sum(seconds))
    assert [len(cost[f"{phase}_seconds"]) for phase in ("zero_shot", "train", "evaluate", "other")] == [1, 3, 3, 3]
    for task in range(3):
        shares = {part: values[task] for part, values in cost["shares"].items()}
        assert abs(sum(shares.values()) - 100) < 0.5 and shares["steps"] > 5 and shares["checkpoints"] > 0
        assert cost["images_per_second"][task] > 0
    assert "thread" in cost["machine"]
