"""Downloads from servers that say something wrong, break off, or have another file by now: whole, or one sentence."""

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request

import pytest

from datamodules.mtil.download import unpack
from gift_lightning.errors import InputError
from gift_lightning.fetch import _Redirects, fetch
from tests.serving import serving

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT).hexdigest()

Answer = tuple[int, dict[str, str], bytes]


class Server(ThreadingHTTPServer):
    """Gives what ``answers`` says, by turns; the last one again and again. What was asked is kept."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.asked: list[dict[str, str]] = []

    def url(self, name: str = "file") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(dict(self.headers.items()))
        status, headers, body = self.server.answers[min(len(self.server.asked), len(self.server.answers)) - 1]
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as server:
        yield server


def whole(body: bytes = CONTENT, **headers: str) -> Answer:
    named = {key.replace("_", "-"): text for key, text in headers.items()}
    return 200, {"Content-Length": str(len(body)), **named}, body


def broken_off(**headers: str) -> Answer:
    """The first 1000 bytes of a whole answer."""
    return (*whole(CONTENT, **headers)[:2], CONTENT[:1000])


def rest(start: int, body: bytes = CONTENT, told: int | None = None, **headers: str) -> Answer:
    """An answer with what a part of ``start`` bytes lacks; it says that it begins at byte ``told``."""
    part = {"Content-Range": f"bytes {start if told is None else told}-{len(body) - 1}/{len(body)}"}
    return 206, whole(body[start:], **headers)[1] | part, body[start:]


def get(server: Server, folder: Path, md5: str | None = None) -> bytes:
    fetch(server.url(), folder / "file", lambda line: None, md5=md5)
    assert [path.name for path in folder.iterdir()] == ["file"]  # nothing is left beside it
    return (folder / "file").read_bytes()


def chunked(body: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    half = len(body) // 2
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:])) + end


WRONG: dict[str, tuple[Answer, str]] = {
    "too long a length": (whole(Content_Length=str(len(CONTENT) + 1)), "the connection broke off after 0 MB"),
    "a negative length": (whole(Content_Length="-5"), "the server announces the length '-5'"),
    "a length in words": (whole(Content_Length="many"), "the server announces the length 'many'"),
    "two lengths": (whole(Content_Length="3, 5"), "the server announces the length '3, 5'"),
    "no length": ((200, {}, CONTENT), "announces no length, so that a truncated file would pass for a whole one"),
    "a cut chunk": ((200, {"Transfer-Encoding": "chunked"}, chunked(CONTENT)[:-100]), "IncompleteRead"),
    "no last chunk": ((200, {"Transfer-Encoding": "chunked"}, chunked(CONTENT, b"")), "IncompleteRead"),
    "a packed answer": (whole(Content_Encoding="gzip"), "the server sends it with the encoding 'gzip'"),
    "a part not asked for": (rest(100), "sent only a range of the whole file"),
    "a redirection to nothing": ((302, {"Location": "file:///etc/passwd"}, b""), "HTTP status 302"),
    "an error": ((503, {}, b"later"), "HTTP status 503"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_server_that_says_something_wrong_gets_one_sentence(case: str, server: Server, tmp_path: Path) -> None:
    answer, expected = WRONG[case]
    server.answers = [answer]
    for _ in range(2):  # what the first try leaves does not make the second a success
        with pytest.raises(InputError) as told:
            get(server, tmp_path)
        assert str(told.value).startswith(f"{server.url()} cannot be fetched (") and "\n" not in str(told.value)
        assert expected in str(told.value)
        assert not (tmp_path / "file").exists()
    server.asked, server.answers = [], [whole()]
    assert get(server, tmp_path) == CONTENT


def test_with_a_checksum_no_length_is_needed_and_too_short_a_one_is_seen(server: Server, tmp_path: Path) -> None:
    server.answers = [(200, {"Transfer-Encoding": "chunked"}, chunked(CONTENT))]
    assert get(server, tmp_path) == CONTENT
    (tmp_path / "file").unlink()
    server.answers = [(200, {}, CONTENT)]
    assert get(server, tmp_path, MD5) == CONTENT
    (tmp_path / "file").unlink()
    for answer in (whole(Content_Length="100"), (200, {}, CONTENT[:100])):
        server.answers = [answer]
        with pytest.raises(InputError, match=r"has md5 .* the file was removed, try again"):
            get(server, tmp_path, MD5)
        assert not list(tmp_path.iterdir())


def test_too_short_an_archive_without_a_checksum_is_seen_when_it_is_unpacked(server: Server, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "made.tar.gz", "w:gz") as archive:
        archive.add(__file__, "file")
    body = (tmp_path / "made.tar.gz").read_bytes()
    server.answers = [whole(body, Content_Length=str(len(body) - 7), Content_Encoding="x-gzip")]
    fetch(server.url("a.tar.gz"), tmp_path / "a.tar.gz", lambda line: None)
    with pytest.raises(InputError, match=r"was damaged .* and is removed: try again"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "unpacked")


# --- going on ---------------------------------------------------------------------------------------------------------

TAG, DATE = {"ETag": '"one"'}, {"Last-Modified": "Fri, 27 Nov 2026 10:00:00 GMT"}


@pytest.mark.parametrize("version", [TAG, DATE, {"ETag": 'W/"one"', **DATE}])
def test_a_part_is_gone_on_with_if_it_is_of_the_same_version(
    version: dict[str, str], server: Server, tmp_path: Path
) -> None:
    server.answers = [broken_off(**version), rest(1000, **version)]
    with pytest.raises(InputError, match="broke off"):
        get(server, tmp_path)
    assert get(server, tmp_path) == CONTENT
    asked = server.asked[1]
    assert asked["Range"] == "bytes=1000-" and asked["If-Range"] in version.values() and asked["If-Range"][0] != "W"


OTHER = CONTENT[::-1] + b"more"
SECOND: dict[str, list[Answer]] = {
    "a server that looks at If-Range": [whole(OTHER, ETag='"two"')],
    "a server that does not": [rest(1000, OTHER, ETag='"two"'), whole(OTHER, ETag='"two"')],
    "a part without a version": [rest(1000, OTHER), whole(OTHER)],
    "another range": [rest(1000, OTHER, told=500, **TAG), whole(OTHER)],
    "a range of another length": [rest(1000, OTHER, **TAG, Content_Length="5"), whole(OTHER)],
    "a range in words": [(206, {**TAG, "Content-Range": "bytes", "Content-Length": "5"}, b"12345"), whole(OTHER)],
    "no range": [(206, {**TAG, "Content-Length": "5"}, b"12345"), whole(OTHER)],
    "a file that is shorter by now": [(416, {"Content-Range": "bytes */500"}, b""), whole(OTHER)],
    "a file of which no size is told": [(416, {}, b""), whole(OTHER)],
}


@pytest.mark.parametrize("case", SECOND)
def test_a_part_is_not_glued_to_another_file(case: str, server: Server, tmp_path: Path) -> None:
    server.answers = [broken_off(**TAG), *SECOND[case]]
    with pytest.raises(InputError, match="broke off"):
        get(server, tmp_path)
    assert get(server, tmp_path) == OTHER
    assert all("Range" not in asked for asked in server.asked[2:])


def test_a_part_of_unknown_version_is_not_gone_on_with_unless_there_is_a_checksum(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    server.answers = [whole()]
    assert get(server, tmp_path) == CONTENT and "Range" not in server.asked[0]
    (tmp_path / "file").rename(tmp_path / "file.part")
    os.truncate(tmp_path / "file.part", 1000)
    server.asked, server.answers = [], [rest(1000)]
    assert get(server, tmp_path, MD5) == CONTENT and server.asked[0]["Range"] == "bytes=1000-"


def test_a_whole_part_is_the_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    (tmp_path / "file.part.version").write_text(TAG["ETag"])
    server.answers = [(416, {"Content-Range": f"bytes */{len(CONTENT)}"}, b"")]
    assert get(server, tmp_path) == CONTENT and len(server.asked) == 1


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [os.symlink, os.link, lambda there, here: os.mkfifo(here)])
@pytest.mark.parametrize("name", ["file.part", "file.part.version"])
def test_nothing_is_written_through_a_link(
    name: str, link: Callable[[Path, Path], None], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    link(tmp_path / "precious", tmp_path / "folder" / name)
    server.answers = [whole(CONTENT, **TAG)]
    assert get(server, tmp_path / "folder") == CONTENT
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_folder_in_the_place_of_the_part_is_one_sentence(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").mkdir()
    server.answers = [whole()]
    with pytest.raises(InputError, match="cannot be fetched"):
        get(server, tmp_path)


def test_redirections_keep_encryption(server: Server, tmp_path: Path) -> None:
    with serving(Server()) as other:
        other.answers = [whole()]
        server.answers = [(302, {"Location": other.url()}, b"")]
        assert get(server, tmp_path) == CONTENT
    request = Request("https://data.org/file")
    for place in ("http://data.org/file", "ftp://data.org/file"):
        with pytest.raises(OSError, match=f"it is redirected to {place}, which is not encrypted"):
            _Redirects().redirect_request(request, None, 302, "", {}, place)
    assert _Redirects().redirect_request(request, None, 302, "", {}, "https://other.org/file")
