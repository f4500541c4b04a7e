"""CLIP: exact shortcuts compared with open_clip's own long way, and every way to name a model wrongly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from gift_lightning.clip.model import TEXT_BATCH
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError

MINI = "package:datamodules.mini.clip"
TEXTS = ["a cat", "a photo of the red house on a hill, seen from far away", "", "blue " * 100]
TEMPLATES = ["a photo of a {}", "the {}", "{}, seen from above"]
VIT = {"image_size": 32, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "patch_size": None}
TEXT = {"width": 16, "heads": 2, "layers": 2}  # the stock tokenizer: 77 positions, 49408 words

Folder = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """``folder(text=..., vision=..., **model)``: a model folder with random weights; returns the model's name."""

    def write(text: dict[str, Any] | None = None, vision: dict[str, Any] = VIT, **model_cfg: Any) -> str:
        model_cfg |= {"embed_dim": 8, "vision_cfg": vision, "text_cfg": TEXT | (text or {})}
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg}))
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{tmp_path}")
        save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
        return f"local-dir:{tmp_path}"

    return write


def gradients(model: Any, features: Tensor) -> dict[str, Tensor]:
    """Gradient of a fixed function of text features for every parameter that they depend on."""
    model.zero_grad()
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    (features * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-12


# --- text at its true length ------------------------------------------------------------------------------------------


def check_text(name: str, texts: list[str], is_cut: bool) -> None:
    clip = CLIPSource(name).load().double()
    tokens = clip.tokenize(texts)
    full = clip.tokenizer(texts)
    assert (tokens.shape[1] < full.shape[1]) == is_cut
    ours, theirs = clip.encode_text(tokens), clip.model.encode_text(full, normalize=True)
    assert_close(ours, theirs)
    if is_cut:
        assert torch.equal(clip.encode_embeddings(clip.embed(tokens), tokens), ours)
    mine, other = gradients(clip.model, ours), gradients(clip.model, theirs)
    assert mine.keys() == other.keys()
    assert len(mine) > 20
    for parameter in mine:
        assert_close(mine[parameter], other[parameter])


def test_cut_text_of_the_mini_clip() -> None:
    check_text(MINI, ["a star", "a photo of two red stars"], is_cut=True)


@pytest.mark.parametrize("custom_text", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        {},
        {"proj_bias": True},
        {"proj_type": "none", "width": 8},
        {"pool_type": "eos", "eos_id": 49407},
    ],
)
def test_cut_text(text: dict[str, Any], custom_text: bool, folder: Folder) -> None:
    check_text(folder(text, custom_text=custom_text), TEXTS[:3], is_cut=True)


@pytest.mark.parametrize("custom_text", [False, True])
@pytest.mark.parametrize("text", [{"no_causal_mask": True}, {"pool_type": "last"}, {"pool_type": "first"}])
def test_towers_that_look_behind_the_end_run_at_full_length(
    text: dict[str, Any], custom_text: bool, folder: Folder
) -> None:
    check_text(folder(text, custom_text=custom_text), TEXTS[:2], is_cut=False)


def test_tower_with_a_class_token_runs_at_full_length(folder: Folder) -> None:
    check_text(folder({"embed_cls": True, "pool_type": "last"}, custom_text=True), TEXTS[:2], is_cut=False)


def test_learned_vectors_take_the_place_of_words_where_the_tower_allows_it(folder: Folder) -> None:
    clip = CLIPSource(MINI).load()
    tokens, others = clip.tokenize(["a photo of two red stars"]), clip.tokenize(["a photo of two blue stars"])
    embeddings = torch.where(tokens[..., None] == others[..., None], clip.embed(tokens), clip.embed(others))
    assert torch.equal(clip.encode_embeddings(embeddings, tokens), clip.encode_text(others))
    vectors = clip.embed(tokens).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(clip.encode_embeddings(vectors, tokens).sum(), vectors)
    end = int(tokens.argmax())
    assert gradient[0, : end + 1].any(1).all() and not gradient[0, end + 1 :].any()
    other = CLIPSource(folder({"no_causal_mask": True})).load()
    with pytest.raises(InputError, match="takes no vectors in the place of tokens: choose a clip with a causal text"):
        other.embed(other.tokenize(TEXTS[:1]))


