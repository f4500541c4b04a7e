"""CLIP as the methods see it: an open_clip model with its own transforms and tokenizer, and text at its true length."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer
from open_clip.transformer import QuickGELU, text_global_pool
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import Compose, Normalize, PILToTensor

from gift_lightning.errors import InputError
from gift_lightning.files import path_of
from gift_lightning.origin import Origin, find_origin, settings
from gift_lightning.outline import outline, outline_name
from gift_lightning.pretrained import check, open_parts

TEST_LOGIT_SCALE = 100.0
"""Scale of the logits in testing: accuracies are those of 100 x cosine, whatever scale the model was trained with."""

TEXT_BATCH = 512
"""Prompts encoded at a time in testing; a matter of memory only."""


class CLIP(nn.Module):
    """An image tower and a text tower with normalised features in one space.

    Args:
        model: an open_clip ``CLIP`` or ``CustomTextCLIP``.
        train_transform: PIL image to ``[3, H, W]`` with augmentation.
        test_transform: PIL image to ``[3, H, W]`` without.
        tokenizer: list of ``n`` texts to ``[n, context length]`` token ids, padded with 0.
        origin: who trained the weights.

    Raises:
        InputError: the model has a logit bias (SigLIP), a decoder beside its towers (CoCa), or BatchNorm, whose state
            the methods would not carry over.
    """

    def __init__(
        self,
        model: nn.Module,
        train_transform: Callable[[Any], Tensor],
        test_transform: Callable[[Any], Tensor],
        tokenizer: Callable[[list[str]], Tensor],
        origin: Origin = Origin(),  # noqa: B008
    ) -> None:
        super().__init__()
        if getattr(model, "logit_bias", None) is not None:
            raise InputError("This CLIP has a logit bias (a sigmoid loss): choose one trained with the softmax loss.")
        if any(getattr(tower, "output_tokens", False) for tower in (model.visual, getattr(model, "text", None))):
            raise InputError(
                "This CLIP has towers that give their tokens to a decoder (CoCa), which the methods do not train:"
                " choose a model without 'output_tokens'."
            )
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
            raise InputError(
                "This CLIP has BatchNorm layers, whose running statistics the methods do not carry from task to task:"
                " choose a ViT or a tower with another normalisation."
            )
        self.model: Any = model
        self.train_transform, self.test_transform, self.tokenizer = train_transform, test_transform, tokenizer
        self.origin = origin
        self.test_geometry, self.normalize = split_transform(test_transform)
        self._words: tuple[list[str], int] | None = None
        model.logit_scale.requires_grad_(False)  # never trained by the methods' authors either

    @property
    def logit_scale(self) -> Tensor:
        """Factor from cosine to training logit, ``exp`` of the stored parameter."""
        return self.model.logit_scale.exp()

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Features of images and of texts, as the two methods below give them."""
        return self.encode_image(images), self.encode_text(tokens)

    def encode_image(self, images: Tensor) -> Tensor:
        """Normalised features ``[n, D]`` of normalised images ``[n, 3, H, W]``."""
        return _unit(self.model.visual(images))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Normalised features ``[n, D]`` of token ids ``[n, L]``; a causal tower takes any ``L`` up to its context."""
        tower = _TextTower(self.model)
        return _unit(tower.encode(tokens) if tower.can_be_cut else self.model.encode_text(tokens))

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids ``[n, L]`` on the model's device, cut where that changes no feature.

        A causal tower that pools at the end token never looks behind it, so ``L`` is the length of the longest text:
        8 to 20 positions instead of 77 for usual prompts. For other towers it is the context length.
        """
        tokens, tower = self.tokenizer(list(texts)), _TextTower(self.model)
        if tower.can_be_cut:
            tokens = tokens[:, : tower.longest(tokens)]
        return tokens.to(self.model.logit_scale.device)

    def first_too_long(self, texts: Sequence[str]) -> str | None:
        """The first text whose end the tokenizer would cut off; ``None`` if there is none, or it does not tell."""
        if not isinstance(self.tokenizer, open_clip.SimpleTokenizer):
            return None
        length = self.tokenizer.context_length
        longer = self.tokenizer(list(texts), context_length=length + 1)
        return next((text for text, tokens in zip(texts, longer, strict=True) if tokens[length] != 0), None)

    def random_texts(self, count: int, words: int = 10, generator: torch.Generator | None = None) -> list[str]:
        """``count`` texts of words drawn at random from the tokenizer's vocabulary, each one token in length.

        Args:
            count: how many texts; they are drawn with replacement, as their words are.
            words: in each text, or as many as the context has room for.
            generator: on the CPU, of the drawing.

        Raises:
            InputError: the tokenizer does not tell its words.
        """
        if self._words is None:
            self._words = _vocabulary(self.tokenizer)  # kept: to look through it takes seconds
        vocabulary, room = self._words
        draws = torch.randint(len(vocabulary), (count, min(words, room)), generator=generator)
        return [" ".join(vocabulary[index] for index in text) for text in draws.tolist()]

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Normalised features ``[n, D]`` of texts, without gradient, some at a time."""
        parts = [texts[first : first + TEXT_BATCH] for first in range(0, len(texts), TEXT_BATCH)]
        return torch.cat([self.encode_text(self.tokenize(part)) for part in parts])

    @torch.no_grad()
    def classifier(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        """Class embeddings ``[C, D]`` for testing: the mean of the text features of each class's prompts, normalised.

        Args:
            prompts: of each class, as many as it has.
        """
        features = self.encode_texts([prompt for own in prompts for prompt in own])
        return F.normalize(torch.stack([own.mean(0) for own in features.split([len(own) for own in prompts])]), dim=-1)

    def fingerprint(self) -> str:
        """Hash of all weights and of OpenAI's activation, equal exactly if two models compute the same, bit by bit."""
        digest = hashlib.sha256()
        if any(isinstance(part, QuickGELU) for part in self.model.modules()):
            digest.update(b"QuickGELU")
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def cosine(images: Tensor, texts: Tensor) -> Tensor:
    """Cosines ``[n, m]`` of unit features ``[n, D]`` and ``[m, D]``, never in half precision.

    In bfloat16 the cosines of similar classes tie, and the accuracy becomes a matter of their order.
    """
    with torch.autocast(images.device.type, enabled=False):
        return images @ texts.T


