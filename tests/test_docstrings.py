"""Every public name of the packages has a docstring; with shapes where there are tensors, and examples in numerics."""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

import pytest
from torch import Tensor

PACKAGES = ("gift_lightning", "callbacks", "datamodules")
DESCRIPTORS = (property, functools.cached_property, classmethod, staticmethod)


def module_names() -> Iterator[str]:
    for package in PACKAGES:
        yield package
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            yield module.name


MODULES = sorted(module_names())


def is_function(value: Any) -> bool:
    """Whether a value is a function, in a wrapper or not (``torch.no_grad``, ``functools.cache``)."""
    return isinstance(inspect.unwrap(value), types.FunctionType) if callable(value) else False


def public(names: dict[str, Any], module: str) -> dict[str, Any]:
    """The functions and classes among ``names`` that ``module`` defines and a user may call."""
    return {
        name: value
        for name, value in names.items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module
        and (isinstance(value, type) or is_function(value))
    }


def members(kind: type) -> dict[str, Any]:
    """The public methods and properties in the body of a class."""
    own = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    return {name: value for name, value in own.items() if isinstance(value, DESCRIPTORS) or is_function(value)}


def function_of(member: Any) -> Any:
    for attribute in ("fget", "func", "__func__"):
        member = getattr(member, attribute, None) or member
    return member


def docs_of(kind: type, name: str) -> str:
    """The docstrings of a member: its own, those of base classes, and its line under "Attributes" of its class."""
    docs = [getattr(function_of(vars(base)[name]), "__doc__", None) for base in kind.__mro__ if name in vars(base)]
    attributes = (kind.__doc__ or "").partition("Attributes:")[2]
    line = re.search(rf"^ +([\w, ]+, )?{name}(, [\w, ]+)?: .*", attributes, re.MULTILINE)
    return "\n".join([*filter(None, docs), *([line[0]] if line else [])])


def holds_tensor(annotation: Any) -> bool:
    """Whether an annotation is a Tensor, or a tuple or union with one; weights in lists and dicts have any shape."""
    is_compound = get_origin(annotation) in (tuple, Union, types.UnionType)
    return annotation is Tensor or (is_compound and any(map(holds_tensor, get_args(annotation))))


def handles_tensors(function: Any) -> bool:
    signature = inspect.signature(function)
    annotations = [parameter.annotation for parameter in signature.parameters.values()]
    return any(map(holds_tensor, [*annotations, signature.return_annotation]))


def functions_of(name: str) -> Iterator[tuple[str, Any, str]]:
    """The public functions, methods and properties of a module: name, function, and docstrings."""
    for label, value in public(vars(importlib.import_module(name)), name).items():
        if is_function(value):
            yield label, value, value.__doc__ or ""
        elif isinstance(value, type):
            for member, attribute in members(value).items():
                yield f"{label}.{member}", function_of(attribute), docs_of(value, member)


def constants(statement: ast.stmt) -> list[str]:
    """The public names that a statement assigns, except the type variable ``T``."""
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return []
    targets = [*getattr(statement, "targets", []), getattr(statement, "target", None)]
    names = [node.id for target in targets if target for node in ast.walk(target) if isinstance(node, ast.Name)]
    return [name for name in names if not name.startswith("_") and name != "T"]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    missing = [] if module.__doc__ else [name]
    for label, value in public(vars(module), name).items():
        # a dataclass without a docstring gets its signature
        if not value.__doc__ or value.__doc__.startswith(f"{label}("):
            missing.append(label)
        if isinstance(value, type):
            missing += [f"{label}.{member}" for member in members(value) if not docs_of(value, member)]
    assert not missing


@pytest.mark.parametrize("name", MODULES)
def test_every_public_constant_has_a_docstring_or_a_comment(name: str) -> None:
    source = inspect.getsource(importlib.import_module(name))
    lines, body = source.splitlines(), ast.parse(source).body
    missing = []
    for statement, following in zip(body, [*body[1:], None], strict=True):
        is_docstring = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        is_commented = "#" in lines[statement.end_lineno - 1] or lines[statement.lineno - 2].startswith("#")
        missing += [] if is_docstring or is_commented else constants(statement)
    assert not missing


@pytest.mark.parametrize("name", MODULES)
def test_functions_and_methods_on_tensors_name_their_shapes(name: str) -> None:
    missing = [
        label
        for label, function, docs in functions_of(name)
        if handles_tensors(function) and not re.search(r"``[^`]*\[[^`]*\][^`]*``|\bscalar\b", docs)
    ]
    assert not missing


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("gift_lightning.numerics.")])
def test_numerics_show_an_example_that_runs(name: str) -> None:
    """pytest runs the examples (``--doctest-modules``)."""
    names = public(vars(importlib.import_module(name)), name)
    assert names
    assert not [label for label, value in names.items() if ">>>" not in (value.__doc__ or "")]
