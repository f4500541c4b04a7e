"""Where pictures lie, and pictures as the models want them: upright, three channels of 8 bits."""

import contextlib
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torchvision.datasets.folder import IMG_EXTENSIONS

from gift_lightning.errors import InputError

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def upright_rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB, turned as the camera was held, and 16 bits of gray scaled to 8.

    Raises:
        InputError: the pixels are 32-bit numbers, whose black and white nobody can tell.
    """
    with contextlib.suppress(Exception):  # of many kinds: the camera's notes are damaged, the picture need not be
        image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format == "PNG"):
        image = Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InputError("An image cannot be read as it is: its pixels have 32 bits, save it with 8.")
    return image.convert("RGB")


def image_paths(folder: Path) -> list[str]:
    """Paths below ``folder``, at any depth, of the files that are images by their name, sorted as text.

    Hidden files and folders are passed over. Links to files count, links to folders do not: they may lead in circles.
    No file is opened or, unless it is a link, looked at: a million of them take seconds.

    Raises:
        InputError: a folder cannot be read.
    """
    found, pending = [], [""]
    while pending:
        above = pending.pop()
        for entry in _shown(folder / above):
            path = above + entry.name
            if entry.is_dir(follow_symlinks=False):
                pending.append(f"{path}/")
            elif os.path.splitext(path)[1].lower() in IMG_EXTENSIONS and _leads_to_file(entry):
                found.append(path)
    return sorted(found)


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in ``folder`` and of the links to folders, sorted, without the hidden ones.

    Raises:
        InputError: ``folder`` cannot be read.
    """
    return sorted(
        entry.name
        for entry in _shown(folder)
        if (os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir(follow_symlinks=False))
    )


def _shown(folder: Path) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read: {error.strerror}.") from error


def _leads_to_file(entry: "os.DirEntry[str]") -> bool:
    # os.path knows of links in a circle, which an entry fails on
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file(follow_symlinks=False)
