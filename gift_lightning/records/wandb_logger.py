"""A run on Weights & Biases: the content of the run folder, during the run."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from gift_lightning.console import warn
from gift_lightning.errors import InputError, first_line
from gift_lightning.files import path_of, write_text
from gift_lightning.numerics import metrics as numbers
from gift_lightning.records.report.classes import ClassAccuracy, class_report, has_predictions
from gift_lightning.records.report.replay_grid import spread
from gift_lightning.records.report.words import metrics_of, row_weights
from gift_lightning.records.sequence_logger import SequenceLogger

_AXIS = "cl/task"
_FLUSH: dict[str, Any] = {"x_transaction_log_flush_interval": 0.1}  # seconds of rows that SIGKILL loses; else 15
_IMAGES = 32
_MEANS = ("transfer", "avg", "last")
_CHARTS = ("cl/curves", "cl/averages")


class SequenceWandbLogger(SequenceLogger, WandbLogger):
    """One W&B run for one sequence, also if the sequence is resumed.

    Losses are drawn against the optimiser step, ``cl/...`` (Transfer, Avg, Last, the accuracy on each task) against the
    number of learned tasks, ``cl/task``. The accuracy matrix is logged as a table, as a picture and as charts of lines,
    replayed images with their texts, of a run with predictions a table of classes; the summary has the final figures
    under the papers' names. Rows of W&B that a resumed run repeats have the numbers and the values that they had: each
    checkpoint holds the number of the next row, and a row that W&B's server has is not sent again.

    Args:
        save_dir: the run's folder. Without an account of W&B everything stays in it, for ``wandb sync`` later.
        project: of the run.
        name: of the run.
        entity: user or team; the account's default if not given.
        group: of runs that belong together, the seeds of a method for instance.
        tags: labels.
        offline: stay offline in spite of an account. The environment variable ``WANDB_MODE`` has priority.
    """

    def __init__(
        self,
        save_dir: str,
        project: str = "gift-lightning",
        name: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        offline: bool = False,
    ) -> None:
        super().__init__(
            name=name, save_dir=str(path_of(save_dir)), project=project, entity=entity, group=group, tags=tags
        )
        self._wandb_init.pop("anonymous", None)  # W&B warns of it, whatever its value
        self._stay_offline = offline
        self._on_task_axis: set[str] = set()
        self._repeated: int | None = None  # number of the next row, until it is one that W&B does not have

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of the W&B library, started at the first access.

        Raises:
            InputError: W&B cannot start it: no network, a wrong key, a run that was deleted.
        """
        if self._experiment is None:
            import wandb

            try:
                self._wandb_init |= {"id": _run_id(Path(str(self.save_dir))), "mode": self._mode()}
                if _FLUSH.keys() <= wandb.Settings.model_fields.keys():  # its versions may drop it
                    self._wandb_init["settings"] = wandb.Settings(**_FLUSH)
                super().experiment.define_metric(_AXIS)
            except (wandb.errors.Error, OSError) as error:
                raise InputError(
                    f"W&B cannot start the run: {first_line(error)[:-1]}; set WANDB_MODE=offline, or log in."
                ) from error
        return super().experiment

    def _mode(self) -> str | None:
        import wandb

        if os.environ.get("WANDB_MODE"):
            return None
        return "offline" if self._stay_offline or not wandb.login(prompt=False, verify=False) else "online"

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        # W&B reads an asterisk as a pattern; this character looks like it
        values: dict[str, Any] = {name.replace("*", "∗"): value for name, value in metrics.items()}
        self._put_on_task_axis(values)
        self._log(values if step is None else {**values, "trainer/global_step": step})

    @rank_zero_only
    def begin(self, position: int | None) -> None:
        self._repeated = position

    @rank_zero_only
    def position(self) -> int | None:
        if self.experiment.disabled:  # by WANDB_MODE: it counts no rows
            return None
        return int(self.experiment.step) if self._repeated is None else self._repeated

    @rank_zero_only
    def log_results(self, results: Mapping[str, Any], picture: Path, step: int) -> None:
        import wandb

        rows = [["zero-shot", results["zero_shot"]], *zip(results["tasks"], results["R"], strict=False)]
        table = wandb.Table(columns=["after", *results["tasks"]], data=[[name, *row] for name, row in rows])
        pictures: dict[str, Any] = {"cl/accuracy_matrix": table, "cl/heatmap": wandb.Image(str(picture))}
        if has_predictions(picture.parent, results):
            try:
                classes = class_report("", picture.parent, results).classes
            except InputError as error:  # no reason to end a run
                warn(f"W&B has no table of classes: {error}")
            else:
                heads = (name.replace("_", "-") for name in ClassAccuracy._fields)
                pictures["cl/classes"] = wandb.Table(columns=[*heads], data=[[*row] for row in classes])
        self._log_task(len(results["R"]), pictures | _charts(results), step)
        figures = {name.capitalize(): metrics_of(results)[name] for name in _MEANS}
        self.experiment.summary.update(figures)

    @rank_zero_only
    def log_replay(self, pairs: Any, texts: Sequence[str], task: int, step: int) -> None:
        import wandb

        chosen = [pairs[index] for index in spread(len(pairs), _IMAGES)]
        images = [wandb.Image(image, caption=texts[text] if text >= 0 else None) for image, text in chosen]
        self._log_task(task + 1, {"cl/replay": images}, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None
            self._on_task_axis.clear()

    def _log_task(self, learned: int, values: dict[str, Any], step: int) -> None:
        # the table of a chart is logged under a name of its own
        self._put_on_task_axis({**values, **{f"{name}_table": None for name in values if name in _CHARTS}})
        self._log({_AXIS: learned, "trainer/global_step": step, **values})

    def _log(self, values: dict[str, Any]) -> None:
        run = self.experiment
        if self._repeated is None:
            run.log(values)
        elif self._repeated < run.starting_step:  # of a run that goes on online, W&B has the rows before
            self._repeated += 1
        else:  # offline, each process would begin with row 0
            run.log(values, step=self._repeated, commit=True)
            self._repeated = None

    def _put_on_task_axis(self, names: Mapping[str, Any]) -> None:
        # name by name: of two matching patterns W&B takes any, and Lightning has defined "*" for the steps
        for name in sorted(names.keys() - self._on_task_axis - {_AXIS}):
            if name.startswith("cl/"):
                self.experiment.define_metric(name, step_metric=_AXIS)
                self._on_task_axis.add(name)


def _charts(results: Mapping[str, Any]) -> dict[str, Any]:
    """W&B's charts of the matrix so far, whole, so that a resumed run draws the same: a line for each task or mean."""
    import wandb

    rows, weights = results["R"], row_weights(results)
    steps = range(1, 1 + len(rows))
    with_zero_shot = [results["zero_shot"], *rows]
    means = [numbers.summary(rows[:step], weights) for step in steps]
    curves, averages = (
        [(task, list(enumerate(column))) for task, *column in zip(results["tasks"], *with_zero_shot, strict=True)],
        [(name.capitalize(), [(step, mean[name]) for step, mean in zip(steps, means, strict=True)]) for name in _MEANS],
    )
    titles = ("Accuracy of every task (%)", "Transfer, Avg, Last (%)")
    return {
        chart: wandb.plot.line_series(
            xs=[[step for step, value in line if value is not None] for _, line in lines],
            ys=[[value for _, value in line if value is not None] for _, line in lines],
            keys=[key for key, _ in lines],
            title=title,
            xname="learned tasks",
        )
        for chart, title, lines in zip(_CHARTS, titles, (curves, averages), strict=True)
    }


def _run_id(folder: Path) -> str:
    """The id of the W&B run of this folder, stored in its file ``wandb_id``.

    Raises:
        InputError: this file is damaged: another id would be another run.
    """
    file = folder / "wandb_id"
    if not file.is_file():
        write_text(file, os.environ.get("WANDB_RUN_ID") or uuid4().hex[:8])
    run_id = file.read_bytes().decode(errors="replace").strip()
    if not re.fullmatch(r"[\w.-]{1,128}", run_id, re.ASCII):
        raise InputError(f"{file} is damaged, for it holds no id of a W&B run: restore it, or delete it.")
    return run_id
