"""Configs that build on others."""

from pathlib import Path

import pytest

from gift_lightning.config_files import with_bases
from gift_lightning.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    Path("ground.yaml").write_text("a: 1\n")
    Path("deep/house.yaml").write_text("base: ../ground.yaml\nb: 2\n")
    Path("roof.yaml").write_text("base: [deep/house.yaml, ground.yaml]\nc: 3\n")
    Path("round.yaml").write_text("base: [round.yaml]\n")
    Path("lost.yaml").write_text("base: nowhere.yaml\n")
    Path("number.yaml").write_text("base: 3\n")
    return tmp_path


def configs(*files: str) -> list[str]:
    return [word for file in files for word in ("--config", file)]


def test_what_a_config_builds_on_comes_before_it(folder: Path) -> None:
    assert with_bases(["fit", "--config", "roof.yaml", "--data.steps", "3"]) == [
        "fit",
        *configs("ground.yaml", "deep/house.yaml", "ground.yaml", "roof.yaml"),
        "--data.steps",
        "3",
    ]
    assert with_bases(["--config=deep/house.yaml"]) == configs("ground.yaml", "deep/house.yaml")


def test_other_words_stay(folder: Path) -> None:
    words = ["fit", "--config", "{a: 1}", "--run.name", "x", "--config"]
    assert with_bases(words) == words


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("round.yaml", r"The config round\.yaml builds on itself: remove it from 'base'"),
        ("lost.yaml", r"The config nowhere\.yaml does not exist: name a file"),
        ("number.yaml", r"The config number\.yaml has 'base: 3': name a file, or a list of files"),
    ],
)
def test_bad_bases_are_told(file: str, sentence: str, folder: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        with_bases(["--config", file])
