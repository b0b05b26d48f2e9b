"""Every chapter's notebook on a machine like Colab's: another Python environment, and nothing of the book in it.

Real: pip installs ``kexue_utils`` from what the branch of the notebooks will hold, Colab's versions of IPython and
ipywidgets 7 run the notebook from its first cell to its last. Simulated: the address that the first cell installs from
becomes a wheel of this tree, and Python is 3.11. `requirements.txt` beside this file says where its versions are from.

``COLAB=all pytest -m colab -n 2 --dist loadgroup`` runs all chapters, two at a time; without ``COLAB=all`` the reading guide and
those that have changed since the branch left origin/main, or since the last commit: of many, a few that each commit draws anew.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from filelock import FileLock
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from kexue_publish.launch import Repository, extras_for, find_repository, install_cell

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "_build" / "notebooks"
COLAB = ROOT / "_build" / "colab"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
READING_GUIDE = "book/reading-guide"
EVIDENCE = "application/vnd.kexue.evidence+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
EXPLORE = re.compile(r"^explore\(", flags=re.M)
PUBLISHED = Repository("ada/engine")
MOST = 4


# --- which chapters ---------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    """What git prints; nothing where it fails."""
    asked = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else ""


def changed(folder: Path) -> set[str]:
    """Chapters whose source has changed since the branch left origin/main, on that branch itself since the last commit."""
    base = git(folder, "merge-base", "HEAD", "origin/main")
    if base == git(folder, "rev-parse", "HEAD") or not base:
        base = git(folder, "rev-parse", "--verify", "HEAD~1")
    files = git(folder, "diff", "--name-only", "--relative", base, "--", "book") if base else ""
    return {file.removesuffix(".md") for file in files.splitlines() if file.endswith(".md")}


def chosen() -> list[str]:
    made = sorted(path.relative_to(NOTEBOOKS).with_suffix("").as_posix() for path in NOTEBOOKS.glob("book/**/*.ipynb"))
    if os.environ.get("COLAB") == "all":
        return made
    return [READING_GUIDE, *drawn([chapter for chapter in made if chapter in changed(ROOT) - {READING_GUIDE}], ROOT)]


def drawn(chapters: list[str], folder: Path) -> list[str]:
    """At most as many chapters as there is time for, a minute each; every process of one test run draws the same."""
    if len(chapters) <= MOST:
        return chapters
    return sorted(random.Random(git(folder, "rev-parse", "HEAD")).sample(chapters, MOST))


# --- the machine ------------------------------------------------------------------------------------------------------


def packages_of(environment: Path) -> Path:
    (folder,) = environment.glob("lib/python*/site-packages")
    return folder


@pytest.fixture(scope="session")
def colab() -> Path:
    """The environment with Colab's packages: kept, and made anew when their list changes."""
    record = COLAB / REQUIREMENTS.name
    COLAB.parent.mkdir(exist_ok=True)
    with FileLock(f"{COLAB}.lock"):
        if not record.is_file() or record.read_text("utf-8") != REQUIREMENTS.read_text("utf-8"):
            venv.create(COLAB, clear=True, with_pip=True)
            python = [str(COLAB / "bin" / "python"), "-W", "ignore"]
            pip = [*python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            # The CPU build of torch, where its index can be reached: PyPI's brings gigabytes of CUDA.
            (torch,) = re.findall("^torch==.*", REQUIREMENTS.read_text("utf-8"), flags=re.M)
            index = ["--extra-index-url", "https://download.pytorch.org/whl/cpu", "--retries", "1"]
            subprocess.run([*pip, "--no-deps", torch, *index], check=True)
            subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True)
            subprocess.run([*python, "-c", "import matplotlib.pyplot"], check=True)  # makes its list of fonts
            shutil.copy(REQUIREMENTS, record)
    return COLAB


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``kexue_utils`` as pip makes it from the archive of the branch."""
    folder = tmp_path_factory.mktemp("wheel")
    branch = folder / "engine-notebooks"
    shutil.copytree(NOTEBOOKS, branch, ignore=shutil.ignore_patterns(".doctrees"))
    archive = shutil.make_archive(str(folder / "notebooks"), "zip", folder, branch.name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), archive], check=True)
    (made,) = folder.glob("kexue_utils-*.whl")
    return made


def machine_on(colab: Path, folder: Path) -> KernelSpecManager:
    """A fresh environment on top of Colab's, into which a notebook installs; returns what knows its kernel."""
    venv.create(folder, symlinks=True)
    (packages_of(folder) / "colab.pth").write_text(f"{packages_of(colab)}\n")
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [str(folder / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}))
    return KernelSpecManager(kernel_dirs=[str(kernel.parent)], ensure_native_kernel=False)


