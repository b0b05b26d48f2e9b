"""Builds of a small real book that are killed, one after the other, end with the site of an undisturbed build.

Cut off while it opens a file: `sitecustomize.py` kills at the first opening for writing of a file whose path fits, and leaves
that file empty, as it is between the opening and the first write. Every moment by itself, and moments drawn by chance:

    .venv/bin/pytest -m cold tests/publish/test_interrupted.py
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from small_book import SmallBook

KILLER = """
import os, signal, sys

def kill(event, arguments):
    if event != "open" or not isinstance(arguments[1], str) or not set("wxa") & set(arguments[1]):
        return
    if os.environ["KILL_AT"] in str(arguments[0]):
        os.close(os.open(arguments[0], os.O_CREAT | os.O_WRONLY | os.O_TRUNC))
        os.killpg(0, signal.SIGKILL)

sys.addaudithook(kill)
"""
WRITTEN = {
    "the cache": "/base.ipynb",
    "a page": "html/book/losses/multilabel-softmax.html",
    "what Sphinx knows": "environment.pickle",
    "the search index": "searchindex.js",
    "a notebook": "notebooks/book/asides/pi-day.ipynb",
    "the zip": "derivations-that-run.zip.part",
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> SmallBook:
    book = SmallBook(tmp_path_factory.mktemp("undisturbed"))
    book.build()
    return book


@pytest.fixture
def book(tmp_path: Path) -> SmallBook:
    (tmp_path / "killer").mkdir()
    (tmp_path / "killer/sitecustomize.py").write_text(KILLER)
    return SmallBook(tmp_path / "a book")


def kernels_of(build: subprocess.Popen[str]) -> list[psutil.Process]:
    """The kernels that a build runs; waits until there is one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(psutil.Error):  # a process may end between two looks
            children = psutil.Process(build.pid).children(recursive=True)
            if kernels := [child for child in children if "ipykernel_launcher" in child.cmdline()]:
                return kernels
        time.sleep(0.05)
    raise AssertionError("no kernel was started")


def kill(build: subprocess.Popen[str]) -> None:
    """Kill make and all that is in its process group."""
    os.killpg(build.pid, signal.SIGKILL)
    build.communicate()


def kill_in_a_chapter(book: SmallBook) -> list[psutil.Process]:
    build = book.start()
    kernels = kernels_of(build)
    kill(build)
    return kernels


def kill_between_chapters(book: SmallBook) -> None:
    build = book.start()
    assert any(line.startswith("executed") for line in build.stdout)
    kill(build)


def kill_while_written(book: SmallBook, path: str) -> None:
    build = book.start(PYTHONPATH=str(book.folder.parent / "killer"), KILL_AT=path)
    out, err = build.communicate(timeout=300)
    assert build.returncode == -signal.SIGKILL, f"{path} was not opened for writing: {out}{err}"


def assert_same_site(book: SmallBook, undisturbed: SmallBook) -> None:
    files, expected = book.files(), undisturbed.files()
    assert files.keys() == expected.keys()
    assert [name for name in files if files[name] != expected[name]] == []
    zips = [b.folder / "_build/derivations-that-run.zip" for b in (book, undisturbed)]
    assert abs(zips[0].stat().st_size - zips[1].stat().st_size) < 1000, "the times in it are packed, too"


@pytest.mark.cold
def test_a_build_that_is_killed_again_and_again_ends_with_the_same_site(
    book: SmallBook, undisturbed: SmallBook
) -> None:
    kernels = kill_in_a_chapter(book)
    assert psutil.wait_procs(kernels, timeout=30)[1] == [], "kernels end with the build"
    kill_between_chapters(book)
    for path in WRITTEN.values():
        kill_while_written(book, path)
    assert "Another build" not in book.build(), "the lock ends with the build"
    assert_same_site(book, undisturbed)


def test_kernels_end_when_the_executor_alone_is_killed(book: SmallBook) -> None:
    build = book.start()
    kernels = kernels_of(build)
    kernels[0].parent().kill()
    build.communicate(timeout=60)
    assert build.returncode != 0
    assert psutil.wait_procs(kernels, timeout=30)[1] == []


def test_what_a_killed_make_leaves_running_keeps_the_lock_and_the_next_build_waits_for_it(
    book: SmallBook, undisturbed: SmallBook
) -> None:
    build = book.start()
    orphan = kernels_of(build)[0].parent()
    os.kill(build.pid, signal.SIGKILL)
    said = book.build()
    build.communicate()
    assert not orphan.is_running()
    assert f"Another build is running in {book.folder}: waiting until it ends." in said
    assert "0 executed, 3 cached" in said, "its chapters are there"
    assert_same_site(book, undisturbed)


def test_the_second_of_two_builds_waits(book: SmallBook, undisturbed: SmallBook) -> None:
    first = book.start()
    kernels_of(first)
    second = book.start()
    said = [process.communicate(timeout=300) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert "Another build is running" in said[1][1]
    assert "0 executed, 3 cached" in said[1][0]
    assert_same_site(book, undisturbed)


@pytest.mark.cold
@pytest.mark.parametrize("moment", ["in a chapter", "between chapters", *WRITTEN])
def test_after_a_kill_at_this_moment_the_next_build_gives_the_same_site(
    book: SmallBook, undisturbed: SmallBook, moment: str
) -> None:
    if moment in WRITTEN:
        kill_while_written(book, WRITTEN[moment])
    else:
        {"in a chapter": kill_in_a_chapter, "between chapters": kill_between_chapters}[moment](book)
    book.build()
    assert_same_site(book, undisturbed)


@pytest.mark.cold
@pytest.mark.parametrize("alone", [False, True], ids=["with its children", "alone"])
@pytest.mark.parametrize("seed", range(5))
def test_after_a_kill_at_any_moment_the_next_build_gives_the_same_site(
    book: SmallBook, undisturbed: SmallBook, seed: int, alone: bool
) -> None:
    started = time.monotonic()
    book.build()
    took = time.monotonic() - started
    shutil.rmtree(book.folder / "_build")
    build = book.start()
    time.sleep(random.Random(seed).uniform(0, took))
    (os.kill if alone else os.killpg)(build.pid, signal.SIGKILL)
    book.build()
    build.communicate()
    assert_same_site(book, undisturbed)


# Storage that takes no more. A name space of its own lets a test mount; where that is not allowed, it is skipped.

INSIDE = ["unshare", "--map-root-user", "--mount", "sh", "-ec"]


@pytest.fixture
def mounting() -> Iterator[None]:
    if (
        not shutil.which("unshare")
        or subprocess.run([*INSIDE, "mount -t tmpfs none /mnt"], capture_output=True).returncode
    ):
        pytest.skip("this machine lets nobody mount")
    yield


STEPS = ["execute", "render", "archive _build/html _build/book.zip"]
READ_ONLY = "mount --bind . .; mount -o remount,ro,bind . .; cd ."
FULL = "mount -t tmpfs -o size=32k none _build; mkdir _build/html; head -c 20000 /dev/urandom >_build/html/index.html"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("mount", "said"), [(READ_ONLY, "Read-only file system"), (FULL, "No space left on device")])
def test_storage_that_takes_no_more_is_explained_in_one_line(
    book: SmallBook, mounting: None, step: str, mount: str, said: str
) -> None:
    book.site.mkdir(parents=True)
    (book.site / "index.html").touch()
    done = subprocess.run(
        [*INSIDE, f'{mount}; cd "$PWD"; exec {sys.executable} -m kexue_publish.{step}'],
        cwd=book.folder,
        env=os.environ | {"PYTHONPATH": str(book.folder)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"cannot be written ({said}): " in line
