"""What a config or a flag can get wrong, and the sentence told for it."""

import importlib
import time
from pathlib import Path

import pytest
import yaml
from lightning import Callback, LightningModule, Trainer

from tests.e2e.conftest import CONFIG, call, fit_here, read_results

LIGHTNING = "lightning.pytorch."
WEIGHTS = "methods copy and compare whole weights"
ROUNDED = "in weights of 16 bits or less, small steps are rounded away"

BAD_CONFIG = {
    "base as a flag": (["--base", CONFIG], "--base is a key of configs and no flag: give that file first"),
    "shortened flag": (["--confi", CONFIG], "--confi is not an option (did you mean '--config'?)."),
    "config in a config": (["-c", f"{{config: {CONFIG}}}"], "name the files that it builds on under 'base'."),
    "base that is missing": (["-c", "{base: nowhere.yaml}"], "The config nowhere.yaml does not exist: name a file."),
    "deep brackets": (
        ["-c", "{bad}/deep.yaml"],
        "deep.yaml is not valid YAML in line 1: exceeded maximum nesting depth.",
    ),
    "deep keys": (["-c", "{bad}/keys.yaml"], "it has more than 50 levels (line 1): no setting is that deep."),
    "billion laughs": (["-c", "{bad}/laughs.yaml"], "it has more than 100000 values (line "),
    "a million lines": (["-c", "{bad}/lines.yaml"], "it has more than 100000 values (line 100001)"),
    "an alias of itself": (["--data.tasks", "&a [*a]"], "*a (line 1) refers to a value that contains it."),
    "the same key twice": (["-c", "{bad}/twice.yaml"], "it has the key 'steps' twice (line 3): remove one of them."),
    "the same task twice in a flag": (["--model.lr", "{Flags: 1, Flags: 2}"], "it has the key 'Flags' twice"),
    "a key that is a list": (["-c", "{bad}/list_key.yaml"], "not valid YAML in line 1: a key must be a word."),
    "tab": (["-c", "{bad}/tab.yaml"], "tab.yaml is not valid YAML in line 2: "),
    "NUL byte": (["-c", "{bad}/nul.yaml"], "nul.yaml cannot be read: unacceptable character #x0000"),
    "Latin 1": (["-c", "{bad}/latin.yaml"], "latin.yaml is not text in UTF-8: byte 12 does not decode."),
    "a flag that is no text": (["--run.name", "\udcff"], "is not UTF-8 text: rename the file or folder."),
    "a device as config": (["-c", "/dev/null"], "The config /dev/null is not a file: name a file."),
    "a number for a group": (["-c", "{trainer: 3}"], "trainer is '3': it is a group of settings"),
    "a text for a group": (["--data", "a: b: c"], "data: 'a: b: c' is neither a file nor settings"),
    "null for a number": (
        ["-c", "{data: {num_workers: null}}"],
        "data.num_workers is 'null', but must be of type int.",
    ),
    "null within a method": (
        ["--model.warmup_steps", "null"],
        "model.warmup_steps is 'null', but must be of type int.",
    ),
    "nothing for a number": (["--data.batch_size", ""], "data.batch_size is '', but must be of type int."),
    "no number": (["--model.l2", ".nan"], "model.l2 is nan: give a finite number."),
    "an infinite rate": (["--model.lr", "{Flags: .inf, Shapes: 1, Counting: 1}"], "model.lr.Flags is inf"),
    "a task without its folder": (
        ["--data.tasks", "[{class_path: datamodules.ImageFolderTask}]"],
        "data.tasks: datamodules.ImageFolderTask needs 'folder': give it under init_args.",
    ),
    "a source without its folder": (
        [
            "--data.tasks",
            "[{class_path: datamodules.ClassIncremental, init_args: {source: datamodules.ImageFolderTask}}]",
        ],
        "datamodules.ImageFolderTask needs 'folder': give it under init_args.",
    ),
    "a logger without its folder": (
        ["--trainer.logger", f"{LIGHTNING}loggers.CSVLogger"],
        f"trainer.logger: {LIGHTNING}loggers.CSVLogger needs 'save_dir': give it under init_args.",
    ),
    "a callback without its arguments": (
        ["--trainer.callbacks+=tests.e2e.kill.KillAt"],
        "trainer.callbacks: tests.e2e.kill.KillAt needs 'event' and 'number': give it under init_args.",
    ),
    "a replay without its folder": (
        ["--model", "gift_lightning.methods.GIFT", "--data.replay", "datamodules.SyntheticReplay"],
        "data.replay: datamodules.SyntheticReplay needs 'folder': give it under init_args.",
    ),
    "a logger whose package is missing": (
        ["--trainer.logger", f"{LIGHTNING}loggers.CometLogger"],
        "CometLogger needs a package: pip install 'comet-ml>=",
    ),
    "a callback that its class refuses": (
        [
            "--trainer.callbacks",
            f"{{class_path: {LIGHTNING}callbacks.EarlyStopping, init_args: {{monitor: x, mode: y}}}}",
        ],
        "EarlyStopping cannot be made: `mode` can be min, max, got y",
    ),
    "a callback that the run has": (
        ["--trainer.callbacks", "callbacks.AccuracyMatrix"],
        "trainer.callbacks has AccuracyMatrix, which each run has by itself: remove it.",
    ),
    "a plugin that is no class": (["--trainer.plugins", "abc"], "trainer.plugins: there is no class 'abc'."),
    "an option of no class": (["--model.dict_kwargs.x", "1"], "gift_lightning.methods.L2 has no option 'x'."),
    "a name of 5000 letters": (["--model.clip.pretrained", "x" * 5000], "File name too long"),
    "a variable that is not set": (
        ["--run.name", "${oc.env:NOT_SET_AT_ALL}"],
        "The config refers to the variable NOT_SET_AT_ALL of the environment, which is not set.",
    ),
    "a variable for a whole group": (
        ["--model", "${oc.env:HOME}"],
        "model is ${oc.env:HOME}: let variables stand for single settings, not for all.",
    ),
    "a setting that refers to itself": (["--run.name", "${run.name}"], "run.name refers to itself: give its value."),
    "settings that refer to one another": (
        ["--run.name", "${run.root}", "--run.root", "${run.name}"],
        "refers to itself: give its value.",
    ),
    "a setting that refers to its group": (["--data.steps", "${data}"], "data.steps refers to itself: give its value."),
    "a value for a group that is referred to": (
        ["-c", "{run: null}"],
        "The config refers to ${run.root}, but run is a single value and not a group of settings.",
    ),
    "a reference into a value": (
        ["--run.name", "${data.steps.x}"],
        "The config refers to ${data.steps.x}, but data.steps is a single value and not a group of settings.",
    ),
    "a variable for all arguments": (
        ["--model.init_args", "${oc.env:HOME}"],
        "model is '${oc.env:HOME}', which is not what it takes.",
    ),
    "a task for a list of tasks": (
        ["--data.tasks", "datamodules.mini.Flags"],
        "data.tasks: 'datamodules.mini.Flags' is not a list: put it in brackets, as in [datamodules.mini.Flags].",
    ),
    "a task with a path for a list of tasks": (
        ["--data.tasks", "{class_path: datamodules.mini.Flags}"],
        "data.tasks: '{class_path: datamodules.mini.Flags}' is not a list: put it in brackets, as in [{class",
    ),
    "a task for a list in a file": (
        ["-c", "{data: {tasks: datamodules.mini.Flags}}"],
        "data.tasks: 'datamodules.mini.Flags' is not a list: put it in brackets",
    ),
    **{
        f"{value} for {key}": ([f"--{key}", value], f"{key}: {path} is not a {kind}: name a subclass of {kind}.")
        for key, path, value, kind in (
            ("model", "lightning.LightningModule", "lightning.LightningModule", "ContinualCLIP"),
            ("model", "os.path.join", "os.path.join", "ContinualCLIP"),
            ("trainer.callbacks", "torch.nn.Linear", "[torch.nn.Linear]", "Callback"),
            ("data.replay", "datamodules.mini.Flags", "datamodules.mini.Flags", "Replay"),
            ("data.tasks", "torch.nn.Linear", "[{class_path: torch.nn.Linear}]", "Task"),
            ("data.tasks", "torch.nn.ReLU", "[datamodules.mini.Flags, torch.nn.ReLU]", "Task"),
            ("trainer.callbacks", "torch.nn.Linear", "[{class_path: torch.nn.Linear}]", "Callback"),
        )
    },
    "a number for a task": (
        ["--data.tasks", "[datamodules.mini.Flags, 3]"],
        "data.tasks: '3' is not a Task: name a class, or give class_path and init_args.",
    ),
    **{
        f"{key}.stp in a group": ([f"--{key}", "{stp: 1}"], f"The config has a key '{key}.stp' that does not exist")
        for key in ("data", "trainer", "run")
    },
    "a setting that follows from another": (
        ["--data.seed", "3"],
        "data.seed cannot be set: it follows from seed_everything.",
    ),
    **{
        f"{text} in a config": (["-c", text], f"has {key}, which follows from {source}: remove it.")
        for text, key, source in (
            ("{data: {seed: 3}}", "data.seed", "seed_everything"),
            ("{trainer: {max_epochs: 3}}", "trainer.max_epochs", "data.num_tasks"),
        )
    },
    "epochs": (["--trainer.max_epochs", "3"], "trainer.max_epochs cannot be set: it follows from data.num_tasks."),
    "a class that a variable names": (
        ["--model.class_path", "${oc.env:HOME}"],
        "model: name a class by its path, as in gift_lightning.methods.GIFT.",
    ),
    "a home of nobody": (["--config=~nobody-here/x.yaml"], "begins with the home folder of a user who does not exist"),
    "half a reference": (["--run.name", "x${"], "run.name: '${' begins a reference, as in ${run.root}, but"),
    "a number of 100 digits": (
        ["--data.steps", "9" * 100],
        "data.steps is of more than 63 bits: give a smaller number.",
    ),
    "NUL in a flag": (["--run.name", "a\0"], "has a NUL byte: remove it."),
    "a line break for a class": (["--data.tasks+=\n"], "data.tasks: name a class by its path"),
    "no option": (["stray"], "'stray' stands where an option should: options begin with --"),
    "no value": (["--data.steps"], "--data.steps needs a value after it."),
    "a negative seed": (
        ["--seed_everything", "-3"],
        "seed_everything is -3: give a whole number from 0 to 4294967295.",
    ),
    "a seed of 40 bits": (["--seed_everything", str(2**40)], f"seed_everything is {2**40}: give a whole number"),
    "a seed of 64 bits": (["--seed_everything", str(2**63)], f"seed_everything is {2**63}: give a whole number"),
    "half a seed": (["--seed_everything", "1.5"], "seed_everything is '1.5', but must be of type int."),
    "no seed": (["--seed_everything", "null"], "seed_everything is 'null', but must be of type int."),
    "bfloat16 weights": (["--trainer.precision", "bf16-true"], ROUNDED),
    "float16 weights": (["--trainer.precision", "16-true"], ROUNDED),
    "8 bits": (["--trainer.precision", "transformer-engine"], ROUNDED),
    "bfloat16 weights by a plugin": (
        ["--trainer.plugins", f"{{class_path: {LIGHTNING}plugins.HalfPrecision, init_args: {{precision: bf16-true}}}}"],
        ROUNDED,
    ),
    "no precision": (["--trainer.precision", "8"], "trainer.precision is '8', but must be of type"),
    "TPU": (["--trainer.accelerator", "tpu"], "The trainer's settings do not go together: Requirement 'torch_xla"),
    **{
        f"strategy {name}": (["--trainer.strategy", name], WEIGHTS)
        for name in ("fsdp", "deepspeed_stage_2", "xla", "abc", f"{LIGHTNING}strategies.FSDPStrategy")
    },
    **{
        f"class of strategy {name}": (["--trainer.strategy", f"{{class_path: {LIGHTNING}strategies.{name}}}"], WEIGHTS)
        for name in ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy", "XLAStrategy")
    },
    **{
        f"strategy {name}": (["--trainer.strategy", name], f"is {name}: copies of this process ({method}) would")
        for name, method in {"ddp_spawn": "spawn", "ddp_notebook": "fork", "ddp_fork": "fork"}.items()
    },
    "class of strategy that forks": (
        ["--trainer.strategy", f"{{class_path: {LIGHTNING}strategies.DDPStrategy, init_args: {{start_method: fork}}}}"],
        "DDPStrategy: copies of this process (fork) would train, and their results not come back to it: choose ddp",
    ),
    "two nodes without a launcher": (
        ["--trainer.num_nodes", "2"],
        "trainer.num_nodes is 2, and this process does not know the others: start the run on each node with torchrun",
    ),
    "two nodes of one device": (
        ["--trainer.num_nodes", "2", "--trainer.strategy", "single_device"],
        "trainer.num_nodes is 2, and trainer.strategy is for one device: choose ddp.",
    ),
    "a callback that ends tasks": (
        ["--trainer.callbacks", f"[{{class_path: {LIGHTNING}callbacks.EarlyStopping, init_args: {{monitor: lr}}}}]"],
        "trainer.callbacks has EarlyStopping: it compares losses of different tasks, and ends the run before the last",
    ),
    "bare bones": (["--trainer.barebones", "true"], "trainer.barebones is True: a run logs and writes checkpoints"),
    "a registry of models": (["--trainer.model_registry", "mine"], "trainer.model_registry is mine: a run uploads"),
    "a negative limit": (
        ["--trainer.gradient_clip_val", "-1"],
        "trainer.gradient_clip_val is -1: give a positive number, or null for none.",
    ),
    "clipping without a limit": (
        ["--trainer.gradient_clip_algorithm", "value"],
        "trainer.gradient_clip_algorithm clips nothing without trainer.gradient_clip_val: set it.",
    ),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configs with something amiss."""
    folder = tmp_path_factory.mktemp("configs")
    above = "a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n"
    laughs = [
        f"{key}: &{key} [{', '.join([f'*{old}'] * 9)}]\n" for old, key in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    texts = {
        "deep": "[" * 10_000,
        "keys": "{a: " * 10_000,
        "laughs": above + "".join(laughs),
        "lines": "- ha\n" * 1_000_000,
        "twice": "data:\n  steps: 3\n  steps: 4\n",
        "list_key": "{[a, b]: 1}\n",
        "tab": "data:\n\tsteps: 3\n",
        "nul": "data: \0",
    }
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "latin.yaml").write_bytes("run: {name: é}\n".encode("latin-1"))
    return folder


@pytest.mark.parametrize("case", BAD_CONFIG)
def test_a_bad_config_gets_one_sentence_at_once(case: str, bad: Path, tmp_path: Path) -> None:
    flags, expected = BAD_CONFIG[case]
    began = time.process_time()
    status, _, err = fit_here(tmp_path, *[flag.replace("{bad}", str(bad)) for flag in flags])
    assert status == 2
    assert expected in err
    assert err.startswith("error: ") and len(err.strip().splitlines()) == 1
    assert time.process_time() - began < 4
    assert not (tmp_path / "three_tasks" / "results.json").exists()


def test_a_config_before_the_command_is_refused() -> None:
    status, _, err = call("--config", CONFIG, "fit")
    assert status == 2
    assert err == "error: Name the command first, as in 'fit --config FILE'.\n"
    for flags in (["--debug", "--config", CONFIG], [f"--config={CONFIG}"], ["--data.steps", "3", "--debug"]):
        assert call(*flags, "fit") == (2, "", err)


def test_a_command_that_does_not_exist_is_refused() -> None:
    status, _, err = call("--config", CONFIG)
    assert status == 2
    assert (
        "There is no command" in err
        and "begin with one of fit, test, generate, doctor, report, sweep, features, export, demo." in err
    )
    assert "(did you mean 'fit'?)" in call("fti", "--config", CONFIG)[2]


OLD = "gift_lightning.generation.DiffusionGenerator"
REPLAY = f"{{class_path: datamodules.SyntheticReplay, init_args: {{folder: x, generator: {{class_path: {OLD}, %s}}}}}}"


@pytest.mark.parametrize(
    "flags",
    [
        ["--data.replay", REPLAY % "init_args: {step: 3}"],
        ["--config", "{data: {replay: %s}}" % (REPLAY % "init_args: {step: 3}")],
        ["--data.replay", REPLAY % "init_args: {steps: 3}", "--data.replay.generator.step", "3"],
        [
            *("--data.replay", "datamodules.SyntheticReplay", "--data.replay.folder", "x"),
            *("--data.replay.generator", OLD, "--data.replay.generator.step", "3"),
        ],
    ],
)
def test_a_wrong_option_of_a_class_that_has_moved_is_told(flags: list[str], tmp_path: Path) -> None:
    status, _, err = fit_here(tmp_path, *flags)
    assert status == 2
    assert "DiffusionGenerator has no option 'step' (did you mean 'steps'?)." in err
    assert err.startswith("error: data.replay: ") and len(err.strip().splitlines()) == 1


def test_one_setting_that_is_missing_is_named() -> None:
    assert "does not say what data.tasks is" in call("fit", "--model", "gift_lightning.methods.L2")[2]
    assert "does not say what model is" in call("fit", "--data.tasks", "[datamodules.mini.Flags]")[2]


BROKEN = {
    "import nothing_like_this": "ModuleNotFoundError: No module named 'nothing_like_this'.",
    "from os import nothing_like_this": "ImportError: cannot import name 'nothing_like_this' from 'os'",
    "1 / 0": "ZeroDivisionError: division by zero.",
    "def f(:": "SyntaxError: invalid syntax",
    "[][1]": "IndexError: list index out of range.",
    "raise AttributeError('no x')": "AttributeError: no x.",
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_module_that_fails_is_refused_with_its_own_error(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = f"broken_{list(BROKEN).index(line)}"
    (tmp_path / f"{module}.py").write_text(f"{line}\nclass T: pass\n")
    places = ("[{}.T]", "[{{class_path: {}.T}}]", "[{{class_path: datamodules.MNIST, init_args: {{root: {}.T}}}}]")
    for flag in ("--model", "--trainer.callbacks", "--data.replay"):
        status, _, err = fit_here(tmp_path, flag, f"{module}.T")
        assert status == 2 and err.startswith(f"error: The module {module} cannot be imported: {BROKEN[line]}"), err
    for tasks in places[:2]:
        err = fit_here(tmp_path, "--data.tasks", tasks.format(module))[2]
        assert err.startswith(f"error: The module {module} cannot be imported: {BROKEN[line]}"), err
    assert "cannot be imported" not in fit_here(tmp_path, "--data.tasks", places[2].format(module))[2]


def test_a_module_that_does_not_exist_has_no_class() -> None:
    for path in ("no_module.T", "no_module.sub.T", "datamodules.nothing.T", "datamodules.mini.Flags.T"):
        assert f"model: there is no class '{path}'" in call("fit", "--config", CONFIG, "--model", path)[2]


def test_a_package_that_a_callback_needs_is_named(tmp_path: Path) -> None:
    monitor = ["--trainer.callbacks+=tests.e2e.test_bad_config.Needs", "--trainer.enable_progress_bar", "false"]
    for when in ("__init__", "setup", "on_train_start"):
        status, _, err = fit_here(tmp_path, *monitor, f"--trainer.callbacks.when={when}")
        assert (status, len(err.strip().splitlines())) == (2, 1)
        assert err.startswith("error: ") and "No module named 'nothing_like_this'" in err


class Needs(Callback):
    """Imports a package that is not installed, as some callbacks of Lightning do."""

    def __init__(self, when: str) -> None:
        self.when = when
        self._import("__init__")

    def _import(self, when: str) -> None:
        if when == self.when:
            importlib.import_module("nothing_like_this")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._import("setup")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._import("on_train_start")


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_a_precision_with_whole_weights_works(precision: str, tmp_path: Path) -> None:
    assert fit_here(tmp_path, "--trainer.precision", precision, "--trainer.fast_dev_run", "true")[0] == 0


def test_a_mark_of_the_byte_order_and_the_largest_seed_are_fine(tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_text(f"\ufeffbase: {CONFIG}\nseed_everything: {2**32 - 1}\n", encoding="utf-8")
    status, out, err = call("fit", "-c", str(tmp_path / "bom.yaml"), "--print_config")
    assert status == 0, err
    assert yaml.safe_load(out)["seed_everything"] == 2**32 - 1


def test_a_warm_up_that_is_longer_than_a_task_is_told(tmp_path: Path) -> None:
    status, out, err = fit_here(tmp_path, "--data.steps", "2", "--trainer.enable_progress_bar", "false")
    assert status == 0, err
    told = (
        "The learning rate reaches 67% of model.lr at most in Flags, Shapes, Counting: a task of 2 steps ends before"
        " model.warmup_steps, 3."
    )
    assert read_results(tmp_path / "three_tasks")["notes"] == [told]
    assert told in " ".join((out + err).split())
