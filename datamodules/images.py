"""Pictures as the models want them: upright, three channels of 8 bits."""

import contextlib

import numpy as np
from PIL import Image, ImageOps

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
