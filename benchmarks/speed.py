"""All figures of speed on this machine, kept in ``speed.json`` and shown in ``RESULTS.md``.

::

    python -m benchmarks.speed                                 # or: make speed
    python -m benchmarks.speed --device cuda --parts step fit  # see gpu.sh

A part is a module of this folder with a function ``tables``; it can also be run by itself, and then writes nothing.
Each table is kept as soon as it is measured, and a part that fails has no effect on the others.
"""

import argparse
import datetime
import importlib
import subprocess
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gift_lightning.files import read_json, write_json, write_text
from gift_lightning.records.environment import machine, versions
from gift_lightning.records.report.formats import markdown_table

FOLDER = Path(__file__).parent
PARTS = {
    "step": "A training step beside the textbook's",
    "fit": "`fit` beside a bare loop",
    "input": "Images from disk and memory to the model",
    "generation": "Drawing replay images",
    "many_tasks": "A sequence of 200 tasks",
    "memory": "Memory of a GPU, computed",
    "rehearsal": "MTIL, Order I: a rehearsal",
}
"""Modules of this folder, and their headings."""
ON_CPU = [part for part in PARTS if part != "rehearsal"]

HEAD = """# Speed

`make speed` measures on a CPU, `bash benchmarks/gpu.sh speed` and `bash benchmarks/gpu.sh rehearsal` on a GPU; all
write this file. Ratios are of ways that took turns in one run on one machine. How each part measures is said in its
module, `benchmarks/<part>.py`.
"""

FIRST = """## GPU: first figures

NVIDIA H200, torch 2.11, commit 4d74271, before images were normalised on the device and without TF32 as the default.
ViT-B/16, batch 64 + 64, 100 classes, tensors in memory, no loader processes; 14.1 TFLOP a step of GIFT.

| | ms a step | TFLOP/s | peak GB |
| --- | ---: | ---: | ---: |
| authors' GIFT loop, float32 | 650 |  | 30.7 |
| authors' GIFT loop, TF32 | 387 |  | 30.7 |
| GIFT, 32-true | 514 | 27 | 14.5 |
| GIFT, TF32 | 274 | 51 | 14.5 |
| GIFT, bf16-mixed | 274 | 51 | 9.8 |
| finetune, bf16-mixed | 126 | 56 | 8.5 |
| ZSCL, bf16-mixed | 161 | 87 | 10.7 |
| MoE-Adapters, bf16-mixed | 238 | 21 | 6.5 |

CUDA kernels took about 90 ms of the 274. A model of the shape of Stable Diffusion 1.5 drew 3.1 images a second
(float16, 50 steps, batches of 16)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the parts and write both files; 1 if a part failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=ON_CPU, metavar="PART", help=", ".join(PARTS))
    options, failed = parser.parse_args(argv), 0
    for part in options.parts:
        tables: list[Table] = []
        try:
            for table in measure(part, options.device):
                Console().print(table)
                tables.append(table)
                record(options.device, part, tables)
        except (Exception, SystemExit):  # noqa: BLE001 (of any part: the others are measured all the same)
            traceback.print_exc()
            failed = 1
    return failed


def measure(part: str, device: str) -> Iterable[Table]:
    """The tables of a part, as they come."""
    measured: Iterable[Table] = importlib.import_module(f"benchmarks.{part}").tables(device)
    return measured


def record(device: str, part: str, tables: list[Table]) -> None:
    """Keep the tables of a part, and write the page anew."""
    file = FOLDER / "speed.json"
    figures: dict[str, Any] = read_json(file) if file.exists() else {}
    figures.setdefault(device, {})[part] = {
        "machine": machine(torch.device(device), 1),
        "torch": versions()["torch"],
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
        "tables": [{"heads": _heads(table), "rows": _rows(table)} for table in tables],
    }
    write_json(file, figures)
    write_text(FOLDER / "RESULTS.md", page(figures))


def page(figures: dict[str, Any]) -> str:
    """The Markdown of all figures."""
    lines = [HEAD]
    for device, name in (("cuda", "GPU"), ("cpu", "CPU")):
        for part, heading in PARTS.items():
            if part not in figures.get(device, {}):
                continue
            kept = figures[device][part]
            lines += [
                f"## {name}: {heading}",
                f"{kept['machine']}, torch {kept['torch']}, {kept['date']}, {kept['commit']}.",
            ]
            lines += [markdown_table(table["heads"], table["rows"]) for table in kept["tables"]]
    lines.append(FIRST)
    return "\n\n".join(line.strip("\n") for line in lines) + "\n"


def _heads(table: Table) -> list[str]:
    """Those of the columns; the title of the table in the place of an empty first one."""
    first, *others = (_text(column.header) for column in table.columns)
    return [first or _text(table.title or ""), *others]


def _rows(table: Table) -> list[list[str]]:
    return [list(cells) for cells in zip(*(map(_text, column.cells) for column in table.columns), strict=True)]


def _text(cell: Any) -> str:
    return Text.from_markup(cell).plain if isinstance(cell, str) else str(cell)


def _commit() -> str:
    command = ["git", "-C", str(FOLDER), "rev-parse", "--short", "HEAD"]
    known = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return known or "unknown commit"


if __name__ == "__main__":
    sys.exit(main())
