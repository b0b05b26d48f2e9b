"""The ledger on tiny books: what stops the build, what a reader sees, and what ``ledger.json`` says.

The check cells show evidence records written by hand, so these tests do not depend on how evidence is made.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from bs4 import BeautifulSoup, Tag

from kexue_publish.strength import KINDS, schema_problem

MIME = "application/vnd.kexue.evidence+json"
HEAD = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
SHOW = f"""
```{{code-cell}} ipython3
:tags: [remove-cell]
from IPython.display import display
def show(record):
    plain = {{"text/plain": "the plain output", "text/html": "<i>the html output</i>"}}
    display({{**plain, "{MIME}": record}}, raw=True)
```
"""


def record(kind: str, label: str, **fields: object) -> dict:
    given = {
        "version": 1, "kind": kind, "label": label, "method": f"{kind} by hand", "checked": r"a^2 \ge 0",
        "assumptions": [], "resolution": 0.0 if kind in ("proved", "exact") else None, "using": [],
        "seconds": 0.25, "seed": None, "details": [], "citation": None, "step": None,
    }  # fmt: skip
    return given | fields


def equation(label: str, latex: str = "a = b") -> str:
    return f"\n$${latex}$$ ({label})\n"


def check(*records: dict, tag: str = "hide-input") -> str:
    shown = "\n".join(f"show({one!r})" for one in records)
    return f"\n```{{code-cell}} ipython3\n:tags: [{tag}]\n{shown}\n```\n"


@dataclass
class TinyBook:
    """A book in a folder, built by Sphinx in a process of its own."""

    folder: Path
    cache: Path

    def write(self, **pages: str) -> None:
        """Write pages, and around them what a book needs."""
        names = sorted({*pages, *(path.stem for path in self.folder.glob("*.md"))} - {"index"})
        files = {f"{name}.md": text for name, text in pages.items()}
        files["index.md"] = "# The book\n\n```{toctree}\n" + "\n".join(names) + "\n```\n"
        files["refs.bib"] = "@misc{ball1997, title={Convexity}, author={Ball}, year={1997}}"
        files["conf.py"] = (
            "extensions = ['myst_nb', 'sphinx.ext.mathjax', 'sphinxcontrib.bibtex', 'kexue_publish.ledger']\n"
            "myst_enable_extensions = ['dollarmath', 'amsmath']\n"
            "bibtex_bibfiles = ['refs.bib']\n"
            "numfig = True\n"
            "exclude_patterns = ['_build']\n"
            "nb_execution_mode = 'cache'\n"
            f"nb_execution_cache_path = {str(self.cache)!r}\n"
        )
        for name, text in files.items():
            path = self.folder / name
            if not path.exists() or path.read_text("utf-8") != text:
                path.write_text(text, encoding="utf-8")

    def build(self, *options: str, builder: str = "html") -> tuple[int, list[str], str]:
        """Exit status, warnings (without the folder's name), and what Sphinx said."""
        command = [
            sys.executable,
            "-m",
            "sphinx",
            "-b",
            builder,
            *options,
            self.folder,
            self.folder / "_build" / builder,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert "Traceback" not in done.stderr, done.stderr
        warnings = [line for line in done.stderr.splitlines() if "WARNING: " in line or "ERROR: " in line]
        return done.returncode, [line.removeprefix(f"{self.folder}/") for line in warnings], done.stdout

    def page(self, name: str) -> BeautifulSoup:
        return BeautifulSoup((self.folder / "_build" / "html" / f"{name}.html").read_text("utf-8"), "html.parser")

    def script(self, page: str, selector: str) -> dict:
        """What the script file hands over that an element of a page names."""
        source = self.page(page).select_one(selector)["data-src"]
        text = (self.folder / "_build" / "html" / source.partition("?")[0]).read_text("utf-8")
        return json.loads(text[text.index("(") + 1 : text.rindex(")")])

    def panel(self, page: str, label: str) -> Tag:
        """What the badge of an equation opens."""
        panels = self.script(page, "#kx-panels")
        return BeautifulSoup(f"<div>{panels[f'equation-{label}']}</div>", "html.parser").div

    def ledger(self) -> dict:
        text = (self.folder / "_build" / "html" / "ledger.json").read_text("utf-8")
        return json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} in ledger.json"))


def words(tag: Tag) -> str:
    return re.sub(r"\s+", " ", tag.get_text()).strip()


def badge(page: BeautifulSoup, label: str) -> Tag:
    return page.find(id=f"equation-{label}").find_parent(class_="kx-equation").find("details", class_="kx-badge")


ALPHA = (
    HEAD + "# Alpha\n\n```{ledger-counts}\n:chapter:\n```\n" + SHOW
    + equation("eq-name", "c = 2")
    + check(record("definition", "eq-name"))
    + equation("eq-theorem", "x < y")
    + check(record("cited", "eq-theorem", citation="ball1997"), tag="hide-cell")
    + equation("eq-step", r"\frac{a}{b} = 1")
    + check(record("proved", "eq-step", using=["eq-name"], assumptions=["n > 1"], details=[["strategy", "gammasimp"]]))
    + "\n```{ledger-graph}\n```\n"
)  # fmt: skip
BETA = (
    HEAD.replace("kernelspec", r"notation: {'Q_{#1}': '2+#1'}" + "\nkernelspec") + "# Beta\n\nSee {eq}`eq-theorem`.\n" + SHOW
    + equation("eq-corollary", "Q_1 = 3")
    + check(record("proved", "eq-corollary", checked="2 + 1 = 3", using=["eq-step", "eq-theorem"]))
    + equation("eq-consequence")
    + check(record("exact", "eq-consequence", using=["eq-corollary"]))
    + equation("eq-twice")
    + check(record("sampled", "eq-twice", method="mean <b>of</b> & cos", resolution=0.0072, seed=7),
            record("numeric", "eq-twice", resolution=1e-12))
)  # fmt: skip
LEDGER = "# Ledger\n\n```{ledger-counts}\n```\n\n```{ledger}\n```\n\n```{ledger-graph}\n:book:\n```\n"
BIBLIOGRAPHY = "# Sources\n\n```{bibliography}\n:all:\n```\n"


@pytest.fixture(scope="module")
def tiny_book(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def make(**pages: str) -> TinyBook:
        book = TinyBook(tmp_path_factory.mktemp("book"), cache)
        book.write(**pages)
        return book

    return make


@pytest.fixture(scope="module")
def good(tiny_book):
    book = tiny_book(alpha=ALPHA, beta=BETA, ledger=LEDGER, sources=BIBLIOGRAPHY)
    status, warnings, _ = book.build("-W", "--keep-going", "-n")
    assert (status, warnings) == (0, [])
    return book


def test_ledger_json_lists_equations_in_reading_order_with_the_numbers_of_the_pages(good):
    equations = good.ledger()["equations"]
    assert [(one["chapter"], one["label"], one["number"], one["url"]) for one in equations] == [
        ("alpha", "eq-name", "1", "alpha.html#equation-eq-name"),
        ("alpha", "eq-theorem", "2", "alpha.html#equation-eq-theorem"),
        ("alpha", "eq-step", "3", "alpha.html#equation-eq-step"),
        ("beta", "eq-corollary", "4", "beta.html#equation-eq-corollary"),
        ("beta", "eq-consequence", "5", "beta.html#equation-eq-consequence"),
        ("beta", "eq-twice", "6", "beta.html#equation-eq-twice"),
    ]
    for one in equations:
        shown = good.page(one["chapter"]).find(id=f"equation-{one['label']}").find(class_="eqno")
        assert words(shown).startswith(f"({one['number']})")


def test_ledger_json_keeps_the_promised_fields_of_each_piece(good):
    promised = {"kind", "method", "checked", "assumptions", "resolution", "seconds"}
    pieces = [piece for one in good.ledger()["equations"] for piece in one["evidence"]]
    assert len(pieces) == 7
    assert all(promised <= piece.keys() for piece in pieces)
    assert pieces[2]["assumptions"] == ["n > 1"]


def test_counts_are_by_what_is_left_after_what_an_equation_rests_on(good):
    assert good.ledger()["counts"] == {"proved": 1, "numeric": 1, "cited": 3, "definition": 1}
    assert "1 proved" in words(good.page("alpha").find(class_="kx-counts"))
    assert "3 cited" in words(good.page("ledger").find(class_="kx-counts"))
    assert "3 cited" not in words(good.page("alpha").find(class_="kx-counts"))


def test_strength_is_capped_across_pages_and_along_chains(good):
    by_label = {one["label"]: one for one in good.ledger()["equations"]}
    for label, claimed in [("eq-corollary", "proved"), ("eq-consequence", "exact")]:
        one = by_label[label]
        assert (one["claimed"], one["kind"], one["weakest"]) == (claimed, "cited", "eq-theorem")


def test_resting_on_a_definition_weakens_nothing(good):
    assert words(badge(good.page("alpha"), "eq-step").summary) == "proved: evidence for equation (3)"


def test_badge_reads_word_and_equation_aloud(good):
    page = good.page("beta")
    assert words(badge(page, "eq-twice").summary) == "numeric: evidence for equation (6)"
    capped = words(badge(page, "eq-corollary").summary)
    assert capped == "proved, resting on (2) in Alpha: cited: evidence for equation (4)"


def test_badges_are_closed_and_stand_right_after_their_equation(good):
    for details in good.page("alpha").select("details.kx-badge"):
        assert not details.has_attr("open")
        assert "math" in details.find_previous_sibling()["class"]
        panel = details.find_next_sibling()
        assert "kx-panel" in panel["class"]
        page, _, name = panel.a["href"].partition("#")
        assert page == "evidence/alpha.html" and name == details.find_previous_sibling()["id"]


def test_without_a_script_every_badge_leads_to_all_that_its_panel_says(good):
    page = good.page("evidence/alpha")
    for label in ("eq-name", "eq-theorem", "eq-step"):
        there = page.find(id=f"equation-{label}").find(class_="kx-panel")
        assert words(there) == words(good.panel("alpha", label))
        for link in there.select("a"):
            assert (good.folder / "_build/html/evidence" / link["href"].partition("#")[0]).is_file()


def test_a_changed_panel_has_a_new_address(tiny_book):
    book = tiny_book(alpha=ALPHA, beta=BETA)
    addresses = []
    for text in (ALPHA, ALPHA.replace("gammasimp", "ratsimp")):
        book.write(alpha=text, beta=BETA)
        book.build("-q")
        addresses.append(book.page("alpha").select_one("#kx-panels")["data-src"])
    assert addresses[0] != addresses[1]


def test_panel_says_what_was_checked_how_and_on_what_it_rests(good):
    panel = good.panel("alpha", "eq-step")
    text = words(panel)
    assert r"\[a^2 \ge 0\]" in text and r"\(n > 1\)" in text  # for MathJax
    assert "proved by hand" in text and "no error in what was checked can pass" in text and "0.25 s" in text
    assert "strategy gammasimp" in re.sub(r"strategy\s*", "strategy ", text)
    assert [(link["href"], words(link)) for link in panel.select("a.kx-eqref")] == [
        ("#equation-eq-name", "(1)"),
        ("beta.html#equation-eq-corollary", "(4)"),
    ]


def test_panel_names_the_notation_that_the_comparison_used_and_leads_to_its_meaning(good):
    agreement = good.panel("beta", "eq-corollary").select_one(".kx-agreement")
    assert words(agreement).endswith(r"It read \(Q_{{\bullet}}\) as this page means it.")
    page, _, anchor = agreement.a["href"].partition("#")
    assert words(good.page(page.removesuffix(".html")).find(id=anchor).dl) == r"\(Q_{{\bullet}}\)\(2+{\bullet}\)"
    assert "It read" not in words(good.panel("alpha", "eq-step"))


def test_every_piece_is_listed_the_deciding_one_first(good):
    panel = good.panel("beta", "eq-twice")
    assert [words(strong) for strong in panel.select(".kx-how strong")] == ["numeric", "sampled"]
    assert "would have caught a relative error of 10⁻¹²" in words(panel)
    assert "would have caught a relative error of 0.72 %" in words(panel)
    assert "seed 7" in words(panel)


def test_text_of_evidence_is_never_markup(good):
    panel = good.panel("beta", "eq-twice")
    assert panel.find("b", string="of") is None
    assert "mean <b>of</b> & cos" in words(panel)


def test_output_of_a_check_is_one_line_and_not_the_html_of_the_notebook(good):
    page = good.page("alpha")
    line = next(line for line in page.select("p.kx-output") if "eq-step" in line.a["href"])
    assert words(line) == "proved (3)"
    assert "the html output" not in page.get_text() and "the plain output" not in page.get_text()


def test_panel_links_to_the_whole_check_cell_even_where_it_is_folded(good):
    page = good.page("alpha")
    for label in ("eq-step", "eq-theorem"):
        panel = good.panel("alpha", label)
        (link,) = (link for link in panel.find_all("a") if words(link) == "see the check")
        cell = page.find(id=link["href"][1:])
        assert "cell" in cell["class"] and f"'label': '{label}'" in cell.get_text()


def test_ids_are_unique(good):
    for name in ("alpha", "beta", "ledger", "evidence/alpha"):
        ids = [tag["id"] for tag in good.page(name).find_all(id=True)]
        assert len(ids) == len(set(ids))


def test_citation_leads_into_the_bibliography(good):
    panel = good.panel("alpha", "eq-theorem")
    page, _, anchor = panel.find("a", string=re.compile("Convexity"))["href"].partition("#")
    assert page == "sources.html" and good.page("sources").find(id=anchor)


def test_reference_from_another_page_tells_the_strength(good):
    link = good.page("beta").find("a", title=re.compile("Alpha"), class_="kx-eqref")
    assert link["title"] == "equation (2) in Alpha: cited"


def test_ledger_page_has_the_counts_of_each_chapter_and_where_its_rows_and_its_evidence_are(good):
    page = good.page("ledger")
    bodies = page.select("table.kx-table tbody")
    assert [body["data-chapter"] for body in bodies] == ["Alpha", "Beta"]
    assert [words(body.select_one(".kx-summary")) for body in bodies] == [
        "1 proved, 1 cited, 1 definition: all evidence of Alpha",
        "1 numeric, 2 cited: all evidence of Beta",
    ]
    rows = []
    for body in bodies:
        content = good.script("ledger", f"#{body['id']}")[body["id"]]
        rows += BeautifulSoup(content, "html.parser").select("tr[data-kind]")
        assert json.loads(body["data-counts"])
    assert [(words(row.th), row["data-kind"]) for row in rows] == [
        ("(1)", "definition"), ("(2)", "cited"), ("(3)", "proved"), ("(4)", "cited"), ("(5)", "cited"), ("(6)", "numeric")
    ]  # fmt: skip
    assert r"\frac{a}{b} = 1" in rows[2].get_text()
    assert page.find("script", src=re.compile("mathjax", re.IGNORECASE)), "formulas need MathJax on this page too"


def test_graph_says_in_words_what_its_arcs_show(good):
    for page in ("alpha", "evidence/alpha"):
        graph = good.page(page).find(class_="kx-graph")
        assert [words(item) for item in graph.find_all("li")] == ["(1) definition name", "(3) proved step rests on (1)"]
        assert len(graph.select(".kx-arcs path:not(.kx-head)")) == 1


def test_ledger_page_leads_to_the_graph_of_each_chapter(good):
    links = good.page("ledger").find_all("a", href=re.compile("#what-rests-on-what"))
    assert [words(link.parent) for link in links] == [
        "Alpha: 1 step between equations",
        "Beta: 3 steps between equations",
    ]
    for link in links:
        page, _, name = link["href"].partition("#")
        assert good.page(page.removesuffix(".html")).find(id=name).find(class_="kx-graph")


def test_a_book_without_equations_says_so(tiny_book):
    book = tiny_book(ledger=LEDGER, plain="# Plain\n\n```{ledger-graph}\n```\n")
    status, warnings, _ = book.build("-W", "--keep-going")
    assert (status, warnings) == (0, [])
    ledger = words(book.page("ledger"))
    assert ledger.count("No labelled equation in the book yet.") == 2  # in place of the counts and of the table
    assert "No equation rests on another one yet." in ledger
    assert "No equation of this chapter rests on another one." in words(book.page("plain"))
    assert book.ledger() == {"equations": [], "counts": {}, "agreement": {}}


def test_nothing_changed_means_nothing_is_written_again(good):
    status, warnings, said = good.build()
    assert (status, warnings) == (0, [])
    assert "no targets are out of date" in said


def test_other_builders_show_evidence_as_text(good):
    status, warnings, _ = good.build("-W", "--keep-going", builder="text")
    assert (status, warnings) == (0, [])
    text = (good.folder / "_build" / "text" / "alpha.txt").read_text("utf-8")
    assert "proved: proved by hand" in text and "1 proved, 1 cited, 1 definition" in text
    ledger = (good.folder / "_build" / "text" / "ledger.txt").read_text("utf-8")
    assert "Beta (4): proved, resting on (2) in Alpha: cited" in ledger


def test_parallel_build_gives_the_same_ledger(good, tiny_book):
    filler = {f"filler{i}": f"# Filler {i}\n" for i in range(6)}  # Sphinx reads in parallel from six pages on
    book = tiny_book(alpha=ALPHA, beta=BETA, ledger=LEDGER, sources=BIBLIOGRAPHY, **filler)
    status, warnings, _ = book.build("-j", "2", "-W", "--keep-going")
    assert (status, warnings) == (0, [])
    assert book.ledger() == good.ledger()


def test_a_change_reaches_other_pages_and_a_page_that_goes_leaves_nothing(tiny_book):
    book = tiny_book(alpha=ALPHA, beta=BETA, ledger=LEDGER, sources=BIBLIOGRAPHY)
    book.build("-q")
    assert "cited" in words(badge(book.page("beta"), "eq-corollary").summary)
    cited = repr(record("cited", "eq-theorem", citation="ball1997"))
    assert cited in ALPHA
    book.write(alpha=ALPHA.replace(cited, repr(record("numeric", "eq-theorem", resolution=1e-9))))
    _, _, said = book.build()
    assert re.findall(r"reading sources\.\.\. \[.*?\] (\w+)", said) == ["alpha"]
    assert "beta" in re.findall(r"writing output\.\.\. \[.*?\] (\w+)", said)
    assert "numeric" in words(badge(book.page("beta"), "eq-corollary").summary)
    assert book.ledger()["counts"]["numeric"] == 4
    (book.folder / "beta.md").unlink()
    book.write()
    status, _, _ = book.build("-W", "--keep-going")
    assert status == 0
    assert {one["chapter"] for one in book.ledger()["equations"]} == {"alpha"}
    assert "Used for" not in words(badge(book.page("alpha"), "eq-step").find_next_sibling())


BROKEN = (
    HEAD + "# Broken\n" + SHOW
    + equation("eq-alone")
    + check(record("proved", "eq-nowhere"))
    + equation("eq-dangling")
    + check(record("proved", "eq-dangling", using=["eq-unheard-of"]))
    + equation("eq-hen") + check(record("proved", "eq-hen", using=["eq-egg"]))
    + equation("eq-egg") + check(record("proved", "eq-egg", using=["eq-hen"]))
    + equation("eq-false") + check(record("refuted", "eq-false"))
    + equation("eq-on-sand") + check(record("proved", "eq-on-sand", using=["eq-false"]))
    + equation("eq-both") + check(record("refuted", "eq-both"), record("numeric", "eq-both", resolution=0.1))
    + equation("eq-hearsay") + check(record("cited", "eq-hearsay", citation="nobody2042"))
    + equation("eq-future") + check(record("proved", "eq-future", version=2))
    + equation("eq-hidden") + check(record("proved", "eq-hidden"), tag="remove-output")
    + "\n\\begin{equation}\nx = 1\n\\end{equation}\n"
)  # fmt: skip


@pytest.fixture(scope="module")
def broken(tiny_book):
    book = tiny_book(broken=BROKEN, other=HEAD + "# Other\n" + SHOW + check(record("proved", "eq-alone")))
    return book, book.build("-W", "--keep-going")


def line_of(text: str) -> int:
    return BROKEN[: BROKEN.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    "at, message",
    [
        ("$$a = b$$ (eq-alone)", "equation eq-alone has no evidence"),
        ("'label': 'eq-nowhere'", "evidence for eq-nowhere, but this page has no equation of"),
        ("'label': 'eq-dangling'", "equation eq-dangling rests on eq-unheard-of, but no page has an equation"),
        ("'label': 'eq-hen'", "equation eq-hen rests on itself: eq-hen rests on eq-egg rests on eq-hen"),
        ("'label': 'eq-on-sand'", "equation eq-on-sand rests on eq-false, which is refuted"),
        ("(eq-both)", "equation eq-both is refuted, and yet numeric"),
        ("'label': 'eq-hearsay'", "equation eq-hearsay cites 'nobody2042', which is not in the bibliography"),
        ("'label': 'eq-future'", "evidence that cannot be read: schema version 2, expected 1"),
        ("(eq-hidden)", "equation eq-hidden has no evidence"),
        ("\\begin{equation}", "a numbered equation without a label"),
    ],
)  # fmt: skip
def test_what_does_not_fit_stops_the_build_and_says_where(broken, at, message):
    _, (status, warnings, _) = broken
    assert status != 0
    (found,) = (line for line in warnings if message in line and line.startswith("broken.md"))
    assert int(found.split(":")[1]) == line_of(at)


def test_evidence_belongs_on_the_page_of_its_equation(broken):
    _, (_, warnings, _) = broken
    assert any(
        line.startswith("other.md") and "eq-alone" in line and "it is on page broken" in line for line in warnings
    )


def test_each_mistake_is_reported_once(broken):
    _, (_, warnings, _) = broken
    assert len(warnings) == len(set(warnings)) == 12


def test_building_twice_does_not_make_it_right(broken):
    book, (_, warnings, _) = broken
    status, again, _ = book.build("-W", "--keep-going")
    assert status != 0
    assert again == warnings


def test_an_unchecked_equation_says_so_on_its_page(broken):
    book, _ = broken
    assert words(badge(book.page("broken"), "eq-alone").summary).startswith("unchecked: evidence for")


@pytest.mark.parametrize(
    "fields, problem",
    [
        ({"kind": "believed"}, "kind 'believed'"),
        ({"label": ""}, "empty label"),
        ({"resolution": float("nan")}, "'resolution' is nan"),
        ({"seconds": -1.0}, "'seconds' is -1.0"),
        ({"seconds": "fast"}, "'seconds' is 'fast'"),
        ({"using": ["eq-a", 3]}, "lists of strings"),
        ({"details": [["only a name"]]}, "pairs of strings"),
        ({"kind": "cited"}, "without a citation key"),
        ({"version": None}, "schema version None"),
    ],
)
def test_malformed_records_are_named(fields, problem):
    assert schema_problem(record("proved", "eq-a")) is None
    assert problem in schema_problem(record("proved", "eq-a") | fields)


def test_a_record_that_is_none_or_lacks_a_field_is_named():
    assert schema_problem([]) == "list instead of a JSON object"
    without = record("proved", "eq-a")
    del without["method"]
    assert schema_problem(without) == "field 'method' is missing"
    assert schema_problem(record("proved", "eq-a", seed=True)) == "field 'seed' is True"


def test_every_kind_can_be_told_without_colour():
    styles = (Path(__file__).parents[2] / "book" / "_static" / "ledger.css").read_text("utf-8")
    icons = dict(re.findall(r"\.kx-(\w+) \{\s+--kx: [^;]+;\s+--kx-icon: (url\([^)]+\));", styles))
    assert icons.keys() == KINDS.keys() and len(set(icons.values())) == len(KINDS)
