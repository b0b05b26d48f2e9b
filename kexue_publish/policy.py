"""A content security policy on every page: it runs the site's own scripts, and asks no other host for anything.

The policy stands in the page, where it also holds for a copy in a folder and for a server whose headers are not ours.
The few scripts that the theme and Sphinx write into the page are named by the hash of their text.
"""

from __future__ import annotations

import base64
import hashlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

# Styles stay open: MathJax and Font Awesome write style elements when they run, and bars of the ledger have their widths
# in attributes. What a style could fetch is bounded by img-src and font-src. The theme's icons of controls are data:.
POLICY = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'", "'unsafe-inline'"],
    "img-src": ["'self'", "data:"],
    "font-src": ["'self'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
}
# A policy governs what comes after it, so it stands as far up as the encoding allows.
_PLACE = '<meta charset="utf-8" />'
_META = '<meta http-equiv="Content-Security-Policy" content="{}" />'
# Other types are data to a browser.
_JAVASCRIPT = {None, "", "module", "text/javascript", "application/javascript"}


class _Inline(HTMLParser):
    """The code that stands in a page itself: of script elements, and of attributes such as ``onclick``."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: set[str] = set()
        self.handlers: set[str] = set()
        self._script: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "script" and "src" not in attributes and attributes.get("type") in _JAVASCRIPT:
            self._script = ""
        self.handlers |= {value for name, value in attrs if name.startswith("on") and value}

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self._script += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self._script is not None:
            self.scripts.add(self._script)
            self._script = None


def source_of(code: str) -> str:
    """How a policy names a piece of code that it allows.

    >>> source_of("alert('Hello, world.');")[:15]
    "'sha256-qznLcsR"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def policy(page: str) -> str:
    """The policy of a page: the book's own, with the hashes of the code that stands in the page.

    Parameters
    ----------
    page
        The page as HTML.

    Examples
    --------
    >>> policy("<p>no script</p>")
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'self'"
    >>> f"script-src 'self' {source_of('run()')};" in policy("<script>run()</script>")
    True
    """
    inline = _Inline()
    inline.feed(page)
    inline.close()
    scripts = sorted(map(source_of, inline.scripts | inline.handlers))
    hashed = ["'unsafe-hashes'"] if inline.handlers else []  # or hashes would not count for attributes
    directives = POLICY | {"script-src": POLICY["script-src"] + hashed + scripts}
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in directives.items())


def with_policy(page: str) -> str:
    """A page with its policy in the head.

    Raises
    ------
    ValueError
        The page does not declare its encoding as Sphinx does, so there is no place for the policy.
    """
    head, place, rest = page.partition(_PLACE)
    if not place or "<script" in head.lower():
        raise ValueError(f"the page is {page[:80]!r}..., expected {_PLACE} in its head before any script")
    return f"{head}{place}\n{_META.format(policy(page))}{rest}"


def _add_to_pages(app: Sphinx, error: Exception | None) -> None:
    """Complete the pages that this build has written; the others have their policy already."""
    if error is not None or app.builder.name != "html":
        return
    site = Path(app.outdir)
    for path in sorted(site.rglob("*.html")):
        page = path.read_text(encoding="utf-8")
        if site / "_static" in path.parents or 'http-equiv="Content-Security-Policy"' in page:
            continue
        try:
            complete = with_policy(page)
        except ValueError as wrong:
            raise ExtensionError(f"{path.relative_to(site)} gets no security policy: {wrong}") from wrong
        partial = path.with_suffix(".part")
        partial.write_text(complete, encoding="utf-8")
        partial.replace(path)  # at once: a page with the policy is a whole page


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the policy when all pages are written."""
    app.connect("build-finished", _add_to_pages, priority=950)  # after the front door of kexue_publish.chapters
    return {"parallel_read_safe": True, "parallel_write_safe": True}
