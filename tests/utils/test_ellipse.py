"""Facts about ellipses by arc length and about the solids that two bent elliptic sheets enclose."""

import base64
import re
import xml.etree.ElementTree as ET

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special
from scipy.spatial import ConvexHull

from kexue_utils.ellipse import (
    NotGluable,
    angle_excess,
    arc_length,
    cut_out,
    parameter_at_arc_length,
    quarter_perimeter,
    seam,
    tangent_angle,
)

axes = st.floats(1e-3, 1e3)
ratios = st.floats(1 / 50, 50)
shares = st.floats(0, 1)


def relative(expected, tolerance):
    """Within a relative tolerance only: pytest.approx alone also lets small numbers pass."""
    return pytest.approx(expected, rel=tolerance, abs=0)


def as_long(ratio, rim):
    """Semi-axes (bent, ruled) in this ratio, with a quarter of the rim of this length."""
    size = rim / quarter_perimeter(ratio, 1)
    return ratio * size, size


def glued_by_mpmath(a, b, digits=20):
    """L, depth and volume of two equal sheets to 20 digits, by another route: both rims in the parameter t.

    Over the first half of the seam only, which its second half mirrors: near the tip of a long ellipse the integrand is
    smooth in that rim's own parameter, while in the parameter of the rim that meets it there, it is squeezed into the
    last b/a^2 of the interval, where a quadrature of any fixed order is blind.
    """
    with mp.workdps(digits):
        a, b = mp.mpf(a), mp.mpf(b)
        m = 1 - a**2 / b**2

        def length(t):
            return b * mp.ellipe(t, m)

        def speed(t):
            return mp.sqrt((a * mp.sin(t)) ** 2 + (b * mp.cos(t)) ** 2)

        def parameter(s, x):
            low, high = mp.mpf(0), mp.pi / 2
            for _ in range(60):
                miss = length(x) - s
                low, high = (x, high) if miss < 0 else (low, x)
                step = x - miss / speed(x)
                if abs(step - x) < mp.mpf(10) ** (-digits + 5):
                    return step
                x = step if low < step < high else (low + high) / 2
            raise AssertionError(f"no parameter found at arc length {s}")

        def slope(t, t2):
            return mp.sqrt(1 - (b * mp.cos(t) / speed(t)) ** 2 - (b * mp.cos(t2) / speed(t2)) ** 2)

        def both(t):  # depth as the real part, volume as the imaginary one, so that the rims are matched once
            t2 = parameter(L - length(t), mp.pi / 2 - t)
            return slope(t, t2) * speed(t) * mp.mpc(1, 4 * b**2 * mp.sin(t) * mp.sin(t2))

        L = length(mp.pi / 2)
        middle = parameter(L / 2, mp.pi / 4)
        pieces = [middle * k / 8 for k in (0, 1, 2, 4, 8)]
        half, error = mp.quad(both, pieces, method="gauss-legendre", maxdegree=4, error=True)
        assert error < 1e-14 * abs(half)
        return float(L), float(2 * half.real), float(2 * half.imag)


# The ellipse by arc length -------------------------------------------------------------------------------------------


def test_the_quarter_perimeters_of_the_chapter():
    a, b = np.array([2, 3, 3]), np.array([1, 2, 1])
    assert quarter_perimeter(a, b) == relative([2.42211205513692, 3.96635989732265, 3.34122330513881], 3e-15)


def test_heights_and_angles_at_quarters_of_the_rim():
    t = parameter_at_arc_length(quarter_perimeter(2, 1) * np.array([0.25, 0.5, 0.75]), 2, 1)
    assert np.sin(t) == relative([0.513093241093283, 0.804116390975438, 0.953447487968421], 4e-15)
    assert tangent_angle(t, 2, 1)[:2] == relative([0.874233453117332, 1.216730509948171], 4e-15)


@settings(max_examples=40, deadline=None)
@given(axes, axes)
def test_the_quarter_is_the_arc_up_to_a_right_angle_from_either_end(a, b):
    assert quarter_perimeter(a, b) == relative(arc_length(np.pi / 2, a, b), 1e-13)
    assert quarter_perimeter(a, b) == quarter_perimeter(b, a)


