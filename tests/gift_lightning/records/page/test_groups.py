"""Which runs are seeds of one method: as the command `report` sees their folders."""

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from gift_lightning.errors import InputError
from gift_lightning.records.page.differences import warnings
from gift_lightning.records.page.groups import grouped
from gift_lightning.records.page.section import ReportedRun
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.same_run import method_settings
from tests.e2e.conftest import call

RUN = Path(__file__).parents[3] / "earlier" / "runs" / "gift"

CONFIG: dict[str, Any] = {
    "seed_everything": 0,
    "run": {"root": "runs", "name": "a"},
    "model": {
        "class_path": "gift_lightning.methods.GIFT",
        "init_args": {"clip": {"name": "a"}, "lr": 0.001, "eval_batch_size": 256, "alignment_weight": 1.0},
    },
    "data": {
        "tasks": [{"class_path": "datamodules.DTD", "init_args": {"root": None}}],
        "steps": 10,
        "replay": {
            "class_path": "datamodules.SyntheticReplay",
            "init_args": {
                "folder": "runs/replay/a",
                "generator": {"class_path": "datamodules.mini.OracleGenerator", "init_args": {"batch_size": 4}},
            },
        },
        "root": "data",
        "cache": None,
    },
    "trainer": {"accelerator": "cpu", "devices": 1, "callbacks": None},
}
RESULTS: dict[str, Any] = {
    "method": "GIFT", "seed": 0, "tasks": ["A", "B"], "R": [[90.0, 60.0], [80.0, 90.0]], "complete": True,
    "protocol": {"id": "x", "shots": {"A": 3}, "file_sizes": {p: {"train": "0102", "test": "03"} for p in "AB"}},
}  # fmt: skip
HELD_OUT = {"class_path": "callbacks.HeldOutPairs", "init_args": {"pairs": 8}}


