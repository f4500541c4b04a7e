"""A file of the web as a source: found, fetched whole, or refused in one sentence."""

import hashlib
from pathlib import Path

import pytest

from gift_lightning.errors import InputError
from gift_lightning.sources import WebFile
from tests.datamodules.mtil.test_download import Server, server  # noqa: F401 (a fixture)


def test_a_file_of_the_web_is_fetched(server: Server, tmp_path: Path) -> None:  # noqa: F811
    server.contents["weights"] = b"0123456789"
    digits, path = hashlib.sha256(b"0123456789").hexdigest()[:8], tmp_path / "new" / "weights.pth"
    file, lines = WebFile("weights", str(path), server.url("weights"), size=10, sha256=digits), list[str]()
    found = file.inspect()
    assert (found.status, found.detail, found.can_be_fetched) == ("missing", f"{path} does not exist.", True)
    assert (found.url, found.bytes, found.where) == (file.url, 10, path)
    file.download(lines.append)
    assert path.read_bytes() == b"0123456789" and lines[-1].endswith("100 % of 0 MB")
    assert file.inspect().status == "present" and not file.inspect().can_be_fetched


def test_another_file_of_the_web_is_refused(server: Server, tmp_path: Path) -> None:  # noqa: F811
    server.contents["weights"] = b"other"
    file = WebFile("weights", str(tmp_path / "weights.pth"), server.url("weights"), size=10, sha256="0" * 8)
    with pytest.raises(InputError, match=r"has sha256 .*, not 0+: the file was removed"):
        file.download(lambda line: None)
    assert file.inspect().status == "missing"
    (tmp_path / "file").touch()
    below = WebFile("weights", str(tmp_path / "file" / "weights.pth"), server.url("weights"), size=10, sha256="0" * 8)
    with pytest.raises(InputError, match=r"weights\.pth cannot be written: "):
        below.download(lambda line: None)
