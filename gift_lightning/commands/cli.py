"""The command line: ``fit``, ``test``, ``generate`` and ``doctor``, from YAML files and flags."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError
from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from callbacks import AccuracyMatrix, RunRecord, SequenceProgress, StepCheckpoint, TaskBoundary
from callbacks.task_callback import callback_of
from datamodules import TaskSequence
from gift_lightning.clip.weights import read_file
from gift_lightning.commands.doctor import doctor
from gift_lightning.commands.generate import generate
from gift_lightning.config.files import ConfigFile, OnlyInConfigs
from gift_lightning.config.parsing import MODE, ConfigParser, check_values, late_refusal, make, refusals
from gift_lightning.config.references import with_references
from gift_lightning.config.sentences import find_input_error, sentence
from gift_lightning.console import plain_console, quiet_libraries, tell
from gift_lightning.errors import InputError
from gift_lightning.files import path_of
from gift_lightning.methods import ContinualCLIP
from gift_lightning.numerics import metrics
from gift_lightning.records.checkpoint import AtomicCheckpointIO, config_in, read_checkpoint
from gift_lightning.records.metrics_csv import MetricsCSV
from gift_lightning.records.protocol import first_changed_task, protocol
from gift_lightning.records.report import accuracy_table, row_table
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.same_run import difference, hint
from gift_lightning.runs.trainer_settings import check_callbacks, check_settings, check_trainer
from gift_lightning.tensors import load_tensors

SEQUENCE_DEFAULTS = {
    "reload_dataloaders_every_n_epochs": 1,  # each task has its own loaders
    "use_distributed_sampler": False,  # the stream slices itself
    "num_sanity_val_steps": 0,
    "limit_val_batches": 0,
    "enable_model_summary": False,
}

COMMANDS = {
    "fit": "Run a method through a sequence of tasks and record the accuracy matrix.",
    "test": "Evaluate a run's checkpoint (--ckpt_path FILE) or weights (--weights FILE) on all tasks of a sequence.",
}
AHEAD = {
    "generate": "Make the replay images of a sequence ahead of time, with the same config and flags as fit.",
    "doctor": "Say what a fit with the same config and flags needs and has not: data sets, weights, room.",
}
"""Commands that read what fit reads, and are no methods of the trainer."""
USAGE = "python -m gift_lightning COMMAND --config FILE [--config OVERLAY] [--KEY VALUE ...] [--debug]"
PARSER = {
    "prog": "python -m gift_lightning",
    "usage": USAGE,
    "description": "Continual learning of CLIP, from YAML files; every key is also a flag, as in --data.steps 200."
    " 'report RUN [RUN ...]' shows finished runs side by side, 'export --run RUN --out FILE' writes the final weights."
    " With --debug, bad input is told with all that the libraries say about it.",
    "parser_mode": MODE,
    "exit_on_error": False,
    "allow_abbrev": False,
}


def run(argv: list[str], debug: bool = False) -> int:
    """Run one command and turn bad input into one sentence on stderr; returns the exit status.

    0 after success, 2 after bad input, 130 after Ctrl-C, 143 after SIGTERM (Lightning's own would be 0, as if the run
    were over). ``debug`` raises what lies behind the sentence.
    """
    quiet_libraries()
    try:
        SequenceCLI(
            ContinualCLIP,
            TaskSequence,
            subclass_mode_model=True,
            auto_configure_optimizers=False,
            save_config_callback=None,
            trainer_defaults=SEQUENCE_DEFAULTS,
            parser_class=ConfigParser,
            parser_kwargs=PARSER,
            args=argv,
        )
    except SIGTERMException:
        _tell("stopped by SIGTERM: go on with --ckpt_path last.")
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        _tell("stopped.")
        return 128 + signal.SIGINT
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning's own word on it is silenced
            _tell("stopped: go on with --ckpt_path last.")
            return 128 + signal.SIGINT
        return end.code if isinstance(end.code, int) else 0
    except Exception as error:
        refusal = find_input_error(error) or late_refusal(error)
        if refusal is None or debug:
            raise
        _tell(f"error: {refusal}")
        return 2
    return 0


def _tell(sentence: str) -> None:
    """Print one sentence on stderr: on the first rank, and once ranks work together, on any that has something to tell.

    What a rank meets alone, a broken image in its share for instance, the first one never hears of.
    """
    ranks = [os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ]
    first = not ranks or ranks[0] == "0"
    if first or torch.distributed.is_initialized():
        sentence = re.sub(r"\S{400,}", lambda word: f"{word[0][:60]} ...", sentence)
        sentence = sentence if len(sentence) <= 800 else f"{sentence[:760]} ..."
        told = sentence if first else f"rank {ranks[0]}: {sentence}"
        tell(told, "red")


class SequenceCLI(LightningCLI):
    """``fit`` runs a method through a sequence of tasks, ``test`` evaluates weights on it.

    ``generate`` makes its replay images, ``doctor`` says what it lacks.
    """

    trainer: Any  # Lightning sets the attributes of its Trainer where a type checker does not see them
    parser: ConfigParser

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        internal = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule", "weights_only"}
        return {"fit": internal, "test": internal | {"verbose"}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._asked = [name for name in kwargs["args"][:1] if name in COMMANDS | AHEAD]
        super().__init__(*args, **kwargs)

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """The command that is asked for, for each takes a tenth of a second; all of them if it is none."""
        self._subcommand_parsers, commands = {}, parser.add_subcommands()
        for name in self._asked or COMMANDS | AHEAD:
            self._subcommand_parsers[name] = added = self._command_parser(name)
            commands.add_subcommand(name, added, help=(COMMANDS | AHEAD)[name])

    def _command_parser(self, name: str) -> LightningArgumentParser:
        options: Any = {"usage": USAGE, "description": (COMMANDS | AHEAD)[name], "allow_abbrev": False}
        if name in COMMANDS:
            parser = self._prepare_subcommand_parser(Trainer, name, **options)
        else:
            parser = self.init_parser(**options)
            self._add_arguments(parser)
        if name == "test":
            text = "weights of the CLIP, or the checkpoint of a run"
            parser.add_argument("--weights", type=str | None, default=None, help=text)
        if name == "doctor":
            text = "First fetch what is missing, as far as it can be."
            parser.add_argument("--download", action="store_true", help=text)
        return parser

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        return ConfigParser(**kwargs)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--seed_everything", type=int, default=0, help="of all that is random; 0 to 4294967295")

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("-c", "--config", action=ConfigFile, help="a YAML file; one given later comes on top")
        parser.add_argument("--base", action=OnlyInConfigs, help="in a config: files that it builds on")
        parser.add_argument("--variables", action=OnlyInConfigs, help="in the config that a run keeps: see references")
        parser.add_class_arguments(RunFolder, "run")
        parser.add_lightning_class_args(self._model_class, "model", subclass_mode=self.subclass_mode_model)
        parser.add_lightning_class_args(self._datamodule_class, "data")
        taken = {"default_root_dir", "enable_checkpointing"}  # the run folder decides
        # last in --help: it is the longest
        parser.add_class_arguments(
            self.trainer_class, "trainer", fail_untyped=False, instantiate=False, sub_configs=True, skip=taken
        )
        parser.set_defaults({f"trainer.{key}": value for key, value in self.trainer_defaults.items()})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # what is linked is in config_files.LINKED too
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("data.num_tasks", "trainer.max_epochs", apply_on="instantiate")
        parser.set_defaults({"trainer.logger": None, "data.cache": "${run.root}/cache"})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            with refusals():
                self.config = parser.parse_args(args)
        except (ArgumentError, OmegaConfBaseException) as error:
            parsers = self._subcommand_parsers.values()
            options = [key for sub in parsers for key, _ in sub.get_defaults(skip_validation=True).items()]
            raise find_input_error(error) or InputError(sentence(str(error), options)) from error
        if self.config.get("subcommand"):
            check_values(self.config[self.config.subcommand])

    def _parse_ckpt_path(self) -> None:
        """Nothing: hyper-parameters come from the config, never silently from a checkpoint."""

    def _add_instantiators(self) -> None:
        super()._add_instantiators()
        self.parser.add_instantiator(make, object)

    def instantiate_classes(self) -> None:
        check_settings(self.config[self.subcommand].trainer)
        if self.subcommand == "test":
            self._place_weights()
        with refusals():
            self._instantiate()

    def _instantiate(self) -> None:
        if self.subcommand not in AHEAD:
            super().instantiate_classes()
            return
        config = self.config.clone()
        del config[self.subcommand]["model"], config[self.subcommand]["trainer"]  # no weights, no logger
        self.config_init = self.parser.instantiate_classes(config)
        self.datamodule = self._get(self.config_init, "data")

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand == "generate":
            generate(self.datamodule)
        elif subcommand == "doctor":
            raise SystemExit(doctor(self.datamodule, self._get(self.config_init, "run").path, self.config["doctor"]))
        else:
            super()._run_subcommand(subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self._get(self.config_init, "trainer")
        self.folder: RunFolder = self._get(self.config_init, "run")
        writes = self.subcommand == "fit" and not config.get("fast_dev_run")
        folder = self.folder if writes else None
        text = self._config_text()
        own: list[Any] = [TaskBoundary(folder, text), AccuracyMatrix(), RunRecord(folder, text)]
        if config.get("enable_progress_bar") is not False:
            own.insert(0, SequenceProgress())  # shows what the boundary does at the start
        if folder is not None:
            own.append(StepCheckpoint(folder))
        config["callbacks"] = own + _as_list(config.get("callbacks"))
        check_callbacks(config["callbacks"])
        config["plugins"] = [*_as_list(config.get("plugins")), AtomicCheckpointIO()]
        config["default_root_dir"] = str(self.folder.path)
        config["enable_checkpointing"] = writes
        given = [logger for logger in _as_list(config.get("logger")) if not isinstance(logger, bool)]
        config["logger"] = [MetricsCSV(str(self.folder.path)), *given] if writes else given or False
        try:
            trainer = super().instantiate_trainer(**{**config, **kwargs})
        except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"The trainer's settings do not go together: {reason}") from error
        check_trainer(trainer)
        return trainer

    # --- fit ----------------------------------------------------------------------------------------------------------

    def before_fit(self) -> None:
        """Show a finished run instead of repeating it; go on with an unfinished one only if asked to."""
        config = self.config_init[self.subcommand]
        if config.get("ckpt_path") not in (None, "last"):
            config["ckpt_path"] = str(path_of(config.ckpt_path))
            self._check_checkpoint(Path(config.ckpt_path))
        results = None if self.trainer.fast_dev_run else self.folder.read_results()
        if results is not None:
            self._check_difference(results)
            if results["complete"]:
                self._show(results)
                raise SystemExit(0)
        is_begun = results is not None or self.folder.last_checkpoint.exists()
        if is_begun and not config.get("ckpt_path") and not self.trainer.fast_dev_run:
            raise InputError(
                f"{self.folder.path} holds an unfinished run: continue it with --ckpt_path last, choose another"
                " --run.name, or delete the folder."
            )
        if config.get("ckpt_path") == "last":
            config["ckpt_path"] = self._last_checkpoint(results)

    def after_fit(self) -> None:
        if self.trainer.fast_dev_run:
            return
        boundary = callback_of(self.trainer, TaskBoundary)
        if boundary.finished < self.datamodule.num_tasks - 1:
            raise InputError(
                f"The run was stopped at step {self.trainer.global_step}, after {boundary.finished + 1} of"
                f" {self.datamodule.num_tasks} tasks: go on with --ckpt_path last."
            )
        if self.trainer.is_global_zero:
            plain_console().print(f"Results: {self.folder.path}", soft_wrap=True)

    def _last_checkpoint(self, results: dict[str, Any] | None) -> str | None:
        """The checkpoint to go on from; none if the run was stopped before the first one."""
        if self.folder.last_checkpoint.is_file():
            self._check_checkpoint(self.folder.last_checkpoint)
            return str(self.folder.last_checkpoint)
        if results is not None and results["R"]:
            raise InputError(f"{self.folder.last_checkpoint} is missing: restore it, or delete {self.folder.path}.")
        return None

    def _check_difference(self, results: dict[str, Any]) -> None:
        """Raise an ``InputError`` if the run in the folder is not the one asked for."""
        differing = difference(self.folder.read_config(), yaml.safe_load(self._config_text()))
        if differing is not None:
            raise self._other_run(differing)
        self.datamodule.prepare_data()
        self.datamodule.setup("validate")
        before, now = results["protocol"], protocol(self.datamodule, self.model.clip)
        if before["id"] != now["id"]:
            raise self._other_run("protocol (its data, prompts or starting weights have changed)")
        if task := first_changed_task(before.get("file_sizes", {}), now["file_sizes"]):
            raise self._other_run(f"content of the images of task '{task}' (files of the same names have other sizes)")

    def _check_checkpoint(self, file: Path) -> None:
        """Raise an ``InputError`` unless the file is a checkpoint of the run asked for, as far as it tells."""
        text = config_in(read_checkpoint(file, lazy=True), file)
        differing = difference(yaml.safe_load(text), yaml.safe_load(self._config_text())) if text else None
        if differing is not None:
            raise InputError(
                f"Checkpoint {file} is of a run with another {differing}: resume with the config of that run, or start"
                f" anew without --ckpt_path{hint(differing)}."
            )

    def _other_run(self, differing: str) -> InputError:
        return InputError(
            f"{self.folder.path} holds a run with another {differing}: choose another --run.name, or delete the"
            f" folder{hint(differing)}."
        )

    def _show(self, results: dict[str, Any]) -> None:
        if self.trainer.is_global_zero:
            console = plain_console()
            console.print(accuracy_table(results))
            console.print(f"This run is complete: {self.folder.path}", soft_wrap=True)

    def _config_text(self) -> str:
        """The whole config of this command as YAML, less what only says how the command was typed."""
        config = self.config[self.subcommand].clone()
        for key in ("config", "base", "variables", "ckpt_path"):
            config.pop(key, None)
        return with_references(self._parser(self.subcommand).dump(config, skip_validation=True), self.parser.references)

    # --- test ---------------------------------------------------------------------------------------------------------

    def _place_weights(self) -> None:
        """Let the model start from the weights to evaluate; or keep for it what else it needs to predict."""
        config, self.knowledge = self.config["test"], dict[str, Tensor]()
        path, folder = config.weights or config.ckpt_path, RunFolder(**config.run)
        if config.weights and config.ckpt_path:
            raise InputError("--weights and --ckpt_path both name what to evaluate: give one of them.")
        if not path:
            return
        file = folder.last_checkpoint if path == "last" else path_of(path)
        if file.name == folder.knowledge.name:
            self.knowledge = load_tensors(file)
        else:
            content = read_file(file)
            self.knowledge = content.get("knowledge", {}) if isinstance(content, dict) else {}
        if not self.knowledge:  # else the CLIP is the one with which the run began
            config.model.init_args.clip.weights = str(file)
        config.ckpt_path = None

    def before_test(self) -> None:
        if self.knowledge:
            self.model.load_knowledge(self.knowledge)

    def test(self, **kwargs: Any) -> None:
        self.trainer.test(**kwargs, verbose=False)  # the table comes from after_test

    def after_test(self) -> None:
        if self.trainer.is_global_zero:
            sequence, row = self.datamodule, callback_of(self.trainer, AccuracyMatrix).rows[-1]
            sizes = [len(task.test_set) for task in sequence.tasks] if sequence.label_space == "seen" else None
            plain_console().print(row_table(sequence.names, row, metrics.last([row], sizes)))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
