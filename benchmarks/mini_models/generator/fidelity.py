"""How often a generator draws the class in its prompt: ``python -m benchmarks.mini_models.generator.fidelity``.

Fidelity is the share of samples that a judge recognises as the class of their prompt among all classes of that kind,
averaged over the kinds. The renderer's pictures, judged in the same way, are the upper bound.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from benchmarks.mini_models.generator.card import HEADS, rows, write_card
from benchmarks.mini_models.generator.judges import Classifier, ClipJudge, Judge
from datamodules.mini.generator import FOLDER
from datamodules.mini.oracle import OracleGenerator
from datamodules.mini.prompts import prompts_by_kind
from datamodules.mini.world import KINDS, SIZE
from datamodules.replay.diffusion import DiffusionGenerator
from datamodules.replay.generator import ImageGenerator
from gift_lightning.files import write_json

PACKAGED = "package:datamodules.mini.generator"
STEPS, GUIDANCE, BATCH = 10, 3.0, 32
PER_CLASS = 8


def sample(generator: ImageGenerator, per_class: int, seed: int = 0) -> tuple[dict[str, Tensor], float]:
    """Samples of every class the world can show, and how many were made in a second.

    Returns:
        uint8 ``[classes x per_class, 3, 32, 32]`` for each kind, in the order of its names, ``per_class`` of each; and
        images per second.
    """
    prompts = [
        prompt for of_kind in prompts_by_kind().values() for prompt in of_kind.values() for _ in range(per_class)
    ]
    seeds = [seed * len(prompts) + i for i in range(len(prompts))]
    generator.check(prompts)  # and is loaded, which is not to be timed
    began, images, size = time.monotonic(), list[Image.Image](), generator.batch_size
    for first in range(0, len(prompts), size):
        images += generator.generate(prompts[first : first + size], seeds[first : first + size])
    per_second = len(images) / (time.monotonic() - began)
    pictures = torch.stack([pil_to_tensor(image.convert("RGB").resize((SIZE, SIZE))) for image in images])
    sizes = [len(family.names) * per_class for family in KINDS.values()]
    return dict(zip(KINDS, pictures.split(sizes), strict=True)), per_second


def recognised(judge: Judge, samples: dict[str, Tensor]) -> dict[str, float]:
    """Share of the samples of each kind, and on average over kinds ("mean"), that show their class; in percent."""
    shares = {}
    for kind, pictures in samples.items():
        classes = len(KINDS[kind].names)
        asked = torch.arange(classes).repeat_interleave(len(pictures) // classes)
        shares[kind] = 100 * (judge.recognise(kind, pictures) == asked).float().mean().item()
    return _with_mean(shares)


def measure(
    generator: ImageGenerator, judges: Sequence[Judge], per_class: int = PER_CLASS, seed: int = 0
) -> dict[str, Any]:
    """Fidelity of a generator and of the renderer by every judge, and that of guessing.

    Returns:
        JSON-able; percent by judge and kind under "generator" and "renderer", by kind under "chance".
    """
    samples, per_second = sample(generator, per_class, seed)
    rendered, _ = sample(OracleGenerator(), per_class, seed)
    return {
        "identity": generator.identity(),
        "images_per_class": per_class,
        "seed": seed,
        "images_per_second": round(per_second, 1),
        "threads": torch.get_num_threads(),
        "generator": {judge.name: recognised(judge, samples) for judge in judges},
        "renderer": {judge.name: recognised(judge, rendered) for judge in judges},
        "chance": _with_mean({kind: 100 / len(family.names) for kind, family in KINDS.items()}),
    }


def _with_mean(shares: dict[str, float]) -> dict[str, float]:
    """Rounded, so that files and tables have the same numbers."""
    return {name: round(share, 2) for name, share in {**shares, "mean": sum(shares.values()) / len(shares)}.items()}


def fidelity_table(measured: dict[str, Any]) -> Table:
    """The result of :func:`measure` as a table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in HEADS:
        table.add_column(head, justify="left" if head == HEADS[0] else "right")
    *kinds, mean = rows(measured)
    for row in kinds:
        table.add_row(*row, end_section=row is kinds[-1])
    table.add_row(*mean, style="bold")
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m benchmarks.mini_models.generator.fidelity``."""
    parser = argparse.ArgumentParser(description="How often does a text-to-image model draw the class in its prompt?")
    parser.add_argument("--pipeline", default=PACKAGED, help="folder or package of a model (default %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="denoising steps (default %(default)s)")
    parser.add_argument("--guidance", type=float, default=GUIDANCE, help="guidance scale (default %(default)s)")
    parser.add_argument("--per-class", type=int, default=PER_CLASS, help="samples of a class (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/generator/fidelity.json"), help="(default %(default)s)")
    parser.add_argument(
        "--write-card", action="store_true", help="write README.md, fidelity.json and samples.png of the packaged model"
    )
    args = parser.parse_args(argv)
    if args.write_card and args.pipeline != PACKAGED:
        parser.error("--write-card is for the packaged model: leave --pipeline out")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(args.threads)
    generator = DiffusionGenerator(args.pipeline, steps=args.steps, guidance=args.guidance, batch_size=BATCH)
    measured = measure(generator, [ClipJudge(), Classifier()], args.per_class, args.seed)
    write_json(args.out, measured)
    if args.write_card:
        write_card(FOLDER, generator, measured)
    console = Console()
    console.print(fidelity_table(measured))
    console.print(f"{measured['images_per_second']} images/s on {args.threads} CPU thread(s); written to {args.out}")


if __name__ == "__main__":
    main()
