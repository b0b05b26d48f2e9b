r"""Whether the formula that stands on the page is the formula that was checked.

Both are LaTeX: the displayed one is written by hand, the checked one comes from the check itself by SymPy's printer. Each is read by
:mod:`kexue_publish.formulas`, and both are evaluated at the same seeded random points that satisfy the assumptions of the check.

==============  ======================================================================================
`both sides`    every displayed relation is one that was checked: its sides have the same values
`holds`         both sides could be read, and the displayed formula itself is true at the random points
`in parts`      this is so for a part of what is displayed
`one side`      one side has the values of a checked side, the other is a name that the check writes out
`false there`   a formula marked as false is false at the counter-example of the check
`not compared`  nothing of this could be done, with the reason
`disagrees`     what is displayed is false at a point, or is not what was checked: the build warns
==============  ======================================================================================

A page explains notation that only it has in its front matter, as `notation`: displayed LaTeX to LaTeX that can be read, with ``#1`` for
an argument, or to the kind of a name, as ``\text{integer positive}, n > 2`` (also ``sequence``: any numbers ``x_i``).

    .venv/bin/python -m kexue_publish.agreement [chapter]     verdict of every equation of the built book, and why
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import mpmath as mp
import yaml

from kexue_publish.formulas import (
    DIGITS,
    RELATIONS,
    Node,
    Point,
    Rule,
    Tokens,
    Unreadable,
    canonical,
    is_matrix,
    parse,
    rewrite,
    split_at,
    split_relations,
    tokens,
)

__all__ = ["TESTED", "Agreement", "compare", "compare_page", "macros_of", "notation_of"]

VERSION = 2
TESTED = ("both sides", "holds", "in parts", "one side", "false there")
POINTS = 4
TOLERANCE = mp.mpf(10) ** -16
ROUGH = mp.mpf(10) ** -9  # with integrals, derivatives and sums without end
LIMIT = mp.mpf(10) ** -5

# Read alike on every page.
NOTATION = {
    r"\Phi(#1)": r"\frac{1+\operatorname{erf}(\frac{#1}{\sqrt2})}{2}",
}


@dataclass(frozen=True)
class Agreement:
    """The verdict on one equation, the reason or the place in words, and the notation that was used."""

    verdict: str
    why: str = ""
    notation: tuple[str, ...] = ()

    @property
    def tested(self) -> bool:
        return self.verdict in TESTED


@dataclass
class Link:
    """Two neighbours in a chain of relations. A side that cannot be read is None."""

    left: Node | None
    sign: str
    right: Node | None
    why: str = ""
    decimals: Any = None  # how far a printed decimal number on one side may be off
    order: Node | None = None  # of the remainder that is left out on the right: what stands in O(...)
    same: bool = False  # both sides read alike, so that nothing is said


def notation_of(source: str) -> dict[str, str]:
    """The notation in the front matter of a page.

    >>> notation_of("---\\nnotation:\\n  Q: x^2\\n---\\n# Title")
    {'Q': 'x^2'}
    """
    front = re.match(r"---\n(.*?)\n---\n", source, flags=re.S)
    found = (yaml.safe_load(front[1]) or {}).get("notation") if front else None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for pair in found.items() for text in pair):
        raise ValueError(f"notation: a mapping of LaTeX to LaTeX expected, {found!r} given")
    return found


# ---------------------------------------------------------------- what is known of names


@dataclass
class Domain:
    """Assumptions on names, relations between them, and values that are given."""

    facts: dict[str, str]
    relations: list[tuple[Node, str, Node]]
    values: dict[str, Node]


def facts_of(assumptions: Iterable[str]) -> dict[str, str]:
    r"""What a record says of its names.

    >>> facts_of([r"n, k\ \text{integer positive}", r"n > 1"])
    {'n': 'integer positive', 'k': 'integer positive'}
    """
    facts = {}
    for text in assumptions:
        if match := re.fullmatch(r"(.*)\\ \\text\{([^}]*)\}", text, flags=re.S):
            for name in split_at(tokens(match[1], printed=True), {","}):
                facts[canonical(name)] = match[2]
    return facts


def domain_of(assumptions: Sequence[str], facts: Mapping[str, str]) -> Domain:
    domain = Domain(dict(facts), [], {})
    for text in assumptions:
        if r"\ \text{" in text:
            continue
        for part in split_at(tokens(text, printed=True), {","}):
            sides, signs = split_relations([token for token in part if token != r"\ "])
            if len(signs) != 1 or signs[0] not in RELATIONS:
                continue
            try:
                left, right = (parse(side, printed=True, declared=facts) for side in sides)
            except Unreadable:
                continue
            name = canonical(sides[0])
            if signs[0] == "=" and left.names == {name}:
                domain.values.setdefault(name, right)
            else:
                domain.relations.append((left, signs[0], right))
    return domain


def draw(names: Iterable[str], domain: Domain, rng: random.Random) -> Point | None:
    """Random values of the names that satisfy the assumptions; None where none were found."""
    wanted = set(names)
    values: dict[str, Node] = {}
    while missing := {name for name in wanted if name in domain.values and name not in values}:
        for name in missing:
            values[name] = domain.values[name]
            wanted |= values[name].names
    if wanted - domain.facts.keys() - values.keys():
        raise Unreadable(f"nothing is known of {', '.join(sorted(wanted - domain.facts.keys() - values.keys()))}")
    kinds = {name: domain.facts.get(name, "") for name in sorted(wanted)}
    matrices = any(_is_letter(kind) for kind in kinds.values())
    relations = [relation for relation in domain.relations if relation[0].names | relation[2].names <= wanted]
    for attempt in range(400):
        point = Point({}, dimension=(2 + attempt % 2) if matrices else 0)
        point.standard = tuple(name for name, kind in kinds.items() if kind.startswith("random columns"))
        scale = (2, 1, 6, 0.4)[attempt % 4]
        for name, kind in kinds.items():
            if name not in values:
                point.values[name] = _value(kind, name, scale, rng, point.dimension)
        try:
            for _ in values:
                for name, node in values.items():
                    if name not in point.values and node.names <= point.values.keys():
                        point.values[name] = node.value(point)
            if values.keys() <= point.values.keys() and all(
                _true(left.value(point), sign, right.value(point), mp.mpf(0)) for left, sign, right in relations
            ):
                return point
        except (ArithmeticError, ValueError):
            continue
    return None


def _is_letter(kind: str) -> bool:
    return (
        "matri" in kind
        or "columns" in kind
        or kind in ("positive definite", "symmetric", "orthogonal", "column", "general")
    )


def _value(kind: str, name: str, scale: float, rng: random.Random, dimension: int) -> Any:
    def real() -> Any:
        return mp.mpf(rng.randint(1, 9999)) / 10000 * scale

    if _is_letter(kind):
        width = 1 if "column" in kind else dimension
        entries = mp.matrix([[real() - scale / 2 for _ in range(width)] for _ in range(dimension)])
        if "substochastic" in kind:  # no negative entries, and no row whose sum is more than 1
            entries = mp.matrix([[real() / scale for _ in range(dimension)] for _ in range(dimension)])
            return mp.diag([rng.randint(5, 10) / (10 * sum(entries[i, :])) for i in range(dimension)]) * entries
        if "positive definite" in kind:
            return entries * entries.T + mp.eye(dimension) / 3
        if "symmetric" in kind:
            return entries * entries.T + mp.eye(dimension) / 5
        if "orthogonal" in kind:
            return mp.qr(entries)[0]
        return entries
    if "integer" in kind:
        if name == "n" and dimension:
            return mp.mpf(dimension)
        least = 0 if "nonnegative" in kind else 1
        value = rng.randint(least, max(3, int(4 * scale)))
        if "even" in kind or "odd" in kind:
            value = 2 * value + ("odd" in kind)
        return mp.mpf(value)
    if "positive" in kind or "nonnegative" in kind:
        return real()
    if "negative" in kind:
        return -real()
    if "complex" in kind:
        return mp.mpc(2 * real() - scale, real())
    return 2 * real() - scale


# ---------------------------------------------------------------- comparing values


def _close(a: Any, b: Any, tolerance: Any) -> bool:
    if is_matrix(a) != is_matrix(b):
        matrix, scalar = (a, b) if is_matrix(a) else (b, a)
        if matrix.rows == matrix.cols == 1:
            return _close(matrix[0, 0], scalar, tolerance)
        return matrix.rows == matrix.cols and _close(matrix, scalar * mp.eye(matrix.rows), tolerance)
    if is_matrix(a):
        if (a.rows, a.cols) != (b.rows, b.cols):
            return False
        return mp.mnorm(a - b, "f") <= tolerance * max(1, mp.mnorm(a, "f"), mp.mnorm(b, "f"))
    if mp.isnan(a) or mp.isnan(b):
        raise ArithmeticError("no value")
    if mp.isinf(a) or mp.isinf(b):
        return a == b
    return abs(a - b) <= tolerance * max(abs(a), abs(b), mp.mpf(1))


def _true(a: Any, sign: str, b: Any, tolerance: Any) -> bool:
    if sign == "=":
        return _close(a, b, tolerance or TOLERANCE)
    if sign == r"\ne":
        return not _close(a, b, tolerance or TOLERANCE)
    x, y = (_real(value) for value in (a, b))
    if sign in (">", r"\ge"):
        x, y, sign = y, x, {">": "<", r"\ge": r"\le"}[sign]
    return bool(x < y) if sign == "<" else bool(x <= y + (tolerance or TOLERANCE) * max(abs(x), abs(y), 1))


def _real(value: Any) -> Any:
    if is_matrix(value):
        if value.rows != 1 or value.cols != 1:
            raise Unreadable("matrices are compared in size")
        value = value[0, 0]
    if abs(mp.im(value)) > ROUGH * max(1, abs(value)):
        raise ArithmeticError("a complex number is compared in size")
    return mp.re(value)


def _tolerance(*nodes: Node) -> Any:
    if any(node.limit for node in nodes):
        return LIMIT
    return ROUGH if any(node.rough for node in nodes) else TOLERANCE


def _count(tolerance: Any) -> int:
    """How many points are tried: fewer where a value takes long."""
    return {TOLERANCE: POINTS, ROUGH: 2}.get(tolerance, 1)


# ---------------------------------------------------------------- what is displayed


ENVIRONMENTS = ("aligned", "gathered")
IMPLICATIONS = {r"\Longrightarrow", r"\Longleftrightarrow", r"\iff", r"\Rightarrow"}
BREAKS = {r"\\", r"\quad", r"\qquad", ",", ";"}
DECIMAL = re.compile(r"(-?\s*\d+\.\d+)(\s\\[lc]?dots)?(\s\\cdot\s10\s\^\s\{\s(-?\s*\d+)\s\})?")


def statements(formula: Tokens) -> list[Tokens]:
    """The statements of a display: rows, and what stands between commas and wide spaces. A row that goes on joins the one before."""
    formula = _unboxed(formula)
    flat: Tokens = []
    position = 0
    depth = 0
    while position < len(formula):
        token = formula[position]
        if token in (r"\begin", r"\end") and formula[position + 2] in ENVIRONMENTS:
            position = formula.index("}", position) + 1
            continue
        depth += (token == r"\begin") - (token == r"\end")
        if token != "&" or depth:
            flat.append(token)
        position += 1
    rows = split_at(flat, {r"\\"})
    joined: list[Tokens] = []
    for row in rows:
        row = _trimmed(row)
        if not row:
            continue
        goes_on = row[0] in RELATIONS or row[0] in ("+", "-", r"\cdot", r"\approx")
        last = joined[-1][-1] if joined else ","
        if joined and last not in (",", ";", ".") and (goes_on or not set(joined[-1]) & RELATIONS):
            joined[-1] += [*row] if goes_on or last in ("+", "-", "=", r"\cdot") else [r"\,", *row]
        else:
            joined.append(row)
    return [part for row in joined for part in map(_trimmed, split_at(row, BREAKS)) if part]


def _unboxed(formula: Tokens) -> Tokens:
    while r"\boxed" in formula:
        start = formula.index(r"\boxed")
        depth, end = 1, start + 2
        while depth:
            depth += {"{": 1, "}": -1}.get(formula[end], 0)
            end += 1
        formula = formula[:start] + formula[start + 2 : end - 1] + formula[end:]
    return formula


def _trimmed(formula: Tokens) -> Tokens:
    start, end = 0, len(formula)
    empty = {r"\,", r"\;", r"\:", r"\ ", "~", ".", ",", ";", ":", r"\quad", r"\qquad"}
    while start < end and formula[start] in empty:
        start += 1
    while end > start and formula[end - 1] in empty:
        end -= 1
    return formula[start:end]


def conditions(parts: list[Tokens]) -> tuple[list[Tokens], list[Tokens]]:
    """Statements, and what stands in brackets behind them: ``(n>1)``."""
    said, given = [], []
    for position, part in enumerate(parts):
        whole = part[0] == "(" and part[-1] == ")" and (set(part) & (RELATIONS | {r"\text"})) and _one_bracket(part)
        if position and whole:
            given += split_at(part[1:-1], {","})
        else:
            said.append(part)
    return said, given


def _one_bracket(part: Tokens) -> bool:
    depth = 0
    for token in part[:-1]:
        depth += (token == "(") - (token == ")")
        if not depth:
            return False
    return True


def ranges(parts: list[Tokens]) -> tuple[list[Tokens], list[Tokens]]:
    """Statements, and those behind them that only say where a name lies: ``0\\le t\\le 1``, ``c>2``, ``a\\ge b``."""
    said, given = parts[:1], []
    listed = False  # in a list of numbers: n = 0, 1, 2, ...
    part: Tokens
    after: Tokens
    for part, after in zip_longest(parts[1:], parts[2:], fillvalue=[]):
        sides, signs = split_relations(part)
        if listed and not signs and re.fullmatch(r"[\d \\lcdots]+", " ".join(part)):
            continue
        listed = signs == ["="] and _bare(sides[0]) and bool(after) and after[0][0].isdigit()
        if listed:
            given.append([*sides[0], r"\ge", *sides[1]])
            continue
        plain = all(_bare(side) or re.fullmatch(r"[-\d.\\a-z{} /]*", " ".join(side)) for side in sides)
        if signs and set(signs) <= RELATIONS - {"=", r"\ne"} and plain and any(_bare(side) for side in sides):
            given.append(part)
        else:
            said.append(part)
    return said, given


def written_out(parts: list[Tokens], given: list[Tokens], known: set[str]) -> tuple[list[Tokens], list[Tokens]]:
    """The statements after names that one of them introduces, ``h=...`` or ``t_k=...``, were written out in the others."""
    rules = []
    for position, part in enumerate(parts):
        sides, signs = split_relations(part)
        if position and signs[:1] == ["="] and _bare(sides[0]) and canonical(sides[0]) not in known:
            name, meaning = _trimmed(sides[0]), ["(", *_trimmed(sides[1]), ")"]
            index = name[name.index("_") + 2 : -1] if "_" in name else []
            if canonical(name[: name.index("_")] if index else name) in known:
                continue
            if len(index) == 1 and index[0].isalpha() and index[0] in meaning:
                name = [*name[: name.index("_")], "_", "{", "#1", "}"]
                meaning = [part for token in meaning for part in (["(", "#1", ")"] if token == index[0] else [token])]
            rules.append((position, Rule("", tuple(name), tuple(meaning))))
    written, used = [], set()
    for position, part in enumerate(parts):
        for place, rule in rules:
            if place != position:
                part, hits = rewrite(part, [rule])
                used |= {place} if hits else set()
        written.append(part)
    written = [part for position, part in enumerate(written) if position not in used]  # what a name means is no claim
    return written, [rewrite(part, [rule for _, rule in rules])[0] for part in given]


def _bare(formula: Tokens) -> bool:
    """Whether this is a name and nothing else."""
    formula = _trimmed(formula)
    return (
        bool(formula)
        and re.fullmatch(r"(\\?[A-Za-z]+|\\(bar|hat|tilde) \{ \S+ \})( _ \{[^{}]*\})?( ')?", " ".join(formula))
        is not None
    )


def _constant(value: Any) -> Node:
    return Node(lambda point: value)


class _Display:
    """The links of the displayed formula, and the conditions under which they are said to hold."""

    def __init__(
        self,
        formula: Tokens,
        declared: Mapping[str, str],
        functions: set[str],
        *,
        printed: bool = False,
        known: Iterable[str] = (),
    ) -> None:
        self.links: list[Link] = []
        self.given: list[tuple[Node, str, Node]] = []
        self.parity: dict[str, str] = {}
        said, given = conditions(statements(formula))
        if not printed:
            said, more = ranges(said)
            given += more
            said, given = written_out(said, given, set(known) | functions)

        def reader(side: Tokens) -> Node:
            return parse(side, printed=printed, declared=declared, functions=functions)

        for condition in given:
            condition = _trimmed(condition)
            if len(condition) > 2 and condition[1] == r"\text" and condition[-2].strip() in ("even", "odd"):
                word = "".join(condition[3:-1]).strip()
                self.parity[condition[0]] = word
                continue
            sides, signs = split_relations(condition)
            try:
                nodes = [reader(side) for side in sides]
            except Unreadable:
                continue
            self.given += [
                (a, sign, b) for (a, b), sign in zip(pairwise(nodes), signs, strict=True) if sign in RELATIONS
            ]
        for statement in said:
            self._add(statement, reader)

    def _add(self, statement: Tokens, reader: Callable[[Tokens], Node]) -> None:
        sides, signs = split_relations(statement)
        if not signs:
            if r"\text" not in statement or set(statement) & {"+", r"\frac"}:
                self.links.append(Link(None, "", None, "no relation"))
            return
        nodes: list[Node | None] = []
        slack: list[Any] = []
        orders: list[Node | None] = []
        why = ""
        for side in sides:
            side = _trimmed(side)
            order = None
            if (
                len(side) > 4
                and side[-1] == ")"
                and "O" in side
                and _one_bracket(side[(at := side.index("O")) + 1 :])
                and side[at - 1] == "+"
            ):
                try:
                    order, side = reader(side[at + 2 : -1]), side[: at - 1]
                except Unreadable as error:
                    why = why or str(error)
            orders.append(order)
            literal = DECIMAL.fullmatch(" ".join(side))
            if literal:
                exponent = int((literal[4] or "0").replace(" ", ""))
                digits = literal[1].replace(" ", "")
                unit = mp.mpf(10) ** (exponent - len(digits.partition(".")[2]))
                value = mp.mpf(digits) * mp.mpf(10) ** exponent
                nodes.append(_constant(value))
                slack.append(unit * (1 if literal[2] else mp.mpf("0.5000001")))
                continue
            slack.append(None)
            try:
                nodes.append(reader(side))
            except Unreadable as error:
                nodes.append(None)
                why = why or str(error)
        for place, sign in enumerate(signs):
            left, right = nodes[place : place + 2]
            off = slack[place] if slack[place] is not None else slack[place + 1]
            if sign == r"\approx" and off is not None:
                sign = "="
            if sign in RELATIONS:
                same = [t for t in sides[place] if t != r"\,"] == [t for t in sides[place + 1] if t != r"\,"]
                if orders[place] is not None and orders[place + 1] is None:
                    why, left = "what follows after O", None
                self.links.append(Link(left, sign, right, why, off, orders[place + 1], same))
            else:
                self.links.append(Link(None, sign, None, why or f"the relation {sign} is not tested"))


# ---------------------------------------------------------------- the verdict


def compare(
    latex: str,
    records: Sequence[Mapping[str, Any]],
    *,
    macros: Mapping[str, Any] | None = None,
    notation: Mapping[str, str] | None = None,
    page: Mapping[str, str] | None = None,
) -> Agreement:
    r"""Compare a displayed equation with what was checked for it.

    Parameters
    ----------
    latex : the equation as it stands on the page.
    records : its evidence records, of which ``kind``, ``checked`` and ``assumptions`` are used.
    macros : MathJax macros of the page.
    notation : how notation of the page is read, on top of `NOTATION`.
    page : what the other records of the page say of names, as `facts_of` gives it; used where the equation's own say nothing.

    Examples
    --------
    >>> record = {"kind": "proved", "checked": r"\sin{\left(2 t \right)} = 2 \sin{\left(t \right)} \cos{\left(t \right)}",
    ...           "assumptions": [r"t\ \text{real}"]}
    >>> compare(r"\sin2t=2\sin t\cos t .", [record]).verdict
    'both sides'
    >>> compare(r"\sin2t=\sin t\cos t .", [record]).verdict
    'disagrees'
    """
    kinds = {record["kind"] for record in records}
    for kind, why in (
        ("definition", "a definition: nothing was checked"),
        ("cited", "cited: nothing was checked here"),
    ):
        if kinds <= {kind}:
            return Agreement("not compared", why if records else "no evidence")
    with mp.workdps(DIGITS):
        try:
            return _Comparison(latex, records, macros or {}, notation or {}, page or {}).verdict()
        except Unreadable as error:
            return Agreement("not compared", str(error))
        except RecursionError:
            return Agreement("not compared", "too deep")


class _Comparison:
    def __init__(
        self,
        latex: str,
        records: Sequence[Mapping[str, Any]],
        macros: Mapping[str, Any],
        notation: Mapping[str, str],
        page: Mapping[str, str],
    ) -> None:
        self.records = records
        self.seed = latex
        own = {name: fact for record in records for name, fact in facts_of(record["assumptions"]).items()}
        said, rules, bounds = {}, [], []
        for shown, meaning in notation.items():
            if kind := re.fullmatch(r"\\text\{([^}]*)\}(?:,\s*(.*))?", meaning):
                said[canonical(tokens(shown, macros))] = kind[1]
                bounds += [kind[2]] if kind[2] else []
            else:
                try:
                    rules.append(Rule.read(shown, meaning, macros))
                except Unreadable as error:
                    raise ValueError(f"notation: {shown} cannot be read as {meaning}: {error}") from None
        rules += [Rule.read(shown, meaning, macros) for shown, meaning in NOTATION.items() if shown not in notation]
        self.facts = {**page, **said, **own}
        formula = tokens(latex, macros)
        self.false = formula[:1] == [r"\text"] or any(record["kind"] == "refuted" for record in records)
        if self.false:
            formula = self._claim(formula)
        formula, self.used = rewrite(formula, rules)
        self.implies = bool(IMPLICATIONS & set(formula))
        self.pieces = [self._piece(record) for record in records]
        functions = {name for _, names, _ in self.pieces for name in names}
        functions |= {name for name, kind in said.items() if kind == "sequence"}
        declared = {**{name: fact for name, fact in page.items() if name not in ("e", "i", "I")}, **said, **own}
        self.own = own.keys() | said.keys()
        self.display = _Display(formula, declared, functions, known=self.own)
        self.bounds = domain_of(bounds, said).relations
        for name, parity in self.display.parity.items():
            self.facts[name] = f"integer positive {parity}"

    def _claim(self, formula: Tokens) -> Tokens:
        """A refuted formula without the mark that it is false."""
        out = list(formula)
        for position in range(len(out)):
            if out[position] == r"\text" and "false" in "".join(out[position : position + 9]):
                end = out.index("}", position)
                return out[:position] + out[end + 1 :]
        return out

    def _piece(self, record: Mapping[str, Any]) -> tuple[list[Link], set[str], Domain]:
        facts = facts_of(record["assumptions"])
        checked = record["checked"].replace(r"\text{not always: }", "")
        domain = domain_of(record["assumptions"], {**self.facts, **facts})
        if (
            record["kind"] in ("sampled", "measured", "definition", "cited")
            or r"\text{" in checked
            or r"\dots" in checked
        ):
            return [], set(), domain
        functions: set[str] = set()
        try:
            formula = tokens(checked, printed=True)
            for position, token in enumerate(formula):
                if re.fullmatch(r"\\?[A-Za-z]+", token) and formula[position + 1 : position + 3] == ["{", "("]:
                    functions.add(token)
            display = _Display(formula, facts, functions, printed=True)
        except Unreadable:
            return [], functions, domain
        return display.links, functions, domain

    def points(self, names: Iterable[str], domain: Domain, salt: str, count: int = POINTS) -> list[Point]:
        rng = random.Random(int.from_bytes(hashlib.sha256((self.seed + salt).encode()).digest()[:8], "big"))
        found = []
        for _ in range(count):
            point = draw(names, domain, rng)
            if point is not None:
                found.append(point)
        return found

    def said(self, verdict: str, why: str = "") -> Agreement:
        return Agreement(verdict, why, tuple(sorted(self.used)))

    def verdict(self) -> Agreement:
        links = self.display.links
        if not links:
            return self.said("not compared", "nothing displayed is a relation")
        if self.false:
            return self._refuted()
        matched = [False] * len(links)
        one_side = [False] * len(links)
        for number, (checked, _, domain) in enumerate(self.pieces):
            for place, link in enumerate(links):
                if matched[place]:
                    continue
                full, half = self._matches(link, checked, domain, f"piece {number}")
                matched[place] |= full
                one_side[place] |= half
        if all(matched):
            return self.said("both sides")
        defined = [self._defines(link) for link in links]
        holds: list[bool | None] = []
        reasons: list[str] = []
        for place, link in enumerate(links):
            if matched[place]:
                holds.append(True)
                continue
            if defined[place]:
                holds.append(None)
                reasons.append(f"{defined[place]} is a name that the checks write out")
                continue
            try:
                outcome, why = self._holds(link)
            except Unreadable as error:
                outcome, why = None, str(error)
            if outcome is False and self.implies:
                outcome, why = None, "true only under what stands before it"
            if outcome is False:
                return self.said("disagrees", why)
            holds.append(outcome)
            if why:
                reasons.append(why)
        if all(holds):
            return self.said("holds")
        if any(holds):
            return self.said("in parts", "; ".join(dict.fromkeys(reasons)))
        if any(one_side):
            return self.said("one side", "; ".join(dict.fromkeys(reasons)))
        return self.said("not compared", "; ".join(dict.fromkeys(reasons)))

    def _defines(self, link: Link) -> str:
        """The name that this link gives to its other side, if it does: the checks do not know it."""
        if link.left is None or link.right is None or link.sign != "=":
            return ""
        name = link.left.name
        return name if name and name not in self.own and name not in link.right.names else ""

    def _matches(self, link: Link, checked: Sequence[Link], domain: Domain, salt: str) -> tuple[bool, bool]:
        """Whether a link is one of those that a piece checked, and whether at least one of its sides is."""
        half = False
        for other in checked:
            if other.left is None or other.right is None:
                continue
            flipped = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}.get(other.sign, other.sign)
            ways = [(other.left, other.sign, other.right), (other.right, flipped, other.left)]
            for left, sign, right in ways:
                agree = []
                for mine, theirs in ((link.left, left), (link.right, right)):
                    agree.append(mine is not None and self._same(mine, theirs, domain, salt))
                if all(agree) and sign == link.sign and link.decimals is None:
                    return True, True
                half |= any(
                    ok and (mine is not None and mine.names)
                    for ok, mine in zip(agree, (link.left, link.right), strict=True)
                )
        return False, half

    def _same(self, mine: Node, theirs: Node, domain: Domain, salt: str) -> bool:
        """Whether two sides have the same values at random points of the piece."""
        try:
            tolerance = _tolerance(mine, theirs)
            points = self.points(mine.names | theirs.names, domain, salt, _count(tolerance))
            if not points:
                return False
            return all(_close(mine.value(point), theirs.value(point), tolerance) for point in points)
        except (Unreadable, ArithmeticError, ValueError, TypeError, KeyError):
            return False

    def _holds(self, link: Link) -> tuple[bool | None, str]:
        """Whether a displayed link is true at random points; None and the reason where that cannot be said."""
        if link.left is None or link.right is None:
            return None, link.why
        if link.same:
            return None, "the notation says what is displayed"
        names = link.left.names | link.right.names
        relations = [relation for _, _, domain in self.pieces for relation in domain.relations]
        values: dict[str, Node] = {}
        for _, _, domain in self.pieces:
            values = {**domain.values, **values}
        domain = Domain(self.facts, [*relations, *self.display.given, *self.bounds], values)
        tolerance = _tolerance(link.left, link.right)
        points = self.points(names, domain, "display", _count(tolerance))
        if not points:
            return None, "no point satisfies the assumptions"
        for point in points:
            try:
                left, right, true = _at(link, point, tolerance)
                if not true:  # digits may have cancelled
                    with mp.workdps(3 * DIGITS):
                        left, right, true = _at(link, point, tolerance)
            except (ArithmeticError, ValueError, TypeError, KeyError) as error:
                return None, f"no value ({error or type(error).__name__})"
            if not true:
                return False, f"false at {_place(point, names)}: {_shown(left)} and {_shown(right)}"
        return True, ""

    def _refuted(self) -> Agreement:
        reasons = []
        for number, (checked, _, domain) in enumerate(self.pieces):
            for link in self.display.links:
                if link.left is None or link.right is None:
                    reasons.append(link.why)
                    continue
                try:
                    if self._matches(link, checked, Domain(domain.facts, [], {}), f"piece {number}")[0]:
                        return self.said("both sides", "the formula that was refuted")
                    points = self.points(link.left.names | link.right.names, domain, "refuted")
                    tolerance = _tolerance(link.left, link.right)
                    false = [not _true(link.left.value(p), link.sign, link.right.value(p), tolerance) for p in points]
                except (Unreadable, ArithmeticError, ValueError, TypeError, KeyError) as error:
                    reasons.append(str(error))
                    continue
                if any(false):
                    return self.said("false there", "the displayed formula is false at such a point, too")
                reasons.append("not false at the points tried")
        return self.said("not compared", "; ".join(dict.fromkeys(filter(None, reasons))))


def _at(link: Link, point: Point, tolerance: Any) -> tuple[Any, Any, bool]:
    """Both sides at a point, and whether the relation is true there."""
    assert link.left is not None and link.right is not None
    if link.order is not None:
        return _remainder(link.left, link.right, link.order, point)
    left, right = link.left.value(point), link.right.value(point)
    if link.decimals is not None and link.sign == "=":
        return left, right, abs(left - right) <= link.decimals
    return left, right, _true(left, link.sign, right, tolerance)


def _remainder(left: Node, right: Node, order: Node, point: Point) -> tuple[Any, Any, bool]:
    """What is left out in units of what O(...) says, far out and further out: it stays bounded. A wrong term grows by a power of 10."""
    (name,) = order.names if len(order.names) == 1 else ("",)
    if not name:
        raise Unreadable("O with several names")
    with mp.workdps(2 * DIGITS):
        sizes = []
        with point.at(name, mp.mpf(10) ** -3):
            inward = abs(order.value(point)) < 1
        for place in (30, 100, 300):
            with point.at(name, 1 / mp.mpf(place) if inward else mp.mpf(place)):
                sizes.append(abs((left.value(point) - right.value(point)) / order.value(point)))
    return sizes[0], sizes[-1], sizes[-1] <= 3 * sizes[0] + mp.mpf(10) ** -3


def _shown(value: Any) -> str:
    return "a matrix" if is_matrix(value) else mp.nstr(value, 8)


def _place(point: Point, names: Iterable[str]) -> str:
    return (
        ", ".join(f"{name} = {_shown(point.values[name])}" for name in sorted(names) if name in point.values)
        or "every point"
    )


# ---------------------------------------------------------------- the book


def compare_page(
    equations: Iterable[tuple[str, Sequence[Mapping[str, Any]]]],
    macros: Mapping[str, Any],
    notation: Mapping[str, str],
    known: dict[str, Agreement],
) -> list[Agreement]:
    """Verdicts on the equations of a page, each with its records. `known` keeps them by content, so that nothing is compared twice."""
    equations = list(equations)
    page = page_facts(record for _, records in equations for record in records)
    found = []
    for latex, records in equations:
        said = [(record["kind"], record["checked"], record["assumptions"]) for record in records]
        content = json.dumps(
            [VERSION, latex, said, dict(macros), dict(notation), page], sort_keys=True, ensure_ascii=False
        )
        key = hashlib.sha256(content.encode()).hexdigest()
        if key not in known:
            known[key] = compare(latex, records, macros=macros, notation=notation, page=page)
        found.append(known[key])
    return found


def macros_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The macros in the ``mathjax3_config`` of Sphinx."""
    return dict((config or {}).get("tex", {}).get("macros", {}))


