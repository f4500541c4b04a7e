"""The table of classes that have moved."""

import importlib

import pytest

from gift_lightning.config.class_paths import _MOVED, class_of


@pytest.mark.parametrize("path", _MOVED)
def test_the_present_path_has_a_class_and_the_earlier_one_has_none(path: str) -> None:
    module, _, name = _MOVED[path].rpartition(".")
    assert getattr(importlib.import_module(module), name) is class_of(path)
    assert isinstance(class_of(path), type)
    module, _, name = path.rpartition(".")
    with pytest.raises((ImportError, AttributeError)):
        getattr(importlib.import_module(module), name)
