r"""LaTeX formulas as numbers: reading what stands on a page, and its value at a point.

A formula is read into a :class:`Node`, which has a value where its names have values: a number with the digits of mpmath, or a matrix.
Two dialects are read, that of the pages (``\sin^{n-2}\varphi_1\,\d x``, where letters stand side by side) and that of SymPy's printer
(``\sin^{n - 2}{\left(\varphi_{1} \right)}``, where words are names and ``f{\left(x \right)}`` applies a function).

What cannot be read with certainty is refused with :class:`Unreadable`. A general parser for LaTeX has to guess (latex2sympy reads
``RR^T`` as R squared and a text as a product of its letters; SymPy's leaves half of the formulas ambiguous), because what a formula means
depends on spaces and on the names of the page. Here an explicit space ends the argument of a function, as it does for a reader, products
of matrices keep their order, and ``f(x)`` is a product unless the page's notation says otherwise.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import mpmath as mp

__all__ = ["BudgetSpent", "Node", "Point", "Rule", "Unreadable", "canonical", "parse", "rewrite", "tokens"]

Tokens = list[str]
BUDGET = 15_000  # values of names looked up for one formula at one point: bounds the work, the same on every machine
DIGITS = 25


def _words(text: str) -> list[str]:
    return text.split()


# Spaces between factors end the argument of a function; the others mean nothing.
SPACES = {r"\,", r"\;", r"\:", r"\ ", "~", r"\>"}
IGNORED = set(_words(r"\! \displaystyle \textstyle \limits \nolimits \left \right \middle"))
SIZES = re.compile(r"\\(?:[bB]igg?[lrm]?)")
ACCENTS = set(_words(r"\bar \hat \tilde \overline \dot \mathcal"))
ONE_ARGUMENT = r"\sqrt \boxed \text \mathrm \mathsf \mathbb \operatorname \underbrace \substack \begin \end \hphantom"
SPELLED = set(_words(r"\text \mathrm \mathsf \mathbb \mathcal \operatorname \begin \end"))
ARGUMENTS = dict.fromkeys([*_words(ONE_ARGUMENT), *ACCENTS], 1) | {r"\frac": 2, r"\binom": 2, "_": 1, "^": 1}
SAME = dict.fromkeys(_words(r"\tfrac \dfrac \cfrac"), r"\frac") | {
    r"\log": r"\ln",
    r"\times": r"\cdot",
    r"\mid": "|",
}
SAME |= {r"\leq": r"\le", r"\geq": r"\ge", r"\neq": r"\ne", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\Vert": r"\|"}
SAME |= {r"\operatorname*": r"\operatorname", r"\widehat": r"\hat", r"\widetilde": r"\tilde"}
CLOSING = dict(
    pair.split()
    for pair in [
        r"( )",
        r"[ ]",
        r"{ }",
        r"\{ \}",
        r"\lvert \rvert",
        r"\lVert \rVert",
        r"\langle \rangle",
        r"\lfloor \rfloor",
        r"\lceil \rceil",
    ]
)
CLOSING[r"\eval"] = r"\evalbar"

RELATIONS = set(_words(r"= < > \le \ge \ne"))
UNTESTED = set(
    _words(
        r"\approx \to \longrightarrow \sim \propto \in \iff \Longrightarrow \Rightarrow \Longleftrightarrow \mapsto \succeq \succ \preceq "
        r"\xrightarrow \equiv \ll \gg"
    )
)


class Unreadable(Exception):
    """A formula, or a part of it, whose meaning is not certain."""


class BudgetSpent(ArithmeticError):
    """A value that takes too much work."""


# ---------------------------------------------------------------- tokens


def tokens(latex: str, macros: Mapping[str, Any] | None = None, *, printed: bool = False) -> Tokens:
    r"""The tokens of a formula: macros expanded, arguments in braces, sizes and alignment dropped.

    Parameters
    ----------
    latex : the formula.
    macros : the macros of MathJax, name to text or to ``[text, number of arguments]``.
    printed : whether SymPy's printer wrote it, so that letters side by side are one name.

    Examples
    --------
    >>> " ".join(tokens(r"\tfrac12\Bigl(x_1+1\Bigr)^2"))
    '\\frac { 1 } { 2 } ( x _ { 1 } + 1 ) ^ { 2 }'
    """
    latex = re.sub(r"\\\\\s*\[[^\]]*\]", r"\\\\", latex)  # the optional space of a line break
    latex = re.sub(
        r"\\left\s*\.", r"\\eval ", re.sub(r"\\right\s*\|", r"\\rvert ", re.sub(r"\\left\s*\|", r"\\lvert ", latex))
    )
    if printed:
        latex = re.sub(r"\\rvert\s*(?=_\{\\substack)", r"\\evalbar ", latex)
        latex = re.sub(r"\|([^|{}\\]*(?:_\{?\w+)?)\|\}?", _name_in_bars, latex)
    latex = re.sub(r"\\[bB]igg?r?\s*\|", r"\\evalbar ", latex)
    word = r"[A-Za-z]+(?:['·²][A-Za-z]*)*" if printed else "[A-Za-z]"
    raw = re.findall(rf"\\(?:[A-Za-z]+\*?|.)|{word}|\S", latex, flags=re.S)
    raw = _expand([SAME.get(token, token) for token in raw], macros or {})
    raw = [token for token in raw if token not in IGNORED and not SIZES.fullmatch(token)]
    out = _numbers(_braced([SAME.get(token, token) for token in raw]))
    return _whole_words(out)


def _name_in_bars(match: re.Match[str]) -> str:
    r"""SymPy prints a symbol named |N| as it is: one name."""
    return rf"\operatorname{{abs{re.sub(r'[^A-Za-z]', '', match[1])}}}"


def _expand(raw: Tokens, macros: Mapping[str, Any]) -> Tokens:
    out: Tokens = []
    stack = raw[::-1]
    for _ in range(20_000):
        if not stack:
            return out
        token = stack.pop()
        macro = macros.get(token[1:]) if token.startswith("\\") else None
        if macro is None:
            out.append(token)
            continue
        text, count = (macro, 0) if isinstance(macro, str) else macro
        body = [SAME.get(part, part) for part in re.findall(r"#\d|\\(?:[A-Za-z]+\*?|.)|\S", text)]
        arguments = [_take(stack) for _ in range(count)]
        for part in reversed(body):
            stack += arguments[int(part[1:]) - 1][::-1] if re.fullmatch(r"#\d", part) else [part]
    raise Unreadable("macros without end")


def _take(stack: Tokens) -> Tokens:
    """Take one argument off a stack of tokens (last is next), without its braces."""
    while stack and stack[-1] in SPACES | IGNORED:
        stack.pop()
    if not stack:
        raise Unreadable("a command without its argument")
    first = stack.pop()
    if first != "{":
        return [first]
    depth = 1
    out: Tokens = []
    while stack:
        token = stack.pop()
        depth += {"{": 1, "}": -1}.get(token, 0)
        if not depth:
            return out
        out.append(token)
    raise Unreadable("a brace is not closed")


def _braced(raw: Tokens) -> Tokens:
    """Every argument in braces, so that equal formulas have equal tokens."""
    out: Tokens = []
    stack = raw[::-1]
    while stack:
        token = stack.pop()
        if token == "^" and stack and stack[-1] == r"\prime":
            stack.pop()
            token = "'"
        out.append(token)
        if token == r"\sqrt" and stack and stack[-1] == "[":
            while stack and out[-1] != "]":
                out.append(stack.pop())
        for _ in range(ARGUMENTS.get(token, 0)):
            argument = _take(stack)
            for _ in range(ARGUMENTS.get(argument[0], 0) if len(argument) == 1 else 0):  # \sqrt\frac12
                argument += ["{", *_take(stack), "}"]
            out += ["{", *_braced(argument), "}"]
    return out


def _whole_words(raw: Tokens) -> Tokens:
    """What is spelled in a text or a name is one token; the upright d of a differential is a command."""
    out: Tokens = []
    position = 0
    while position < len(raw):
        if raw[position] in SPELLED:
            end = closing(raw, position + 1)
            word = "".join(raw[position + 2 : end])
            out += [r"\diff"] if (raw[position], word) == (r"\mathrm", "d") else [raw[position], "{", word, "}"]
            position = end
        else:
            out.append(raw[position])
        position += 1
    return out


def _numbers(raw: Tokens) -> Tokens:
    """Digits side by side are one number; a point belongs to it when digits follow."""
    out: Tokens = []
    for position, token in enumerate(raw):
        after = raw[position + 1] if position + 1 < len(raw) else ""
        number = bool(out) and re.fullmatch(r"[\d.]+", out[-1]) is not None
        if number and (token.isdigit() or (token == "." and after.isdigit() and "." not in out[-1])):
            out[-1] += token
        else:
            out.append(token)
    return out


def canonical(name: Tokens) -> str:
    r"""One spelling of a name, whoever wrote it.

    >>> canonical(tokens(r"\bar\beta_{t-1}")), canonical(tokens(r"\bar{\beta}_{t-1}"))
    ('\\bar\\beta_t-1', '\\bar\\beta_t-1')
    """
    return "".join(token for token in name if token not in "{}" and token not in SPACES)


def closing(formula: Tokens, start: int) -> int:
    """Position of the token that closes the bracket at ``start``."""
    wanted = [CLOSING[formula[start]]]
    for position in range(start + 1, len(formula)):
        token = formula[position]
        if token == wanted[-1]:
            wanted.pop()
            if not wanted:
                return position
        elif token in CLOSING:
            wanted.append(CLOSING[token])
    raise Unreadable(f"{formula[start]} is not closed")


# ---------------------------------------------------------------- notation


@dataclass(frozen=True)
class Rule:
    """How a page's notation is read: the tokens of a pattern, with ``#1`` for anything in brackets, and of its replacement."""

    shown: str
    pattern: tuple[str, ...]
    meaning: tuple[str, ...]

    @classmethod
    def read(cls, shown: str, meaning: str, macros: Mapping[str, Any]) -> Rule:
        pattern, written = _holes(shown, macros), _holes(meaning, macros)
        try:
            trial = [re.sub(r"#\d", "x", token) for token in written]
            parse(trial, functions={token for token in trial if token.isalpha() and len(token) == 1})
            written = ["(", *written, ")"] if len(written) > 1 else written
        except Unreadable:  # the beginning of a sum, say, or a relation
            written = _one_factor(written)
        return cls(shown, tuple(pattern), tuple(written))


