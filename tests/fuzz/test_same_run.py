"""Any config is the same run as itself, and one setting of it makes another one."""

import copy
import json
from random import Random
from typing import Any

import yaml

from gift_lightning.runs.same_run import decisive, difference
from tests.fuzz.cases import cases

WORDS = (
    "a",
    "lr",
    "class_path",
    "init_args",
    "dict_kwargs",
    "datamodules.mini.Flags",
    "no.such.Class",
    "~/x",
    "./x",
    "é",
    "",
)
CLASSES = (
    "datamodules.ImageFolderTask",
    "gift_lightning.methods.GIFT",
    "no.such.Class",
    "",
    "..",
    "os.path",
    "json",
    3,
    None,
)


def value_of(random: Random, depth: int) -> Any:
    kind = random.randrange(9 if depth else 6)
    if kind < 6:
        plain = (None, random.random() < 0.5, random.randint(-9, 9), random.uniform(-1, 1), float("nan"))
        return random.choice([*plain, random.choice(WORDS)])
    if kind == 6:
        return [value_of(random, depth - 1) for _ in range(random.randrange(4))]
    content: dict[Any, Any] = {
        random.choice([*WORDS, 1, 2.5, True, None]): value_of(random, depth - 1) for _ in range(random.randrange(4))
    }
    if kind == 7:
        content["class_path"] = random.choice(CLASSES)
    return content


def config_of(random: Random) -> dict[str, Any]:
    parts = {name: value_of(random, 4) for name in ("run", "model", "data", "trainer", "other")}
    return {**parts, "seed_everything": random.randrange(3)}


@cases(200)
def test_a_config_is_the_same_run_as_itself_and_no_other(case: int) -> None:
    random = Random(case)
    config = config_of(random)
    assert difference(config, copy.deepcopy(config)) is None
    assert difference(config, yaml.safe_load(yaml.safe_dump(config))) is None
    flat = decisive(config)
    assert all(isinstance(key, str) for key in flat)
    json.dumps(flat)
    other = config_of(random)
    assert (difference(config, other) is None) == (difference(other, config) is None)
    changed = {**config, "other": ["something", "else"]}
    assert difference(config, changed) is not None and difference(changed, config) is not None
