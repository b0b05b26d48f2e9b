"""Formulas without a network: the site holds the MathJax that its pages ask for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from bs4 import BeautifulSoup
from sphinx.errors import ExtensionError

from kexue_publish import mathjax


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mathjax")
    conf = "extensions = ['myst_parser', 'sphinx.ext.mathjax', 'kexue_publish.mathjax', 'kexue_publish.assets']\nmyst_enable_extensions = ['dollarmath']\n"
    (folder / "conf.py").write_text(conf, encoding="utf-8")
    (folder / "index.md").write_text("# No formula\n\n```{toctree}\nformula\n```\n", encoding="utf-8")
    (folder / "formula.md").write_text(
        "# A formula\n\nWe see ($a^2$), and $n$-dimensional\n$b$ or $c$ too.\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "sphinx", "-q", str(folder), str(folder / "_build")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return folder / "_build"


def scripts(page):
    parsed = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    return [tag["src"] for tag in parsed.select("script[src]") if "mathjax" in tag["src"].lower()]


def test_a_page_with_a_formula_asks_for_the_copy_in_the_site(built):
    [source] = scripts(built / "formula.html")
    assert (built / source.partition("?")[0]).is_file()


def test_a_page_without_a_formula_asks_for_nothing(built):
    assert scripts(built / "index.html") == []


def test_only_what_is_needed_is_copied(built):
    files = [path for path in (built / "_static" / "mathjax").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 3_500_000
    assert {path.name for path in files} >= {"tex-svg.js", "cancel.js", "boldsymbol.js"}


def test_a_missing_package_is_named_with_its_cure(monkeypatch):
    monkeypatch.setattr(mathjax.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExtensionError, match=r"sphinx-mathjax-offline .*`pip install -r requirements\.txt`"):
        mathjax.mathjax_folder()


def test_what_touches_a_formula_stays_on_its_line(built):
    page = BeautifulSoup((built / "formula.html").read_text(encoding="utf-8"), "html.parser")
    assert [span.get_text() for span in page.select("p .kx-glued")] == [r"(\(a^2\)),", r"\(n\)-dimensional"]
    assert page.select_one("p").get_text() == r"We see (\(a^2\)), and \(n\)-dimensional" + "\n" + r"\(b\) or \(c\) too."
