"""The space of features of a run: one projection of the test images under all its models."""

import csv
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gift_lightning import methods
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.records.feature_map import FeatureMap, ImageOfTask, projected
from gift_lightning.records.page.features import features_section
from gift_lightning.records.page.section import Picture, ReportedRun
from gift_lightning.records.report.feature_panels import plot_feature_map
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs import features
from gift_lightning.runs.load import load
from gift_lightning.tensors import load_tensors, save_tensors
from tests.e2e.conftest import call, read_results, run_command, write_own_images
from tests.e2e.test_methods import command_of

MODELS = ["0 pre-trained", "1 after Flags", "2 after Shapes", "3 after Counting"]

OWN_IMAGES = """
run: {root: .}
model:
  class_path: gift_lightning.methods.ZeroShot
  init_args: {clip: {name: "package:datamodules.mini.clip"}}
data:
  tasks:
    - class_path: datamodules.ImageFolderTask
      init_args: {folder: birds}
trainer: {accelerator: cpu, devices: 1}
"""


def test_a_place_for_each_image_under_each_model(reference: Path, tmp_path: Path) -> None:
    run = shutil.copytree(reference, tmp_path / "run")
    folder = RunFolder.at(run)
    status, out, err = call("features", str(run), "--images", "9")
    assert (status, out) == (0, f"Features: {folder.features_png}\n")
    assert [line.split()[0] for line in err.splitlines()] == ["Reading", *["Features"] * 4, "t-SNE"]
    assert "under model 2 of 4: after Flags" in err and "t-SNE of 108 points" in err
    first = folder.features_csv.read_bytes(), folder.features_png.read_bytes()
    rows = list(csv.DictReader(folder.features_csv.open(newline="")))
    assert [*dict.fromkeys(row["model"] for row in rows)] == MODELS
    assert [*dict.fromkeys(row["task"] for row in rows)] == ["1 Flags", "2 Shapes", "3 Counting"]
    assert len(rows) == 4 * 3 * 9 and len({(row["x"], row["y"]) for row in rows}) > 100
    assert call("features", str(run), "--images", "9")[0] == 0
    assert first == (folder.features_csv.read_bytes(), folder.features_png.read_bytes())
    with Image.open(folder.features_png) as picture:
        assert picture.width > 1000
    section = features_section([ReportedRun("a run", run, read_results(run))])
    assert section is not None and all(isinstance(part, Picture) for part in section.parts)
    assert features_section([ReportedRun("a run", tmp_path, read_results(run))]) is None
    status, _, err = call("features", str(run), "--images", "1")
    assert status == 2 and "at least 2" in err
    status, _, err = call("features", str(tmp_path))
    assert status == 2 and "holds no run" in err


def test_features_are_those_of_the_experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    assert run_command([*command_of("ConDU", tmp_path), "--run.root", str(tmp_path)], log) == 0, log.read_text()
    seen: list[np.ndarray] = []
    monkeypatch.setattr(features, "projected", lambda given, projection: seen.append(given) or given[..., :2])
    found = features.feature_map(RunFolder.at(tmp_path / "run"), 3, print)
    assert found.models == ["pre-trained", "expert of Flags", "expert of Shapes", "expert of Counting"]
    model, start = load(tmp_path / "run"), CLIPSource(name="package:datamodules.mini.clip").load().eval()
    assert isinstance(model, methods.ConDU)
    sequence = features._sequence(RunFolder.at(tmp_path / "run"))
    images = [task.test_set[image.image][0] for image in found.images for task in [sequence.tasks[image.task]]]
    pixels = torch.stack([start.test_transform(image) for image in images])
    with torch.no_grad():
        assert np.allclose(seen[0][0], start.encode_image(pixels).numpy(), atol=1e-5)
        model.reconstruct_expert(2)
        assert np.allclose(seen[0][3], model.clip.encode_image(pixels).numpy(), atol=1e-5)
        assert not np.allclose(seen[0][3], seen[0][0], atol=1e-5)


def refusal(run: Path) -> str:
    """The sentence with which the command refuses a run; it has written nothing."""
    status, out, err = call("features", str(run), "--images", "2")
    sentence = next(line for line in err.splitlines() if line.startswith("error: "))
    assert (status, out) == (2, "") and err.endswith(f"{sentence}\n"), err
    assert not RunFolder.at(run).features_csv.exists()
    return sentence


def test_other_data_than_those_of_the_run_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_own_images(tmp_path)
    (tmp_path / "config.yaml").write_text(OWN_IMAGES)
    log = tmp_path / "log"
    assert run_command(["fit", "--config", "config.yaml"], log) == 0, log.read_text()
    run, image = tmp_path / "run", next((tmp_path / "birds" / "test").glob("*/*.png"))
    assert call("features", str(run), "--images", "3")[0] == 0
    RunFolder.at(run).features_csv.unlink()
    for file in (tmp_path / "birds" / "test").glob("*/*.png"):
        Image.new("RGB", (40, 30), "teal").save(file)
    assert "images of task 'birds' have changed since the run" in refusal(run)
    image.unlink()
    assert "data, prompts or starting weights have changed since the run" in refusal(run)


