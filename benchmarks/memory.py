"""Gigabytes that a training step takes on its device: counted for any GPU, and measured where there is one.

::

    python -m benchmarks.memory

The counted ones are those of ``doctor``: weights, gradients, the moments of AdamW and the method's copies, in float32,
and the activations of a batch of 64 images (and of 64 replayed, one batch after the other) and 100 prompts. With
activation checkpointing: the inputs of all blocks, and all activations of one block. With accumulated batches each has
a part of the images.

On an H200, ViT-B/16 took 14.5 GB for GIFT in float32, and in bf16-mixed 9.8 GB for GIFT, 8.5 GB for finetuning and
10.7 GB for ZSCL; counted are 14.3, 9.0, 7.8 and 10.2 GB.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gift_lightning.clip.source import CLIPSource
from gift_lightning.commands.doctor.activations import activation_bytes
from gift_lightning.commands.doctor.estimate import Size
from gift_lightning.methods import GIFT, ZSCL, ContinualCLIP, Finetune

MODELS = ["ViT-B-16-quickgelu", "ViT-L-14-quickgelu", "ViT-L-14-336-quickgelu"]
METHODS: dict[str, type[ContinualCLIP]] = {"finetune": Finetune, "GIFT": GIFT, "ZSCL": ZSCL}
IMAGES, TEXTS = 64, (100, 16)


class Way(NamedTuple):
    """How a step is made: images in a batch, and whether activations are computed again."""

    images: int
    again: bool


WAYS = {
    "": Way(IMAGES, False),
    "accumulate 4": Way(IMAGES // 4, False),
    "checkpointing": Way(IMAGES, True),
    "both": Way(IMAGES // 4, True),
}


def outlined(kind: type[ContinualCLIP], model: str, again: bool) -> ContinualCLIP:
    """A method without weights."""
    with torch.device("meta"):
        return kind(clip=CLIPSource(model), activation_checkpointing=again)


def counted(model: str, half: bool) -> Table:
    """Gigabytes of each method in each way of a step."""
    table = Table(title=f"{model}, {IMAGES} + {IMAGES} images, {'bf16-mixed' if half else '32-true'}, GB")
    table.add_column("")
    for way in WAYS:
        table.add_column(way or "as it is", justify="right")
    activations = [
        activation_bytes(outlined(Finetune, model, way.again), way.images, TEXTS, half) or 0 for way in WAYS.values()
    ]
    for name, kind in METHODS.items():
        size = Size.of(outlined(kind, model, False))
        table.add_row(name, *(f"{(size.memory + each) / 1e9:.1f}" for each in activations))
    table.add_row("of it activations", *(f"{each / 1e9:.1f}" for each in activations))
    return table


def measured(model: str) -> Table:
    """The most gigabytes allocated on this GPU in the third step of finetuning, beside those that are counted."""
    table = Table(title=f"finetune, {model}, on this {torch.cuda.get_device_name()}, GB")
    for name in ("", "counted", "measured"):
        table.add_column(name, justify="right" if name else "left")
    for half in (False, True):
        for title, way in WAYS.items():
            method = outlined(Finetune, model, way.again)
            bytes_counted = Size.of(method).memory + (activation_bytes(method, way.images, TEXTS, half) or 0)
            peak = peak_of_steps(method, way.images, half)
            name = f"{'bf16-mixed' if half else '32-true'} {title}"
            table.add_row(name, f"{bytes_counted / 1e9:.1f}", f"{peak / 1e9:.1f}")
    return table


def peak_of_steps(method: ContinualCLIP, images: int, half: bool) -> int:
    """The most bytes on the GPU in three steps with random weights, on images and texts of zeros."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    method = method.to_empty(device="cuda")
    size = method.clip.model.visual.image_size[0]
    batch = torch.zeros(images, 3, size, size, device="cuda")
    tokens = torch.zeros(TEXTS, dtype=torch.long, device="cuda")
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_(std=0.01)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0, fused=True)
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            features: tuple[Tensor, Tensor] = method.encode(batch, tokens)
        optimizer.zero_grad()
        (features[0].sum() + features[1].sum()).backward()
        optimizer.step()
    return torch.cuda.max_memory_allocated() - before


def tables(device: str = "cpu", models: Sequence[str] = MODELS) -> Iterator[Table]:
    """What is counted for each model and precision; on a GPU also what each takes there."""
    if device == "cuda":
        yield from map(measured, models)
    else:
        yield from (counted(model, half) for model in models for half in (False, True))


def main(argv: Sequence[str] | None = None) -> int:
    """Count, and show the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="Memory of a training step.")
    parser.add_argument("--device", default="cpu", help="cpu to count, cuda to measure")
    parser.add_argument("--models", nargs="+", default=MODELS, help="names that open_clip knows")
    for table in tables(**vars(parser.parse_args(argv))):
        Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
