"""The security policy holds on every page, and shuts out what is not ours."""

from __future__ import annotations

import re

import pytest
from bs4 import BeautifulSoup
from conftest import PAGES, SITE, until
from playwright.sync_api import expect

EVERY_PAGE = ["index.html", "search.html", "genindex.html", *PAGES]
PLACES = ["folder", "server"]
CHAPTER = "book/geometry-probability/random-angles.html"

# Each leaves a mark on the window if it is let in.
INTRUDERS = {
    "a script in the page": "() => add('script', {textContent: 'window.intruder = 1'})",
    "a handler": "() => add('p', {}).setAttribute('onclick', 'window.intruder = 1') || document.body.lastChild.click()",
    "text as code": "() => setTimeout('window.intruder = 1')",
    "a script of another host": "() => add('script', {src: 'https://example.org/a.js'})",
    "a picture of another host": "() => add('img', {src: 'https://example.org/a.png'})",
    "a style of another host": "() => add('link', {rel: 'stylesheet', href: 'https://example.org/a.css'})",
    "a request": "() => fetch('https://example.org/').catch(() => {})",
}
ADD = "const add = (tag, what) => document.body.appendChild(Object.assign(document.createElement(tag), what));"


@pytest.mark.parametrize("path", EVERY_PAGE)
def test_every_page_starts_with_the_policy(path):
    page = BeautifulSoup((SITE / path).read_text("utf-8"), "html.parser")
    first, second, *_ = page.head.find_all(True)
    assert first.get("charset") == "utf-8"
    assert second.get("http-equiv") == "Content-Security-Policy"
    directives = {
        name: sources.split() for name, _, sources in (d.partition(" ") for d in second["content"].split("; "))
    }
    assert directives["default-src"] == directives["base-uri"] == ["'none'"]
    assert directives["form-action"] == ["'self'"]
    hashes = {source for source in directives["script-src"] if source.startswith("'sha256-")}
    assert set(directives["script-src"]) - hashes <= {"'self'", "'unsafe-hashes'"}
    assert not re.search(r"unsafe-eval|\*|//", second["content"])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("intruder", INTRUDERS)
def test_what_is_not_ours_is_shut_out_and_noticed(visit, intruder, place):
    script = INTRUDERS[intruder].replace("() =>", f"() => {{ {ADD} return (() =>", 1) + ")() }"
    # The fixture fails with what the browser said: the policy did it, and no test overlooks such a thing.
    with pytest.raises(AssertionError, match="Content Security Policy"), visit("search.html", place) as page:
        with page.expect_console_message(lambda said: "Content Security Policy" in said.text):
            page.evaluate(script)
        assert page.evaluate("window.intruder") is None, "it was let in"


@pytest.mark.parametrize("place", PLACES)
def test_the_page_is_as_useful_as_before(visit, place):
    with visit(CHAPTER, place) as page:
        until(page, "() => document.querySelectorAll('mjx-container svg').length > 10")
        expect(page.locator(".kx-controls").first).to_be_visible()

        theme = page.evaluate("document.documentElement.dataset.theme")
        page.locator("button.theme-switch-button:visible").first.click()
        expect(page.locator("html")).not_to_have_attribute("data-theme", theme)

        page.evaluate("window.print = () => { window.printed = true }")
        page.evaluate("document.querySelector('[onclick=\"window.print()\"]').click()")
        assert page.evaluate("window.printed")

        # In one go: the button says so for a second and a half.
        copies = "button => { button.click(); return button.classList.contains('success') }"
        assert page.locator("button.copybtn").first.evaluate(copies)


@pytest.mark.parametrize("place", PLACES)
def test_the_search_form_may_be_sent(visit, place):
    with visit("book/index.html", place) as page:
        page.keyboard.press("Control+k")
        page.keyboard.type("Ramanujan")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=Ramanujan")
        page.wait_for_selector("#search-results li a")
