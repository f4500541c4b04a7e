"""A file from the network, whole or not at all."""

import os
import re
import stat
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from gift_lightning.errors import InputError, first_line
from gift_lightning.files import file_hash

_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 20
_PACKED = (".gz", ".tgz")

Report = Callable[[str], None]


def fetch(url: str, target: Path, report: Report, md5: str | None = None, sha256: str | None = None) -> None:
    """Download a file; what an interrupted download left in ``<target>.part`` is not sent again.

    A part is gone on with if it is of the version that the server still has (``<target>.part.version``), or if there
    is a checksum for the whole.

    Args:
        url: its address. Certificates are verified, and no redirection leads to an address without.
        target: where to write it; nothing is done if it is there.
        report: shows one line of text on how far it is.
        md5: its MD5, if known.
        sha256: its SHA-256, or the first digits of it, if known.

    Raises:
        InputError: it cannot be fetched, has another checksum or another length than the server says, or has no
            checksum and the server says no length.
    """
    if target.exists():
        return
    part, checksums = target.with_name(f"{target.name}.part"), {"md5": md5, "sha256": sha256}
    try:
        _receive(url, part, report, has_checksum=any(checksums.values()))
        for algorithm, known in checksums.items():
            if known and not (found := file_hash(part, algorithm)).startswith(known):
                _discard(part)
                raise InputError(
                    f"{url} has {algorithm} {found}, not {known}: what came was removed, try again or fetch it by hand."
                )
        os.replace(part, target)
        _discard(part)
    except (OSError, HTTPException) as error:  # URLError is an OSError
        reason = f"HTTP status {error.code}" if isinstance(error, HTTPError) else first_line(error)[:-1]
        raise InputError(f"{url} cannot be fetched ({reason}): try again, it goes on where it stopped.") from error


def _receive(url: str, part: Path, report: Report, has_checksum: bool) -> None:
    """Append to ``part`` what it lacks of ``url``; all of it, if the server has another file by now."""
    have, version = _kept(part)
    if not (version or has_checksum):
        have = 0
    asked = {"Range": f"bytes={have}-"} if have else {}
    asked |= {"If-Range": version} if have and version else {}
    try:
        response: HTTPResponse = _OPENER.open(Request(url, headers=_HEADERS | asked), timeout=_TIMEOUT)
    except HTTPError as error:
        if not have or error.code != 416:
            raise
        if error.headers["Content-Range"] != f"bytes */{have}":  # it is longer than the file, or of another one
            _discard(part)
            _receive(url, part, report, has_checksum)
        return
    with response:
        if response.status != 206:
            _discard(part)
            have = 0
            _write_version(part, response)
        elif not have:
            raise OSError("the server sent a part of it, the whole was asked for")
        elif not _is_rest(response, have, version):
            response.close()
            _discard(part)
            _receive(url, part, report, has_checksum)
            return
        _append(response, part, have, _length(response, have, url, has_checksum), report)


def _append(response: HTTPResponse, part: Path, done: int, total: int | None, report: Report) -> None:
    name = part.name.removesuffix(".part")
    with open(part, "ab") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            share = f"{100 * done // total} % of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
            report(f"{name}: {share}")
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done < total:
        raise OSError(f"the connection broke off after {done / 1e6:.0f} MB")


def _length(response: HTTPResponse, have: int, url: str, has_checksum: bool) -> int | None:
    """Bytes of the whole file; ``None`` if the server does not say it, and what comes can be told from a part of it."""
    headers = response.headers
    encoding = headers["Content-Encoding"] or "identity"
    if encoding != "identity" and not url.endswith(_PACKED):  # of a packed file some servers say so, and mean the file
        raise OSError(f"the server sends it in another form, '{encoding}'")
    if (headers["Transfer-Encoding"] or "").lower() == "chunked":
        return None  # says itself where it ends
    length = headers["Content-Length"]
    if length is None and not has_checksum:
        raise OSError("the server does not say its length, so that the whole cannot be told from a part")
    if length is None:
        return None
    if not re.fullmatch("[0-9]+", length):
        raise OSError(f"the server says that its length is '{length}'")
    return have + int(length)


def _is_rest(response: HTTPResponse, have: int, version: str) -> bool:
    """Whether a partial answer is what a part lacks, and of the same version."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers["Content-Range"] or "")
    if not match or int(match[1]) != have or match[3] not in ("*", str(int(match[2]) + 1)):
        return False
    length = response.headers["Content-Length"]
    is_whole = length is None or length == str(int(match[2]) + 1 - have)
    return is_whole and version in ("", *_versions(response))


def _versions(response: HTTPResponse) -> list[str]:
    """What a server calls the version of a file that it sends, as ``If-Range`` takes it, the best first."""
    tag, date = response.headers["ETag"] or "", response.headers["Last-Modified"] or ""
    return [version for version in (tag if tag.startswith('"') else "", date) if version]


# --- files beside the target ------------------------------------------------------------------------------------------


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _kept(part: Path) -> tuple[int, str]:
    """Bytes of a part that is there, and its version; a link is removed, so that nothing is written through it."""
    version = _version_file(part)
    for file in (part, version):
        if os.path.lexists(file) and not (stat.S_ISREG(file.lstat().st_mode) and file.lstat().st_nlink == 1):
            file.unlink()
    have = part.stat().st_size if part.exists() else 0
    known = version.read_text("latin-1") if version.exists() else ""
    return have, known if re.fullmatch(r"[\x20-\x7e]*", known) else ""


def _write_version(part: Path, response: HTTPResponse) -> None:
    """Note the version of a part before its first byte comes."""
    versions = _versions(response)
    if versions:
        _version_file(part).write_text(versions[0], "latin-1")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


# --- requests ---------------------------------------------------------------------------------------------------------


class _Redirects(HTTPRedirectHandler):
    """Follows a redirection unless it gives encryption up."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise OSError(f"it is redirected to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = build_opener(_Redirects)
_HEADERS = {"User-Agent": "gift-lightning"}
