"""Where samples come from: tasks, and the sequence that feeds them to the trainer one after the other."""

from datamodules.base import Task
from datamodules.class_incremental import ClassIncremental
from datamodules.image_folder import ImageFolderTask
from datamodules.mtil import (
    CIFAR100,
    DTD,
    MNIST,
    SUN397,
    Aircraft,
    Caltech101,
    EuroSAT,
    Flowers,
    Food,
    OxfordPet,
    StanfordCars,
    TinyImageNet,
)
from datamodules.replay.current_task import CurrentTask
from datamodules.replay.diffusion import DiffusionGenerator
from datamodules.replay.exemplar_memory import ExemplarMemory
from datamodules.replay.generator import ImageGenerator
from datamodules.replay.reference import Reference
from datamodules.replay.synthetic import SyntheticReplay
from datamodules.sequence import TaskSequence
from gift_lightning.sources import Inspection

__all__ = [
    "CIFAR100",
    "DTD",
    "MNIST",
    "SUN397",
    "Aircraft",
    "Caltech101",
    "ClassIncremental",
    "CurrentTask",
    "DiffusionGenerator",
    "EuroSAT",
    "ExemplarMemory",
    "Flowers",
    "Food",
    "ImageFolderTask",
    "ImageGenerator",
    "Inspection",
    "OxfordPet",
    "Reference",
    "StanfordCars",
    "SyntheticReplay",
    "Task",
    "TaskSequence",
    "TinyImageNet",
]
