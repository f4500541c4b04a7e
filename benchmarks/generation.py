"""Milliseconds of a drawn image, in a folder of replay: ours, beside a textbook loop over the same pipeline.

::

    python -m benchmarks.generation                                              # the generator of MiniMTIL, on a CPU
    python -m benchmarks.generation --device cuda --shape sd15 --steps 50 --batch 16

The textbook calls the pipeline and saves each image, one batch after the other. Ours is ``Drawing.make``, which also
looks for images on disk, checks prompts, hashes pixels and writes a manifest. Both draw the same images: on a CPU with
equal pixels, which is asserted; on a GPU the largest difference is shown. The parts are measured one by one:
"denoising" is the pipeline without decoding, "writing" what happens to an image after it is decoded. "device waits" is
the whole less denoising and decoding.

The shape ``sd15`` is Stable Diffusion 1.5 with random weights, which are made here.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from datamodules.mini import generator as mini
from datamodules.replay.diffusion import DiffusionGenerator, pictures
from datamodules.replay.drawing import Drawing
from datamodules.replay.folder import ReplayFolder
from datamodules.replay.quiet import quiet
from datamodules.stream import Split

GUIDANCE = {"mini": 3.0, "sd15": 7.5}
PROMPTS = [f"a photo of a {name}" for name in ("house", "red star", "fish", "tree", "blue flag", "cat", "river")]
WIDTH, SIDE = 320, 64
"""Channels and latents on a side of the denoiser of Stable Diffusion 1.5."""


def write_stable_diffusion(folder: Path, device: str, dtype: torch.dtype) -> None:
    """Write a pipeline of the shape of Stable Diffusion 1.5, with random weights and the tokenizer of MiniMTIL."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(mini.FOLDER / "tokenizer"), model_max_length=77)
    ends: dict[str, Any] = {
        "bos_token_id": len(tokenizer) - 2,
        "eos_token_id": len(tokenizer) - 1,
        "pad_token_id": len(tokenizer) - 1,
    }
    text: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
    torch.manual_seed(0)
    with torch.device(device):
        widths = tuple(WIDTH * factor for factor in (1, 2, 4, 4))  # the other numbers are the class's own
        unet = UNet2DConditionModel(sample_size=SIDE, block_out_channels=widths, cross_attention_dim=768)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            sample_size=8 * SIDE,
        )
        encoder = CLIPTextModel(CLIPTextConfig(**text, **ends, num_attention_heads=12, vocab_size=len(tokenizer)))
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    pipeline: Any = StableDiffusionPipeline(
        vae, encoder, tokenizer, unet, scheduler, **dict.fromkeys(("safety_checker", "feature_extractor"))
    )
    pipeline.to(dtype).save_pretrained(folder)


def write_textbook(pipeline: Any, drawing: Drawing, settings: dict[str, Any]) -> None:
    """Draw batch after batch, and save each image."""
    size = drawing.generator.batch_size
    drawing.folder.path.mkdir()
    for first in range(0, len(drawing.prompts), size):
        numbers = range(first, first + size)
        for number, image in zip(numbers, drawn(pipeline, drawing, numbers, settings).images, strict=True):
            image.save(drawing.folder.image(number))


def drawn(pipeline: Any, drawing: Drawing, numbers: range, settings: dict[str, Any], **more: Any) -> Any:
    """What the pipeline returns for a batch of a drawing."""
    noise = [torch.Generator().manual_seed(drawing.seed(number, 0)) for number in numbers]
    prompts = [drawing.prompts[number] for number in numbers]
    return pipeline(prompts, generator=noise, **settings, **more)


