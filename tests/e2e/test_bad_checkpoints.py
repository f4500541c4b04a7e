"""What a user can give in the place of a checkpoint, of weights, or of a run, and the sentence told for it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

import gift_lightning
from gift_lightning.errors import InputError
from gift_lightning.tensors import save_checkpoint
from tests.e2e.conftest import CONFIG, call, fit_here, write_vit

CONDU = ["--model", "gift_lightning.methods.ConDU", "--model.lr", "1e-3"]
MOE = ["--model", "gift_lightning.methods.MoEAdapter", "--model.experts", "3", "--model.width", "2"]

FIT = {
    "ConDU for L2": (
        "condu.ckpt",
        [],
        "another model.class_path (gift_lightning.methods.condu.ConDU there,",
    ),
    "L2 for ConDU": ("l2.ckpt", CONDU, "gift_lightning.methods.l2.L2 there, gift_lightning.methods.condu.ConDU here)"),
    "another CLIP": ("vit.ckpt", [], "of a run with another model.init_args.clip.name (local-dir:"),
    "other settings": ("l2.ckpt", ["--model.l2", "7"], "with another model.init_args.l2 (0.1 there, 7.0 here): resume"),
    "accumulated batches": (
        "l2.ckpt",
        ["--trainer.accumulate_grad_batches", "2"],
        "with another trainer.accumulate_grad_batches (1 there, 2 here)",
    ),
    "weights of a task": (
        "task03.safetensors",
        [],
        "holds weights alone, and no progress to resume from: give",
    ),
    "knowledge": ("knowledge.safetensors", CONDU, "holds weights alone, and no progress to resume from"),
    "weights of torch": ("weights.pt", [], "holds weights alone, and no progress to resume from"),
    "wrapped weights": ("wrapped.pt", [], "holds weights alone, and no progress to resume from"),
    "plain Lightning": ("boring.ckpt", [], "was not written by a run of this program: resume from a run's checkpoints"),
    "folder": ("folder", [], "is a folder: name the file in it, such as checkpoints/last.ckpt of a run."),
    "empty file": ("empty.ckpt", [], "cannot be read: it is damaged, or not a checkpoint."),
    "cut file": ("cut.ckpt", [], "cannot be read: it is damaged, or not a checkpoint."),
    "text": ("text.ckpt", [], "cannot be read: it is damaged, or not a checkpoint."),
    "code": ("code.ckpt", [], "cannot be read: it is damaged, or not a checkpoint."),
    "list": ("list.ckpt", [], "is not the checkpoint of a run: give the last.ckpt of a run folder."),
    "home of nobody": (
        "~nobody_of_this_name/last.ckpt",
        [],
        "begins with the home folder of a user who does not",
    ),
    "of an older version, another method": ("old_condu.ckpt", [], "of another CLIP, or of L2 with other settings (it"),
    "of an older version, another CLIP": ("old_vit.ckpt", [], "of another CLIP, or of L2 with other settings ("),
    "of an older version, another seed": ("old_l2.ckpt", ["--seed_everything", "9"], "written with seed 3, the config"),
}

TEST = {
    "folder": ("folder", [], "is a folder: name a file in it."),
    "empty file": ("empty.ckpt", [], "cannot be read: it is damaged, or holds no weights."),
    "text": ("text.ckpt", [], "cannot be read: it is damaged, or holds no weights."),
    "list": ("list.ckpt", [], "holds no weights: give a state dict, plain or under 'state_dict'"),
    "plain Lightning": ("boring.ckpt", [], "does not fit the model: it lacks 79 of 79 tensors"),
    "another CLIP": ("vit.ckpt", [], "does not fit the model: "),
    "knowledge of another method": (
        "knowledge.safetensors",
        [],
        "knowledge beside its weights, which L2 does not use",
    ),
    "knowledge of yet another": ("knowledge.safetensors", MOE, "The state of the run is not of a MoEAdapter"),
    "checkpoint with it": ("condu.ckpt", [], "knowledge beside its weights, which L2 does not use"),
    "home of nobody": (
        "~nobody_of_this_name/last.ckpt",
        [],
        "begins with the home folder of a user who does not",
    ),
}


class Code:
    def __reduce__(self) -> Any:
        return print, ("run",)


@pytest.fixture(scope="module")
def files(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    (folder / "folder").mkdir()
    (folder / "vit").mkdir()
    vit = write_vit(folder / "vit", image_size=32, layers=1, patch_size=16)
    for name, flags in {"condu": CONDU, "vit": ["--model.clip.name", vit, "--model.lr", "1e-3"]}.items():
        assert fit_here(folder, *flags, "--run.name", f"run_{name}", "--data.steps", "1")[0] == 0
        shutil.copy(folder / f"run_{name}" / "checkpoints" / "last.ckpt", folder / f"{name}.ckpt")
    shutil.copy(folder / "run_condu" / "checkpoints" / "knowledge.safetensors", folder)
    shutil.copy(reference / "checkpoints" / "last.ckpt", folder / "l2.ckpt")
    shutil.copy(reference / "checkpoints" / "task03.safetensors", folder)
    for name in ("l2", "condu", "vit"):
        content = torch.load(folder / f"{name}.ckpt", weights_only=True)
        del content["method"], content["callbacks"]["TaskBoundary"]["config"]
        save_checkpoint(content, folder / f"old_{name}.ckpt")
    torch.save(content["state_dict"], folder / "weights.pt")
    torch.save({"state_dict": content["state_dict"], "epoch": 3}, folder / "wrapped.pt")
    trainer = Trainer(
        max_steps=1, logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False
    )
    trainer.fit(BoringModel())
    trainer.save_checkpoint(folder / "boring.ckpt")
    (folder / "empty.ckpt").touch()
    (folder / "cut.ckpt").write_bytes((folder / "l2.ckpt").read_bytes()[:100_000])
    (folder / "text.ckpt").write_text("lr: 3\n")
    torch.save({"state_dict": {}, "x": Code()}, folder / "code.ckpt")
    torch.save([1, 2], folder / "list.ckpt")
    return folder


def assert_one_sentence(status: int, err: str, expected: str) -> None:
    assert status == 2
    assert err.startswith("error: ") and len(err.strip().splitlines()) == 1, err
    assert expected in err


def place(files: Path, name: str) -> str:
    return name if name.startswith("~") else str(files / name)


@pytest.mark.parametrize("case", FIT)
def test_fit_goes_on_from_no_other_run(case: str, files: Path, tmp_path: Path) -> None:
    name, flags, expected = FIT[case]
    flags = [*(["--data.steps", "1"] if "condu" in name or "vit" in name else []), *flags]
    status, _, err = fit_here(tmp_path, *flags, "--ckpt_path", place(files, name))
    assert_one_sentence(status, err, expected)
    assert not (tmp_path / "three_tasks" / "results.json").exists()


def test_the_last_checkpoint_is_of_the_run_asked_for_though_its_results_are_gone(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "three_tasks" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(files / "l2.ckpt", folder / "last.ckpt")
    for flag, value in {"--model.l2": "7", "--model.lr": "5e-2", "--model.weight_decay": "0.5"}.items():
        status, _, err = fit_here(tmp_path, flag, value, "--ckpt_path", "last")
        assert_one_sentence(status, err, f"is of a run with another {flag[2:].replace('.', '.init_args.')}")
    assert not (tmp_path / "three_tasks" / "results.json").exists()


@pytest.mark.parametrize("case", TEST)
def test_what_cannot_be_evaluated_is_told(case: str, files: Path, tmp_path: Path) -> None:
    name, flags, expected = TEST[case]
    status, _, err = call("test", "--config", CONFIG, *flags, "--weights", place(files, name))
    assert_one_sentence(status, err, expected)


def test_a_folder_that_is_no_run_is_neither_loaded_nor_exported(files: Path, reference: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "m.safetensors")
    for folder in (
        files,
        files / "folder",
        files / "vit",
        files / "l2.ckpt",
        files / "nowhere",
        reference.parent,
        reference / "checkpoints",
        reference / "results.json",
        "~nobody_of_this_name/run",
    ):
        status, _, err = call("export", "--run", str(folder), "--out", out)
        expected = "does not exist" if str(folder).startswith("~") else ": name the folder"
        assert_one_sentence(status, err, expected)
        with pytest.raises(InputError, match=expected):
            gift_lightning.load(folder)
    assert not Path(out).exists()


def test_a_checkpoint_goes_on_where_only_the_place_differs(files: Path, reference: Path, tmp_path: Path) -> None:
    flags = ["--data.num_workers", "1", "--run.name", "other", "--model.eval_batch_size", "17"]
    # one more logger of the same kind begins with what comes now
    flags += [
        "--trainer.logger",
        "gift_lightning.records.metrics_csv.MetricsCSV",
        "--trainer.logger.save_dir",
        str(tmp_path / "b"),
    ]
    status, _, err = fit_here(tmp_path, "--ckpt_path", str(files / "l2.ckpt"), *flags)
    assert status == 0, err
    assert (tmp_path / "other" / "results.json").is_file()
    assert (tmp_path / "other" / "metrics.csv").read_text() == (reference / "metrics.csv").read_text()
