r"""The ledger: every labelled equation of the book with the evidence that was executed for it.

An evidence output (MIME type ``application/vnd.kexue.evidence+json``) becomes a node of the document. When a
page has been read, its evidence and its labelled equations are noted in ``env.kexue_ledger``; when all pages
have been read, a :class:`Book` matches the two, settles how strong each equation is after what it rests on,
and reports what does not fit as Sphinx warnings, in *every* build, so that ``-W`` cannot be outlived by
building twice. A page is written again when what it shows of the ledger has changed, even if the change
came from another page.

A chapter shows of each equation its badge; what the badge opens comes from a script file of the chapter, loaded when
it is first wanted (a script, since a page that was opened from a folder may fetch nothing else). Without JavaScript
the badge leads to the chapter's evidence page, which holds everything and is made for every chapter with equations.
The rows of the table over the whole book are script files, too, one a chapter.

Directives
    ``{ledger}``         table of all equations of the book
    ``{ledger-counts}``  how many equations of each kind, in the book, on the page named, or (``:chapter:``) on this page
    ``{ledger-graph}``   what rests on what on this page; ``:book:`` for every chapter in turn
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from myst_nb.core.render import MimeData, MimeRenderPlugin, NbElementRenderer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from kexue_publish.agreement import Agreement, notation_of
from kexue_publish.strength import (
    KINDS,
    Book,
    Entry,
    Equation,
    Page,
    Piece,
    pages,
    relative_size,
    resolution_in_words,
    schema_problem,
    seconds_in_words,
)

if TYPE_CHECKING:
    from docutils.writers.html5_polyglot import HTMLTranslator
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

MIME = "application/vnd.kexue.evidence+json"
ENV_VERSION = 2

logger = logging.getLogger(__name__)


# --- Reading: from outputs and equations to what is noted of a page ---------------------------------------


class EvidenceNode(nodes.General, nodes.Element):
    """One evidence output; ``record`` is its JSON object."""


class LedgerTable(nodes.General, nodes.Element):
    """Place of the table over the whole book."""


class LedgerCounts(nodes.General, nodes.Element):
    """Place of the counts by kind: of the page named by ``chapter`` (a docname), or of the whole book.

    Other directives may put this node into a page: ``LedgerCounts(chapter=self.env.docname)``.
    """


class LedgerGraph(nodes.General, nodes.Element):
    """Place of the graph of what rests on what: of the page named by ``chapter``, or of every chapter."""


class EvidenceRenderer(MimeRenderPlugin):
    """Turn an evidence output of a notebook into an :class:`EvidenceNode` (entry point of myst-nb)."""

    mime_priority_overrides: ClassVar = [("*", MIME, 1)]

    @staticmethod
    def handle_mime(renderer: NbElementRenderer, data: MimeData, inline: bool) -> list[nodes.Element] | None:
        if inline or data.mime_type != MIME:
            return None
        content = data.content
        return [EvidenceNode(record=json.loads(content if isinstance(content, str) else json.dumps(content)))]


def note_page(app: Sphinx, doctree: nodes.document) -> None:
    """Note what the page that was just read adds to the ledger."""
    env = app.env
    page = pages(env)[env.docname] = Page()
    try:
        page.notation = notation_of(Path(env.doc2path(env.docname)).read_text(encoding="utf-8"))
    except ValueError as error:
        page.problems.append((1, "notation", str(error)))
    for node in doctree.findall(nodes.math_block):
        if not (label := node.get("label")):
            continue
        if "amsmath" in node["classes"]:  # myst-parser has made up a label, which no evidence can name
            text = "a numbered equation without a label: write $$ ... $$ (eq-name), or use the starred environment"
            page.problems.append((node.line, "missing", text))
        else:
            page.equations.append(Equation(label, node.line, node.astext()))
    for node in doctree.findall(EvidenceNode):
        record = node["record"]
        if problem := schema_problem(record):
            page.problems.append((node.line, "schema", f"evidence that cannot be read: {problem}"))
            continue
        nth = sum(piece.record["label"] == record["label"] for piece in page.pieces) + 1
        node["anchor"] = nodes.make_id(f"check-{record['label']}" + (f"-{nth}" if nth > 1 else ""))
        _cell_of(node)["ids"].append(node["anchor"])
        page.pieces.append(Piece(record, node.line, node["anchor"]))
    for node in doctree.findall(nodes.Element):
        if node.get("reftype") == "eq":
            page.refers_to.append(node["reftarget"])
        elif isinstance(node, LedgerTable):
            page.is_ledger = True
        if isinstance(node, LedgerTable | LedgerCounts | LedgerGraph):
            page.shows_book |= node.get("chapter") != env.docname
    if page.is_ledger:  # the equations enter after Sphinx has looked whether the page needs MathJax
        env.get_domain("math").data["has_equations"][env.docname] = True


def _cell_of(node: nodes.Element) -> nodes.Element:
    """The whole check cell of an evidence output, so that a link shows the code too."""
    cell = node.parent
    while cell is not None and cell.get("nb_element") != "cell_code":
        cell = cell.parent
    return node if cell is None else cell


def purge_page(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    pages(env).pop(docname, None)


def merge_pages(app: Sphinx, env: BuildEnvironment, docnames: Iterable[str], other: BuildEnvironment) -> None:
    pages(env).update((name, page) for name, page in pages(other).items() if name in docnames)


def settle_book(app: Any, env: Any) -> list[str]:
    """Settle the ledger, report its problems, and name the pages that show something new."""
    book = app.kexue_book = Book(env)
    for docname, line, subtype, message in book.problems:
        logger.warning(message, location=(docname, line), type="ledger", subtype=subtype)
    if not hasattr(env, "kexue_ledger_shown"):
        env.kexue_ledger_shown = {}
    before = env.kexue_ledger_shown.get(app.builder.name, {})
    now = {docname: book.shown_on(docname) for docname in book.pages}
    env.kexue_ledger_shown[app.builder.name] = now
    return [docname for docname in now if before.get(docname) != now[docname]]


def write_json(app: Any, exception: Exception | None) -> None:
    """Publish ``ledger.json`` at the root of the site."""
    if exception is None and app.builder.name in ("html", "dirhtml"):
        text = json.dumps(app.kexue_book.as_json(app.builder), ensure_ascii=False, indent=1, allow_nan=False)
        Path(app.outdir, "ledger.json").write_text(text + "\n", encoding="utf-8")


# --- Showing: HTML ------------------------------------------------------------------------------------------


class Tag(nodes.General, nodes.Element):
    """An HTML element; only made for builders that write HTML."""


def E(tag: str, *children: nodes.Node | str | None, **attributes: Any) -> Tag:
    """Build an HTML element: a child that is a string is text, ``class_`` and ``aria_label`` are spelled so."""
    content = [nodes.Text(child) if isinstance(child, str) else child for child in children if child]
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    return Tag("", *content, tag=tag, attributes=names)


def visit_tag(self: HTMLTranslator, node: Tag) -> None:
    attributes = "".join(f' {name}="{escape(str(value))}"' for name, value in node["attributes"].items())
    self.body.append(f"<{node['tag']}{attributes}>")


def depart_tag(self: HTMLTranslator, node: Tag) -> None:
    self.body.append(f"</{node['tag']}>")


def display_math(latex: str) -> nodes.math_block:
    return nodes.math_block(latex, latex, nowrap=False, number=None)


def legible(notation: str) -> nodes.Node:
    """Notation of a front matter as a formula, with a mark for each argument."""
    if not notation:
        return nodes.Text("left out")
    latex = notation.replace("&", "")
    for argument, mark in (("#1", r"\bullet"), ("#2", r"\circ"), ("#3", r"\star")):
        latex = latex.replace(argument, f"{{{mark}}}")
    return nodes.math(latex, latex)


def gist(method: str) -> str:
    """The first clause of how something was checked, where there is room for one line only.

    >>> gist("SymPy reduces the difference to 0; 5 random points agree.")
    'SymPy reduces the difference to 0'
    """
    return method.partition(";")[0].rstrip(".")


AGREEMENT = {
    "both sides": "compared at random points, the displayed relation is the one that was checked",
    "holds": "the displayed formula itself was evaluated at random points, and is true there",
    "in parts": "a part of what is displayed was compared with the check, or evaluated, at random points",
    "one side": "compared at random points, one side is what was checked; the other is a name that the check writes out",
    "false there": "the displayed formula is false at the counter-example, as it should be",
    "not compared": "not compared",
    "disagrees": "they disagree",
}


def agreement_in_words(agreement: Agreement) -> str:
    """The verdict for a reader, with the reason where nothing was compared.

    >>> agreement_in_words(Agreement("not compared", "a definition: nothing was checked"))
    'not compared: a definition: nothing was checked.'
    """
    text = AGREEMENT[agreement.verdict]
    if agreement.verdict in ("not compared", "disagrees") and agreement.why:
        text += f": {agreement.why}"
    return f"{text}."


class PageWriter:
    """Puts what the ledger knows into one page: ``docname``, which speaks about the equations of ``chapter``."""

    def __init__(self, app: Any, docname: str, chapter: str | None = None) -> None:
        self.app, self.docname, self.book = app, docname, app.kexue_book
        self.chapter = chapter or docname

    def url(self, docname: str, anchor: str = "") -> str:
        page = "" if docname == self.docname else self.app.builder.get_relative_uri(self.docname, docname)
        return page + (f"#{anchor}" if anchor else "")

    def anchor(self, url: str, text: str, **attributes: str | None) -> Tag:
        return E("a", text, href=url, **attributes)

    def evidence(self, entry: Entry) -> str:
        """Address of the evidence of an equation, for readers without JavaScript."""
        return self.url(evidence_page(self.app, entry.docname), entry.anchor)

    def describe(self, entry: Entry) -> str:
        """Title of a link to an equation: what is known of it, and where it stands."""
        return f"equation {self.book.place(entry, self.chapter)}: {self.book.verdict(entry)}"

    def link(self, entry: Entry) -> Tag:
        """A link to an equation. Where it stands on this page the script reads its title off its badge."""
        title = None if entry.docname == self.docname else self.describe(entry)
        url = self.url(entry.docname, entry.anchor)
        return self.anchor(url, self.book.name(entry), class_="kx-eqref", title=title)

    def links(self, labels: Iterable[str], *, words: bool = False) -> Iterator[nodes.Node]:
        """Links to equations, with commas; with their strengths when ``words``."""
        for position, label in enumerate(labels):
            entry = self.book.entries[label]
            if position:
                yield nodes.Text(", ")
            yield self.link(entry)
            if words:
                place = self.book.place(entry, self.chapter).removeprefix(self.book.name(entry))
                yield nodes.Text(f"{place} ({self.book.verdict(entry)})")

    # The badge beside an equation and the panel that it opens. The panel follows the <details> instead of
    # standing in it: then the badge stays beside the number while the panel takes the full width below. On the page it
    # holds a link; ledger.js puts the evidence in its place.

    def equation(self, block: nodes.math_block, entry: Entry) -> Tag:
        name, cap = self.book.name(entry), self.book.cap(entry)
        word = E("span", entry.claimed, class_="kx-word")
        unseen = [E("span", text, class_="kx-unseen") for text in (", ", f": evidence for equation {name}")]
        if cap:
            word = E("span", word, unseen[0], E("span", cap, class_="kx-cap"))
        badge = E("details", E("summary", word, unseen[1]), class_=f"kx-badge kx-{entry.kind}")
        panel = E("div", self.anchor(self.evidence(entry), f"Evidence for equation {name}"), class_="kx-panel")
        return E("div", block, badge, panel, class_="kx-equation")

    def panels(self, chapter: str) -> nodes.raw:
        """The panels of a chapter in a script file, and the element that says where it is."""
        panels = {entry.anchor: self.html(*self.panel(entry)) for entry in self.book.of(chapter)}
        source = self.script(f"{chapter.replace('/', '-')}", "kexuePanels", panels)
        return nodes.raw("", f'<div hidden id="kx-panels" data-src="{source}"></div>', format="html")

    def html(self, *content: nodes.Node) -> str:
        """The HTML of nodes that stand outside of the page's own text."""
        return self.app.builder.render_partial(E("div", *content))["fragment"].strip()[5:-6]

    def script(self, name: str, call: str, content: object) -> str:
        """Write a script file that hands `content` to a function of ledger.js, and return its address."""
        text = f"{call}({json.dumps(content, ensure_ascii=False, separators=(',', ':'))})\n"
        file = Path(self.app.outdir, "_evidence", f"{name}.js")  # not in _static, which every build copies anew
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        # A changed file has a new address, or a browser would show the old one with the new page.
        version = hashlib.sha256(text.encode()).hexdigest()[:8]
        root = "../" * self.app.builder.get_target_uri(self.docname).count("/")
        return f"{root}_evidence/{name}.js?v={version}"

    def evidence_body(self) -> Iterator[Tag]:
        """The content of a chapter's evidence page: every equation with its panel open, and what rests on what."""
        yield E("p", "Every numbered equation of ", self.anchor(self.url(self.chapter), self.book.title(self.chapter)),
                " with all that was checked of it.")  # fmt: skip
        yield self.counts(self.chapter)
        for entry in self.book.of(self.chapter):
            title = E(
                "h2",
                "Equation ",
                self.link(entry),
                ": ",
                E("span", self.book.verdict(entry), class_=f"kx-mark kx-{entry.kind}"),
            )
            panel = E("div", *self.panel(entry), class_="kx-panel")
            yield E("section", title, display_math(entry.latex), panel, id=entry.anchor, class_="kx-evidence")
        yield E("section", E("h2", "What rests on what"), self.graph(self.chapter), id=GRAPH)
        if self.book.pages[self.chapter].notation:
            how = "For the comparison of what is displayed with what was checked, this page's notation was read so."
            yield E("section", E("h2", "Notation"), E("p", how), self.notation(self.chapter), id=NOTATION)

    def panel(self, entry: Entry) -> Iterator[Tag]:
        if entry.weakest:
            base = self.book.entries[entry.weakest]
            away = self.book.place(base, self.chapter).removeprefix(self.book.name(base))
            yield E(
                "p",
                E("strong", f"{entry.claimed.capitalize()}, resting on ", self.link(base), f"{away}: {entry.kind}."),
                " A chain is no stronger than its weakest link.",
                class_="kx-verdict",
            )
        if entry.in_steps:
            text = "Each step below was checked by itself; what joins them to the claim stands in the text."
            yield E("p", text, class_="kx-verdict")
        pieces = sorted(entry.pieces, key=lambda piece: piece.kind != entry.claimed)
        beside = next((piece for piece in pieces if piece.record["checked"]), None)
        for piece in pieces:
            content = self.piece(piece, entry.latex if piece is beside else "")
            yield E("div", *content, class_=f"kx-piece kx-{piece.kind}")
        if beside:
            said = E("strong", "Displayed and checked"), f": {agreement_in_words(entry.agreement)}"
            yield E("p", *said, *self.notation_used(entry), class_="kx-foot kx-agreement")
        if not entry.pieces:
            yield E("p", "No check of this page speaks about this equation.", class_="kx-verdict")
        if entry.used_by:
            yield E("p", "Used for ", *self.links(entry.used_by), ".", class_="kx-foot")

    def notation_used(self, entry: Entry) -> Iterator[nodes.Node]:
        """The names in an equation that the comparison read as the page says, with a link to what it says."""
        if entry.agreement.tested and entry.agreement.notation:
            yield nodes.Text(" It read ")
            for position, shown in enumerate(entry.agreement.notation):
                yield nodes.Text(", " if position else "")
                yield legible(shown)
            yield nodes.Text(" as ")
            yield self.anchor(self.url(evidence_page(self.app, self.chapter), NOTATION), "this page means it")
            yield nodes.Text(".")

    def notation(self, chapter: str) -> Tag:
        """How the comparison reads what only this chapter writes."""
        meanings = self.book.pages[chapter].notation
        rows = (E("div", E("dt", legible(shown)), E("dd", legible(meaning))) for shown, meaning in meanings.items())
        return E("dl", *rows, class_="kx-notation")

    def piece(self, piece: Piece, displayed: str = "") -> Iterator[Tag]:
        record = piece.record
        yield E("p", E("strong", piece.kind), " ", record["method"], class_="kx-how")
        rows: list[tuple[str, list[nodes.Node | str]]] = [("Step", [piece.step])] if piece.step else []
        if displayed:
            rows.append(("Displayed", [display_math(displayed)]))
        if record["checked"]:
            rows.append(("Checked", [display_math(record["checked"])]))
        if record["assumptions"]:
            assumed: list[nodes.Node | str] = []
            for latex in record["assumptions"]:
                assumed += [nodes.math(latex, latex), " "]
            rows.append(("Assuming", assumed))
        rows.append(("Resolution", [resolution_in_words(piece.kind, record["resolution"])]))
        rows += [(name, [value]) for name, value in record["details"]]
        if record["citation"]:
            rows.append(("Source", [self.citation(record["citation"])]))
        if bases := [label for label in piece.using if label in self.book.entries]:
            rows.append(("Rests on", list(self.links(bases, words=True))))
        beside = {"Displayed", "Checked"} if displayed else set()
        yield E(
            "dl",
            *(
                E("div", E("dt", name), E("dd", *value), class_="kx-beside" if name in beside else None)
                for name, value in rows
            ),
        )
        facts = [seconds_in_words(record["seconds"])] if piece.kind not in ("cited", "definition") else []
        if record["seed"] is not None:
            facts.append(f"seed {record['seed']}")
        cell = self.anchor(self.url(self.chapter, piece.anchor), "see the check")
        yield E("p", cell, "".join(f" · {fact}" for fact in facts), class_="kx-foot")

    def citation(self, key: str) -> Tag:
        """A link into the bibliography, or the bare key where the bibliography does not list it."""
        if "cite" in self.book.env.domains:
            for cited in self.book.env.get_domain("cite").citations:
                if cited.entry.key == key:
                    text = cited.formatted_entry.text.render_as("text")
                    return self.anchor(self.url(cited.bibliography_key.docname, cited.citation_id), text)
        return E("span", key)

    def output(self, record: dict[str, Any], times: int, folded: bool) -> Tag:
        """The output of a check cell: one line for all `times` pieces of a kind, since the panel at the equation says the rest.

        Where the cell's source is `folded`, the line stands beside the switch that unfolds it and leaves out the how.
        """
        entry = self.book.entries.get(record["label"])
        place = self.link(entry) if entry else record["label"]
        said = E("span", f" — {gist(record['method'])}", class_="kx-said") if entry is None or not folded else None
        repeated = f" ×{times}" if times > 1 else ""
        line = (E("strong", record["kind"]), " ", place, repeated, said)
        return E("p", *line, class_=f"kx-output kx-{record['kind']}")

    # Pages about the ledger itself.

    def counts(self, chapter: str | None) -> Tag:
        counts, steps = self.book.counts(chapter), self.book.counts_in_steps(chapter)
        total = sum(counts.values())
        place = self.book.title(chapter) if chapter else "the book"
        if not total:
            return E("p", f"No labelled equation in {place} yet.", class_="kx-counts")
        bar = (E("span", class_=f"kx-{kind}", style=f"flex-grow: {n}") for kind, n in counts.items())
        words = (
            E(
                "li",
                E("b", str(n)),
                f" {kind}",
                *([E("small", f" ({steps[kind]} in steps)")] if steps[kind] else []),
                class_=f"kx-{kind}",
                title=KINDS[kind].meaning,
            )
            for kind, n in counts.items()
        )
        label = f"{total} equation{'s' if total > 1 else ''} in {place}, by evidence"
        return E(
            "div",
            E("div", *bar, class_="kx-bar", aria_hidden="true"),
            E("ul", *words),
            class_="kx-counts",
            role="group",
            aria_label=label,
        )

    def table(self) -> Tag:
        if not self.book.entries:
            return E("p", "No labelled equation in the book yet.")
        columns = ("No.", "Equation", "Evidence", "Would have caught", "Time")
        chapters = []
        for docname, entries in self.book.chapters().items():
            title, counts = self.book.title(docname), self.book.counts(docname)
            head = E("th", self.anchor(self.url(docname), title), colspan=5, scope="rowgroup")
            page = self.anchor(self.url(evidence_page(self.app, docname)), f"all evidence of {title}")
            said = ", ".join(f"{n} {kind}" for kind, n in counts.items())
            summary = E("tr", E("td", f"{said}: ", page, colspan=5), class_="kx-summary")
            rows = self.html(E("table", *(E("tr", *self.row(entry), data_kind=entry.kind) for entry in entries)))
            name = nodes.make_id(f"ledger-{entries[0].slug}")
            source = self.script(
                f"{docname.replace('/', '-')}-rows", "kexueRows", {name: rows[len("<table>") : -len("</table>")]}
            )
            about = {"data_chapter": title, "data_counts": json.dumps(counts), "data_src": source}
            chapters.append(E("tbody", E("tr", head, class_="kx-chapter"), summary, id=name, **about))
        head = E("thead", E("tr", *(E("th", name, scope="col") for name in columns)))
        tested, total = self.book.compared()
        caption = f"Agreement of what is displayed with what was checked: tested for {tested} of {total} equations."
        kinds = " ".join(self.book.counts())
        return E(
            "div",
            E("table", E("caption", caption), head, *chapters, class_="kx-table"),
            class_="kx-ledger",
            data_kinds=kinds,
        )

    def row(self, entry: Entry) -> Iterator[Tag]:
        record = entry.deciding
        resolution: float | None = record["resolution"] if record else None
        others = sorted({piece.kind for piece in entry.pieces} - {entry.claimed}, key=list(KINDS).index)
        yield E("th", self.link(entry), scope="row")
        yield E("td", display_math(entry.latex), class_="kx-latex")
        yield E(
            "td",
            E("span", self.book.verdict(entry), class_=f"kx-mark kx-{entry.kind}"),
            E("span", f" also {', '.join(others)}", class_="kx-also") if others else None,
            E("span", gist(record["method"]), class_="kx-method") if record else None,
            E("span", f"agreement: {entry.agreement.verdict}", class_="kx-method"),
        )
        caught = resolution is not None and ("any error" if resolution == 0 else relative_size(resolution))
        run = [piece.record["seconds"] for piece in entry.pieces if piece.kind not in ("cited", "definition")]
        for name, value in (("would have caught", caught), ("time", run and seconds_in_words(sum(run)))):
            yield E("td", value or "–", data_name=name, class_=None if value else "kx-none")

    # What rests on what: the equations in reading order, an arc from each to those that rest on it. The list
    # says the same in words, so the arcs are hidden from screen readers.

    def graph(self, docname: str) -> Tag:
        own = [entry.label for entry in self.book.of(docname)]
        edges = [(base, user) for user in own for base in self.book.entries[user].using]
        linked = {label for edge in edges for label in edge}
        rows = [label for label in self.book.entries if label in linked]
        if not edges:
            return E("p", "No equation of this chapter rests on another one.", class_="kx-graph")
        place = {label: position for position, label in enumerate(rows)}
        items = []
        for label in rows:
            entry = self.book.entries[label]
            used = [base for base, user in edges if user == label]
            away = entry.docname != docname
            name = f"in {entry.title}" if away else label.removeprefix("eq-").replace("-", " ")
            mark = E("span", entry.claimed, class_=f"kx-mark kx-{entry.kind}")
            rests = E("span", "rests on ", *self.links(used), class_="kx-on") if used else None
            items.append(E("li", self.link(entry), " ", mark, " ", E("span", name, class_="kx-name"), " ", rests))
        arcs = [(place[base], place[user], self.book.entries[base].kind) for base, user in edges]
        return E("div", _arcs(arcs, len(rows)), E("ol", *items), class_="kx-graph")

    def book_graph(self) -> Tag:
        """Where to find the graph of every chapter that has one."""
        graphs = []
        for docname, entries in self.book.chapters().items():
            if links := sum(len(entry.using) for entry in entries):
                page = self.anchor(self.url(evidence_page(self.app, docname), GRAPH), self.book.title(docname))
                graphs.append(E("li", page, f": {links} step{'s' if links > 1 else ''} between equations"))
        return E("ul", *graphs) if graphs else E("p", "No equation rests on another one yet.")


