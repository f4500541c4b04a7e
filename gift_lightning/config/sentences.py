"""What the parser says about bad input, told in one sentence with the nearest right name."""

import importlib
import inspect
import re
from collections.abc import Iterable

from gift_lightning.errors import InputError, nearest


def find_input_error(error: BaseException | None) -> InputError | None:
    """The ``InputError`` behind an exception: the parser wraps what a constructor raises.

    One that a process which loads images raised arrives as text, its traceback before the sentence. A rank that loses
    another one is told by gloo, in words about sockets.
    """
    while error is not None:
        if isinstance(error, InputError):
            return InputError(str(error).rpartition(f"{InputError.__name__}: ")[2].strip())
        if "gloo/transport" in str(error):
            return InputError("another process of this run has ended: what it said tells why.")
        error = error.__cause__ or error.__context__
    return None


def sentence(message: str, options: Iterable[str]) -> str:
    """One sentence for a message of the parser.

    Args:
        message: what the parser said, often many lines.
        options: the names of all options, as ``data.steps``.
    """
    text = " ".join(message.split())
    options = list(options)
    for pattern, tell in _PATTERNS:
        found = re.search(pattern, text)
        if found:
            return tell(found, text, options)
    return text


def _unknown_flag(found: re.Match[str], text: str, options: list[str]) -> str:
    name = found[1].split("=")[0]
    if not name.startswith("-"):
        return f"'{_short(found[1])}' stands where an option should: options begin with --, configs with --config."
    return f"{name} is not an option{nearest(name, [f'--{option}' for option in options])}."


def _unknown_key(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"The config has a key '{found[1]}' that does not exist{nearest(found[1], options)}."


def _unknown_argument(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"{_key(text)}{found[1]} has no option '{found[2]}'{nearest(found[2], _arguments(found[1]))}."


def _unknown_class(found: re.Match[str], text: str, options: list[str]) -> str:
    module, name = found[1].rsplit(".", 1) if "." in found[1] else ("", found[1])
    return f"{_key(text)}there is no class '{_short(found[1])}'{nearest(name, _classes(module))}."


def _wrong_class(found: re.Match[str], text: str, options: list[str]) -> str:
    named = r"Import path (?!does not )([\w.]+)", r"Given value: \[?'?([\w.]+)'?\]?$", r"path but ([\w.]+) either not"
    given = next((match[1] for pattern in named if (match := re.search(pattern, text))), "one of the classes")
    return f"{_key(text)}{given} is not a {found[1]}: name a subclass of {found[1]}."


def _no_object(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"{_key(text)}'{_short(found[2])}' is not a {found[1]}: name a class, or give class_path and init_args."


def _no_list(found: re.Match[str], text: str, options: list[str]) -> str:
    given = re.search(r"Expected a path but (.+?) either not", text) or found  # as it was typed
    value = _short(given[1])
    return f"{_key(text)}'{value}' is not a list: put it in brackets, as in [{value}]."


def _itself(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"{found[1]} refers to itself: give its value."


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
    """The constructor arguments of a class and its bases."""
    module, _, name = class_path.rpartition(".")
    bases = getattr(importlib.import_module(module), name).__mro__
    return [argument for base in bases for argument in inspect.signature(base.__init__).parameters]


def _linked(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"{found['target']} cannot be set: it follows from {found['source']}."


def _no_file(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"{_key(text)}the file {found[1]} does not exist."


def _no_command(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"Name a command, one of {found[1].replace(',', ', ')}; --help tells what they do."


def _no_class(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"{_key(text)}name a class by its path, as in gift_lightning.methods.GIFT."


def _interpolation(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"The config refers to ${{{found[1]}}}, which does not exist{nearest(found[1], options)}."


def _within_value(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"The config refers to ${{{found[1]}}}, but {found[2]} is a single value and not a group of settings."


def _unset_variable(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"The config refers to the variable {found[1]} of the environment, which is not set."


def _no_group(found: re.Match[str], text: str, options: list[str]) -> str:
    return f"{_key(text)}'{_short(found[1])}' is neither a file nor settings, as in {{steps: 100}}."


def _wrong_reference(found: re.Match[str], text: str, options: list[str]) -> str:
    key = re.search(r"full_key: (\S+)", text)
    where = f"{key[1]}: " if key else ""
    return f"{where}'${{' begins a reference, as in ${{run.root}}, but {found[1]}; write '\\${{' for plain text."


def _wrong_command(found: re.Match[str], text: str, options: list[str]) -> str:
    commands = [*re.findall(r"\w+", found[2]), "report", "export"]
    return f"There is no command '{found[1]}'{nearest(found[1], commands)}: begin with one of {', '.join(commands)}."


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
    (r'expected "subcommand" to be one of \{([^}]*)\}', _no_command),
    (r"argument subcommand: invalid choice: '(.*?)' \(choose from (.*)\)", _wrong_command),
    (r"argument (?P<source>\S+) --> (?P<target>\S+): invalid", _linked),
    (r'Linked "(?P<target>[^"]+)" must be given via "(?P<source>[^"]+)"', _linked),
    (r"File does not exist: '?([^' ]+)", _no_file),
    (r"Unable to load config '(.*?)' - ", _no_group),
    (r"Subclasses are disabled for \w+, thus '([^']+)'", _no_group),
    (r"unrecognized arguments: (\S+)", _unknown_flag),
    (r"given class_path '([^']+)': Option '([^']+)' is not accepted", _unknown_argument),
    (r"given class_path '([^']+)': (?:module .* has no attribute|No module named|Import path)", _unknown_class),
    (r"(?:not a subclass of|does not correspond to a subclass of) (\w+)", _wrong_class),
    (r"Not a valid subclass of (\w+)\. Got value: (.*?) Subclass types", _no_object),
    (r"Expected a <class 'list'>\. Got value: (\{.*\}|[a-zA-Z_]\w*\.[\w.]+)$", _no_list),
    (r"Expected a path but either not accessible", _no_class),
    (r"Expected a path but (\S+) either not accessible", _unknown_class),
    (r"Key '([^']+)' is not expected", _unknown_key),
    (r"(?:Option|does not accept option) '([^']+)'", _unknown_key),
    (r"(?:Recursive interpolation|Interpolation to parent node) detected full_key: (\S+)", _itself),
    (r"Interpolation key '([^']+)' not found", _interpolation),
    (r"Error trying to access (\S+): node `(\S+)` is not a container", _within_value),
    (r"Environment variable '([^']+)' not found", _unset_variable),
    (
        r"((?:Unsupported interpolation type|no viable alternative|mismatched input|token recognition).*?) full_key",
        _wrong_reference,
    ),
    (r"Expected a dot import path string.*Given value: *$", _no_class),
    (r"Expected a dot import path string: (\S+)", _unknown_class),
    (r"Unexpected import path format", _no_class),
    (r"Expected an? .*?Got value:(?: (?!- )(.*?))?(?: - | Given|$)", _wrong_type),
    (r"Expected an? .*?Given value:(?: (?!- )(.*?))?(?: - | Given|$)", _wrong_type),
]
