"""A file from the network, whole or not at all."""

import os
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from gift_lightning.errors import InputError, first_line
from gift_lightning.files import file_hash

_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 20

Report = Callable[[str], None]


def fetch(url: str, target: Path, report: Report, md5: str | None = None, sha256: str | None = None) -> None:
    """Download a file; what an interrupted download left in ``<target>.part`` is not sent again.

    Args:
        url: its address. Certificates are verified; what comes without them has a checksum.
        target: where to write it; nothing is done if it is there.
        report: shows one line of text on how far it is.
        md5: its MD5, if known.
        sha256: its SHA-256, or the first digits of it, if known.

    Raises:
        InputError: it cannot be fetched, or has another checksum.
    """
    if target.exists():
        return
    part = target.with_name(f"{target.name}.part")
    try:
        _receive(url, part, report)
    except (OSError, HTTPException) as error:  # URLError is an OSError
        reason = f"HTTP status {error.code}" if isinstance(error, HTTPError) else first_line(error)[:-1]
        raise InputError(f"{url} cannot be fetched ({reason}): try again, it goes on where it stopped.") from error
    for algorithm, known in (("md5", md5), ("sha256", sha256)):
        if known and not (found := file_hash(part, algorithm)).startswith(known):
            part.unlink()
            raise InputError(
                f"{url} has {algorithm} {found}, not {known}: what came was removed, try again or fetch it by hand."
            )
    os.replace(part, target)


def _receive(url: str, part: Path, report: Report) -> None:
    """Append to ``part`` what it lacks of ``url``; all of it, if the server cannot send a part."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "gift-lightning"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        if have and error.code == 416:  # nothing is left to send
            return
        raise
    done = have if response.status == 206 else 0
    with response, open(part, "ab" if done else "wb") as file:
        length = response.headers["Content-Length"]
        total = done + int(length) if length else None
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            share = f"{100 * done // total} % of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
            report(f"{url.rpartition('/')[2]}: {share}")
        file.flush()
        os.fsync(file.fileno())
    if total and done < total:
        raise OSError(f"the connection broke off after {done / 1e6:.0f} MB")