def main(arguments: Sequence[str]) -> None:
    """Print the verdict of every equation of the built book, or of one chapter, and the counts."""
    root = Path.cwd()
    ledger = json.loads((root / "_build/html/ledger.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    macros = macros_of(config["sphinx"]["config"]["mathjax3_config"])
    counts: Counter[str] = Counter()
    pages: dict[str, list[Any]] = {}
    for equation in ledger["equations"]:
        pages.setdefault(equation["url"].partition(".html")[0], []).append(equation)
    for page, equations in pages.items():
        if arguments and equations[0]["chapter"] not in arguments:
            continue
        source = (root / f"{page}.md").read_text(encoding="utf-8")
        shown = {
            label: latex
            for latex, label in re.findall(r"\$\$((?:(?!\$\$).)*)\$\$\s*\(([\w:.-]+)\)", source, flags=re.S)
        }
        said = [(shown[equation["label"]], equation["evidence"]) for equation in equations]
        for equation, found in zip(equations, compare_page(said, macros, notation_of(source), {}), strict=True):
            counts[found.verdict] += 1
            print(f"{equation['label']:32} {equation['kind']:10} {found.verdict:13} {found.why}")
    total = sum(counts.values())
    tested = sum(counts[verdict] for verdict in TESTED)
    print(f"\nagreement tested for {tested} of {total} equations ({tested / max(total, 1):.0%}):", dict(counts))


def page_facts(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What the records of a page say of names, where they do not contradict each other."""
    found: dict[str, set[str]] = {}
    for record in records:
        for name, fact in facts_of(record["assumptions"]).items():
            found.setdefault(name, set()).add(fact)
    return {name: min(facts, key=len) if len(facts) == 1 else _narrowest(facts) for name, facts in found.items()}


def _narrowest(facts: set[str]) -> str:
    order = (
        "positive definite",
        "integer positive",
        "integer nonnegative",
        "integer",
        "positive",
        "nonnegative",
        "real",
    )
    return min(
        sorted(facts), key=lambda fact: next((i for i, word in enumerate(order) if fact.startswith(word)), len(order))
    )


if __name__ == "__main__":
    main(sys.argv[1:])
