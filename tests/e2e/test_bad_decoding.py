"""Runs over images that are damaged, or are no images: nothing is trained or tested on half of an image in silence."""

import io
import os
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import L2
from tests.damaging import encoded, hole
from tests.e2e.conftest import CONFIG, call, read_results

Run = tuple[int, str, str]

CLASSES = ("cat", "dog")
REFERENCE = [
    *("--model", "gift_lightning.methods.ZSCL", "--model.average_every", "1"),
    *("--data.replay", "datamodules.Reference", "--data.replay.batch_size", "4"),
]
REPLAY = [
    *("--model", "gift_lightning.methods.GIFT", "--data.replay", "datamodules.SyntheticReplay"),
    *("--data.replay.images_per_task", "4", "--data.replay.batch_size", "4"),
    *("--data.replay.initial_prompts", "[a photo of a cow]"),
]


def write_task(folder: Path, kind: str = "PNG", suffix: str = "png") -> Path:
    """12 training images and 4 test images of two classes."""
    for split, count in (("train", 6), ("test", 2)):
        for label, name in enumerate(CLASSES):
            for index in range(count):
                path = folder / split / name / f"{index}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(kind, (48, 40), seed=2 * index + label))
    return folder


def write_replay(root: Path, name: str) -> Path:
    """A folder of replay images as others make them."""
    folder = root / f"{name}_Syn"
    folder.mkdir(parents=True)
    for index in range(4):
        (folder / f"{index}.png").write_bytes(encoded("PNG", (32, 32), seed=index))
    rows = "".join(f"{index}.png,a photo of a cow\n" for index in range(4))
    (folder / "image_text.csv").write_text(f"image,text\n{rows}")
    return folder


def fit(root: Path, tasks: list[Path], *flags: str) -> Run:
    named = [f"{{class_path: datamodules.ImageFolderTask, init_args: {{folder: '{task}'}}}}" for task in tasks]
    small = ["--data.tasks", f"[{', '.join(named)}]", "--data.steps", "3", "--model.lr", "1e-3"]
    return call("fit", "--config", CONFIG, "--run.root", str(root / "runs"), *small, *flags)


def make_hole(*files: Path) -> None:
    for number, file in enumerate(files):
        data = file.read_bytes()
        file.write_bytes(data[:100] + hole(data[100:-100], Random(number)) + data[-100:])


def replaced_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def images(task: Path, split: str) -> list[Path]:
    return sorted((task / split).rglob("*.*"))


def damage_all_for_training(bad: Path) -> list[str]:
    make_hole(*images(bad, "train"))
    return []


def damage_all_and_skip(bad: Path) -> list[str]:
    make_hole(*images(bad, "train"))
    return ["--data.on_bad_image", "skip"]


def damage_one_for_testing(bad: Path) -> list[str]:
    make_hole(images(bad, "test")[1])
    return ["--data.on_bad_image", "skip"]  # which is for training alone


def damage_one_for_a_worker(bad: Path) -> list[str]:
    make_hole(*images(bad, "train"))
    return ["--data.num_workers", "1"]


def write_tiffs_of_32_bits(bad: Path) -> list[str]:
    for file in images(bad, "train"):
        Image.fromarray(np.eye(8, dtype=np.float32)).save(file, "TIFF")
    return []


def write_strips(bad: Path) -> list[str]:
    for file in images(bad, "train"):
        Image.new("RGB", (20_000, 1)).save(file)
    return []


def write_bomb(bad: Path) -> list[str]:
    for file in images(bad, "test"):
        file.write_bytes(b"GIF89a" + b"\xff" * 4 + encoded("GIF")[10:])
    return []


def reference_with_a_hole(bad: Path) -> list[str]:
    make_hole(*images(write_task(bad.parent / "references"), "train"))
    return [*REFERENCE, "--data.replay.images", str(bad.parent / "references" / "train")]


def reference_that_is_a_pipe(bad: Path) -> list[str]:
    os.mkfifo(bad.parent / "pipe.png")
    (bad.parent / "list.txt").write_text("pipe.png\n")
    sentences = ["--data.replay.sentences", "[a cow]"]
    return [*REFERENCE, *sentences, "--data.replay.images", str(bad.parent / "list.txt")]


def list_that_is_a_pipe(bad: Path) -> list[str]:
    os.mkfifo(bad.parent / "list.txt")
    return [*REFERENCE, "--data.replay.images", str(bad.parent / "list.txt")]


