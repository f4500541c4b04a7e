"""Reference images and sentences: what is found, which part is chosen, and what is told when something is amiss."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from datamodules import ImageFolderTask, Reference, TaskSequence
from datamodules.base import Replay
from datamodules.mini import Flags, Shapes
from gift_lightning.clip.model import CLIP
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError

MINI_CLIP = "package:datamodules.mini.clip"


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (200, 30, 30)).save(folder / name)


def prepared(
    place: Path, sentences: Any = "classes", seed: int = 0, clip: CLIP | None = None, **more: Any
) -> Reference:
    made = Reference(str(place), sentences, **more)
    sequence = TaskSequence([Flags(), Shapes()], seed=seed, replay=made)
    if clip is not None:
        sequence.preprocessing = clip
    made.setup("fit")
    return made


def paths(reference: Reference) -> list[str]:
    return [path for path, _ in reference.pairs.samples]  # type: ignore[attr-defined]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two folders of classes, with files that are none of theirs."""
    folder = tmp_path / "pets"
    write(folder, "grey_cat/2.png", "grey_cat/10.jpg", "dog/a.png", "dog/old/b.PNG")
    write(folder, ".cache/a.png", "dog/.ipynb_checkpoints/a-checkpoint.png")
    (folder / "dog" / "notes.txt").write_text("no image")
    (folder / "dog" / "._a.png").write_bytes(b"what another system left")
    (folder / "empty").mkdir()
    return folder


# --- images -----------------------------------------------------------------------------------------------------------


def test_images_in_folders_of_classes(pets: Path) -> None:
    made = prepared(pets)
    assert paths(made) == ["dog/a.png", "dog/old/b.PNG", "grey_cat/10.jpg", "grey_cat/2.png"]
    assert len(made.pairs) == 4
    image, label = made.pairs[2]
    assert (image.mode, image.size, label) == ("RGB", (6, 4), -1)
    assert made.batch_size == 64


def test_a_folder_of_images_alone(tmp_path: Path) -> None:
    write(tmp_path, "b.png", "a.jpg")
    assert paths(prepared(tmp_path, ["a dog"])) == ["a.jpg", "b.png"]


def test_images_are_turned_upright_and_in_rgb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (16, 8)).save(tmp_path / "0.jpg", exif=exif)
    image, _ = prepared(tmp_path, ["a dog"]).pairs[0]
    assert (image.mode, image.size) == ("RGB", (8, 16))


def test_no_image_is_opened_or_kept_before_it_is_asked_for(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda file, **options: opened.append(Path(file).name) or real(file, **options))
    made = prepared(pets)
    assert not opened
    first, again = made.pairs[0][0], made.pairs[0][0]
    assert opened == ["a.png", "a.png"] and first is not again


