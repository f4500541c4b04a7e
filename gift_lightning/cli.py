"""The command line: ``fit`` and ``test``, from YAML files and flags."""

import logging
import warnings
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, set_parsing_settings
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from callbacks import AccuracyMatrix, RunRecord, SequenceProgress, TaskBoundary
from callbacks.task_callback import callback_of
from datamodules import TaskSequence
from gift_lightning.checkpoint import AtomicCheckpointIO, load_weights
from gift_lightning.cli_errors import find_input_error, sentence
from gift_lightning.errors import InputError
from gift_lightning.logger import MetricsCSV
from gift_lightning.methods import ContinualCLIP
from gift_lightning.protocol import protocol
from gift_lightning.report import accuracy_table
from gift_lightning.run_folder import RunFolder

SEQUENCE_DEFAULTS = {
    "reload_dataloaders_every_n_epochs": 1,  # each task has its own loaders
    "use_distributed_sampler": False,  # the stream slices itself
    "num_sanity_val_steps": 0,
    "limit_val_batches": 0,
    "enable_model_summary": False,
}

COMMANDS = {
    "fit": "Run a method through a sequence of tasks and record the accuracy matrix.",
    "test": "Evaluate a checkpoint or weights (--ckpt_path FILE) on all tasks of a sequence.",
}
USAGE = "python -m gift_lightning COMMAND --config FILE [--config OVERLAY] [--KEY VALUE ...]"
PARSER = {
    "prog": "python -m gift_lightning",
    "usage": USAGE,
    "description": "Continual learning of CLIP, from YAML files; every key is also a flag, as in --data.steps 200.",
    "parser_mode": "omegaconf+",
    "exit_on_error": False,
    "allow_abbrev": False,
}


def run(argv: list[str]) -> int:
    """Run one command and turn bad input into one sentence on stderr; returns the exit status."""
    _quiet_libraries()
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    try:
        SequenceCLI(
            ContinualCLIP,
            TaskSequence,
            subclass_mode_model=True,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            save_config_callback=None,
            trainer_defaults=SEQUENCE_DEFAULTS,
            parser_kwargs=PARSER | {name: {"usage": USAGE, "description": text} for name, text in COMMANDS.items()},
            args=argv,
        )
    except Exception as error:
        told = find_input_error(error)
        if told is None:
            raise
        Console(stderr=True, soft_wrap=True).print(f"error: {told}", style="red", markup=False, highlight=False)
        return 2
    return 0


