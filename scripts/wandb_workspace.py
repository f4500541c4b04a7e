"""A saved view of a W&B project with the charts of continual learning, by W&B's own API.

    pip install wandb-workspaces
    python scripts/wandb_workspace.py ENTITY PROJECT runs/gift

The run names the tasks and the terms of the loss; the view shows all runs of the project that have them.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MEANS = ("transfer", "avg", "last")


def workspace(entity: str, project: str, tasks: Sequence[str], losses: Sequence[str]) -> Any:
    """The view, not saved yet: forgetting, methods, losses, pictures.

    Args:
        entity: user or team of the project.
        project: its name.
        tasks: in the order of learning.
        losses: names of logged terms of the loss, as ``loss/task``.

    Raises:
        ImportError: the package wandb-workspaces is missing.
    """
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

    # W&B reads an asterisk as a pattern: names are logged with a character that looks like it
    accuracies = [f"cl/accuracy/{task}".replace("*", "∗") for task in tasks]
    final = {name: reports.SummaryMetric(name.capitalize()) for name in MEANS}
    sections = {
        "Forgetting": [
            *(reports.LinePlot(title=name.removeprefix("cl/"), x="cl/task", y=[name]) for name in accuracies),
            reports.LinePlot(title="accuracy of every task", x="cl/task", y=accuracies),
        ],
        "Transfer, Avg, Last": [
            *(reports.LinePlot(title=name.capitalize(), x="cl/task", y=[f"cl/{name}"]) for name in MEANS),
            reports.ScatterPlot(title="Transfer against Last", x=final["last"], y=final["transfer"]),
        ],
        "Losses": [reports.LinePlot(title=name, x="trainer/global_step", y=[name]) for name in losses],
        "Pictures": [reports.MediaBrowser(media_keys=[name]) for name in ("cl/heatmap", "cl/replay")],
    }
    parts = [workspaces.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items() if panels]
    return workspaces.Workspace(entity=entity, project=project, name="Continual learning", sections=parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Build the view of a project and save it with W&B."""
    parser = argparse.ArgumentParser(description="Save a view of a W&B project with the charts of continual learning.")
    parser.add_argument("entity", help="user or team")
    parser.add_argument("project")
    parser.add_argument("run", type=Path, help="folder of a run of this project")
    arguments = parser.parse_args(argv)
    try:
        tasks = json.loads((arguments.run / "results.json").read_text(encoding="utf-8"))["tasks"]
        with open(arguments.run / "metrics.csv", encoding="utf-8") as file:
            losses = [name for name in next(csv.reader(file), []) if name.startswith(("loss/", "distillation/"))]
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"error: {arguments.run} is no folder of a run: {error}")
    try:
        view = workspace(arguments.entity, arguments.project, tasks, losses)
    except ImportError:
        sys.exit("error: the package wandb-workspaces is missing: pip install wandb-workspaces.")
    view.save()  # says where it is


if __name__ == "__main__":
    main()
