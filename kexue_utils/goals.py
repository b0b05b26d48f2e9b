"""One symbolic claim and the ways to attack it: the search for a counter-example, the proof, and the proof of a falsified claim.

`evidence` uses this for everything symbolic; chapters do not. A *goal* is ``lhs relation rhs`` under stated conditions. A *closer* is a
named way to see that two sides agree, which can be tried on other sides too; the strategies that closers use are in `strategies`.
"""

from __future__ import annotations

import contextvars
import ctypes
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, NoReturn, TypeVar

import mpmath
import numpy as np
import sympy as sp

from . import strategies, words
from .strategies import Strategy

OPPOSITE = {"<": ">", "<=": ">", ">": "<", ">=": "<"}


class CheckFailed(AssertionError):
    """The claim does not hold; the message names the label and the residual or a counter-example."""


class VacuousCheck(ValueError):
    """The check could not have failed, so it is no evidence; the message says why and what to do."""


class TimeLimitReached(RuntimeError):
    """SymPy did not finish within the time limit."""


class Goal:
    """One claim ``lhs relation rhs``, and the ways to attack it."""

    def __init__(self, label: str, lhs: sp.Basic, rhs: sp.Basic, relation: str, given: tuple[sp.Basic, ...]) -> None:
        self.label, self.relation = label, relation
        if lhs == rhs:
            raise VacuousCheck(
                f"{label}: SymPy reads both sides as the same expression, {lhs}. State the left side as it is defined (an Integral, "
                "a Derivative, evaluate=False where SymPy rewrites at once) and the right side as it is claimed, or use exact()."
            )
        substitutions = _substitutions(given)
        self.conditions = tuple(r.subs(substitutions) for r in given if not isinstance(r, sp.Eq))
        self.lhs, self.rhs = (explicit(side).subs(substitutions) for side in (lhs, rhs))
        for side, name in ((self.lhs, "lhs"), (self.rhs, "rhs")):
            if side.has(sp.nan, sp.zoo):
                raise VacuousCheck(f"{label}: {name} is undefined ({side}).")
            refuse_floats(f"{label}, {name}", side)
        self.pairs = self._entrywise()
        free = set().union(*(e.free_symbols for e in (self.lhs, self.rhs, *self.conditions)))
        self.symbols = sorted({s.base if isinstance(s, words.Letter) else s for s in free}, key=str)
        named = [symbol.name for symbol in self.symbols if not isinstance(symbol, sp.Dummy)]
        twice = [name for name in named if named.count(name) > 1]
        if twice:
            raise ValueError(
                f"{label}: two different symbols are called {twice[0]} (same name, other assumptions); define it once and use that."
            )

    def _entrywise(self) -> list[tuple[sp.Expr, sp.Expr]]:
        left_is, right_is = isinstance(self.lhs, sp.MatrixBase), isinstance(self.rhs, sp.MatrixBase)
        if not left_is and not right_is:
            return [(self.lhs, self.rhs)]
        if not (left_is and right_is) or self.lhs.shape != self.rhs.shape:
            shapes = [side.shape if isinstance(side, sp.MatrixBase) else "scalar" for side in (self.lhs, self.rhs)]
            raise VacuousCheck(f"{self.label}: shapes differ: lhs {shapes[0]}, rhs {shapes[1]}.")
        if self.relation != "=":
            raise ValueError(f"relation: {self.relation!r} given for matrices, '=' expected")
        return list(zip(self.lhs, self.rhs, strict=True))

    # -- looking for a counter-example

    def search_counterexample(self, wanted: int = 10) -> int:
        """Try points that satisfy the assumptions; the number of points at which the claim could be evaluated and held."""
        costly = any(side.has(*strategies.UNEVALUATED) for side in (self.lhs, self.rhs))
        wanted = 2 if costly else wanted if self.relation == "=" else 4 * wanted
        pairs = [(_with_test_functions(left), _with_test_functions(right)) for left, right in self.pairs]
        agreed = tried = 0
        for point in _points(self.symbols, self.conditions, 4 * wanted, costly):
            tried += 1
            entries = [entry for pair in pairs for entry in entries_at(*pair, point)]
            residuals = [r for left, right in entries if (r := _residual(left, right, self.relation, point, costly))]
            if len(residuals) < len(entries):
                continue
            worst = max(residuals, key=lambda r: r.violation)
            if worst.violation > 0:
                where = " at " + place(point) if point else ""
                example = " (for one choice of the unknown functions)" if pairs != self.pairs else ""
                entry = ", in one entry" if len(entries) > len(pairs) else ""
                raise CheckFailed(
                    f"{self.label}: false{where}{example}: left side {worst.left}, right side {worst.right} (claimed {self.relation}{entry})."
                )
            agreed += 1
            if agreed == wanted:
                break
        if not tried:
            raise VacuousCheck(
                f"{self.label}: no point was found that satisfies all assumptions, so the claim may say nothing. "
                "Look for a contradiction in given= and in the assumptions of the symbols."
            )
        return agreed

    # -- closing the goal

    def close(self, by: tuple[Strategy, ...]) -> list[Closer]:
        """One way to close each entry of the goal; CheckFailed with what is left of the first entry that has none."""
        closers: list[Closer] = []
        for left, right in self.pairs:
            if any(closer.closes(left, right) for closer in closers):
                continue
            closer = next((c for c in self._closers(left, right, by) if c.closes(left, right)), None)
            if closer is None:
                self._give_up(left, right)
            closers.append(closer)
        return closers

    def _closers(self, left: sp.Expr, right: sp.Expr, by: tuple[Strategy, ...]) -> Iterator[Closer]:
        if self.relation != "=":
            for strategy in (None, *by):
                argument = self._argument(left, right, strategy)
                if argument:
                    name = f"{_name(strategy)}, then {argument}" if strategy else argument
                    yield Closer(name, partial(self._by_argument, strategy, argument), (strategy, argument))
            return
        for strategy in by:
            yield Closer(_name(strategy), partial(_by_rewriting, strategy))
        for upper in (strategies.upper_limit(left), strategies.upper_limit(right)):
            if upper is not None:
                yield Closer(f"induction over {upper}", lambda a, b: _by_induction(a, b, by))
        for prepare in (self._evaluated, self._shifted):
            if unfinished(prepare(left)) or unfinished(prepare(right)):
                continue
            for strategy in (_difference, *by, *strategies.DEFAULT):
                yield Closer(_name(strategy), partial(_by_preparing, prepare, strategy))

    def _evaluated(self, side: sp.Expr) -> sp.Expr:
        return strategies.decide(strategies.evaluate(side), self.conditions)

    def _shifted(self, side: sp.Expr) -> sp.Expr:
        return strategies.evaluate(strategies.shift(self._evaluated(side), self.conditions))

    def _argument(
        self, left: sp.Expr, right: sp.Expr, strategy: Strategy | None, argument: str | None = None
    ) -> str | None:
        left, right = self._evaluated(left), self._evaluated(right)
        gap = left - right if self.relation in (">", ">=") else right - left
        if unfinished(left) or unfinished(right) or unfinished(gap):
            return None
        return strategies.is_positive(
            strategy(gap) if strategy else gap, self.conditions, self.relation in ("<", ">"), argument
        )

    def _by_argument(self, strategy: Strategy | None, argument: str, left: sp.Expr, right: sp.Expr) -> bool:
        return bool(self._argument(left, right, strategy, argument))

    def _give_up(self, left: sp.Expr, right: sp.Expr) -> NoReturn:
        left, right = self._evaluated(left), self._evaluated(right)
        d = left - right
        if d.has(sp.nan, sp.zoo):
            raise VacuousCheck(f"{self.label}: undefined after evaluation: {d}.")
        if unfinished(left) or unfinished(right):
            raise VacuousCheck(
                f"{self.label}: an integral, sum or limit is left unevaluated in {left} or {right}. Prove its antiderivative or "
                "recursion instead, pass a strategy by=..., or use numeric()."
            )
        raise CheckFailed(f"{self.label}: not proved; what is left of the difference is {strategies.simplify(d)}.")

    # -- a check must be able to fail

    def reject_falsified(self, closers: list[Closer], by: tuple[Strategy, ...]) -> None:
        """Try what closed the goal on falsified claims; refuse when one of them is accepted."""
        left, right = next((pair for pair in self.pairs if pair[0] != pair[1]), self.pairs[0])
        for strategy in by:
            if self.relation == "=" and strategy in strategies.DEFAULT:
                continue
            if any(words.in_letters(side) for side in (left, right)):  # nothing may be added to a word of unknown shape
                self._reject_unfaithful(strategy, sp.Rational(8, 7) * left - right)
            else:
                self._reject_unfaithful(strategy, left - right + sum(self.symbols, sp.Rational(1, 7)))
        if self.relation != "=":
            opposite = Goal(self.label, self.lhs, self.rhs, OPPOSITE[self.relation], self.conditions)
            if all(
                any(opposite._argument(a, b, *way) for closer in closers if (way := closer.way))
                for a, b in opposite.pairs
            ):
                raise VacuousCheck(f"{self.label}: the opposite inequality is accepted as well ({closed_by(closers)}).")
            return
        wrong = [side for side in (right + 1, right * sp.Rational(8, 7)) if side not in (left, right)]
        for closer in closers:
            for side in wrong:
                if closer.closes(left, side):
                    raise VacuousCheck(
                        f"{self.label}: {closer.name} closes the falsified claim {left} = {side} as well."
                    )

    def _reject_unfaithful(self, strategy: Strategy, d: sp.Expr) -> None:
        """An own strategy has to leave the value of an expression (not zero, close to the difference) as it is."""
        rewritten = as_sympy(strategy(d), f"the result of strategy {_name(strategy)}")
        costly = d.has(*strategies.UNEVALUATED)
        before, after = _with_test_functions(d), _with_test_functions(rewritten)
        agreed = 0
        for point in _points(self.symbols, self.conditions, 8, costly):
            residuals = [_residual(new, old, "=", point, costly) for new, old in entries_at(after, before, point)]
            wrong = next((r for r in residuals if r is not None and r.violation > 0), None)
            if wrong is not None:
                raise VacuousCheck(
                    f"{self.label}: strategy {_name(strategy)} changes the value of the difference "
                    f"(from {wrong.right} to {wrong.left} at {place(point)}); it has to rewrite, not to change."
                )
            agreed += None not in residuals
        if not agreed and rewritten != d:
            raise VacuousCheck(f"{self.label}: strategy {_name(strategy)} could not be tested at any point.")