def _holes(latex: str, macros: Mapping[str, Any]) -> Tokens:
    r"""Tokens of a pattern. ``#1`` passes through the tokenizer as a command of its own."""
    filled = re.sub(r"#(\d)", lambda match: rf"\hole{'abcdefghi'[int(match[1]) - 1]} ", latex)
    return [
        re.sub(r"^\\hole([a-i])$", lambda m: f"#{'abcdefghi'.index(m[1]) + 1}", token)
        for token in tokens(filled, macros)
    ]


def rewrite(formula: Tokens, rules: Sequence[Rule]) -> tuple[Tokens, set[str]]:
    """The formula after the notation was written out, and which rules were used. Earlier rules win; no rule sees its own result twice."""
    used: set[str] = set()
    for rule in rules:
        out: Tokens = []
        position = 0
        while position < len(formula):
            spelled = position > 1 and formula[position - 2] in SPELLED and formula[position - 1] == "{"
            match = None if spelled else _match(rule.pattern, formula, position)
            if match is None:
                out.append(formula[position])
                position += 1
                continue
            position, holes = match
            used.add(rule.shown)
            written = [part for token in rule.meaning for part in _one_factor(holes.get(token, [token]))]
            out += written
        formula = out
    return formula, used


def _one_factor(formula: Tokens) -> Tokens:
    """A sum in brackets, so that it can stand in a product."""
    if (
        len(formula) > 1
        and len([part for sign in ("+", "-", r"\circ", r"\odot") for part in split_at(formula, {sign})]) > 4
    ):
        return ["(", *formula, ")"]
    return formula


def _match(pattern: Sequence[str], formula: Tokens, start: int) -> tuple[int, dict[str, Tokens]] | None:
    holes: dict[str, Tokens] = {}
    position = start
    bare = pattern[-1] == "}" or pattern[-1][-1].isalpha()  # a name does not match the beginning of a longer one
    for index, token in enumerate(pattern):
        while index and position < len(formula) and formula[position] in SPACES and token not in SPACES:
            position += 1
        if position >= len(formula):
            return None
        if token.startswith("#"):
            follows = pattern[index + 1] if index + 1 < len(pattern) else None
            end = _reach(formula, position, follows)
            if end is None:
                return None
            holes[token] = formula[position:end]
            position = end
        elif formula[position] == token:
            position += 1
        else:
            return None
    if bare and position < len(formula) and formula[position] in ("_", "'") and not pattern[-1].startswith("#"):
        return None
    return position, holes


