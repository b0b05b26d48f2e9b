"""Every page for readers who see little, who listen, who use the keyboard, or who have no JavaScript and no styles."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

import axe_playwright_python
import pytest
from conftest import PAGES, SITE, until
from playwright.sync_api import Page, expect
from test_site import (
    DESKTOP,
    LAID_OUT,
    PHONE,
    SET_BADGES,
    UNFOLD,
    VISITS,
    every_page,
    on_pages,
    pages_with,
    parsed,
)

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
CHAPTERS = [path for path in PAGES if parsed(path).select(".kx-badge")]

# All panels of a chapter stand open on its evidence page, which is looked at as well.
OPEN_ONE_OF_EACH = """() => {
    const kinds = new Map([...document.querySelectorAll("details.kx-badge")].reverse().map((badge) => [badge.className, badge]));
    for (const badge of kinds.values()) badge.open = true;
}"""
FILLED = "() => !document.querySelector('.kx-badge[open] + .kx-panel:not([role])')"
# axe takes seconds less without the tens of thousands of elements that tell it nothing, and that come back afterwards: the drawings
# of formulas are hidden from assistive technology, it has no rule for the insides of MathML, and the words of a piece of code have
# colours of which an earlier piece had every one.
# Without preload: axe would fetch the style sheets, which a page opened from a folder may not.
VIOLATIONS = """async ([levels, rules]) => {
    scrollTo(0, 0);  // else a control may lie half under the bar at the top, and count as too small
    const colours = new Set();
    const seen = (code) => {
        const before = colours.size, paper = getComputedStyle(code).backgroundColor;
        code.querySelectorAll("span").forEach((word) => colours.add(paper + word.className));
        return colours.size === before;
    };
    const parts = [
        ...document.querySelectorAll("mjx-container > svg, mjx-assistive-mml > math"),
        ...[...document.querySelectorAll(".highlight > pre")].filter(seen),
    ].map((part) => [part, [...part.childNodes]]);
    for (const [part] of parts) part.replaceChildren(part.matches("svg") ? "" : part.textContent);
    // The scripts look at sizes after the next layout.
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const { violations } = await axe.run(document, { runOnly: levels, rules, resultTypes: ["violations"], preload: false });
    for (const [part, children] of parts) part.replaceChildren(...children);
    return violations.map(({ id, nodes }) => `${id}: ${nodes.length}, such as ${nodes[0].target.join(" ")} ${nodes[0].html.slice(0, 200)} (${nodes[0].failureSummary})`);
}"""


def violations(page: Page, *without: str) -> list[str]:
    page.evaluate(AXE)
    return page.evaluate(VIOLATIONS, [LEVELS, {rule: {"enabled": False} for rule in without}])


@on_pages(*VISITS)
def test_no_rule_of_wcag_a_or_aa_is_broken(opened):
    page = opened[0]
    page.emulate_media(reduced_motion="reduce")
    until(page, LAID_OUT)
    # Colours are looked at below, where everything is unfolded.
    assert violations(page, "color-contrast") == []
    page.evaluate(UNFOLD)
    page.evaluate(OPEN_ONE_OF_EACH)
    until(page, FILLED)
    until(page, LAID_OUT)
    assert violations(page) == []
    page.evaluate(SET_BADGES, False)


@pytest.mark.parametrize("path", ["search.html", "genindex.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_is_broken_on_the_pages_that_sphinx_makes(visit, path, scheme):
    with visit(path, scheme=scheme) as page:
        assert violations(page) == []


def test_a_broken_rule_would_be_found(visit):
    with visit("book/bibliography.html") as page:
        page.evaluate("document.querySelector('.bd-article').append(document.createElement('button'))")
        assert "button-name" in [found.partition(":")[0] for found in violations(page, "color-contrast")]


# --- the keyboard -----------------------------------------------------------------------------------------------------

CONTROLS = {
    "a slider": ".kx-explore input[type=range]",
    "a switch": ".kx-explore input[type=checkbox]",
    "a choice": ".kx-explore select",
    "a badge": ".kx-badge > summary",
    "the source of a cell": "details.hide > summary",
    "a folded box": "button.toggle-button",
    "the copying of code": "button.copybtn",
    "a filter of the ledger": ".kx-filter input",
    "the colour mode": "button.theme-switch-button",
}


@on_pages(*((path, *DESKTOP) for path in [*CHAPTERS, "book/ledger.html"]))
def test_tab_reaches_every_kind_of_control_and_shows_where_it_is(opened):
    page = opened[0]
    for name, selector in CONTROLS.items():
        control = next((one for one in page.locator(selector).all() if one.is_visible()), None)
        if control is None:
            continue
        control.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        expect(control, f"Tab does not reach {name}").to_be_focused()
        seen = control.evaluate(
            """control => [control, control.closest("label")].some((box) => {
                const style = box && getComputedStyle(box);
                return style && ((style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none");
            })"""
        )
        assert seen, f"nothing shows that {name} has the focus"


@pytest.mark.parametrize("kind", ["a slider", "a switch", "a choice"])
def test_some_page_has_each_kind_of_control(kind):
    assert any(parsed(path).select(CONTROLS[kind]) for path in PAGES) or kind == "a switch"


@on_pages(*pages_with(".math", PHONE))
def test_formulas_are_no_stops_for_the_tab_key_unless_they_scroll(opened):
    page = opened[0]
    until(
        page,
        """() => ![...document.querySelectorAll("mjx-container, .math")].some((box) =>
            box.tabIndex === 0 && box.scrollWidth <= box.clientWidth)""",
    )
    # A formula that is too wide can be scrolled by keyboard.
    until(
        page,
        """() => [...document.querySelectorAll("mjx-container")].filter((box) => box.checkVisibility()).every((box) => {
            const formula = box.closest(".math");
            const room = formula.matches("div") ? Math.min(box.clientWidth, formula.clientWidth) : box.clientWidth;
            return box.querySelector("svg").getBoundingClientRect().width <= room + 1 || formula.tabIndex === 0 || box.tabIndex === 0;
        })""",
    )


# --- words in place of pictures and formulas --------------------------------------------------------------------------


@on_pages(*pages_with("div.math", DESKTOP))
def test_every_formula_is_there_as_mathml(opened):
    page = opened[0]
    page.evaluate(UNFOLD)
    until(page, LAID_OUT)
    silent = page.evaluate(
        """[...document.querySelectorAll("mjx-container")].filter((box) => {
            const spoken = box.querySelector("mjx-assistive-mml > math");
            return !spoken || !spoken.textContent.trim() || spoken.closest("[aria-hidden=true]")
                || box.querySelector("svg").getAttribute("aria-hidden") !== "true";
        }).length"""
    )
    assert silent == 0


# The kind of picture, which is not what it shows.
KINDS_OF_PICTURE = re.compile(r"(a |an |the )?((bar|line|scatter|contour|box|density) )?(plots?|graphs?|charts?|figures?|images?|histograms?|heatmaps?|diagrams?)( of [^,.;:]*)?\.?", re.IGNORECASE)  # fmt: skip


def tells_something(alt: str) -> bool:
    return 25 <= len(alt) <= 400 and not KINDS_OF_PICTURE.fullmatch(alt)


@pytest.mark.parametrize(
    ("alt", "enough"),
    [
        ("Bar chart of the error rates for all models", False),
        ("", False),
        ("A histogram", False),
        ("The distances all shrink to one as the dimension grows", True),
        ("Bar chart: the error halves with each doubling of the samples.", True),
    ],
)
def test_an_alternative_text_names_more_than_the_kind_of_picture(alt, enough):
    assert tells_something(alt) == enough


@every_page
def test_pictures_say_what_they_show(path):
    for picture in parsed(path).select(".bd-article img"):
        # The cards of the front page say in words what their drawings decorate.
        if not picture.find_parent(class_="kx-card"):
            assert tells_something(picture.get("alt", "")), picture


@pytest.mark.parametrize("path", [path for path in PAGES if parsed(path).select(".kx-explore")])
def test_the_words_of_a_figure_change_with_each_control(path):
    for figure in parsed(path).select(".kx-explore"):
        data = json.loads(figure.script.string)
        alts = [alt for _, alt, _ in data["frames"]]
        assert all(map(tells_something, alts)), [alt for alt in alts if not tells_something(alt)]
        sizes = [len(values) for values in data["values"]]
        places = list(product(*map(range, sizes)))
        for axis in range(len(sizes)):
            along: dict[tuple[int, ...], set[str]] = {}
            for place, alt in zip(places, alts, strict=True):
                along.setdefault(place[:axis] + place[axis + 1 :], set()).add(alt)
            assert any(len(words) > 1 for words in along.values()), f"control {axis}: {alts[0]}"


# --- without styles, without scripts ----------------------------------------------------------------------------------


@every_page
def test_the_order_of_the_text_is_the_order_of_reading(path):
    page = parsed(path)
    article = page.select_one(".bd-article")
    assert len(article.find_all("h1")) == 1 and article.find(["h1", "h2", "h3", "h4"]).name == "h1"
    names = lambda box: [child.get("class", [child.name])[0] for child in box.find_all(True, recursive=False)]  # noqa: E731
    for equation in article.select(".kx-equation"):
        assert names(equation) == ["math", "kx-badge", "kx-panel"]
    for figure in article.select(".kx-explore"):
        order = ["img", "kx-controls", "kx-text", "figcaption"]
        assert names(figure) == [part for part in order if part in names(figure)]


@pytest.mark.parametrize("path", CHAPTERS)
def test_without_scripts_every_badge_leads_to_its_evidence(path):
    for badge in parsed(path).select(".kx-badge"):
        page, _, name = badge.find_next_sibling().a["href"].partition("#")
        there = parsed((SITE / path).parent.joinpath(page).resolve().relative_to(SITE.resolve()).as_posix()).find(
            id=name
        )
        assert len(there.select_one(".kx-panel").get_text()) > 40


@pytest.mark.parametrize("path", ["book/geometry-probability/random-angles.html", "book/ledger.html"])
def test_a_page_without_styles_and_scripts_can_be_read(browser, path):
    with browser.new_context(java_script_enabled=False, viewport={"width": 800, "height": 800}) as session:
        page = session.new_page()
        page.route("**/*.css*", lambda route: route.abort())
        page.goto(f"{SITE.as_uri()}/{path}")
        assert page.locator("h1").last.is_visible()
        assert page.evaluate("document.querySelector('.kx-explore img')?.naturalWidth !== 0")
        assert all(word.is_visible() for word in page.locator(".kx-badge summary").all()[:5])
        assert all(link.is_visible() for link in page.locator(".kx-summary a").all())
