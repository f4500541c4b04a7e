"""What happens at a task boundary."""

from callbacks.accuracy_matrix import AccuracyMatrix
from callbacks.fisher_estimate import FisherEstimate
from callbacks.run_record import RunRecord
from callbacks.sequence_progress import SequenceProgress
from callbacks.step_checkpoint import StepCheckpoint
from callbacks.task_boundary import TaskBoundary
from callbacks.teacher_snapshot import TeacherSnapshot

__all__ = [
    "AccuracyMatrix",
    "FisherEstimate",
    "RunRecord",
    "SequenceProgress",
    "StepCheckpoint",
    "TaskBoundary",
    "TeacherSnapshot",
]
