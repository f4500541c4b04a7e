"""Decoding of image files: upright, three channels of 8 bits."""

import contextlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from gift_lightning.errors import ImageInputError, InputError, first_line
from gift_lightning.files import require_regular

LARGEST_RATIO = 200
"""Largest ratio of an image's long side to its short side. A transform resizes the short side to 224 pixels: an image
of ratio 200 takes 40 MB after that, one of 20 000 x 1 pixels 4 GB."""

REPLACE = "replace it, or remove it before a run begins."  # a removal changes the fingerprint of the data set

_BITS_PER_SAMPLE = 258
"""A tag of TIFF."""

_CAMERA_NOTES = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Keys of ``Image.info`` in which Pillow looks for the orientation of an image."""

_JPEG_FAULTS = (
    "Corrupt JPEG data",
    "Inconsistent progression sequence",
    "Invalid SOS parameters",
    "Premature end of JPEG",
    "Unknown Adobe color transform",
)
"""Beginnings of libjpeg's warnings about damage (``JWRN_`` in its jerror.h)."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The turn that makes an image upright, by the orientation in its EXIF."""


@cache
def _formats() -> tuple[str, ...]:
    """All formats that the installed Pillow reads, except EPS: decoding it would run a program."""
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def read_image(file: Path, which: str | None = None, remedy: str = REPLACE) -> Image.Image:
    """The image in a file, after ``upright_rgb``. All image files are read by this function.

    Args:
        file: of any format that Pillow reads.
        which: name of the image in messages; the path if not given.
        remedy: advice in the message about an image that does not decode.

    Raises:
        InputError: the file is missing, cannot be read, or is a pipe or a device.
        ImageInputError: the file is no image, Pillow cannot decode all its pixels, or see ``upright_rgb``.
    """
    which = str(file) if which is None else which
    with _faults(which, remedy):
        require_regular(file)
        with Image.open(file, formats=_formats()) as image:
            return _upright_rgb(image)


def upright_rgb(image: Image.Image, which: str = "An image", remedy: str = "give a whole one.") -> Image.Image:
    """An image in RGB, turned as the camera was held, and gray of up to 16 bits scaled to 8.

    Args:
        image: opened, decoded or not.
        which, remedy: see ``read_image``.

    Raises:
        InputError: its file is missing or cannot be read.
        ImageInputError: Pillow cannot decode it; its pixels are 32-bit or signed numbers, whose black and white are
            undefined; or its sides have a ratio above ``LARGEST_RATIO``.
    """
    with _faults(which, remedy):
        return _upright_rgb(image)


def jpeg_fault(file: Path) -> str | None:
    """The warning of libjpeg about a damaged JPEG file that still decodes; ``None`` for whole files and other formats.

    Pillow hides this warning: for a hole in such a file it returns wrong pixels.
    """
    with contextlib.suppress(OSError), open(file, "rb") as opened:
        data = opened.read(2)
        if data != b"\xff\xd8":
            return None
        data += opened.read()
        try:
            space = "CMYK" if simplejpeg.decode_jpeg_header(data, strict=False)[2] in ("CMYK", "YCCK") else "GRAY"
            # an eighth of the size: damage shows before pixels are computed
            simplejpeg.decode_jpeg(data, space, min_height=1, min_width=1, min_factor=8)
        except (ValueError, KeyError) as fault:  # also for a kind of JPEG that Pillow alone knows
            return str(fault) if str(fault).startswith(_JPEG_FAULTS) else None
    return None


class _UnsuitableError(Exception):
    """A whole image that a model cannot use; its text ends the sentence of the message."""


@contextlib.contextmanager
def _faults(which: str, remedy: str) -> Iterator[None]:
    """Turn any error of reading or decoding an image into an ``InputError``."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{which} has disappeared: restore it.") from None
    except UnidentifiedImageError:
        raise ImageInputError(f"{which} is not an image: {remedy}") from None
    except _UnsuitableError as error:
        raise ImageInputError(f"{which} {error}") from None
    except Exception as error:  # each format of Pillow raises its own exceptions
        # errors of the disk or the network have a number; those of Pillow have none
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{which} cannot be read: {error.strerror}.") from error
        if isinstance(error, MemoryError):
            raise InputError(f"{which} cannot be read: the memory of this machine is full.") from error
        raise ImageInputError(f"{which} cannot be decoded ({first_line(error)[:-1]}): {remedy}") from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    short, long = sorted(image.size)
    if long > LARGEST_RATIO * short:
        raise _UnsuitableError(
            f"has {image.width} x {image.height} pixels, and its long side may be at most {LARGEST_RATIO} short ones:"
            " cut it into pieces, or leave it out."
        )
    image.load()  # first: after an error in here, Pillow returns the half-decoded image
    turn = _TURNS.get(_orientation(image) or 1)
    upright = image if turn is None else image.transpose(turn)
    rgb = _eight_bits(upright, image).convert("RGB")
    for key in _CAMERA_NOTES:  # nothing may turn the image again
        rgb.info.pop(key, None)
    return rgb


def _orientation(image: Image.Image) -> int | None:
    with contextlib.suppress(Exception):  # damaged EXIF in a whole image raises any exception
        return image.getexif().get(ExifTags.Base.Orientation)
    return None


def _eight_bits(image: Image.Image, opened: Image.Image) -> Image.Image:
    """Gray of 16 bits, or 12, scaled to 8; an image of another mode unchanged. ``opened`` has the file's format."""
    is_gray = image.mode.startswith("I;16") or (image.mode == "I" and opened.format in ("PNG", "PPM"))
    if is_gray:
        bits = getattr(opened, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]  # Pillow stretches other formats to 16
        gray = np.asarray(image).astype(np.uint32) * 255 // (2**bits - 1)
        return Image.fromarray(gray.astype(np.uint8))
    if image.mode in ("I", "F"):
        raise _UnsuitableError(
            "has pixels of 32 bits or with a sign, whose black and white are unknown: save it with 8 bits."
        )
    return image
