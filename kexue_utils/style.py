"""How figures and tables look: one palette, one size, the same bytes at every build.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers (https://jfly.uni-koeln.de/color/).
The book draws on a transparent background, and its pages invert figures in dark mode; a live notebook draws on
white, because nothing is known about the page behind it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .arguments import integer, number
from .extras import needed_by

with needed_by(__name__):
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    from cycler import cycler

if TYPE_CHECKING:
    from IPython.display import Markdown
    from matplotlib.figure import Figure

BLACK = "#000000"
BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#009E73"
ORANGE = "#E69F00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
YELLOW = "#F0E442"  # too light for a thin line: for areas only, so it is not in the cycle
GREY = "#7F7F7F"  # for what is only there to compare with

CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)

CSS_PX_PER_INCH = 96  # a CSS pixel is 1/96 inch and a point 4/3 of a pixel, for SVG and for frames alike

_RC: dict[Any, Any] = {
    # 6 inches are 576 CSS pixels; on a phone of 390 that shrinks to 62 %, where 13 pt are still 11 pixels.
    "figure.figsize": (6.0, 3.75),
    "figure.dpi": CSS_PX_PER_INCH,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so every machine draws the same glyphs
    "font.size": 13,
    "axes.labelsize": 13,
    "axes.titlesize": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "mathtext.fontset": "stix",
    "axes.prop_cycle": cycler(color=CYCLE),
    "image.cmap": "viridis",
    "lines.linewidth": 2.0,
    "lines.markersize": 6.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    # Ids inside an SVG are random without a salt, and two builds would differ.
    "svg.hashsalt": "kexue",
}


def in_book() -> bool:
    """Whether this code runs in a build of the book (environment variable ``KEXUE_BOOK=1``)."""
    return os.environ.get("KEXUE_BOOK") == "1"


def use() -> None:
    """Set Matplotlib up for this book; call it once, in the first cell of a chapter.

    Static figures become SVG without a date. Outside a notebook only Matplotlib's settings change.

    Examples
    --------
    >>> from kexue_utils import style
    >>> style.use()
    >>> style.plt.rcParams["axes.prop_cycle"].by_key()["color"][0]
    '#0072B2'
    """
    background = "none" if in_book() else "white"
    mpl.rcParams.update(
        _RC | {"figure.facecolor": background, "axes.facecolor": background, "savefig.facecolor": background},
    )
    try:
        from IPython import get_ipython
    except ImportError:
        return
    shell = get_ipython()
    if shell is not None and hasattr(shell, "kernel"):
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        # Not cropped to the drawing ("tight"): figures of one width keep one width on the page.
        set_matplotlib_formats("svg", bbox_inches=None, metadata={"Date": None})


def figure(
    rows: int = 1, columns: int = 1, *, height: float = 3.75, width: float = 6.0, **subplots: Any
) -> tuple[Figure, Any]:
    """A new figure of the book's width with its axes: ``plt.subplots`` with the sizes that fit a page.

    Parameters
    ----------
    rows, columns : int
        Grid of axes. On a phone two columns are hard to read: prefer two rows.
    height, width : float
        Size in inches, 96 CSS pixels each. The default width is that of the text; a wider figure only gets
        smaller letters.
    **subplots
        Passed on to `matplotlib.pyplot.subplots` (``sharex``, ``subplot_kw``, ...).

    Returns
    -------
    fig : matplotlib.figure.Figure
    axes : matplotlib.axes.Axes or numpy.ndarray of Axes
        One ``Axes`` for a 1 by 1 grid, else an array as from ``plt.subplots``.

    Raises
    ------
    ValueError, TypeError
        If rows or columns is not an integer from 1 to 100, or height or width not a number of inches between 0 and 20.

    Examples
    --------
    >>> fig, ax = figure(height=3)
    >>> fig.get_size_inches().tolist()
    [6.0, 3.0]
    >>> plt.close(fig)
    """
    if not (0 < number("height", height) < 20 and 0 < number("width", width) < 20):
        raise ValueError(f"height and width are inches between 0 and 20; got height={height}, width={width}")
    rows, columns = integer("rows", rows, 1, 100), integer("columns", columns, 1, 100)
    return plt.subplots(rows, columns, figsize=(width, height), **subplots)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], align: str | None = None) -> Markdown:
    """A table of the book, for the end of a cell or for `display`.

    Parameters
    ----------
    header : list of str
        Markdown, so that ``$n$`` is a formula; an empty string leaves a column without a name.
    rows : lists as long as the header
        Cells are written with ``str``: format numbers to the digits that are true.
    align : str, optional
        A letter for each column: l, c or r. Default: the first to the left, all others, which are numbers, to the right.

    Returns
    -------
    IPython.display.Markdown

    Raises
    ------
    ValueError
        If a row or `align` is not as long as the header, or a cell contains ``|``, which would end it (write ``\\lvert``).
    TypeError
        If header or a row is not a list, or a cell of the header or align not a string.

    Examples
    --------
    >>> print(table(["$n$", "$n!$"], [(3, 6), (4, 24)]).data)
    | $n$ | $n!$ |
    |:--|--:|
    | 3 | 6 |
    | 4 | 24 |
    """
    with needed_by("table"):
        from IPython.display import Markdown

    if not isinstance(header, list | tuple) or not header or not all(isinstance(name, str) for name in header):
        raise TypeError(f"header must be a list of strings, got {header!r}")
    if isinstance(rows, str) or not isinstance(rows, Iterable):
        raise TypeError(f"rows must be lists of cells, got {rows!r}")
    align = "l" + "r" * (len(header) - 1) if align is None else align
    if not isinstance(align, str):
        raise TypeError(f"align must be a string, got {align!r}")
    if len(align) != len(header) or not set(align) <= set("lcr"):
        raise ValueError(f"align must be {len(header)} letters out of l, c, r, got {align!r}")
    lines = [header, *rows]
    for cells in lines:
        if isinstance(cells, str) or not hasattr(cells, "__len__"):
            raise TypeError(f"rows must be lists of cells, got {cells!r}")
        if len(cells) != len(header):
            raise ValueError(f"rows must have {len(header)} cells like the header, got {len(cells)}: {cells}")
        if any("|" in str(cell) for cell in cells):
            raise ValueError(f"rows must have no | inside a cell, got {cells}")
    rule = "|".join({"l": ":--", "c": ":-:", "r": "--:"}[letter] for letter in align)
    first, *rest = (f"| {' | '.join(map(str, cells))} |" for cells in lines)
    text = "\n".join([first, f"|{rule}|", *rest])
    # Only the build of the book knows the number behind {eq}`eq-kl`: elsewhere the name is left, as beside its evidence.
    return Markdown(text if in_book() else re.sub(r"\{[\w:-]+\}(?=`)", "", text))
