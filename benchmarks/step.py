"""A training step of a method beside that of the textbook: FLOPs, time and memory.

::

    python -m benchmarks.step

The textbook's step is that of ``benchmarks.textbook``. Both begin with the same random weights and batch, and their
losses have to agree in the first steps. FLOPs are counted around both real steps at batch 64, without computing them;
time and memory are measured at the batch of the table, each way in a process of its own, in turn.
"""

import argparse
import gc
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.textbook import Textbook
from benchmarks.workload import Case, RandomCLIP, Workload, build, trainer_of

COUNTED = {
    Case("finetune", 64): 1.0,
    Case("gift", 64): 1.3,
    Case("gift", 64, classes=397): 1.5,
    Case("zscl", 64): 1.4,
    Case("zscl", 64, texts=13_000): 5.0,
    Case("moe_adapter", 64): 1.2,
}
"""What is counted, and the least ratio of the textbook's FLOPs to ours."""
ON_CPU = [Case("gift", 4), Case("gift", 1)]
PEAK = {"H200": 989.0, "H100": 989.0, "A100": 312.0}
"""Dense TFLOP/s in bfloat16 by the makers' data sheets."""

WAYS = ("ours", "textbook")

STEPS_EQUAL = 2
"""So many losses are compared."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    for table in tables(parser.parse_args(argv).device):
        Console().print(table)
    return 0


def tables(device: str = "cpu") -> Iterator[Table]:
    """The tables of FLOPs, and of time and memory; on a GPU one of both for each method, GIFT first."""
    _silence_libraries()
    if device == "cpu":
        yield counts()
        yield side_by_side(ON_CPU)
    else:
        yield from map(on_gpu, ("gift", "finetune", "zscl", "moe_adapter"))


# --- FLOPs ------------------------------------------------------------------------------------------------------------


def counts() -> Table:
    """TFLOP of a step of both ways; ends the program if a ratio is below its least value."""
    table = Table("TFLOP of a step, ViT-B/16, batch 64", "ours", "textbook", "ratio")
    cases, ways = [case for case in COUNTED for _ in WAYS], [*WAYS] * len(COUNTED)
    # in another process, whose gigabytes are free when those of the next table begin
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        counted = [count / 1e12 for count in pool.map(flops, cases, ways)]
    for (case, least), ours, theirs in zip(COUNTED.items(), counted[::2], counted[1::2], strict=True):
        table.add_row(case.name, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.2f}")
        if theirs / ours < least:
            sys.exit(f"{case.name}: the ratio of FLOPs is {theirs / ours:.2f}, and should be at least {least}.")
    return table


def flops(case: Case, way: str) -> int:
    """FLOPs of the real step of a case, whatever its device and precision; nothing is computed."""
    _silence_libraries()
    plain = replace(case, device="cpu", precision="32-true", settings=())
    workload = Workload(*build(plain), trainer_of("cpu"), teaches=False)
    work = workload.differentiate if way == "ours" else textbook(case, workload).losses
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def textbook(case: Case, workload: Workload) -> Textbook:
    """The textbook's way of a workload, at the same weights."""
    model = RandomCLIP(case.model).load().model.to(workload.method.device)
    return Textbook(case.method, model, workload.inputs())


# --- on a CPU: each way in its own process, in turn -------------------------------------------------------------------


def side_by_side(cases: list[Case], turns: int = 1) -> Table:
    """Seconds and peak memory of a step of both ways."""
    title = f"ViT-B/16, 100 classes, {torch.get_num_threads()} threads"
    table = Table(title, "s, ours", "s, textbook", "ratio", "GB, ours", "GB, textbook", "ours / textbook")
    for case in cases:
        ours, theirs = measured(case, turns)
        seconds, memory = [s for s, _ in (ours, theirs)], [m / 1e9 for _, m in (ours, theirs)]
        table.add_row(
            f"{case.method}, batch {case.batch}",
            *(f"{value:.2f}" for value in (*seconds, seconds[1] / seconds[0], *memory, memory[0] / memory[1])),
        )
    return table


def measured(case: Case, turns: int) -> list[tuple[float, int]]:
    """Median seconds and peak bytes of a step, ours and the textbook's, which take turns.

    Ends the program if their losses differ.
    """
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in WAYS]
    for way, (_, theirs) in zip(WAYS, pipes, strict=True):
        context.Process(target=_serve, args=(theirs, case, way), daemon=True).start()
        theirs.close()  # its end alone: the pipe of a process that died then says so
    figures: list[list[tuple[float, float, int]]] = [[], []]
    for _ in range(STEPS_EQUAL + turns - 1):
        for way, (ours, _), taken in zip(WAYS, pipes, figures, strict=True):
            try:
                ours.send("step")
                taken.append(ours.recv())
            except (EOFError, BrokenPipeError):
                sys.exit(f"{case.name}, {way}: the process of these steps died, perhaps for lack of memory.")
    for ours, _ in pipes:
        ours.send("end")
    check_losses(case, *([loss for loss, *_ in taken[:STEPS_EQUAL]] for taken in figures))
    return [(median(s for _, s, _ in taken[1:]), max(memory for *_, memory in taken)) for taken in figures]


