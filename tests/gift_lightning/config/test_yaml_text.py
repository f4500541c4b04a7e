"""The YAML of configs and flags."""

import functools
import time

import pytest
import yaml

from gift_lightning.config.yaml_text import dump_yaml, load_yaml
from gift_lightning.errors import InputError

LAUGHS = "".join(
    f"{key}: &{key} [{', '.join([f'*{above}'] * 9)}]\n" for above, key in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_keys_are_the_text_that_was_typed() -> None:
    text = "{0: zero, yes: ja, no: nein, 2024: 1e-3, 1.50: x, null: 3, ~: 4, 0x10: 5, on: [{off: true}]}"
    assert load_yaml(text) == {
        "0": "zero",
        "yes": "ja",
        "no": "nein",
        "2024": 1e-3,
        "1.50": "x",
        "null": 3,
        "~": 4,
        "0x10": 5,
        "on": [{"off": True}],
    }


@pytest.mark.parametrize(
    "text", ["1e4", "1e-3", "+1e5", "1.e3", "1_000", "2001-01-01", "yes", "~", "null", "#h", "007", "a: b", "=", "<<"]
)
def test_a_text_that_looks_like_something_else_stays_a_text(text: str) -> None:
    written = dump_yaml({"name": text, text: [text], "number": 1e-5})
    assert load_yaml(written) == {"name": text, text: [text], "number": 1e-5}
    assert yaml.safe_load(written)["name"] == text


class Anything:
    def method(self) -> None:
        pass


class Named(Anything):
    def __str__(self) -> str:
        return "a name"


def test_a_default_that_is_no_value_is_written_alike_in_every_process() -> None:
    """And not by its address, which would make each process another run."""
    here = f"{__name__}."
    for first, second, text in [
        (object(), object(), "builtins.object"),
        (Anything(), Anything(), f"{here}Anything"),
        (Anything().method, Anything().method, f"{here}Anything.method"),
        (Named(), Named(), "a name"),
        (functools.partial(dump_yaml), functools.partial(dump_yaml), "functools.partial"),
        (dump_yaml, dump_yaml, "gift_lightning.config.yaml_text.dump_yaml"),
        (Anything, Anything, f"{here}Anything"),
        (len, len, "builtins.len"),
        (str.lower, str.lower, "builtins.str.lower"),
        (InputError("x"), InputError("x"), "x"),
    ]:
        assert load_yaml(dump_yaml({"a": [first]})) == load_yaml(dump_yaml({"a": [second]})) == {"a": [text]}


def test_merge_keys_and_aliases_work() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n"
    assert load_yaml(text) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{a: " * 10_000, r"more than 50 levels \(line 1\)"),
        ("- " * 10_000, r"more than 50 levels \(line 1\)"),
        ("a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + LAUGHS, r"more than 100000 values \(line \d\)"),
        ("- ha\n" * 1_000_000, r"more than 100000 values \(line 100001\)"),
        ("a: &a [*a]", r"\*a \(line 1\) refers to a value that contains it"),
        ("a: 1\nb:\n  c: 1\n  d: 1\n  c: 2\n", r"the key 'c' twice \(line 5\)"),
        ("{a: 1, a: 2}", r"the key 'a' twice"),
        ("a: {yes: 1}\n1: 2\n1: 3", r"the key '1' twice \(line 3\)"),
    ],
)
def test_what_is_no_config_is_refused_at_once(text: str, sentence: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InputError, match=sentence):
        load_yaml(text)
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("text", ["[a", "a: \0", "a:\n\tb: 1", "? [a]\n: b", "a: *b", "[" * 10_000, "!!python/name:x"])
def test_other_damage_is_an_error_of_yaml(text: str) -> None:
    with pytest.raises((yaml.YAMLError, InputError)):
        load_yaml(text)
