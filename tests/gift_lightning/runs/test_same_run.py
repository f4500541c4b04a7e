"""Whether two configs are of the same run: what decides, what does not, and how values are compared."""

import copy
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning import Trainer

import datamodules
import datamodules.mini
from datamodules import ImageFolderTask, TaskSequence
from datamodules.base import Replay, Task
from datamodules.replay import generator as generation
from datamodules.replay.generator import ImageGenerator
from gift_lightning import methods
from gift_lightning.methods import ContinualCLIP
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.same_run import TRAINER, difference, hint
from tests.e2e.conftest import CONFIG as CONFIG_FILE
from tests.e2e.conftest import call

CONFIG: dict[str, Any] = {
    "seed_everything": 3,
    "run": {"root": "runs", "name": "a", "checkpoint_every": 100},
    "model": {
        "class_path": "gift_lightning.methods.GIFT",
        "init_args": {"clip": {"name": "ViT-B-16"}, "lr": 0.001, "eval_batch_size": 256},
    },
    "data": {
        "tasks": [{"class_path": "datamodules.ImageFolderTask", "init_args": {"folder": "a", "test_share": 0.2}}],
        "replay": {"class_path": "datamodules.SyntheticReplay", "init_args": {"folder": "runs/replay/a"}},
        "num_workers": 0,
    },
    "trainer": {"accelerator": "cpu", "precision": "32-true", "callbacks": None, "logger": None},
}


class Owner:
    """A class of a user's own, with its arguments."""

    def __init__(self, speed: int = 1, batch_size: int = 2) -> None:
        pass


class ModestOwner(Owner):
    INDIFFERENT = frozenset({"speed"})


class Watcher:
    INDIFFERENT = frozenset({"*"})


def changed(key: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    *above, last = key.split(".")
    place: Any = config
    for name in above:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    place[last] = value
    return config


def test_what_changes_numbers_is_named_with_both_values() -> None:
    for key, value in {
        "seed_everything": 4,
        "model.init_args.lr": 0.002,
        "model.class_path": "gift_lightning.methods.L2",
        "model.init_args.clip.name": "ViT-L-14",
        "data.on_bad_image": "skip",
        "data.tasks.0.init_args.test_share": 0.3,
        "data.replay.init_args.folder": "elsewhere/a",
        "trainer.accumulate_grad_batches": 2,
        "trainer.precision": "bf16-mixed",
        "trainer.gradient_clip_val": 1.0,
        "trainer.deterministic": True,
        "trainer.sync_batchnorm": True,
        "trainer.callbacks": [{"class_path": "lightning.pytorch.callbacks.StochasticWeightAveraging"}],
        "something.new": 1,
    }.items():
        told = difference(CONFIG, changed(key, value))
        assert told is not None and told.startswith(key.rsplit(".class_path")[0]), key
    assert difference(CONFIG, changed("model.init_args.lr", 0.5)) == "model.init_args.lr (0.001 there, 0.5 here)"


def test_where_and_how_fast_a_run_runs_does_not_matter() -> None:
    for key, value in {
        "run.name": "b",
        "run.checkpoint_every": 7,
        "run.checkpoint_minutes": 7,
        "data.num_workers": 8,
        "data.cache": "elsewhere",
        "data.root": "/data",
        "data.tasks.0.init_args.folder": "/scratch/a",
        "model.init_args.eval_batch_size": 8,
        "trainer.devices": 2,
        "trainer.strategy": "ddp",
        "trainer.log_every_n_steps": 1,
        "trainer.logger": [{"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "x"}}],
        "trainer.callbacks": [{"class_path": "lightning.pytorch.callbacks.LearningRateMonitor", "init_args": {}}],
    }.items():
        assert difference(CONFIG, changed(key, value)) is None, key


def test_data_that_no_fingerprint_identifies_is_decisive() -> None:
    source = {"class_path": "datamodules.mtil.CIFAR100", "init_args": {"root": "a"}}
    task = {"class_path": "datamodules.ClassIncremental", "init_args": {"source": source, "num_tasks": 10}}
    known = changed("data.tasks", [task])
    assert (
        difference(known, changed("data.tasks", [{**task, "init_args": {**task["init_args"], "num_tasks": 5}}]))
        is not None
    )
    moved = {**source, "init_args": {"root": "b"}}
    assert (
        difference(known, changed("data.tasks", [{**task, "init_args": {**task["init_args"], "source": moved}}]))
        is None
    )
    for key in (
        "data.replay.init_args.images",
        "data.replay.init_args.folder",
        "model.init_args.alexnet",
        "data.shots",
    ):
        assert difference(changed(key, "a/x"), changed(key, "b/x")) is not None, key


def test_values_are_compared_by_what_they_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / "true", target_is_directory=True)
    same = [
        (1, 1.0),
        (1e-3, 0.001),
        ([0.9, 0.999], (0.9, 0.999)),
        (float("nan"), float("nan")),
        ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}),
        ("true/x.pt", f"{tmp_path}/true/x.pt"),
        ("./true//x.pt", "~/link/../true/x.pt"),
        ("link/replay/", "true/replay"),
        ("x.pt", "./x.pt"),
        ("datamodules.mini.Flags", "datamodules.mini.Flags"),
        ({"class_path": "datamodules.mini.Flags"}, {"class_path": "datamodules.mini.tasks.Flags", "init_args": {}}),
        ([{"class_path": f"{__name__}.Watcher"}], None),
    ]
    different = [
        (True, 1),
        (False, None),
        (0, None),
        ("1", 1),
        ([1, 2], [2, 1]),
        ([1], [1, 2]),
        ([], None),
        ({}, None),
        ("imagenet", "./imagenet"),
        ("a/b", "a/c"),
        (float("nan"), 0.0),
        ({"class_path": "datamodules.mini.Flags"}, {"class_path": "datamodules.mini.Shapes"}),
        ({"class_path": "datamodules.mini.Flags"}, {"class_path": "a.module.that.is.Gone"}),
    ]
    for old, new in same:
        assert difference(changed("model.init_args.x", old), changed("model.init_args.x", new)) is None, (old, new)
    for old, new in different:
        assert difference(changed("model.init_args.x", old), changed("model.init_args.x", new)) is not None, (old, new)
        assert difference(changed("model.init_args.x", new), changed("model.init_args.x", old)) is not None, (old, new)


