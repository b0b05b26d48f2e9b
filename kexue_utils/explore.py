"""Figures with sliders: one call, live with a kernel, and as frames on a page without one.

With a kernel (JupyterLab, Binder, Colab) `explore` shows ipywidgets and draws again on every change. In the build of
the book it draws every combination of the slider values once and puts the frames into one cell output, from which
`kexue_publish.frames` makes the page's figure. In plain Python nothing is drawn.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from .arguments import integer
from .extras import needed_by

with needed_by(__name__):
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image, ImageChops, ImageStat

    from .style import CSS_PX_PER_INCH, in_book

MIME = "application/vnd.kexue.frames+json"

# Two large figures, or three or four usual ones, fit a page (1.5 MB). 40 to 60 frames of a line plot.
FIGURE_BUDGET = 750_000


def explore(
    draw: Callable,
    *,
    alt: str | Callable[..., str],
    start: Mapping | None = None,
    labels: Mapping[str, str] | None = None,
    caption: str | None = None,
    budget: int = FIGURE_BUDGET,
    **sliders: Sequence,
) -> Explorer:
    """Show a figure whose parameters the reader moves.

    Make it the last expression of a cell.

    Parameters
    ----------
    draw : callable
        ``draw(**parameters)`` returns a Matplotlib figure, or ``(figure, text)`` where text is one line with this
        frame's numbers, shown as text under the figure. It is run once a frame and must depend on nothing but
        its parameters. All frames have the same size; keep axis limits fixed too. A fixed layout
        (``style.figure(layout="none")`` with ``fig.subplots_adjust(...)``) keeps the axes exactly in place, and takes
        half the time, as finding a layout costs as much as drawing.
    alt : str or callable
        Alternative text: what this frame shows, for somebody who does not see it. A callable with the parameters of
        `draw`, or a format string such as ``"in dimension {n} the angles lie within {n} degrees"``. Must differ
        between frames that look different.
    start : mapping, optional
        Parameter name to its value at first; each must be one of the slider's values. Default: the first value.
    labels : mapping, optional
        Parameter name to the words beside its slider, with units: ``{"n": "dimension n"}``.
    caption : str, optional
        What to look for (MyST: mathematics and references work). A chapter may instead give the cell's
        ``mystnb: figure: caption``.
    budget : int
        Largest sum of the frames' bytes in the book build. A whole page has 1.5 MB.
    **sliders : sequence
        One to three parameters of `draw`, each with at least two different values. Numbers (increasing) make a slider,
        strings a drop-down list, ``[False, True]`` a switch. On the page these values are the steps. With a
        kernel, evenly spaced and log-spaced numbers become sliders over any value between the first and the
        last (integers stay integers); other numbers keep their steps.

    Returns
    -------
    Explorer
        Displays itself.

    Raises
    ------
    TypeError, ValueError
        Argument of the wrong kind; alternative text empty or the same for two different frames; frames of different
        size; over budget. Each names the argument or the parameters of the frame.
    RuntimeError
        `draw` failed; names the parameters.
    ImportError
        With a kernel but without ipywidgets.

    Examples
    --------
    >>> def draw(n):
    ...     fig, ax = plt.subplots()
    ...     ax.plot([0, 1], [0, n])
    ...     return fig, f"slope {n}"
    >>> explore(draw, n=range(1, 6), start={"n": 3}, labels={"n": "slope n"}, alt="a line of slope {n}")
    <figure with sliders n (1 to 5): 5 frames, shown in a notebook>
    """
    start, labels = ({} if mapping is None else mapping for mapping in (start, labels))
    explorer = Explorer(draw, alt, start, labels, caption, budget, sliders)
    if in_book():
        _ = explorer.content  # draw now, so that an error points at this call
    elif _in_kernel():
        _ = explorer.widget
    return explorer


class Explorer:
    """What `explore` returns: a figure with sliders that displays itself. `content` holds the frames of the book
    build, `widget` the live widget."""

    def __init__(
        self,
        draw: Callable,
        alt: str | Callable[..., str],
        start: Mapping,
        labels: Mapping[str, str],
        caption: str | None,
        budget: int,
        sliders: Mapping[str, Sequence],
    ) -> None:
        if not callable(draw):
            raise TypeError(f"draw must be a function that returns a figure; got {draw!r}")
        if not (callable(alt) or (isinstance(alt, str) and alt.strip())):
            raise TypeError(f"alt must be a function of the parameters or a format string, not empty; got {alt!r}")
        if caption is not None and not (isinstance(caption, str) and caption.strip()):
            raise TypeError(f"caption must be a non-empty string or None; got {caption!r}")
        if integer("budget", budget) < 1:
            raise ValueError(f"budget must be at least 1 byte; got {budget}")
        if not 1 <= len(sliders) <= 3:
            given = ", ".join(sliders) or "none"
            raise ValueError(f"explore takes one to three sliders as keyword arguments; got {given}")
        for argument, mapping in {"start": start, "labels": labels}.items():
            if not isinstance(mapping, Mapping):
                raise TypeError(f"{argument} must be a mapping from the names of sliders; got {mapping!r}")
            if unknown := set(mapping) - set(sliders):
                raise ValueError(
                    f"{argument} names {sorted(unknown)}, which is not a slider; the sliders are {sorted(sliders)}"
                )
        self.draw, self.alt, self.caption, self.budget = draw, alt, caption, budget
        self.sliders = [_Slider(name, values, labels.get(name, name), start) for name, values in sliders.items()]

    def __repr__(self) -> str:
        sliders = ", ".join(f"{s.name} ({s.text(s.values[0])} to {s.text(s.values[-1])})" for s in self.sliders)
        count = math.prod(len(s.values) for s in self.sliders)
        return f"<figure with sliders {sliders}: {count} frames, shown in a notebook>"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if not in_book() and _in_kernel():
            display(self.widget)
        else:
            data, metadata = self._repr_mimebundle_()
            display(data, metadata=metadata, raw=True)

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if not in_book():
            return {"text/plain": repr(self)}, {}
        first = self.content["frames"][self._start_index()]
        size = {"width": self.content["width"], "height": self.content["height"]}
        data = {MIME: self.content, "image/png": self._start_png, "text/plain": first["alt"]}
        return data, {"image/png": size}

    # ---- one frame -------------------------------------------------------------------------------------------------

    def frame(self, **parameters: Any) -> tuple[Image.Image, str, str]:
        """Draw one frame: its picture (RGBA, two pixels a CSS pixel), alternative text, and line of numbers."""
        where = _call(parameters)
        before = set(plt.get_fignums())
        try:
            drawn = self.draw(**parameters)
            figure, text = drawn if isinstance(drawn, tuple) and len(drawn) == 2 else (drawn, "")
            if not isinstance(figure, Figure) or not isinstance(text, str):
                raise TypeError(f"expected a Matplotlib figure or (figure, str), got {drawn!r}")
            if "\n" in text:
                raise ValueError(f"the text must be one line, got {text!r}")
            picture = _picture(figure)
        except Exception as error:
            raise RuntimeError(f"draw{where} failed: {type(error).__name__}: {error}") from error
        finally:
            # An open figure would be shown a second time at the end of the cell.
            for number in set(plt.get_fignums()) - before:
                plt.close(number)
        return picture, self._alt(parameters), text

    def _alt(self, parameters: Mapping[str, Any]) -> str:
        try:
            alt = self.alt(**parameters) if callable(self.alt) else self.alt.format(**parameters)
        except Exception as error:
            raise ValueError(f"alt{_call(parameters)} failed: {type(error).__name__}: {error}") from error
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError(f"alt{_call(parameters)} must be a non-empty string; got {alt!r}")
        return " ".join(alt.split())

    # ---- frames for the page ---------------------------------------------------------------------------------------

    def _start_index(self) -> int:
        index = 0
        for slider in self.sliders:
            index = index * len(slider.values) + slider.start
        return index

    @cached_property
    def content(self) -> dict[str, Any]:
        """The frames as the JSON of the output: row-major over the sliders, equal pictures stored once."""
        images: dict[bytes, int] = {}
        alts: dict[str, tuple[int, dict]] = {}
        frames: list[dict[str, Any]] = []
        size = (0, 0)
        for values in itertools.product(*(s.values for s in self.sliders)):
            parameters = {s.name: v for s, v in zip(self.sliders, values, strict=True)}
            picture, alt, text = self.frame(**parameters)
            size = size if frames else picture.size
            if picture.size != size:
                raise ValueError(
                    f"every frame must have the same size: draw{_call(parameters)} has {picture.size[0]} x "
                    f"{picture.size[1]} pixels, the first frame {size[0]} x {size[1]}"
                )
            image = images.setdefault(_encode(picture), len(images))
            seen, other = alts.setdefault(alt, (image, parameters))
            if seen != image:
                raise ValueError(
                    f"alt must tell frames apart, but draw{_call(other)} and draw{_call(parameters)} look different "
                    f"and share the text {alt!r}"
                )
            frames.append({"image": image, "alt": alt, "text": text})
            if len(frames) - 1 == self._start_index():
                self._start_png = base64.b64encode(_png(picture)).decode()
        total = sum(map(len, images))
        if total > self.budget:
            raise ValueError(
                f"{len(images)} frames weigh {total:,} bytes ({total // len(images):,} each), over the budget of "
                f"{self.budget:,}: give the sliders fewer steps, or draw less in a frame"
            )
        return {
            "version": 1,
            "width": size[0] // 2,
            "height": size[1] // 2,
            "caption": self.caption,
            "sliders": [
                {
                    "name": s.name,
                    "label": s.label,
                    "kind": s.kind,
                    "values": [s.text(v) for v in s.values],
                    "start": s.start,
                }
                for s in self.sliders
            ],
            "media": "image/webp",
            "images": [base64.b64encode(image).decode() for image in images],
            "frames": frames,
        }

    # ---- live ------------------------------------------------------------------------------------------------------

    @cached_property
    def widget(self) -> Any:
        """The live widget: made only of what ipywidgets 7.7 and 8 share."""
        with needed_by("explore"):
            import ipywidgets
        # An HTML widget and not an Image: only this can carry alternative text in both versions.
        picture = ipywidgets.HTML(self._live_html({s.name: s.values[s.start] for s in self.sliders}))
        controls = {s.name: s.control(ipywidgets) for s in self.sliders}
        readers = {s.name: s.read for s in self.sliders}

        def redraw(_change: object) -> None:
            began = time.perf_counter()
            parameters = {name: readers[name](control.value) for name, control in controls.items()}
            try:
                picture.value = self._live_html(parameters)
            except Exception as error:  # an exception in a callback would vanish in a log
                picture.value = f'<p role="alert">{html.escape(str(error))}</p>'
            # While a frame is being drawn the front end holds back all changes but the last one, so a moving slider draws
            # only the newest value. Where one frame takes long even that lags: then draw when the slider is released.
            quick = time.perf_counter() - began < 0.5
            for control in controls.values():
                if hasattr(control, "continuous_update"):
                    control.continuous_update = quick

        for control in controls.values():
            control.observe(redraw, names="value")
        parts = [*controls.values(), picture]
        if self.caption:
            parts.append(ipywidgets.HTMLMath(_emphasis(self.caption)))
        return ipywidgets.VBox(parts)

    def _live_html(self, parameters: Mapping[str, Any]) -> str:
        picture, alt, text = self.frame(**parameters)
        width, height = picture.size[0] // 2, picture.size[1] // 2
        source = base64.b64encode(_png(picture)).decode()
        return (
            f'<img src="data:image/png;base64,{source}" alt="{html.escape(alt)}" width="{width}" height="{height}" '
            f'style="max-width: 100%; height: auto"><div aria-live="polite">{html.escape(text)}</div>'
        )


class _Slider:
    """One parameter: its values, what kind of control they ask for, and that control."""

    def __init__(self, name: str, values: Sequence, label: str, start: Mapping) -> None:
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"labels[{name!r}] must be a non-empty string; got {label!r}")
        if "$" in label:
            raise ValueError(f"labels[{name!r}] is plain text, also for screen readers, without $; got {label!r}")
        self.name, self.label = name, label
        if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
            raise TypeError(f"{name} must be a sequence of values; got {values!r}")
        self.values = [_plain(v) for v in values]
        if len(self.values) < 2:
            raise ValueError(f"{name} needs at least two values; got {self.values}")
        kinds = {type(v) for v in self.values}
        if kinds == {bool}:
            self.kind = "switch"
            if self.values != [False, True]:
                raise ValueError(f"the values of the switch {name} must be [False, True]; got {self.values}")
        elif kinds == {str}:
            self.kind = "choice"
            if len(set(self.values)) < len(self.values):
                raise ValueError(f"{name} has a value twice: {self.values}")
        elif kinds <= {int, float}:
            self.kind = "number"
            self.integer = kinds == {int}
            if not self.integer:
                self.values = [float(v) for v in self.values]
            if not all(a < b < math.inf for a, b in itertools.pairwise([-math.inf, *self.values])):
                raise ValueError(f"the numbers of {name} must be finite and increase; got {self.values}")
        else:
            raise TypeError(f"{name} must hold only numbers, only strings or only bools; got {self.values}")
        texts = [self.text(v) for v in self.values]
        if len(set(texts)) < len(texts):
            raise ValueError(f"two values of {name} read the same, {self.values}: at four digits, {texts}")
        first = _plain(start.get(name, self.values[0]))
        if first not in self.values:
            raise ValueError(f"start[{name!r}] is {first!r}, which is not one of {self.values}")
        self.start = self.values.index(first)

    def text(self, value: Any) -> str:
        if self.kind == "switch":
            return "on" if value else "off"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    @property
    def spacing(self) -> str:
        """How numbers are spaced: "even", "log" (each about the same multiple of the last), or "uneven"."""
        first, last, count = self.values[0], self.values[-1], len(self.values)
        step = (last - first) / (count - 1)
        if all(math.isclose(v, first + i * step, abs_tol=1e-6 * step) for i, v in enumerate(self.values)):
            return "even"
        if first > 0:
            ratio = (last / first) ** (1 / (count - 1))
            # A log-spaced sequence of integers has been rounded.
            slack = 0.5 + 1e-9 if self.integer else 0.0
            if all(math.isclose(v, first * ratio**i, rel_tol=1e-6, abs_tol=slack) for i, v in enumerate(self.values)):
                return "log"
        return "uneven"

    def control(self, ipywidgets: ModuleType) -> Any:
        first, last, value = self.values[0], self.values[-1], self.values[self.start]
        common = {
            "description": self.label,
            "style": {"description_width": "initial"},
            "layout": ipywidgets.Layout(width="100%", max_width="36em"),
        }
        if self.kind == "switch":
            return ipywidgets.Checkbox(value=value, indent=False, **common)
        if self.kind == "choice":
            return ipywidgets.Dropdown(options=self.values, value=value, **common)
        if self.spacing == "uneven":
            options = [(self.text(v), v) for v in self.values]
            return ipywidgets.SelectionSlider(options=options, value=value, **common)
        if self.spacing == "log":
            low, high = math.log10(first), math.log10(last)
            # The extra 1e-9 keeps the ends inside the range after rounding.
            return ipywidgets.FloatLogSlider(
                value=value,
                base=10,
                min=low - 1e-9,
                max=high + 1e-9,
                step=(high - low) / 200,
                readout_format=".0f" if self.integer else ".3g",
                **common,
            )
        if self.integer:
            return ipywidgets.IntSlider(value=value, min=first, max=last, step=1, **common)
        step = (last - first) / (len(self.values) - 1) / 10
        return ipywidgets.FloatSlider(value=value, min=first, max=last, step=step, readout_format=".4g", **common)

    def read(self, value: Any) -> Any:
        """The parameter for a control's value: within the range, and an integer where the values are."""
        if self.kind != "number":
            return value
        value = min(max(value, self.values[0]), self.values[-1])
        return round(value) if self.integer else value


