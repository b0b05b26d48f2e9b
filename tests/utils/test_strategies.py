"""How a goal is closed: each strategy closes its own kind of identity, and none turns a wrong one into 0."""

import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as draw

from kexue_utils import strategies

x, y, theta = sp.symbols("x y theta", real=True)
z, w = sp.symbols("z w")
p, q = sp.symbols("p q", positive=True)
n = sp.Symbol("n", integer=True, positive=True)
k, m = sp.symbols("k m", integer=True)
oo = sp.oo

CLOSES = {
    "polynomial": 1 / (z - 1) - 1 / (z + 1) - 2 / (z**2 - 1),
    "cases": sp.Max(x, 0) - sp.Max(-x, 0) - x,
    "trigonometric": sp.cos(3 * theta) - 4 * sp.cos(theta) ** 3 + 3 * sp.cos(theta),
    "powers": sp.cos(theta) ** (n + 2) + sp.sin(theta) ** 2 * sp.cos(theta) ** n - sp.cos(theta) ** n,
    "gamma": sp.binomial(n + 1, 2) * sp.gamma(n) - sp.gamma(n + 2) / 2,
    "simplify": sp.besselj(z - 1, x) + sp.besselj(z + 1, x) - 2 * z / x * sp.besselj(z, x),
}


def test_the_strategies_and_their_order():
    assert [strategy.__name__ for strategy in strategies.DEFAULT] == list(CLOSES)
    assert all(f"`{name}`" in strategies.__doc__ for name in CLOSES)


@pytest.mark.parametrize("name", CLOSES)
def test_closes_its_own_kind(name):
    assert getattr(strategies, name)(CLOSES[name]) == 0


def test_logarithms_of_real_sums_are_compared_by_their_exponentials():
    assert strategies.powers(sp.log(sp.exp(x) + sp.exp(y)) - x - sp.log(1 + sp.exp(y - x))) == 0
    assert strategies.powers(sp.log(z * w) - sp.log(z) - sp.log(w)) != 0  # off by 2 pi i somewhere
    assert strategies.powers(sp.log(sp.exp(z)) - z) != 0


@pytest.mark.parametrize("strategy", strategies.DEFAULT, ids=lambda strategy: strategy.__name__)
@pytest.mark.parametrize(
    "wrong",
    [
        sp.sqrt(z**2) - z,
        sp.sqrt(x**2) - x,
        sp.sqrt(z * w) - sp.sqrt(z) * sp.sqrt(w),
        sp.log(z**2) - 2 * sp.log(z),
        sp.exp(z) ** w - sp.exp(z * w),
        (-p) ** sp.Rational(1, 3) + p ** sp.Rational(1, 3),
        sp.acos(sp.cos(x)) - x,
        sp.atan2(y, x) - sp.atan(y / x),
        sp.Max(x, y) - x,
        sp.sign(x) ** 2 - 1,
        sp.Heaviside(x) - sp.Piecewise((1, x > 0), (0, True)),
        sp.gamma(z + 1) - z * sp.gamma(z) + 1,
        sp.sin(sp.pi * x),
        sp.exp(2 * sp.pi * sp.I * x) - 1,
    ],
    ids=str,
)
def test_no_strategy_turns_a_wrong_difference_into_0(strategy, wrong):
    assert strategy(wrong) != 0


@settings(max_examples=12, deadline=None)
@given(draw.lists(draw.integers(-3, 3), min_size=3, max_size=3), draw.integers(0, 3))
def test_a_random_trigonometric_sum_vanishes_only_with_its_coefficients(coefficients, shift):
    first, second, third = coefficients
    d = first * sp.sin(theta + shift) + second * sp.cos(2 * theta) + third
    expanded = first * (sp.sin(theta) * sp.cos(shift) + sp.cos(theta) * sp.sin(shift)) + second * (
        1 - 2 * sp.sin(theta) ** 2
    )
    assert strategies.trigonometric(d - expanded - third) == 0
    assert (strategies.trigonometric(d - expanded) == 0) == (third == 0)


