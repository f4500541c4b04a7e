"""Where the trials of a sweep stand, by their folders alone."""

from collections.abc import Sequence
from typing import Any

import yaml

from gift_lightning.commands.sweep.file import Sweep
from gift_lightning.commands.sweep.trials import Trial
from gift_lightning.errors import InputError
from gift_lightning.files import write_text
from gift_lightning.runs.parser import config_of
from gift_lightning.runs.same_run import difference


def check(sweep: Sweep, trials: Sequence[Trial]) -> bool:
    """Compare trials with what is in their folders, before hours of work, and write the configs by which they run.

    Returns:
        whether all of them have validation images.

    Raises:
        InputError: a trial is no run, or its folder holds a run with other settings; or a config cannot be written.
    """
    checked = [(trial, *_checked(sweep, trial)) for trial in trials]
    for trial, text, _ in checked:
        if results_of(sweep, trial) is None:
            write_text(sweep.config(trial), text)
    return all(validates for *_, validates in checked)


def _checked(sweep: Sweep, trial: Trial) -> tuple[str, bool]:
    """The config of a trial, and whether it asks for validation images."""
    try:
        text = config_of(sweep.words(trial))
    except InputError as error:
        raise InputError(f"{sweep.file}, trial {trial.name}: {error}") from error
    config, run = yaml.safe_load(text), sweep.run(trial)
    if run.config.is_file() and (differing := difference(run.read_config(), config)) is not None:
        raise InputError(
            f"{run.path} holds a run with another {differing}: give the sweep another name, or delete that folder."
        )
    return text, bool(config["data"].get("validation_share"))


def results_of(sweep: Sweep, trial: Trial) -> dict[str, Any] | None:
    """The content of ``results.json`` of a trial that is finished, else ``None``; of a damaged one ``fit`` tells."""
    try:
        results = sweep.run(trial).read_results()
    except InputError:
        return None
    return results if results is not None and results["complete"] else None
