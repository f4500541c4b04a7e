"""MoE-Adapters: what learns and what does not, what is kept, and that a run's results are those of what it keeps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.models import alexnet

import gift_lightning
from callbacks import AccuracyMatrix, TaskBoundary, selector_training
from callbacks.task_callback import TaskCallback
from datamodules import CurrentTask, ExemplarMemory, TaskSequence
from datamodules.mini import Counting, Flags, GeneralReference, Shapes
from datamodules.shard import TestShard
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import MoEAdapter
from gift_lightning.numerics.autoencoder import PLAIN, AutoEncoderTraining, choose_routes
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS
from tests.e2e.conftest import CONFIG, call, read_results
from tests.waiting import no_wait

MINI = CLIPSource("package:datamodules.mini.clip")
SMALL: dict[str, Any] = {"experts": 6, "width": 8, "selector_steps": 20, "selector_width": 16}
SETTINGS: dict[str, Any] = {**SMALL, "clip": MINI, "lr": 1e-2, "warmup_steps": 1}


def fit(
    method: MoEAdapter, *callbacks: TaskCallback, replay: Any = None, shots: int | None = None, **trainer: Any
) -> list[list[float]]:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings: dict[str, Any] = {"accelerator": "cpu", "max_epochs": 3, **SEQUENCE_DEFAULTS, **quiet, **trainer}
    matrix = AccuracyMatrix()
    tasks = [Flags(40, 30), Shapes(40, 30), Counting(40, 30)]
    sequence = TaskSequence(tasks, batch_size=8, steps=5, replay=replay, shots=shots)
    Trainer(callbacks=[TaskBoundary(), matrix, *callbacks], **settings).fit(method, sequence)
    return matrix.rows


class Watch(TaskCallback):
    """Keeps the weights at the start and end of each task, and which experts a step used and moved."""

    def __init__(self) -> None:
        self.starts: list[dict[str, Tensor]] = []
        self.ends: list[dict[str, Tensor]] = []
        self.times_frozen: list[Tensor] = []
        self.counts: list[Tensor] = []
        self.keys: set[frozenset[str]] = set()

    def on_task_start(self, trainer: Any, module: Any, task: int) -> None:
        self.starts.append(self.weights(module))
        self.times_frozen.append(module.adapters.times_frozen.clone())
        self.keys.add(frozenset(module.state_dict()))

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        before, counts = (self.counts[-1] if batch_idx else 0), module.adapters.activation_counts.clone()
        moving = ((counts - before) > 0) & (module.adapters.times_frozen == 0)
        rows = trainer.optimizers[0].rows
        for block, learning in zip(module.adapters.all_blocks, moving, strict=True):
            for stack in block.experts:
                assert torch.equal(rows[stack], learning)
                assert not stack.grad[~learning].any()
            for matrix in block.routers:
                assert matrix.current.grad is not None and matrix.finished.grad is None
        self.counts.append(counts)

    def on_task_end(self, trainer: Any, module: Any, task: int) -> None:
        self.ends.append(self.weights(module))
        self.keys.add(frozenset(module.state_dict()))

    def weights(self, module: Any) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in module.named_parameters()}


def test_only_chosen_experts_and_the_routers_of_the_task_learn() -> None:
    watch, method = Watch(), MoEAdapter(**SETTINGS)
    fit(method, watch)
    assert len(watch.keys) == 1
    blocks = method.moe.all_blocks
    assert [listed.sum().item() for listed in watch.times_frozen] == [0, 2 * len(blocks), 4 * len(blocks)]
    for task, (start, end) in enumerate(zip(watch.starts, watch.ends, strict=True)):
        moved = {name for name in start if not torch.equal(start[name], end[name])}
        assert not any(name.startswith("clip.") for name in moved)
        names = {id(parameter): name for name, parameter in method.named_parameters()}
        others = torch.arange(3) != task
        for block, frozen in zip(blocks, watch.times_frozen[task] > 0, strict=True):
            for name in [names[id(stack)] for stack in block.experts]:
                assert torch.equal(start[name][frozen], end[name][frozen])
            for current, finished in [(names[id(m.current)], names[id(m.finished)]) for m in block.routers]:
                assert not start[current].any() and current in moved
                assert torch.equal(start[finished][others], end[finished][others])
                assert torch.equal(end[current], end[finished][task])
            assert names[id(block.up)] in moved
    # 5 steps of 8 images with 2 experts each, and of the task's prompts, in every block
    assert watch.counts[4][: len(method.moe.blocks["image"])].sum(1).eq(5 * 8 * 2).all()  # type: ignore[arg-type]
    assert watch.counts[4][-1].sum() == 5 * 2 * len(Flags(40, 30).class_names)


def test_accumulated_batches_draw_and_count_as_whole_ones() -> None:
    watches, methods = [Watch(), Watch()], [MoEAdapter(**SETTINGS), MoEAdapter(**SETTINGS)]
    for watch, method, parts in zip(watches, methods, (1, 4), strict=True):
        watch.on_train_batch_end = lambda *_: None  # type: ignore[method-assign]
        fit(method, watch, accumulate_grad_batches=parts, precision="64-true")
    assert torch.equal(methods[0].moe.activation_counts, methods[1].moe.activation_counts)
    for name, weight in watches[0].ends[2].items():
        assert (weight - watches[1].ends[2][name]).abs().max() < 1e-9, name


class Steps(TaskCallback):
    """Counts the steps that nothing waits in, but for the first, which has more to prepare."""

    def __init__(self) -> None:
        self.steps, self.context = 0, None  # type: ignore[var-annotated]

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step:
            self.context = no_wait(module.device)
            self.context.__enter__()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.context is not None:
            self.context.__exit__(None, None, None)
            self.context, self.steps = None, self.steps + 1

    def on_exception(self, *_: Any) -> None:
        if self.context is not None:
            self.context.__exit__(None, None, None)


@pytest.mark.parametrize(
    "accelerator",
    ["cpu", pytest.param("gpu", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))],
)
def test_no_step_waits_for_the_device(accelerator: str) -> None:
    steps = Steps()
    fit(MoEAdapter(**SETTINGS), steps, accelerator=accelerator, devices=1)
    assert steps.steps == 3 * 5 - 1


def test_half_precision_trains() -> None:
    method = MoEAdapter(**SETTINGS)
    rows = fit(method, precision="bf16-mixed")
    assert len(rows) == 3
    assert all(parameter.isfinite().all() and parameter.dtype == torch.float32 for parameter in method.parameters())


def test_one_router_for_all_tasks_needs_no_selector() -> None:
    method = MoEAdapter(**SETTINGS, routers="shared")
    fit(method)
    assert method.selector is None and method.moe.routers == 1
    assert not any(name.startswith("selector.") for name in method.knowledge())


# --- what is kept -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three tasks."""
    root = tmp_path_factory.mktemp("moe")
    status, out, err = call("fit", "--config", CONFIG, *flags(root))
    assert status == 0, out + err
    return root


