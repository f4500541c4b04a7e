"""Reading images: whatever plain Pillow refuses is refused wherever images are read, the rest keeps its pixels."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import ExifTags, Image

from datamodules.images.decoding import LARGEST_RATIO, jpeg_fault, read_image, upright_rgb
from datamodules.images.sets import DAMAGED, WHOLE, ImageFiles
from gift_lightning.errors import ImageInputError, InputError
from tests.damaging import DAMAGES, FORMATS, encoded, plain

Read = Callable[[Path], Image.Image]


def opened(file: Path) -> Image.Image:
    """As a user gives an image to ``predict``."""
    try:
        image = Image.open(file)
    except Exception as error:
        raise ImageInputError(f"{file}: the user is told by Pillow.") from error
    return upright_rgb(image, f"{file}")


READERS: dict[str, Read] = {
    "read_image": read_image,
    "a set": lambda file: ImageFiles(file.parent, [(file.name, 3)], "Task 'birds'")[0][0],
    "predict": opened,
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_pillow_refuses_is_refused_and_what_it_takes_keeps_its_pixels(
    damage: str, kind: str, tmp_path: Path
) -> None:
    suffix, refused = FORMATS[kind][0], 0
    for seed in range(8):
        file = tmp_path / f"{seed}.{suffix}"
        file.write_bytes(DAMAGES[damage](encoded(kind, seed=seed), Random(seed)))
        expected = plain(file)
        for name, read in READERS.items():
            if expected is None:
                with pytest.raises(ImageInputError) as told:
                    read(file)
                assert str(file) in str(told.value) and "\n" not in str(told.value), name
            else:
                assert read(file) == expected.convert("RGB"), name
        refused += expected is None
    assert refused or (damage, kind) not in SURELY_REFUSED


SURELY_REFUSED = {("cut", kind) for kind in FORMATS} | {
    (damage, kind) for damage in ("hole", "flip") for kind in ("PNG", "TIFF with deflate")
}
"""Formats with check sums, and files that end early."""


@pytest.mark.parametrize("kind", FORMATS)
def test_whole_images_are_whole(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"image.{FORMATS[kind][0]}"
    file.write_bytes(encoded(kind))
    images = ImageFiles(tmp_path, [(file.name, 0)])
    expected = plain(file)
    assert expected is not None and images[0][0] == expected.convert("RGB")
    assert images.damage.tolist() == [WHOLE] and jpeg_fault(file) is None


@pytest.mark.parametrize("progressive", [False, True])
def test_a_hole_in_a_jpeg_that_pillow_takes_is_known_if_libjpeg_notices(progressive: bool, tmp_path: Path) -> None:
    known = 0
    for seed in range(30):
        file = tmp_path / f"{seed}.jpg"
        with Image.open(io.BytesIO(encoded("PNG", size=(192, 144), seed=seed))) as image:
            image.save(file, quality=50, progressive=progressive)
        data = file.read_bytes()
        start = data.index(b"\xff\xda") + 40  # in the pixels
        place = start + Random(seed).randrange((len(data) - start) // 2)
        file.write_bytes(data[:place] + bytes(300) + data[place + 300 :])
        if plain(file) is None:
            continue
        images = ImageFiles(tmp_path, [(file.name, 0)])
        _ = images[0]
        fault = None
        try:
            simplejpeg.decode_jpeg(file.read_bytes())
        except ValueError as error:
            fault = str(error)
            known += 1
        assert jpeg_fault(file) == fault
        assert images.damage.tolist() == [WHOLE if fault is None else DAMAGED]
    assert known > 20


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "1"])
def test_jpegs_of_all_colour_spaces_are_whole(mode: str, tmp_path: Path) -> None:
    file = tmp_path / "image.jpg"
    Image.linear_gradient("L").convert(mode).save(file)
    assert jpeg_fault(file) is None


@pytest.mark.parametrize("sampling", [0x11, 0x12, 0x21, 0x22, 0x41, 0x14, 0x31, 0x13, 0x44, 0x24])
def test_jpegs_of_rare_kinds_are_taken_as_pillow_takes_them(sampling: int, tmp_path: Path) -> None:
    """Even those of which only Pillow knows how often they sample colour."""
    file = tmp_path / "image.jpg"
    Image.linear_gradient("L").convert("RGB").save(file, subsampling=0)
    data = bytearray(file.read_bytes())
    data[data.index(b"\xff\xc0") + 11] = sampling
    file.write_bytes(data)
    expected = plain(file)
    if expected is None:
        with pytest.raises(ImageInputError):
            read_image(file)
    else:
        assert np.array_equal(ImageFiles(tmp_path, [(file.name, 0)])[0][0], expected.convert("RGB"))


# --- what the camera notes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_the_camera_was_held(orientation: int, suffix: str, tmp_path: Path) -> None:
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    file, exif = tmp_path / f"image.{suffix}", Image.Exif()
    pixels = Image.fromarray(np.arange(24 * 16 * 3, dtype=np.uint16).astype(np.uint8).reshape(16, 24, 3))
    exif[ExifTags.Base.Orientation] = orientation
    pixels.save(file, exif=exif)
    stored = tmp_path / f"stored.{suffix}"
    pixels.save(stored)
    with Image.open(stored) as image:
        image.load()
        expected = image.transpose(turned[orientation]) if orientation in turned else image
        image = read_image(file)
        assert np.array_equal(image, expected.convert("RGB"))
        assert np.array_equal(upright_rgb(image), image)  # as one that predict is given


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0nonsense"]
)
def test_damaged_notes_of_the_camera_are_forgiven(exif: bytes, tmp_path: Path) -> None:
    file, image = tmp_path / "image.png", Image.linear_gradient("L").convert("RGB")
    image.save(file, exif=exif)
    assert np.array_equal(read_image(file), image)


# --- pixels of other kinds --------------------------------------------------------------------------------------------

RAMP = np.linspace(0, 1, 256).reshape(16, 16)


def gray(maximum: int, kind: type = np.uint16) -> Image.Image:
    return Image.fromarray((RAMP * maximum).round().astype(kind))


def write_pgm(file: Path, maximum: int, plain_text: bool = False) -> None:
    values = (RAMP * maximum).round().astype(">u2" if maximum > 255 else np.uint8)
    body = " ".join(map(str, values.flatten())).encode() if plain_text else values.tobytes()
    file.write_bytes(f"{'P2' if plain_text else 'P5'}\n16 16\n{maximum}\n".encode() + body)


def write_tiff_of_12_bits(file: Path) -> None:
    """Two values in three bytes."""
    pairs = (RAMP * 4095).round().astype(np.uint32).reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
    data = packed.astype(np.uint8).tobytes()
    tags = [(256, 16), (257, 16), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 16), (279, len(data))]
    fields = b"".join(tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little") for tag, value in tags)
    start = (8 + len(data)).to_bytes(4, "little")
    file.write_bytes(b"II*\0" + start + data + len(tags).to_bytes(2, "little") + fields + bytes(4))


DEEP: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "PNG of 16 bits": ("png", lambda file: gray(65535).save(file)),
    "TIFF of 16 bits": ("tiff", lambda file: gray(65535).save(file)),
    "TIFF of 16 bits, the other way round": ("tiff", lambda file: gray(65535, ">u2").save(file)),
    "TIFF of 12 bits": ("tiff", write_tiff_of_12_bits),
    "PGM of 16 bits": ("pgm", lambda file: write_pgm(file, 65535)),
    "PGM up to 1000": ("pgm", lambda file: write_pgm(file, 1000)),
    "PGM up to 4095, as text": ("pgm", lambda file: write_pgm(file, 4095, plain_text=True)),
    "PGM of 8 bits": ("pgm", lambda file: write_pgm(file, 255)),
    "PGM up to 100": ("pgm", lambda file: write_pgm(file, 100)),
    "JPEG 2000 of 16 bits": ("jp2", lambda file: gray(65535).save(file)),
}


@pytest.mark.parametrize("case", DEEP)
def test_gray_is_scaled_by_its_true_maximum(case: str, tmp_path: Path) -> None:
    suffix, write = DEEP[case]
    file = tmp_path / f"image.{suffix}"
    write(file)
    image = read_image(file)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image)[..., 0].astype(int) - 255 * RAMP).max() <= 2
    assert np.asarray(image).max() == 255


@pytest.mark.parametrize("case", ["floats", "integers", "signed", "floats in text"])
def test_pixels_without_a_known_white_are_refused(case: str, tmp_path: Path) -> None:
    file = tmp_path / "image.tiff"
    if case == "floats in text":
        file = tmp_path / "image.pfm"
        file.write_bytes(b"Pf\n16 16\n-1.0\n" + RAMP.astype("<f4").tobytes())
    elif case == "signed":
        file.write_bytes(signed_tiff())
    else:
        Image.fromarray((RAMP * 255).astype(np.float32 if case == "floats" else np.int32)).save(file)
    with pytest.raises(ImageInputError) as told:
        read_image(file)
    assert str(told.value) == (
        f"{file} has pixels of 32 bits or with a sign, whose black and white are unknown: save it with 8 bits."
    )


def signed_tiff() -> bytes:
    data = (RAMP * 30000).astype("<i2").tobytes()
    tags = [(256, 16), (257, 16), (258, 16), (262, 1), (273, 8), (277, 1), (278, 16), (279, len(data)), (339, 2)]
    fields = b"".join(tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little") for tag, value in tags)
    return b"II*\0" + (8 + len(data)).to_bytes(4, "little") + data + b"\x09\0" + fields + bytes(4)


# --- what must not fill the memory, or wait for ever ------------------------------------------------------------------


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (LARGEST_RATIO + 1, 1)])
def test_an_image_that_is_too_long_is_refused(size: tuple[int, int], tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    Image.new("RGB", size).save(file)
    with pytest.raises(ImageInputError) as told:
        read_image(file)
    assert str(told.value) == (
        f"{file} has {size[0]} x {size[1]} pixels, and its long side may be at most {LARGEST_RATIO} short ones: cut it"
        " into pieces, or leave it out."
    )
    Image.new("RGB", (LARGEST_RATIO, 1)).save(file)
    assert read_image(file).size == (LARGEST_RATIO, 1)


@pytest.mark.parametrize("case", ["pipe", "socket", "device", "link to a pipe"])
def test_what_is_no_file_is_refused_at_once(case: str, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    if case == "pipe":
        os.mkfifo(file)
    elif case == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        file.symlink_to(tmp_path / "pipe")
    elif case == "device":
        file.symlink_to("/dev/zero")
    else:
        import socket

        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(file))  # the length of an absolute one is limited
    with pytest.raises(InputError) as told:
        read_image(file)
    assert str(told.value) == f"{file} cannot be read: it is a pipe, a socket or a device, not a file."
    assert not isinstance(told.value, ImageInputError)  # there may be an image tomorrow


def test_a_bomb_is_told_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "image.gif"
    file.write_bytes(b"GIF89a" + (65_535).to_bytes(2, "little") * 2 + encoded("GIF")[10:])
    with pytest.raises(
        ImageInputError, match=r"image.gif cannot be decoded \(Image size .* exceeds limit .*\): replace"
    ):
        read_image(file)


def test_a_file_that_is_a_program_is_not_run(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "0.eps")
    (tmp_path / "0.eps").rename(tmp_path / "0.png")
    with Image.open(tmp_path / "0.png") as image:
        assert image.format == "EPS"
    with pytest.raises(ImageInputError, match=r"0\.png is not an image"):
        read_image(tmp_path / "0.png")


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xe4.png")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / name)
    assert read_image(tmp_path / name).getpixel((0, 0)) == (1, 2, 3)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ImageInputError, match="is not an image"):
        read_image(tmp_path / name)