def _reach(formula: Tokens, start: int, follows: str | None) -> int | None:
    """Where the argument of a hole ends: at the token that follows it in the pattern, outside of brackets."""
    if follows is None:  # one token, or one group
        token = formula[start]
        return closing(formula, start) + 1 if token in CLOSING else start + 1
    position = start
    while position < len(formula):
        token = formula[position]
        if token == follows and position > start:
            return position
        if token in CLOSING:
            position = closing(formula, position)
        elif token in CLOSING.values():
            return None
        position += 1
    return None


# ---------------------------------------------------------------- values


@dataclass
class Point:
    """Values of names; ``budget`` bounds what may be looked up. ``dimension``: rows of the matrices, where there are some."""

    values: dict[str, Any]
    standard: tuple[str, ...] = ()
    dimension: int = 0
    budget: int = BUDGET

    def look_up(self, name: str) -> Any:
        self.budget -= 1
        if self.budget < 0:
            raise BudgetSpent(f"more than {BUDGET} values are needed")
        return self.values[name]

    def at(self, name: str, value: Any) -> _Bound:
        return _Bound(self, name, value)


class _Bound:
    """A name that has a value for a while."""

    def __init__(self, point: Point, name: str, value: Any) -> None:
        self.point, self.name, self.value = point, name, value

    def __enter__(self) -> None:
        self.before = self.point.values.get(self.name)
        self.point.values[self.name] = self.value

    def __exit__(self, *args: object) -> None:
        if self.before is None:
            self.point.values.pop(self.name, None)
        else:
            self.point.values[self.name] = self.before


@dataclass
class Node:
    """A formula that was read: its value at a point, the names that need one, and how exact its value is."""

    value: Callable[[Point], Any]
    names: frozenset[str] = frozenset()
    rough: bool = False  # an integral, an infinite sum, a derivative: fewer digits are true
    limit: bool = False  # a limit: a few digits
    name: str = ""  # of a name and nothing else
    exponential: bool = False  # the number e, whose powers may be matrices


def join(
    value: Callable[[Point], Any], *nodes: Node, without: Iterable[str] = (), names: Iterable[str] = (), **flags: bool
) -> Node:
    free = frozenset(names).union(*(node.names for node in nodes)) - frozenset(without)
    rough = flags.get("rough", False) or any(node.rough for node in nodes)
    return Node(value, free, rough, flags.get("limit", False) or any(node.limit for node in nodes))


def is_matrix(value: Any) -> bool:
    return isinstance(value, mp.matrix)


def number(value: Any) -> Any:
    """A number; a 1 x 1 matrix is one."""
    if is_matrix(value):
        if value.rows == value.cols == 1:
            return value[0, 0]
        raise Unreadable("a matrix where a number belongs")
    return value


def add(a: Any, b: Any) -> Any:
    if is_matrix(a) != is_matrix(b):
        matrix, scalar = (a, b) if is_matrix(a) else (b, a)
        if matrix.rows == matrix.cols == 1:
            return matrix[0, 0] + scalar
        if scalar == 0:
            return matrix
        if matrix.rows != matrix.cols:
            raise Unreadable("a number and a column are added")
        return matrix + scalar * mp.eye(matrix.rows)  # as in words: the number 1 beside matrices is the identity
    if is_matrix(a) and (a.rows, a.cols) != (b.rows, b.cols):
        raise Unreadable("matrices of different shapes are added")
    return a + b


def multiply(a: Any, b: Any) -> Any:
    if is_matrix(a) and is_matrix(b) and a.cols != b.rows:
        for one, other in ((a, b), (b, a)):
            if one.rows == one.cols == 1:
                return one[0, 0] * other
        raise Unreadable("matrices whose shapes do not fit are multiplied")
    return a * b


def power(base: Any, exponent: Any) -> Any:
    exponent = number(exponent)
    if not is_matrix(base):
        return mp.power(base, exponent)
    if base.rows == base.cols == 1:
        return mp.power(base[0, 0], exponent)
    if base.rows != base.cols:
        raise Unreadable("a power of a column")
    if exponent == int(mp.re(exponent)):
        return base ** int(mp.re(exponent))
    if 2 * exponent == int(2 * mp.re(exponent)):
        return _root(base) ** int(2 * mp.re(exponent))
    raise Unreadable("a power of a matrix")


def _root(matrix: Any) -> Any:
    if mp.norm(matrix - matrix.T) < mp.mpf(10) ** (5 - DIGITS):
        values, vectors = mp.eigsy(matrix)
        return vectors * mp.diag([mp.sqrt(value) for value in values]) * vectors.T
    return mp.sqrtm(matrix)


def apply_exp(value: Any) -> Any:
    if is_matrix(value) and value.rows > 1:
        return mp.expm(value)
    exponent = number(value)
    if abs(mp.re(exponent)) > 10**9:  # at the far ends of an integral, where mpmath would compute for minutes
        return mp.inf if mp.re(exponent) > 0 else mp.mpf(0)
    return mp.exp(exponent)


def trace(value: Any) -> Any:
    return mp.fsum(value[i, i] for i in range(value.rows)) if is_matrix(value) else value


def determinant(value: Any) -> Any:
    return mp.det(value) if is_matrix(value) and value.rows > 1 else number(value)


def norm(value: Any) -> Any:
    return mp.sqrt(mp.fsum(abs(entry) ** 2 for entry in value)) if is_matrix(value) else abs(value)


def inner(a: Any, b: Any) -> Any:
    if is_matrix(a) and is_matrix(b) and len(a) == len(b):
        return mp.fsum(x * y for x, y in zip(a, b, strict=True))
    raise Unreadable("an inner product of numbers")


def arbitrary(name: str, arguments: Sequence[Any]) -> Any:
    """A function of which nothing is known: smooth, positive, fixed by its name."""
    seed = hashlib.sha256(f"{name}/{len(arguments)}".encode()).digest()
    phase = mp.mpf(seed[0]) / 41 + sum((mp.mpf(seed[1 + i]) / 97 + mp.mpf(1) / 3) * x for i, x in enumerate(arguments))
    return 1 + mp.mpf(3) / 5 * mp.sin(phase) + mp.mpf(seed[9]) / 999


def _gcd(a: Any, b: Any) -> Any:
    return mp.mpf(math.gcd(int(a), int(b)))