# ---------------------------------------------------------------- sums and products of unknown length

a, b, F = sp.Function("a"), sp.Function("b"), sp.Function("F")
i, j = sp.symbols("i j", integer=True)
N, M = sp.symbols("N M", integer=True, positive=True)


def over(term, *indices):
    return sp.Sum(term, *[(index, 1, N) for index in indices])


EQUAL_SUMS = {
    "an index is renamed": (over(a(i), i), over(a(j), j)),
    "the order of summation": (over(over(F(i, j), i), j), over(over(F(i, j), j), i)),
    "ranges of two lengths": (sp.Sum(F(i, j), (i, 1, N), (j, 1, M)), sp.Sum(F(j, i), (i, 1, M), (j, 1, N))),
    "a product of sums": (over(a(i), i) * over(b(i), i), over(a(i) * b(j), i, j)),
    "a square": (over(a(i), i) ** 2, over(a(i) * a(j), i, j)),
    "a constant comes out": (over(z * a(i) + w, i), z * over(a(i), i) + w * N),
    "Lagrange": (N * over(a(i) ** 2, i) - over(a(i), i) ** 2, over((a(i) - a(j)) ** 2, i, j) / 2),
    "variance": (over((a(i) - over(a(j), j) / N) ** 2, i), over(a(i) ** 2, i) - over(a(i), i) ** 2 / N),
    "in a denominator": (1 / (1 + over(a(i), i)), 1 / (1 + over(a(j), j))),
}


@pytest.mark.parametrize("name", EQUAL_SUMS)
def test_sums_brings_equal_sums_to_one_form(name):
    left, right = EQUAL_SUMS[name]
    assert strategies.sums(left - right) == 0
    assert strategies.sums(left - right + over(a(i) ** 3, i)) != 0


@pytest.mark.parametrize(
    "left, right",
    [
        (sp.Sum(F(i, j), (i, 1, N), (j, 1, M)), sp.Sum(F(i, j), (i, 1, M), (j, 1, N))),
        (over(F(i, j), i, j), over(F(i, i), i)),
        (over(a(i), i) * over(b(i), i), over(a(i) * b(i), i)),
        (sp.Sum(F(i, j), (j, 1, i), (i, 1, N)), sp.Sum(F(j, i), (j, 1, i), (i, 1, N))),
        (over(sp.Sum(F(i, j), (j, 1, i)), i), over(sp.Sum(F(j, i), (j, 1, i)), i)),
        (over(b(i) / (1 + over(F(i, j), j)), i), over(b(j) / (1 + over(F(i, i), i)), j)),
        (sp.Sum(a(i) - a(i + 1), (i, 1, oo)), sp.Sum(a(i), (i, 1, oo)) - sp.Sum(a(i + 1), (i, 1, oo))),
        (sp.Sum(a(i), (i, 1, N)), sp.Sum(a(i), (i, 0, N))),
    ],
)
def test_sums_keeps_apart_what_differs_or_must_not_be_rearranged(left, right):
    assert strategies.sums(left - right) != 0


summands = draw.sampled_from([a(i), F(i, j), a(i) * b(j), z, F(j, i) ** 2, i * a(j)])
ends = draw.sampled_from([N, M, N + 1, sp.Integer(2)])


@settings(max_examples=30, deadline=None)
@given(draw.lists(draw.tuples(summands, ends, ends, draw.integers(1, 2)), min_size=1, max_size=3))
def test_sums_keeps_the_value(parts):
    d = sum(sp.Sum(term, (i, 1, first), (j, 1, second)) ** power for term, first, second, power in parts)
    d += sp.prod(sp.Sum(term, (i, 1, first), (j, 0, second)) for term, first, second, _ in parts)
    at = {N: 2, M: 3, z: 5}
    fixed = [(a, lambda s: s**2 + 1), (b, lambda s: 3 * s - 1), (F, lambda s, t: s**2 * t + 2 * s)]

    def value(e):
        for function, concrete in fixed:
            e = e.replace(function, concrete)
        return e.subs(at).doit()

    assert value(strategies.sums(d)) == value(d)


