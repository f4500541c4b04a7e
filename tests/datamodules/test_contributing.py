"""The data set in CONTRIBUTING.md, as a file outside the repository: run, resumed and loaded by its class path."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import gift_lightning
from tests.e2e.conftest import call, kill_at, read_results

ROOT = Path(__file__).parents[2]
MODULE = "odd_or_even"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path with the file of the example."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    (code,) = (block for block in blocks if "(Task)" in block)
    (tmp_path / f"{MODULE}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(importlib.sys.modules, MODULE, raising=False)
    return tmp_path


def test_the_data_set_in_contributing_is_one(elsewhere: Path) -> None:
    task = importlib.import_module(MODULE).OddOrEven()
    task.setup()
    assert len(task.train_set) == 1200 and len(task.test_set) == 597
    image, label = task.train_set[1]
    assert image.mode == "RGB" and image.size == (8, 8) and np.asarray(image).max() > 200
    assert task.class_names[label] == "odd" and set(task.train_set.labels) == {0, 1}
    fingerprint = task.fingerprint
    again = type(task)()
    again.setup()
    assert again.fingerprint == fingerprint
    assert task.inspect().status == "present" and task.inspect().counts == (1200, 597)


def test_it_runs_by_its_class_path_and_resumes_and_loads(elsewhere: Path) -> None:
    flags = ["--config", str(ROOT / "conf" / "mini" / "finetune.yaml"), "--data.steps", "4", "--data.batch_size", "8"]
    flags += ["--data.tasks", f"[{{class_path: {MODULE}.OddOrEven}}, {{class_path: datamodules.mini.Flags}}]"]
    flags += ["--model.warmup_steps", "1", "--trainer.accelerator", "cpu", "--run.root", str(elsewhere / "runs")]
    status, _, err = call("fit", *flags, *kill_at("step", 6), "--trainer.callbacks.signal_number", "2")
    assert status == 130, err
    status, out, err = call("fit", *flags, "--ckpt_path", "last")
    assert status == 0 and "OddOrEven" in out, err
    run = elsewhere / "runs" / "mini_finetune"
    results = read_results(run)
    assert results["complete"] and results["tasks"] == ["OddOrEven", "Flags"]
    task = importlib.import_module(MODULE).OddOrEven()
    task.setup()
    assert gift_lightning.load(run).predict([task.test_set[0][0]], task.class_names).shape == (1, 2)
