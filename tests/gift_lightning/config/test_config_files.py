"""Configs that build on others."""

from pathlib import Path

import pytest

from gift_lightning.config.files import with_bases
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
    Path("other.yaml").write_text("config: ground.yaml\n")
    return tmp_path


def test_what_a_config_builds_on_comes_before_it(folder: Path) -> None:
    assert with_bases("roof.yaml") == ["ground.yaml", "deep/house.yaml", "ground.yaml", "roof.yaml"]
    assert with_bases("deep/house.yaml") == ["ground.yaml", "deep/house.yaml"]


def test_a_config_given_as_text_builds_on_files_as_well(folder: Path) -> None:
    text = '{"base": "deep/house.yaml", "c": 3}'
    assert with_bases(text) == ["ground.yaml", "deep/house.yaml", text]
    assert with_bases("a: 1") == ["a: 1"]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("round.yaml", r"The config round\.yaml builds on itself: remove it from 'base'"),
        ("{base: round.yaml}", r"The config round\.yaml builds on itself: remove it from 'base'"),
        ("lost.yaml", r"The config nowhere\.yaml does not exist: name a file"),
        ("{base: nowhere.yaml}", r"The config nowhere\.yaml does not exist: name a file"),
        ("number.yaml", r"The config number\.yaml has 'base: 3': name a file, or a list of files"),
        ("other.yaml", r"The config other\.yaml has a key 'config': name the files that it builds on under 'base'"),
    ],
)
def test_bad_bases_are_told(config: str, sentence: str, folder: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        with_bases(config)
