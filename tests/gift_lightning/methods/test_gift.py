"""GIFT on real tasks and pairs: what a step computes, what it keeps in memory, what it does at a task's start."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from callbacks import AccuracyMatrix, TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import TaskSequence
from datamodules.base import Replay
from datamodules.mini import Counting, Flags
from datamodules.mini.oracle import OracleGenerator
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import GIFT, ContinualCLIP, Finetune, GIFTAblation
from gift_lightning.numerics.consolidation import normalised_fisher_
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS

MINI = CLIPSource("package:datamodules.mini.clip")
PROMPTS = ["a photo of a tree", "a photo of a cat", "a photo of the letter b", "a photo of three objects"]


class DrawnReplay(Replay):
    """Pairs that the renderer draws, other ones for each task."""

    def __init__(self, images: int = 24, batch_size: int = 8, prompts: list[str] = PROMPTS) -> None:
        super().__init__(batch_size)
        self.images, self.texts = images, prompts

    def prepare_task(self, task: int) -> None:
        numbers = [(task + index) % len(self.texts) for index in range(self.images)]
        told = [self.texts[number] for number in numbers]
        drawn = OracleGenerator().generate(told, [1000 * task + index for index in range(self.images)])
        self.pairs = list(zip(drawn, numbers, strict=True))


def fit(
    method: ContinualCLIP, *callbacks: TaskCallback, replay: Replay | None = None, workers: int = 0, **trainer: Any
) -> Trainer:
    """Two tasks of 2 and 3 optimiser steps."""
    defaults = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "log_every_n_steps": 1}
    settings = {"accelerator": "cpu", "max_epochs": 2, **SEQUENCE_DEFAULTS, **defaults, **trainer}
    tasks = [Flags(16, 9), Counting(24, 10)]
    sequence = TaskSequence(tasks, batch_size=8, steps="epoch", replay=replay, num_workers=workers)
    runner = Trainer(callbacks=[TaskBoundary(), AccuracyMatrix(), *callbacks], **settings)
    runner.fit(method, sequence)
    return runner


def gift(**arguments: Any) -> GIFT:
    return GIFT(clip=MINI, lr=1e-3, warmup_steps=1, **arguments)


def ablation(**arguments: Any) -> GIFTAblation:
    return GIFTAblation(clip=MINI, lr=1e-3, warmup_steps=1, **arguments)


class Probe(TaskCallback):
    """Calls a function with the module after every optimiser step."""

    def __init__(self, look: Callable[[Any], None]) -> None:
        self.look = look

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.look(module)


class EarlyProbe(Probe):
    """Calls it when all gradients are known, before the module uses that of the replay loss."""

    def on_train_batch_end(self, *_: Any) -> None:
        pass

    def on_after_backward(self, trainer: Any, module: Any) -> None:
        self.look(module)


def weights(module: Any) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.clip.parameters()]


def largest_difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max((mine - other).abs().max().item() for mine, other in zip(ours, theirs, strict=True))


# --- a step -----------------------------------------------------------------------------------------------------------


def test_gradient_of_a_step_is_that_of_the_whole_loss() -> None:
    """One backward pass of the written-out sum, with the importances as constants, gives the same gradient."""
    found: list[float] = []

    class Check(TaskCallback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            self.batch = batch

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            found.append(largest_difference([p.grad for p in module.trained], self.expected))

        def on_after_backward(self, trainer: Any, module: Any) -> None:
            gradient = module.replay_gradient
            total = module.task_loss(*self.batch["task"]) + sum(module.replay_loss(self.batch["replay"]).values())
            weights, anchors = module.anchor.pairs(module.clip)
            importance = normalised_fisher_([part.square() for part in gradient], weights)
            for weight, anchor, factor in zip(weights, anchors, importance, strict=True):
                total = total + 0.7 * (factor * (weight - anchor).square()).sum()
            self.expected = torch.autograd.grad(total, module.trained)

    fit(gift(consolidation_weight=0.7).double(), Check(), replay=DrawnReplay(), precision="64-true")
    assert len(found) == 5
    assert max(found) < 1e-10


def test_accumulated_batches_average_their_replay_gradients() -> None:
    used: list[Tensor] = []
    parts: list[Tensor] = []

    class Recording(GIFT):
        def differentiate(self, batch: Any) -> list[Tensor | None]:
            gradient = super().differentiate(batch)
            assert gradient[0] is not None
            parts.append(gradient[0].clone())
            return gradient

    class Used(TaskCallback):
        def on_after_backward(self, trainer: Any, module: Any) -> None:
            if module.is_logged:  # the last batch of a step
                used.append(module.replay_gradient[0].clone())

    fit(Recording(clip=MINI, lr=1e-3), Used(), replay=DrawnReplay(), accumulate_grad_batches=2)
    assert len(used) == 5 and len(parts) == 10
    for ours, first, second in zip(used, parts[::2], parts[1::2], strict=True):
        torch.testing.assert_close(ours, (first + second) / 2, rtol=1e-6, atol=1e-9)


def saved_bytes(method: ContinualCLIP, replay: Replay | None) -> int:
    """The most bytes of tensors that autograd keeps for backward passes at a time during a run."""
    alive, most = 0, 0

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal alive, most
            self.tensor, self.size = tensor, tensor.numel() * tensor.element_size()
            alive += self.size
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= self.size

    with saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        fit(method, replay=replay)
    return most


class OneBackwardPass(GIFTAblation):
    """The textbook way: one loss, whose two graphs are alive until its backward pass."""

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        replayed = sum(self.replay_loss(batch["replay"]).values())
        self.replay_gradient = [None for _ in self.trained]
        return self.record("task", self.task_loss(*batch["task"]) + replayed)

    def complete_gradient(self, optimizer: Any) -> None:
        """No gradient is added."""


def test_only_one_graph_is_alive_at_a_time() -> None:
    task_alone = saved_bytes(Finetune(clip=MINI, lr=1e-3), None)
    assert saved_bytes(gift(), DrawnReplay(batch_size=8)) <= 1.01 * task_alone
    textbook = OneBackwardPass(clip=MINI, lr=1e-3, consolidation="l2")
    assert saved_bytes(textbook, DrawnReplay(batch_size=8)) > 1.6 * task_alone


def test_the_teacher_encodes_every_image_that_a_task_draws_once() -> None:
    method = gift()
    seen: list[int] = []
    tower = method.teacher.module.model.visual
    tower.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    fit(method, replay=DrawnReplay(images=24))
    assert sum(seen) == 2 * 8 + 24  # tasks of 2 and 3 steps with 8 pairs each


def test_the_first_step_of_a_fresh_teacher_distils_nothing() -> None:
    norms: list[float] = []
    fit(
        ablation(alignment_weight=0.0, consolidation="off").double(),
        EarlyProbe(lambda module: norms.append(max(part.abs().max().item() for part in module.replay_gradient))),
        replay=DrawnReplay(),
        precision="64-true",
    )
    assert norms[0] < 1e-12 and norms[2] < 1e-12  # the first steps of both tasks
    assert norms[1] > 1e-6 and norms[3] > 1e-6


@pytest.mark.parametrize("settings", [{"precision": "bf16-mixed"}, {"gradient_clip_val": 0.1}])
def test_usual_settings_of_the_trainer_apply(settings: dict[str, Any]) -> None:
    norms: list[float] = []

    def look(module: Any) -> None:
        assert all(parameter.isfinite().all() for parameter in module.trained)
        norms.append(torch.stack([p.grad.norm() for p in module.trained]).norm().item())

    fit(gift(), Probe(look), replay=DrawnReplay(), **settings)
    if "gradient_clip_val" in settings:  # what is clipped is the sum of all gradients
        assert norms == pytest.approx([0.1] * 5, rel=1e-4)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_one_sided_distillation_reaches_one_tower(tower: str) -> None:
    reached: set[str] = set()

    def look(module: Any) -> None:
        names = [name for name, p in module.clip.named_parameters() if p.requires_grad]
        reached.update(
            "image" if "visual" in name else "text"
            for name, gradient in zip(names, module.replay_gradient, strict=True)
            if gradient is not None
        )

    fit(ablation(distillation=tower), EarlyProbe(look), replay=DrawnReplay())
    assert reached == {tower}


# --- at a task's start ------------------------------------------------------------------------------------------------


class Starts(TaskCallback):
    """Keeps the student's, the teacher's and the anchor's weights at the start of each task."""

    def __init__(self) -> None:
        self.student: list[list[Tensor]] = []
        self.teacher: list[list[Tensor]] = []
        self.anchor: list[list[Tensor]] = []

    def prepare_task(self, trainer: Any, module: Any, task: int) -> None:
        for kept, part in ((self.student, module.clip), (self.teacher, module.teacher), (self.anchor, module.anchor)):
            kept.append([parameter.detach().clone() for parameter in part.parameters()])