def flags(root: Path) -> list[str]:
    small = [flag for name, value in {**SMALL, "threshold": 0.02}.items() for flag in (f"--model.{name}", str(value))]
    return ["--model", "gift_lightning.methods.MoEAdapter", *small, "--run.root", str(root), "--run.name", "moe"]


def test_a_finished_run_predicts_as_it_did(root: Path) -> None:
    results, model = read_results(root / "moe"), gift_lightning.load(root / "moe")
    assert isinstance(model, MoEAdapter)
    task = Flags(train_size=45, test_size=43)
    task.setup()
    shard = TestShard(task.test_set, model.clip.test_geometry, model.clip.normalize)
    with torch.no_grad():
        logits = model.evaluate(task, shard)
        assert {PLAIN} < set(model.routes(shard).tolist())
    right = (logits.argmax(1) == shard.labels).float().mean().item()
    assert 100 * right == pytest.approx(results["R"][-1][0])
    task.name = "under another name"
    assert torch.equal(model.evaluate(task, shard), logits)
    for file in ("last.ckpt", "knowledge.safetensors"):
        path = str(root / "moe" / "checkpoints" / file)
        status, out, err = call("test", "--config", CONFIG, *flags(root), "--ckpt_path", path)
        assert status == 0, err
        assert all(f"{accuracy:.2f}" in out for accuracy in results["R"][-1]), out


def test_costs_are_counted(root: Path) -> None:
    cost, model = read_results(root / "moe")["cost"], gift_lightning.load(root / "moe")
    assert isinstance(model, MoEAdapter) and model.selector is not None
    widths = [len(block.up_bias[0]) for block in model.moe.all_blocks]
    routers, experts = [2 * d * 6 for d in widths], [2 * d * 8 + d + 8 for d in widths]
    selectors = 3 * (128 * 16 * 2 + 128 + 16)
    assert cost["stored_parameters"] == pytest.approx(3 * sum(routers) + 6 * sum(experts) + selectors, abs=16)
    both = cost["trainable_parameters"] + cost["frozen_parameters"]
    assert both == (3 + 1) * sum(routers) + 6 * sum(experts) + selectors  # the one that trains is beside the others
    # two to four of six experts are frozen in each block in the last of three tasks, whose auto-encoder learns too
    in_steps = cost["trainable_parameters"] - selectors // 3
    assert sum(routers) + 2 * sum(experts) <= in_steps <= sum(routers) + 4 * sum(experts)


