"""Facts about frames on a page: the HTML that Sphinx writes, and what it does in a browser."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from shutil import which

import nbformat
import pytest
from PIL import Image

from kexue_publish.frames import MIME

STATIC = Path(__file__).parents[2] / "book" / "_static"

CONF = f"""
project, extensions = "tiny", ["myst_nb", "kexue_publish.frames"]
html_theme, html_static_path = "basic", [{str(STATIC)!r}]
nb_execution_mode, nb_execution_raise_on_error, nb_execution_timeout = "force", True, 120
myst_enable_extensions = ["dollarmath"]
mathjax_path = "none.js"  # no request leaves the page
"""

PAGE = """---
file_format: mystnb
kernelspec: {name: python3}
---
# Tiny

```{code-cell} ipython3
import matplotlib.pyplot as plt
from kexue_utils.explore import explore

def draw(n, kind, log):
    fig, ax = plt.subplots(figsize=(4, 3))
    ax.plot([1, 2], [1, 1 + n] if kind == "up & <on>" else [1 + n, 1])
    ax.set(ylim=(0.5, 9), yscale="log" if log else "linear")
    return fig, f"slope {n} </script>"

explore(draw, n=range(1, 6), kind=["up & <on>", "down"], log=[False, True], start={"n": 3},
        labels={"n": "slope n", "kind": "direction", "log": "logarithmic"},
        alt='line "{kind}" by {n}, log {log}', caption="Move $n$: the line gets **steeper**.")
```

