"""What is told of data that is missing, unpacked in part, or in the wrong place."""

import re
import shutil
from pathlib import Path

import pytest

import datamodules
from datamodules import Inspection
from datamodules.mtil.facts import FACTS
from datamodules.mtil.label_files import LabelFileTask
from gift_lightning.errors import InputError
from tests.datamodules.mtil.miniature import expect

NAMES = list(FACTS)
IN_ARRAYS = ["CIFAR100", "MNIST"]
IN_FILES = [name for name in NAMES if name not in IN_ARRAYS]
TOP = {name: Path(getattr(datamodules, name).folder).parts[0] for name in NAMES}


def inspect(name: str, root: Path) -> Inspection:
    """The verdict; what is told of it fits in one sentence, and a run does not begin without the data."""
    task = getattr(datamodules, name)(root=str(root))
    inspection: Inspection = task.inspect()
    facts = FACTS[name]
    assert (inspection.name, inspection.expected) == (name, (facts.train, facts.test))
    assert inspection.where == root / task.folder
    assert inspection.automatic == bool(facts.files) and inspection.by_hand == facts.by_hand
    assert (inspection.url, inspection.bytes, inspection.licence) == (facts.url, facts.bytes, facts.licence)
    if inspection.status == "present":
        assert inspection.detail == ""
    else:
        assert inspection.detail.endswith(".") and "\n" not in inspection.detail
        with pytest.raises(InputError, match=re.escape(inspection.detail[:-1])):
            task.setup()
    return inspection


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    expect(monkeypatch, request.param, tmp_path)
    return request.param  # type: ignore[no-any-return]


def images_of(name: str, root: Path) -> list[Path]:
    return sorted(path for path in (root / TOP[name]).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))


def test_all_is_there(name: str, tmp_path: Path) -> None:
    inspection = inspect(name, tmp_path)
    assert inspection.status == "present" and inspection.counts == inspection.expected


def test_nothing_is_there(name: str, tmp_path: Path) -> None:
    inspection = inspect(name, tmp_path / "nowhere")
    assert (inspection.status, inspection.counts) == ("missing", None)
    assert inspection.detail == f"{tmp_path / 'nowhere' / getattr(datamodules, name).folder} does not exist."
    assert not (tmp_path / "nowhere").exists()


def test_the_archive_was_unpacked_one_level_too_deep(name: str, tmp_path: Path) -> None:
    (tmp_path / TOP[name]).rename(tmp_path / "moved")
    (tmp_path / TOP[name]).mkdir()
    (tmp_path / "moved").rename(tmp_path / TOP[name] / TOP[name])
    wanted = tmp_path / getattr(datamodules, name).folder
    found = tmp_path / TOP[name] / getattr(datamodules, name).folder
    inspection = inspect(name, tmp_path)
    assert inspection.status == "wrong layout"
    assert inspection.detail == f"The data set lies in {found} and has to lie in {wanted}: move it."


def test_the_folder_has_another_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / getattr(datamodules, name).folder
    folder.rename(tmp_path / "other")
    inspection = inspect(name, tmp_path)
    assert inspection.status == "wrong layout"
    assert f"lies in {tmp_path / 'other'} and has to lie in {folder}" in inspection.detail


