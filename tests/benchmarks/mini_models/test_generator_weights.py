"""The generator as it is shipped: small, safe, and able to draw what it is asked for."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks.mini_models.generator.card import HEADS, rows
from benchmarks.mini_models.generator.fidelity import PACKAGED, recognised, sample
from benchmarks.mini_models.generator.judges import ClipJudge
from datamodules.mini.generator import FOLDER
from datamodules.replay.diffusion import DiffusionGenerator
from gift_lightning.files import read_json

CONFIG = Path(__file__).parents[3] / "conf" / "mini" / "gift.yaml"
BAR = 65.0
"""Fidelity in percent that both judges find, averaged over kinds."""

pytestmark = pytest.mark.skipif(
    not (FOLDER / "training.json").exists(), reason="the generator's weights are not there yet"
)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return read_json(FOLDER / "fidelity.json")


@pytest.fixture(scope="module")
def generator() -> DiffusionGenerator:
    settings = yaml.safe_load(CONFIG.read_text())["data"]["replay"]["init_args"]["generator"]["init_args"]
    assert settings["name"] == PACKAGED
    return DiffusionGenerator(**settings)


def test_the_folder_is_small_and_holds_no_pickle() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 8e6
    assert {path.suffix for path in files} <= {".py", ".json", ".txt", ".md", ".png", ".safetensors"}
    weights = {path.relative_to(FOLDER).as_posix() for path in files if path.suffix == ".safetensors"}
    assert weights == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }


def test_diffusers_loads_the_folder_as_it_is() -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(FOLDER, safety_checker=None)
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    assert {parameter.dtype for part in parts for parameter in part.parameters()} == {torch.float32}
    pipeline.set_progress_bar_config(disable=True)
    (image,) = pipeline("a photo of a butterfly", num_inference_steps=2, guidance_scale=2.0).images
    assert image.size == (32, 32) and np.asarray(image).std() > 5


def test_the_small_clip_recognises_what_it_draws(generator: DiffusionGenerator, found: dict[str, Any]) -> None:
    shares = recognised(ClipJudge(), sample(generator, per_class=2)[0])
    assert shares["mean"] == pytest.approx(found["generator"]["CLIP"]["mean"], abs=8)  # two samples of a class only


def test_both_judges_recognise_enough_of_every_kind(found: dict[str, Any]) -> None:
    for judge in ("CLIP", "classifier"):
        assert found["generator"][judge]["mean"] >= BAR
        for kind, share in found["generator"][judge].items():
            assert share > 2 * found["chance"][kind], (judge, kind)


def test_card_tells_what_was_measured_with_the_settings_of_gift(
    found: dict[str, Any], generator: DiffusionGenerator
) -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert " | ".join(HEADS) in card
    for row in rows(found):
        assert f"| {' | '.join(row)} |" in card
    assert (found["identity"]["steps"], found["identity"]["guidance"]) == (generator.steps, generator.guidance)
    told = re.search(r"num_inference_steps=(\d+), guidance_scale=([\d.]+)", card)
    assert told and (int(told[1]), float(told[2])) == (generator.steps, generator.guidance)
