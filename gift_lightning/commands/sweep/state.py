"""Where the trials of a sweep stand, by their folders alone."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml

from gift_lightning.commands.sweep.file import Sweep
from gift_lightning.commands.sweep.trials import Trial
from gift_lightning.errors import InputError
from gift_lightning.runs.parser import config_of
from gift_lightning.runs.same_run import difference


class Checked(NamedTuple):
    """A trial whose settings are those of a run.

    Attributes:
        trial: it.
        validates: whether its config asks for validation images.
    """

    trial: Trial
    validates: bool


def check(sweep: Sweep, trials: Sequence[Trial]) -> list[Checked]:
    """Compare trials with what is in their folders, before hours of work.

    Raises:
        InputError: a trial is no run, or its folder holds a run with other settings.
    """
    return [_check(sweep, trial) for trial in trials]


def _check(sweep: Sweep, trial: Trial) -> Checked:
    try:
        config = yaml.safe_load(config_of(sweep.words(trial)))
    except InputError as error:
        raise InputError(f"{sweep.file}, trial {trial.name}: {error}") from error
    run = sweep.run(trial)
    if run.config.is_file() and (differing := difference(run.read_config(), config)) is not None:
        raise InputError(
            f"{run.path} holds a run with another {differing}: give the sweep another name, or delete that folder."
        )
    return Checked(trial, bool(config["data"].get("validation_share")))


def results_of(sweep: Sweep, trial: Trial) -> dict[str, Any] | None:
    """The content of ``results.json`` of a trial that is finished, else ``None``; of a damaged one ``fit`` tells."""
    try:
        results = sweep.run(trial).read_results()
    except InputError:
        return None
    return results if results is not None and results["complete"] else None
