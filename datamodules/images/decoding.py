"""Images as the models take them: read from a file, upright, three channels of 8 bits."""

import contextlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from gift_lightning.errors import ImageInputError, InputError, first_line
from gift_lightning.files import require_regular

LONGEST = 200
"""Long side of an image in short sides, at most: a transform resizes the short side to 224 pixels, so a longer image
would take more than 40 MB there, one of 20 000 x 1 pixels 4 GB."""

REPLACE = "replace it, or remove it before a run begins."  # without it, the data set is another

_BITS_PER_SAMPLE = 258
"""A tag of TIFF."""

_CAMERA_NOTES = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Where Pillow looks for the orientation of an image."""

_JPEG_FAULTS = (
    "Corrupt JPEG data",
    "Inconsistent progression sequence",
    "Invalid SOS parameters",
    "Premature end of JPEG",
    "Unknown Adobe color transform",
)
"""What libjpeg says of damage (``JWRN_`` in its jerror.h)."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How an image with each orientation in its EXIF is turned to be upright."""


@cache
def _formats() -> tuple[str, ...]:
    """All formats that the installed Pillow reads, but for EPS, whatever the name of a file: it is a program to run."""
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def read_image(file: Path, which: str | None = None, remedy: str = REPLACE) -> Image.Image:
    """The image in a file, as ``upright_rgb`` gives it. All images that are read from files are read by this.

    Args:
        file: of any format that Pillow reads.
        which: names the image in messages; the path if not given.
        remedy: what to do with an image that does not decode, for messages.

    Raises:
        InputError: the file is not there, cannot be read, or is a pipe or a device.
        ImageInputError: it is no image, Pillow refuses it when it decodes all its pixels, or see ``upright_rgb``.
    """
    which = str(file) if which is None else which
    with _faults(which, remedy):
        require_regular(file)
        with Image.open(file, formats=_formats()) as image:
            return _upright_rgb(image)


def upright_rgb(image: Image.Image, which: str = "An image", remedy: str = "give a whole one.") -> Image.Image:
    """An image in RGB, turned as the camera was held, and gray of up to 16 bits scaled to 8.

    Args:
        image: decoded, or opened and to be decoded.
        which, remedy: see ``read_image``.

    Raises:
        InputError: its file is not there or cannot be read.
        ImageInputError: Pillow refuses it; its pixels are 32-bit or signed numbers, whose black and white nobody can
            tell; or it is more than ``LONGEST`` times as long as wide.
    """
    with _faults(which, remedy):
        return _upright_rgb(image)


def jpeg_fault(file: Path) -> str | None:
    """What libjpeg says of damage in a JPEG file that it decodes in spite of it; ``None`` for whole and other files.

    Pillow does not pass this on: of a hole in such a file, it gives wrong pixels without a word.
    """
    with contextlib.suppress(OSError), open(file, "rb") as opened:
        data = opened.read(2)
        if data != b"\xff\xd8":
            return None
        data += opened.read()
        try:
            space = "CMYK" if simplejpeg.decode_jpeg_header(data, strict=False)[2] in ("CMYK", "YCCK") else "GRAY"
            # an eighth of the size: the damage is found before pixels are made
            simplejpeg.decode_jpeg(data, space, min_height=1, min_width=1, min_factor=8)
        except (ValueError, KeyError) as fault:  # also for a kind of JPEG that Pillow alone knows
            return str(fault) if str(fault).startswith(_JPEG_FAULTS) else None
    return None


class _UnsuitableError(Exception):
    """A whole image that is not taken: the end of the sentence that says why."""


@contextlib.contextmanager
def _faults(which: str, remedy: str) -> Iterator[None]:
    """Tells in one sentence why an image cannot be read or decoded."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{which} has disappeared: restore it.") from None
    except UnidentifiedImageError:
        raise ImageInputError(f"{which} is not an image: {remedy}") from None
    except _UnsuitableError as error:
        raise ImageInputError(f"{which} {error}") from None
    except Exception as error:  # of many kinds: every format has its own
        # an error with a number is that of the disk or the network; those of Pillow have none
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{which} cannot be read: {error.strerror}.") from error
        if isinstance(error, MemoryError):
            raise InputError(f"{which} cannot be read: the memory of this machine is full.") from error
        raise ImageInputError(f"{which} cannot be decoded ({first_line(error)[:-1]}): {remedy}") from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    short, long = sorted(image.size)
    if long > LONGEST * short:
        raise _UnsuitableError(
            f"has {image.width} x {image.height} pixels, and its long side may be at most {LONGEST} short ones: cut it"
            " into parts, or leave it out."
        )
    image.load()  # before all else: after a fault in here, Pillow takes what it has decoded for the image
    turn = _TURNS.get(_orientation(image) or 1)
    upright = image if turn is None else image.transpose(turn)
    rgb = _eight_bits(upright, image).convert("RGB")
    for key in _CAMERA_NOTES:  # it must not be turned again
        rgb.info.pop(key, None)
    return rgb


def _orientation(image: Image.Image) -> int | None:
    with contextlib.suppress(Exception):  # of many kinds: the camera's notes are damaged, the image is not
        return image.getexif().get(ExifTags.Base.Orientation)
    return None


def _eight_bits(image: Image.Image, source: Image.Image) -> Image.Image:
    """Gray of 16 bits, or 12, scaled to 8; an image of another mode as it is."""
    is_gray = image.mode.startswith("I;16") or (image.mode == "I" and source.format in ("PNG", "PPM"))
    if is_gray:
        bits = getattr(source, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]  # Pillow stretches other formats to 16
        gray = np.asarray(image).astype(np.uint32) * 255 // (2**bits - 1)
        return Image.fromarray(gray.astype(np.uint8))
    if image.mode in ("I", "F"):
        raise _UnsuitableError(
            "has pixels of 32 bits or with a sign, whose black and white are unknown: save it with 8 bits."
        )
    return image
