"""Folders of replay images that other programs made: read as they are, or refused in one sentence."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gift_lightning.errors import InputError
from tests.datamodules.replay.test_replay import COUNT, Noise, contents, replay


def foreign(root: Path, suffix: str = ".jpeg", prefix: str = "/data/syn/Flags_Syn/") -> Path:
    """A folder as the method's authors leave it; its third image is black."""
    folder = root / "Flags_Syn"
    folder.mkdir(parents=True)
    lines = ["image,text"]
    for i in range(COUNT):
        color = (0, 0, 0) if i == 2 else (20 * i, 50, 255 - 20 * i)
        image = Image.new("RGB", (8, 8), color)
        if i != 2:
            image.putpixel((0, 0), (255, 255, 255))
        image.save(folder / f"{i}{suffix}")
        lines.append(f'{prefix}{i}{suffix},"a photo of a dog, number {i % 4}."')
    (folder / "image_text.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("generator", [None, Noise()])
@pytest.mark.parametrize("prefix", ["/data/syn/Flags_Syn/", "Flags_Syn/", ""])
def test_a_folder_of_the_authors_is_read_as_it_is(prefix: str, generator: Noise | None, tmp_path: Path) -> None:
    folder = foreign(tmp_path, prefix=prefix)
    before = contents(folder)
    made = replay(tmp_path, generator)
    made.prepare_task(0)
    assert len(made.pairs) == COUNT - 1  # without the black one
    assert made.texts == [f"a photo of a dog, number {i}." for i in (0, 1, 3, 2)]
    assert made.pairs[2][0].mode == "RGB" and made.texts[made.pairs[2][1]] == "a photo of a dog, number 3."
    assert contents(folder) == before


def written_otherwise(folder: Path, header: str, row: str) -> None:
    """Give a folder of others a CSV in which ``{i}`` is the number of an image and ``{n}`` that of its prompt."""
    lines = [header, *(row.format(i=i, n=i % 4) for i in range(COUNT))]
    (folder / "image_text.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".JPEG"])
@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("text,image", '"a ""big"" dog, number {n}.",/data/syn/Flags_Syn/{i}{suffix}'),
        (",image,text", '{i},Flags_Syn/{i}{suffix},"a ""big"" dog, number {n}."'),
        ("image, text", '"./{i}{suffix}", "a ""big"" dog, number {n}."'),
        ("seed,text,image\r", '7,"a ""big"" dog, number {n}.",D:\\syn\\Flags_Syn\\{i}{suffix}\r'),
        ('\ufeff"image","text","seed"', '"../Flags_Syn/{i}{suffix}","a ""big"" dog, number {n}.",7'),
    ],
)
def test_the_csv_of_others_may_be_written_in_many_ways(header: str, row: str, suffix: str, tmp_path: Path) -> None:
    written_otherwise(foreign(tmp_path, suffix), header, row.replace("{suffix}", suffix))
    made = replay(tmp_path)
    made.prepare_task(0)
    assert len(made.pairs) == COUNT - 1  # without the black one
    assert made.texts == [f'a "big" dog, number {i}.' for i in (0, 1, 3, 2)]


def test_images_of_others_may_lie_in_folders_beside_the_csv(tmp_path: Path) -> None:
    folder = foreign(tmp_path)
    for i in range(COUNT):
        (folder / f"class_{i}").mkdir()
        (folder / f"{i}.jpeg").rename(folder / f"class_{i}" / "image.jpeg")
    written_otherwise(folder, "image,text", "class_{i}/image.jpeg,number {n}")
    made = replay(tmp_path)
    made.prepare_task(0)
    assert len({file for file, _ in made.pairs.samples}) == COUNT - 1


@pytest.mark.parametrize("way", ["absolute", "dots", "link", "linked folder", "dots from here"])
def test_a_csv_names_no_image_outside_its_folder(way: str, tmp_path: Path) -> None:
    """Even one that exists: a folder may come from the network."""
    folder, private = foreign(tmp_path), tmp_path / "private"
    private.mkdir()
    (folder / "5.jpeg").rename(private / "5.jpeg")
    entry = {
        "absolute": str(private / "5.jpeg"),
        "dots": "../private/5.jpeg",
        "link": "5.jpeg",
        "linked folder": "below/5.jpeg",
        "dots from here": os.path.relpath(private / "5.jpeg"),
    }[way]
    if way == "link":
        (folder / "5.jpeg").symlink_to(private / "5.jpeg")
    if way == "linked folder":
        (folder / "below").symlink_to(private)
    edit("image_text.csv", "/data/syn/Flags_Syn/5.jpeg", entry)(folder)
    made = replay(tmp_path)
    assert made.inspect().status == "missing"
    with pytest.raises(InputError, match=r"image_text.csv names an image outside its folder, .*5.jpeg: copy the image"):
        made.prepare_task(0)
    (folder / "5.jpeg").unlink(missing_ok=True)
    (private / "5.jpeg").rename(folder / "5.jpeg")
    made.prepare_task(0)
    assert len(made.pairs) == COUNT - 1


def test_links_within_a_folder_and_to_a_folder_are_followed(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "there")
    (folder / "5.jpeg").rename(folder / "five.jpeg")
    (folder / "5.jpeg").symlink_to(folder / "five.jpeg")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "Flags_Syn").symlink_to(folder)
    made = replay(tmp_path / "here")
    made.prepare_task(0)
    assert len(made.pairs) == COUNT - 1


def edit(file: str, old: str, new: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / file).write_text((folder / file).read_text().replace(old, new))


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "image_text.csv does not exist: set generator"),
    "no CSV": (lambda folder: (folder / "image_text.csv").unlink(), "image_text.csv does not exist"),
    "empty CSV": (lambda folder: (folder / "image_text.csv").write_text(""), "begin with the header image,text"),
    "no header": (edit("image_text.csv", "image,text\n", ""), "does not begin with the header image,text"),
    "half a row": (edit("image_text.csv", ',"a photo of a dog, number 1."', ""), "no image or no text in line 3"),
    "fewer rows": (lambda folder: os.truncate(folder / "image_text.csv", 120), "rows, images_per_task is"),
    "not text": (lambda folder: (folder / "image_text.csv").write_bytes(b"\xff\xfe\x00"), "is no CSV file"),
    "missing images": (
        lambda folder: [(folder / f"{i}.jpeg").unlink() for i in (4, 7)],
        "lacks 2 of the 10 images that its image_text.csv names, the first one is /data/syn/Flags_Syn/4.jpeg",
    ),
    "unknown files": (edit("image_text.csv", "/5.jpeg", "/five.jpeg"), "the first one is /data/syn/Flags_Syn/five.jp"),
    "broken image": (
        lambda folder: os.truncate(folder / "5.jpeg", 300),
        "5.jpeg cannot be decoded (Truncated File Read): restore it, or remove its row",
    ),
    "black images only": (
        lambda folder: [Image.new("RGB", (8, 8)).save(folder / f"{i}.jpeg") for i in range(COUNT)],
        "has black images only",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_that_cannot_be_read_is_told_in_one_sentence(case: str, tmp_path: Path) -> None:
    folder = foreign(tmp_path)
    change, expected = REFUSED[case]
    change(folder)
    with pytest.raises(InputError) as told:
        replay(tmp_path).prepare_task(0)
    assert expected in str(told.value) and str(tmp_path) in str(told.value) and "\n" not in str(told.value)
