"""Two processes begin the same run at nearly the same moment, again and again, and a third one reads.

::

    python -m tests.e2e.two_writers

One has to work to the right end, the other to say so in one sentence with status 2; no reading of ``last.ckpt`` or
``results.json`` may fail. Before every second try a process is killed with SIGKILL at a random step, and its lock has
to be taken over. At last two runs and a ``generate`` share a folder of replay images. A try whose outcome is in
``--folder`` is not repeated.
"""

import argparse
import json
import random
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gift_lightning.errors import InputError
from gift_lightning.records.checkpoint import read_checkpoint
from gift_lightning.records.run_folder import RunFolder
from tests.e2e.conftest import CONFIG, assert_same_run, kill_at, run_command

REFUSAL = r"error: \S+three_tasks is in use by process \d+ on \S+ since \S+ \S+ UTC, and only one run can write"
GIFT = str(Path(__file__).with_name("gift.yaml"))


def attempt(root: Path, reference: Path, number: int) -> dict[str, float]:
    """One try below ``root``; returns how many reads a third process made, and how long both took.

    Args:
        root: an empty folder.
        reference: the run folder of an uninterrupted run.
        number: of the try: the moments are a function of it.
    """
    moments, flags = random.Random(number), ["--ckpt_path", "last"]
    fit = ["fit", "--config", CONFIG, "--run.root", str(root), *flags]
    folder = root / "three_tasks"
    if number % 2:
        assert run_command([*fit, *kill_at("step", moments.randrange(1, 24))], root / "killed.txt") == -9
        assert (folder / ".lock").is_file()
    began, reads = time.monotonic(), 0
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(run_command, fit, root / "0.txt")]
        time.sleep(moments.choice([0.0, moments.random() / 10, moments.random()]))
        both.append(pool.submit(run_command, fit, root / "1.txt"))
        while not all(run.done() for run in both):
            reads += read(folder)
    statuses = [run.result() for run in both]
    logs = [(root / f"{place}.txt").read_text() for place in (0, 1)]
    assert sorted(statuses) == [0, 2], (statuses, logs)
    refused = logs[statuses.index(2)]
    assert re.match(REFUSAL, refused) and len(refused.strip().splitlines()) == 1, refused
    assert_same_run(folder, reference)
    assert not list(folder.rglob(".*"))
    return {"reads": reads, "seconds": round(time.monotonic() - began, 1)}


def read(folder: Path) -> int:
    """Read checkpoint and results as other programs do; returns the number of files that were there."""
    files = 0
    if (folder / "checkpoints" / "last.ckpt").is_file():
        read_checkpoint(folder / "checkpoints" / "last.ckpt")
        files += 1
    return files + (RunFolder.at(folder).read_results() is not None)


def shared(root: Path) -> None:
    """Two runs and a ``generate`` draw the same images at once."""
    fit = ["fit", "--config", CONFIG, "--config", GIFT, "--run.root", str(root), "--run.name"]
    commands = [[*fit, "a"], [*fit, "b"], ["generate", *fit[1:-1]]]
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(run_command, each, root / f"{place}.txt") for place, each in enumerate(commands)]
    logs = [(root / f"{place}.txt").read_text() for place in range(3)]
    assert [run.result() for run in runs] == [0, 0, 0], logs
    assert_same_run(root / "a", root / "b")
    assert not list((root / "replay").rglob(".*"))


def main(argv: Sequence[str] | None = None) -> int:
    """Make the tries that are left; returns 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.two_writers")
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "two_writers")
    options = parser.parse_args(argv)
    reference = options.folder / "reference" / "three_tasks"
    if not (options.folder / "reference.done").exists():
        shutil.rmtree(options.folder, ignore_errors=True)
        reference.parent.mkdir(parents=True)
        log = options.folder / "log.txt"
        assert run_command(["fit", "--config", CONFIG, "--run.root", str(reference.parent)], log) == 0, log.read_text()
        (options.folder / "reference.done").touch()
    outcomes = options.folder / "outcomes.json"
    done = json.loads(outcomes.read_text()) if outcomes.exists() else {}
    for name in [*map(str, range(options.tries)), *(f"shared {each}" for each in range(options.tries // 4))]:
        if name in done:
            continue
        root = options.folder / name
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        try:
            done[name] = shared(root) if name.startswith("shared") else attempt(root, reference, int(name))
            shutil.rmtree(root)
        except (AssertionError, InputError) as error:
            done[name] = f"failed: {error}"
        outcomes.write_text(json.dumps(done, indent=1))
        print(name, done[name], flush=True)  # noqa: T201
    failed = [name for name, outcome in done.items() if isinstance(outcome, str)]
    reads = sum(int(outcome["reads"]) for outcome in done.values() if isinstance(outcome, dict))
    print(f"{len(done) - len(failed)} of {len(done)} right, {reads} reads by a third process", flush=True)  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
