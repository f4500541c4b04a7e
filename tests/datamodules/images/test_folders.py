"""Which folders of a user's images are taken for what, which files are images, and what is told of the rest."""

import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datamodules import ClassIncremental, ImageFolderTask, Reference, TaskSequence
from datamodules.images.listing import Skipped, class_folders, image_suffixes, list_images, note_of_skipped
from datamodules.images.notes import notes_of_copies
from datamodules.images.sets import ImageFiles
from gift_lightning.errors import InputError

_shades = count()


def write(folder: Path, *names: str) -> None:
    """Images that differ from each other."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shade = next(_shades)
        Image.new("RGB", (9, 9), (shade % 251, shade // 251 % 251, 7)).save(folder / name, "PNG")


def classes(above: str, names: Iterable[str] = ("ant", "bee"), each: int = 2) -> list[str]:
    return [f"{above}{name}/{index}.png" for name in names for index in range(each)]


def ready(folder: Path, **arguments: Any) -> ImageFolderTask:
    task = ImageFolderTask(str(folder), **arguments)
    task.setup()
    return task


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Train", "Test"),
        ("TRAIN", "TEST"),
        ("training", "testing"),
        ("Training", "test"),
        ("training_set", "test_set"),
        ("trainset", "test set"),
        ("train_images", "test-images"),
        ("train", "val"),
        ("train", "valid"),
        ("Training", "Validation"),
        ("train", "dev"),
        ("train2017", "val2017"),
        ("train_2", "test_2"),
        ("Train 01", "dev-01"),
    ],
)
def test_splits_are_known_by_all_their_usual_names(train: str, test: str, tmp_path: Path) -> None:
    write(tmp_path, *classes(f"{train}/"), *classes(f"{test}/", each=1))
    task = ready(tmp_path, name="x")
    assert task.class_names == ["ant", "bee"]
    assert [path for path, _ in task.train_set.samples] == classes(f"{train}/")
    assert [path for path, _ in task.test_set.samples] == classes(f"{test}/", each=1)
    validates = test not in ("test", "Test", "TEST", "testing", "test_set", "test set", "test-images", "test_2")
    told = [f"Task 'x': {tmp_path / test} is taken as the test set, for no folder 'test' has classes."] * validates
    assert task.notes() == told


LAYOUTS: dict[str, Any] = {
    "validation images beside a test set": (
        [*classes("train/"), *classes("test/"), *classes("val/")],
        ("train/", "test/"),
        "beside train and test in {folder}, val is used for validation alone (validation_share).",
    ),
    "other folders beside the splits": (
        [*classes("train/"), *classes("test/"), "labels/0.png", "README/1.png"],
        ("train/", "test/"),
        "beside train and test in {folder}, README and labels are not used.",
    ),
    "a test set without labels, as of ImageNet": (
        [*classes("train/"), *classes("val/"), "test/0.png"],
        ("train/", "val/"),
        "{folder}/val is taken as the test set, for no folder 'test' has classes.",
        "beside train and val in {folder}, test is not used.",
    ),
    "a class that is called train": (
        [*classes("", ("train", "plane", "bus"))],
        ("", ""),
        "{folder}/train is taken as a class, for it holds images and no folders.",
    ),
    "two classes with the name of one split": (
        [*classes("", ("train", "Train 2", "bus"))],
        ("", ""),
        "{folder}/Train 2 is taken as a class, for it holds images and no folders.",
        "{folder}/train is taken as a class, for it holds images and no folders.",
    ),
    "images that are in no class": (
        [*classes("train/"), *classes("test/"), "train/a.png", "train/b.png"],
        ("train/", "test/"),
        "2 images directly in {folder}/train are skipped, in no class folder; the first one is a.png.",
    ),
    "images beside the classes": (
        [*classes(""), "a.png"],
        ("", ""),
        "1 image directly in {folder} is skipped, in no class folder; the first one is a.png.",
    ),
    "splits of another name": (
        [*classes("seg_train/"), *classes("seg_test/")],
        ("", ""),
        "every class holds only folders (e.g. seg_test/ant): if seg_test and seg_train are splits, call them train"
        " and test.",
    ),
    "folders in all classes": (
        [*classes("train/a/"), *classes("train/b/"), *classes("test/a/"), *classes("test/b/")],
        ("train/", "test/"),
        "every class holds only folders (e.g. train/a/ant), whose names are not used.",
    ),
    "a class that is not tested": (
        [*classes("train/"), "test/ant/0.png"],
        ("train/", "test/"),
        "1 class has no test images, the first one is 'bee'.",
    ),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_what_a_folder_is_taken_for_is_told(case: str, tmp_path: Path) -> None:
    files, starts, *told = LAYOUTS[case]
    write(tmp_path, *files)
    task = ready(tmp_path, name="x")
    for samples, start in zip((task.train_set.samples, task.test_set.samples), starts, strict=True):
        assert samples and all(path.startswith(start) for path, _ in samples)
    assert task.notes() == [f"Task 'x': {sentence.replace('{folder}', str(tmp_path))}" for sentence in told]


REFUSED = {
    "a training set alone": (classes("Train/"), "Train has no folder 'test' beside it: add it, or name"),
    "a test set alone": (classes("test/"), "test has no folder 'train' beside it: add it, or name a folder of classes"),
    "no training set": ([*classes("test/"), *classes("val/")], "test has no folder 'train' beside it"),
    "images without classes": (["train/0.png", "test/0.png"], "test and train in {folder} hold images and no folders"),
    "validation images alone": (["val/0.png", "val/1.png"], "val in {folder} holds images and no folders"),
    "flat splits beside a folder": (
        ["train/0.png", "train/1.png", "test/0.png", "test/1.png", "labels/0.png", "labels/1.png"],
        "test and train in {folder} hold images and no folders, so that the classes of these images are unknown: make"
        " one folder for each class, or rename the folders that are classes and not splits.",
    ),
    "flat splits of other names beside a class": (
        classes("", ("Training", "val_2", "bus")),
        "Training and val_2 in {folder} hold images and no folders, so that the classes of these images are unknown",
    ),
    "two years": (
        [*classes("train2014/"), *classes("train2017/"), *classes("val2017/")],
        "{folder} has train2014 and train2017, which are the same split: merge or remove one.",
    ),
    "a test set without labels": (
        [*classes("train/"), "test/0.png"],
        "{folder}/test holds images and no folders, so that their classes are unknown: make one folder for each"
        " class, or name {folder}/train, from which a random test set is drawn.",
    ),
    "a split or a class": (
        [*classes("train/", ("ice", "tgv")), *classes("", ("plane", "bus"))],
        "train may be a split, without a folder 'test' beside it, or a class as {folder}/bus: add 'test', or put",
    ),
    "two training sets": (
        [*classes("train/"), *classes("Training/"), *classes("test/")],
        "{folder} has Training and train, which are the same split: merge or remove one.",
    ),
    "classes that differ in case": (
        classes("", ("Cat", "cat")),
        "two classes are called 'Cat' and 'cat', which differ only in case: give them other class_names.",
    ),
    "classes that differ in spaces": (
        classes("", ("red cat", "red  Cat")),
        "two classes are called 'red  Cat' and 'red cat', which a CLIP reads alike: give them other class_names.",
    ),
    "another case in the test set": (
        [*classes("train/", ("ant", "bee")), *classes("test/", ("Ant", "bee"))],
        "test has a class 'Ant' that {folder}/train does not have (did you mean 'ant'?).",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_that_may_be_read_in_two_ways_is_refused(case: str, tmp_path: Path) -> None:
    files, told = REFUSED[case]
    write(tmp_path, *files)
    with pytest.raises(InputError) as error:
        ready(tmp_path)
    assert told.replace("{folder}", str(tmp_path)) in str(error.value)


def test_classes_that_differ_in_case_may_be_named(tmp_path: Path) -> None:
    write(tmp_path, *classes("", ("Cat", "cat")))
    assert ready(tmp_path, class_names={"Cat": "big cat"}).class_names == ["big cat", "cat"]


def test_all_images_that_pillow_reads_are_taken_and_no_other_files(tmp_path: Path) -> None:
    taken = ["a.JPG", "b.jfif", "c.jpe", "d.gif", "e.jp2", "f.png", "g.tga", "h.webp", "i.tif"]
    left = ["k.pdf", "l.eps", "m.mpg", "n.h5", "o.ico", "p.txt", "q", "r.PNG.part", "s.json", "t.fits", "u.pfm"]
    (tmp_path / "ant").mkdir()
    for name in [*taken, *left, ".DS_Store", "._a.jpg", "Thumbs.db", "desktop.ini"]:
        (tmp_path / "ant" / name).touch()
    write(tmp_path, "ant/@eaDir/a.JPG/SYNOPHOTO_THUMB_XL.jpg", "ant/__MACOSX/a.jpg", "ant/.cache/a.png", "ant/b/z.png")
    listing = list_images(tmp_path / "ant")
    assert listing.images == sorted([*taken, "b/z.png"])
    assert [path for path, _ in listing.skipped] == left
    assert {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"} < image_suffixes()


def test_folders_of_systems_are_no_classes(tmp_path: Path) -> None:
    write(tmp_path, *classes("", ("ant", "bee", "@eaDir", "__MACOSX", "$RECYCLE.BIN", ".cache", "lost+found")))
    assert class_folders(tmp_path) == ["ant", "bee"]
    assert ready(tmp_path).class_names == ["ant", "bee"]


def test_what_is_passed_over_is_counted_with_an_example(tmp_path: Path) -> None:
    write(tmp_path, *classes("", ("ant", "bee")), "elsewhere/x/0.png")
    (tmp_path / "elsewhere").rename(tmp_path.parent / "elsewhere")
    for name in ("a.txt", "b.txt", "c.mp4", "d"):
        (tmp_path / "ant" / name).touch()
    (tmp_path / "bee" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "bee" / "round.png").symlink_to(tmp_path / "bee" / "round.png")
    (tmp_path / "bee" / "more").symlink_to(tmp_path.parent / "elsewhere" / "x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bee" / "pipe.png").symlink_to(tmp_path / "pipe")
    task = ready(tmp_path, name="x")
    counts = "2 .txt, 2 links to nothing, 1 .mp4, 1 without a suffix, 1 link to a folder"
    assert task.notes() == [
        f"Task 'x': 8 files are not taken as images, by the end of their names: {counts}, 1 pipe or device; the first"
        f" one is {tmp_path}/ant/a.txt."
    ]
    assert len(task.train_set) + len(task.test_set) == 4


def test_names_that_a_clip_tells_apart_are_names_of_two_classes(tmp_path: Path) -> None:
    write(tmp_path, *classes("", ("Strasse", "Straße")))
    assert ready(tmp_path).class_names == ["Strasse", "Straße"]


@pytest.mark.parametrize(
    ("kinds", "counts"),
    [
        (["link to nothing"], "1 file is not taken as an image: 1 link to nothing"),
        (["pipe or device"] * 2, "2 files are not taken as images: 2 pipes or devices"),
        ([""], "1 file is not taken as an image, by the end of its name: 1 without a suffix"),
        (
            list("abcdefg"),
            "7 files are not taken as images, by the end of their names: 1 .a,"
            " 1 .b, 1 .c, 1 .d, 1 .e, 1 .f and 1 other",
        ),
        ([*"abcdefgh"], "1 .f and 2 others"),
    ],
)
def test_files_that_are_passed_over_are_counted_in_good_english(kinds: list[str], counts: str) -> None:
    named = {"": "without a suffix"} | {letter: f".{letter}" for letter in "abcdefgh"}
    (told,) = note_of_skipped([Skipped("x", named.get(kind, kind)) for kind in kinds], "Task 'x'", Path("folder"))
    assert told.startswith("Task 'x': ") and f"{counts}; the first one is folder/x." in told


def test_copies_among_very_many_images_are_said_not_to_be_looked_for() -> None:
    many = [(f"{index}.png", 0) for index in range(50_001)]
    assert notes_of_copies(Path("nowhere"), many[:-1], []) == []
    (told,) = notes_of_copies(Path("nowhere"), many[:40_000], many[40_000:])
    assert told == "copies are not searched among its 50001 images: 50000 are the most for that"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="it needs the list of open files")
def test_many_data_sets_keep_no_files_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    sets = [ImageFiles(Path(), [("0.png", 0)] * size) for size in range(100)]
    assert len(os.listdir("/proc/self/fd")) <= before + 1 and len(sets[9].damage) == 9


def test_a_class_that_is_a_broken_link_is_told(tmp_path: Path) -> None:
    write(tmp_path, *classes("", ("ant", "bee")))
    (tmp_path / "fly").symlink_to(tmp_path / "moved" / "fly")
    assert ready(tmp_path, name="x").notes() == [
        f"Task 'x': 1 link in {tmp_path} leads to nothing, the first one is fly."
    ]


def test_a_reference_folder_is_read_likewise(tmp_path: Path) -> None:
    write(tmp_path, *classes("ok/", ("ant", "@eaDir")), "ok/ant/b.gif", *classes("Train/"), *classes("validation/"))
    (tmp_path / "ok" / "ant" / "a.txt").touch()
    reference = Reference(str(tmp_path / "ok"))
    assert reference.notes() == []  # before it has looked
    assert reference.inspect().counts == (3, 0)
    assert reference.notes() == [
        f"data.replay.images: 1 file is not taken as an image, by the end of its name: 1 .txt; the first"
        f" one is {tmp_path}/ok/ant/a.txt."
    ]
    assert "the folders Train and validation: name the one" in Reference(str(tmp_path)).inspect().detail
    write(tmp_path / "vehicles", *classes("", ("train", "test", "bus")))
    assert Reference(str(tmp_path / "vehicles")).inspect().status == "present"


def test_images_that_are_there_twice_are_told(tmp_path: Path) -> None:
    write(tmp_path, *classes("train/", each=3), *classes("test/", each=3))
    copies = {"bee/7.png": "ant/0.png", "../test/ant/8.gif": "ant/1.png", "ant/9.png": "ant/2.png"}
    for copy, original in copies.items():
        (tmp_path / "train" / copy).write_bytes((tmp_path / "train" / original).read_bytes())
    for name in ("train/ant/e.png", "test/bee/e.png"):  # those are empty, which decoding tells
        (tmp_path / name).touch()
    (tmp_path / "test" / "bee" / "link.png").symlink_to(tmp_path / "train" / "bee" / "0.png")
    (tmp_path / "test" / "ant" / "x.png").symlink_to(tmp_path / "train" / "bee" / "1.png")
    assert ready(tmp_path, name="x").notes() == [
        f"Task 'x': 2 images are in more than one class, byte for byte; the first one is {tmp_path}/train/ant/0.png and"
        f" {tmp_path}/train/bee/7.png.",
        "Task 'x': 2 test images are among the training images too, byte for byte, so that the accuracy says less: the"
        f" first one is {tmp_path}/test/ant/8.gif, as {tmp_path}/train/ant/1.png.",
    ]


def test_files_of_one_size_and_beginning_are_no_copies(tmp_path: Path) -> None:
    for name, last in {"ant/0.bmp": b"0", "ant/1.bmp": b"1", "bee/0.bmp": b"2", "bee/1.bmp": b"3"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 10_000 + last)
    assert ready(tmp_path).notes() == []


def test_steps_of_a_folder_tell_what_the_folder_tells_once(tmp_path: Path) -> None:
    write(tmp_path, *classes("train/", ("a", "b", "c", "d")), *classes("val/", ("a", "b", "c", "d")))
    sequence = TaskSequence([ClassIncremental(ImageFolderTask(str(tmp_path), "x"), 2, 2)])
    sequence.setup("validate")
    assert sequence.notes() == [
        f"Task 'x': {tmp_path / 'val'} is taken as the test set, for no folder 'test' has classes."
    ]
