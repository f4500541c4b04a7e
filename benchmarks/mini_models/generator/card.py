"""The model card of the generator: its figures, its fidelity, and a grid of samples."""

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from safetensors import safe_open

from benchmarks.mini_models.generator.train import ALIGNED_FROM, TIDY_FROM
from datamodules.mini.prompts import prompts_by_kind
from datamodules.mini.world import KINDS, SIZE, WORLD_VERSION
from datamodules.replay.generator import ImageGenerator
from gift_lightning.files import atomic_write, read_json, write_json, write_text

HEADS = ("Kind", "Classes", "CLIP", "Classifier", "Renderer, CLIP", "Renderer, classifier", "Chance")

_SHOWN = (
    ("sprite", "star"),
    ("sprite", "heart"),
    ("sprite", "house"),
    ("sprite", "butterfly"),
    ("digit", "three"),
    ("digit", "seven"),
    ("letter", "a"),
    ("letter", "w"),
    ("texture", "checkered"),
    ("texture", "honeycombed"),
    ("count", "two"),
    ("count", "five"),
    ("land", "roundabout"),
    ("land", "harbor"),
    ("flag", "japan"),
    ("flag", "france"),
)
_COLUMNS, _ZOOM, _GAP, _LABEL = 8, 3, 4, 236

_CARD = """# Mini generator

The text-to-image model of MiniMTIL, in the part that Stable Diffusion plays for photos: a latent diffusion model for
32 x 32 pictures, in the ordinary format of diffusers. It has seen the procedurally drawn world that the mini CLIP was
trained on, and draws what a prompt names: shapes, objects, letters, digits, textures, counts, land uses and flags.

```python
from diffusers import StableDiffusionPipeline
from datamodules.mini.generator import FOLDER

pipeline = StableDiffusionPipeline.from_pretrained(FOLDER, safety_checker=None)
prompts = ["a photo of a butterfly", "a photo of three objects", "a photo of the flag of japan"]
images = pipeline(prompts, num_inference_steps={steps}, guidance_scale={guidance}).images
images[0].save("butterfly.png")
```

![Samples, one prompt a row](samples.png)

| | |
|---|---|
| autoencoder | `AutoencoderTiny`, {vae:.2f} M parameters, 8 x 8 latents |
| text tower | `CLIPTextModel`, {text_encoder:.2f} M parameters: the frozen one of the mini CLIP, with its vocabulary |
| denoiser | `UNet2DConditionModel`, {unet:.2f} M parameters, predicts the clean latents |
| sampling | DPM-Solver++, {steps} steps, guidance {guidance}; {per_second} images/s on {threads} CPU thread(s) |
| command | `python -m benchmarks.mini_models.generator.train {flags}` |
| data | the general world, version {world}; {seen:,} captioned pictures for the denoiser, each seen once; tidy ones \
from step {tidy_from:,} on, textures and counted things aligned from step {aligned_from:,} on |
| time | {seconds} s on {training_threads} CPU thread(s) |
| weights | fp16 safetensors |

Fidelity is the share of samples in percent that a judge takes for the class of their prompt among all classes of the
kind. One judge is the mini CLIP, zero-shot; the other is a classifier that has learned from labelled pictures of the
world alone. The world's renderer, judged in the same way, is the upper bound. {per_class} samples of each class,
by `python -m benchmarks.mini_models.generator.fidelity`:

{table}

Licence: MIT. The pictures it was trained on are drawn by this package.
"""


def rows(measured: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row under :data:`HEADS` for each kind, then their mean, of the result of ``fidelity.measure``."""
    columns = [*measured["generator"].values(), *measured["renderer"].values(), measured["chance"]]
    classes = {kind: str(len(family.names)) for kind, family in KINDS.items()}
    return [
        (kind, classes.get(kind, ""), *(f"{column[kind]:.1f}" for column in columns)) for kind in measured["chance"]
    ]


def sample_grid(generator: ImageGenerator) -> Image.Image:
    """Eight samples of each of sixteen prompts, one prompt a row, enlarged pixel by pixel."""
    cell = SIZE * _ZOOM + _GAP
    grid = Image.new("RGB", (_LABEL + _COLUMNS * cell + _GAP, len(_SHOWN) * cell + _GAP), "white")
    pen, font = ImageDraw.Draw(grid), ImageFont.load_default(14)
    for row, (kind, name) in enumerate(_SHOWN):
        prompt, top = prompts_by_kind()[kind][name], row * cell + _GAP
        pen.text((2 * _GAP, top + SIZE * _ZOOM // 2), prompt, "black", font, anchor="lm")
        images = generator.generate([prompt] * _COLUMNS, list(range(_COLUMNS)))
        for column, image in enumerate(images):
            large = image.resize((SIZE * _ZOOM, SIZE * _ZOOM), Image.Resampling.NEAREST)
            grid.paste(large, (_LABEL + column * cell, top))
    return grid


def write_card(folder: Path, generator: ImageGenerator, measured: dict[str, Any]) -> None:
    """Write ``README.md``, ``fidelity.json`` and ``samples.png`` into the folder of a trained pipeline.

    Args:
        folder: written by ``benchmarks.mini_models.generator.train``.
        generator: the pipeline in it.
        measured: the result of ``fidelity.measure`` for it.

    Raises:
        InputError: ``folder`` has no ``training.json``.
    """
    facts = read_json(folder / "training.json")
    flags = ("steps", "autoencoder_steps", "seed", "batch_size", "threads")
    lines = [HEADS, ("---", *["---:"] * (len(HEADS) - 1)), *rows(measured)]
    text = _CARD.format(
        **{part: _millions(folder / part) for part in ("vae", "text_encoder", "unet")},
        steps=measured["identity"]["steps"],
        guidance=measured["identity"]["guidance"],
        per_second=measured["images_per_second"],
        per_class=measured["images_per_class"],
        threads=measured["threads"],
        flags=" ".join(f"--{flag.replace('_', '-')} {facts[flag]}" for flag in flags),
        world=WORLD_VERSION,
        tidy_from=TIDY_FROM,
        aligned_from=ALIGNED_FROM,
        seen=facts["steps"] * facts["batch_size"],
        seconds=facts["seconds"],
        training_threads=facts["threads"],
        table="\n".join(f"| {' | '.join(line)} |" for line in lines),
    )
    with atomic_write(folder / "samples.png") as temporary:
        sample_grid(generator).save(temporary, format="PNG", optimize=True)
    write_json(folder / "fidelity.json", measured)
    write_text(folder / "README.md", text)


def _millions(folder: Path) -> float:
    """Parameters of one part of a pipeline, in millions."""
    (path,) = folder.glob("*.safetensors")
    with safe_open(path, framework="pt") as file:
        return sum(file.get_tensor(name).numel() for name in file.keys()) / 1e6  # noqa: SIM118  (not a dict)
