"""What a user does with a finished run: predict, and take the weights elsewhere."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import gift_lightning
from datamodules import ImageFolderTask
from datamodules.mini import Counting, Flags, Shapes
from datamodules.shard import TestShard
from gift_lightning.__main__ import main
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import L2
from tests.e2e.conftest import CONFIG, call, final_weights, fit_here, read_results


def test_the_loaded_model_has_the_last_row(reference: Path) -> None:
    model = gift_lightning.load(reference)
    assert isinstance(model, L2)
    assert not model.training
    for task, accuracy in zip(
        (Flags(45, 43), Shapes(80, 31), Counting(61, 25)), read_results(reference)["R"][-1], strict=True
    ):
        task.setup()
        images, labels = zip(*task.test_set, strict=True)
        probabilities = model.predict(images, task.class_names, task.templates)
        assert torch.allclose(probabilities.sum(1), torch.ones(len(images)))
        right = (probabilities.argmax(1) == torch.tensor(labels)).float().mean().item()
        assert 100 * right == pytest.approx(accuracy, abs=1e-3)


def test_predict_sees_files_as_a_task_does(reference: Path, tmp_path: Path) -> None:
    model, flags = gift_lightning.load(str(reference)), Flags(10, 1)
    flags.setup()
    exif = Image.Exif()
    exif[0x0112] = 3
    for index, (image, _) in enumerate(flags.train_set):
        path = tmp_path / "train" / ("a" if index % 2 else "b") / str(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        large = image.resize((90, 60))
        large.quantize(9).save(path.with_suffix(".png")) if index < 5 else large.save(
            path.with_suffix(".jpg"), exif=exif
        )
    (tmp_path / "test" / "a").mkdir(parents=True)
    task = ImageFolderTask(str(tmp_path), templates=flags.templates)
    task.setup()
    task.class_names = flags.class_names
    shard = TestShard(task.train_set, model.clip.test_geometry, model.clip.normalize)
    with torch.no_grad():
        expected = model.evaluate(task, shard).softmax(1)
    pictures = [Image.open(tmp_path / path) for path, _ in task.train_set.samples]
    assert torch.equal(model.predict(pictures, flags.class_names, flags.templates), expected)


def test_predict_takes_any_image_and_any_class(reference: Path) -> None:
    model = gift_lightning.load(str(reference))
    images = [Image.new("L", (50, 20)), Image.new("RGBA", (9, 9)), Image.new("P", (64, 64))]
    assert model.predict(images, ["tree", "letter b"]).shape == (3, 2)
    assert model.predict([], ["tree", "letter b"]).shape == (0, 2)
    with pytest.raises(InputError, match=r"images\[0\] has pixels of 32 bits or with a sign"):
        model.predict([Image.new("F", (9, 9))], ["cat"])
    for pictures in (images[0], ["picture.png"], "picture.png"):
        with pytest.raises(InputError, match="images is no list of PIL images"):
            model.predict(pictures, ["cat"])  # type: ignore[arg-type]
    for class_names in ([], "cat"):
        with pytest.raises(InputError, match="class_names is no list of texts"):
            model.predict(images, class_names)
    for templates in ([], "a {}", ["a photo"], ["a {} of {x}"]):
        with pytest.raises(InputError, match="templates is no list of prompts"):
            model.predict(images, ["cat"], templates)


def test_exported_weights_load_in_plain_open_clip(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.safetensors"
    assert main(["export", "--run", str(reference), "--out", str(path)]) == 0
    code = capsys.readouterr().out.split("by\n\n")[1]
    names: dict[str, torch.nn.Module] = {}
    exec(code.replace("\n  ", "\n").strip(), {}, names)  # the lines that it printed
    for name, tensor in final_weights(reference).items():
        assert torch.equal(names["model"].state_dict()[name], tensor), name


def test_an_export_of_a_model_with_a_name_is_one_line(
    tmp_path: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tower = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
    (tmp_path / "tiny-clip.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": tower, "text_cfg": text}))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    start, run = tmp_path / "start.pt", tmp_path / "zero_shot"
    torch.save(open_clip.create_model("tiny-clip").state_dict(), start)
    argv = ["fit", "--config", str(reference / "config.yaml"), "--run.root", str(tmp_path), "--run.name", run.name]
    clip = ["--model.clip.name", "tiny-clip", "--model.clip.pretrained", str(start)]
    assert main([*argv, *clip, "--data.steps", "2", "--model.lr", "1e-3"]) == 0
    out = tmp_path / "out.safetensors"
    assert main(["export", "--run", str(run), "--out", str(out)]) == 0
    assert f"open_clip.create_model_and_transforms('tiny-clip', pretrained='{out}')" in capsys.readouterr().out
    model = open_clip.create_model("tiny-clip", pretrained=str(out))
    ours = gift_lightning.load(run).clip.model.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(model.visual.conv1.weight, torch.load(start)["visual.conv1.weight"])


def test_weights_in_the_place_of_a_tag_keep_its_activation_and_preprocessing() -> None:
    assert CLIPSource("ViT-B-16", "openai").settings() == {"force_quick_gelu": True}
    assert CLIPSource("ViT-B/16", "openai").settings() == {"force_quick_gelu": True}
    assert CLIPSource("ViT-B-16-quickgelu", "openai").settings() == {}
    assert CLIPSource("ViT-B-16", "weights/model.pth").settings() == {"force_quick_gelu": True}
    assert CLIPSource("ViT-B-16", None, "weights/model.pth").settings() == {"force_quick_gelu": True}
    assert CLIPSource("ViT-H-14", "weights/model.pth", origin="laion2b_s32b_b79k").settings() == {}
    assert CLIPSource("local-dir:folder", "weights/model.pth").settings() == {}
    assert CLIPSource("ViT-B-16", "laion2b_s34b_b88k").settings() == {}
    half = (0.5, 0.5, 0.5)
    assert CLIPSource("ViT-L-14", "laion2b_s32b_b82k").settings() == {"image_mean": half, "image_std": half}
    squashed = CLIPSource("ViT-H-14", "dfn5b").settings()
    assert squashed["image_resize_mode"] == "squash"


@pytest.mark.parametrize("flag", ["--weights", "--ckpt_path"])
@pytest.mark.parametrize("form", ["weights of a task", "checkpoint", "dict of the authors"])
def test_weights_are_evaluated(form: str, flag: str, reference: Path, tmp_path: Path) -> None:
    weights = reference / "checkpoints" / "task03.safetensors"
    path = {"checkpoint": reference / "checkpoints" / "last.ckpt", "dict of the authors": tmp_path / "m.pth"}.get(form)
    state = {f"module.{name}": tensor for name, tensor in load_file(weights).items()}
    torch.save({"iteration": 24, "state_dict": state}, tmp_path / "m.pth")
    status, out, err = call("test", "--config", CONFIG, flag, str(path or weights))
    assert status == 0, err
    row = read_results(reference)["R"][-1]
    assert all(f"{accuracy:.2f}" in out for accuracy in row)


def test_weights_and_a_checkpoint_are_not_both_evaluated(reference: Path) -> None:
    path = str(reference / "checkpoints" / "last.ckpt")
    status, _, err = call("test", "--config", CONFIG, "--weights", path, "--ckpt_path", path)
    assert status == 2
    assert "--weights and --ckpt_path both name what to evaluate: give one of them." in err


def _openai_run(root: Path) -> Path:
    """A finished run of one step that began with a small model of OpenAI's kind."""
    tower = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": tower, "text_cfg": text, "quick_gelu": True}
    (root / "small-openai.json").write_text(json.dumps(config))
    open_clip.add_model_config(root / "small-openai.json")
    torch.save({"state_dict": open_clip.create_model("small-openai").state_dict()}, root / "start.pth")
    clip = ["--model.clip.name", "small-openai", "--model.clip.pretrained", str(root / "start.pth")]
    status, _, err = fit_here(root, *clip, "--data.steps", "1", "--model.lr", "1e-3")
    assert status == 0, err
    return root / "three_tasks"