```{code-cell} ipython3
---
mystnb: {figure: {caption: Around it, name: fig-around}}
---
explore(lambda n: draw(n, "down", False), n=[1, 2], alt="down by {n}")
```
"""


def build(folder: Path, page: str, builder: str = "html", *options: str) -> tuple[Path, str]:
    """Build a book of one page; the output folder and what Sphinx said. A warning with ``-W`` fails the build."""
    source = folder / "index.md"
    if not source.exists():  # a second builder finds pages read and executed
        folder.joinpath("conf.py").write_text(CONF)
        source.write_text(page)
    out = folder / "_build" / builder
    command = [sys.executable, "-m", "sphinx", "-q", *options, "-b", builder]
    command += ["-d", str(folder / "_build" / "doctrees"), str(folder), str(out)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"KEXUE_BOOK": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return out, done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out, _ = build(tmp_path_factory.mktemp("tiny"), PAGE, "html", "-W")
    return out


class Elements(HTMLParser):
    """All elements of a page, as (tag, attributes)."""

    def __init__(self, source: str):
        super().__init__()
        self.found = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag, **attributes):
        return [a for t, a in self.found if t == tag and attributes.items() <= a.items()]


@pytest.fixture(scope="module")
def figures(site):
    """The HTML of each figure with sliders."""
    source = (site / "index.html").read_text()
    starts = [match.start() for match in re.finditer(r'<(figure|div)[^>]*class="kx-explore"', source)]
    assert len(starts) == 2
    return [source[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


@pytest.fixture(scope="module")
def data(figures):
    (found,) = re.findall(r'<script type="application/json">(.*?)</script>', figures[0], flags=re.DOTALL)
    return json.loads(found)


def test_every_frame_is_a_file_named_by_its_content(site, data):
    assert data["folder"] == "_images/"
    assert len(data["files"]) == len(set(data["files"])) == 20
    for name in data["files"]:
        assert re.fullmatch(r"[0-9a-f]{20}\.webp", name)
        assert site.joinpath("_images", name).read_bytes()[8:12] == b"WEBP"


def test_only_the_start_frame_is_an_image_element_with_its_size_and_words(figures, data):
    (image,) = Elements(figures[0]).all("img")
    number, alt, text = data["frames"][8]  # n=3 is third of five, times two times two
    assert image["src"] == "_images/" + data["files"][number]
    assert image["alt"] == alt == 'line "up & <on>" by 3, log False'
    assert (image["width"], image["height"]) == ("384", "288")
    assert "slope 3 &lt;/script&gt;</output>" in figures[0]
    assert text == "slope 3 </script>"


def test_controls_are_native_labelled_and_hidden_until_the_script_runs(figures):
    page = Elements(figures[0])
    assert any("hidden" in a for a in page.all("div") if a.get("class") == "kx-controls")
    (slider,) = page.all("input", type="range")
    assert (slider["min"], slider["max"], slider["value"], slider["aria-valuetext"]) == ("0", "4", "2", "3")
    assert page.all("label", **{"for": slider["id"]})
    (choice,) = page.all("select")
    assert page.all("label", **{"for": choice["id"]})
    assert page.all("input", type="checkbox")
    (spoken,) = page.all("output")
    assert spoken["aria-live"] == "polite"


def test_the_caption_is_marked_up(figures):
    assert re.search(r"<figcaption>\s*<p>Move <span class=\"math.*?n.*?<strong>steeper</strong>", figures[0])


def test_inside_a_numbered_figure_there_is_no_second_figure_element(figures):
    assert figures[1].startswith("<div role='group' class=\"kx-explore\">")
    assert "Around it" in figures[1]


def test_a_second_build_changes_no_byte(site, tmp_path):
    again, _ = build(tmp_path, PAGE)
    assert again.joinpath("index.html").read_bytes() == site.joinpath("index.html").read_bytes()
    names = [sorted(path.name for path in folder.joinpath("_images").iterdir()) for folder in (site, again)]
    assert names[0] == names[1]


def test_other_builders_show_the_start_frame_with_its_caption(site):
    out, _ = build(site.parents[1], PAGE, "latex")
    tex = out.joinpath("tiny.tex").read_text()
    assert tex.count(r"\sphinxincludegraphics") == 2
    assert r"\caption{Move \(n\): the line gets \sphinxstylestrong{steeper}.}" in tex
    assert len(list(out.glob("*.png"))) == 2
    assert not list(out.glob("*.webp"))


def a_figure_of(sizes: list[int]) -> dict:
    """The output of a figure with frames of these sizes in bytes. What follows a WebP picture is ignored."""
    encoded = io.BytesIO()
    Image.new("RGBA", (8, 8)).save(encoded, "WEBP")
    images = [encoded.getvalue().ljust(size, bytes([number])) for number, size in enumerate(sizes)]
    return {
        "version": 1,
        "width": 4,
        "height": 4,
        "caption": None,
        "sliders": [
            {"name": "n", "label": "n", "kind": "number", "values": [str(n) for n, _ in enumerate(sizes)], "start": 0}
        ],
        "media": "image/webp",
        "images": [base64.b64encode(image).decode() for image in images],
        "frames": [{"image": n, "alt": f"{n}", "text": ""} for n, _ in enumerate(sizes)],
    }


@pytest.mark.parametrize(("third", "heavy"), [(500_000, False), (500_001, True)])
def test_a_page_over_budget_is_a_warning_that_names_page_and_sizes(tmp_path, third, heavy):
    figures = [a_figure_of([300_000, 200_000, 500_000]), a_figure_of([300_000, 200_000, 500_000, third])]
    outputs = [nbformat.v4.new_output("display_data", {MIME: figure}) for figure in figures]
    cells = [nbformat.v4.new_markdown_cell("# Heavy")]
    cells += [nbformat.v4.new_code_cell("...", outputs=[output]) for output in outputs]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "index.ipynb")
    tmp_path.joinpath("conf.py").write_text(CONF.replace("force", "off"))
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(tmp_path), str(tmp_path / "out")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stderr
    # Frames that both figures share are one file and count once.
    complaint = re.search(r"index.*page weigh 1,500,001 bytes.*\(.*: 1,000,000, .*: 1,500,001\)", said)
    assert bool(complaint) == heavy, said


def test_a_caption_of_two_paragraphs_is_refused(tmp_path):
    output = nbformat.v4.new_output("display_data", {MIME: a_figure_of([1]) | {"caption": "One.\n\nTwo."}})
    cells = [nbformat.v4.new_markdown_cell("# Page"), nbformat.v4.new_code_cell("...", outputs=[output])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "index.ipynb")
    tmp_path.joinpath("conf.py").write_text(CONF.replace("force", "off"))
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert r"the caption of explore must be one paragraph; got 'One.\n\nTwo.'" in done.stderr


# ---- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    executable = which("chromium") or which("chromium-browser") or which("google-chrome")
    if executable is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield found
        found.close()


@pytest.fixture
def page(browser, site):
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(site.joinpath("index.html").as_uri())
    yield page
    assert errors == []
    page.close()


@pytest.mark.site
def test_controls_change_picture_words_and_value_together(page, data):
    figure = page.locator(".kx-explore").first
    image, slider = figure.locator("img"), figure.get_by_role("slider", name="slope n")
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    figure.get_by_label("direction").select_option("down")
    figure.get_by_label("logarithmic").check()
    page.wait_for_selector('.kx-explore[data-frame="19"]')
    number, alt, text = data["frames"][19]
    assert image.get_attribute("src").endswith(data["files"][number])
    assert image.get_attribute("alt") == alt == 'line "down" by 5, log True'
    assert figure.locator("output").inner_text() == text
    assert slider.get_attribute("aria-valuetext") == "5"
    assert image.evaluate("image => image.complete && image.naturalWidth") == 768


@pytest.mark.site
def test_a_frame_that_cannot_be_loaded_leaves_the_last_good_picture(page, data):
    figure = page.locator(".kx-explore").first
    start = data["files"][data["frames"][8][0]]
    page.route("**/*.webp", lambda route: route.continue_() if start in route.request.url else route.abort())
    page.reload()
    figure.get_by_role("slider", name="slope n").press("ArrowRight")
    page.get_by_text("could not be loaded").wait_for()
    assert figure.locator("img").get_attribute("src").endswith(start)
    assert figure.locator("img").evaluate("image => image.complete && image.naturalWidth") == 768


@pytest.mark.site
def test_a_slider_is_large_enough_for_a_finger_and_fits_a_phone(browser, site):
    phone = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    phone.goto(site.joinpath("index.html").as_uri())
    for control in phone.locator(".kx-controls input[type=range], .kx-controls select, .kx-slider button").all():
        assert control.bounding_box()["height"] >= 44
    assert phone.evaluate("document.querySelector('.kx-explore').scrollWidth <= innerWidth")
    phone.get_by_role("button", name="higher: slope n").tap()
    phone.wait_for_selector('.kx-explore[data-frame="12"]')
    phone.close()


@pytest.mark.site
def test_without_javascript_the_start_frame_stands_alone(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.joinpath("index.html").as_uri())
    figure = page.locator(".kx-explore").first
    assert figure.locator("img").is_visible()
    assert figure.locator("figcaption").is_visible()
    assert not figure.locator("input[type=range]").is_visible()
    context.close()


@pytest.mark.site
def test_nothing_moves_when_the_controls_appear(browser, site):
    heights = []
    for script in ("**/explore.js*", "**/nothing"):
        page = browser.new_page()
        page.route(script, lambda route: route.abort())
        page.goto(site.joinpath("index.html").as_uri())
        heights.append(page.locator(".kx-explore").first.bounding_box()["height"])
        page.close()
    assert heights[0] == heights[1]


@pytest.mark.site
def test_dark_mode_inverts_the_picture_and_print_does_not(page):
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    image = page.locator(".kx-explore img").first
    style = "image => getComputedStyle(image).filter"
    assert image.evaluate(style) == "invert(1) hue-rotate(180deg)"
    page.emulate_media(media="print")
    assert image.evaluate(style) == "none"
    assert not page.locator(".kx-controls").first.is_visible()
