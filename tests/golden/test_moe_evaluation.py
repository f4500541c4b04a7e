"""The selector of MoE-Adapters and its predictions against the numbers of its authors' code."""

from typing import Any
from unittest import mock

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

from callbacks import AccuracyMatrix, TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import Task, TaskSequence
from datamodules.shard import TestShard
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.methods import MoEAdapter
from gift_lightning.numerics.autoencoder import AutoEncoder, AutoEncoderTraining
from gift_lightning.numerics.mixture import router_logits, top_gates
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS
from tests.golden.golden import TEMPLATES, TEST_BATCHES, GoldenReplay, GoldenTask, TinyCLIP, noise, stored_images, texts
from tests.golden.moe import StoredDraws, fit, load_stored, losses_of, stored

SETS = ["A", "B", "R", "S", "N"]
"""The tasks, other images with the classes of R, and the negatives of R's images."""

AFTER = [["initial", "full_task0"], ["full_task1"], ["full_task2"]]
"""Files of weights, for each session those that it adds."""


def build(dtype: torch.dtype = torch.float64, threshold: float = 1.0, **settings: Any) -> MoEAdapter:
    method = MoEAdapter(
        clip=TinyCLIP("tiny_clip", dtype=dtype),
        experts=4,
        threshold=threshold,
        selector_steps=45,
        reference_steps=45,
        eval_batch_size=8,
        official_quirks=True,
        **settings,
    )
    extractor = nn.Sequential(nn.Conv2d(3, 6, 5, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, 2)).to(dtype)
    weights = {name: w for name, w in stored("ddas.safetensors").items() if name.startswith("extractor/")}
    extractor.load_state_dict({name.removeprefix("extractor/"): w for name, w in weights.items()})
    method.alexnet = FrozenCopy(extractor)
    return method


@torch.no_grad()
def load_autoencoder(autoencoder: AutoEncoder, prefix: str, linear: str) -> None:
    """``linear`` is between a layer's name and its number."""
    for name, weight in autoencoder.named_parameters():
        layer, kind = name.split(".")
        weight.copy_(stored("ddas.safetensors")[f"{prefix}{layer}{linear}0.{kind}"])


def after(session: int, threshold: float = 1.0) -> MoEAdapter:
    """The model with the weights that the authors' code had after a session."""
    method = build(threshold=threshold)
    method.build(3, has_reference=True)
    assert method.adapters is not None and method.selector is not None
    load_stored(method.adapters, [file for files in AFTER[: session + 1] for file in files])
    encoders: list[Any] = [method.selector.reference, *method.selector.tasks]
    for number, autoencoder in enumerate(encoders):
        load_autoencoder(autoencoder, f"trained/{number}.", ".")
    method.learned = session + 1
    return method.eval()


def shard_of(letter: str) -> tuple[Task, TestShard]:
    task: Task = GoldenTask(letter if letter in "AB" else "R")
    images = task.test_set
    if letter not in "ABR":
        stack, labels = stored_images("R" if letter == "N" else letter)
        rows = slice(TEST_BATCHES.start * 8, TEST_BATCHES.stop * 8)
        images = TensorDataset(-stack[rows] if letter == "N" else stack[rows], labels[rows])  # type: ignore[assignment]
    return task, TestShard(images, torch.as_tensor, torch.as_tensor)


@pytest.mark.parametrize("session", range(3))
@pytest.mark.parametrize("letter", SETS)
@torch.no_grad()
def test_predictions_by_each_router(letter: str, session: int) -> None:
    method, (task, shard) = after(session), shard_of(letter)
    file, key = stored("evaluation.safetensors"), f"session{session}/{letter}"
    for row, theirs in enumerate(file[f"{key}/logits_forced"]):
        with mock.patch.object(method, "routes", lambda shard, row=row: torch.full((len(shard),), row - 1)):
            assert (method.evaluate(task, shard) - theirs).abs().max() < 1e-9
        if f"{key}/text_classifier" in file:
            with method.moe.routed(None if row == 0 else row - 1):
                ours = method.clip.classifier(task.class_prompts())
            assert (ours.T - file[f"{key}/text_classifier"][row]).abs().max() < 1e-9


@pytest.mark.parametrize("session", range(3))
@pytest.mark.parametrize("letter", SETS)
@torch.no_grad()
def test_errors_and_routes(letter: str, session: int) -> None:
    theirs: dict[str, Any] = dict(stored("ddas.json")["sessions"][session][letter])
    method, (task, shard) = after(session), shard_of(letter)
    features = method.selector_features(shard[:].double())
    assert (features - stored("ddas.safetensors")[f"features/{letter}"]).abs().max() < 1e-12
    assert method.selector is not None
    errors, reference = method.selector.errors(features, session + 1)
    assert reference is not None
    ours = torch.cat([reference[:, None], errors], 1).unflatten(0, (4, 8)).mean(1)
    expected = torch.tensor(theirs.pop("losses_per_selector"), dtype=torch.float64)[:, : session + 2]
    assert (ours - expected).abs().max() < 1e-6
    file = stored("evaluation.safetensors")[f"session{session}/{letter}/logits_forced"]
    for threshold, result in theirs.items():
        method.threshold = float(threshold)
        routes = method.routes(shard)
        assert routes.unflatten(0, (4, 8))[:, 0].tolist() == result["route"]
        assert (routes.unflatten(0, (4, 8)).diff(dim=1) == 0).all()
        by_route = file[routes + 1, torch.arange(len(shard))]
        assert (method.evaluate(task, shard) - by_route).abs().max() < 1e-9