@pytest.mark.parametrize("spelling", ["./runs", "runs/", "{here}/runs", "~/runs", "link"])
def test_another_spelling_of_the_root_is_the_same_run(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    root = spelling.replace("{here}", str(tmp_path))
    other = changed("run.root", root)
    other["data"]["replay"]["init_args"]["folder"] = f"{root}/replay/a"  # as ${run.root}/replay/a gives
    assert difference(CONFIG, other) is None


def test_of_a_users_own_class_all_is_decisive_unless_it_says_otherwise() -> None:
    def of(kind: type, **arguments: Any) -> dict[str, Any]:
        return changed(
            "data.replay.init_args.generator", {"class_path": f"{__name__}.{kind.__name__}", "init_args": arguments}
        )

    assert difference(of(Owner, speed=1), of(Owner, speed=2)) is not None
    assert difference(of(Owner, batch_size=1), of(Owner, batch_size=2)) is not None
    assert difference(of(ModestOwner, speed=1), of(ModestOwner, speed=2)) is None
    assert difference(of(ModestOwner, batch_size=1), of(ModestOwner, batch_size=2)) is not None


def test_how_to_declare_a_callback_of_ones_own_is_said() -> None:
    """The first one, one more, one less; and a plugin."""

    def using(*kinds: str, of: str = "callbacks") -> dict[str, Any]:
        return changed(f"trainer.{of}", [{"class_path": f"{__name__}.{kind}"} for kind in kinds] or None)

    one, two = using("Owner"), using("Owner", "ModestOwner")
    plugin = using("Owner", of="plugins")
    for before, now in ((using(), one), (one, two), (two, one), (one, using()), (using(), plugin)):
        differing = difference(before, now)
        assert differing is not None and "INDIFFERENT" in hint(differing)
    assert difference(one, using("Watcher", "Owner", "Watcher")) is None
    assert hint(str(difference(CONFIG, changed("model.init_args.lr", 0.5)))) == ""


# --- every option there is --------------------------------------------------------------------------------------------


def shipped() -> Iterator[type]:
    for module in (methods, datamodules, datamodules.mini, generation, datamodules.mini.oracle):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, (ContinualCLIP, Task, Replay, ImageGenerator)):
                yield kind


