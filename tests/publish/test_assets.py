"""Each page loads what it uses."""

from __future__ import annotations

import base64
import re
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup
from sphinx.errors import ExtensionError

from kexue_publish import assets

PICTURE = b"<svg xmlns='http://www.w3.org/2000/svg'>" + b" " * 4000 + b"</svg>"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets")
    (folder / "conf.py").write_text(
        "extensions = ['sphinx.ext.mathjax', 'kexue_publish.mathjax', 'kexue_publish.assets', 'kexue_publish.frames']\n"
    )
    (folder / "index.rst").write_text("Start\n=====\n\nWords.\n\n.. toctree::\n\n   inner/picture\n")
    (folder / "inner").mkdir()
    source = f"data:image/svg+xml;base64,{base64.b64encode(PICTURE).decode()}"
    page = f"Picture\n=======\n\n:math:`a`\n\n.. raw:: html\n\n   <img alt='sheets' src=\"{source}\">\n"
    (folder / "inner" / "picture.rst").write_text(page)
    command = [sys.executable, "-m", "sphinx", "-q", str(folder), str(folder / "_build")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return folder / "_build"


def scripts(page):
    return " ".join(tag["src"] for tag in BeautifulSoup(page.read_text("utf-8"), "html.parser").select("script[src]"))


def test_a_page_without_sliders_and_formulas_loads_neither_script(built):
    assert "explore.js" not in scripts(built / "index.html") and "mathjax" not in scripts(built / "index.html")
    assert "mathjax" in scripts(built / "inner" / "picture.html")


def test_a_large_picture_inside_an_output_becomes_a_file(built):
    [picture] = BeautifulSoup((built / "inner" / "picture.html").read_text("utf-8"), "html.parser").select(".body img")
    assert picture["src"].startswith("../_images/") and picture["alt"] == "sheets"
    assert (built / "inner" / picture["src"]).read_bytes() == PICTURE


def test_icons_are_drawn_from_the_theme_and_credited(built):
    styles = (built / "_static" / "icons.css").read_text("utf-8")
    assert "CC BY 4.0" in styles and len(styles) < 10_000
    assert set(re.findall(r"\.fa-([a-z-]+) \{", styles)) == set(assets.ICONS)


def test_an_icon_that_the_theme_lacks_is_named():
    with pytest.raises(ExtensionError, match="no icon named 'no-such-icon'"):
        assets.icon_styles(("bars", "no-such-icon"))