def test_what_is_kept_is_for_its_own_method_settings_and_clip(root: Path, tmp_path: Path) -> None:
    kept = load_file(root / "moe" / "checkpoints" / "knowledge.safetensors")
    with pytest.raises(InputError, match="is not of a MoEAdapter with these settings: give those of the run"):
        MoEAdapter(**{**SETTINGS, "experts": 7}).load_knowledge(kept)
    with pytest.raises(InputError, match="is not of a MoEAdapter: name the run's method"):
        MoEAdapter(**SETTINGS).load_knowledge({"start": torch.ones(1)})
    changed = {name: weight + 1.0 for name, weight in MoEAdapter(**SETTINGS).clip.model.state_dict().items()}
    save_file(changed, tmp_path / "other.safetensors")
    clip = replace(SETTINGS["clip"], weights=str(tmp_path / "other.safetensors"))
    other = MoEAdapter(**{**SETTINGS, "clip": clip})
    with pytest.raises(InputError, match=r"belongs to another CLIP: give the clip with which it began"):
        other.load_knowledge(kept)


# --- the selector -----------------------------------------------------------------------------------------------------


def test_few_images_do_not_make_the_rate_of_a_selector_fall_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    class Noted(AutoEncoderTraining):
        def __init__(self, autoencoder: Any, lr: float, batches: int) -> None:
            passes.append(batches)
            super().__init__(autoencoder, lr, batches)

    passes: list[int] = []
    monkeypatch.setattr(selector_training, "AutoEncoderTraining", Noted)
    fit(MoEAdapter(**SETTINGS), shots=1)
    assert passes == [40 // 8] * 3


def test_a_tie_goes_to_the_reference_and_an_error_at_the_threshold_to_the_task() -> None:
    errors = torch.tensor([[0.5, 0.4], [0.2, 0.3]])
    assert choose_routes(errors, 0.4).tolist() == [1, 0]
    assert choose_routes(errors, 0.4, reference=torch.tensor([0.4, 0.3])).tolist() == [PLAIN, 0]


def test_alexnet_gives_the_features_as_published(tmp_path: Path) -> None:
    file, weights = tmp_path / "alexnet.pth", alexnet().features
    state = {f"features.{name}": weight for name, weight in weights.state_dict().items()}
    torch.save(state, file)
    method = MoEAdapter(**SETTINGS, alexnet=str(file))
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    features = method.selector_features(images)
    assert features.shape == (2, 256 * 13 * 13)
    assert torch.allclose(features, weights[:11](images).flatten(1).sigmoid())
    assert not any(parameter.requires_grad for parameter in method.alexnet.parameters())  # type: ignore[union-attr]
    assert method.stored_copies() == [method.alexnet]
    save_file(dict(list(state.items())[:-1]), tmp_path / "half.safetensors")
    with pytest.raises(InputError, match=r"half\.safetensors does not hold torchvision's weights of AlexNet"):
        MoEAdapter(**SETTINGS, alexnet=str(tmp_path / "half.safetensors"))


@pytest.mark.parametrize(
    ("replay", "settings", "sentence"),
    [
        (CurrentTask(batch_size=8), {}, r"learns replay before the first task: name images like those"),
        (ExemplarMemory(batch_size=8), {}, r"learns replay before the first task: name images like those"),
        (GeneralReference(9, 8), {"routers": "shared"}, r"MoEAdapter does not replay: remove replay"),
    ],
)
def test_reference_images_are_those_of_pre_training(replay: Any, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        fit(MoEAdapter(**SETTINGS, **settings), replay=replay)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"top_k": 0}, r"top_k is 0: give at least 1"),
        ({"top_k": 7}, r"top_k is 7: there are 6 of experts to choose from"),
        ({"frozen_experts": 7}, r"frozen_experts is 7: there are 6 of experts"),
        ({"dropout": 1.0}, r"dropout is 1\.0: give a number from 0 to less than 1"),
        ({"selector_steps": 0}, r"selector_steps is 0: give at least 1"),
        ({"threshold": -1.0}, r"threshold is -1\.0: give a positive number, or null"),
        ({"alexnet": "nowhere.pth"}, r"alexnet nowhere\.pth does not exist"),
    ],
)
def test_impossible_settings_are_told(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        MoEAdapter(**{**SETTINGS, **settings})
