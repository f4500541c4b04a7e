"""The table of classes that have moved."""

import importlib

import pytest

from gift_lightning.config.class_paths import _MOVED, class_of, current_settings
from gift_lightning.runs.same_run import difference


@pytest.mark.parametrize("path", _MOVED)
def test_the_present_path_has_a_class_and_the_earlier_one_has_none(path: str) -> None:
    module, _, name = _MOVED[path].rpartition(".")
    assert getattr(importlib.import_module(module), name) is class_of(path)
    assert isinstance(class_of(path), type)
    module, _, name = path.rpartition(".")
    with pytest.raises((ImportError, AttributeError)):
        getattr(importlib.import_module(module), name)


SWITCHES = {"teacher": "last", "initial_weight": 0.2, "distillation": "contrastive", "consolidation": "adaptive"}


@pytest.mark.parametrize("path", ["gift_lightning.methods.GIFT", "gift_lightning.methods.gift.GIFT", "GIFT"])
def test_settings_of_gift_before_its_ablations_were_a_class(path: str) -> None:
    others = {"temperature": 2.0, "clip": {"name": "x"}}
    assert current_settings(path, {**SWITCHES, **others}) == (path, others)
    changed = {**SWITCHES, **others, "consolidation": "l2"}
    assert current_settings(path, changed) == ("gift_lightning.methods.GIFTAblation", changed)
    assert current_settings("mine.GIFT", changed) == ("mine.GIFT", changed)


def test_a_run_with_the_earlier_settings_is_the_same_run() -> None:
    def config(name: str, **arguments: object) -> dict[str, object]:
        return {
            "model": {"class_path": f"gift_lightning.methods.{name}", "init_args": {"temperature": 2.0, **arguments}}
        }

    assert difference(config("GIFT", **SWITCHES), config("GIFT")) is None
    changed = {**SWITCHES, "teacher": "initial"}
    assert difference(config("GIFT", **changed), config("GIFTAblation", **changed)) is None
    assert difference(config("GIFT", **changed), config("GIFT")) is not None