GRAPH = "what-rests-on-what"
NOTATION = "notation"
ROW = 36  # height of a row of the graph, in the units of the drawing; 16 units are one em


def _arcs(arcs: list[tuple[int, int, str]], rows: int) -> nodes.raw:
    """Half ellipses at the left of the rows, wider the further apart their ends are."""
    reach = {abs(user - base) for base, user, _ in arcs}
    width = 18 + 9 * min(max(reach), 9)
    paths = []
    for base, user, kind in arcs:
        start, end = (ROW * (row + 0.5) for row in (base, user))
        out = width - 8 - min(9 * abs(user - base), width - 14)
        # a cubic reaches three quarters of the way to its control points
        control = width - 8 - (width - 8 - out) / 0.75
        paths.append(
            f'<path class="kx-{kind}" d="M{width - 8} {start:g}C{control:.1f} {start:g} {control:.1f} {end:g} '
            f'{width - 8} {end:g}"/><path class="kx-{kind} kx-head" d="M{width - 1} {end:g}l-8 -4v8z"/>'
        )
    return nodes.raw(
        "",
        f'<svg class="kx-arcs" aria-hidden="true" viewBox="0 0 {width} {ROW * rows}" '
        f'style="width: {width / 16:g}em; height: {ROW * rows / 16:g}em">{"".join(paths)}</svg>',
        format="html",
    )