@settings(max_examples=40, deadline=None)
@given(st.floats(-20, 20), axes)
def test_on_a_circle_arc_and_turning_are_the_angle(t, a):
    assert arc_length(t, a, a) == relative(a * t, 1e-14)
    assert tangent_angle(t, a, a) == relative(t, 1e-14)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 1.5), ratios)
def test_arc_length_is_the_integral_of_the_speed(t, r):
    integral = integrate.quad(lambda u: np.hypot(r * np.sin(u), np.cos(u)), 0, t, epsabs=0, epsrel=1e-12, limit=200)[0]
    assert arc_length(t, r, 1) == relative(integral, 1e-11)
    assert arc_length(t, r, 1) == relative(special.ellipeinc(t, 1 - r**2), 1e-15)


@settings(max_examples=40, deadline=None)
@given(shares, ratios)
def test_parameter_at_arc_length_inverts_arc_length(share, r):
    s = share * quarter_perimeter(r, 1)
    t = parameter_at_arc_length(s, r, 1)
    assert 0 <= t <= np.pi / 2
    assert arc_length(t, r, 1) == pytest.approx(s, rel=1e-13, abs=1e-300)


def test_the_inverse_keeps_its_relative_precision_near_the_tip():
    s = np.array([1e-300, 1e-30, 1e-12])
    assert parameter_at_arc_length(s, 10, 1) == relative(s, 1e-14)


def test_the_inverse_agrees_with_a_differential_equation():
    L = quarter_perimeter(5, 1)
    s = np.linspace(0, L, 9)[1:-1]

    def run(_, t):
        return 1 / np.hypot(5 * np.sin(t), np.cos(t))

    t = integrate.solve_ivp(run, (0, L), [0], t_eval=s, method="DOP853", rtol=1e-12, atol=1e-14).y[0]
    assert parameter_at_arc_length(s, 5, 1) == relative(t, 1e-10)


def test_ends_of_the_quarter_are_reached_and_rounding_is_forgiven():
    L = quarter_perimeter(3, 1)
    assert parameter_at_arc_length(0, 3, 1) == 0
    assert parameter_at_arc_length(np.nextafter(L, 9), 3, 1) == relative(np.pi / 2, 1e-15)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, np.pi / 2), ratios)
def test_the_tangent_turns_as_its_tangent_says(t, r):
    assert np.tan(tangent_angle(t, r, 1) / 2) == pytest.approx(
        np.tan(np.arctan2(r * np.sin(t), np.cos(t)) / 2), rel=1e-11, abs=1e-13
    )


def test_the_tangent_turns_once_in_a_turn_without_a_jump():
    t = np.linspace(-7, 7, 20_001)
    turned = tangent_angle(t, 8, 1)
    assert (np.diff(turned) > 0).all()
    assert np.diff(turned).max() < 0.01
    assert tangent_angle(t + 2 * np.pi, 8, 1) - turned == pytest.approx(2 * np.pi)


def test_the_lost_arc_of_an_integral_over_y_that_stops_early():
    delta = np.array([1e-4, 1e-6])
    lost = quarter_perimeter(2, 1) - arc_length(np.arcsin(1 - delta), 2, 1)
    assert lost == relative(2 * np.sqrt(2 * delta), 1e-4)


# The seam ------------------------------------------------------------------------------------------------------------

TABLE = [  # a, b, depth, volume
    (2, 1, 1.5697573788407, 3.1674635918581),
    (3, 2, 1.973423993116, 14.706928197121),
    (3, 1, 2.6572933485715, 5.7372689988703),
    (1.01, 1, 0.12278186729058, 0.19382412276846),
]


@pytest.mark.parametrize(("a", "b", "depth", "volume"), TABLE)
def test_depths_and_volumes_of_the_chapter(a, b, depth, volume):
    body = seam(a, b)
    assert body.depth == relative(depth, 3e-13)
    assert body.volume == relative(volume, 3e-13)


@pytest.mark.parametrize("ratio", [2, 10])
def test_seam_agrees_with_20_digits_by_another_route(ratio):
    L, depth, volume = glued_by_mpmath(ratio, 1)
    body = seam(ratio, 1)
    assert body.s[-1] == relative(L, 1e-14)
    assert body.depth == relative(depth, 1e-14)
    assert body.volume == relative(volume, 1e-14)


