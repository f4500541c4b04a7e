"""The methods that distil: where their images and texts come from, and what is computed only once."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor

from callbacks import AccuracyMatrix, StepCheckpoint, TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import CurrentTask, ExemplarMemory, Reference, TaskSequence, shard
from datamodules.base import Replay
from datamodules.mini import Counting, Flags, GeneralReference, Shapes
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import GIFT, ZSCL, ContinualCLIP, ICaRL, LwF, LwFVR, WeightAveraging, WiSEFT, ZSCLAblation
from gift_lightning.records.checkpoint import AtomicCheckpointIO
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS

MINI = CLIPSource("package:datamodules.mini.clip")
RESUMABLE: dict[str, Any] = {
    "accelerator": "cpu",
    "max_epochs": 1,
    "plugins": [AtomicCheckpointIO()],
    **SEQUENCE_DEFAULTS,
    "logger": False,
    "enable_progress_bar": False,
}
SETTINGS: dict[str, Any] = {"clip": MINI, "lr": 1e-3, "warmup_steps": 1}


def fit(
    method: ContinualCLIP, replay: Replay | None, *callbacks: TaskCallback, steps: int = 2, **trainer: Any
) -> TaskSequence:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings: dict[str, Any] = {"accelerator": "cpu", "max_epochs": 3, **SEQUENCE_DEFAULTS, **quiet, **trainer}
    tasks = [Flags(16, 9), Shapes(24, 10), Counting(40, 11)]
    sequence = TaskSequence(tasks, batch_size=8, steps=steps, replay=replay)  # type: ignore[arg-type]
    Trainer(callbacks=[TaskBoundary(), AccuracyMatrix(), *callbacks], **settings).fit(method, sequence)
    return sequence


class Encoded:
    """Counts what a CLIP's towers encode."""

    def __init__(self, clip: Any) -> None:
        self.images, self.texts = 0, 0
        encode_image, encode_text = clip.encode_image, clip.encode_text

        def count_images(images: Tensor) -> Tensor:
            self.images += len(images)
            return encode_image(images)

        def count_texts(tokens: Tensor) -> Tensor:
            self.texts += len(tokens)
            return encode_text(tokens)

        clip.encode_image, clip.encode_text = count_images, count_texts


def test_an_initial_teacher_sees_the_reference_set_once_in_a_run() -> None:
    method, reference = ZSCL(**SETTINGS, average_every=1), GeneralReference(size=20, batch_size=8)
    encoded = Encoded(method.teacher.module)
    fit(method, reference)
    assert (encoded.images, encoded.texts) == (20, len(reference.texts))


def test_a_teacher_of_each_task_sees_the_reference_set_once_in_each() -> None:
    method = ZSCL(**SETTINGS, teacher="last")
    encoded = Encoded(method.teacher.module)
    fit(method, GeneralReference(size=20, batch_size=8), steps=3)
    assert encoded.images == 3 * 20


class FiniteRows(TaskCallback):
    """Images with features of the teacher in each task."""

    def __init__(self) -> None:
        self.of: list[int] = []

    def on_task_trained(self, trainer: Any, module: Any, task: int) -> None:
        rows = module.teacher_features.image.isfinite().all(1)
        self.of.append(int(rows.sum()))
        assert rows.nonzero().flatten().tolist() == sorted(trainer.datamodule.replayed(task))


def test_lwf_distils_each_task_on_itself_and_its_teacher_sees_what_is_drawn() -> None:
    method, rows = LwF(**SETTINGS), FiniteRows()
    encoded = Encoded(method.teacher.module)
    sequence = fit(method, CurrentTask(batch_size=8), rows)
    assert rows.of == [16, 16, 16] and encoded.images == sum(rows.of)  # 2 steps of 8 images of 16, 24 and 40
    assert encoded.texts == sum(len(task.class_names) for task in sequence.tasks)


