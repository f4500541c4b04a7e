"""Kill and resume, and several ranks, on a device: runs that ought to end with the same weights.

::

    python -m benchmarks.resume --device cuda

GIFT with the small CLIP on two tasks: uninterrupted; killed amid the second task and resumed; and by ``ddp`` on all
devices, with one process on each. Some kernels of a GPU add in another order each time, so that not all bits may agree.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from gift_lightning.files import read_json

SETTINGS = [
    "--data.tasks",
    "[{class_path: datamodules.mini.Digits}, {class_path: datamodules.mini.Flags}]",
    *("--data.steps", "40", "--run.checkpoint_every", "10", "--model.warmup_steps", "4"),
    *("--data.replay.init_args.images_per_task", "64", "--data.replay.init_args.batch_size", "64"),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run, compare and show; 1 if the run that was killed has other accuracies."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    device = parser.parse_args(argv).device
    devices = str(torch.cuda.device_count()) if device == "cuda" else "2"
    table = Table(f"GIFT, small CLIP, {device}", "R as uninterrupted", "largest difference of weights")
    with tempfile.TemporaryDirectory() as root:
        fit(root, "whole", device)
        kill(root, device)
        fit(root, "killed", device, "--ckpt_path", "last")
        fit(root, "ddp", device, "--trainer.strategy", "ddp", "--trainer.devices", devices)
        whole, rows = weights(root, "whole"), matrix(root, "whole")
        same = True
        for name, title in (("killed", "killed and resumed"), ("ddp", f"ddp, {devices} processes")):
            other = weights(root, name)
            difference = max((whole[key] - other[key]).abs().max().item() for key in whole)
            is_same = matrix(root, name) == rows
            same = same and (is_same or name == "ddp")
            table.add_row(title, str(is_same), f"{difference:.1e}")
    Console().print(table)
    return 0 if same else 1


def command(root: str, name: str, device: str, *more: str) -> list[str]:
    """The command line of a run."""
    run = ["--config", "conf/mini/gift.yaml", "--run.root", root, "--run.name", name, "--trainer.accelerator", device]
    return [sys.executable, "-m", "gift_lightning", "fit", *run, *SETTINGS, *more]


def fit(root: str, name: str, device: str, *more: str) -> None:
    """A run to its end."""
    subprocess.run(command(root, name, device, *more), check=True, stdout=subprocess.DEVNULL)


def kill(root: str, device: str) -> None:
    """A run that is killed in its second task."""
    process = subprocess.Popen(command(root, "killed", device), stdout=subprocess.DEVNULL)
    metrics = Path(root) / "killed" / "metrics.csv"
    while process.poll() is None:
        if metrics.exists() and max(map(_step, metrics.read_text().split("\n")[1:]), default=0) > 60:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.05)
    sys.exit("The run ended before it could be killed.")


def _step(row: str) -> int:
    step = row.split(",")[0]
    return int(step) if step.isdigit() else 0


def weights(root: str, name: str) -> dict[str, torch.Tensor]:
    """After the last task."""
    return load_file(Path(root) / name / "checkpoints" / "task02.safetensors")


def matrix(root: str, name: str) -> list[list[float]]:
    """The accuracies of a run."""
    rows: list[list[float]] = read_json(Path(root) / name / "results.json")["R"]
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
