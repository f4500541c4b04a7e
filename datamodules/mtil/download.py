"""Files from the network, put in place whole or not at all."""

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

from datamodules.mtil.facts import Download
from gift_lightning.errors import InputError, first_line
from gift_lightning.fetch import Report, fetch

_CHUNK = 1 << 20
_DAMAGED = (EOFError, BadZipFile, gzip.BadGzipFile, tarfile.TarError, zlib.error)


def install(name: str, files: Sequence[Download], target: Path, check: Callable[[Path], None], report: Report) -> None:
    """Download the files of a data set and unpack them in a hidden folder beside ``target``, then rename that onto it.

    A killed process leaves nothing in ``target``; the next call resumes the download.

    Args:
        name: of the data set.
        files: to download. Each belongs into a folder below the parent of ``target``.
        target: the folder that holds all of the data set; missing or empty.
        check: called with the unpacked folder, in the place of the parent of ``target``, before the rename; raises an
            ``InputError`` if the unpacked files are not the data set.
        report: shows one line of text on the progress.

    Raises:
        InputError: a file cannot be fetched, has another checksum, is damaged, or cannot be written.
    """
    work = target.parent / f".{name}.download"
    unpacked = work / "unpacked"
    try:
        work.mkdir(parents=True, exist_ok=True)
        for file in files:
            fetch(file.url, work / _file_name(file), report, md5=file.md5)
        for leftover in (unpacked, work / "inner"):
            shutil.rmtree(leftover, ignore_errors=True)
        for file in files:
            report(f"unpacking {_file_name(file)}")
            archive = work / _file_name(file)
            if file.inner:
                unpack(archive, work / "inner")
                archive = work / "inner" / file.inner
            unpack(archive, unpacked / file.into)
        _checked(check, unpacked, work)
        if target.is_dir():
            target.rmdir()
        os.rename(unpacked / target.name, target)
        shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{name} cannot be put into {target.parent}: {error.strerror or first_line(error)}."
        ) from error


def unpack(archive: Path, folder: Path) -> None:
    """Extract a tar or zip archive into ``folder``, decompress a ``.gz`` into it, or copy any other file into it.

    Raises:
        InputError: the archive is damaged, in which case it is removed, or has files that would lie elsewhere.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if archive.suffix == ".zip":
            with ZipFile(archive) as packed:
                for name in packed.namelist():
                    if name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts:
                        raise InputError(f"{archive} has a file '{name}' outside of its folder: do not unpack it.")
                packed.extractall(folder)
        elif archive.name.endswith((".tar.gz", ".tgz")):
            with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                tar.extractall(folder, filter="data")
                while stream.read(_CHUNK):  # tarfile stops before the checksum, which is read at the very end
                    pass
        elif archive.suffix == ".gz":
            with gzip.open(archive) as content, open(folder / archive.stem, "wb") as file:
                shutil.copyfileobj(content, file, _CHUNK)
        else:
            shutil.copy(archive, folder)
    except tarfile.FilterError as error:
        raise InputError(f"{archive} has a file outside of its folder: do not unpack it.") from error
    except _DAMAGED as error:
        archive.unlink()
        raise InputError(f"{archive} was damaged ({first_line(error)[:-1]}) and is removed: try again.") from error


def _checked(check: Callable[[Path], None], unpacked: Path, work: Path) -> None:
    try:
        check(unpacked)
    except InputError:  # to unpack the same files once more would not help
        shutil.rmtree(work, ignore_errors=True)
        raise


def _file_name(file: Download) -> str:
    return file.url.rpartition("/")[2]