@torch.no_grad()
def test_each_image_has_its_own_route_by_default() -> None:
    method, (_, shard) = after(2), shard_of("B")
    assert method.selector is not None
    method.official_quirks = False
    errors, _ = method.selector.errors(method.selector_features(shard[:8].double()), 3)
    method.threshold = errors.amin(1).sort().values[3:5].mean().item()  # half of the first batch is above it
    alone = torch.cat(
        [method.routes(TestShard([(shard[i : i + 1][0], 0)], torch.as_tensor, torch.as_tensor)) for i in range(32)]
    )
    assert torch.equal(method.routes(shard), alone)
    assert len(alone[:8].unique()) > 1  # a batch need not agree
    task = GoldenTask("B")
    file = stored("evaluation.safetensors")["session2/B/logits_forced"]
    assert (method.evaluate(task, shard) - file[alone + 1, torch.arange(32)]).abs().max() < 1e-9


class First(TaskCallback):
    """Puts the stored initial weights into the auto-encoders."""

    def on_sequence_start(self, trainer: Any, module: Any) -> None:
        for number, autoencoder in enumerate([module.selector.reference, *module.selector.tasks]):
            load_autoencoder(autoencoder, f"initial/{number}/", ".")


@pytest.mark.parametrize("precision", ["64-true", "32-true"])
def test_training_of_the_autoencoders(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    step = AutoEncoderTraining.step

    def recorded(training: AutoEncoderTraining, features: Tensor) -> Tensor:
        losses.append(step(training, features).item())
        assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0.001 if training.steps > 40 else 0.01)
        return torch.tensor(losses[-1])

    monkeypatch.setattr(AutoEncoderTraining, "step", recorded)
    exact = precision == "64-true"
    method = build(torch.float64 if exact else torch.float32, lr=0.0, warmup_steps=0)
    replay = GoldenReplay("S", texts("S"))
    replay.pairs = Subset(replay.pairs, range(32))  # type: ignore[assignment, arg-type]
    settings: dict[str, Any] = {**SEQUENCE_DEFAULTS, "logger": False, "enable_checkpointing": False}
    settings |= {"enable_progress_bar": False, "accelerator": "cpu", "max_epochs": 3, "precision": precision}
    tasks: list[Task] = [GoldenTask(letter, 4) for letter in "ABR"]
    sequence = TaskSequence(tasks, batch_size=8, steps=1, shuffle=False, replay=replay)
    Trainer(callbacks=[TaskBoundary(), AccuracyMatrix(), First()], **settings).fit(method, sequence)
    theirs = stored("ddas.json")["training"]
    single, double = (
        losses_of([entry for letter in "SABR" for entry in theirs[f"steps_{kind}"][letter]])
        for kind in ("float32", "float64")
    )
    assert losses == pytest.approx(double.tolist(), abs=1e-9 if exact else noise(single, double))
    assert method.selector is not None
    file = stored("ddas.safetensors")
    encoders: list[Any] = [method.selector.reference, *method.selector.tasks]
    for number, autoencoder in enumerate(encoders):
        for name, weight in autoencoder.named_parameters():
            layer, kind = name.split(".")
            probe = weight.detach().double().flatten()[(torch.arange(16) * 7919 + 13) % weight.numel()]
            difference = probe - file[f"trained_probe64/{number}.{layer}.0.{kind}"]
            assert difference.abs().max() < (1e-9 if exact else 1e-4), (number, name)


def test_class_incremental_predictions_are_noisy_as_theirs() -> None:
    method = fit(["cil_task0", "cil_task1"]).eval()
    task, both = Task(), [GoldenTask(letter) for letter in "AB"]
    task.class_names = [name for each in both for name in each.class_names]
    task.name, task.templates = "both", TEMPLATES[:1]
    theirs = stored("trajectories/cil_task1.safetensors")["test/probabilities"]
    for batch, expected in enumerate(theirs):
        rows = range(batch % 4 * 8, batch % 4 * 8 + 8)
        shard = TestShard(Subset(both[batch // 4].test_set, rows), torch.as_tensor, torch.as_tensor)  # type: ignore[arg-type]
        draws = StoredDraws(0, 0, 8, TEST_BATCHES.start + batch % 4, "noise/task2")
        with torch.no_grad(), mock.patch.object(method, "test_draws", lambda draws=draws: draws):
            logits = method.evaluate(task, shard) / 100 * method.clip.logit_scale
        assert (logits.softmax(1) - expected).abs().max() < 1e-9
    assert method.test_draws() is not None  # theirs are noisy, and so are ours with their quirks


@pytest.mark.parametrize("k", range(1, 5))
@pytest.mark.parametrize("kind", ["clean", "noisy"])
def test_gates(k: int, kind: str) -> None:
    file = stored("operators.safetensors")
    noise = file["noise"] if kind == "noisy" else None
    logits = router_logits(file["x"], file["w_gate"], file["w_noise"], noise)
    chosen, gates = top_gates(logits, k)
    dense = torch.zeros_like(logits).scatter(1, chosen, gates)
    assert (dense - file[f"top{k}/{kind}/gates"]).abs().max() < 1e-12
