"""Compiled towers and activation checkpointing: the numbers of a run without them, and how often towers are compiled."""

import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor
from torch._inductor import compile_fx

from callbacks import AccuracyMatrix, TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import TaskSequence
from datamodules.mini import Counting, Flags, Shapes
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import GIFT, ConDU, ContinualCLIP, MoEAdapter
from gift_lightning.numerics.low_rank import LoRA
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS
from tests.e2e.conftest import Fit, assert_same_run, kill_at
from tests.e2e.outside.learned_context import LearnedContext
from tests.gift_lightning.methods.test_gift import DrawnReplay

MINI = CLIPSource("package:datamodules.mini.clip")
SETTINGS: dict[str, Any] = {"clip": MINI, "lr": 1e-3, "warmup_steps": 1}
METHODS: dict[str, Callable[..., ContinualCLIP]] = {
    "gift": lambda **new: GIFT(**SETTINGS, **new),
    "condu": lambda **new: ConDU(**SETTINGS, **new),
    "condu_lora": lambda **new: ConDU(**SETTINGS, lora=LoRA(), **new),
    "learned_context": lambda **new: LearnedContext(**SETTINGS, **new),
}


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of inputs of all graphs that are compiled, which run as they were traced, without inductor."""
    graphs: list[int] = []

    def traced(graph: torch.fx.GraphModule, inputs: list[Any], **_: Any) -> Any:
        graphs.append(len(inputs))
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(compile_fx, "compile_fx", traced)
    yield graphs
    torch._dynamo.reset()


class Losses(TaskCallback):
    """The losses of all steps, and how many graphs there were at the start of each task."""

    def __init__(self, graphs: list[int]) -> None:
        self.graphs, self.steps, self.counts = graphs, [], []  # type: ignore[var-annotated]

    def on_task_start(self, trainer: Any, module: Any, task: int) -> None:
        self.counts.append(len(self.graphs))

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.steps.append(torch.stack(list(module.losses.values())))


def fit(method: ContinualCLIP, graphs: list[int], **trainer: Any) -> Losses:
    """Three tasks with 12, 8 and 9 classes, of 2, 3 and 1 optimiser steps; a task and a replay batch have other sizes."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "precision": "64-true"}
    settings: dict[str, Any] = {"accelerator": "cpu", "max_epochs": 3, **SEQUENCE_DEFAULTS, **quiet, **trainer}
    replay = DrawnReplay(batch_size=6) if method.replays else None
    sequence = TaskSequence([Flags(16, 9), Shapes(24, 10), Counting(8, 11)], batch_size=8, steps="epoch", replay=replay)
    losses = Losses(graphs)
    Trainer(callbacks=[TaskBoundary(), AccuracyMatrix(), losses], **settings).fit(method.double(), sequence)
    return losses


@pytest.mark.parametrize("name", METHODS)
def test_towers_are_compiled_once_for_the_sequence(name: str, compilations: list[int]) -> None:
    plain = fit(METHODS[name](), compilations)
    assert not compilations
    towers = fit(METHODS[name](compile=True), compilations)
    assert towers.counts == [0, *[len(compilations)] * 2], "compiled again in a later task"
    assert len(compilations) <= 3  # the image tower for both sizes of a batch, and the text tower
    for ours, theirs in zip(towers.steps, plain.steps, strict=True):
        assert (ours - theirs).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["gift", "condu", "learned_context"])
@pytest.mark.parametrize("compile", [False, True])
def test_recomputed_activations_give_the_same_steps(name: str, compile: bool, compilations: list[int]) -> None:
    accumulated = {"accumulate_grad_batches": 2}
    plain = fit(transformers(name), compilations, **accumulated)
    again = fit(transformers(name, compile=compile, activation_checkpointing=True), compilations, **accumulated)
    for ours, theirs in zip(again.steps, plain.steps, strict=True):
        assert (ours - theirs).abs().max() < 1e-9


def test_recomputed_activations_are_not_stored(small_vit: str) -> None:
    clip = CLIPSource(small_vit).load()
    images, tokens = torch.randn(8, 3, 32, 32), clip.tokenize(["a photo of a cat", "a dog"] * 8)
    before, gradients = saved(clip, images, tokens)
    clip.model.set_grad_checkpointing(True)
    after, same = saved(clip, images, tokens)
    assert after < 0.4 * before
    assert all(torch.equal(a, b) for a, b in zip(gradients, same, strict=True))
