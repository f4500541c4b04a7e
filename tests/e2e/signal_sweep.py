"""Signals to runs of two ranks at random moments: each leaves in time and goes on to the end of an uninterrupted run.

``python -m tests.e2e.signal_sweep [--kind KIND] [--tries N]``: kinds are ``requeue`` (SIGUSR1 to both ranks, under a
SLURM that is not there), ``one`` (SIGTERM to one of them) and ``both``. Called again, it goes on where it stopped.

A run is GIFT on three small tasks, with a generator that takes its time. The moment lies between the beginning of its
work, which the folder of the run shows, and its end.
"""

import argparse
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from tests.e2e.conftest import CONFIG, assert_same_run, read_results, start_ranks, statuses_of

KINDS = {"requeue": (signal.SIGUSR1, 2), "one": (signal.SIGTERM, 1), "both": (signal.SIGTERM, 2)}
LIMIT = 60.0
"""Seconds in which all ranks have to leave."""


def command(root: Path, *flags: str) -> list[str]:
    """The run that is stopped."""
    overlay = str(Path(__file__).with_name("gift.yaml"))
    generator = "--data.replay.init_args.generator"
    slow = [generator, "tests.e2e.generators.SlowGenerator", f"{generator}.batch_size", "4", f"{generator}.seconds=0.2"]
    return ["fit", "--config", CONFIG, "--config", overlay, "--run.root", str(root), *slow, *flags]


def reference(root: Path) -> float:
    """Make the run that nothing stops, once; returns the seconds of its work."""
    noted = root / "seconds.txt"
    if not noted.is_file():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        ranks = start_ranks(2, command(root), root / "log.txt")
        _wait_for_beginning(root)
        began = time.monotonic()
        assert statuses_of(ranks) == [0, 0], (root / "log.txt").read_text()
        noted.write_text(str(time.monotonic() - began))
    return float(noted.read_text())


def attempt(root: Path, kind: str, number: int, whole: Path, seconds: float) -> dict[str, Any]:
    """Stop a run once, see how it leaves, and let it go on to its end; returns what was seen.

    Raises:
        AssertionError: something is not as it should be.
    """
    shutil.rmtree(root, ignore_errors=True)
    log, queue = root / "log.txt", root / "queue.txt"
    root.mkdir(parents=True)
    scontrol = root / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {queue}\n')
    scontrol.chmod(0o755)
    rng = random.Random(f"{kind} {number}")
    part, (which, count) = rng.random(), KINDS[kind]
    path = f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}"
    ranks = start_ranks(2, command(root), log, slurm=kind == "requeue", PATH=path)
    _wait_for_beginning(root)
    began, moment = time.monotonic(), 0.2 + part * seconds
    while all(process.is_alive() for process in ranks) and time.monotonic() - began < moment:
        time.sleep(0.02)
    if not all(process.is_alive() for process in ranks):  # faster than the whole run was
        assert statuses_of(ranks) == [0, 0], log.read_text()
        return attempt(root, kind, number, whole, 0.9 * (time.monotonic() - began))
    for process in rng.sample(ranks, count):
        os.kill(process.pid or 0, which)
    began = time.monotonic()
    statuses = statuses_of(ranks, LIMIT)
    took, folder, said = time.monotonic() - began, root / "gift", log.read_text()
    if read_results(folder)["complete"] if (folder / "results.json").is_file() else False:
        # the signal came when all was done, perhaps after the run
        assert {*statuses} <= {0, -which}, f"{statuses}: {said}"
    else:
        assert statuses == [128 + which] * 2, f"{statuses} after {took:.0f} s: {said}"
        assert said.count("stopped by") == 1 and "Traceback" not in said, said
        assert said.splitlines()[-1].startswith(f"stopped by {which.name}"), said
        asked = queue.read_text().splitlines() if queue.is_file() else []
        assert asked == (["requeue 1234"] if kind == "requeue" else []), asked
    images = len([*root.glob("replay/*/*.png")])
    saved = (folder / "checkpoints" / "last.ckpt").is_file()
    assert not [*folder.glob("hpc_ckpt*")]
    resumed = statuses_of(start_ranks(2, command(root, "--ckpt_path", "last"), log))
    assert resumed == [0, 0], log.read_text()
    assert_same_run(folder, whole)
    told = [line for line in said.splitlines() if "stopped by" in line]
    return {"statuses": statuses, "seconds": round(took, 1), "moment": round(moment, 1), "images": images} | {
        "has checkpoint": saved,
        "said": told,
    }


def sweep(root: Path, kinds: list[str], tries: int) -> bool:
    """All attempts that are not made yet; returns whether all succeeded."""
    seconds, whole = reference(root / "whole"), root / "whole" / "gift"
    done, failed = root / "tries.jsonl", 0
    known = [json.loads(line) for line in done.read_text().splitlines()] if done.is_file() else []
    for kind in kinds:
        made = [each for each in known if each["kind"] == kind and "fault" not in each]
        for number in sorted({*range(tries)} - {each["number"] for each in made}):
            result: dict[str, Any] = {"kind": kind, "number": number}
            try:
                result |= attempt(root / f"{kind}{number}", kind, number, whole, seconds)
                shutil.rmtree(root / f"{kind}{number}")
            except AssertionError as error:
                result["fault"], failed = str(error), failed + 1
            with done.open("a") as file:
                file.write(json.dumps(result) + "\n")
            made += [] if "fault" in result else [result]
            print(json.dumps(result), flush=True)  # noqa: T201
        slowest = max((each["seconds"] for each in made), default=0)
        print(f"{kind}: {len(made)} of {tries}, the slowest left in {slowest} s", flush=True)  # noqa: T201
    return not failed


def _wait_for_beginning(root: Path) -> None:
    limit = time.monotonic() + 120
    while not (root / "gift" / "environment.json").is_file():
        assert time.monotonic() < limit, (root / "log.txt").read_text()
        time.sleep(0.02)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=[*KINDS, "all"], default="all")
    parser.add_argument("--tries", type=int, default=20, help="of each kind")
    parser.add_argument("--root", type=Path, default=Path("runs/signal_sweep"), help="folder of the runs")
    given = parser.parse_args()
    raise SystemExit(not sweep(given.root, [*KINDS] if given.kind == "all" else [given.kind], given.tries))
