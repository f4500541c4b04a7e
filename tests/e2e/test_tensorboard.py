"""TensorBoard: the event files of a run that was killed and resumed, read back; and a sentence without the package."""

import io
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import CONFIG, kill_at, read_results, run_command

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
OVERLAY = ROOT / "conf" / "logger" / "tensorboard.yaml"
GIFT = [f"--config={path}" for path in (CONFIG, HERE / "gift.yaml", OVERLAY)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed in its second task, at a step after a checkpoint, and resumed."""
    pytest.importorskip("tensorboard")
    root = tmp_path_factory.mktemp("tensorboard")
    argv, log = ["fit", *GIFT, "--run.root", str(root)], root / "log.txt"
    assert run_command([*argv, *kill_at("step", 14)], log) == -9
    assert run_command([*argv, "--ckpt_path", "last"], log) == 0, log.read_text()
    return next(root.glob("*/results.json")).parent


@pytest.fixture(scope="module")
def events(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return read.Reload()


def test_scalars_are_those_of_the_csv(events: Any, run: Path) -> None:
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    for name in events.Tags()["scalars"]:
        column, axis = lines[0].index(name), lines[0].index("cl/task" if name.startswith("cl/") else "step")
        rows = [(int(float(line[axis])), float(line[column])) for line in lines[1:] if line[column]]
        logged = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in logged] == [step for step, _ in rows], name
        assert [value for _, value in logged] == pytest.approx([value for _, value in rows], rel=1e-6), name
    assert {"cl/last", "cl/accuracy/Flags", "loss/task"} <= set(events.Tags()["scalars"])


def test_matrix_and_pictures_once_for_each_task(events: Any, run: Path) -> None:
    results = read_results(run)
    matrix, heatmap, replay = (
        events.Tensors("cl/accuracy_matrix/text_summary"),
        events.Images("cl/heatmap"),
        events.Images("cl/replay"),
    )
    for entries in (matrix, heatmap, replay):
        assert [entry.step for entry in entries] == [1, 2, 3]
    text = matrix[-1].tensor_proto.string_val[0].decode()
    assert [line.split(" | ")[0] for line in text.splitlines()[2:]] == [
        "| zero-shot",
        "| Flags",
        "| Shapes",
        "| Counting",
    ]
    assert f"{results['R'][-1][-1]:.1f} |" in text.splitlines()[-1]
    with (
        Image.open(run / "accuracy_matrix.png") as file,
        Image.open(io.BytesIO(heatmap[-1].encoded_image_string)) as shown,
    ):
        assert np.array_equal(np.asarray(file.convert("RGB")), np.asarray(shown))


def test_a_missing_package_is_one_sentence(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for folder in filter(os.path.isdir, sys.path):
        for entry in Path(folder).iterdir() if folder.endswith("site-packages") else []:
            if not entry.name.startswith("tensorboard"):
                (site / entry.name).symlink_to(entry)
    told = subprocess.run(
        [sys.executable, "-S", "-m", "gift_lightning", "fit", *GIFT, "--run.root", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert told.stderr.strip().endswith("TensorBoard is not installed: pip install tensorboard."), told.stderr
    assert len(told.stderr.strip().splitlines()) == 1


def test_the_view_of_a_project(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "wandb_workspace.py"))
    with pytest.raises(SystemExit, match="is no folder of a run"):
        script["main"](["me", "mine", str(reference / "nowhere")])
    with monkeypatch.context() as hidden:
        hidden.setitem(sys.modules, "wandb_workspaces", None)
        with pytest.raises(SystemExit, match="pip install wandb-workspaces"):
            script["main"](["me", "mine", str(reference)])
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed: its view was not built")
    view = script["workspace"]("me", "mine", ["Flags", "Shapes"], ["loss/task"])
    text = str(view._spec)
    assert all(name in text for name in ("cl/accuracy/Shapes", "cl/transfer", "loss/task", "cl/heatmap"))
