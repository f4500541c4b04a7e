"""The accuracy matrix against a plain loop, and what evaluation leaves as it was."""

import io
from copy import deepcopy
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor

from callbacks import AccuracyMatrix, TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import Task, TaskSequence
from datamodules.base import Candidates
from datamodules.mini import Counting, Flags, Shapes
from datamodules.shard import TestShard
from gift_lightning.clip.model import CLIP
from gift_lightning.clip.source import CLIPSource
from gift_lightning.methods import ContinualCLIP, Finetune, ZeroShot
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS

MINI = CLIPSource("package:datamodules.mini.clip")


def two_tasks() -> list[Task]:
    return [Flags(16, 260), Counting(16, 7)]


def trainer_with(*callbacks: TaskCallback, max_epochs: int) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        callbacks=[TaskBoundary(), *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        **SEQUENCE_DEFAULTS,  # type: ignore[arg-type]
    )


def fit(method: ContinualCLIP, tasks: list[Task], *callbacks: TaskCallback) -> None:
    trainer = trainer_with(*callbacks, max_epochs=len(tasks))
    trainer.fit(method, TaskSequence(tasks, batch_size=8, steps="epoch"))


def accuracy(clip: CLIP, task: Task) -> float:
    """One image at a time."""
    model, right = clip.model.eval(), 0
    with torch.no_grad():
        means = []
        for name in task.class_names:
            tokens = clip.tokenizer([template.format(name) for template in task.templates])
            means.append(model.encode_text(tokens, normalize=True).mean(0))
        for index in range(len(task.test_set)):
            image, label = task.test_set[index]
            feature = model.encode_image(clip.test_transform(image)[None])[0]
            right += int(torch.cosine_similarity(feature, torch.stack(means)).argmax()) == label
    return 100 * right / len(task.test_set)


@pytest.mark.parametrize("eval_batch_size", [13, 256])
def test_accuracies_are_those_of_a_plain_loop(eval_batch_size: int) -> None:
    method = Finetune(clip=MINI, lr=1e-2, warmup_steps=1, eval_batch_size=eval_batch_size)
    tasks, matrix = two_tasks(), AccuracyMatrix()
    fit(method, tasks, matrix)
    assert matrix.zero_shot == [accuracy(MINI.load(), task) for task in tasks]
    assert matrix.rows[-1] == [accuracy(method.clip, task) for task in tasks]
    assert [len(row) for row in matrix.rows] == [2, 2]
    assert matrix.rows[0] != matrix.zero_shot


def test_testing_fills_one_row() -> None:
    tasks, fitted, tested = two_tasks(), AccuracyMatrix(), AccuracyMatrix()
    fit(ZeroShot(clip=MINI), tasks, fitted)
    sequence = TaskSequence(tasks, batch_size=8, steps="epoch")
    (logged,) = trainer_with(tested, max_epochs=2).test(ZeroShot(clip=MINI), sequence, verbose=False)
    assert tested.rows == [fitted.zero_shot]
    assert list(logged) == ["test/Flags", "test/Counting"]
    assert list(logged.values()) == pytest.approx(tested.rows[0])


class Loses(ZeroShot):
    def evaluate(self, task: Candidates, shard: TestShard) -> Tensor:
        return super().evaluate(task, shard)[:-1]


class Repeats(ZeroShot):
    def evaluate(self, task: Candidates, shard: TestShard) -> Tensor:
        return super().evaluate(task, shard).repeat(2, 1)


@pytest.mark.parametrize("method", [Loses, Repeats])
@pytest.mark.parametrize("size", [1, 2, 9])
def test_every_image_must_be_evaluated_once(method: type[ZeroShot], size: int) -> None:
    matrix = AccuracyMatrix()
    with pytest.raises(RuntimeError):
        fit(method(clip=MINI), [Flags(8, size)], matrix)


