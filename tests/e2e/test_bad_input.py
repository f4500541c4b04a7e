"""What a user can get wrong, and the sentence told for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from tests.e2e.conftest import CONFIG, call, fit_here

ROOT = Path(__file__).parents[2]

FOLDER = "[{class_path: datamodules.ImageFolderTask, init_args: {folder: {bad}/%s}}]"
LONG = ", templates: ['a photo of a {}" + " which is long" * 30 + "']"

REFERENCE = ["--model", "gift_lightning.methods.ZSCL", "--data.replay", "datamodules.Reference"]

BAD_INPUT = {
    "misspelt key": (["--data.stepz", "3"], "--data.stepz is not an option (did you mean '--data.steps'?)."),
    "misspelt argument of a method": (
        ["--model.label_smooting", "0"],
        "model: gift_lightning.methods.L2 has no option 'label_smooting' (did you mean 'label_smoothing'?).",
    ),
    "misspelt method": (
        ["--model", "gift_lightning.methods.Finetun"],
        "model: there is no class 'gift_lightning.methods.Finetun' (did you mean 'Finetune'?).",
    ),
    "misspelt task": (
        ["--data.tasks", "[{class_path: datamodules.mini.Digit}]"],
        "there is no class 'datamodules.mini.Digit' (did you mean 'Digits'?).",
    ),
    "wrong type": (["--data.steps", "many"], "data.steps is 'many', but must be of type int or Literal['epoch']."),
    "word for a number": (["--model.l2", "strong"], "model.l2 is 'strong', but must be of type float."),
    "missing config": (["--config", "nowhere.yaml"], "The config nowhere.yaml does not exist: name a file."),
    "missing weights": (["--model.clip.pretrained", "nowhere.pt"], "model.clip.pretrained 'nowhere.pt' does not exist"),
    "unknown CLIP": (
        ["--model.clip.name", "ViT-B-61"],
        "model.clip.name 'ViT-B-61' is not a model of open_clip (did you mean 'ViT-B-16'?).",
    ),
    "missing checkpoint": (
        ["--ckpt_path", "nowhere.ckpt"],
        "Checkpoint nowhere.ckpt does not exist: give a file, or 'last'.",
    ),
    "batch that does not divide": (
        ["--trainer.accumulate_grad_batches", "3"],
        "data.batch_size 8 does not divide into 1 devices x 3 accumulated batches: choose a multiple of 3.",
    ),
    "empty dataset": (
        ["--data.tasks", "[{class_path: datamodules.mini.Flags, init_args: {train_size: 0}}]"],
        "Task 'Flags' needs training and test images: train_size is 0",
    ),
    "no tasks": (["--data.tasks", "[]"], "data.tasks is empty: name at least one task."),
    "the same task twice": (
        ["--data.tasks", "[datamodules.mini.Flags, datamodules.mini.Flags]"],
        "data.tasks has more than one task named 'Flags': give each task its own name.",
    ),
    "learning rate of an unknown task": (["--model.lr", "{Flaggs: 1e-3}"], "(did you mean 'Flags'?)"),
    "learning rate missing": (["--model.lr", "{Flags: 1e-3}"], "model.lr has no learning rate for task 'Shapes'"),
    "random seed": (["--seed_everything", "true"], "seed_everything is 'true', but must be of type int."),
    "epochs": (["--trainer.max_epochs", "2"], "trainer.max_epochs cannot be set: it follows from data.num_tasks."),
    "steps of the trainer": (["--trainer.max_steps", "2"], "set data.tasks and data.steps instead"),
    "unknown device": (["--trainer.accelerator", "abacus"], "abacus"),
    "negative learning rate": (["--model.lr", "-1"], "model.lr is -1.0: a learning rate cannot be negative."),
    "negative workers": (["--data.num_workers", "-1"], "data.num_workers is -1: give 0"),
    "negative warm-up": (["--model.warmup_steps", "-5"], "model.warmup_steps is -5: it cannot be negative."),
    "no checkpoints": (
        ["--run.checkpoint_every", "0"],
        "run.checkpoint_every is 0: give at least 1",
    ),
    "loaders kept": (["--trainer.reload_dataloaders_every_n_epochs", "0"], "each task has its own loaders"),
    "best checkpoint": (["--ckpt_path", "best"], "Checkpoint best does not exist: give a file, or 'last'."),
    "part of the batches": (["--trainer.limit_train_batches", "0.5"], "do not apply: set data.steps."),
    "label smoothing of 2": (
        ["--model.label_smoothing", "2"],
        "model.label_smoothing is 2.0: give a number from 0 to 1.",
    ),
    "negative penalty": (["--model.l2", "-1"], "model.l2 is -1.0: it cannot be negative."),
    "no steps": (["--data.steps", "0"], "data.steps is 0: give at least 1 optimiser step per task, or 'epoch'."),
    "broken YAML": (["--config", "{bad}/broken.yaml"], "broken.yaml is not valid YAML in line 2: "),
    "YAML without keys": (["--config", "{bad}/list.yaml"], "list.yaml has no keys, as in 'data:': list is no config."),
    "folder as config": (["--config", "{bad}"], "is a folder: name a file."),
    "reference to nothing": (
        ["--run.name", "${run.rot}"],
        "The config refers to ${run.rot}, which does not exist (did you mean 'run.root'?).",
    ),
    "no class": (["--model", ""], "model: name a class by its path, as in gift_lightning.methods.GIFT."),
    "no name of the run": (["--run.name", ""], "run.name is '': give the run a name, as in --run.name first."),
    "weights cut short": (["--model.clip.pretrained", "{bad}/half.safetensors"], "half.safetensors cannot be read: "),
    "weights of another model": (
        ["--model.clip.pretrained", "{bad}/other.safetensors"],
        "other.safetensors does not fit the model: it lacks 79 of 79 tensors, the first is positional_embedding; give",
    ),
    "checkpoint cut short": (["--ckpt_path", "{bad}/half.ckpt"], "cannot be read: it is damaged, or not a checkpoint."),
    "folder that is no model": (
        ["--model.clip.name", "local-dir:{bad}"],
        "but {bad}/open_clip_config.json does not exist.",
    ),
    "folder without images": (["--data.tasks", FOLDER % "nowhere"], "bad/nowhere does not exist"),
    "class without images": (["--data.tasks", FOLDER % "hollow"], "train/bee holds no images: add some or remove it"),
    "one class": (["--data.tasks", FOLDER % "one"], "Task 'one' has 1 class names: give at least two."),
    "image that does not decode": (
        ["--data.tasks", FOLDER % "torn", "--model.lr", "1e-3", "--model.warmup_steps", "0"],
        ".png is not an image: replace it, or remove it before a run begins.",
    ),
    "prompt too long": (
        ["--data.tasks", FOLDER % ("whole" + LONG), "--model.lr", "1e-3"],
        "is longer than the text that the CLIP reads: shorten the class name or the template.",
    ),
    "template without a place": (
        ["--data.tasks", FOLDER % "whole, templates: [a photo]"],
        "Task 'whole' needs templates with one {} for the class name, not ['a photo'].",
    ),
    "run folder that cannot be made": (["--run.root", "{bad}/half.ckpt"], "half.ckpt is a file, not a folder."),
    "misspelt logger": (
        ["--trainer.logger", "gift_lightning.records.SequenceWandbLoger"],
        "there is no class 'gift_lightning.records.SequenceWandbLoger' (did you mean 'SequenceWandbLogger'?).",
    ),
    "replay without images": (
        ["--model", "gift_lightning.methods.GIFT"],
        "GIFT replays image-text pairs: say with data.replay where they are.",
    ),
    "images for a method without replay": (
        ["--data.replay", "datamodules.mini.GeneralReference"],
        "L2 does not replay: remove data.replay.",
    ),
    "reference images that are not there": (
        [*REFERENCE, "--data.replay.images", "{bad}/nowhere"],
        "data.replay.images: {bad}/nowhere does not exist: give a folder of images",
    ),
    "reference folder without images": (
        [*REFERENCE, "--data.replay.images", "{bad}/hollow/train/bee"],
        "data.replay.images: there are no images in {bad}/hollow/train/bee",
    ),
    "folder above train and test": (
        [*REFERENCE, "--data.replay.images", "{bad}/hollow"],
        "has the folders test and train: name the one to take, e.g. {bad}/hollow/train",
    ),
    "misspelt sentences": (
        [*REFERENCE, "--data.replay.images", "{bad}/whole", "--data.replay.sentences", "clases"],
        "data.replay.sentences is 'clases': give 'classes', 'imagenet', 'random', a .txt or .tsv file, or a list",
    ),
    "no sentences in the file": (
        [*REFERENCE, "--data.replay.images", "{bad}/whole", "--data.replay.sentences", "{bad}/empty.txt"],
        "data.replay.sentences: {bad}/empty.txt holds no sentences: give one a line",
    ),
    "images of another method": (
        ["--model", "gift_lightning.methods.LwF", *REFERENCE[2:], "--data.replay.images", "{bad}/whole"],
        "LwF replays other images than those of Reference: set data.replay to datamodules.CurrentTask.",
    ),
}


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files and folders with something amiss."""
    folder = tmp_path_factory.mktemp("files") / "bad"
    folder.mkdir()
    (folder / "broken.yaml").write_text("model: [\n")
    (folder / "empty.txt").write_text("\n\n")
    (folder / "list.yaml").write_text("- data\n")
    (folder / "half.safetensors").write_bytes(b"half")
    (folder / "half.ckpt").write_bytes(b"half")
    save_file({"x": torch.zeros(1)}, folder / "other.safetensors")
    images = ["hollow/train/ant/0.png", "hollow/test/ant/0.png"]
    images += [
        f"{task}/{name}/{index}.png" for task in ("torn", "whole") for name in ("ant", "bee") for index in (0, 1)
    ]
    for shade, name in enumerate([*images, "one/ant/0.png", "one/ant/1.png"]):  # no two alike: of those a note tells
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (shade, 0, 0)).save(folder / name)
    (folder / "hollow" / "train" / "bee").mkdir()
    for name in ("0.png", "1.png"):
        (folder / "torn" / "bee" / name).write_bytes(b"no image " + name.encode())
    return folder


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_sentence(case: str, bad: Path, tmp_path: Path) -> None:
    flags, expected = BAD_INPUT[case]
    flags, expected = [flag.replace("{bad}", str(bad)) for flag in flags], expected.replace("{bad}", str(bad))
    status, _, err = fit_here(tmp_path, *flags)
    assert status == 2
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert expected in err
    assert not (tmp_path / "three_tasks" / "results.json").exists()


