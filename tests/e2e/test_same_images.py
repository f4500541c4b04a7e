"""A run on other images is another run, though their files have the same names."""

import shutil
from pathlib import Path

from PIL import Image

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
    assert set(read_results(tmp_path / "runs" / "own")["protocol"]["sizes"]) >= {"birds", "tools_1"}
    shutil.copytree(first, copy)
    status, out, err = fit(copy)
    assert status == 0 and "This run is complete" in out, err
    replaced = next((copy / "birds" / "train").rglob("*.png"))
    Image.effect_noise((64, 64), 90).save(replaced)
    status, out, err = fit(copy)
    assert status == 0 and "This run is complete" in out, err
    for number, name in enumerate(("birds", "tools")):
        changed = tmp_path / f"changed_{number}"
        shutil.copytree(first, changed)
        for path in (changed / name).rglob("*.png"):
            with Image.open(path) as image:
                image.rotate(45).resize((40, 40)).save(path)
        status, _, err = fit(changed)
        assert status == 2 and f"another content of the images of task '{name}" in err
        status, _, err = fit(changed, "--run.name", "next", "--ckpt_path", f"{tmp_path}/runs/own/checkpoints/last.ckpt")
        assert status == 2 and f"The checkpoint belongs to a run on other images of task '{name}" in err
