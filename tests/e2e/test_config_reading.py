"""What a config comes to, whatever it is made of: files, bases, flags."""

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

import gift_lightning
from gift_lightning.config.references import escaped, resolve
from gift_lightning.config.yaml_text import dump_yaml
from gift_lightning.errors import InputError
from tests.e2e.conftest import CONFIG, call, fit_here

FLAGS, SHAPES = "datamodules.mini.Flags", "datamodules.mini.Shapes"
SHORT = ["--data.steps", "1", "--data.tasks", f"[{{class_path: {FLAGS}, init_args: {{train_size: 8, test_size: 8}}}}]"]
SHORT += ["--model.lr", "1e-3", "--trainer.enable_progress_bar", "false"]
LOGGER, STOP = "lightning.pytorch.loggers.CSVLogger", "tests.e2e.kill.StopAt"


def config_of(*argv: str) -> dict[str, Any]:
    """The config of ``fit`` with these flags."""
    status, out, err = call("fit", *argv, "--print_config")
    assert status == 0, err
    return yaml.safe_load(out)


def one(class_path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": arguments}


SPLIT = one("datamodules.ClassIncremental", source=one("datamodules.MNIST", root="a", shots=3), initial=5, increment=5)
LISTS = {
    "tasks": ("data", "tasks", [one(FLAGS, train_size=3, test_size=4)] * 2, [one(FLAGS), one(FLAGS, train_size=9)]),
    "a task": ("data", "tasks", [one(SHAPES, train_size=3)], [one(SHAPES)]),
    "a task in a task": (
        *("data", "tasks", [SPLIT]),
        [one("datamodules.ClassIncremental", source=one("datamodules.MNIST"), initial=2, increment=2)],
    ),
    "templates of a task": ("data", "tasks", [one(FLAGS, shots=2)], [one(FLAGS)]),
    "loggers": ("trainer", "logger", [one(LOGGER, save_dir="a", name="b")], [one(LOGGER, save_dir="c")]),
    "callbacks": (
        *("trainer", "callbacks"),
        [one("lightning.pytorch.callbacks.Timer", interval="epoch"), one(STOP, step=3)],
        [one("lightning.pytorch.callbacks.Timer"), one(STOP, step=4)],
    ),
    "plugins": (
        *("trainer", "plugins"),
        [one("lightning.pytorch.plugins.io.AsyncCheckpointIO")],
        [one("lightning.pytorch.plugins.io.TorchCheckpointIO")],
    ),
}


@pytest.mark.parametrize("case", LISTS)
@pytest.mark.parametrize("way", ["flag", "second file", "base", "text"])
def test_a_list_given_anew_replaces_the_old_one(case: str, way: str, tmp_path: Path) -> None:
    group, key, old, new = LISTS[case]
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    below.write_text(yaml.safe_dump({"base": CONFIG, group: {key: old}}))
    above.write_text(yaml.safe_dump({group: {key: new}}))
    given = {
        "flag": ["--config", str(below), f"--{group}.{key}", yaml.safe_dump(new, default_flow_style=True, width=9999)],
        "second file": ["--config", str(below), "--config", str(above)],
        "base": ["--config", str(tmp_path / "both.yaml")],
        "text": ["--config", str(below), "--config", above.read_text()],
    }
    (tmp_path / "both.yaml").write_text(yaml.safe_dump({"base": "below.yaml", group: {key: new}}))
    alone = config_of("--config", CONFIG, "--config", str(above))
    assert config_of(*given[way])[group][key] == alone[group][key]


def test_parts_of_a_list_are_still_added_and_changed(tmp_path: Path) -> None:
    two = f"[{{class_path: {FLAGS}, init_args: {{train_size: 3}}}}, {FLAGS}]"
    added = ["--trainer.callbacks+=tests.e2e.kill.KillAt", "--trainer.callbacks.event=step"]
    added += ["--trainer.callbacks.number=3", f"--trainer.callbacks+={STOP}", "--trainer.callbacks.step=5"]
    config = config_of("--config", CONFIG, "--data.tasks", two, "--data.tasks.test_size", "7", *added)
    sizes = [(task["init_args"]["train_size"], task["init_args"]["test_size"]) for task in config["data"]["tasks"]]
    assert sizes == [(3, 800), (1000, 7)]
    kill, stop = config["trainer"]["callbacks"]
    assert kill["init_args"] == {"event": "step", "number": 3, "signal_number": 9, "rank": -1}
    assert stop == one(STOP, step=5)


def test_another_class_keeps_the_settings_that_it_has_too(tmp_path: Path) -> None:
    old = config_of("--config", CONFIG)["model"]["init_args"]
    new = config_of("--config", CONFIG, "--model", "gift_lightning.methods.Finetune", "--model.weight_decay", "0.1")
    assert new["model"]["class_path"] == "gift_lightning.methods.Finetune"
    kept = {key: value for key, value in old.items() if key != "l2"}
    assert new["model"]["init_args"] == {**kept, "weight_decay": 0.1, "restart": False}


ABLATION = {"teacher": "wise", "initial_weight": 0.5}


@pytest.mark.parametrize("way", ["flags", "a file", "a file with the class"])
def test_what_gift_took_before_its_ablations_were_a_class(way: str, tmp_path: Path) -> None:
    gift = {"temperature": 3.0, "teacher": "last", "consolidation": "adaptive"}
    (tmp_path / "gift.yaml").write_text(yaml.safe_dump({"model": one("gift_lightning.methods.GIFT", **gift)}))
    config = config_of("--config", CONFIG, "--config", str(tmp_path / "gift.yaml"))["model"]
    assert config["class_path"] == "gift_lightning.methods.GIFT" and not ABLATION.keys() & config["init_args"].keys()
    overlay = {"init_args": ABLATION} if way == "a file" else one("gift_lightning.methods.GIFT", **ABLATION)
    (tmp_path / "ablation.yaml").write_text(yaml.safe_dump({"model": overlay}))
    given = ["--config", str(tmp_path / "ablation.yaml")]
    if way == "flags":
        given = ["--model.initial_weight", "0.5", "--model.teacher", "wise"]
    changed = config_of("--config", CONFIG, "--config", str(tmp_path / "gift.yaml"), *given)["model"]
    assert changed["class_path"] == "gift_lightning.methods.GIFTAblation"
    assert (
        changed["init_args"]
        == {**config["init_args"], "distillation": "contrastive", "consolidation": "adaptive"} | ABLATION
    )


@pytest.mark.parametrize("rates", ["{Flags: 1}", "{1: 1, yes: 2, 2024: 3}", "3"])
def test_learning_rates_given_anew_replace_the_old_ones(rates: str, tmp_path: Path) -> None:
    (tmp_path / "above.yaml").write_text(f"model: {{init_args: {{lr: {rates}}}}}\n")
    flag = config_of("--config", CONFIG, "--model.lr", rates)["model"]["init_args"]["lr"]
    file = config_of("--config", CONFIG, "--config", str(tmp_path / "above.yaml"))["model"]["init_args"]["lr"]
    wanted = yaml.load(rates, yaml.BaseLoader)
    assert flag == file == ({key: float(rate) for key, rate in wanted.items()} if rates != "3" else 3)


def test_a_base_counts_however_the_config_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ground.yaml").write_text(f"base: {CONFIG}\ndata: {{label_space: all}}\n")
    Path("c.yaml").write_text("base: ground.yaml\ndata: {steps: 2}\n")
    text = Path("c.yaml").read_text()
    json = '{"base": "ground.yaml", "data": {"steps": 2}}'
    ways = (["--config", "c.yaml"], ["--config=c.yaml"], ["-c", "c.yaml"], ["-c=c.yaml"], ["-cc.yaml"])
    for flags in (*ways, ["-c", text], ["--config", json], ["-c", "./c.yaml"], ["-c", str(tmp_path / "c.yaml")]):
        config = config_of(*flags)
        assert (config["data"]["label_space"], config["data"]["steps"]) == ("all", 2), flags


@pytest.mark.parametrize(
    "flags",
    [
        ["--run.name", "${data.batch_size}_${seed_everything}"],
        ["--run", "{name: '${data.batch_size}_${seed_everything}'}"],
        ["--config", "{run: {name: '${data.batch_size}_${seed_everything}'}}"],
        ["--run.name", "${..data.batch_size}_${..seed_everything}"],
    ],
)
def test_references_mean_the_same_everywhere(flags: list[str]) -> None:
    late = ["--data.batch_size", "4"]
    assert config_of("--config", CONFIG, *flags, *late)["run"]["name"] == "4_3"


def test_references_within_lists_and_classes() -> None:
    task = f"[{{class_path: {FLAGS}, init_args: {{train_size: '${{data.batch_size}}'}}}}]"
    config = config_of("--config", CONFIG, "--data.tasks", task, "--model.l2", "${model.init_args.weight_decay}")
    assert config["data"]["tasks"][0]["init_args"]["train_size"] == 8
    assert config["model"]["init_args"]["l2"] == 0
    assert config["data"]["cache"] == "runs/cache"


def test_what_the_environment_holds_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HF_TOKEN": "hf_secret", "RATE": "1e-3", "NAME": "package:datamodules.mini.clip"}.items():
        monkeypatch.setenv(name, value)
    logger = one(LOGGER, save_dir=str(tmp_path / "log"), name="t", version="${oc.env:HF_TOKEN}")
    logger["init_args"]["prefix"] = "${trainer.logger.init_args.version}"
    flags = ["--trainer.logger", yaml.safe_dump(logger, default_flow_style=True, width=9999)]
    flags += ["--model.lr", "${oc.env:RATE}", "--model.clip.name", "${oc.env:NAME}", "--data.steps", "2"]
    flags += ["--data.tasks.train_size", "${oc.decode:${oc.env:SIZE,20}}"]
    assert fit_here(tmp_path, *flags)[0] == 0
    folder = tmp_path / "three_tasks"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["trainer"]["logger"]["init_args"]["prefix"] == "${trainer.logger.init_args.version}"
    assert config["model"]["init_args"]["lr"] == "${oc.env:RATE}"
    assert config["data"]["tasks"][-1]["init_args"]["train_size"] == "${oc.decode:${oc.env:SIZE,20}}"
    assert config["variables"].keys() >= {"model.init_args.lr", "model.init_args.clip.name"}
    for file in [*folder.glob("*.*"), *folder.glob("checkpoints/*"), *tmp_path.glob("log/**/hparams.yaml")]:
        assert b"hf_secret" not in file.read_bytes(), file
    assert "This run is complete" in fit_here(tmp_path, *flags)[1]
    assert config_of("--config", str(folder / "config.yaml"))["model"]["init_args"]["lr"] == 1e-3
    gift_lightning.load(folder)
    monkeypatch.setenv("RATE", "1e-2")
    with pytest.raises(InputError, match=r"lr is \$\{oc.env:RATE\}, and that variable has another value here"):
        gift_lightning.load(folder)
    monkeypatch.delenv("NAME")
    with pytest.raises(InputError, match="refers to the variable NAME of the environment, which is not set"):
        gift_lightning.load(folder)


VARIABLES = {
    "with spaces": (["--trainer.logger", "{class_path: %s, init_args: {save_dir: '${ oc.env: SECRET }'}}"], {}),
    "with a nested name": (
        ["--trainer.logger", "{class_path: %s, init_args: {save_dir: '${oc.${oc.env:KIND}:SECRET}'}}"],
        {"KIND": "env"},
    ),
    "a class in a list of a file": (
        ["--config", "{trainer: {logger: ['${oc.decode:${oc.env:LOGGER}}']}}"],
        {"LOGGER": "{class_path: %s, init_args: {save_dir: s3cret}}"},
    ),
    "in a text": (["--trainer.logger", "{class_path: %s, init_args: {save_dir: 'a/${oc.env:SECRET}/b'}}"], {}),
    "of another setting": (
        ["--trainer.logger", "{class_path: %s, init_args: {save_dir: '${oc.env:SECRET}', name: '${.save_dir}'}}"],
        {},
    ),
    "selected by its place": (
        [
            "--trainer.logger",
            "{class_path: %s, init_args: {save_dir: '${oc.env:SECRET}', name: '${oc.select:.save_dir}'}}",
        ],
        {},
    ),
    "a whole class": (
        ["--trainer.logger", "${oc.decode:${oc.env:LOGGER}}"],
        {"LOGGER": "{class_path: %s, init_args: {save_dir: s3cret}}"},
    ),
    "a list of classes": (
        ["--trainer.logger", "${oc.create:${oc.decode:${oc.env:LOGGER}}}"],
        {"LOGGER": "[{class_path: %s, init_args: {save_dir: s3cret}}]"},
    ),
    "a class in a list": (
        ["--trainer.logger", "['${oc.decode:${oc.env:LOGGER}}']"],
        {"LOGGER": "{class_path: %s, init_args: {save_dir: s3cret}}"},
    ),
}


@pytest.mark.parametrize("case", VARIABLES)
def test_a_variable_is_kept_by_name_however_it_is_named(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags, variables = VARIABLES[case]
    for name, value in {"SECRET": "s3cret", **variables}.items():
        monkeypatch.setenv(name, value.replace("%s", LOGGER))
    argv = [*(flag.replace("%s", LOGGER) for flag in flags), *SHORT]
    status, _, err = fit_here(tmp_path / "runs", *argv)
    assert status == 0, err
    folder = tmp_path / "runs" / "three_tasks"
    assert "oc." in (folder / "config.yaml").read_text()
    for file in [*folder.glob("*.*"), *folder.glob("checkpoints/*")]:
        assert b"s3cret" not in file.read_bytes(), file
    assert "This run is complete" in fit_here(tmp_path / "runs", *argv)[1]
    assert "This run is complete" in call("fit", "--config", str(folder / "config.yaml"))[1]


def test_variables_of_the_seed_and_of_the_checkpoint_are_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SEED": "7", "CHECKPOINT": "last", "TOO_LARGE": str(2**32)}.items():
        monkeypatch.setenv(name, value)
    flags = ["--seed_everything", "${oc.env:SEED}", *SHORT]
    assert fit_here(tmp_path, *flags)[0] == 0
    config = yaml.safe_load((tmp_path / "three_tasks" / "config.yaml").read_text())
    assert config["seed_everything"] == "${oc.env:SEED}" and config["variables"].keys() == {"seed_everything"}
    status, out, err = fit_here(tmp_path, *flags, "--ckpt_path", "${oc.env:CHECKPOINT}")
    assert status == 0 and "This run is complete" in out, err
    expected = f"seed_everything is {2**32}: give a whole number from 0"
    assert expected in call("fit", "--config", CONFIG, "--seed_everything", "${oc.env:TOO_LARGE}")[2]


def test_a_dollar_sign_that_is_escaped_stays_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "s3cret")
    flags = ["--run.name", r"a\${oc.env:SECRET}", *SHORT]
    flags += ["--trainer.logger", rf"{{class_path: {LOGGER}, init_args: {{save_dir: log, name: 'b\${{run.root}}'}}}}"]
    printed = call("fit", "--config", CONFIG, *flags, "--print_config")[1]
    assert fit_here(tmp_path / "runs", *flags)[0] == 0
    folder = tmp_path / "runs" / "a${oc.env:SECRET}"
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    for config in (yaml.safe_load(printed), kept):
        assert config["run"]["name"] == r"a\${oc.env:SECRET}"
        assert config["trainer"]["logger"]["init_args"]["name"] == r"b\${run.root}"
    assert "variables" not in kept
    assert "This run is complete" in fit_here(tmp_path / "runs", *flags)[1]
    assert "This run is complete" in call("fit", "--config", str(folder / "config.yaml"))[1]
    gift_lightning.load(folder)


def test_what_is_escaped_resolves_to_the_same_text() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        text = "".join(draw.choices(["\\", "${", "$", "{", "}", "a", "'", '"', " ", "oc.env:X"], k=draw.randrange(9)))
        assert resolve({"text": escaped(text)}) == {"text": text}


def test_the_home_folder_is_meant_in_configs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.yaml").write_text(f"base: {CONFIG}\ndata: {{steps: 2}}\n")
    (tmp_path / "y.yaml").write_text("base: ~/x.yaml\n")
    for flags in (["--config=~/x.yaml"], ["-c", "~/y.yaml"], ["-c", "{base: ~/x.yaml}"], ["-c", "{base: [~/y.yaml]}"]):
        assert config_of(*flags)["data"]["steps"] == 2


def test_a_text_in_quotes_is_never_an_empty_value_or_a_number(tmp_path: Path) -> None:
    texts = ["~", "Null", "#h", "# 1", "---", "&a", "!!null", "1e4", "007", "true", "[a]", "a: b", "*a", "1:30"]
    tasks = [one("datamodules.ImageFolderTask", folder="x", name=text, class_names={"ant": text}) for text in texts]
    config = tmp_path / "config.yaml"
    config.write_text(dump_yaml({"base": CONFIG, "data": {"tasks": tasks, "cache": "#c"}}))
    content = config_of("--config", str(config))
    assert content["data"]["cache"] == "#c"
    for text, task in zip(texts, content["data"]["tasks"], strict=True):
        assert (task["init_args"]["name"], task["init_args"]["class_names"]) == (text, {"ant": text})
    assert config_of("--config", CONFIG, "--data.cache", "#c")["data"]["cache"] == "#c"
    assert config_of("--config", CONFIG, "--data.cache", "null")["data"]["cache"] is None
