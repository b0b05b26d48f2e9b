r"""Notebooks of a tiny book: every construction of a page as a reader of the ``.ipynb`` sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from kexue_publish.notebooks import expand_macros

MACROS = {
    "R": r"\mathbb{R}",
    "T": r"^{\mathsf{T}}",
    "abs": [r"\lvert #1 \rvert", 1],
    "inner": [r"\langle #1, #2 \rangle", 2],
}

CHAPTERS = """
parts:
  front-matter: {title: Front matter, teaser: How to read.}
  losses: {title: Losses, teaser: What a network is asked for.}
chapters:
  - {slug: softmax, part: losses, title: Many labels, title_zh: 多标签, archive: 7359, date: 2020-04-25, teaser: "Why? So."}
  - {slug: margin, part: losses, title: Margins, title_zh: 间隔, archive: 5743, date: 2018-07-26, teaser: "Why? So."}
"""
CONFIG = r"""
extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinxcontrib.bibtex", "sphinx_exercise", "sphinx_proof", "kexue_publish"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
bibtex_bibfiles = ["refs.bib"]
bibtex_reference_style = "author_year"
numfig = True
numfig_format = {"figure": "Figure %s"}
math_number_all = False
math_eqref_format = "({number})"
html_title = "The Book"
html_theme = "sphinx_book_theme"
exclude_patterns = ["_build", "kexue_utils"]
nb_execution_mode = "force"
mathjax3_config = {"tex": {"macros": {"R": r"\mathbb{R}", "inner": [r"\langle #1, #2 \rangle", 2]}}}
suppress_warnings = ["ledger"]
"""
HEAD = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
SOFTMAX = (
    HEAD
    + r"""# Many labels

```{chapter-head}
```

It costs \$5 for $x\in\R$ {cite}`ball1997`.

```{code-cell} ipython3
:tags: [hide-input]

import json  # a comment

print("{eq}`not markup`")
```

## Losses

```{code-cell} ipython3
---
mystnb: {figure: {name: fig-one, caption: "A line in $\\R$."}}
---
from IPython.display import SVG

SVG("<svg xmlns='http://www.w3.org/2000/svg'/>")
```

A *formula*, **bold**, `a_b`, `` {eq}`x` ``, and after it a table:

$$
\inner{u}{v} = 1
$$ (eq-one)

| a | b |
|---|---|
| $\inner uv$ | {eq}`eq-one` |

:::{admonition} A longer way to $\R$
:class: dropdown note

Rests on {eq}`eq-one` and {eq}`eq-margin`:

$$
a < b
$$ (eq-two)
:::

:::{admonition} Beware
:class: warning

Of **this**.

- one
- two
:::

:::{prf:theorem} Pythagoras
:label: thm-pythagoras

$a^2+b^2=c^2$
:::

(a-place)=
## Exercises

```{exercise}
:label: ex-one

What is $\inner{1}{2}$?
```

```{solution-start} ex-one
:class: dropdown
```
Two:

```{code-cell} ipython3
print(2)
```
```{solution-end}
```

```{exercise} Harder
:label: ex-two

And then? See {ref}`a-place`, {doc}`margin`, {doc}`/plain` and [the blog](https://kexue.fm/a_b).
```

```{solution} ex-two
Three.
```

## References

