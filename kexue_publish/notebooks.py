r"""Notebooks that run anywhere: the builder ``notebooks`` writes one ``.ipynb`` a chapter, without outputs.

The page as Sphinx has resolved it becomes Markdown: numbers of equations and references to them are final, boxes are
quotations or fold, the book's own TeX commands are written out, so that every viewer can show the formulas. Code cells
stay as they are. The first cells say where the page is and install what it needs; solutions come last, under a heading
that JupyterLab and Colab show folded.

Beside the notebooks stands what running them takes: the package and ``binder/``. The folder is what the workflow pushes
to the branch of `kexue_publish.launch`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx_exercise.nodes import is_solution_node
from sphinx_markdown_builder.builder import MarkdownBuilder
from sphinx_markdown_builder.contexts import IndentContext, SubContext, SubContextParams, WrappedContext
from sphinx_markdown_builder.escape import escape_markdown_chars
from sphinx_markdown_builder.translator import MarkdownTranslator
from sphinx_proof.nodes import NODE_TYPES, unenumerable_node

from kexue_publish.chapters import address_of, chapters_of
from kexue_publish.launch import extras_for, install_cell, repository_of

# What the folder holds besides notebooks, from the root of the repository.
COMPANIONS = ("binder", "kexue_utils", "pyproject.toml", "LICENSE")

# A code cell whose code the page folds, for JupyterLab and for Colab.
FOLDED = {"jupyter": {"source_hidden": True}, "cellView": "form"}

Macros = Mapping[str, "str | list[Any]"]


def expand_macros(latex: str, macros: Macros) -> str:
    r"""Write out commands of our own, which only the site's MathJax knows.

    Parameters
    ----------
    latex
        A formula.
    macros
        As in the configuration of MathJax: the definition, or ``[definition, number of arguments]``.

    Raises
    ------
    ValueError
        If the formula ends before a command has all its arguments, or a brace is never closed.

    Examples
    --------
    >>> macros = {"R": r"\mathbb{R}", "inner": [r"\langle #1, #2 \rangle", 2], "T": r"^{\mathsf{T}}"}
    >>> print(expand_macros(r"\inner{Hx}y\in\R,\ \Rightarrow x\T e_\R", macros))
    \langle Hx, y \rangle\in\mathbb{R},\ \Rightarrow x^{\mathsf{T}} e_{\mathbb{R}}
    """
    command = re.compile(r"(?<!\\)((?:\\\\)*)\\(" + "|".join(map(re.escape, macros)) + r")(?![A-Za-z])")
    start = 0
    while found := command.search(latex, start):
        definition = macros[found[2]]
        text, count = (definition, 0) if isinstance(definition, str) else definition
        end = found.end()
        for number in range(1, count + 1):
            argument, end = _argument(latex, end)
            text = text.replace(f"#{number}", argument)
        before = latex[: found.start()] + found[1]
        if before.rstrip().endswith(("_", "^")) or (not count and re.search(r"\\[td]?frac$", before)):
            text = f"{{{text}}}"  # the definition is one argument now, as the command was
        latex, start = before + text + latex[end:], len(before)
    return latex


def _argument(latex: str, start: int) -> tuple[str, int]:
    """The argument of a command that begins at `start` or after blanks, without its braces; and where it ends."""
    token = re.compile(r"\s*(\\[A-Za-z]+|\\.|[^\\])", re.S).match(latex, start)
    if token is None:
        raise ValueError(f"the formula ends where a command needs an argument: {latex!r}")
    if token[1] != "{":
        return token[1], token.end()
    depth = 1
    for brace in re.compile(r"(?<!\\)(?:\\\\)*([{}])").finditer(latex, token.end()):
        depth += 1 if brace[1] == "{" else -1
        if depth == 0:
            return latex[token.end() : brace.end() - 1], brace.end()
    raise ValueError(f"a brace is never closed: {latex!r}")


class DropOutputs(SphinxPostTransform):
    """A reader's own run writes the outputs, all but their captions; this comes before anybody chooses among formats."""

    default_priority = 1
    builders = ("notebooks",)

    def run(self, **_: Any) -> None:
        for node in list(self.document.findall(nodes.container)):
            if node.get("nb_element") == "cell_code_output":
                cell = node.parent
                cell.remove(node)
                captions = [nodes.paragraph("", "", *caption.children) for caption in node.findall(nodes.caption)]
                place = cell.parent.index(cell) + 1
                cell.parent[place:place] = captions


