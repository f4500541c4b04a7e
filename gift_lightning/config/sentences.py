"""What the parser says about bad input, told in one sentence with the nearest right name."""

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator

from gift_lightning.config.class_paths import class_of
from gift_lightning.config.files import LINKED
from gift_lightning.errors import InputError, nearest


class UnknownClassError(ValueError):
    """There is no class of the path that is the argument; the parser may still find another meaning of the text."""

    def __str__(self) -> str:
        return f"There is no class '{self.args[0]}'"


def find_input_error(error: BaseException | None) -> InputError | None:
    """The ``InputError`` behind an exception: the parser wraps what a constructor raises.

    One that a process which loads images raised arrives as text, its traceback before the sentence. A rank that loses
    another one is told by gloo, in words about sockets.
    """
    for cause in _causes(error):
        if isinstance(cause, InputError):
            return InputError(str(cause).rpartition(f"{InputError.__name__}: ")[2].strip())
        if "gloo/transport" in str(cause):
            return InputError("another process of this run has ended: what it said tells why.")
    return None


def sentence(error: BaseException, options: Iterable[str]) -> str:
    """One sentence for an exception of the parser.

    Args:
        error: its message has often many lines.
        options: the names of all options, as ``data.steps``.
    """
    text = " ".join(str(error).split())
    for cause in [*_causes(error)][::-1]:  # the parser wraps one exception in another of the same class
        if isinstance(cause, UnknownClassError):
            return _key(text) + _unknown_class(cause.args[0])
        if wrong := re.match(r"Import path (\S+) does not correspond to a subclass of (\w+)", str(cause)):
            return f"{_key(text)}{wrong[1]} is not a {wrong[2]}: name a subclass of {wrong[2]}."
    for pattern, tell in _PATTERNS:
        found = re.search(pattern, text)
        if found:
            return tell(found, text, list(options))
    return text


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _unknown_flag(found: re.Match[str], text: str, options: list[str]) -> str:
    name = found[1].split("=")[0]
    if not name.startswith("-"):
        return f"'{_short(found[1])}' stands where an option should: options begin with --, configs with --config."
    return f"{name} is not an option{nearest(name, [f'--{option}' for option in options])}."


def _unknown_key(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"The config has a key '{found[1]}' that does not exist{nearest(found[1], options)}."


def _unknown_argument(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"{_key(text)}{found[1]} has no option '{found[2]}'{nearest(found[2], _arguments(found[1]))}."


def _unknown_class(path: str) -> str:
    if not re.fullmatch(r"[^\s$]+", path):
        return "name a class by its path, as in gift_lightning.methods.GIFT."
    module, _, name = path.rpartition(".")
    if module == "__main__":
        return f"the class {name} was defined in a notebook or script: define it here too, or better in a module."
    return f"there is no class '{_short(path)}'{nearest(name, _classes(module))}."


def _no_class(found: re.Match[str], text: str, options: list[str]) -> str:
    return _key(text) + _unknown_class(found[1])


def _no_object(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"{_key(text)}'{_short(found[2])}' is not a {found[1]}: name a class, or give class_path and init_args."


def _no_list(found: re.Match[str], text: str, options: list[str]) -> str:
    given = re.search(r"Expected a path but (.+?) either not", text) or found  # as it was typed
    value = _short(given[1])
    return f"{_key(text)}'{value}' is not a list: put it in brackets, as in [{value}]."


def _wrong_type(found: re.Match[str], text: str, options: list[str]) -> str:
    kinds = [kind for kind in re.findall(r"Expected an? (.+?)(?= - | Given|\. Got|$)", text) if "NoneType" not in kind]
    names = dict.fromkeys(re.sub(r"<class '(?:\w+\.)*(\w+)'>|typing\.", r"\1", kind).strip() for kind in kinds)
    keys = re.findall(r'[Pp]arser key "([^"]+)"', text)
    kind = f", but must be of type {' or '.join(names)}" if any(names) else ", which is not what it takes"
    return f"{'.'.join(keys) or 'A value'} is '{_short(found[1])}'{kind}."


def _short(text: str | None) -> str:
    """A value as the user wrote it, or its beginning."""
    text = re.sub(r"^NestedArg\(key='[^']*', val='?(.*?)'?\)$", r"\1", (text or "").partition(" Expected a")[0])
    text = {"None": "null", "True": "true", "False": "false"}.get(text, text)
    return text if len(text) <= 80 else f"{text[:60]} ..."


def _key(text: str) -> str:
    found = re.search(r'[Pp]arser key "([^"]+)"', text)
    return f"{found[1]}: " if found else ""


def _classes(module: str) -> list[str]:
    try:
        found = importlib.import_module(module)
        return [name for name in dir(found) if inspect.isclass(getattr(found, name))]
    except (ImportError, TypeError, ValueError):  # no name of a module
        return []


def _arguments(class_path: str) -> list[str]:
    """The constructor arguments of a class and its bases; the path may be one that the class had before."""
    bases = class_of(class_path).__mro__
    return [argument for base in bases for argument in inspect.signature(base.__init__).parameters]


def _linked(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"{found[1]} cannot be set: it follows from {LINKED[found[1]]}."


def _no_group(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"{_key(text)}'{_short(found[1])}' is neither a file nor settings, as in {{steps: 100}}."


def _missing(found: re.Match[str], text: str, options: list[str]) -> str:
    names = [name.partition(".")[2] for name in found[1].split(", ")]
    if len(names) > 1:
        return "Nothing says what to run: give a config, as in --config conf/quickstart.yaml."
    return f"The config does not say what {names[0]} is: see conf/quickstart.yaml for an example."


def _missing_argument(found: re.Match[str], text: str, options: list[str]) -> str:
    names = " and ".join(f"'{name}'" for name in found[2].split(", "))
    return f"{_key(text)}{found[1]} needs {names}: give it under init_args."


def _no_value(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"{found[1].split('/')[-1]} needs a value after it."


_PATTERNS = [
    (r"given class_path '([^']+)': the following arguments are required: ([\w.]+(?:, [\w.]+)*)", _missing_argument),
    (r"arguments are required: (.*)", _missing),
    (r"argument (\S+): expected one argument", _no_value),
    (rf'(?:-->|Linked) "?({"|".join(LINKED)})', _linked),
    (r"(?:Unable to load config|Subclasses are disabled for \w+, thus) '(.*?)'(?: - | is not)", _no_group),
    (r"unrecognized arguments: (\S+)", _unknown_flag),
    (r"given class_path '([^']+)': Option '([^']+)' is not accepted", _unknown_argument),
    (r"Not a valid subclass of (\w+)\. Got value: (.*?) Subclass types", _no_object),
    (r"Expected a <class 'list'>\. Got value: (\{.*\}|[a-zA-Z_]\w*\.[\w.]+)$", _no_list),
    (r"Expected a path but (\S+) either not accessible", _no_class),
    (r"[Oo]ption '([^']+)'", _unknown_key),
    (r"Expected an? .*?(?:Got|Given) value:(?: (?!- )(.*?))?(?: - | Given|$)", _wrong_type),
]
