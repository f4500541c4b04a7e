"""What the README tells a user to type, typed: every command and every line of Python, on fewer steps and images."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datamodules import Reference
from tests.e2e.conftest import run_command, write_own_images

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```(sh|python|yaml)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
SHORT = ["--data.steps", "2", "--model.warmup_steps", "1", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
SMALL = "{class_path: datamodules.mini.%s, init_args: {train_size: 40, test_size: 30}}"
THREE_TASKS = ["--data.tasks", f"[{', '.join(SMALL % name for name in ('Flags', 'Shapes', 'Counting'))}]"]
FEW = ["--data.replay.images_per_task", "12", "--data.replay.batch_size", "4"]
SMALL_CLIP = ["--model.clip.name", "package:datamodules.mini.clip", "--model.clip.pretrained", "null"]
ELSEWHERE = ("git ", "make ", "pip ", "#", "srun ")
"""Installing is tested where the repository is, clusters where there is one."""
NEEDS = ("# needs the data", "# needs the network", "# needs Gradio")


def commands() -> list[list[str]]:
    """The words of each command line of the README that starts this program."""
    lines = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line.strip()]
    for line in lines:
        assert line.startswith(("python -m gift_lightning ", *ELSEWHERE)), f"no test runs {line}"
    ours = [
        shlex.split(line, comments=True) for line in lines if line.startswith("python ") and not line.endswith(NEEDS)
    ]
    return [words[words.index("gift_lightning") + 1 :] for words in ours]


def shortened(words: list[str]) -> list[str]:
    if words[0] in ("report", "export"):
        return words
    few = FEW if any(name in word for word in words for name in ("gift.yaml", "quickstart.yaml")) else []
    own = [*SMALL_CLIP, "--data.num_workers", "0"] if "conf/own_images.yaml" in words else []
    own = own or THREE_TASKS
    return [*words, *(SHORT if words[0] != "test" else SHORT[4:]), *few, *own]


@pytest.mark.slow
def test_every_command_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    own = tmp_path / "conf" / "own_images.yaml"
    own.write_text(own.read_text().replace(", a type of bird.", ""))  # the small CLIP reads few words
    write_own_images(tmp_path / "data")
    Image.new("RGB", (64, 48)).save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)

    typed = commands()
    assert {words[0] for words in typed} == {"fit", "test", "generate", "doctor", "report", "export"}
    for words in typed:
        log = tmp_path / "log.txt"
        assert run_command(shortened(words), log) == 0, f"{' '.join(words)}\n{log.read_text()}"
        log.unlink()
    use, from_python, loaders = (block for kind, block in BLOCKS if kind == "python")
    names: dict[str, Any] = {}
    exec(use, names)
    assert names["probabilities"].shape == (1, 3)
    exec(from_python.replace("steps=120", "steps=2").replace("images_per_task=256", "images_per_task=12"), names)
    assert len(names["results"].R) == 2
    exec(loaders, names)
    assert len(names["labels"]) == 128 and len(names["images"]) == len(names["texts"]) == 12


def test_the_yaml_of_the_readme_is_that_of_the_config() -> None:
    import yaml

    shown, reference = (yaml.safe_load(block) for kind, block in BLOCKS if kind == "yaml")
    config = yaml.safe_load((ROOT / "conf" / "own_images.yaml").read_text(encoding="utf-8"))
    for ours, theirs in zip(shown["data"]["tasks"], config["data"]["tasks"], strict=True):
        assert ours["class_path"] == theirs["class_path"]
        assert ours["init_args"].items() <= theirs["init_args"].items()
    assert Reference(**reference["data"]["replay"]["init_args"]).sentences == "imagenet"