def show_ledger(app: Any, doctree: nodes.document, docname: str) -> None:
    """Replace the places of the ledger in a resolved page by what the builder can show."""
    if docname not in app.kexue_book.pages:
        return
    if app.builder.format != "html":
        _show_as_text(app.kexue_book, doctree)
        return
    writer, book = PageWriter(app, docname), app.kexue_book
    targets = {writer.url(entry.docname, entry.anchor): entry for entry in book.entries.values()}
    for reference in doctree.findall(nodes.reference):
        url = f"#{reference['refid']}" if "refid" in reference else reference.get("refuri")
        if entry := targets.get(url):
            reference["reftitle"] = writer.describe(entry)
            reference["classes"].append("kx-eqref")
    for node in list(doctree.findall(nodes.math_block)):
        entry = book.entries.get(node.get("label") or "")
        if entry and entry.docname == docname:
            parent, position = node.parent, node.parent.index(node)
            parent.remove(node)
            parent.insert(position, writer.equation(node, entry))
    if book.of(docname):
        doctree += writer.panels(docname)
    alike: dict[tuple[int, str, str], list[EvidenceNode]] = {}
    for node in list(doctree.findall(EvidenceNode)):
        if "anchor" in node:
            alike.setdefault((id(node.parent), node["record"]["kind"], node["record"]["label"]), []).append(node)
        else:
            node.replace_self(nodes.paragraph(text="evidence that cannot be read"))
    for first, *others in alike.values():
        for node in others:
            node.parent.remove(node)
        folded = "tag_hide-input" in _cell_of(first).get("classes", ())
        first.replace_self(writer.output(first["record"], 1 + len(others), folded))
    for node in list(doctree.findall(LedgerCounts)):
        node.replace_self(writer.counts(node.get("chapter")))
    for node in list(doctree.findall(LedgerTable)):
        node.replace_self(writer.table())
    for node in list(doctree.findall(LedgerGraph)):
        node.replace_self(writer.graph(node["chapter"]) if node.get("chapter") else writer.book_graph())


