"""Text at its true length, and the words of a tokenizer."""

import re
from typing import Any

import open_clip
from open_clip.tokenizer import HFTokenizer
from open_clip.transformer import text_global_pool
from torch import Tensor, nn

from gift_lightning.errors import InputError


def vocabulary_of(tokenizer: Any) -> tuple[list[str], int]:
    """A tokenizer's words of ASCII letters that are one token each, in the order of their ids, and how many fit."""
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        ends = {entry[:-4]: number for entry, number in tokenizer.encoder.items() if entry.endswith("</w>")}
        # not every entry is what its letters become: capitals are made small
        found = [word for word, number in ends.items() if _is_word(word) and tokenizer.encode(word) == [number]]
        room = tokenizer.context_length - 2
    elif isinstance(tokenizer, HFTokenizer):
        found, inner = _marked_words(tokenizer), tokenizer.tokenizer
        special = 3 if tokenizer.tokenizer_mode == "clips" else inner.num_special_tokens_to_add()
        room = tokenizer.context_length - special
    else:
        found, room = [], 0
    if not found or room < 1:
        raise InputError(
            f"Random words need the tokenizer's vocabulary, and {type(tokenizer).__name__} tells no words of it: choose"
            " another method or other sentences, or a CLIP with its usual tokenizer."
        )
    return found, room


def _marked_words(tokenizer: HFTokenizer) -> list[str]:
    """Words of a vocabulary that marks where a word begins (SentencePiece, GPT-2), ends (CLIP), or goes on (BERT)."""
    inner = tokenizer.tokenizer
    vocabulary = inner.get_vocab()
    goes_on = any(re.fullmatch("##[a-z]+", entry) for entry in vocabulary)
    whole = re.compile("(?!##)(.+)()" if goes_on else "[▁Ġ](.+)|(.+)</w>")
    matches = [match[1] or match[2] for match in map(whole.fullmatch, sorted(vocabulary, key=vocabulary.get)) if match]
    words = [word for word in dict.fromkeys(matches) if _is_word(word) and tokenizer.clean_fn(word) == word]
    tokens = inner(words, add_special_tokens=False).input_ids if words else []
    single = [(word, ids) for word, ids in zip(words, tokens, strict=True) if len(ids) == 1]
    return [word for word, ids in single if inner.decode(ids).strip() == word]


def _is_word(text: str) -> bool:
    return text.isascii() and text.isalpha()


class TextTower:
    """One view of the two places where open_clip keeps the parts of a text tower."""

    def __init__(self, model: nn.Module) -> None:
        self._tower: Any = getattr(model, "text", model)
        is_module = self._tower is not model
        self._pool_type: str | None = getattr(self._tower, "pool_type" if is_module else "text_pool_type", None)
        self._end_id: int | None = getattr(self._tower, "eos_id" if is_module else "text_eos_id", None)

    @property
    def can_be_cut(self) -> bool:
        tower = self._tower
        return (
            self._pool_type in ("argmax", "eos")
            and getattr(tower, "attn_mask", None) is not None
            and getattr(tower, "cls_emb", None) is None
        )

    def longest(self, tokens: Tensor) -> int:
        """Number of positions up to and including the last end token of the batch."""
        ends: Tensor = tokens if self._pool_type == "argmax" else tokens.eq(self._end_id or 0).int()
        return int(ends.argmax(dim=-1).max()) + 1

    def encode(self, tokens: Tensor) -> Tensor:
        tower, length = self._tower, tokens.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        x = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
        x = text_global_pool(x, tokens, self._pool_type, eos_token_id=self._end_id)
        if tower.text_projection is None:
            return x
        return tower.text_projection(x) if isinstance(tower.text_projection, nn.Linear) else x @ tower.text_projection
