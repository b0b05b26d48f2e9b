"""Evidence for equations: checks that can fail, and that say what they would not have noticed.

A *label* is the name of a displayed equation in a chapter (``$$ ... $$ (eq-name)``). Each function below checks one claim and
returns an `Evidence`, to be left as the last expression of its cell; the book shows it as a badge beside the equation.

===========  ================================================================================
`prove`      SymPy brings the two sides together, for all values under stated assumptions
`exact`      exact arithmetic over a stated, finite list of cases
`numeric`    floating point against a closed form, with a reasoned tolerance
`sampled`    Monte Carlo: a mean against a claim, in standard errors
`measured`   the outcome of an experiment over several seeds, against a prediction
`refute`     a false claim, with its counter-example
`cite`       not checked here: where it is proved
`define`     a definition: nothing to check
===========  ================================================================================

A claim that is wrong raises `CheckFailed`. A check that could not have failed raises `VacuousCheck`: every check is run a
second time on a falsified claim, and has to reject it. *Resolution* is the smallest relative error in the claim that the check
would certainly have caught (0 for a proof).
"""

from __future__ import annotations

import html
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, SupportsFloat

import mpmath
import numpy as np
import sympy as sp
from sympy.printing.latex import LatexPrinter

from . import goals, strategies, words
from .arguments import integer
from .goals import CheckFailed, TimeLimitReached, VacuousCheck
from .strategies import Strategy

__all__ = [
    "CheckFailed",
    "Evidence",
    "TimeLimitReached",
    "VacuousCheck",
    "cite",
    "define",
    "exact",
    "measured",
    "numeric",
    "prove",
    "refute",
    "sampled",
]

MIME = "application/vnd.kexue.evidence+json"
SYMBOLS = {
    "proved": "✓",
    "exact": "=",
    "numeric": "≈",
    "sampled": "∿",
    "measured": "◷",
    "refuted": "✗",
    "cited": "❝",
    "definition": "≔",
}
RELATIONS = {
    "=": sp.Eq,
    "<": sp.StrictLessThan,
    "<=": sp.LessThan,
    ">": sp.StrictGreaterThan,
    ">=": sp.GreaterThan,
}
RELATION_LATEX = {"=": "=", "<": "<", "<=": r"\le", ">": ">", ">=": r"\ge", "!=": r"\ne"}


@dataclass(frozen=True)
class Evidence:
    """What was checked for one labelled equation, and how. Displays itself; made by the functions of this module."""

    kind: str
    label: str
    method: str
    checked: str
    assumptions: tuple[str, ...] = ()
    resolution: float | None = None
    using: tuple[str, ...] = ()
    seconds: float = 0.0
    seed: int | None = None
    details: tuple[tuple[str, str], ...] = ()
    citation: str | None = None
    step: str | None = None

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        # Seconds are in the record only, so that two builds print the same text.
        # Two digits of the resolution: those after them may be another CPU's rounding. Above 1 its order of magnitude.
        resolution = self.resolution
        if resolution is not None:
            resolution = float(f"{resolution:.2g}") if resolution < 1 else 10.0 ** math.ceil(math.log10(resolution))
        record = {"version": 1, **asdict(self), "resolution": resolution}
        return {MIME: record, "text/html": self._html(), "text/plain": str(self)}

    def __str__(self) -> str:
        return f"{SYMBOLS[self.kind]} {self.kind} [{self.label}]: {self._said()}"

    def _said(self) -> str:
        return f"(step: {self.step}) {self.method}" if self.step else self.method

    def _html(self) -> str:
        lines = [f"{SYMBOLS[self.kind]} <b>{self.kind}</b> <code>{self.label}</code>: {html.escape(self._said())}"]
        if self.checked:
            lines.append(f"$\\displaystyle {html.escape(self.checked)}$")
        if self.assumptions:
            lines.append("for " + ", ".join(f"${html.escape(a)}$" for a in self.assumptions))
        return f'<div style="overflow-x:auto">{"<br>".join(lines)}</div>'


# ---------------------------------------------------------------- proved


def prove(
    label: str,
    lhs: Any,
    rhs: Any,
    *,
    relation: str = "=",
    given: Iterable[sp.Basic] = (),
    using: Iterable[str] = (),
    step: str | None = None,
    by: Strategy | Iterable[Strategy] = (),
    seconds: float = 60,
) -> Evidence:
    """Prove a symbolic identity or inequality.

    Both sides are evaluated (integrals, sums, limits), then `by` and `strategies.DEFAULT` are tried in turn on their difference
    until it is literally 0. Before that, points that satisfy the assumptions are tried in search of a counter-example.

    Parameters
    ----------
    label : name of the equation.
    lhs, rhs : SymPy expressions, or matrices of the same shape, or matrices of any size in the letters of `words`. They must come
        from different places: the same expression twice is refused.
    relation : one of ``= < <= > >=``. Inequalities are for scalars.
    given : relations on top of the symbols' own assumptions: bounds ``n > 1``, or ``Eq(symbol, value)``, which is substituted.
        Some point has to satisfy all of them.
    using : labels of equations that this step takes for granted.
    step : where the check covers only a step of the claim: which one, in words.
    by : own strategies, tried first. Each maps the difference to an expression of the same value; this is tested at random points.
    seconds : time limit.

    Returns
    -------
    Evidence of kind ``proved``, resolution 0.

    Raises
    ------
    CheckFailed : a counter-example was found, or no strategy closes the goal (the message shows what is left).
    VacuousCheck : both sides are the same expression, an integral or sum is left, the assumptions contradict each other, a float
        stands where an exact number belongs, an own strategy changes values, or a falsified claim is accepted too.
    TimeLimitReached : SymPy was not done in time.

    Examples
    --------
    >>> t = sp.Symbol("t", real=True)
    >>> print(prove("eq-double", sp.sin(2 * t), 2 * sp.sin(t) * sp.cos(t)))  # doctest: +ELLIPSIS
    ✓ proved [eq-double]: SymPy reduces the difference of the two sides to 0 (trigonometric)...
    """
    _check_label(label)
    if not isinstance(given, Iterable):
        raise TypeError(f"given: a list of SymPy relations expected, {given!r} given")
    lhs, rhs, given = goals.as_sympy(lhs, "lhs"), goals.as_sympy(rhs, "rhs"), tuple(given)
    if relation not in RELATIONS:
        raise ValueError(f"relation: {relation!r} given, one of {', '.join(RELATIONS)} expected")
    if not callable(by) and (isinstance(by, str) or not isinstance(by, Iterable)):
        raise TypeError(f"by: strategies expected, {by!r} given")
    by = (by,) if callable(by) else tuple(by)
    using = _labels(using, label)
    started = time.process_time()

    def work() -> tuple[goals.Goal, int, list[goals.Closer]]:
        goal = goals.Goal(label, lhs, rhs, relation, given)
        points = goal.search_counterexample()
        closers = goal.close(by)
        goal.reject_falsified(closers, by)
        return goal, points, closers

    goal, points, closers = goals.within(seconds, label, work)
    done = "shows the sign of the difference" if relation != "=" else "reduces the difference of the two sides to 0"
    if not points:
        tried = "no numerical value could be tried"
    elif not goal.symbols:
        tried = "the numerical values agree"
    elif words.in_letters(lhs) or words.in_letters(rhs):
        tried = f"{points} random choices of matrices, 2 × 2 and 3 × 3, agree"
    else:
        tried = f"{points} random points agree" if points > 1 else "1 random point agrees"
    return Evidence(
        kind="proved",
        label=label,
        method=f"SymPy {done} ({goals.closed_by(closers)}); {tried}; a falsified claim is rejected.",
        checked=_latex_claim(lhs, relation, rhs),
        assumptions=_assumptions(goal.symbols, given),
        resolution=0.0,
        using=using,
        seconds=time.process_time() - started,
        seed=0,
        step=_step(step),
    )


