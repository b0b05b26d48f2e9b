"""How `evidence.prove` closes a goal: a short, ordered list of named strategies.

A *strategy* is a function that takes the difference ``d = lhs - rhs`` of a claimed equation and rewrites it. The goal is closed when
what comes back is literally 0. Those here may return ``d`` times something that is never 0, but never turn a non-zero value into 0;
one that a caller brings has to leave the value as it is. `prove` tries every strategy on a falsified claim too, and does not accept
one that closes both. Its name is shown on the page.

`DEFAULT` is the order in which they are tried, cheapest first:

====================  =====================================================================
`polynomial`          multiply out; common denominator; cancel
`cases`               absolute values, signs, maxima and minima case by case
`trigonometric`       addition theorems, then sin² + cos² = 1; or everything as exponentials
`powers`              divide by one term, one base, one exponent; logarithms expanded or exponentiated
`gamma`               factorials, binomials, Beta, polygamma: recurrences and reflection
`simplify`            SymPy's own collection of heuristics
====================  =====================================================================

Three steps come before them: `evaluate` works out integrals, sums, limits and derivatives, `decide` drops the cases that the stated
bounds (``n > 1``) exclude, and `shift` turns the bounds into assumptions that SymPy can use. A sum with a symbolic upper limit is
first tried by `induction`. A caller adds strategies with ``prove(..., by=[...])``; they come first, and a long proof that is known
to end with one of these is shorter with, say, ``by=strategies.powers``. Two are only for that, for sums and products that stay
unevaluated because their length or their terms are unknown: `sums` and `products`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, wraps

import sympy as sp
from sympy.calculus.util import continuous_domain
from sympy.core.relational import Relational

__all__ = [
    "DEFAULT",
    "Strategy",
    "cases",
    "gamma",
    "polynomial",
    "powers",
    "products",
    "simplify",
    "sums",
    "trigonometric",
]

Strategy = Callable[[sp.Expr], sp.Expr]

UNEVALUATED = (sp.Integral, sp.Sum, sp.Product, sp.Limit)
STEPS = (sp.Piecewise, sp.Abs, sp.sign, sp.Max, sp.Min, sp.floor, sp.ceiling, sp.frac, sp.Mod, sp.Heaviside, sp.arg)


def _of_expressions(strategy: Strategy) -> Strategy:
    """The strategy after a check that it is given an expression."""

    @wraps(strategy)
    def checked(d: sp.Expr) -> sp.Expr:
        if not isinstance(d, sp.Expr):
            raise TypeError(f"d: a SymPy expression expected, {d!r} given")
        return strategy(d)

    return checked


@_of_expressions
def polynomial(d: sp.Expr) -> sp.Expr:
    """Multiply out, then bring over a common denominator and cancel."""
    expanded = sp.expand(d)
    return expanded if expanded == 0 else sp.cancel(sp.together(expanded))


@_of_expressions
def cases(d: sp.Expr) -> sp.Expr:
    """Absolute values, signs, maxima and minima case by case."""
    if not d.has(*STEPS):
        return d
    return sp.simplify(sp.piecewise_fold(d.rewrite(sp.Piecewise)))


@_of_expressions
def trigonometric(d: sp.Expr) -> sp.Expr:
    """Addition theorems and Pythagoras; failing that, complex exponentials."""
    if not d.has(sp.functions.elementary.trigonometric.TrigonometricFunction, sp.exp, sp.sinh, sp.cosh, sp.tanh):
        return d
    reduced = sp.trigsimp(sp.expand_trig(sp.expand(d)))
    return reduced if reduced == 0 else _with_exponentials(d.rewrite(sp.exp))


def _with_exponentials(d: sp.Expr) -> sp.Expr:
    expanded = sp.expand(sp.powsimp(sp.expand(d)))
    return expanded if expanded == 0 else sp.expand(sp.powsimp(sp.expand(sp.numer(sp.together(expanded)))))


@_of_expressions
def powers(d: sp.Expr) -> sp.Expr:
    """Powers with symbolic exponents: divide by one term, so that the common power goes; logarithms expanded or exponentiated."""
    if d.has(sp.log) and d.is_extended_real:
        grown = _with_exponentials(sp.exp(d) - 1)  # for a real d, 0 exactly when d is
        if grown == 0:
            return grown
    ratio = _over_first_term(
        sp.expand_log(sp.powdenest(d)), lambda quotient: sp.powsimp(sp.powdenest(sp.powsimp(quotient)))
    )
    return trigonometric(ratio) if ratio != 0 else ratio


@_of_expressions
def gamma(d: sp.Expr) -> sp.Expr:
    """Recurrence and reflection of the Gamma function, after dividing by one term of the difference."""
    if d.has(sp.polygamma, sp.loggamma):
        expanded = sp.expand(sp.expand_func(d.replace(sp.polygamma, _polygamma)))
        return expanded if expanded == 0 else sp.simplify(expanded)
    if not d.has(sp.gamma, sp.factorial, sp.binomial, sp.beta, sp.RisingFactorial, sp.FallingFactorial):
        return d
    ratio = _over_first_term(
        sp.expand_func(d.replace(sp.beta, _beta).rewrite(sp.gamma)), lambda quotient: sp.gammasimp(sp.powsimp(quotient))
    )
    return ratio if ratio == 0 else sp.simplify(ratio)


def _polygamma(order: sp.Expr, z: sp.Expr) -> sp.Expr:
    """Polygamma with the fractional part of the shift in its argument, its value at one half; SymPy does both for integers only."""
    shift, rest = z.as_coeff_Add()
    if not (shift.is_Rational and order.is_Integer and order > 0):
        return sp.polygamma(order, z)
    w, fraction = sp.Dummy("w", positive=True), shift - sp.floor(shift)
    half = (-1) ** (order + 1) * sp.factorial(order) * (2 ** (order + 1) - 1) * sp.zeta(order + 1)
    expanded = sp.expand_func(sp.polygamma(order, w + sp.floor(shift))).subs(w, rest + fraction)
    return expanded.subs(sp.polygamma(order, sp.Rational(1, 2)), half)


def _beta(p: sp.Expr, q: sp.Expr | None = None) -> sp.Expr:
    q = p if q is None else q
    return sp.gamma(p) * sp.gamma(q) / sp.gamma(p + q)


def _over_first_term(d: sp.Expr, tidy: Callable[[sp.Expr], sp.Expr]) -> sp.Expr:
    d = sp.expand(d)
    terms = sp.Add.make_args(d)
    return d if d == 0 else sp.expand(sum(tidy(term / terms[0]) for term in terms))


@_of_expressions
def simplify(d: sp.Expr) -> sp.Expr:
    """SymPy's `simplify`."""
    return sp.simplify(d)


