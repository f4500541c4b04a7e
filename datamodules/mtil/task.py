"""The base class of the data sets of MTIL."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.base import Task
from datamodules.images.sets import ArrayImages, ImageFiles, Sample, samples_hash
from datamodules.mtil.checks import DataError, check_place
from datamodules.mtil.download import install
from datamodules.mtil.facts import FACTS, Facts
from gift_lightning.errors import InputError, first_line
from gift_lightning.fetch import Report
from gift_lightning.files import path_of
from gift_lightning.sources import Inspection


class Contents(NamedTuple):
    """Class names and images of a data set on disk."""

    class_names: Sequence[str]
    """As they come with the data, in the order of the labels."""
    train: ImageFiles | ArrayImages
    test: ImageFiles | ArrayImages


class MTILTask(Task):
    """A data set of the MTIL benchmark, with the split, the class names and the prompts of that benchmark.

    Args:
        root: the folder of all data sets, in the layout of torchvision; ``data.root`` if not given.
        shots: training images of each class; ``data.shots`` if not given.

    Attributes:
        folder: of this data set, below the root.
        markers: files, and folders with a slash at the end, that identify the data set in any folder.
        lookalikes: folders of another data set with the same markers.

    Raises:
        InputError: in ``setup``, the data is missing or incomplete; at access, an image does not decode.
    """

    INDIFFERENT = frozenset({"root"})
    """See ``gift_lightning.runs.same_run``: the fingerprint covers the data."""

    folder: str
    markers: tuple[str, ...]
    lookalikes: tuple[str, ...] = ()
    train_set: ImageFiles | ArrayImages
    test_set: ImageFiles | ArrayImages

    def __init__(self, root: str | None = None, shots: int | None = None) -> None:
        super().__init__()
        self.shots = shots
        self.root = path_of(root) if root else None
        self.templates = list(self.facts.templates)

    @property
    def facts(self) -> Facts:
        """The constants of the data set: counts, prompts, licence."""
        return FACTS[self.name]

    @property
    def where(self) -> Path:
        """The folder of the data set."""
        return self._root / self.folder

    @property
    def _root(self) -> Path:
        return self.root or Path("data")

    @property
    def fingerprint(self) -> str:
        """Hash of the paths (or indices in a file) and labels of both sets, in their order."""
        return self._fingerprint

    def setup(self, stage: str | None = None) -> None:
        """Read the lists of images, once.

        Raises:
            InputError: the data is missing or incomplete.
        """
        if hasattr(self, "train_set"):
            return
        inspection, contents = self._look()
        if contents is None:
            raise InputError(f"Task '{self.name}': {inspection.detail}")
        self.class_names = list(self.facts.class_names or [name.replace("_", " ") for name in contents.class_names])
        self.train_set, self.test_set = contents.train, contents.test
        self._fingerprint = samples_hash(contents.train, contents.test)

    def inspect(self) -> Inspection:
        """The state of the data on this machine; no image is opened."""
        return self._look()[0]

    def download(self, report: Report) -> None:
        """Fetch the data and put it in place, whole or not at all; existing files stay unchanged.

        An interrupted download resumes.

        Args:
            report: shows one line of text on the progress.

        Raises:
            InputError: it cannot be fetched, is not the data set, or other files are in its place.
        """
        inspection = self.inspect()
        if inspection.status == "present":
            return
        if not self.facts.files:
            raise InputError(f"{self.facts.by_hand}")
        top = self._root / Path(self.folder).parts[0]
        if inspection.status == "wrong layout":
            raise InputError(f"Task '{self.name}': {inspection.detail}")
        if top.is_dir() and any(top.iterdir()):
            raise InputError(f"Task '{self.name}': {inspection.detail[:-1]}, or remove {top} and download it anew.")
        install(self.name, self.facts.files, top, self._check_download, report)

    def _check_download(self, root: Path) -> None:
        inspection = type(self)(str(root)).inspect()
        if inspection.status != "present":
            raise InputError(f"{self.facts.url} now offers other data than {self.name}: {inspection.detail}")

    def _look(self) -> tuple[Inspection, Contents | None]:
        facts = self.facts
        expected = (facts.train, facts.test)
        contents, fault = None, None
        try:
            check_place(self._root, self.folder, self.markers, self.lookalikes)
            contents = self._contents()
        except DataError as error:
            fault = error
        except (InputError, OSError) as error:
            fault = DataError("incomplete", first_line(error))
        inspection = Inspection(
            self.name,
            fault.status if fault else "present",
            str(fault) if fault else "",
            counts=fault.counts if fault else expected,
            expected=expected,
            where=self.where,
            url=facts.url,
            bytes=facts.bytes,
            licence=facts.licence,
            automatic=bool(facts.files),
            by_hand=facts.by_hand,
        )
        return inspection, contents

    def _files(self, samples: Sequence[Sample]) -> ImageFiles:
        return ImageFiles(self.where, samples, f"Task '{self.name}'", "put a whole copy in its place.")

    @abstractmethod
    def _contents(self) -> Contents:
        """List the classes and images on disk.

        Raises:
            DataError: the data set is missing, incomplete or in another layout.
        """