# ---------------------------------------------------------------- exact


def exact(
    label: str,
    cases: Iterable[Any],
    claim: Callable[[Any], tuple],
    *,
    using: Iterable[str] = (),
    step: str | None = None,
    seconds: float = 60,
) -> Evidence:
    """Check a claim in exact arithmetic on every one of finitely many cases.

    Parameters
    ----------
    label : name of the equation.
    cases : the cases, all different: numbers, tuples, names.
    claim : ``claim(case)`` returns the two sides, ``(lhs, rhs)`` or ``(lhs, relation, rhs)``, as int, Fraction or SymPy
        expressions or matrices without floats. Sides with symbols or integrals are brought together as in `prove`.
    using : labels of equations that this step takes for granted.
    step : where the check covers only a step of the claim: which one, in words.
    seconds : time limit for all cases together.

    Returns
    -------
    Evidence of kind ``exact``; resolution 0 (for an inequality: the smallest relative slack over the cases).

    Raises
    ------
    CheckFailed : the claim is false in some case; the message names it.
    VacuousCheck : no cases, a repeated case, a float, a bare True, or sides that never change from case to case.
    TimeLimitReached : not done in time.

    Examples
    --------
    >>> print(exact("eq-odd-sum", range(1, 50), lambda n: (sum(range(1, 2 * n, 2)), n**2)))
    = exact [eq-odd-sum]: Exact arithmetic in 49 cases, from 1 to 49; a falsified claim is rejected.
    """
    _check_label(label)
    if not isinstance(cases, Iterable) or not callable(claim):
        raise TypeError(f"cases and claim: a list and a function expected, {cases!r} and {claim!r} given")
    cases = list(cases)
    if not cases:
        raise VacuousCheck(f"{label}: cases is empty, so nothing was checked. List the cases.")
    if len({repr(case) for case in cases}) < len(cases):
        raise VacuousCheck(f"{label}: cases: a case is listed twice. List each once.")
    using = _labels(using, label)
    started = time.process_time()
    sides = goals.within(seconds, label, lambda: _exact_in_every_case(label, cases, claim))
    lines = [_latex_claim(*side) for side in sides]
    shown = lines[:1] if len(lines) == 1 or len(lines[-1]) > 160 else [lines[0], lines[-1]]
    return Evidence(
        kind="exact",
        label=label,
        method=f"Exact arithmetic in {_count(cases, 'case')}; a falsified claim is rejected.",
        checked=r";\quad \dots;\quad ".join(shown),
        resolution=_slack(sides),
        using=using,
        seconds=time.process_time() - started,
        step=_step(step),
    )


def _exact_in_every_case(label: str, cases: Sequence[Any], claim: Callable) -> list[tuple[sp.Basic, str, sp.Basic]]:
    """Both sides in every case, after they were found to agree and a falsified claim was found to fail."""
    sides = [_exact_sides(label, case, claim(case)) for case in cases]
    if len(cases) > 1 and len({str(s) for s in sides}) == 1:
        raise VacuousCheck(
            f"{label}: both sides are the same in every case ({sides[0][0]} against {sides[0][2]}), so a wrong index would go "
            "unnoticed. Leave the part that depends on the case on each side."
        )
    for case, (left, relation, right) in zip(cases, sides, strict=True):
        if not _holds_exactly(f"{label}, case {case}", left, relation, right):
            raise CheckFailed(
                f"{label}: false in case {case}: left side {left}, right side {right} (claimed {relation})."
            )
    left, relation, right = sides[0]
    wrong = right + sp.ones(*right.shape) if isinstance(right, sp.MatrixBase) else right + 1
    if relation != "=":
        wrong, relation = right, goals.OPPOSITE[relation]
    if _holds_exactly(label, left, relation, wrong):
        raise VacuousCheck(f"{label}: the falsified claim {left} {relation} {wrong} is accepted as well.")
    return sides


def _exact_sides(label: str, case: Any, result: Any) -> tuple[sp.Basic, str, sp.Basic]:
    if isinstance(result, (bool, np.bool_, sp.logic.boolalg.BooleanAtom)) or not isinstance(result, tuple):
        raise VacuousCheck(
            f"{label}, case {case}: claim returned {result!r}; return the two sides, (lhs, rhs), so that both are seen."
        )
    if len(result) not in (2, 3) or (len(result) == 3 and result[1] not in RELATIONS):
        raise ValueError(f"claim: (lhs, rhs) or (lhs, relation, rhs) expected for case {case}, {result!r} given")
    left, relation, right = result if len(result) == 3 else (result[0], "=", result[1])
    left, right = goals.explicit(goals.as_sympy(left, "lhs")), goals.explicit(goals.as_sympy(right, "rhs"))
    for side in (left, right):
        goals.refuse_floats(f"{label}, case {case}", side)
        if side.has(sp.nan, sp.zoo) or side in (sp.oo, -sp.oo):
            raise VacuousCheck(f"{label}, case {case}: undefined side {side}.")
    return left, relation, right


