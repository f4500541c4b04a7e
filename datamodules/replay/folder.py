"""The images of one task on disk: a folder in the layout of GIFT's authors, with a manifest beside it."""

import contextlib
import csv
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from datamodules.images.decoding import read_image
from gift_lightning.errors import InputError
from gift_lightning.files import atomic_write, read_json, require_regular

CSV_NAME, MANIFEST_NAME = "image_text.csv", "manifest.json"
"""Files of a folder: the text of each image, as the authors have it; and what made the images, with their hashes."""
SCHEMA = 1
"""Version of the manifest; raised when a field changes its meaning."""

HASHED = "hashed"
"""Key of the manifests of folders in which every image was drawn with a hash; earlier versions wrote none."""

COMPRESSION = 1
"""Level of the PNG files: larger than at Pillow's default, and faster to write."""

RESTORE = f"restore it, or remove its row from {CSV_NAME}."
"""Advice on an image that does not decode."""


class ReplayFolder:
    """``0.png, 1.png, ...``, ``image_text.csv`` with the columns ``image,text``, and ``manifest.json``.

    The manifest has the settings of the drawing. It is written before the first image, and completed with prompt, seed
    and a hash of the pixels of each image when all are drawn. Until then, each image carries them as PNG text. An image
    whose pixels are not those of its hashes was changed and is refused, and so is one with another prompt in the CSV. A
    folder with a CSV and no manifest was made by others.

    Any number of processes may write at the same time, as long as they write the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: dict[int, tuple[int, str]] = {}  # seed and hash by number, for the manifest

    @property
    def is_foreign(self) -> bool:
        """Whether somebody else's program made it."""
        names = self._names()
        return CSV_NAME in names and MANIFEST_NAME not in names

    def count(self) -> int:
        """Number of images in the folder."""
        return sum(name.endswith(".png") and not name.startswith(".") for name in self._names())

    @property
    def keeps_hashes(self) -> bool:
        """``False`` if an earlier version completed it, without hashes: a changed image would go unnoticed."""
        return all("pixels" in recorded for recorded in self._recorded.values())

    def image(self, index: int) -> Path:
        """The file of image number ``index``, drawn or not yet."""
        return self.path / f"{index}.png"

    # --- making -------------------------------------------------------------------------------------------------------

    def open(self, settings: dict[str, Any], prompts: Sequence[str]) -> None:
        """Write the settings of a new drawing, or check that they are those of the folder.

        Args:
            settings: JSON values that decide the images, beside the prompts.
            prompts: the prompt of each image.

        Raises:
            InputError: the folder was begun with other settings or prompts.
        """
        digest = hashlib.sha256(json.dumps(list(prompts)).encode()).hexdigest()
        wanted = {"schema": SCHEMA, **settings, "count": len(prompts), "prompts": digest}
        names = self._names()
        if MANIFEST_NAME not in names:
            self._write_text(MANIFEST_NAME, json.dumps({**wanted, HASHED: True}, indent=1) + "\n", keep=True)
        self._check_same(_read_manifest(self.path / MANIFEST_NAME), wanted)
        if CSV_NAME not in names:  # after the manifest: a CSV alone means a folder of others
            with self._write(self.path / CSV_NAME) as temporary, open(temporary, "w", newline="") as file:
                rows = ((self.image(i).name, prompt) for i, prompt in enumerate(prompts))
                csv.writer(file, lineterminator="\n").writerows([("image", "text"), *rows])

    def seed_of(self, index: int, prompt: str) -> int | None:
        """The seed of a whole image that was drawn from ``prompt``; ``None`` if it is missing, broken or another.

        One that has lost its hash is another.

        Raises:
            InputError: its pixels are not those that were drawn.
        """
        drawn = self._drawn(index, prompt, self._recorded)
        return None if drawn is None else drawn[0]

    def _drawn(self, index: int, prompt: str, recorded: dict[str, Any]) -> tuple[int, str] | None:
        """Seed and hash, see ``seed_of``."""
        file = self.image(index)
        try:
            image = read_image(file)
            seed = int(image.info["seed"])
        except (KeyError, ValueError):
            return None
        is_another = image.info.get("prompt") != prompt or recorded.get(file.name, {}).get("seed", seed) != seed
        if is_another or is_blank(image) or (self._is_hashed and not _hashes(file, image, recorded)):
            return None
        return seed, _checked_hash(file, image, recorded)

    def reopen(self) -> None:
        """Take the images out of a complete manifest: another machine may draw one anew with other pixels."""
        manifest = _read_manifest(self.path / MANIFEST_NAME)
        if manifest.pop("images", None) is not None:
            self._write_text(MANIFEST_NAME, json.dumps(manifest, indent=1) + "\n")

    def write(self, index: int, image: Image.Image, prompt: str, seed: int) -> None:
        """Write an image, which carries its prompt, its seed and a hash of its pixels as PNG text."""
        image, text = image.convert("RGB"), PngInfo()
        pixels = pixel_hash(image)
        text.add_itxt("prompt", prompt)
        text.add_text("seed", str(seed))
        text.add_text("pixels", pixels)
        for again in (True, False):  # see _write
            try:
                with self._write(self.image(index), durable=False) as temporary:
                    image.save(temporary, pnginfo=text, compress_level=COMPRESSION)
                break
            except InputError as error:
                if not (again and isinstance(error.__cause__, FileNotFoundError)):
                    raise
        self._written[index] = seed, pixels

    def close(self, prompts: Sequence[str]) -> None:
        """Complete the manifest if every image is drawn; otherwise leave that to the process that writes the last.

        Images that this object did not write itself are read and checked.
        """
        manifest, names = _read_manifest(self.path / MANIFEST_NAME), self._names()
        if "images" in manifest or not all(self.image(i).name in names for i in range(len(prompts))):
            return
        images: list[dict[str, Any]] = []
        for index, prompt in enumerate(prompts):
            drawn = self._written.get(index) or self._drawn(index, prompt, {})
            if drawn is None:
                return
            facts = {"file": self.image(index).name, "prompt": prompt, "seed": drawn[0], "pixels": drawn[1]}
            images.append(facts)
        self._write_text(MANIFEST_NAME, json.dumps({**manifest, "images": images}, indent=1) + "\n")

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, count: int) -> list[tuple[Path, str]]:
        """The first ``count`` rows of the CSV as ``(image file, prompt)``, less those with a black image.

        Raises:
            InputError: the folder or its CSV is missing, damaged or too short, or an image is missing, broken, changed,
                with another prompt, or outside the folder.
        """
        usable, is_foreign = [], self.is_foreign
        for file, prompt in self.listed(count):
            image = read_image(file, remedy=RESTORE)
            if not is_foreign:
                self._check_drawn(file, image, prompt)
            if not is_blank(image):
                usable.append((file, prompt))
        if not usable:
            raise InputError(f"{self.path} has black images only: make them anew, without a safety checker.")
        return usable

    def _check_drawn(self, file: Path, image: Image.Image, prompt: str) -> None:
        """Refuse an image that was changed after the drawing, or that has another prompt in the CSV."""
        if self._is_hashed and not _hashes(file, image, self._recorded):
            raise InputError(
                f"{file} has lost the hash of its pixels, so that it may be another image: restore it, or delete it and"
                " set `data.replay.generator` to draw it again."
            )
        # not by the digest of all prompts: rows of the CSV may have been removed
        recorded = self._recorded.get(file.name, {}).get("prompt")
        drawn_from = recorded if self._recorded else image.info.get("prompt", prompt)
        if str(drawn_from).lstrip(" ") != prompt.lstrip(" "):  # reading a CSV strips those spaces
            raise InputError(
                f"{self.path / CSV_NAME} gives {file.name} the prompt {prompt!r}, from which it was not drawn: restore"
                f" {CSV_NAME}."
            )
        _checked_hash(file, image, self._recorded)

    def listed(self, count: int) -> list[tuple[Path, str]]:
        """The first ``count`` rows of the CSV as ``(image file, prompt)``; no image is opened.

        Raises:
            InputError: the folder or its CSV is missing, damaged or too short, or an image is missing or outside it.
        """
        rows = self._rows(count)
        files = [(self._find(entry), prompt) for entry, prompt in rows[:count]]
        missing = [entry for (file, _), (entry, _) in zip(files, rows, strict=False) if file is None]
        if missing:
            raise InputError(
                f"{self.path} lacks {len(missing)} of the {count} images that its {CSV_NAME} names, the first one is"
                f" {missing[0]}: restore them, or set `data.replay.generator` to make those of a folder that was begun"
                " with it."
            )
        return [(file, prompt) for file, prompt in files if file is not None]

    def _rows(self, count: int) -> list[tuple[str, str]]:
        """Image and text of each row; at least ``count``."""
        path = self.path / CSV_NAME
        try:
            require_regular(path)
            with open(path, newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, skipinitialspace=True)
                if not {"image", "text"} <= set(reader.fieldnames or ()):
                    raise InputError(f"{path} does not begin with the header image,text: restore it.")
                rows = [(row["image"], row["text"]) for row in reader]
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{path} does not exist: set `data.replay.generator` to make the images, or correct"
                " `data.replay.folder`."
            ) from None
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} is no CSV file ({error}): restore it.") from error
        broken = next((number for number, row in enumerate(rows, 2) if not all(row)), None)
        if broken is not None:
            raise InputError(f"{path} has no image or no text in line {broken}: restore it.")
        if len(rows) < count:
            raise InputError(
                f"{path} has {len(rows)} rows, `data.replay.images_per_task` is {count}: lower it, or give a folder"
                " with more images."
            )
        return rows

    def _find(self, entry: str) -> Path | None:
        """The file of a CSV entry: by its name in this folder, wherever it was when the CSV was written."""
        entry = entry.replace("\\", "/")  # written on Windows
        places = (self.path / PurePosixPath(entry).name, self.path / entry, Path(entry))
        image = next((file for file in places if os.path.isfile(file)), None)
        # a folder may come from the network: its CSV must not make a run read other files of this machine
        if image is not None and not image.resolve().is_relative_to(self.path.resolve()):
            raise InputError(
                f"{self.path / CSV_NAME} names an image outside its folder, {image}: copy the image into the folder."
            )
        return image

    # --- the manifest -------------------------------------------------------------------------------------------------

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        """The manifest, read once; empty if the folder has none."""
        return _read_manifest(self.path / MANIFEST_NAME) if MANIFEST_NAME in self._names() else {}

    @cached_property
    def _recorded(self) -> dict[str, dict[str, Any]]:
        """Prompt, seed and hash of each image by its file's name; empty if the manifest is not complete."""
        return {each["file"]: each for each in self._manifest.get("images", [])}

    @property
    def _is_hashed(self) -> bool:
        """Whether every image was drawn with a hash."""
        return self._manifest.get(HASHED) is True

    def _names(self) -> set[str]:
        # a listing, not a question for each file: a network file system remembers longer that a file is missing
        return set(os.listdir(self.path)) if self.path.is_dir() else set()

    def _write_text(self, name: str, text: str, keep: bool = False) -> None:
        with self._write(self.path / name, keep=keep) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @contextlib.contextmanager
    def _write(self, path: Path, durable: bool = True, keep: bool = False) -> Iterator[Path]:
        """``atomic_write``; a temporary file may vanish where a machine does not see another one's ``writing_in``."""
        try:
            with atomic_write(path, durable, keep) as temporary:
                yield temporary
        except InputError as error:
            if not (isinstance(error.__cause__, FileNotFoundError) and path.is_file()):
                raise

    def _check_same(self, manifest: dict[str, Any], wanted: dict[str, Any]) -> None:
        old, new = _flat(manifest), _flat(wanted)
        for key in [*new, *(key for key in old if key not in new and key not in ("images", HASHED))]:
            if old.get(key) != new.get(key):
                values = "" if key == "prompts" else f" ({old.get(key)} there, {new.get(key)} here)"
                raise InputError(
                    f"{self.path} holds images made with another {key}{values}: choose another `data.replay.folder`, or"
                    " delete this one."
                )


