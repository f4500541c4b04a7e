"""The space of features of a run: one projection of the test images under all its models."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gift_lightning import methods
from gift_lightning.clip.source import CLIPSource
from gift_lightning.records.page.features import features_section
from gift_lightning.records.page.section import Picture, ReportedRun
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs import features
from gift_lightning.runs.load import load
from tests.e2e.conftest import call, read_results, run_command
from tests.e2e.test_methods import command_of

MODELS = ["0 pre-trained", "1 after Flags", "2 after Shapes", "3 after Counting"]


def test_a_place_for_each_image_under_each_model(reference: Path, tmp_path: Path) -> None:
    run = shutil.copytree(reference, tmp_path / "run")
    folder = RunFolder.at(run)
    assert call("features", str(run), "--images", "9") == (0, f"Features: {folder.features_png}\n", "")
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
    assert features_section([ReportedRun("a run", tmp_path, {})]) is None
    status, _, err = call("features", str(run), "--images", "1")
    assert status == 2 and "at least 2" in err
    status, _, err = call("features", str(tmp_path))
    assert status == 2 and "holds no run" in err


def test_features_are_those_of_the_experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    assert run_command([*command_of("ConDU", tmp_path), "--run.root", str(tmp_path)], log) == 0, log.read_text()
    seen: list[np.ndarray] = []
    monkeypatch.setattr(features, "projected", lambda given: seen.append(given) or given[..., :2])
    found = features.feature_map(RunFolder.at(tmp_path / "run"), 3)
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
