"""Every option of every command, given what it does not expect: one sentence or success, never a traceback."""

import math
import random
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import CONFIG, call
from tests.fuzz.cases import cases

COMMANDS = ("fit", "test", "generate", "doctor")
SMALL = "[{class_path: datamodules.mini.Flags, init_args: {train_size: 8, test_size: 8}}]"
LEFT_OUT = ("trainer.devices", "trainer.num_nodes", "trainer.strategy", "help", "print_config")
"""Options that start processes, wait for other machines, or only print."""

ODD = [
    *(
        "",
        " ",
        "null",
        "None",
        "true",
        "yes",
        "nan",
        "inf",
        "-inf",
        "-1",
        "0",
        "1",
        "3",
        "1.5",
        "1e400",
        "1e-400",
        "0x1f",
    ),
    *("9" * 30, "9" * 400, "x" * 5000, "{", "}", "[", "]", "{}", "[]", "[[]]", "[null]", "[1, 2]", "{a: 1}", "{1: 2}"),
    *("{class_path: x}", "{class_path: 3}", "{init_args: {}}", "{class_path: datamodules.mini.Flags}", "a: b: c", "a:"),
    *("${", "${}", "${x", "${nowhere.at_all}", "${run.root}", "${oc.env:NOT_SET}", "${oc.nothing:x}", "\\${x}", "???"),
    *(
        "ünï©ødé 名前",
        "\n",
        "a\nb",
        "\t",
        "\x00",
        "\x1b[31m",
        "\ud800",
        "'",
        '"',
        "\\",
        "%s",
        "{0}",
        "*a",
        "&a",
        "!x",
        "-",
    ),
    *("--data.steps", "datamodules", "os.system", "builtins.print", "pathlib.Path", "datamodules.mini.Flags", "."),
    *("[" * 3000, "{a: " * 300, "&a [*a]", "[{class_path: datamodules.ImageFolderTask}]", "/", "/dev/null", "~", "#"),
]
NUMBERS = {  # options that take a number alone
    **dict.fromkeys(("data.batch_size", "data.num_workers", "run.checkpoint_every", "model.warmup_steps"), int),
    **dict.fromkeys(("model.l2", "model.label_smoothing", "model.weight_decay"), float),
    **dict.fromkeys(("seed_everything", "trainer.log_every_n_steps", "trainer.accumulate_grad_batches"), int),
}
JARGON = re.compile(
    r"Traceback|Parser key|Union subtypes|Namespace\(|NestedArg|<class|object at 0x"
    r"|full_key|object_type|compute_fn|Subcommand '|Linked \"|Expected an? (?:<|path|dot)|Import path|class_path '"
    r"|parser key|Subclass types"
)


@cache
def options(command: str) -> list[str]:
    """The names of all options of a command, those of its method and its tasks included."""
    printed = call(command, "--help")[1]
    names = set(re.findall(r"--([a-z_][\w.]*\+?)", printed))
    method = yaml.safe_load(call(command, "--config", CONFIG, "--print_config")[1])["model"]["init_args"]
    names |= {f"model.{name}" for name in method} | {"model.clip.name", "model.clip.pretrained", "model.clip.weights"}
    names |= {
        "model.class_path",
        "model.init_args",
        "model.dict_kwargs.x",
        "data.tasks.train_size",
        "data.nothing",
        "x",
    }
    return sorted(name for name in names if not name.startswith(LEFT_OUT) and not name.endswith(".help"))


@cases(12)
def test_odd_values_get_one_sentence_or_work(case: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(case)
    command = draw.choice(COMMANDS)
    option, value = draw.choice(options(command)), draw.choice(ODD)
    argv = [command, "--config", CONFIG, "--data.tasks", SMALL, "--data.steps", "1", "--model.lr", "1e-3"]
    if command in ("fit", "test"):
        argv += ["--trainer.fast_dev_run", "true", "--trainer.enable_progress_bar", "false"]
    key, inner = option.removesuffix("+"), value
    if draw.random() < 0.5:
        argv += [f"--{option}={value}"]
    else:
        for name in reversed(key.split(".")):
            inner = f"{{{name}: {inner}}}"
        argv += ["--config", inner]
    status, _, err = call(*argv)
    assert status in (0, 2) or (command == "doctor" and status == 1), argv
    if status == 2:
        lines = [line for line in err.splitlines() if line.startswith("error")]
        assert len(lines) == 1 and err.endswith(f"{lines[0]}\n"), (argv, err)
        assert not JARGON.search(err) and len(lines[0]) < 900, (argv, err)
    elif key in NUMBERS and not is_number(value, NUMBERS[key]):
        raise AssertionError(f"{argv} was accepted")


@pytest.mark.parametrize("option", ["report", "--format", "--published", "--run", "--out"])
def test_odd_values_of_commands_on_finished_runs_get_one_sentence(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in ODD:
        argv = {
            "report": ["report", "--", value],
            "--run": ["export", f"--run={value}", "--out", "model.safetensors"],
            "--out": ["export", "--run", "nowhere", f"--out={value}"],
        }.get(option, ["report", "nowhere", f"{option}={value}"])
        status, _, err = call(*argv)
        assert status == 2 and err.startswith("error: ") and err.count("\n") == 1, (argv, err)
    assert not list(tmp_path.iterdir())


def is_number(text: str, kind: type) -> bool:
    if "${" in text:
        return True
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return False
    if isinstance(value, str):  # YAML 1.1 has no 1e-400
        value = float(value) if re.fullmatch(r"[\d.]+e-?\d+", value) else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or (kind is float and math.isfinite(value))