@pytest.mark.parametrize("name", IN_FILES, indirect=True)  # of arrays there are no files to lack
def test_half_of_the_images_are_missing(name: str, tmp_path: Path) -> None:
    images = images_of(name, tmp_path)
    for path in images[len(images) // 2 :]:
        path.unlink()
    inspection = inspect(name, tmp_path)
    assert inspection.status == "incomplete" and "again." in inspection.detail
    assert inspection.counts and inspection.expected and sum(inspection.counts) < sum(inspection.expected)


@pytest.mark.parametrize("name", IN_FILES, indirect=True)
def test_no_image_is_there(name: str, tmp_path: Path) -> None:
    for path in images_of(name, tmp_path):
        path.unlink()
    assert inspect(name, tmp_path).status == "incomplete"


@pytest.mark.parametrize("name", IN_FILES, indirect=True)
def test_the_first_half_was_unpacked(name: str, tmp_path: Path) -> None:
    """Folders and all, label files too: as by a killed ``tar``."""
    files = sorted(path for path in (tmp_path / TOP[name]).rglob("*") if path.is_file())
    for path in files[len(files) // 2 :]:
        path.unlink()
    for folder in sorted((tmp_path / TOP[name]).rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    assert inspect(name, tmp_path).status == "incomplete"


ONE_IMAGE = {
    "Aircraft": "data/images/1000013.jpg",
    "Caltech101": "accordion/image_0002.jpg",
    "DTD": "images/blotchy/blotchy_0000.jpg",
    "EuroSAT": "Forest/Forest_2.jpg",
    "Flowers": "jpg/image_00003.jpg",
    "Food": "images/waffles/1011328.jpg",
    "OxfordPet": "images/american_bulldog_100.jpg",
    "StanfordCars": "cars_test/00002.jpg",
    "TinyImageNet": "val/images/val_2.JPEG",
}


@pytest.mark.parametrize("name", ONE_IMAGE, indirect=True)  # SUN397 is below: no list names its images
def test_one_missing_image_is_named(name: str, tmp_path: Path) -> None:
    image = tmp_path / getattr(datamodules, name).folder / ONE_IMAGE[name]
    image.unlink()
    inspection = inspect(name, tmp_path)
    assert (inspection.status, inspection.detail) == ("incomplete", f"{image} is missing: unpack the archive again.")
    assert inspection.counts and inspection.expected and sum(inspection.counts) == sum(inspection.expected) - 1


@pytest.mark.parametrize("name", ["TinyImageNet"], indirect=True)
def test_one_missing_training_image_of_a_row_is_named(name: str, tmp_path: Path) -> None:
    wnid = (FACTS[name].folders or ())[0]
    image = tmp_path / "tiny-imagenet-200" / "train" / wnid / "images" / f"{wnid}_1.JPEG"
    image.unlink()
    assert inspect(name, tmp_path).detail == f"{image} is missing: unpack the archive again."


@pytest.mark.parametrize("name", ["SUN397"], indirect=True)
def test_one_missing_image_that_nothing_lists_is_counted(name: str, tmp_path: Path) -> None:
    images_of(name, tmp_path)[3].unlink()
    inspection = inspect(name, tmp_path)
    assert inspection.detail == f"{tmp_path / name} lacks 1 of 12 images: unpack the archive again."


# Caltech101 and EuroSAT have none: the folder of an image is its class
LABEL_FILES = [
    *((name, f) for name in NAMES if issubclass(c := getattr(datamodules, name), LabelFileTask) for f in c.label_files),
    ("SUN397", "ClassName.txt"),
    ("TinyImageNet", "val/val_annotations.txt"),
    *(("CIFAR100", file) for file in ("train", "test", "meta")),
    *(("MNIST", f"{split}-{kind}-ubyte") for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")),
]


@pytest.mark.parametrize(("name", "file"), LABEL_FILES, indirect=["name"])
@pytest.mark.parametrize("left", [0.0, 0.5, None])
def test_a_label_file_that_is_cut_off_or_missing_is_named(
    name: str, file: str, left: float | None, tmp_path: Path
) -> None:
    path = tmp_path / getattr(datamodules, name).folder / file
    content = path.read_bytes()
    path.unlink()
    if left is not None:
        path.write_bytes(content[: int(left * len(content))])
    inspection = inspect(name, tmp_path)
    assert inspection.status == "incomplete" and inspection.detail.startswith(f"{path} ")
    assert inspection.detail.startswith(f"{path} is missing: ") == (left is None)


@pytest.mark.parametrize(("name", "file"), LABEL_FILES, indirect=["name"])
def test_a_label_file_that_is_damaged_is_not_told_to_be_missing(name: str, file: str, tmp_path: Path) -> None:
    path = tmp_path / getattr(datamodules, name).folder / file
    for content in (b"\xff\xfe\x00 no list", b""):
        path.write_bytes(content)
        inspection = inspect(name, tmp_path)
        assert inspection.status == "incomplete" and inspection.detail.startswith(f"{path} ")
        assert re.match(r" (is damaged|lists \d+|does not hold)[ :]", inspection.detail.removeprefix(str(path)))


@pytest.mark.parametrize("name", ["Aircraft"], indirect=True)
def test_a_label_file_that_ends_within_a_line_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "fgvc-aircraft-2013b" / "data" / "images_variant_test.txt"
    path.write_text(path.read_text()[:-4])
    inspection = inspect(name, tmp_path)
    assert inspection.status == "incomplete" and inspection.detail.startswith(f"{path} is damaged")


@pytest.mark.parametrize("name", ["Flowers"], indirect=True)
def test_label_files_of_another_version_are_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "flowers-102" / "setid.mat"
    path.write_bytes(b"X" + path.read_bytes()[1:])  # in the note at its beginning
    inspection = inspect(name, tmp_path)
    assert inspection.status == "incomplete"
    assert f"imagelabels.mat or {path} is damaged" in inspection.detail


MISPLACED = {
    "Aircraft": ("data/images", "data/pictures"),
    "DTD": ("images", "pictures"),
    "Flowers": ("jpg", "102flowers/jpg"),
    "Food": ("images", "food-101/images"),
    "OxfordPet": ("images", "images/images"),
    "StanfordCars": ("cars_train", "cars_train/cars_train"),
    "TinyImageNet": ("val/images", "val/pictures"),
}


@pytest.mark.parametrize("name", MISPLACED, indirect=True)  # the others have no images but those in the class folders
def test_images_lie_elsewhere(name: str, tmp_path: Path) -> None:
    folder = tmp_path / getattr(datamodules, name).folder
    wanted, found = (folder / part for part in MISPLACED[name])
    wanted.rename(tmp_path / "moving")
    found.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "moving").rename(found)
    inspection = inspect(name, tmp_path)
    assert inspection.status == "wrong layout"
    assert f"Images lie in {found}" in inspection.detail and f"have to lie in {wanted}" in inspection.detail


@pytest.mark.parametrize("name", ["Caltech101", "EuroSAT", "SUN397", "TinyImageNet"], indirect=True)
def test_images_too_many(name: str, tmp_path: Path) -> None:
    image = images_of(name, tmp_path)[-1]
    if name == "TinyImageNet":
        image = next(path for path in images_of(name, tmp_path) if "train" in path.parts)
    shutil.copy(image, image.with_name(f"sun_{image.stem}_copy{image.suffix}"))
    inspection = inspect(name, tmp_path)
    assert inspection.status == "wrong layout" and "remove those that are not of the data set." in inspection.detail


@pytest.mark.parametrize("name", ["Caltech101", "EuroSAT", "SUN397", "TinyImageNet"], indirect=True)
def test_an_image_outside_of_the_classes(name: str, tmp_path: Path) -> None:
    folder = tmp_path / getattr(datamodules, name).folder / ("train" if name == "TinyImageNet" else "")
    shutil.copy(images_of(name, tmp_path)[-1], folder / "stray.jpg")
    inspection = inspect(name, tmp_path)
    assert inspection.status == "wrong layout" and str(folder / "stray.jpg") in inspection.detail


@pytest.mark.parametrize("name", ["MNIST"], indirect=True)
def test_a_file_that_is_not_decompressed(name: str, tmp_path: Path) -> None:
    (tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte").unlink()
    assert "unpack t10k-images-idx3-ubyte.gz beside it." in inspect(name, tmp_path).detail


@pytest.mark.parametrize("name", ["MNIST"], indirect=True)
def test_fashion_is_no_digits(name: str, tmp_path: Path) -> None:
    (tmp_path / "MNIST").rename(tmp_path / "FashionMNIST")
    assert inspect(name, tmp_path).status == "missing"


def test_data_sets_that_lie_together_are_not_mistaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        expect(monkeypatch, name, tmp_path)
    assert {inspect(name, tmp_path).status for name in NAMES} == {"present"}
    for name in NAMES:
        shutil.rmtree(tmp_path / TOP[name])
        assert inspect(name, tmp_path).status == "missing"
        expect(monkeypatch, name, tmp_path)


def test_any_task_can_be_inspected(tmp_path: Path) -> None:
    flags = datamodules.ImageFolderTask(str(tmp_path / "flags")).inspect()
    assert (flags.name, flags.status) == ("flags", "missing")
    assert flags.detail == f"Task 'flags': the folder {tmp_path / 'flags'} does not exist."
    from datamodules.mini import Flags

    assert Flags(train_size=20, test_size=10).inspect() == Inspection("Flags", "present", counts=(20, 10))