def _holds_exactly(label: str, left: sp.Basic, relation: str, right: sp.Basic) -> bool:
    if left.is_Rational and right.is_Rational:
        return bool(RELATIONS[relation](left, right))
    if left == right:
        return relation in ("=", "<=", ">=")
    goal = goals.Goal(label, left, right, relation, ())
    try:
        goal.search_counterexample()
        goal.close(())
    except CheckFailed:
        return False
    return True


def _slack(sides: Sequence[tuple[sp.Basic, str, sp.Basic]]) -> float:
    gaps = [abs(float((right - left) / right)) for left, relation, right in sides if relation != "=" and right != 0]
    return min(gaps, default=0.0)


# ---------------------------------------------------------------- numeric


def numeric(
    label: str,
    got: Any,
    expected: Any,
    *,
    rtol: float,
    why: str,
    at: Sequence[Mapping[sp.Symbol, Any]] | None = None,
    relation: str = "=",
    scale: float | None = None,
    seed: int | None = None,
    using: Iterable[str] = (),
    step: str | None = None,
) -> Evidence:
    """Compare floating-point results with a closed form.

    Parameters
    ----------
    label : name of the equation.
    got, expected : numbers or arrays (NumPy, torch, mpmath) of exactly the same shape, or SymPy expressions together with `at`.
    rtol : relative tolerance, below 0.5.
    why : the reason for this tolerance, in words.
    at : points ``{symbol: value}`` at which two SymPy expressions are evaluated, to 30 digits.
    relation : ``=``, ``<=`` or ``>=`` (``got`` against ``expected``; `rtol` is then the rounding error allowed for).
    scale : magnitude against which the error is measured where the expected value is 0.
    seed : the seed that made the instances, for the record.
    using : labels of equations that this step takes for granted.
    step : where the check covers only a step of the claim: which one, in words.

    Returns
    -------
    Evidence of kind ``numeric``. Its resolution is the tolerance plus the deviation seen, counted as a
    tenth of the tolerance at least; for an inequality, the smallest relative slack.

    Raises
    ------
    CheckFailed : some entry is off by more than the tolerance; the message names the entry.
    VacuousCheck : NaN, nothing to compare, shapes that only match by broadcasting, the same array twice, a tolerance that is too
        wide or finer than the number format.

    Examples
    --------
    >>> print(numeric("eq-basel", sum(k**-2.0 for k in range(1, 100001)), np.pi**2 / 6 - 1e-5, rtol=1e-9, why="the tail is 1/n - 1/(2n²)"))
    ≈ numeric [eq-basel]: 1 value within 1e-09 of the claim (the tail is 1/n - 1/(2n²)); a falsified claim is rejected.
    """
    _check_label(label)
    if relation not in ("=", "<=", ">="):
        raise ValueError(f"relation: {relation!r} given, one of =, <=, >= expected")
    _check_reason(why)
    if not 0 < _one_number("rtol", rtol) < 0.5:
        raise VacuousCheck(
            f"{label}: rtol = {rtol} given; a tolerance of half the value or more notices nothing, and 0 is never met. Choose 0 < rtol < 0.5."
        )
    started = time.process_time()
    assumptions: tuple[str, ...] = ()
    formula = None
    if at is not None:
        lhs, rhs = goals.as_sympy(got, "got"), goals.as_sympy(expected, "expected")
        if lhs == rhs:
            raise VacuousCheck(f"{label}: both sides are the same expression, {lhs}.")
        at = [at] if isinstance(at, Mapping) else list(at)
        points = [_exact_point(point) for point in at]
        formula = _latex_claim(lhs, relation, rhs)
        assumptions = tuple(
            r",\ ".join(f"{_latex(s)} = {_latex(sp.sympify(v))}" for s, v in point.items()) for point in at[:4]
        )
        got, expected = (_evaluate_at(label, side, points) for side in (lhs, rhs))
    got, expected = _array(got, "got"), _array(expected, "expected")
    if _same_memory(got, expected):
        raise VacuousCheck(f"{label}: got and expected are the same array.")
    left, right = _numbers(label, got, "got"), _numbers(label, expected, "expected")
    _same_shape(label, left, right, "got", "expected")
    finest = 4 * max(_epsilon(got), _epsilon(expected)) if at is None else 1e-28
    if rtol < finest:
        raise VacuousCheck(
            f"{label}: rtol = {rtol} is finer than these numbers can tell ({finest:.1g}). Use a format with more digits, mpmath or SymPy."
        )
    if relation != "=" and not all(_is_real(v) for v in (*left.ravel(), *right.ravel())):
        raise TypeError(f"relation: {relation} compares real numbers, complex ones given")
    with mpmath.workdps(max(mpmath.mp.dps, 40)):
        resolution, deviation = _compare(label, left, right, relation, rtol, _magnitude(label, right, scale))
    said = (
        f"within {rtol:g} of the claim"
        if relation == "="
        else f"on the claimed side ({relation}) of the bound, rounding {rtol:g}"
    )
    details = (
        [("largest deviation", _deviation(float(np.max(deviation)), rtol))]
        if relation == "="
        else [("smallest slack", f"{float(np.min(deviation)):.2g}")]
    )
    if scale is not None:
        details.append(("scale where the claim is 0", f"{scale:g}"))
    count = f"{left.size} value{'s' if left.size > 1 else ''}"
    sign = r"\approx" if relation == "=" else RELATION_LATEX[relation]
    # What is within the tolerance of 0 is rounding, whose digits are another CPU's to choose.
    first_got = 0 if relation == "=" and right.ravel()[0] == 0 else left.ravel()[0]
    first = f"{_number(first_got)} {sign} {_number(right.ravel()[0])}"
    return Evidence(
        kind="numeric",
        label=label,
        method=f"{count} {said} ({why}); a falsified claim is rejected.",
        checked=formula or first + (rf",\quad \dots\ ({left.size}\text{{ values}})" if left.size > 1 else ""),
        assumptions=assumptions,
        resolution=resolution,
        using=_labels(using, label),
        seconds=time.process_time() - started,
        seed=None if seed is None else integer("seed", seed),
        details=tuple(details),
        step=_step(step),
    )


