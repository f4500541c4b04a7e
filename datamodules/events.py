"""The events of a sequence, as its datamodule and its method hear them."""


class TaskEvents:
    """What the datamodule and the method are called for at the boundaries of tasks; every default does nothing.

    ``callbacks.TaskBoundary`` sends each event to the datamodule, then to the method, then to the callbacks, on every
    rank. Tasks count from 0. The order:

    * before the first task: ``on_sequence_start``
    * start of a task: ``prepare_task`` of the datamodule, ``on_task_start`` of all, a new optimiser and schedule,
      ``prepare_task`` of the method and the callbacks
    * resume into a task: ``prepare_task`` of all
    * end of a task: ``on_task_trained``, ``on_task_end``, ``on_task_evaluate``, ``on_task_report``; after them weights
      and checkpoint are written
    * after the last task: ``on_sequence_end``
    """

    def on_sequence_start(self) -> None:
        """Once, before the first task; not on a resume."""

    def on_sequence_end(self) -> None:
        """After all files of the last task are written; again when a finished run is resumed."""

    def on_task_start(self, task: int) -> None:
        """Before the first step of ``task``; may change weights in place. Not on a resume into the task."""

    def prepare_task(self, task: int) -> None:
        """Before the first step of ``task`` and on every resume into it; must change no weights."""

    def on_task_trained(self, task: int) -> None:
        """After the last step of ``task``, before any ``on_task_end``; may change weights in place."""

    def on_task_end(self, task: int) -> None:
        """After ``on_task_trained`` of all, before evaluation; may change weights in place."""

    def on_task_evaluate(self, task: int) -> None:
        """Evaluate the model in its state after ``task``."""

    def on_task_report(self, task: int) -> None:
        """Write the results after ``task``."""
