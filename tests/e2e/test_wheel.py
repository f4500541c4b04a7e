"""The wheel, installed where the repository is not: all files are in it, and it works from any folder."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.e2e.conftest import read_results

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Path:
    """The programs of an environment that has the wheel, and the libraries it needs but not this repository."""
    folder = wheel.parent / "environment"
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    run(programs / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    where = run(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    # a path in a .pth file adds the libraries beside us, but not what .pth files among them add: this repository
    (Path(where.strip()) / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return programs


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    tracked = run("git", "ls-files", "gift_lightning", "callbacks", "datamodules", cwd=ROOT).splitlines()
    assert set(tracked) <= set(ZipFile(wheel).namelist())


def test_the_wheel_says_that_its_packages_are_typed(wheel: Path) -> None:
    content = ZipFile(wheel)
    assert {f"{name}/py.typed" for name in ("gift_lightning", "callbacks", "datamodules")} <= set(content.namelist())
    metadata = next(name for name in content.namelist() if name.endswith(".dist-info/METADATA"))
    assert "Classifier: Typing :: Typed" in content.read(metadata).decode()


def test_it_runs_from_another_folder(environment: Path, tmp_path: Path) -> None:
    assert "Continual learning of CLIP" in run(environment / "gift-lightning", "--help", cwd=tmp_path)
    find = "from importlib.util import find_spec; print(find_spec('callbacks').origin)"
    where = run(environment / "python", "-c", find, cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment.parent)
    config = ROOT / "conf" / "mini" / "finetune.yaml"
    flags = ["--data.steps", "2", "--model.warmup_steps", "1", "--trainer.accelerator", "cpu"]
    task = "[{class_path: datamodules.mini.Flags, init_args: {train_size: 40, test_size: 40}}]"
    run(environment / "gift-lightning", "fit", "--config", config, *flags, "--data.tasks", task, cwd=tmp_path)
    results = read_results(tmp_path / "runs" / "mini_finetune")
    assert results["complete"]
    assert len(results["R"]) == 1
    assert (tmp_path / "runs" / "mini_finetune" / "accuracy_matrix.png").stat().st_size > 10_000
