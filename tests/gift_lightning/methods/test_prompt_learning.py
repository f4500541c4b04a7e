"""A method that learns prompts: vectors before the words of a prompt."""

import pytest
import torch

from datamodules import Task, TaskSequence
from datamodules.mini import Flags
from gift_lightning.errors import InputError
from tests.callbacks.test_task_boundary import MINI, sequence_of, trainer_with
from tests.e2e.outside.learned_context import LearnedContext


@pytest.mark.parametrize("context", ["a", "a photo of"])
@pytest.mark.parametrize("prompt", ["star", "{} texture", "a photo of a {}"])
def test_the_first_vectors_read_as_their_words_before_the_prompt(context: str, prompt: str) -> None:
    method = LearnedContext(context=context, clip=MINI)
    prompts = [prompt.format(name) for name in ("star", "red circle")]
    tokens = method.clip.tokenize([f"{context} {prompt}" for prompt in prompts])
    assert torch.equal(method.encode_prompts(method.clip.tokenize(prompts)), method.clip.encode_text(tokens))


@torch.no_grad()
@pytest.mark.parametrize("template", ["{}", "{} texture", "a {} texture"])
def test_prompts_of_other_classes_have_other_features(template: str) -> None:
    task = Flags(8, 4)
    task.templates = [template]
    classes = LearnedContext(clip=MINI).classifier(task)
    assert len(classes) == len(task.class_names) and (classes @ classes.T).triu(1).max() < 0.9999


def test_all_vectors_learn_and_the_clip_stays() -> None:
    method = LearnedContext(clip=MINI, lr=1e-2, warmup_steps=0)
    before = method.context.detach().clone()
    weights = [weight.clone() for weight in method.clip.parameters()]
    trainer_with(max_epochs=1).fit(method, sequence_of([Flags(16, 4)]))
    assert (method.context != before).any(1).all()
    assert all(torch.equal(a, b) for a, b in zip(weights, method.clip.parameters(), strict=True))


def test_prompts_that_are_too_long_with_the_vectors_are_refused() -> None:
    task: Task = Flags(16, 4)
    task.templates = ["a photo of a photo of a photo of {}"]
    method = LearnedContext(clip=MINI, context="a photo of a photo of")
    with pytest.raises(InputError, match=r"long, and the CLIP reads 16: take fewer learned vectors, or shorten the"):
        trainer_with(max_epochs=1).fit(method, TaskSequence([task], batch_size=8))


def test_embeddings_that_are_not_those_of_the_tokens_are_refused() -> None:
    clip = MINI.load()
    tokens = clip.tokenize(["a star"])
    with pytest.raises(InputError, match=r"Embeddings \[1, 4, 128\] do not belong to tokens \[1, 3\]"):
        clip.encode_embeddings(clip.embed(tokens), tokens[:, 1:])
