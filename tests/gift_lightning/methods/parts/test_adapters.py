"""Experts in the blocks of a CLIP: where they read and write, and what chance decides."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor

from benchmarks.mixture import dense, grouped, inputs, main, sparse
from gift_lightning.clip.model import CLIP
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods.parts.adapters import Adapters
from gift_lightning.methods.parts.draws import Draws
from gift_lightning.methods.parts.experts import ExpertSettings
from gift_lightning.tensors import save_tensors

MINI = CLIPSource("package:datamodules.mini.clip")
SETTINGS = ExpertSettings(experts=5, top_k=2, width=8, dropout=0.0, noise=True)
VIT = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
TIMM = {"image_size": 32, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear"}


def small_clip(folder: Path, vision: dict[str, object] = VIT, **text: object) -> CLIPSource:
    text = {"width": 32, "heads": 1, "layers": 2, **text}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {"size": 32}}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", require_pretrained=False)
    save_tensors(model.state_dict(), folder / "open_clip_model.safetensors")
    return CLIPSource(f"local-dir:{folder}")


def filled(clip: CLIP, settings: ExpertSettings = SETTINGS, routers: int = 3) -> Adapters:
    """Experts and routers that are no longer what they were at first."""
    adapters = Adapters(clip.model, ["image", "text"], settings, routers, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.normal_(generator=generator).mul_(0.3)
    return adapters.to(clip.model.logit_scale)


def features(clip: CLIP) -> Tensor:
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2)).to(clip.model.logit_scale)
    return torch.cat([clip.encode_image(images), clip.encode_text(clip.tokenize(["a cat", "the red house"]))])


@pytest.mark.parametrize("kind", ["mini", "vit", "timm"])
@torch.no_grad()
def test_a_clip_begins_as_it_was_and_can_always_be_it_again(kind: str, tmp_path: Path) -> None:
    source = MINI if kind == "mini" else small_clip(tmp_path, VIT if kind == "vit" else TIMM)
    clip = source.load().eval()
    before, fingerprint = features(clip), clip.fingerprint()
    fresh = Adapters(clip.model, ["image", "text"], SETTINGS, 3, seed=0)
    with fresh.routed(1):
        assert torch.equal(features(clip), before)
    fresh.detach()
    adapters = filled(clip)
    assert torch.equal(features(clip), before)
    with adapters.routed(0):
        first = features(clip)
        with adapters.routed(None):
            assert torch.equal(features(clip), before)
        assert torch.equal(features(clip), first)
    changes = [(first - before).abs().amax(1)]
    with adapters.routed(1):
        changes.append((features(clip) - first).abs().amax(1))
    assert all(change.min() > 1e-4 for change in changes)
    assert clip.fingerprint() == fingerprint
    assert set(clip.state_dict()) == set(source.load().state_dict())


@torch.no_grad()
def test_text_at_its_true_length_has_the_same_features(tmp_path: Path) -> None:
    clip = small_clip(tmp_path).load().double().eval()
    adapters, texts = filled(clip), ["a cat", "a photo of the red house on a hill"]
    with adapters.routed(2):
        cut, whole = clip.tokenize(texts), clip.tokenizer(texts)
        assert cut.shape[1] < whole.shape[1] == 77
        assert (clip.encode_text(cut) - clip.encode_text(whole)).abs().max() < 1e-12


def test_a_tower_without_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="The image tower of this CLIP has no blocks that can take adapters"):
        Adapters(torch.nn.Linear(2, 2), ["image"], SETTINGS, 1, seed=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_stays_close(dtype: torch.dtype, tmp_path: Path) -> None:
    clip = small_clip(tmp_path).load()
    adapters = filled(clip)
    with adapters.routed("current", Draws(0, 0, 3)), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        ours = features(clip)
    assert ours.dtype == torch.float32
    with adapters.routed("current", Draws(0, 0, 3)):
        assert (ours - features(clip)).abs().max() < 0.05
    ours.square().sum().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in adapters.parameters())


# --- chance -----------------------------------------------------------------------------------------------------------


def test_an_image_has_the_same_chances_on_any_rank() -> None:
    whole, part, chosen = Draws(7, 0, 8), Draws(7, 4, 8), torch.zeros(8, 2, dtype=torch.long)
    device = torch.device("cpu")
    for tower, rows in (("image", slice(4, 8)), ("text", slice(0, 4))):
        noise = whole.noise((tower, 1), 8, 5, device)[rows], part.noise((tower, 1), 4, 5, device)
        keep = whole.keep((tower, 1), chosen, 3, 6, 0.1)[rows], part.keep((tower, 1), chosen[:4], 3, 6, 0.1)
        if tower == "image":
            assert torch.equal(*noise) and torch.equal(*keep)
    texts = [draws.noise(("text", 0), 6, 5, device) for draws in (whole, part)]
    assert torch.equal(*texts)


def test_chances_are_those_that_were_asked_for_and_differ() -> None:
    draws, device = Draws(0, 0, 4000), torch.device("cpu")
    noise = draws.noise(("image", 0), 4000, 5, device)
    assert noise.mean().abs() < 0.03 and (noise.std() - 1).abs() < 0.03
    keep = draws.keep(("image", 0), torch.zeros(4000, 2, dtype=torch.long), 3, 4, 0.1)
    assert keep.shape == (4000, 3, 2, 4) and (keep.float().mean() - 0.9).abs() < 0.01
    others = [Draws(1, 0, 4000).noise(("image", 0), 4000, 5, device), draws.noise(("image", 1), 4000, 5, device)]
    assert all((other - noise).abs().max() > 1 for other in others)


# --- the mixture ------------------------------------------------------------------------------------------------------


def test_the_mixture_is_that_of_the_loops_and_so_is_its_gradient() -> None:
    results = []
    for way in (grouped, dense, sparse):
        x, chosen, gates, weights = inputs((6, 5, 12), "cpu")
        result = way(x, chosen, gates, weights)
        result.square().sum().backward()
        results.append([result.detach(), *(tensor.grad for tensor in (x, *weights))])
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            assert ours is not None and theirs is not None
            assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_the_benchmark_shows_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("benchmarks.mixture.SHAPES", {"small": (4, 3, 8)})
    assert main(["--repeats", "1"]) == 0
    assert "small" in capsys.readouterr().out
