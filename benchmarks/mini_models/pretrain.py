"""Pre-train the small CLIP of MiniMTIL: ``python -m benchmarks.mini_models.pretrain --steps 7000``.

Contrastive learning on the general world as in CLIP (Radford et al. 2021, arXiv 2103.00020), except that equal captions
of a batch are encoded once and all count as positives. The pictures of a step follow from the seed and the step, so a
run that was stopped goes on exactly where its last snapshot is.
"""

import argparse
import json
import logging
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.mini_models.card import write_card
from benchmarks.mini_models.recipe import BATCH, DECAY, LARGEST_SCALE, PEAK_RATE, WARM_UP, WEIGHTS
from benchmarks.mini_models.vocabulary import write_merges
from datamodules.mini.clip import FOLDER
from datamodules.mini.world import WORLD_VERSION, stream
from gift_lightning.clip.model import CLIP
from gift_lightning.errors import InputError
from gift_lightning.files import atomic_write

log = logging.getLogger(__name__)

_BLOCK = 4  # batches drawn at a time; their captions share their opening words
_SNAPSHOT_SECONDS = 120


def new_model(folder: Path) -> CLIP:
    """The CLIP that ``folder`` describes, with fresh weights; unlike in fine-tuning its logit scale is trained."""
    name = f"local-dir:{folder}"
    model, train_transform, test_transform = open_clip.create_model_and_transforms(name, load_weights=False)
    tokenizer = open_clip.get_tokenizer(name, bpe_path=str(folder / "merges.txt.gz"))
    clip = CLIP(model.to(memory_format=torch.channels_last), train_transform, test_transform, tokenizer)
    clip.model.logit_scale.requires_grad_(True)
    return clip


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


def train_step(clip: CLIP, optimizer: torch.optim.Optimizer, images: Tensor, captions: list[str]) -> float:
    """One optimiser step on one batch; returns the loss."""
    number = {text: i for i, text in enumerate(dict.fromkeys(captions))}
    text = clip.encode_text(clip.tokenize(list(number)))
    image = clip.encode_image(clip.normalize(images))
    loss = contrastive_loss(image, text, torch.tensor([number[c] for c in captions]), clip.logit_scale)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        clip.model.logit_scale.clamp_(max=math.log(LARGEST_SCALE))
    return float(loss.detach())


def new_optimizer(clip: CLIP) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [p for p in clip.parameters() if p.ndim > 1]
    others = [p for p in clip.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)


def save_half(clip: CLIP, path: Path, facts: dict[str, str]) -> None:
    """fp16 safetensors with the facts of the run as metadata."""
    weights = {name: value.half().contiguous() for name, value in clip.model.state_dict().items()}
    with atomic_write(path) as temporary:
        save_file(weights, temporary, metadata={"format": "pt", **facts})


def _save_snapshot(
    path: Path, clip: CLIP, optimizer: torch.optim.Optimizer, step: int, steps: int, seconds: float
) -> None:
    """The state from which a stopped run resumes."""
    state = {"model": clip.model.state_dict(), "optimizer": optimizer.state_dict()}
    with atomic_write(path) as temporary:
        torch.save({**state, "step": step, "steps": steps, "seconds": seconds}, temporary)


def _resume(path: Path, steps: int, clip: CLIP, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Load a snapshot of an earlier step than ``steps``: the next step and the seconds used so far."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["steps"] != steps and state["step"] > (1 - DECAY) * min(steps, state["steps"]):
        raise InputError(
            f"{path} is from a run of {state['steps']} steps whose learning rate already falls: remove it or ask for as"
            " many steps."
        )
    clip.model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    log.info("going on from step %d", state["step"])
    return state["step"], state["seconds"]


def pretrain(steps: int, seed: int, out: Path, batch: int = BATCH) -> CLIP:
    """Train for ``steps`` steps, or the rest of them after the snapshot in ``out``, and write the weights into it."""
    torch.manual_seed(seed)
    clip = new_model(out)
    optimizer = new_optimizer(clip)
    snapshot = out / f"snapshot-{WORLD_VERSION}-{seed}-{batch}.pt"
    first, earlier = _resume(snapshot, steps, clip, optimizer)
    began = saved = time.monotonic()
    for step, (images, captions) in enumerate(batches(seed, first, steps, batch), first):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        loss = train_step(clip, optimizer, images, captions)
        now = time.monotonic()
        if now - saved > _SNAPSHOT_SECONDS:
            saved = now
            _save_snapshot(snapshot, clip, optimizer, step + 1, steps, earlier + now - began)
            left = (now - began) / (step + 1 - first) * (steps - step - 1)
            scale = clip.logit_scale.item()
            log.info("step %d/%d, loss %.3f, scale %.1f, %.0f s left", step + 1, steps, loss, scale, left)
    seconds = earlier + time.monotonic() - began
    facts = {"steps": steps, "seed": seed, "batch_size": batch, "world": WORLD_VERSION, "seconds": round(seconds)}
    facts["threads"] = torch.get_num_threads()
    save_half(clip, out / WEIGHTS, {name: str(fact) for name, fact in facts.items()})
    snapshot.unlink(missing_ok=True)
    return clip


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m benchmarks.mini_models.pretrain``."""
    parser = argparse.ArgumentParser(description="Pre-train the small CLIP of MiniMTIL on the general world.")
    parser.add_argument("--steps", type=int, default=7000, help="optimiser steps (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first weights and of the pictures")
    parser.add_argument(
        "--batch-size", type=int, default=BATCH, help="captioned pictures in a step (default %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="model folder to write (default: datamodules/mini/clip)"
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
    size, tower = write_merges(args.out / "merges.txt.gz"), json.loads(config.read_text())["model_cfg"]["text_cfg"]
    if size != tower["vocab_size"]:
        raise InputError(f"{config} says vocab_size {tower['vocab_size']}, the world's words make {size}: set it.")
    pretrain(args.steps, args.seed, args.out, args.batch_size)
    write_card(args.out, args.test_size)
    log.info("wrote %s", args.out)


if __name__ == "__main__":
    main()
