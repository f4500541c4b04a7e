"""The files of a text-to-image pipeline of diffusers: in a folder, or on the Hugging Face hub, to be fetched."""

import re
from pathlib import Path
from typing import Any

from datamodules.replay.pipeline_files import INDEX, Contents, contents, contents_of
from datamodules.replay.quiet import quiet
from gift_lightning.errors import InputError, first_line
from gift_lightning.fetch import Report
from gift_lightning.files import package_file, read_json
from gift_lightning.hub import HOW_TO_FETCH, cached_file, is_offline, not_cached, verify
from gift_lightning.sources import Inspection

STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
"""The text-to-image model of GIFT's authors, on the Hugging Face hub."""

COMMITS = {STABLE_DIFFUSION: "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"}
"""Versions of repositories that images are drawn with unless another is named: the same for everybody, at any time."""

KEY = "data.replay.generator"
"""Key of the generator in a config."""

_FACTS: dict[str, dict[str, Any]] = {
    # the weights of its text tower, denoiser and decoder in float32
    STABLE_DIFFUSION: {"size": 4_270_000_000, "licence": "CreativeML Open RAIL-M"},
}
"""Size in bytes and licence of the files that are fetched of a pipeline."""

_USUAL_SIDE = 512
"""Pixels of a side of a generated image, without a pipeline on this machine."""

PNG_BYTES = 2
"""Bytes of a pixel of a picture as PNG: 3 without compression, of which about a third is saved."""


class Pipeline:
    """The files of a pipeline; a ``Source``.

    Args:
        place: a folder, the id of a repository on the Hugging Face hub, or ``package:<module>`` for a folder in an
            installed Python package.
        revision: branch, tag or commit of the repository; by default a fixed commit of Stable Diffusion v1.5, and of
            others the main branch.
    """

    name = "text to image"

    def __init__(self, place: str = STABLE_DIFFUSION, revision: str | None = None) -> None:
        self.place, self.revision = place, revision or COMMITS.get(place)

    def inspect(self) -> Inspection:
        """Its state on this machine."""
        try:
            folder = self.find()
        except InputError as error:
            return Inspection(self.name, "missing", str(error))
        if folder is None:
            return not_cached(self.name, self.place, **_FACTS.get(self.place, {}))
        return Inspection(self.name, "present", where=folder)

    def download(self, report: Report) -> None:
        """Fetch the files of the pipeline from the hub, and check their hashes."""
        for file in self.get().rglob("*.safetensors"):
            verify(file)

    def get(self) -> Path:
        """The folder of the whole pipeline, which is fetched from the hub if it is nowhere else.

        Raises:
            InputError: it is neither a folder nor on the hub, it is not whole there, or the hub cannot be asked.
        """
        if (folder := self.find()) is not None:
            return folder
        if is_offline():
            raise InputError(
                f"`{KEY}.name`: there is no folder {self.place}, and it is not whole in the cache of the Hugging Face"
                f" hub on this machine: {HOW_TO_FETCH}, or check name and revision."
            )
        try:
            return self._fetch()
        except InputError:
            raise
        except Exception as error:  # requests, the hub and diffusers raise many types
            raise InputError(f"{self.place} cannot be fetched ({first_line(error).rstrip('.')}).") from error

    def _fetch(self) -> Path:
        from diffusers import DiffusionPipeline
        from huggingface_hub import hf_hub_download, model_info

        files = [file.rfilename for file in model_info(self.place, revision=self.revision).siblings or []]
        listed = contents(read_json(hf_hub_download(self.place, INDEX, revision=self.revision)), files)
        if listed.lacking:
            raise InputError(f"{self.place} cannot be fetched: the hub has no {listed.lacking[0]} of it.")
        with quiet():
            return Path(
                DiffusionPipeline.download(
                    self.place,
                    revision=self.revision,
                    variant=listed.variant,
                    use_safetensors=True,
                    safety_checker=None,
                )
            )

    def find(self) -> Path | None:
        """The folder of the whole pipeline, if need be in the cache of the hub; ``None`` if it has to be fetched.

        Raises:
            InputError: it is neither a folder nor on the hub, or the folder is not complete.
        """
        folder = self.folder()
        if folder is None:
            index = cached_file(self.place, INDEX, self.revision)
            return index.parent if index is not None and not self.contents(index.parent).lacking else None
        lacking = self.contents(folder).lacking
        if lacking:
            raise InputError(f"{self.not_loaded(folder)}: it has no {lacking[0]}.")
        return folder

    def folder(self) -> Path | None:
        """The folder that ``place`` names, whole or not; ``None`` for a repository on the hub.

        Raises:
            InputError: it is neither a folder of a pipeline nor the id of a repository.
        """
        folder = package_file(self.place, f"`{KEY}.name`")
        if folder.is_dir():
            if not (folder / INDEX).is_file():
                raise InputError(f"`{KEY}.name`: {folder} is no pipeline of diffusers, it has no {INDEX}.")
            return folder
        if folder.is_file():
            raise InputError(
                f"`{KEY}.name`: {folder} is a single file: write the folder of its pipeline once, as in diffusers."
                f"StableDiffusionPipeline.from_single_file('{folder}').save_pretrained('FOLDER'), and give that folder."
            )
        if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", self.place):
            raise InputError(
                f"`{KEY}.name`: {folder} does not exist; give the folder of a pipeline, or the id of one on the hub."
            )
        return None

    def contents(self, folder: Path) -> Contents:
        """The files that are read of a folder of the pipeline.

        Raises:
            InputError: its index is damaged.
        """
        try:
            return contents_of(folder)
        except InputError as error:
            raise InputError(f"{self.not_loaded(folder)}: its {INDEX} is damaged.") from error

    def not_loaded(self, folder: Path) -> str:
        """The beginning of a sentence on a folder that cannot be read."""
        return f"`{KEY}.name`: the pipeline in {folder} cannot be loaded (get it again if it is not complete)"

    def image_bytes(self) -> int:
        """About how many bytes a drawn image takes as PNG; the usual number if the pipeline is not here."""
        folder, side = self.inspect().where, _USUAL_SIDE
        configs = [folder / name / "config.json" for name in ("unet", "vae")] if folder else []
        if configs and all(config.is_file() for config in configs):
            unet, vae = map(read_json, configs)
            sample, levels = unet.get("sample_size"), vae.get("block_out_channels")
            side = sample * 2 ** (len(levels) - 1) if isinstance(sample, int) and levels else _USUAL_SIDE
        return PNG_BYTES * side**2