@_of_expressions
def sums(d: sp.Expr) -> sp.Expr:
    """Finite sums of any length by the distributive law: one sum for each term, taken apart where its indices do not meet.

    Indices get standard names and the order that comes first in the alphabet, so that equal sums become the same expression.
    Infinite sums, and sums whose limits depend on another index, are left as they are: their terms must not be rearranged freely.

    Examples
    --------
    >>> i, j, n = sp.symbols("i j n", integer=True, positive=True)
    >>> a = sp.Function("a")
    >>> total = sp.Sum(a(i), (i, 1, n))
    >>> sums(sp.Sum((a(i) - a(j)) ** 2, (i, 1, n), (j, 1, n)) - 2 * n * sp.Sum(a(i) ** 2, (i, 1, n)) + 2 * total**2)
    0
    """
    return sp.expand(sp.Add(*(sp.Mul(number, *_apart(limits, term)) for number, limits, term in _in_one_sum(d))))


def _may_rearrange(e: sp.Basic, bound: frozenset[sp.Symbol] = frozenset()) -> bool:
    """Whether an expression is a finite sum or product whose limits are free of its own indices and of those of sums around it."""
    if not isinstance(e, (sp.Sum, sp.Product)) or not all(len(limit) == 3 for limit in e.limits):
        return False
    indices, ends = bound | {limit[0] for limit in e.limits}, [end for limit in e.limits for end in limit[1:]]
    return not any(end.is_infinite or end.free_symbols & indices for end in ends)


