"""Synthetic replay: which images belong to a task, how they get into its folder, and which folders are refused."""

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules import SyntheticReplay, TaskSequence
from datamodules.mini import Flags, Shapes
from datamodules.replay.drawing import ATTEMPTS
from datamodules.replay.folder import is_blank, pixel_hash
from datamodules.replay.generator import ImageGenerator
from datamodules.stream import Split
from gift_lightning.errors import InputError
from gift_lightning.seeding import stream_seed


class Noise(ImageGenerator):
    """8 x 8 images of noise that depends on prompt and seed; records what it is asked for."""

    def __init__(self, batch_size: int = 4, black: Sequence[str] = (), steps: int = 10) -> None:
        self.batch_size, self.black, self.steps = batch_size, black, steps
        self.calls: list[tuple[list[str], list[int]]] = []
        self.checked: list[list[str]] = []
        self.released = 0

    def identity(self) -> dict[str, Any]:
        return {"name": "noise", "steps": self.steps}

    def check(self, prompts: list[str]) -> None:
        self.checked.append(prompts)

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        self.calls.append((prompts, seeds))
        return [self._draw(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def release(self) -> None:
        self.released += 1

    def _draw(self, prompt: str, seed: int) -> Image.Image:
        if prompt in self.black:
            return Image.new("RGB", (8, 8))
        rng = np.random.default_rng(stream_seed(prompt, seed))
        return Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8))

    @property
    def drawn(self) -> int:
        return sum(len(prompts) for prompts, _ in self.calls)


class BlackAtFirst(Noise):
    """Draws black images the first time it is asked for a prompt."""

    def _draw(self, prompt: str, seed: int) -> Image.Image:
        known = [one for prompts, _ in self.calls[:-1] for one in prompts]
        return super()._draw(prompt, seed) if prompt in known else Image.new("RGB", (8, 8))


INITIAL = ["a photo of a dog", "a photo of a cat", "a photo of a dog"]
COUNT = 10


def replay(root: Path, generator: ImageGenerator | None = None, seed: int = 0, **settings: Any) -> SyntheticReplay:
    settings = {"images_per_task": COUNT, "initial_prompts": INITIAL, **settings}
    made = SyntheticReplay(str(root), generator, **settings)
    TaskSequence([Flags(), Shapes()], replay=made, seed=seed)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def loaded(made: SyntheticReplay) -> list[tuple[bytes, str]]:
    """The pairs of the current set, as pixels and prompt."""
    return [(made.pairs[i][0].tobytes(), made.texts[made.pairs[i][1]]) for i in range(len(made.pairs))]


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_the_pool_is_what_was_known_and_what_was_learned(tmp_path: Path) -> None:
    made = replay(tmp_path)
    assert made.pool(0) == INITIAL[:2]
    assert made.pool(1) == [*INITIAL[:2], *Flags().training_prompts()]


def test_initial_prompts(tmp_path: Path) -> None:
    imagenet = replay(tmp_path, initial_prompts="imagenet").initial_prompts
    assert len(imagenet) == 1000 and imagenet[0] == "a photo of a tench."
    file = tmp_path / "prompts.txt"
    file.write_text("a photo of a dog\n\n  a photo of a café \n", encoding="utf-8")
    assert replay(tmp_path, initial_prompts=str(file)).initial_prompts == ["a photo of a dog", "a photo of a café"]
    packaged = replay(tmp_path, initial_prompts="package:datamodules.mini/general_prompts.txt").initial_prompts
    assert "a photo of a house" in packaged


def test_prompts_are_drawn_with_replacement_from_the_seed(tmp_path: Path) -> None:
    def prompts(count: int, seed: int = 0, task: int = 1) -> list[str]:
        drawing = replay(tmp_path, Noise(), seed, images_per_task=count).drawing(task)
        assert drawing is not None
        return drawing.prompts

    drawn = prompts(1000)
    assert drawn[:100] == prompts(100)
    assert prompts(100, seed=1) != drawn[:100]
    counts = Counter(drawn)
    pool = replay(tmp_path).pool(1)
    assert set(counts) == set(pool)
    assert max(counts.values()) < 3 * 1000 / len(pool)