def evidence_page(app: Any, docname: str) -> str:
    """Name of the page with all evidence of a chapter: in a folder of its own beside the first page of the book."""
    folder = app.config.root_doc.rpartition("/")[0]
    return f"{folder}/evidence/{docname.rpartition('/')[2]}".lstrip("/")


def evidence_pages(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The evidence page of every chapter with equations, for Sphinx to write."""
    for docname in app.kexue_book.chapters():
        name = evidence_page(app, docname)
        writer = PageWriter(app, name, docname)
        title = f"Evidence: {app.kexue_book.title(docname)}"
        # Sphinx gives a page its scripts for formulas by this note.
        app.env.get_domain("math").data["has_equations"][name] = True
        body = f"<section><h1>{escape(title)}</h1>{writer.html(*writer.evidence_body())}</section>"
        yield name, {"title": title, "body": body}, "page.html"


def _show_as_text(book: Book, doctree: nodes.document) -> None:
    """What is left of the ledger in a builder that does not write HTML: short lines of text."""

    def lines(texts: Iterable[str]) -> nodes.bullet_list:
        return nodes.bullet_list("", *(nodes.list_item("", nodes.paragraph(text=text)) for text in texts))

    for node in list(doctree.findall(EvidenceNode)):
        record = node["record"] if "anchor" in node else {"kind": "unchecked", "method": "cannot be read"}
        node.replace_self(nodes.paragraph(text=f"{record['kind']}: {record['method']}"))
    for node in list(doctree.findall(LedgerCounts)):
        counts = book.counts(node.get("chapter"))
        node.replace_self(nodes.paragraph(text=", ".join(f"{n} {kind}" for kind, n in counts.items())))
    for node in list(doctree.findall(LedgerTable)):
        node.replace_self(lines(f"{e.title} {book.name(e)}: {book.verdict(e)}" for e in book.entries.values()))
    for node in list(doctree.findall(LedgerGraph)):
        node.replace_self(
            lines(
                f"{book.name(e)} rests on {', '.join(book.name(book.entries[base]) for base in e.using)}"
                for e in book.of(node.get("chapter"))
                if e.using
            )
        )


class LedgerDirective(SphinxDirective):
    """Table of all equations of the book."""

    def run(self) -> list[nodes.Node]:
        return [LedgerTable()]


class LedgerCountsDirective(SphinxDirective):
    """Counts by kind, of the book, of this page (``:chapter:``), or of the page named as argument."""

    optional_arguments = 1
    option_spec: ClassVar = {"chapter": directives.flag}

    def run(self) -> list[nodes.Node]:
        named = self.arguments[0] if self.arguments else None
        return [LedgerCounts(chapter=self.env.docname if "chapter" in self.options else named)]


class LedgerGraphDirective(SphinxDirective):
    """What rests on what, of this page or (``:book:``) of every chapter."""

    option_spec: ClassVar = {"book": directives.flag}

    def run(self) -> list[nodes.Node]:
        return [LedgerGraph(chapter=None if "book" in self.options else self.env.docname)]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_node(Tag, html=(visit_tag, depart_tag))
    app.add_directive("ledger", LedgerDirective)
    app.add_directive("ledger-counts", LedgerCountsDirective)
    app.add_directive("ledger-graph", LedgerGraphDirective)
    app.connect("doctree-read", note_page)
    app.connect("env-purge-doc", purge_page)
    app.connect("env-merge-info", merge_pages)
    app.connect("env-get-updated", settle_book, priority=950)  # after the numbers have been given
    app.connect("doctree-resolved", show_ledger, priority=600)
    app.connect("html-collect-pages", evidence_pages)
    app.connect("build-finished", write_json)
    app.add_css_file("ledger.css")
    app.add_js_file("ledger.js", loading_method="defer")
    return {
        "version": "1",
        "env_version": ENV_VERSION,
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