def _in_one_sum(
    d: sp.Expr, bound: frozenset[sp.Symbol] = frozenset()
) -> Iterator[tuple[sp.Expr, list[tuple], sp.Expr]]:
    """The terms of an expanded expression, each as one sum: the factors outside, the limits and the summand."""
    for term in sp.Add.make_args(sp.expand(d)):
        outside, limits, summand = sp.S.One, [], sp.S.One
        for factor in sp.Mul.make_args(term):
            base, power = factor.as_base_exp()
            if not (isinstance(base, sp.Sum) and _may_rearrange(base, bound) and power.is_Integer and power > 0):
                # not below another sum, where an index that is renamed here could meet one that is renamed later
                outside *= sums(base) ** power if base.is_Add and not bound else factor
                continue
            for _ in range(power):
                fresh = {limit[0]: sp.Dummy(integer=True) for limit in base.limits}
                limits += [(fresh[index], *ends) for index, *ends in base.limits]
                summand *= base.function.subs(fresh)
        if not limits:
            yield outside, [], sp.S.One
            continue
        for more_outside, more_limits, inner in _in_one_sum(summand, bound | {index for index, *_ in limits}):
            yield outside, limits + more_limits, more_outside * inner


def _apart(limits: list[tuple], term: sp.Expr) -> Iterator[sp.Expr]:
    """Factors of a sum over several indices: one sum for each set of indices that hang together."""
    factors = list(sp.Mul.make_args(term))
    while limits:
        group, linked = [], {limits[0][0]}
        while new := [f for f in factors if f not in group and f.free_symbols & linked]:
            group += new
            linked |= set().union(*(f.free_symbols for f in new)) & {index for index, *_ in limits}
        mine, limits = [x for x in limits if x[0] in linked], [x for x in limits if x[0] not in linked]
        factors = [f for f in factors if f not in group]
        yield _in_standard_order(sp.Mul(*group), mine) if group else mine[0][2] - mine[0][1] + 1
    yield from factors


def _in_standard_order(summand: sp.Expr, limits: list[tuple]) -> sp.Sum:
    names = [sp.Dummy(f"i_{place}", integer=True, dummy_index=-1 - place) for place in range(len(limits))]
    orders = [
        sp.Sum(
            summand.subs({index: name for (index, *_), name in zip(order, names, strict=True)}),
            *[(name, *ends) for (_, *ends), name in zip(order, names, strict=True)],
        )
        for order in itertools.permutations(limits)
    ]
    return min(orders, key=str)


@_of_expressions
def products(d: sp.Expr) -> sp.Expr:
    """Finite products over any window of indices: the window moved to 1, 2, ..., and one product for each factor and its integer power.

    Examples
    --------
    >>> k, t = sp.symbols("k t", integer=True, positive=True)
    >>> a = sp.Function("a")
    >>> again = sp.Product(a(t - k), (t, k + 1, 2 * k))
    >>> products(sp.Product(a(t), (t, 1, k)) * again / sp.Product(a(t) ** 2, (t, 1, k)))
    1
    """

    def may_be_taken_apart(e: sp.Basic) -> bool:
        return (
            isinstance(e, sp.Product) and len(e.limits) == 1 and _may_rearrange(e) and not e.function.has(*UNEVALUATED)
        )

    def apart(product: sp.Product) -> sp.Expr:
        ((index, first, last),) = product.limits
        length = last - first + 1
        factors = sp.Mul.make_args(product.function.subs(index, index + first - 1))
        powers = [f.as_base_exp() for f in factors]
        # (a b)^c = a^c b^c for an integer c only, and only for a c that is the same in all factors
        powers = [
            (b, c) if c.is_integer and not c.has(index) else (f, sp.S.One)
            for f, (b, c) in zip(factors, powers, strict=True)
        ]
        return sp.Mul(
            *(
                (sp.Product(base, (index, 1, length)) if base.has(index) else base**length) ** power
                for base, power in powers
            )
        )

    return sp.expand(d.replace(may_be_taken_apart, apart))


