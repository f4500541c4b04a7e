"""Any text-to-image pipeline of diffusers as a generator of replay images."""

from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from datamodules.replay.generator import ImageGenerator
from datamodules.replay.pipeline import KEY, PNG_BYTES, STABLE_DIFFUSION, Pipeline
from datamodules.replay.pipeline_files import fingerprint
from datamodules.replay.quiet import quiet
from gift_lightning.errors import InputError, first_line
from gift_lightning.numerics.precision import float32_products
from gift_lightning.sources import Source

FEW_STEPS = 50
"""Below this number of denoising steps DPM-Solver++ draws better than the scheduler that comes with a pipeline."""

SLICED_PIXELS = 8 * 512**2
"""Pixels of a batch above which a CUDA device decodes one image after the other: 64 of 512 x 512 at once take 34 GB."""


class DiffusionGenerator(ImageGenerator):
    """Any text-to-image pipeline of diffusers; with few steps, those of DPM-Solver++ (Lu et al., arXiv 2211.01095).

    With 50 steps or more a pipeline keeps its own scheduler, as the authors of GIFT have it (Stable Diffusion v1.5 has
    PNDM). With fewer DPM-Solver++ takes its place, unless it does not fit the model's schedule (flow matching), or
    ``scheduler`` is ``own``, which models for few steps need (Turbo, Lightning).

    Each image starts from the noise of its own seed, drawn on the CPU, and batches are filled up to ``batch_size``, so
    that no image depends on how many are asked for, or on its neighbours. Another batch size may round differently,
    because its kernels add up in another order. Measured with the generator of MiniMTIL on a CPU in float32: batches
    of 8 to 64 give the same bits, smaller ones the same but for about one value in 20,000, by one level of 255. In
    half precision on a GPU more may differ. So may it between devices: a CUDA device computes with the channels of a
    pixel side by side, and decodes large batches image by image. Images on disk stay as they are.

    Weights are read from safetensors alone, in a variant (``fp16``) if there are no others. Code in a repository is
    never run, and the safety checker, which blackens images, is left out.

    Args:
        name: a folder, the id of a repository on the Hugging Face hub, or ``package:<module>`` for a folder in an
            installed Python package.
        revision: branch, tag or commit of the repository; by default a fixed commit of Stable Diffusion v1.5, and of
            others the main branch.
        steps: denoising steps.
        guidance: scale of classifier-free guidance; 1 is without.
        scheduler: ``own`` is the pipeline's, with any number of steps; ``auto`` as above.
        dtype: of the model; ``auto`` is float16 on a CUDA device, else float32.
        batch_size: images drawn at a time.
        device: of the model; ``auto`` is the best device of this machine.

    Raises:
        InputError: from ``check`` or ``generate``: no such pipeline, damaged or without safetensors, not one from text
            to image; a prompt that is longer than it reads; not enough memory.
    """

    INDIFFERENT = frozenset({"batch_size", "device"})
    """See ``gift_lightning.runs.same_run``: they change the rounding alone, and are no part of ``identity`` either."""

    def __init__(
        self,
        name: str = STABLE_DIFFUSION,
        revision: str | None = None,
        steps: int = 50,
        guidance: float = 7.5,
        dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
        batch_size: int = 8,
        device: str = "auto",
        scheduler: Literal["auto", "own"] = "auto",
    ) -> None:
        for key, value in {"steps": steps, "batch_size": batch_size}.items():
            if value < 1:
                raise InputError(f"`{KEY}.{key}` is {value}: give at least 1.")
        self.name, self.files = name, Pipeline(name, revision)
        self.steps, self.guidance = steps, guidance
        self.dtype, self.batch_size, self.device, self.scheduler = dtype, batch_size, device, scheduler
        self._pipeline: Any = None

    def identity(self) -> dict[str, Any]:
        folder = self.files.folder()
        # a folder is identified by its files, not by its path
        origin = {"weights": fingerprint(folder)} if folder else {"name": self.name, "revision": self.files.revision}
        dtype = str(_dtype(self.dtype, self._device())).removeprefix("torch.")  # "auto" means another on each machine
        scheduler = {"scheduler": "own"} if self.scheduler == "own" and self.steps < FEW_STEPS else {}
        return {**origin, "steps": self.steps, "guidance": self.guidance, "dtype": dtype, **scheduler}

    def check(self, prompts: list[str]) -> None:
        with quiet():
            for tokenizer in _tokenizers(self._load()):
                for prompt, tokens in zip(prompts, tokenizer(prompts).input_ids, strict=True):
                    if len(tokens) > tokenizer.model_max_length:
                        raise InputError(
                            f"The prompt '{prompt}' has {len(tokens)} tokens, of which {self.name} reads"
                            f" {tokenizer.model_max_length}: shorten it."
                        )

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        self.check(prompts)
        images, size = list[Image.Image](), self.batch_size
        for first in range(0, len(prompts), size):
            images += self._draw(prompts[first : first + size], seeds[first : first + size])
        return images

    def _draw(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        """One batch, filled up with copies of its last prompt and seed."""
        missing, pipeline = self.batch_size - len(prompts), self._load()
        noise = [torch.Generator().manual_seed(seed) for seed in [*seeds, *seeds[-1:] * missing]]
        try:
            with quiet(), float32_products(pipeline.device, tf32=False):  # within a run as outside
                drawn = pipeline(
                    prompts + prompts[-1:] * missing,
                    num_inference_steps=self.steps,
                    guidance_scale=self.guidance,
                    generator=noise,
                    output_type="pt" if _gives_tensors(pipeline) else "pil",
                )
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"{pipeline.device} has not enough memory to draw {self.batch_size} images at a time: lower"
                f" `{KEY}.batch_size`."
            ) from error
        except Exception as error:  # of settings that do not go together, or a config that is damaged
            raise InputError(f"`{KEY}.name`: {self.name} cannot draw: {first_line(error)}") from error
        images = drawn.images[: len(prompts)]
        return pictures(images) if isinstance(images, Tensor) else images

    def release(self) -> None:
        self._pipeline = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    # --- loading ------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Look for the pipeline; where the environment lets it, one that is on the hub alone is fetched."""
        self.files.get()

    def sources(self) -> list[Source]:
        return [self.files]

    def image_bytes(self) -> int:
        return self.files.image_bytes()

    def _load(self) -> Any:
        """The pipeline on its device, read at the first call."""
        if self._pipeline is None:
            from diffusers import DPMSolverMultistepScheduler

            device = self._device()
            with quiet(), torch.random.fork_rng(devices=[]):  # weights are drawn before they are read
                pipeline = self._read(_dtype(self.dtype, device))
            try:
                pipeline.to(device)
            except (RuntimeError, AssertionError) as error:  # AssertionError: of a torch without CUDA
                raise InputError(f"`{KEY}.device`: the pipeline cannot go to {device}: {first_line(error)}") from error
            replaces = self.scheduler == "auto" and self.steps < FEW_STEPS
            if replaces and DPMSolverMultistepScheduler in pipeline.scheduler.compatibles:
                pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
            pipeline.set_progress_bar_config(disable=True)
            if device.type == "cuda":
                _arrange(pipeline, self.batch_size * self.image_bytes() // PNG_BYTES > SLICED_PIXELS)
            self._pipeline = pipeline
        return self._pipeline

    def _device(self) -> torch.device:
        try:
            return _best_device() if self.device == "auto" else torch.device(self.device)
        except RuntimeError as error:
            raise InputError(f"`{KEY}.device` is '{self.device}': give auto, cpu, cuda, cuda:1, mps ...") from error

    def _read(self, dtype: torch.dtype) -> Any:
        from diffusers import AutoPipelineForText2Image

        folder = self.files.get()
        try:
            pipeline = AutoPipelineForText2Image.from_pretrained(
                str(folder),
                torch_dtype=dtype,
                variant=self.files.contents(folder).variant,
                use_safetensors=True,
                safety_checker=None,
                requires_safety_checker=False,
            )
        except Exception as error:  # diffusers raises many types: a damaged file, a library that is too old
            if "can't find a pipeline linked" in str(error):
                raise InputError(
                    f"`{KEY}.name`: {self.name} is no text-to-image pipeline: give another one."
                ) from error
            raise InputError(f"{self.files.not_loaded(folder)}: {first_line(error)}") from error
        for tokenizer in _tokenizers(pipeline):
            if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):  # of a folder without files
                raise InputError(f"{self.files.not_loaded(folder)}: its tokenizer has no vocabulary.")
        return pipeline


def _gives_tensors(pipeline: Any) -> bool:
    """Whether it returns tensors in [0, 1]: those of some pipelines are in [-1, 1], which have no such processor."""
    from diffusers.image_processor import VaeImageProcessor

    return isinstance(getattr(pipeline, "image_processor", None), VaeImageProcessor)


def pictures(images: Tensor) -> list[Image.Image]:
    """Images of values ``[n, 3, H, W]`` in [0, 1], rounded on their device: a quarter of the bytes to fetch."""
    levels = images.float().mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(each) for each in levels]


def _arrange(pipeline: Any, sliced: bool) -> None:
    """Let a pipeline fit a CUDA device: channels of a pixel side by side, and large batches decoded image by image."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module) and all(weight.ndim < 5 for weight in part.parameters()):
            part.to(memory_format=torch.channels_last)
    autoencoder: Any = getattr(pipeline, "vae", None)
    if sliced and hasattr(autoencoder, "use_slicing"):
        autoencoder.enable_slicing()


def _tokenizers(pipeline: Any) -> list[Any]:
    components = pipeline.components.items()
    return [component for name, component in components if name.startswith("tokenizer") and component is not None]


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        name = "float16" if device.type == "cuda" else "float32"
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())  # in a run of several ranks, that of this rank
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
