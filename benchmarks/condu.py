"""The costs of ConDU with a ViT-B/16 after eleven tasks, beside those of the textbook's implementation.

::

    python -m benchmarks.condu

The textbook holds the pre-trained model and all experts, runs each image through all of them, and takes the mean of
those that the image chose. ``ConDU`` brings back one expert at a time, for the images that chose it. Each way is
measured in a new process, over the same random weights, images and prototypes, and both must give the same
logits. The weights are random: no figure here depends on them.

Memory is that of weights and activations, in units of the model, beyond the pre-trained model and the one that learns,
which exist from the start, as do the unified delta and the masks in the memory of the host (1.34 of the model).

On two cores of a CPU, with 12 images: 5 passes an image against 12, 11.2 s against 22.9 s, 0.31 of the model against
12.7; 1.34 of it on disk, 6.2 s to fuse the twelfth task, 0.2 s to bring back an expert.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from rich.console import Console
from rich.table import Table
from torch import Generator, Tensor

from datamodules.base import Task
from datamodules.shard import TestShard
from gift_lightning.clip.source import CLIPSource
from gift_lightning.methods import ConDU
from gift_lightning.numerics.fusion import Decoupled, Fusion, fuse
from gift_lightning.numerics.prototypes import nearest_tasks, task_similarities
from gift_lightning.tensors import save_tensors

MODEL, TASKS, CLASSES = "ViT-B-16", 11, 20


def main() -> None:
    """Measure both ways and show them side by side."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.condu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=24, help="test images")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        measured = measure(arguments.way, arguments.folder, arguments.images)
        (arguments.folder / f"{arguments.way}.json").write_text(json.dumps(measured))
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        save_tensors(open_clip.create_model(MODEL).state_dict(), Path(folder) / "start.safetensors")
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.condu", "--way", way, "--folder", folder]
            subprocess.run([*command, "--images", str(arguments.images)], check=True)
        ours, theirs = (json.loads((Path(folder) / f"{way}.json").read_text()) for way in WAYS)
    difference = (torch.tensor(ours.pop("logits")) - torch.tensor(theirs.pop("logits"))).abs().max().item()
    Console().print(comparison(ours, theirs), f"Largest difference of their logits: {difference:.1e} (of about 100)")
    if not difference < 1e-3:
        sys.exit("The two ways do not give the same logits.")


def comparison(ours: dict[str, float], theirs: dict[str, float]) -> Table:
    """One line for each figure."""
    table = Table("", "ConDU", "textbook", "ratio", title=f"{MODEL}, {TASKS} tasks, {torch.get_num_threads()} threads")
    for name, value in ours.items():
        other = theirs.get(name)
        table.add_row(name, f"{value:.2f}", *(("", "") if other is None else (f"{other:.2f}", f"{other / value:.2f}")))
    return table


def measure(way: str, folder: Path, images: int) -> dict[str, Any]:
    """Seconds, image-encoder passes and memory of predicting ``images``; memory in units of the model's weights."""
    task, shard = Task(), TestShard(_Noise(images), lambda image: image, lambda image: image)
    task.name, task.templates = "unseen", ["a photo of a {}."]
    task.class_names = [f"thing {number}" for number in range(CLASSES)]
    method = after_all_tasks(folder)
    model = sum(weight.nbytes for weight in method.initial.parameters())
    encode, passes = method.clip.encode_image, [0]

    def counted(images: Tensor) -> Tensor:
        passes[0] += len(images)
        return encode(images)

    method.clip.encode_image = counted  # type: ignore[method-assign]
    before = _peak_memory(since_now=True)
    predict = WAYS[way](method)
    began = time.perf_counter()
    logits = predict(task, shard)
    figures: dict[str, Any] = {
        "image passes per image": passes[0] / images,
        "seconds for all images": time.perf_counter() - began,
        "memory beside the two models of training / model": (_peak_memory() - before) / model,
    }
    if way == "ours":
        figures |= stored_figures(method, model, folder)
    return {**figures, "logits": logits.tolist()}


@torch.no_grad()
def after_all_tasks(folder: Path) -> ConDU:
    """The method after eleven tasks with random changes."""
    clip = CLIPSource(MODEL, weights=str(folder / "start.safetensors"))
    method = ConDU(clip=clip, task_id="unknown").eval()
    generator = Generator().manual_seed(0)
    start = method.pretrained_weights()
    unified = {name: 1e-3 * torch.randn(weight.shape, generator=generator) for name, weight in start.items()}
    size = sum(weight.numel() for weight in start.values())
    masks = [torch.randint(256, (-(-size // 8),), generator=generator, dtype=torch.uint8) for _ in range(TASKS)]
    method.fusion = Fusion(unified, masks, [1.0] * TASKS)
    method.learned = [f"task {number}" for number in range(TASKS)]
    drawn = torch.randn(TASKS, CLASSES, method.clip.model.visual.output_dim, generator=generator)
    method.prototypes = list(torch.nn.functional.normalize(drawn, dim=-1))
    return method


def stored_figures(method: ConDU, model: int, folder: Path) -> dict[str, float]:
    """Bytes on disk between tasks, and the time of one more task's fusion."""
    save_tensors(method.knowledge(), folder / "knowledge.safetensors")
    prototypes = sum(classes.nbytes for classes in method.prototypes)
    stored = (folder / "knowledge.safetensors").stat().st_size - prototypes
    delta = {name: torch.zeros_like(weight).add_(1e-4) for name, weight in method.pretrained_weights().items()}
    fusing = _seconds(lambda: fuse(method.fusion, delta))
    return {
        "stored on disk beside the model and prototypes / model": stored / model,
        "seconds to fuse one more task": fusing,
        "seconds to bring back an expert": _seconds(lambda: method.reconstruct_expert(TASKS - 1)),
    }


Predict = Callable[[Task, TestShard], Tensor]


def ours(method: ConDU) -> Predict:
    """As the method does it."""
    return torch.no_grad()(method.evaluate)


@torch.no_grad()
def textbook(method: ConDU) -> Predict:
    """All experts at once, each on all images."""
    assert method.fusion is not None
    start = {name: weight.detach() for name, weight in method.pretrained_weights().items()}
    experts = [Decoupled(method.fusion, place) for place in range(TASKS)]
    models = [start, *({name: weight + delta[name] for name, weight in start.items()} for delta in experts)]

    @torch.no_grad()
    def predict(task: Task, shard: TestShard) -> Tensor:
        features, logits = [], []
        for weights in models:
            method.clip.model.load_state_dict(weights, strict=False)
            features.append(method.encode_shard(shard))
            logits.append(method.logits(task, features[-1]))
        chosen = nearest_tasks(task_similarities(features[0], method.prototypes), method.experts)
        counted = torch.cat([torch.ones(len(shard), 1), chosen], dim=1)
        return torch.einsum("nt,tnc->nc", counted, torch.stack(logits)) / counted.sum(1, keepdim=True)

    return predict


WAYS: dict[str, Callable[[ConDU], Predict]] = {"ours": ours, "textbook": textbook}


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _peak_memory(since_now: bool = False) -> int:
    """Most bytes that the process had in memory (Linux)."""
    if since_now:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


class _Noise:
    def __init__(self, count: int) -> None:
        self._images = torch.randn(count, 3, 224, 224, generator=Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._images[index], 0


if __name__ == "__main__":
    main()
