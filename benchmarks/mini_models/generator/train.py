"""Train the generator of MiniMTIL: ``python -m benchmarks.mini_models.generator.train``.

First an autoencoder, then a denoiser of its latents, as in latent diffusion (Rombach et al. 2022, arXiv 2112.10752),
on captioned pictures of the general world. What a step sees follows from the seed and the step, so a run that was
stopped goes on exactly where its last snapshot is.
"""

import argparse
import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.mini_models.generator.models import new_autoencoder, new_denoiser, new_scheduler
from benchmarks.mini_models.generator.text import Conditions, new_text_encoder, write_tokenizer
from datamodules.mini.generator import FOLDER
from datamodules.mini.world import stream
from gift_lightning.errors import InputError
from gift_lightning.files import atomic_write, read_json, write_json
from gift_lightning.seeding import stream_seed

log = logging.getLogger(__name__)

KIND_SHARES = {
    "sprite": 0.30,
    "digit": 0.09,
    "letter": 0.10,
    "texture": 0.19,
    "count": 0.17,
    "land": 0.08,
    "flag": 0.07,
}
"""How often each kind is shown: more often the harder it is to draw."""
STYLES = {"photo": 0.9, "sketch": 0.1}
"""How often each style is shown at first."""
TIDY_STYLES = {"tidy": 0.85, "tidy sketch": 0.15}
ALIGNED_STYLES = {"aligned": 0.85, "aligned sketch": 0.15}
TIDY_FROM, ALIGNED_FROM = 12_416, 17_264
"""The steps from which on the denoiser sees tidy pictures alone, as Stable Diffusion is tuned on handsome ones in the
end, and then such in which textures and counted things are aligned; multiples of the batches drawn at a time."""
STYLES_FROM = {0: STYLES, TIDY_FROM: TIDY_STYLES, ALIGNED_FROM: ALIGNED_STYLES}
LARGEST_WEIGHT = 5.0
"""Bound of the weight of nearly clean latents in the loss, from then on."""
BATCH = 64
DROPPED_CAPTIONS = 0.1
"""Share of pictures shown without their caption, which guidance needs."""
CPU = torch.device("cpu")
_BLOCK = 16  # batches drawn at a time
_SNAPSHOT_SECONDS = 120


def batches(
    seed: int, first: int, steps: int, batch: int, styles_from: Mapping[int, Mapping[str, float]] = STYLES_FROM
) -> Iterator[tuple[Tensor, list[str]]]:
    """Pictures in [-1, 1] and captions of steps ``first`` to ``steps - 1``.

    ``styles_from``: the styles from a step on, until the next one that is named.
    """
    images, captions, block = torch.empty(0), list[str](), -1
    for step in range(first, steps):
        if step // _BLOCK != block:
            block = step // _BLOCK
            styles = styles_from[max(start for start in styles_from if start <= step)]
            images, captions = stream(_BLOCK * batch, stream_seed(seed, "generator", block), KIND_SHARES, styles)
        start = step % _BLOCK * batch
        shown = images[start : start + batch].contiguous(memory_format=torch.channels_last)
        yield shown.float() / 127.5 - 1, captions[start : start + batch]


def rate(step: int, steps: int, peak: float, decay: float) -> float:
    """Learning rate by step: warm-up, constant, then linear to zero over the last share ``decay`` of the steps.

    Until the decay begins it does not depend on ``steps``: a run can be made longer or shorter on the way.
    """
    left = (steps - step) / (decay * steps)
    return peak * min(1.0, (step + 1) / 200) * min(1.0, left)


@contextlib.contextmanager
def _half(device: torch.device) -> Iterator[None]:
    """Forward passes in bfloat16: convolutions are several times faster, but on a CPU fused attention is slower."""
    plain = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()
    with torch.autocast(device.type, torch.bfloat16), plain:
        yield