EQUAL_PRODUCTS = {
    "a window moved": (sp.Product(a(k - N), (k, N + 1, 2 * N)), sp.Product(a(k), (k, 1, N))),
    "factors": (sp.Product(a(k) * b(k), (k, 1, N)), sp.Product(a(k), (k, 1, N)) * sp.Product(b(k), (k, 1, N))),
    "an integer power": (sp.Product(a(k) ** n, (k, 1, N)), sp.Product(a(k), (k, 1, N)) ** n),
    "a constant": (sp.Product(z * a(k), (k, 1, N)), z**N * sp.Product(a(k), (k, 1, N))),
}


@pytest.mark.parametrize("name", EQUAL_PRODUCTS)
def test_products_brings_equal_products_to_one_form(name):
    left, right = EQUAL_PRODUCTS[name]
    assert strategies.products(left - right) == 0
    assert strategies.products(left - 2 * right) != 0


@pytest.mark.parametrize(
    "left, right",
    [
        (sp.Product(a(k), (k, 2, N + 1)), sp.Product(a(k), (k, 1, N))),
        (sp.Product(sp.sqrt(a(k)), (k, 1, N)), sp.sqrt(sp.Product(a(k), (k, 1, N)))),
        (sp.Product(a(k) ** z, (k, 1, N)), sp.Product(a(k), (k, 1, N)) ** z),
        (sp.Product(a(k) ** k, (k, 1, N)), sp.Product(a(k), (k, 1, N)) ** k),
        (sp.Product(z * a(k), (k, 1, N)), z * sp.Product(a(k), (k, 1, N))),
        (sp.Product(a(k) + b(k), (k, 1, N)), sp.Product(a(k), (k, 1, N)) + sp.Product(b(k), (k, 1, N))),
    ],
)
def test_products_keeps_apart_what_differs(left, right):
    assert strategies.products(left - right) != 0


# ---------------------------------------------------------------- before the strategies


def test_evaluate_works_out_integrals_sums_limits_and_derivatives():
    assert strategies.evaluate(sp.Integral(p * sp.exp(-p), (p, 0, oo))) == 1
    assert strategies.evaluate(sp.Sum(1 / k**2, (k, 1, oo))) == sp.pi**2 / 6
    assert strategies.evaluate(sp.Limit(sp.sin(x) / x, x, 0)) == 1
    assert strategies.evaluate(sp.Derivative(x**3, x)) == 3 * x**2


def test_decide_drops_only_the_cases_that_the_bounds_exclude():
    series = sp.Piecewise((1 / (1 - x), sp.Abs(x) < 1), (oo, True))
    assert strategies.decide(series, [x > -1, x < 1]) == 1 / (1 - x)
    assert strategies.decide(series, [sp.Abs(x) < 1]) == 1 / (1 - x)
    assert strategies.decide(series, [x > -1, x <= 1]) == series
    assert strategies.decide(series, [x < 1]) == series
    assert strategies.decide(sp.Piecewise((1, p > 2), (0, True)), [p < 2]) == 0
    assert strategies.decide(sp.Piecewise((1, p > 2), (0, True)), [p <= 3]).has(sp.Piecewise)


def test_induction_gives_base_and_step():
    base, step = strategies.induction(sp.Sum(2 * k - 1, (k, 1, n)), n**2)
    assert base == 0 and sp.expand(step) == 0
    base, step = strategies.induction(sp.Sum(2 * k - 1, (k, 1, n)), n**2 + 1)
    assert base != 0 and sp.expand(step) == 0
    base, step = strategies.induction(sp.Sum(2 * k - 1, (k, 1, n)), n**3)
    assert base == 0 and sp.expand(step) != 0


def test_induction_starts_at_the_empty_sum_where_the_assumptions_allow_it():
    K = sp.Symbol("K", integer=True, nonnegative=True)
    base, step = strategies.induction(sp.Sum(k, (k, 1, K)), K * (K + 1) / 2)
    assert base == 0 and sp.expand(step) == 0
    # true from K = 1 on, false at K = 0
    base, _ = strategies.induction(sp.Sum(k, (k, 1, K)), K * (K + 1) / 2 + sp.KroneckerDelta(K, 0))
    assert base == -1


