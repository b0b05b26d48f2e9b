"""Facts about figures with sliders: frames in the book build, widgets with a kernel."""

import base64
import io
import json
import sys

import ipywidgets
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

import kexue_utils.explore as module
from kexue_utils import style
from kexue_utils.explore import MIME, explore


@pytest.fixture(autouse=True)
def own_settings():
    with mpl.rc_context():
        yield
    assert plt.get_fignums() == [], "explore left a figure open"


@pytest.fixture
def book(monkeypatch):
    monkeypatch.setenv("KEXUE_BOOK", "1")


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.delenv("KEXUE_BOOK", raising=False)
    monkeypatch.setattr(module, "_in_kernel", lambda: True)


def line(n=1, kind="up", log=False):
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.plot([1, 2], [1, 1 + n] if kind == "up" else [1 + n, 1])
    ax.set(ylim=(0.5, 50), yscale="log" if log else "linear")
    return fig, f"slope {n if kind == 'up' else -n}"


def pictures(content):
    return [Image.open(io.BytesIO(base64.b64decode(image))) for image in content["images"]]


# ---- the book build ----------------------------------------------------------------------------------------------------


def test_every_combination_is_a_frame_with_the_last_slider_moving_fastest(book):
    seen = []

    def draw(**parameters):
        seen.append(parameters)
        return line(**parameters)

    shown = explore(draw, n=[1, 2, 3], kind=["up", "down"], alt="{kind} by {n}", start={"n": 2})
    assert [list(p.values()) for p in seen] == [[n, k] for n in (1, 2, 3) for k in ("up", "down")]
    assert [f["alt"] for f in shown.content["frames"]][:3] == ["up by 1", "down by 1", "up by 2"]
    assert [f["text"] for f in shown.content["frames"]][:2] == ["slope 1", "slope -1"]


def test_the_output_has_the_frames_the_start_frame_as_png_and_its_words(book):
    shown = explore(line, n=[1, 2, 3], start={"n": 2}, labels={"n": "slope n"}, alt="slope {n}", caption="Move $n$.")
    data, metadata = shown._repr_mimebundle_()
    assert set(data) == {MIME, "image/png", "text/plain"}
    assert data["text/plain"] == "slope 2"
    assert json.loads(json.dumps(data[MIME])) == data[MIME]
    assert data[MIME]["sliders"] == [
        {"name": "n", "label": "slope n", "kind": "number", "values": ["1", "2", "3"], "start": 1}
    ]
    assert (data[MIME]["width"], data[MIME]["height"], data[MIME]["caption"]) == (288, 192, "Move $n$.")
    assert metadata["image/png"] == {"width": 288, "height": 192}
    start = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGBA")
    assert module._rms_difference(start, pictures(data[MIME])[1].convert("RGBA")) == 0
    assert module._rms_difference(start, pictures(data[MIME])[0].convert("RGBA")) > 1


def test_frames_have_two_pixels_a_css_pixel_and_a_transparent_background(book):
    (first, *_) = pictures(explore(line, n=[1, 2], alt="slope {n}").content)
    assert first.size == (2 * 288, 2 * 192)
    assert first.convert("RGBA").getpixel((1, 1))[3] == 0


def test_reducing_colours_changes_a_line_plot_by_less_than_an_eye_sees(book):
    shown = explore(line, n=[1, 2], alt="slope {n}")
    drawn, _, _ = shown.frame(n=1)
    assert module._rms_difference(drawn, pictures(shown.content)[0].convert("RGBA")) < 1.6


def test_a_smooth_gradient_keeps_its_shades(book):
    def gradient(k):
        fig, ax = plt.subplots(figsize=(3, 2))
        ax.imshow(np.linspace(0, k, 600).reshape(1, -1) ** 0.5, aspect="auto", vmin=0, vmax=2)
        return fig

    shown = explore(gradient, k=[1.0, 2.0], alt="up to {k}")
    drawn, _, _ = shown.frame(k=2.0)
    shades = {
        pixel[:3] for pixel in pictures(shown.content)[1].convert("RGB").crop((120, 150, 500, 151)).get_flattened_data()
    }
    assert len(shades) > 100
    assert module._rms_difference(drawn, pictures(shown.content)[1].convert("RGBA")) < 4


