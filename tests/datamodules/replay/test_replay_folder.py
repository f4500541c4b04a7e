"""The folder of replayed images: its manifest, the hashes of its images, and what is refused."""

import csv
import json
import os
import re
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from datamodules.replay.folder import ReplayFolder, is_blank, pixel_hash
from datamodules.stream import Split
from gift_lightning.errors import InputError
from tests.datamodules.replay.test_replay import COUNT, Noise, contents, loaded, replay


def change_pixels(file: Path, keep: Sequence[str] = ("prompt", "seed", "pixels")) -> None:
    """Invert an image and keep its PNG text, as an editor of images does."""
    with Image.open(file) as image:
        text = PngInfo()
        for key in keep:
            text.add_itxt(key, image.info[key])
        ImageOps.invert(image.convert("RGB")).save(file, pnginfo=text)


def forget(folder: Path, *keys: str) -> None:
    """Take keys out of the manifest: without ``images`` it is that of a folder that is not finished."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({key: manifest[key] for key in manifest if key not in keys}))


@pytest.mark.parametrize("generator", [None, Noise()])
@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("forged", [True, False])
def test_an_image_that_was_changed_is_refused(
    forged: bool, complete: bool, generator: Noise | None, tmp_path: Path
) -> None:
    """By the hash in its text; in a complete folder by that in the manifest too."""
    replay(tmp_path, Noise()).prepare_task(0)
    folder = tmp_path / "Flags_Syn"
    drawn = contents(folder)
    if not complete:
        forget(folder, "images")
    change_pixels(folder / "3.png", ("prompt", "seed") if forged else ("prompt", "seed", "pixels"))
    before = contents(folder)
    if forged and not complete:  # it may be any image: it is drawn again, or refused
        if generator is None:
            with pytest.raises(InputError, match=r"3.png has lost the hash of its pixels, .* restore it, or delete it"):
                replay(tmp_path).prepare_task(0)
        replay(tmp_path, Noise()).prepare_task(0)
        assert contents(folder) == drawn
        return
    with pytest.raises(InputError, match=r"3.png is not the image that was drawn, its pixels were changed: restore it"):
        replay(tmp_path, generator).prepare_task(0)
    assert contents(folder) == before
    (folder / "3.png").unlink()
    replay(tmp_path, Noise()).prepare_task(0)
    replay(tmp_path).prepare_task(0)


CSV_CHANGES = {
    "another word": lambda rows: [f"{rows[0]} at night", *rows[1:]],
    "another case": lambda rows: [*rows[:-1], rows[-1].upper()],
    "two rows swapped": lambda rows: [*rows[1:3], rows[0], *rows[3:]],
    "a prompt of another image": lambda rows: [next(row for row in rows if row != rows[0]), *rows[1:]],
    "all the same": lambda rows: ["a photo of a cow"] * len(rows),
}


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("change", CSV_CHANGES)
def test_a_prompt_that_was_changed_in_the_csv_is_refused(change: str, complete: bool, tmp_path: Path) -> None:
    replay(tmp_path, Noise()).prepare_task(1)
    folder = tmp_path / "Shapes_Syn"
    if not complete:
        forget(folder, "images")
    table = folder / "image_text.csv"
    with open(table, newline="") as file:
        header, *rows = list(csv.reader(file))
    prompts = CSV_CHANGES[change]([prompt for _, prompt in rows])
    assert prompts != [prompt for _, prompt in rows]
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows([header, *((name, prompt) for (name, _), prompt in zip(rows, prompts, strict=True))])
    with pytest.raises(
        InputError, match=r"image_text.csv gives \d.png the prompt '.*', from which it was not drawn: re"
    ):
        replay(tmp_path).prepare_task(1)


@pytest.mark.parametrize("complete", [True, False])
def test_any_prompt_is_read_from_the_csv_as_it_was_drawn(complete: bool, tmp_path: Path) -> None:
    prompts = [
        " a dog",
        "  two, dogs ",
        'a "big" dog',
        "a Straße, 鳥 é",
        "a dog;\tat night",
        "'a dog'",
        "a\nb",
        "a\r\nb",
    ]
    replay(tmp_path, Noise(), initial_prompts=prompts, images_per_task=40).prepare_task(0)
    if not complete:
        forget(tmp_path / "Flags_Syn", "images")
    reader = replay(tmp_path, images_per_task=40)
    reader.prepare_task(0)
    assert {prompt.strip() for prompt in reader.texts} == {prompt.strip() for prompt in prompts}


@pytest.mark.parametrize("complete", [True, False])
def test_a_row_may_be_removed_and_no_image_added(complete: bool, tmp_path: Path) -> None:
    replay(tmp_path, Noise()).prepare_task(0)
    folder = tmp_path / "Flags_Syn"
    if not complete:
        forget(folder, "images")
    table = folder / "image_text.csv"
    header, _, *others = table.read_text().splitlines()
    table.write_text("\n".join([header, *others]) + "\n")
    replay(tmp_path, images_per_task=COUNT - 1).prepare_task(0)
    Image.effect_noise((8, 8), 50).save(folder / "new.png")
    table.write_text("\n".join([header, *others, "new.png,a photo of a dog"]) + "\n")
    with pytest.raises(InputError, match=r"new.png"):
        replay(tmp_path).prepare_task(0)


def test_an_unfinished_folder_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    replay(tmp_path, Noise()).prepare_task(0)
    folder = tmp_path / "Flags_Syn"
    before = json.loads((folder / "manifest.json").read_text())
    forget(folder, "images", "hashed")
    for index in range(COUNT):
        with Image.open(folder / f"{index}.png") as image:
            text = PngInfo()
            for key in ("prompt", "seed"):
                text.add_itxt(key, image.info[key])
            image.save(folder / f"{index}.png", pnginfo=text)
    replay(tmp_path).prepare_task(0)
    idle = Noise()
    replay(tmp_path, idle).prepare_task(0)
    assert not idle.calls
    assert json.loads((folder / "manifest.json").read_text())["images"] == before["images"]


class OtherMachine(Noise):
    """Draws the same image with other rounding."""

    def _draw(self, prompt: str, seed: int) -> Image.Image:
        return super()._draw(prompt, seed).point(lambda value: value ^ 1)


def test_an_image_that_another_machine_draws_anew_is_recorded_anew(tmp_path: Path) -> None:
    replay(tmp_path, Noise()).prepare_task(0)
    folder = tmp_path / "Flags_Syn"
    (folder / "3.png").unlink()
    for drawing in [replay(tmp_path, OtherMachine()).drawing(0) for _ in range(2)]:
        assert drawing is not None
        for _ in drawing.make(Split()):
            pass
    images = json.loads((folder / "manifest.json").read_text())["images"]
    assert images[3]["pixels"] == pixel_hash(Image.open(folder / "3.png"))
    replay(tmp_path).prepare_task(0)


def test_a_folder_of_an_earlier_version_is_read_and_said_to_be_unchecked(tmp_path: Path) -> None:
    made = replay(tmp_path, Noise())
    assert made.notes() == []
    for task in (0, 1):
        made.prepare_task(task)
    assert made.notes() == []
    folder = tmp_path / "Flags_Syn"
    forget(folder, "hashed")
    manifest = json.loads((folder / "manifest.json").read_text())
    for image in manifest["images"]:
        del image["pixels"]
        with Image.open(folder / image["file"]) as opened:
            text = PngInfo()
            text.add_itxt("prompt", image["prompt"])
            text.add_text("seed", str(image["seed"]))
            opened.save(folder / image["file"], pnginfo=text)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = contents(folder)
    for generator in (None, Noise()):
        old = replay(tmp_path, generator)
        (note,) = old.notes()
        assert f"The images in {folder} were drawn by an earlier version, which wrote no hashes" in note
        old.prepare_task(0)
        assert loaded(old) and contents(folder) == before
    (folder / "3.png").unlink()  # what is drawn anew completes the folder with hashes of all
    replay(tmp_path, Noise()).prepare_task(0)
    assert replay(tmp_path).notes() == []


HOSTILE = {
    "a bomb of pixels": lambda file: file.write_bytes(png_of(60_000, 60_000)),
    "a bomb of text": lambda file: file.write_bytes(png_of(8, 8, text=200 * 2**20)),
    "a text of another kind": lambda file: Image.new("RGB", (8, 8)).save(file, pnginfo=long_seed()),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


def png_of(width: int, height: int, text: int = 0) -> bytes:
    """A small PNG file that says it has so many pixels, or so many bytes of text."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    compressed = b"prompt\0\0" + zlib.compress(bytes(text)) if text else b""
    parts = [(b"IHDR", header), (b"zTXt", compressed), (b"IDAT", zlib.compress(bytes(8 * 25))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in parts if data or name != b"zTXt")


def long_seed() -> PngInfo:
    text = PngInfo()
    text.add_text("prompt", "a photo of a dog")
    text.add_text("seed", "9" * 5000)
    return text


@pytest.mark.parametrize("case", HOSTILE)
def test_what_lies_in_the_place_of_an_image_is_told_in_one_sentence_or_drawn_anew(case: str, tmp_path: Path) -> None:
    replay(tmp_path, Noise()).prepare_task(0)
    folder = tmp_path / "Flags_Syn"
    before = contents(folder)
    HOSTILE[case](folder / "3.png")
    with pytest.raises(InputError) as told:
        replay(tmp_path).prepare_task(0)
    assert "3.png" in str(told.value) and "\n" not in str(told.value)
    if case != "a folder":  # which is not for us to remove
        replay(tmp_path, Noise()).prepare_task(0)
        assert contents(folder) == before


def test_a_damaged_manifest_is_told(tmp_path: Path) -> None:
    replay(tmp_path, Noise()).prepare_task(0)
    file = tmp_path / "Flags_Syn" / "manifest.json"
    whole = json.loads(file.read_text())
    os.truncate(file, 20)
    with pytest.raises(InputError, match=re.escape("manifest.json is not valid JSON")):
        replay(tmp_path, Noise()).prepare_task(0)
    other: Any
    for other in ([], 1, None, "text", {"generator": []}, {"images": 3}, {"images": {}}, {"images": ["0.png"]}):
        file.write_text(json.dumps({**whole, **other} if isinstance(other, dict) else other))
        for generator in (Noise(), None):
            with pytest.raises(InputError, match=r"manifest.json is damaged: restore it, or delete .*Flags_Syn\.$"):
                replay(tmp_path, generator).prepare_task(0)
    for fact in ({"file": None}, {"file": []}, {"pixels": []}, {"pixels": None}):
        file.write_text(json.dumps({**whole, "images": [{**image, **fact} for image in whole["images"]]}))
        with pytest.raises(InputError, match=r"manifest.json is damaged: restore it"):
            replay(tmp_path).prepare_task(0)
    file.write_text(json.dumps(whole))
    replay(tmp_path).prepare_task(0)


def test_an_image_from_elsewhere_is_not_taken_for_ours(tmp_path: Path) -> None:
    replay(tmp_path, Noise()).prepare_task(0)
    before = contents(tmp_path / "Flags_Syn")
    shutil.copy(tmp_path / "Flags_Syn" / "1.png", tmp_path / "Flags_Syn" / "2.png")
    replay(tmp_path, Noise()).prepare_task(0)
    assert contents(tmp_path / "Flags_Syn") == before


def test_a_full_disk_keeps_what_is_there(tmp_path: Path) -> None:
    folder = ReplayFolder(tmp_path / "file" / "folder")
    (tmp_path / "file").touch()  # stands for a place that cannot be written to
    with pytest.raises(InputError, match="cannot be written"):
        folder.open({"seed": 0}, ["a photo of a dog"])


def test_blank_images() -> None:
    assert is_blank(Image.new("L", (4, 4)))
    assert is_blank(Image.new("RGB", (4, 4), (255, 0, 0)))
    spotted = Image.new("RGB", (4, 4))
    spotted.putpixel((1, 1), (0, 0, 1))
    assert not is_blank(spotted)
