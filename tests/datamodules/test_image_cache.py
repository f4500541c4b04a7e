"""Decoded test images on disk: the same values, made once, by any number of ranks, and never half."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize, ToTensor

from datamodules import ClassIncremental, ImageFolderTask, Task, TaskSequence, image_cache
from datamodules.image_cache import CacheFile, cache_bytes, cached_images
from datamodules.images.damage import damaged_paths
from datamodules.images.sets import DAMAGED
from datamodules.mini import Flags
from datamodules.shard import ResizedImages, TestShard
from datamodules.stream import Split
from gift_lightning.clip.model import CLIP
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import ImageInputError, InputError
from gift_lightning.methods import ZeroShot
from tests.damaging import encoded
from tests.datamodules.test_image_folder import ready, write

MINI = CLIPSource("package:datamodules.mini.clip")


@pytest.fixture(scope="module")
def clip() -> CLIP:
    return MINI.load()


@pytest.fixture(autouse=True)
def of_few_images_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "LEAST_CACHED_BYTES", 0)


def flags(count: int = 150) -> Task:
    task = Flags(1, count)
    task.setup()
    return task


def trainer() -> Trainer:
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)


def build(folder: Path, task: Task, clip: CLIP, **arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return cached_images(trainer(), folder, task, clip.test_geometry, **arguments)[:2]


def refuse(image: Any) -> Any:
    raise AssertionError("An image was decoded.")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_values_are_those_of_decoding(num_workers: int, clip: CLIP, tmp_path: Path) -> None:
    task, said = flags(), []
    images, labels = build(tmp_path, task, clip, num_workers=num_workers, report=said.append)
    expected = TestShard(task.test_set, clip.test_geometry, clip.normalize)
    assert torch.equal(labels, expected.labels)
    for rank in range(2):
        ours = TestShard.of(images[rank::2], labels[rank::2], clip.normalize)
        theirs = TestShard(task.test_set, clip.test_geometry, clip.normalize, rank, 2)
        assert torch.equal(ours[:], theirs[:]) and torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours[3:9], theirs[3:9]) and torch.equal(ours[torch.tensor([7, 0])], theirs[[7, 0]])
    assert said[-1] == "Decoding test images of Flags: 100%"


def test_a_sequence_reads_what_is_there_and_decodes_nothing(
    clip: CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shard() -> TestShard:
        sequence = TaskSequence([flags()], cache=str(tmp_path / "cache"))
        sequence.trainer = trainer()
        sequence.trainer.strategy._lightning_module = ZeroShot(clip=MINI)
        sequence.setup("test")
        return sequence.test_shard(0)

    first = shard()
    monkeypatch.setattr(ResizedImages, "__getitem__", refuse)
    again = shard()
    assert torch.equal(again[:], first[:]) and torch.equal(again.labels, first.labels)


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_any_number_of_ranks_makes_the_same_file(ranks: int, clip: CLIP, tmp_path: Path) -> None:
    task = flags(5)
    file = CacheFile.of(tmp_path, task, clip.test_geometry)
    temporary, shares = file.begin(), []
    for rank in range(ranks):
        images = ResizedImages(task.test_set, clip.test_geometry)
        shares += list(file.fill(temporary, images, Split(rank, ranks), 0))
        assert not file.is_whole()
    assert shares == [1.0] * min(ranks, 5)
    file.finish(temporary)
    assert file.is_whole() and list(tmp_path.iterdir()) == [file.path]
    images, labels, _ = file.read()
    expected = TestShard(task.test_set, clip.test_geometry, torch.as_tensor)
    assert torch.equal(images, expected[:]) and torch.equal(labels, expected.labels)


def test_the_size_is_known_before(clip: CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = flags()
    expected = cache_bytes(task, clip.test_geometry)
    build(tmp_path, task, clip)
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [expected] == [150 * (8 + 1 + 3 * 32 * 32)]
    assert cache_bytes(task, Compose([Resize(8), CenterCrop(8), ToTensor()])) == 0  # not in uint8
    monkeypatch.setattr(image_cache, "LEAST_CACHED_BYTES", expected)
    assert cache_bytes(task, clip.test_geometry) == 0


def colour(image: Any) -> list[int]:
    return image[:, 0, 0].tolist()


def test_other_images_or_another_transform_are_another_file(clip: CLIP, tmp_path: Path) -> None:
    names = [f"{split}/{name}/0.png" for split in ("train", "test") for name in ("ant", "bee")]
    write(tmp_path / "a", names)
    write(tmp_path / "b", names, colour=(20, 30, 200))
    for path in (tmp_path / "b").rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    first, second = (ready(tmp_path / folder, name="same") for folder in "ab")
    assert first.fingerprint == second.fingerprint  # names and labels are the same
    for task, expected in ((first, [200, 30, 30]), (second, [20, 30, 200]), (first, [200, 30, 30])):
        images, _ = build(tmp_path / "cache", task, clip)
        assert colour(images[0]) == expected
    assert len(list((tmp_path / "cache").iterdir())) == 2

    def file(task: Task, size: int = 8) -> Path:
        geometry = Compose([Resize((size, size)), PILToTensor()])
        return CacheFile.of(tmp_path, task, geometry).path

    before = file(first)
    assert before == file(ready(tmp_path / "a", name="same")) and before != file(first, 9)
    write(tmp_path / "a", ["test/ant/1.png"])
    assert file(ready(tmp_path / "a", name="same")) != before


def test_a_truncated_file_is_made_anew(clip: CLIP, tmp_path: Path) -> None:
    task = flags()
    expected = build(tmp_path, task, clip)[0].clone()
    (path,) = tmp_path.iterdir()
    os.truncate(path, 1000)
    assert torch.equal(build(tmp_path, task, clip)[0], expected)


def test_what_a_killed_process_left_is_removed_in_time(clip: CLIP, tmp_path: Path) -> None:
    file = CacheFile.of(tmp_path, flags(), clip.test_geometry)
    old, young = file.begin(), file.begin()
    os.utime(old, (0, 0))
    assert not file.is_whole()
    assert list(tmp_path.iterdir()) == [young]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_damage_is_known_from_the_file_too(num_workers: int, clip: CLIP, tmp_path: Path) -> None:
    """Of tasks that are parts of another as well, whichever process decoded."""
    torn, data = ["test/a/1.jpg", "test/c/2.jpg"], encoded("JPEG", (24, 16))
    for path in [f"{split}/{name}/{i}.jpg" for split in ("train", "test") for name in "abc" for i in range(3)]:
        file = tmp_path / "pets" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data[:-30] + data[-2:] if path in torn else data)
    whole = ready(tmp_path / "pets")
    parts = ClassIncremental(ready(tmp_path / "pets"), 2, 1, [2, 0, 1]).subtasks()
    for task, count in ((whole, 2), (parts[0], 2), (parts[1], 0)):
        task.setup()
        paths = [path for path, _ in task.test_set.samples]
        for _ in ("decoded", "read"):
            *_, damage = cached_images(trainer(), tmp_path / "cache", task, clip.test_geometry, num_workers)
            assert (damage == DAMAGED).tolist() == [path in torn for path in paths]
            assert damaged_paths(task.test_set, damage) == [path for path in paths if path in torn]
            assert int((damage == DAMAGED).sum()) == count


@pytest.fixture
def broken(tmp_path: Path) -> ImageFolderTask:
    """A task whose second test image is truncated."""
    write(tmp_path / "pets", ["train/ant/0.png", "train/bee/0.png", "test/ant/0.png", "test/bee/0.png"])
    path = tmp_path / "pets" / "test" / "bee" / "0.png"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    return ready(tmp_path / "pets")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_test_image_is_named_and_leaves_no_file(
    num_workers: int, broken: ImageFolderTask, clip: CLIP, tmp_path: Path
) -> None:
    told = "Task 'pets', image 1: .*test/bee/0.png cannot be decoded"
    with pytest.raises(ImageInputError, match=told):
        build(tmp_path / "cache", broken, clip, num_workers=num_workers)
    assert not list((tmp_path / "cache").iterdir())
    with pytest.raises(ImageInputError, match=told):
        TestShard(broken.test_set, clip.test_geometry, clip.normalize, num_workers=num_workers)


def test_a_folder_that_cannot_be_written_is_told(clip: CLIP, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"cannot be written: .*file is a file, not a folder\. Make room for .* GB of decoded test"
    ):
        build(tmp_path / "file" / "cache", flags(), clip)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told(clip: CLIP, tmp_path: Path) -> None:
    task = flags()
    file = CacheFile.of(tmp_path, task, clip.test_geometry)
    with pytest.raises(InputError, match=r"cannot be written: No space left on device\. Make room for 0\.00046 GB"):
        list(file.fill(Path("/dev/full"), ResizedImages(task.test_set, clip.test_geometry), Split(), 0))


def test_a_folder_that_ranks_do_not_share_is_told(clip: CLIP, tmp_path: Path) -> None:
    file = CacheFile.of(tmp_path, flags(), clip.test_geometry)
    with pytest.raises(InputError, match="not the same folder on all machines"):
        file.read()
    with pytest.raises(InputError, match="not the same folder on all machines"):
        list(file.fill(tmp_path / "nowhere", ResizedImages(flags().test_set, clip.test_geometry), Split(), 0))
