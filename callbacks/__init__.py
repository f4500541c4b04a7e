"""Events at the boundaries of tasks, and the work of a run there."""

from callbacks.accuracy_matrix import AccuracyMatrix
from callbacks.exemplar_selection import ExemplarSelection
from callbacks.fisher_estimate import FisherEstimate, FisherShares
from callbacks.held_out_pairs import HeldOutPairs
from callbacks.prototypes import Prototypes
from callbacks.run_record import RunRecord
from callbacks.run_time import RunTime
from callbacks.selector_training import SelectorTraining
from callbacks.sequence_progress import SequenceProgress
from callbacks.step_checkpoint import StepCheckpoint
from callbacks.task_boundary import TaskBoundary
from callbacks.task_callback import TaskCallback
from callbacks.teacher_snapshot import TeacherSnapshot
from callbacks.weight_average import WeightAverage

__all__ = [
    "AccuracyMatrix",
    "ExemplarSelection",
    "FisherEstimate",
    "FisherShares",
    "HeldOutPairs",
    "Prototypes",
    "RunRecord",
    "RunTime",
    "SelectorTraining",
    "SequenceProgress",
    "StepCheckpoint",
    "TaskBoundary",
    "TaskCallback",
    "TeacherSnapshot",
    "WeightAverage",
]
