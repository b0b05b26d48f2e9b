"""How strong every equation of the book is, after what it rests on.

Each page is noted on its own as a :class:`Page` (its labelled equations and its pieces of evidence, kept in
``env.kexue_ledger``); a :class:`Book` matches the two, follows ``using`` over all pages, and lists what does
not fit. Nothing here knows how a page looks; that is :mod:`kexue_publish.ledger`.

Notation: a *piece* is one piece of evidence, an *entry* an equation with all its pieces; an entry *rests on*
its bases, and is no stronger than the weakest of them. A piece may cover only a *step* of the claim; an equation
that has nothing but steps is as strong as the weakest of them, and says that it is checked in steps.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from docutils import nodes
from sphinx.domains.math import MathDomain

from kexue_publish.agreement import Agreement, compare_page, macros_of

if TYPE_CHECKING:
    from sphinx.environment import BuildEnvironment

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Kind:
    """A strength of evidence: its rank among the others, and its meaning for a reader. Its icon is in ledger.css."""

    rank: int
    meaning: str


KINDS = {
    "proved": Kind(6, "brought together symbolically, for all values under the assumptions"),
    "exact": Kind(5, "exact arithmetic over a finite set of cases"),
    "numeric": Kind(4, "floating point, within a stated tolerance"),
    "sampled": Kind(3, "Monte Carlo, within a stated number of standard errors"),
    "measured": Kind(2, "outcome of an experiment over several seeds"),
    "cited": Kind(1, "not checked here; the source is named"),
    # claims nothing, so it weakens nothing that rests on it
    "definition": Kind(9, "a name is given; there is nothing to check"),
    "refuted": Kind(0, "false, with a counter-example"),
    "unchecked": Kind(-1, "no evidence was found"),
}
EVIDENCE_KINDS = tuple(kind for kind in KINDS if kind != "unchecked")


@dataclass
class Equation:
    """A labelled equation as it stands on its page."""

    label: str
    line: int | None
    latex: str


@dataclass
class Piece:
    """One piece of evidence: the JSON ``record``, and where its check cell stands."""

    record: dict[str, Any]
    line: int | None
    anchor: str

    @property
    def kind(self) -> str:
        return self.record["kind"]

    @property
    def using(self) -> list[str]:
        return self.record["using"]

    @property
    def step(self) -> str | None:
        return self.record["step"]


@dataclass
class Page:
    """What one page adds to the ledger, and what of the ledger it shows."""

    equations: list[Equation] = field(default_factory=list)
    notation: dict[str, str] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    problems: list[tuple[int | None, str, str]] = field(default_factory=list)
    refers_to: list[str] = field(default_factory=list)
    shows_book: bool = False
    is_ledger: bool = False


_TEXT = (str,)
_FIELDS: dict[str, tuple[type, ...]] = {
    "kind": _TEXT,
    "label": _TEXT,
    "method": _TEXT,
    "checked": _TEXT,
    "assumptions": (list,),
    "resolution": (int, float, type(None)),
    "using": (list,),
    "seconds": (int, float),
    "seed": (int, type(None)),
    "details": (list,),
    "citation": (str, type(None)),
    "step": (str, type(None)),
}


def schema_problem(record: Any) -> str | None:
    """What keeps ``record`` from being an evidence record that this module understands, or None.

    >>> schema_problem({"version": 2})
    'schema version 2, expected 1'
    """
    if not isinstance(record, dict):
        return f"{type(record).__name__} instead of a JSON object"
    if record.get("version") != SCHEMA_VERSION:
        return f"schema version {record.get('version')!r}, expected {SCHEMA_VERSION}"
    for name, types in _FIELDS.items():
        if name not in record:
            return f"field {name!r} is missing"
        if not isinstance(record[name], types) or isinstance(record[name], bool):
            return f"field {name!r} is {record[name]!r}"
    if record["kind"] not in EVIDENCE_KINDS:
        return f"kind {record['kind']!r}, expected one of {', '.join(EVIDENCE_KINDS)}"
    if not record["label"]:
        return "an empty label"
    if not all(isinstance(text, str) for text in record["assumptions"] + record["using"]):
        return "'assumptions' and 'using' are lists of strings"
    if not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in record["details"]
    ):
        return "'details' is a list of pairs of strings"
    for name in ("resolution", "seconds"):
        if record[name] is not None and not (math.isfinite(record[name]) and record[name] >= 0):
            return f"field {name!r} is {record[name]!r}, expected a finite number >= 0"
    if record["kind"] == "cited" and not record["citation"]:
        return "kind 'cited' without a citation key"
    return None


def pages(env: Any) -> dict[str, Page]:
    """The notes of each page, by docname, kept in the environment of the build."""
    if not hasattr(env, "kexue_ledger"):
        env.kexue_ledger = {}
    return env.kexue_ledger


@dataclass
class Entry:
    """An equation with its evidence, after the whole book has been settled.

    ``claimed`` is the kind of its own strongest piece, ``kind`` what is left of it after what it rests on,
    ``weakest`` the label of the equation that weakens it, if one does. ``in_steps``: no single piece that decides covers the
    whole claim.
    """

    label: str
    docname: str
    title: str
    line: int | None
    latex: str
    number: str
    pieces: list[Piece]
    using: list[str] = field(default_factory=list)
    used_by: list[str] = field(default_factory=list)
    claimed: str = "unchecked"
    kind: str = "unchecked"
    weakest: str | None = None
    in_steps: bool = False
    agreement: Agreement = field(default_factory=lambda: Agreement("not compared"))

    @property
    def anchor(self) -> str:
        return nodes.make_id(f"equation-{self.label}")

    @property
    def slug(self) -> str:
        return self.docname.rpartition("/")[2]

    @property
    def deciding(self) -> dict[str, Any] | None:
        """The record of the piece that decides the word."""
        return next((piece.record for piece in self.pieces if piece.kind == self.claimed), None)


class Book:
    """The ledger of the whole book: ``entries`` by label, in the order of the table of contents.

    ``problems`` lists what does not fit, as ``(docname, line, subtype, message)``.
    """

    def __init__(self, env: BuildEnvironment) -> None:
        self.env = env
        self.pages = pages(env)
        self.problems: list[tuple[str, int | None, str, str]] = []
        self.reference = env.config.math_eqref_format or "({number})"
        self.entries: dict[str, Entry] = {}
        for docname in _reading_order(env):
            self._match(docname, self.pages[docname])
        self.ledger_page = next((name for name, page in self.pages.items() if page.is_ledger), None)
        self._check_sources()
        for label in self._in_dependency_order():
            self._settle(self.entries[label])
        self._compare()

    def _match(self, docname: str, page: Page) -> None:
        """Bring the equations and the evidence of one page together."""
        self.problems += [(docname, *problem) for problem in page.problems]
        home = self.env.domaindata["math"]["objects"]
        labels = {equation.label for equation in page.equations}
        for equation in page.equations:
            pieces = [piece for piece in page.pieces if piece.record["label"] == equation.label]
            if not pieces:
                missing = (
                    f"equation {equation.label} has no evidence: end a check cell of this page in prove, exact, "
                    "numeric, sampled, measured, refute, cite or define for it, and keep the cell's output"
                )
                self.problems.append((docname, equation.line, "missing", missing))
            if equation.label in self.entries:
                continue  # a label used twice; Sphinx has said so
            number = _number(self.env, docname, equation.label)
            self.entries[equation.label] = Entry(
                equation.label, docname, self.title(docname), equation.line, equation.latex, number, pieces
            )
        for piece in page.pieces:
            label = piece.record["label"]
            if label not in labels:
                where = f"; it is on page {home[label][0]}" if label in home else ""
                orphan = f"evidence for {label}, but this page has no equation of that label{where}"
                self.problems.append((docname, piece.line, "orphan", orphan))

    def _check_sources(self) -> None:
        """Report citations, and equations that a step rests on, where they do not exist or must not be used."""
        cite: Any = self.env.domains.get("cite")
        known = cite.bibdata.data.entries if cite else {}
        for entry in self.entries.values():
            kinds = {piece.kind for piece in entry.pieces}
            if "refuted" in kinds and (favour := kinds - {"refuted", "cited", "definition"}):
                text = f"equation {entry.label} is refuted, and yet {', '.join(sorted(favour))}"
                self.problems.append((entry.docname, entry.line, "refuted", text))
            for piece in entry.pieces:
                key = piece.record["citation"]
                if key and key not in known:
                    text = f"equation {entry.label} cites {key!r}, which is not in the bibliography"
                    self.problems.append((entry.docname, piece.line, "citation", text))
                for base in piece.using:
                    if base not in self.entries:
                        text = f"equation {entry.label} rests on {base}, but no page has an equation of that label"
                        self.problems.append((entry.docname, piece.line, "using", text))
                        continue
                    if any(other.kind == "refuted" for other in self.entries[base].pieces):
                        text = f"equation {entry.label} rests on {base}, which is refuted"
                        self.problems.append((entry.docname, piece.line, "refuted", text))
                    if base not in entry.using:
                        entry.using.append(base)
                        self.entries[base].used_by.append(entry.label)

    def _compare(self) -> None:
        """Say of each entry whether what is displayed is what was checked; report where it is not."""
        macros = macros_of(self.env.config.mathjax3_config)
        env: Any = self.env
        if not hasattr(env, "kexue_agreement"):
            env.kexue_agreement = {}
        for docname, entries in self.chapters().items():
            equations = [(entry.latex, [piece.record for piece in entry.pieces]) for entry in entries]
            try:
                found = compare_page(equations, macros, self.pages[docname].notation, env.kexue_agreement)
            except ValueError as error:
                self.problems.append((docname, 1, "notation", str(error)))
                continue
            for entry, agreement in zip(entries, found, strict=True):
                entry.agreement = agreement
                if entry.agreement.verdict == "disagrees":
                    text = f"equation {entry.label} is not what was checked: {entry.agreement.why}"
                    self.problems.append((docname, entry.line, "agreement", text))

    def _in_dependency_order(self) -> list[str]:
        """All labels, bases first. A cycle is reported, and cut at the step that closes it."""
        graph = {entry.label: set(entry.using) for entry in self.entries.values()}
        while True:
            try:
                return list(TopologicalSorter(graph).static_order())
            except CycleError as error:
                cycle = error.args[1]  # each element is a base of the next; the first is also the last
                place = {label: position for position, label in enumerate(self.entries)}
                base, user = max(pairwise(cycle), key=lambda edge: place[edge[0]] - place[edge[1]])
                entry = self.entries[user]
                line = next(piece.line for piece in entry.pieces if base in piece.using)
                text = f"equation {user} rests on itself: {' rests on '.join(reversed(cycle))}"
                self.problems.append((entry.docname, line, "cycle", text))
                graph[user].discard(base)

    def _settle(self, entry: Entry) -> None:
        """Decide how strong ``entry`` is; everything that it rests on is settled already."""
        kinds = [piece.kind for piece in entry.pieces]
        if not kinds or "refuted" in kinds:
            entry.claimed = entry.kind = "refuted" if kinds else "unchecked"
            return
        if set(kinds) == {"definition"}:
            entry.claimed = entry.kind = "definition"
            return
        whole = [self._standing(piece) for piece in entry.pieces if piece.kind != "definition" and not piece.step]
        steps = [self._standing(piece) for piece in entry.pieces if piece.step]
        candidates = [(*standing, False) for standing in whole]
        if steps:
            candidates.append((*min(steps, key=lambda standing: KINDS[standing[1]].rank), True))
        # max keeps the first of equals; of two equal standings the one that rests on nothing weaker reads better
        entry.claimed, entry.kind, entry.weakest, entry.in_steps = max(
            candidates, key=lambda standing: (KINDS[standing[1]].rank, standing[2] is None)
        )

    def _standing(self, piece: Piece) -> tuple[str, str, str | None]:
        """The kind of a piece, what is left of it after what it rests on, and the equation that weakens it."""
        standing: tuple[str, str | None] = (piece.kind, None)
        for base in (self.entries[label] for label in piece.using if label in self.entries):
            if KINDS[base.kind].rank < KINDS[standing[0]].rank:
                standing = (base.kind, base.weakest or base.label)
        return (piece.kind, *standing)

    def title(self, docname: str) -> str:
        title = self.env.titles.get(docname)
        return title.astext() if title is not None else docname

    def of(self, docname: str | None) -> list[Entry]:
        """The entries of one page, or of the whole book when ``docname`` is None."""
        return [entry for entry in self.entries.values() if docname in (None, entry.docname)]

    def chapters(self) -> dict[str, list[Entry]]:
        """The entries by docname, in reading order."""
        grouped: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            grouped.setdefault(entry.docname, []).append(entry)
        return grouped

    def counts(self, docname: str | None = None) -> dict[str, int]:
        """How many equations of each kind there are, strongest first; kinds that do not occur are left out."""
        found = Counter(entry.kind for entry in self.of(docname))
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def counts_in_steps(self, docname: str | None = None) -> Counter[str]:
        """How many equations of each kind are checked only step by step."""
        return Counter(entry.kind for entry in self.of(docname) if entry.in_steps)

    def compared(self, docname: str | None = None) -> tuple[int, int]:
        """For how many equations the agreement of display and check was tested, and how many there are."""
        entries = self.of(docname)
        return sum(entry.agreement.tested for entry in entries), len(entries)

    def name(self, entry: Entry) -> str:
        """The equation as an ``{eq}`` reference shows it, e.g. ``(3)``."""
        return self.reference.format(number=entry.number)

    def place(self, entry: Entry, docname: str) -> str:
        """The equation as a reader of page ``docname`` finds it, e.g. ``(3)`` or ``(3) in Random angles``."""
        return self.name(entry) if entry.docname == docname else f"{self.name(entry)} in {entry.title}"

    def cap(self, entry: Entry) -> str:
        """What qualifies the word of an equation, e.g. ``in steps, resting on (3): cited``; empty if nothing does."""
        qualifications = ["in steps"] if entry.in_steps else []
        if entry.weakest is not None:
            base = self.place(self.entries[entry.weakest], entry.docname)
            qualifications.append(f"resting on {base}: {entry.kind}")
        return ", ".join(qualifications)

    def verdict(self, entry: Entry) -> str:
        """The strength in words, e.g. ``proved, resting on (3): cited``."""
        return ", ".join(filter(None, (entry.claimed, self.cap(entry))))

    def shown_on(self, docname: str) -> str:
        """What page ``docname`` shows and other pages may change; where it is the same, so is the page."""
        page = self.pages[docname]
        if page.shows_book:
            return repr(list(self.entries.values()))
        own = self.of(docname)
        near = [label for entry in own for label in entry.using + entry.used_by] + page.refers_to
        shown = own + [self.entries[label] for label in near if label in self.entries]
        return repr(
            [(self.place(entry, docname), self.verdict(entry), entry.used_by, entry.agreement) for entry in shown]
        )

    def as_json(self, builder: Any) -> dict[str, Any]:
        """The content of ``ledger.json``."""
        hidden = {"version", "label"}
        return {
            "equations": [
                {
                    "chapter": entry.slug,
                    "title": entry.title,
                    "label": entry.label,
                    "number": entry.number,
                    "url": f"{builder.get_target_uri(entry.docname)}#{entry.anchor}",
                    "kind": entry.kind,
                    "claimed": entry.claimed,
                    "rests_on": entry.using,
                    "weakest": entry.weakest,
                    "in_steps": entry.in_steps,
                    "agreement": asdict(entry.agreement),
                    "evidence": [
                        {name: piece.record[name] for name in _FIELDS if name not in hidden} for piece in entry.pieces
                    ],
                }
                for entry in self.entries.values()
            ],
            "counts": self.counts(),
            "agreement": dict(Counter(entry.agreement.verdict for entry in self.entries.values())),
        }


def _reading_order(env: BuildEnvironment) -> list[str]:
    """The docnames in the order of the table of contents; pages outside of it come last."""
    order: dict[str, None] = {}

    def visit(docname: str) -> None:
        if docname not in order:
            order[docname] = None
            for child in env.toctree_includes.get(docname, ()):
                visit(child)

    visit(env.config.root_doc)
    noted = pages(env)
    return [name for name in [*order, *sorted(noted.keys() - order.keys())] if name in noted]


def _number(env: BuildEnvironment, docname: str, label: str) -> str:
    """The number of an equation as its page shows it; Sphinx keeps two kinds of numbers."""
    if env.config.math_numfig and env.config.numfig:
        numbers = env.toc_fignumbers.get(docname, {}).get("displaymath", {})
        number = ".".join(map(str, numbers.get(nodes.make_id(f"equation-{label}"), ())))
        return env.config.math_numsep.join(number.rsplit(".", 1))
    return str(cast(MathDomain, env.get_domain("math")).get_equation_number_for(label))


def resolution_in_words(kind: str, resolution: float | None) -> str:
    """What a check of this resolution can tell apart, for a reader.

    >>> resolution_in_words("sampled", 0.0072)
    'would have caught a relative error of 0.72 %'
    >>> resolution_in_words("numeric", 1e-12)
    'would have caught a relative error of 10⁻¹²'
    >>> resolution_in_words("measured", 3.5)
    'coarse: it tells the sign and the order of magnitude, no more'
    """
    if resolution is None:
        reason = {
            "cited": "nothing is checked here",
            "definition": "a definition claims nothing",
            "refuted": "one counter-example is enough",
        }
        return f"not applicable: {reason[kind]}" if kind in reason else "not applicable"
    if resolution == 0:
        return "no error in what was checked can pass" if kind == "proved" else "no error can pass in the stated cases"
    if resolution >= 1:
        return "coarse: it tells the sign and the order of magnitude, no more"
    return f"would have caught a relative error of {relative_size(resolution)}"


def relative_size(size: float) -> str:
    """A relative error as a reader likes it: in percent, or as a power of ten when tiny.

    >>> relative_size(0.5), relative_size(3.1), relative_size(2e-9)
    ('50 %', 'coarse', '2·10⁻⁹')
    """
    if size >= 1:
        return "coarse"
    if size >= 1e-5:
        return f"{100 * size:.0f} %" if size >= 0.1 else f"{100 * size:.2g} %"
    mantissa, exponent = f"{size:.1e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    mantissa = mantissa.removesuffix(".0")
    return power if mantissa == "1" else f"{mantissa}·{power}"


def seconds_in_words(seconds: float) -> str:
    """
    >>> seconds_in_words(0.0004), seconds_in_words(1.234), seconds_in_words(75.2)
    ('< 0.01 s', '1.23 s', '75 s')
    """
    if seconds < 0.01:
        return "< 0.01 s"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