def _compare(
    label: str, left: np.ndarray, right: np.ndarray, relation: str, rtol: float, magnitude: np.ndarray
) -> tuple[float, np.ndarray]:
    """Resolution of a comparison that holds, and the relative deviations."""

    def passes(claimed: np.ndarray) -> np.ndarray:
        gap = left - claimed
        gap = {"=": abs(gap), "<=": gap, ">=": -gap}[relation]
        return np.asarray(gap <= rtol * magnitude)

    ok = passes(right)
    if not np.all(ok):
        worst = int(np.argmin(ok))
        entry = tuple(map(int, np.unravel_index(worst, left.shape)))
        raise CheckFailed(
            f"{label}: entry {entry}: got {left.ravel()[worst]}, "
            f"expected {relation} {right.ravel()[worst]} within {rtol:g}; {np.sum(~ok)} of {ok.size} entries miss."
        )
    deviation = np.asarray(abs(left - right) / magnitude)
    if relation == "=":
        # Of a deviation far below the tolerance the digits are rounding.
        resolution = float((max(np.max(deviation), rtol / 10) + rtol) / (1 - rtol))
        wrong = right + 2 * resolution * magnitude
    else:
        resolution = float(np.min(deviation) + rtol)
        wrong = right - (1 if relation == "<=" else -1) * (2 * resolution + 2 * rtol) * magnitude
    if (relation == "=" and resolution >= 1) or np.all(passes(wrong)):
        raise VacuousCheck(
            f"{label}: the falsified claim is accepted as well; the values cannot tell (resolution {resolution:g})."
        )
    return resolution, deviation


def _deviation(largest: float, rtol: float) -> str:
    """Far below the tolerance a deviation is rounding, whose digits are another CPU's to choose."""
    return f"{largest:.1e}" if largest >= rtol / 10 else f"below {rtol / 10:.0e}"


def _evaluate_at(label: str, side: sp.Basic, at: Sequence[Mapping]) -> np.ndarray:
    if not at:
        raise VacuousCheck(f"{label}: at is empty, so nothing was compared.")
    values = np.empty(len(at), dtype=object)
    for i, point in enumerate(at):
        try:
            value = goals.value_at(side, point, 30)
        except ArithmeticError:
            raise VacuousCheck(f"{label}: {side} cannot be evaluated to 30 digits at {goals.place(point)}.") from None
        if not value.is_number:
            raise ValueError(f"at: {goals.place(point) or 'no point'} leaves {value} without a value")
        values[i] = value
    return values


def _exact_point(point: Mapping) -> dict[sp.Symbol, sp.Expr]:
    """The point with floats replaced by the rational numbers that they are; it has to satisfy the symbols' assumptions."""
    if not isinstance(point, Mapping):
        raise TypeError(f"at: {{symbol: value}} expected, {point!r} given")
    values = {sp.sympify(s): sp.sympify(v) for s, v in point.items()}
    values = {s: sp.Rational(v) if isinstance(v, sp.Float) else v for s, v in values.items()}
    for symbol, value in values.items():
        if symbol.is_Symbol and not goals.satisfies(symbol, value):
            raise ValueError(f"at: {symbol} = {value} contradicts what {symbol} was declared to be")
    rows = next((value.rows for symbol, value in values.items() if isinstance(symbol, words.Letter)), None)
    if rows is not None:
        values[words.n] = sp.Integer(rows)
    return values


# ---------------------------------------------------------------- sampled


def sampled(
    label: str,
    samples: Any,
    expected: Any,
    *,
    sigmas: float = 4,
    scale: float | None = None,
    seed: int | None = None,
    using: Iterable[str] = (),
    step: str | None = None,
) -> Evidence:
    """Compare the mean of independent random samples with its claimed value, in standard errors.

    Parameters
    ----------
    label : name of the equation.
    samples : array of shape ``(..., N)``, N >= 100 independent samples along the last axis.
    expected : the claimed means, shape ``(...)``.
    sigmas : how many standard errors are accepted, between 2 and 6. With 4, a true claim fails once in 16 000 for each mean.
    scale : magnitude for the resolution where the expected value is 0.
    seed : the seed that made the samples, for the record.
    using : labels of equations that this step takes for granted.
    step : where the check covers only a step of the claim: which one, in words.

    Returns
    -------
    Evidence of kind ``sampled``; resolution ``sigmas`` standard errors plus the deviation seen, relative to the claim.

    Raises
    ------
    CheckFailed : a mean is more than `sigmas` standard errors from the claim.
    VacuousCheck : too few samples, NaN, samples that do not vary, or a standard error so large that anything passes.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> print(sampled("eq-second-moment", rng.standard_normal(100_000) ** 2, 1.0, seed=0))  # doctest: +ELLIPSIS
    ∿ sampled [eq-second-moment]: 1 mean of 100,000 samples within 4 standard errors of the claim...
    """
    _check_label(label)
    if not 2 <= _one_number("sigmas", sigmas) <= 6:
        raise VacuousCheck(
            f"{label}: sigmas = {sigmas} given; below 2 a true claim fails too often, above 6 nearly everything passes."
        )
    started = time.process_time()
    values, claim = _floats(label, samples, "samples"), _floats(label, expected, "expected")
    if values.ndim == 0 or values.shape[-1] < 100:
        n = 1 if values.ndim == 0 else values.shape[-1]
        raise VacuousCheck(
            f"{label}: {n} samples along the last axis; at least 100 are needed for a standard error that means something."
        )
    mean, count = values.mean(-1), values.shape[-1]
    _same_shape(label, mean, claim, "the means", "expected")
    error = values.std(-1, ddof=1) / math.sqrt(count)
    if np.any(np.all(values == values[..., :1], axis=-1)):
        raise VacuousCheck(
            f"{label}: the samples do not vary, so there is no standard error. Use exact() or numeric()."
        )
    z, resolution = _z_test(label, mean, claim, error, sigmas, scale, f"the mean of {count:,} samples")
    chance = np.size(mean) * math.erfc(sigmas / math.sqrt(2))
    means = f"{mean.size} mean{'s' if mean.size > 1 else ''}"
    return Evidence(
        kind="sampled",
        label=label,
        method=f"{means} of {count:,} samples within {sigmas:g} standard errors of the claim (a true claim fails with probability {chance:.0e}); "
        "a falsified claim is rejected.",
        checked=rf"{_number(mean.ravel()[0])} \pm {_number(error.ravel()[0], 2)} \approx {_number(claim.ravel()[0])}"
        + (rf",\quad \dots\ ({mean.size}\text{{ means}})" if mean.size > 1 else ""),
        resolution=resolution,
        using=_labels(using, label),
        seconds=time.process_time() - started,
        seed=None if seed is None else integer("seed", seed),
        details=(
            ("deviations in standard errors", ", ".join(f"{v:+.2f}" for v in np.ravel(z)[:12])),
            *((("scale where the claim is 0", f"{scale:g}"),) if scale is not None else ()),
        ),
        step=_step(step),
    )