def _harmonic(n: Any, order: Any = 1) -> Any:
    return mp.zeta(order) - mp.zeta(order, n + 1) if order != 1 else mp.harmonic(n)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        rf"\{name}": getattr(mp, name)
        for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "zeta")
    },
    **{rf"\arc{name}": getattr(mp, f"a{name}") for name in ("sin", "cos", "tan")},
    **{
        name: getattr(mp, name)
        for name in ("asin", "acos", "atan", "acot", "asinh", "acosh", "atanh", "erf", "erfc", "erfi", "sign")
    },
    "B": mp.beta,
    "harmonic": _harmonic,
    "Ei": mp.ei,
    "Ci": mp.ci,
    "Si": mp.si,
    r"\ln": mp.log,
    r"\Gamma": mp.gamma,
    r"\gcd": _gcd,
    r"\min": min,
    r"\max": max,
}
MATRIX_FUNCTIONS = {
    r"\det": determinant,
    "tr": trace,
    "Re": lambda value: mp.re(number(value)),
    "Im": lambda value: mp.im(number(value)),
}
OVER_MATRICES = {r"\exp": apply_exp}
COMMANDS = {name for name in (*FUNCTIONS, *MATRIX_FUNCTIONS, *OVER_MATRICES) if name.startswith("\\")}
STOPS = set(_words(r"+ - \pm , ; ) ] } \} \rvert \rVert \rangle \rfloor \rceil \evalbar | \| \diff \bmod & \\ \end"))
GREEK = _words(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho varrho sigma tau upsilon phi "
    "varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell nabla"
)
LETTERS = {f"\\{name}" for name in GREEK}
BRACKETS = {"(", "[", "{"}


# ---------------------------------------------------------------- reading


def parse(
    formula: Tokens, *, printed: bool = False, declared: Mapping[str, str] | None = None, functions: Iterable[str] = ()
) -> Node:
    r"""Read one side of a relation.

    Parameters
    ----------
    formula : its `tokens`.
    printed : whether SymPy's printer wrote it.
    declared : what is known of names, name to assumptions such as ``"positive"``; it decides whether e, i and I are names.
    functions : names that are applied, ``f`` in ``f(x)``.

    Raises
    ------
    Unreadable : its meaning is not certain.

    Examples
    --------
    >>> float(parse(tokens(r"\sin^2x\,x")).value(Point({"x": mp.pi / 2})))
    1.5707963267948966
    """
    reader = _Reader(formula, printed, declared or {}, set(functions))
    node = reader.expression()
    reader.spaces()
    if reader.here():
        raise Unreadable(f"{reader.here()} in a place where nothing is expected")
    return node


