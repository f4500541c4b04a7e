"""Pre-train the small CLIP of MiniMTIL: ``python -m datamodules.mini.pretrain --steps N --seed 0 --out DIR``.

Contrastive learning on the general world as in CLIP (Radford et al. 2021, arXiv 2103.00020), except that equal captions
of a batch are encoded once and all count as positives. The pictures of a step follow from the seed and the step, so a
run that was stopped goes on exactly where its last snapshot is.
"""

import argparse
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor, nn

from datamodules.mini.clip import FOLDER
from datamodules.mini.clip.vocabulary import write_merges
from datamodules.mini.world import WORLD_VERSION, stream

log = logging.getLogger(__name__)

WEIGHTS = "open_clip_model.safetensors"
BATCH = 192
PEAK_RATE = 2e-3
WARM_UP = 200
DECAY = 0.4  # share of the steps over which the rate falls to zero
LARGEST_SCALE = 60.0
_BLOCK = 4  # batches drawn at a time; their captions share their opening words
_SNAPSHOT_SECONDS = 120


def new_model(folder: Path) -> CLIP:
    """The open_clip model that ``folder`` describes, with fresh weights."""
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    return CLIP(**config)


def tokenizer(folder: Path) -> open_clip.SimpleTokenizer:
    """open_clip's tokenizer with the small vocabulary of ``folder``."""
    length = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]["context_length"]
    return open_clip.SimpleTokenizer(bpe_path=str(folder / "merges.txt.gz"), context_length=length)


def encode_text(model: CLIP, tokens: Tensor) -> Tensor:
    """Normalised text features (N, D). Causal attention never looks past the end token, so padding is cut off."""
    end = tokens.argmax(1)
    length = int(end.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return F.normalize(x[torch.arange(len(x)), end] @ model.text_projection, dim=-1)


def to_input(images: Tensor) -> Tensor:
    """uint8 pictures -> the normalised input of the model (its ``preprocess_cfg``)."""
    return (images.float() / 255 - 0.5) / 0.25


def contrastive_loss(image: Tensor, text: Tensor, caption: Tensor, scale: Tensor) -> Tensor:
    """Symmetric contrastive loss with several images per caption.

    Args:
        image: normalised image features (B, D).
        text: normalised features of the distinct captions (U, D).
        caption: the caption of each image (B,), in 0..U-1.
        scale: factor on the cosine.
    """
    logits = scale * image @ text.T
    positives = F.one_hot(caption, len(text)).float().T  # (U, B)
    target = positives / positives.sum(1, keepdim=True)
    to_image = -(target * F.log_softmax(logits.T, 1)).sum(1).mean()
    return 0.5 * F.cross_entropy(logits, caption) + 0.5 * to_image


def batches(seed: int, first: int, steps: int, batch: int) -> Iterator[tuple[Tensor, list[str]]]:
    """The batches of steps ``first`` to ``steps - 1``."""
    images, captions, block = torch.empty(0), list[str](), -1
    for step in range(first, steps):
        if step // _BLOCK != block:
            block = step // _BLOCK
            images, captions = stream(_BLOCK * batch, seed * 1_000_003 + block)
        start = step % _BLOCK * batch
        yield images[start : start + batch], captions[start : start + batch]


def rate(step: int, steps: int) -> float:
    """Learning rate by step: linear warm-up, constant, then a cosine to zero.

    Until the decay begins it does not depend on ``steps``, so a run can be made shorter or longer on the way and stay
    reproducible.
    """
    done = max(0.0, (step - (1 - DECAY) * steps) / (DECAY * steps))
    return PEAK_RATE * min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * done))


def train_step(
    model: CLIP,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    captions: list[str],
    tokenize: open_clip.SimpleTokenizer,
) -> float:
    """One optimiser step on one batch; returns the loss."""
    number = {text: i for i, text in enumerate(dict.fromkeys(captions))}
    text = encode_text(model, tokenize(list(number)))
    image = F.normalize(model.visual(to_input(images)), dim=-1)
    loss = contrastive_loss(image, text, torch.tensor([number[c] for c in captions]), model.logit_scale.exp())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(LARGEST_SCALE))
    return float(loss.detach())


