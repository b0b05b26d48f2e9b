"""What the HTML of Sphinx and the theme lacks for readers who listen, or who use the keyboard."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def _mend(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    if "body" in context:
        # The list of references is a list, whose items docutils gives a role that ARIA has withdrawn.
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app: Sphinx) -> dict[str, bool]:
    """Mend each page before it is written."""
    app.connect("html-page-context", _mend)
    app.add_js_file("accessible.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
