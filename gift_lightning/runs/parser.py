"""The parser of a run's config, its defaults, and the text of a whole config in the folder of a run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jsonargparse import ArgumentError, Namespace
from lightning import Trainer
from omegaconf.errors import OmegaConfBaseException

from datamodules import TaskSequence
from gift_lightning.config.files import ConfigFile, OnlyInConfigs
from gift_lightning.config.parsing import MODE, ConfigParser, as_commands_read, check_values, refusals
from gift_lightning.config.references import escaped, unresolved, with_references
from gift_lightning.config.sentences import find_input_error, sentence
from gift_lightning.errors import InputError
from gift_lightning.methods import ContinualCLIP
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS

OF_THE_FOLDER = frozenset({"default_root_dir", "enable_checkpointing"})
"""Arguments of the trainer that the run folder decides."""


def add_run_arguments(parser: ConfigParser) -> None:
    """Let a parser read the config of a run."""
    parser.add_argument("--seed_everything", type=int, default=0, help="of all that is random; 0 to 4294967295")
    parser.add_argument("-c", "--config", action=ConfigFile, help="a YAML file; one given later comes on top")
    parser.add_argument("--base", action=OnlyInConfigs, help="in a config: files that it builds on")
    parser.add_argument("--variables", action=OnlyInConfigs, help="in the config of a run: see references")
    parser.add_class_arguments(RunFolder, "run")
    parser.add_lightning_class_args(ContinualCLIP, "model", subclass_mode=True)
    parser.add_lightning_class_args(TaskSequence, "data")
    # last in --help: it is the longest
    parser.add_class_arguments(
        Trainer, "trainer", fail_untyped=False, instantiate=False, sub_configs=True, skip={*OF_THE_FOLDER}
    )
    parser.set_defaults({f"trainer.{key}": value for key, value in SEQUENCE_DEFAULTS.items()})
    # these links are in config.files.LINKED too
    parser.link_arguments("seed_everything", "data.seed")
    parser.link_arguments("data.num_tasks", "trainer.max_epochs", apply_on="instantiate")
    parser.set_defaults({"trainer.logger": None, "data.cache": "${run.root}/cache"})


def config_text(config: Namespace, command: ConfigParser, parser: ConfigParser) -> str:
    """The whole config of a run as YAML, without the keys of the command itself.

    Args:
        config: of the command.
        command: its parser.
        parser: the parser of all commands, which has read the config.
    """
    config = config.clone()
    for key in ("config", "base", "variables", "ckpt_path"):
        config.pop(key, None)
    return with_references(command.dump(config, skip_validation=True), parser.references)


def completed(settings: dict[str, Any]) -> tuple[Namespace, str]:
    """The config with all defaults that settings stand for, and its text, as the command line makes both of a file.

    Args:
        settings: ``seed_everything``, ``run``, ``model``, ``data`` and ``trainer``; texts stand for themselves.

    Raises:
        ArgumentError, InputError: they are not those of a run.
    """
    parser, command = _parsers()
    config = parser.parse_object({"subcommand": "fit", "fit": escaped(settings)})["fit"]
    return config, config_text(config, command, parser)


def config_of(words: Sequence[str]) -> str:
    """The text of the config that ``fit`` would make of these words, without running anything.

    Raises:
        InputError: they are not those of a run.
    """
    with as_commands_read():
        parser, command = _parsers()
        with parser_errors(lambda: [key for key, _ in command.get_defaults(skip_validation=True).items()]):
            config = parser.parse_args(["fit", *words])["fit"]
        check_values(config)
        return config_text(config, command, parser)


@contextmanager
def parser_errors(options: Callable[[], list[str]]) -> Iterator[None]:
    """Within it, what the parser raises is an ``InputError``.

    Args:
        options: the names of all options, for what is misspelt.
    """
    try:
        with refusals():
            yield
    except OmegaConfBaseException as error:
        raise InputError(unresolved(error, options())) from error
    except ArgumentError as error:
        raise find_input_error(error) or InputError(sentence(error, options())) from error


def _parsers() -> tuple[ConfigParser, ConfigParser]:
    """A parser of all commands, and that of ``fit`` in it."""
    options: dict[str, Any] = {"parser_mode": MODE, "exit_on_error": False, "allow_abbrev": False}
    parser, command = ConfigParser(**options), ConfigParser(**options)
    add_run_arguments(command)
    parser.add_subcommands().add_subcommand("fit", command)
    return parser, command