def sentences_from_a_pipe(bad: Path) -> list[str]:
    os.mkfifo(bad.parent / "sentences.txt")
    sentences = ["--data.replay.sentences", str(bad.parent / "sentences.txt")]
    return [*REFERENCE, *sentences, "--data.replay.images", str(bad / "train")]


def prompts_from_a_pipe(bad: Path) -> list[str]:
    os.mkfifo(bad.parent / "prompts.txt")
    return [*REPLAY, "--data.replay.folder", str(bad.parent), *REPLAY[-2:-1], str(bad.parent / "prompts.txt")]


def replay_with_a_hole(bad: Path) -> list[str]:
    make_hole(write_replay(bad.parent, "bad") / "2.png")
    return [*REPLAY, "--data.replay.folder", str(bad.parent)]


def replay_with_a_bomb(bad: Path) -> list[str]:
    (write_replay(bad.parent, "bad") / "2.png").write_bytes(b"GIF89a" + b"\xff" * 4 + encoded("GIF")[10:])
    return [*REPLAY, "--data.replay.folder", str(bad.parent)]


def replay_of_a_private_image(bad: Path) -> list[str]:
    csv = write_replay(bad.parent, "bad") / "image_text.csv"
    csv.write_text(csv.read_text().replace("2.png", str(images(bad, "test")[0].parent / "1.png")))
    (csv.parent / "1.png").rename(csv.parent / "one.png")
    csv.write_text(csv.read_text().replace("\n1.png", "\none.png"))
    return [*REPLAY, "--data.replay.folder", str(bad.parent)]


def replay_listed_in_a_pipe(bad: Path) -> list[str]:
    replaced_by_pipe(write_replay(bad.parent, "bad") / "image_text.csv")
    return [*REPLAY, "--data.replay.folder", str(bad.parent)]