# Before and behind the cell that installs, and at the very end.
WHERE = 'from importlib.util import find_spec\nprint(getattr(find_spec("kexue_utils"), "origin", None))'
MOVE = """\
for explorer in [value for value in Out.values() if type(value).__name__ == "Explorer"]:
    *controls, picture = explorer.widget.children[: len(explorer.sliders) + 1]
    for slider, control in zip(explorer.sliders, controls):
        before = picture.value
        control.value = slider.values[-1] if control.value != slider.values[-1] else slider.values[0]
        print("stuck" if picture.value == before else "failed" if "alert" in picture.value else "moved")"""


@dataclass
class Ran:
    """A notebook when all its cells have run, and where its machine has its packages."""

    book: NotebookNode
    packages: Path

    @property
    def code(self) -> list[NotebookNode]:
        return [cell for cell in self.book.cells if cell.cell_type == "code"]

    def shown(self, mime: str) -> list[tuple[NotebookNode, NotebookNode]]:
        """Cells with what they show in a format."""
        return [(cell, output.data) for cell in self.code for output in cell.outputs if mime in output.get("data", {})]


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest, colab: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    book = nbformat.read(NOTEBOOKS / f"{request.param}.ipynb", as_version=4)
    first, *code = [cell for cell in book.cells if cell.cell_type == "code"]
    extras = extras_for([cell.source for cell in code], NOTEBOOKS)
    assert first.source == install_cell(extras, find_repository(ROOT))
    first.source = install_cell(extras, PUBLISHED).replace(PUBLISHED.archive, wheel.as_uri())
    assert wheel.as_uri() in first.source
    place = book.cells.index(first)
    book.cells[place : place + 1] = [new_code_cell(WHERE), first, new_code_cell(WHERE)]
    book.cells.append(new_code_cell(MOVE))

    machine, content = tmp_path_factory.mktemp("machine"), tmp_path_factory.mktemp("content")
    client = NotebookClient(
        book,
        km=AsyncKernelManager(kernel_spec_manager=machine_on(colab, machine)),
        timeout=600,
        allow_errors=True,
        resources={"metadata": {"path": str(content)}},
    )
    # Nothing of this process: neither where its modules are, nor that warnings are errors, nor that a book is built.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "KEXUE"))}
    client.execute(cleanup_kc=True, env=kept | {"IPYTHONDIR": str(content / ".ipython")})
    return Ran(book, packages_of(machine))


def printed(cell: NotebookNode, stream: str = "stdout") -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == stream)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "ran" in metafunc.fixturenames:
        unbuilt = pytest.mark.skipif(not NOTEBOOKS.is_dir(), reason="there are no notebooks: run `make notebooks`")
        metafunc.parametrize(
            "ran",
            [
                pytest.param(name, marks=[pytest.mark.colab, pytest.mark.xdist_group(name), unbuilt])
                for name in chosen()
            ],
            ids=lambda name: name.rpartition("/")[2],
            indirect=True,
            scope="module",
        )


# --- the facts --------------------------------------------------------------------------------------------------------


def test_the_first_cell_installs_the_package_where_it_was_missing(ran):
    before, first, after = ran.code[:3]
    assert "%pip install" in first.source
    assert printed(before) == "None\n"
    assert printed(after) == f"{ran.packages / 'kexue_utils' / '__init__.py'}\n"