def test_a_resumed_teacher_sees_what_is_still_drawn_and_the_weights_are_the_same(tmp_path: Path) -> None:
    """In forward passes of two images, for eight steps of four of them, of 40."""
    ended, encoded, folder = [], [], RunFolder(str(tmp_path), "run", checkpoint_every=5)
    for checkpoint in (None, tmp_path / "middle.ckpt"):
        method = LwF(**SETTINGS, eval_batch_size=2)
        encoded.append(Encoded(method.teacher.module))
        sequence = TaskSequence([Counting(40, 11)], batch_size=4, steps=8, replay=CurrentTask(batch_size=4))
        callbacks = [TaskBoundary(folder), AccuracyMatrix(), StepCheckpoint(folder), Keep(folder, tmp_path)]
        trainer = Trainer(callbacks=callbacks, **RESUMABLE)
        trainer.fit(method, sequence, ckpt_path=checkpoint)
        ended.append(copy(method))
    assert [counter.images for counter in encoded] == [32, 12]  # 32 draws, none twice; of the last three steps
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*ended, strict=True))


class Keep(TaskCallback):
    """Keeps the checkpoint that is written amid a task."""

    def __init__(self, folder: RunFolder, kept: Path) -> None:
        self.folder, self.kept = folder, kept

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 6 and not (self.kept / "middle.ckpt").exists():
            trainer.strategy.checkpoint_io.wait()  # written beside the steps
            shutil.copy(self.folder.last_checkpoint, self.kept / "middle.ckpt")


def test_images_that_are_not_kept_give_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = GeneralReference(size=12)
    TaskSequence([Flags(16, 9)], replay=pictures)
    pictures.prepare_task(0)
    for index, (picture, _) in enumerate(pictures.pairs):  # type: ignore[arg-type, var-annotated]
        picture.save(tmp_path / f"{index}.png")
    ended = []
    for kept in (10**6, 0):
        monkeypatch.setattr(shard, "MOST_IN_MEMORY", kept)
        method = ZSCL(**SETTINGS)
        fit(method, Reference(str(tmp_path), ["a star", "a house"], batch_size=4))
        ended.append(copy(method))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*ended, strict=True))


class Texts(TaskCallback):
    def __init__(self) -> None:
        self.of: list[list[str]] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.of.append(pl_module.replay_texts())


def test_lwf_vr_draws_other_random_words_for_each_task_and_the_same_for_each_seed() -> None:
    first, second = Texts(), Texts()
    for texts in (first, second):
        fit(LwFVR(**SETTINGS, texts=5, words=3), CurrentTask(batch_size=8), texts)
    assert first.of == second.of and len({tuple(texts) for texts in first.of}) == 3
    assert all(len(text.split()) == 3 for texts in first.of for text in texts) and len(first.of[0]) == 5


class Parts(TaskCallback):
    """The names of the loss parts in each task."""

    def __init__(self) -> None:
        self.of: list[set[str]] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.losses.clear()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.of.append(set(pl_module.losses))


def test_icarl_has_nothing_to_distil_in_the_first_task_and_a_fair_memory_after() -> None:
    memory, parts = ExemplarMemory(size=21, batch_size=4), Parts()
    sequence = fit(ICaRL(**SETTINGS), memory, parts)
    distilled = {"task", "image_distillation", "text_distillation"}
    assert parts.of == [{"task"}, distilled, distilled]
    assert [len(indices) for indices in memory.exemplars] == [10, 10]  # none of the last task, which nothing follows
    for task, indices in zip(sequence.tasks, memory.exemplars, strict=False):
        counts = torch.tensor([task.train_set[index][1] for index in indices]).bincount(minlength=len(task.class_names))
        available = torch.tensor([label for _, label in task.train_set]).bincount(minlength=len(task.class_names))  # type: ignore[attr-defined]
        assert ((counts == counts.max()) | (counts >= counts.max() - 1) | (counts == available)).all()


class Unpaired(GeneralReference):
    paired = False


def test_gift_needs_a_text_for_each_image() -> None:
    with pytest.raises(InputError, match=r"GIFT needs a text for each image, and replay has images alone"):
        fit(GIFT(**SETTINGS), Unpaired())


