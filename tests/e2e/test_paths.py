"""A path may begin with ``~``, wherever a path is given, and a run folder is the same by any name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import datamodules.mtil
from datamodules import ImageFolderTask, Reference, SyntheticReplay, TaskSequence
from datamodules.mini import Flags
from datamodules.mini.generator import FOLDER
from datamodules.replay.diffusion import DiffusionGenerator
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.files import package_file, path_of
from gift_lightning.methods import MoEAdapter
from gift_lightning.records.metrics_csv import MetricsCSV
from gift_lightning.records.run_folder import RunFolder
from tests.e2e.conftest import call, fit_here, write_own_images, write_vit


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, and beside it the one that a command is called from."""
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def sequence() -> TaskSequence:
    aircraft = datamodules.mtil.Aircraft()
    assert TaskSequence([aircraft], root="~/x").tasks == [aircraft]
    return aircraft.root


PLACES: dict[str, Callable[[], Any]] = {
    "run.root": lambda: RunFolder("~/x", "name").path.parent,
    "run of report, export and load": lambda: RunFolder.at("~/x").path,
    "folder of a task": lambda: ImageFolderTask("~/x").folder,
    "root of a data set": lambda: datamodules.mtil.Aircraft("~/x").root,
    "data.root": sequence,
    "model.clip.pretrained": lambda: CLIPSource(pretrained="~/x").pretrained,
    "model.clip.weights": lambda: CLIPSource(weights="~/x").weights,
    "model.clip.name": lambda: CLIPSource("local-dir:~/x").name.removeprefix("local-dir:"),
    "replay folder": lambda: SyntheticReplay("~/x", initial_prompts=["a {}"]).root,
    "reference images": lambda: Reference("~/x").images,
    "prompts and sentences": lambda: package_file("~/x", "data.replay.initial_prompts"),
    "metrics.csv": lambda: MetricsCSV("~/x").path.parent,
}


@pytest.mark.parametrize("place", PLACES)
def test_the_home_folder_is_meant(place: str, home: Path) -> None:
    assert str(PLACES[place]()) == str(home / "x")


def test_files_are_read_from_the_home_folder(home: Path) -> None:
    write_own_images(home)
    (home / "prompts.txt").write_text("a photo of a cat.\n")
    (home / "sentences.txt").write_text("a cat.\n")
    (home / "names.yaml").write_text("m8: octagonal shape\n")
    shutil.copytree(FOLDER, home / "pipeline")
    assert SyntheticReplay("~/x", initial_prompts="~/prompts.txt").initial_prompts == ["a photo of a cat."]
    reference = Reference("~/birds/train", sentences="~/sentences.txt")
    reference.sequence = TaskSequence([Flags(1, 1)])
    reference.setup("fit")
    assert reference.texts == ["a cat."]
    task = ImageFolderTask("~/tools", class_names="~/names.yaml")
    task.setup()
    assert "octagonal shape" in task.class_names
    assert DiffusionGenerator("~/pipeline").files.find() == home / "pipeline"
    with pytest.raises(InputError, match=f"{home}/alexnet.pth"):
        MoEAdapter(clip=CLIPSource("package:datamodules.mini.clip"), alexnet="~/alexnet.pth")
    (home / "vit").mkdir()
    write_vit(home / "vit", image_size=32, layers=1, patch_size=16)
    CLIPSource("local-dir:~/vit", "~/vit/open_clip_model.safetensors").load()


def test_a_user_who_does_not_exist_has_no_home(home: Path) -> None:
    for text in ("~nobody_of_this_name", "~nobody_of_this_name/runs"):
        with pytest.raises(InputError, match="begins with the home folder of a user who does not exist here"):
            path_of(text)
    assert path_of("a/~") == Path("a/~")
    assert path_of("./~/a") == Path.cwd() / "~" / "a" == path_of(path_of("./~/a"))  # a folder of that name
    assert path_of("./a") == Path("a")
    for run, told in {"./~/x": "/~/x does not exist", "~nobody_of_this_name/x": "begins with the home folder"}.items():
        status, _, err = call("report", run)
        assert status == 2 and len(err.splitlines()) == 1 and told in err


def test_a_command_leaves_no_folder_of_that_name(home: Path) -> None:
    flags = ["--data.steps", "1", "--data.cache=~/cache"]
    assert fit_here(Path("~/runs"), *flags)[0] == 0
    assert (home / "runs" / "three_tasks" / "results.json").is_file()
    for command in (
        ["export", "--run=~/runs/three_tasks", "--out=~/out.safetensors"],
        ["report", "~/runs/three_tasks"],
    ):
        status, _, err = call(*command)
        assert status == 0, err
    assert (home / "out.safetensors").is_file()
    again = ["--run.name", "again", "--ckpt_path=~/runs/three_tasks/checkpoints/last.ckpt"]
    status, _, err = fit_here(Path("~/runs"), *flags, *again)
    assert status == 0, err
    assert json.loads((home / "runs" / "again" / "results.json").read_text())["complete"]
    assert not list((home.parent / "here").iterdir())
    assert torch.load(home / "runs" / "three_tasks" / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize("spelling", ["runs", "./runs/", "../here/runs", "{absolute}", "link", "~/link"])
def test_a_run_is_found_by_any_name_of_its_root(spelling: str, home: Path, reference: Path) -> None:
    shutil.copytree(reference, Path("runs") / "three_tasks")
    absolute = Path("runs").absolute()
    Path("link").symlink_to(absolute)
    (home / "link").symlink_to(absolute)
    before = sorted(path.name for path in Path.cwd().iterdir())
    status, out, err = call(
        "fit", "--config", str(reference / "config.yaml"), "--run.root", spelling.replace("{absolute}", str(absolute))
    )
    assert status == 0, err
    assert "This run is complete" in out
    assert sorted(path.name for path in Path.cwd().iterdir()) == before
