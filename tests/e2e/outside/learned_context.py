"""Prompt learning after CoOp: vectors before the words of a prompt learn."""

from typing import Any

import torch
from torch import Tensor, nn

from gift_lightning.methods import ContinualCLIP


class LearnedContext(ContinualCLIP):
    """All prompts begin with learned vectors, shared by all classes and tasks; CLIP itself is frozen.

    loss = CE, over the prompts ``[v_1, ..., v_m, words of the template with the class name]``

    Between tasks the vectors are stored.

    Reference: Zhou et al., "Learning to Prompt for Vision-Language Models", arXiv 2109.01134.

    Args:
        context: words as whose embeddings the vectors begin. The template ``{}`` adds the class name alone.
        kwargs: see ``ContinualCLIP``.
    """

    def __init__(self, context: str = "a photo of", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clip.requires_grad_(False)
        words = self.clip.embed(self.clip.tokenize([context]))[0, 1:-1]  # without the start and the end token
        self.context = nn.Parameter(words.clone())

    def encode_prompts(self, tokens: Tensor) -> Tensor:
        return self.clip.encode_embeddings(*self.clip.insert_vectors(self.context, tokens))

    def knowledge(self) -> dict[str, Tensor]:
        return {"context": self.context.detach()}

    def load_knowledge(self, knowledge: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self.context.copy_(knowledge.get("context", self.context))