def _substitutions(given: Iterable[sp.Basic]) -> dict[sp.Symbol, sp.Expr]:
    """``{symbol: value}`` of the equations in `given`."""
    values: dict[sp.Symbol, sp.Expr] = {}
    for relation in given:
        if not isinstance(relation, (sp.core.relational.Relational, sp.logic.boolalg.Boolean)):
            raise TypeError(f"given: SymPy relations of symbols expected, such as sp.Gt(n, 1); {relation!r} given")
        if isinstance(relation, sp.Eq):
            symbol, value = relation.args
            if not symbol.is_Symbol or symbol in value.free_symbols or symbol in values:
                raise ValueError(f"given: one equation symbol = value for a symbol expected, {relation} given")
            values[symbol] = value
            if isinstance(symbol, words.Letter):
                if not words.respects(symbol, value):
                    raise ValueError(f"given: {symbol} was declared {symbol.structure}, {value} is not seen to be that")
                if isinstance(symbol.T, words.Letter):
                    values[symbol.T] = words.transpose(value)
    return values


def unfinished(e: sp.Expr) -> bool:
    return e.has(sp.nan, sp.zoo, *strategies.UNEVALUATED)


def _with_test_functions(e: sp.Expr) -> sp.Expr:
    """A concrete, positive and smooth function for every undefined one, so that the expression has values."""
    functions = sorted({applied.func for applied in e.atoms(sp.core.function.AppliedUndef)}, key=str)
    for f in functions:
        # The weights depend on the name alone, so that both sides of a claim get the same function.
        seed = random.Random(str(f))
        weights = [sp.Rational(seed.randint(1, 9), 7) for _ in range(9)]
        e = e.replace(f, lambda *a, w=weights: w[0] + sp.exp(sum(c * x for c, x in zip(w[1:], a, strict=False))))
    return e