def test_middle_of_the_seam_the_long_and_the_short_way():
    L = quarter_perimeter(2, 1)
    middle = np.sin([angle_excess(L / 2, 2, 1), angle_excess(L / 2, 1, 2)])  # there both angles are the same
    assert middle == relative([0.759578415895555, -0.759578415895555], 4e-15)


def test_the_seam_is_walked_at_unit_speed():
    body = seam(3, 1, n=1001)
    chords = np.sqrt(sum(np.diff(v) ** 2 for v in (body.x, body.y, body.z)))
    assert chords == relative(np.diff(body.s), 1e-4)


def test_both_sheets_unroll_to_the_flat_ellipse():
    body = seam(2, 1, n=1001)
    profile = np.concatenate([[0], np.cumsum(np.hypot(np.diff(body.x), np.diff(body.z)))])
    flat = 2 * np.cos(parameter_at_arc_length(body.s, 2, 1))
    assert 2 - profile == pytest.approx(flat, abs=5e-6)


def test_depth_and_volume_do_not_depend_on_the_number_of_points():
    few, many = seam(2, 1, n=2), seam(2, 1, n=1001)
    assert few.depth == relative(many.depth, 1e-14)
    assert few.volume == relative(many.volume, 1e-14)
    assert few.x.tolist() == [0, few.depth]
    assert (few.y.tolist(), few.z.tolist()) == ([0, 1], [1, 0])


def test_the_body_is_convex_and_its_hull_has_the_volume():
    body = seam(2.3, 1, n=401)
    points = np.concatenate([np.stack([body.x, i * body.y, j * body.z], -1) for i in (1, -1) for j in (1, -1)])
    hull = ConvexHull(points)
    assert len(np.unique(points[hull.vertices].round(12), axis=0)) == len(np.unique(points.round(12), axis=0))
    assert hull.volume == relative(body.volume, 1e-4)


def test_batches_lead_and_agree_with_single_calls():
    a = np.array([[1.5], [2], [4]])
    b = np.array([1, 0.5])
    body = seam(a, b, n=5)
    assert body.x.shape == (3, 2, 5)
    assert body.depth.shape == (3, 2)
    assert body.depth[1, 1] == relative(seam(2, 0.5).depth, 1e-14)


@settings(max_examples=15, deadline=None)
@given(st.floats(1.0001, 50), st.floats(1e-3, 1e3))
def test_every_ellipse_fits_the_long_way_and_scales(r, size):
    body = seam(r * size, size, n=2)
    assert 0 < body.depth < size * quarter_perimeter(r, 1)
    assert body.depth == relative(size * seam(r, 1, n=2).depth, 1e-12)
    assert body.volume == relative(size**3 * seam(r, 1, n=2).volume, 1e-12)


@settings(max_examples=15, deadline=None)
@given(st.floats(1.0001, 50))
def test_no_ellipse_fits_the_short_way(r):
    with pytest.raises(NotGluable) as misfit:
        seam(1, r)
    assert misfit.value.slope_squared < 0
    assert misfit.value.excess < 0
    L = quarter_perimeter(1, r)
    assert 0 < misfit.value.s < L
    grid = np.linspace(0, L, 200)
    assert angle_excess(grid, 1, r) == pytest.approx(-angle_excess(grid, r, 1), abs=1e-13)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100))
def test_circles_and_twins_rolled_differently_are_exactly_flat(r):
    assert seam(r, r, n=2).depth == 0
    twins = seam(r, 1, (1, r), n=2)
    assert twins.depth == 0
    assert twins.volume == 0


def test_worst_place_of_a_long_and_a_short_sheet():
    with pytest.raises(NotGluable, match=r"s = 0\.39\d+ of 2\.42211") as misfit:
        seam(2, 1, as_long(1 / 2.5, quarter_perimeter(2, 1)))
    assert misfit.value.slope_squared == pytest.approx(-0.1704, abs=5e-5)


def test_the_misfit_of_a_batch_says_which_pair():
    with pytest.raises(NotGluable) as misfit:
        seam([2, 2, 1], [1, 1, 3])
    assert misfit.value.index == (2,)
    assert "pair (2,)" in str(misfit.value)


def test_disc_and_ellipse():
    assert seam(3, 1, as_long(1, quarter_perimeter(3, 1))).depth == relative(1.7612679477, 1e-10)


