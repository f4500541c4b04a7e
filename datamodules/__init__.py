"""Where samples come from: tasks, and the sequence that feeds them to the trainer one after the other."""

from datamodules.base import Task
from datamodules.image_folder import ImageFolderTask
from datamodules.reference import Reference
from datamodules.replay.synthetic import SyntheticReplay
from datamodules.sequence import TaskSequence

__all__ = ["ImageFolderTask", "Reference", "SyntheticReplay", "Task", "TaskSequence"]
