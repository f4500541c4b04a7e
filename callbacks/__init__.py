"""What happens at a task boundary."""

from callbacks.accuracy_matrix import AccuracyMatrix
from callbacks.run_record import RunRecord
from callbacks.sequence_progress import SequenceProgress
from callbacks.step_checkpoint import StepCheckpoint
from callbacks.task_boundary import TaskBoundary

__all__ = ["AccuracyMatrix", "RunRecord", "SequenceProgress", "StepCheckpoint", "TaskBoundary"]
