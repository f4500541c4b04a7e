"""Images are written while the next ones are drawn: what overlaps, how far it goes, and what an error leaves."""

import errno
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from PIL import Image

from datamodules.replay import folder as folder_module
from datamodules.stream import Split
from gift_lightning.errors import InputError
from gift_lightning.files import remove_unfinished
from tests.datamodules.replay.test_replay import COUNT, Noise, contents, replay


def make(root: Path, generator: Noise, split: Split = Split()) -> list[int]:  # noqa: B008
    drawing = replay(root, generator).drawing(0)
    assert drawing is not None
    return list(drawing.make(split))


class Watching(Noise):
    """Knows when its second batch begins, and which images are on disk when a batch begins."""

    def __init__(self, folder: Path) -> None:
        super().__init__(batch_size=2)
        self.folder, self.second, self.on_disk = folder, Event(), list[set[str]]()

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        self.on_disk.append({path.name for path in self.folder.glob("[0-9]*.png")})
        if len(self.calls) == 1:
            self.second.set()
        return super().generate(prompts, seeds)


def test_a_batch_is_written_while_the_next_is_drawn_and_before_the_one_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Watching(tmp_path / "Flags_Syn")
    whole, met = folder_module.ReplayFolder.write, list[bool]()

    def write(*arguments: Any) -> None:
        met.append(generator.second.wait(10))
        whole(*arguments)

    monkeypatch.setattr(folder_module.ReplayFolder, "write", write)
    assert make(tmp_path, generator) == [2] * 5
    assert all(met) and len(met) == COUNT
    for batch, names in enumerate(generator.on_disk[1:], 1):
        assert {f"{index}.png" for index in range(2 * (batch - 1))} <= names


def test_a_full_disk_is_told_in_one_sentence_and_what_is_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, left = Image.Image.save, [5]

    def save(image: Image.Image, path: Path, **options: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(image, path, **options)

    with monkeypatch.context() as full:
        full.setattr(Image.Image, "save", save)
        generator = Noise()
        with pytest.raises(InputError, match=r"5.png cannot be written: No space left on device. Earlier files are wh"):
            make(tmp_path, generator)
    assert generator.released == 1
    kept = contents(tmp_path / "Flags_Syn")
    assert {name for name in kept if name.endswith(".png")} == {f"{index}.png" for index in range(5)}
    assert sum(make(tmp_path, Noise())) == COUNT - 5
    make(tmp_path / "whole", Noise())
    assert contents(tmp_path / "Flags_Syn") == contents(tmp_path / "whole" / "Flags_Syn")


def test_beside_a_process_that_completes_the_folder_and_removes_what_is_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Image.Image.save

    def save(image: Image.Image, path: Path, **options: Any) -> None:
        whole(image, path, **options)
        if path.name.startswith(".3.png."):
            (path.parent / "3.png").write_bytes(path.read_bytes())
            remove_unfinished(path.parent)

    with monkeypatch.context() as beside:
        beside.setattr(Image.Image, "save", save)
        assert sum(make(tmp_path, Noise())) == COUNT
    make(tmp_path / "alone", Noise())
    assert contents(tmp_path / "Flags_Syn") == contents(tmp_path / "alone" / "Flags_Syn")


def test_of_two_processes_that_begin_at_once_with_other_settings_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, Noise())
    before = contents(tmp_path / "Flags_Syn")
    monkeypatch.setattr(folder_module.ReplayFolder, "_names", lambda self: set[str]())  # as it was before the other one
    with pytest.raises(InputError, match=r"holds images made with another generator\.steps"):
        make(tmp_path, Noise(steps=11))
    assert contents(tmp_path / "Flags_Syn") == before


def test_what_a_process_writes_it_does_not_read_again_and_what_it_finds_it_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, read = folder_module.read_image, list[str]()

    def reading(file: Path, *arguments: Any, **options: Any) -> Image.Image:
        read.extend([file.name] if file.exists() else [])
        return whole(file, *arguments, **options)

    monkeypatch.setattr(folder_module, "read_image", reading)
    make(tmp_path, Noise(), Split(0, 2))
    assert not read
    make(tmp_path, Noise(), Split(1, 2))  # completes the manifest, with the images of the other process
    assert sorted(read) == sorted(f"{index}.png" for index in (0, 1, 2, 3, 8, 9))
    complete = contents(tmp_path / "Flags_Syn")
    make(tmp_path / "alone", Noise())
    assert contents(tmp_path / "alone" / "Flags_Syn") == complete
