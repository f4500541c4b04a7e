"""Texts of random words: each word is one token of the CLIP's vocabulary, whichever tokenizer it has."""

import json
import re
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.tokenizer import HFTokenizer, SigLipTokenizer

from gift_lightning.clip.model import CLIP
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError

GENERATOR_TOKENIZER = Path(__file__).parents[3] / "datamodules" / "mini" / "generator" / "tokenizer"


@pytest.fixture(scope="module")
def clip() -> CLIP:
    return CLIPSource("package:datamodules.mini.clip").load()


def check_round_trip(clip: CLIP, texts: list[str], words: int) -> None:
    """Every text is ``words`` words, and each of them the one token between start and end that it was drawn as."""
    tokenizer: Any = clip.tokenizer
    for text, tokens in zip(texts, tokenizer(texts).tolist(), strict=True):
        assert re.fullmatch("[a-z]+( [a-z]+)*", text) and len(text.split()) == words
        used = tokens[: words + 2]
        assert (used[0], used[-1]) == (tokenizer.sot_token_id, tokenizer.eot_token_id)
        assert not any(tokens[words + 2 :])
        assert [tokenizer.decoder[token] for token in used[1:-1]] == [f"{word}</w>" for word in text.split()]
        assert tokenizer.decode(used[1:-1]).strip() == text


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_tokenizer(clip: CLIP, tokenizer: Any) -> CLIP:
    return CLIP(clip.model, clip.train_transform, clip.test_transform, tokenizer)


def test_random_texts_of_the_small_clip(clip: CLIP) -> None:
    texts = clip.random_texts(200, generator=seeded())
    check_round_trip(clip, texts, 10)
    assert texts == clip.random_texts(200, generator=seeded()) != clip.random_texts(200, generator=seeded(1))
    assert len(set(texts)) == 200
    assert clip.first_too_long(clip.random_texts(50, words=40, generator=seeded())) is None
    check_round_trip(clip, clip.random_texts(50, words=40, generator=seeded()), 14)


def test_random_texts_of_the_stock_vocabulary(clip: CLIP) -> None:
    stock = with_tokenizer(clip, open_clip.get_tokenizer("ViT-B-16"))
    check_round_trip(stock, stock.random_texts(2000, generator=seeded()), 10)
    check_round_trip(stock, stock.random_texts(20, words=100, generator=seeded()), 75)


def ending(token: str, number: int, template: list[dict[str, Any]]) -> dict[str, Any]:
    """What a tokenizer.json says of the special tokens around a text."""
    special = {token: {"id": token, "ids": [number], "tokens": [token]}}
    return {"type": "TemplateProcessing", "single": template, "pair": template, "special_tokens": special}


def hugging_face(folder: Path, kind: str) -> HFTokenizer:
    """A tokenizer whose vocabulary marks where a word ends, goes on, or begins."""
    if kind == "ends":
        return HFTokenizer(str(GENERATOR_TOKENIZER), context_length=16)
    text, space = {"Sequence": {"id": "A", "type_id": 0}}, {"replacement": "▁", "prepend_scheme": "always"}
    if kind == "goes on":
        entries = ["[PAD]", "[UNK]", "[SEP]", "dog", "##s", "cat", "a", "!", "7up", "sun", "##flower", "Rex"]
        vocabulary = {entry: number for number, entry in enumerate(entries)}
        end = {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
        parts = {
            "model": {"type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
            | {"max_input_chars_per_word": 100},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": ending("[SEP]", 2, [end, text, end]),
        }
    else:
        pieces = ["<pad>", "</s>", "<unk>", "▁dog", "▁cat", "s", "▁7"]
        end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
        parts = {
            "model": {"type": "Unigram", "unk_id": 2, "vocab": [[piece, -2.0] for piece in pieces]},
            "pre_tokenizer": {"type": "Metaspace", **space},
            "decoder": {"type": "Metaspace", **space},
            "post_processor": ending("</s>", 1, [text, end]),
        }
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], **parts}))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]" if kind == "goes on" else "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return HFTokenizer(str(folder), context_length=16)


@pytest.mark.parametrize(
    ("kind", "vocabulary", "room"),
    [("ends", None, 14), ("goes on", {"dog", "cat", "a", "sun", "Rex"}, 14), ("begins", {"dog", "cat"}, 15)],
)
def test_random_texts_of_a_hugging_face_vocabulary(
    kind: str, vocabulary: set[str] | None, room: int, clip: CLIP, tmp_path: Path
) -> None:
    tokenizer = hugging_face(tmp_path, kind)
    texts = with_tokenizer(clip, tokenizer).random_texts(100, words=50, generator=seeded())
    drawn = [text.split() for text in texts]
    assert all(len(text) == room for text in drawn)
    if vocabulary is not None:
        assert {word for text in drawn for word in text} == vocabulary
    for text in texts:
        ids = tokenizer.tokenizer(text, add_special_tokens=False).input_ids
        assert len(ids) == room and tokenizer.tokenizer.decode(ids).split() == text.split()


def test_a_tokenizer_that_tells_no_words_is_refused(clip: CLIP) -> None:
    for tokenizer in (open_clip.tokenize, SigLipTokenizer.__new__(SigLipTokenizer)):
        with pytest.raises(InputError, match="Random words need the tokenizer's vocabulary, and") as told:
            with_tokenizer(clip, tokenizer).random_texts(3)
        assert type(tokenizer).__name__ in str(told.value)
