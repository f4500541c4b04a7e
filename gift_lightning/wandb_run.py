"""A run on Weights & Biases: what the run folder has, to look at while it grows."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from gift_lightning.report.replay_grid import spread
from gift_lightning.report.words import metrics_of

_IMAGES = 32


class WandbRun(WandbLogger):
    """One W&B run for one sequence, also if the sequence is resumed.

    Losses are drawn against the optimiser step, ``cl/...`` (Transfer, Avg, Last, the accuracy on each task) against the
    number of learned tasks, ``cl/task``. The accuracy matrix comes as a table and as a picture, replayed images with
    their prompts; the summary has the final figures under the papers' names.

    Args:
        save_dir: the run's folder. Without an account of W&B everything stays in it, for ``wandb sync`` later.
        project: where the run is listed.
        name: what the run is called.
        entity: user or team; the account's own if not given.
        group: under which runs are gathered, the seeds of a method for instance.
        tags: labels.
        offline: stay offline in any case. ``WANDB_MODE``, if it is set, decides.
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
        super().__init__(name=name, save_dir=save_dir, project=project, entity=entity, group=group, tags=tags)
        self._wandb_init.pop("anonymous")  # W&B warns of it, whatever its value
        self._stay_offline = offline

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of the W&B library, started when it is first asked for."""
        if self._experiment is None:
            folder = Path(str(self.save_dir))
            folder.mkdir(parents=True, exist_ok=True)
            self._wandb_init |= {"id": _earlier_id(folder), "mode": self._mode()}
            run: Any = super().experiment
            run.define_metric("cl/task")
            run.define_metric("cl/*", step_metric="cl/task")
        return super().experiment

    def _mode(self) -> str | None:
        import wandb

        if os.environ.get("WANDB_MODE"):
            return None
        return "offline" if self._stay_offline or not wandb.login(prompt=False) else "online"

    @rank_zero_only
    def log_results(self, results: Mapping[str, Any], picture: Path) -> None:
        """Show the accuracy matrix.

        Args:
            results: content of ``results.json``.
            picture: the file ``accuracy_matrix.png``.
        """
        import wandb

        rows = [["zero-shot", results["zero_shot"]], *zip(results["tasks"], results["R"], strict=False)]
        table = wandb.Table(columns=["after", *results["tasks"]], data=[[name, *row] for name, row in rows])
        shown = {"cl/accuracy_matrix": table, "cl/heatmap": wandb.Image(str(picture))}
        self.experiment.log({"cl/task": len(results["R"]), **shown})
        figures = {name.capitalize(): metrics_of(results)[name] for name in ("transfer", "avg", "last")}
        self.experiment.summary.update(figures)

    @rank_zero_only
    def log_replay(self, pairs: Any, prompts: Sequence[str], task: int) -> None:
        """Show some of the replayed images of ``task``.

        Args:
            pairs: map-style set of ``(PIL image, index into prompts)``.
            prompts: the distinct prompts of the set.
            task: its number, from 0.
        """
        import wandb

        chosen = [pairs[index] for index in spread(len(pairs), _IMAGES)]
        images = [wandb.Image(image, caption=prompts[prompt]) for image, prompt in chosen]
        self.experiment.log({"cl/task": task + 1, "cl/replay": images})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None


def _earlier_id(folder: Path) -> str | None:
    """The id of the run that W&B began in this folder; it is the end of the name of the folder it made."""
    begun = sorted(path.name.removeprefix("offline-") for path in (folder / "wandb").glob("*run-*-*") if path.is_dir())
    return begun[-1].rpartition("-")[2] if begun else None