class Stage:
    """A network in training that can stop at any step and resume: weights, their average, optimiser."""

    def __init__(self, network: nn.Module, peak: float, decay: float, average: float) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        self.weights: list[Tensor] = list(network.parameters())
        self.averaged = [weight.detach().clone() for weight in self.weights]
        self.optimizer = torch.optim.AdamW(self.weights, peak, (0.9, 0.99), weight_decay=0.01, fused=True)
        self.peak, self.decay, self.average = peak, decay, average
        self.step, self.seconds = 0, 0.0

    def update(self, loss: Tensor, steps: int) -> None:
        """One optimiser step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.step, steps, self.peak, self.decay)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(self.average, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, self.weights, 1 - keep)

    def finish(self) -> None:
        """Replace the weights by their average."""
        with torch.no_grad():
            torch._foreach_copy_(self.weights, self.averaged)

    def save(self, path: Path, steps: int) -> None:
        """Write the state from which a stopped run resumes."""
        state: dict[str, Any] = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"averaged": self.averaged, "step": self.step, "steps": steps, "seconds": self.seconds}
        with atomic_write(path) as temporary:
            torch.save(state, temporary)

    def resume(self, path: Path, steps: int) -> None:
        """Go on from a snapshot, if one of an earlier step than ``steps`` exists."""
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        if state["steps"] != steps and state["step"] > (1 - self.decay) * min(steps, state["steps"]):
            raise InputError(
                f"{path} is from a run of {state['steps']} steps whose learning rate already falls: remove it or ask"
                " for as many steps."
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch._foreach_copy_(self.averaged, state["averaged"])
        self.step, self.seconds = state["step"], state["seconds"]
        log.info("going on from step %d", self.step)


def train(
    stage: Stage,
    steps: int,
    seed: int,
    batch: int,
    snapshot: Path,
    loss_of: Callable[[Tensor, list[str], torch.Generator], Tensor],
) -> None:
    """Run a stage up to ``steps``, from its snapshot if one exists; its average is the result."""
    stage.resume(snapshot, steps)
    device = stage.weights[0].device
    began, saved, earlier, first, losses = time.monotonic(), time.monotonic(), stage.seconds, stage.step, list[float]()
    for images, captions in batches(seed, first, steps, batch):
        generator = torch.Generator().manual_seed(stream_seed(seed, "noise", stage.step))
        loss = loss_of(images.to(device), captions, generator)
        stage.update(loss, steps)
        losses.append(loss.item())
        now = time.monotonic()
        if now - saved > _SNAPSHOT_SECONDS or stage.step == steps:
            stage.seconds, saved = earlier + now - began, now
            stage.save(snapshot, steps)
            left = (now - began) / (stage.step - first) * (steps - stage.step)
            mean = sum(losses) / len(losses)
            log.info("%s: step %d/%d, loss %.4f, %.0f s left", snapshot.stem, stage.step, steps, mean, left)
            losses.clear()
    stage.finish()


def train_autoencoder(
    steps: int, seed: int, batch: int, snapshot: Path, device: torch.device = CPU
) -> tuple[Any, float]:
    """The trained autoencoder and the seconds it took."""
    torch.manual_seed(seed)
    autoencoder = new_autoencoder().to(device)

    def loss_of(images: Tensor, _: list[str], generator: torch.Generator) -> Tensor:
        with _half(device):
            latents = autoencoder.encoder(images).float()
        # noise makes the decoder robust to errors of the denoiser, and keeps the latents from growing without bound
        disturbed = latents + 0.1 * torch.randn(latents.shape, generator=generator).to(device)
        variance, mean = torch.var_mean(latents, (0, 2, 3))
        spread = (variance.log() ** 2).mean() + (mean**2).mean()
        with _half(device):
            decoded = autoencoder.decoder(disturbed).float()
        return F.mse_loss(decoded, images) + 0.1 * F.l1_loss(decoded, images) + 0.002 * spread

    stage = Stage(autoencoder, peak=2e-3, decay=0.4, average=0.998)
    train(stage, steps, seed, batch, snapshot, loss_of)
    return autoencoder.eval().requires_grad_(False), stage.seconds


@torch.no_grad()
def measure_scale(autoencoder: Any, seed: int) -> float:
    """The factor that gives latents a standard deviation of 1."""
    images, _ = next(batches(seed, 0, 1, 1024))
    return 1 / float(autoencoder.encoder(images.to(autoencoder.device)).std())


def train_denoiser(steps: int, seed: int, batch: int, snapshot: Path, autoencoder: Any, text: Conditions) -> Any:
    """The trained stage of the denoiser."""
    torch.manual_seed(seed)
    device = autoencoder.device
    denoiser = new_denoiser().to(device)
    signals = new_scheduler().alphas_cumprod.to(device)

    def loss_of(images: Tensor, captions: list[str], generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            latents = autoencoder.encoder(images) * autoencoder.config.scaling_factor
        dropped = torch.rand(len(images), generator=generator) < DROPPED_CAPTIONS
        shown = ["" if drop else caption for drop, caption in zip(dropped.tolist(), captions, strict=True)]
        time_steps = torch.randint(0, 1000, (len(images),), generator=generator).to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        signal = signals[time_steps].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with _half(device):
            predicted = denoiser(noisy, time_steps, text(shown).to(device)).sample
        if stage.step < TIDY_FROM:
            return F.mse_loss(predicted.float(), latents)
        # between the error of the clean latents (weight 1) and that of the velocity (1 + signal-to-noise ratio)
        weight = (1 + signal / (1 - signal)).clamp(max=LARGEST_WEIGHT)
        return (weight * (predicted.float() - latents).square()).mean()

    stage = Stage(denoiser, peak=2e-3, decay=0.3, average=0.9995)
    train(stage, steps, seed, batch, snapshot, loss_of)
    return stage


def write_pipeline(folder: Path, autoencoder: Any, denoiser: Any, text_encoder: Any, tokenizer: Any) -> None:
    """Write the folder that ``StableDiffusionPipeline.from_pretrained`` reads, in fp16."""
    from diffusers import StableDiffusionPipeline

    pipeline: Any = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=denoiser,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for name in ("tokenizer.json", "special_tokens_map.json"):  # repeats vocab.json and merges.txt
        (folder / "tokenizer" / name).unlink(missing_ok=True)
    # diffusers loads its networks in float32, transformers in the dtype of the config: they have to agree
    config = folder / "text_encoder" / "config.json"
    write_json(config, {**read_json(config), "dtype": "float32"})
    for weights in folder.rglob("*.safetensors"):
        weights.chmod(0o644)  # safetensors gives the owner alone access


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m benchmarks.mini_models.generator.train``."""
    parser = argparse.ArgumentParser(description="Train the text-to-image model of MiniMTIL on the general world.")
    parser.add_argument("--steps", type=int, default=32000, help="steps of the denoiser (default %(default)s)")
    parser.add_argument("--autoencoder-steps", type=int, default=3000, help="(default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=BATCH, help="pictures in a step (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default %(default)s)")
    parser.add_argument("--device", type=torch.device, default=CPU, help="cpu, cuda or mps (default %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/generator"), help="folder of the snapshots")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder to write (default: datamodules/mini/generator)"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    autoencoder, first_seconds = train_autoencoder(
        args.autoencoder_steps, args.seed, args.batch_size, args.work / "autoencoder.pt", args.device
    )
    autoencoder.register_to_config(scaling_factor=measure_scale(autoencoder, args.seed))
    tokenizer, text_encoder = write_tokenizer(args.out / "tokenizer"), new_text_encoder()
    stage = train_denoiser(
        args.steps,
        args.seed,
        args.batch_size,
        args.work / "denoiser.pt",
        autoencoder,
        Conditions(tokenizer, text_encoder),
    )
    write_pipeline(args.out, autoencoder.cpu(), stage.network.cpu(), text_encoder, tokenizer)
    facts = {
        "steps": args.steps,
        "autoencoder_steps": args.autoencoder_steps,
        "seed": args.seed,
        "batch_size": args.batch_size,
        "threads": args.threads,
        "seconds": round(first_seconds + stage.seconds),
    }
    write_json(args.out / "training.json", facts)
    log.info("wrote %s", json.dumps(facts))


if __name__ == "__main__":
    main()