class _Reader:
    """Recursive descent: an expression is a sum of terms, a term a product of factors, a factor an atom with what is attached to it."""

    def __init__(self, formula: Tokens, printed: bool, declared: Mapping[str, str], functions: set[str]) -> None:
        self.formula, self.printed, self.declared, self.functions = formula, printed, declared, functions
        self.position = 0
        self.bound: list[str] = []

    # Moving.

    def here(self, ahead: int = 0) -> str:
        return self.formula[self.position + ahead] if self.position + ahead < len(self.formula) else ""

    def take(self) -> str:
        if not self.here():
            raise Unreadable("the formula ends too early")
        self.position += 1
        return self.formula[self.position - 1]

    def expect(self, token: str) -> None:
        if self.here() != token:
            raise Unreadable(f"{token} expected before {self.here() or 'the end'}")
        self.position += 1

    def group(self) -> Tokens:
        """The tokens of the bracket that opens here."""
        if self.here() not in CLOSING:
            raise Unreadable(f"a bracket expected before {self.here() or 'the end'}")
        end = closing(self.formula, self.position)
        inside = self.formula[self.position + 1 : end]
        self.position = end + 1
        return inside

    def spaces(self) -> bool:
        start = self.position
        while self.here() in SPACES or (not self.printed and self.here() == "&"):
            self.position += 1
        return self.position > start

    def sub(self, formula: Tokens, bound: Iterable[str] = ()) -> Node:
        reader = _Reader(formula, self.printed, self.declared, self.functions)
        reader.bound = [*self.bound, *bound]
        node = reader.expression()
        reader.spaces()
        if reader.here():
            raise Unreadable(f"{reader.here()} in a place where nothing is expected")
        return node

    # Sums and products.

    def expression(self) -> Node:
        node = self.signed_term(first=True)
        while True:
            self.spaces_unless_differential()
            if self.here() not in ("+", "-"):
                return node
            node = _sum(node, self.signed_term())

    def spaces_unless_differential(self) -> None:
        if not self.at_differential():
            self.spaces()

    def signed_term(self, first: bool = False) -> Node:
        self.spaces_unless_differential()
        sign = self.take() if self.here() in ("+", "-") else "+"
        if sign == "+" and not first and self.here() in STOPS:
            raise Unreadable(f"{self.here()} after a sign")
        node = self.term()
        if self.here() == r"\evalbar":
            node = self.evaluated(node)
        return _negative(node) if sign == "-" else node

    def at_differential(self) -> bool:
        """Whether the variable of an integral follows: ``\\, dx`` as SymPy prints it, or an upright d."""
        if self.here() == r"\diff" or (self.here() in SPACES and self.here(1) == r"\diff"):
            return True
        return self.printed and self.here() in SPACES and self.here(1).startswith("d")

    def term(self) -> Node:
        node: Node | None = None
        operator = ""
        last_number = spaced = False
        while True:
            if self.at_differential():
                break
            spaced = self.spaces() or spaced
            token = self.here()
            if token == "{" and self.here(1) == "}":  # an empty group, for the alignment
                self.position += 2
                continue
            if not token or token in STOPS:
                break
            if token in (r"\cdot", "/", r"\circ", r"\odot"):
                if node is None or operator:
                    raise Unreadable(f"{token} without a factor before it")
                operator = self.take()
                continue
            if token.isdigit() and last_number and not operator:
                raise Unreadable("two numbers side by side")
            is_number = token[0].isdigit()
            factor = self.factor()
            if node is None:
                node = factor
            elif operator == "/":
                node = _quotient(node, factor)
            elif operator in (r"\circ", r"\odot"):
                node = _entrywise(node, factor)
            else:
                node = _product(node, factor, dot=operator == r"\cdot")
            operator, last_number, spaced = "", is_number, False
        if operator:
            raise Unreadable(f"{operator} without a factor after it")
        if node is None:
            raise Unreadable(f"nothing before {self.here() or 'the end'}")
        return node

    def evaluated(self, node: Node) -> Node:
        """A value inserted for a name: a bar with ``_{x=1}`` after a term."""
        self.expect(r"\evalbar")
        self.expect("_")
        place = self.group()
        if place[:1] == [r"\substack"]:
            place = place[2:-1]
        if place.count("=") != 1:
            raise Unreadable("a bar without a place")
        split = place.index("=")
        name, value = self.name_of(place[:split]), self.sub(place[split + 1 :])

        def insert(point: Point) -> Any:
            inserted = value.value(point)
            with point.at(name, inserted):
                return node.value(point)

        return join(insert, Node(node.value, node.names - {name}, node.rough, node.limit), value)

    def name_of(self, formula: Tokens) -> str:
        """The name that these tokens are, and nothing else."""
        formula = [token for token in formula if token not in SPACES]
        if formula and formula[0] == "{" and closing(formula, 0) == len(formula) - 1:
            formula = formula[1:-1]
        reader = _Reader(formula, self.printed, self.declared, set())
        name = reader.plain_name()
        if name is None or reader.here():
            raise Unreadable(f"a name expected, {' '.join(formula)} found")
        return name

    def plain_name(self) -> str | None:
        """Take a name with its index; None where no name stands."""
        start = self.position
        token = self.here()
        if token in ACCENTS or (token in (r"\mathrm", r"\operatorname") and self.here(1) == "{"):
            self.position += 1
            self.group()
        elif token in LETTERS or re.fullmatch(r"[A-Za-z]['·²A-Za-z]*", token):
            self.position += 1
        else:
            return None
        while self.here() == "'" or (self.here() == "_" and self.here(1) == "{"):
            if self.take() == "_":
                self.group()
        return canonical(self.formula[start : self.position])

    # Factors.

    def factor(self) -> Node:
        node = self.atom()
        while True:
            token = self.here()
            if token == "!":
                self.position += 1
                node = _of(mp.factorial, node)
            elif token == "^":
                self.position += 1
                node = self.raised(node, self.group())
            elif token == "_" and self.formula[self.position - 1] == ")":
                self.position += 1
                node = _of(mp.rf, node, self.sub(self.group()))
            else:
                return node

    def raised(self, base: Node, exponent: Tokens) -> Node:
        mark = [token for token in exponent if token not in "{}"]
        inverse = mark[:1] == ["-"]
        if mark[inverse:] == [r"\mathsf", "T"] or (mark[inverse:] == ["T"] and "T" not in self.declared):
            return join(lambda point: _transposed(base.value(point), inverse), base)
        if self.printed and exponent[:1] == ["("] and closing(exponent, 0) == len(exponent) - 1:
            return _of(mp.rf, base, self.sub(exponent[1:-1]))
        power_node = self.sub(exponent)
        if base.exponential:
            return join(lambda point: apply_exp(power_node.value(point)), power_node)
        return join(lambda point: power(base.value(point), power_node.value(point)), base, power_node)

    def atom(self) -> Node:
        token = self.here()
        if re.fullmatch(r"\d+(\.\d+)?", token):
            self.position += 1
            return Node(lambda point: mp.mpf(token))
        if token == "{" and self.here(1) == r"\begin":
            return self.sub(self.group())
        if token in BRACKETS:
            return self.sub(self.group())
        if token == r"\frac":
            return self.fraction()
        if token == r"\sqrt":
            return self.root()
        if token == r"\binom":
            self.position += 1
            return _of(mp.binomial, self.sub(self.group()), self.sub(self.group()))
        if token in (r"\lvert", r"\lVert"):
            inside = self.sub(self.group())
            if token == r"\lVert":
                if self.here() == "_":
                    self.position += 1
                    if self.group() != ["F"]:
                        raise Unreadable("a norm with an index")
                return join(lambda point: norm(inside.value(point)), inside)
            return join(lambda point: _bars(inside.value(point)), inside)
        if token == r"\langle":
            left, right = self.arguments(self.group(), 2)
            return join(lambda point: inner(left.value(point), right.value(point)), left, right)
        if token in (r"\lfloor", r"\lceil"):
            return _of(mp.floor if token == r"\lfloor" else mp.ceil, self.sub(self.group()))
        if token in (r"\sum", r"\prod") or (token in (r"\max", r"\min") and self.here(1) == "_"):
            return self.series()
        if token == r"\int":
            return self.integral()
        if token == r"\lim":
            return self.limit()
        if token == r"\begin":
            return self.matrix()
        if token == r"\eval":
            end = closing(self.formula, self.position)
            inside = self.sub(self.formula[self.position + 1 : end])
            self.position = end
            return self.evaluated(inside)
        if token in (r"\boxed", r"\underbrace"):
            self.position += 1
            inside = self.sub(self.group())
            if token == r"\underbrace" and self.here() == "_":
                self.position += 1
                self.group()
            return inside
        if token == r"\infty":
            self.position += 1
            return Node(lambda point: mp.inf)
        if token == r"\mathbb" and self.formula[self.position + 1 : self.position + 4] == ["{", "E", "}"]:
            self.position += 4
            inside = self.sub(self.group())
            return join(lambda point: _mean(inside, point), inside)
        return self.name()

    def fraction(self) -> Node:
        self.expect(r"\frac")
        above, below = self.group(), self.group()
        mark = above[0] if above else ""
        if mark in (r"\diff", r"\partial") or (self.printed and mark == "d" and below[:1] == ["d"]):
            return self.derivative(above, below, mark)
        return _quotient(self.sub(above), self.sub(below))

    def derivative(self, above: Tokens, below: Tokens, mark: str) -> Node:
        order, rest = 1, above[1:]
        if rest[:2] == ["^", "{"]:
            order, rest = int(rest[2]) if rest[2].isdigit() else 0, rest[4:]
        variable = [token for token in below[1:] if token not in SPACES]
        if order > 1:
            if variable[-4:] != ["^", "{", str(order), "}"]:
                raise Unreadable("a derivative in several variables")
            variable = variable[:-4]
        if below[:1] != [mark] or not order:
            raise Unreadable("a derivative whose order is not a number")
        name = self.name_of(variable)
        body = self.sub(rest) if [token for token in rest if token not in SPACES] else self.term()
        if name not in body.names:
            raise Unreadable(f"a derivative of what does not show {name}")

        def differentiate(point: Point) -> Any:
            def value(x: Any) -> Any:
                with point.at(name, x):
                    return number(body.value(point))

            return mp.diff(value, point.look_up(name), order)

        return join(differentiate, body, rough=True)

    def root(self) -> Node:
        self.expect(r"\sqrt")
        index = self.sub(self.group()) if self.here() == "[" else None
        inside = self.sub(self.group())
        if index is None:
            return _of(mp.sqrt, inside)
        return _of(lambda x, n: mp.power(x, 1 / n), inside, index)

    def matrix(self) -> Node:
        self.expect(r"\begin")
        kind = "".join(self.group())
        if kind not in ("matrix", "pmatrix", "bmatrix"):
            raise Unreadable(f"an environment {kind}")
        rows: list[list[Tokens]] = [[[]]]
        depth = 0
        while not (self.here() == r"\end" and depth == 0):
            token = self.take()
            depth += (token in ("{", r"\begin")) - (token in ("}", r"\end"))
            if token == "&" and not depth:
                rows[-1].append([])
            elif token == r"\\" and not depth:
                rows.append([[]])
            else:
                rows[-1][-1].append(token)
        self.expect(r"\end")
        self.group()
        entries = [[self.sub(cell) for cell in row] for row in rows if row != [[]]]
        if len({len(row) for row in entries}) != 1:
            raise Unreadable("a matrix with rows of different lengths")
        flat = [cell for row in entries for cell in row]
        return join(lambda point: _blocks([[cell.value(point) for cell in row] for row in entries]), *flat)

    def arguments(self, inside: Tokens, count: int | None = None) -> list[Node]:
        nodes = [self.sub(part) for part in split_at(inside, {","})]
        if count is not None and len(nodes) != count:
            raise Unreadable(f"{count} arguments expected, {len(nodes)} found")
        return nodes

    # Sums, integrals, limits.

    def bounds(self) -> tuple[Tokens, Tokens]:
        below: Tokens = []
        above: Tokens = []
        while self.here() in ("_", "^"):
            which = self.take()
            if which == "_":
                below = self.group()
            else:
                above = self.group()
        return below, above

    def series(self) -> Node:
        kind = self.take()
        below, above = self.bounds()
        if below[:1] == [r"\substack"]:
            below = below[2:-1]
        ranges: list[tuple[str, Node, Node]] = []
        start = len(self.bound)
        for row in split_at(below, {r"\\"}):
            names, first, last = self.range_of(row, above)
            ranges += [(name, first, last) for name in names]
        self.bound += [name for name, *_ in ranges]
        self.spaces()
        body = self.term()
        del self.bound[start:]
        names = [name for name, *_ in ranges]
        ranges.reverse()  # SymPy prints the innermost first, and its bounds name the others
        free = frozenset().union(
            body.names, *(node.names for _, first, last in ranges for node in (first, last))
        ) - set(names)
        endless = any(last is INFINITY for *_, last in ranges)
        if endless and len(ranges) > 1:
            raise Unreadable("a double sum without end")
        if endless and kind in SELECTIONS:
            raise Unreadable("the largest of endlessly many")
        return Node(lambda point: _series(body, ranges, kind, point), free, body.rough or endless, body.limit)

    def range_of(self, row: Tokens, above: Tokens) -> tuple[list[str], Node, Node]:
        row = [token for token in row if token not in SPACES]
        parts, signs = split_relations(row)
        if signs == ["="] and above:
            return [self.name_of(part) for part in split_at(parts[0], {","})], self.sub(parts[1]), self._end(above)
        if signs == [r"\ge"] and not above:
            return [self.name_of(parts[0])], self.sub(parts[1]), INFINITY
        if signs == [r"\le", r"\le"] and not above:
            return [self.name_of(parts[1])], self.sub(parts[0]), self._end(parts[2])
        raise Unreadable("a sum whose range is not written out")

    def _end(self, formula: Tokens) -> Node:
        return INFINITY if [token for token in formula if token != "+"] == [r"\infty"] else self.sub(formula)

    def integral(self) -> Node:
        self.expect(r"\int")
        below, above = self.bounds()
        if not below or not above:
            raise Unreadable("an integral without bounds")
        first, last = self.sub(below), self.sub(above)
        body = Node(lambda point: mp.mpf(1)) if self.at_differential() else self.expression()
        self.spaces()
        mark = self.take()
        if mark == r"\diff" or mark == "d":
            name = self.plain_name()
        elif self.printed and mark.startswith("d"):
            self.formula[self.position - 1] = mark[1:]
            self.position -= 1
            name = self.plain_name()
        else:
            raise Unreadable("an integral whose variable is not clear")
        if name is None:
            raise Unreadable("an integral whose variable is not clear")

        def integrate(point: Point) -> Any:
            def value(x: Any) -> Any:
                with point.at(name, x):
                    return number(body.value(point))

            integral, error = mp.quad(value, [number(first.value(point)), number(last.value(point))], error=True)
            if error > mp.mpf(10) ** -12 * max(1, abs(integral)):
                raise ArithmeticError("an integral that is not exact")
            return integral

        inside = Node(body.value, body.names - {name}, body.rough, body.limit)
        return join(integrate, inside, first, last, rough=True)

    def limit(self) -> Node:
        self.expect(r"\lim")
        below, _ = self.bounds()
        if r"\to" not in below:
            raise Unreadable("a limit without a place")
        split = below.index(r"\to")
        name, place = self.name_of(below[:split]), below[split + 1 :]
        side = 0
        if place[-4:-1] == ["^", "{", "+"] or place[-4:-1] == ["^", "{", "-"]:
            side = 1 if place[-2] == "+" else -1
            place = place[:-4]
        target = self.sub(place)
        self.spaces()
        body = self.term()

        def approach(point: Point) -> Any:
            def value(x: Any) -> Any:
                with point.at(name, x):
                    return number(body.value(point))

            end = target.value(point)
            return mp.limit(value, end) if mp.isinf(end) else mp.limit(value, end, direction=side or 1)

        return join(approach, Node(body.value, body.names - {name}), target, limit=True)

    # Names and functions.

    def name(self) -> Node:
        start = self.position
        token = self.here()
        if token in COMMANDS:
            if token in LETTERS and not self.is_special(token):
                return self.symbol()
            self.position += 1
            return self.function(token)
        if token == r"\psi" and self.is_special(token):
            return self.polygamma()
        if token in (r"\mathrm", r"\operatorname"):
            self.position += 1
            inside = self.group()
            word = "".join(inside)
            if word == "i":
                return Node(lambda point: mp.mpc(0, 1))
            if word in FUNCTIONS or word in MATRIX_FUNCTIONS:
                return self.function(word)
            self.position = start
            if canonical(self.formula[start : self.position + 2 + len(inside) + 1]) in self.declared or word.startswith(
                "abs"
            ):
                return self.symbol()
            raise Unreadable(f"{word} has no meaning here")
        if self.printed and token == "E" and self.here(1) == "(":
            self.position += 1
            return _of(mp.ellipe, *self.arguments_after_bar(self.group()))
        return self.symbol()

    def arguments_after_bar(self, inside: Tokens) -> list[Node]:
        return [self.sub(part) for part in split_at(inside, {"|"})]

    def is_special(self, token: str) -> bool:
        """Whether a Greek letter is the function of that name: applied, and no name of this page."""
        if token in self.declared or token in self.functions:
            return False
        after = self.here(1)
        if token == r"\psi":
            return after in ("'", "^") or (self.printed and after == "(")
        return after == "(" or (after == "^" and self.printed)

    def polygamma(self) -> Node:
        self.position += 1
        order = 0
        while self.here() == "'":
            self.position += 1
            order += 1
        if self.here() == "^":
            self.position += 1
            mark = self.group()
            if mark[0] != "(" or not mark[1].isdigit():
                raise Unreadable("a power of psi")
            order = int(mark[1])
        (argument,) = self.arguments(self.group(), 1)
        return _of(lambda x: mp.psi(order, x), argument)

    def function(self, word: str) -> Node:
        matrices = {**MATRIX_FUNCTIONS, **OVER_MATRICES}.get(word)
        exponent = base = None
        while self.here() in ("^", "_"):
            which = self.take()
            if which == "^":
                exponent = self.sub(self.group())
            elif word == r"\ln":
                base = self.sub(self.group())
            else:
                raise Unreadable(f"{word} with an index")
        self.spaces()
        if word == r"\ln" and self.here() == r"\Gamma" and self.here(1) == "(":
            self.position += 1
            node = _of(mp.loggamma, *self.arguments(self.group(), 1))
        elif matrices is not None:
            argument = self.wide_argument(word)
            node = join(lambda point: matrices(argument.value(point)), argument)
        else:
            node = _of(FUNCTIONS[word], *self.function_arguments(word))
        if base is not None:
            node = _quotient(node, _of(mp.log, base))
        if exponent is not None:
            raised = node
            node = join(lambda point: power(raised.value(point), exponent.value(point)), raised, exponent)
        return node

    def wide_argument(self, word: str) -> Node:
        """The argument of det, tr and exp: a bracket, or for the trace the whole product."""
        if self.here() in BRACKETS and (word not in ("tr", "Re", "Im") or self.printed):
            return self.sub(self.group())
        return self.product_without_spaces()

    def product_without_spaces(self) -> Node:
        node = self.factor()
        while (
            self.here()
            and self.here() not in STOPS | SPACES
            and self.here() not in ("/", r"\cdot", r"\circ", r"\odot", r"\ln", r"\det", r"\operatorname", r"\sum")
        ):
            node = _product(node, self.factor())
        return node

    def function_arguments(self, word: str) -> list[Node]:
        if self.here() in BRACKETS:
            inside = self.group()
            if self.printed and inside[:1] == ["("] and closing(inside, 0) == len(inside) - 1:
                inside = inside[1:-1]
            if self.here() == "^" and not self.printed and word != r"\Gamma":
                raise Unreadable(f"a power after the argument of {word}")
            return self.arguments(inside)
        if self.here() in COMMANDS or self.here() == r"\operatorname":
            return [self.factor()]
        node = self.factor()
        while True:
            token = self.here()
            if token == "(" or token == "/" or token == "e":
                raise Unreadable(f"where the argument of {word} ends")
            simple = token in LETTERS or re.fullmatch(r"[A-Za-z]|\d+(\.\d+)?|\\frac|\\bar|\\tilde|\\hat", token)
            if not simple:
                return [node]
            node = _product(node, self.factor())

    def symbol(self) -> Node:
        start = self.position
        name = self.plain_name()
        if name is None:
            raise Unreadable(f"{self.here() or 'the end'} has no meaning here")
        spelled = self.formula[start : self.position]
        base = canonical(spelled[: spelled.index("_")]) if "_" in spelled else name
        bare = base.rstrip("'")
        if self.printed and self.applied():
            return self.application(name)
        if not self.printed and bare in self.functions and self.here() == "(" and "_" not in spelled:
            return self.application(base)
        if "_" in spelled and not self.printed and name not in self.declared:
            index = spelled[spelled.index("_") + 2 : -1]
            if indices := self.indices(index):
                if (
                    base not in self.functions
                    and "matri" not in self.declared.get(base, "")
                    and "column" not in self.declared.get(base, "")
                ):
                    raise Unreadable(f"{base} is a sequence that no check knows")
                return join(lambda point: _entry(point, base, [node.value(point) for node in indices]), *indices)
        return self.letter(name, base)

    def letter(self, name: str, base: str) -> Node:
        known = name in self.declared or name in self.bound
        if not known:
            if name == r"\pi":
                return Node(lambda point: +mp.pi)
            if name == "e":
                return Node(lambda point: +mp.e, exponential=True)
            if name == "i":
                return Node(lambda point: mp.mpc(0, 1))
            if name == "I":
                return Node(_identity)
            if name == r"\gamma" and self.printed:
                return Node(lambda point: +mp.euler)
        if "'" in name and not known and not self.printed:
            raise Unreadable(f"{name} has no meaning here")
        return Node(lambda point: point.look_up(name), frozenset([name]), name=name)

    def indices(self, index: Tokens) -> list[Node]:
        """The indices of a member of a sequence, where one of them is a variable of a sum; else none."""
        inside = set(index) | {canonical(index)}
        if not any(name in inside or name.split("_")[0] in inside for name in self.bound):
            return []
        if "," in index:
            return self.arguments(index)
        if "+" in index or "-" in index:
            return [self.sub(index)]
        nodes = []
        reader = _Reader(index, self.printed, self.declared, self.functions)
        reader.bound = self.bound
        while reader.here():
            nodes.append(reader.factor())
        return nodes

    def applied(self) -> bool:
        """Whether SymPy's printer applies the name here: ``{\\left(x \\right)}`` follows, or a power and then that."""
        ahead = 0
        if self.here() == "^" and self.here(1) == "{":
            ahead = closing(self.formula, self.position + 1) + 1 - self.position
        return self.here(ahead) == "{" and self.here(ahead + 1) == "("

    def application(self, name: str) -> Node:
        exponent = None
        if self.here() == "^":
            self.position += 1
            exponent = self.sub(self.group())
        inside = self.group()
        if inside[:1] == ["("]:
            inside = inside[1:-1]
        arguments = self.arguments(inside)
        order = len(name) - len(name.rstrip("'"))
        base = name.rstrip("'")
        if order and len(arguments) > 1:
            raise Unreadable("a derivative in several variables")

        def value(point: Point) -> Any:
            places = [number(node.value(point)) for node in arguments]
            point.budget -= 1
            if point.budget < 0:
                raise BudgetSpent(f"more than {BUDGET} values are needed")
            if order:
                return mp.diff(lambda x: arbitrary(base, [x]), places[0], order)
            return arbitrary(base, places)

        node = join(value, *arguments, rough=bool(order))
        if exponent is None:
            return node
        return join(lambda point: power(node.value(point), exponent.value(point)), node, exponent)


