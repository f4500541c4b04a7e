"""Methods and data sets of a user, in files outside the repository: run, killed, resumed, loaded."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import gift_lightning
from datamodules.shard import TestShard
from gift_lightning import CLIPSource
from gift_lightning.methods import ZeroShot
from tests.e2e.conftest import CONFIG, assert_same_run, kill_at, read_results, run_command

FILES = Path(__file__).parent / "outside"
METHODS: dict[str, dict[str, Any]] = {
    "learned_context.LearnedContext": {"context": "a photo of", "lr": 1.0e-1, "warmup_steps": 2},
    "ridge.Ridge": {"ridge": 0.5, "lr": 0.0},
}
"""Each by its class path, with its settings."""

KILLS = {"learned_context.LearnedContext": ("step", 11), "ridge.Ridge": ("on_task_end", 1)}
"""A moment in the second task, amid what each has learned."""


@dataclass
class User:
    """A folder that Python imports from, with a finished run in it, and the command of that run.

    The folder is in ``PYTHONPATH`` of the processes that run the command.
    """

    method: str
    folder: Path
    command: list[str]

    def fit(self, root: Path, *flags: str) -> int:
        command = [*self.command, "--run.root", str(root), *flags]
        return run_command(command, root / "log.txt", PYTHONPATH=str(self.folder))


@pytest.fixture(scope="module", params=METHODS)
def user(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    folder = tmp_path_factory.mktemp("user")
    for file in FILES.glob("*.py"):
        shutil.copy(file, folder / f"my_{file.name}")
    model = {"class_path": f"my_{request.param}", "init_args": METHODS[request.param]}
    tasks = [
        {"class_path": "my_stripes.Stripes", "init_args": {"test_size": 24}},
        {"class_path": "datamodules.mini.Flags", "init_args": {"train_size": 45, "test_size": 43}},
    ]
    (folder / "mine.yaml").write_text(
        yaml.safe_dump({"run": {"name": "mine"}, "model": model, "data": {"tasks": tasks, "steps": 8}})
    )
    user = User(request.param, folder, ["fit", "--config", CONFIG, "--config", str(folder / "mine.yaml")])
    assert user.fit(folder) == 0, (folder / "log.txt").read_text()
    sys.path.insert(0, str(folder))
    yield user
    sys.path.remove(str(folder))


def test_killed_run_resumes_bit_identical(user: User, tmp_path: Path) -> None:
    event, number = KILLS[user.method]
    assert user.fit(tmp_path, *kill_at(event, number)) == -9, (tmp_path / "log.txt").read_text()
    assert user.fit(tmp_path, "--ckpt_path", "last", *kill_at("evaluate", 1)) == -9, (tmp_path / "log.txt").read_text()
    assert user.fit(tmp_path, "--ckpt_path", "last") == 0, (tmp_path / "log.txt").read_text()
    assert_same_run(tmp_path / "mine", user.folder / "mine")


@torch.no_grad()
def test_a_loaded_run_predicts_as_the_run_did(user: User) -> None:
    results, model = read_results(user.folder / "mine"), gift_lightning.load(user.folder / "mine")
    stripes = __import__("my_stripes").Stripes(test_size=24)
    stripes.setup("test")
    shard = TestShard(stripes.test_set, model.clip.test_geometry, model.clip.normalize)
    logits = model.evaluate(stripes, shard)
    right = (logits.argmax(1) == shard.labels).float().mean().item()
    assert 100 * right == pytest.approx(results["R"][-1][0])
    images = [image for image, _ in stripes.test_set]
    probabilities = model.predict(images, stripes.class_names, stripes.templates)
    if user.method == "ridge.Ridge":  # which has learned the tasks' classes; of any others it is the pre-trained model
        zero_shot = ZeroShot(clip=CLIPSource("package:datamodules.mini.clip"))
        torch.testing.assert_close(probabilities, zero_shot.predict(images, stripes.class_names, stripes.templates))
    else:
        torch.testing.assert_close(probabilities, logits.softmax(1))
    first = gift_lightning.load(user.folder / "mine").predict(images[:1], stripes.class_names, stripes.templates)
    torch.testing.assert_close(first, probabilities[:1])
    assert results["R"][0] != results["zero_shot"] and results["R"][1] != results["R"][0]
