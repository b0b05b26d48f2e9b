"""Small mistakes in a claim, as one makes them by hand: in a SymPy expression, and in an array of numbers.

A *mutation* is one mistake at one place. It need not make the claim false (twice zero is zero): that is for `audit` to decide.

============  ====================================================================
`factor`      twice the part, or the entry
`sign`        minus the part
`exponent`    a power one higher or lower; a symbol or a function squared
`constant`    a number that stands in the formula, one more or one less
`index`       an integer symbol, or the argument of a function, one more
`swap`        factors that do not commute, arguments, rows or entries exchanged
`symbols`     two symbols exchanged on one side
`transpose`   a matrix or a letter transposed
`drop`        a term or a factor left out
`bound`       a sum, product or integral that begins or ends one later; the point of a limit moved
`function`    sine for cosine, maximum for minimum, and so on
`order`       one derivative more
`shift`       numbers moved on by one place
============  ====================================================================
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise, zip_longest
from typing import Any

import numpy as np
import sympy as sp
from sympy.concrete.expr_with_limits import ExprWithLimits
from sympy.core.function import AppliedUndef
from sympy.matrices.expressions.matexpr import MatrixElement

from kexue_utils import words

COUNTERPART = {
    sp.sin: sp.cos,
    sp.cos: sp.sin,
    sp.tan: sp.cot,
    sp.cot: sp.tan,
    sp.sinh: sp.cosh,
    sp.cosh: sp.sinh,
    sp.asin: sp.acos,
    sp.acos: sp.asin,
    sp.Max: sp.Min,
    sp.Min: sp.Max,
    sp.floor: sp.ceiling,
    sp.ceiling: sp.floor,
    sp.erf: sp.erfc,
    sp.erfc: sp.erf,
    sp.Trace: sp.Determinant,
    sp.Determinant: sp.Trace,
    words.Tr: words.Det,
    words.Det: words.Tr,
}
LEAVES = (sp.Symbol, sp.MatrixSymbol, MatrixElement, sp.Lambda, sp.logic.boolalg.Boolean)


@dataclass(frozen=True)
class Mutation:
    """One mistake: `before`, a part of something larger, becomes ``change()``, and the whole ``rebuild(change())``."""

    operator: str
    before: Any
    change: Callable[..., Any]
    rebuild: Callable[..., Any]
    where: str = ""

    def apply(self) -> tuple[Any, str]:
        """The whole with the mistake in it, and the mistake in words."""
        after = self.change()
        return self.rebuild(after), f"{short(self.before)} → {short(after)}"

    def inside(self, rebuild: Callable[[Any], Any], where: str) -> Mutation:
        """The same mistake, as part of something larger still."""
        return Mutation(self.operator, self.before, self.change, lambda part: rebuild(self.rebuild(part)), where)


def of_expression(e: sp.Basic) -> Iterator[Mutation]:
    """Mutations of every node of an expression or a matrix that counts.

    >>> x = sp.Symbol("x")
    >>> sorted({str(mutation.apply()[0]) for mutation in of_expression(sp.sin(x) + 1) if mutation.operator == "constant"})
    ['sin(x)', 'sin(x) + 2']
    """
    e = e.as_immutable() if isinstance(e, sp.MatrixBase) else e
    for node, rebuild in _nodes(e, unchanged):
        for operator, change in _mistakes(node):
            yield Mutation(operator, node, change, rebuild)
    free = sorted((s for s in e.free_symbols if isinstance(s, sp.Symbol)), key=str)
    for a, b in combinations(free, 2):
        if _exchangeable(a, b):
            swapped = {a: b, b: a}
            yield Mutation(
                "symbols", sp.Tuple(a, b), lambda a=a, b=b: sp.Tuple(b, a), lambda _, s=swapped: e.xreplace(s)
            )


def of_numbers(a: np.ndarray, scale: float = 1.0) -> Iterator[Mutation]:
    """Mutations of an array of numbers; where it is 0, `scale` is added in place of a factor, and 1 to whole numbers.

    >>> [str(mutation.apply()[0]) for mutation in of_numbers(np.array([1, 2, 4])) if mutation.operator == "shift"]
    ['[4 1 2]']
    """

    def mistake(operator: str, change: Callable[..., Any]) -> Mutation:
        return Mutation(operator, a, change, unchanged)

    yield mistake("factor", lambda: 2 * a)
    yield mistake("sign", lambda: -a)
    yield mistake("exponent", lambda: a**2)
    if not np.all(a) or all(
        float(abs(value)).is_integer() for value in a.flat
    ):  # a count or an index may be off by one
        yield mistake("constant", lambda: a + scale)
    if a.size < 2:
        return
    for place in sorted({0, a.size // 2, a.size - 1}):
        yield mistake("factor", lambda place=place: _with_entry(a, place, 2 * a.flat[place] or scale))
        yield mistake("sign", lambda place=place: _with_entry(a, place, -a.flat[place] or scale))
    yield mistake("shift", lambda: np.roll(a.ravel(), 1).reshape(a.shape))
    yield mistake("swap", lambda: a.ravel()[::-1].reshape(a.shape))
    for axis in range(a.ndim):
        yield mistake("swap", lambda axis=axis: _with_first_two_exchanged(a, axis))
    if a.ndim >= 2 and a.shape[-1] == a.shape[-2]:
        yield mistake("transpose", lambda: np.swapaxes(a, -1, -2).copy())


def choose(candidates: Iterable[Mutation], seed: str) -> Iterator[Mutation]:
    """Candidates in an order in which all operators take turns, each with its places in random order; the caller stops.

    >>> x = sp.Symbol("x")
    >>> mutations = list(choose(of_expression(x**2), "seed"))
    >>> sorted({mutation.operator for mutation in mutations[:4]})
    ['constant', 'exponent', 'factor', 'sign']
    """
    rng = random.Random(seed)
    by_operator: dict[str, list[Mutation]] = {}
    for candidate in candidates:
        by_operator.setdefault(candidate.operator, []).append(candidate)
    for mutations in by_operator.values():
        rng.shuffle(mutations)
    rows = list(by_operator.values())
    rng.shuffle(rows)
    for turn in zip_longest(*rows):
        yield from (mutation for mutation in turn if mutation is not None)


def short(value: Any, length: int = 70) -> str:
    """A value on one line, cut where it is long."""
    text = " ".join(str(value).split())
    return text if len(text) <= length else f"{text[: length - 2]} …"


def unchanged(part: Any) -> Any:
    """The part itself: how a mutation of the whole is rebuilt."""
    return part


def _nodes(e: Any, rebuild: Callable[..., Any]) -> Iterator[tuple[Any, Callable[..., Any]]]:
    """Every part of an expression, with the function that puts another part in its place."""
    yield e, rebuild
    for place, child in _children(e):
        yield from _nodes(child, lambda part, place=place: rebuild(_with_child(e, place, part)))


def _children(e: Any) -> Iterator[tuple[int, Any]]:
    """The parts that may change one by one: no variables of integration, no conditions, no sizes of matrices."""
    if isinstance(e, sp.MatrixBase):
        yield from enumerate(e.flat())
    elif isinstance(e, LEAVES) or e.is_Atom:
        return
    elif isinstance(e, (ExprWithLimits, sp.Derivative, sp.Limit, sp.Subs)):
        yield 0, e.args[0]
    elif isinstance(e, sp.Piecewise):
        yield from ((place, piece.expr) for place, piece in enumerate(e.args))
    else:
        yield from ((i, arg) for i, arg in enumerate(e.args) if isinstance(arg, (sp.Expr, sp.MatrixBase)))


def _with_child(e: Any, place: int, part: Any) -> Any:
    if isinstance(e, sp.MatrixBase):
        entries = e.flat()
        entries[place] = part
        return sp.ImmutableMatrix(*e.shape, entries)
    args = list(e.args)
    args[place] = (part, args[place].cond) if isinstance(e, sp.Piecewise) else part
    return e.func(*args)


def _mistakes(e: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    if e == 0:
        if isinstance(e, sp.Expr):
            yield "constant", lambda: sp.S.One
        return
    if isinstance(e, sp.MatrixBase) or getattr(e, "is_Matrix", False):
        yield "factor", lambda: 2 * e
        yield "sign", lambda: -e
        if e.shape[0] == e.shape[1]:
            yield "transpose", lambda: e.T
        if isinstance(e, sp.MatrixBase) and e.rows > 1:
            yield "swap", lambda: sp.ImmutableMatrix(e).elementary_row_op("n<->m", row1=0, row2=1)
    elif isinstance(e, sp.Expr):
        yield "factor", lambda: 2 * e
        yield "sign", lambda: -e
    if e.is_Number:
        yield "constant", lambda: e + 1
        yield "constant", lambda: e - 1
    if e.is_Symbol and e.is_integer:
        yield "index", lambda: e + 1
    if isinstance(e, words.Letter):
        yield "transpose", lambda: e.T
    elif (e.is_Symbol or isinstance(e, sp.Function)) and e.is_commutative:
        yield "exponent", lambda: e**2
    if e.is_Pow:
        yield "exponent", lambda: e.base ** (e.exp + 1)
        yield "exponent", lambda: e.base ** (e.exp - 1)
    if isinstance(e, (sp.Function, AppliedUndef)) and e.args[-1].is_commutative:
        yield "index", lambda: e.func(*e.args[:-1], e.args[-1] + 1)
    if isinstance(e, sp.Function) and len(e.args) > 1 and not isinstance(e, (sp.Max, sp.Min, sp.Piecewise)):
        yield "swap", lambda: e.func(*reversed(e.args))
    if e.is_Mul or e.is_MatMul:
        fixed = [
            i for i, factor in enumerate(e.args) if not factor.is_commutative or getattr(factor, "is_Matrix", False)
        ]
        for i, j in pairwise(fixed):
            yield "swap", lambda i=i, j=j: e.func(*_exchanged(e.args, i, j))
    if e.is_Add or e.is_Mul or e.is_MatAdd or e.is_MatMul:
        for i, part in enumerate(e.args):
            if part != -1:
                yield "drop", lambda i=i: e.func(*e.args[:i], *e.args[i + 1 :])
    if type(e) in COUNTERPART:
        yield "function", lambda: COUNTERPART[type(e)](*e.args)
    if isinstance(e, sp.Derivative):
        yield "order", lambda: sp.Derivative(e, e.variables[0])
    if isinstance(e, sp.Limit) and e.args[2].is_finite:
        yield "bound", lambda: sp.Limit(e.args[0], e.args[1], e.args[2] + 1, e.args[3])
    if isinstance(e, ExprWithLimits):
        for place, limit in enumerate(e.limits):
            for end in range(1, len(limit)):
                yield "bound", lambda place=place, end=end: _with_other_bound(e, place, end)


def _with_other_bound(e: ExprWithLimits, place: int, end: int) -> ExprWithLimits:
    limits = [list(limit) for limit in e.limits]
    bound = limits[place][end]
    limits[place][end] = sp.S.Zero if bound.is_infinite else bound + 1
    return e.func(e.function, *map(tuple, limits))


def _exchangeable(a: sp.Symbol, b: sp.Symbol) -> bool:
    return isinstance(a, words.Letter) == isinstance(b, words.Letter)


def _exchanged(args: Iterable[Any], i: int, j: int) -> list[Any]:
    out = list(args)
    out[i], out[j] = out[j], out[i]
    return out


def _with_entry(a: np.ndarray, place: int, value: Any) -> np.ndarray:
    out = a.copy()
    out.flat[place] = value
    return out


def _with_first_two_exchanged(a: np.ndarray, axis: int) -> np.ndarray:
    order = list(range(a.shape[axis]))
    order[:2] = reversed(order[:2])
    return np.take(a, order, axis)
