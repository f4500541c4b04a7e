"""A small pipeline in the layout of Stable Diffusion v1.5: its parts, its scheduler, its safety checker."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.mini_models.generator.text import write_tokenizer
from datamodules.replay.diffusion import SLICED_PIXELS, DiffusionGenerator, _arrange
from datamodules.replay.pipeline import COMMITS, STABLE_DIFFUSION
from datamodules.replay.pipeline_files import contents_of
from gift_lightning.errors import InputError

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


def test_the_layout_of_a_cuda_device_changes_single_levels_at_most(folder: Path) -> None:
    plain = drawn(folder, steps=3)[0]
    generator = DiffusionGenerator(str(folder), batch_size=2, device="cpu", steps=3)
    pipeline = generator._load()
    _arrange(pipeline, sliced=True)
    assert pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert pipeline.vae.use_slicing and not generator.files.image_bytes() > SLICED_PIXELS
    images = np.stack([np.asarray(image).astype(int) for image in generator.generate(PROMPTS, SEEDS)])
    assert np.abs(images - plain).max() <= 1 and (images != plain).mean() < 0.01


# --- what a folder holds ----------------------------------------------------------------------------------------------


def renamed(variant: str, *parts: str) -> Callable[[Path], None]:
    """Gives weights the name of a variant."""

    def rename(folder: Path) -> None:
        for path in [path for part in parts for path in (folder / part).glob("*.safetensors")]:
            path.rename(path.with_suffix(f".{variant}.safetensors"))

    return rename


def saved_in_pieces(variant: str | None) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        from diffusers import UNet2DConditionModel

        unet = UNet2DConditionModel.from_pretrained(folder / "unet", use_safetensors=True)
        (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        unet.save_pretrained(folder / "unet", variant=variant, max_shard_size="60KB")
        assert len(list((folder / "unet").glob("*-of-*.safetensors"))) > 1

    return save


MODELS = ("text_encoder", "unet", "vae")
VARIANTS: dict[str, Callable[[Path], None]] = {
    "fp16": renamed("fp16", *MODELS),
    "fp16 of one part": renamed("fp16", "unet"),
    "bf16": renamed("bf16", *MODELS),
    "not averaged": renamed("non_ema", "unet"),
    "pieces": saved_in_pieces(None),
    "pieces of a variant": saved_in_pieces("fp16"),
    "other weights beside it": lambda folder: (folder / "unet" / "pytorch_lora_weights.safetensors").touch(),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_weights_are_read_by_whatever_name_they_have(case: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    VARIANTS[case](tmp_path / "copy")
    generator = DiffusionGenerator(str(tmp_path / "copy"))
    generator.prepare()
    assert generator.files.inspect().status == "present"
    assert (drawn(tmp_path / "copy", steps=2)[0] == drawn(folder, steps=2)[0]).all()


def test_usual_weights_are_read_before_variants(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    unet = tmp_path / "copy" / "unet" / "diffusion_pytorch_model.safetensors"
    for variant in ("fp16", "non_ema"):
        unet.with_suffix(f".{variant}.safetensors").write_bytes(b"not read")
    assert (drawn(tmp_path / "copy", steps=2)[0] == drawn(folder, steps=2)[0]).all()
    unet.unlink()
    assert contents_of(tmp_path / "copy").variant == "fp16"


def mixed(folder: Path) -> None:
    renamed("fp16", "unet")(folder)
    renamed("bf16", "vae")(folder)


def without_a_piece(folder: Path) -> None:
    saved_in_pieces("fp16")(folder)
    next((folder / "unet").glob("*-of-*.safetensors")).unlink()


def without_the_index(folder: Path) -> None:
    saved_in_pieces(None)(folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").unlink()


def of_other_weights(folder: Path) -> None:
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_name("pytorch_lora_weights.safetensors"))


@pytest.mark.parametrize("damage", [mixed, without_a_piece, without_the_index, of_other_weights])
def test_weights_that_are_not_whole_are_named_by_doctor_and_by_a_run(
    damage: Callable[[Path], None], folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    damage(tmp_path / "copy")
    generator = DiffusionGenerator(str(tmp_path / "copy"))
    for ask in (generator.prepare, lambda: generator.check(PROMPTS)):
        with pytest.raises(InputError, match=r"it has no unet/diffusion_pytorch_model\.safetensors\.") as told:
            ask()
        assert str(told.value) == generator.files.inspect().detail


def test_a_pipeline_keeps_its_own_scheduler_if_it_is_asked_to(folder: Path) -> None:
    images, pipeline = drawn(folder, steps=4, scheduler="own")
    assert type(pipeline.scheduler).__name__ == "PNDMScheduler"
    usual = drawn(folder, steps=4)
    assert type(usual[1].scheduler).__name__ == "DPMSolverMultistepScheduler" and (images != usual[0]).any()
    identity = DiffusionGenerator(str(folder), steps=4).identity()
    assert identity.keys() == {"weights", "steps", "guidance", "dtype"}  # as in the manifests that there are
    assert DiffusionGenerator(str(folder), steps=4, scheduler="own").identity() == identity | {"scheduler": "own"}
    many = [DiffusionGenerator(str(folder), scheduler=name).identity() for name in ("own", "auto")]  # type: ignore[arg-type]
    assert many[0] == many[1]  # with 50 steps it is the same
