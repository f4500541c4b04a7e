"""One sentence for each error of the parser, with the nearest right name."""

import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterable, Iterator

from gift_lightning.config.class_paths import class_of
from gift_lightning.config.files import LINKED
from gift_lightning.errors import InputError, advice, nearest


class UnknownClassError(ValueError):
    """There is no class of the path that is the argument; the parser may still find another meaning of the text."""

    def __str__(self) -> str:
        return f"There is no class '{self.args[0]}'"


def find_input_error(error: BaseException | None) -> InputError | None:
    """The ``InputError`` behind an exception: the parser wraps what a constructor raises.

    One that a process which loads images raised arrives as text, its traceback before the sentence. A rank that loses
    another one gets an error of gloo about sockets.
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
    for pattern, sentence_of in _PATTERNS:
        match = re.search(pattern, text)
        if match:
            return sentence_of(match, text, list(options))
    return text


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _unknown_flag(match: re.Match[str], text: str, options: list[str]) -> str:
    name = match[1].split("=")[0]
    if not name.startswith("-"):
        return f"'{_short(match[1])}' stands where an option should: options begin with --, configs with --config."
    return f"{name} is not an option{nearest(name, [f'--{option}' for option in options])}."


def _unknown_key(match: re.Match[str], text: str, options: list[str]) -> str:
    return f"The config has a key '{match[1]}' that does not exist{nearest(match[1], options)}."


def _unknown_argument(match: re.Match[str], text: str, options: list[str]) -> str:
    return f"{_key(text)}{match[1]} has no option '{match[2]}'{nearest(match[2], _arguments(match[1]))}."


def _unknown_class(path: str) -> str:
    if not re.fullmatch(r"[^\s$]+", path):
        return "name a class by its path, as in gift_lightning.methods.GIFT."
    module, _, name = path.rpartition(".")
    if module == "__main__":
        return f"the class {name} was defined in a notebook or script: define it here too, or better in a module."
    package = module.partition(".")[0]
    if package.isidentifier() and importlib.util.find_spec(package) is None:
        place = advice("in the folder that you are in, or in PYTHONPATH", "on sys.path")
        return f"there is no class '{_short(path)}': no module '{package}' is {place}."
    return f"there is no class '{_short(path)}'{nearest(name, _classes(module))}."


def _no_class(match: re.Match[str], text: str, options: list[str]) -> str:
    return _key(text) + _unknown_class(match[1])


def _no_object(match: re.Match[str], text: str, options: list[str]) -> str:
    return f"{_key(text)}'{_short(match[2])}' is not a {match[1]}: name a class, or give class_path and init_args."


def _no_list(match: re.Match[str], text: str, options: list[str]) -> str:
    typed = re.search(r"Expected a path but (.+?) either not", text) or match  # as it was typed
    value = _short(typed[1])
    return f"{_key(text)}'{value}' is not a list: put it in brackets, as in [{value}]."


def _wrong_type(match: re.Match[str], text: str, options: list[str]) -> str:
    types = [name for name in re.findall(r"Expected an? (.+?)(?= - | Given|\. Got|$)", text) if "NoneType" not in name]
    names = dict.fromkeys(re.sub(r"<class '(?:\w+\.)*(\w+)'>|typing\.", r"\1", name).strip() for name in types)
    keys = re.findall(r'[Pp]arser key "([^"]+)"', text)
    fault = f", but must be of type {' or '.join(names)}" if any(names) else ", which is not what it takes"
    return f"{'.'.join(keys) or 'A value'} is '{_short(match[1])}'{fault}."


def _short(text: str | None) -> str:
    """A value as the user wrote it, or its beginning."""
    text = re.sub(r"^NestedArg\(key='[^']*', val='?(.*?)'?\)$", r"\1", (text or "").partition(" Expected a")[0])
    text = {"None": "null", "True": "true", "False": "false"}.get(text, text)
    return text if len(text) <= 80 else f"{text[:60]} ..."


def _key(text: str) -> str:
    match = re.search(r'[Pp]arser key "([^"]+)"', text)
    return f"{match[1]}: " if match else ""


def _classes(module: str) -> list[str]:
    try:
        content = importlib.import_module(module)
        # dir: a package may import its classes at their first use
        return [name for name in dir(content) if inspect.isclass(getattr(content, name, None))]
    except (ImportError, TypeError, ValueError):  # no name of a module
        return []


def _arguments(class_path: str) -> list[str]:
    """The constructor arguments of a class and its bases; the path may be one that the class had before."""
    bases = class_of(class_path).__mro__
    return [argument for base in bases for argument in inspect.signature(base.__init__).parameters]


def _linked(match: re.Match[str], text: str, options: list[str]) -> str:
    return f"{match[1]} cannot be set: it follows from {LINKED[match[1]]}."


def _no_group(match: re.Match[str], text: str, options: list[str]) -> str:
    return f"{_key(text)}'{_short(match[1])}' is neither a file nor settings, as in {{steps: 100}}."


def _missing(match: re.Match[str], text: str, options: list[str]) -> str:
    names = [name.partition(".")[2] for name in match[1].split(", ")]
    if len(names) > 1:
        return "Nothing says what to run: give a config, as in --config conf/quickstart.yaml."
    return f"The config does not say what {names[0]} is: see conf/quickstart.yaml for an example."


def _missing_argument(match: re.Match[str], text: str, options: list[str]) -> str:
    names = " and ".join(f"'{name}'" for name in match[2].split(", "))
    return f"{_key(text)}{match[1]} needs {names}: give it under init_args."


def _no_value(match: re.Match[str], text: str, options: list[str]) -> str:
    return f"{match[1].split('/')[-1]} needs a value after it."


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