@dataclass(frozen=True)
class Closer:
    """A named way to see that two sides agree, which can be tried on other sides too."""

    name: str
    closes: Callable[[sp.Expr, sp.Expr], bool]
    way: tuple[Strategy | None, str] | None = None  # of an inequality: how it was rewritten, and the argument


def _difference(d: sp.Expr) -> sp.Expr:
    return d


_difference.__name__ = "evaluation"


def _vanishes(strategy: Strategy, d: sp.Expr) -> bool:
    return not unfinished(d) and strategy(d) == 0


def _by_rewriting(strategy: Strategy, left: sp.Expr, right: sp.Expr) -> bool:
    return strategy(left - right) == 0


def _by_preparing(prepare: Strategy, strategy: Strategy, left: sp.Expr, right: sp.Expr) -> bool:
    return _vanishes(strategy, prepare(left) - prepare(right))


def _by_induction(left: sp.Expr, right: sp.Expr, by: tuple[Strategy, ...]) -> bool:
    steps = strategies.induction(left, right) or strategies.induction(right, left)
    return bool(steps) and all(
        any(_vanishes(strategy, strategies.evaluate(step)) for strategy in (_difference, *by, *strategies.DEFAULT))
        for step in steps
    )


def _name(strategy: Strategy) -> str:
    name = getattr(strategy, "__name__", type(strategy).__name__)
    return "own rewriting" if name == "<lambda>" else name.replace("_", " ")


