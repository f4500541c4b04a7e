"""The command line: ``fit``, ``test``, ``generate`` and ``doctor``, from YAML files and flags."""

from functools import partial
from typing import Any, cast

from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from callbacks import AccuracyMatrix
from callbacks.task_callback import callback_of
from datamodules import TaskSequence
from gift_lightning.commands.doctor.command import doctor
from gift_lightning.commands.exit_status import status_of
from gift_lightning.commands.generate import generate
from gift_lightning.commands.overview import COMMANDS, PROGRAM, USAGE
from gift_lightning.config.parsing import MODE, ConfigParser, check_values, install, make, refusals
from gift_lightning.console import plain_console, quiet_libraries
from gift_lightning.errors import InputError
from gift_lightning.methods import ContinualCLIP
from gift_lightning.numerics import metrics
from gift_lightning.records.report import accuracy_table, row_table
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.fit import Run
from gift_lightning.runs.load import weights_to_test
from gift_lightning.runs.parser import add_run_arguments, config_text, parser_errors
from gift_lightning.runs.stopping import stoppable
from gift_lightning.runs.trainer_settings import check_settings, products

AHEAD = ("generate", "doctor")
"""Commands with the config of fit that are no methods of the trainer."""

PARSER = {"prog": PROGRAM, "usage": USAGE, "parser_mode": MODE, "exit_on_error": False, "allow_abbrev": False}
"""Arguments of the parser of all commands."""


def run(argv: list[str], debug: bool = False) -> int:
    """Run one command; returns the exit status, see ``status_of``."""
    quiet_libraries()
    install()
    command = partial(
        SequenceCLI,
        ContinualCLIP,
        TaskSequence,
        subclass_mode_model=True,
        auto_configure_optimizers=False,
        save_config_callback=None,
        parser_class=ConfigParser,
        parser_kwargs=PARSER,
        args=argv,
    )
    return status_of(command, debug)


class SequenceCLI(LightningCLI):
    """``fit`` runs a method through a sequence of tasks, ``test`` evaluates weights on it.

    ``generate`` makes its replay images, ``doctor`` lists what is missing on this machine.
    """

    trainer: Any  # Lightning sets the attributes of its Trainer where a type checker does not see them
    parser: ConfigParser

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        internal = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule", "weights_only"}
        return {"fit": internal, "test": internal | {"verbose"}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._asked: str = kwargs["args"][0]
        super().__init__(*args, **kwargs)

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """The command that is asked for alone: each takes a tenth of a second."""
        self._subcommand_parsers = {self._asked: self._command_parser(self._asked)}
        parser.add_subcommands().add_subcommand(self._asked, self._subcommand_parsers[self._asked])

    def _command_parser(self, name: str) -> LightningArgumentParser:
        options: Any = {"usage": USAGE, "description": COMMANDS[name], "allow_abbrev": False}
        if name not in AHEAD:
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
            text = "Also time the loading of training images beside a training step on the run's device."
            parser.add_argument("--bench", action="store_true", help=text)
        return parser

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        return ConfigParser(**kwargs)

    def _add_arguments(self, parser: LightningArgumentParser) -> None:
        add_run_arguments(cast(ConfigParser, parser))

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        with parser_errors(self._options):
            self.config = parser.parse_args(args)
        if self.config.get("subcommand"):
            check_values(self.config[self.config.subcommand])

    def _options(self) -> list[str]:
        parsers = self._subcommand_parsers.values()
        return [key for parser in parsers for key, _ in parser.get_defaults(skip_validation=True).items()]

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
        settings = {**self._get(self.config_init, "trainer"), **kwargs}
        writes = self.subcommand == "fit" and not settings.get("fast_dev_run")
        command = cast(ConfigParser, self._parser(self.subcommand))
        text = config_text(self.config[self.subcommand], command, self.parser)
        self.run = Run(self._get(self.config_init, "run"), text, writes)
        return self.run.trainer(settings)

    # --- fit ----------------------------------------------------------------------------------------------------------

    def fit(self, model: ContinualCLIP, datamodule: TaskSequence, ckpt_path: str | None) -> None:
        """Show a finished run instead of repeating it; go on with an unfinished one only if asked to."""
        results = self.run.fit(model, datamodule, self.trainer, ckpt_path)
        if not results.is_new:
            self._show(accuracy_table(results.record))
            self._show(f"This run is complete: {results.run}")
        elif self.run.writes:
            self._show(f"Results: {results.run}")

    def _show(self, shown: Any) -> None:
        if self.trainer.is_global_zero:
            plain_console().print(shown, soft_wrap=isinstance(shown, str))

    # --- test ---------------------------------------------------------------------------------------------------------

    def _place_weights(self) -> None:
        """Let the model start from the weights to evaluate, or have its knowledge for ``before_test``."""
        config = self.config["test"]
        self.knowledge: dict[str, Any] = {}
        if config.weights and config.ckpt_path:
            raise InputError("--weights and --ckpt_path both name what to evaluate: give one of them.")
        path = config.weights or config.ckpt_path
        if not path:
            return
        file, self.knowledge = weights_to_test(path, RunFolder(**config.run))
        if not self.knowledge:  # else the CLIP is the one with which the run began
            config.model.init_args.clip.weights = str(file)
        config.ckpt_path = None

    def before_test(self) -> None:
        """Give the method the tensors beside the CLIP that it predicts with."""
        if self.knowledge:
            self.model.load_knowledge(self.knowledge)

    def test(self, **kwargs: Any) -> None:
        """Evaluate, without Lightning's table."""
        with products(self.trainer), stoppable(self.trainer, goes_on=False):
            self.trainer.test(**kwargs, verbose=False)  # the table comes from after_test

    def after_test(self) -> None:
        """Show the accuracies."""
        sequence, row = self.datamodule, cast(list[float], callback_of(self.trainer, AccuracyMatrix).rows[-1])
        sizes = [len(task.test_set) for task in sequence.tasks] if sequence.label_space == "seen" else None
        self._show(row_table(sequence.names, row, metrics.last([row], sizes)))