INFINITY = Node(lambda point: mp.inf)


def _of(function: Callable[..., Any], *nodes: Node) -> Node:
    return join(lambda point: function(*(number(node.value(point)) for node in nodes)), *nodes)


def _sum(a: Node, b: Node) -> Node:
    return join(lambda point: add(a.value(point), b.value(point)), a, b)


def _negative(a: Node) -> Node:
    return join(lambda point: -a.value(point), a)


def _product(a: Node, b: Node, dot: bool = False) -> Node:
    def value(point: Point) -> Any:
        x, y = a.value(point), b.value(point)
        if dot and is_matrix(x) and is_matrix(y) and x.cols == y.cols == 1:
            return inner(x, y)
        return multiply(x, y)

    return join(value, a, b)


def _entrywise(a: Node, b: Node) -> Node:
    def value(point: Point) -> Any:
        x, y = a.value(point), b.value(point)
        if not is_matrix(x) or not is_matrix(y):
            return multiply(x, y)
        if (x.rows, x.cols) != (y.rows, y.cols):
            raise Unreadable("matrices of different shapes are multiplied entry by entry")
        return mp.matrix([[x[i, j] * y[i, j] for j in range(x.cols)] for i in range(x.rows)])

    return join(value, a, b)


def _quotient(a: Node, b: Node) -> Node:
    def value(point: Point) -> Any:
        x, y = a.value(point), number(b.value(point))
        return x * (1 / y) if is_matrix(x) else x / y

    return join(value, a, b)