def closed_by(closers: Iterable[Closer]) -> str:
    return ", ".join(dict.fromkeys(closer.name for closer in closers))


@dataclass(frozen=True)
class _Residual:
    left: sp.Expr
    right: sp.Expr
    violation: float


def _residual(left: sp.Expr, right: sp.Expr, relation: str, point: Mapping, costly: bool) -> _Residual | None:
    """Both sides at a point, and by how much the claim is missed there; None where a side has no value."""
    try:
        left, right = (_at(side, point) for side in (left, right))
        costly = costly and (left.has(*strategies.UNEVALUATED) or right.has(*strategies.UNEVALUATED))
        tolerance = 1e-6 if costly else 1e-15
        a, b = (_evaluated_to(side, 10 if costly else 30) for side in (left, right))
        if not all(v.is_number and v.is_finite for v in (a, b)):
            return None
        size = max(abs(a), abs(b))
        if relation != "=":
            if max(abs(sp.im(a)), abs(sp.im(b))) > tolerance * max(size, 1):
                return _Residual(a.n(12), b.n(12), 1.0)
            a, b = sp.re(a), sp.re(b)
        if relation == "=" and size < 1e-80:  # what is left of an exact 0
            return _Residual(a, b, 0.0)
        gap = {"=": abs(a - b), "<": a - b, "<=": a - b, ">": b - a, ">=": b - a}[relation]
        miss = float(gap / max(size, 1) if costly or relation != "=" else gap / size)
    except (TypeError, ValueError, ArithmeticError, NotImplementedError, AttributeError):
        return None
    if relation in ("<", ">") and gap == 0:  # not miss: as a float, the least of gaps is 0 as well
        miss = 2 * tolerance
    return _Residual(a.n(12), b.n(12), max(0.0, miss - tolerance))


def entries_at(left: sp.Expr, right: sp.Expr, point: Mapping) -> list[tuple[sp.Expr, sp.Expr]]:
    """The two sides; where the point has matrices for letters, the pairs of their entries there."""
    if not any(isinstance(s, words.Letter) for s in point):
        return [(left, right)]
    matrices = {s: v for s, v in point.items() if s == words.n or isinstance(s, words.Letter)}
    numbers = {s: v for s, v in point.items() if s not in matrices}
    return words.sides_at(left.subs(numbers), right.subs(numbers), matrices)


