"""Facts about the continued fraction of Rogers and Ramanujan."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue_utils.ramanujan import rogers_ramanujan

GOLDEN = (1 + 5**0.5) / 2


@pytest.mark.parametrize(
    ("a", "value"),
    [(2, "0.2840790438404122960282918"), (4, "0.08100230967515765"), (1, "0.5114284554037035")],
)
def test_reference_values(a, value):
    with mp.workdps(40):
        found = rogers_ramanujan(mp.exp(-a * mp.pi), 40)
        assert abs(found / mp.mpf(value) - 1) < mp.mpf(10) ** -(len(value) - 3)


def test_the_first_formula_to_sixty_digits():
    with mp.workdps(60):
        phi = (1 + mp.sqrt(5)) / 2
        assert abs(rogers_ramanujan(mp.exp(-2 * mp.pi), 10) - (mp.sqrt(phi + 2) - phi)) < 1e-58


@pytest.mark.parametrize(
    ("levels", "error"), [(0, 5.3e-4), (1, -1.8466e-9), (2, 1.2026e-17), (3, -1.4625e-28), (4, 3.3215e-42)]
)
def test_digits_grow_with_the_square_of_the_levels(levels, error):
    with mp.workdps(60):
        q, phi = mp.exp(-2 * mp.pi), (1 + mp.sqrt(5)) / 2
        found = rogers_ramanujan(q, levels) - (mp.sqrt(phi + 2) - phi)
        assert float(found) == pytest.approx(error, rel=6e-3 if levels == 0 else 5e-5)
        leading = (-1) ** levels * mp.root(q, 5) * q ** ((levels + 1) * (levels + 2) // 2)
        assert float(found / leading) == pytest.approx(1, abs=6e-3)


@given(st.floats(0.05, 0.9), st.integers(0, 20))
def test_levels_lie_on_alternating_sides_of_the_limit(q, m):
    limit = rogers_ramanujan(q, 400)
    assert (-1) ** m * (rogers_ramanujan(q, m) - limit) >= -1e-15


def test_the_limit_at_one_is_the_inverse_golden_ratio():
    assert rogers_ramanujan(1 - 1e-6, 100_000) == pytest.approx(1 / GOLDEN, rel=1e-3)


def test_arrays_of_any_shape():
    q = np.array([[0.1, 0.5], [0.9, 0.99]])
    assert rogers_ramanujan(q, 7).shape == (2, 2)
    assert rogers_ramanujan(q, 7)[1, 0] == rogers_ramanujan(0.9, 7)


@pytest.mark.parametrize("q", [0, 1, -0.5, 1.5, float("nan"), mp.mpf(2)])
def test_q_outside_of_the_unit_interval(q):
    with pytest.raises(ValueError, match="q must be"):
        rogers_ramanujan(q, 3)


@pytest.mark.parametrize(("levels", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_levels_must_be_a_number_of_levels(levels, error):
    with pytest.raises(error, match="levels must be"):
        rogers_ramanujan(0.5, levels)
