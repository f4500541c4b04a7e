"""Tasks over folders of images: what is found, in which order, and what is told when something is amiss."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules import ImageFolderTask, TaskSequence
from gift_lightning.errors import InputError


def write(folder: Path, names: Iterable[str], colour: tuple[int, int, int] = (200, 30, 30)) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), colour).save(folder / name)


def ready(folder: Path, **arguments: Any) -> ImageFolderTask:
    task = ImageFolderTask(str(folder), **arguments)
    task.setup()
    return task


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two folders of classes, with files that are none of theirs."""
    folder = tmp_path / "pets"
    write(folder / "train", ["grey_cat/2.png", "grey_cat/10.jpg", "dog/a.png", "dog/old/b.PNG"])
    write(folder / "test", ["grey_cat/x.png", "dog/y.png"])
    (folder / "train" / "dog" / "notes.txt").write_text("no image")
    write(folder / "train", [".cache/a.png", "dog/.ipynb_checkpoints/a-checkpoint.png"])
    (folder / "train" / "dog" / "._a.png").write_bytes(b"what another system left")
    return folder


def test_train_and_test_folders(pets: Path) -> None:
    task = ready(pets)
    assert (task.name, task.class_names) == ("pets", ["dog", "grey cat"])
    assert task.train_set.samples == [
        ("train/dog/a.png", 0),
        ("train/dog/old/b.PNG", 0),
        ("train/grey_cat/10.jpg", 1),
        ("train/grey_cat/2.png", 1),
    ]
    assert [label for _, label in task.test_set.samples] == [0, 1]
    image, label = task.train_set[0]
    assert (image.mode, image.size, label) == ("RGB", (12, 8), 0)
    assert task.training_prompts() == ["a photo of a dog.", "a photo of a grey cat."]


def test_a_part_of_each_class_is_kept_for_testing(tmp_path: Path) -> None:
    write(
        tmp_path, [f"{name}/{index}.png" for name in ("ant", "bee") for index in range(10)] + ["fly/0.png", "fly/1.png"]
    )
    task, again, other = ready(tmp_path), ready(tmp_path), ready(tmp_path, split_seed=1)
    tests = [label for _, label in task.test_set.samples]
    assert tests == [0, 0, 1, 1, 2]
    assert not set(task.test_set.samples) & set(task.train_set.samples)
    assert len(task.train_set) == 17
    assert again.fingerprint == task.fingerprint != other.fingerprint
    write(tmp_path, ["fly/2.png"])  # another class has the same split as before
    grown = ready(tmp_path)
    assert [sample for sample in grown.test_set.samples if sample[1] < 2] == task.test_set.samples[:4]
    assert grown.fingerprint != task.fingerprint


def test_class_names_are_given_or_read(pets: Path, tmp_path: Path) -> None:
    assert ready(pets, class_names={"dog": "golden retriever"}).class_names == ["golden retriever", "grey cat"]
    names = tmp_path / "names.yaml"
    names.write_text("dog: no\ngrey_cat: 007\n")
    assert ready(pets, class_names=str(names)).class_names == ["no", "007"]
    for content in ("dog:\n", "dog: [a, b]\n", "- dog\n"):
        names.write_text(content)
        with pytest.raises(InputError, match="needs lines 'folder: class name', and no others"):
            ready(pets, class_names=str(names))


def only_image(folder: Path, picture: Image.Image, name: str = "0.png", **how: Any) -> Image.Image:
    """The one training image of class bee, saved as ``name`` and read by the task."""
    write(folder, ["train/ant/0.png", "test/ant/0.png"])
    (folder / "train" / "bee").mkdir()
    picture.save(folder / "train" / "bee" / name, **how)
    return ready(folder).train_set[1][0]