class SequenceCLI(LightningCLI):
    """``fit`` runs a method through a sequence of tasks, ``test`` evaluates weights on it."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        internal = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule", "weights_only"}
        return {"fit": internal, "test": internal | {"verbose"}}

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        super()._add_subcommands(parser, **kwargs)
        commands: Any = parser._subcommands_action
        for action in commands._choices_actions:  # Lightning describes its trainer's methods there
            action.help = COMMANDS[action.dest]

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(RunFolder, "run")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_fixed_seed)
        parser.link_arguments("data.num_tasks", "trainer.max_epochs", apply_on="instantiate")
        parser.set_defaults({"trainer.logger": None})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            told = find_input_error(error)
            parsers = self._subcommand_parsers.values()
            known = [key for sub in parsers for key, _ in sub.get_defaults(skip_validation=True).items()]
            raise told or InputError(sentence(str(error), known)) from error

    def _parse_ckpt_path(self) -> None:
        """Nothing: hyper-parameters come from the config, never silently from a checkpoint."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self._get(self.config_init, "trainer")
        self.folder: RunFolder = self._get(self.config_init, "run")
        writes = self.subcommand == "fit" and not config.get("fast_dev_run")
        folder = self.folder if writes else None
        own: list[Any] = [
            TaskBoundary(folder),
            AccuracyMatrix(),
            RunRecord(folder, self._config_text()),
            SequenceProgress(),
        ]
        if folder is not None:
            own.append(
                ModelCheckpoint(
                    folder.checkpoints,
                    filename="last",
                    every_n_train_steps=folder.checkpoint_every,
                    save_on_train_epoch_end=False,
                    enable_version_counter=False,
                )
            )
        config["callbacks"] = own + list(config.get("callbacks") or [])
        config["plugins"] = [*_as_list(config.get("plugins")), AtomicCheckpointIO()]
        config["default_root_dir"] = str(self.folder.path)
        config["enable_checkpointing"] = writes
        if config.get("logger") is None:
            config["logger"] = MetricsCSV(str(self.folder.path)) if writes else False
        try:
            return super().instantiate_trainer(**{**config, **kwargs})
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise InputError(f"The trainer's settings do not go together: {error}") from error

    # --- fit ----------------------------------------------------------------------------------------------------------

    def before_fit(self) -> None:
        """Show a finished run instead of repeating it; refuse to mix an unfinished one with a new one."""
        config = self.config[self.subcommand]
        results = self.folder.read_results()
        if results is None or config.trainer.fast_dev_run:
            return
        if not results["complete"]:
            if not config.get("ckpt_path"):
                raise InputError(
                    f"{self.folder.path} holds an unfinished run: continue it with --ckpt_path last, choose another"
                    " --run.name, or delete the folder."
                )
            return
        difference = self._difference(results)
        if difference:
            raise InputError(
                f"{self.folder.path} holds a finished run with another {difference}: choose another --run.name, or"
                " delete the folder."
            )
        console = Console()
        console.print(accuracy_table(results))
        console.print(f"This run is complete: {self.folder.results}", soft_wrap=True, highlight=False)
        raise SystemExit(0)

    def after_fit(self) -> None:
        if self.trainer.is_global_zero and not self._get(self.config, "trainer").fast_dev_run:
            Console().print(f"Results: {self.folder.path}", soft_wrap=True, highlight=False)

    def _difference(self, results: dict[str, Any]) -> str | None:
        """The first thing in which the finished run in the folder differs from the one asked for."""
        old = _flat(yaml.safe_load(self.folder.config.read_text(encoding="utf-8")))
        new = _flat(yaml.safe_load(self._config_text()))
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                return f"{key} ({old.get(key)} there, {new.get(key)} here)"
        self.datamodule.prepare_data()
        self.datamodule.setup("validate")
        same = protocol(self.datamodule.tasks, self.model.clip)["id"] == results["protocol"]["id"]
        return None if same else "protocol (its data, prompts or starting weights have changed)"

    def _config_text(self) -> str:
        """The whole config of this command as YAML, less what only says how the command was typed."""
        config = self.config[self.subcommand].clone()
        for key in ("config", "ckpt_path"):
            config.pop(key, None)
        return self._parser(self.subcommand).dump(config, skip_validation=True)

    # --- test ---------------------------------------------------------------------------------------------------------

    def before_test(self) -> None:
        """Load plain weights here; a Lightning checkpoint is left to the trainer."""
        config = self.config_init[self.subcommand]
        path = config.get("ckpt_path")
        if path and Path(path).suffix == ".safetensors":
            load_weights(self.model.clip.model, Path(path))
            config["ckpt_path"] = None

    def after_test(self) -> None:
        if self.trainer.is_global_zero:
            row = callback_of(self.trainer, AccuracyMatrix).rows[-1]
            Console().print(_row_table(self.datamodule.names, row))


def _row_table(names: list[str], row: list[float]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("task")
    table.add_column("accuracy", justify="right")
    for name, accuracy in zip(names, row, strict=True):
        table.add_row(name, f"{accuracy:.2f}")
    table.add_section()
    table.add_row("mean", f"{sum(row) / len(row):.2f}")
    return table


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """A nested config as ``{"data.steps": 100, ...}``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {prefix: value}
    return {key: leaf for name, part in items for key, leaf in _flat(part, f"{prefix}.{name}".lstrip(".")).items()}


def _fixed_seed(seed: bool | int) -> int:
    if isinstance(seed, bool):
        raise InputError("seed_everything must be a number: a run can only be repeated and resumed with a fixed seed.")
    return seed


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _quiet_libraries() -> None:
    """Silence what the libraries say about things that are as they should be here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*treespec, LeafSpec.*",
        ".*number of training batches.*",
        ".*exists and is not empty.*",
        ".*in eval mode at the start of training.*",
        ".*Checkpoint directory .* exists.*",
        ".*there is no last checkpoint available.*",
        ".*callbacks used to create the checkpoint need to be provided.*",
    ):
        warnings.filterwarnings("ignore", message=message)
