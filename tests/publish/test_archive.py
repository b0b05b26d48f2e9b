"""The site as one file."""

from __future__ import annotations

import os
from zipfile import ZipFile

import pytest

from kexue_publish.archive import pack


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "html"
    (folder / "book").mkdir(parents=True)
    (folder / "index.html").write_text("<p>front</p>")
    (folder / "book" / "夹角.html").write_text("angle " * 1000)
    return folder


def test_everything_is_in_one_folder_named_after_the_file(site, tmp_path):
    pack(site, tmp_path / "the-book.zip")
    with ZipFile(tmp_path / "the-book.zip") as archive:
        assert archive.namelist() == ["the-book/book/夹角.html", "the-book/index.html"]
        assert archive.read("the-book/book/夹角.html") == b"angle " * 1000
        assert archive.getinfo("the-book/book/夹角.html").compress_size < 200


def test_the_same_site_gives_the_same_bytes(site, tmp_path):
    pack(site, tmp_path / "one.zip")
    first = (tmp_path / "one.zip").read_bytes()
    os.utime(site / "index.html", (0, 1_000_000_000))
    pack(site, tmp_path / "one.zip")
    assert (tmp_path / "one.zip").read_bytes() == first


def test_an_interrupted_run_leaves_the_old_file(site, tmp_path, monkeypatch):
    target = tmp_path / "one.zip"
    pack(site, target)
    before = target.read_bytes()
    (site / "more.html").write_text("more")
    monkeypatch.setattr(ZipFile, "writestr", lambda *_: (_ for _ in ()).throw(OSError("no space left on device")))
    with pytest.raises(OSError, match="no space"):
        pack(site, target)
    assert target.read_bytes() == before


def test_a_folder_that_is_no_site_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no index\.html: build the book first"):
        pack(tmp_path, tmp_path / "one.zip")
