"""The generator: its text side is the small CLIP's, its training can stop anywhere, its folder is one of diffusers."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.mini_models.card import TASKS
from benchmarks.mini_models.generator import train
from benchmarks.mini_models.generator.models import new_autoencoder, new_denoiser
from benchmarks.mini_models.generator.text import CONTEXT, Conditions, new_text_encoder, write_tokenizer
from datamodules.mini.prompts import general_prompts
from gift_lightning.clip.model import CLIP
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.files import read_json

PROMPTS = [*general_prompts(), *(prompt for task in TASKS for prompt in task(train_size=1).training_prompts())]


@pytest.fixture(scope="module")
def clip() -> CLIP:
    return CLIPSource("package:datamodules.mini.clip").load().eval()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def text_encoder() -> Any:
    return new_text_encoder()


def padded(tokenizer: Any, prompts: list[str]) -> torch.Tensor:
    """As the pipeline asks for them."""
    return tokenizer(
        prompts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids


def assert_ids_of_clip(tokenizer: Any, clip: CLIP) -> None:
    prompts = [*PROMPTS, "", "Zwölf unknown words, 3 signs!", "a star " * 20]
    theirs, ours = clip.tokenizer(prompts), padded(tokenizer, prompts)
    end = int(theirs.max())
    assert ours.shape == theirs.shape == (len(prompts), CONTEXT)
    assert torch.equal(ours, torch.where(theirs == 0, end, theirs))  # only the padding differs
    assert (ours == end).any(1).all()


def test_prompts_have_the_ids_of_the_small_clip(tokenizer: Any, clip: CLIP) -> None:
    assert_ids_of_clip(tokenizer, clip)


@torch.no_grad()
def test_text_features_are_those_of_the_small_clip(tokenizer: Any, text_encoder: Any, clip: CLIP) -> None:
    encoded = text_encoder(padded(tokenizer, PROMPTS))
    features = torch.nn.functional.normalize(encoded.pooler_output @ clip.model.text_projection, dim=-1)
    assert torch.allclose(features, clip.encode_text(clip.tokenize(PROMPTS)), atol=1e-6, rtol=0)
    assert torch.equal(
        Conditions(tokenizer, text_encoder)(PROMPTS[:3]), text_encoder(padded(tokenizer, PROMPTS[:3]))[0]
    )


def test_the_denoiser_sees_the_prompt_in_its_attention_and_beside_the_timestep() -> None:
    denoiser = new_denoiser()
    assert denoiser.add_embedding is not None and denoiser.config.cross_attention_dim == 128
    assert new_autoencoder().encoder(torch.zeros(2, 3, 32, 32)).shape == (2, denoiser.config.in_channels, 8, 8)


def train_autoencoder(snapshot: Path, steps: int) -> list[torch.Tensor]:
    return list(train.train_autoencoder(steps, seed=1, batch=2, snapshot=snapshot)[0].parameters())


def train_denoiser(snapshot: Path, steps: int, text: Conditions) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return train.train_denoiser(steps, 1, 2, snapshot, new_autoencoder(), text).weights


@pytest.mark.parametrize("stage", ["autoencoder", "denoiser"])
def test_a_stopped_run_goes_on_where_it_was(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Any, text_encoder: Any
) -> None:
    text = Conditions(tokenizer, text_encoder)
    run: Callable[[Path, int], list[torch.Tensor]] = (
        train_autoencoder if stage == "autoencoder" else lambda path, steps: train_denoiser(path, steps, text)
    )
    monkeypatch.setattr(train, "_SNAPSHOT_SECONDS", 0)
    monkeypatch.setattr(train, "TIDY_FROM", 3)  # the loss changes on the way
    straight = run(tmp_path / "straight.pt", 6)
    real, seen = train.Stage.update, itertools.count()

    def stop_in_the_sixth(*args: Any) -> None:
        if next(seen) == 5:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(train.Stage, "update", stop_in_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped.pt", 6)
    monkeypatch.setattr(train.Stage, "update", real)
    with pytest.raises(InputError, match="already falls"):
        run(tmp_path / "stopped.pt", 7)
    assert_equal(straight, run(tmp_path / "stopped.pt", 6))


def assert_equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_batches_follow_from_the_seed_and_the_step() -> None:
    block = train._BLOCK
    changing = {0: train.STYLES, block: train.TIDY_STYLES}
    straight = list(train.batches(0, 0, 2 * block, 2, changing))
    later = list(train.batches(0, block + 3, 2 * block, 2, changing))
    for (images, captions), (again, told_again) in zip(straight[block + 3 :], later, strict=True):
        assert torch.equal(images, again) and captions == told_again
    untidy = list(train.batches(0, 0, 2 * block, 2, {0: train.STYLES}))
    assert [torch.equal(a[0], b[0]) for a, b in zip(straight, untidy, strict=True)] == [True] * block + [False] * block
    assert not any(start % block for start in train.STYLES_FROM)


def test_command_makes_a_pipeline_folder(tmp_path: Path, clip: CLIP) -> None:
    from diffusers import StableDiffusionPipeline

    out = tmp_path / "model"
    sizes = ["--steps", "2", "--autoencoder-steps", "2", "--batch-size", "2"]
    train.main([*sizes, "--work", str(tmp_path / "work"), "--out", str(out)])
    pipeline = StableDiffusionPipeline.from_pretrained(out, safety_checker=None)
    assert {next(part.parameters()).dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {
        torch.float32
    }
    assert_ids_of_clip(pipeline.tokenizer, clip)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(PROMPTS[:2], num_inference_steps=2, guidance_scale=2.0).images
    assert [image.size for image in drawn] == [(32, 32)] * 2
    assert read_json(out / "training.json")["steps"] == 2
