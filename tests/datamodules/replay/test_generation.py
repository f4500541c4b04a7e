"""Text to image through diffusers: what an image depends on, and what is said about pipelines that cannot be used."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.mini_models.generator.models import new_autoencoder, new_denoiser
from benchmarks.mini_models.generator.text import new_text_encoder, write_tokenizer
from benchmarks.mini_models.generator.train import write_pipeline
from datamodules.replay.diffusion import DiffusionGenerator
from gift_lightning.errors import InputError

PROMPTS = ["a photo of a house", "a photo of a tree", "three stars", "a drawing of a fish", "a photo of a house"]
SEEDS = [5, 6, 7, 2**62 + 1, 9]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder with random weights: it draws something that depends on all that it should depend on."""
    folder = tmp_path_factory.mktemp("pipeline") / "small"
    torch.manual_seed(0)
    autoencoder = new_autoencoder()
    autoencoder.register_to_config(scaling_factor=1.0)
    with torch.no_grad():
        autoencoder.decoder.layers[-1].weight.mul_(40)  # strong colours
    write_pipeline(folder, autoencoder, new_denoiser(), new_text_encoder(), write_tokenizer(folder / "tokenizer"))
    return folder


def generator(folder: Path, **settings: Any) -> DiffusionGenerator:
    return DiffusionGenerator(str(folder), **{"steps": 3, "guidance": 2.0, "batch_size": 5, **settings})


def pixels(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image).astype(int) for image in images])


@pytest.fixture(scope="module")
def drawn(pipeline: Path) -> np.ndarray:
    return pixels(generator(pipeline).generate(PROMPTS, SEEDS))


# --- images -----------------------------------------------------------------------------------------------------------


def test_an_image_follows_from_its_prompt_and_seed(pipeline: Path, drawn: np.ndarray) -> None:
    assert drawn.shape == (5, 32, 32, 3) and drawn.std() > 5
    again = generator(pipeline)
    assert (pixels(again.generate(PROMPTS[::-1], SEEDS[::-1]))[::-1] == drawn).all()
    assert (pixels(again.generate(PROMPTS[2:3], SEEDS[2:3])) == drawn[2:3]).all()
    assert (pixels(again.generate(PROMPTS * 2, SEEDS * 2)) == np.concatenate([drawn, drawn])).all()
    other_prompt, other_seed = pixels(again.generate(["two stars", "three stars"], [7, 8]))
    assert (other_prompt != drawn[2]).any() and (other_seed != drawn[2]).any()
    assert (drawn[0] != drawn[4]).any()


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_another_batch_size_changes_single_levels_at_most(batch_size: int, pipeline: Path, drawn: np.ndarray) -> None:
    difference = np.abs(pixels(generator(pipeline, batch_size=batch_size).generate(PROMPTS, SEEDS)) - drawn)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_the_global_random_state_is_left_alone(pipeline: Path, drawn: np.ndarray) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert (pixels(generator(pipeline).generate(PROMPTS, SEEDS)) == drawn).all()
    assert torch.equal(torch.rand(1), expected)


def test_every_setting_changes_the_images(pipeline: Path, drawn: np.ndarray) -> None:
    for settings in ({"steps": 4}, {"guidance": 3.0}):
        assert (pixels(generator(pipeline, **settings).generate(PROMPTS, SEEDS)) != drawn).any(), settings


def test_released_and_used_again(pipeline: Path, drawn: np.ndarray) -> None:
    used = generator(pipeline)
    used.generate(PROMPTS[:1], SEEDS[:1])
    used.release()
    assert used._pipeline is None
    assert (pixels(used.generate(PROMPTS, SEEDS)) == drawn).all()


def test_another_scheduler_gives_way_to_dpm_solver(pipeline: Path, tmp_path: Path, drawn: np.ndarray) -> None:
    folder = changed(pipeline, tmp_path, lambda copy: use_scheduler(copy, "PNDMScheduler"))
    assert (pixels(generator(folder).generate(PROMPTS, SEEDS)) == drawn).all()


def use_scheduler(folder: Path, name: str) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", name]
    (folder / "model_index.json").write_text(json.dumps(index))
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    kept = ("num_train_timesteps", "beta_schedule", "prediction_type", "timestep_spacing", "steps_offset")
    fewer = {"_class_name": name, **{key: config[key] for key in kept}}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(fewer))