@settings(max_examples=60, deadline=None)
@given(ratios, ratios)
def test_two_sheets_fit_exactly_if_the_product_of_their_ratios_is_at_least_one(r1, r2):
    if abs(r1 * r2 - 1) < 1e-9:
        return
    rim = quarter_perimeter(r1, 1)
    smallest = angle_excess(np.linspace(0, rim, 60)[1:-1], r1, 1, as_long(r2, rim)).min()
    assert (smallest > 0) == (r1 * r2 > 1)


def test_bending_both_sheets_the_other_way_keeps_the_tape_and_changes_the_sign():
    rim = quarter_perimeter(2, 1)
    c, d = as_long(1 / 2.5, rim)
    s = np.linspace(0, rim, 50)
    assert angle_excess(rim - s, 1, 2, (d, c)) == pytest.approx(-angle_excess(s, 2, 1, (c, d)), abs=1e-12)
    assert seam(1, 2, (d, c)).depth > 0.3


def test_exchanging_the_sheets_turns_the_seam_round():
    rim = quarter_perimeter(3, 1)
    one, other = seam(3, 1, as_long(1.5, rim), n=51), seam(*as_long(1.5, rim), (3, 1), n=51)
    assert one.y == pytest.approx(other.z[::-1], abs=1e-13)
    assert one.depth - one.x == pytest.approx(other.x[::-1], abs=1e-12)
    assert one.volume == relative(other.volume, 1e-13)


def test_smallest_excess_on_an_interior_grid():
    r = np.array([[1.01], [1.2], [2], [3], [10]])
    s = np.linspace(0, 1, 2002)[1:-1] * quarter_perimeter(r, 1)
    assert angle_excess(s, r, 1).min(1) == relative([2.3e-5, 4.4e-4, 2.1e-3, 4.8e-3, 5.1e-2], 0.03)


def test_the_square_root_law_of_nearly_round_ellipses():
    e = np.array([0.1, 0.01, 0.001])
    ratio = seam(1 + e, 1 - e).depth / np.sqrt(3 * e)
    assert ratio == relative([1.00507, 1.0000518, 1.00000052], 5e-6)
    assert ratio[2] - 1 == relative(5.2e-7, 0.02)


def test_the_fattest_body():
    def quotient(r):
        return 36 * np.pi * seam(r, 1, n=2).volume ** 2 / (2 * np.pi * r) ** 3

    assert quotient(2.318033) == relative(0.584175, 1e-6)
    assert quotient(2.318033) > max(quotient(2.31), quotient(2.325))


def test_the_thin_limit():
    r = np.array([10, 30, 100, 300])
    assert seam(r, 1).volume / r == relative([2.26345, 2.31407, 2.32197, 2.32286], 4e-6)


def test_the_end_slope():
    body = seam(2, 1, n=2001)
    slope = (body.y[-1] - body.y[-2]) / (body.x[-1] - body.x[-2])
    assert slope == relative((1 / 8) / np.sqrt(1 - 1 / 64), 1e-4)


# Paper ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sheets", [(80, 40, None), (60, 60, None), (3, 12, None), (20, 1, None)])
def test_the_edges_of_the_pattern_are_equal_and_as_long_as_the_rim(sheets):
    a, b, other = sheets
    lengths = cut_out(a, b, other, marks=8).edge_lengths()
    assert lengths.shape == (2, 32)
    assert lengths == relative(np.full((2, 32), quarter_perimeter(a, b) / 8), 1e-6)


def test_a_disc_can_be_taped_to_an_ellipse():
    lengths = cut_out(90, 30, as_long(1, quarter_perimeter(90, 30))).edge_lengths()
    assert lengths[0] == relative(lengths[1], 1e-5)


def test_marks_with_one_number_are_one_point_of_the_seam():
    body, (first, second) = seam(80, 40, n=2001), cut_out(80, 40, marks=6).marks
    for one, two in zip(first, second, strict=True):  # (long axis, rulings) of A and of B
        k = np.argmin(np.abs(body.y - abs(one[1])))
        assert body.z[k] == pytest.approx(abs(two[1]), abs=0.1)
        # In space A has its rulings along y and its long axis bent towards z, B the other way round.
        assert (one[1] > 1e-9) == (two[0] > 1e-9)
        assert (one[0] > 1e-9) == (two[1] > 1e-9)