def value_at(e: sp.Expr, point: Mapping, digits: int) -> sp.Expr:
    """Value of an expression at a point; ArithmeticError where an integral does not reach that many digits."""
    return _evaluated_to(_at(e, point), digits)


def _at(e: sp.Expr, point: Mapping) -> sp.Expr:
    # xreplace is many times faster than subs, but does not spare variables that are bound by a derivative or an integral
    e = e.subs(point) if e.has(sp.Derivative, sp.Subs, *strategies.UNEVALUATED) else e.xreplace(point)
    if e.has(sp.Determinant, sp.Trace):
        e = e.replace(lambda part: isinstance(part, (sp.Determinant, sp.Trace)), lambda part: part.doit())
    return written_out(e)


def _evaluated_to(e: sp.Expr, digits: int) -> sp.Expr:
    if e.has(sp.DiracDelta):
        raise ArithmeticError("quadrature does not see a delta function")
    if e.has(
        *strategies.UNEVALUATED
    ):  # quadrature of an oscillating integrand can be far off: believe its own estimate
        return sp.N(e, digits, maxn=2 * digits, strict=e.has(sp.Integral))
    return sp.N(e, digits)


def written_out(e: sp.Expr, terms: int = 1000) -> sp.Expr:
    """Sums and products between numbers, also nested ones, term by term; those of more than that many terms are left as they are."""
    if not e.has(sp.Sum, sp.Product):
        return e
    if not isinstance(e, (sp.Sum, sp.Product)):
        return e.func(*(written_out(part, terms) for part in e.args))
    *inner, (index, first, last) = e.limits
    # SymPy gives a meaning to ranges that run backwards: that is left to it.
    if not (first.is_Integer and last.is_Integer and -1 <= last - first < terms):
        return e
    count = max(1, int(last - first) + 1)
    rest = e.func(e.function, *inner) if inner else e.function
    parts = [written_out(rest.subs(index, value), terms // count) for value in range(int(first), int(last) + 1)]
    return sp.Add(*parts) if isinstance(e, sp.Sum) else sp.Mul(*parts)


def place(point: Mapping) -> str:
    return ", ".join(f"{s} = {v.tolist() if isinstance(v, sp.MatrixBase) else v}" for s, v in point.items())


def _points(
    symbols: Sequence[sp.Symbol], given: Sequence[sp.Basic], attempts: int, costly: bool
) -> Iterator[dict[sp.Symbol, sp.Expr]]:
    """Points that satisfy the symbols' assumptions and the stated relations: small integers and ends first, then random rationals.

    Letters get matrices, of size 2 and 3 in turn.
    """
    letters = [s for s in symbols if isinstance(s, words.Letter)]
    if letters:
        symbols, rng = [s for s in symbols if s not in letters and s != words.n], random.Random(1)
        for trial, numbers in enumerate(_points(symbols, given, attempts, costly) if symbols else [{}] * attempts):
            yield {**words.draw(letters, 2 + trial % 2, rng), **numbers}
        return
    if not symbols:
        yield from [{}] * all(relation == sp.true for relation in given)
        return
    rng, intervals = random.Random(0), strategies.bounds(given)
    if any(interval is sp.S.EmptySet for interval in intervals.values()):
        return
    sizes = (200,) if costly else (10, 100, 1000)
    found = 0
    for trial in range(20 * attempts):
        point = {
            s: _value(s, intervals.get(s), rng, trial, offset, rng.choice(sizes)) for offset, s in enumerate(symbols)
        }
        if all(satisfies(s, v) for s, v in point.items()) and all(r.subs(point) == sp.true for r in given):
            yield point
            found += 1
            if found == attempts:
                return


def _value(
    symbol: sp.Symbol, interval: sp.Set | None, rng: random.Random, trial: int, offset: int, denominator: int
) -> sp.Expr:
    low, high = (interval.inf, interval.sup) if interval else (-sp.oo, sp.oo)
    if symbol.is_nonnegative:
        low = sp.Max(low, 0)
    if symbol.is_nonpositive:
        high = sp.Min(high, 0)
    size = sp.Rational(rng.randint(1, 400), denominator) if not symbol.is_integer else sp.Integer(rng.randint(1, 9))
    size = {0: sp.Integer(1 + offset), 1: sp.S.Zero}.get(trial, size)
    if symbol.is_irrational:
        size *= sp.sqrt(2)
    sign = rng.choice((-1, 1))
    if low.is_finite and high.is_finite and not symbol.is_integer:
        return low + (high - low) * sp.Rational(rng.randint(1, 99), 100)
    if low.is_finite:
        return low + size
    if high.is_finite:
        return high - size
    if symbol.is_imaginary:
        return sp.I * sign * size
    if trial < 2 or symbol.is_extended_real:
        return size if trial < 2 else sign * size
    return sign * size + sp.I * sp.Rational(rng.randint(-300, 300), 100)


def satisfies(symbol: sp.Symbol, value: sp.Basic) -> bool:
    if isinstance(symbol, words.Letter):
        return words.fits(symbol, value)
    return all(getattr(value, f"is_{fact}") == truth for fact, truth in symbol._assumptions_orig.items())


def refuse_floats(label: str, side: sp.Basic) -> None:
    floats = side.atoms(sp.Float)
    if floats:
        raise VacuousCheck(
            f"{label}: {min(floats, key=str)} is a float, which is not exact. Use int, Fraction or sympy.Rational, or numeric()."
        )


def explicit(expr: sp.Basic) -> sp.Basic:
    """The same with every matrix symbol written out in its entries."""
    symbols = expr.atoms(sp.MatrixSymbol)
    if not all(n.is_Integer for m in symbols for n in m.shape):
        raise ValueError(f"matrices need a size in numbers, {expr} has none; choose n = 2 and 3, or prove its entries")
    if symbols:
        written = {m: sp.ImmutableMatrix(*m.shape, lambda i, j, m=m: sp.Symbol(f"{m}_{i}{j}")) for m in symbols}
        expr = expr.xreplace(written).doit()
    return expr.as_explicit() if isinstance(expr, sp.MatrixExpr) else expr


class _OutOfTime(SystemExit):
    """Ends a worker thread: no Exception, which SymPy would catch, and a thread that ends by it does so silently."""


Result = TypeVar("Result")


def within(seconds: float, label: str, work: Callable[[], Result]) -> Result:
    """Result of ``work()``, or TimeLimitReached. No signal and no second process, so it works in every kernel on every platform.

    The work is done in a thread of its own; an exception that arrives late can hit only that thread, never the caller.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"seconds: a number expected, {seconds!r} given")
    if not seconds > 0:
        raise ValueError(f"seconds: a positive time limit expected, {seconds} given")
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    precision = mpmath.mp.prec  # is the whole process's: a thread that ends in mid-course would leave its own behind
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    thread.start()
    try:
        thread.join(min(seconds, threading.TIMEOUT_MAX))
        late = thread.is_alive()
    finally:  # also when the reader interrupts the kernel
        for _ in range(10):  # more than once, because something may catch even this
            if thread.is_alive():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_OutOfTime)
                )
                thread.join(0.05)
        mpmath.mp.prec = precision
    if late:
        raise TimeLimitReached(
            f"{label}: not decided within {seconds:g} s. Split the step, add a strategy by=..., or raise seconds=."
        )
    if errors:
        raise errors[0]
    return results[0]


def as_sympy(value: Any, name: str) -> sp.Basic:
    if isinstance(value, Fraction):
        return sp.Rational(value.numerator, value.denominator)
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: an expression expected, the truth value {value} given")
    with suppress(sp.SympifyError):
        value = sp.sympify(value, strict=True)
    if not isinstance(value, (sp.Expr, sp.MatrixBase)):
        raise TypeError(f"{name}: a SymPy expression or matrix, int or Fraction expected, {type(value).__name__} given")
    return value