BAD_IMAGES: dict[str, tuple[Any, str]] = {
    "all images of training": (damage_all_for_training, "cannot be decoded ("),
    "all, to be skipped": (damage_all_and_skip, "cannot be decoded ("),
    "all, by a worker": (damage_one_for_a_worker, "cannot be decoded ("),
    "an image for testing": (damage_one_for_testing, "test/cat/1.png cannot be decoded ("),
    "pixels of 32 bits": (
        write_tiffs_of_32_bits,
        "has pixels of 32 bits or with a sign, whose black and white are unknown: save it with 8",
    ),
    "strips": (
        write_strips,
        "has 20000 x 1 pixels, and its long side may be at most 200 short ones: cut it into pieces",
    ),
    "bombs": (write_bomb, "test/cat/0.png cannot be decoded (Image size"),
    "a reference": (reference_with_a_hole, "references/train/"),
    "a reference that is a pipe": (reference_that_is_a_pipe, "lists 1 path at which there is no file"),
    "references listed in a pipe": (list_that_is_a_pipe, "list.txt cannot be read: it is a pipe, a socket or a device"),
    "sentences from a pipe": (sentences_from_a_pipe, "sentences.txt cannot be read: it is a pipe"),
    "prompts from a pipe": (prompts_from_a_pipe, "prompts.txt cannot be read: it is a pipe"),
    "a replayed image": (replay_with_a_hole, "bad_Syn/2.png cannot be decoded ("),
    "a replayed bomb": (replay_with_a_bomb, "bad_Syn/2.png cannot be decoded (Image size"),
    "a private image in replay": (replay_of_a_private_image, "image_text.csv names an image outside its folder"),
    "replay listed in a pipe": (replay_listed_in_a_pipe, "image_text.csv cannot be read: it is a pipe"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_a_run_over_bad_images_ends_in_one_sentence(case: str, tmp_path: Path) -> None:
    damage, told = BAD_IMAGES[case]
    bad = write_task(tmp_path / "bad")
    status, _, err = fit(tmp_path, [bad], *damage(bad))
    (sentence,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert status == 2 and "Traceback" not in err
    assert told in sentence


def test_predict_refuses_an_image_that_does_not_decode(tmp_path: Path) -> None:
    """Pillow opens an image without decoding it; then its file may be damaged, closed, of 32 bits or too long."""
    whole, torn = (tmp_path / f"{name}.png" for name in ("whole", "torn"))
    for file in (whole, torn):
        file.write_bytes(encoded("PNG", (48, 40)))
    make_hole(torn)
    with Image.open(whole) as closed:
        pass
    model = L2(clip=CLIPSource("package:datamodules.mini.clip"))
    expected = model.predict([Image.open(whole)], ["cat", "dog"])
    undecoded = r"cannot be decoded \(.*\): give a whole one\.$"
    for bad, told in (
        (Image.open(torn), undecoded),
        (closed, undecoded),
        (Image.new("F", (8, 8)), "has pixels of 32 bits or with a sign, .*: save it with 8 bits"),
        (Image.new("RGB", (1, 20_000)), "has 1 x 20000 pixels, .*: cut it into pieces, or leave it out"),
    ):
        with pytest.raises(InputError, match=rf"^images\[1\] {told}"):
            model.predict([Image.open(whole), bad], ["cat", "dog"])
    assert model.predict([Image.open(whole)], ["cat", "dog"]).equal(expected)


def test_predict_warns_of_a_jpeg_that_libjpeg_finds_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, whole = tmp_path / "torn.jpg", tmp_path / "whole.jpg"
    data = encoded("JPEG", (48, 40))
    whole.write_bytes(data)
    file.write_bytes(data[:-30] + data[-2:])
    model = L2(clip=CLIPSource("package:datamodules.mini.clip"))
    images = [Image.open(whole), Image.open(file), Image.open(io.BytesIO(data)), Image.open(whole).copy()]
    probabilities = model.predict(images, ["cat", "dog"])
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: images[1]: libjpeg reports damage in {file} (Corrupt JPEG data: ")
    assert warning.endswith("), which decodes all the same: its pixels may be wrong.")
    assert probabilities.shape == (4, 2)
    images = [Image.open(whole), Image.open(file).convert("RGB"), Image.new("RGB", (8, 8))]  # of which nobody can tell
    model.predict(images, ["cat", "dog"])
    assert capsys.readouterr().err == ""


def test_what_libjpeg_finds_in_images_that_decode_is_said_and_kept(tmp_path: Path) -> None:
    good, bad = write_task(tmp_path / "good", "JPEG", "jpg"), write_task(tmp_path / "bad", "JPEG", "jpg")
    references = write_task(tmp_path / "references", "JPEG", "jpg") / "train"
    torn = [bad / "train" / "cat" / "1.jpg", bad / "test" / "dog" / "0.jpg", references / "dog" / "2.jpg"]
    for file in torn:
        data = file.read_bytes()
        file.write_bytes(data[:-30] + data[-2:])  # an early end with its marker: Pillow takes it
        with Image.open(file) as image:
            image.load()
    flags = [*REFERENCE, "--data.replay.images", str(references), "--data.steps", "6"]
    status, _, err = fit(tmp_path, [good, bad], *flags)
    assert status == 0, err
    results = read_results(tmp_path / "runs" / "three_tasks")
    assert results["damaged"] == {"bad": ["test/dog/0.jpg", "train/cat/1.jpg"], "data.replay": ["dog/2.jpg"]}
    told = "warning: libjpeg reports damage in"
    assert f"{told} 1 image of 'bad' that decode all the same" in err  # before the first task
    assert f"{told} 2 images of 'bad' that decode all the same: their pixels may be wrong. The first one is test" in err
    assert f"{told} 1 image of 'data.replay'" in err and "of 'good'" not in err
    assert results["skipped"] == {}


def test_images_whose_names_are_not_utf_8_are_trained_on_skipped_and_reported(tmp_path: Path) -> None:
    task = write_task(tmp_path / "task")
    names = [os.fsdecode(name) for name in (b"\xff\xe4.png", b"\xfc.png", b"\xe9\xe8.png")]
    for name, number in zip(names, range(3), strict=True):
        (task / "train" / "cat" / f"{number}.png").rename(task / "train" / "cat" / name)
    (task / "test" / "dog" / "1.png").rename(task / "test" / "dog" / names[0])
    make_hole(*(task / "train" / "cat" / name for name in names[:2]))
    replay = ["--data.replay.images", str(task / "test")]
    status, _, err = fit(tmp_path, [task], *REFERENCE, *replay, "--data.steps", "6", "--data.on_bad_image", "skip")
    assert status == 0, err
    skipped = read_results(tmp_path / "runs" / "three_tasks")["skipped"]["task"]
    assert skipped["images"] == [f"train/cat/{name}" for name in sorted(names[:2])]
    again, _, err = fit(tmp_path, [task], *REFERENCE, *replay, "--data.steps", "6", "--run.name", "again")
    assert again == 2 and "cannot be decoded" in err
