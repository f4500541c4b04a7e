"""Compiled towers and activation checkpointing: the numbers are those without, and how often towers are compiled."""

import pickle
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import open_clip
import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn
from torch._inductor import compile_fx

from callbacks import AccuracyMatrix, TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import TaskSequence
from datamodules.mini import Counting, Flags, Shapes
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import CLIP
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import GIFT, ConDU, ContinualCLIP, MoEAdapter
from gift_lightning.numerics.low_rank import LoRA
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS
from tests.e2e.conftest import write_vit
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


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> CLIPSource:
    return CLIPSource(write_vit(tmp_path_factory.mktemp("vit"), image_size=32, layers=4, patch_size=8))


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
    """Three tasks with different classes, of 2, 3 and 1 optimiser steps; the batches of replay are smaller."""
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


@pytest.mark.parametrize("compile", [False, True])
def test_recomputed_activations_give_the_same_steps(compile: bool, vit: CLIPSource, compilations: list[int]) -> None:
    accumulated, settings = {"accumulate_grad_batches": 2}, {**SETTINGS, "clip": vit}
    plain = fit(GIFT(**settings), compilations, **accumulated)
    again = fit(GIFT(**settings, compile=compile, activation_checkpointing=True), compilations, **accumulated)
    assert bool(compilations) == compile
    for ours, theirs in zip(again.steps, plain.steps, strict=True):
        assert (ours - theirs).abs().max() < 1e-9


def test_recomputed_activations_are_not_stored_and_give_the_same_gradients(vit: CLIPSource) -> None:
    found = []
    for again in (False, True):
        method, stored = GIFT(clip=vit, activation_checkpointing=again).double(), 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal stored
            stored += tensor.numel() * (not isinstance(tensor, nn.Parameter))
            return tensor

        torch.manual_seed(0)
        images, tokens = torch.randn(8, 3, 32, 32).double(), torch.randint(1, 1000, (8, 16))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            features = torch.cat(method.encode(images, tokens))
        found.append((stored, torch.autograd.grad((features * torch.randn_like(features)).sum(), method.trained)))
    (before, gradients), (after, same) = found
    assert after < 0.4 * before
    for ours, theirs in zip(same, gradients, strict=True):
        assert (ours - theirs).abs().max() < 1e-9


def test_towers_without_gradients_are_not_compiled_and_nothing_else_changes(compilations: list[int]) -> None:
    clip = MINI.load()
    names = list(clip.state_dict())
    clip.compiles_training = True
    images, tokens = torch.zeros(2, 3, 32, 32), clip.tokenize(["a cat", "a dog"])
    with torch.no_grad():
        clip(images, tokens)
    assert not compilations
    clip(images, tokens)[0].sum().backward()
    assert len(compilations) == 2 and list(clip.state_dict()) == names
    with torch.no_grad():
        copy = FrozenCopy(clip).module(images, tokens)
        for ours, theirs in zip(copy, clip.eval()(images, tokens), strict=True):
            assert (ours - theirs).abs().max() < 1e-6  # a copy lies elsewhere in memory, which changes the last bits
    assert len(compilations) == 2
    pickle.dumps(deepcopy(clip.model))


@pytest.mark.parametrize("name", ["compile", "activation_checkpointing"])
def test_experts_in_hooks_refuse_both(name: str) -> None:
    with pytest.raises(InputError, match=rf"MoEAdapter cannot have {name}: its experts work in hooks"):
        MoEAdapter(clip=MINI, **{name: True})


@pytest.mark.parametrize("custom", [False, True], ids=["CLIP", "CustomTextCLIP"])
def test_both_kinds_of_open_clips_models_checkpoint_both_towers(custom: bool) -> None:
    mini = MINI.load()
    model = open_clip.create_model("ViT-S-32-alt", force_custom_text=custom)
    CLIP(model, mini.train_transform, mini.test_transform, mini.tokenizer).checkpoint_activations()
    assert model.visual.transformer.grad_checkpointing
    assert (model.text if custom else model).transformer.grad_checkpointing


def test_lora_is_not_computed_again() -> None:
    with pytest.raises(InputError, match="would compute blocks again without lora"):
        ConDU(clip=MINI, lora=LoRA(), activation_checkpointing=True)