# --- the folder -------------------------------------------------------------------------------------------------------


def test_folder_of_a_task(tmp_path: Path) -> None:
    generator = Noise()
    made = replay(tmp_path, generator)
    made.prepare_task(1)
    folder = tmp_path / "Shapes_Syn"
    assert set(contents(folder)) == {"image_text.csv", "manifest.json", *(f"{i}.png" for i in range(COUNT))}
    with open(folder / "image_text.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "text"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["generator"] == generator.identity()
    assert (manifest["seed"], manifest["count"], manifest["schema"]) == (0, COUNT, 1)
    assert [[image["file"], image["prompt"]] for image in manifest["images"]] == rows[1:]
    seeds = [image["seed"] for image in manifest["images"]]
    assert len(set(seeds)) == COUNT
    for (name, prompt), seed, (pixels, told) in zip(rows[1:], seeds, loaded(made), strict=True):
        assert pixels == generator._draw(prompt, seed).tobytes() and told == prompt
        drawn = Image.open(folder / name)
        assert drawn.info == {"prompt": prompt, "seed": str(seed), "pixels": pixel_hash(drawn)}
    assert [image["pixels"] for image in manifest["images"]] == [pixel_hash(made.pairs[i][0]) for i in range(COUNT)]
    assert made.texts == list(dict.fromkeys(prompt for _, prompt in rows[1:]))
    assert generator.released == 1 and generator.checked == [list(dict.fromkeys(made.texts))]


def test_a_complete_folder_is_read_and_nothing_is_drawn(tmp_path: Path) -> None:
    first = replay(tmp_path, Noise())
    first.prepare_task(0)
    before = contents(tmp_path / "Flags_Syn")
    idle = Noise()
    again = replay(tmp_path, idle)
    again.prepare_task(0)
    assert not idle.calls and not idle.checked
    assert loaded(again) == loaded(first)
    reader = replay(tmp_path)  # without a generator
    reader.prepare_task(0)
    assert loaded(reader) == loaded(first)
    assert contents(tmp_path / "Flags_Syn") == before


def test_without_a_generator_the_first_images_of_a_larger_folder_are_read(tmp_path: Path) -> None:
    whole = replay(tmp_path, Noise())
    whole.prepare_task(0)
    part = replay(tmp_path, images_per_task=4)
    part.prepare_task(0)
    assert loaded(part) == loaded(whole)[:4]


def break_off(folder: Path) -> None:
    """As if the process had been killed: some images missing, one half written, one never renamed."""
    (folder / "3.png").unlink()
    (folder / "9.png").unlink()
    os.truncate(folder / "4.png", 60)
    (folder / "0.png").write_bytes(b"")
    (folder / ".9.png.0123456789ab.tmp.png").write_bytes(b"half")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["images"]
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def test_only_missing_and_broken_images_are_written_again(tmp_path: Path) -> None:
    replay(tmp_path, Noise()).prepare_task(0)
    folder = tmp_path / "Flags_Syn"
    before, stamps = contents(folder), {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    break_off(folder)
    replay(tmp_path, Noise()).prepare_task(0)
    assert contents(folder) == before
    rewritten = {name for name, stamp in stamps.items() if (folder / name).stat().st_mtime_ns != stamp}
    assert rewritten == {"0.png", "3.png", "4.png", "9.png"}


def test_killed_between_manifest_and_csv(tmp_path: Path) -> None:
    replay(tmp_path, Noise()).prepare_task(0)
    before = contents(tmp_path / "Flags_Syn")
    break_off(tmp_path / "Flags_Syn")
    (tmp_path / "Flags_Syn" / "image_text.csv").unlink()
    replay(tmp_path, Noise()).prepare_task(0)
    assert contents(tmp_path / "Flags_Syn") == before


def test_shares_of_any_number_of_processes_make_the_same_folder(tmp_path: Path) -> None:
    replay(tmp_path / "one", Noise()).prepare_task(1)
    generator = Noise()
    drawing = replay(tmp_path / "three", generator).drawing(1)
    assert drawing is not None
    for rank in (2, 0, 1):  # each at its own time: nobody waits
        list(drawing.make(Split(rank, 3)))
    assert contents(tmp_path / "three" / "Shapes_Syn") == contents(tmp_path / "one" / "Shapes_Syn")
    assert generator.drawn == COUNT
    batches = [seeds for _, seeds in generator.calls]
    alone = Noise()
    replay(tmp_path / "alone", alone).prepare_task(1)
    assert sorted(batches) == sorted(seeds for _, seeds in alone.calls)


def test_black_images_are_drawn_again_with_another_seed(tmp_path: Path) -> None:
    made = replay(tmp_path, BlackAtFirst())
    made.prepare_task(0)
    assert not any(is_blank(made.pairs[i][0]) for i in range(COUNT))
    before = contents(tmp_path / "Flags_Syn")
    images = json.loads(before["manifest.json"])["images"]
    assert images[0]["seed"] == stream_seed(0, "image", 0, 0, 1)
    assert images[-1]["seed"] == stream_seed(0, "image", 0, COUNT - 1, 0)
    break_off(tmp_path / "Flags_Syn")
    replay(tmp_path, BlackAtFirst()).prepare_task(0)
    assert contents(tmp_path / "Flags_Syn") == before


def test_a_generator_of_black_images_is_told_and_the_others_are_kept(tmp_path: Path) -> None:
    dark = Noise(black=["a photo of a cat"])
    with pytest.raises(InputError, match="The generator returns black images only for 'a photo of a cat', with 4"):
        replay(tmp_path, dark).prepare_task(0)
    assert len(dark.calls) == ATTEMPTS and dark.released == 1
    kept = contents(tmp_path / "Flags_Syn")
    assert len(kept) > 2
    replay(tmp_path, Noise()).prepare_task(0)
    assert kept.items() - {("manifest.json", kept["manifest.json"])} <= contents(tmp_path / "Flags_Syn").items()


CHANGED: dict[str, tuple[Callable[[Path], SyntheticReplay], str]] = {
    "generator": (lambda root: replay(root, Noise(steps=20)), "generator.steps (10 there, 20 here)"),
    "seed": (lambda root: replay(root, Noise(), seed=1), "seed (0 there, 1 here)"),
    "number": (lambda root: replay(root, Noise(), images_per_task=11), "count (10 there, 11 here)"),
    "prompts": (lambda root: replay(root, Noise(), initial_prompts=["a photo of a cow"]), "prompts: choose"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_changed_setting_is_noticed_and_nothing_is_lost(case: str, tmp_path: Path) -> None:
    replay(tmp_path, Noise()).prepare_task(0)
    before = contents(tmp_path / "Flags_Syn")
    change, expected = CHANGED[case]
    with pytest.raises(InputError, match=re.escape(f"holds images made with another {expected}")) as told:
        change(tmp_path).prepare_task(0)
    assert "another folder, or delete this one" in str(told.value)
    assert contents(tmp_path / "Flags_Syn") == before


def test_batch_size_is_no_setting_of_the_images(tmp_path: Path) -> None:
    replay(tmp_path, Noise()).prepare_task(0)
    idle = Noise(batch_size=7)
    replay(tmp_path, idle).prepare_task(0)
    assert not idle.calls


def test_an_unfinished_folder_needs_its_generator(tmp_path: Path) -> None:
    replay(tmp_path, Noise()).prepare_task(0)
    break_off(tmp_path / "Flags_Syn")
    with pytest.raises(InputError, match=re.escape("lacks 2 of the 10 images that its image_text.csv names")):
        replay(tmp_path).prepare_task(0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"images_per_task": 0}, "images_per_task is 0: give at least 1."),
        ({"batch_size": 0}, "batch_size is 0: give at least 1."),
        ({"initial_prompts": "nowhere.txt"}, "initial_prompts: nowhere.txt does not exist"),
        ({"initial_prompts": "package:nowhere/a.txt"}, "nowhere cannot be imported"),
        ({"initial_prompts": []}, "initial_prompts is empty"),
    ],
)
def test_bad_settings(settings: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        replay(tmp_path, **settings)