def test_progress_bars_and_warnings_of_the_libraries_are_silent(
    pipeline: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    generator(pipeline).generate(PROMPTS, SEEDS)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


# --- identity ---------------------------------------------------------------------------------------------------------


def test_identity_tells_what_decides_the_images(pipeline: Path, tmp_path: Path) -> None:
    one = generator(pipeline).identity()
    assert json.loads(json.dumps(one)) == one
    assert generator(pipeline, batch_size=9).identity() == one
    assert generator(pipeline, dtype="auto", device="cpu").identity()["dtype"] == "float32"
    assert generator(pipeline, dtype="auto", device="cuda").identity()["dtype"] == "float16"
    for settings in ({"steps": 4}, {"guidance": 3.0}, {"dtype": "bfloat16"}):
        assert generator(pipeline, **settings).identity() != one, settings
    other = changed(pipeline, tmp_path, flip_a_weight)
    assert generator(other).identity()["weights"] != one["weights"]
    copied = changed(pipeline, tmp_path / "copy", lambda folder: (folder / "notes.json").write_text("{}"))
    assert generator(copied).identity() == one  # wherever it lies, and whatever lies beside its parts
    hub = DiffusionGenerator("stable-diffusion-v1-5/stable-diffusion-v1-5", revision="fp16").identity()
    assert (hub["name"], hub["revision"]) == ("stable-diffusion-v1-5/stable-diffusion-v1-5", "fp16")


def flip_a_weight(folder: Path) -> None:
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_pipeline_in_a_package(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(pipeline, tmp_path / "packaged_pipeline")
    (tmp_path / "packaged_pipeline" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    packaged = DiffusionGenerator("package:packaged_pipeline", steps=3, guidance=2.0, batch_size=5)
    plain = generator(pipeline)
    assert (pixels(packaged.generate(PROMPTS, SEEDS)) == pixels(plain.generate(PROMPTS, SEEDS))).all()
    assert packaged.identity()["weights"] == plain.identity()["weights"]


# --- bad input --------------------------------------------------------------------------------------------------------


def changed(pipeline: Path, tmp_path: Path, change: Callable[[Path], Any]) -> Path:
    folder = tmp_path / "changed"
    shutil.copytree(pipeline, folder)
    change(folder)
    return folder


def rename_class(folder: Path, name: str) -> None:
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionPipeline", name))


WEIGHTS = "diffusion_pytorch_model.safetensors"
DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights not downloaded": (lambda folder: (folder / "unet" / WEIGHTS).unlink(), f"it has no unet/{WEIGHTS}."),
    "text encoder not downloaded": (
        lambda folder: (folder / "text_encoder" / "model.safetensors").unlink(),
        "it has no text_encoder/model.safetensors.",
    ),
    "configuration not downloaded": (
        lambda folder: (folder / "vae" / "config.json").unlink(),
        "it has no vae/config.json.",
    ),
    "scheduler not downloaded": (
        lambda folder: (folder / "scheduler" / "scheduler_config.json").unlink(),
        "it has no scheduler/scheduler_config.json.",
    ),
    "a link to nothing": (lambda folder: link_to_nothing(folder / "vae" / WEIGHTS), f"it has no vae/{WEIGHTS}."),
    "tokenizer not downloaded": (
        lambda folder: shutil.rmtree(folder / "tokenizer"),
        "it has no vocabulary in tokenizer/.",
    ),
    "half of the weights": (lambda folder: os.truncate(folder / "unet" / WEIGHTS, 10_000), "cannot be loaded"),
    "half of the text encoder": (
        lambda folder: os.truncate(folder / "text_encoder" / "model.safetensors", 10_000),
        "cannot be loaded",
    ),
    "pickled weights": (
        lambda folder: (folder / "unet" / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin"),
        f"it has no unet/{WEIGHTS} (.bin is not read).",
    ),
    "half of the index": (lambda folder: os.truncate(folder / "model_index.json", 50), "model_index.json is damaged."),
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "is no pipeline of diffusers"),
    "not from text": (lambda folder: rename_class(folder, "DDPMPipeline"), "is no text-to-image pipeline"),
}


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


@pytest.mark.parametrize("case", DAMAGED)
def test_a_pipeline_that_cannot_be_used_is_told_in_one_sentence(case: str, pipeline: Path, tmp_path: Path) -> None:
    damage, expected = DAMAGED[case]
    folder = changed(pipeline, tmp_path, damage)
    with pytest.raises(InputError, match=re.escape(expected)) as told:
        generator(folder).generate(PROMPTS, SEEDS)
    found = generator(folder).files.inspect()
    if found.status != "present":  # what names and sizes tell, doctor and a run say in the same words
        with pytest.raises(InputError, match=re.escape(found.detail)):
            generator(folder).prepare()
        assert str(told.value) == found.detail
    else:
        assert case in ("half of the weights", "half of the text encoder", "not from text")
    assert str(folder) in str(told.value) and "\n" not in str(told.value)
    assert "name" in str(told.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (__file__, "is a single file: write the folder of its pipeline once, as in diffusers.StableDiffusionPip"),
        ("nowhere", "nowhere does not exist; give the folder of a pipeline"),
        ("/no/where", "/no/where does not exist; give the folder of a pipeline"),
        ("package:datamodules.nowhere", "datamodules.nowhere cannot be imported"),
        ("no-one/nothing", "there is no folder no-one/nothing, and it is not whole in the cache of the Hugging"),
    ],
)
def test_a_pipeline_that_is_not_there(name: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        DiffusionGenerator(name).check(PROMPTS)


def test_a_prompt_longer_than_the_text_length_is_named(pipeline: Path) -> None:
    prompt = "a photo of " + ", ".join(["a tree"] * 6)
    with pytest.raises(InputError, match=f"The prompt '{prompt}' has 22 tokens, of which .* reads 16: shorten it"):
        generator(pipeline).generate([*PROMPTS, prompt], [*SEEDS, 1])


@pytest.mark.parametrize("setting", ["steps", "batch_size"])
def test_settings_that_draw_nothing(setting: str) -> None:
    with pytest.raises(InputError, match=f"^{setting} is 0: give at least 1"):
        DiffusionGenerator(**{setting: 0})  # type: ignore[arg-type]
