"""Code on the pages: coloured where colour says something, plain elsewhere.

Pygments wraps every name, bracket and operator in an element of its own, which no style of ours colours. On a chapter
these are three quarters of the size of its code. Sphinx takes the formatter of `PygmentsBridge` for every page.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from pygments.formatters import HtmlFormatter
from pygments.token import Name, Number, Operator, Punctuation, Text, Whitespace
from sphinx.highlighting import PygmentsBridge

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PLAIN = {Name, Operator, Punctuation, Text, Whitespace}


class PlainerFormatter(HtmlFormatter):
    """HTML of highlighted code without elements around plain names, numbers, operators, punctuation and space."""

    def format_unencoded(self, tokens: Iterator[tuple[Any, str]], out: TextIO) -> None:
        merged = ((Text if kind in PLAIN or kind in Number else kind, text) for kind, text in tokens)
        super().format_unencoded(merged, out)


def setup(app: Sphinx) -> dict[str, bool]:
    PygmentsBridge.html_formatter = PlainerFormatter
    return {"parallel_read_safe": True, "parallel_write_safe": True}
