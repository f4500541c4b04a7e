"""The eleven data sets of MTIL, and Tiny ImageNet."""

from datamodules.mtil.arrays import CIFAR100, MNIST
from datamodules.mtil.folders import SUN397, Caltech101, EuroSAT, TinyImageNet
from datamodules.mtil.label_files import DTD, Aircraft, Flowers, Food, OxfordPet, StanfordCars

__all__ = [
    "CIFAR100",
    "DTD",
    "MNIST",
    "SUN397",
    "Aircraft",
    "Caltech101",
    "EuroSAT",
    "Flowers",
    "Food",
    "OxfordPet",
    "StanfordCars",
    "TinyImageNet",
]