def new_optimizer(model: CLIP) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)


def save_weights(model: CLIP, path: Path, facts: dict[str, str]) -> None:
    """fp16 safetensors with the facts of the run as metadata, put in place in one move."""
    part = path.with_suffix(".part")
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, part, metadata={"format": "pt", **facts})
    part.chmod(0o644)
    os.replace(part, path)


def _save_snapshot(
    path: Path, model: CLIP, optimizer: torch.optim.Optimizer, step: int, steps: int, seconds: float
) -> None:
    """All that a stopped run needs to go on, put in place in one move."""
    part = path.with_suffix(".part")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "step": step, "steps": steps, "seconds": seconds}, part)
    os.replace(part, path)


def _resume(path: Path, steps: int, model: CLIP, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Load a snapshot that lies on the way of a run of ``steps`` steps: the next step and the seconds used so far."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["steps"] != steps and state["step"] > (1 - DECAY) * min(steps, state["steps"]):
        raise ValueError(
            f"{path} is from a run of {state['steps']} steps whose learning rate already falls: "
            "remove it or ask for as many steps"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    log.info("going on from step %d", state["step"])
    return state["step"], state["seconds"]


def pretrain(steps: int, seed: int, out: Path, batch: int = BATCH) -> CLIP:
    """Train for ``steps`` steps, or what is left of them after the snapshot in ``out``, and write the weights there."""
    tokenize = tokenizer(out)
    torch.manual_seed(seed)
    model = new_model(out).to(memory_format=torch.channels_last)
    optimizer = new_optimizer(model)
    snapshot = out / f"snapshot-{seed}-{batch}.pt"
    first, earlier = _resume(snapshot, steps, model, optimizer)
    began = saved = time.monotonic()
    for step, (images, captions) in enumerate(batches(seed, first, steps, batch), first):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        loss = train_step(model, optimizer, images, captions, tokenize)
        now = time.monotonic()
        if now - saved > _SNAPSHOT_SECONDS:
            saved = now
            _save_snapshot(snapshot, model, optimizer, step + 1, steps, earlier + now - began)
            left = (now - began) / (step + 1 - first) * (steps - step - 1)
            scale = model.logit_scale.detach().exp().item()
            log.info("step %d/%d, loss %.3f, scale %.1f, %.0f s left", step + 1, steps, loss, scale, left)
    seconds = earlier + time.monotonic() - began
    facts = {"steps": steps, "seed": seed, "batch_size": batch, "world": WORLD_VERSION, "seconds": round(seconds)}
    facts["threads"] = torch.get_num_threads()
    save_weights(model, out / WEIGHTS, {name: str(fact) for name, fact in facts.items()})
    snapshot.unlink(missing_ok=True)
    return model


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m datamodules.mini.pretrain``."""
    from datamodules.mini.card import write_card

    parser = argparse.ArgumentParser(description="Pre-train the small CLIP of MiniMTIL on the general world.")
    parser.add_argument("--steps", type=int, default=8000, help="optimiser steps (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first weights and of the pictures")
    parser.add_argument(
        "--batch-size", type=int, default=BATCH, help="captioned pictures in a step (default %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="model folder to write (default: the one in this package)"
    )
    parser.add_argument(
        "--test-size", type=int, default=800, help="test images per task for the accuracies on the model card"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    config = args.out / "open_clip_config.json"
    if not config.exists():
        shutil.copy(FOLDER / config.name, config)
    write_merges(args.out / "merges.txt.gz")
    pretrain(args.steps, args.seed, args.out, args.batch_size)
    write_card(args.out, args.test_size)
    log.info("wrote %s", args.out)


if __name__ == "__main__":
    main()