class Snapshot(TaskCallback):
    """The state of a module and its optimiser around an evaluation."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def look(self, trainer: Any, module: Any) -> None:
        parameters = list(module.parameters())
        state = {
            "modes": [part.training for part in module.modules()],
            "frozen": [parameter.requires_grad for parameter in parameters],
            "tensors": [*parameters, *(p.grad for p in parameters if p.grad is not None)],
            "optimiser": trainer.optimizers[0].state_dict(),
            "grad": torch.is_grad_enabled(),
        }
        self.seen.append(deepcopy(state))


class Before(Snapshot):
    def on_sequence_start(self, trainer: Any, module: Any) -> None:
        module.clip.model.visual.eval()  # a mixture of modes
        self.look(trainer, module)

    def on_task_evaluate(self, trainer: Any, module: Any, task: int) -> None:
        self.look(trainer, module)


class After(Before):
    def on_sequence_start(self, trainer: Any, module: Any) -> None:
        self.look(trainer, module)


def test_evaluation_changes_nothing() -> None:
    before, after, matrix = Before(), After(), AccuracyMatrix()
    fit(Finetune(clip=MINI, lr=1e-3, restart=True), two_tasks(), before, matrix, after)
    assert len(before.seen) == 3
    for old, new in zip(before.seen, after.seen, strict=True):
        assert {True, False} == set(old["modes"])
        assert [old[key] for key in ("modes", "frozen", "grad")] == [new[key] for key in ("modes", "frozen", "grad")]
        for ours, theirs in zip(new["tensors"], old["tensors"], strict=True):
            assert torch.equal(ours, theirs)
        moments, expected = ([*s["optimiser"]["state"].values()] for s in (new, old))
        assert len(moments) == len(expected)
        for ours, theirs in zip(moments, expected, strict=True):
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert new["optimiser"]["param_groups"] == old["optimiser"]["param_groups"]
    assert before.seen[-1]["optimiser"]["state"]


def test_state_survives_a_checkpoint() -> None:
    matrix, restored, file = AccuracyMatrix(), AccuracyMatrix(), io.BytesIO()
    assert matrix.state_dict()["rows"].tolist() == [] and matrix.state_dict()["zero_shot"] is None
    fit(ZeroShot(clip=MINI), [Flags(8, 9), Shapes(8, 10)], matrix)
    torch.save(matrix.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert (restored.rows, restored.zero_shot) == (matrix.rows, matrix.zero_shot)


def test_a_missing_row_is_an_error() -> None:
    matrix = AccuracyMatrix()
    matrix.rows = [[1.0]]
    with pytest.raises(RuntimeError, match="1 rows at the end of task 0"):
        fit(ZeroShot(clip=MINI), [Flags(8, 9)], matrix)


@pytest.mark.parametrize("space", ["seen", "all"])
def test_among_the_classes_of_several_tasks(space: Any) -> None:
    class Loop(TaskCallback):
        """One image at a time, over the prompts of all tasks that count."""

        def on_task_report(self, trainer: Any, module: Any, task: int) -> None:
            counted = tasks if space == "all" else tasks[: task + 1]
            names = [name for each in counted for name in each.class_names]
            with torch.no_grad():
                classes = torch.cat([module.clip.classifier(each.class_prompts()) for each in counted])
                for each in counted:
                    right = 0
                    for image, label in (each.test_set[index] for index in range(len(each.test_set))):
                        feature = module.clip.encode_image(module.clip.test_transform(image)[None])
                        right += names[int((feature @ classes.T).argmax())] == each.class_names[label]
                    expected[task].append(100 * right / len(each.test_set))

    tasks: list[Task] = [Flags(16, 21), Counting(16, 7), Shapes(16, 10)]
    expected: list[list[float]] = [[], [], []]
    matrix = AccuracyMatrix()
    method = Finetune(clip=MINI, lr=1e-3, warmup_steps=1)
    trainer = trainer_with(matrix, Loop(), max_epochs=3)
    trainer.fit(method.eval(), TaskSequence(tasks, batch_size=8, steps=2, label_space=space))
    known = [[cell for cell in row if cell is not None] for row in matrix.rows]
    assert known == [pytest.approx(row) for row in expected]
    assert [len(row) for row in known] == ([1, 2, 3] if space == "seen" else [3, 3, 3])


def test_its_state_keeps_every_bit_and_what_is_missing_and_takes_that_of_an_earlier_version() -> None:
    rows = [[100 / 3, None], [0.1 + 0.2, 7.0]]
    matrix, other, earlier = AccuracyMatrix(), AccuracyMatrix(), AccuracyMatrix()
    matrix.rows = rows
    other.load_state_dict(matrix.state_dict())
    earlier.load_state_dict({"rows": rows, "zero_shot": None})
    assert other.rows == earlier.rows == rows
