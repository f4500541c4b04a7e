"""Tasks, generators and methods from outside say themselves what they need: ``doctor`` shows it and fetches it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from datamodules.mini import Flags, OracleGenerator
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.fetch import Report
from gift_lightning.methods import GIFT, Finetune
from gift_lightning.sources import Inspection, Source
from tests.e2e.conftest import CONFIG, call
from tests.e2e.test_doctor import rows

GIFT_CONFIG = str(Path(__file__).parent / "gift.yaml")


class Page:
    """A file that a download writes."""

    def __init__(self, name: str, folder: str) -> None:
        self.name, self.file = name, Path(folder) / f"{name}.txt"

    def inspect(self) -> Inspection:
        if self.file.is_file():
            return Inspection(self.name, "present", where=self.file)
        facts: dict[str, Any] = {"url": f"https://page.org/{self.name}", "bytes": 7_000_000, "licence": "CC0"}
        detail = f"{self.file} does not exist."
        return Inspection(self.name, "missing", detail, where=self.file, automatic=True, **facts)

    def download(self, report: Report) -> None:
        report("half of it")
        if not self.file.parent.is_dir():
            raise InputError(f"{self.name} has no folder to lie in.")
        self.file.write_text("whole")


class Sky(Flags):
    """A task that can be fetched."""

    def __init__(self, folder: str) -> None:
        super().__init__(train_size=45, test_size=43)
        self.name, self.page = "Sky", Page("Sky", folder)

    def inspect(self) -> Inspection:
        return self.page.inspect()

    def download(self, report: Report) -> None:
        self.page.download(report)


class Painter(OracleGenerator):
    """A generator that does not draw without brushes."""

    def __init__(self, folder: str, batch_size: int = 8) -> None:
        super().__init__(batch_size)
        self.folder = folder

    def sources(self) -> list[Source]:
        return [Page("brushes", self.folder)]

    def image_bytes(self) -> int:
        return 1_000_000


class Reader(GIFT):
    """A method that reads a glossary."""

    def __init__(self, glossary: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.glossary = glossary

    @classmethod
    def sources(cls, arguments: Mapping[str, Any]) -> list[Source]:
        return [*super().sources(arguments), Page("glossary", arguments["glossary"])]


def make_finetune(clip: CLIPSource) -> Finetune:
    return Finetune(clip=clip)


@pytest.fixture
def argv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags of a run of such a method, on two such tasks and another, with such a generator."""
    monkeypatch.setenv("COLUMNS", "200")
    shapes = {"class_path": "datamodules.mini.Shapes", "init_args": {"train_size": 80, "test_size": 31}}
    painter = {"class_path": f"{__name__}.Painter", "init_args": {"folder": str(tmp_path)}}
    outside = {
        "model": {"class_path": f"{__name__}.Reader", "init_args": {"glossary": str(tmp_path), "lr": 1e-3}},
        "data": {
            "tasks": [{"class_path": f"{__name__}.Sky", "init_args": {"folder": str(tmp_path)}}, shapes],
            "replay": {"init_args": {"generator": painter}},
        },
    }
    file = tmp_path / "outside.yaml"
    file.write_text(yaml.safe_dump(outside))
    return ["--config", CONFIG, "--config", GIFT_CONFIG, "--config", str(file), "--run.root", str(tmp_path / "runs")]


def test_what_is_needed_is_shown_and_fetched(argv: list[str], tmp_path: Path) -> None:
    status, out, _ = call("doctor", *argv)
    assert status == 1
    assert rows(out, "missing") == ["Sky", "glossary", "brushes"] and rows(out, "present") == ["Shapes", "CLIP"]
    assert f"{tmp_path}/Sky.txt does not exist. Fetch it with --download (licence: CC0; https://page.org/Sky)." in out
    space = [re.split(" {2,}", line)[:2] for line in out.splitlines() if " MB " in line]
    assert ["data sets, packed and unpacked", "14 MB"] in space  # archives and what is in them
    assert ["glossary", "7 MB"] in space and ["80 replay images", "80 MB"] in space
    assert out.splitlines()[-1] == "A fit with this config would fail: it lacks Sky, glossary, brushes."
    status, out, _ = call("doctor", *argv, "--download")
    names = ("Sky", "glossary", "brushes")
    lines = [f"{name}: {end}" for name in names for end in (f"fetching (https://page.org/{name})", "fetched.")]
    assert status == 0 and [line for line in out.splitlines() if "fetch" in line] == lines
    assert out.splitlines()[-1] == "A fit with this config can begin."
    assert call("doctor", *argv, "--download")[1].count("fetch") == 0


def test_what_draws_is_not_needed_when_all_is_drawn(argv: list[str], tmp_path: Path) -> None:
    assert call("doctor", *argv, "--download")[0] == 0
    assert call("generate", *argv)[0] == 0
    assert "brushes" in call("doctor", *argv)[1]
    (tmp_path / "brushes.txt").unlink()
    status, out, _ = call("doctor", *argv)
    assert status == 0 and "brushes" not in out


def test_a_source_that_does_not_come_is_one_sentence(argv: list[str], tmp_path: Path) -> None:
    status, out, _ = call("doctor", *argv, "--model.glossary", str(tmp_path / "nowhere"), "--download")
    assert status == 1
    assert "glossary has no folder to lie in." in out and "brushes: fetched." in out
    assert out.splitlines()[-1] == "A fit with this config would fail: it lacks glossary."


def test_a_method_that_a_function_makes_needs_its_clip(tmp_path: Path) -> None:
    flags = ["--model", f"{__name__}.make_finetune", "--run.root", str(tmp_path)]
    status, out, _ = call("doctor", "--config", CONFIG, *flags)
    assert status == 0 and rows(out, "present")[-1] == "CLIP"