@pytest.mark.parametrize(
    "total",
    [
        n**2,
        sp.Sum(k, (k, 1, z)),
        sp.Sum(k, (k, 1, 2 * n)),
        sp.Sum(k * n, (k, 1, n)),
        sp.Sum(k, (k, n, n)),
        sp.Sum(k * m, (k, 1, n), (m, 1, n)),
        sp.Sum(k, (k, 1, oo)),
    ],
    ids=str,
)
def test_induction_needs_one_index_and_an_integer_symbol_above(total):
    assert strategies.upper_limit(total) is None
    assert strategies.induction(total, n) == []


@pytest.mark.parametrize(
    "order, shift", [(1, sp.Rational(5, 2)), (3, sp.Rational(-4, 3)), (2, 3), (5, sp.Rational(1, 2))]
)
def test_gamma_brings_polygamma_to_one_argument_and_keeps_its_value(order, shift):
    expanded = strategies.gamma(sp.polygamma(order, p + shift) - sp.polygamma(order, p + shift - 2))
    assert not expanded.has(sp.polygamma)
    at = sp.Rational(7, 2)
    assert (
        abs(sp.N((sp.polygamma(order, at + shift) - sp.polygamma(order, at + shift - 2)) - expanded.subs(p, at)))
        < 1e-12
    )


def test_gamma_knows_polygamma_at_one_half():
    assert strategies.gamma(sp.polygamma(1, sp.Rational(5, 2)) - sp.pi**2 / 2 + 4 + sp.Rational(4, 9)) == 0
    assert strategies.gamma(sp.polygamma(2, sp.Rational(1, 2)) + 14 * sp.zeta(3)) == 0


# ---------------------------------------------------------------- bounds


def test_bounds_are_collected_from_both_sides_and_from_the_symbol():
    assert strategies.bounds([x > 1, x <= 3]) == {x: sp.Interval.Lopen(1, 3)}
    assert strategies.bounds([sp.And(x >= 0, sp.Lt(x, 1))]) == {x: sp.Interval.Ropen(0, 1)}
    assert strategies.bounds([sp.Lt(1, x)]) == {x: sp.Interval.open(1, oo)}
    assert strategies.bounds([p < 2]) == {p: sp.Interval.open(0, 2)}
    assert strategies.bounds([x > y, x**2 < 4]) == {}
    assert strategies.bounds([x > 1, x < 0]) == {x: sp.S.EmptySet}


@settings(max_examples=40, deadline=None)
@given(
    draw.fractions(-5, 5, max_denominator=4),
    draw.fractions("1/4", 5, max_denominator=4),
    draw.booleans(),
    draw.booleans(),
    draw.sampled_from(["below", "above", "between"]),
    draw.booleans(),
    draw.fractions(0, 1, max_denominator=8),
)
def test_shift_reaches_every_point_between_the_bounds(low, width, low_open, high_open, kind, integer, part):
    """For each point that satisfies the bounds there is a value of the new symbol, allowed by its assumptions."""
    symbol = m if integer else x
    low, high = sp.Rational(str(low)), sp.Rational(str(low + width))
    given_bounds = []
    if kind != "below":
        given_bounds.append(symbol > low if low_open else symbol >= low)
    if kind != "above":
        given_bounds.append(symbol < high if high_open else symbol <= high)
    point = low + (high - low) * sp.Rational(str(part))
    point = sp.ceiling(point) if integer else point
    written = strategies.shift(symbol, given_bounds)
    if written == symbol or not all(bound.subs(symbol, point) for bound in given_bounds):
        return
    (new,) = written.free_symbols
    (value,) = sp.solveset(written - point, new, sp.S.Complexes)
    assert value >= 0 and not (new.is_positive and value == 0) and not (new.is_integer and not value.is_integer)


