"""Scripts, icons and pictures: each page loads what it uses.

The theme brings the 1.5 MB of Font Awesome's script for the dozen icons of its buttons. Here these are cut out of that
very script into a style sheet, which draws them as masks in the colour of the text; the template leaves the script out.
Other scripts stay on the pages on which they find something to do. A picture that an output carries inside of its HTML
becomes a file.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ICONS = (
    "angle-left", "angle-right", "arrow-up", "bars", "circle-half-stroke", "download", "expand", "file", "file-pdf", "list",
    "magnifying-glass", "moon", "sun",
)  # fmt: skip
STYLES = "icons.css"
CREDIT = "/* Icons: Font Awesome Free, https://fontawesome.com/license/free (CC BY 4.0), Fonticons, Inc. */\n"

# What a page has to show for a script to be of use.
NEEDED_FOR = {
    "explore.js": ('class="kx-explore"',),
    "ledger.js": ("kx-badge", "kx-eqref", "kx-ledger", "kx-output"),
    "formulas.js": ('class="math', "kx-ledger"),
    "mathjax/": ('class="math', "kx-ledger"),
    "design-tabs.js": ("sd-tab",),
    "togglebutton.js": ("toggle", "dropdown"),
    "clipboard.min.js": ('class="highlight',),
    "copybutton.js": ('class="highlight',),
}


def icon_styles(names: tuple[str, ...] = ICONS) -> str:
    """A style sheet that draws `names` for elements such as ``<i class="fa-solid fa-bars">``.

    Raises
    ------
    ExtensionError
        The theme's script is not where it was, or does not know a name.
    """
    theme = importlib.util.find_spec("pydata_sphinx_theme")
    folder = Path(theme.origin).parent if theme and theme.origin else Path()
    script = folder / "theme/pydata_sphinx_theme/static/scripts/fontawesome.js"
    if not script.is_file():
        raise ExtensionError(f"the icons of the theme are not here: expected {script}")
    text = script.read_text(encoding="utf-8")
    rules = [CREDIT]
    for name in names:
        # Several families have the name; the solid one comes last.
        found = re.findall(rf'[{{,]"?{re.escape(name)}"?:\[(\d+),(\d+),\[[^\]]*\],"[0-9a-f]+","([^"]*)"\]', text)
        if not found:
            raise ExtensionError(f"the theme has no icon named {name!r}")
        width, height, path = found[-1]
        svg = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'><path d='{path}'/></svg>"
        ratio = int(width) / int(height)
        rules.append(
            f'.fa-{name} {{ --fa: url("data:image/svg+xml,{quote(svg, safe=" /:=")}"); --fa-width: {ratio:g}em; }}\n'
        )
    return "".join(rules)


def _write_icons(app: Sphinx) -> None:
    if app.builder.format == "html":
        folder = Path(app.outdir) / "_static"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STYLES).write_text(icon_styles(), encoding="utf-8")


def _only_what_is_used(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    body = context.get("body", "")
    scripts = context["script_files"]
    scripts[:] = [script for script in scripts if _is_needed(str(getattr(script, "filename", script)), body)]
    if not any(part in body for part in NEEDED_FOR["formulas.js"]):  # nor the settings that go with it
        scripts[:] = [
            script for script in scripts if "window.MathJax" not in getattr(script, "attributes", {}).get("body", "")
        ]


def _is_needed(script: str, body: str) -> bool:
    """Whether a page with this `body` has something to do for a script.

    >>> _is_needed("_static/explore.js", "<p>no figure</p>"), _is_needed("_static/doctools.js", "<p>no figure</p>")
    (False, True)
    """
    signs = next((signs for name, signs in NEEDED_FOR.items() if f"/{name}" in f"/{script}"), None)
    return signs is None or any(sign in body for sign in signs)


EMBEDDED = re.compile(r'src="data:image/(png|jpeg|webp|svg\+xml);base64,([A-Za-z0-9+/=]{4000,})"')


def _pictures_to_files(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    if app.builder.format != "html":
        return
    folder = "../" * app.builder.get_target_uri(docname).count("/") + "_images"

    def to_file(found: re.Match[str]) -> str:
        picture = base64.b64decode(found[2])
        name = f"{hashlib.sha256(picture).hexdigest()[:20]}.{found[1].partition('+')[0]}"
        Path(app.outdir, "_images").mkdir(parents=True, exist_ok=True)
        Path(app.outdir, "_images", name).write_bytes(picture)
        return f'src="{folder}/{name}"'

    for raw in doctree.findall(nodes.raw):
        if "data:image" in raw.astext():
            raw.children = [nodes.Text(EMBEDDED.sub(to_file, raw.astext()))]


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the icons, choose each page's scripts, and take pictures out of outputs."""
    app.connect("builder-inited", _write_icons)
    app.connect("doctree-resolved", _pictures_to_files)
    app.connect("html-page-context", _only_what_is_used, priority=950)  # after those who add scripts
    app.add_css_file(STYLES)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
