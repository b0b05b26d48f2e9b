"""Code on the pages: coloured where colour says something, plain elsewhere.

Pygments wraps every name, bracket and operator in an element of its own, which no style of ours colours, and tells
apart many kinds that look the same. On a chapter that is most of the size of its code. Sphinx takes the formatter of
`PygmentsBridge` for every page.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from pygments.formatters import HtmlFormatter
from pygments.styles import get_style_by_name
from pygments.token import Name, Number, Operator, Punctuation, Text, Whitespace
from sphinx.highlighting import PygmentsBridge

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

PLAIN = {Name, Operator, Punctuation, Text, Whitespace}


class PlainerFormatter(HtmlFormatter):
    """HTML of highlighted code without elements around what is plain in all of `styles`; what looks alike is one element."""

    styles: tuple[str, ...] = ()

    def format_unencoded(self, tokens: Iterator[tuple[Any, str]], out: TextIO) -> None:
        seen: dict[Any, Any] = {}
        merged = ((self._first_alike(kind, seen), text) for kind, text in tokens)
        super().format_unencoded(merged, out)

    def _first_alike(self, kind: Any, seen: dict[Any, Any]) -> Any:
        if kind in PLAIN or kind in Number:
            return Text
        looks = [get_style_by_name(name).style_for_token(kind) for name in self.styles]
        return seen.setdefault(tuple(tuple(look.items()) for look in looks), kind) if looks else kind


def _styles_of_the_theme(app: Sphinx, config: Config) -> None:
    options = config.html_theme_options
    names = (options.get("pygments_light_style"), options.get("pygments_dark_style"))
    PlainerFormatter.styles = tuple(name for name in names if name)


def setup(app: Sphinx) -> dict[str, bool]:
    PygmentsBridge.html_formatter = PlainerFormatter
    app.connect("config-inited", _styles_of_the_theme)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
