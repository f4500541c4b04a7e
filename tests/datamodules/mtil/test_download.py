"""Downloads from a server on this machine: whole, broken off and gone on with, damaged, and not what was asked for."""

import gzip
import hashlib
import io
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

import datamodules
from datamodules.mtil.download import unpack
from datamodules.mtil.facts import FACTS, Download
from gift_lightning.errors import InputError
from gift_lightning.fetch import fetch
from tests.datamodules.mtil.miniature import expect
from tests.serving import serving

AUTOMATIC = [name for name, facts in FACTS.items() if facts.files]


class Server(ThreadingHTTPServer):
    """Serves ``contents`` by name; sends only the first ``limit`` bytes of an answer, then hangs up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents: dict[str, bytes] = {}
        self.limit: int | None = None
        self.parts = True
        self.ranges: list[str | None] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"] if self.server.parts else None
        self.server.ranges.append(asked)
        content = self.server.contents.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if asked and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.limit])

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as server:
        yield server


def packed(folder: Path, names: list[str], file_name: str) -> bytes:
    """An archive of files and folders of ``folder``."""
    buffer = io.BytesIO()
    if file_name.endswith(".zip"):
        with ZipFile(buffer, "w") as archive:
            for path in sorted(path for name in names for path in (folder / name).rglob("*")):
                archive.write(path, path.relative_to(folder))
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
            for name in names:
                tar.add(folder / name, name)
    return buffer.getvalue()


MEMBERS = {
    "images.tar.gz": "images",
    "annotations.tar.gz": "annotations",
    "102flowers.tgz": "jpg",
    "EuroSAT.zip": "2750",
}


def offer(server: Server, monkeypatch: pytest.MonkeyPatch, name: str, origin: Path) -> None:
    """Have the server offer the miniature of a data set in archives like the official ones."""
    expect(monkeypatch, name, origin)
    top = Path(getattr(datamodules, name).folder).parts[0]
    files = []
    for file in FACTS[name].files:
        file_name = file.url.rpartition("/")[2]
        if file.inner:
            inner = origin / "inner" / file.inner
            inner.parent.mkdir(parents=True)
            inner.write_bytes(packed(origin / file.into, ["101_ObjectCategories"], file.inner))
            content = packed(origin / "inner", [Path(file.inner).parts[0]], file_name)
        elif file_name.endswith((".tar.gz", ".tgz", ".zip")):
            content = packed(origin / file.into, [MEMBERS.get(file_name, "dtd" if name == "DTD" else top)], file_name)
        elif file_name.endswith(".gz"):
            content = gzip.compress((origin / file.into / file_name.removesuffix(".gz")).read_bytes())
        else:
            content = (origin / file.into / file_name).read_bytes()
        server.contents[file_name] = content
        files.append(replace(file, url=server.url(file_name), md5=file.md5 and hashlib.md5(content).hexdigest()))
    monkeypatch.setitem(FACTS, name, replace(FACTS[name], files=tuple(files)))


def listing(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")} if folder.exists() else set()


@pytest.mark.parametrize("name", AUTOMATIC)
def test_a_download_is_the_data_set(name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(server, monkeypatch, name, tmp_path / "origin")
    task, lines = getattr(datamodules, name)(root=str(tmp_path / "data")), []
    task.download(lines.append)
    assert task.inspect().status == "present"
    assert [path.name for path in (tmp_path / "data").iterdir()] == [Path(task.folder).parts[0]]  # nothing else is left
    there = getattr(datamodules, name)(root=str(tmp_path / "origin"))
    there.setup()
    task.setup()
    assert task.fingerprint == there.fingerprint
    assert any("100 % of" in line for line in lines) and all("\n" not in line for line in lines)
    server.contents.clear()
    task.download(lines.append)  # what is there is not fetched again


def test_a_broken_off_download_goes_on(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(server, monkeypatch, "DTD", tmp_path / "origin")
    (content,) = server.contents.values()
    task = datamodules.DTD(root=str(tmp_path / "data"))
    server.limit = 1000
    with pytest.raises(InputError, match=r"the connection broke off after .*: try again, the download resumes"):
        task.download(lambda line: None)
    assert task.inspect().status == "missing" and not (tmp_path / "data" / "dtd").exists()
    (part,) = (tmp_path / "data").rglob("*.part")
    assert part.read_bytes() == content[:1000]
    server.limit = None
    task.download(lambda line: None)
    assert server.ranges == [None, "bytes=1000-"]
    assert task.inspect().status == "present"


def test_a_server_that_sends_no_parts(server: Server, tmp_path: Path) -> None:
    server.contents["file"], server.parts = b"0123456789", False
    (tmp_path / "file.part").write_bytes(b"xxx")
    fetch(server.url("file"), tmp_path / "file", lambda line: None)
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_a_whole_file_whose_name_is_still_that_of_a_part(server: Server, tmp_path: Path) -> None:
    server.contents["file"] = b"0123456789"
    (tmp_path / "file.part").write_bytes(b"0123456789")
    digests = {name: hashlib.new(name, b"0123456789").hexdigest() for name in ("md5", "sha256")}
    fetch(server.url("file"), tmp_path / "file", lambda line: None, md5=digests["md5"], sha256=digests["sha256"][:8])
    assert (tmp_path / "file").read_bytes() == b"0123456789" and not (tmp_path / "file.part").exists()


def test_a_wrong_checksum_is_one_sentence(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(server, monkeypatch, "Caltech101", tmp_path / "origin")
    (file,) = FACTS["Caltech101"].files
    monkeypatch.setitem(FACTS, "Caltech101", replace(FACTS["Caltech101"], files=(replace(file, md5="0" * 32),)))
    task = datamodules.Caltech101(root=str(tmp_path / "data"))
    with pytest.raises(InputError) as error:
        task.download(lambda line: None)
    assert re.fullmatch(
        rf"{file.url} has md5 {file.md5}, not 0+: the file was removed, try again or fetch it by hand\.",
        str(error.value),
    )
    assert not [path for path in listing(tmp_path / "data") if "caltech-101" in path]
    assert task.inspect().status == "missing"


def test_an_archive_of_another_version_is_not_put_in_place(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(server, monkeypatch, "Food", tmp_path / "origin")
    monkeypatch.setitem(FACTS, "Food", replace(FACTS["Food"], test=5))
    with pytest.raises(InputError, match=r"now offers other data than Food: .*test\.json lists 3 test images, not 5"):
        datamodules.Food(root=str(tmp_path / "data")).download(lambda line: None)
    assert not listing(tmp_path / "data")


def test_a_kill_while_unpacking_leaves_nothing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(server, monkeypatch, "OxfordPet", tmp_path / "origin")
    task = datamodules.OxfordPet(root=str(tmp_path / "data"))

    def killed(line: str) -> None:
        if line == "unpacking annotations.tar.gz":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        task.download(killed)
    assert task.inspect().status == "missing"
    server.contents.clear()  # both archives are there already
    task.download(lambda line: None)
    assert task.inspect().status == "present"


def test_what_is_there_is_not_overwritten(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(server, monkeypatch, "EuroSAT", tmp_path / "origin")
    root = tmp_path / "data"
    shutil.copytree(tmp_path / "origin" / "eurosat", root / "eurosat")
    image = root / "eurosat" / "2750" / "Forest" / "Forest_2.jpg"
    image.unlink()
    before = listing(root)
    task = datamodules.EuroSAT(root=str(root))
    with pytest.raises(InputError, match=f"{image} is missing: .*, or remove {root / 'eurosat'} and download it anew."):
        task.download(lambda line: None)
    (root / "eurosat").rename(root / "other")
    with pytest.raises(InputError, match=r"lies in .* and has to lie in .*: move it\."):
        task.download(lambda line: None)
    (root / "other").rename(root / "eurosat")
    assert listing(root) == before and not server.ranges


@pytest.mark.parametrize("name", [name for name in FACTS if name not in AUTOMATIC])
def test_what_has_to_be_fetched_by_hand_says_how(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no longer at its address"):
        getattr(datamodules, name)(root=str(tmp_path)).download(lambda line: None)


def test_a_wrong_address_is_one_sentence(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/nothing cannot be fetched \(HTTP status 404\): try again"):
        fetch(server.url("nothing"), tmp_path / "file", lambda line: None)
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"cannot be fetched .*refused"):
        fetch(server.url("nothing"), tmp_path / "file", lambda line: None)


@pytest.mark.parametrize("damage", ["cut", "cut at the end", "flipped"])
@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "a.gz"])
def test_a_damaged_archive_is_removed(name: str, damage: str, tmp_path: Path) -> None:
    (tmp_path / "content").mkdir()
    noise = np.random.default_rng(0).bytes(10240)  # is stored as it is: no code breaks, the checksum alone tells
    (tmp_path / "content" / "file").write_bytes(noise)
    whole = packed(tmp_path, ["content"], name if name != "a.gz" else "a.tar.gz")
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    (tmp_path / name).write_bytes({"cut": whole[:middle], "cut at the end": whole[:-1], "flipped": flipped}[damage])
    with pytest.raises(InputError, match=r"was damaged .* and is removed: try again"):
        unpack(tmp_path / name, tmp_path / "unpacked")
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
def test_no_archive_writes_outside_of_its_folder(name: str, tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "evil")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo(name if not name.startswith("/") else "../evil")
        tar.addfile(member)
    for archive_name in ("a.zip", "a.tar.gz"):
        with pytest.raises(InputError, match="outside of its folder: do not unpack it"):
            unpack(tmp_path / archive_name, tmp_path / "deep" / "unpacked")
    assert not list(tmp_path.rglob("evil"))


def test_sources_are_those_of_torchvision() -> None:
    from torchvision import datasets as theirs

    def pairs(name: str) -> list[tuple[str, str | None]]:
        return [(file.url, file.md5) for file in FACTS[name].files]

    def over_tls(url: str) -> str:
        return url.replace("http://", "https://")

    assert all(file.url.startswith("https://") for facts in FACTS.values() for file in facts.files)

    assert pairs("Aircraft") == [(theirs.FGVCAircraft._URL, None)]
    assert pairs("CIFAR100") == [(theirs.CIFAR100.url, theirs.CIFAR100.tgz_md5)]
    assert pairs("DTD") == [(theirs.DTD._URL, theirs.DTD._MD5)]
    prefix, files = theirs.Flowers102._download_url_prefix, theirs.Flowers102._file_dict.values()
    assert pairs("Flowers") == [(f"{prefix}{name}", md5) for name, md5 in files]
    assert pairs("Food") == [(over_tls(theirs.Food101._URL), theirs.Food101._MD5)]
    assert pairs("MNIST") == [(f"{theirs.MNIST.mirrors[0]}{name}", md5) for name, md5 in theirs.MNIST.resources]
    assert pairs("OxfordPet") == list(theirs.OxfordIIITPet._RESOURCES)
    assert all(isinstance(file, Download) for facts in FACTS.values() for file in facts.files)