```{bibliography}
:filter: docname in docnames
```
"""
)
MARGIN = HEAD + "# Margins\n\n```{chapter-head}\n```\n\n$$\nc\n$$ (eq-margin)\n\n```{code-cell} ipython3\n1 + 1\n```\n"


def build(folder: Path, **environment: str) -> dict[str, nbformat.NotebookNode]:
    """The notebooks of the book in the folder, and the site beside them; warnings are errors."""
    known = {name: value for name, value in os.environ.items() if name not in ("GITHUB_REPOSITORY", "KEXUE_BASE_URL")}
    for builder in ("html", "notebooks"):
        command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", builder, "-d", folder / "_build" / "doctrees"]
        done = subprocess.run(
            [*command, folder, folder / "_build" / builder],
            capture_output=True,
            text=True,
            timeout=300,
            env=known | environment,
        )
        assert done.returncode == 0, done.stderr
    paths = (folder / "_build" / "notebooks" / "book").rglob("*.ipynb")
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in paths}
    notebooks["said"] = done.stderr
    return notebooks


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    files = {
        "conf.py": CONFIG,
        "refs.bib": "@misc{ball1997, title={Convexity}, author={Ball, Keith}, year={1997}}",
        "index.md": "# The book\n\n```{toctree}\nbook/losses/softmax\nbook/losses/margin\nplain\n```\n",
        "plain.md": "# No notebook\n",
        "book/chapters.yml": CHAPTERS,
        "book/losses/softmax.md": SOFTMAX,
        "book/losses/margin.md": MARGIN,
        "binder/requirements.txt": ".[torch]\n",
        "LICENSE": "free\n",
        "pyproject.toml": '[project.optional-dependencies]\ntorch = ["torch"]\n',
        "kexue_utils/__init__.py": "",
        "kexue_utils/README.md": "about\n",
        "kexue_utils/__pycache__/a.pyc": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def notebooks(folder) -> dict[str, nbformat.NotebookNode]:
    return build(folder)


@pytest.fixture(scope="module")
def cells(notebooks) -> list[str]:
    return [cell.source for cell in notebooks["softmax"].cells]


def cell_with(cells: list[str], text: str) -> str:
    (found,) = [cell for cell in cells if text in cell]
    return found


# --- formulas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latex", "written_out"),
    [
        (r"x\in\R^n", r"x\in\mathbb{R}^n"),
        (r"\Rightarrow\Re", r"\Rightarrow\Re"),
        (r"a\\R", r"a\\R"),
        (r"a\\\R", r"a\\\mathbb{R}"),
        (r"x_\R", r"x_{\mathbb{R}}"),
        (r"\frac\R2", r"\frac{\mathbb{R}}2"),
        (r"M\T x", r"M^{\mathsf{T}} x"),
        (r"\abs x", r"\lvert x \rvert"),
        (r"\abs\theta", r"\lvert \theta \rvert"),
        (r"\abs{a_{b}}^2", r"\lvert a_{b} \rvert^2"),
        (r"\abs{\{a\}}", r"\lvert \{a\} \rvert"),
        (r"\inner xy", r"\langle x, y \rangle"),
        (r"\inner{\abs{x}}\R", r"\langle \lvert x \rvert, \mathbb{R} \rangle"),
    ],
)
def test_commands_of_the_book_are_written_out(latex, written_out):
    assert expand_macros(latex, MACROS) == written_out


@pytest.mark.parametrize(
    ("latex", "problem"), [(r"\abs", "ends where a command needs an argument"), (r"\abs{a", "a brace is never closed")]
)
def test_a_broken_formula_is_quoted(latex, problem):
    with pytest.raises(ValueError, match=problem):
        expand_macros(latex, MACROS)


def test_an_equation_has_its_number_and_a_place_to_link_to(cells):
    cell = cell_with(cells, '<a id="equation-eq-one"></a>')
    assert "$$\n\\langle u, v \\rangle = 1 \\tag{1}\n$$" in cell


def test_a_reference_is_a_link_with_the_number(cells):
    assert "[(1)](#equation-eq-one)" in cell_with(cells, "A longer way")


# --- cells ------------------------------------------------------------------------------------------------------------


def test_code_is_untouched_and_has_no_output(notebooks):
    code = [cell for cell in notebooks["softmax"].cells if cell.cell_type == "code"]
    assert code[1].metadata == {"jupyter": {"source_hidden": True}, "cellView": "form"}, "folded as on the page"
    assert [cell.metadata for cell in (code[0], *code[2:])] == [{}] * 3
    assert code[1].source == 'import json  # a comment\n\nprint("{eq}`not markup`")'
    assert [cell.outputs for cell in code] == [[]] * 4
    assert [cell.execution_count for cell in code] == [None] * 4


def test_a_caption_stays_below_its_figure(cells):
    place = cells.index(cell_with(cells, "SVG("))
    assert cells[place + 1].startswith(r"A line in $\mathbb{R}$.")


def test_the_first_cell_names_page_original_and_author(cells):
    assert cells[0].startswith(
        "# Many labels\n\n[多标签](https://kexue.fm/archives/7359), after 苏剑林 (Jianlin Su), 25 April 2020"
    )
    assert "This notebook is a page of *The Book*." in cells[0]
    assert "needed = " in cells[1]


def test_every_heading_begins_a_cell(cells):
    headings = [cell.splitlines()[0] for cell in cells if cell.startswith("#") and "needed" not in cell]
    assert headings == ["# Many labels", "## Losses", "### Solutions", "## References"]
    assert cell_with(cells, "## Exercises").startswith('<a id="a-place"></a>\n\n## Exercises')


def test_solutions_come_after_the_last_exercise_under_a_folded_heading(notebooks, cells):
    at = {
        text: cells.index(cell_with(cells, text))
        for text in ("**Exercise 1**", "**Exercise 2 (Harder)**", "### Solutions")
    }
    assert sorted(at.values()) == list(at.values())
    assert cells[at["### Solutions"] + 1 :][:3] == [
        "**Solution to Exercise 1**\n\nTwo:", "print(2)", "**Solution to Exercise 2 (Harder)**\n\nThree."
    ]  # fmt: skip
    folded = notebooks["softmax"].cells[at["### Solutions"]]
    assert folded.metadata["jp-MarkdownHeadingCollapsed"] is True
    assert notebooks["softmax"].metadata.colab.collapsed_sections == [folded.id]


# --- text -------------------------------------------------------------------------------------------------------------


def test_a_dollar_in_the_text_is_no_formula(cells):
    assert r"It costs \$5 for $x\in\mathbb{R}$ [[Ball, 1997](#id" in cells[2]


def test_code_in_the_text_may_show_markup(cells):
    assert "A *formula*, **bold**, `a_b`, `` {eq}`x` ``" in cell_with(cells, "A *formula*")


def test_tables_stay_tables(cells):
    assert "| $\\langle u, v \\rangle$ | [(1)](#equation-eq-one) |" in cell_with(cells, "A *formula*")


def test_what_folds_on_the_page_folds_here(cells):
    cell = cell_with(cells, "A longer way")
    start, end = (
        cell.index("<details>\n<summary>A longer way to $\\mathbb{R}$</summary>\n\n"),
        cell.index("\n\n</details>"),
    )
    assert start < cell.index("\\tag{2}") < end


def test_other_boxes_are_quotations(cells):
    quoted = cell_with(cells, "> **Beware**").partition("> **Beware**")[2].partition("\n\n")[0].splitlines()
    assert [line.removeprefix(">").strip() for line in quoted if line.strip(" >")] == ["Of **this**.", "- one", "- two"]
    assert all(line.startswith(">") for line in quoted[1:])


def test_a_theorem_has_its_number_and_name(cells):
    cell = cell_with(cells, "Theorem 1")
    assert "> **Theorem 1 (Pythagoras)**" in cell and "> $a^2+b^2=c^2$" in cell


def test_each_work_is_a_line_that_references_lead_to(cells):
    anchor = cells[2].partition("](#")[2].partition(")")[0]
    assert f'* <a id="{anchor}"></a>Keith Ball. Convexity. 1997.' in cells[-1]


# --- links ------------------------------------------------------------------------------------------------------------


def test_links_lead_to_the_notebook_beside_it(cells):
    cell = cell_with(cells, "And then?")
    assert "[Exercises](#a-place)" in cell and "[Margins](margin.ipynb)" in cell
    assert "[the blog](https://kexue.fm/a_b)" in cell
    assert "[(1)](margin.ipynb#equation-eq-margin)" in cell_with(cells, "A longer way")


def test_a_page_without_notebook_is_named_only(cells):
    assert "No notebook and" in cell_with(cells, "And then?")


def test_the_folder_holds_what_running_it_takes(folder, notebooks):
    files = {
        path.relative_to(folder / "_build/notebooks").as_posix()
        for path in (folder / "_build/notebooks").rglob("*")
        if path.is_file()
    }
    assert files == {
        "LICENSE", "pyproject.toml", "binder/requirements.txt", "kexue_utils/__init__.py", "kexue_utils/README.md",
        "book/losses/softmax.ipynb", "book/losses/margin.ipynb",
    }  # fmt: skip


def buttons(folder: Path) -> dict[str, str]:
    page = BeautifulSoup((folder / "_build/html/book/losses/softmax.html").read_text("utf-8"), "html.parser")
    return {link.get_text(): link["href"] for link in page.select(".kx-launch a")}


def test_an_unknown_repository_has_no_buttons_for_binder_and_colab(folder, notebooks):
    assert buttons(folder) == {
        "Notebook": "../../notebooks/book/losses/softmax.ipynb",
        "Source": "../../_sources/book/losses/softmax.md",
    }


def test_a_known_repository_and_site_are_where_links_lead(folder, notebooks):
    cells = [
        cell.source
        for cell in build(folder, GITHUB_REPOSITORY="ada/engine", KEXUE_BASE_URL="https://ada.org/b/")["softmax"].cells
    ]
    assert "[a page](https://ada.org/b/book/losses/softmax.html) of [*The Book*](https://ada.org/b/)" in cells[0]
    assert (
        '%pip install --quiet "kexue-utils @ https://github.com/ada/engine/archive/refs/heads/notebooks.zip"'
        in cells[1]
    )
    cell = cell_with(cells, "And then?")
    assert "[Margins](https://ada.org/b/book/losses/margin.html)" in cell
    assert "[No notebook](https://ada.org/b/plain.html)" in cell
    assert "[(1)](https://ada.org/b/book/losses/margin.html#equation-eq-margin)" in cell_with(cells, "A longer way")
    page = (folder / "_build/html/book/losses/softmax.html").read_text("utf-8")
    assert '<a href="https://ada.org/b/derivations-that-run.zip">' in page
    assert buttons(folder) == {
        "Binder": "https://mybinder.org/v2/gh/ada/engine/notebooks?urlpath=lab%2Ftree%2Fbook%2Flosses%2Fsoftmax.ipynb",
        "Colab": "https://colab.research.google.com/github/ada/engine/blob/notebooks/book/losses/softmax.ipynb",
        "Notebook": "../../notebooks/book/losses/softmax.ipynb",
        "Source": "https://github.com/ada/engine/blob/HEAD/book/losses/softmax.md",
    }