@pytest.mark.parametrize("consolidation", ["adaptive", "boundary", "l2", "off"])
@pytest.mark.parametrize("teacher", ["last", "initial", "wise"])
def test_teacher_and_anchor(teacher: Any, consolidation: Any) -> None:
    starts, method = Starts(), ablation(teacher=teacher, initial_weight=0.25, consolidation=consolidation)
    initial = weights(method)
    fit(method, starts, replay=DrawnReplay())
    assert largest_difference(starts.student[0], initial) == 0
    assert largest_difference(starts.teacher[0], initial) < 1e-7
    moved = largest_difference(starts.student[1], initial)
    assert moved > 1e-4
    shares = {"last": 0.0, "initial": 1.0, "wise": 0.25}
    for student, started, ours in zip(starts.student[1], initial, starts.teacher[1], strict=True):
        assert (ours - (shares[teacher] * started + (1 - shares[teacher]) * student)).abs().max() < 1e-6
    if consolidation != "off":
        assert largest_difference(starts.anchor[1], starts.student[1]) == 0


def test_a_teacher_that_is_the_last_model_is_the_anchor_without_a_second_copy() -> None:
    method = gift()
    assert method.anchor is method.teacher
    assert sum(isinstance(part, FrozenCopy) for part in method.modules()) == 1
    for kind in ("initial", "wise"):
        other = ablation(teacher=kind)
        assert other.anchor is not other.teacher