# ---------------------------------------------------------------- measured


def measured(
    label: str,
    runs: Any,
    predicted: Any,
    *,
    why: str,
    seeds: Sequence[int],
    standard_error: Any = None,
    within: float | None = None,
    sigmas: float = 4,
    decimals: int | None = None,
    using: Iterable[str] = (),
) -> Evidence:
    """Record the outcome of an experiment over several seeds, beside what was predicted.

    Exactly one of three ways says what counts as agreement: `standard_error`, `within`, or `predicted` as an interval.

    Parameters
    ----------
    label : name of the equation.
    runs : shape ``(..., S)``: one outcome for each of S >= 3 seeds along the last axis.
    predicted : the predicted outcomes, shape ``(...)``; or a pair ``(low, high)`` that every run has to fall into.
    why : where the prediction and its uncertainty come from, in words.
    seeds : the S seeds.
    standard_error : theoretical standard error of a single run, shape ``(...)``; the mean of the runs is then tested in standard errors.
    within : relative tolerance for the mean of the runs.
    sigmas : how many standard errors are accepted, between 2 and 6.
    decimals : with an interval, how many decimals of the runs to show: those that another machine shows, too. Checked are all.
    using : labels of equations that this step takes for granted.

    Returns
    -------
    Evidence of kind ``measured`` that lists prediction, mean and spread.

    Raises
    ------
    CheckFailed : the runs disagree with the prediction.
    VacuousCheck : fewer than three seeds, no way to disagree, NaN, or a tolerance as large as the value.

    Examples
    --------
    >>> runs = [0.82484, 0.82317, 0.82235]
    >>> print(measured("eq-variance", runs, np.pi**2 / 12, standard_error=0.0017, why="kurtosis of a uniform angle", seeds=[0, 1, 2]))
    ◷ measured [eq-variance]: Mean of 3 seeds within 4 standard errors of the prediction (kurtosis of a uniform angle).
    """
    _check_label(label)
    _check_reason(why)
    if not 2 <= _one_number("sigmas", sigmas) <= 6:
        raise VacuousCheck(f"{label}: sigmas = {sigmas} given, between 2 and 6 expected.")
    started = time.process_time()
    values = _floats(label, runs, "runs")
    if values.ndim == 0 or values.shape[-1] < 3:
        raise VacuousCheck(f"{label}: at least three seeds are needed to see a spread; runs has shape {values.shape}.")
    if not isinstance(seeds, Iterable):
        raise TypeError(f"seeds: a list expected, {seeds!r} given")
    if len(set(seeds)) != values.shape[-1]:
        raise ValueError(f"seeds: {len(set(seeds))} different seeds given for {values.shape[-1]} runs")
    interval = isinstance(predicted, tuple)
    if [interval, standard_error is not None, within is not None].count(True) != 1:
        raise VacuousCheck(
            f"{label}: say in one way what would disagree: standard_error=, within=, or predicted=(low, high)."
        )
    mean, count, digits = values.mean(-1), values.shape[-1], 6
    spread = values.std(-1, ddof=1)
    if interval:
        low, high = _interval(label, predicted)
        rows, said, resolution = _in_interval(label, values, low, high, decimals)
    else:
        claim = _floats(label, predicted, "predicted")
        if np.any(claim == 0):
            raise VacuousCheck(
                f"{label}: 0 is predicted, which has no relative error; predict an interval (low, high)."
            )
        _same_shape(label, mean, claim, "the means of the runs", "predicted")
        if within is None:
            error = _floats(label, standard_error, "standard_error")
            _same_shape(label, mean, error, "the means of the runs", "standard_error")
            if np.any(error <= 0):
                raise ValueError(f"standard_error: positive expected, {error} given")
            _, resolution = _z_test(
                label, mean, claim, error / math.sqrt(count), sigmas, None, f"the mean of {count} runs"
            )
            said = f"within {sigmas:g} standard errors of the prediction"
        else:
            if not 0 < _one_number("within", within) < 0.5:
                raise VacuousCheck(f"{label}: within = {within} given; choose 0 < within < 0.5.")
            off = abs(mean - claim) / abs(claim)
            if np.any(off > within):
                worst = int(np.argmax(off))
                raise CheckFailed(
                    f"{label}: measured {mean.ravel()[worst]:.6g}, predicted {claim.ravel()[worst]:.6g}: off by {np.max(off):.2%}, allowed {within:.2%}."
                )
            resolution = float((within + np.max(off)) / (1 - within))
            digits = min(6, 2 + math.ceil(-math.log10(within)))
            said = f"within {within:.2g} (relative) of the prediction"
        rows = [
            f"predicted {c:.6g}, measured {m:.{digits}g}, "
            + (f"spread {s:.2g}" if s >= abs(m) / 10**digits else "no spread in these digits")
            for c, m, s in zip(claim.ravel(), mean.ravel(), spread.ravel(), strict=True)
        ]
        said = f"Mean of {count} seeds {said}"
    error_seen = spread.ravel()[0] / math.sqrt(count)
    shown = (
        rf"{_number(low)} \le "
        + r",\ ".join(_to_decimals(v, decimals, _number) for v in values.ravel()[:5])
        + rf" \le {_number(high)}"
        if interval
        else (
            _number(mean.ravel()[0], digits)
            + (rf" \pm {_number(error_seen, 2)}" if error_seen >= abs(mean.ravel()[0]) / 10**digits else "")
            + rf" \approx {_number(claim.ravel()[0])}"
            + (rf",\quad \dots\ ({mean.size}\text{{ settings}})" if mean.size > 1 else "")
        )
    )
    return Evidence(
        kind="measured",
        label=label,
        method=f"{said} ({why}).",
        checked=shown,
        resolution=resolution,
        using=_labels(using, label),
        seconds=time.process_time() - started,
        details=(
            ("seeds", ", ".join(map(str, seeds))),
            *((f"setting {i}", row) for i, row in enumerate(rows, 1)),
        ),
    )