DEFAULT: tuple[Strategy, ...] = (polynomial, cases, trigonometric, powers, gamma, simplify)


@lru_cache(maxsize=1024)
def evaluate(expr: sp.Basic) -> sp.Basic:
    """Work out every integral, sum, product, limit and derivative that SymPy can."""
    expr = expr.doit()
    return sp.piecewise_fold(expr) if expr.has(sp.Piecewise) else expr


def induction(total: sp.Sum, closed: sp.Expr) -> list[sp.Expr]:
    """Differences that have to vanish for ``total == closed`` by induction over the upper limit of the sum.

    Parameters
    ----------
    total : Sum over one index whose upper limit is an integer symbol ``n``.
    closed : the closed form claimed, in ``n``.

    Returns
    -------
    The base case (``n`` at the lower limit; one below, the empty sum, where the assumptions on ``n`` leave room for it) and the step
    from ``n`` to ``n + 1``; empty when the sum has another shape.
    """
    upper = upper_limit(total)
    if upper is None:
        return []
    index, lower, _ = total.limits[0]
    starts_empty = not (upper - lower).is_nonnegative
    base = (
        -closed.subs(upper, lower - 1)
        if starts_empty
        else total.function.subs(index, lower) - closed.subs(upper, lower)
    )
    step = closed.subs(upper, upper + 1) - closed - total.function.subs(index, upper + 1)
    return [base, step]


def upper_limit(total: sp.Expr) -> sp.Symbol | None:
    """The integer symbol that is the upper limit of a single sum, if it is only there."""
    if not isinstance(total, sp.Sum) or len(total.limits) != 1:
        return None
    _, lower, upper = total.limits[0]
    return (
        upper if upper.is_Symbol and upper.is_integer and not (total.function.has(upper) or lower.has(upper)) else None
    )


def decide(expr: sp.Basic, given: Iterable[sp.Basic]) -> sp.Basic:
    """Drop the branches of piecewise expressions that the assumptions exclude: a geometric series knows that ``|x| < 1``."""
    given = list(given)
    asked = {c for p in expr.atoms(sp.Piecewise) for _, condition in p.args for c in condition.atoms(Relational)}
    answers = {c: sp.true for c in asked if _follows(c, given)}
    answers |= {c: sp.false for c in asked - answers.keys() if _follows(sp.Not(c), given)}
    return expr.xreplace(answers) if answers else expr


def _follows(condition: sp.Basic, given: list[sp.Basic]) -> bool:
    if condition in given or getattr(condition, "reversed", None) in given:
        return True
    if not isinstance(condition, (sp.Gt, sp.Ge, sp.Lt, sp.Le)):
        return False
    strict = isinstance(condition, (sp.Gt, sp.Lt))
    small, large = condition.lts, condition.gts
    if isinstance(small, sp.Abs) and small.args[0].is_extended_real:
        return all(_sign_follows(large - e, given, strict) for e in (small.args[0], -small.args[0]))
    return _sign_follows(large - small, given, strict)


def bounds(given: Iterable[sp.Basic]) -> dict[sp.Symbol, sp.Interval]:
    """The intervals that the stated inequalities leave to single symbols: ``{n: Interval.open(1, oo)}`` for ``n > 1``."""
    intervals: dict[sp.Symbol, sp.Interval] = {}
    for relation in given:
        for symbol, interval in _one_sided(relation):
            known = intervals.get(symbol, _own_interval(symbol))
            intervals[symbol] = known.intersect(interval)
    return intervals


def _own_interval(symbol: sp.Symbol) -> sp.Interval:
    if symbol.is_nonnegative:
        return sp.Interval(0, sp.oo, left_open=bool(symbol.is_positive))
    if symbol.is_nonpositive:
        return sp.Interval(-sp.oo, 0, right_open=bool(symbol.is_negative))
    return sp.Interval(-sp.oo, sp.oo)


