"""Data sets whose images lie in a few large files."""

import math
import os
from pathlib import Path

from torchvision import datasets
from torchvision.datasets.utils import check_md5

from datamodules.images.sets import ArrayImages
from datamodules.mtil.checks import DataError
from datamodules.mtil.task import Contents, MTILTask


class CIFAR100(MTILTask):
    """CIFAR-100: 100 classes of images of 32 x 32 pixels."""

    name = "CIFAR100"
    folder = "cifar-100-python"
    markers = ("meta", "train", "test")

    def _contents(self) -> Contents:
        dataset, root = datasets.CIFAR100, os.fspath(self._root)
        for file, md5 in (*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])):
            _check_file(self.where / file)
            if not check_md5(self.where / file, md5):
                raise DataError("incomplete", f"{self.where / file} is damaged: unpack its archive again.")
        train, test = dataset(root, train=True), dataset(root, train=False)
        return Contents(
            train.classes,
            ArrayImages(train.data, train.targets, "train"),
            ArrayImages(test.data, test.targets, "test"),
        )


class MNIST(MTILTask):
    """MNIST: ten handwritten digits, 28 x 28 pixels in shades of gray."""

    name = "MNIST"
    folder = "MNIST/raw"
    markers = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
    lookalikes = ("FashionMNIST", "KMNIST", "EMNIST", "QMNIST")

    def _contents(self) -> Contents:
        for split, count in (("train", self.facts.train), ("t10k", self.facts.test)):
            _check_idx(self.where / f"{split}-images-idx3-ubyte", 3, count)
            _check_idx(self.where / f"{split}-labels-idx1-ubyte", 1, count)
        return Contents(datasets.MNIST.classes, self._digits("train"), self._digits("t10k"))

    def _digits(self, split: str) -> ArrayImages:
        digits = datasets.MNIST(os.fspath(self._root), train=split == "train")
        return ArrayImages(digits.data.numpy(), digits.targets.tolist(), f"{split}-images-idx3-ubyte")


def _check_file(path: Path) -> None:
    if not path.is_file():
        packed = path.with_name(path.name + ".gz")
        remedy = f"unpack {packed.name} beside it" if packed.is_file() else "unpack its archive again"
        raise DataError("incomplete", f"{path} is missing: {remedy}.")


def _check_idx(path: Path, dimensions: int, count: int) -> None:
    """Check that a file of MNIST holds ``count`` images or labels, and has the length that its header gives."""
    _check_file(path)
    first = 4 + 4 * dimensions
    with open(path, "rb") as file:
        head = file.read(first)
        length = file.seek(0, os.SEEK_END)
    sizes = [int.from_bytes(head[place : place + 4], "big") for place in range(4, first, 4)]
    if head[:4] != bytes([0, 0, 8, dimensions]) or sizes[0] != count or length != first + math.prod(sizes):
        raise DataError("incomplete", f"{path} does not hold {count} digits or their labels: unpack its archive again.")
