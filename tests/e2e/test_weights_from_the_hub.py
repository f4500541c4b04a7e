"""Weights are fetched by ``doctor --download`` and by nothing else: from a hub on this machine, in its protocol."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.datamodules.replay.test_stable_diffusion import MODELS, renamed
from tests.datamodules.replay.test_stable_diffusion import folder as pipeline  # noqa: F401 (a fixture)
from tests.e2e.conftest import CONFIG, write_vit
from tests.serving import serving

CLIP, PIPELINE, COMMIT = "lab/small-clip", "lab/small-diffusion", "c" * 40


class Hub(ThreadingHTTPServer):
    """Serves the folders of ``repositories``; a weights file of those in ``spoilt`` comes damaged, once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Path] = {}
        self.asked: list[str] = []
        self.spoilt: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        path = self.path.split("?")[0].removeprefix("/")
        name = next((name for name in self.server.repositories if name in path), None)
        folder = self.server.repositories.get(name or "")
        if folder is not None and path.startswith("api/models/"):
            files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
            names = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
            listed = [{"type": "file", "path": each, "size": size, "oid": "0"} for each, size in names.items()]
            facts = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": each} for each in names], "tags": []}
            told = json.dumps(listed if "/tree/" in path else facts).encode()
            self.send(told, {"Content-Type": "application/json"})
        elif folder is not None and (folder / path.split("/", 4)[-1]).is_file():
            content = (folder / path.split("/", 4)[-1]).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            if name in self.server.spoilt and self.command == "GET" and path.endswith(".safetensors"):
                self.server.spoilt.remove(name)
                content = content[:8] + b"x" + content[9:]  # in the header: such a file cannot be read
            self.send(content, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT})
        else:
            self.send_error(404, "Entry not found", "")

    def send(self, content: bytes, headers: dict[str, str]) -> None:
        wanted = self.headers["Range"]
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        for key, value in {**headers, "Content-Length": str(len(content) - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start:])

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(tmp_path: Path, pipeline: Path) -> Iterator[Hub]:  # noqa: F811
    clip = tmp_path / "clip"
    clip.mkdir()
    write_vit(clip, image_size=32, layers=1, patch_size=16)
    server = Hub()
    variant = tmp_path / "diffusion"  # its weights have the names of a variant
    shutil.copytree(pipeline, variant)
    renamed("fp16", *MODELS)(variant)
    server.repositories = {CLIP: clip, PIPELINE: variant}
    with serving(server):
        yield server


RUN = """
import json, sys
from gift_lightning.__main__ import main
for argv in json.loads(sys.argv[1]):
    print(f"exit status {main(argv)}", flush=True)
"""


def commands(hub: Hub, folder: Path, *argvs: list[str]) -> list[str]:
    """What commands print, one after the other in a new process, in which no variable forbids the network."""
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(folder / "home")}
    environment |= {"COLUMNS": "300", "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    python = [sys.executable, "-c", RUN, json.dumps(argvs)]
    done = subprocess.run(python, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told = re.split(r"(?<=exit status \d)\n", done.stdout)
    assert len(told) == len(argvs) + 1, done.stdout
    return told[:-1]


@pytest.mark.slow
def test_weights_come_only_when_they_are_asked_for(hub: Hub, tmp_path: Path) -> None:
    overlay, generator = str(Path(__file__).parent / "gift.yaml"), "--data.replay.init_args.generator"
    flags = ["--config", CONFIG, "--config", overlay, "--run.root", str(tmp_path)]
    flags += [
        "--model.clip.name",
        f"hf-hub:{CLIP}",
        generator,
        "datamodules.replay.diffusion.DiffusionGenerator",
        f"{generator}.name",
        PIPELINE,
    ]
    fit = ["fit", *flags, f"{generator}.steps", "2", "--data.replay.images_per_task", "2"]
    fit += ["--data.replay.batch_size", "2", "--trainer.fast_dev_run", "true"]
    doctor = ["doctor", *flags, "--download"]

    hub.spoilt = {CLIP, PIPELINE}
    first, told = commands(hub, tmp_path, doctor, doctor)
    assert first.count("safetensors has SHA-256") == 2
    assert first.endswith("it lacks CLIP, text to image.\nexit status 1")
    assert "CLIP: fetched." in told and "text to image" in told and told.endswith("can begin.\nexit status 0")
    assert not [line for line in hub.asked if "safety_checker" in line and line.startswith("GET")]

    hub.asked.clear()
    other = [f"hf-hub:{CLIP}-b" if word == f"hf-hub:{CLIP}" else word for word in fit]
    lacking, done = commands(hub, tmp_path, other, fit)
    assert f"'hf-hub:{CLIP}-b' is not on this machine: fetch it with 'python -m gift_lightning doctor" in lacking
    assert done.endswith("exit status 0")
    assert not hub.asked
