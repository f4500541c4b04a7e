"""Names of tasks, classes and runs: what no name may be is one sentence, and any other comes through a whole run."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import ZeroShot
from tests.e2e.conftest import CONFIG, call, fit_here, kill_at, read_results


def task(name: str, more: str = "") -> str:
    init = f"folder: '{{place}}/{name}'" + (f", {more}" if more else "")
    return f"{{class_path: datamodules.ImageFolderTask, init_args: {{{init}}}}}"


def tasks(*flags: str) -> list[str]:
    return ["--data.tasks", f"[{', '.join(flags)}]", "--model.lr", "1e-3"]


SHORT = "give it a short name, which folders can have."
BAD_NAMES = {
    "a task outside of its folder": (
        tasks(task("x", "name: ../../x")),
        f"The name '../../x' of a task is a path that may lead elsewhere: {SHORT}",
    ),
    "a task with an absolute path": (
        tasks(task("x", "name: /tmp/x")),
        "The name '/tmp/x' of a task is a path that may lead",
    ),
    "a task that leads back": (
        tasks(task("x", "name: a/../../b")),
        "The name 'a/../../b' of a task is a path that may",
    ),
    "a task with a backslash": (
        tasks(task("x", "name: '..\\b'")),
        "The name '..\\\\b' of a task is a path that may lead",
    ),
    "a task that is the folder above": (tasks(task("x", "name: '..'")), "The name '..' of a task is a path that may"),
    "a task without a name": (tasks(task("x", "name: ''")), "The name '' of a task is empty"),
    "a task of two lines": (tasks(task("x", 'name: "a\\nb"')), "The name 'a\\nb' of a task has a line break, a tab or"),
    "a task with a colour": (tasks(task("x", 'name: "\\e[31ma"')), "The name '\\x1b[31ma' of a task has a line break"),
    "a task with a long name": (tasks(task("x", f"name: {'鳥' * 70}")), f"of a task is longer than 200 bytes: {SHORT}"),
    "tasks that differ in case": (
        tasks(task("x"), task("y", "name: X")),
        "data.tasks has tasks named 'x' and 'X', which some file systems take for the same: give each task its",
    ),
    "tasks that some file systems do not tell apart": (
        tasks(task("x", "name: Strasse"), task("y", "name: Straße")),
        "data.tasks has tasks named 'Strasse' and 'Straße', which some file systems take for the same: give each task",
    ),
    "an empty class name": (
        tasks(task("x", "class_names: {ant: ''}")),
        "Task 'x': the name '' of the class in folder 'ant' is empty: rename the folder, or name the class",
    ),
    "a class name of spaces": (tasks(task("x", "class_names: {ant: '  '}")), "in folder 'ant' is empty: rename"),
    "a folder that is no name": (tasks(task("blank")), "the name ' ' of the class in folder '_' is empty: rename the"),
    "a class name of two lines": (
        tasks(task("x", 'class_names: {ant: "a\\tb"}')),
        "the name 'a\\tb' of the class in folder 'ant' has a line break, a tab or another control character: rename",
    ),
    "an empty name in a file": (
        tasks(task("x", "class_names: {place}/names.yaml")),
        "names.yaml needs lines 'folder: class name', and no others",
    ),
    "a key that is no folder": (
        tasks(task("x", "class_names: {2024: year}")),
        "Task 'x': class_names has a class '2024' without a folder",
    ),
    "a learning rate for no task": (
        [*tasks(task("x")), "--model.lr", "{2024: 1e-3}"],
        "model.lr names a task '2024' that is not in the sequence.",
    ),
    "names in a folder": (tasks(task("x", "class_names: {place}/x")), "place/x cannot be read as YAML: "),
    "names in brackets": (tasks(task("x", "class_names: {place}/deep.yaml")), "deep.yaml cannot be read as YAML: "),
    "two classes that differ in case": (
        tasks(task("x", "class_names: {ant: Bee}")),
        "Task 'x': two classes are called 'Bee' and 'bee', which differ only in case: give them other class_names",
    ),
    "a folder that is not UTF-8": (tasks(task("\udcff")), "is not UTF-8 text: rename the file or folder."),
    "a task that is not UTF-8": (tasks(task("link")), "The name 'bytes\\udcff' of a task is not UTF-8 text"),
    "a class that is not UTF-8": (
        tasks(task("bytes")),
        "Task 'bytes': the name 'caf\\udce9' of the class in folder 'caf\\udce9' is not UTF-8 text: rename the",
    ),
    "a run outside of its root": (
        ["--run.name", "../x"],
        "run.name is '../x': give the name of a folder below run.root",
    ),
    "a run far outside": (
        ["--run.name", "a/../../x"],
        "run.name is 'a/../../x': give the name of a folder below run.root",
    ),
    "a run with an absolute path": (["--run.name", "/x"], "run.name is '/x': give the name of a folder below run.root"),
    "a run at home": (["--run.name", "~/x"], "run.name is '~/x': give the name of a folder below run.root"),
    "a run of two lines": (["--run.name", "a\nb"], "run.name is 'a\\nb': give the name of a folder below run.root"),
    "a run that is not UTF-8": (
        ["--run.name", "\udcff"],
        "The argument '\\udcff' is not UTF-8 text: rename the file",
    ),
    "validation images twice": (
        tasks(task("splits")),
        "has Val and valid, which are the same split: merge or remove one",
    ),
    "a split or a class": (
        tasks(task("vehicles")),
        "vehicles/train may be a split, without a folder 'test' beside it",
    ),
    "images without classes": (tasks(task("flat")), "test and train in {place}/flat hold images and no folders"),
}


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of images that can be learned, but for their names."""
    folder = tmp_path_factory.mktemp("names") / "place"
    kinds = {
        **{name: ["ant", "bee"] for name in ("x", "y", "bytes\udcff")},
        "blank": ["_", "bee"],
        "truth": ["yes", "true"],
        "bytes": ["ant", "caf\udce9"],
        "flat": ["train", "test"],
        "splits": [f"{split}/{name}" for split in ("train", "Val", "valid") for name in ("ant", "bee")],
        "vehicles": ["train/ice", "train/tgv", "bus"],
    }
    for number, (name, classes) in enumerate(kinds.items()):
        for label, each in enumerate(classes):
            path = folder / name / each
            path.mkdir(parents=True)
            for index in range(2):
                Image.new("RGB", (32, 32), (number, 90 * label, index)).save(os.fsencode(path / f"{index}.png"))
    (folder / "names.yaml").write_text("ant:\n")
    (folder / "deep.yaml").write_text("[" * 10_000)
    (folder / "link").symlink_to(folder / "bytes\udcff")
    return folder


