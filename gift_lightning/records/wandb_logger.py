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

from gift_lightning.errors import InputError, first_line
from gift_lightning.files import path_of, write_text
from gift_lightning.records.report.replay_grid import spread
from gift_lightning.records.report.words import metrics_of

_AXIS = "cl/task"
_IMAGES = 32


class SequenceWandbLogger(WandbLogger):
    """One W&B run for one sequence, also if the sequence is resumed.

    Losses are drawn against the optimiser step, ``cl/...`` (Transfer, Avg, Last, the accuracy on each task) against the
    number of learned tasks, ``cl/task``. The accuracy matrix is logged as a table and as a picture, replayed images
    with their texts; the summary has the final figures under the papers' names. Steps that a resumed run repeats are
    logged again, with the same values.

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
        metrics = {name.replace("*", "∗"): value for name, value in metrics.items()}
        self._put_on_task_axis(metrics)
        super().log_metrics(metrics, step)

    @rank_zero_only
    def log_results(self, results: Mapping[str, Any], picture: Path) -> None:
        """Log the accuracy matrix.

        Args:
            results: content of ``results.json``.
            picture: the file ``accuracy_matrix.png``.
        """
        import wandb

        rows = [["zero-shot", results["zero_shot"]], *zip(results["tasks"], results["R"], strict=False)]
        table = wandb.Table(columns=["after", *results["tasks"]], data=[[name, *row] for name, row in rows])
        self._log_task(len(results["R"]), {"cl/accuracy_matrix": table, "cl/heatmap": wandb.Image(str(picture))})
        figures = {name.capitalize(): metrics_of(results)[name] for name in ("transfer", "avg", "last")}
        self.experiment.summary.update(figures)

    @rank_zero_only
    def log_replay(self, pairs: Any, texts: Sequence[str], task: int) -> None:
        """Log some of the replayed images of ``task``.

        Args:
            pairs: map-style set of ``(PIL image, index into texts, or -1)``.
            texts: the distinct texts of the set.
            task: its number, from 0.
        """
        import wandb

        chosen = [pairs[index] for index in spread(len(pairs), _IMAGES)]
        images = [wandb.Image(image, caption=texts[text] if text >= 0 else None) for image, text in chosen]
        self._log_task(task + 1, {"cl/replay": images})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None
            self._on_task_axis.clear()

    def _log_task(self, learned: int, values: dict[str, Any]) -> None:
        self._put_on_task_axis(values)
        self.experiment.log({_AXIS: learned, **values})

    def _put_on_task_axis(self, names: Mapping[str, Any]) -> None:
        # name by name: of two matching patterns W&B takes any, and Lightning has defined "*" for the steps
        for name in sorted(names.keys() - self._on_task_axis - {_AXIS}):
            if name.startswith("cl/"):
                self.experiment.define_metric(name, step_metric=_AXIS)
                self._on_task_axis.add(name)


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