def test_an_export_for_openai_is_loaded_by_its_line_and_comes_back(tmp_path: Path) -> None:
    run, path = _openai_run(tmp_path), tmp_path / "model.pth"
    status, out, err = call("export", "--run", str(run), "--out", str(path))
    assert status == 0, err
    names: dict[str, Any] = {"model": open_clip.create_model("small-openai", load_weights=False)}
    exec(out.split("by\n\n")[1].replace("\n  ", "\n").strip(), {}, names)  # the lines that it printed
    final = final_weights(run)
    assert all(torch.equal(tensor, final[name]) for name, tensor in names["model"].state_dict().items())
    status, out, _ = call("test", "--config", str(run / "config.yaml"), "--weights", str(path))
    assert status == 0
    assert all(f"{accuracy:.2f}" in out for accuracy in read_results(run)["R"][-1])


def test_no_export_for_openai_of_what_it_has_not(reference: Path, tmp_path: Path) -> None:
    status, _, err = call("export", "--run", str(reference), "--out", str(tmp_path / "model.pth"))
    assert status == 2
    assert "OpenAI's code has no such CLIP" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "model.pth").exists()


def _unfinished(run: Path) -> None:
    results = read_results(run)
    (run / "results.json").write_text(json.dumps({**results, "complete": False}))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no run": (shutil.rmtree, "does not exist: name the folder of a run, as runs/quickstart."),
    "unfinished run": (_unfinished, "tasks): wait for its end, or let fit go on with it."),
    "weights deleted": (
        lambda run: (run / "checkpoints" / "task03.safetensors").unlink(),
        "task03.safetensors is missing: restore it, or run again.",
    ),
    "weights cut short": (
        lambda run: (run / "checkpoints" / "task03.safetensors").write_bytes(b"half"),
        "task03.safetensors cannot be read: it is damaged",
    ),
    "config deleted": (lambda run: (run / "config.yaml").unlink(), "config.yaml is missing: restore it"),
    "config cut short": (lambda run: (run / "config.yaml").write_text("model:\n  cl"), "config.yaml is damaged"),
    "config cut within the model": (
        lambda run: (run / "config.yaml").write_text("model:\n  init_args:\n    clip:\n"),
        "config.yaml is damaged",
    ),
    "results cut short": (lambda run: (run / "results.json").write_text("{"), "results.json is not valid JSON"),
    "other results": (
        lambda run: (run / "results.json").write_text("[]"),
        "results.json is damaged (it is not an object): restore it",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_runs_are_told(case: str, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, expected = DAMAGE[case]
    run = shutil.copytree(reference, tmp_path / "run")
    damage(run)
    with pytest.raises(InputError) as error:
        gift_lightning.load(run)
    assert expected in str(error.value)
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "m.safetensors")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and len(told.strip().splitlines()) == 1
    assert ("go on with fit and --ckpt_path last." in told) == (case == "unfinished run")
    assert not (tmp_path / "m.safetensors").exists()


def test_export_to_a_name_without_its_ending(reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--run", str(reference), "--out", "m.pt"]) == 2
    assert "--out is m.pt: end it in .safetensors, or in .pth for OpenAI's code." in capsys.readouterr().err
