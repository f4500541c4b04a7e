"""Settings that name variables of the environment, as ``${oc.env:HF_TOKEN}``: their values may be secrets.

A run stores the names, and of each value a fingerprint, which shows whether it is the same again.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException, UnsupportedInterpolationType
from omegaconf.resolvers import oc

from gift_lightning.config.yaml_text import dump_yaml, load_yaml
from gift_lightning.errors import InputError, nearest

Place = tuple[str | int, ...]
"""Of a setting in a nested config, as ``("data", "tasks", 0, "init_args", "folder")``."""


class Reference(NamedTuple):
    """A setting that comes from the environment: its text as it was given, and 32 bits of a hash of its value."""

    text: str
    fingerprint: str


References = dict[Place, Reference]
"""The references of a config, by their places."""


def resolve(settings: Mapping[str, Any], part: str | None = None) -> Any:
    """Settings, or those of one part, with the values that their ``${...}`` stand for."""
    whole = _tree(settings)
    return OmegaConf.to_container(whole if part is None else whole[part], resolve=True)


def find_references(settings: Mapping[str, Any], part: str | None = None) -> References:
    """The settings, or those of one part, whose values come from variables of the environment."""
    whole = _tree(settings)
    raw, tree = (settings, whole) if part is None else (settings[part], whole[part])
    with _variables_read() as names:
        return dict(_references(raw, tree, names))


def unresolved(error: OmegaConfBaseException, options: Iterable[str]) -> str:
    """One sentence for a ``${...}`` that stands for no value.

    Args:
        error: of ``resolve`` or ``find_references``.
        options: the names of all settings, as ``data.steps``.
    """
    raised, _, fault = " ".join(str(error).partition("full_key:")[0].split()).rpartition("resolving interpolation: ")
    if isinstance(error, GrammarParseError | UnsupportedInterpolationType) or GrammarParseError.__name__ in raised:
        return (
            f"{error.full_key}: '${{' begins a reference, as in ${{run.root}}, but {fault}; write '\\${{' for plain"
            " text."
        )
    if missing := re.search(r"(Interpolation key|Environment variable) '([^']+)' not found", fault):
        kind, name = missing.groups()
        if kind == "Environment variable":
            return f"The config refers to the variable {name} of the environment, which is not set."
        return f"The config refers to ${{{name}}}, which does not exist{nearest(name, options)}."
    if within := re.search(r"access (\S+): node `(\S+)` is not a container", fault):
        return f"The config refers to ${{{within[1]}}}, but {within[2]} is a single value and not a group of settings."
    return f"{error.full_key}: {fault}." if raised else f"{error.full_key} refers to itself: give its value."


def with_references(config: str, references: References) -> str:
    """A config as YAML with variables' names instead of their values, and fingerprints of these under ``variables``.

    Args:
        config: YAML of ``escaped`` settings.
    """
    content, variables = load_yaml(config), {}
    for place, reference in references.items():
        part = content
        try:
            for key in place[:-1]:
                part = part[key]
            part[place[-1]]  # a setting that is not stored, such as ckpt_path, needs no reference
        except LookupError:
            continue
        part[place[-1]] = reference.text
        variables[".".join(map(str, place))] = reference.fingerprint
    return dump_yaml({**content, "variables": variables}) if variables else config


def escaped(value: Any) -> Any:
    r"""Settings whose texts stand for themselves when they are read again: ``${`` in them is ``\${``."""
    if isinstance(value, Mapping):
        return {key: escaped(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(part) for part in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    return value


def from_environment(config: Mapping[str, Any], part: str) -> Any:
    """A part of the config of a run, with the values of the variables that it names.

    Raises:
        InputError: a variable is not set, or has another value than in the run.
    """
    try:
        settings, references = resolve(config, part), find_references(config, part)
    except OmegaConfBaseException as error:
        raise InputError(unresolved(error, [])) from error
    for place, (text, fingerprint) in references.items():
        name = ".".join(map(str, (part, *place)))
        if config.get("variables", {}).get(name, fingerprint) != fingerprint:
            raise InputError(f"{name} is {text}, and that variable has another value here than in the run.")
    return settings


_register: Any = getattr(OmegaConf, "register_resolver", None)  # since OmegaConf 2.4, instead of the other one
_register = partial(_register, annotation_validation="off") if _register else OmegaConf.register_new_resolver


def _tree(settings: Mapping[str, Any]) -> DictConfig:
    return OmegaConf.create(dict(settings), flags={"allow_objects": True})


@contextmanager
def _variables_read() -> Iterator[list[str]]:
    """Within it, the names of the variables of the environment that OmegaConf reads are added to the list."""
    names: list[str] = []

    def read(name: str, *default: Any) -> str | None:
        names.append(name)
        return oc.env(name, *default)

    _register("oc.env", read, replace=True)
    try:
        yield names
    finally:
        _register("oc.env", oc.env, replace=True)


def _references(raw: Any, tree: Any, names: list[str], place: Place = ()) -> Iterator[tuple[Place, Reference]]:
    """The places below ``raw`` whose texts read a variable, be it through another setting or in a nested reference."""
    for key in raw if isinstance(raw, Mapping) else range(len(raw)):
        if isinstance(raw[key], Mapping | list | tuple):
            yield from _references(raw[key], tree[key], names, (*place, key))
        elif OmegaConf.is_interpolation(tree, key):
            names.clear()
            value = tree[key]
            if isinstance(value, DictConfig | ListConfig):
                value = OmegaConf.to_container(value, resolve=True)
            if names:
                yield (*place, key), Reference(raw[key], hashlib.sha256(str(value).encode()).hexdigest()[:8])
