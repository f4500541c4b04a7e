"""Objects know the arguments they were made with: of the class that was called, in types of YAML."""

import copy
import inspect
import pickle
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from datamodules import ImageFolderTask, ImageGenerator
from datamodules.mini import Digits, Flags
from gift_lightning.errors import InputError
from gift_lightning.settings import Configurable, make_anew, settings_of


class Base(nn.Module, Configurable):
    def __init__(self, rate: Any = 1.0, *, name: Any = "x") -> None:
        super().__init__()
        self.rate, self.name, self.layer = rate, name, nn.Linear(1, 1)


class Derived(Base):
    def __init__(self, depth: Any = 2, **kwargs: Any) -> None:
        super().__init__(rate=depth * 2, **kwargs)


class Listing(Configurable):
    def __init__(self, *names: str) -> None:
        self.names = names


class Bare(ImageGenerator):
    """Without a constructor of its own."""


@dataclass
class Source:
    path: Path
    rank: int = 3


class Colour(Enum):
    RED = 1


def test_the_arguments_of_the_outermost_constructor_are_kept() -> None:
    assert settings_of(Derived(3, name="y")) == {
        "class_path": f"{__name__}.Derived",
        "init_args": {"depth": 3, "name": "y"},
    }
    assert settings_of(Derived())["init_args"] == {}
    assert settings_of(Base(0.5))["init_args"] == {"rate": 0.5}
    assert list(inspect.signature(Derived).parameters) == ["depth", "kwargs"]


def test_a_class_is_named_as_one_imports_it() -> None:
    assert settings_of(Flags(8)) == {"class_path": "datamodules.mini.Flags", "init_args": {"train_size": 8}}
    assert settings_of(ImageFolderTask("images"))["class_path"] == "datamodules.ImageFolderTask"


def test_values_are_those_of_yaml() -> None:
    values = [
        Path("a"),
        np.float32(0.5),
        np.int64(7),
        True,
        None,
        (1, 2),
        {"a": Source(Path("b"))},
        Colour.RED,
        Digits(9),
    ]
    digits = {"class_path": "datamodules.mini.Digits", "init_args": {"train_size": 9}}
    expected = ["a", 0.5, 7, True, None, [1, 2], {"a": {"path": "b", "rank": 3}}, "RED", digits]
    described = settings_of(Base(rate=values))["init_args"]["rate"]
    assert described == expected and [type(value) for value in described] == [type(value) for value in expected]


def test_what_no_config_can_hold_is_named() -> None:
    with pytest.raises(InputError, match=r"^Base: rate\['x'\]\[1\] is of type function, which no config can hold"):
        settings_of(Base(rate={"x": [1, lambda: 0]}))
    with pytest.raises(InputError, match=r"^Listing takes \*names, which no config can hold"):
        settings_of(Listing("a", "b"))

    class Within(Base):
        pass

    with pytest.raises(InputError, match="Within is a class within a function, which no config can name"):
        settings_of(Within())


def test_a_wrong_argument_is_refused_as_always() -> None:
    for kind, arguments in ((Derived, {"deep": 3}), (Bare, {"depth": 3}), (Flags, {"size": 3})):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            kind(**arguments)


def test_copies_know_them_too() -> None:
    for copied in (copy.deepcopy(Derived(3)), pickle.loads(pickle.dumps(Derived(3)))):
        assert settings_of(copied) == settings_of(Derived(3))


def test_an_object_is_made_anew_with_those_in_its_arguments() -> None:
    part = Base(1.0)
    whole = Base([part], name={"of": part})
    part.rate, whole.extra, layer = 7.0, 1, part.layer
    make_anew(whole)
    assert part.rate == 1.0 and not hasattr(whole, "extra") and part.layer is not layer
    assert whole.rate == [part] and settings_of(whole)["init_args"]["name"] == {"of": settings_of(part)}
