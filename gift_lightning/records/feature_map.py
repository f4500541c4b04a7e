"""The space of features: test images in the plane, under several models, by one projection.

::

    model,task,image,class,x,y
    0 pre-trained,1 Flags,12,3 austria,-4.1042,17.9310
"""

import csv
import io
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gift_lightning.console import visible
from gift_lightning.errors import InputError
from gift_lightning.files import write_text

PROJECTIONS = {"tsne": "t-SNE", "umap": "UMAP"}
"""What brings features into the plane, by the names in commands."""

_SEED = 0
_NOISE = 1e-6  # rounding of features; t-SNE divides by their spread, and crashes without any


class ImageOfTask(NamedTuple):
    """A test image: numbers of its task, of itself in the test set and of its class (all from 0), and that class."""

    task: int
    image: int
    label: int
    name: str


class FeatureMap(NamedTuple):
    """The same images under each model.

    Attributes:
        models: their names.
        tasks: names of the tasks.
        images: the images, those of a task together.
        points: places in the plane ``[models, images, 2]``.
    """

    models: list[str]
    tasks: list[str]
    images: list[ImageOfTask]
    points: NDArray[np.float32]


def check_projection(name: str) -> None:
    """Raise an ``InputError`` if there is no such projection, or its package is not installed."""
    if name not in PROJECTIONS:
        raise InputError(f"There is no projection {name}: give one of {', '.join(PROJECTIONS)}.")
    if name == "umap" and find_spec("umap") is None:
        raise InputError('UMAP is not installed: pip install "gift-lightning[umap]".')


def projected(features: NDArray[np.float32], projection: str = "tsne") -> NDArray[np.float32]:
    """Features ``[models, images, D]`` in the plane, ``[models, images, 2]``, by one projection of all of them.

    It is fitted once, so that a place means the same under each model. The same features give the same places, on one
    kind of machine.

    Args:
        features: of length 1.
        projection: one of ``PROJECTIONS``.

    Raises:
        InputError: ``check_projection`` refuses it; or the features are fewer than three, or the same for all images
            and models, or not finite.
    """
    check_projection(projection)
    flat = features.reshape(-1, features.shape[-1])
    if len(flat) < 3:
        raise InputError(f"A map needs 3 points, one for each image and model, and this run has {len(flat)}.")
    if not np.isfinite(flat).all():
        model = np.isfinite(features).all((1, 2)).argmin()
        raise InputError(f"The features under model {model} of the run (0 is the pre-trained one) are not finite.")
    if np.ptp(flat, axis=0).max() < _NOISE:
        raise InputError("The features of all images are the same, under all models of the run: no map shows them.")
    points = _umap(flat) if projection == "umap" else _tsne(flat)
    return np.asarray(points, dtype=np.float32).reshape(*features.shape[:2], 2)


def _tsne(flat: NDArray[np.float32]) -> NDArray[np.float32]:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(flat) - 1) / 3)
    return np.asarray(TSNE(init="pca", random_state=_SEED, perplexity=perplexity, n_jobs=1).fit_transform(flat))


def _umap(flat: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        from umap import UMAP
    except ImportError as error:  # Numba, which it needs, refuses a NumPy that is too new
        raise InputError(f"UMAP cannot be imported ({error}): mend its environment, or leave it out.") from error
    # PCA, as for t-SNE: the usual start fails for a few points
    neighbours = min(15, len(flat) - 1)
    return np.asarray(UMAP(init="pca", random_state=_SEED, n_neighbors=neighbours, n_jobs=1).fit_transform(flat))


def write_feature_map(path: Path, found: FeatureMap) -> None:
    """Write the places of all images as CSV, atomically; models and tasks count as the rows of R do.

    Raises:
        InputError: the file cannot be written.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["model", "task", "image", "class", "x", "y"])
    for number, (model, points) in enumerate(zip(found.models, found.points.tolist(), strict=True)):
        for image, (x, y) in zip(found.images, points, strict=True):
            task = f"{image.task + 1} {visible(found.tasks[image.task])}"
            name = f"{image.label} {visible(image.name)}"
            writer.writerow([f"{number} {visible(model)}", task, image.image, name, f"{x:.4f}", f"{y:.4f}"])
    write_text(path, buffer.getvalue())
