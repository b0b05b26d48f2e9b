"""Evidence is given for what is true and was really checked, and for nothing else."""

import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as draw

from kexue_utils import evidence, goals, strategies, words
from kexue_utils.evidence import (
    MIME,
    CheckFailed,
    TimeLimitReached,
    VacuousCheck,
    cite,
    define,
    exact,
    measured,
    numeric,
    prove,
    refute,
    sampled,
)

z, w = sp.symbols("z w")
x, y, mu, theta = sp.symbols("x y mu theta", real=True)
p, q, s, a, b = sp.symbols("p q s a b", positive=True)
n = sp.Symbol("n", integer=True, positive=True)
k, m = sp.symbols("k m", integer=True)
f, g = sp.Function("f"), sp.Function("g")
oo = sp.oo
approx = pytest.approx

GAUSS = sp.exp(-((x - mu) ** 2) / (2 * s**2)) / (sp.sqrt(2 * sp.pi) * s)
MATRIX_A, MATRIX_B, MATRIX_A3, MATRIX_B3 = (sp.MatrixSymbol(name, size, size) for size in (2, 3) for name in "AB")
ROTATION = sp.Matrix([[sp.cos(theta), -sp.sin(theta)], [sp.sin(theta), sp.cos(theta)]])
A2, B2 = (sp.Matrix(2, 2, sp.symbols(f"{name}0:4")) for name in "ab")
A3 = sp.Matrix(3, 3, sp.symbols("a0:9"))
P, Q = words.letters("P Q")


# ---------------------------------------------------------------- prove: what is true

TRUE = {
    "double angle": (sp.sin(2 * theta), 2 * sp.sin(theta) * sp.cos(theta), {}),
    "tanh is a shifted sigmoid": (2 / (1 + sp.exp(-2 * x)) - 1, sp.tanh(x), {}),
    "derivative of the sigmoid": (
        sp.Derivative(1 / (1 + sp.exp(-x)), x),
        1 / (1 + sp.exp(-x)) * (1 - 1 / (1 + sp.exp(-x))),
        {},
    ),
    "log-sum-exp takes out a summand": (
        sp.log(sp.exp(x) + sp.exp(y)),
        x + sp.log(1 + sp.exp(y - x)),
        {},
    ),
    "logarithm of a product of positive numbers": (sp.log(a * b), sp.log(a) + sp.log(b), {}),
    "Euler": (sp.exp(sp.I * x), sp.cos(x) + sp.I * sp.sin(x), {}),
    "difference of two rectified values": (sp.Max(x, 0) - sp.Max(-x, 0), x, {}),
    "Beta by Gamma": (sp.beta(p, q), sp.gamma(p) * sp.gamma(q) / sp.gamma(p + q), {}),
    "Beta recurrence": (sp.beta(p + 1, q), sp.beta(p, q) * p / (p + q), {}),
    "Gamma recurrence": (sp.gamma(z + 1), z * sp.gamma(z), {}),
    "Gamma reflection": (sp.gamma(z) * sp.gamma(1 - z), sp.pi / sp.sin(sp.pi * z), {}),
    "Gamma duplication": (
        sp.gamma(z) * sp.gamma(z + sp.Rational(1, 2)),
        2 ** (1 - 2 * z) * sp.sqrt(sp.pi) * sp.gamma(2 * z),
        {},
    ),
    "digamma recurrence": (sp.digamma(p + 1), sp.digamma(p) + 1 / p, {}),
    "2x2 determinant of a product": ((A2 * B2).det(), A2.det() * B2.det(), {}),
    "2x2 inverse": (A2.inv() * A2, sp.eye(2), {}),
    "3x3 adjugate": (A3.adjugate() * A3, A3.det() * sp.eye(3), {}),
    "3x3 cyclic trace": (sp.Trace(MATRIX_A3 * MATRIX_B3), sp.Trace(MATRIX_B3 * MATRIX_A3), {}),
    "rotations add": (ROTATION * ROTATION.subs(theta, x), ROTATION.subs(theta, theta + x), {}),
    "determinant of matrix symbols": (
        sp.Determinant(MATRIX_A * MATRIX_B),
        sp.Determinant(MATRIX_A) * sp.Determinant(MATRIX_B),
        {},
    ),
    "normalised Gaussian": (sp.Integral(GAUSS, (x, -oo, oo)), sp.Integer(1), {}),
    "Gamma integral": (sp.Integral(p ** (q - 1) * sp.exp(-p), (p, 0, oo)), sp.gamma(q), {}),
    "Laplace transform of the cosine": (
        sp.Integral(sp.exp(-a * p) * sp.cos(b * p), (p, 0, oo)),
        a / (a**2 + b**2),
        {},
    ),
    "oscillating integral that quadrature gets wrong": (sp.Integral(sp.sin(x) / x, (x, 0, oo)), sp.pi / 2, {}),
    "delta function": (sp.Integral(sp.DiracDelta(x - y) * f(x), (x, -oo, oo)), f(y), {}),
    "sum of squares": (sp.Sum(k**2, (k, 1, n)), n * (n + 1) * (2 * n + 1) / 6, {}),
    "sum with a symbolic lower limit": (sp.Sum(k, (k, m, n)), (n + m) * (n - m + 1) / 2, {}),
    "telescope": (sp.Sum(1 / (k * (k + 1)), (k, 1, n)), n / (n + 1), {}),
    "finite geometric sum": (sp.Sum(a**k, (k, 0, n)), (a ** (n + 1) - 1) / (a - 1), {"given": [a > 1]}),
    "geometric series": (sp.Sum(x**k, (k, 0, oo)), 1 / (1 - x), {"given": [x > -1, x < 1]}),
    "geometric series inside the circle": (sp.Sum(x**k, (k, 0, oo)), 1 / (1 - x), {"given": [sp.Abs(x) < 1]}),
    "zeta series": (sp.Sum(k**-p, (k, 1, oo)), sp.zeta(p), {"given": [p > 1]}),
    "Poisson mean": (sp.Sum(k * sp.exp(-a) * a**k / sp.factorial(k), (k, 0, oo)), a, {}),
    "limit": (sp.Limit((1 + x / p) ** p, p, oo), sp.exp(x), {}),
    "product rule": (
        sp.Derivative(f(x) * g(x), x),
        sp.Derivative(f(x), x) * g(x) + f(x) * sp.Derivative(g(x), x),
        {},
    ),
    "a substituted equation": (x**2 + y**2, 1 - 2 * x * y, {"given": [sp.Eq(y, 1 - x)]}),
    "sides that only the substitution makes equal": (
        sp.sin(x) ** (n - 2) / sp.pi,
        1 / sp.pi,
        {"given": [sp.Eq(n, 2)]},
    ),
    "an imaginary symbol": ((i := sp.Symbol("i", imaginary=True)) * (i + 1), i**2 + i, {}),
}


@pytest.mark.parametrize("name", TRUE)
def test_proves(name):
    left, right, arguments = TRUE[name]
    proof = prove("eq-true", left, right, **arguments)
    assert (proof.kind, proof.resolution) == ("proved", 0.0)


TRUE_INEQUALITIES = {
    "arithmetic and geometric mean": ((a + b) / 2, ">=", sp.sqrt(a * b), []),
    "Cauchy-Schwarz": ((a * x + b * y) ** 2, "<=", (a**2 + b**2) * (x**2 + y**2), []),
    "logarithm below its tangent": (sp.log(p), "<=", p - 1, []),
    "logarithm of 1 + p": (sp.log(1 + p), "<", p, []),
    "exponential above its tangent": (sp.exp(x), ">=", 1 + x, []),
    "sine below its argument": (sp.sin(theta), "<", theta, [theta > 0, theta < sp.pi / 2]),
    "Bernoulli up to the closed end": ((1 + x) ** 3, ">=", 1 + 3 * x, [x >= -1]),
    "an integer above 3/2 is at least 2": (m, ">=", sp.Integer(2), [m > 1]),
    "constants": (sp.exp(sp.Rational(1, 2)), "<", sp.Integer(2), []),
    "a single point": (x**2, "<=", sp.Integer(1), [x >= 1, x <= 1]),
}


@pytest.mark.parametrize("name", TRUE_INEQUALITIES)
def test_proves_the_inequality(name):
    left, relation, right, bounds = TRUE_INEQUALITIES[name]
    assert prove("eq-true", left, right, relation=relation, given=bounds).kind == "proved"


# ---------------------------------------------------------------- prove: what is false

x0 = sp.Symbol("x0", nonnegative=True)
FALSE = {
    "freshman's dream": ((a + b) ** 2, a**2 + b**2, {}),
    "square root of a square, real": (sp.sqrt(x**2), x, {}),
    "square root of a square, complex": (sp.sqrt(z**2), z, {}),
    "odd power of a root": ((x**2) ** sp.Rational(3, 2), x**3, {}),
    "root of a product": (sp.sqrt(z * w), sp.sqrt(z) * sp.sqrt(w), {}),
    "power of a power": (sp.exp(z) ** w, sp.exp(z * w), {}),
    "cube root of a negative number": ((-p) ** sp.Rational(1, 3), -(p ** sp.Rational(1, 3)), {}),
    "complex logarithm of a product": (sp.log(z * w), sp.log(z) + sp.log(w), {}),
    "complex logarithm of a square": (sp.log(z**2), 2 * sp.log(z), {}),
    "0 to the power 0": (sp.Integer(0) ** x0, sp.Integer(0), {}),
    "sign at 0": (sp.sign(x) ** 2, sp.Integer(1), {}),
    "cases that differ at one point": (
        sp.Piecewise((1, x >= 0), (0, True)),
        sp.Piecewise((1, x > 0), (0, True)),
        {},
    ),
    "cases that differ at the closed end": (
        sp.Piecewise((1, x > 3), (0, True)),
        sp.Integer(1),
        {"given": [x >= 3]},
    ),
    "arctangent of a quotient": (sp.atan2(y, x), sp.atan(y / x), {}),
    "arctangent of the inverse": (sp.atan(x) + sp.atan(1 / x), sp.pi / 2, {}),
    "arccosine of the cosine": (sp.acos(sp.cos(x)), x, {}),
    "a function that vanishes at the integers": (sp.sin(sp.pi * x), sp.Integer(0), {}),
    "tiny values": (sp.exp(-80 - x**2), 2 * sp.exp(-80 - x**2), {}),
    "nearly equal": (sp.cos(p), sp.cos(p + sp.Rational(1, 10**12)), {}),
    "every function is additive": (f(x + y), f(x) + f(y), {}),
    "two unknown functions agree": (f(x), g(x), {}),
    "matrices commute": (MATRIX_A * MATRIX_B, MATRIX_B * MATRIX_A, {}),
    "binomial of matrices": (
        (MATRIX_A + MATRIX_B) ** 2,
        MATRIX_A**2 + 2 * MATRIX_A * MATRIX_B + MATRIX_B**2,
        {},
    ),
    "trace of a product": (sp.Trace(MATRIX_A * MATRIX_B), sp.Trace(MATRIX_A) * sp.Trace(MATRIX_B), {}),
    "induction with a wrong base": (sp.Sum(k, (k, 2, n)), n * (n + 1) / 2, {}),
    "induction with a wrong step": (sp.Sum(k**2, (k, 1, n)), n**3 / 3, {}),
    "a symbolic lower limit ignored": (sp.Sum(k, (k, m, n)), n * (n + 1) / 2, {}),
    "binomial sum over negative integers": (sp.Sum(sp.binomial(m, k), (k, 0, m)), 2**m, {}),
    "a wrong digit of Basel": (sp.Sum(1 / k**2, (k, 1, oo)), sp.pi**2 / 7, {}),
    "derivative taken after the substitution": (sp.Derivative(x**2, x), sp.Integer(0), {"given": [sp.Eq(x, 3)]}),
    "at the closed end": (x, sp.Integer(1), {"relation": ">", "given": [x >= 1]}),
    "at the other closed end": (x * (2 - x), sp.Integer(0), {"relation": ">", "given": [x > 0, x <= 2]}),
    "between the integers": ((x - 1) * (x - 2), sp.Integer(0), {"relation": ">=", "given": [x >= 0]}),
    "beyond a far pole": (1 / (100 - p), sp.Integer(0), {"relation": ">"}),
    "beyond a pole that increases": (sp.tan(theta), theta, {"relation": ">=", "given": [theta > 0, theta < 2]}),
    "a narrow dip": ((p - 1) ** 2, sp.Rational(1, 10**8), {"relation": ">="}),
    "a cusp": ((x**2) ** sp.Rational(1, 3), sp.Rational(1, 100), {"relation": ">=", "given": [x > -8, x < 8]}),
    "a jump": (sp.floor(p), p - sp.Rational(99, 100), {"relation": ">="}),
    "far away": (p, p**2 / 10000, {"relation": ">"}),
    "a root of a negative number compared": (sp.sqrt(x) + 1, sp.Integer(0), {"relation": ">="}),
    "complex numbers compared": (z**2, sp.Integer(0), {"relation": ">="}),
    "a constant that is not real": (sp.I, sp.Integer(0), {"relation": ">"}),
    "divergent integral": (sp.Integral(1 / x, (x, -1, 1)), sp.Integer(0), {}),
    "divergent alternating series": (sp.Sum((-1) ** k, (k, 0, oo)), sp.Rational(1, 2), {}),
    "geometric series everywhere": (sp.Sum(p**k, (k, 0, oo)), 1 / (1 - p), {}),
    "Laplace transform for every complex number": (sp.Integral(sp.exp(-z * p), (p, 0, oo)), 1 / z, {}),
}


