"""The authors' runs of MoE-Adapters, built with ours: stored weights, noise and dropout in the places of drawn ones."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from callbacks.task_callback import TaskCallback
from datamodules import Task, TaskSequence
from gift_lightning.methods import MoEAdapter
from gift_lightning.methods.parts.adapters import Adapters
from gift_lightning.methods.parts.draws import Draws
from gift_lightning.methods.parts.experts import RouterMatrix
from gift_lightning.numerics.mixture import top_gates
from tests.golden.golden import BETA1, FOLDER, NOT_IN_JSON, GoldenTask, TinyCLIP, golden_trainer, numbers

PARTS = {"down_proj.weight": "down", "down_proj.bias": "down_bias", "up_proj.weight": "up", "up_proj.bias": "up_bias"}
MATRICES = {"router_list": "gate", "w_noise_list": "gate_noise"}
IMAGE_BLOCKS = 2
TRAINED = {"full_task0": ["initial", "full_task0"], "full_task1": ["initial", "full_task0", "full_task1"]}


def stored(name: str) -> Any:
    return numbers(f"moe_adapter/{name}")


def run_names() -> list[str]:
    return sorted(path.stem for path in (FOLDER / "moe_adapter" / "trajectories").glob("*.json"))


def losses_of(steps: Sequence[Mapping[str, float]]) -> Tensor:
    """The loss of each step, ``[n]``."""
    return torch.tensor([step["loss"] for step in steps], dtype=torch.float64)


def our_name(name: str) -> tuple[str, bool]:
    """Ours for a parameter of the authors' model, and whether it is transposed."""
    found = re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.(\w+)\.(\d+)\.?(.*)", name)
    assert found, name
    visual, block, kind, number, part = found.groups()
    ours = PARTS[part] if kind == "adaptmlp_list" else MATRICES[kind]
    return f"blocks.{'image' if visual else 'text'}.{block}.{ours}.{number}", ours == "up"


