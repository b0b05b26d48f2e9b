"""Which chapters the executor runs, in what order, and what it says; on books of a few one-line chapters."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest
from filelock import FileLock

from kexue_publish import execute
from kexue_publish.execute import dependencies, execute_book, import_graph

HEADER = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n"
CONF = """
extensions = ["myst_nb", "sphinx_external_toc", "kexue_publish.execute"]
nb_execution_mode = "cache"
exclude_patterns = ["_build"]
"""


class Book:
    """A book in a folder, with a package of helpers `tools` beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / "tools"
        self.ran = folder / "ran.txt"
        self.write("_config.yml", "title: Tiny\nexecute:\n  execute_notebooks: cache\n  timeout: 60\n")
        self.write("conf.py", CONF)
        self.write("requirements.txt", "numpy==1.0\n")
        self.write("tools/__init__.py", "")
        self.write("tools/base.py", "NUMBER = 7\n")
        self.write("tools/upper.py", "from .base import NUMBER\n\nTWICE = 2 * NUMBER\n")
        self.write("tools/other.py", "NAME = 'other'\n")
        self.write("book/index.md", "# Index\n\nNo code here.\n")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf8")

    def chapter(self, name: str, code: str, prose: str = "Prose.") -> None:
        """Write a chapter whose cell notes in `ran.txt` that it runs."""
        note = f"with open({str(self.ran)!r}, 'a') as ran: print({name!r}, file=ran)"
        cell = f"```{{code-cell}}\n{note}\n{dedent(code).strip()}\n```"
        self.write(f"book/{name}.md", f"{HEADER}# {name}\n\n{prose}\n\n{cell}\n")
        pages = sorted(path.stem for path in (self.folder / "book").glob("*.md") if path.stem != "index")
        files = "".join(f"  - file: book/{page}\n" for page in pages)
        self.write("_toc.yml", f"format: jb-book\nroot: book/index\nparts:\n- caption: Part\n  chapters:\n{files}")

    def execute(self, **options) -> dict[str, execute.Chapter]:
        """Run the executor; the outcome of each chapter by its name."""
        options = {"package": self.package, "workers": 2} | options
        return {Path(chapter.page).stem: chapter for chapter in execute_book(self.folder, **options)}

    def states(self, **options) -> dict[str, str]:
        return {name: chapter.state for name, chapter in self.execute(**options).items()}

    def runs(self) -> list[str]:
        """The names of the chapters that ran since the last call, in the order in which they started."""
        names = self.ran.read_text("utf8").split() if self.ran.exists() else []
        self.ran.unlink(missing_ok=True)
        return names

    def sql(self, statement: str, *values) -> None:
        with closing(sqlite3.connect(self.folder / "_build/.jupyter_cache/global.db")) as database, database:
            assert database.execute(statement, values).rowcount == 1

    def build(self) -> str:
        """Build with Sphinx as jupyter-book does, and return its log."""
        command = [sys.executable, "-m", "sphinx", "-W", "-b", "html", ".", "_build/html"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def html(self, name: str) -> str:
        return (self.folder / f"_build/html/book/{name}.html").read_text("utf8")


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def test_the_build_finds_every_chapter_executed_and_shows_later_executions(book: Book) -> None:
    book.chapter("number", "from tools import upper\nprint('twice is', upper.TWICE)")
    book.chapter("plain", "print('plain')")
    assert book.states() == {"number": "executed", "plain": "executed"}
    book.runs()

    log = book.build()
    assert log.count("Using cached notebook") == 2
    assert "Executing notebook" not in log
    assert book.runs() == []
    assert "twice is 14" in book.html("number")

    book.write("tools/base.py", "NUMBER = 8\n")
    assert book.states() == {"number": "executed", "plain": "cached"}
    log = book.build()
    assert "twice is 16" in book.html("number")
    assert log.count("Using cached notebook") == 1, "the page of the other chapter is still good"


def test_chapters_run_at_the_same_time(book: Book) -> None:
    meet = """
        import pathlib, time
        pathlib.Path("{me}").touch()
        start = time.monotonic()
        while not pathlib.Path("{you}").exists():
            if time.monotonic() > start + 20: raise TimeoutError("alone")
            time.sleep(0.05)
    """
    book.chapter("one", meet.format(me="1.met", you="2.met"))
    book.chapter("two", meet.format(me="2.met", you="1.met"))
    assert book.states(workers=2) == {"one": "executed", "two": "executed"}
    assert (book.folder / "book/1.met").exists(), "a chapter runs in its own folder"


def test_only_what_a_change_concerns_is_executed_again(book: Book) -> None:
    book.chapter("direct", "import tools.base as base")
    book.chapter("indirect", "from tools.upper import TWICE")
    book.chapter("neither", "from tools import other")
    book.execute()
    assert sorted(book.runs()) == ["direct", "indirect", "neither"]

    book.chapter("direct", "import tools.base as base", prose="Another sentence.")
    book.write("requirements.txt", "# a remark\nnumpy==1.0\n")
    assert set(book.states().values()) == {"cached"}
    assert book.runs() == []

    book.chapter("direct", "import tools.base as base\nbase.NUMBER")
    assert book.states() == {"direct": "executed", "indirect": "cached", "neither": "cached"}
    assert book.runs() == ["direct"]

    book.write("tools/base.py", "NUMBER = 9\n")
    chapters = book.execute()
    assert sorted(book.runs()) == ["direct", "indirect"]
    assert chapters["indirect"].why == "tools.base"
    assert chapters["neither"].state == "cached"


def test_a_failing_chapter_is_explained_and_stops_no_other(book: Book, capsys: pytest.CaptureFixture) -> None:
    book.chapter("good", "1 + 1")
    book.chapter("on-purpose", "1 / 0")
    purpose = book.folder / "book/on-purpose.md"
    purpose.write_text(purpose.read_text("utf8").replace("{code-cell}\n", "{code-cell}\n:tags: [raises-exception]\n"))
    book.chapter("wrong", "class CheckFailed(Exception): ...\nraise CheckFailed('eq-kl: the sides differ by 3')")
    for _ in range(2):
        assert execute.main(["--source", str(book.folder)]) == 1
        out, err = capsys.readouterr()
        assert "book/wrong.md:11: CheckFailed: eq-kl: the sides differ by 3\n" in err
        assert "    > raise CheckFailed(" in err
        assert "\x1b" not in err
        assert "Traceback" not in err
    assert "0 executed, 2 cached, 1 failed" in out
    assert sorted(book.runs()) == ["good", "on-purpose", "wrong", "wrong"]


def test_unreadable_chapters_are_named_in_one_line_each(book: Book) -> None:
    book.chapter("code", "x = = 1")
    book.chapter("gone", "1")
    (book.folder / "book/gone.md").unlink()
    book.write("book/header.md", "---\nfile_format: mystnb\nkernelspec: [\n---\n\n```{code-cell}\n1\n```\n")
    book.write("book/latin.md", "")
    (book.folder / "book/latin.md").write_bytes("Caf\u00e9".encode("latin-1"))
    book.chapter("good", "1")  # also puts the page with the bad header into the table of contents
    toc = (book.folder / "_toc.yml").read_text("utf8")
    book.write("_toc.yml", f"{toc}  - file: book/gone\n")
    chapters = book.execute()
    assert chapters["good"].state == "executed"
    assert chapters["code"].message == "book/code.md:11: invalid syntax in line 2 of this cell: x = = 1"
    assert chapters["gone"].message == "book/gone.md: _toc.yml names it, but there is no such file"
    assert chapters["header"].message.startswith("book/header.md:3: the YAML header cannot be read: ")
    assert chapters["latin"].message.startswith("book/latin.md: cannot be read as a notebook: 'utf-8' codec")
    assert all("\n" not in chapter.message for chapter in chapters.values())
    assert book.runs() == ["good"]


def test_a_chapter_that_takes_its_kernel_down_is_explained(book: Book) -> None:
    book.chapter("fatal", "import os\nos._exit(1)")
    message = book.execute()["fatal"].message
    assert message.startswith("book/fatal.md:11: DeadKernelError: Kernel died")
    assert "    | os._exit(1)" in message


def test_a_chapter_that_does_not_end_is_stopped(book: Book) -> None:
    book.write("_config.yml", "title: Tiny\nexecute:\n  timeout: 3\n")
    book.chapter("endless", "import time\ntime.sleep(60)")
    start = time.monotonic()
    assert "did not end within the 3 s of `execute: timeout`" in book.execute()["endless"].message
    assert time.monotonic() - start < 30


def test_chapters_start_in_order_of_the_time_that_they_took(book: Book) -> None:
    for name in ("a-quick", "b-slow"):
        book.chapter(name, f"import tools.base  # {name}")
    book.execute()
    book.runs()
    for page, seconds in (("a-quick", 1), ("b-slow", 30)):
        book.sql(
            "update nbcache set data = json_set(data, '$.execution_seconds', ?) where uri = ?",
            seconds,
            f"book/{page}.md",
        )
    book.write("tools/base.py", "NUMBER = 1\n")
    book.chapter("c-new", "2")
    book.execute(workers=1)
    assert book.runs() == ["c-new", "b-slow", "a-quick"]


def test_a_damaged_cache_is_mended(book: Book, capsys: pytest.CaptureFixture) -> None:
    names = ("cut", "deleted", "keyless")
    for name in names:
        book.chapter(name, f"print('output of', {name!r})")
    book.write("_build/.jupyter_cache/global.db", "")
    assert book.states() == dict.fromkeys(names, "executed")
    assert "is damaged: every chapter is executed anew" in capsys.readouterr().err

    notebooks = list((book.folder / "_build/.jupyter_cache").glob("executed/*/base.ipynb"))
    (cut,) = (notebook for notebook in notebooks if "'cut'" in notebook.read_text("utf8"))
    cut.write_text(cut.read_text("utf8")[:100], "utf8")
    (deleted,) = (notebook for notebook in notebooks if "'deleted'" in notebook.read_text("utf8"))
    deleted.unlink()
    book.sql("update nbcache set data = json_set(data, '$.key', '?') where uri = 'book/keyless.md'")
    assert {c.page: c.why for c in book.execute().values()} == {
        f"book/{name}.md": "no readable record" for name in names
    }
    assert all("output of" in notebook.read_text("utf8") for notebook in notebooks)
    assert book.states() == dict.fromkeys(names, "cached")


def test_a_run_after_a_killed_one_finishes_the_job(book: Book) -> None:
    book.chapter("quick", "1")
    book.chapter("slow", "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(2)")
    call = f"from kexue_publish.execute import *; execute_book({str(book.folder)!r}, workers=2)"
    process = subprocess.Popen([sys.executable, "-c", call], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("executed book/quick.md")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    book.runs()
    assert book.states() == {"quick": "cached", "slow": "executed"}
    assert book.runs() == ["slow"]


def test_a_second_run_waits_for_the_first(book: Book, capsys: pytest.CaptureFixture) -> None:
    book.chapter("one", "1")
    (book.folder / "_build").mkdir()
    held = threading.Event()

    def first_run() -> None:
        with FileLock(book.folder / "_build/.jupyter_cache.lock"):
            held.set()
            time.sleep(1)
            book.write("first-run-is-over", "")

    thread = threading.Thread(target=first_run)
    thread.start()
    held.wait()
    assert book.states() == {"one": "executed"}
    assert (book.folder / "first-run-is-over").exists()
    assert "Another run is filling" in capsys.readouterr().err
    thread.join()


def test_the_environment_of_a_kernel_is_the_same_everywhere(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    book.chapter("env", "import os\nprint(os.environ['OMP_NUM_THREADS'], os.environ['KEXUE_BOOK'])\nhash('a')")
    before = dict(os.environ)
    first = book.execute()["env"]
    assert dict(os.environ) == before
    assert first.notebook.cells[1].outputs[0].text == "1 1\n"
    assert first.notebook.cells[1].metadata == {}, "no time of day"

    book.write("requirements.txt", "numpy==2.0\n")
    second = book.execute()["env"]
    assert second.why == "requirements.txt"
    assert second.notebook.cells[1].outputs == first.notebook.cells[1].outputs

    monkeypatch.setenv("KEXUE_SCALE", "full")
    assert book.execute()["env"].why == "KEXUE_SCALE"


def test_imports_are_found_in_every_form(book: Book) -> None:
    book.write("tools/sub/__init__.py", "from .. import other\n")
    book.write("tools/sub/deep.py", "def later():\n    from ..base import NUMBER\n")
    book.write("tools/broken.py", "def (:\n")
    graph = import_graph(book.package)

    def loaded(name: str) -> set[str]:
        return {module.removeprefix("tools.") for module in dependencies([name], graph)}

    assert loaded("tools.base.NUMBER") == {"tools", "base"}
    assert loaded("tools.upper") == {"tools", "upper", "base"}
    assert loaded("tools.sub.deep") == {"tools", "sub", "sub.deep", "other", "base"}
    assert loaded("tools.sub.*") == {"tools", "sub", "sub.deep", "other", "base"}
    assert loaded("tools.broken") == {"tools", "broken"}
    assert loaded("tools.*") == loaded("tools.base") | {"upper", "other", "sub", "sub.deep", "broken"}
    assert loaded("toolset.base") == set()


def test_a_data_file_counts_as_part_of_the_package(book: Book) -> None:
    before = import_graph(book.package)
    book.write("tools/light.mplstyle", "axes.grid: true\n")
    after = import_graph(book.package)
    assert {name for name in after if after[name] != before[name]} == {"tools"}


def test_there_must_be_a_book(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert execute.main(["--source", str(tmp_path)]) == 2
    assert "_toc.yml" in capsys.readouterr().err
    with pytest.raises(ValueError, match="workers is 0, expected at least 1"):
        execute_book(tmp_path, workers=0)
