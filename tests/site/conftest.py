"""The built site in a real browser: opened from its folder, and served by a web server on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile

import pytest
from playwright.sync_api import Browser, Page, expect

SITE = Path(__file__).parents[2] / "_build" / "html"
ZIP = SITE.with_name("derivations-that-run.zip")
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.glob("book/**/*.html"))
PATIENCE = 120_000  # ms: a page of three hundred formulas on a busy machine
VIEWPORTS = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}

expect.set_options(timeout=PATIENCE / 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    unbuilt = not (SITE / "index.html").is_file()
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.site)
            if unbuilt:
                item.add_marker(pytest.mark.skip(reason="the site is not built: run `make book`"))
    items.sort(key=_visit)


def _visit(item: pytest.Item) -> str:
    """Which visit a test shares: those of one visit stand together. Without a site there is nothing to visit."""
    visit = item.callspec.params.get("opened") if hasattr(item, "callspec") else None
    return "-".join(visit) if isinstance(visit, tuple) else ""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, *args: object) -> None:
        """A browser that goes on to another page breaks off what it was loading: nothing to report."""


@pytest.fixture(scope="session")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where the site is: ``folder``, ``server``, and ``unpacked`` from its zip."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with ZipFile(ZIP) as archive:
        archive.extractall(unpacked)
    with _Server(("127.0.0.1", 0), partial(_Quiet, directory=SITE)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield {
            "folder": SITE.as_uri(),
            "server": f"http://127.0.0.1:{server.server_port}",
            "unpacked": (unpacked / ZIP.stem).as_uri(),
        }
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def visit(browser: Browser, addresses: dict[str, str]):
    """``with visit("book/index.html", ...) as page``: a page when everything on it has come to rest.

    Leaving the block fails when a request of any tab left the site, found nothing, or when a script complained.
    """

    @contextmanager
    def visit(
        path: str, place: str = "folder", viewport: str = "desktop", scheme: str = "light", **context: object
    ) -> Iterator[Page]:
        base, complaints = addresses[place], []
        with browser.new_context(viewport=VIEWPORTS[viewport], color_scheme=scheme, **context) as session:
            session.set_default_timeout(PATIENCE)
            session.on("weberror", lambda error: complaints.append(f"script error: {error.error}"))
            session.on("console", lambda said: said.type == "error" and complaints.append(f"console: {said.text}"))
            session.on(
                "requestfailed",
                lambda request: (
                    request.failure == "net::ERR_ABORTED"  # the reader went on to another page
                    or complaints.append(f"not found: {request.url} ({request.failure})")
                ),
            )
            session.on(
                "response", lambda answer: answer.status >= 400 and complaints.append(f"{answer.status}: {answer.url}")
            )
            session.on(
                "request",
                lambda request: (
                    request.url.startswith((base, "data:", "blob:"))
                    or complaints.append(f"a request left the site: {request.url}")
                ),
            )
            page = session.new_page()
            page.goto(f"{base}/{path}", wait_until="networkidle")
            until(
                page, "() => !document.querySelector('script[src*=\"mathjax/\"]') || window.MathJax?.startup?.promise"
            )
            yield page
            page.wait_for_load_state("networkidle")
        assert not complaints, f"{path}: " + "; ".join(complaints)

    return visit


def until(page: Page, condition: str, argument: object = None, seconds: float = 60) -> object:
    """What a JavaScript function returns once this is true.

    `Page.wait_for_function` evaluates text within the page, which the pages' security policy forbids.
    """
    waiting = f"""async (argument) => {{
        const condition = {condition};
        for (const end = Date.now() + {1000 * seconds}; Date.now() < end; await new Promise((done) => setTimeout(done, 50))) {{
            const value = condition(argument);
            if (value) return value;
        }}
        throw new Error("waited in vain for " + condition);
    }}"""
    return page.evaluate(waiting, argument)


@pytest.fixture(scope="session")
def opened(request: pytest.FixtureRequest, visit) -> Iterator[tuple[Page, str, str, str, str]]:
    """A page that several tests look at one after the other: laying out its formulas takes longer than the tests."""
    with visit(*request.param) as page:
        yield page, *request.param