def test_equal_pictures_are_stored_once(book):
    content = explore(lambda n, shift: line(n), n=[1, 2], shift=[0, 1, 2], alt="slope {n} at shift {shift}").content
    assert len(content["images"]) == 2
    assert [f["image"] for f in content["frames"]] == [0, 0, 0, 1, 1, 1]


def test_two_builds_give_identical_outputs(book):
    bundles = [explore(line, n=[1, 2], log=[False, True], alt="{n} {log}")._repr_mimebundle_() for _ in range(2)]
    assert json.dumps(bundles[0]) == json.dumps(bundles[1])


def test_a_figure_over_budget_is_refused_with_its_weight(book):
    with pytest.raises(
        ValueError, match=r"2 frames weigh .* bytes .* over the budget of 1,000: give the sliders fewer"
    ):
        explore(line, n=[1, 2], alt="slope {n}", budget=1000)


def test_the_same_alternative_text_for_different_frames_is_refused(book):
    with pytest.raises(ValueError, match=r"draw\(n=1\) and draw\(n=2\) look different and share the text 'a line'"):
        explore(line, n=[1, 2], alt="a line")


def test_identical_frames_may_share_their_alternative_text(book):
    content = explore(lambda n: line(), n=[1, 2], alt="always the same line").content
    assert [f["alt"] for f in content["frames"]] == ["always the same line"] * 2


@pytest.mark.parametrize("alt", [lambda n: " ", lambda n: None])
def test_an_empty_alternative_text_is_refused_for_its_frame(book, alt):
    with pytest.raises(ValueError, match=r"alt\(n=1\) must be a non-empty string"):
        explore(line, n=[1, 2], alt=alt)


def test_an_alternative_text_with_an_unknown_name_is_refused(book):
    with pytest.raises(ValueError, match=r"alt\(n=1\) failed: KeyError: 'm'"):
        explore(line, n=[1, 2], alt="slope {m}")


def test_frames_of_different_size_are_refused(book):
    with pytest.raises(ValueError, match=r"same size: draw\(n=3\) has 576 x 384 pixels, the first frame 384 x 384"):
        explore(lambda n: plt.figure(figsize=(n, 2)), n=[2, 3], alt="{n}")


def test_an_error_in_draw_names_the_parameters_and_leaves_no_figure_open(book):
    def draw(n, kind):
        plt.figure()
        raise ZeroDivisionError("n vanished")

    with pytest.raises(RuntimeError, match=r"draw\(n=0, kind='up'\) failed: ZeroDivisionError: n vanished"):
        explore(draw, n=[0, 1], kind=["up", "down"], alt="{n} {kind}")


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (lambda n: None, "got None"),
        (lambda n: (plt.figure(), 3), "got .*3"),
        (lambda n: (plt.figure(), "a\nb"), "one line"),
    ],
)
def test_anything_but_a_figure_and_a_line_is_refused(book, result, complaint):
    with pytest.raises(RuntimeError, match=rf"draw\(n=1\) failed: .*{complaint}"):
        explore(result, n=[1, 2], alt="{n}")


