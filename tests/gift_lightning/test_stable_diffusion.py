"""A small pipeline in the layout of Stable Diffusion v1.5: its parts, its scheduler, its safety checker."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.mini.generator.text import write_tokenizer
from gift_lightning.generation import COMMITS, STABLE_DIFFUSION, DiffusionGenerator

PROMPTS, SEEDS = ["a red star", "two blue houses"], [3, 4]
PARTS = {
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


def small_parts(vocabulary: int, context: int) -> dict[str, Any]:
    """The models of the pipeline with few random weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    ends = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}
    text = {**tower, **ends, "vocab_size": vocabulary, "max_position_embeddings": context}
    blocks: dict[str, Any] = {"block_out_channels": (8, 16), "norm_num_groups": 4}
    unet = UNet2DConditionModel(
        sample_size=8,
        **blocks,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
    )
    down, up = ["DownEncoderBlock2D"] * 2, ["UpDecoderBlock2D"] * 2
    vae = AutoencoderKL(**blocks, down_block_types=down, up_block_types=up, latent_channels=4, sample_size=16)
    pictures = {**tower, "image_size": 32, "patch_size": 16}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=text, vision_config=pictures, projection_dim=8))
    checker.concept_embeds_weights.data.fill_(-1)  # finds something in every image
    return {"text_encoder": CLIPTextModel(CLIPTextConfig(**text)), "unet": unet, "vae": vae, "safety_checker": checker}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has who downloaded the repository, in small."""
    from transformers import CLIPImageProcessor

    folder = tmp_path_factory.mktemp("hub") / "stable-diffusion-v1-5"
    tokenizer = write_tokenizer(folder / "tokenizer")
    for name, part in small_parts(len(tokenizer), tokenizer.model_max_length).items():
        part.save_pretrained(folder / name)
    CLIPImageProcessor(size=32, crop_size=32).save_pretrained(folder / "feature_extractor")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0", **PARTS}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def drawn(folder: Path, **settings: Any) -> tuple[np.ndarray, Any]:
    generator = DiffusionGenerator(str(folder), **{"batch_size": 2, "device": "cpu", **settings})
    images: list[Image.Image] = generator.generate(PROMPTS, SEEDS)
    return np.stack([np.asarray(image).astype(int) for image in images]), generator._pipeline


def test_fifty_steps_keep_the_scheduler_and_draw_what_diffusers_draws(folder: Path) -> None:
    from diffusers import StableDiffusionPipeline

    ours, pipeline = drawn(folder, steps=50)
    assert type(pipeline).__name__ == "StableDiffusionPipeline"
    assert type(pipeline.scheduler).__name__ == "PNDMScheduler"
    plain = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    noise = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    theirs = plain(PROMPTS, num_inference_steps=50, guidance_scale=7.5, generator=noise).images
    assert (np.stack([np.asarray(image) for image in theirs]) == ours).all()
    assert ours.std() > 5


def test_fewer_steps_are_those_of_dpm_solver(folder: Path) -> None:
    images, pipeline = drawn(folder, steps=49)
    assert type(pipeline.scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert pipeline.scheduler.config.algorithm_type == "dpmsolver++"
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"
    assert (drawn(folder, steps=49, guidance=3.0)[0] != images).any()


def test_the_safety_checker_blackens_nothing(folder: Path) -> None:
    from diffusers import StableDiffusionPipeline

    checked = StableDiffusionPipeline.from_pretrained(folder)(PROMPTS, num_inference_steps=3).images
    assert all(image.getextrema() == ((0, 0),) * 3 for image in checked)
    images, pipeline = drawn(folder, steps=3)
    assert pipeline.safety_checker is None
    assert images.reshape(2, -1).std(axis=1).min() > 5


def test_a_folder_without_safety_checker_is_enough(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("safety_checker", "feature_extractor"))
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    (tmp_path / "copy" / "model_index.json").write_text(json.dumps(index))
    assert (drawn(tmp_path / "copy", steps=3)[0] == drawn(folder, steps=3)[0]).all()


def test_the_default_is_a_fixed_commit() -> None:
    assert DiffusionGenerator().identity()["revision"] == COMMITS[STABLE_DIFFUSION]
    assert DiffusionGenerator(revision="main").identity()["revision"] == "main"
    assert DiffusionGenerator("some-one/something").identity()["revision"] is None