def is_blank(image: Image.Image) -> bool:
    """Whether an image is black, or of any single colour: the result of a safety checker or an overflow."""
    low_high = image.convert("RGB").getextrema()
    return all(low == high for low, high in low_high)  # type: ignore[misc]


def pixel_hash(image: Image.Image) -> str:
    """Identifies the pixels of an RGB image, however its file is compressed."""
    return hashlib.sha256(f"{image.width}x{image.height} ".encode() + image.tobytes()).hexdigest()


def _checked_hash(file: Path, image: Image.Image, recorded: dict[str, Any]) -> str:
    """Hash of the pixels of an image, which must be that in its text and in the manifest, if they have one."""
    pixels = pixel_hash(image)
    if _hashes(file, image, recorded) - {pixels}:
        raise InputError(
            f"{file} is not the image that was drawn, its pixels were changed: restore it, or delete it and set"
            " `data.replay.generator` to draw it again."
        )
    return pixels


def _hashes(file: Path, image: Image.Image, recorded: dict[str, Any]) -> set[str]:
    """The hashes of an image in its text and in the manifest."""
    return {facts["pixels"] for facts in (image.info, recorded.get(file.name, {})) if "pixels" in facts}


def _read_manifest(file: Path) -> dict[str, Any]:
    """A manifest.

    Raises:
        InputError: it cannot be read or has another structure.
    """
    manifest = read_json(file)
    if (
        not isinstance(manifest, dict)
        or not isinstance(manifest.get("generator", {}), dict)
        or not isinstance(manifest.get("images", []), list)
        or not all(map(_is_recorded, manifest.get("images", [])))
    ):
        raise InputError(f"{file} is damaged: restore it, or delete {file.parent}.")
    return manifest


def _is_recorded(image: Any) -> bool:
    """Whether an image in a manifest has the fields that are read."""
    return isinstance(image, dict) and isinstance(image.get("file"), str) and isinstance(image.get("pixels", ""), str)


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with those of the generator beside the others, as ``generator.steps``."""
    generator = settings.get("generator", {})
    rest = {key: value for key, value in settings.items() if key != "generator"}
    return {**{f"generator.{key}": value for key, value in generator.items()}, **rest}