def broken(name: str) -> Callable[[Path], None]:
    """Replaces the weights after the second task."""

    def replace(run: Path) -> None:
        file = RunFolder.at(run).task_weights(1)
        weights = load_tensors(file)
        first = next(name for name, tensor in weights.items() if tensor.ndim == 2)
        if name == "shape":
            weights[first] = weights[first][1:]
        elif name == "name":
            weights["other"] = weights.pop(first)
        else:
            weights = {name: torch.full_like(tensor, torch.nan) for name, tensor in weights.items()}
        save_tensors(weights, file)

    return replace


def edited(before: str, after: str) -> Callable[[Path], None]:
    """Replaces a text in the config."""

    def replace(run: Path) -> None:
        config = (run / "config.yaml").read_text()
        assert before in config
        (run / "config.yaml").write_text(config.replace(before, after))

    return replace


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (broken("shape"), "task02.safetensors has the weights of another CLIP ("),
        (broken("name"), "task02.safetensors has the weights of another CLIP (it lacks 1 of"),
        (broken("nan"), "The features under model 2 of the run (0 is the pre-trained one) are not finite."),
        (lambda run: RunFolder.at(run).task_weights(0).unlink(), "task01.safetensors is missing"),
        (edited("datamodules.mini.Flags", "datamodules.mini.Flogs"), "there is no class 'datamodules.mini.Flogs'"),
        (edited("datamodules.mini.Flags", "nowhere.Flags"), "no module 'nowhere' is"),
        (edited("test_size: 43", "test_size: 44"), "data, prompts or starting weights have changed since the run"),
        (edited("test_size: 43", "test_sise: 43"), "has no option 'test_sise'"),
    ],
)
def test_a_run_that_was_changed_is_refused(
    change: Callable[[Path], None], sentence: str, reference: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(reference, tmp_path / "run")
    change(run)
    assert sentence in refusal(run)


def test_features_that_t_sne_cannot_project_are_refused() -> None:
    points = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    assert np.isfinite(projected(points[:1, :3])).all()
    same = np.ones_like(points)
    for number in (np.nan, np.inf):
        damaged = points.copy()
        damaged[1, 2, 3] = number
        with pytest.raises(InputError, match=r"model 1 of the run .* are not finite"):
            projected(damaged)
    for few in (points[:1, :1], points[:, :1], points[:1, :2]):
        with pytest.raises(InputError, match="needs 3 points"):
            projected(few)
    for spread in (0, 1e-30, 1e-7):
        with pytest.raises(InputError, match="are the same"):
            projected(same + np.float32(spread) * points)
    same[0, 0, 0] += 1e-5
    assert np.isfinite(projected(same)).all()


def test_umap_is_an_extra(reference: Path) -> None:
    if find_spec("umap") is None:
        status, out, err = call("features", str(reference), "--projection", "umap")
        assert (status, out) == (2, "") and err == 'error: UMAP is not installed: pip install "gift-lightning[umap]".\n'
    status, _, err = call("features", str(reference), "--projection", "pca")
    assert status == 2 and "There is no projection pca: give one of tsne, umap." in err
    pytest.importorskip("umap", reason="UMAP is not installed: it weighs 200 MB")
    points = np.random.default_rng(0).normal(size=(2, 20, 5)).astype(np.float32)
    places = projected(points, "umap")
    assert places.shape == (2, 20, 2) and np.isfinite(places).all() and np.ptp(places) > 1
    assert np.array_equal(places, projected(points, "umap"))
    assert np.isfinite(projected(points[:1, :3], "umap")).all()


def test_a_folder_whose_name_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shutil.copytree(
        Path(__file__).parents[1] / "earlier" / "runs" / "zeroshot", tmp_path / os.fsdecode(b"runs\xff") / "run"
    )
    monkeypatch.chdir(run)
    status, out, err = call("features", ".", "--images", "2")
    assert (status, out.endswith("runs\\udcff/run/features.png\n")) == (0, True), err
    found = FeatureMap(["a\udcff"], ["b\udcff"], [ImageOfTask(0, 0, 0, "c\udcff")] * 3, np.random.rand(1, 3, 2))
    plot_feature_map(run / "other.png", found, "d\udcff")
    assert (run / "features.png").is_file() and (run / "other.png").is_file()


def test_the_points_are_bounded() -> None:
    assert features.default_images(tasks=11, models=12, classes=397) == 100
    for tasks, classes in ((20, 5), (50, 2), (50, 7), (100, 1)):
        images = features.default_images(tasks, tasks + 1, classes)
        assert classes <= images and images * tasks * (tasks + 1) <= 20_200
    assert features.default_images(50, 51, 20) == 20
