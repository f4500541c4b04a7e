"""Files that are either the old version or the new one, never half of it."""

import contextlib
import errno
import hashlib
import importlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from gift_lightning.errors import InputError


@contextlib.contextmanager
def atomic_write(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it onto ``path``.

    The temporary file lies in the same folder, so that the rename never crosses a file system. Each write has a name of
    its own, so that processes which write the same file at the same time never write into one another's. What a killed
    process leaves behind, ``remove_unfinished`` removes.

    Args:
        path: the file.
        durable: ``False`` does not wait for the disk, which costs milliseconds: for files that are checked and made
            again if the machine itself goes down.

    Raises:
        InputError: the file cannot be written (disk full, read-only folder); the old version is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            with open(temporary, "r+b") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o644)  # safetensors gives the owner alone access
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise InputError(
                f"{path} cannot be written: {reason}. What was written before is whole; after a remedy a run goes on"
                " with --ckpt_path last."
            ) from error
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files that killed processes left in ``folder``; nobody may be writing there."""
    for left in folder.glob(f".*.{'[0-9a-f]' * 12}.tmp*"):
        with contextlib.suppress(OSError):
            left.unlink()


def file_hash(path: Path, algorithm: str) -> str:
    """Hash of a file of any size, in hexadecimal digits; ``algorithm`` is one of hashlib's (``sha256``)."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened, and the rename is durable by itself
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def path_of(text: str | Path) -> Path:
    """The path that a user means: ``~`` at its beginning is the home folder, as in a shell; ``./~`` is not.

    Raises:
        InputError: it begins with ``~name``, and there is no such user.
    """
    if str(text).startswith("."):
        return Path.cwd() / text if str(Path(text)).startswith("~") else Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(f"{text} begins with the home folder of a user who does not exist here.") from error


def package_file(name: str, setting: str) -> Path:
    """The path that a name means: ``package:<module>`` or ``package:<module>/<file>`` lies in an installed package.

    Args:
        name: any other name is a path, see ``path_of``.
        setting: the config key that has this name, for messages.

    Raises:
        InputError: there is no such package.
    """
    if not name.startswith("package:"):
        return path_of(name)
    module_name, _, file = name.removeprefix("package:").partition("/")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"{setting} is '{name}', but {module_name} cannot be imported: {error}.") from error
    return Path(str(module.__file__)).parent / file


def require_regular(path: str | Path) -> None:
    """See that reading a file will end: that of a pipe waits for whoever writes into it, that of a device may not end.

    Raises:
        OSError: ``path`` is not there, or is a pipe, a socket or a device.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # of a folder, the system says so itself
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", os.fspath(path))


def read_lines(path: Path, setting: str) -> list[str]:
    """The lines of a text file in UTF-8, without their ends; a byte order mark at its beginning is none of the text.

    Args:
        path: the file.
        setting: the config key that names the file, for messages.

    Raises:
        InputError: the file is missing, cannot be read, or is not UTF-8.
    """
    try:
        require_regular(path)
        with open(path, encoding="utf-8-sig") as file:
            # not splitlines: what it takes for the end of a line may stand within a sentence
            return [line.rstrip("\n") for line in file]
    except FileNotFoundError:
        raise InputError(f"{setting}: {path} does not exist.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{setting}: {path} is no text in UTF-8.") from error
    except OSError as error:
        raise InputError(f"{setting}: {path} cannot be read: {error.strerror}.") from error


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: the file is missing, cannot be read, or is not JSON.
    """
    try:
        require_regular(path)
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except RecursionError:
        raise InputError(f"{path} is not valid JSON (nested too deeply): restore it or delete it.") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}): restore it or delete it.") from None
