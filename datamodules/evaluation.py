"""The test sets of a run, in shards for its ranks."""

from collections.abc import Callable

from lightning import Trainer

from datamodules.base import Task
from datamodules.faults import ImageFaults
from datamodules.image_cache import cache_bytes, cached_images
from datamodules.images.damage import damaged_paths
from datamodules.images.sets import ImageSet
from datamodules.preprocessing import Preprocessing
from datamodules.shard import TestShard
from gift_lightning.files import path_of


class EvaluationShards:
    """This rank's part of each test set, images ``rank::world_size``, made when it is first asked for.

    The way of a test image: ``Task.test_set`` reads it from disk (``datamodules.images.sets``); ``test_geometry``
    resizes and crops it, once in a run (``TestShard``) or once for all runs with this cache (``cached_images``); the
    method normalises and encodes it in each evaluation (``ContinualCLIP.evaluate``); ``AccuracyMatrix`` counts it.

    Args:
        trainer: of the run.
        preprocessing: of its model.
        cache: folder for decoded test images, which runs share; ``None`` decodes them in each run.
        num_workers: processes that decode, for each rank.
        faults: takes in which images of the cache are damaged.
    """

    def __init__(
        self, trainer: Trainer, preprocessing: Preprocessing, cache: str | None, num_workers: int, faults: ImageFaults
    ) -> None:
        self._trainer, self._preprocessing, self._cache = trainer, preprocessing, cache
        self._num_workers, self._faults = num_workers, faults
        self._shards: dict[str, TestShard] = {}
        self._validation_shards: dict[str, TestShard] = {}

    def shard(self, task: Task, limit: int | None = None, report: Callable[[str], None] | None = None) -> TestShard:
        """This rank's part of the test set of ``task``, the same object each time.

        All ranks have to call this: they decode together what the cache lacks.

        Args:
            task: set up.
            limit: so many images from the start of the set, of all ranks together; ``None`` for all.
            report: shows one line of text on how far the decoding is.

        Raises:
            InputError: an image does not decode, or the cache cannot be written or read.
        """
        if task.name not in self._shards:
            is_cached = self._cache is not None and limit is None
            if is_cached and cache_bytes(task, self._preprocessing.test_geometry):
                self._shards[task.name] = self._from_cache(task, report)
            else:
                self._shards[task.name] = self._decode(task.test_set, limit)
        return self._shards[task.name]

    def validation_shard(self, task: Task, held: ImageSet, limit: int | None = None) -> TestShard:
        """This rank's part of the images ``held`` out of ``task``, the same object each time; decoded in each run."""
        if task.name not in self._validation_shards:
            self._validation_shards[task.name] = self._decode(held, limit)
        return self._validation_shards[task.name]

    def _decode(self, images: ImageSet, limit: int | None) -> TestShard:
        trainer, model = self._trainer, self._preprocessing
        rank, ranks, device = trainer.global_rank, trainer.world_size, trainer.strategy.root_device
        workers = self._num_workers
        return TestShard(images, model.test_geometry, model.normalize, rank, ranks, workers, limit, device)

    def _from_cache(self, task: Task, report: Callable[[str], None] | None) -> TestShard:
        trainer, model = self._trainer, self._preprocessing
        folder = path_of(str(self._cache))
        images, labels, damage = cached_images(trainer, folder, task, model.test_geometry, self._num_workers, report)
        self._faults.add_damaged(task.name, damaged_paths(task.test_set, damage))
        share = slice(trainer.global_rank, None, trainer.world_size)
        return TestShard.of(images[share], labels[share], model.normalize, trainer.strategy.root_device)