def test_it_needs_nothing_else_that_colab_has_not(ran):
    installed = {path.name.partition("-")[0] for path in ran.packages.iterdir()}
    assert installed - {"__pycache__"} == {"colab.pth", "kexue_utils"}


def test_every_cell_runs(ran):
    errors = [
        f"{output.ename}: {output.evalue}\n{cell.source}"
        for cell in ran.code
        for output in cell.outputs
        if output.output_type == "error"
    ]
    assert errors == []
    assert all(cell.execution_count for cell in ran.code)


def test_only_progress_bars_go_to_stderr(ran):
    said = [line for cell in ran.code for line in re.split(r"[\r\n]+", printed(cell, "stderr"))]
    assert [line for line in said if line.strip() and not re.search(r"\d+%\|.*\| *\d+/\d+ \[", line)] == []


def test_evidence_can_be_read_without_the_book(ran):
    evidence = ran.shown(EVIDENCE)
    # The page of a part has none.
    assert bool(evidence) == any("kexue_utils.evidence" in cell.source for cell in ran.code)
    for _cell, data in evidence:
        assert data["text/html"]
        assert data["text/plain"]


def test_no_markup_that_only_the_book_knows_is_shown(ran):
    widgets = ran.book.metadata.get("widgets", {STATE: {"state": {}}})[STATE]["state"].values()
    texts = [data[mime] for mime in ("text/markdown", "text/html") for _cell, data in ran.shown(mime)]
    texts += [str(widget["state"].get("value", "")) for widget in widgets]
    assert [found[0] for text in texts for found in re.finditer(r"\{[a-z:-]+\}`.*?`", text)] == []


def test_every_slider_is_one_of_ipywidgets_7_and_moves_its_figure(ran):
    boxes = [data[WIDGET]["model_id"] for cell, data in ran.shown(WIDGET) if EXPLORE.search(cell.source)]
    assert len(boxes) == sum(len(EXPLORE.findall(cell.source)) for cell in ran.code)
    state = ran.book.metadata.widgets[STATE]["state"] if boxes else {}
    assert {(state[box]["model_name"], state[box]["model_module_version"]) for box in boxes} <= {("VBoxModel", "1.5.0")}
    moved = printed(ran.code[-1]).split()
    assert len(moved) >= len(boxes)
    assert set(moved) <= {"moved"}


# --- the choice -------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit and two chapters; returns what runs git in it."""

    def run(*arguments: str) -> None:
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    run("init")
    for name in ("one", "two"):
        (tmp_path / "book").mkdir(exist_ok=True)
        (tmp_path / "book" / f"{name}.md").write_text("as it was")
    run("add", ".")
    run("commit", "-m", "first")
    return tmp_path, run


def change(folder: Path, run, name: str) -> None:
    (folder / "book" / f"{name}.md").write_text("changed")
    run("commit", "-am", name)


def test_where_nothing_came_before_nothing_has_changed(checkout):
    folder, _run = checkout
    assert changed(folder) == set()


def test_on_main_what_changed_since_the_last_commit_is_run(checkout):
    folder, run = checkout
    change(folder, run, "one")
    change(folder, run, "two")
    run("update-ref", "refs/remotes/origin/main", "HEAD")
    assert changed(folder) == {"book/two"}


def test_of_many_chapters_a_few_are_drawn_and_another_commit_draws_others(checkout):
    folder, run = checkout
    many = [f"book/{n}" for n in range(50)]
    draws = []
    for name in ("one", "two"):
        change(folder, run, name)
        draws.append(drawn(many, folder))
        assert len(draws[-1]) == MOST and draws[-1] == drawn(many, folder) and set(draws[-1]) < set(many)
    assert draws[0] != draws[1]
    assert drawn(many[:MOST], folder) == many[:MOST]


def test_on_a_branch_all_that_changed_since_it_left_main_is_run(checkout):
    folder, run = checkout
    run("update-ref", "refs/remotes/origin/main", "HEAD")
    change(folder, run, "one")
    change(folder, run, "two")
    assert changed(folder) == {"book/one", "book/two"}
