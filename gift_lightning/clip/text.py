"""Text at its true length, and the words of a tokenizer."""

import re
from typing import Any

import open_clip
from open_clip.tokenizer import HFTokenizer
from open_clip.transformer import text_global_pool
from torch import Tensor, nn

from gift_lightning.errors import InputError


def vocabulary_of(tokenizer: Any) -> tuple[list[str], int]:
    """A tokenizer's words of ASCII letters that are one token each, in the order of their ids, and how many fit.

    Raises:
        InputError: it has no such words.
    """
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        ends = {entry[:-4]: number for entry, number in tokenizer.encoder.items() if entry.endswith("</w>")}
        # not every entry is what its letters become: capitals are made small
        words = [word for word, number in ends.items() if _is_word(word) and tokenizer.encode(word) == [number]]
        room = tokenizer.context_length - 2
    elif isinstance(tokenizer, HFTokenizer):
        words, inner = _marked_words(tokenizer), tokenizer.tokenizer
        special = 3 if tokenizer.tokenizer_mode == "clips" else inner.num_special_tokens_to_add()
        room = tokenizer.context_length - special
    else:
        words, room = [], 0
    if not words or room < 1:
        raise InputError(
            f"Random words need the tokenizer's vocabulary, and {type(tokenizer).__name__} tells no words of it: choose"
            " another method or other sentences, or a CLIP with its usual tokenizer."
        )
    return words, room


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
    """The text tower of an open_clip model, which is the model itself or its attribute ``text``."""

    def __init__(self, model: nn.Module) -> None:
        self._tower: Any = getattr(model, "text", model)
        is_module = self._tower is not model
        self._pool_type: str | None = getattr(self._tower, "pool_type" if is_module else "text_pool_type", None)
        self._end_id: int | None = getattr(self._tower, "eos_id" if is_module else "text_eos_id", None)

    @property
    def can_be_cut(self) -> bool:
        """Whether no feature depends on the positions behind a text's end token."""
        tower = self._tower
        return (
            self._pool_type in ("argmax", "eos")
            and getattr(tower, "attn_mask", None) is not None
            and getattr(tower, "cls_emb", None) is None
        )

    @property
    def context_length(self) -> int:
        """The largest number of positions."""
        return len(self._tower.positional_embedding)

    def longest(self, tokens: Tensor) -> int:
        """Number of positions up to and including the last end token of a batch of ids ``[n, L]``."""
        ends: Tensor = tokens if self._pool_type == "argmax" else tokens.eq(self._end_id or 0).int()
        return int(ends.argmax(dim=-1).max()) + 1

    def embed(self, tokens: Tensor) -> Tensor:
        """Token embeddings ``[n, L, W]`` of ids ``[n, L]``, without those of the positions."""
        embeddings: Tensor = self._tower.token_embedding(tokens)
        return embeddings

    def encode(self, embeddings: Tensor, tokens: Tensor) -> Tensor:
        """Features ``[n, D]`` of token embeddings ``[n, L, W]``; the ids ``[n, L]`` say where each text ends.

        For a causal tower that pools at the end token (``can_be_cut``).
        """
        tower, length = self._tower, tokens.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        x = embeddings.to(dtype) + tower.positional_embedding[:length].to(dtype)
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
        x = text_global_pool(x, tokens, self._pool_type, eos_token_id=self._end_id)
        projection = tower.text_projection
        if projection is not None:
            x = projection(x) if isinstance(projection, nn.Linear) else x @ projection
        assert isinstance(x, Tensor)
        return x