@pytest.mark.parametrize("name", FALSE)
def test_does_not_prove(name):
    left, right, arguments = FALSE[name]
    with pytest.raises((CheckFailed, VacuousCheck)):
        prove("eq-false", left, right, **arguments)


FALSE_SUMS = {
    "several limits, ranges swapped": (
        sp.Sum(f(k, m), (k, 1, n), (m, 1, 2)),
        sp.Sum(f(k, m), (k, 1, 2), (m, 1, n)),
    ),
    "a triangle summed the other way": (
        sp.Sum(f(k, m), (k, 1, m), (m, 1, n)),
        sp.Sum(f(k, m), (m, 1, k), (k, 1, n)),
    ),
    "nested": (sp.Sum(sp.Sum(f(k, m), (k, 1, m)), (m, 1, n)), sp.Sum(sp.Sum(f(k, m), (k, 1, n)), (m, 1, n))),
    "a product of sums": (
        sp.Sum(f(k), (k, 1, n)) * sp.Sum(g(k), (k, 1, n)),
        sp.Sum(f(k) * g(k), (k, 1, n)),
    ),
    "off by little": (
        sp.Sum(k**2 * m, (k, 1, n), (m, 1, n)),
        sp.Sum(k, (k, 1, n)) * sp.Sum(k**2, (k, 1, n)) + sp.Rational(1, 10**9),
    ),
    "a window of a product": (sp.Product(f(k), (k, 1, n)), sp.Product(f(k), (k, 2, n + 1))),
}


@pytest.mark.parametrize("name", FALSE_SUMS)
def test_sums_of_several_indices_are_tried_term_by_term(name):
    with pytest.raises(CheckFailed, match="false at n ="):
        prove("eq-false", *FALSE_SUMS[name])


def test_a_determinant_and_a_trace_written_down_have_values_too():
    for left, right in ((sp.Determinant(A2 * B2), A2.det() * B2.det()), (sp.Trace(A2 * B2), (B2 * A2).trace())):
        assert "10 random points agree" in prove("eq-written", left, right).method
        with pytest.raises(CheckFailed, match="false at a = 1, a0 = 2"):
            prove("eq-written", left, right + a)


def test_true_sums_of_several_indices_are_tried_too():
    left, right = sp.Sum(f(k, m), (k, 1, n), (m, 1, n)), sp.Sum(sp.Sum(f(k, m), (m, 1, n)), (k, 1, n))
    assert "2 random points agree" in prove("eq-order", left, right, by=strategies.sums).method


def test_names_the_label_and_a_counterexample():
    with pytest.raises(CheckFailed, match=r"eq-dream: false at a = .*, b = .*: left side .*, right side"):
        prove("eq-dream", (a + b) ** 2, a**2 + b**2)
    with pytest.raises(CheckFailed, match=r"eq-basel: false: left side 1\.6449.*, right side 1\.4099"):
        prove("eq-basel", sp.Sum(1 / k**2, (k, 1, oo)), sp.pi**2 / 7)


def test_shows_what_is_left_when_a_true_claim_is_out_of_reach():
    with pytest.raises(CheckFailed, match=r"not proved; what is left of the difference is .*acos"):
        prove("eq-arcs", sp.asin(x / 9) + sp.acos(x / 9), sp.pi / 2, given=[x > -1, x < 1])


polynomials = draw.lists(draw.integers(-9, 9), min_size=2, max_size=5)


@settings(max_examples=6, deadline=None)
@given(polynomials, polynomials)
def test_random_polynomial_identities_are_proved_and_perturbed_ones_rejected(first, second):
    left = sp.Poly(first, z).as_expr() * sp.Poly(second, z).as_expr()
    product = sp.expand(left)
    assume(left != product)
    assert prove("eq-product", left, product).kind == "proved"
    with pytest.raises(CheckFailed, match="false"):
        prove("eq-product", left, product + z)
    with pytest.raises(CheckFailed, match="false"):
        prove("eq-product", left, product * sp.Rational(10**6 + 1, 10**6) + sp.Rational(1, 10**6))


@settings(max_examples=8, deadline=None)
@given(draw.lists(draw.integers(-5, 5), min_size=1, max_size=4))
def test_random_sums_are_proved_by_induction_and_shifted_ones_rejected(coefficients):
    summand = sp.Poly(coefficients, k).as_expr()
    assume(summand.has(k))
    closed = sp.summation(summand, (k, 1, n))
    assert "induction over n" in prove("eq-sum", sp.Sum(summand, (k, 1, n)), closed).method
    with pytest.raises(CheckFailed):
        prove("eq-sum", sp.Sum(summand, (k, 1, n)), closed.subs(n, n + 1) + 1000)


# ---------------------------------------------------------------- prove: what says nothing

UNEVALUATED = sp.Integral(sp.exp(sp.sin(x**2)), (x, 0, 1))


@pytest.mark.parametrize(
    "left, right",
    [
        (sp.sin(theta) ** 2, sp.sin(theta) ** 2),
        (sp.Integer(2), 2),
        (MATRIX_A * MATRIX_B, MATRIX_A * MATRIX_B),
    ],
)
def test_refuses_the_same_expression_twice(left, right):
    with pytest.raises(VacuousCheck, match="same expression"):
        prove("eq-same", left, right)


def test_refuses_an_integral_left_on_a_side():
    with pytest.raises(VacuousCheck, match="unevaluated"):
        prove("eq-left", UNEVALUATED, sp.Integral(sp.exp(sp.sin(y**2)), (y, 0, 1)))


def test_refuses_an_integral_left_on_both_sides_even_where_it_cancels():
    unknown = sp.Integral(f(x), (x, 0, 1))
    with pytest.raises(VacuousCheck, match="unevaluated"):
        prove("eq-both", unknown + (y + 1) ** 2, unknown + y**2 + 2 * y + 1)


@pytest.mark.parametrize(
    "assumptions",
    [
        [x > 1, x < 0],
        [x > 1, x < 1],
        [p < 0],
        [x > 1, y < 0, y > 0],
        [sp.Eq(x, 1), x > 2],
        [x**2 < 0],
        [sp.false],
    ],
    ids=str,
)
def test_refuses_contradictory_assumptions_from_which_everything_follows(assumptions):
    with pytest.raises(VacuousCheck, match="no point"):
        prove("eq-void", (x + p) ** 2, x**2 + 2 * x * p + p**2, given=assumptions)


@pytest.mark.parametrize("float_", [sp.Float(0.1), 0.1])
def test_refuses_floats(float_):
    with pytest.raises(VacuousCheck, match="float"):
        prove("eq-float", float_ * (z + 1) ** 2, float_ * (z**2 + 2 * z + 1))


def test_refuses_undefined_sides():
    with pytest.raises(VacuousCheck, match="undefined"):
        prove("eq-nan", sp.nan * z, z)
    with pytest.raises(VacuousCheck, match="undefined"):
        prove("eq-infinite", sp.Integral(1 / x**2, (x, 0, 1)), sp.Sum(1 / k, (k, 1, oo)))