def _one_sided(relation: sp.Basic) -> Iterator[tuple[sp.Symbol, sp.Interval]]:
    if isinstance(relation, sp.And):
        for part in relation.args:
            yield from _one_sided(part)
    elif isinstance(relation, (sp.Gt, sp.Ge, sp.Lt, sp.Le)):
        strict = isinstance(relation, (sp.Gt, sp.Lt))
        small, large = relation.lts, relation.gts
        if large.is_Symbol and small.is_number:
            yield large, sp.Interval(small, sp.oo, left_open=strict)
        elif small.is_Symbol and large.is_number:
            yield small, sp.Interval(-sp.oo, large, right_open=strict)


def shift(expr: sp.Basic, given: Iterable[sp.Basic]) -> sp.Basic:
    """Write each bounded symbol in terms of a positive one, so that SymPy knows the stated bounds.

    ``x > a`` becomes ``x = a + p`` and ``a < x < b`` becomes ``x = (a + b p)/(1 + p)`` with a new ``p > 0``; integers stay integers.
    """
    replacements = {}
    for symbol, interval in bounds(given).items():
        written = _in_terms_of_positive(symbol, interval)
        if written is not None:
            replacements[symbol] = written
    return expr.subs(replacements, simultaneous=True)


def _in_terms_of_positive(symbol: sp.Symbol, interval: sp.Set) -> sp.Expr | None:
    if isinstance(interval, sp.FiniteSet) and len(interval) == 1:
        return interval.args[0]
    if not isinstance(interval, sp.Interval):
        return None
    low, high = interval.start, interval.end
    if symbol.is_integer:
        p = sp.Dummy(symbol.name, integer=True, nonnegative=True)
        first = low + 1 if interval.left_open else low
        return first + p if first.is_integer and high.is_infinite else None
    p = sp.Dummy(symbol.name, positive=True) if interval.left_open else sp.Dummy(symbol.name, nonnegative=True)
    if low.is_finite and high.is_finite:
        return (low + high * p) / (1 + p) if interval.right_open else None
    if low.is_finite:
        return low + p
    p = sp.Dummy(symbol.name, positive=True) if interval.right_open else sp.Dummy(symbol.name, nonnegative=True)
    return high - p if high.is_finite else None


BY_SIGN = "sign of every factor"
BY_SLOPE = "starts at or above 0 and increases"
BY_LEAST = "least value at an end or where the derivative vanishes"
BY_SOLVING = "the opposite inequality has no solution"


def is_positive(d: sp.Expr, given: Iterable[sp.Basic], strict: bool, argument: str | None = None) -> str | None:
    """Name of the argument that shows ``d > 0`` (``d >= 0`` unless `strict`) under the stated bounds; None if none is found.

    Tried in order, or only the `argument` named: the sign that SymPy infers from the assumptions, for `d` as it stands, multiplied
    out, factored and simplified. For one real symbol then: `d` is smooth, starts at 0 or above at the lower end of its interval and
    has a positive derivative (found the same way, up to three times); `d` is smooth and nowhere negative at the ends and where its
    derivative vanishes; and last, the set of solutions of the opposite inequality is empty.
    """
    given = list(given)

    def tried(name: str) -> bool:
        return argument in (None, name)

    if tried(BY_SIGN) and _sign_follows(d, given, strict):
        return BY_SIGN
    if len(d.free_symbols) != 1:
        return None
    (x,) = d.free_symbols
    interval = bounds(given).get(x, _own_interval(x))
    if not x.is_extended_real or not isinstance(interval, sp.Interval):
        return None
    if (tried(BY_SLOPE) or tried(BY_LEAST)) and _is_smooth(d, x, interval.interior):
        if tried(BY_SLOPE) and _increasing(d, x, interval, strict, depth=3):
            return BY_SLOPE
        if tried(BY_LEAST) and _least_value(d, x, interval, strict):
            return BY_LEAST
    return BY_SOLVING if tried(BY_SOLVING) and _no_violation(d, x, interval, strict) else None