def rows_of(stacks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of single experts and routers, from stacks by the names of the adapters' parameters."""
    return {f"{name}.{row}": tensor for name, stack in stacks.items() for row, tensor in enumerate(stack)}


@torch.no_grad()
def load_stored(adapters: Adapters, files: Sequence[str], router: int = 0) -> None:
    """Take over stored weights, one file after the other; what a file does not name stays. A router is to train."""
    parameters = rows_of(adapters.tensors(adapters.routers))
    for file in files:
        for name, weight in stored(f"weights/{file}.safetensors").items():
            ours, transposed = our_name(name)
            if ours in parameters:
                weight = weight[:, : parameters[ours].shape[1]] if ".gate" in ours else weight
                parameters[ours].copy_(weight.T if transposed else weight)
    for matrix in matrices_of(adapters).values():
        matrix.current.copy_(matrix.finished[router])


def matrices_of(adapters: Adapters) -> dict[str, RouterMatrix]:
    """Those of all routers, by name."""
    return {name: module for name, module in adapters.named_modules() if isinstance(module, RouterMatrix)}


@torch.no_grad()
def stacks_of(adapters: Adapters, router: int) -> dict[str, Tensor]:
    """Copies of all experts and routers as stacks, the one that trains in its place among these."""
    stacks = {name: stack.clone() for name, stack in adapters.tensors(adapters.routers).items()}
    for name, matrix in matrices_of(adapters).items():
        stacks[name][router] = matrix.current
    return stacks


def gradients_of(adapters: Adapters, rows: Mapping[Tensor, Tensor], router: int) -> dict[str, Tensor]:
    """Gradients of single experts and of the router that trains, those that the optimiser's step used."""
    gradients = {}
    for name, parameter in adapters.named_parameters():
        if parameter in rows and parameter.grad is not None:
            learning = rows[parameter].tolist()
            gradients |= {f"{name}.{row}": parameter.grad[row].clone() for row, moves in enumerate(learning) if moves}
    for name, matrix in matrices_of(adapters).items():
        assert matrix.current.grad is not None and matrix.finished.grad is None
        gradients[f"{name}.{router}"] = matrix.current.grad.clone()
    return gradients


def in_their_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under the authors' names and in their layout."""
    theirs = {}
    for name in stored("probe_names.json")["names"]:
        ours, transposed = our_name(name)
        if ours in tensors:
            theirs[name] = tensors[ours].T if transposed else tensors[ours]
    return theirs


def assert_moe_probes(tensors: dict[str, Tensor], file: dict[str, Tensor], what: str, tolerance: float) -> None:
    """Compare with ``<what>/probe64``; a parameter that only one side has is passed over."""
    named, names = in_their_names(tensors), stored("probe_names.json")["names"]
    for name, probe in zip(names, file[f"{what}/probe64"], strict=True):
        if name in named and not probe.isnan().all():
            value = named[name].double().reshape(-1)
            ours = value[(torch.arange(16) * 7919 + 13) % len(value)]
            assert (ours - probe).abs().max() <= tolerance, (what, name)


@dataclass(frozen=True)
class StoredDraws(Draws):
    """The stored noise and dropout of a step."""

    step: int = 0
    noise_file: str = ""
    dropout_file: str | None = None

    def noise(self, block: tuple[str, int], rows: int, experts: int, device: torch.device) -> Tensor:
        tower, number = block
        return stored("randomness.safetensors")[f"{self.noise_file}/{tower}"][self.step % 12, number, :rows, :experts]

    def keep(self, block: tuple[str, int], chosen: Tensor, tokens: int, width: int, rate: float) -> Tensor:
        tower, number = block
        packed = stored("randomness.safetensors")[f"{self.dropout_file}/{tower}"].numpy()
        shape = (12, IMAGE_BLOCKS if tower == "image" else 1, 4, 17 if tower == "image" else 77, 64)
        bits = torch.from_numpy(np.unpackbits(packed)[: np.prod(shape)]).view(shape)
        return bits[self.step, number][chosen].transpose(1, 2).bool()


@dataclass
class Record:
    """What happened in one task.

    Attributes:
        gates: dense, ``[n, E]``, of each step and in it of each block, those of the image tower first.
        without_gradient: parameters that the first step left without one, in the authors' names.
        tensors: of the first step and the last, by name.
        counts: of the experts' use, ``[blocks, E]``.
        listed_before: whether they were frozen.
        trained: how many parameters were not.
    """

    steps: list[dict[str, float]] = field(default_factory=list)
    gates: list[Tensor] = field(default_factory=list)
    without_gradient: set[str] = field(default_factory=set)
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    counts: Tensor | None = None
    listed_before: Tensor | None = None
    trained: int = 0


class GoldenMoE(MoEAdapter):
    """A sequence of stored runs, one a task; ``None`` stands for a task that is only there to be counted."""

    def __init__(self, names: list[str | None], **settings: Any) -> None:
        super().__init__(**settings)
        self.names, self.records = names, [Record() for _ in names]

    @property
    def file(self) -> dict[str, Any]:
        name = self.names[self.task]
        return stored(f"trajectories/{name}.json") if name else {"noise": "noise/task0"}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        def watched(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
            chosen, gates = top_gates(logits, k)
            self.records[self.task].gates.append(torch.zeros_like(logits).scatter(1, chosen, gates).detach())
            return chosen, gates

        with mock.patch("gift_lightning.methods.parts.experts.top_gates", watched):
            return super().training_step(batch, batch_idx)

    def draws(self, batch_idx: int) -> Draws:
        return StoredDraws(0, 0, 8, batch_idx, (self.file["noise"] or "").split(",")[0], self.file.get("dropout"))


class Watch(TaskCallback):
    """Loads the weights with which a stored run begins, and keeps what happens in it."""

    def on_task_start(self, trainer: Any, module: Any, task: int) -> None:
        name = module.names[task]
        if name is None:
            return
        start = module.file["start_weights"]
        adapters, record = module.adapters, module.records[task]
        if name != "cil_task1":
            files = TRAINED.get(start, ["initial", "warm"] if "warm" in start else ["initial"])
            load_stored(adapters, files, module.router)
        record.listed_before = adapters.times_frozen.clone()
        record.trained = sum(row.numel() for row in adapters.learned_rows())

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        record = module.records[module.task]
        if not record.steps:
            record.tensors["grad_step0"] = gradients_of(module.adapters, trainer.optimizers[0].rows, module.router)
            weights = record.tensors["weights_after_step0"] = rows_of(stacks_of(module.adapters, module.router))
            still = {name: weight for name, weight in weights.items() if name not in record.tensors["grad_step0"]}
            record.without_gradient = set(in_their_names(still))
        record.steps.append({"loss": module.losses["task"].item(), "lr": module._step_lr})

    def on_task_end(self, trainer: Any, module: Any, task: int) -> None:
        record = module.records[task]
        record.tensors["final"] = rows_of(stacks_of(module.adapters, module.router))
        record.counts = module.adapters.activation_counts.clone()


def build(names: list[str | None], dtype: torch.dtype) -> GoldenMoE:
    """The method with the settings of the stored runs, which differ in the learning rate alone."""
    file = stored(f"trajectories/{names[-1]}.json")
    values, in_classes = {**NOT_IN_JSON, **file["official_arguments"]}, file["function"] == "ClassIncremental.train"
    one = values.get("apply_moe", True) is False
    rates = {f"{i} {_letter(name)}": _rate(name) for i, name in enumerate(names)}
    return GoldenMoE(
        names,
        clip=TinyCLIP("tiny_clip", dtype=dtype),
        experts=1 if one else values.get("experts_num", 4),
        top_k=1 if one else values["topk"],
        gate_noise=values.get("is_train", True),
        dropout=0.1 if file.get("dropout") else 0.0,
        frozen_experts=2 if values.get("frozen") else 0,
        towers="image" if values.get("ffn_adapt_where") == "AdapterImageEncoder" else "both",
        routers="shared" if in_classes or values["task_id"] == -1 else "task",
        selector_steps=1,
        official_quirks=in_classes,
        lr=rates,
        label_smoothing=values["ls"],
        warmup_steps=values["warmup_length"],
        weight_decay=values["weight_decay"] if in_classes else values["wd"],
        betas=(BETA1, values["beta2"]),
        eval_batch_size=8,
    )


def fit(names: list[str | None], precision: str = "64-true", *callbacks: Any) -> GoldenMoE:
    """The stored runs, one after the other."""
    file = stored(f"trajectories/{names[-1]}.json")
    method = build(names, torch.float64 if precision == "64-true" else torch.float32)
    tasks: list[Task] = []
    for number, name in enumerate(names):
        tasks.append(GoldenTask(_letter(name)))
        tasks[-1].name = f"{number} {_letter(name)}"
    # their loop makes one step more than it is asked for, at rate 0 where the rate is a cosine
    steps = file["n_optimizer_steps"] - (file["function"] != "ClassIncremental.train")
    trainer = golden_trainer(precision, len(tasks), Watch(), *callbacks)
    trainer.fit(method, TaskSequence(tasks, batch_size=8, steps=steps, shuffle=False))
    return method


def _letter(name: str | None) -> str:
    return stored(f"trajectories/{name}.json")["official_arguments"]["train_dataset"][-1] if name else "A"


def _rate(name: str | None) -> float:
    return stored(f"trajectories/{name}.json")["official_arguments"]["lr"] if name else 0.0
