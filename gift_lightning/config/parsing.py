"""Where the parser reads configs otherwise than jsonargparse does by itself, once ``install`` is called.

* YAML is that of ``load_yaml`` and ``dump_yaml``.
* A list replaces the earlier list. By itself, a list with as many elements gives each of them the
  ``init_args`` of the old element at its place, if they are of one class.
* A text stays a text: ``'#1'`` in quotes is no empty value.
* ``${run.root}`` means the same in a file, in a base and in a flag: the key ``run.root`` of the whole config.
* The references to variables of the environment stay known, for these may be secrets.
* A module that raises an exception when it is imported is refused with what it says; by itself the parser takes its
  classes for missing, or ends in a traceback.
"""

import importlib
import math
from argparse import SUPPRESS
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, TypeVar, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace, _common, _core, _loaders_dumpers, _typehints, set_dumper, set_loader
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from gift_lightning.config.class_paths import current_path, current_settings
from gift_lightning.config.references import References, escaped, find_references, resolve
from gift_lightning.config.sentences import UnknownClassError
from gift_lightning.config.yaml_text import dump_yaml, load_yaml
from gift_lightning.errors import InputError, advice, first_line, install_command

MODE = "omegaconf+"
"""Of the parser: ``${...}`` is replaced after all files and flags are read."""


class ConfigParser(LightningArgumentParser):
    """The parser of Lightning's command line.

    Attributes:
        references: settings of the latest config that come from the environment.
    """

    references: References = {}

    def _check_value_key(self, action: Any, value: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        """Refuse ``null`` for a setting that has another default and no use for it; by itself the parser does not."""
        kind = getattr(action, "_typehint", Any)
        optional = kind is Any or type(None) in get_args(kind)
        if value is None and action.default not in (None, SUPPRESS) and not optional:
            raise TypeError(f'Parser key "{key}": Expected a {kind}. Got value: None')
        return super()._check_value_key(action, value, key, *args, **kwargs)

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """A config as YAML that says the same when it is read again; of a command, for classes are part of one."""
        text: str = super().dump(*args, **kwargs)
        return dump_yaml(escaped(load_yaml(text))) if "${" in text and hasattr(self, "parent_parser") else text


_Made = TypeVar("_Made")

_OURS = ("gift_lightning", "callbacks", "datamodules")
_WRONG = (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError)

_adapt, _import_object = _typehints.adapt_typehints, _typehints.import_object


def _adapt_anew(val: Any, *args: Any, **kwargs: Any) -> Any:
    """A value made to fit its type; a list without the earlier one, but for ``+=``.

    A text with a ``${...}`` fits each type until all files and flags are read. Of texts, ``null`` alone stands for no
    value: the quotes of one in a file are gone when the parser reads it again. A class and its arguments get the
    names that they have now.
    """
    if isinstance(val, str) and "${" in val and _common.lenient_check.get():
        return val
    val = _as_written_now(val, kwargs.get("prev_val"))
    if isinstance(val, list) and not kwargs.get("append"):
        kwargs["prev_val"] = None
    text = kwargs.get("orig_val")
    if val is None and isinstance(text, str) and text != "null":  # it was read as YAML: '#a', '---' and '~' are nothing
        val = text
    return _adapt(val, *args, **kwargs)


def _as_written_now(val: Any, before: Any) -> Any:
    """Settings of a class, or a part of them that belongs to the class of the value before."""
    part = {"init_args": {val.key: val.val}} if isinstance(val, _typehints.NestedArg) else val
    if not isinstance(part, dict | Namespace):
        return val
    named, arguments = part.get("class_path"), part.get("init_args")
    path = named or (before.get("class_path") if isinstance(before, Namespace) else None)
    if not isinstance(path, str) or not isinstance(arguments, dict | Namespace | None):
        return val
    given = dict(vars(arguments) if isinstance(arguments, Namespace) else arguments or {})
    current, settings = current_settings(path, given)
    if (current, settings) == (path, given):
        return val
    kind = type(part)
    part = kind(**{**(vars(part) if isinstance(part, Namespace) else part), "class_path": current})
    if arguments is not None:
        part["init_args"] = type(arguments)(**settings)
    return part


def _import(name: str, *args: Any, **kwargs: Any) -> Any:
    """The object of that name.

    Raises:
        UnknownClassError: there is none.
        Refused: its module exists and cannot be imported.
    """
    name = current_path(name) if isinstance(name, str) else name
    try:
        return _import_object(name, *args, **kwargs)
    except Exception as unknown:
        if not isinstance(name, str):
            raise
        if not all(part.isidentifier() for part in name.split(".")):
            raise UnknownClassError(name) from unknown
        module = name.rpartition(".")[0] or name
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise _broken(module, error) from error
        except Exception as error:
            raise _broken(module, error) from error
        raise UnknownClassError(name) from unknown


def _broken(module: str, error: Exception) -> "Refused":
    reason = f"{type(error).__name__}: {first_line(error)}"
    return Refused(InputError(f"The module {module} cannot be imported: {reason}"))


def _resolve(parser: ConfigParser, config: Namespace) -> Namespace:
    """Replace each ``${...}`` by its value, as seen from the keys of the command."""
    if "subcommand" not in config or "${" not in str(config):  # that of a class within has nothing left to resolve
        return config
    config = config.clone(with_meta=False)
    command = config["subcommand"]
    files = config[command].pop("config", None)
    settings = config[command].as_dict()
    parser.references = find_references(settings)
    for place, reference in parser.references.items():
        if place in (("run",), ("model",), ("data",), ("trainer",)):
            raise InputError(f"{place[0]} is {reference.text}: let variables stand for single settings, not for all.")
    config[command] = resolve(settings)
    config = parser._apply_actions(config)
    config[command]["config"] = files
    return config


_REPLACED: list[tuple[Any, str, Any]] = [
    (_typehints, "adapt_typehints", _adapt_anew),
    (_typehints, "import_object", _import),
    (_core, "omegaconf_apply", _resolve),
]
"""Modules of jsonargparse, the name of a function in them, and what stands for it."""
_BY_MODE: list[dict[str, Any]] = [
    _loaders_dumpers.loaders,
    _loaders_dumpers.loader_exceptions,
    _loaders_dumpers.loader_json_superset,
    _loaders_dumpers.loader_params,
    _loaders_dumpers.dumpers,
]
"""Where jsonargparse keeps how texts are read and written."""
_TURN = RLock()
"""Of threads that replace functions and restore them: they do it for the whole process."""


def install() -> None:
    """Let all parsers of this process read as described above: for a process that runs the command line."""
    set_loader(MODE, load_yaml, (yaml.YAMLError,))
    set_dumper(MODE, dump_yaml)
    for module, name, ours in _REPLACED:
        setattr(module, name, ours)


@contextmanager
def as_commands_read() -> Iterator[None]:
    """Within it, all parsers read as those of the command line; after it, as before."""
    with _TURN:
        before = [(module, name, getattr(module, name)) for module, name, _ in _REPLACED]
        modes = [(kinds, dict(kinds)) for kinds in _BY_MODE]
        try:
            install()
            yield
        finally:
            for module, name, theirs in before:
                setattr(module, name, theirs)
            for kinds, earlier in modes:
                kinds.clear()
                kinds.update(earlier)


def check_values(config: Namespace) -> None:
    """Raise an ``InputError`` for a value of the right type that cannot be used, as a number that is not finite."""
    for name in ("run", "model", "data", "trainer", "model.init_args.clip"):
        if not isinstance(config.get(name, Namespace()), Namespace):
            key = name.replace("init_args.", "")
            raise InputError(f"{key} is '{config.get(name)}': it is a group of settings, as in conf/quickstart.yaml.")
    if config.model.get("dict_kwargs"):
        raise InputError(f"{config.model.class_path} has no option '{next(iter(config.model.dict_kwargs))}'.")
    if not 0 <= config.seed_everything < 2**32:  # numpy takes no other
        name = advice("seed_everything", "seed")
        raise InputError(f"{name} is {config.seed_everything}: give a whole number from 0 to {2**32 - 1}.")
    for key, value in _leaves(config, ""):
        name = advice(key, key.partition(".")[2])  # whole from Python too: the last part may be a task, or a number
        if isinstance(value, int) and abs(value) >= 2**63:
            raise InputError(f"{name} is of more than 63 bits: give a smaller number.")
        if key.startswith(("model.", "data.")) and isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name} is {value}: give a finite number.")


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Namespace):
        value = vars(value)
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if parts is None:
        yield key, value
    else:
        for name, part in parts:
            yield from _leaves(part, key if name == "init_args" else f"{key}.{name}".lstrip("."))