def _unit(features: Tensor) -> Tensor:
    """Features of length 1, in float32 or better."""
    return F.normalize(features if features.dtype == torch.float64 else features.float(), dim=-1)


def _vocabulary(tokenizer: Any) -> tuple[list[str], int]:
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


@dataclass
class CLIPSource:
    """Where a CLIP comes from.

    Attributes:
        name: an open_clip model name (``ViT-B-16``), ``hf-hub:<id>``, ``local-dir:<folder>`` with an
            ``open_clip_config.json``, or ``package:<module>`` for such a folder inside an installed Python package.
        pretrained: an open_clip tag (``openai``), a weights file, or ``null`` for the weights that come with the name.
            A file is safetensors, OpenAI's own (``ViT-B-16.pt``), or a state dict with names of open_clip or OpenAI,
            plain or under a usual key (``state_dict``, ``model``), not an average (EMA) beside it.
        weights: a file whose weights take the place of those, a checkpoint of a run for instance; activation and image
            preprocessing stay those of ``pretrained``.
        origin: the open_clip tag of the weights that a file began with: their activation and image preprocessing hold.
            By default it is what the file shows, else OpenAI, and a run says what it took.
    """

    name: str = "ViT-B-16"
    pretrained: str | None = None
    weights: str | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        # what the parser makes of `--model.clip.pretrained null`
        self.pretrained = None if self.pretrained == "None" else self.pretrained
        self.weights = None if self.weights == "None" else self.weights
        self.origin = None if self.origin == "None" else self.origin
        # a path alone: tags and names of models stay as they are
        if self.name.startswith("local-dir:~"):
            self.name = f"local-dir:{path_of(self.name.removeprefix('local-dir:'))}"
        for field in ("pretrained", "weights"):
            if str(getattr(self, field)).startswith("~"):
                setattr(self, field, str(path_of(getattr(self, field))))

    def load(self) -> CLIP:
        """The model in float32 on the CPU; under ``torch.device("meta")`` its outline, without weights or tokenizer.

        Raises:
            InputError: no such model, or weights that are missing, cannot be downloaded, or do not fit the model.
        """
        if torch.get_default_device().type == "meta":
            return self._outline()
        self.check()
        return CLIP(*open_parts(self.name, self.pretrained, self.weights, self.origin))

    def check(self) -> str:
        """The name as open_clip takes it.

        Raises:
            InputError: no such model, no such tag of it, a file that is missing, or one whose origin is not clear; or
                a model of open_clip that the methods do not take.
        """
        name = check(self.name, self.pretrained, self.weights)
        self.find_origin()
        if ":" not in name and outline_name(name):  # others show it when they are loaded
            self._outline()
        return name

    def _outline(self) -> CLIP:
        return CLIP(outline(outline_name(self.name) or self.name), _nothing, _nothing, _nothing)

    def find_origin(self) -> Origin:
        """Who trained the weights.

        Raises:
            InputError: see ``gift_lightning.origin.find_origin``.
        """
        return find_origin(self.name, self.pretrained, self.weights, self.origin)

    def notes(self) -> list[str]:
        """What a user should know of weights in a file before they are read; nothing if ``check`` refuses them."""
        try:
            is_there = any(file and Path(file).is_file() for file in (self.pretrained, self.weights))
            return self.find_origin().notes if is_there else []
        except InputError:
            return []

    def settings(self) -> dict[str, Any]:
        """Activation and preprocessing, as arguments of open_clip for weights that come without their tag."""
        return settings(self.name, self.find_origin().tag)


def _nothing(_: Any) -> Tensor:
    raise NotImplementedError("The outline of a CLIP reads nothing.")


def split_transform(transform: Callable[[Any], Tensor]) -> tuple[Callable[[Any], Tensor], Callable[[Tensor], Tensor]]:
    """Split a test transform into what runs once on an image and what runs on every batch of it.

    The first part ends in uint8, the second does what ``ToTensor`` and ``Normalize`` do, in the same order. A transform
    of another form is all first part.
    """
    parts = list(getattr(transform, "transforms", []))
    if len(parts) < 2 or not isinstance(parts[-1], Normalize) or "ToTensor" not in type(parts[-2]).__name__:
        return transform, lambda images: images
    return Compose([*parts[:-2], PILToTensor()]), _FromBytes(parts[-1])


@dataclass
class _FromBytes:
    """What ``ToTensor`` and ``Normalize`` do, on uint8 images; not a lambda, which no worker process could be sent."""

    normalize: Normalize

    def __call__(self, images: Tensor) -> Tensor:
        return self.normalize(images.float().div(255))


class _TextTower:
    """One view of the two places where open_clip keeps the parts of a text tower."""

    def __init__(self, model: nn.Module) -> None:
        self._tower: Any = getattr(model, "text", model)
        own = self._tower is not model
        self._pool_type: str | None = getattr(self._tower, "pool_type" if own else "text_pool_type", None)
        self._end_id: int | None = getattr(self._tower, "eos_id" if own else "text_eos_id", None)

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
