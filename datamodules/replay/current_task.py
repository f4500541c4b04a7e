"""The task itself as a second source of images."""

from datamodules.base import Replay


class CurrentTask(Replay):
    """Training images of the current task as in testing, in an order of their own, and its class prompts.

    What LwF distils on: nothing of the past is kept.

    Args:
        batch_size: images in one optimiser step, over all devices and accumulated batches.
    """

    def __init__(self, batch_size: int = 64) -> None:
        super().__init__(batch_size)

    def prepare_task(self, task: int) -> None:
        self.texts = self.sequence.tasks[task].training_prompts()
        self.pairs = self.sequence.train_set(task)