def test_a_text_as_long_as_the_context_is_not_cut(folder: Folder) -> None:
    check_text(folder(), TEXTS, is_cut=False)


def test_one_text_alone_has_the_features_it_has_among_longer_ones() -> None:
    clip = CLIPSource(MINI).load().double()
    alone = clip.encode_text(clip.tokenize(["a star"]))
    together = clip.encode_text(clip.tokenize(["a star", "a photo of two red stars"]))
    assert_close(alone[0], together[0])


# --- classifier, images, transforms -----------------------------------------------------------------------------------


def test_classifier_is_the_loop_over_classes() -> None:
    clip = CLIPSource(MINI).load().double()
    names = [f"{colour} {shape}" for colour in ("red", "blue", "green") for shape in "abcdefghijklmnopqrstuvwxyz"]
    templates = [*TEMPLATES, *(f"{template} {digit}" for template in TEMPLATES for digit in (1, 2))]
    assert len(names) * len(templates) > TEXT_BATCH
    rows = []
    for name in names:
        tokens = clip.tokenizer([template.format(name) for template in templates])
        with torch.no_grad():
            rows.append(F.normalize(clip.model.encode_text(tokens, normalize=True).mean(0), dim=-1))
    classifier = clip.classifier([[template.format(name) for template in templates] for name in names])
    assert not classifier.requires_grad
    assert_close(classifier, torch.stack(rows))


def test_image_features_are_normalised(folder: Folder) -> None:
    clip = CLIPSource(folder()).load().double()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    assert_close(clip.encode_image(images), clip.model.encode_image(images, normalize=True))


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_split_transform_is_the_test_transform(resize_mode: str, mode: str, folder: Folder) -> None:
    name = folder()
    config = Path(name.removeprefix("local-dir:")) / "open_clip_config.json"
    preprocess = {"preprocess_cfg": {"size": 32, "resize_mode": resize_mode}}
    config.write_text(json.dumps(json.loads(config.read_text()) | preprocess))
    clip = CLIPSource(name).load()
    random = np.random.default_rng(0)
    stored, expected = [], []
    for shape in [(33, 71, 4), (32, 32, 4), (5, 40, 4), (101, 57, 4)]:
        image = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8), "RGBA").convert(mode)
        stored.append(clip.test_geometry(image))
        expected.append(clip.test_transform(image))
    assert stored[0].dtype == torch.uint8
    assert torch.equal(clip.normalize(torch.stack(stored)), torch.stack(expected))


# --- what a model must be ---------------------------------------------------------------------------------------------


