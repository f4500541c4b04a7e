"""Every model that open_clip knows: the methods can have it, or one sentence says why not."""

import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest
import torch
import transformers

from gift_lightning.clip.model import CLIP
from gift_lightning.clip.outline import outline_name
from gift_lightning.clip.source import CLIPSource
from gift_lightning.clip.weights_source import CLIPWeights
from gift_lightning.errors import InputError
from tests.e2e.conftest import CONFIG, call

REFUSED = {
    "CoCa": r"coca_(base|ViT.*)",
    "BatchNorm": r"RN.*|MobileCLIP-.*|MobileCLIP2-(B|S\d)",
    "logit bias": r".*SigLIP.*",
}
"""What is said, and for which models; of a logit bias first."""

NEEDS_THE_HUB = r"(xlm-)?roberta-.*|mt5-.*|nllb-.*|coca_roberta-.*"
"""Their text towers are described there alone."""


def kinds() -> list[str]:
    """A small model of each structure: those that differ in numbers, or in the size of a tower of timm, are one."""
    smallest: dict[str, tuple[int, str]] = {}
    for name in open_clip.list_models():
        config: dict[str, Any] = open_clip.get_model_config(name)
        structure = json.dumps({**config, "quick_gelu": None}, sort_keys=True)
        structure = re.sub(r"\d+(\.\d+)?", "", re.sub(r'("timm_model_name": "[a-z]+)[^"]*', r"\1", structure))
        smallest[structure] = min(smallest.get(structure, (10**9, "")), (config["embed_dim"], name))
    return sorted(name for _, name in smallest.values())


def expected(name: str) -> str | None:
    return next((told for told, names in REFUSED.items() if re.fullmatch(names, name)), None)


def features(clip: CLIP) -> list[tuple[int, ...]]:
    size = clip.model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    images, tokens = torch.zeros(2, 3, height, width), torch.zeros(2, clip.model.context_length, dtype=torch.long)
    return [tuple(clip.encode_image(images).shape), tuple(clip.encode_text(tokens).shape)]


def test_every_architecture_has_features_or_one_sentence() -> None:
    names = kinds()
    assert len(names) > 40 and {"coca_base", "EVA02-B-16", "ViTamin-S", "xlm-roberta-base-ViT-B-32"} < {*names}
    for name in names:
        if re.fullmatch(NEEDS_THE_HUB, name):
            assert outline_name(name) is None
            continue
        told = expected(name)
        try:
            with torch.device("meta"):
                image, text = features(CLIPSource(name).load())
        except InputError as error:
            assert told and told in str(error) and "\n" not in str(error), name
        else:
            assert not told and image == text and len(image) == 2, name


@pytest.mark.parametrize("name", ["coca_ViT-B-32", "coca_base", "RN50", "MobileCLIP-S1", "ViT-B-16-SigLIP"])
def test_doctor_and_fit_refuse_a_model_in_the_same_words(name: str, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "weights.pt")
    flags = ["--config", CONFIG, "--run.root", str(tmp_path), "--model.clip.name", name]
    flags += ["--model.clip.pretrained", str(tmp_path / "weights.pt")]
    status, _, told = call("fit", *flags)
    assert status == 2 and expected(name) in told and len(told.strip().splitlines()) == 1  # type: ignore[operator]
    assert call("doctor", *flags) == (2, "", told)
    found = CLIPWeights(CLIPSource(name, str(tmp_path / "weights.pt"))).inspect()
    assert told == f"error: {found.detail}\n" and not found.automatic


# --- text towers of transformers --------------------------------------------------------------------------------------

SMALL = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 99}
TOWERS: dict[str, Any] = {
    "roberta": lambda: transformers.RobertaConfig(**SMALL),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SMALL),
    "mt5": lambda: transformers.MT5Config(vocab_size=99, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2),
    "nllb": lambda: transformers.M2M100Config(
        vocab_size=99, d_model=32, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1
    ),
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub with small text towers."""
    for name, make in TOWERS.items():
        place = tmp_path / "cache" / f"models--lab--{name}"
        (place / "snapshots" / "c").mkdir(parents=True)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("c")
        (place / "snapshots" / "c" / "config.json").write_text(json.dumps(make().to_dict()))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path


def folder_of(tower: str, cache: Path, **text: Any) -> str:
    vision = {"image_size": 32, "patch_size": 16, "width": 16, "head_width": 8, "layers": 1}
    text_cfg = {"hf_model_name": f"lab/{tower}", "hf_tokenizer_name": f"lab/{tower}", "hf_pooler_type": "mean_pooler"}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": {**text_cfg, **text}}
    (cache / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return f"local-dir:{cache}"


@pytest.mark.parametrize("tower", TOWERS)
def test_a_text_tower_of_transformers_gives_features(tower: str, cache: Path) -> None:
    name = outline_name(folder_of(tower, cache))
    assert name
    model: Any = open_clip.create_model(name, load_weights=False, pretrained_text=False)
    clip = CLIP(model, *[torch.as_tensor] * 3)  # type: ignore[list-item]
    tokens = torch.tensor([[0, 5, 7, 2], [0, 9, 2, 1]])
    assert clip.encode_text(tokens).shape == (2, 8) == clip.encode_image(torch.zeros(2, 3, 32, 32)).shape
    with torch.device("meta"):
        assert sum(p.numel() for p in CLIPSource(name).load().parameters()) == sum(p.numel() for p in clip.parameters())


def test_a_text_tower_that_gives_its_tokens_is_refused(cache: Path) -> None:
    name = folder_of("roberta", cache, output_tokens=True)
    with pytest.raises(InputError, match="CoCa"), torch.device("meta"):
        CLIPSource(name).load()