class NotebookTranslator(MarkdownTranslator):
    """From a resolved page to the cells of a notebook: what the Markdown builder does not know, or does otherwise."""

    _ctx_queue: list[SubContext]

    def __init__(self, document: nodes.document, builder: NotebookBuilder) -> None:
        super().__init__(document, builder)
        self.cells: list[NotebookNode] = []
        self.solutions: list[NotebookNode] = []
        self.macros: Macros = self.config.mathjax3_config["tex"]["macros"]

    # Cells. Markdown gathers in the lowest context; code, a heading and an exercise end a cell.

    def end_cell(self) -> None:
        """Make a Markdown cell of what has gathered."""
        (page,) = self._ctx_queue  # a cell ends between blocks, never inside a list or a quotation
        text, anchors = re.split(r'((?:<a id="[^"]*"></a>\s*)*)\Z', page.make(), maxsplit=1)[:2]
        if text.strip():
            self.cells.append(new_markdown_cell(text.strip()))
        self._ctx_queue = [SubContext()]
        self.add(anchors.strip(), suffix_eol=2)  # they belong to what follows

    def visit_container(self, node: nodes.container) -> None:
        if node.get("nb_element") == "cell_code":
            self.end_cell()
            source = next(node[0].findall(nodes.literal_block)).astext()
            folded = {"hide-input", "hide-cell"} & set(node["cell_metadata"].get("tags", []))
            self.cells.append(new_code_cell(source.strip("\n"), metadata=FOLDED if folded else {}))
            raise nodes.SkipNode
        if "kx-head" in node["classes"]:
            del node[2:]  # the original and its author stay, what the page's checks and buttons are is the page's

    def depart_container(self, node: nodes.container) -> None:
        if "kx-head" in node["classes"]:
            self.add(self.builder.origin(self.builder.current_doc_name), prefix_eol=2, suffix_eol=2)
            self.end_cell()

    def visit_title(self, node: nodes.title) -> None:
        if len(self._ctx_queue) == 1:
            self.end_cell()
        super().visit_title(node)

    depart_title = MarkdownTranslator._pop_context

    def depart_document(self, node: nodes.document) -> None:
        self.end_cell()

    # Formulas.

    def visit_math(self, node: nodes.math) -> None:
        self.add(f"${expand_macros(node.astext().strip(), self.macros)}$")
        raise nodes.SkipNode

    def visit_math_block(self, node: nodes.math_block) -> None:
        number = f" \\tag{{{node['number']}}}" if node.get("number") else ""
        latex = expand_macros(node.astext().strip(), self.macros) + number
        self.add(f"$$\n{latex}\n$$", prefix_eol=2, suffix_eol=2)
        raise nodes.SkipNode

    # Boxes: what folds on the page folds here, the others are quotations.

    def visit_box(self, node: nodes.Element, title: str) -> None:
        if "dropdown" in node["classes"]:
            self.add(f"<details>\n<summary>{title}</summary>", prefix_eol=2, suffix_eol=2)
        else:
            self._push_context(IndentContext("> ", empty=True, params=SubContextParams(2, 2)))
            self.add(f"**{title}**", suffix_eol=2)

    def depart_box(self, node: nodes.Element) -> None:
        if "dropdown" in node["classes"]:
            self.add("</details>", prefix_eol=2, suffix_eol=2)
        else:
            self._pop_context()

    def visit_admonition(self, node: nodes.Element) -> None:
        self.visit_box(node, self.title(node))

    def visit_theorem(self, node: nodes.Element) -> None:
        self._add_anchor(node["label"])
        name, number = node["realtype"].title(), self.number(node, node["countertype"])
        self.visit_box(node, f"{name}{number}{self.title(node)}")

    def visit_proof_node(self, node: nodes.Element) -> None:
        self.visit_box(node, "Proof")

    depart_admonition = depart_theorem = depart_proof_node = depart_box

    def title(self, node: nodes.Element) -> str:
        """Take the title off a box: its text and formulas, fit for Markdown and for HTML."""
        return "".join(
            f"${expand_macros(part.astext(), self.macros)}$"
            if isinstance(part, nodes.math)
            else escape(part.astext(), quote=False)
            for part in node.pop(0).children
        )

    def number(self, node: nodes.Element, kind: str) -> str:
        """A blank and the number of an enumerated box; nothing for one without a number."""
        numbers = self.builder.env.toc_fignumbers.get(self.builder.current_doc_name, {}).get(kind, {})
        return "".join(f" {number}" for name in node["ids"] for number in numbers.get(name, ()))

    # Exercises stand where they stood, their solutions together after the last of them.

    def visit_exercise_enumerable_node(self, node: nodes.Element) -> None:
        self.end_cell()
        self._add_anchor(node["label"])
        title = f"Exercise{self.number(node, 'exercise')}{self.title(node)}"
        self.add(f"**{title.strip()}**", prefix_eol=2, suffix_eol=2)

    def visit_solution_node(self, node: nodes.Element) -> None:
        self.end_cell()
        self.cells, self.solutions = self.solutions, self.cells
        self.add(f"**{' '.join(node.pop(0).astext().split())}**", suffix_eol=2)

    def depart_solution_node(self, node: nodes.Element) -> None:
        self.end_cell()
        self.cells, self.solutions = self.solutions, self.cells

    def depart_section(self, node: nodes.section) -> None:
        if any(map(is_solution_node, node.children)):
            self.end_cell()
            level = "#" * (self.status.section_level + 1)
            # Colab names folded headings in the notebook's metadata (`NotebookBuilder.write_doc`), JupyterLab here.
            heading = new_markdown_cell(f"{level} Solutions", metadata={"jp-MarkdownHeadingCollapsed": True})
            self.cells += [heading, *self.solutions]
            self.solutions = []
        self._pop_status()

    # Text.

    def visit_Text(self, node: nodes.Text) -> None:
        text = node.astext()
        self.add(escape_markdown_chars(text).replace("$", r"\$") if self.status.escape_text else text)

    def visit_literal(self, node: nodes.literal) -> None:
        fence = "`" * (1 + max(map(len, re.findall("`+", node.astext())), default=0))
        gap = " " if len(fence) > 1 else ""
        self.add(f"{fence}{gap}{node.astext()}{gap}{fence}")
        raise nodes.SkipNode

    def visit_literal_block(self, node: nodes.literal_block) -> None:
        if node.get("language") == "default":
            node["language"] = ""
        super().visit_literal_block(node)

    def visit_chinese_title(self, node: nodes.Element) -> None:
        self.ensure_eol(2)

    def depart_chinese_title(self, node: nodes.Element) -> None:
        self.add(", ")

    visit_chinese = depart_chinese = MarkdownTranslator._pass

    def visit_inline(self, node: nodes.inline) -> None:
        if "kx-planned" in node["classes"]:
            self.add(f"({node.astext()})")
            raise nodes.SkipNode

    def visit_paragraph(self, node: nodes.paragraph) -> None:
        if "kx-credit" in node["classes"] or isinstance(node.parent, nodes.citation):
            self._push_context(SubContext(SubContextParams(0, 2)))  # goes on in the line that has begun
        else:
            super().visit_paragraph(node)

    depart_paragraph = MarkdownTranslator._pop_context

    def visit_reference(self, node: nodes.reference) -> None:
        address = self._fetch_ref_uri(node)  # none: the page has no notebook, and nobody knows where the site is
        self._push_context(WrappedContext("[", f"]({address})") if address else SubContext())

    depart_reference = MarkdownTranslator._pop_context

    def visit_citation(self, node: nodes.citation) -> None:
        self._start_list(self.config.markdown_bullet)
        self._start_list_item()
        self.add(f'<a id="{node["ids"][0]}"></a>')

    def visit_label(self, node: nodes.label) -> None:
        raise nodes.SkipNode  # the text names works by author and year

    def depart_citation(self, node: nodes.citation) -> None:
        self._end_list_item()
        self._end_list()


