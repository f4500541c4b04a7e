"""The predictions of a run: R follows from them, and ranks and kills leave the same files."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from callbacks.accuracy_matrix import _paths, _top
from datamodules.mini import Counting, Flags, Shapes
from gift_lightning.records.predictions import read_predictions
from gift_lightning.records.run_folder import RunFolder
from tests.e2e.conftest import CONFIG, call, kill_at, read_results, run_command, run_on_ranks
from tests.e2e.same_files import assert_same_files, contents
from tests.e2e.test_methods import command_of

ROOT = Path(__file__).parents[2]
FLAGS = ["--run.predictions", "true", "--data.steps", "3", "--trainer.precision", "64-true"]


def command(root: Path, *flags: str) -> list[str]:
    return ["fit", "--config", CONFIG, "--run.root", str(root), *FLAGS, *flags]


def assert_r_follows(folder: Path) -> None:
    """Each cell of R, and each without one, has its file or has none."""
    results, run = read_results(folder), RunFolder.at(folder)
    for learned, row in enumerate([results["zero_shot"], *results["R"]]):
        files = [run.predictions_csv(learned, task) for task in range(len(row))]
        assert [read_predictions(file).accuracy if file.exists() else None for file in files] == row


def page_without_costs(folder: Path) -> str:
    """The page of a run without the one section that is measured."""
    page = folder.parent / "page.html"
    status, _, err = call("report", str(folder), "--out", str(page))
    assert status == 0, err
    text, count = re.subn(r'<section id="cost">.*?</section>', "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert count == 1 and "forgotten" in text.lower()
    return text


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    assert run_command(command(root), root / "log") == 0, (root / "log").read_text()
    return root / "three_tasks"


def test_r_follows_from_the_predictions(whole: Path) -> None:
    assert_r_follows(whole)
    predicted = read_predictions(RunFolder.at(whole).predictions_csv(3, 1))
    shapes = Shapes(80, 31)
    shapes.setup()
    assert predicted.labels.tolist() == [shapes.test_set[index][1] for index in range(31)]
    assert all(shapes.class_names[number] == name for number, name in predicted.names.items())
    assert predicted.classes.shape == predicted.probabilities.shape == (31, 5)
    assert (predicted.probabilities[:, :-1] >= predicted.probabilities[:, 1:]).all()


@pytest.mark.parametrize(("method", "label_space"), [("ConDU", "seen"), ("MoEAdapter", "all")])
def test_r_follows_whatever_the_evaluation(method: str, label_space: str, tmp_path: Path) -> None:
    flags = [*command_of(method, tmp_path), *FLAGS, "--run.root", str(tmp_path), "--data.label_space", label_space]
    assert run_command(flags, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert_r_follows(tmp_path / "run")
    status, out, err = call("report", str(tmp_path / "run"), "--classes", "--format", "markdown")
    assert status == 0 and "| Flags |" in out, err
    if method == "MoEAdapter":
        status, _, err = call("features", str(tmp_path / "run"))
        assert status == 2 and "MoEAdapter keeps no weights" in err


def test_a_killed_run_leaves_the_same_files(whole: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert run_command(command(tmp_path, *kill_at("evaluate", 3 + 3 + 1)), log) == -9
    row = RunFolder.at(tmp_path / "three_tasks").predictions_csv(1, 0)
    (row.parent / f".{row.name}.0123456789ab.tmp.csv").touch()  # as a kill amid a file leaves it
    assert run_command(command(tmp_path, "--ckpt_path", "last"), log) == 0, log.read_text()
    assert_same_files(tmp_path / "three_tasks", whole)
    assert page_without_costs(tmp_path / "three_tasks") == page_without_costs(whole)


def test_two_ranks_write_what_one_does(whole: Path, tmp_path: Path) -> None:
    two = tmp_path / "three_tasks"
    assert run_on_ranks(2, command(tmp_path), tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert_r_follows(two)
    ours, theirs = contents(two, tmp_path), contents(whole, whole.parent)
    files = [name for name in theirs if name.startswith("predictions/") or name == "forgotten.png"]
    assert len(files) == 4 * 3 + 1 and {name: ours.get(name) for name in files} == {
        name: theirs[name] for name in files
    }


def test_the_first_class_is_the_one_that_counts() -> None:
    logits = torch.tensor([[1.0, 7.0, 7.0, 7.0, 0.0, 2.0], [3.0, 3.0, 3.0, 3.0, 3.0, 3.0]]).half()
    for best in ([1, 0], [3, 5]):
        top = _top(logits, torch.tensor(best))
        assert top[:, 0].tolist() == best and top.shape == (2, 5)
        assert all(len({*row}) == 5 for row in top.tolist())
    assert _top(logits[:, :2], torch.tensor([1, 0])).tolist() == [[1, 0], [0, 1]]


def test_the_report_of_classes(whole: Path) -> None:
    status, out, err = call("report", str(whole), "--classes")
    assert status == 0, err
    names = {task.name for task in (Flags, Shapes, Counting)}
    assert names <= {*out.split()} and "taken for" in out
    status, out, err = call("report", str(whole), "--classes", "--format", "csv")
    assert status == 0 and out.startswith("run,task,class,images,zero-shot,learned,end,change\n"), err
    status, _, err = call("report", str(whole), "--classes", "--out", str(whole / "x.html"))
    assert status == 2 and "leave out one of them" in err


def test_a_run_without_predictions_is_told_how_to_have_some(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("after01"))
    status, _, err = call("report", str(tmp_path / "run"), "--classes")
    assert status == 2 and "run.predictions true" in err and len(err.splitlines()) == 1
    status, _, err = call("report", str(whole), "--classes", "--published", "mtil_order_1")
    assert status == 2 and "leave out --published" in err and len(err.splitlines()) == 1


def test_a_run_goes_on_without_predictions_and_with_other_loggers(tmp_path: Path) -> None:
    """TensorBoard first, then W&B, then both; rows that are evaluated without the setting have no files."""
    log, run = tmp_path / "log", RunFolder.at(tmp_path / "three_tasks")
    boards = [f"--config={ROOT / 'conf' / 'logger' / name}.yaml" for name in ("tensorboard", "wandb")]
    assert run_command(command(tmp_path, boards[0], *kill_at("on_task_report", 1)), log) == -9
    first = run.predictions_csv(1, 0)
    first.write_text("\ufeff" + first.read_text(), encoding="utf-8")  # as a spreadsheet saves it
    assert run_command(command(tmp_path, *kill_at("on_task_start", 2), "--ckpt_path", "last"), log) == -9
    said = " ".join(log.read_text().split())
    assert f"{run.forgotten_png} is not drawn: {first} is damaged" in said, said
    run.predictions_csv(3, 0).parent.mkdir()
    shutil.copytree(run.predictions_csv(2, 0).parent, run.predictions_csv(3, 0).parent, dirs_exist_ok=True)
    off = ["--run.predictions", "false", "--ckpt_path", "last"]
    assert run_command(command(tmp_path, boards[1], *off), log) == 0, log.read_text()
    assert not run.predictions_csv(3, 0).exists() and not run.forgotten_png.exists()
    assert list((run.path / "tensorboard").glob("*tfevents*"))


def test_paths_of_images_are_those_of_torchvision_or_none() -> None:
    class Set:
        def __init__(self, samples: object) -> None:
            self.samples = samples

        def __len__(self) -> int:
            return 2

    assert _paths(Set([("a.png", 0), (Path("b.png"), 1)])) == ["a.png", "b.png"]
    for samples in ([(b"a", 0), (b"b", 1)], [("a.png", 0)], [1, 2], None, [("a", 1, 2), ("b", 1, 2)]):
        assert _paths(Set(samples)) == ["", ""]
    assert _paths([0, 1]) == ["", ""]
