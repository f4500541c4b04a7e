"""Pictures in memory as a map-style data set."""

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset


class Pictures(Dataset[tuple[Image.Image, int]]):
    """Labelled pictures: uint8 (N, 3, H, W) and N labels, handed out as RGB PIL images."""

    def __init__(self, images: Tensor, labels: list[int]) -> None:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} pictures but {len(labels)} labels")
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), self.labels[index]