class Measurement:
    """Both ways on one device.

    Args:
        folder: of the pipeline, and of what is drawn.
        generator: ours.
        count: images of a round.
        device: of both.
    """

    def __init__(self, folder: Path, generator: DiffusionGenerator, count: int, device: str) -> None:
        self.folder, self.generator, self.device, self.rounds = folder, generator, device, 0
        self.prompts = list(islice(PROMPTS * count, count))
        self.settings = {"num_inference_steps": generator.steps, "guidance_scale": generator.guidance}

    def drawing(self) -> Drawing:
        """A drawing into a new folder."""
        self.rounds += 1
        return Drawing(ReplayFolder(self.folder / f"drawn{self.rounds}"), self.generator, self.prompts, (0, 0))

    def plain(self) -> Any:
        """The pipeline of the textbook, with our scheduler."""
        from diffusers import StableDiffusionPipeline

        ours = self.generator._load()
        folder = self.generator.files.get()
        with quiet():
            pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=ours.unet.dtype, safety_checker=None)
        pipeline.scheduler = type(ours.scheduler).from_config(ours.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(self.device)

    def seconds(self, work: Callable[[], Any]) -> float:
        """Of some work, with that which it leaves to the device."""
        began = time.perf_counter()
        work()
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def ours(self) -> tuple[float, Drawing]:
        """Seconds of a whole drawing, after the pipeline is loaded."""
        drawing = self.drawing()
        self.generator.check(self.prompts[:1])
        return self.seconds(lambda: list(drawing.make(Split()))), drawing

    def textbook(self, pipeline: Any) -> tuple[float, Drawing]:
        """The same of the textbook."""
        drawing = self.drawing()
        return self.seconds(lambda: write_textbook(pipeline, drawing, self.settings)), drawing

    def parts(self, pipeline: Any, is_ours: bool) -> list[float]:
        """Seconds of denoising, decoding and writing of a batch."""
        drawing, batch = self.drawing(), range(self.generator.batch_size)
        drawing.folder.path.mkdir()
        latents, images = list[Any](), list[Image.Image]()

        def decode() -> None:
            with torch.no_grad():
                scaled = latents[0] / pipeline.vae.config.scaling_factor
                decoded = pipeline.vae.decode(scaled, return_dict=False)[0]
            values = pipeline.image_processor.postprocess(decoded, output_type="pt" if is_ours else "pil")
            images[:] = pictures(values) if is_ours else values

        def write() -> None:
            for number, image in zip(batch, images, strict=True):
                if is_ours:
                    drawing.folder.write(number, image, self.prompts[number], 0)
                else:
                    image.save(drawing.folder.image(number))

        denoising = self.seconds(
            lambda: latents.append(drawn(pipeline, drawing, batch, self.settings, output_type="latent").images)
        )
        return [denoising, self.seconds(decode), self.seconds(write)]


def difference(one: Drawing, other: Drawing) -> int:
    """The largest difference of two folders of images, in levels of 255."""
    pairs = [[np.asarray(Image.open(each.folder.image(n))).astype(int) for each in (one, other)] for n in (0, 1, 2)]
    return int(max(np.abs(ours - theirs).max() for ours, theirs in pairs))


def tables(device: str = "cpu") -> list[Table]:
    """Of the generator of MiniMTIL on a CPU; on a GPU of the shape of Stable Diffusion 1.5, with 50 steps."""
    return [measured(device, 50, 16, "sd15", 2, 1) if device == "cuda" else measured(device)]


def measured(
    device: str, steps: int = 10, batch: int = 32, shape: str = "mini", batches: int = 3, rounds: int = 2
) -> Table:
    """Measure, textbook and ours in turn; milliseconds an image, the fastest of the rounds.

    Args:
        device: ``cpu`` or ``cuda``.
        steps: of denoising.
        batch: images drawn at a time.
        shape: ``mini`` or ``sd15``.
        batches: of a round.
        rounds: of each way.
    """
    dtype: Any = "float16" if shape == "sd15" and device != "cpu" else "float32"
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        place = mini.FOLDER if shape == "mini" else folder / "pipeline"
        if shape == "sd15":
            write_stable_diffusion(place, device, getattr(torch, dtype))
        generator = DiffusionGenerator(
            str(place), steps=steps, guidance=GUIDANCE[shape], dtype=dtype, batch_size=batch, device=device
        )
        measurement = Measurement(folder, generator, batch * batches, device)
        pipeline = measurement.plain()
        measurement.parts(pipeline, False)  # warm-up
        parts, totals = {"textbook": [], "ours": []}, {"textbook": [], "ours": []}  # type: ignore[var-annotated]
        for _ in range(rounds):
            parts["textbook"].append(measurement.parts(pipeline, False))
            seconds, textbook = measurement.textbook(pipeline)
            totals["textbook"].append(seconds)
            parts["ours"].append(measurement.parts(generator._load(), True))
            seconds, ours = measurement.ours()
            totals["ours"].append(seconds)
        apart = difference(textbook, ours)
        recorded = json.loads((ours.folder.path / "manifest.json").read_text())["images"]
    if (device == "cpu" and apart) or len(recorded) != batch * batches:
        raise RuntimeError(f"The two ways draw different images, by up to {apart} levels.")
    title = f"ms an image: {shape}, {dtype} on {device}, {steps} steps, batches of {batch}; pixels differ by {apart}"
    table = Table(title=title)
    for name in ("", "textbook", "ours", "textbook / ours"):
        table.add_column(name, justify="right" if name else "left")
    times = [[1000 * min(part) / batch for part in zip(*parts[way], strict=True)] for way in parts]
    whole = [1000 * min(totals[way]) / len(recorded) for way in totals]
    rows = dict(zip(("denoising", "decoding", "writing"), zip(*times, strict=True), strict=True))
    rows |= {"all together": tuple(whole)}
    for name, (plain, own) in rows.items():
        table.add_row(name, f"{plain:.1f}", f"{own:.1f}", f"{plain / own:.2f}")
    waits = (total - each[0] - each[1] for total, each in zip(whole, times, strict=True))
    table.add_row("device waits", *(f"{value:.1f}" for value in waits), "")
    table.add_row("images/s", *(f"{1000 / value:.1f}" for value in whole), "")
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and show a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generation", description="Time the drawing of images.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--steps", type=int, default=10, help="of denoising")
    parser.add_argument("--batch", type=int, default=32, help="images drawn at a time")
    parser.add_argument("--shape", default="mini", choices=("mini", "sd15"))
    parser.add_argument("--batches", type=int, default=3, help="of a round")
    parser.add_argument("--rounds", type=int, default=2, help="of each way, of which the fastest counts")
    Console().print(measured(**vars(parser.parse_args(argv))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