@pytest.mark.parametrize("case", BAD_NAMES)
def test_what_is_no_name_gets_one_sentence(case: str, place: Path, tmp_path: Path) -> None:
    flags, expected = BAD_NAMES[case]
    status, _, err = fit_here(tmp_path, *[flag.replace("{place}", str(place)) for flag in flags])
    assert status == 2
    assert err.startswith("error: ") and len(err.strip().splitlines()) == 1
    assert expected.replace("{place}", str(place)) in err
    assert not list(tmp_path.rglob("results.json"))


FOLDERS = ["birds [v2]", "Ba$$in", "鳥"]
ODD = ["birds [/web]", "Ba$$in *|* `x^2`", "鳥 :bird: ~"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """Three tasks whose names are markup for whatever shows them, and the flags of their run."""
    root, shade = tmp_path_factory.mktemp("odd"), 0
    for name in FOLDERS:
        for each in ("[red]", "a_b$", "0"):
            (root / name / each).mkdir(parents=True)
            for index in range(3):
                shade += 1
                Image.new("RGB", (32, 32), (shade, 9, 200 - shade)).save(root / name / each / f"{index}.png")
    names = {"class_names": {0: "nought"}}
    init = [
        {"folder": str(root / folder), "name": name, "templates": ["{}"], **names}
        for folder, name in zip(FOLDERS, ODD, strict=True)
    ]
    config = {
        "model": {"init_args": {"lr": dict.fromkeys(ODD, 1e-3), "warmup_steps": 0}},
        "data": {
            "tasks": [{"class_path": "datamodules.ImageFolderTask", "init_args": each} for each in init],
            "steps": 2,
        },
    }
    (root / "odd.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
    yield root, ["--config", str(root / "odd.yaml"), "--data.label_space", "seen"]


def test_names_that_are_markup_come_through_a_run_that_is_killed(
    odd: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, flags = odd
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # the bar is drawn
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb = [
        "--trainer.logger",
        "gift_lightning.records.wandb_logger.SequenceWandbLogger",
        "--trainer.logger.save_dir",
        str(root / "w"),
    ]
    stop = [*kill_at("step", 3), "--trainer.callbacks.signal_number", "2"]
    status, out, err = fit_here(root, *flags, *wandb, *stop)
    assert status == 130, err
    status, out, err = fit_here(root, *flags, *wandb, "--ckpt_path", "last")
    assert status == 0, err
    assert all(f"task {number}/3 {name}" in out for number, name in enumerate(ODD, 1) if number > 1)
    assert all(name in out for name in ODD) and "nought" in err
    results = read_results(root / "three_tasks")
    assert results["complete"] and results["tasks"] == ODD
    with open(root / "three_tasks" / "metrics.csv", newline="", encoding="utf-8") as file:
        assert {f"cl/accuracy/{name}" for name in ODD} <= set(csv.DictReader(file).fieldnames or ())
    status, out, err = call("test", "--config", CONFIG, *flags, "--run.root", str(root), "--ckpt_path", "last")
    assert status == 0 and all(f" {name} " in out for name in ODD), err


def test_doctor_tells_what_a_run_would_tell(odd: tuple[Path, list[str]]) -> None:
    root, flags = odd
    (root / FOLDERS[0] / "0" / "notes.txt").touch()
    status, out, err = call("doctor", "--config", CONFIG, *flags, "--run.root", str(root / "other"))
    assert status == 0 and all(name in out for name in ODD)
    passed = "1 file is not taken as an image, by the end of its name: 1 .txt"
    assert f"note: Task '{ODD[0]}': {passed}; the first one is {root}" in err
    assert "note: 'nought', '[red]', 'a b$': a class of several tasks" in err


def test_predict_takes_names_as_an_array() -> None:
    model, images = ZeroShot(clip=CLIPSource(name="package:datamodules.mini.clip")), [Image.new("RGB", (9, 9), "red")]
    plain = model.predict(images, ["tree", "letter b"], ["a {}"])
    for names in (np.array(["tree", "letter b"]), np.array(["tree", "letter b"], dtype=object), ("tree", "letter b")):
        assert model.predict(images, names, np.array(["a {}"])).equal(plain)
    for wrong in (
        np.array([1, 2]),
        np.array([["tree"]]),
        {"tree", "letter b"},
        {"tree": 0},
        [b"tree"],
        None,
        7,
        np.array([]),
    ):
        with pytest.raises(InputError, match="class_names is no list of texts"):
            model.predict(images, wrong)  # type: ignore[arg-type]
    for wrong in ("", " ", "a\nb", "\udcff"):
        with pytest.raises(InputError, match="class_names has a name "):
            model.predict(images, ["tree", wrong])