def test_refuses_matrices_of_other_shapes():
    with pytest.raises(VacuousCheck, match=r"shapes differ: lhs \(1, 2\), rhs \(2, 1\)"):
        prove("eq-shape", sp.Matrix([[z, w]]), sp.Matrix([z, w]))
    with pytest.raises(VacuousCheck, match="scalar"):
        prove("eq-shape", z * sp.eye(2), z)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"label": "eq 1"}, ValueError, "label"),
        ({"label": 3}, ValueError, "label"),
        ({"lhs": "z"}, TypeError, r"^lhs: .* str given$"),
        ({"lhs": None}, TypeError, "lhs"),
        ({"lhs": True}, TypeError, "truth value"),
        ({"rhs": [z]}, TypeError, r"^rhs: .* list given$"),
        ({"rhs": z > 1}, TypeError, "rhs"),
        ({"rhs": np.ones(2)}, TypeError, "rhs"),
        ({"relation": "=="}, ValueError, r"^relation: '==' given, one of =, <, <=, >, >= expected$"),
        ({"given": 3}, TypeError, r"^given: a list of SymPy relations expected, 3 given$"),
        ({"by": "expand"}, TypeError, r"^by: strategies expected, 'expand' given$"),
        ({"by": 3}, TypeError, r"^by: strategies expected, 3 given$"),
        ({"lhs": z * sp.eye(2), "rhs": sp.eye(2), "relation": "<"}, ValueError, "matrices"),
        ({"lhs": sp.Trace(sp.MatrixSymbol("A", n, n))}, ValueError, "size in numbers"),
        ({"given": [3 > 2]}, TypeError, "given: SymPy relations"),
        ({"given": [z + 1]}, TypeError, "given: SymPy relations"),
        ({"given": [sp.Eq(z, z + 1)]}, ValueError, "given"),
        ({"given": [sp.Eq(z, 1), sp.Eq(z, 2)]}, ValueError, "given"),
        ({"given": [sp.Eq(z + w, 1)]}, ValueError, "given"),
        ({"given": [sp.Gt(sp.Symbol("z", real=True), 0)]}, ValueError, "two different symbols are called z"),
        ({"using": "eq-other"}, TypeError, "using"),
        ({"using": ["eq other"]}, ValueError, "using"),
        ({"using": ["eq-bad"]}, ValueError, "itself"),
        ({"seconds": 0}, ValueError, "seconds"),
        ({"seconds": float("nan")}, ValueError, "seconds"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    arguments = {"label": "eq-bad", "lhs": (z + 1) ** 2, "rhs": z**2 + 2 * z + 1} | arguments
    with pytest.raises(error, match=message):
        prove(arguments.pop("label"), arguments.pop("lhs"), arguments.pop("rhs"), **arguments)


# ---------------------------------------------------------------- prove: own strategies, time limit


def test_an_own_strategy_is_named_in_the_evidence():
    def sum_of_the_arcs(d):
        return d.subs(sp.acos(x / 9), sp.pi / 2 - sp.asin(x / 9))

    proof = prove("eq-arcs", sp.asin(x / 9) + sp.acos(x / 9), sp.pi / 2, by=sum_of_the_arcs)
    assert "(sum of the arcs)" in proof.method
    assert "(own rewriting)" in prove("eq-square", (z + 1) ** 2, z**2 + 2 * z + 1, by=[lambda d: sp.expand(d)]).method


@pytest.mark.parametrize(
    "left, right, unfaithful",
    [
        (f(x), f(x) * (sp.sin(x) ** 2 + sp.cos(x) ** 2), lambda d: sp.S.Zero),
        ((z + 1) ** 2, z**2 + 2 * z + 1, lambda d: d.subs(z, 0)),
        (
            sp.exp(x) * sp.exp(y),
            sp.exp(x + y) * (sp.sin(x) ** 2 + sp.cos(x) ** 2),
            lambda d: d.replace(sp.exp, lambda u: 1 + u),
        ),
    ],
)
def test_an_own_strategy_that_changes_values_is_refused(left, right, unfaithful):
    with pytest.raises(VacuousCheck, match=r"own rewriting (changes the value|closes the falsified)"):
        prove("eq-cheat", left, right, by=unfaithful)


def test_an_own_strategy_cannot_prove_what_is_false():
    with pytest.raises(CheckFailed):
        prove("eq-cheat", f(x), g(x), by=lambda d: sp.S.Zero if d == f(x) - g(x) else d)
    with pytest.raises(CheckFailed):
        prove("eq-cheat", f(x), f(x) + 1, relation=">", by=lambda d: -d)


def test_an_own_strategy_for_an_inequality_must_keep_the_sign():
    with pytest.raises(VacuousCheck, match="changes the value"):
        prove("eq-sign", x**4 + 1, x, relation=">", by=lambda d: d**2 + 1)


def test_a_default_strategy_named_by_the_caller_comes_first_but_not_for_the_sign():
    assert "(powers)" in prove("eq-powers", 2 ** (z + 1), 2 * 2**z + 0 * z, by=strategies.powers).method
    with pytest.raises(VacuousCheck, match="changes the value"):  # it divides by a term, which may be negative
        prove("eq-sign", -(x**2) * sp.exp(x), -1 - x**2 * sp.exp(x), relation=">", by=strategies.powers)


def test_a_gap_too_small_for_a_float_is_no_tie():
    prove("eq-tiny", sp.exp(-p), 0, relation=">", given=[p > 900])


def test_an_own_strategy_helps_in_an_induction():
    K = sp.Symbol("K", integer=True, nonnegative=True)
    F = sp.fibonacci

    def fibonacci_rule(d):
        return d.subs(F(K + 3), F(K + 2) + F(K + 1))

    claim = "eq-sum", sp.Sum(F(k), (k, 1, K)), F(K + 2) - 1
    assert "induction over K" in prove(*claim, by=fibonacci_rule).method
    with pytest.raises((CheckFailed, VacuousCheck)):
        prove(*claim)


def test_latex_of_what_was_checked_uses_the_names_of_the_chapters():
    proof = prove("eq-trigamma", sp.polygamma(1, p + 1), sp.polygamma(1, p) - 1 / p**2)
    assert proof.checked.startswith(r"\psi'\left(p + 1\right) =")
    assert r"\ln{\left(p \right)}" in prove("eq-log", sp.log(p**2), 2 * sp.log(p)).checked


def busy(seconds, catch):
    """Calculates for a while, and may catch everything, as a bare ``except`` deep inside SymPy does."""
    until = time.monotonic() + seconds

    def strategy(d):
        while time.monotonic() < until:
            try:
                while time.monotonic() < until:
                    sum(range(100))
            except BaseException:
                if not catch:
                    raise
        return d

    return strategy


def unprovable(catch):
    started = time.monotonic()
    with pytest.raises(TimeLimitReached, match=r"eq-late: not decided within 0.3 s"):
        prove("eq-late", sp.gamma(z + 1), z * sp.gamma(z), by=busy(4, catch), seconds=0.3)
    return time.monotonic() - started


# The interrupt may hit a callback of the garbage collector in the worker thread, which swallows it; it is then repeated.
swallowed = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@swallowed
@pytest.mark.parametrize("catch", [False, True], ids=["raises", "swallows"])
def test_the_time_limit_is_kept_and_nothing_is_left_behind(catch):
    assert unprovable(catch) < 3
    for _ in range(300):  # a late exception would arrive here
        time.sleep(0.001)
    assert prove("eq-next", (z + 1) ** 2, z**2 + 2 * z + 1).kind == "proved"


def test_a_thread_out_of_time_does_not_leave_its_precision_to_the_process():
    def raised():
        mpmath.mp.prec = 200
        while True:
            sum(range(100))

    with pytest.raises(TimeLimitReached):
        goals.within(0.1, "eq-late", raised)
    assert mpmath.mp.prec == 53


@swallowed
def test_the_time_limit_holds_outside_the_main_thread():
    spent = []
    thread = threading.Thread(target=lambda: spent.append(unprovable(False)))
    thread.start()
    thread.join(10)
    assert spent and spent[0] < 3


@swallowed
def test_the_time_limit_holds_for_exact_cases_and_for_symbolic_integration():
    with pytest.raises(TimeLimitReached, match=r"^eq-late: "):
        exact("eq-late", [1, 2], lambda n: (sum(1 for _ in range(10**9)), n), seconds=0.3)
    with pytest.raises(TimeLimitReached):
        hard = sp.Integral(sp.sin(x) ** 5 * sp.log(1 + x**3) * sp.exp(-(x**2)) / sp.sqrt(1 + x), (x, 0, oo))
        prove("eq-late", hard, hard.transform(x, y**2), seconds=1)


# ---------------------------------------------------------------- what the evidence says


def test_the_record_has_the_published_form():
    proof = prove("eq-a", (z + a) ** 2, z**2 + 2 * a * z + a**2, given=[a > 1], using=["eq-b", "eq-c"])
    bundle = proof._repr_mimebundle_()
    assert set(bundle) == {MIME, "text/html", "text/plain"}
    record = json.loads(json.dumps(bundle[MIME]))
    assert record.pop("seconds") >= 0
    assert record == {
        "version": 1,
        "kind": "proved",
        "label": "eq-a",
        "method": "SymPy reduces the difference of the two sides to 0 (polynomial); 10 random points agree; a falsified claim is rejected.",
        "checked": r"\left(a + z\right)^{2} = a^{2} + 2 a z + z^{2}",
        "assumptions": ["a > 1", r"a\ \text{positive}", r"z\ \text{complex}"],
        "resolution": 0.0,
        "using": ["eq-b", "eq-c"],
        "seed": 0,
        "details": [],
        "citation": None,
        "step": None,
    }


@pytest.mark.parametrize(
    "found, published", [(0.012345, 0.012), (0.999, 1.0), (1.5, 10.0), (2.5, 10.0), (100.0, 100.0), (150.0, 1000.0)]
)
def test_the_record_has_two_digits_of_a_resolution_and_above_one_its_order_of_magnitude(found, published):
    piece = replace(define("eq-a", "the angle"), resolution=found)
    assert piece._repr_mimebundle_()[MIME]["resolution"] == published


@pytest.mark.parametrize(
    "runs, shown, row",
    [
        ([0.26, 0.5, -0.001], r"-1.0 \le 0.26,\ 0.50,\ 0.00 \le 1.0", "measured 0.00 to 0.50"),
        ([0.5, -0.25, 0.125], r"-1.0 \le 0.50,\ -0.25,\ 0.12 \le 1.0", "measured -0.25 to 0.50"),
    ],
)
def test_runs_in_an_interval_are_shown_with_the_decimals_that_another_machine_shows(runs, shown, row):
    piece = measured("eq-a", runs, (-1, 1), why="theory", seeds=SEEDS, decimals=2)
    assert piece.checked == shown and piece.details[1] == ("setting 1", row)


def test_runs_are_shown_with_six_digits_and_a_small_exponent():
    piece = measured("eq-a", [1.25e-7, 2.5e-7, 5e-7], (0, 1), why="theory", seeds=SEEDS)
    assert piece.details[1] == ("setting 1", "measured 1.25e-07 to 5e-07")


def test_a_check_of_one_step_says_which():
    piece = exact("eq-a", [1, 2], lambda n: (n + n, 2 * n), step="doubling")
    assert piece._repr_mimebundle_()[MIME]["step"] == "doubling"
    assert "doubling" in str(piece)
    with pytest.raises(ValueError, match="step"):
        exact("eq-a", [1, 2], lambda n: (n + n, 2 * n), step=" ")


def every_kind():
    rng = np.random.default_rng(0)
    return [
        prove("eq-a", (z + 1) ** 2, z**2 + 2 * z + 1),
        exact("eq-b", range(1, 9), lambda n: (sum(range(n + 1)), n * (n + 1) // 2)),
        numeric("eq-c", [1.0, 2.0], [1.0, 2.0 + 1e-9], rtol=1e-6, why="rounding", seed=np.int64(3)),
        sampled("eq-d", rng.normal(size=1000) ** 2, 1.0, seed=0),
        measured("eq-e", [1.0, 1.1, 0.9], 1.0, within=0.2, why="theory", seeds=[0, 1, 2]),
        refute("eq-f", (z**2, z), {z: 2}),
        cite("eq-g", "apery1979", "page 11"),
        define("eq-h", "a name"),
    ]


def test_every_kind_is_frozen_and_can_be_written_as_json():
    kinds = {
        "proved": 0,
        "exact": 0,
        "numeric": 1,
        "sampled": 1,
        "measured": 1,
        "refuted": None,
        "cited": None,
        "definition": None,
    }
    pieces = every_kind()
    assert [piece.kind for piece in pieces] == list(kinds)
    for piece in pieces:
        json.dumps(piece._repr_mimebundle_()[MIME], allow_nan=False)
        with pytest.raises(AttributeError):
            piece.kind = "proved"
        resolution = kinds[piece.kind]
        assert piece.resolution is None if resolution is None else (piece.resolution == 0) == (resolution == 0)


def record(check):
    """What is published of a piece: all but its seconds, which are its processor time, and but the fields that say nothing."""
    started = time.process_time()
    piece = check()
    spent = time.process_time() - started
    fields = {name: value for name, value in asdict(piece).items() if value not in (None, (), "")}
    assert fields.pop("seconds") <= spent
    if piece.kind not in ("definition", "cited"):
        assert piece.seconds > 0
    return fields


RUNS = [1.0, 1.1, 0.9]
SEEDS = [0, 1, 2]
RAMP = np.arange(100.0)
FALSIFIED = "a falsified claim is rejected."
RECORDS = {
    "constants of which one is smaller": (
        lambda: prove("eq-a", sp.sqrt(2), 2, relation="<"),
        {
            "kind": "proved",
            "method": f"SymPy shows the sign of the difference (sign of every factor); the numerical values agree; {FALSIFIED}",
            "checked": r"\sqrt{2} < 2",
            "resolution": 0.0,
            "seed": 0,
        },
    ),
    "words in letters for matrices": (
        lambda: prove("eq-a", words.Tr(P * Q), words.Tr(Q * P), step="cyclic"),
        {
            "kind": "proved",
            "method": "SymPy reduces the difference of the two sides to 0 (evaluation);"
            f" 10 random choices of matrices, 2 × 2 and 3 × 3, agree; {FALSIFIED}",
            "checked": r"\operatorname{tr}\left(P Q\right) = \operatorname{tr}\left(Q P\right)",
            "assumptions": (r"P, Q\ \text{matrices of any size}",),
            "resolution": 0.0,
            "seed": 0,
            "step": "cyclic",
        },
    ),
    "an inequality in exact numbers": (
        lambda: exact("eq-a", [2, 3, 4], lambda n: (n, "<", n**2), using=["eq-b"], step="small n"),
        {
            "kind": "exact",
            "method": f"Exact arithmetic in 3 cases, from 2 to 4; {FALSIFIED}",
            "checked": r"2 < 4;\quad \dots;\quad 4 < 16",
            "resolution": 0.5,
            "using": ("eq-b",),
            "step": "small n",
        },
    ),
    "one exact case": (
        lambda: exact("eq-a", [5], lambda n: (n + n, 2 * n)),
        {
            "kind": "exact",
            "method": f"Exact arithmetic in 1 case, 5; {FALSIFIED}",
            "checked": "10 = 10",
            "resolution": 0.0,
        },
    ),
    "one number": (
        lambda: numeric("eq-a", 2.0, 2.5, rtol=0.25, why="coarse", seed=3, using=["eq-b"], step="half"),
        {
            "kind": "numeric",
            "method": f"1 value within 0.25 of the claim (coarse); {FALSIFIED}",
            "checked": r"2.0 \approx 2.5",
            "resolution": approx((0.2 + 0.25) / (1 - 0.25)),
            "using": ("eq-b",),
            "seed": 3,
            "details": (("largest deviation", "2.0e-01"),),
            "step": "half",
        },
    ),
    "a number against 0": (
        lambda: numeric("eq-a", [2.0, 3.0], [2.5, 0.0], rtol=0.25, why="coarse", scale=100),
        {
            "kind": "numeric",
            "method": f"2 values within 0.25 of the claim (coarse); {FALSIFIED}",
            "checked": r"2.0 \approx 2.5,\quad \dots\ (2\text{ values})",
            "resolution": approx((0.2 + 0.25) / (1 - 0.25)),
            "details": (("largest deviation", "2.0e-01"), ("scale where the claim is 0", "100")),
        },
    ),
    "an upper bound": (
        lambda: numeric("eq-a", [1.0, 3.0], [2.0, 4.0], rtol=1e-3, why="rounding", relation="<="),
        {
            "kind": "numeric",
            "method": f"2 values on the claimed side (<=) of the bound, rounding 0.001 (rounding); {FALSIFIED}",
            "checked": r"1.0 \le 2.0,\quad \dots\ (2\text{ values})",
            "resolution": approx(0.25 + 1e-3),
            "details": (("smallest slack", "0.25"),),
        },
    ),
    "a lower bound": (
        lambda: numeric("eq-a", 2.0, 1.0, rtol=1e-3, why="rounding", relation=">="),
        {
            "kind": "numeric",
            "method": f"1 value on the claimed side (>=) of the bound, rounding 0.001 (rounding); {FALSIFIED}",
            "checked": r"2.0 \ge 1.0",
            "resolution": approx(1 + 1e-3),
            "details": (("smallest slack", "1"),),
        },
    ),
    "expressions at points, of which four are listed": (
        lambda: numeric(
            "eq-a", x**2 + k, k, rtol=1e-20, why="rounding", scale=1, at=[{x: 0.0, k: i} for i in range(5)]
        ),
        {
            "kind": "numeric",
            "method": f"5 values within 1e-20 of the claim (rounding); {FALSIFIED}",
            "checked": "k + x^{2} = k",
            "assumptions": tuple(rf"x = 0.0,\ k = {i}" for i in range(4)),
            "resolution": approx(1.1e-20, rel=1e-6, abs=0),
            "details": (("largest deviation", "below 1e-21"), ("scale where the claim is 0", "1")),
        },
    ),
    "one mean": (
        lambda: sampled("eq-a", RAMP + 100, 150.0, seed=1, using=["eq-b"], step="half"),
        {
            "kind": "sampled",
            "method": "1 mean of 100 samples within 4 standard errors of the claim"
            f" (a true claim fails with probability 6e-05); {FALSIFIED}",
            "checked": r"149.5 \pm 2.9 \approx 150.0",
            "resolution": approx((4 * RAMP.std(ddof=1) / 10 + 0.5) / 150),
            "using": ("eq-b",),
            "seed": 1,
            "details": (("deviations in standard errors", "-0.17"),),
            "step": "half",
        },
    ),
    "a mean of 0": (
        lambda: sampled("eq-a", np.stack([RAMP + 100, RAMP - 49.5]), [150.0, 0.0], scale=100, sigmas=3),
        {
            "kind": "sampled",
            "method": "2 means of 100 samples within 3 standard errors of the claim"
            f" (a true claim fails with probability 5e-03); {FALSIFIED}",
            "checked": r"149.5 \pm 2.9 \approx 150.0,\quad \dots\ (2\text{ means})",
            "resolution": approx(3 * RAMP.std(ddof=1) / 10 / 100),
            "details": (("deviations in standard errors", "-0.17, +0.00"), ("scale where the claim is 0", "100")),
        },
    ),
    "runs within a tolerance": (
        lambda: measured("eq-a", RUNS, 1.25, within=0.25, why="theory", seeds=SEEDS, using=["eq-b"]),
        {
            "kind": "measured",
            "method": "Mean of 3 seeds within 0.25 (relative) of the prediction (theory).",
            "checked": r"1.0 \pm 0.058 \approx 1.25",
            "resolution": approx((0.2 + 0.25) / (1 - 0.25)),
            "using": ("eq-b",),
            "details": (("seeds", "0, 1, 2"), ("setting 1", "predicted 1.25, measured 1, spread 0.1")),
        },
    ),
    "runs of two settings in standard errors": (
        lambda: measured(
            "eq-a", [RUNS, [2, 2.1, 1.8]], [1.05, 2], standard_error=[0.1, 0.2], sigmas=3, why="theory", seeds=SEEDS
        ),
        {
            "kind": "measured",
            "method": "Mean of 3 seeds within 3 standard errors of the prediction (theory).",
            "checked": r"1.0 \pm 0.058 \approx 1.05,\quad \dots\ (2\text{ settings})",
            "resolution": approx((3 * 0.1 / math.sqrt(3) + 0.05) / 1.05),
            "details": (
                ("seeds", "0, 1, 2"),
                ("setting 1", "predicted 1.05, measured 1, spread 0.1"),
                ("setting 2", "predicted 2, measured 1.96667, spread 0.15"),
            ),
        },
    ),
    "runs in an interval": (
        lambda: measured("eq-a", [RUNS, [1, 1.2, 0.8]], (0.5, 3), why="theory", seeds=SEEDS),
        {
            "kind": "measured",
            "method": "All 6 runs between 0.5 and 3 (theory).",
            "checked": r"0.5 \le 1.0,\ 1.1,\ 0.9,\ 1.0,\ 1.2 \le 3.0",
            "resolution": approx(2.2),
            "details": (("seeds", "0, 1, 2"), ("setting 1", "measured 0.8 to 1.2")),
        },
    ),
    "runs above a bound": (
        lambda: measured("eq-a", [-1.0, -1.1, -0.9], (-2, sp.oo), why="theory", seeds=SEEDS),
        {
            "kind": "measured",
            "method": "All 3 runs between -2 and inf (theory).",
            "checked": r"-2.0 \le -1.0,\ -1.1,\ -0.9 \le \infty",
            "resolution": approx(1.1),
            "details": (("seeds", "0, 1, 2"), ("setting 1", "measured -1.1 to -0.9")),
        },
    ),
    "a pair of sides that are not equal": (
        lambda: refute("eq-a", ((z + 1) ** 2, z**2 + 1), {z: 1}),
        {
            "kind": "refuted",
            "method": "False at z = 1: the left side is 4, the right side 2.",
            "checked": r"\text{not always: }\left(z + 1\right)^{2} = z^{2} + 1",
            "assumptions": ("z = 1",),
        },
    ),
    "numbers that are not equal": (
        lambda: refute("eq-a", (sp.pi, sp.Rational(22, 7)), {}),
        {
            "kind": "refuted",
            "method": "False: the left side is 3.1415927, the right side 22/7.",
            "checked": r"\text{not always: }\pi = \frac{22}{7}",
        },
    ),
    "matrices of which one entry differs": (
        lambda: refute("eq-a", (sp.Matrix([z, z**2]), sp.Matrix([z, z])), {z: 2}),
        {
            "kind": "refuted",
            "method": "False at z = 2: the left side is 4, the right side 2.",
            "checked": r"\text{not always: }z = z,\quad z^{2} = z",
            "assumptions": ("z = 2",),
        },
    ),
    "a predicate": (
        lambda: refute("eq-a", lambda n: n < 5, 7, holds_at=[1]),
        {
            "kind": "refuted",
            "method": "False at 7, though true in 1 case, 1.",
            "checked": r"\text{false at }7",
        },
    ),
    "a theorem of others": (
        lambda: cite("eq-a", "apery1979", "page 11"),
        {"kind": "cited", "method": "Not checked here; stated in apery1979, page 11.", "citation": "apery1979"},
    ),
    "a definition": (lambda: define("eq-a", " the angle "), {"kind": "definition", "method": "the angle"}),
}


def test_formulas_are_written_as_in_the_chapters():
    def shown(left, right):
        return refute("eq-a", (left, right), {p: 1}).checked.removeprefix(r"\text{not always: }")

    assert shown(sp.loggamma(p), sp.log(2 * p)) == r"\ln\Gamma\left(p\right) = \ln{\left(2 p \right)}"
    assert shown(sp.loggamma(p) ** 2, p) == r"\left[\ln\Gamma\left(p\right)\right]^{2} = p"
    assert shown(sp.polygamma(0, p), p) == r"\psi\left(p\right) = p"
    assert shown(sp.polygamma(2, p), p) == r"\psi''\left(p\right) = p"
    assert shown(sp.polygamma(3, p) ** 2, p) == r"\left[\psi'''\left(p\right)\right]^{2} = p"
    assert shown(sp.polygamma(4, p), p) == r"\psi^{(4)}\left(p\right) = p"
    assert shown(10**29 + p, 10**30) == rf"p + {10**29} = 100000\ldots000\,_{{(31\text{{ digits}})}}"
    column = sp.Matrix([p, 1, 1])
    assert shown(column, 2 * column) == r"p = 2 p,\quad 1 = 2,\quad 1 = 2"
    assert shown(sp.ones(4, 1) * p, 2 * sp.ones(4, 1)).count("=") == 1


@pytest.mark.parametrize("name", RECORDS)
def test_the_record_says_what_was_checked_and_how(name):
    check, expected = RECORDS[name]
    assert record(check) == {"label": "eq-a"} | expected


def test_assumptions_are_stated_once_by_what_is_assumed():
    u, v = sp.symbols("u v", real=True, zero=False)
    found = prove("eq-a", (u + v + z) ** 2, sp.expand((u + v + z) ** 2), given=[sp.true, u > 1])
    assert found.assumptions == ("u > 1", r"u, v\ \text{not zero real}", r"z\ \text{complex}")


@pytest.mark.parametrize("label", ["eq-a", "eq:a.b_c", "E1"])
def test_a_label_is_a_letter_and_letters_digits_or_marks(label):
    assert define(label, "a name").label == label
    for wrong in ("", f"1{label}", f"{label} ", f"{label}+"):
        with pytest.raises(ValueError, match="label: the name of an equation expected"):
            define(wrong, "a name")


def test_text_and_html_say_kind_label_step_claim_and_assumptions():
    doubled = exact("eq-a", [5], lambda n: (n + n, 2 * n), step="n < 6")
    assert str(doubled) == f"= exact [eq-a]: (step: n < 6) Exact arithmetic in 1 case, 5; {FALSIFIED}"
    assert doubled._html() == (
        '<div style="overflow-x:auto">= <b>exact</b> <code>eq-a</code>: (step: n &lt; 6) Exact arithmetic in 1 case, 5; '
        f"{FALSIFIED}<br>$\\displaystyle 10 = 10$</div>"
    )
    bounded = prove("eq-a", (z + p) ** 2, z**2 + 2 * z * p + p**2, given=[p > 1])
    assert bounded._html().endswith(
        r"<br>$\displaystyle \left(p + z\right)^{2} = p^{2} + 2 p z + z^{2}$"
        r"<br>for $p &gt; 1$, $p\ \text{positive}$, $z\ \text{complex}$</div>"
    )
    assert define("eq-a", "a name")._html() == (
        '<div style="overflow-x:auto">≔ <b>definition</b> <code>eq-a</code>: a name</div>'
    )


def test_the_page_shows_what_was_checked_and_no_seconds():
    for piece in every_kind():
        bundle = piece._repr_mimebundle_()
        assert piece.label in bundle["text/plain"] and piece.label in bundle["text/html"]
        assert not re.search(r"\d s\b|second", bundle["text/plain"] + bundle["text/html"])
    assert "&lt;" in prove("eq-lt", sp.log(1 + p), p, relation="<")._html()


def test_two_builds_print_the_same():
    code = """
import sympy as sp
from kexue_utils.evidence import prove
z, w = sp.symbols("z w"); k = sp.Symbol("k", integer=True); p = sp.Symbol("p", positive=True); f = sp.Function("f")
A = sp.MatrixSymbol("A", 2, 2); B = sp.MatrixSymbol("B", 2, 2)
for left, right in ((z + w)**2, z**2 + 2*z*w + w**2), (sp.gamma(p + 1), p*sp.gamma(p)), (sp.Trace(A*B), sp.Trace(B*A)), (f(z)*(w + 1), f(z)*w + f(z)):
    proof = prove("eq-a", left, right)
    print(proof._repr_mimebundle_()["text/html"], proof)
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] and "proved" in runs[0]


# ---------------------------------------------------------------- exact


def test_exact_checks_every_case():
    found = exact("eq-odd", range(1, 50), lambda n: (sum(range(1, 2 * n, 2)), n**2))
    assert (found.kind, found.resolution) == ("exact", 0.0)
    with pytest.raises(CheckFailed, match="false in case 41: left side 1681, right side 1682"):
        exact("eq-odd", range(1, 50), lambda n: (sum(range(1, 2 * n, 2)), n**2 + (n == 41)))


def test_exact_takes_fractions_matrices_polynomials_integrals_and_inequalities():
    assert exact("eq-a", [1, 2], lambda n: (Fraction(1, n), sp.Rational(1, n))).kind == "exact"
    shear = sp.Matrix([[1, 1], [0, 1]])
    assert exact("eq-b", [1, 2, 3], lambda n: (shear**n, sp.Matrix([[1, n], [0, 1]]))).kind == "exact"
    assert exact("eq-c", [2, 3], lambda n: ((z + 1) ** n, sp.expand((z + 1) ** n))).kind == "exact"
    assert (
        exact("eq-d", [1, 2], lambda n: (sp.Integral(p**n * sp.exp(-p), (p, 0, oo)), sp.factorial(n))).kind == "exact"
    )
    bound = exact("eq-e", [2, 3], lambda n: (sp.sqrt(n + 1) - sp.sqrt(n), "<", 1 / (2 * sp.sqrt(n))))
    assert 0 < bound.resolution < 0.2


@pytest.mark.parametrize(
    "relation, right, slack",
    [
        (">=", lambda n: n - 1, 0.5), (">", lambda n: n - 1, 0.5), ("<=", lambda n: n, 0), ("<=", sp.sqrt, None), ("<", lambda n: n, None),
    ],
)  # fmt: skip
def test_exact_knows_each_relation_and_its_smallest_slack(relation, right, slack):
    def check():
        return exact("eq-a", [2, 3], lambda n: (n, relation, right(n)))

    if slack is not None:
        assert check().resolution == slack
    else:
        with pytest.raises(CheckFailed, match=rf"false in case 2: left side 2, right side .* \(claimed {relation}\)\."):
            check()


def test_a_bound_of_0_has_no_relative_slack():
    assert exact("eq-a", [2, 3], lambda n: (-n, "<", 0)).resolution == 0
    assert exact("eq-a", [0, 1], lambda n: (-n, "<", 1)).resolution == 1


def test_equal_sides_that_are_no_fractions_are_equal_and_neither_below_nor_above():
    for relation in ("<=", ">=", "="):
        assert exact("eq-a", [2, 3], lambda n, r=relation: (sp.sqrt(n), r, sp.sqrt(n))).resolution == 0
    for relation in ("<", ">"):
        with pytest.raises(CheckFailed, match=r"left side sqrt.2., right side sqrt.2."):
            exact("eq-a", [2, 3], lambda n, r=relation: (sp.sqrt(n), r, sp.sqrt(n)))


@pytest.mark.parametrize(
    "cases, claim, message",
    [
        ([], lambda n: (n, n), "empty"),
        ([1, 1], lambda n: (n, n), "twice"),
        ([1, 2], lambda n: (n / 2, n / 2), "^eq-void, case 1: .* is a float"),
        ([1, 2], lambda n: (np.float64(n), n), "float"),
        ([1, 2], lambda n: (mpmath.mpf(n), n), "float"),
        ([1, 2], lambda n: (sp.Float(n) * z, n * z), "float"),
        ([1, 2], lambda n: n == n, "^eq-void, case 1: claim returned True; return the two sides"),
        ([1, 2], lambda n: None, "return the two sides"),
        (
            [1, 2],
            lambda n: (1, 1),
            r"^eq-void: both sides are the same in every case \(1 against 1\), so a wrong index would go unnoticed\. "
            r"Leave the part that depends on the case on each side\.$",
        ),
        ([1], lambda n: (sp.O(1), sp.O(1)), r"falsified claim O\(1\) = O\(1\) is accepted"),
        ([1, 2], lambda n: (sp.nan, n), "case 1: undefined side nan"),
        ([1, 2], lambda n: (n, sp.zoo), "case 1: undefined side zoo"),
        ([1, 2], lambda n: (-sp.oo, n), "case 1: undefined side -oo"),
        ([1, 2], lambda n: (sp.oo * n, sp.oo), "undefined"),
        ([1, 2], lambda n: (sp.ones(n + 1, 1), sp.ones(1, n + 1)), r"^eq-void, case 1: .*shapes differ"),
        ([1, 2], lambda n: (sp.Integral(f(x), (x, 0, n)), sp.Integral(f(y), (y, 0, n))), "unevaluated"),
    ],
)
def test_exact_refuses_what_cannot_fail(cases, claim, message):
    with pytest.raises(VacuousCheck, match=message):
        exact("eq-void", cases, claim)


@pytest.mark.parametrize("cases, claim", [(3, lambda n: (n, n)), ([1], (1, 1))])
def test_exact_names_what_is_no_list_and_no_function(cases, claim):
    with pytest.raises(TypeError, match=r"^cases and claim: a list and a function expected, .* and .* given$"):
        exact("eq-e", cases, claim)


def test_exact_does_not_rest_on_itself():
    with pytest.raises(ValueError, match="itself"):
        exact("eq-e", [1], lambda n: (n, n), using=["eq-e"])


def test_a_limit_is_shown_without_a_number_and_says_so():
    found = prove("eq-l", sp.Limit(sp.sin(x) / x, x, 0), 1)
    assert "; no numerical value could be tried; a falsified claim is rejected." in found.method


def test_exact_shows_the_first_and_the_last_case_unless_that_is_long():
    def shown(last: int) -> list[str]:
        """What is shown of two claims, the second of which takes `last` characters."""
        found = exact("eq-e", [1, 2], lambda n: (sp.Symbol("a" * ((last - 3) // 2 if n == 2 else 1)),) * 2)
        return found.checked.split(r";\quad \dots;\quad ")

    assert [len(line) for line in shown(159)] == [5, 159]
    assert [len(line) for line in shown(161)] == [5]
    assert len(exact("eq-e", [1], lambda n: (sp.Symbol("a" * 99),) * 2).checked) == 201


@pytest.mark.parametrize(
    "sides, error, message",
    [
        *(
            (sides, ValueError, r"^claim: .* expected for case 1, \(1, ?.* given$")
            for sides in [(1, "==", 2), (1, "<", 2, 3), (1,)]
        ),
        ((np.ones(2), 1), TypeError, "^lhs: .* ndarray given$"),
        ((True, 1), TypeError, "^lhs: an expression expected, the truth value True given$"),
        ((1, [1]), TypeError, r"^rhs: .* list given$"),
    ],
)
def test_exact_names_bad_sides(sides, error, message):
    with pytest.raises(error, match=message):
        exact("eq-bad", [1], lambda n: sides)


# ---------------------------------------------------------------- numeric

values = draw.lists(draw.floats(0.01, 100) | draw.floats(-100, -0.01), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(values, draw.floats(1e-12, 0.1), draw.floats(-0.9, 0.9), draw.data())
def test_a_numeric_claim_off_by_more_than_the_resolution_is_rejected(claim, rtol, miss, data):
    claim = np.array(claim)
    got = claim * (1 + miss * rtol)
    found = numeric("eq-n", got, claim, rtol=rtol, why="test")
    assert rtol <= found.resolution < 1
    off = claim.copy()
    entry = data.draw(draw.integers(0, len(claim) - 1))
    off[entry] *= 1 + data.draw(draw.sampled_from([-1, 1])) * found.resolution * 1.001
    with pytest.raises(CheckFailed, match=rf"eq-n: entry \(?.*{entry}"):
        numeric("eq-n", got, off, rtol=rtol, why="test")


@settings(max_examples=30, deadline=None)
@given(
    draw.lists(draw.floats(0.1, 10), min_size=1, max_size=4),
    draw.floats(0.01, 5),
    draw.sampled_from([("<=", 1), (">=", -1)]),
)
def test_a_bound_shifted_by_more_than_the_resolution_is_rejected(got, slack, direction):
    relation, sign = direction
    bound = np.array(got) + sign * slack
    assume(np.all(abs(bound) > 0.01))
    found = numeric("eq-n", got, bound, rtol=1e-9, relation=relation, why="test")
    with pytest.raises(CheckFailed):
        numeric(
            "eq-n", got, bound - sign * 1.001 * found.resolution * abs(bound), rtol=1e-9, relation=relation, why="test"
        )


def test_numeric_takes_numpy_torch_mpmath_and_sympy_numbers():
    torch = pytest.importorskip("torch")

    def ok(got, expected, rtol=1e-6, **more):
        return numeric("eq-n", got, expected, rtol=rtol, why="test", **more).resolution <= 2 * rtol

    assert ok(np.array(2.0), 2)
    assert ok([1 + 1j], [1 + 1j])
    assert ok(torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([1.0, 2.0]))
    assert ok(torch.ones(2, dtype=torch.bfloat16), [1.0, 1.0], rtol=0.05)
    assert ok(mpmath.mpc(1, 2), 1 + 2j)
    assert ok(sp.sqrt(2), 2**0.5)
    assert ok([np.pi, np.e], [sp.pi, sp.E])
    symmetric = np.array([[1.0, 2.0], [2.0, 3.0]])
    assert ok(symmetric, symmetric.T)
    with mpmath.workdps(40):
        third = mpmath.mpf(1) / 3
        assert ok(third * (1 + mpmath.mpf(10) ** -32), third, rtol=1e-30)
        with pytest.raises(CheckFailed):
            ok(third * (1 + mpmath.mpf(10) ** -28), third, rtol=1e-30)


def test_numeric_evaluates_sympy_expressions_to_thirty_digits():
    def ok(left, right, at, rtol=1e-25, **more):
        return numeric("eq-n", left, right, rtol=rtol, why="test", at=at, **more).kind == "numeric"

    double = (sp.sin(2 * x), 2 * sp.sin(x) * sp.cos(x))
    assert ok(*double, [{x: 1}, {x: 0.1}]) and ok(*double, {x: 2})
    assert ok(sp.sin(p), p, [{p: 1}], relation="<=")
    assert ok(sp.Integral(sp.exp(-(x**2)), (x, -oo, oo)), sp.sqrt(sp.pi), [{}])
    with pytest.raises(CheckFailed):
        ok(sp.cos(x), sp.cos(x) + sp.Rational(1, 10**24), [{x: 1}])


@pytest.mark.parametrize(
    "got, expected, arguments, message",
    [
        ([1.0], [1.0], {"rtol": 0.5}, "tolerance of half the value"),
        ([1.0], [1.0], {"rtol": 0}, "tolerance of half the value"),
        ([1.0], [1.0], {"rtol": float("nan")}, "rtol"),
        ([1.0], [1.0], {"rtol": 1e-16}, "finer"),
        ([1.25], [1.0], {"rtol": 0.375}, r"falsified claim is accepted as well.*resolution 1\)"),
        ([1.0], [1.6], {"rtol": 0.4}, r"falsified claim is accepted as well.*resolution 1\.29"),
        ([1.0], [1.0], {"rtol": 3.9 * 2.0**-52}, "finer"),
        (mpmath.mpf(1), mpmath.mpf(1), {"rtol": 3.9 * 2.0**-52}, "finer"),
        (np.float32([0.1]), np.array([0.1]), {"rtol": 1e-8}, "finer"),
        (np.array([0.1]), np.float32([0.1]), {"rtol": 1e-8}, "finer"),
        (np.float32([0.1]), np.float32([0.1]), {"rtol": 1e-8}, "finer"),
        ([float("nan")], [float("nan")], {}, "NaN"),
        ([float("inf")], [float("inf")], {}, "infinity"),
        ([mpmath.inf], [mpmath.inf], {}, "got has a NaN or an infinity"),
        ([1.0], [mpmath.inf], {}, "expected has a NaN or an infinity"),
        ([], [], {}, "empty"),
        (np.ones((3, 1)), np.ones((3, 3)), {}, r"got has shape \(3, 1\), expected \(3, 3\); .*broadcasting"),
        (np.ones(3), 1.0, {}, "broadcasting"),
        ([0.0, 1.0], [0.0, 1.0], {}, "scale="),
        ([0.1], [0.0], {"scale": 0}, "scale="),
        ([0.1], [0.0], {"scale": float("inf")}, "scale="),
        (sp.sin(x), sp.sin(x), {"at": [{x: 1}]}, "same expression"),
        (sp.sin(x), sp.cos(x), {"at": []}, "at is empty"),
        (sp.sin(2 * x), 2 * sp.sin(x) * sp.cos(x), {"at": [{x: 1}], "rtol": 1e-35}, "finer"),
        (sp.sin(2 * x), 2 * sp.sin(x) * sp.cos(x), {"at": [{x: 1}], "rtol": 0.9e-28}, "finer"),
        (sp.Integral(sp.sin(x) / x, (x, 0, oo)), sp.Integer(-4), {"at": [{}], "rtol": 0.1}, "30 digits"),
    ],
)
def test_numeric_refuses_what_cannot_fail(got, expected, arguments, message):
    with pytest.raises(VacuousCheck, match=message):
        numeric("eq-n", got, expected, **({"rtol": 1e-6, "why": "test"} | arguments))


@pytest.mark.parametrize(
    "got, expected, relation, message",
    [
        (
            [[1.0, 2.0], [3.5, 4.0]],
            [[1.0, 2.0], [3.0, 4.0]],
            "=",
            "entry (1, 0): got 3.5, expected = 3.0 within 0.001; 1 of 4",
        ),
        ([1.0, 2.0, 3.0], [1.0, 2.1, 3.1], "=", "entry (1,): got 2.0, expected = 2.1 within 0.001; 2 of 3"),
        (2.0, 1.0, "<=", "entry (): got 2.0, expected <= 1.0 within 0.001; 1 of 1"),
        (1.0, 2.0, ">=", "entry (): got 1.0, expected >= 2.0 within 0.001; 1 of 1"),
        ([1 + 1j], [1 - 1j], "=", "entry (0,): got (1+1j), expected = (1-1j) within 0.001; 1 of 1"),
    ],
)
def test_numeric_names_the_first_entry_that_misses_and_counts_them(got, expected, relation, message):
    with pytest.raises(CheckFailed, match=rf"^eq-n: {re.escape(message)} entries miss\.$"):
        numeric("eq-n", got, expected, rtol=1e-3, why="test", relation=relation)


def test_the_finest_tolerance_is_four_roundings_or_28_digits():
    assert numeric("eq-n", [1.0], [1.0], rtol=2.0**-50, why="test").resolution == approx(
        1.1 * 2.0**-50, rel=1e-6, abs=0
    )
    double = (sp.sin(2 * x), 2 * sp.sin(x) * sp.cos(x))
    assert numeric("eq-n", *double, at={x: 1}, rtol=1e-28, why="test").resolution == approx(1.1e-28, rel=1e-6, abs=0)


def test_digits_of_rounding_are_not_shown():
    found = [numeric("eq-n", [off, 1 + off], [0, 1], rtol=1e-14, scale=1, why="test") for off in (5e-17, -9e-16, 0)]
    assert len({(piece.checked, piece.details, piece.resolution) for piece in found}) == 1
    assert found[0].checked.startswith(r"0.0 \approx 0.0")


def test_a_bound_that_is_met_holds():
    for relation in ("<=", ">="):
        assert numeric("eq-n", 1.5, 1.5, rtol=1e-9, why="test", relation=relation).resolution == approx(
            1e-9, rel=1e-6, abs=0
        )


def test_a_deviation_as_large_as_the_tolerance_is_accepted():
    assert numeric("eq-n", 1.25, 1.0, rtol=0.25, why="test").kind == "numeric"
    assert numeric("eq-n", 1.25, 1.0, rtol=0.25, why="test", relation="<=").kind == "numeric"
    assert measured("eq-m", [1.25] * 3, 1.0, within=0.25, why="test", seeds=SEEDS).kind == "measured"


def test_numeric_refuses_an_array_against_itself():
    ones = np.ones((2, 3))
    for same in (ones, ones[:], ones.T.T):
        with pytest.raises(VacuousCheck, match="same array"):
            numeric("eq-n", ones, same, rtol=1e-6, why="test")


@pytest.mark.parametrize(
    "got, expected, arguments, error, message",
    [
        ([None], [1.0], {}, TypeError, "got: numbers expected, None given"),
        ([1.0], ["a"], {}, TypeError, "expected: numbers expected, dtype <U1 given"),
        (["a"], ["a"], {}, TypeError, "got"),
        ({1: 2}, {1: 2}, {}, TypeError, "got"),
        ([1.0], [1.0], {"why": " "}, ValueError, "why"),
        ([1.0], [1.0], {"relation": "<"}, ValueError, "relation"),
        ([1j], [2j], {"relation": "<="}, TypeError, "complex"),
        (sp.sin(z) * x, z, {"at": [{x: 1}]}, ValueError, r"^at: x = 1 leaves sin\(z\) without a value$"),
        (sp.sin(z), z, {"at": [{}]}, ValueError, r"^at: no point leaves sin\(z\) without a value$"),
        (sp.sqrt(p**2), sp.Integer(-1), {"at": [{p: -1}]}, ValueError, "p = -1 contradicts"),
        (sp.cos(sp.pi * n) ** 2 + x, x, {"at": [{n: Fraction(1, 2), x: 1}]}, ValueError, "n = 1/2 contradicts"),
        (sp.sin(z), z, {"at": [1]}, TypeError, "at"),
    ],
)
def test_numeric_names_bad_input(got, expected, arguments, error, message):
    with pytest.raises(error, match=message):
        numeric("eq-n", got, expected, **({"rtol": 1e-6, "why": "test"} | arguments))


def test_the_scale_of_a_zero_is_shown():
    found = numeric("eq-n", [1e-9], [0.0], rtol=1e-6, why="test", scale=1)
    assert ("scale where the claim is 0", "1") in found.details


# ---------------------------------------------------------------- sampled


@settings(max_examples=30, deadline=None)
@given(draw.integers(0, 10**6), draw.floats(0.5, 5), draw.sampled_from([-1, 1]), draw.sampled_from([200, 1000, 5000]))
def test_a_sampled_claim_off_by_more_than_the_resolution_is_rejected(seed, mean, sign, count):
    samples = np.random.default_rng(seed).normal(mean, 0.5, (2, count))
    claim = np.full(2, mean)
    found = sampled("eq-s", samples, claim, sigmas=6, seed=seed)
    claim[seed % 2] *= 1 + sign * 1.001 * found.resolution
    with pytest.raises(CheckFailed, match="standard errors"):
        sampled("eq-s", samples, claim, sigmas=6, seed=seed)


def test_a_true_claim_fails_as_often_as_said():
    rng = np.random.default_rng(1)
    failed = 0
    for samples in rng.normal(1, 0.3, (2000, 400)):
        try:
            sampled("eq-s", samples, 1.0, sigmas=2)
        except CheckFailed:
            failed += 1
    assert 60 < failed < 125  # 4.55 % of 2000 is 91, with a standard deviation of 9.3


def test_sampled_takes_booleans_complex_numbers_torch_and_sympy():
    torch = pytest.importorskip("torch")
    samples = np.random.default_rng(0).normal(size=20_000)
    assert sampled("eq-s", samples > 0, 0.5).kind == "sampled"
    assert sampled("eq-s", np.exp(1j * samples), np.exp(-0.5)).kind == "sampled"
    assert sampled("eq-s", 1j * abs(samples), sp.I * sp.sqrt(2 / sp.pi)).kind == "sampled"
    assert sampled("eq-s", torch.from_numpy(samples) ** 2, 1.0).kind == "sampled"
    assert sampled("eq-s", abs(samples), sp.sqrt(2 / sp.pi)).kind == "sampled"


def test_a_mean_that_is_off_is_named_with_its_distance_in_standard_errors():
    with pytest.raises(
        CheckFailed, match=r"^eq-s: the mean of 100 samples is 49\.5, claimed 70: -7\.1 standard errors, 4 allowed\.$"
    ):
        sampled("eq-s", np.stack([RAMP, RAMP, RAMP]), [50, 70, 40])
    with pytest.raises(
        CheckFailed, match=r"^eq-m: the mean of 3 runs is 1, claimed 1\.5: -86\.6 standard errors, 4 allowed\.$"
    ):
        measured("eq-m", RUNS, 1.5, standard_error=0.01, why="test", seeds=SEEDS)


def test_a_mean_known_to_less_than_its_own_size_is_evidence_whatever_its_sign():
    for sign in (-1, 1):
        assert sampled("eq-s", sign * (RAMP - 37), sign * 12.5).resolution == approx(0.928, rel=1e-3)


def test_between_two_and_six_standard_errors_may_be_accepted():
    for sigmas in (2, 6):
        assert f"within {sigmas} standard" in sampled("eq-s", RAMP + 100, 150, sigmas=sigmas).method
        theory = {"standard_error": 0.1, "why": "test", "seeds": SEEDS}
        assert f"within {sigmas} standard" in measured("eq-m", RUNS, 1.0, sigmas=sigmas, **theory).method


NORMAL = np.random.default_rng(0).normal(size=(1000, 120))


@pytest.mark.parametrize(
    "samples, expected, arguments, message",
    [
        (NORMAL[0, :99] + 5, 5.0, {}, "at least 100"),
        (5.0, 5.0, {}, "at least 100"),
        (np.append(NORMAL[0], np.nan), 1.0, {}, "^eq-s: samples has a NaN"),
        (NORMAL[0], np.nan, {}, "^eq-s: expected has a NaN"),
        (np.full(1000, 0.1), 0.1, {}, "do not vary"),
        (np.stack([NORMAL[0] + 5, np.ones(120)]), np.array([5.0, 1.0]), {}, "do not vary"),
        (NORMAL, np.zeros(120), {"scale": 1}, "broadcasting"),
        (NORMAL + 5, 5.0, {}, r"^eq-s: the means has shape \(1000,\), expected \(\); .*broadcasting"),
        (NORMAL[0], 0.0, {}, r"^eq-s: a claimed value is 0.*scale="),
        (RAMP - 41.5, 8.0, {}, "4 standard errors are 145% of the claimed value"),
        (100 * NORMAL[0] + 1, 1.0, {}, "Draw more samples"),
        (NORMAL[0] + 5, 5.0, {"sigmas": 1}, "sigmas"),
        (NORMAL[0] + 5, 5.0, {"sigmas": 7}, "sigmas"),
        (NORMAL[0] + 5, 5.0, {"sigmas": float("nan")}, "sigmas"),
    ],
)
def test_sampled_refuses_what_cannot_fail(samples, expected, arguments, message):
    with pytest.raises(VacuousCheck, match=message):
        sampled("eq-s", samples, expected, **arguments)


# ---------------------------------------------------------------- measured


@settings(max_examples=30, deadline=None)
@given(draw.floats(0.01, 0.3), draw.floats(0.3, 10), draw.sampled_from([-1, 1]), draw.booleans())
def test_a_measured_prediction_off_by_more_than_the_resolution_is_rejected(width, mean, sign, theory):
    runs = mean * np.array(RUNS)
    agreement = {"standard_error": mean * width / 4} if theory else {"within": width}
    found = measured("eq-m", runs, mean, why="test", seeds=SEEDS, **agreement)
    with pytest.raises(CheckFailed):
        measured("eq-m", runs, mean * (1 + sign * 1.001 * found.resolution), why="test", seeds=SEEDS, **agreement)


def test_measured_lists_prediction_and_outcome_of_every_setting():
    found = measured("eq-m", [RUNS, [2.0, 2.1, 1.9]], [1.0, 2.0], within=0.1, why="test", seeds=SEEDS)
    assert dict(found.details)["setting 2"] == "predicted 2, measured 2, spread 0.1"
    assert dict(found.details)["seeds"] == "0, 1, 2"


def test_measured_takes_intervals_and_sympy_numbers():
    assert measured("eq-m", RUNS, (0.5, sp.oo), why="test", seeds=SEEDS).checked.startswith(r"0.5 \le 1.0")
    assert measured("eq-m", [3.14, 3.15, 3.13], sp.pi, within=0.01, why="test", seeds=SEEDS).kind == "measured"
    with pytest.raises(CheckFailed, match=r"0.9 to 1.1, predicted between 0.95 and 2"):
        measured("eq-m", RUNS, (0.95, 2), why="test", seeds=SEEDS)


def test_runs_that_miss_are_said_with_what_is_allowed():
    settings = {"why": "test", "seeds": SEEDS}
    with pytest.raises(CheckFailed, match=r"^eq-m: measured 1, predicted 1\.5: off by 33\.33%, allowed 25\.00%\.$"):
        measured("eq-m", [RUNS, RUNS, RUNS], [1.3, 1.5, 1.2], within=0.25, **settings)
    with pytest.raises(CheckFailed, match=r"^eq-m: measured 0\.9 to 1\.1, predicted between 1 and 2\.$"):
        measured("eq-m", RUNS, (1, 2), **settings)
    with pytest.raises(CheckFailed, match="between 0 and 1"):
        measured("eq-m", RUNS, (0, 1), **settings)


def test_the_ends_of_an_interval_belong_to_it():
    assert measured("eq-m", RUNS, (0.9, 1.1), why="test", seeds=SEEDS).resolution == approx(0.2)


def test_an_interval_around_runs_of_0_is_infinitely_coarse():
    assert measured("eq-m", [0, 0, 0], (-1, 1), why="test", seeds=SEEDS).resolution > 1e299


@pytest.mark.parametrize(
    "runs, predicted, arguments, error, message",
    [
        ([1.0, 1.1], 1.0, {"within": 0.2, "seeds": [0, 1]}, VacuousCheck, "three seeds"),
        (RUNS, 1.0, {}, VacuousCheck, "one way"),
        (RUNS, 1.0, {"within": 0.2, "standard_error": 0.1}, VacuousCheck, "one way"),
        (RUNS, 1.0, {"within": 0.5}, VacuousCheck, "within"),
        (RUNS, 1.0, {"within": 0}, VacuousCheck, "within = 0 given"),
        (RUNS, 1.0, {"within": float("nan")}, VacuousCheck, "within"),
        (RUNS, 1.0, {"standard_error": 10.0}, VacuousCheck, "Draw more samples"),
        (RUNS, 1.0, {"standard_error": 0.0}, ValueError, "standard_error"),
        (RUNS, 0.0, {"within": 0.2}, VacuousCheck, "interval"),
        (RUNS, (-np.inf, np.inf), {}, VacuousCheck, "excludes nothing"),
        (RUNS, (1, 1), {}, VacuousCheck, "empty"),
        (RUNS, (2, 1), {}, VacuousCheck, "empty"),
        (RUNS, (0, np.nan), {}, VacuousCheck, "excludes nothing"),
        (RUNS, (0, 1, 2), {}, ValueError, "interval"),
        ([1j, 2j, 3j], (0, 1), {}, TypeError, "^runs: real numbers expected for an interval, complex ones given$"),
        ([1.0, 1.1, np.nan], 1.0, {"within": 0.2}, VacuousCheck, "NaN"),
        ([RUNS, RUNS], 1.0, {"within": 0.2}, VacuousCheck, "broadcasting"),
        ([RUNS, RUNS], [1.0, 1.0], {"standard_error": 0.1}, VacuousCheck, "broadcasting"),
        (RUNS, 1.0, {"within": 0.2, "seeds": [0, 0, 1]}, ValueError, "different seeds"),
        (RUNS, 1.0, {"within": 0.2, "why": ""}, ValueError, "why"),
        (RUNS, 1.0, {"standard_error": 0.1, "sigmas": 6.1}, VacuousCheck, "sigmas"),
        (RUNS, 1.0, {"standard_error": 0.1, "sigmas": 1.9}, VacuousCheck, "sigmas"),
        (1.0, 1.0, {"within": 0.2}, VacuousCheck, "three seeds"),
    ],
)
def test_measured_refuses(runs, predicted, arguments, error, message):
    with pytest.raises(error, match=message):
        measured("eq-m", runs, predicted, **({"why": "test", "seeds": SEEDS} | arguments))


# ---------------------------------------------------------------- refute, cite, define


@pytest.mark.parametrize(
    "claim, at",
    [
        (((z + w) ** 2, z**2 + w**2), {z: 1, w: 1}),
        (sp.Gt(x**2, x), {x: sp.Rational(1, 2)}),
        (sp.Lt(x, 1), {x: 1}),
        (sp.Ne(z, w), {z: 1, w: 1}),
        ((sp.Sum(k, (k, 1, n)), n**2), {n: 3}),
        (
            (MATRIX_A * MATRIX_B, MATRIX_B * MATRIX_A),
            {sp.Symbol("A_01"): 1, sp.Symbol("B_10"): 1}
            | {
                sp.Symbol(f"{m}_{i}"): 0
                for m, i in [("A", "00"), ("A", "10"), ("A", "11"), ("B", "00"), ("B", "01"), ("B", "11")]
            },
        ),
    ],
)
def test_refutes(claim, at):
    found = refute("eq-r", claim, at)
    assert found.kind == "refuted" and "False at" in found.method


@pytest.mark.parametrize(
    "relation, refuted, held",
    [
        (sp.Eq, [0, 2], [1]),
        (sp.Ne, [1], [0, 2]),
        (sp.Lt, [1, 2], [0]),
        (sp.Le, [2], [0, 1]),
        (sp.Gt, [0, 1], [2]),
        (sp.Ge, [0], [1, 2]),
    ],
)
def test_every_relation_with_1_is_refuted_where_it_is_false_and_only_there(relation, refuted, held):
    for value in refuted:
        assert refute("eq-r", relation(x, 1), {x: value}).kind == "refuted"
    for value in held:
        message = rf"^eq-r: the claim is not false at x = {value}: the sides are {value} and 1\.$"
        with pytest.raises(CheckFailed, match=message):
            refute("eq-r", relation(x, 1), {x: value})


def test_numbers_that_differ_beyond_20_digits_are_not_told_apart():
    assert refute("eq-r", (sp.pi, sp.pi + sp.Rational(1, 10**18)), {}).kind == "refuted"
    with pytest.raises(CheckFailed, match=r"^eq-r: the claim is not false: the sides are 3\.1415927 and 3\.1415927\.$"):
        refute("eq-r", (sp.pi, sp.pi + sp.Rational(1, 10**21)), {})
    with pytest.raises(CheckFailed, match="not false"):
        refute("eq-r", (10**30 * sp.pi, 10**30 * sp.pi + 1), {})
    assert refute("eq-r", (0, sp.Rational(15, 10**21)), {}).kind == "refuted"
    with pytest.raises(CheckFailed, match="not false"):
        refute("eq-r", (0, sp.Rational(9, 10**21)), {})


def test_matrices_refute_words_and_give_n_its_value():
    shear, flip = sp.Matrix([[1, 1], [0, 1]]), sp.Matrix([[0, 1], [1, 0]])
    assert refute("eq-r", (P * Q, Q * P), {P: shear, Q: flip}).kind == "refuted"
    assert refute("eq-r", (words.Tr(P * P**-1), 3), {P: shear}).method.endswith("the left side is 2, the right side 3.")
    with pytest.raises(CheckFailed, match="not false"):
        refute("eq-r", (words.Tr(P * P**-1), 2), {P: shear})


@pytest.mark.parametrize("claim", [(x, "1"), ("1", x)])
def test_refute_names_a_side_that_is_no_expression(claim):
    with pytest.raises(TypeError, match=r"^claim: a SymPy expression .* str given$"):
        refute("eq-r", claim, {x: 1})


def test_matrices_are_not_different_only_if_all_their_entries_agree():
    shear, lower = sp.Matrix([[1, 1], [0, 1]]), sp.Matrix([[1, 0], [1, 1]])
    assert refute("eq-r", sp.Ne(P * Q, Q * P), {P: shear, Q: shear**2}).kind == "refuted"
    with pytest.raises(CheckFailed, match=r"^eq-r: the claim is not false at .*: the sides are 2 and 1\.$"):
        refute(
            "eq-r", sp.Ne(P * Q, Q * P), {P: shear, Q: lower}
        )  # their other diagonal entries differ, the rest agrees


@settings(max_examples=30, deadline=None)
@given(draw.integers(-20, 20), draw.integers(-20, 20), draw.integers(1, 9))
def test_a_true_identity_is_never_refuted(u, v, d):
    with pytest.raises(CheckFailed, match="not false"):
        refute("eq-r", ((x + y) ** 2, x**2 + 2 * x * y + y**2), {x: sp.Rational(u, d), y: sp.Rational(v, d)})
    with pytest.raises(CheckFailed, match="not false"):
        refute("eq-r", sp.Ge(x**2 + y**2, 2 * x * y), {x: sp.Rational(u, d), y: sp.Rational(v, d)})


@pytest.mark.parametrize(
    "claim, at, error, message",
    [
        ((3 * z, sp.Rational(3, 10)), {z: 0.1}, VacuousCheck, "float"),
        ((sp.Float(0.1) * z, sp.Rational(1, 10)), {z: 1}, VacuousCheck, "float"),
        ((sp.Mod(n**2 + n, 2), 0), {n: sp.Rational(1, 2)}, ValueError, "n = 1/2 contradicts"),
        (sp.Gt(p, 1), {p: 0}, ValueError, "p = 0 contradicts"),
        ((z * w, z + w), {z: 1}, VacuousCheck, "no value"),
        ((1 / z, z), {z: 0}, VacuousCheck, "no value"),
        ((z, w), {z: sp.oo, w: 1}, VacuousCheck, "no value"),
        ((sp.Integral(sp.exp(sp.sin(x**2)), (x, 0, z)), z), {z: 1}, VacuousCheck, "no value"),
        (
            (sp.cos(x * sp.pi / 7) - sp.cos(2 * sp.pi * x / 7) + sp.cos(3 * sp.pi * x / 7), sp.Rational(1, 2)),
            {x: 1},
            CheckFailed,
            "not false",
        ),
        (sp.Gt(z, 0), {z: sp.I}, TypeError, "real numbers"),
        ("z = 1", {z: 1}, TypeError, "claim"),
        ((z, w), [1, 2], TypeError, "at"),
    ],
)
def test_refute_refuses(claim, at, error, message):
    with pytest.raises(error, match=message):
        refute("eq-r", claim, at)


def test_a_predicate_is_refuted_where_it_is_false_and_was_true_before():
    found = refute("eq-r", lambda n: n < 5, 7, holds_at=[1, 2])
    assert found.method == "False at 7, though true in 2 cases, from 1 to 2."
    assert 0 <= found.seconds < 10


@pytest.mark.parametrize(
    "claim, holds_at, error, message",
    [
        (lambda n: n < 5, None, VacuousCheck, "eq-r: give holds_at, cases in which the claim is true"),
        (lambda n: n == 1, [1, 2], VacuousCheck, "eq-r: the claim is false at 2 too"),
        (lambda n: True, [1], CheckFailed, "eq-r: the claim is true at 7"),
        (
            lambda n: None if n == 7 else True,
            [1],
            TypeError,
            "claim: a predicate that returns True or False expected, .None, True. returned",
        ),
        (
            lambda n: float("nan"),
            [1],
            TypeError,
            "claim: a predicate that returns True or False expected, .nan, nan. returned",
        ),
    ],
)
def test_a_predicate_that_says_nothing_is_refused(claim, holds_at, error, message):
    with pytest.raises(error, match=message):
        refute("eq-r", claim, 7, holds_at=holds_at)


@pytest.mark.parametrize(
    "key, where", [("", "p. 1"), ("key", " "), (None, "p. 1"), ("two keys", "p. 1"), ("key", None)]
)
def test_cite_says_where(key, where):
    cited = cite("eq-c", "key", "p. 1")
    assert (cited.citation, cited.checked) == ("key", "")
    with pytest.raises(ValueError, match="eq-c"):
        cite("eq-c", key, where)


@pytest.mark.parametrize("meaning", ["", "  ", None])
def test_define_says_what(meaning):
    defined = define("eq-d", "the angle")
    assert (defined.resolution, defined.checked) == (None, "")
    with pytest.raises(ValueError, match="eq-d"):
        define("eq-d", meaning)


REFUSALS = {  # of `measured`: what is changed in a call that passes, and the whole message
    "no number of sigmas": ({"sigmas": "4"}, TypeError, "sigmas: a number expected, '4' given"),
    "many sigmas": ({"sigmas": 7}, VacuousCheck, "eq-m: sigmas = 7 given, between 2 and 6 expected."),
    "words for runs": ({"runs": ["a", "b", "c"]}, TypeError, "runs: numbers expected, dtype <U1 given"),
    "a run that failed": ({"runs": [1, 2, math.nan]}, VacuousCheck, "eq-m: runs has a NaN or an infinity."),
    "one run": (
        {"runs": 1.0},
        VacuousCheck,
        "eq-m: at least three seeds are needed to see a spread; runs has shape ().",
    ),
    "two runs": (
        {"runs": [1, 2]},
        VacuousCheck,
        "eq-m: at least three seeds are needed to see a spread; runs has shape (2,).",
    ),
    "a number of seeds": ({"seeds": 3}, TypeError, "seeds: a list expected, 3 given"),
    "a seed twice": ({"seeds": [0, 1, 1]}, ValueError, "seeds: 2 different seeds given for 3 runs"),
    "no way to disagree": (
        {"within": None},
        VacuousCheck,
        "eq-m: say in one way what would disagree: standard_error=, within=, or predicted=(low, high).",
    ),
    "an empty interval": (
        {"predicted": (2, 1), "within": None},
        VacuousCheck,
        "eq-m: predicted interval (2.0, 1.0) excludes nothing or is empty.",
    ),
    "outside of the interval": (
        {"predicted": (2, 3), "within": None},
        CheckFailed,
        "eq-m: measured 0.9 to 1.1, predicted between 2 and 3.",
    ),
    "words predicted": ({"predicted": "one"}, TypeError, "predicted: numbers expected, dtype <U3 given"),
    "infinity predicted": ({"predicted": math.inf}, VacuousCheck, "eq-m: predicted has a NaN or an infinity."),
    "zero predicted": (
        {"predicted": 0},
        VacuousCheck,
        "eq-m: 0 is predicted, which has no relative error; predict an interval (low, high).",
    ),
    "two predicted, one measured": (
        {"predicted": [1, 1]},
        VacuousCheck,
        "eq-m: the means of the runs has shape (), predicted (2,); give both the same shape, broadcasting hides mistakes.",
    ),
    "words for an error": (
        {"within": None, "standard_error": "small"},
        TypeError,
        "standard_error: numbers expected, dtype <U5 given",
    ),
    "an infinite error": (
        {"within": None, "standard_error": math.inf},
        VacuousCheck,
        "eq-m: standard_error has a NaN or an infinity.",
    ),
    "two errors, one mean": (
        {"within": None, "standard_error": [1, 1]},
        VacuousCheck,
        "eq-m: the means of the runs has shape (), standard_error (2,); give both the same shape, broadcasting hides mistakes.",
    ),
    "a negative error": (
        {"within": None, "standard_error": -1},
        ValueError,
        "standard_error: positive expected, -1.0 given",
    ),
    "many standard errors off": (
        {"within": None, "standard_error": 0.01, "predicted": 1.5},
        CheckFailed,
        "eq-m: the mean of 3 runs is 1, claimed 1.5: -86.6 standard errors, 4 allowed.",
    ),
    "an error as large as the value": (
        {"within": None, "standard_error": 1},
        VacuousCheck,
        "eq-m: 4 standard errors are 231% of the claimed value, so even 0 or its double would pass. Draw more samples.",
    ),
    "no number within": ({"within": "0.1"}, TypeError, "within: a number expected, '0.1' given"),
    "within half": ({"within": 0.5}, VacuousCheck, "eq-m: within = 0.5 given; choose 0 < within < 0.5."),
    "off by a third": (
        {"predicted": 1.5},
        CheckFailed,
        "eq-m: measured 1, predicted 1.5: off by 33.33%, allowed 20.00%.",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_measurement_that_is_refused_says_why(name):
    changed, error, message = REFUSALS[name]
    right = {"runs": RUNS, "predicted": 1.0, "within": 0.2, "why": "theory", "seeds": SEEDS}
    assert measured("eq-m", **right).kind == "measured"
    with pytest.raises(error) as raised:
        measured("eq-m", **right | changed)
    assert str(raised.value) == message


def test_every_public_name_is_covered_here():
    assert set(evidence.__all__) <= set(globals()) | {"Evidence"}