def _plain(value: Any) -> Any:
    """A NumPy or torch scalar as the Python number it stands for."""
    return value.item() if hasattr(value, "item") else value


def _call(parameters: Mapping[str, Any]) -> str:
    return "(" + ", ".join(f"{name}={value!r}" for name, value in parameters.items()) + ")"


def _emphasis(caption: str) -> str:
    """The caption as HTML, with what captions have besides mathematics: ``**strong**``, ``*emphasis*``, and roles.

    Only the build of the book knows the number of an equation. Here ``{eq}`eq-kl``` becomes its name, which also stands
    beside its evidence.
    """
    named = re.sub(r"\{[\w:-]+\}`([^`]+)`", r"<code>\1</code>", html.escape(caption))
    strong = re.sub(r"\*\*(\S.*?)\*\*", r"<b>\1</b>", named)
    return re.sub(r"(?<![\w*])\*(\S.*?)\*(?![\w*])", r"<i>\1</i>", strong)


def _in_kernel() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")


def _picture(figure: Figure) -> Image.Image:
    # Straight from the canvas: savefig would lay the figure out twice and pack a PNG that nobody reads.
    if in_book():
        figure.patch.set_alpha(0)
    figure.set_dpi(2 * CSS_PX_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba()).copy())


def _encode(picture: Image.Image) -> bytes:
    """The frame as WebP.

    Measured for line plots and scatter plots of 640 x 400 CSS pixels: 256 colours and lossless WebP take 17 KB
    with an error that nobody sees (1.1 of 255 rms); lossy WebP 42 KB and AVIF 33 KB on a transparent background,
    with visible halos at thin lines. A smooth gradient needs more colours than 256 of this quick palette: lossy WebP,
    made for such pictures, takes 11 KB there.
    """
    reduced = _reduce(picture)
    encoded = io.BytesIO()
    if _rms_difference(picture, reduced) <= 1.6:
        reduced.save(encoded, "WEBP", lossless=True, quality=80)
    else:
        picture.save(encoded, "WEBP", quality=80)
    return encoded.getvalue()


def _reduce(picture: Image.Image) -> Image.Image:
    # Octree is Pillow's only palette method for pictures with transparency.
    return picture.quantize(256, method=Image.Quantize.FASTOCTREE).convert("RGBA")


def _rms_difference(one: Image.Image, other: Image.Image) -> float:
    """Root mean square difference of two pictures on white, in 1/255."""
    white = Image.new("RGBA", one.size, "white")
    flat = [Image.alpha_composite(white, picture).convert("RGB") for picture in (one, other)]
    squares = ImageStat.Stat(ImageChops.difference(*flat)).rms
    return math.sqrt(sum(s * s for s in squares) / len(squares))


def _png(picture: Image.Image) -> bytes:
    encoded = io.BytesIO()
    picture.quantize(256, method=Image.Quantize.FASTOCTREE).save(encoded, "PNG", optimize=True)
    return encoded.getvalue()
