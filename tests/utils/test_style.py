"""Facts about the look of figures."""

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from kexue_utils import style


@pytest.fixture(autouse=True)
def own_settings():
    with mpl.rc_context():
        yield
    plt.close("all")


def svg_of_a_labelled_plot() -> bytes:
    fig, ax = style.figure()
    ax.plot([0, 1], [1, 0], label="$x^2$")
    ax.legend()
    buffer = io.BytesIO()
    fig.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def relative_luminance(colour: str) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_same_figure_gives_the_same_svg_twice():
    style.use()
    assert svg_of_a_labelled_plot() == svg_of_a_labelled_plot()


def test_the_book_draws_on_a_transparent_background(monkeypatch):
    monkeypatch.setenv("KEXUE_BOOK", "1")
    style.use()
    fig, ax = style.figure()
    assert fig.get_facecolor()[3] == 0
    assert ax.get_facecolor()[3] == 0


def test_a_live_figure_is_white(monkeypatch):
    monkeypatch.delenv("KEXUE_BOOK", raising=False)
    style.use()
    fig, _ = style.figure()
    assert mpl.colors.to_hex(fig.get_facecolor()) == "#ffffff"


def test_lines_take_the_colours_of_the_cycle_in_order():
    style.use()
    _, ax = style.figure()
    colours = [ax.plot([0, 1], [k, k])[0].get_color() for k in range(3)]
    assert colours == [style.BLUE, style.VERMILION, style.GREEN]


def test_every_colour_of_the_cycle_stands_out_against_white():
    """2:1 at least; yellow, at 1.3:1, is therefore not for lines."""
    contrast = {colour: 1.05 / (relative_luminance(colour) + 0.05) for colour in [*style.CYCLE, style.YELLOW]}
    assert min(contrast[colour] for colour in style.CYCLE) > 2
    assert contrast[style.YELLOW] < 1.5


def test_letters_are_at_least_ten_pixels_high_on_a_phone():
    style.use()
    phone, css_px_per_point = 358, 96 / 72  # 390 pixels less the margins
    shrunk = phone / (style.figure()[0].get_figwidth() * style.CSS_PX_PER_INCH)
    sizes = [mpl.rcParams[f"{part}.labelsize"] for part in ("axes", "xtick", "ytick")]
    assert min(sizes) * css_px_per_point * shrunk >= 9.9


def test_a_grid_of_axes_keeps_the_width():
    fig, axes = style.figure(2, 1, height=5, sharex=True)
    assert axes.shape == (2,)
    assert fig.get_size_inches().tolist() == [6.0, 5.0]


@pytest.mark.parametrize("height", [0, -1, 400])
def test_a_height_that_is_not_in_inches_is_refused(height):
    with pytest.raises(ValueError, match=f"inches.*height={height}"):
        style.figure(height=height)


def test_a_table_is_markdown_with_the_columns_aligned():
    shown = style.table(["", "$p$", "seeds"], [("a", 0.5, "1, 2"), ("b", 1, "3, 4")], align="lrc")
    assert shown.data.splitlines() == ["|  | $p$ | seeds |", "|:--|--:|:-:|", "| a | 0.5 | 1, 2 |", "| b | 1 | 3, 4 |"]


@pytest.mark.parametrize(
    ("rows", "align", "message"),
    [
        ([(1,)], None, "rows must have 2 cells like the header, got 1"),
        ([(1, "|x|")], None, "no | inside a cell"),
        ([(1, 2)], "lrr", "align must be 2 letters"),
        ([(1, 2)], "lx", "align must be 2 letters out of l, c, r"),
    ],
)
def test_a_table_that_would_fall_apart_is_refused(rows, align, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        style.table(["a", "b"], rows, align)
