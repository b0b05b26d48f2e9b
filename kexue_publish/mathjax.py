"""MathJax from the folder: the files that a page needs, copied into the site's ``_static/mathjax``.

What the text glues to a formula, such as a comma, stays on its line.

The SVG output is one script with its glyphs inside. The HTML output would load fonts, which a browser may refuse to a
page that was opened from a folder. Sphinx writes the script tag; `kexue_publish.assets` keeps it on the pages with
formulas only. In which order formulas are laid out is up to ``formulas.js``.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform

SCRIPT = "tex-svg.js"
# Commands such as \cancel or \boldsymbol come from files of their own, fetched by MathJax when a formula uses them.
EXTENSIONS = "input/tex/extensions"


def mathjax_folder() -> Path:
    """Where the installed package ``sphinx-mathjax-offline`` keeps MathJax.

    Raises
    ------
    ExtensionError
        The package is not installed, or does not hold the files that we copy.
    """
    # The name has hyphens, so it can be found but not imported; only its files are wanted anyway.
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    folder = Path(spec.origin).parent / "static" / "mathjax" if spec and spec.origin else None
    if folder is None or not (folder / SCRIPT).is_file() or not (folder / EXTENSIONS).is_dir():
        raise ExtensionError(
            f"MathJax is not here: expected {SCRIPT} and {EXTENSIONS}/ in the package sphinx-mathjax-offline "
            f"(looked at {folder}); install it with `pip install -r requirements.txt`"
        )
    return folder


def _use_copy(app: Sphinx, config: Config) -> None:
    config.mathjax_path = f"mathjax/{SCRIPT}"


def _copy(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    source, target = mathjax_folder(), Path(app.outdir) / "_static" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source / SCRIPT, target / SCRIPT)
    shutil.copytree(source / EXTENSIONS, target / EXTENSIONS, dirs_exist_ok=True)


class GlueToFormula(SphinxPostTransform):
    """Wrap a formula within a line in a span together with the text that touches it: a browser would break there."""

    default_priority = 500
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for formula in list(self.document.findall(nodes.math)):
            line, place = formula.parent, formula.parent.index(formula)
            around = (line[place - 1] if place else None, line[place + 1] if place + 1 < len(line) else None)
            before, after = (text if isinstance(text, nodes.Text) else "" for text in around)
            opening, closing = re.split(r"[ \n]", before)[-1], re.split(r"[ \n]", after)[0]
            if opening or closing:
                span = nodes.inline("", "", nodes.Text(opening), formula, nodes.Text(closing), classes=["kx-glued"])
                rest = nodes.Text(before.removesuffix(opening)), span, nodes.Text(after.removeprefix(closing))
                line[place - bool(before) : place + 1 + bool(after)] = rest


def setup(app: Sphinx) -> dict[str, bool]:
    """Point ``mathjax_path`` at the copy, and make the copy when the site is written."""
    app.add_post_transform(GlueToFormula)
    app.connect("config-inited", _use_copy)
    app.add_js_file("formulas.js", loading_method="defer")
    app.connect("build-finished", _copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
