"""Atomic writing of files, checked reading, and paths as users write them."""

import contextlib
import errno
import hashlib
import importlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from gift_lightning.errors import InputError, advice

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def atomic_write(path: str | Path, durable: bool = True, keep: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it onto ``path``.

    The temporary file lies in the same folder, so that the rename never crosses a file system. Its name is unique, so
    that two processes may write the same file at the same time. ``remove_unfinished`` removes the temporary files of
    killed processes.

    Args:
        path: the file.
        durable: wait until the disk has the file, which costs milliseconds; ``False`` for files that are checked, and
            made again after a crash of the machine.
        keep: leave a file that exists by then: of several processes that begin it, the first one writes it.

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
        if not (keep and _link(temporary, path)):
            os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def _link(temporary: Path, path: Path) -> bool:
    """Give a file its name unless another one has it; ``False`` on a file system without hard links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            return False
        raise
    temporary.unlink()
    return True


def reason(path: Path, error: OSError) -> str:
    """The reason for which the system refuses to write a file or folder, as a clause."""
    if isinstance(error, FileExistsError | NotADirectoryError):  # "File exists" would not say which one
        for parent in path.parents:
            if os.path.isfile(parent):
                return f"{parent} is a file, not a folder"
    return error.strerror or str(error)


def unwritable(path: Path, error: OSError) -> InputError:
    """The sentence for a file or folder that the system refuses to write."""
    again = advice("give the same command again", "call again")
    return InputError(
        f"{path} cannot be written: {reason(path, error)}. Earlier files are whole: after a remedy, {again}."
    )


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of killed processes in ``folder``; no process may be writing into it."""
    own, of_safetensors = f".*.{'[0-9a-f]' * 12}.tmp*", f".tmp{'[0-9A-Za-z]' * 6}"
    for leftover in (*folder.glob(own), *folder.glob(of_safetensors)):
        with contextlib.suppress(OSError):
            leftover.unlink()


@contextlib.contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """Around all that one of several processes writes into ``folder``: the last to leave removes what killed ones left.

    A lock on the folder, which ends with its process, says who is there. Where the system has none, leftovers stay.

    Raises:
        InputError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # of file systems without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_unfinished(folder)
        os.close(descriptor)


def file_hash(path: Path, algorithm: str) -> str:
    """Hash of a file of any size, in hexadecimal digits; ``algorithm`` is one of hashlib's (``sha256``).

    Raises:
        OSError: the file cannot be read.
    """
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
    """A path as a shell reads it: ``~`` at its beginning is the home folder; in ``./~`` it is not.

    Raises:
        InputError: it begins with ``~name``, and this user does not exist.
    """
    if str(text).startswith("."):
        return Path.cwd() / text if str(Path(text)).startswith("~") else Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(f"{text} begins with the home folder of a user who does not exist here.") from error


def package_file(name: str, setting: str) -> Path:
    """The path of ``package:<module>`` or ``package:<module>/<file>``, a file of an installed package.

    Args:
        name: such a name; any other one is a path, see ``path_of``.
        setting: the config key of the name, for messages.

    Raises:
        InputError: the package cannot be imported.
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
    """Refuse files whose reading may never end: a pipe waits for its writer, a device may be endless.

    Raises:
        OSError: ``path`` does not exist, or is a pipe, a socket or a device.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # for a folder, the system raises an error
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", os.fspath(path))


def read_lines(path: Path, setting: str) -> list[str]:
    """The lines of a text file in UTF-8, without line ends and without a byte order mark.

    Args:
        path: the file.
        setting: the config key that names the file, for messages.

    Raises:
        InputError: the file is missing, cannot be read, or is not UTF-8.
    """
    try:
        require_regular(path)
        with open(path, encoding="utf-8-sig") as file:
            # not splitlines: it also splits at characters that may stand within a sentence
            return [line.rstrip("\n") for line in file]
    except FileNotFoundError:
        raise InputError(f"{setting}: {path} does not exist.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{setting}: {path} is not UTF-8 text.") from error
    except OSError as error:
        raise InputError(f"{setting}: {path} cannot be read: {error.strerror}.") from error


def write_text(path: str | Path, text: str, durable: bool = True) -> None:
    """Write ``text`` to ``path`` in UTF-8, atomically.

    Args:
        path: the file.
        text: its new content.
        durable: see ``atomic_write``.

    Raises:
        InputError: see ``atomic_write``.
    """
    with atomic_write(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_end(path: Path, start: int, text: str) -> None:
    """Put ``text`` in UTF-8 in the place of all bytes of a file from ``start`` on; a kill may leave a part of it.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with open(path, "r+b") as file:
            file.seek(start)
            file.write(text.encode())
            file.truncate()
    except OSError as error:
        raise unwritable(path, error) from error


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path``, atomically; a list of numbers or texts takes one line.

    Raises:
        InputError: see ``atomic_write``.
    """
    write_text(path, _indented(value, "\n") + "\n")


def _indented(value: Any, newline: str) -> str:
    """JSON with a line for each item, but for lists of plain values, which Python's fast encoder writes."""
    items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    if not items or not (isinstance(value, dict) or {dict, list, tuple} & set(map(type, items))):
        return json.dumps(value)
    inner = newline + " "
    texts = [_indented(item, inner) for item in items]
    if isinstance(value, dict):
        names = [json.dumps({name: 0})[1:-4] for name in value]  # a key is written as json.dumps writes it
        texts = [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]
    opened, closed = "{}" if isinstance(value, dict) else "[]"
    return f"{opened}{inner}{f',{inner}'.join(texts)}{newline}{closed}"


def read_json(path: str | Path, remedy: str = "restore it or delete it") -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        remedy: against content that is no JSON, as the end of a sentence.

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
        raise InputError(f"{path} is not valid JSON (nested too deeply): {remedy}.") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}): {remedy}.") from None