def changed(content: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """A copy in which each setting, with ``__`` between the names of its groups, has this value."""
    content = copy.deepcopy(content)
    for key, value in settings.items():
        *groups, name = key.split("__")
        inner: Any = content
        for group in groups:
            inner = inner[int(group) if group.isdigit() else group]
        inner[name] = value
    return content


def a_run(label: str, config: dict[str, Any] | None = None, **results: Any) -> ReportedRun:
    settings = None if config is None else method_settings(config)
    return ReportedRun(label, Path(label), changed(RESULTS, **results), settings)


def sizes(runs: Sequence[ReportedRun]) -> list[int]:
    return [len(group.runs) for group in grouped(runs)]


@pytest.mark.parametrize(
    "settings",
    [
        {"trainer__devices": 4},
        {"trainer__accelerator": "gpu"},
        {"trainer__log_every_n_steps": 7},
        {"trainer__enable_progress_bar": False},
        {"trainer__max_time": "00:01:00:00"},
        {"trainer__callbacks": [HELD_OUT]},
        {"trainer__gradient_clip_val": None},
        {"data__tasks__0__init_args__root": "/elsewhere"},
        {"data__cache": "cache"},
        {"data__num_workers": 4},
        {"data__replay__init_args__folder": "runs/replay/b"},
        {"data__replay__init_args__generator__init_args__batch_size": 1},
        {"model__init_args__eval_batch_size": 1},
        {"model__init_args__alignment_weight": 1},
        {"run__name": "b"},
    ],
)
def test_what_changes_no_number_separates_no_seeds(settings: dict[str, Any]) -> None:
    runs = [a_run("a", CONFIG), a_run("b", changed(CONFIG, seed_everything=1, **settings), seed=1)]
    assert sizes(runs) == [2]


@pytest.mark.parametrize(
    "settings",
    [
        {"trainer__gradient_clip_val": 1.0},
        {"trainer__precision": "16-mixed"},
        {"trainer__accumulate_grad_batches": 2},
        {"trainer__callbacks": [{"class_path": "lightning.pytorch.callbacks.StochasticWeightAveraging"}]},
        {"model__init_args__alignment_weight": 0.5},
        {"model__class_path": "gift_lightning.methods.GIFTAblation"},
        {"data__steps": 20},
        {"data__tasks__0__class_path": "datamodules.Food"},
        {"data__replay__init_args__generator": None},
    ],
)
def test_what_may_change_a_number_separates_methods(settings: dict[str, Any]) -> None:
    runs = [a_run("a", CONFIG), a_run("b", changed(CONFIG, seed_everything=1, **settings), seed=1)]
    assert sizes(runs) == [1, 1]


def test_a_folder_that_is_only_read_is_a_setting(tmp_path: Path) -> None:
    read = changed(CONFIG, data__replay__init_args__generator=None)
    configs = [changed(read, data__replay__init_args__folder=f"/data/{name}") for name in ("sd15", "sdxl")]
    assert sizes([a_run("a", configs[0]), a_run("b", configs[1], seed=1), a_run("c", configs[0], seed=2)]) == [2, 1]
    foreign = []
    for name in ("a", "b"):  # drawn by another program: not by the generator
        (tmp_path / name / "A_Syn").mkdir(parents=True)
        (tmp_path / name / "A_Syn" / "image_text.csv").write_text("image,text\n")
        foreign.append(changed(CONFIG, data__replay__init_args__folder=str(tmp_path / name)))
    assert sizes([a_run(str(seed), config, seed=seed) for seed, config in enumerate(foreign)]) == [1, 1]


def test_folders_below_two_roots_are_two_folders() -> None:
    read = changed(CONFIG, data__replay__init_args__generator=None)
    below = [
        changed(read, run__root=f"/{root}", data__replay__init_args__folder=f"/{root}/pool") for root in ("a", "b")
    ]
    assert sizes([a_run(str(seed), config, seed=seed) for seed, config in enumerate(below)]) == [1, 1]


def test_an_empty_list_of_callbacks_is_none() -> None:
    runs = [a_run("a", CONFIG), a_run("b", changed(CONFIG, trainer__callbacks=[]), seed=1)]
    assert sizes(runs) == [2]


def test_a_class_may_say_that_a_setting_decides() -> None:
    moe = changed(CONFIG, model__class_path="gift_lightning.methods.MoEAdapter")
    runs = [a_run(str(n), changed(moe, model__init_args__eval_batch_size=n), seed=n) for n in (1, 256)]
    assert sizes(runs) == [1, 1]


@pytest.mark.parametrize(
    "results",
    [
        {"R": [[90.0, 60.0]], "complete": False},
        {"protocol__id": "y"},
        {"protocol__file_sizes__A__test": "04"},
        {"protocol__file_sizes__B__train": "0104"},
        {"tasks": ["B", "A"]},
        {"method": "Mine"},
    ],
)
def test_other_progress_or_data_is_another_method(results: dict[str, Any]) -> None:
    assert sizes([a_run("a", CONFIG), a_run("b", CONFIG, seed=1, **results)]) == [1, 1]


def test_runs_of_equal_progress_are_seeds() -> None:
    halves = [a_run(str(seed), CONFIG, seed=seed, R=[[90.0, 60.0]], complete=False) for seed in range(2)]
    assert sizes([*halves, a_run("c", CONFIG, seed=2)]) == [2, 1]


def test_few_shot_images_of_each_seed_are_those_of_one_benchmark() -> None:
    few = [a_run(str(seed), CONFIG, seed=seed, protocol__file_sizes__A__train=f"0{seed}") for seed in range(3)]
    assert sizes(few) == [3] and warnings(few) is None
    images = [a_run(str(seed), CONFIG, seed=seed, protocol__file_sizes__A__test=f"0{seed}") for seed in range(2)]
    section = warnings(images)
    assert section is not None and "images (sizes of their files)" in str(section.parts)


def test_without_a_config_a_run_is_alone() -> None:
    runs = [a_run("a"), a_run("b", seed=1), a_run("c", CONFIG, seed=2), a_run("d", CONFIG, seed=3)]
    assert [group.label for group in grouped(runs)] == ["GIFT (a)", "GIFT (b)", "GIFT (c)"]


def test_a_copy_has_a_row_of_its_own_and_a_warning() -> None:
    runs = [a_run("a", CONFIG), a_run("b", CONFIG, seed=1), a_run("copy of a", CONFIG), a_run("again", CONFIG)]
    assert sizes(runs) == [2, 1, 1]
    section = warnings(runs)
    assert section is not None and "no further seed" in section.note
    assert section.parts[0].rows == [["copy of a", "a"], ["again", "a"]]  # type: ignore[union-attr]


def test_a_class_that_cannot_be_imported_is_compared_by_all_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_here.py").write_text("raise RuntimeError('no such device')\n")
    for path in ("broken_here.Mine", "of_another_machine.Mine", "..", "gift_lightning.methods.Gone"):
        mine = changed(CONFIG, model__class_path=path, data__replay__class_path=path)
        faster = changed(mine, model__init_args__eval_batch_size=1)
        devices = changed(mine, trainer__devices=8)
        runs = [a_run("a", mine), a_run("b", devices, seed=1), a_run("c", faster, seed=2)]
        assert sizes(runs) == [2, 1], path


def finished(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    shutil.copytree(RUN, folder, ignore=shutil.ignore_patterns("checkpoints"))
    files = RunFolder.at(folder)
    files.config.write_text(yaml.safe_dump(change(files.read_config())))
    files.results.write_text(json.dumps(json.loads(files.results.read_text()) | {"seed": len(folder.name)}))
    return folder


def test_the_command_groups_by_the_settings_that_decide(tmp_path: Path) -> None:
    faster = finished(tmp_path / "a", lambda config: changed(config, trainer__devices=4))
    clipped = finished(tmp_path / "bb", lambda config: changed(config, trainer__gradient_clip_val=1.0))
    mine = finished(tmp_path / "ccc", lambda config: changed(config, model__class_path="of_another_machine.GIFT"))
    alone = finished(tmp_path / "dddd", dict)
    out = tmp_path / "report.html"
    for others, counts in (([faster], (1, 0)), ([faster, clipped, mine], (1, 2))):
        status, _, error = call("report", str(alone), *map(str, others), "--out", str(out))
        assert (status, error) == (0, "")
        assert (out.read_text().count(">2 runs<"), out.read_text().count(">1 run<")) == counts
    RunFolder.at(faster).config.unlink()
    assert call("report", str(alone), str(faster), "--out", str(out))[0] == 0 and ">2 runs<" not in out.read_text()


def test_a_run_is_named_once_by_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(tmp_path / "a", dict)
    (tmp_path / "link").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    for name in (str(run), "./a", "link", "a/../a"):
        with pytest.raises(InputError, match="are one run: name each run once"):
            call("--debug", "report", "a", name, "--out", "report.html")
