"""Pictures in memory as a map-style data set."""

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset


class Pictures(Dataset[tuple[Image.Image, int]]):
    """Labelled pictures as ``(PIL image in RGB, label)`` pairs.

    Args:
        images: uint8 ``[N, 3, H, W]``.
        labels: of the N pictures.

    Raises:
        ValueError: the numbers of pictures and labels differ.
    """

    def __init__(self, images: Tensor, labels: list[int]) -> None:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} pictures but {len(labels)} labels")
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), self.labels[index]