for _kind in (*NODE_TYPES.values(), unenumerable_node):
    setattr(NotebookTranslator, f"visit_{_kind.__name__}", NotebookTranslator.visit_theorem)
    setattr(NotebookTranslator, f"depart_{_kind.__name__}", NotebookTranslator.depart_theorem)


class NotebookBuilder(MarkdownBuilder):
    """Builder ``notebooks``: every chapter and page of a part, anew each time, at the place that the page has in the site."""

    name = "notebooks"
    format = "notebooks"
    epilog = "The notebooks are in %(outdir)s."
    default_translator_class = NotebookTranslator

    def init(self) -> None:
        super().init()
        self.pages = {page.docname for chapter in chapters_of(self.env) for page in (chapter, chapter.part)}
        self.repository = repository_of(self.config)
        # Links to other pages: the site if its address is known, else the notebook beside this one.
        self.config.markdown_http_base = self.config.html_baseurl.rstrip("/")
        self.config.markdown_uri_doc_suffix = ".html" if self.config.html_baseurl else ".ipynb"

    def get_outdated_docs(self) -> Iterator[str]:
        """All of them: they are written in seconds."""
        yield from self.pages & self.env.found_docs

    def get_relative_uri(self, from_: str, to: str, typ: str | None = None) -> str:
        if to in self.pages or self.config.html_baseurl:
            return super().get_relative_uri(from_, to, typ)
        return ""

    def prepare_writing(self, docnames: set[str]) -> None:
        shutil.rmtree(self.outdir)
        for name in COMPANIONS:
            source, target = Path(self.srcdir, name), Path(self.outdir, name)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    def write_doc(self, docname: str, doctree: nodes.document) -> None:
        if docname not in self.pages:
            return
        self.current_doc_name = docname
        translator = self.create_translator(doctree, self)
        doctree.walkabout(translator)
        cells = translator.cells
        code = [cell.source for cell in cells if cell.cell_type == "code"]
        cells.insert(1, new_code_cell(install_cell(extras_for(code, Path(self.srcdir)), self.repository)))
        for number, cell in enumerate(cells):
            cell.id = f"cell-{number}"
        folded = [cell.id for cell in cells if cell.metadata.get("jp-MarkdownHeadingCollapsed")]
        metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "colab": {"collapsed_sections": folded},
        }
        notebook = new_notebook(cells=cells, metadata=metadata)
        path = Path(self.outdir, f"{docname}.ipynb")
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.validate(notebook)
        nbformat.write(notebook, path)

    def finish(self) -> None:
        """Nothing: no downloads, no images."""

    def origin(self, docname: str) -> str:
        """What somebody who has got only this file should know."""
        page, book = "a page", f"*{self.config.html_title}*"
        if address := address_of(self.config, docname):
            page, book = f"[{page}]({address})", f"[{book}]({self.config.markdown_http_base}/)"
        return (
            f"This notebook is {page} of {book}. Run it from the top. What is a badge beside an equation on the page is here "
            "the output of the cell below it: what was checked, and how. Sliders redraw their figures. Code that is not the story "
            "is folded; its bar opens it."
        )


def _drop_styles(app: Sphinx, error: Exception | None) -> None:
    """Extensions copy their style sheets into whatever is built; notebooks have no use for them."""
    if app.builder.name == NotebookBuilder.name:
        shutil.rmtree(Path(app.outdir, "_static"), ignore_errors=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the builder and the settings of the Markdown builder, whose translator it takes."""
    app.setup_extension("sphinx_markdown_builder")
    app.add_builder(NotebookBuilder)
    app.add_post_transform(DropOutputs)
    app.connect("build-finished", _drop_styles, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
