"""CLIP as the methods see it: an open_clip model with its own transforms and tokenizer."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import open_clip
import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn import functional as F

from gift_lightning.clip.features import compiled_features, embedding_features, image_features, text_features
from gift_lightning.clip.origin import Origin
from gift_lightning.clip.text import TextTower, vocabulary_of
from gift_lightning.clip.transforms import split_transforms
from gift_lightning.errors import InputError

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

    Attributes:
        train_geometry, test_geometry, normalize: the transforms in two steps, see ``datamodules.preprocessing``.
        compiles_training: whether features with a gradient come from compiled towers; those without never do.

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
        self.test_transform, self.tokenizer, self.origin = test_transform, tokenizer, origin
        self.compiles_training = False
        self.train_geometry, self.test_geometry, self.normalize = split_transforms(train_transform, test_transform)
        self._words: tuple[list[str], int] | None = None
        model.logit_scale.requires_grad_(False)  # never trained by the methods' authors either

    @property
    def train_transform(self) -> Callable[[Any], Tensor]:
        """PIL image to ``[3, H, W]`` with augmentation; to change it, set ``train_geometry`` and ``normalize``."""
        return lambda image: self.normalize(self.train_geometry(image)[None])[0]

    @property
    def logit_scale(self) -> Tensor:
        """Factor from cosine to training logit, a scalar: ``exp`` of the stored parameter."""
        return self.model.logit_scale.exp()

    def checkpoint_activations(self) -> None:
        """From now on store the inputs of blocks alone for a backward pass, which computes the blocks again.

        Raises:
            InputError: a tower of this model cannot.
        """
        self.model.set_grad_checkpointing(True)
        texts = self.model.text if hasattr(self.model, "text") else self.model.transformer
        for tower in (self.model.visual, texts):
            # open_clip only logs that a tower of another library cannot
            if not any(getattr(module, "grad_checkpointing", False) for module in tower.modules()):
                raise InputError(
                    f"`model.activation_checkpointing`: {type(tower).__name__} of this CLIP cannot compute its blocks"
                    " again: leave it out, or choose another `model.clip`."
                )

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``[n, D]`` of images and ``[m, D]`` of texts: ``encode_image`` and ``encode_text``."""
        return self.encode_image(images), self.encode_text(tokens)

    def encode_image(self, images: Tensor) -> Tensor:
        """Normalised features ``[n, D]`` of normalised images ``[n, 3, H, W]``."""
        return self._features(image_features, images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Normalised features ``[n, D]`` of token ids ``[n, L]``; a causal tower takes any ``L`` up to its context."""
        return self._features(text_features, tokens)

    def embed(self, tokens: Tensor) -> Tensor:
        """Token embeddings ``[n, L, W]`` of token ids ``[n, L]``, to be changed and encoded by ``encode_embeddings``.

        Raises:
            InputError: the text tower is not causal with pooling at the end token.
        """
        return self._causal_tower().embed(tokens)

    def insert_vectors(self, vectors: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors between the start token and the words of texts, which move on: for ``encode_embeddings``.

        Args:
            vectors: ``[m, W]``, the same for all texts.
            tokens: ids ``[n, L]``.

        Returns:
            Embeddings ``[n, L + m, W]``, and ids ``[n, L + m]`` that have 0 in the places of the vectors.

        Raises:
            InputError: as for ``embed``.
        """
        embeddings, count = self.embed(tokens), len(tokens)
        inserted = vectors.to(embeddings.dtype).expand(count, -1, -1)
        blank = tokens.new_zeros(count, len(vectors))
        return (
            torch.cat([embeddings[:, :1], inserted, embeddings[:, 1:]], dim=1),
            torch.cat([tokens[:, :1], blank, tokens[:, 1:]], dim=1),
        )

    def encode_embeddings(self, embeddings: Tensor, tokens: Tensor) -> Tensor:
        """Normalised features ``[n, D]`` of token embeddings ``[n, L, W]``: those of ``encode_text`` for ``embed``.

        Args:
            embeddings: in the places of the tokens.
            tokens: ids ``[n, L]``; they say where each text ends.

        Raises:
            InputError: as for ``embed``; numbers of embeddings and of tokens that differ; or more than the CLIP reads.
        """
        tower = self._causal_tower()
        if embeddings.shape[:-1] != tokens.shape:
            raise InputError(
                f"Embeddings {list(embeddings.shape)} do not belong to tokens {list(tokens.shape)}: give one of each"
                " position, as insert_vectors does."
            )
        if tokens.shape[1] > tower.context_length:
            raise InputError(
                f"A text is {tokens.shape[1]} tokens and vectors long, and the CLIP reads {tower.context_length}: take"
                " fewer learned vectors, or shorten the class names or the templates."
            )
        return self._features(embedding_features, embeddings, tokens)

    def _features(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        if self.compiles_training and torch.is_grad_enabled():
            return compiled_features(function, self.model, *inputs)
        return function(self.model, *inputs)

    def _causal_tower(self) -> TextTower:
        tower = TextTower(self.model)
        if not tower.can_be_cut:
            raise InputError(
                "The text tower of this CLIP takes no vectors in the place of tokens: choose a `model.clip` with a"
                " causal text tower that pools at the end token."
            )
        return tower

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids ``[n, L]`` on the model's device, cut where that changes no feature.

        A causal tower that pools at the end token never looks behind it, so ``L`` is the length of the longest text:
        8 to 20 positions instead of 77 for usual prompts. For other towers it is the context length.
        """
        tokens, tower = self.tokenizer(list(texts)), TextTower(self.model)
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
            self._words = vocabulary_of(self.tokenizer)  # kept: to look through it takes seconds
        vocabulary, room = self._words
        draws = torch.randint(len(vocabulary), (count, min(words, room)), generator=generator)
        return [" ".join(vocabulary[index] for index in text) for text in draws.tolist()]

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], encode: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Normalised features ``[n, D]`` of texts, without gradient, some at a time.

        Args:
            texts: ``n`` of them.
            encode: from token ids ``[b, L]`` to features ``[b, D]``, in the place of ``encode_text``.
        """
        batches = [texts[first : first + TEXT_BATCH] for first in range(0, len(texts), TEXT_BATCH)]
        return torch.cat([(encode or self.encode_text)(self.tokenize(batch)) for batch in batches])

    @torch.no_grad()
    def classifier(self, prompts: Sequence[Sequence[str]], encode: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Class embeddings ``[C, D]`` for testing: the mean of the text features of each class's prompts, normalised.

        Args:
            prompts: of each class, one or more.
            encode: see ``encode_texts``.
        """
        features = self.encode_texts([prompt for of_class in prompts for prompt in of_class], encode)
        means = [of_class.mean(0) for of_class in features.split([len(of_class) for of_class in prompts])]
        return F.normalize(torch.stack(means), dim=-1)

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
