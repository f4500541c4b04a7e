"""GIFT on two nodes, of which one is lost at a random moment: the other ends and says so, and both go on together.

    python -m tests.e2e.two_nodes

A node is an agent of torchrun with one rank, in a network and with a host name of its own where the system allows it
(Linux, as root), else on loopback. It is lost by SIGKILL of the agent and its rank, or, with a network, by a cable that
is pulled. Then the command of both is given once more, and the run has to end bit-identical to one that was left alone.
Stopped, the script goes on with the same command; moments are a function of ``--seed`` and the number of the try.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.e2e.conftest import CONFIG, assert_same_run, free_port, read_results

GIFT = str(Path(__file__).with_name("gift.yaml"))
GONE = re.compile(r"rank \d+ on \S+ has ended without a word")
"""What the rank of the other node says."""
LIMIT = 60.0
"""Seconds in which it ends."""
CABLE = "cable"
FLAGS = [
    *("--config", CONFIG, "--config", GIFT, "--data.steps", "24", "--data.replay.images_per_task", "160"),
    *("--trainer.devices", "1", "--trainer.num_nodes", "2", "--trainer.strategy", "ddp", "--ckpt_path", "last"),
]


@dataclass(frozen=True)
class Node:
    """A machine, as far as a network goes.

    Attributes:
        address: of the node.
        interface: with that address.
        enter: words before a command that is to run there.
    """

    address: str = "127.0.0.1"
    interface: str = "lo"
    enter: tuple[str, ...] = ()

    @property
    def has_cable(self) -> bool:
        """Whether it can be cut off."""
        return bool(self.enter)

    def connect(self, up: bool = True) -> None:
        _system(*self.enter, "ip", "link", "set", self.interface, "up" if up else "down")


@contextlib.contextmanager
def two_nodes() -> Iterator[list[Node]]:
    """Two nodes with a cable between them; both on loopback where the system does not allow it."""
    with contextlib.ExitStack() as stack:
        try:
            nodes = _with_networks(stack)
        except (OSError, subprocess.CalledProcessError):
            nodes = [Node(), Node()]
        yield nodes


def _with_networks(stack: contextlib.ExitStack) -> list[Node]:
    """Two nodes, whose networks end with this process: each is held by a ``cat`` that reads from it."""
    pids = []
    for number in range(2):
        begin = f"hostname node{number} && ip link set lo up && echo ready && exec cat"
        holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "sh", "-c", begin], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        stack.callback(holder.wait)
        assert holder.stdin is not None and holder.stdout is not None
        stack.callback(holder.stdin.close)  # called before the wait
        if holder.stdout.readline() != "ready\n":
            raise OSError("no network of its own")
        pids.append(str(holder.pid))
    _system("ip", "link", "add", CABLE, "netns", pids[0], "type", "veth", "peer", "name", CABLE, "netns", pids[1])
    nodes = [
        Node(f"10.77.0.{number + 1}", CABLE, ("nsenter", "--target", pid, "--net", "--uts"))
        for number, pid in enumerate(pids)
    ]
    for node in nodes:
        _system(*node.enter, "ip", "address", "add", f"{node.address}/24", "dev", CABLE)
        node.connect()
    return nodes


def _system(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@dataclass
class Launch:
    """The command of both nodes."""

    nodes: list[Node]
    port: int

    def start(self, root: Path) -> list[subprocess.Popen[bytes]]:
        """Start both agents; each writes into ``node<number>.txt``."""
        root.mkdir(parents=True, exist_ok=True)
        agents = []
        for number, node in enumerate(self.nodes):
            place = ["--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(number)]
            place += ["--master-addr", self.nodes[0].address, "--master-port", str(self.port)]
            command = [*node.enter, sys.executable, "-m", "torch.distributed.run", *place, "-m", "gift_lightning"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": node.interface}
            with (root / f"node{number}.txt").open("ab") as log:
                fit = [*command, "fit", *FLAGS, "--run.root", str(root)]
                agents.append(subprocess.Popen(fit, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        return agents

    def to_end(self, root: Path) -> None:
        agents = self.start(root)
        try:
            statuses = [agent.wait() for agent in agents]
        finally:
            kill(agents)
        logs = [(root / f"node{number}.txt").read_text() for number in range(2)]
        assert statuses == [0, 0], "\n".join([str(statuses), *logs])


def kill(agents: list[subprocess.Popen[bytes]]) -> None:
    """End agents and what they have started."""
    for agent in agents:
        if agent.poll() is None:
            family = [agent.pid, *_descendants(agent.pid)]
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            agent.wait()


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, children.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def is_begun(folder: Path) -> bool:
    """Whether a run has written its first checkpoint, which both ranks do together."""
    return (folder / "checkpoints" / "last.ckpt").exists()


def whole_run(launch: Launch, root: Path) -> float:
    """Make the run that is left alone, unless it is there; returns its seconds after the first checkpoint."""
    seconds = root / "seconds.json"
    if not seconds.is_file():
        shutil.rmtree(root, ignore_errors=True)
        agents = launch.start(root)
        try:
            while not is_begun(root / "gift"):
                time.sleep(0.05)
                assert all(agent.poll() is None for agent in agents), (root / "node0.txt").read_text()
            began = time.monotonic()
            assert [agent.wait() for agent in agents] == [0, 0], (root / "node0.txt").read_text()
        finally:
            kill(agents)
        seconds.write_text(json.dumps(time.monotonic() - began))
    return float(json.loads(seconds.read_text()))


def attempt(launch: Launch, root: Path, whole: Path, length: float, rng: random.Random) -> dict[str, Any] | None:
    """Lose a node and go on; returns what happened, ``None`` if the run ended before."""
    shutil.rmtree(root, ignore_errors=True)
    victim, delay = rng.randrange(2), rng.uniform(0.0, 0.95) * length
    cut = rng.random() < 0.5 and launch.nodes[victim].has_cable
    agents = launch.start(root)
    try:
        while not is_begun(root / "gift"):
            time.sleep(0.05)
            assert all(agent.poll() is None for agent in agents), (root / "node0.txt").read_text()
        time.sleep(delay)
        if any(agent.poll() is not None for agent in agents):
            return None
        if cut:
            launch.nodes[victim].connect(False)
        else:
            kill([agents[victim]])
        began = time.monotonic()
        status = agents[1 - victim].wait(LIMIT)
        seconds = time.monotonic() - began
    finally:
        kill(agents)
        if cut:
            launch.nodes[victim].connect()
    told = (root / f"node{1 - victim}.txt").read_text()
    if status == 0 and is_complete(root / "gift"):
        return None
    assert status != 0
    sentence = GONE.search(told)
    assert sentence, told
    tasks = len(read_results(root / "gift")["R"]) if (root / "gift" / "results.json").is_file() else 0
    launch.to_end(root)
    assert_same_run(root / "gift", whole / "gift")
    images = sorted((whole / "replay").rglob("*.png"))
    assert images and all(f.read_bytes() == (root / f.relative_to(whole)).read_bytes() for f in images)
    way = "cut off" if cut else "killed"
    moment = {"node": victim, "way": way, "delay": round(delay, 2), "tasks": tasks}
    return {**moment, "seconds": round(seconds, 1), "status": status, "sentence": sentence.group()}


def is_complete(folder: Path) -> bool:
    return (folder / "results.json").is_file() and bool(read_results(folder)["complete"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.two_nodes", description=str(__doc__).split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/two_nodes"), help="of the runs")
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loopback", action="store_true", help="no networks of their own")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    port = int(free_port())
    say = Console().out
    with contextlib.ExitStack() as stack:
        nodes = [Node(), Node()] if arguments.loopback else stack.enter_context(two_nodes())
        say("two networks" if nodes[0].has_cable else "loopback")
        launch = Launch(nodes, port)
        length = whole_run(launch, folder / "whole")
        say(f"a run that is left alone takes {length:.1f} s after its first checkpoint")
        record = folder / "tries.jsonl"
        lines = record.read_text().splitlines() if record.is_file() else []
        say(*lines, sep="\n")
        for number in range(len(lines), arguments.tries):
            rng, outcome = random.Random(f"{arguments.seed} {number}"), None
            while outcome is None:
                outcome = attempt(launch, folder / f"try{number}", folder / "whole", length, rng)
            line = json.dumps({"try": number, **outcome})
            with record.open("a") as file:
                file.write(line + "\n")
            say(line)


if __name__ == "__main__":
    main()