def _interval(label: str, predicted: tuple) -> tuple[float, float]:
    if len(predicted) != 2:
        raise ValueError(f"predicted: an interval (low, high) or an array expected, a tuple of {len(predicted)} given")
    low, high = (float(v) for v in predicted)
    if not low < high or (math.isinf(low) and math.isinf(high)):
        raise VacuousCheck(f"{label}: predicted interval ({low}, {high}) excludes nothing or is empty.")
    return low, high


def _to_decimals(value: float, decimals: int | None, otherwise: Callable[[float], str]) -> str:
    return otherwise(value) if decimals is None else f"{round(value, decimals) + 0.0:.{decimals}f}"


def _in_interval(
    label: str, values: np.ndarray, low: float, high: float, decimals: int | None
) -> tuple[list[str], str, float]:
    if np.iscomplexobj(values):
        raise TypeError("runs: real numbers expected for an interval, complex ones given")
    if np.any((values < low) | (values > high)):
        raise CheckFailed(
            f"{label}: measured {np.min(values):.6g} to {np.max(values):.6g}, predicted between {low:g} and {high:g}."
        )
    ends = [end for end in (low, high) if math.isfinite(end)]
    margin = max(float(np.max(abs(values - end))) for end in ends)
    resolution = margin / max(float(np.mean(abs(values))), 1e-300)
    return (
        ["measured " + " to ".join(_to_decimals(f(values), decimals, "{:.6g}".format) for f in (np.min, np.max))],
        f"All {values.size} runs between {low:g} and {high:g}",
        resolution,
    )


# ---------------------------------------------------------------- refuted, cited, definition


def refute(label: str, claim: Any, at: Any, *, holds_at: Sequence[Any] | None = None) -> Evidence:
    """Show that a claim is false, by a counter-example.

    Parameters
    ----------
    label : name of the (false) equation.
    claim : a SymPy relation, or a pair ``(lhs, rhs)`` claimed to be equal; or a predicate ``case -> bool``.
    at : the counter-example: ``{symbol: value}``, a matrix for a letter of `words`; for a predicate, the case.
    holds_at : for a predicate, cases in which it is true: a predicate that is false everywhere refutes nothing.

    Returns
    -------
    Evidence of kind ``refuted``.

    Raises
    ------
    CheckFailed : the claim holds at the point, or cannot be told apart from holding.
    VacuousCheck : a predicate without `holds_at`, or one that fails there too; a point that leaves symbols open; an undefined
        value; a float, which may be false by rounding only.
    ValueError : a point that contradicts what its symbols were declared to be.

    Examples
    --------
    >>> a, b = sp.symbols("a b")
    >>> print(refute("eq-dream", ((a + b) ** 2, a**2 + b**2), {a: 1, b: 1}))
    ✗ refuted [eq-dream]: False at a = 1, b = 1: the left side is 4, the right side 2.
    """
    _check_label(label)
    started = time.process_time()
    if callable(claim) and not isinstance(claim, sp.Basic):
        return _refute_predicate(label, claim, at, holds_at, started)
    left, relation, right = _relation_sides(claim)
    if not isinstance(at, Mapping):
        raise TypeError(f"at: {{symbol: value}} expected, {at!r} given")
    for side in (left, right, *(sp.sympify(value) for value in at.values())):
        goals.refuse_floats(label, side)
    point = _exact_point(at)
    pairs = goals.Goal(label, goals.explicit(left), goals.explicit(right), "=", ()).pairs
    pairs = [entry for pair in pairs for entry in goals.entries_at(*pair, point)]
    values = [(strategies.evaluate(a.subs(point)), strategies.evaluate(b.subs(point))) for a, b in pairs]
    for value in (value for pair in values for value in pair):
        if value.free_symbols or goals.unfinished(value) or value.is_infinite:
            raise VacuousCheck(f"{label}: at {goals.place(point)} a side has no value: {value}.")
    false_here = [pair for pair in values if _surely_false(*pair, relation)]
    if not false_here or (relation == "!=" and len(false_here) < len(values)):  # one other entry makes matrices differ
        shown = " and ".join(map(_plain, next(pair for pair in values if pair not in false_here)))
        at_point = f" at {goals.place(point)}" if point else ""
        raise CheckFailed(f"{label}: the claim is not false{at_point}: the sides are {shown}.")
    method = "the left side is {}, the right side {}.".format(*map(_plain, false_here[0]))
    return Evidence(
        kind="refuted",
        label=label,
        method=(f"False at {goals.place(point)}: {method}" if point else f"False: {method}"),
        checked=r"\text{not always: }" + _latex_claim(left, relation, right),
        assumptions=tuple(f"{_latex(s)} = {_latex(v)}" for s, v in point.items()),
        seconds=time.process_time() - started,
    )