def outlines_of(svg):
    """Lengths of the two outlines in the file, in millimetres, from its path data."""
    root = ET.fromstring(svg)
    name = "{http://www.w3.org/2000/svg}"
    scale = 25.4 / 72 if root.get("width").endswith("pt") else None
    lengths = []
    for sheet in (1, 2):
        (group,) = [g for g in root.iter(name + "g") if g.get("id") == f"edge-{sheet}"]
        numbers = [float(v) for v in re.findall(r"-?\d+\.?\d*", group.find(name + "path").get("d"))]
        points = np.array(numbers).reshape(-1, 2) * scale
        total, u = 0.0, np.linspace(0, 1, 200)[:, None]
        for k in range(0, 3 * ((len(points) - 1) // 3), 3):
            p, q, r, s = points[k : k + 4]
            curve = (1 - u) ** 3 * p + 3 * u * (1 - u) ** 2 * q + 3 * u**2 * (1 - u) * r + u**3 * s
            total += np.hypot(*np.diff(curve, axis=0).T).sum()
        lengths.append(total)
    return lengths, [float(root.get(side)[:-2]) * scale for side in ("width", "height")]


@pytest.mark.parametrize("sheet", [(90, 45), (70, 56), (200, 60)])
def test_the_file_has_the_true_scale(sheet):
    lengths, page = outlines_of(cut_out(*sheet).svg())
    assert lengths == relative([4 * quarter_perimeter(*sheet)] * 2, 1e-5)
    assert page == pytest.approx([210, 297] if sheet[0] <= 95 else [420, 2 * 120 + 50], abs=0.01)


def test_files_are_the_same_every_time_and_the_pdf_is_a4():
    one, two = cut_out(80, 40), cut_out(80, 40)
    assert one.svg() == two.svg()
    assert one.pdf() == two.pdf()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+)", one.pdf())
    assert [float(v) / 72 * 25.4 for v in box.groups()] == pytest.approx([210, 297], abs=0.01)


def test_a_notebook_offers_both_files():
    page = cut_out(80, 40)._repr_html_()
    (pdf,) = re.findall(r'download="[\w.-]+\.pdf" href="data:application/pdf;base64,([^"]+)"', page)
    assert base64.b64decode(pdf) == cut_out(80, 40).pdf()
    assert 'download="elliptic-sheets-80-40-80-40.svg"' in page
    assert 'alt="' in page


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: arc_length(1, 0, 1), ValueError, "a must be a positive semi-axis, got 0.0"),
        (lambda: arc_length(1, 1, -2), ValueError, "b must be a positive semi-axis, got -2.0"),
        (lambda: arc_length(np.inf, 1, 1), ValueError, "t must be finite"),
        (lambda: arc_length([1, 2], [1, 2, 3], 1), ValueError, "shapes must broadcast"),
        (lambda: tangent_angle(1j, 1, 1), TypeError, "t must be real numbers"),
        (lambda: quarter_perimeter(torch.tensor(2.0), 1), TypeError, "got a torch tensor"),
        (lambda: parameter_at_arc_length(2.5, 2, 1), ValueError, "s must be an arc length between 0 and"),
        (lambda: parameter_at_arc_length(-1e-9, 2, 1), ValueError, "got -1e-09"),
        (lambda: angle_excess(3, 2, 1), ValueError, "s must be an arc length"),
        (lambda: seam(2, 1, 3), TypeError, "other must be a pair"),
        (lambda: seam(2, 1, (2, 1.1)), ValueError, "multiply its semi-axes by 0.97"),
        (lambda: seam(2, 1, n=1), ValueError, "n must be at least 2, got 1"),
        (lambda: seam(2, 1, n=2.0), TypeError, "n must be an integer"),
        (lambda: cut_out([80, 90], 40), TypeError, "a and b must be single numbers"),
        (lambda: cut_out(80, 40, marks=2), ValueError, "marks must be at least 3"),
        (lambda: cut_out(80, 40, (80, 41)), ValueError, "as long as the first sheet's"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_multiplying_by_the_suggested_number_makes_the_rims_equal():
    with pytest.raises(ValueError, match="multiply") as problem:
        seam(2, 1, (3, 2))
    factor = float(str(problem.value).rsplit(" ", 1)[1])
    assert seam(2, 1, (3 * factor, 2 * factor)).depth > 0
