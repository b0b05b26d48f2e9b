"""What a reader meets on every page of the built site."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from urllib.parse import quote, unquote, urljoin, urlsplit
from zipfile import ZipFile

import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import PAGES, SITE, ZIP, until
from playwright.sync_api import expect

from kexue_publish.agreement import TESTED

# From the folder as a reader would unpack it, and from a server as it is published; phone and desktop; light and dark.
PHONE = ("folder", "phone", "dark")
DESKTOP = ("server", "desktop", "light")
TEXTS = [path for path in PAGES if not path.startswith("book/evidence/")]
EVIDENCE = [path for path in PAGES if path.startswith("book/evidence/")]
# Every page in both of these ways, except that an evidence page, which repeats the panels of its chapter, has one of them in turn.
VISITS = [(path, *way) for path in TEXTS for way in (PHONE, DESKTOP)]
VISITS += [(path, *(PHONE, DESKTOP)[position % 2]) for position, path in enumerate(EVIDENCE)]
# The front page in all ways.
FRONT = [("book/index.html", "folder", "desktop", "dark"), ("book/index.html", "server", "phone", "light")]
every_page = pytest.mark.parametrize("path", PAGES)


def on_pages(*visits: tuple[str, str, str, str]):
    """Parametrize a test by pages in a browser. Tests that look at the same page share one visit, in one worker."""
    visits = [same(visit) for visit in visits]
    return pytest.mark.parametrize(
        "opened",
        [pytest.param(visit, marks=pytest.mark.xdist_group("-".join(visit))) for visit in visits],
        indirect=True,
        ids="-".join,
    )


@cache
def same(visit: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
    """pytest keeps a fixture for the next test if its parameter is the very same object."""
    return visit


def pages_with(selector: str, way: tuple[str, str, str]) -> list[tuple[str, str, str, str]]:
    return [visit for visit in VISITS if visit[1:] == way and parsed(visit[0]).select(selector)]


@cache
def parsed(path: str) -> BeautifulSoup:
    return BeautifulSoup((SITE / path).read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: str) -> set[str]:
    return {value for tag in parsed(path).find_all(True) for value in (tag.get("id"), tag.get("name")) if value}


def written() -> list[dict]:
    """The chapters that have a page."""
    chapters = yaml.safe_load((SITE.parents[1] / "book" / "chapters.yml").read_text(encoding="utf-8"))["chapters"]
    for chapter in chapters:
        chapter["page"] = next((path for path in TEXTS if path.endswith(f"/{chapter['slug']}.html")), None)
    return [chapter for chapter in chapters if chapter["page"]]


# Wider than the screen, and not inside something that scrolls or cuts off by itself.
STICKING_OUT = """() => [...document.querySelectorAll(".bd-article *")].filter((element) => {
    if (element.closest("svg, mjx-assistive-mml, .kx-unseen")) return false;
    if (element.getBoundingClientRect().right <= document.documentElement.clientWidth + 1) return false;
    for (let box = element; box && !box.matches(".bd-article"); box = box.parentElement)
        if (getComputedStyle(box).overflowX !== "visible") return false;
    return true;
}).map((element) => element.outerHTML.slice(0, 160))"""


UNFOLD = """() => {
    document.querySelectorAll("details:not(.kx-badge)").forEach((box) => { box.open = true; });
    document.querySelectorAll(".toggle-hidden").forEach((box) => box.classList.remove("toggle-hidden"));
}"""
SET_BADGES = "(open) => document.querySelectorAll('details.kx-badge').forEach((badge) => { badge.open = open; })"
# What was folded away gets its formulas when it is unfolded; the copies of headings that only paper would show never do.
LAID_OUT = """() => ![...document.querySelectorAll(".math:not(:has(mjx-container))")].some((formula) => formula.checkVisibility())"""


@on_pages(*VISITS, *FRONT)
def test_page_is_whole_and_stays_at_home(opened):
    page, *_, scheme = opened
    page.evaluate(UNFOLD)
    until(page, LAID_OUT)
    assert page.locator("mjx-merror").count() == 0, page.locator("mjx-merror").first.get_attribute("title")
    broken = page.eval_on_selector_all(
        ".bd-article img", "images => images.filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    )
    assert not broken
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert page.evaluate(STICKING_OUT) == []
    text, paper = (
        page.evaluate(f"getComputedStyle(document.body).{part}.match(/\\d+/g).map(Number)")
        for part in ("color", "backgroundColor")
    )
    assert (sum(paper[:3]) < sum(text[:3])) == (scheme == "dark")


@every_page
def test_nothing_on_the_page_names_another_host(path):
    page = parsed(path)
    tags = page.select("script[src], link[href], img[src], iframe, video, audio, source, object, embed")
    loaded = [
        tag.get("src") or tag.get("href") or tag.get("data") or "" for tag in tags if tag.get("rel") != ["canonical"]
    ]
    assert [address for address in loaded if urlsplit(address).netloc] == []


@every_page
def test_links_inside_the_site_lead_somewhere(path):
    lost = []
    for link in parsed(path).select("a[href]"):
        target = urlsplit(urljoin(path, link["href"]))
        if target.scheme or target.netloc:
            continue
        file = unquote(target.path)
        anchor = unquote(target.fragment) if file.endswith(".html") else ""
        if not (SITE / file).is_file() or (anchor and anchor not in anchors(file)):
            lost.append(link["href"])
    assert lost == []


@every_page
def test_page_says_what_it_is_when_shared(path):
    tags = {tag["property"]: tag["content"] for tag in parsed(path).select("meta[property]")}
    assert tags["og:title"] and tags["og:description"]
    picture = urlsplit(tags["og:image"])
    assert picture.netloc or (SITE / path).parent.joinpath(picture.path).is_file()


@on_pages(*pages_with(".kx-explore", PHONE))
def test_every_slider_moves_by_keyboard(opened):
    page = opened[0]
    page.evaluate(UNFOLD)
    for figure in page.locator(".kx-explore").all():
        image = figure.locator("img")
        for control in figure.locator("input, select").all():
            name = figure.get_by_label(
                page.evaluate("element => element.labels[0].innerText", control.element_handle())
            )
            assert name.count(), "a control has no label"
            before = image.get_attribute("src"), image.get_attribute("alt")
            kind = control.evaluate("element => element.type")
            control.focus()
            if kind == "range":
                # A step at a time: two neighbouring frames may look alike, a whole slide may not.
                keys = ["ArrowRight"] * 3 if control.input_value() != control.get_attribute("max") else ["Home"]
            elif kind == "checkbox":
                keys = ["Space"]
            else:
                last = control.evaluate("element => element.selectedIndex === element.options.length - 1")
                keys = ["ArrowUp" if last else "ArrowDown"]
            for key in keys:
                page.keyboard.press(key)
            expect(image).not_to_have_attribute("src", before[0])
            until(page, "(image) => image.complete && image.naturalWidth > 0", image.element_handle())
            # Waited for: the picture that was new may have been the last one of the control before.
            expect(image).not_to_have_attribute("alt", before[1])
            assert image.get_attribute("alt")


# Of every badge: its word, the visible text of its panel, and where that ends.
PANELS = """() => [...document.querySelectorAll("details.kx-badge")].map((badge) => {
    const panel = badge.nextElementSibling;
    const text = panel.role && panel.checkVisibility() ? panel.innerText : "";
    return [badge.querySelector(".kx-word").innerText, text, panel.getBoundingClientRect().right];
})"""
# The same once all of them can be read: what was folded away a moment ago may take one more moment to show.
SHOWN = f"() => {{ const panels = ({PANELS})(); return panels.every(([word, panel]) => word && panel) && panels; }}"


@on_pages(*pages_with(".kx-badge", PHONE))
def test_every_badge_opens(opened):
    page = opened[0]
    page.evaluate(UNFOLD)
    assert not any(panel for _, panel, _ in page.evaluate(PANELS))
    page.evaluate(SET_BADGES, True)
    shown = until(page, SHOWN)
    until(page, LAID_OUT)
    assert page.locator("mjx-merror").count() == 0, page.locator("mjx-merror").first.get_attribute("title")
    for word, panel, right in shown:
        # The panel says the word of the badge again, and how it was earned; it fits the screen.
        assert word.split()[0] in panel and len(panel) > 40
        assert right <= page.viewport_size["width"]
    page.evaluate(SET_BADGES, False)


@on_pages(*pages_with(".kx-badge", DESKTOP))
def test_badges_open_and_close_by_keyboard(opened):
    page, path, *_ = opened
    kinds = {" ".join(badge["class"]) for badge in parsed(path).select("details.kx-badge")}
    for kind in kinds:
        badge = page.locator("details." + ".".join(kind.split())).first
        if not badge.is_visible():
            continue
        for is_open in (True, False):
            badge.locator("summary").press("Enter")
            shown = "([badge, is_open]) => badge.nextElementSibling.checkVisibility() === is_open"
            until(page, shown, [badge.element_handle(), is_open])


@pytest.mark.parametrize("place", ["folder", "server"])
def test_search_finds_every_chapter_by_its_titles(visit, place):
    titles = {chapter[title]: chapter["page"] for chapter in written() for title in ("title_zh", "title")}
    found = search(visit, *titles, place=place)
    assert {query: page for query, page in titles.items() if page not in found[query][:2]} == {}


def test_search_finds_a_chapter_by_part_of_its_title(visit):
    found = search(visit, "夹角", "随机向量", "两个随机向量的夹角", "random angle", "two random vectors")
    assert {pages[0] for pages in found.values()} == {"book/geometry-probability/random-angles.html"}


def test_search_finds_the_author_in_both_scripts(visit):
    assert all(search(visit, "苏剑林", "Jianlin").values())


def test_search_says_when_there_is_nothing(visit):
    assert search(visit, "麒麟") == {"麒麟": []}


def search(visit, *queries: str, place: str = "folder") -> dict[str, list[str]]:
    """The pages that the search page lists for each query, best first; all queries at once, each in a tab of its own."""
    found = {}
    with visit("search.html", place) as page:
        start = page.url.removesuffix("search.html")
        tabs = [page.context.new_page() for _ in queries]
        for tab, query in zip(tabs, queries, strict=True):
            tab.goto(f"{start}search.html?q={quote(query)}", wait_until="commit")
        for tab, query in zip(tabs, queries, strict=True):
            expect(tab.locator("#search-results .search-summary")).to_have_text(re.compile(r"\w"))
            links = tab.locator("#search-results li a").evaluate_all("links => links.map(link => link.href)")
            found[query] = [urlsplit(link.removeprefix(start)).path for link in links]
    return found


def test_the_zip_is_the_site_and_opens_where_it_is_unpacked(visit):
    with ZipFile(ZIP) as archive:
        packed = {name.partition("/")[2]: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    files = {path.relative_to(SITE).as_posix(): path for path in SITE.rglob("*") if path.is_file()}
    assert packed.keys() == files.keys()
    assert [name for name, path in files.items() if path.read_bytes() != packed[name]] == []
    chapter = written()[0]
    with visit(chapter["page"], "unpacked") as page:
        assert page.locator('meta[property="og:title"]').get_attribute("content") == chapter["title"]
    assert chapter["page"] in search(visit, chapter["title_zh"], place="unpacked")[chapter["title_zh"]]


def test_search_can_be_reached_from_the_keyboard(visit):
    with visit("book/index.html") as page:
        page.keyboard.press("Control+k")
        page.keyboard.type("夹角")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=*")
        page.wait_for_selector("#search-results li a")


def test_the_address_of_the_site_is_its_front_page(visit):
    with visit("index.html", "server") as page:
        page.wait_for_url("**/book/index.html")
        assert page.locator(".kx-explore").count() == 1


def test_a_visitor_can_play_within_the_first_screen(visit):
    for viewport in ("desktop", "phone"):
        with visit("book/index.html", "folder", viewport) as page:
            slider = page.locator(".kx-explore input").first.bounding_box()
            assert slider["y"] + slider["height"] <= page.viewport_size["height"], viewport


@on_pages(*((chapter["page"], *DESKTOP) for chapter in written()))
def test_paper_shows_the_text_and_the_first_frames(opened):
    page, *_, scheme = opened
    page.emulate_media(media="print", color_scheme="dark")
    for furniture in (".bd-sidebar-primary", ".bd-header-article", ".bd-sidebar-secondary", ".kx-controls"):
        assert not any(part.is_visible() for part in page.locator(furniture).all()), furniture
    assert page.locator("h1").last.is_visible()
    assert all(figure.is_visible() for figure in page.locator(".kx-explore img").all())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") in (
        "rgb(255, 255, 255)",
        "rgba(0, 0, 0, 0)",
    )
    assert len(page.pdf()) > 20_000
    page.emulate_media(media="screen", color_scheme=scheme)  # for the tests that look at the page next


def test_the_ledger_leads_to_every_equation():
    ledger = json.loads((SITE / "ledger.json").read_text(encoding="utf-8"))
    assert ledger["equations"]
    for equation in ledger["equations"]:
        file, _, name = equation["url"].partition("#")
        assert unquote(name) in anchors(file), equation["url"]


def test_three_fifths_of_the_displayed_formulas_were_compared_with_what_was_checked():
    verdicts = Counter(json.loads((SITE / "ledger.json").read_text(encoding="utf-8"))["agreement"])
    assert sum(verdicts[verdict] for verdict in TESTED) >= 0.6 * verdicts.total(), verdicts
    assert not verdicts["disagrees"], verdicts
