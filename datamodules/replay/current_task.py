"""The images of the current task as replay."""

from datamodules.base import Replay


class CurrentTask(Replay):
    """Training images of the current task with the test transform, in another order, and its class prompts.

    LwF distils on them: it needs no data of earlier tasks.

    Args:
        batch_size: images in one optimiser step, over all devices and accumulated batches.
    """

    def __init__(self, batch_size: int = 64) -> None:
        super().__init__(batch_size)

    def prepare_task(self, task: int) -> None:
        self.texts = self.sequence.tasks[task].training_prompts()
        self.pairs = self.sequence.train_set(task)
