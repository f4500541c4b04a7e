"""A run on other images is another run, though their files have the same names."""

import shutil
from pathlib import Path

from PIL import Image

from datamodules.images.selection import FewShot, Selection
from datamodules.images.sets import ImageFiles
from gift_lightning.records.protocol import first_changed_task
from tests.e2e.conftest import call, read_results, write_own_images

ZERO_SHOT = [
    *("fit", "--model", "gift_lightning.methods.ZeroShot", "--model.clip.name", "package:datamodules.mini.clip"),
    *("--trainer.accelerator", "cpu", "--run.name", "own"),
]


def tasks(folder: Path) -> str:
    birds = f"{{class_path: datamodules.ImageFolderTask, init_args: {{folder: {folder}/birds}}}}"
    source = f"{{class_path: datamodules.ImageFolderTask, init_args: {{folder: {folder}/tools}}}}"
    tools = f"{{class_path: datamodules.ClassIncremental, init_args: {{source: {source}, initial: 12, increment: 12}}}}"
    return f"[{birds}, {tools}]"


def test_a_copy_is_the_same_and_other_images_are_not(tmp_path: Path) -> None:
    def fit(folder: Path, *flags: str) -> tuple[int, str, str]:
        return call(*ZERO_SHOT, "--run.root", str(tmp_path / "runs"), "--data.tasks", tasks(folder), *flags)

    first, copy = tmp_path / "first", tmp_path / "copy"
    write_own_images(first)
    assert fit(first)[0] == 0
    assert set(read_results(tmp_path / "runs" / "own")["protocol"]["file_sizes"]) >= {"birds", "tools_1"}
    shutil.copytree(first, copy)
    status, out, err = fit(copy)
    assert status == 0 and "This run is complete" in out, err
    replaced = next((copy / "birds" / "train").rglob("*.png"))
    Image.effect_noise((64, 64), 90).save(replaced)
    status, out, err = fit(copy)
    assert status == 0 and "This run is complete" in out, err
    for number, (name, images, share) in enumerate(
        [("birds", "birds/test", 1), ("birds", "birds/train", 3), ("tools_1", "tools", 1)]
    ):
        changed = tmp_path / f"changed_{number}"
        shutil.copytree(first, changed)
        for path in sorted((changed / images).rglob("*.png"))[::share]:
            Image.effect_noise((40, 40), 90).save(path)
        status, _, err = fit(changed)
        assert status == 2 and f"another content of the images of task '{name}" in err
        status, _, err = fit(changed, "--run.name", "next", "--ckpt_path", f"{tmp_path}/runs/own/checkpoints/last.ckpt")
        assert status == 2 and f"The checkpoint belongs to a run on other images of task '{name}" in err


def test_a_few_repaired_images_are_the_same_task_and_a_share_of_either_set_is_not() -> None:
    def sizes(train: dict[int, str], test: dict[int, str], count: int = 100) -> dict[str, dict[str, str]]:
        sets = ((train, 2 * count), (test, count))
        texts = ("".join(changes.get(place, "11") for place in range(many)) for changes, many in sets)
        return {"birds": dict(zip(("train", "test"), texts, strict=True))}

    def first(count: int) -> dict[int, str]:
        return dict.fromkeys(range(count), "22")

    before = sizes({}, {})
    for train, test in ((0, 0), (1, 1), (10, 5)):
        assert first_changed_task(before, sizes(first(train), first(test))) is None, (train, test)
    for train, test in ((11, 0), (0, 6), (0, 100), (200, 0), (200, 100), (70, 0), (0, 33)):
        assert first_changed_task(before, sizes(first(train), first(test))) == "birds", (train, test)
    few = sizes({}, {}, 3)
    assert first_changed_task(few, sizes(first(1), first(1), 3)) is None
    assert first_changed_task(few, sizes({}, first(2), 3)) == "birds"
    # a run of an earlier version has none, or looked at other files
    assert first_changed_task({}, before) is first_changed_task(few, before) is None


def test_part_of_a_set_has_the_files_of_its_own_images(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(bytes(number))
    (tmp_path / "5.png").unlink()
    files = ImageFiles(tmp_path, [(f"{number}.png", number % 2) for number in range(6)])
    assert files.sizes(range(6)) == [0, 1, 2, 3, 4, -1]
    part = Selection(files, [5, 3, 1], [0, 0, 0])
    assert part.sizes([0, 2]) == [-1, 1]
    assert Selection(part, [1], [0]).sizes([0]) == [3]
    assert FewShot(files, 1, (0,)).sizes([0, 1]) == [files.sizes([i])[0] for i in FewShot(files, 1, (0,)).indices]
    assert not hasattr(Selection([], [], []), "sizes")  # type: ignore[arg-type]
