"""Download of a file, whole or not at all."""

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
"""Shows one line of text on the progress, in the place of the last one."""


def fetch(url: str, target: Path, report: Report, md5: str | None = None, sha256: str | None = None) -> None:
    """Download a file; an interrupted download resumes from ``<target>.part``.

    It resumes if the server still has the same version (``<target>.part.version``), or if a checksum is given.

    Args:
        url: its address. Certificates are verified, and a redirection to an unencrypted address is refused.
        target: the file to write; an existing one is left unchanged, without a request.
        report: shows one line of text on the progress.
        md5: its MD5, if published.
        sha256: its SHA-256, or the first digits of it, if published.

    Raises:
        InputError: it cannot be fetched, has another checksum or another length than the server announces, or has
            neither a checksum nor an announced length.
    """
    if target.exists():
        return
    part, checksums = target.with_name(f"{target.name}.part"), {"md5": md5, "sha256": sha256}
    try:
        _receive(url, part, report, has_checksum=any(checksums.values()))
        for algorithm, expected in checksums.items():
            if expected and not (digest := file_hash(part, algorithm)).startswith(expected):
                _discard(part)
                raise InputError(
                    f"{url} has {algorithm} {digest}, not {expected}: the file was removed, try again or fetch it by"
                    " hand."
                )
        os.replace(part, target)
        _discard(part)
    except (OSError, HTTPException) as error:  # URLError is an OSError
        reason = f"HTTP status {error.code}" if isinstance(error, HTTPError) else first_line(error)[:-1]
        raise InputError(f"{url} cannot be fetched ({reason}): try again, the download resumes.") from error


def _receive(url: str, part: Path, report: Report, has_checksum: bool) -> None:
    """Append the missing bytes of ``url`` to ``part``; write all of them if the server has another version by now."""
    have, version = _state_of(part)
    if not (version or has_checksum):
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    headers |= {"If-Range": version} if have and version else {}
    try:
        response: HTTPResponse = _OPENER.open(Request(url, headers=_HEADERS | headers), timeout=_TIMEOUT)
    except HTTPError as error:
        if not have or error.code != 416:
            raise
        if error.headers["Content-Range"] != f"bytes */{have}":  # the part is longer than the file, or of another file
            _discard(part)
            _receive(url, part, report, has_checksum)
        return
    with response:
        if response.status != 206:
            _discard(part)
            have = 0
            _write_version(part, response)
        elif not have:
            raise OSError("the server sent only a range of the whole file")
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
    """Bytes of the whole file; ``None`` if unannounced, where chunks or a checksum show that the file is whole."""
    headers = response.headers
    encoding = headers["Content-Encoding"] or "identity"
    if encoding != "identity" and not url.endswith(_PACKED):  # some servers send this header with a packed file itself
        raise OSError(f"the server sends it with the encoding '{encoding}'")
    if (headers["Transfer-Encoding"] or "").lower() == "chunked":
        return None  # the last chunk is marked
    length = headers["Content-Length"]
    if length is None and not has_checksum:
        raise OSError("the server announces no length, so that a truncated file would pass for a whole one")
    if length is None:
        return None
    if not re.fullmatch("[0-9]+", length):
        raise OSError(f"the server announces the length '{length}'")
    return have + int(length)


def _is_rest(response: HTTPResponse, have: int, version: str) -> bool:
    """Whether a partial answer is the missing end of the part, in the same version."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers["Content-Range"] or "")
    if not match or int(match[1]) != have or match[3] not in ("*", str(int(match[2]) + 1)):
        return False
    length = response.headers["Content-Length"]
    is_whole = length is None or length == str(int(match[2]) + 1 - have)
    return is_whole and version in ("", *_versions(response))


def _versions(response: HTTPResponse) -> list[str]:
    """The identifiers of a file's version in the server's answer, for ``If-Range``, the best first."""
    tag, date = response.headers["ETag"] or "", response.headers["Last-Modified"] or ""
    return [version for version in (tag if tag.startswith('"') else "", date) if version]


# --- files beside the target ------------------------------------------------------------------------------------------


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _state_of(part: Path) -> tuple[int, str]:
    """Bytes and version of an existing part; a link is removed, so that nothing is written through it."""
    version = _version_file(part)
    for file in (part, version):
        if os.path.lexists(file) and not (stat.S_ISREG(file.lstat().st_mode) and file.lstat().st_nlink == 1):
            file.unlink()
    have = part.stat().st_size if part.exists() else 0
    identifier = version.read_text("latin-1") if version.exists() else ""
    return have, identifier if re.fullmatch(r"[\x20-\x7e]*", identifier) else ""


def _write_version(part: Path, response: HTTPResponse) -> None:
    """Write the version of a part, before its first byte."""
    versions = _versions(response)
    if versions:
        _version_file(part).write_text(versions[0], "latin-1")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


# --- requests ---------------------------------------------------------------------------------------------------------


class _Redirects(HTTPRedirectHandler):
    """Follows a redirection unless it gives up encryption."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise OSError(f"it is redirected to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = build_opener(_Redirects)
_HEADERS = {"User-Agent": "gift-lightning"}