class Refused(BaseException):
    """Carries an ``InputError`` of a constructor past the parser, which tries the next type after any exception."""


@contextmanager
def refusals() -> Iterator[None]:
    """Within it, classes are made: what their constructors refuse is an ``InputError`` again."""
    try:
        yield
    except Refused as refused:
        raise refused.args[0] from refused
    except InputError:
        raise
    except (OSError, ValueError) as error:  # as of a path that is too long; the parser wraps it
        fault = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(fault, OSError):
            raise
        raise InputError(f"A file that the config names cannot be used: {first_line(fault)}") from error


def make(made: type, *args: Any, **kwargs: Any) -> Any:
    """An object of a class that a config names.

    Raises:
        Refused: it cannot be made, by what its constructor says, or for want of a package.
    """
    try:
        return made(*args, **kwargs)
    except InputError as error:
        raise Refused(error) from error
    except (ImportError, MisconfigurationException, ArithmeticError, LookupError, OSError, *_WRONG) as error:
        is_input = isinstance(error, OSError) or "unexpected keyword argument" in str(error)
        if made.__module__.partition(".")[0] in _OURS and not is_input:
            raise
        name, command = f"{made.__module__}.{made.__qualname__}", install_command(error)
        sentence = f"cannot be made: {first_line(error)}" if command is None else f"needs a package: {command}."
        raise Refused(InputError(f"{name} {sentence}")) from error


def make_subclass(base: type[_Made], key: str, settings: Any) -> _Made:
    """The object that settings describe by ``class_path`` and ``init_args``, without the command line.

    After it, other parsers of the process read as before.

    Args:
        base: what its class derives from.
        key: of the settings in the config, for error messages.
        settings: as the config has them; paths of classes that have moved since are fine.

    Raises:
        ArgumentError, ValueError: they describe no such object; ``sentence`` makes one sentence of it.
        InputError: its constructor refuses them, or its module cannot be imported.
    """
    with as_commands_read(), refusals():
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(base, key, fail_untyped=False)  # as the command line
        made: _Made = parser.instantiate_classes(parser.parse_object({key: settings}))[key]
    return made


def late_refusal(error: Exception) -> InputError | None:
    """The sentence for an exception of a library whose settings or packages turn out to be unfit during the run."""
    if isinstance(error, MisconfigurationException):
        return InputError(" ".join(str(error).split()))
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] not in _OURS:
        command = install_command(error)
        return InputError(f"A package is missing that the run needs: {f'{command}.' if command else first_line(error)}")
    return None