def test_wise_ft_ends_between_the_start_and_the_trained_weights() -> None:
    class Check(TaskCallback):
        def on_task_start(self, trainer: Any, module: Any, task: int) -> None:
            self.started = [weight.detach().clone() for weight in module.clip.parameters()]
            self.initial = self.initial if task else self.started

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            self.trained = [weight.detach().clone() for weight in module.clip.parameters()]

        def on_task_end(self, trainer: Any, module: Any, task: int) -> None:
            base = self.initial if module.start_at == "initial" else self.started
            for start, trained, weight in zip(base, self.trained, module.clip.parameters(), strict=True):
                assert (weight - (0.25 * start + 0.75 * trained)).abs().max() < 1e-6
            checked.append(task)

    checked: list[int] = []
    for start in ("last", "initial"):
        fit(WiSEFT(**SETTINGS, alpha=0.75, start=start), None, Check())
    assert checked == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("method", "arguments", "sentence"),
    [
        (ZSCL, {"l2": -1}, "l2 is -1: it cannot be negative"),
        (ZSCL, {"average_every": 0}, "average_every is 0: give at least 1 step, or null"),
        (ZSCL, {"temperature": 0}, "temperature is 0: give a positive number"),
        (LwF, {"distillation_weight": -1}, "distillation_weight is -1: it cannot be negative"),
        (LwF, {"initial_weight": 2}, "initial_weight is 2: give a number from 0 to 1"),
        (LwFVR, {"words": 0}, "words is 0: give at least 1"),
        (WiSEFT, {"alpha": 1.5}, "alpha is 1.5: give a number from 0 to 1"),
        (WeightAveraging, {"every": 0}, "every is 0: give at least 1 step"),
        (WeightAveraging, {"average": "last"}, "average 'last' with pull 0 changes nothing"),
    ],
)
def test_impossible_settings_are_told(method: Any, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        method(clip=MINI, **arguments)


@pytest.mark.parametrize(
    ("method", "replay", "sentence"),
    [
        (ICaRL, CurrentTask(), r"ICaRL replays other images than those of CurrentTask: .* datamodules\.ExemplarMemory"),
        (LwF, ExemplarMemory(), r"LwF replays other images than those of ExemplarMemory: .* datamodules\.CurrentTask"),
        (LwFVR, GeneralReference(), r"LwFVR replays other images than those of GeneralReference"),
        (ZSCL, ExemplarMemory(), r"ZSCL fills no memory: choose another replay"),
    ],
)
def test_methods_that_are_defined_by_their_images_take_no_others(method: Any, replay: Replay, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        fit(method(**SETTINGS), replay)


def test_similarities_need_two_images() -> None:
    with pytest.raises(InputError, match=r"compares images: give batch_size at least 2"):
        fit(ZSCLAblation(**SETTINGS, image_image_weight=1.0), GeneralReference(size=4, batch_size=1))


def test_the_ablation_losses_of_zscl_have_weights_of_their_own() -> None:
    class Recorded(TaskCallback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                found.append({name: part.item() for name, part in module.losses.items()})

    found: list[dict[str, float]] = []
    for alpha in (1.0, 0.5):
        settings = {**SETTINGS, "lr": 0.0, "distillation_weight": alpha}
        method = ZSCLAblation(**settings, l2=0.0, average_every=None, feature_weight=1.0, image_image_weight=2.0)
        with torch.no_grad():
            next(iter(method.clip.model.visual.parameters())).mul_(1.5)  # so that the teacher is another model
        fit(method, GeneralReference(size=12, batch_size=6), Recorded())
    whole, half = found
    assert whole["feature_distance"] == half["feature_distance"] > 0
    assert whole["image_image_distillation"] == half["image_image_distillation"] > 0
    assert whole["image_distillation"] == pytest.approx(2 * half["image_distillation"])


@pytest.mark.parametrize(("steps", "averaged"), [(3, 2), (4, 3)])
def test_a_task_whose_steps_are_a_multiple_is_averaged_once_more(steps: int, averaged: int) -> None:
    class Check(TaskCallback):
        def on_task_start(self, trainer: Any, module: Any, task: int) -> None:
            self.seen = [copy(module)]

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            step = trainer.global_step - trainer.datamodule.first_step(module.task)
            stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
            if stepped and ((step - 1) % 2 == 0 or step == steps == 4):
                self.seen.append(copy(module))

        def on_task_evaluate(self, trainer: Any, module: Any, task: int) -> None:
            assert len(self.seen) == averaged + 1
            for index, weight in enumerate(module.clip.parameters()):
                mean = torch.stack([weights[index] for weights in self.seen]).double().mean(0)
                assert (weight - mean).abs().max() < 1e-6
            checked.append(task)

    checked: list[int] = []
    method = WeightAveraging(**SETTINGS, every=2)
    fit(method, None, Check(), steps=steps, accumulate_grad_batches=2)
    assert checked == [0, 1, 2]


def copy(module: Any) -> list[Tensor]:
    return [weight.detach().clone() for weight in module.clip.parameters()]