# ---- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "complaint"),
    [
        ({}, ValueError, "one to three sliders .* got none"),
        ({"a": [1, 2], "b": [1, 2], "c": [1, 2], "d": [1, 2]}, ValueError, "one to three sliders .* got a, b, c, d"),
        ({"n": 3}, TypeError, "n must be a sequence of values; got 3"),
        ({"n": "abc"}, TypeError, "n must be a sequence of values; got 'abc'"),
        ({"n": [1]}, ValueError, "n needs at least two values"),
        ({"n": [1, 3, 2]}, ValueError, "numbers of n must be finite and increase"),
        ({"n": [1.0, float("nan"), 2.0]}, ValueError, "numbers of n must be finite and increase"),
        ({"n": [1.0, float("inf")]}, ValueError, "numbers of n must be finite and increase"),
        ({"n": [1, "two"]}, TypeError, "n must hold only numbers, only strings or only bools"),
        ({"n": ["a", "a"]}, ValueError, "n has a value twice"),
        ({"n": [True, False]}, ValueError, r"the switch n must be \[False, True\]"),
        ({"n": [1.00001, 1.00002]}, ValueError, "two values of n read the same"),
        ({"n": [1, 2], "start": {"n": 5}}, ValueError, r"start\['n'\] is 5, which is not one of \[1, 2\]"),
        ({"n": [1, 2], "start": {"m": 1}}, ValueError, r"start names \['m'\], which is not a slider"),
        ({"n": [1, 2], "labels": {"m": "m"}}, ValueError, r"labels names \['m'\], which is not a slider"),
        ({"n": [1, 2], "labels": {"n": ""}}, ValueError, r"labels\['n'\] must be a non-empty string"),
        ({"n": [1, 2], "labels": {"n": "$n$"}}, ValueError, r"labels\['n'\] is plain text"),
        ({"n": [1, 2], "alt": " "}, TypeError, "alt must be .* not empty"),
        ({"n": [1, 2], "caption": ""}, TypeError, "caption must be a non-empty string or None"),
        ({"n": [1, 2], "draw": "line"}, TypeError, "draw must be a function"),
    ],
)
def test_a_wrong_argument_is_named(arguments, error, complaint):
    with pytest.raises(error, match=complaint):
        explore(**({"draw": line, "alt": "{n}"} | arguments))


def test_numpy_values_reach_draw_as_python_numbers(book):
    seen = []

    def draw(n, x):
        seen.append((type(n), type(x)))
        return line(n)

    explore(draw, n=np.arange(1, 3), x=np.linspace(0, 1, 2), alt="{n} {x}")
    assert set(seen) == {(int, float)}


def test_plain_python_draws_nothing_and_says_what_it_is(monkeypatch):
    monkeypatch.delenv("KEXUE_BOOK", raising=False)
    drawn = []
    shown = explore(drawn.append, n=range(1, 6), log=[False, True], alt="{n}")
    assert repr(shown) == "<figure with sliders n (1 to 5), log (off to on): 10 frames, shown in a notebook>"
    assert shown._repr_mimebundle_() == ({"text/plain": repr(shown)}, {})
    assert drawn == []


# ---- with a kernel -----------------------------------------------------------------------------------------------------


def live(**arguments):
    """The controls, the picture's HTML, and the parameters of every draw so far."""
    seen = []

    def draw(**parameters):
        seen.append(parameters)
        return line(n=float(parameters.get("n", 1)))[0], f"{parameters}"

    widget = explore(draw, **({"alt": "frame {n}"} | arguments)).widget
    *controls, picture = widget.children
    return controls, picture, seen


def test_moving_a_slider_draws_the_new_value_with_its_text_and_alternative_text(kernel):
    (slider,), picture, seen = live(n=range(2, 11, 2), start={"n": 4})
    before = picture.value
    assert 'alt="frame 4"' in before
    slider.value = 7
    assert seen == [{"n": 4}, {"n": 7}]
    assert 'alt="frame 7"' in picture.value
    assert "{&#x27;n&#x27;: 7}</div>" in picture.value
    assert picture.value.split("base64,")[1][:2000] != before.split("base64,")[1][:2000]


def test_integers_stay_integers_and_get_every_value_between_first_and_last(kernel):
    (slider,), _, _ = live(n=range(2, 11, 2))
    assert isinstance(slider, ipywidgets.IntSlider)
    assert (slider.min, slider.max, slider.step) == (2, 10, 1)


def test_evenly_spaced_numbers_get_finer_steps(kernel):
    (slider,), _, seen = live(n=np.linspace(0, 1, 11))
    assert isinstance(slider, ipywidgets.FloatSlider)
    assert (slider.min, slider.max, slider.step) == (0, 1, pytest.approx(0.01))
    slider.value = 0.37
    assert seen[-1] == {"n": 0.37}


