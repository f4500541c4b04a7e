"""A callback with which one run is compared with another at equal weights."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callbacks.task_callback import TaskCallback
from gift_lightning.methods import GIFT


def keep_steps(folder: Path, follow: Path | str = "") -> list[str]:
    """Flags for a run with ``KeepSteps``."""
    return [
        "--trainer.callbacks+=tests.e2e.gradients.KeepSteps",
        f"--trainer.callbacks.folder={folder}",
        f"--trainer.callbacks.follow={follow}",
    ]


class KeepSteps(TaskCallback):
    """Keeps what a run has at the last step of each task, where no part of a loss is zero any more, and after the task.

    ``step<t>.pt`` has the trained ``weights`` before that step, gradients as ``monitored``, before they are clipped,
    the ``gradients`` that the optimiser then used, and for GIFT the ``importances`` of the weights; ``task<t>.pt`` has
    the ``weights`` with which the next task begins.

    Args:
        folder: of these files; rank 0 writes them.
        follow: the folder of another run. Its weights take the place of this run's own, once these are kept: so both
            make the last step of a task from the same weights, and begin the next from the same.
    """

    def __init__(self, folder: str, follow: str = "") -> None:
        self.folder, self.follow = Path(folder), Path(follow) if follow else None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step + 1 == _end(trainer, pl_module):
            self._keep(trainer, f"step{pl_module.task}.pt", {"weights": _copies(_trained(pl_module))})
            self._take_over(pl_module, f"step{pl_module.task}.pt")

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        if isinstance(pl_module, GIFT) and trainer.global_step + 1 == _end(trainer, pl_module):
            importances = pl_module.importance([part.clone() for part in pl_module.replay_gradient])
            kept = {"importances": dict(zip(_trained(pl_module), importances, strict=True))}
            self._keep(trainer, f"step{pl_module.task}.pt", kept)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if trainer.global_step + 1 == _end(trainer, pl_module):
            self._keep(trainer, f"step{pl_module.task}.pt", {"monitored": _gradients(pl_module)})

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step != _end(trainer, pl_module):
            return
        self._keep(trainer, f"step{pl_module.task}.pt", {"gradients": _gradients(pl_module)})

    def on_task_report(self, trainer: Any, module: Any, task: int) -> None:
        self._keep(trainer, f"task{task}.pt", {"weights": _copies(_trained(module))})
        if task + 1 < trainer.datamodule.num_tasks:
            self._take_over(module, f"task{task}.pt")

    def _keep(self, trainer: Any, name: str, values: dict[str, dict[str, Tensor]]) -> None:
        if trainer.is_global_zero:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({**(torch.load(path) if path.is_file() else {}), **values}, path)

    @torch.no_grad()
    def _take_over(self, module: Any, name: str) -> None:
        if self.follow is not None:
            weights = torch.load(self.follow / name)["weights"]
            for own, parameter in _trained(module).items():
                parameter.copy_(weights[own])


def _end(trainer: Any, module: Any) -> int:
    """The global step at which the current task ends."""
    return trainer.datamodule.first_step(module.task + 1)


def _trained(module: Any) -> dict[str, Any]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _gradients(module: Any) -> dict[str, Tensor]:
    return _copies({name: p.grad for name, p in _trained(module).items() if p.grad is not None})


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