def test_boundary_fisher_is_the_mean_of_squared_batch_gradients() -> None:
    kept: list[tuple[list[Tensor], list[Tensor]]] = []

    class Check(TaskCallback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx:
                return
            sequence = trainer.datamodule
            squares = [torch.zeros_like(weight) for weight in module.trained]
            for first in range(0, 24, 8):
                parts = module.replay_loss(sequence.replay_batch(torch.arange(first, first + 8)))
                gradient = torch.autograd.grad(sum(parts.values()), module.trained)
                squares = [total + part.square() / 3 for total, part in zip(squares, gradient, strict=True)]
            assert len(sequence.replay.pairs) == 24
            kept.append((module.fisher.pairs(module.clip)[1], normalised_fisher_(squares, module.trained)))
            kept[-1] = tuple([value.clone() for value in values] for values in kept[-1])  # type: ignore[assignment]

    fit(ablation(consolidation="boundary").double(), Check(), replay=DrawnReplay(), precision="64-true")
    assert len(kept) == 2
    for ours, expected in kept:
        assert max(((a - b).abs() / (b.abs() + 1e-3)).max().item() for a, b in zip(ours, expected, strict=True)) < 1e-9


def test_fisher_shares_are_logged(tmp_path: Any) -> None:
    from gift_lightning.records.metrics_csv import MetricsCSV

    fit(gift(), replay=DrawnReplay(), logger=MetricsCSV(str(tmp_path)))
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    columns = [name for name in header.split(",") if name.startswith("fisher/")]
    assert any("visual" in name for name in columns) and any("transformer.resblocks" in name for name in columns)
    logged = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    shares = [[float(values[name]) for name in columns] for values in logged if values[columns[0]]]
    assert len(shares) == 5  # one for each step
    assert all(sum(row) == pytest.approx(100, abs=1e-3) for row in shares)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_gift_needs_pairs_and_others_take_none() -> None:
    with pytest.raises(InputError, match=r"say with replay where they are"):
        fit(gift())
    with pytest.raises(InputError, match=r"Finetune does not replay: remove replay"):
        fit(Finetune(clip=MINI, lr=1e-3), replay=DrawnReplay())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"alignment_weight": -1}, "alignment_weight is -1: it cannot be negative"),
        ({"temperature": 0}, "temperature is 0: give a positive number"),
        ({"initial_weight": 2, "teacher": "wise"}, "initial_weight is 2: give a number from 0 to 1"),
        ({"distillation_weight": 0, "alignment_weight": 0}, "use Finetune or L2 instead"),
        ({"consolidation": "boundary", "alignment_weight": 0}, "'boundary' needs alignment_weight above 0"),
    ],
)
def test_bad_settings(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ablation(**arguments)


def test_half_precision_that_would_lose_gradients_is_refused() -> None:
    method = gift()
    method.trainer = Trainer(callbacks=TaskBoundary(), accelerator="cpu", logger=False, enable_checkpointing=False)
    method.trainer.datamodule = TaskSequence([Flags(16, 9)], batch_size=8, steps=1, replay=DrawnReplay())  # type: ignore[attr-defined]
    method.trainer._accelerator_connector.precision_plugin.precision = "16-mixed"
    with pytest.raises(InputError, match="choose bf16-mixed or 32-true"):
        method.setup("fit")


def test_a_prompt_that_the_clip_would_cut_is_named() -> None:
    long = "a photo of " + "a tree and " * 8 + "a cat"
    with pytest.raises(InputError, match="cannot read the whole replay prompt 'a photo of a tree and a tree"):
        fit(gift(), replay=Named([long]))


class Named(DrawnReplay):
    """Pairs of plain pictures with any prompts."""

    def __init__(self, prompts: list[str], images: int = 8) -> None:
        super().__init__(images=images, prompts=prompts)

    def prepare_task(self, task: int) -> None:
        pictures = OracleGenerator().generate([PROMPTS[0]] * self.images, list(range(self.images)))
        self.pairs = [(picture, index % len(self.texts)) for index, picture in enumerate(pictures)]


def test_a_boundary_fisher_of_a_set_smaller_than_a_batch() -> None:
    method = ablation(consolidation="boundary")
    fit(method, replay=Named(PROMPTS, images=5))
    assert method.fisher is not None
    means = [value.mean().item() for value in method.fisher.pairs(method.clip)[1]]
    assert means == pytest.approx([1.0] * len(means), rel=1e-3)


def test_workers_replay_the_same_pairs() -> None:
    weights_of = []
    for workers in (0, 1):
        method = gift()
        fit(method, replay=DrawnReplay(), workers=workers)
        weights_of.append(weights(method))
    assert largest_difference(*weights_of) == 0


def test_a_replay_loss_that_is_not_a_number_is_told() -> None:
    class Broken(DrawnReplay):
        def prepare_task(self, task: int) -> None:
            super().prepare_task(task)
            if task == 1:
                self.sequence.trainer.lightning_module.clip.normalize = lambda images: images.float() * float("nan")

    with pytest.raises(InputError, match=r"The image distillation loss is not finite at step 3 \(task 'Counting'\)"):
        fit(gift(), replay=Broken())