def test_links_to_files_and_classes_count_and_circles_do_not(pets: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "0.png")
    (pets / "horse").symlink_to(tmp_path / "elsewhere")
    (pets / "dog" / "c.png").symlink_to(tmp_path / "elsewhere" / "0.png")
    (pets / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (pets / "dog" / "self.png").symlink_to(pets / "dog" / "self.png")
    (pets / "dog" / "up").symlink_to(pets)
    (pets / "around").symlink_to(pets)
    (pets / "self").symlink_to(pets / "self")
    made = prepared(pets)
    assert paths(made) == [
        *("dog/a.png", "dog/c.png", "dog/old/b.PNG", "grey_cat/10.jpg", "grey_cat/2.png"),
        "horse/0.png",
    ]
    assert made.texts[-1] == "a photo of a horse."


def test_the_files_of_a_class_are_those_of_a_task(pets: Path) -> None:
    task = ImageFolderTask(str(pets))
    (pets / "empty").rmdir()
    (pets / "dog" / "up").symlink_to(pets)
    task.setup()
    assert sorted(path for path, _ in [*task.train_set.samples, *task.test_set.samples]) == paths(prepared(pets))


def test_a_list_of_images(tmp_path: Path) -> None:
    write(tmp_path / "data", "x/b.png", "a.png")
    write(tmp_path, "far.png")
    file = tmp_path / "data" / "list.txt"
    far = tmp_path / "far.png"
    file.write_text(f"x/b.png\n\n  a.png \r\n{far}\nx/b.png\n", encoding="utf-8-sig")
    made = prepared(file, ["a dog"])
    assert paths(made) == sorted([str(far), "a.png", "x/b.png"])
    assert all(made.pairs[index][0].size == (6, 4) for index in range(3))


def test_a_part_of_the_images_follows_from_the_seed(tmp_path: Path) -> None:
    write(tmp_path, *(f"{index}.png" for index in range(30)))
    part = paths(prepared(tmp_path, ["a dog"], num_images=10))
    assert len(set(part)) == 10 and part == sorted(part)
    assert part == paths(prepared(tmp_path, ["a dog"], num_images=10, num_sentences=1))
    assert part != paths(prepared(tmp_path, ["a dog"], num_images=10, seed=1))
    assert len(paths(prepared(tmp_path, ["a dog"], num_images=31))) == 30


def test_the_order_of_a_list_does_not_matter(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(10)]
    write(tmp_path, *names)
    parts = []
    for order in (names, names[::-1]):
        (tmp_path / "list.txt").write_text("\n".join(order))
        parts.append(paths(prepared(tmp_path / "list.txt", ["a dog"], num_images=4)))
    assert parts[0] == parts[1] == paths(prepared(tmp_path, ["a dog"], num_images=4))


def test_of_a_list_only_the_chosen_files_need_to_be_there(tmp_path: Path) -> None:
    write(tmp_path, *(f"{index}.png" for index in range(10)))
    chosen = paths(prepared(tmp_path, ["a dog"], num_images=4))
    (tmp_path / "list.txt").write_text("\n".join(f"{index}.png" for index in range(10)))
    for index in range(10):
        if f"{index}.png" not in chosen:
            (tmp_path / f"{index}.png").unlink()
    assert paths(prepared(tmp_path / "list.txt", ["a dog"], num_images=4)) == chosen


def test_the_set_is_the_same_for_every_task(pets: Path) -> None:
    made = prepared(pets, num_images=2)
    prompts, pairs = made.texts, made.pairs
    write(pets, "aardvark/0.png")
    made.prepare_task(1)
    assert made.texts is prompts and made.pairs is pairs


def test_a_run_goes_on_with_the_same_set_only(pets: Path) -> None:
    began = prepared(pets).state_dict()
    prepared(pets).load_state_dict(began)
    write(pets, "dog/another.png")
    with pytest.raises(InputError, match="are no longer those with which the run began"):
        prepared(pets).load_state_dict(began)


def test_the_folder_above_train_and_val_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train/dog/0.png", "val/dog/0.png")
    with pytest.raises(InputError, match=r"has the folders train and val: name the one to take, e\.g\. .*train\."):
        prepared(tmp_path)


# --- sentences --------------------------------------------------------------------------------------------------------


def test_sentences_of_classes(pets: Path) -> None:
    assert prepared(pets).texts == ["a photo of a dog.", "a photo of a grey cat."]
    write(pets, "grey cat/0.png")
    assert prepared(pets, template="the {}", num_images=1).texts == ["the dog", "the grey cat"]


def test_sentences_of_imagenet(pets: Path) -> None:
    prompts = prepared(pets, "imagenet").texts
    assert prompts[0] == "a photo of a tench."
    assert prompts == list(dict.fromkeys(f"a photo of a {name}." for name in open_clip.IMAGENET_CLASSNAMES))


def test_sentences_in_a_file(pets: Path, tmp_path: Path) -> None:
    file = tmp_path / "sentences.txt"
    file.write_text("a dog\n\n  a café\twith\u2028tables \r\na dog\n", encoding="utf-8-sig")
    assert prepared(pets, str(file)).texts == ["a dog", "a café\twith\u2028tables"]
    packaged = prepared(pets, "package:datamodules.mini/general_prompts.txt").texts
    assert "a photo of a house" in packaged


def test_sentences_in_the_first_column_of_a_table(pets: Path, tmp_path: Path) -> None:
    file = tmp_path / "Train_GCC-training.TSV"
    file.write_text('the "old" man \thttp://a/1.jpg\n\thttp://a/2.jpg\na dog\na dog\thttp://a/3.jpg\n')
    assert prepared(pets, str(file)).texts == ['the "old" man', "a dog"]


def test_sentences_in_the_configuration(pets: Path) -> None:
    assert prepared(pets, ["a dog", "a cat", "a dog"]).texts == ["a dog", "a cat"]


def test_a_part_of_the_sentences_follows_from_the_seed(pets: Path) -> None:
    sentences = [f"number {index}" for index in range(30)]
    part = prepared(pets, sentences, num_sentences=10).texts
    assert len(set(part)) == 10 and part == [sentence for sentence in sentences if sentence in part]
    assert part == prepared(pets, sentences, num_sentences=10, num_images=1).texts
    assert part != prepared(pets, sentences, num_sentences=10, seed=1).texts
    assert prepared(pets, sentences, num_sentences=31).texts == sentences


@pytest.fixture(scope="module")
def clip() -> CLIP:
    return CLIPSource(MINI_CLIP).load()


def test_random_sentences_need_a_clip(pets: Path) -> None:
    with pytest.raises(InputError, match=r"sentences is 'random', and random words need the vocabulary of a CLIP"):
        prepared(pets, "random", num_sentences=20)


def test_random_sentences_follow_from_the_seed(pets: Path, clip: CLIP) -> None:
    torch.manual_seed(7)
    first = prepared(pets, "random", clip=clip, num_sentences=20).texts
    torch.manual_seed(8)  # another place in torch's own stream
    assert first == prepared(pets, "random", clip=clip, num_sentences=20, num_images=1).texts
    assert first != prepared(pets, "random", clip=clip, num_sentences=20, seed=1).texts
    assert len(first) == 20 and all(len(sentence.split()) == 10 for sentence in first)


@pytest.mark.parametrize("sentences", ["classes", "[a dog, a cat]", "FILE"])
def test_as_a_configuration_has_it(sentences: str, pets: Path, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("the first: a dog\nthe second\n")
    sentences = sentences.replace("FILE", str(tmp_path / "two.txt"))
    parser = ArgumentParser()
    parser.add_subclass_arguments(Replay, "replay")
    config = f"replay: {{class_path: datamodules.Reference, init_args: {{images: {pets}, sentences: {sentences}}}}}"
    made = parser.instantiate_classes(parser.parse_string(config)).replay
    TaskSequence([Flags()], replay=made)
    made.setup("fit")
    expected = {"c": "a photo of a dog.", "[a": "a dog", "/": "the first: a dog"}
    assert made.texts[0] == next(text for start, text in expected.items() if sentences.startswith(start))


# --- what is told -----------------------------------------------------------------------------------------------------

Change = Callable[[Path], Any]

REFUSED: dict[str, tuple[Change, dict[str, Any], str]] = {
    "no place": (
        lambda root: None,
        {"images": "nowhere"},
        "images: {root}/nowhere does not exist: give a folder of images, or a text file with",
    ),
    "empty folder": (
        lambda root: (root / "none" / "sub").mkdir(parents=True),
        {"images": "none"},
        "images: there are no images in {root}/none: add some",
    ),
    "empty list": (
        lambda root: (root / "list.txt").write_text("\n \n"),
        {"images": "list.txt"},
        "images: there are no images in {root}/list.txt: add some",
    ),
    "missing files of a list": (
        lambda root: (root / "list.txt").write_text("dog/a.png\ndog/gone.png\ndog/b.png\n"),
        {"images": "list.txt", "sentences": ["a dog"]},
        "images: {root}/list.txt lists 2 paths at which there is no file, the first one is {root}/dog",
    ),
    "a list that is no text": (
        lambda root: (root / "list.tar").write_bytes(b"\xff\xfe\x00"),
        {"images": "list.tar"},
        "images: {root}/list.tar is not UTF-8 text.",
    ),
    "classes of a list": (
        lambda root: (root / "list.txt").write_text("dog/a.png\n"),
        {"images": "list.txt"},
        "sentences is 'classes', but {root}/list.txt has no folders of classes: give each",
    ),
    "classes of a flat folder": (
        lambda root: None,
        {"images": "dog"},
        "sentences is 'classes', but {root}/dog has no folders of classes: give each",
    ),
    "classes with numbers for names": (
        lambda root: write(root / "ILSVRC", "n01440764/0.png", "n01443537/0.png"),
        {"images": "ILSVRC"},
        "{root}/ILSVRC have WordNet's numbers for names, as n01440764: choose 'imagenet'",
    ),
    "no file of sentences": (
        lambda root: None,
        {"sentences": "nowhere.txt"},
        "sentences: nowhere.txt does not exist.",
    ),
    "a folder of sentences": (
        lambda root: (root / "s.txt").mkdir(),
        {"sentences": "{root}/s.txt"},
        "sentences: {root}/s.txt cannot be read: Is a directory.",
    ),
    "no package of sentences": (
        lambda root: None,
        {"sentences": "package:nowhere/a.txt"},
        "sentences is 'package:nowhere/a.txt', but nowhere cannot be imported",
    ),
    "empty file of sentences": (
        lambda root: (root / "s.tsv").write_text("\thttp://a/1.jpg\n\n"),
        {"sentences": "{root}/s.tsv"},
        "sentences: {root}/s.tsv holds no sentences: give one a line.",
    ),
    "sentences that are no text": (
        lambda root: (root / "s.txt").write_bytes("ein Bär".encode("latin-1")),
        {"sentences": "{root}/s.txt"},
        "sentences: {root}/s.txt is not UTF-8 text.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_there_is_told_in_one_sentence(case: str, tmp_path: Path) -> None:
    change, settings, expected = REFUSED[case]
    write(tmp_path, "dog/a.png")
    change(tmp_path)
    sentences = settings.get("sentences", "classes")
    if isinstance(sentences, str):
        sentences = sentences.format(root=tmp_path)
    made = Reference(str(tmp_path / settings.get("images", "")), sentences)
    TaskSequence([Flags()], replay=made)
    for _ in range(2):  # nothing is half prepared after the first time
        with pytest.raises(InputError) as told:
            made.setup("fit")
        assert expected.format(root=tmp_path) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_images": 0}, "num_images is 0: give at least 1."),
        ({"num_sentences": -1}, "num_sentences is -1: give at least 1."),
        ({"batch_size": 0}, "batch_size is 0: give at least 1."),
        ({"template": "a photo"}, "template is 'a photo': give one {} for the class name."),
        ({"sentences": []}, "sentences is empty"),
        ({"sentences": ""}, "sentences is empty"),
        (
            {"sentences": "random", "num_sentences": None},
            "sentences is 'random': say with num_sentences how many.",
        ),
        (
            {"sentences": "clases"},
            "sentences is 'clases': give 'classes', 'imagenet', 'random', a .txt or .tsv file, or a list"
            " (did you mean 'classes'?).",
        ),
        ({"sentences": "captions.csv"}, "sentences is 'captions.csv': give 'classes',"),
    ],
)
def test_bad_settings(settings: dict[str, Any], expected: str, pets: Path) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        Reference(str(pets), **settings)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n half of one"])
@pytest.mark.parametrize("listed", [False, True])
def test_an_image_that_does_not_decode_is_named(listed: bool, content: bytes, pets: Path) -> None:
    broken = pets / "dog" / "a.png"
    broken.write_bytes(content)
    (pets / "list.txt").write_text("dog/a.png\n")
    made = prepared(pets / "list.txt" if listed else pets, ["a dog"])
    with pytest.raises(InputError, match="replace it, or remove it before a run begins") as told:
        _ = made.pairs[0]
    assert str(broken) in str(told.value)


def test_a_folder_that_may_not_be_read_is_named(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def guarded(folder: Path) -> Any:  # root, who may run the tests, is kept out of no folder
        if Path(folder).name == "old":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(InputError, match=re.escape(f"The folder {pets / 'dog' / 'old'} cannot be read: Permission")):
        prepared(pets)