def options(constructor: Callable[..., Any]) -> set[str]:
    """The arguments of a constructor, those that it hands on included."""
    kind = constructor if isinstance(constructor, type) else type(None)
    names = {name for base in kind.__mro__ for name in inspect.signature(base.__init__).parameters}
    return names - {"self", "args", "kwargs"}


def test_every_option_is_decisive_or_declared_by_its_owner() -> None:
    indifferent = set()
    for kind in {*shipped()}:
        path = f"{kind.__module__}.{kind.__qualname__}"
        for option in options(kind):
            one, two = ({"model": {"class_path": path, "init_args": {option: value}}} for value in (1, 2))
            if difference(one, two) is None:
                indifferent.add((kind.__name__, option))
    for part, kind in {"run": RunFolder, "data": TaskSequence, "trainer": Trainer}.items():
        indifferent |= {
            (part, option) for option in options(kind) if difference({part: {option: 1}}, {part: {option: 2}}) is None
        }
    learning = {kind.__name__ for kind in shipped() if issubclass(kind, ContinualCLIP)} - {"MoEAdapter"}
    mtil = {kind.__name__ for kind in shipped() if issubclass(kind, datamodules.mtil.task.MTILTask)}
    assert len(learning) >= 11 and len(mtil) >= 11
    assert indifferent == {
        *((method, "eval_batch_size") for method in learning),
        *((method, name) for method in {*learning, "MoEAdapter"} for name in ("compile", "activation_checkpointing")),
        *((task, "root") for task in mtil),
        *(("run", name) for name in ("root", "name", "checkpoint_every", "checkpoint_minutes", "predictions")),
        *(("data", name) for name in ("num_workers", "root", "cache")),
        *(("trainer", name) for name in TRAINER),
        *(("DiffusionGenerator", name) for name in ("batch_size", "device")),
        ("ImageFolderTask", "folder"),
        ("OracleGenerator", "batch_size"),
        ("NoiseGenerator", "batch_size"),
    }


@pytest.mark.parametrize("command", ["fit", "test"])
def test_every_option_of_a_command_is_one_of_these(command: str) -> None:
    """And those that say how a command was typed, or what it evaluates, are no part of a stored config."""
    typed = {"config", "base", "variables", "ckpt_path", "weights"}
    _, out, err = call(command, "--config", CONFIG_FILE, "--print_config")
    config = yaml.safe_load(out)
    assert config.keys() - typed == {"seed_everything", "run", "model", "data", "trainer"}, err
    for part, kind in {"run": RunFolder, "data": TaskSequence, "trainer": Trainer}.items():
        assert config[part].keys() <= options(kind), part


def test_what_is_declared_exists() -> None:
    declared = {
        kind: kind.__dict__["INDIFFERENT"]
        for kind in {*shipped(), TaskSequence, RunFolder}
        if "INDIFFERENT" in vars(kind)
    }
    assert ImageFolderTask in declared
    for kind, names in {**declared, Trainer: TRAINER}.items():
        assert names <= options(kind), kind


def test_a_variable_of_the_environment_counts_by_what_it_holds_where_its_setting_does() -> None:
    run = copy.deepcopy(CONFIG)
    run["model"]["init_args"]["clip"]["name"] = run["trainer"]["logger"] = "${oc.env:HERE}"
    run["variables"] = {"model.init_args.clip.name": "11111111", "trainer.logger": "22222222"}
    model, logger = copy.deepcopy(run), copy.deepcopy(run)
    model["variables"]["model.init_args.clip.name"] = "33333333"
    logger["variables"]["trainer.logger"] = "33333333"
    assert difference(run, copy.deepcopy(run)) is None
    assert difference(run, logger) is None
    assert "model.init_args.clip.name" in str(difference(run, model))