def test_a_broken_reference_image_is_replaced_and_the_run_goes_on(tmp_path: Path) -> None:
    for name in ("ant/0.png", "bee/0.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "images" / name)
    broken = tmp_path / "images" / "bee" / "0.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"no image")
    flags = [*REFERENCE, "--data.replay.images", str(tmp_path / "images"), "--data.replay.batch_size", "4"]
    status, _, err = fit_here(tmp_path, *flags)
    assert status == 2
    assert f"{broken} is not an image: replace it" in err
    broken.write_bytes(whole)
    assert fit_here(tmp_path, *flags, "--ckpt_path", "last")[0] == 0


def test_debug_shows_what_lies_behind_the_sentence(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="stepz"):
        fit_here(tmp_path, "--data.stepz", "3", "--debug")


def test_checkpoint_of_another_sequence(reference: Path, tmp_path: Path) -> None:
    path = str(reference / "checkpoints" / "last.ckpt")
    shorter = "[{class_path: datamodules.mini.Flags, init_args: {train_size: 45, test_size: 43}}]"
    status, _, err = fit_here(tmp_path, "--ckpt_path", path, "--data.tasks", shorter)
    assert status == 2
    assert "is of a run with another data.tasks.1.class_path (datamodules.mini.tasks.Shapes there, None here)" in err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--data.steps", "4"], "is of a run with another data.steps (epoch there, 4 here)"),
        (["--seed_everything", "4"], "is of a run with another seed_everything (3 there, 4 here)"),
        (["--data.batch_size", "4"], "is of a run with another data.batch_size (8 there, 4 here)"),
        (["--model.label_smoothing", "0.3"], "another model.init_args.label_smoothing (0.2 there, 0.3 here)"),
    ],
)
def test_checkpoint_of_another_training_stream(flags: list[str], told: str, reference: Path, tmp_path: Path) -> None:
    status, _, err = fit_here(tmp_path, "--ckpt_path", str(reference / "checkpoints" / "last.ckpt"), *flags)
    assert status == 2
    assert told in err