def check_losses(case: Case, ours: list[float], theirs: list[float]) -> None:
    """End the program if the losses of the first steps differ."""
    # a step of AdamW at the start moves each weight by the rate, whatever the size of its gradient
    tolerances = [1e-5, *[1e-3] * (STEPS_EQUAL - 1)]
    # noise and dropout of experts differ once these have learned
    compared = 1 if case.method == "moe_adapter" else STEPS_EQUAL
    for step, (one, other, tolerance) in enumerate(list(zip(ours, theirs, tolerances, strict=True))[:compared]):
        if not abs(one - other) <= tolerance * abs(other):
            sys.exit(f"{case.name}: the losses of step {step} are {one} and {other}, and should be equal.")


def _serve(pipe: Connection, case: Case, way: str) -> None:
    """Make a step at each request: its loss, its seconds and the most bytes that the process had in memory."""
    step, loss = stepper(case, way)
    while pipe.recv() == "step":
        Path("/proc/self/clear_refs").write_text("5")
        began = time.perf_counter()
        step()
        pipe.send((loss(), time.perf_counter() - began, _peak_memory()))


def stepper(case: Case, way: str) -> tuple[Callable[[], object], Callable[[], float]]:
    """A function that makes a step, ours or the textbook's, and one that gives the loss of the latest."""
    _silence_libraries()
    workload = Workload(*build(case), trainer_of(case.device, case.precision))
    if way == "textbook":
        book = textbook(case, workload)
        return book.step, lambda: book.loss.item()
    return workload.step, lambda: workload.loss


def _silence_libraries() -> None:
    for name in ("lightning.pytorch", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


# --- on a GPU ---------------------------------------------------------------------------------------------------------

ON_GPU: dict[str, dict[str, Any]] = {
    "ours, bf16-mixed": {"way": "ours", "tf32": True, "precision": "bf16-mixed"},
    "ours, bf16-mixed, compiled": {"way": "ours", "tf32": True, "precision": "bf16-mixed", "compile": True},
    "ours, TF32": {"way": "ours", "tf32": True},
    "ours, float32": {"way": "ours", "tf32": False},
    "textbook, TF32": {"way": "textbook", "tf32": True},
    "textbook, float32": {"way": "textbook", "tf32": False},
}


def on_gpu(method: str, batch: int = 64, steps: int = 6) -> Table:
    """Milliseconds, share of peak, the kernels' share of the step, and memory."""
    name, case = torch.cuda.get_device_name(), Case(method, batch, device="cuda")
    peak = next((value for key, value in PEAK.items() if key in name), None)
    table = Table(f"{case.name}, batch {batch}", "ms", "kernels, ms", "share", "TFLOP/s", "of peak", "GB")
    counted, losses = flops(case, "ours"), dict[str, list[float]]()
    for title, settings in ON_GPU.items():
        is_ours = settings["way"] == "ours"
        if method == "moe_adapter" and settings.get("compile"):  # which it refuses
            continue
        if method != "gift" and not is_ours and settings["tf32"]:
            continue
        ms, kernels, memory, losses[title] = gpu_step(case, steps, **settings)
        rate = counted / ms / 1e9
        figures = [f"{rate:.0f}", f"{rate / peak:.0%}" if peak else ""] if is_ours else ["", ""]
        table.add_row(title, f"{ms:.1f}", f"{kernels:.1f}", f"{kernels / ms:.0%}", *figures, f"{memory / 1e9:.1f}")
    check_losses(case, losses["ours, float32"], losses["textbook, float32"])
    return table


def gpu_step(
    case: Case, steps: int, way: str, tf32: bool, precision: Any = "32-true", compile: bool = False
) -> tuple[float, float, int, list[float]]:
    """Milliseconds of a step, of its kernels, peak bytes, and the first losses."""
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    gc.collect()  # a trainer and its method refer to each other
    torch.cuda.empty_cache()
    settings = (("compile", True),) if compile else ()
    step, loss = stepper(replace(case, precision=precision, settings=settings), way)
    losses = []
    for _ in range(STEPS_EQUAL):
        step()
        losses.append(loss())
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(3):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - began) / steps)
    memory = torch.cuda.max_memory_allocated()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(3):
            step()
        torch.cuda.synchronize()
    kernels = sum(event.self_device_time_total for event in profile.key_averages()) / 3e3
    return 1e3 * median(times), kernels, memory, losses


if __name__ == "__main__":
    raise SystemExit(main())