def _surely_false(a: sp.Expr, b: sp.Expr, relation: str) -> bool:
    """Whether ``a relation b`` is false for two numbers; False too where it cannot be told."""
    if relation == "!=":
        return sp.simplify(a - b) == 0
    x, y = sp.N(a, 30), sp.N(b, 30)
    if abs(x - y) <= 1e-20 * max(1, abs(x), abs(y)):
        return relation in ("<", ">") and sp.simplify(a - b) == 0
    if relation == "=":
        return True
    if not (x.is_extended_real and y.is_extended_real):
        raise TypeError(f"claim: {relation} compares real numbers, {_plain(a)} and {_plain(b)} given")
    return bool(x > y if relation in ("<", "<=") else x < y)


def _refute_predicate(label: str, claim: Callable, at: Any, holds_at: Sequence[Any] | None, started: float) -> Evidence:
    if not holds_at:
        raise VacuousCheck(
            f"{label}: give holds_at, cases in which the claim is true: a predicate that always says no refutes nothing."
        )
    answers = [claim(case) for case in (at, *holds_at)]
    if not all(isinstance(answer, (bool, np.bool_, sp.logic.boolalg.BooleanAtom)) for answer in answers):
        raise TypeError(f"claim: a predicate that returns True or False expected, {answers} returned")
    untrue = [case for case, answer in zip(holds_at, answers[1:], strict=True) if not answer]
    if untrue:
        raise VacuousCheck(f"{label}: the claim is false at {untrue[0]} too, which holds_at lists as true.")
    if answers[0]:
        raise CheckFailed(f"{label}: the claim is true at {at}; that is no counter-example.")
    return Evidence(
        kind="refuted",
        label=label,
        method=f"False at {at}, though true in {_count(list(holds_at), 'case')}.",
        checked=r"\text{false at }" + _latex(at),
        seconds=time.process_time() - started,
    )


def _relation_sides(claim: Any) -> tuple[sp.Expr, str, sp.Expr]:
    if isinstance(claim, tuple) and len(claim) == 2:
        return goals.as_sympy(claim[0], "claim"), "=", goals.as_sympy(claim[1], "claim")
    names: dict[Any, str] = {
        sp.Eq: "=",
        sp.Ne: "!=",
        sp.StrictLessThan: "<",
        sp.LessThan: "<=",
        sp.StrictGreaterThan: ">",
        sp.GreaterThan: ">=",
    }
    if type(claim) in names:
        return claim.lhs, names[type(claim)], claim.rhs
    raise TypeError(f"claim: a SymPy relation, a pair (lhs, rhs) or a predicate expected, {type(claim).__name__} given")


def cite(label: str, key: str, where: str) -> Evidence:
    """Say where a claim is proved that is not checked here.

    Parameters
    ----------
    label : name of the equation.
    key : its key in the bibliography; the build checks that it exists.
    where : theorem, page or section.

    Examples
    --------
    >>> print(cite("eq-apery", "apery1979", "the theorem on page 11"))
    ❝ cited [eq-apery]: Not checked here; stated in apery1979, the theorem on page 11.
    """
    _check_label(label)
    if not _says_something(where) or not _says_something(key) or not re.fullmatch(r"[^\s,{}]+", key):
        raise ValueError(
            f"{label}: key and where: a bibliography key and the place in it expected, {key!r} and {where!r} given"
        )
    return Evidence(
        kind="cited",
        label=label,
        method=f"Not checked here; stated in {key}, {where}.",
        checked="",
        citation=key,
    )


def define(label: str, meaning: str) -> Evidence:
    """Declare an equation as a definition, with its meaning in a few words.

    Examples
    --------
    >>> print(define("eq-zeta", "the zeta function at 2"))
    ≔ definition [eq-zeta]: the zeta function at 2
    """
    _check_label(label)
    if not _says_something(meaning):
        raise ValueError(f"{label}: meaning has to say what is defined, {meaning!r} given")
    return Evidence(kind="definition", label=label, method=meaning.strip(), checked="")


# ---------------------------------------------------------------- shared


def _check_label(label: str, name: str = "label") -> None:
    if not isinstance(label, str) or not re.fullmatch(r"[A-Za-z][\w:.-]*", label):
        raise ValueError(f"{name}: the name of an equation expected, such as 'eq-variance'; {label!r} given")