def test_weights_that_are_not_finite_never_replace_a_checkpoint(tmp_path: Path) -> None:
    status, _, err = fit_here(tmp_path, "--model.lr", "1e30", "--trainer.log_every_n_steps", "1000")
    assert status == 2
    assert "not finite" in err or "no longer finite" in err
    weights = torch.load(tmp_path / "three_tasks" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(weight.isfinite().all() for weight in weights.values())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_damaged_checkpoint(content: bytes, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(content)
    status, _, err = fit_here(tmp_path, "--ckpt_path", str(damaged))
    assert status == 2
    assert f"Checkpoint {damaged} cannot be read" in err.replace("\n", "")


def test_weights_of_another_model(reference: Path, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    status, _, err = call("test", "--config", CONFIG, "--ckpt_path", str(tmp_path / "other.safetensors"))
    assert status == 2
    assert "does not fit the model" in err


def test_nothing_to_run() -> None:
    status, _, err = call("fit")
    assert status == 2
    assert "give a config, as in --config conf/quickstart.yaml" in err


def test_explicit_checkpoint_goes_on_in_another_folder(reference: Path, tmp_path: Path) -> None:
    path = str(reference / "checkpoints" / "last.ckpt")
    assert fit_here(tmp_path, "--ckpt_path", path, "--data.num_workers", "1", "--run.name", "other")[0] == 0
    config = yaml.safe_load((tmp_path / "other" / "config.yaml").read_text())
    assert config["data"]["num_workers"] == 1
    assert (tmp_path / "other" / "results.json").is_file()


def test_no_command() -> None:
    status, _, err = call()
    assert status == 2
    assert "Name a command, one of fit, test" in err
    status, _, err = call("--data.steps=3")
    assert status == 2 and "Name a command first, one of fit, test" in err


def test_folder_that_hides_a_package(tmp_path: Path) -> None:
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "__init__.py").touch()
    command = [sys.executable, "-m", "gift_lightning", "fit", "--config", CONFIG]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "hides the package 'callbacks' of gift-lightning: run from another folder." in done.stderr
