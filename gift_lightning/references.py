"""Settings that name variables of the environment, as ``${oc.env:HF_TOKEN}``: what they hold may be a secret.

A run keeps the names, and of each value a fingerprint, which tells whether it is the same again.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gift_lightning.cli_errors import sentence
from gift_lightning.errors import InputError
from gift_lightning.yaml_text import dump_yaml, load_yaml

_VARIABLE = "${oc.env:"

Place = tuple[str | int, ...]
"""Of a setting in a nested config, as ``("data", "tasks", 0, "init_args", "folder")``."""


class Reference(NamedTuple):
    """A setting that comes from the environment: its text as it was given, and 32 bits of a hash of its value."""

    text: str
    fingerprint: str


References = dict[Place, Reference]


def resolve(settings: Mapping[str, Any], part: str | None = None) -> Any:
    """Settings, or those of one part, with the values that their ``${...}`` stand for."""
    whole = OmegaConf.create(dict(settings), flags={"allow_objects": True})
    return OmegaConf.to_container(whole if part is None else whole[part], resolve=True)


def find_references(settings: Mapping[str, Any], part: str | None = None) -> References:
    """The settings, or those of one part, whose values come from variables of the environment."""
    return dict(_differences(resolve(settings, part), resolve(_without_variables(settings), part)))


def with_references(config: str, references: References) -> str:
    """A config as YAML that names variables instead of what they hold, with the fingerprints under ``variables``."""
    if not references:
        return config
    content = load_yaml(config)
    for (*above, last), reference in references.items():
        part = content
        for key in above:
            part = part[key]
        if not isinstance(part[last], dict | list):  # a class or list that a variable named is no secret
            part[last] = reference.text
    named = {".".join(map(str, place)): reference.fingerprint for place, reference in references.items()}
    return dump_yaml({**content, "variables": named})


def from_environment(config: Mapping[str, Any], part: str) -> Any:
    """A part of a config that a run has kept, with what the variables hold that it names.

    Raises:
        InputError: a variable is not set, or not to what it was in the run.
    """
    try:
        settings, references = resolve(config, part), find_references(config, part)
    except OmegaConfBaseException as error:
        raise InputError(sentence(str(error), [])) from error
    for place, (text, fingerprint) in references.items():
        name = ".".join(map(str, (part, *place)))
        if config.get("variables", {}).get(name, fingerprint) != fingerprint:
            raise InputError(f"{name} is {text}, and that variable has another value here than in the run.")
    return settings


def _without_variables(value: Any) -> Any:
    """Settings in which those that name variables are plain texts."""
    if isinstance(value, Mapping):
        return {key: _without_variables(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_variables(part) for part in value]
    if isinstance(value, str) and _VARIABLE in value:
        return re.sub(r"(?<!\\)\$\{", r"\\${", value)
    return value


def _differences(value: Any, other: Any, place: Place = ()) -> Iterator[tuple[Place, Reference]]:
    """Where ``other``, which has the names of variables, differs from ``value``, which has what they hold."""
    if isinstance(value, dict) and isinstance(other, dict):
        for key in value:
            yield from _differences(value[key], other[key], (*place, key))
    elif isinstance(value, list) and isinstance(other, list):
        for index, pair in enumerate(zip(value, other, strict=True)):
            yield from _differences(*pair, (*place, index))
    elif isinstance(other, str) and value != other:
        yield place, Reference(other, hashlib.sha256(str(value).encode()).hexdigest()[:8])
