"""The notebooks of the book as they are offered for download: nothing of MyST is left in them, and nothing is lost."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml
from conftest import SITE

ROOT = SITE.parents[1]
CHAPTERS = [
    path
    for path in sorted((ROOT / "book").rglob("*.md"))
    if re.search(r"\{(chapter|part)-head\}", path.read_text("utf-8")) and ".ipynb_checkpoints" not in path.parts
]
COMMANDS = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"]["config"]["mathjax3_config"]["tex"][
    "macros"
]

# What MyST, jupytext and Sphinx would have replaced.
RAW = {
    "a role": r"\{[a-z]+(?:[:-][a-z]+)*\}`",
    "a directive": r"^\s*(?:`{3,}|:{3,}|~{3,})\s*\{",
    "the end of a directive": r"^\s*:{3,}\s*$",
    "an option": r"^:[a-z-]+:",
    "a target": r"^\([\w-]+\)=\s*$",
    "the label of an equation": r"\$\$[ \t]*\([\w-]+\)",
    "a block break": r"^\+\+\+",
    "a comment": r"^%",
    "an attribute": r"\{[.#][\w-]+[^}$]*\}",
    "an unresolved reference": r"\[\]\(#|<project:|\(eq-[\w-]+\)",
}

every_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: "/".join(path.parts[-2:]))


def notebook(chapter: Path) -> nbformat.NotebookNode:
    path = SITE / "notebooks" / chapter.relative_to(ROOT).with_suffix(".ipynb")
    return nbformat.read(path, as_version=4)


def prose(cell: nbformat.NotebookNode) -> str:
    """The text of a cell without what it quotes as code."""
    text = re.sub(r"^( *)(`{3,})(?! *\{).*?^\1\2\s*$", "", cell.source, flags=re.M | re.S)
    return re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "`code`", text, flags=re.S)


def formulas(text: str) -> str:
    return " ".join(re.findall(r"\$\$.*?\$\$|(?<!\\)\$.*?(?<!\\)\$", text, flags=re.S))


def test_there_is_one_for_every_chapter_and_every_part():
    made = {path.relative_to(SITE / "notebooks").with_suffix(".md") for path in (SITE / "notebooks").rglob("*.ipynb")}
    assert made == {chapter.relative_to(ROOT) for chapter in CHAPTERS}


@every_chapter
def test_it_is_valid_and_has_not_run(chapter):
    book = notebook(chapter)
    nbformat.validate(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@every_chapter
def test_no_raw_markup_is_left(chapter):
    left = [
        (what, found[0])
        for cell in notebook(chapter).cells
        if cell.cell_type == "markdown"
        for what, pattern in RAW.items()
        if (found := re.search(pattern, prose(cell), flags=re.M))
    ]
    assert left == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a role", "see {cite:t}`ball1997`"),
        ("a directive", "```{note}"),
        ("a directive", ":::{admonition} Why"),
        ("the end of a directive", ":::"),
        ("an option", ":class: dropdown"),
        ("a target", "(here)="),
        ("the label of an equation", "$$ (eq-one)"),
        ("an attribute", "![a](b){.wide}"),
        ("an unresolved reference", "[](#here)"),
    ],
)
def test_raw_markup_would_be_found(what, text):
    assert re.search(RAW[what], prose(nbformat.v4.new_markdown_cell(text)), flags=re.M)


@every_chapter
def test_formulas_use_no_command_that_only_the_site_knows(chapter):
    known = re.compile(r"(?<!\\)(?:\\\\)*\\(" + "|".join(COMMANDS) + r")(?![A-Za-z])")
    left = [
        found[0]
        for cell in notebook(chapter).cells
        if cell.cell_type == "markdown" and (found := known.search(formulas(prose(cell))))
    ]
    assert left == []


@every_chapter
def test_every_cell_of_the_chapter_is_there_and_runs_in_an_order_that_defines_names_first(chapter):
    wanted = [cell.source.strip("\n") for cell in jupytext.read(chapter).cells if cell.cell_type == "code"]
    first, *code = [cell.source for cell in notebook(chapter).cells if cell.cell_type == "code"]
    assert "missing = [name for name in needed" in first
    assert sorted(code) == sorted(wanted)
    for source in [first, *code]:
        ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M))


@every_chapter
def test_its_links_lead_somewhere(chapter):
    cells = [cell for cell in notebook(chapter).cells if cell.cell_type == "markdown"]
    anchors = {name for cell in cells for name in re.findall(r'<a id="([^"]+)"></a>', cell.source)}
    here = (SITE / "notebooks" / chapter.relative_to(ROOT)).parent
    lost = [
        target
        for cell in cells
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(cell))
        if not re.match(r"https?://", target)
        and not (target[1:] in anchors if target.startswith("#") else (here / target.partition("#")[0]).is_file())
    ]
    assert lost == []


@every_chapter
def test_exercises_come_before_their_solutions(chapter):
    texts = [cell.source for cell in notebook(chapter).cells]
    exercises = [place for place, text in enumerate(texts) if "\n\n**Exercise " in text]
    solutions = [place for place, text in enumerate(texts) if text.startswith("**Solution to Exercise ")]
    assert len(exercises) == len(solutions)
    assert bool(exercises) == ("{chapter-head}" in chapter.read_text("utf-8"))  # the page of a part has none
    assert all(exercise < solution for exercise in exercises for solution in solutions)
