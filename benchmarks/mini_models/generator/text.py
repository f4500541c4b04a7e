"""The text side of the generator: text tower and vocabulary of the small CLIP, in the form of transformers."""

import gzip
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.mini.clip import FOLDER as CLIP_FOLDER
from gift_lightning.clip.source import CLIPSource

CONTEXT = 16
_START, _END = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(folder: Path) -> Any:
    """Write the vocabulary as files of a ``CLIPTokenizer`` and return the tokenizer; prompts get the ids of CLIP."""
    from transformers import CLIPTokenizer

    encoder = CLIPSource("package:datamodules.mini.clip").load().tokenizer.encoder  # type: ignore[attr-defined]
    renamed = {"<start_of_text>": _START, "<end_of_text>": _END}
    vocabulary = {renamed.get(token, token): number for token, number in encoder.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_bytes(gzip.decompress((CLIP_FOLDER / "merges.txt.gz").read_bytes()))
    special = {"bos_token": _START, "eos_token": _END, "pad_token": _END, "unk_token": _END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": CONTEXT, "do_lower_case": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(str(folder))


def new_text_encoder() -> Any:
    """The text tower of the small CLIP as a ``CLIPTextModel``; its last hidden state is the generator's condition."""
    from transformers import CLIPTextConfig, CLIPTextModel

    state = CLIPSource("package:datamodules.mini.clip").load().model.state_dict()
    vocabulary, width = state["token_embedding.weight"].shape
    layers = sum(name.endswith("attn.in_proj_weight") and name.startswith("transformer.") for name in state)
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            hidden_act="gelu",
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )
    # transformers 4 keeps the tower one level deeper than transformers 5
    prefix = "text_model." if any(name.startswith("text_model.") for name in encoder.state_dict()) else ""
    converted = {f"{prefix}{name}": weight for name, weight in _converted(state, layers).items()}
    encoder.load_state_dict(converted, strict=False)
    missing = encoder.state_dict().keys() - converted.keys() - {f"{prefix}embeddings.position_ids"}
    if missing:
        raise RuntimeError(f"no weights for {sorted(missing)}")
    return encoder.eval().requires_grad_(False)


def _converted(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """open_clip's names to those of transformers."""
    converted = {
        "embeddings.token_embedding.weight": state["token_embedding.weight"],
        "embeddings.position_embedding.weight": state["positional_embedding"],
        "final_layer_norm.weight": state["ln_final.weight"],
        "final_layer_norm.bias": state["ln_final.bias"],
    }
    for layer in range(layers):
        theirs, ours = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            matrices = state[f"{ours}.attn.in_proj_{kind}"].chunk(3)
            for name, part in zip(("q_proj", "k_proj", "v_proj"), matrices, strict=True):
                converted[f"{theirs}.self_attn.{name}.{kind}"] = part
            converted[f"{theirs}.self_attn.out_proj.{kind}"] = state[f"{ours}.attn.out_proj.{kind}"]
            converted[f"{theirs}.layer_norm1.{kind}"] = state[f"{ours}.ln_1.{kind}"]
            converted[f"{theirs}.layer_norm2.{kind}"] = state[f"{ours}.ln_2.{kind}"]
            converted[f"{theirs}.mlp.fc1.{kind}"] = state[f"{ours}.mlp.c_fc.{kind}"]
            converted[f"{theirs}.mlp.fc2.{kind}"] = state[f"{ours}.mlp.c_proj.{kind}"]
    return converted


class Conditions:
    """Conditions ``[n, CONTEXT, width]`` of captions, each encoded once."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self._tokenizer, self._encoder = tokenizer, encoder
        self._encoded: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> Tensor:
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._encoded]
        if new:
            tokens = self._tokenizer(
                new, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
            ).input_ids
            self._encoded.update(zip(new, self._encoder(tokens)[0], strict=True))
        return torch.stack([self._encoded[caption] for caption in captions])
