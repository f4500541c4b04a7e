"""Where samples come from: tasks, and the sequence that feeds them to the trainer one after the other."""

from datamodules.base import Task
from datamodules.image_folder import ImageFolderTask
from datamodules.replay.current_task import CurrentTask
from datamodules.replay.exemplar_memory import ExemplarMemory
from datamodules.replay.reference import Reference
from datamodules.replay.synthetic import SyntheticReplay
from datamodules.sequence import TaskSequence

__all__ = [
    "CurrentTask",
    "ExemplarMemory",
    "ImageFolderTask",
    "Reference",
    "SyntheticReplay",
    "Task",
    "TaskSequence",
]