def _says_something(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _check_reason(why: str) -> None:
    if not _says_something(why):
        raise ValueError(f"why: the reason for the tolerance expected, in words; {why!r} given")


def _step(step: Any) -> str | None:
    if step is not None and not _says_something(step):
        raise ValueError(f"step: the step of the claim that is checked expected, in words; {step!r} given")
    return step


def _labels(using: Iterable[str], label: str) -> tuple[str, ...]:
    if isinstance(using, str):
        raise TypeError(f"using: a list of labels expected, the single string {using!r} given")
    if not isinstance(using, Iterable):
        raise TypeError(f"using: a list of labels expected, {using!r} given")
    using = tuple(using)
    for used in using:
        _check_label(used, "using")
    if label in using:
        raise ValueError(f"using: {label} cannot rest on itself")
    return using


def _assumptions(symbols: Iterable[sp.Symbol], given: Iterable[sp.Basic]) -> tuple[str, ...]:
    stated = [_latex(relation) for relation in given if relation != sp.true]
    groups: dict[str, list[str]] = {}
    for symbol in symbols:
        if isinstance(symbol, words.Letter):
            facts = [words.STRUCTURES[symbol.structure]]
        else:
            facts = [fact if truth else f"not {fact}" for fact, truth in symbol._assumptions_orig.items()]
        groups.setdefault(" ".join(sorted(facts)) or "complex", []).append(_latex(symbol))
    return (*stated, *(rf"{', '.join(names)}\ \text{{{facts}}}" for facts, names in groups.items()))


def _array(values: Any, name: str) -> np.ndarray:
    if hasattr(values, "detach"):  # torch, without importing it
        values = values.detach().cpu()
        values = (values.float() if "bfloat16" in str(values.dtype) else values).numpy()
    try:
        return np.asarray(values)
    except ValueError:
        raise TypeError(f"{name}: numbers in rows of one length expected, {values!r} given") from None


def _numbers(label: str, values: Any, name: str) -> np.ndarray:
    """Values as a float64 or complex128 array, or as an object array of mpmath numbers; NaN and infinities are refused."""
    array = _array(values, name)
    if array.size == 0:
        raise VacuousCheck(f"{label}: {name} is empty, so nothing was compared.")
    if array.dtype == object:
        out = np.empty(array.shape, dtype=object)
        for index, value in np.ndenumerate(array):
            value = sp.N(value, max(30, mpmath.mp.dps)) if isinstance(value, sp.Expr) else value
            try:
                out[index] = mpmath.mpmathify(value)
            except TypeError:
                raise TypeError(f"{name}: numbers expected, {value!r} given") from None
        finite = all(mpmath.isfinite(v) for v in out.ravel())
    elif array.dtype.kind in "biufc":
        out = array.astype(complex if array.dtype.kind == "c" else float)
        finite = bool(np.all(np.isfinite(out)))
    else:
        raise TypeError(f"{name}: numbers expected, dtype {array.dtype} given")
    if not finite:
        raise VacuousCheck(f"{label}: {name} has a NaN or an infinity.")
    return out


def _floats(label: str, values: Any, name: str) -> np.ndarray:
    """As `_numbers`, in double precision."""
    array = _numbers(label, values, name)
    if array.dtype != object:
        return array
    return array.astype(float if all(_is_real(v) for v in array.ravel()) else complex)


def _is_real(value: Any) -> bool:
    return not isinstance(value, (complex, mpmath.mpc))


def _epsilon(array: np.ndarray) -> float:
    """Relative spacing of the numbers; everything in hardware formats is computed in double precision at best."""
    if array.dtype == object:
        return float(mpmath.mp.eps)
    return max(float(np.finfo(array.dtype).eps) if array.dtype.kind in "fc" else 0.0, float(np.finfo(float).eps))


def _one_number(name: str, value: Any) -> float:
    if isinstance(value, bool | np.bool_ | str) or np.ndim(value) or not isinstance(value, SupportsFloat):
        raise TypeError(f"{name}: a number expected, {value!r} given")
    return float(value)


def _same_memory(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether both arrays are one view of the same numbers (a matrix and its transpose are two)."""
    layouts = [(array.__array_interface__["data"], array.strides, array.shape) for array in (a, b)]
    return a.size > 0 and layouts[0] == layouts[1]


def _same_shape(label: str, a: np.ndarray, b: np.ndarray, name_a: str, name_b: str) -> None:
    if np.shape(a) != np.shape(b):
        raise VacuousCheck(
            f"{label}: {name_a} has shape {np.shape(a)}, {name_b} {np.shape(b)}; give both the same shape, broadcasting hides mistakes."
        )


def _magnitude(label: str, claim: np.ndarray, scale: float | None) -> np.ndarray:
    magnitude = abs(claim)
    if scale is not None and not 0 < _one_number("scale", scale) < math.inf:
        raise VacuousCheck(f"{label}: scale= has to be a positive magnitude, {scale} given.")
    if np.any(magnitude == 0):
        if scale is None:
            raise VacuousCheck(
                f"{label}: a claimed value is 0, which has no relative error. Give scale=, the magnitude that counts as 1."
            )
        magnitude = np.where(magnitude == 0, scale, magnitude)
    return magnitude


def _z_test(
    label: str,
    mean: np.ndarray,
    claim: np.ndarray,
    error: np.ndarray,
    sigmas: float,
    scale: float | None,
    what: str,
) -> tuple[np.ndarray, float]:
    magnitude = _magnitude(label, claim, scale)
    z = (mean - claim) / error
    if np.any(abs(z) > sigmas):
        worst = int(np.argmax(abs(z)))
        raise CheckFailed(
            f"{label}: {what} is {mean.ravel()[worst]:.6g}, claimed {claim.ravel()[worst]:.6g}: {z.ravel()[worst]:+.1f} standard errors, {sigmas:g} allowed."
        )
    resolution = float(np.max((sigmas * error + abs(mean - claim)) / magnitude))
    wrong = claim + 2 * resolution * magnitude
    if resolution >= 1 or not np.any(abs(mean - wrong) / error > sigmas):
        raise VacuousCheck(
            f"{label}: {sigmas:g} standard errors are {resolution:.0%} of the claimed value, so even 0 or its double would pass. Draw more samples."
        )
    return z, resolution


def _count(cases: Sequence[Any], noun: str) -> str:
    if len(cases) == 1:
        return f"1 {noun}, {cases[0]}"
    return f"{len(cases)} {noun}s, from {cases[0]} to {cases[-1]}"


class _Printer(LatexPrinter):
    """SymPy's LaTeX with the names that the chapters use."""

    def __init__(self) -> None:
        super().__init__({"ln_notation": True})

    def _print_polygamma(self, e: sp.polygamma, exp: str | None = None) -> str:
        order, argument = e.args
        mark = "'" * int(order) if order in (0, 1, 2, 3) else f"^{{({self._print(order)})}}"
        psi = rf"\psi{mark}\left({self._print(argument)}\right)"
        return rf"\left[{psi}\right]^{{{exp}}}" if exp else psi

    def _print_loggamma(self, e: sp.loggamma, exp: str | None = None) -> str:
        ln = rf"\ln\Gamma\left({self._print(e.args[0])}\right)"
        return rf"\left[{ln}\right]^{{{exp}}}" if exp else ln


def _latex(e: Any) -> str:
    return _Printer().doprint(e)


def _latex_claim(left: sp.Basic, relation: str, right: sp.Basic) -> str:
    """LaTeX of the claim; small matrices entry by entry, very long integers shortened."""
    pairs = [(left, right)]
    if isinstance(left, sp.MatrixBase) and isinstance(right, sp.MatrixBase) and len(left) <= 3:
        pairs = list(zip(left, right, strict=True))
    text = r",\quad ".join(f"{_latex(a)} {RELATION_LATEX[relation]} {_latex(b)}" for a, b in pairs)
    return re.sub(r"\d{31,}", lambda m: rf"{m[0][:6]}\ldots{m[0][-3:]}\,_{{({len(m[0])}\text{{ digits}})}}", text)


def _number(value: Any, digits: int = 6) -> str:
    return _latex(sp.Float(value, digits) if _is_real(value) else sp.sympify(value).n(digits))


def _plain(value: sp.Expr) -> str:
    return str(value) if value.is_Rational and len(str(value)) < 20 else str(sp.N(value, 8))
