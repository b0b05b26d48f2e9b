"""The beginning of a real notebook in a real JupyterLab, in a real browser: it runs, and its slider moves the figure.

JupyterLab and its kernel are those of the book's own environment, with a fresh home: no settings of whoever runs this.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).parents[2]
CHAPTER = ROOT / "_build" / "notebooks" / "book" / "reading-guide.ipynb"
TOKEN = "only-this-test"

pytestmark = [
    pytest.mark.live,
    pytest.mark.xdist_group("live"),
    pytest.mark.skipif(not CHAPTER.is_file(), reason="there are no notebooks: run `make notebooks`"),
]


@pytest.fixture(scope="module")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chapter up to its first link to a numbered equation: by then there is a slider, too."""
    book = nbformat.read(CHAPTER, as_version=4)
    sources = [cell.source for cell in book.cells]
    end = next(place for place, source in enumerate(sources) if "](#equation-" in source)
    assert any(re.search(r"^explore\(", source, re.M) for source in sources[:end])
    book.cells = book.cells[: end + 1]
    path = tmp_path_factory.mktemp("content") / "beginning.ipynb"
    nbformat.write(book, path)
    return path


@pytest.fixture(scope="module")
def server(beginning: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a JupyterLab that serves the folder of the notebook."""
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KEXUE", "JUPYTER"))}
    places = {f"JUPYTER_{what}_DIR": str(home / what) for what in ("CONFIG", "DATA", "RUNTIME")}
    options = {
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": beginning.parent,
        "IdentityProvider.token": TOKEN,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with (home / "log").open("w") as log:
        lab = subprocess.Popen(command, env=kept | places, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(120):
            try:
                with urllib.request.urlopen(f"{address}/api?token={TOKEN}"):
                    break
            except URLError:
                assert lab.poll() is None, (home / "log").read_text()
                time.sleep(0.25)
        yield address
    finally:
        lab.terminate()
        lab.wait(30)


@pytest.fixture(scope="module")
def requests() -> list[str]:
    """Addresses that the page asked for."""
    return []


@pytest.fixture(scope="module")
def page(browser: Browser, server: str, beginning: Path, requests: list[str]) -> Iterator[Page]:
    """The notebook in JupyterLab when all its cells have run."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{server}/lab/tree/{beginning.name}?token={TOKEN}")
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=60_000)
    code = [cell for cell in nbformat.read(beginning, as_version=4).cells if cell.cell_type == "code"]
    folded = sum("cellView" in cell.metadata for cell in code)
    expect(page.locator(".jp-CodeCell .jp-Placeholder")).to_have_count(folded)
    page.get_by_role("menuitem", name="View", exact=True).click()
    page.get_by_role("menuitem", name="Expand All Code", exact=True).click()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    expect(prompts.last).to_have_text(re.compile(r"\[\d+\]:"), timeout=60_000)
    page.evaluate("() => window.MathJax?.startup?.promise")
    yield page
    page.close()


def the_figure(page: Page) -> tuple[str | None, str, str]:
    """What the first slider figure shows: its picture, the line with its numbers, and the value beside the slider."""
    output = page.locator(".jp-OutputArea-output", has=page.locator(".noUi-handle")).first
    picture, text, value = (output.locator(part).first for part in ("img", "[aria-live]", ".widget-readout"))
    return picture.get_attribute("src"), text.inner_text(), value.inner_text()


def has_changed(page: Page, before: tuple[str | None, str, str]) -> bool:
    """Whether picture, line and value have all become others, within ten seconds."""
    for _ in range(100):
        if all(one != other for one, other in zip(the_figure(page), before, strict=True)):
            return True
        page.wait_for_timeout(100)
    return False


# --- the facts --------------------------------------------------------------------------------------------------------


def test_every_cell_has_run_without_an_error(page, beginning):
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()
    code = [cell for cell in nbformat.read(beginning, as_version=4).cells if cell.cell_type == "code"]
    assert prompts == [f"[{number}]:" for number in range(1, len(code) + 1)]
    wrong = ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr")
    assert [page.locator(f'[data-mime-type="{mime}"]').all_inner_texts() for mime in wrong] == [[], []]


def test_formulas_are_typeset(page):
    expect(page.locator(".jp-RenderedMarkdown mjx-container").first).to_be_attached()
    assert page.locator("mjx-merror").count() == 0
    left = page.locator(".jp-RenderedMarkdown, .jp-RenderedHTMLCommon").evaluate_all(
        """(parts) => parts.flatMap((part) => {
          const copy = part.cloneNode(true);
          for (const other of copy.querySelectorAll("mjx-container, code, pre")) other.remove();
          return copy.textContent.match(/\\$.{0,40}/g) ?? [];
        })"""
    )
    assert left == []


def test_equations_have_their_numbers(page, beginning):
    wanted = re.findall(r"\\tag\{(\d+)\}", beginning.read_text("utf-8").replace("\\\\", "\\"))
    # A glyph's character is in the name of its class: mjx-c28 is an opening parenthesis.
    shown = page.locator("mjx-labels").evaluate_all(
        """(labels) => labels.map((label) => [...label.querySelectorAll("mjx-c")].map((glyph) =>
          String.fromCodePoint(parseInt(glyph.className.match(/mjx-c([0-9A-F]+)/)[1], 16))).join(""))"""
    )
    assert len(wanted) >= 3
    assert shown == [f"({number})" for number in wanted]


def test_a_reference_leads_to_its_equation(page):
    link = page.locator('.jp-RenderedMarkdown a[href^="#equation-"]').first
    equation = page.locator("mjx-labels").nth(int(link.inner_text().strip("()")) - 1)
    page.set_viewport_size({"width": 1280, "height": 400})
    link.scroll_into_view_if_needed()
    expect(equation).not_to_be_in_viewport()
    link.click()
    expect(equation).to_be_in_viewport()


def test_the_slider_moves_with_the_arrow_keys(page):
    before = the_figure(page)
    page.locator(".noUi-handle").first.press("ArrowRight")
    assert has_changed(page, before)


def test_the_slider_moves_with_the_mouse(page):
    before = the_figure(page)
    handle = page.locator(".noUi-handle").first
    handle.scroll_into_view_if_needed()
    place = handle.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.mouse.down()
    page.mouse.move(place["x"] + 90, place["y"], steps=8)
    page.mouse.up()
    assert has_changed(page, before)


def test_nothing_was_asked_of_another_host(page, server, requests):
    assert any(address.startswith(server) for address in requests)
    assert [address for address in requests if not address.startswith((server, "data:", "blob:"))] == []