def _sign_follows(d: sp.Expr, given: Iterable[sp.Basic], strict: bool) -> bool:
    shifted = shift(d, given)
    forms = (_same, sp.expand, sp.factor, _in_roots, sp.together, sp.simplify)
    return any(
        _has_sign(form(shifted), strict) for form in (forms if shifted.is_algebraic_expr() else (_same, sp.factor))
    )


def _in_roots(d: sp.Expr) -> sp.Expr:
    """Factored as a polynomial in square roots: a - 2 sqrt(a b) + b is a square."""
    roots = {
        s: sp.Dummy(s.name, positive=s.is_positive, nonnegative=True) ** 2 for s in d.free_symbols if s.is_nonnegative
    }
    return sp.factor(d.subs(roots, simultaneous=True))


def _same(d: sp.Expr) -> sp.Expr:
    return d


def _has_sign(d: sp.Expr, strict: bool) -> bool:
    return bool(d.is_positive or (not strict and d.is_nonnegative))


def _first_quadrant(d: sp.Expr, x: sp.Symbol, interval: sp.Interval) -> sp.Expr:
    """Between 0 and π/2 sine, cosine and tangent are positive: say so with positive symbols."""
    if not interval.is_subset(sp.Interval(0, sp.pi / 2)):
        return d
    return d.subs({f(x): sp.Dummy(f.__name__, positive=True) for f in (sp.sin, sp.cos, sp.tan)})


def _is_smooth(d: sp.Expr, x: sp.Symbol, interior: sp.Interval) -> bool:
    """Whether `d` and its derivative are surely continuous there."""
    if d.has(*STEPS):
        return False
    try:
        return all(continuous_domain(f, x, interior) == interior for f in (d, sp.diff(d, x)))
    except (NotImplementedError, ValueError, TypeError):
        return False


def _increasing(d: sp.Expr, x: sp.Symbol, interval: sp.Interval, strict: bool, depth: int) -> bool:
    if depth == 0 or interval.start.is_infinite or (strict and not interval.left_open):
        return False
    start, slope = sp.limit(d, x, interval.start, "+"), sp.simplify(sp.diff(d, x))
    if not start.is_nonnegative:
        return False
    inner = interval.interior
    local = slope.subs(x, _in_terms_of_positive(x, inner))
    return (
        any(_has_sign(form(e), True) for e in (_first_quadrant(slope, x, inner), local) for form in (_same, sp.factor))
        or _increasing(slope, x, inner, True, depth - 1)
        or (not strict and _no_violation(slope, x, inner, False))
    )


def _least_value(d: sp.Expr, x: sp.Symbol, interval: sp.Interval, strict: bool) -> bool:
    y = sp.Dummy(x.name, real=True)
    try:
        stationary = sp.solveset(sp.diff(d, x).subs(x, y), y, interval.interior)
        ends = [
            (sp.limit(d, x, end, side), is_open or end.is_infinite)
            for end, side, is_open in (
                (interval.start, "+", interval.left_open),
                (interval.end, "-", interval.right_open),
            )
        ]
    except (NotImplementedError, ValueError, TypeError):
        return False
    if not isinstance(stationary, (sp.FiniteSet, type(sp.S.EmptySet))):
        return False
    # Between two of these points d is monotone; an end that does not belong to the interval is approached, not reached.
    return all(_has_sign(sp.simplify(d.subs(x, point)), strict) for point in stationary) and all(
        bool(value.is_extended_nonnegative) if is_open else _has_sign(value, strict) for value, is_open in ends
    )


def _no_violation(d: sp.Expr, x: sp.Symbol, interval: sp.Interval, strict: bool) -> bool:
    y = sp.Dummy(x.name, real=True)
    opposite = sp.Le(d.subs(x, y), 0) if strict else sp.Lt(d.subs(x, y), 0)
    try:
        # where d is not real neither inequality holds
        real = d.is_extended_real or continuous_domain(d, x, interval) == interval
        return bool(real) and sp.solveset(opposite, y, interval) is sp.S.EmptySet
    except (NotImplementedError, ValueError, TypeError):
        return False