def test_log_spaced_numbers_get_a_log_slider_that_reaches_both_ends(kernel):
    (slider,), _, seen = live(n=np.geomspace(0.01, 100, 9), start={"n": 100.0})
    assert isinstance(slider, ipywidgets.FloatLogSlider)
    assert seen == [{"n": 100.0}]
    slider.value = 10**slider.min
    assert seen[-1] == {"n": 0.01}
    slider.value = 3.3
    assert seen[-1] == {"n": pytest.approx(3.3)}


@pytest.mark.parametrize("values", [[2, 4, 8, 16, 32], [10, 32, 100, 316, 1000]])
def test_log_spaced_integers_are_drawn_as_integers(kernel, values):
    (slider,), _, seen = live(n=values)
    assert isinstance(slider, ipywidgets.FloatLogSlider)
    slider.value = 10.7
    assert seen[-1] == {"n": 11}
    assert isinstance(seen[-1]["n"], int)


def test_uneven_numbers_keep_their_steps(kernel):
    (slider,), _, seen = live(n=[1, 3, 7, 50])
    assert isinstance(slider, ipywidgets.SelectionSlider)
    slider.value = 50
    assert seen[-1] == {"n": 50}


def test_strings_make_a_list_and_bools_a_switch(kernel):
    (kind, log), _, seen = live(kind=["up", "down"], log=[False, True], alt="{kind} {log}")
    assert isinstance(kind, ipywidgets.Dropdown)
    assert isinstance(log, ipywidgets.Checkbox)
    kind.value = "down"
    log.value = True
    assert seen[-1] == {"kind": "down", "log": True}


def test_labels_stand_beside_the_sliders(kernel):
    (slider,), _, _ = live(n=[1, 2, 3], labels={"n": "dimension n"})
    assert slider.description == "dimension n"


def test_the_caption_stands_below_with_its_emphasis(kernel):
    shown = explore(line, n=[1, 2], alt="{n}", caption="**Move $a_n$** & see the *steepest* $2*3*4$ line.")
    assert shown.widget.children[-1].value == "<b>Move $a_n$</b> &amp; see the <i>steepest</i> $2*3*4$ line."


def test_a_caption_names_the_equations_that_only_the_book_has_numbers_for(kernel):
    shown = explore(line, n=[1, 2], alt="{n}", caption="By {eq}`eq-kl`, after {cite:t}`kullback1951`.")
    assert shown.widget.children[-1].value == "By <code>eq-kl</code>, after <code>kullback1951</code>."


def test_a_table_names_them_too(monkeypatch):
    assert "| `eq-kl` |" in style.table(["formula"], [["{eq}`eq-kl`"]]).data
    monkeypatch.setenv("KEXUE_BOOK", "1")
    assert "| {eq}`eq-kl` |" in style.table(["formula"], [["{eq}`eq-kl`"]]).data


def test_a_slow_figure_is_drawn_when_the_slider_is_released(kernel, monkeypatch):
    (slider,), _, _ = live(n=[1, 2, 3])
    assert slider.continuous_update
    clock = iter([0.0, 2.0, 10.0, 10.1])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    slider.value = 2
    assert not slider.continuous_update
    slider.value = 3
    assert slider.continuous_update


def test_an_error_while_moving_is_shown_in_the_figure(kernel):
    def draw(n):
        if n == 3:
            raise ValueError("not <three>")
        return line(n)

    slider, picture = explore(draw, n=[1, 2, 3], alt="{n}").widget.children
    slider.value = 3
    assert "draw(n=3) failed: ValueError: not &lt;three&gt;" in picture.value
    slider.value = 2
    assert 'alt="2"' in picture.value


def test_without_ipywidgets_one_line_says_what_to_install(kernel, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r'^explore needs ipywidgets: pip install "kexue-utils\[widgets\]"$'):
        explore(line, n=[1, 2], alt="{n}")
