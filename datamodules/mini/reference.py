"""Reference images and captions of the general world."""

from PIL import Image

from datamodules.base import Replay
from datamodules.mini.world import stream
from gift_lightning.errors import InputError
from gift_lightning.seeding import stream_seed


class GeneralReference(Replay):
    """Captioned pictures of the general world, from the distribution of the small CLIP's pre-training.

    No picture of the pre-training is among them, and they are the same in every task. ZSCL distils on them.

    Args:
        size: number of pictures.
        batch_size: pictures in one optimiser step, over all devices and accumulated batches.

    Raises:
        InputError: ``size`` or ``batch_size`` is below 1.
    """

    def __init__(self, size: int = 1000, batch_size: int = 64) -> None:
        super().__init__(batch_size)
        if size < 1:
            raise InputError(f"`data.replay.size` is {size}: give at least 1.")
        self.size = size

    def prepare_task(self, task: int) -> None:
        if hasattr(self, "texts"):
            return
        images, captions = stream(self.size, stream_seed(self.sequence.seed, "reference"))
        self.texts = list(dict.fromkeys(captions))
        numbers = {caption: number for number, caption in enumerate(self.texts)}
        pictures = [Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()) for image in images]
        self.pairs = [(picture, numbers[caption]) for picture, caption in zip(pictures, captions, strict=True)]  # type: ignore[assignment]
