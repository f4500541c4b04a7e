"""Where the parser reads configs otherwise than jsonargparse does by itself.

* YAML is that of ``load_yaml`` and ``dump_yaml``.
* A list replaces the list that stood there before. By itself, a list with as many elements gives each of them the
  ``init_args`` of the old element at its place, if they are of one class.
* A text stays a text: ``'#1'`` in quotes is no empty value.
* ``${run.root}`` means the same in a file, in a base and in a flag: the key ``run.root`` of the whole config.
* Which settings come from variables of the environment is kept, for these may be secrets.
"""

import math
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import yaml
from jsonargparse import Namespace, _core, _typehints, set_dumper, set_loader
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from gift_lightning.errors import InputError, first_line
from gift_lightning.references import References, find_references, resolve
from gift_lightning.yaml_text import dump_yaml, load_yaml

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


_OURS = ("gift_lightning", "callbacks", "datamodules")
_WRONG = (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError)

_adapt = _typehints.adapt_typehints


def _adapt_anew(val: Any, *args: Any, **kwargs: Any) -> Any:
    """A value made to fit its type; without what stood there before if it is a list, but for ``+=``.

    Of texts, ``null`` alone stands for no value: the quotes of one in a file are gone when the parser reads it again.
    """
    if isinstance(val, list) and not kwargs.get("append"):
        kwargs["prev_val"] = None
    text = kwargs.get("orig_val")
    if val is None and isinstance(text, str) and text != "null":  # it was read as YAML: '#a', '---' and '~' are nothing
        val = text
    return _adapt(val, *args, **kwargs)


def _resolve(parser: ConfigParser, config: Namespace) -> Namespace:
    """Replace each ``${...}`` by its value, as seen from the keys of the command."""
    if "${" not in str(config):
        return config
    config = config.clone(with_meta=False)
    command = config["subcommand"]
    files = config[command].pop("config", None)
    settings = config[command].as_dict()
    parser.references = find_references(settings)
    config[command] = resolve(settings)
    config = parser._apply_actions(config)
    config[command]["config"] = files
    return config


def check_text(words: Sequence[str]) -> None:
    """Raise an ``InputError`` for a word of the command line that a config cannot hold."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise InputError(f"{word[:80]!r} is not text in UTF-8: give what it names another name.") from None
        if "\0" in word:
            raise InputError(f"{word[:80]!r} has a NUL byte: remove it.")


def check_values(config: Namespace) -> None:
    """Raise an ``InputError`` for what has the right type and is no setting: no group of them, or no finite number."""
    for name in ("run", "model", "data", "trainer", "model.init_args.clip"):
        if not isinstance(config.get(name, Namespace()), Namespace):
            key = name.replace("init_args.", "")
            raise InputError(f"{key} is '{config.get(name)}': it is a group of settings, as in conf/quickstart.yaml.")
    if config.model.get("dict_kwargs"):
        raise InputError(f"{config.model.class_path} has no option '{next(iter(config.model.dict_kwargs))}'.")
    for key, value in _leaves(config, ""):
        if isinstance(value, int) and abs(value) >= 2**63:
            raise InputError(f"{key} is of more than 63 bits: give a smaller number.")
        if key.startswith(("model.", "data.")) and isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{key} is {value}: give a finite number.")


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
        raise Refused(
            InputError(f"{made.__module__}.{made.__qualname__} cannot be made: {first_line(error)}")
        ) from error


set_loader(MODE, load_yaml, (yaml.YAMLError,))
set_dumper(MODE, dump_yaml)
_typehints.adapt_typehints = _adapt_anew
_core.omegaconf_apply = _resolve