def test_logit_scale_is_frozen_and_all_else_learns() -> None:
    clip = CLIPSource(MINI).load()
    frozen = [name for name, parameter in clip.model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["logit_scale"]
    assert clip.logit_scale == clip.model.logit_scale.exp()


def test_batch_norm_is_refused(folder: Folder) -> None:
    with pytest.raises(InputError, match="BatchNorm"):
        CLIPSource(folder(vision=RESNET)).load()


@pytest.mark.parametrize("custom_text", [False, True])
def test_logit_bias_is_refused(custom_text: bool, folder: Folder) -> None:
    with pytest.raises(InputError, match="logit bias"):
        CLIPSource(folder(custom_text=custom_text, init_logit_bias=-10)).load()


def test_fingerprint_sees_one_bit() -> None:
    clip, other = CLIPSource(MINI).load(), CLIPSource(MINI).load()
    assert clip.fingerprint() == other.fingerprint()
    bits = clip.model.ln_final.weight.data.view(torch.int32)
    bits[7] ^= 1
    assert clip.fingerprint() != other.fingerprint()
    bits[7] ^= 1
    assert clip.fingerprint() == other.fingerprint()


def test_the_same_weights_with_another_activation_are_another_model(folder: Folder) -> None:
    name = folder()
    usual = CLIPSource(name).load()
    config = Path(name.removeprefix("local-dir:")) / "open_clip_config.json"
    content = json.loads(config.read_text())
    content["model_cfg"]["quick_gelu"] = True
    config.write_text(json.dumps(content))
    quick = CLIPSource(name).load()
    assert all(torch.equal(*pair) for pair in zip(usual.parameters(), quick.parameters(), strict=True))
    assert usual.fingerprint() != quick.fingerprint()


# --- where a model comes from -----------------------------------------------------------------------------------------


def test_weights_file_replaces_the_weights_of_the_folder(tmp_path: Path) -> None:
    shifted = {name: weight + 1 for name, weight in CLIPSource(MINI).load().model.state_dict().items()}
    save_file(shifted, tmp_path / "shifted.safetensors")
    torch.save(shifted, tmp_path / "shifted.pt")
    for file in ("shifted.safetensors", "shifted.pt"):
        loaded = CLIPSource(MINI, str(tmp_path / file)).load().model.state_dict()
        assert all(torch.equal(loaded[name], weight) for name, weight in shifted.items())


@pytest.mark.parametrize(
    ("name", "pretrained", "told"),
    [
        ("ViT-B-61", "openai", r"'ViT-B-61' is not a model of open_clip \(did you mean 'ViT-B-[^']*'\?\)"),
        ("ViT-B-16", "opnai", r"'opnai' is neither .* of ViT-B-16 \(did you mean 'openai'\?\)"),
        ("ViT-B-16", "no/such/file.safetensors", "'no/such/file.safetensors' is neither a file nor a tag"),
        ("ViT-B-16", None, r"^pretrained is not set.*\(openai"),
        ("ViT-B/16", None, r"^pretrained is not set.*\(openai"),
        (MINI, "no/such/file.pt", "'no/such/file.pt' does not exist"),
        ("local-dir:no/such/folder", None, "no/such/folder"),
        ("package:no.such.package", None, "no.such.package"),
    ],
)
def test_what_is_missing_or_misspelt_is_named(name: str, pretrained: str | None, told: str) -> None:
    with pytest.raises(InputError, match=told):
        CLIPSource(name, pretrained).load()


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    save_file(CLIPSource(MINI).load().model.state_dict(), whole)
    for suffix, content in (("safetensors", whole.read_bytes()[:5000]), ("safetensors", b""), ("pt", b"not weights")):
        damaged = tmp_path / f"damaged.{suffix}"
        damaged.write_bytes(content)
        with pytest.raises(InputError, match=str(damaged)):
            CLIPSource(MINI, str(damaged)).load()


def test_weights_file_without_weights_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.safetensors"
    save_file({}, empty)
    with pytest.raises(InputError, match=str(empty)):
        CLIPSource(MINI, str(empty)).load()


def test_weights_of_another_model_are_named(folder: Folder) -> None:
    weights = Path(folder().removeprefix("local-dir:")) / "open_clip_model.safetensors"
    with pytest.raises(InputError, match=str(weights)):
        CLIPSource(MINI, str(weights)).load()


def test_damaged_folders_are_named(folder: Folder) -> None:
    name = folder()
    path = Path(name.removeprefix("local-dir:"))
    for file in ("open_clip_model.safetensors", "open_clip_config.json"):
        (path / file).write_bytes(b"{")
        with pytest.raises(InputError, match=str(path)):
            CLIPSource(name).load()


def test_folder_without_weights_is_refused(folder: Folder) -> None:
    """Without weights open_clip would go on with random ones."""
    name = folder()
    path = Path(name.removeprefix("local-dir:"))
    weights = path / "open_clip_model.safetensors"
    (path / "elsewhere").mkdir()
    elsewhere = weights.rename(path / "elsewhere" / weights.name)
    assert CLIPSource(name, str(elsewhere)).load()
    with pytest.raises(InputError, match=str(path)):
        CLIPSource(name).load()