def test_shift_leaves_what_it_cannot_write():
    assert strategies.shift(m, [m >= sp.Rational(1, 2)]) == m
    assert strategies.shift(x, [x >= 0, x <= 1]) == x
    assert strategies.shift(x, [x >= 2, x <= 2]) == 2
    assert strategies.shift(x, [y > 0]) == x


# ---------------------------------------------------------------- signs

POSITIVE = {
    "sign of every factor": [
        (x**2 + 1, [], True),
        ((x - 1) * (x - 2), [x > 2], True),
        (x - 1, [x >= 1], False),
        (m - 2, [m > 1], False),
        (p + q - 2 * sp.sqrt(p * q), [], False),
        (p * (1 - p), [p < 1], True),
    ],
    "starts at or above 0 and increases": [
        (p - sp.log(1 + p), [], True),
        (x - sp.sin(x), [x > 0, x < sp.pi / 2], True),
        (sp.tan(x) - x, [x > 0, x < sp.pi / 2], True),
        (p - sp.sin(p), [], False),
    ],
    "least value at an end or where the derivative vanishes": [
        (p - 1 - sp.log(p), [], False),
        (sp.exp(-p) + p - 1, [], False),
        (sp.log(p) - 1 + 1 / p, [], False),
    ],
}


@pytest.mark.parametrize("argument, d, bounds, strict", [(name, *case) for name in POSITIVE for case in POSITIVE[name]])
def test_finds_the_sign(argument, d, bounds, strict):
    found = strategies.is_positive(d, bounds, strict)
    assert found is not None
    if argument != "least value at an end or where the derivative vanishes":
        assert found == argument


@pytest.mark.parametrize(
    "d, bounds, strict",
    [
        (x - 1, [x >= 1], True),
        (p - 1 - sp.log(p), [], True),
        (p - sp.log(p) - sp.Rational(1001, 1000), [], False),
        (p - p, [], True),
        (1 / (100 - p), [], True),
        (1 / (x - 1), [x >= 0], False),
        (sp.tan(x), [x > 0, x < 2], True),
        ((x**2) ** sp.Rational(1, 3) - sp.Rational(1, 100), [x > -8, x < 8], False),
        (sp.Abs(x) - sp.Rational(1, 100), [x > -1, x < 2], False),
        (sp.floor(p) - p + sp.Rational(99, 100), [], False),
        (sp.sin(p) + sp.Rational(99, 100), [], False),
        (sp.sin(p) - p / 100, [], False),
        (p * sp.exp(-p) - sp.Rational(1, 10**6), [], False),
        (sp.exp(-p) - sp.Rational(1, 10**6), [], False),
        (1 - p**2 * sp.exp(-p) * 2, [], False),
        (x * (2 - x), [x > 0, x <= 2], True),
        ((m - 1) * (m - 2) - 1, [m >= 0], False),
        (x - y, [x > 0, y > 0], False),
        (z, [], False),
        (sp.I, [], False),
        (sp.Piecewise((-1, p > 1000), (1, True)), [], False),
        (sp.sqrt(x) + 1, [], False),
        (sp.log(x) + 100, [x < 5], False),
    ],
    ids=str,
)
def test_claims_no_sign_that_is_not_there(d, bounds, strict):
    assert strategies.is_positive(d, bounds, strict) is None


@settings(max_examples=12, deadline=None)
@given(draw.lists(draw.integers(-4, 4), min_size=2, max_size=4), draw.booleans())
def test_the_sign_of_a_random_polynomial_agrees_with_its_real_roots(coefficients, strict):
    d = sp.Poly(coefficients, x).as_expr()
    least = [d.subs(x, r) for r in (0, sp.Rational(1, 100), 1, 7, 1000)]
    if strategies.is_positive(d, [x > 0], strict):
        assert all(value > 0 or (value == 0 and (not strict or i == 0)) for i, value in enumerate(least))
        inside = [r for r in sp.Poly(d, x).real_roots() if r > 0] if d.has(x) else []
        assert not (strict and inside)
        assert all(d.subs(x, r + sp.Rational(1, 10**4)) >= 0 for r in inside)