def _transposed(value: Any, inverse: bool) -> Any:
    if not is_matrix(value):
        return 1 / value if inverse else value
    return (value**-1).T if inverse else value.T


def _bars(value: Any) -> Any:
    return determinant(value) if is_matrix(value) else abs(value)


def _identity(point: Point) -> Any:
    if not point.dimension:
        raise Unreadable("I has no size where there are no matrices")
    return mp.eye(point.dimension)


def _entry(point: Point, base: str, indices: Sequence[Any]) -> Any:
    point.budget -= 1
    if point.budget < 0:
        raise BudgetSpent(f"more than {BUDGET} values are needed")
    whole: Any = point.values.get(base)
    if is_matrix(whole):
        places = [int(index) - 1 for index in indices]
        row, column = (*places, 0)[:2]
        if not (0 <= row < whole.rows and 0 <= column < whole.cols):
            raise Unreadable(f"{base} has no such entry")
        return whole[row, column]
    return arbitrary(base, [number(index) for index in indices])


def _blocks(rows: Sequence[Sequence[Any]]) -> Any:
    """A matrix whose entries are numbers or square matrices of one size, beside which a number stands for its multiple of I."""
    sizes = {(cell.rows, cell.cols) for row in rows for cell in row if is_matrix(cell)} - {(1, 1)}
    if not sizes:
        return mp.matrix([[number(cell) for cell in row] for row in rows])
    ((size, width), *others) = sizes
    if others or size != width:
        raise Unreadable("blocks of different shapes")
    whole = mp.zeros(size * len(rows), size * len(rows[0]))
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            block = cell if is_matrix(cell) and cell.rows == size else number(cell) * mp.eye(size)
            whole[size * i : size * (i + 1), size * j : size * (j + 1)] = block
    return whole


