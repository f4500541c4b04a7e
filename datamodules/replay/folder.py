"""The images of one task on disk: a folder in the layout of GIFT's authors, with a manifest beside it."""

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gift_lightning.errors import InputError
from gift_lightning.files import atomic_write, read_json

CSV_NAME, MANIFEST_NAME = "image_text.csv", "manifest.json"
SCHEMA = 1
"""Version of the manifest; raised when a field changes its meaning."""


class ReplayFolder:
    """``0.png, 1.png, ...``, ``image_text.csv`` with the columns ``image,text``, and ``manifest.json``.

    The manifest says what the images were made with. It is written before the first image, and completed with prompt
    and seed of each when all are there. A folder with a CSV and no manifest was made by others.

    Any number of processes may write at the same time, as long as they write the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_foreign(self) -> bool:
        """Whether somebody else's program made it."""
        names = self._names()
        return CSV_NAME in names and MANIFEST_NAME not in names

    def count(self) -> int:
        """Number of images that are there."""
        return sum(name.endswith(".png") and not name.startswith(".") for name in self._names())

    def image(self, index: int) -> Path:
        """Where image number ``index`` is, or will be."""
        return self.path / f"{index}.png"

    # --- making -------------------------------------------------------------------------------------------------------

    def open(self, settings: dict[str, Any], prompts: Sequence[str]) -> None:
        """Write down what will be drawn, or check that it is what was begun here.

        Args:
            settings: JSON values that decide the images, beside the prompts.
            prompts: the prompt of each image.

        Raises:
            InputError: the folder was begun with other settings or prompts.
        """
        digest = hashlib.sha256(json.dumps(list(prompts)).encode()).hexdigest()
        wanted = {"schema": SCHEMA, **settings, "count": len(prompts), "prompts": digest}
        names = self._names()
        if MANIFEST_NAME in names:
            self._check_same(read_json(self.path / MANIFEST_NAME), wanted)
        else:
            self._write_text(MANIFEST_NAME, json.dumps(wanted, indent=1) + "\n")
        if CSV_NAME not in names:  # after the manifest: a CSV alone means a folder of others
            with atomic_write(self.path / CSV_NAME) as temporary, open(temporary, "w", newline="") as file:
                rows = ((self.image(i).name, prompt) for i, prompt in enumerate(prompts))
                csv.writer(file, lineterminator="\n").writerows([("image", "text"), *rows])

    def seed_of(self, index: int, prompt: str) -> int | None:
        """The seed of a whole image that was drawn from ``prompt``; ``None`` if it is missing, broken or another."""
        try:
            with Image.open(self.image(index)) as image:
                if image.info.get("prompt") != prompt or is_blank(image):
                    return None
                return int(image.info["seed"])
        except (OSError, SyntaxError, ValueError, KeyError):  # SyntaxError: Pillow's word for a broken PNG
            return None

    def write(self, index: int, image: Image.Image, prompt: str, seed: int) -> None:
        """Write an image, which carries its prompt and seed as PNG text."""
        text = PngInfo()
        text.add_itxt("prompt", prompt)
        text.add_text("seed", str(seed))
        with atomic_write(self.image(index), durable=False) as temporary:
            image.convert("RGB").save(temporary, pnginfo=text)

    def close(self, prompts: Sequence[str]) -> None:
        """Complete the manifest if every image is there; otherwise leave that to the process that writes the last."""
        manifest, names = read_json(self.path / MANIFEST_NAME), self._names()
        if "images" in manifest or not all(self.image(i).name in names for i in range(len(prompts))):
            return
        seeds = [self.seed_of(i, prompt) for i, prompt in enumerate(prompts)]
        if None in seeds:
            return
        entries = zip((self.image(i).name for i in range(len(prompts))), prompts, seeds, strict=True)
        images = [{"file": name, "prompt": prompt, "seed": seed} for name, prompt, seed in entries]
        self._write_text(MANIFEST_NAME, json.dumps({**manifest, "images": images}, indent=1) + "\n")
        for left in self.path.glob(".*.png.*.tmp.png"):  # by processes that were killed
            left.unlink(missing_ok=True)

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, count: int) -> list[tuple[Path, str]]:
        """The first ``count`` rows of the CSV as ``(image file, prompt)``, less those with a black image.

        Raises:
            InputError: the folder or its CSV is missing, damaged or too short, or an image is missing or broken.
        """
        usable = [(file, prompt) for file, prompt in self.listed(count) if not _is_blank_file(file)]
        if not usable:
            raise InputError(f"{self.path} has black images only: make them anew, without a safety checker.")
        return usable

    def listed(self, count: int) -> list[tuple[Path, str]]:
        """The first ``count`` rows of the CSV as ``(image file, prompt)``; no image is opened.

        Raises:
            InputError: the folder or its CSV is missing, damaged or too short, or an image is missing.
        """
        rows = self._rows(count)
        files = [(self._find(entry), prompt) for entry, prompt in rows[:count]]
        missing = [entry for (file, _), (entry, _) in zip(files, rows, strict=False) if file is None]
        if missing:
            raise InputError(
                f"{self.path} lacks {len(missing)} of the {count} images that its {CSV_NAME} names, the first one is"
                f" {missing[0]}: restore them, or set data.replay.generator to make those of a folder that was begun"
                " with it."
            )
        return [(file, prompt) for file, prompt in files if file is not None]

    def _rows(self, count: int) -> list[tuple[str, str]]:
        """Image and text of each row; at least ``count``."""
        path = self.path / CSV_NAME
        if not path.is_file():
            raise InputError(
                f"{path} does not exist: set data.replay.generator to make the images, or correct data.replay.folder."
            )
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, skipinitialspace=True)
                if not {"image", "text"} <= set(reader.fieldnames or ()):
                    raise InputError(f"{path} does not begin with the header image,text: restore it.")
                rows = [(row["image"], row["text"]) for row in reader]
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} is no CSV file ({error}): restore it.") from error
        broken = next((number for number, row in enumerate(rows, 2) if not all(row)), None)
        if broken is not None:
            raise InputError(f"{path} has no image or no text in line {broken}: restore it.")
        if len(rows) < count:
            raise InputError(
                f"{path} has {len(rows)} rows, data.replay.images_per_task is {count}: lower it, or give a folder with"
                " more images."
            )
        return rows

    def _find(self, entry: str) -> Path | None:
        """The file of a CSV entry: by its name in this folder, wherever it was when the CSV was written."""
        entry = entry.replace("\\", "/")  # written on Windows
        places = (self.path / PurePosixPath(entry).name, self.path / entry, Path(entry))
        return next((file for file in places if file.is_file()), None)

    def _names(self) -> set[str]:
        # a listing, not a question for each file: a network file system remembers longer that a file is missing
        return set(os.listdir(self.path)) if self.path.is_dir() else set()

    def _write_text(self, name: str, text: str) -> None:
        with atomic_write(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _check_same(self, there: Any, wanted: dict[str, Any]) -> None:
        if not isinstance(there, dict):
            raise InputError(f"{self.path / MANIFEST_NAME} is damaged: restore it, or delete {self.path}.")
        old, new = _flat(there), _flat(wanted)
        for key in [*new, *(key for key in old if key not in new and key != "images")]:
            if old.get(key) != new.get(key):
                values = "" if key == "prompts" else f" ({old.get(key)} there, {new.get(key)} here)"
                raise InputError(
                    f"{self.path} holds images made with another {key}{values}: choose another data.replay.folder, or"
                    " delete this one."
                )


def is_blank(image: Image.Image) -> bool:
    """Whether an image is black, or of any single colour: what a safety checker or an overflow leaves."""
    low_high = image.convert("RGB").getextrema()
    return all(low == high for low, high in low_high)  # type: ignore[misc]


def _is_blank_file(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return is_blank(image)
    except (OSError, SyntaxError) as error:
        raise InputError(f"{path} is no whole image: restore it, or remove its row from {CSV_NAME}.") from error


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with those of the generator beside the others, as ``generator.steps``."""
    generator = settings.get("generator", {})
    rest = {key: value for key, value in settings.items() if key != "generator"}
    return {**{f"generator.{key}": value for key, value in generator.items()}, **rest}
