"""How much a page weighs, and what a reader can do before all of it is there."""

from __future__ import annotations

import re
from functools import cache
from urllib.parse import unquote, urlsplit

import pytest
from conftest import PAGES, SITE, until
from playwright.sync_api import expect
from test_site import every_page, parsed, written

HTML = 300_000  # bytes of a page
STYLES, SCRIPTS, FORMULAS = 620_000, 260_000, 2_200_000  # bytes that a page loads, shared by all pages
EVIDENCE = 300_000  # bytes of a script with the panels of a chapter, or with its rows in the ledger
FRAMES = 1_500_000


@cache
def shared(path: str) -> dict[str, int]:
    """Bytes of the style sheets and scripts that a page names."""
    found = {}
    for tag in parsed(path).select('link[rel="stylesheet"], script[src]'):
        file = (SITE / path).parent / unquote(urlsplit(tag.get("href") or tag["src"]).path)
        found[file.resolve().relative_to(SITE.resolve()).as_posix()] = file.stat().st_size
    return found


@pytest.mark.parametrize(
    "path", sorted(file.relative_to(SITE).as_posix() for file in SITE.glob("**/*.html") if "_static" not in file.parts)
)
def test_a_page_is_light(path):
    assert (SITE / path).stat().st_size <= HTML


@every_page
def test_what_pages_share_is_within_its_budget(path):
    assert sum(size for name, size in shared(path).items() if name.endswith(".css")) <= STYLES
    assert sum(size for name, size in shared(path).items() if name.endswith(".js") and "mathjax" not in name) <= SCRIPTS
    assert sum(size for name, size in shared(path).items() if "mathjax" in name) <= FORMULAS


@every_page
def test_a_page_loads_the_scripts_that_it_uses(path):
    text = str(parsed(path).select_one("main"))
    names = " ".join(shared(path))
    assert ("mathjax" in names) == bool(re.search('class="(math |kx-ledger)', text))
    assert ("explore.js" in names) == ('class="kx-explore"' in text)
    assert "fontawesome" not in names


def test_evidence_that_is_loaded_when_wanted_is_within_its_budget():
    files = list((SITE / "_evidence").glob("*.js"))
    assert files
    assert {file.name: file.stat().st_size for file in files if file.stat().st_size > EVIDENCE} == {}


@every_page
def test_every_icon_has_its_shape(path):
    shapes = set(re.findall(r"\.fa-([a-z-]+) \{", (SITE / "_static" / "icons.css").read_text("utf-8")))
    used = {name for icon in parsed(path).select("i.fa-solid") for name in icon["class"] if name.startswith("fa-")}
    assert used - {"fa-solid", "fa-lg"} <= {f"fa-{name}" for name in shapes}


@every_page
def test_the_frames_of_a_page_are_within_their_budget(path):
    names = {
        name
        for data in parsed(path).select(".kx-explore script")
        for name in re.findall(r'"([0-9a-f]{20}\.webp)"', data.string)
    }
    assert sum((SITE / "_images" / name).stat().st_size for name in names) <= FRAMES


@pytest.mark.parametrize("chapter", written(), ids=lambda chapter: chapter["slug"])
def test_the_first_screen_can_be_used_before_any_other_frame_is_there(browser, addresses, chapter):
    first = parsed(chapter["page"]).select_one(".kx-explore img")["src"].rpartition("/")[2]
    held = []
    with browser.new_context(viewport={"width": 1280, "height": 800}) as session:
        page = session.new_page()
        page.route(
            "**/_images/*", lambda route: route.continue_() if route.request.url.endswith(first) else held.append(route)
        )
        page.goto(f"{addresses['server']}/{chapter['page']}", wait_until="domcontentloaded")
        figure = page.locator(".kx-explore").first
        figure.locator(".kx-controls:not([hidden])").wait_for()
        until(page, "() => document.querySelector('.kx-explore img').naturalWidth > 0")
        until(
            page,
            """() => [...document.querySelectorAll(".math")].every((formula) =>
                formula.getBoundingClientRect().top > innerHeight || !formula.checkVisibility() || formula.querySelector("mjx-container"))""",
        )
        control = figure.locator("input[type=range]").first
        value = figure.locator(".kx-value").first
        before = value.inner_text()
        control.press("ArrowLeft" if control.input_value() == control.get_attribute("max") else "ArrowRight")
        expect(value).not_to_have_text(before)
        for _ in range(300):
            if held:
                break
            page.wait_for_timeout(100)
        assert held, "no other frame was asked for: the test holds nothing back"
        for route in held:
            route.continue_()
        page.unroute("**/_images/*")
        until(page, "(src) => !document.querySelector('.kx-explore img').src.endsWith(src)", first)


def test_there_are_pages():
    assert PAGES