SELECTIONS = {r"\max": max, r"\min": min}


def _series(body: Node, ranges: Sequence[tuple[str, Node, Node]], kind: str, point: Point) -> Any:
    """The sum, product, largest or smallest of the values of `body` over the ranges."""
    if not ranges:
        return body.value(point)
    (name, first, last), rest = ranges[0], ranges[1:]

    def value(k: Any) -> Any:
        with point.at(name, mp.mpf(k)):
            return _series(body, rest, kind, point)

    start, end = number(first.value(point)), number(last.value(point))
    if mp.isinf(end):
        return (mp.nprod if kind == r"\prod" else mp.nsum)(lambda k: number(value(k)), [int(start), mp.inf])
    if start != int(start) or end != int(end):
        raise Unreadable("a sum whose bounds are not whole numbers")
    if kind in SELECTIONS:
        return SELECTIONS[kind](number(value(k)) for k in range(int(start), int(end) + 1))
    values = map(value, range(int(start), int(end) + 1))
    if kind == r"\prod":
        return reduce(multiply, values, mp.mpf(1))
    return reduce(add, values) if end >= start else mp.mpf(0)


def _mean(body: Node, point: Point) -> Any:
    """Mean over the standard columns in a formula that is at most of degree three in them: exact on these 2d points."""
    names = [name for name in point.standard if name in body.names]
    if not names:
        raise Unreadable("a mean over what is not said")
    size = point.dimension * len(names)
    total: Any = None
    for place in range(size):
        for sign in (1, -1):
            saved = {name: point.values[name] for name in names}
            for position, name in enumerate(names):
                column = mp.zeros(point.dimension, 1)
                if place // point.dimension == position:
                    column[place % point.dimension] = sign * mp.sqrt(size)
                point.values[name] = column
            value = body.value(point)
            point.values.update(saved)
            total = value if total is None else total + value
    return total * (mp.mpf(1) / (2 * size))


# ---------------------------------------------------------------- statements


def split_at(formula: Tokens, marks: set[str]) -> list[Tokens]:
    """The parts between marks that stand outside of brackets and environments."""
    parts: list[Tokens] = [[]]
    wanted: list[str] = []
    environments = 0
    for token in formula:
        environments += (token == r"\begin") - (token == r"\end")
        if wanted and token == wanted[-1]:
            wanted.pop()
        elif token in CLOSING:
            wanted.append(CLOSING[token])
        elif token in marks and not wanted and not environments:
            parts.append([])
            continue
        parts[-1].append(token)
    return parts


def split_relations(formula: Tokens) -> tuple[list[Tokens], list[str]]:
    """The sides of a chain of relations, and the relations between them."""
    marks = RELATIONS | UNTESTED
    parts = split_at(formula, marks)
    signs: list[str] = []
    position = 0
    for part in parts[:-1]:
        position += len(part)
        signs.append(formula[position])
        position += 1
    return parts, signs