def test_images_are_turned_upright(tmp_path: Path) -> None:
    picture = Image.new("L", (16, 8))
    picture.paste(255, (0, 0, 8, 8))  # bright on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: its left is the top
    image = only_image(tmp_path, picture, "0.jpg", exif=exif)
    assert (image.mode, image.size) == ("RGB", (8, 16))
    assert image.getpixel((4, 2))[0] > 250 > 5 > image.getpixel((4, 13))[0]


def test_sixteen_bits_of_gray_keep_their_shades(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    image = only_image(tmp_path, Image.fromarray(ramp))
    assert [image.getpixel((x, 0))[0] for x in (0, 100, 255)] == [0, 100, 255]


def test_pixels_of_32_bits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has pixels of 32 bits or with a sign, .*: save it with 8 bits"):
        only_image(tmp_path, Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32)[None]), "0.tif")


def test_a_damaged_note_of_the_camera_does_no_harm(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    notes = bytearray(exif.tobytes())
    notes[-8:] = b"\xff" * 8
    assert only_image(tmp_path, Image.new("RGB", (12, 8)), "0.jpg", exif=bytes(notes)).mode == "RGB"


def test_a_split_is_not_the_seed_of_the_run(tmp_path: Path) -> None:
    write(tmp_path, [f"{name}/{index}.png" for name in ("ant", "bee") for index in range(10)])
    sets = []
    for seed in (0, 1):
        sequence = TaskSequence([ImageFolderTask(str(tmp_path))], seed=seed)
        sequence.setup("fit")
        sets.append(sequence.tasks[0].test_set.samples)
    assert sets[0] == sets[1]


BAD_FOLDERS: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "nothing there": ([], {"folder": "nowhere"}, "the folder nowhere does not exist."),
    "images without classes": (["a.png"], {}, "holds no folders: make one folder for each class."),
    "no test folder": (["train/ant/0.png"], {}, "train has no folder 'test' beside it: add it, or"),
    "class without training images": (
        ["train/ant/0.png", "train/bee/notes.txt", "test/ant/0.png"],
        {},
        "train/bee holds no images: add some or remove it.",
    ),
    "class of the test folder alone": (
        ["train/ant/0.png", "test/ant/0.png", "test/bee/0.png"],
        {},
        "test has a class 'bee' that",
    ),
    "one image, nothing to test": (
        ["ant/0.png", "ant/1.png", "bee/0.png"],
        {},
        "bee holds 1 images: give at least two",
    ),
    "misspelt class": (
        ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"],
        {"class_names": {"bea": "honey bee"}},
        "class_names has a class 'bea' without a folder (did you mean 'bee'?).",
    ),
    "two classes of one name": (
        ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"],
        {"class_names": {"bee": "ant"}},
        "two classes are called 'ant': give them other class_names.",
    ),
    "no file of names": (["ant/0.png", "ant/1.png"], {"class_names": "names.yaml"}, "a file that does not exist."),
    "share of two": ([], {"test_share": 2.0}, "test_share is 2.0: give a number between 0 and 1."),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folders(case: str, tmp_path: Path) -> None:
    files, arguments, expected = BAD_FOLDERS[case]
    write(tmp_path, [name for name in files if name.endswith(".png")])
    for name in files:
        if name.endswith(".txt"):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_text("no image")
    with pytest.raises(InputError) as error:
        ready(**{"folder": tmp_path, **arguments})
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n half of one"])
def test_an_image_that_does_not_decode_is_named(content: bytes, pets: Path) -> None:
    broken = pets / "train" / "dog" / "a.png"
    broken.write_bytes(content)
    with pytest.raises(InputError, match="replace it, or remove it before a run begins") as error:
        _ = ready(pets).train_set[0]
    assert str(broken) in str(error.value)


def test_a_truncated_image_is_named(pets: Path) -> None:
    broken = pets / "train" / "dog" / "a.png"
    Image.effect_noise((64, 64), 90).save(broken)
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(InputError, match="cannot be decoded"):
        _ = ready(pets).train_set[0]
