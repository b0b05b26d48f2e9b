"""Under which terms a reader may use what the site consists of: the tables of the page ``book/licences``.

``{licences-of-files}``      scripts, styles and fonts of others that stand in the site, with the texts of their licences
``{licences-of-packages}``   the Python packages that made it, as pinned in ``requirements.txt``

Versions and texts come from the installed packages, so they cannot fall behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True)
class Work:
    """Something of others that stands in the site.

    Attributes
    ----------
    name, holder
        What it is called, and who holds the copyright.
    licence
        An SPDX expression.
    home
        Where it is from, with the text of its licence.
    package
        The Python distribution that brings it.
    files
        Patterns of its files under ``_static``.
    version
        None for the version of the package; else the end of the name of one of its files, and what stands before the number there.
    """

    name: str
    holder: str
    licence: str
    home: str
    package: str
    files: tuple[str, ...]
    version: tuple[str, str] | None = None


_THEME = "pydata_sphinx_theme/static/scripts/"
WORKS = (
    Work(
        "MathJax, with Speech Rule Engine and mhchemParser",
        "the MathJax Consortium, Volker Sorge, Martin Hensel",
        "Apache-2.0",
        "https://github.com/mathjax/MathJax/blob/master/LICENSE",
        "sphinx-mathjax-offline",
        ("mathjax/*",),
        ("mathjax/tex-svg.js", 'e.VERSION="'),
    ),
    Work(
        "Bootstrap, with Popper",
        "the Bootstrap Authors; Federico Zivolo and contributors",
        "MIT",
        "https://github.com/twbs/bootstrap/blob/main/LICENSE",
        "pydata-sphinx-theme",
        ("scripts/bootstrap.js", "styles/pydata-sphinx-theme.css"),
        (f"{_THEME}bootstrap.js.LICENSE.txt", "Bootstrap v"),
    ),
    Work(
        "Font Awesome Free",
        "Fonticons, Inc.",
        "MIT AND OFL-1.1 AND CC-BY-4.0",
        "https://fontawesome.com/license/free",
        "pydata-sphinx-theme",
        ("scripts/fontawesome.js", "vendor/fontawesome/webfonts/*", "styles/pydata-sphinx-theme.css", "icons.css"),
        (f"{_THEME}fontawesome.js.LICENSE.txt", "Font Awesome Free "),
    ),
    Work(
        "clipboard.js",
        "Zeno Rocha",
        "MIT",
        "https://github.com/zenorocha/clipboard.js/blob/master/LICENSE",
        "sphinx-copybutton",
        ("clipboard.min.js",),
        ("clipboard.min.js", "clipboard.js v"),
    ),
    Work(
        "PyData Sphinx theme",
        "Pandas and the PyData community",
        "BSD-3-Clause",
        "https://github.com/pydata/pydata-sphinx-theme",
        "pydata-sphinx-theme",
        ("scripts/pydata-sphinx-theme.js", "styles/pydata-sphinx-theme.css", "styles/theme.css"),
    ),
    Work(
        "Sphinx book theme",
        "Executable Book Project",
        "BSD-3-Clause",
        "https://github.com/executablebooks/sphinx-book-theme",
        "sphinx-book-theme",
        ("scripts/sphinx-book-theme.js", "styles/sphinx-book-theme.css"),
    ),
    Work(
        "Sphinx",
        "the Sphinx team",
        "BSD-2-Clause",
        "https://github.com/sphinx-doc/sphinx",
        "Sphinx",
        (
            "basic.css",
            "doctools.js",
            "documentation_options.js",
            "language_data.js",
            "searchtools.js",
            "sphinx_highlight.js",
        ),
    ),
    Work(
        "Pygments, styles of code",
        "the Pygments team",
        "BSD-2-Clause",
        "https://github.com/pygments/pygments",
        "Pygments",
        ("pygments.css",),
    ),
    Work(
        "sphinx-copybutton",
        "Chris Holdgraf",
        "MIT",
        "https://github.com/executablebooks/sphinx-copybutton",
        "sphinx-copybutton",
        ("copybutton.js", "copybutton_funcs.js", "copybutton.css"),
    ),
    Work(
        "sphinx-design",
        "Chris Sewell",
        "MIT",
        "https://github.com/executablebooks/sphinx-design",
        "sphinx_design",
        ("design-tabs.js", "sphinx-design.min.css"),
    ),
    Work(
        "sphinx-togglebutton",
        "Chris Holdgraf",
        "MIT",
        "https://github.com/executablebooks/sphinx-togglebutton",
        "sphinx-togglebutton",
        ("togglebutton.js", "togglebutton.css"),
    ),
    Work(
        "sphinx-proof",
        "Executable Books",
        "MIT",
        "https://github.com/executablebooks/sphinx-proof",
        "sphinx-proof",
        ("proof.css",),
    ),
    Work(
        "sphinx-exercise",
        "Executable Books",
        "MIT",
        "https://github.com/executablebooks/sphinx-exercise",
        "sphinx-exercise",
        ("exercise.css",),
    ),
    Work(
        "MyST-NB",
        "Executable Books",
        "BSD-3-Clause",
        "https://github.com/executablebooks/MyST-NB",
        "myst-nb",
        ("mystnb.*.css",),
    ),
)


def works_in(file: str) -> list[Work]:
    """The works that a file of the site holds.

    Parameters
    ----------
    file
        Its path under ``_static``.

    Examples
    --------
    >>> [work.licence for work in works_in("clipboard.min.js")], works_in("explore.js")
    (['MIT'], [])
    """
    return [work for work in WORKS if any(fnmatch(file, pattern) for pattern in work.files)]


def installed(name: str) -> Distribution:
    """A distribution by its name.

    Raises
    ------
    ExtensionError
        It is not installed.
    """
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise ExtensionError(f"{name} is not installed; the licences of the book need all of {REQUIREMENTS}") from error


def _files(package: Distribution, ending: str) -> list[Path]:
    return [Path(str(package.locate_file(file))) for file in package.files or [] if str(file).endswith(ending)]


def version_of(work: Work) -> str:
    """The version of a work that stands in the site.

    Raises
    ------
    ExtensionError
        Its package does not say so any more where it used to.
    """
    package = installed(work.package)
    if work.version is None:
        return package.version
    ending, before = work.version
    for file in _files(package, ending):
        if found := re.search(rf"{re.escape(before)}([\d.]*\d)", file.read_text("utf-8")):
            return found[1]
    raise ExtensionError(f"no version of {work.name} in {work.package}: expected {before!r} in a file {ending}")


def licence_text(package: Distribution) -> str | None:
    """The licence that a distribution carries with it; None when it has none."""
    metadata = next(iter(_files(package, ".dist-info/METADATA")), None)
    if metadata is None:
        return None
    named = (path for path in metadata.parent.rglob("*") if re.match(r"(?i)(licen[cs]e|copying)", path.name))
    texts = sorted(path for path in named if path.is_file())
    return texts[0].read_text("utf-8") if texts else None


def licence_of(package: Distribution) -> str:
    """The name of a distribution's licence, as its metadata give it.

    Raises
    ------
    ExtensionError
        They give none, in any of the places where packages name it.
    """
    metadata = package.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classifiers = metadata.get_all("Classifier") or []
    if named := [name.split(" :: ")[-1] for name in classifiers if re.match(r"License :: (?!OSI Approved$)", name)]:
        return ", ".join(named)
    written = metadata["License"] if "License" in metadata else licence_text(package) or ""
    first = written.strip().partition("\n")[0]
    if not first:
        raise ExtensionError(f"{metadata['Name']} does not name its licence: expected it in its metadata")
    return first


# --- the page ---------------------------------------------------------------------------------------------------------


def _link(text: str, address: str) -> nodes.reference:
    return nodes.reference(text, text, refuri=address, internal=False)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str | nodes.Node, ...]]) -> nodes.table:
    def row(cells: Iterable[str | nodes.Node]) -> nodes.row:
        contents = (nodes.Text(cell) if isinstance(cell, str) else cell for cell in cells)
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", content)) for content in contents))

    columns = (nodes.colspec(colwidth=1) for _ in head)
    group = nodes.tgroup("", *columns, nodes.thead("", row(head)), nodes.tbody("", *map(row, rows)), cols=len(head))
    return nodes.table("", group)


class LicencesOfFiles(SphinxDirective):
    """Directive ``{licences-of-files}``: a table of `WORKS`, then the licences that came with them."""

    def run(self) -> list[nodes.Node]:
        rows = [
            (_link(work.name, work.home), version_of(work), work.licence, work.holder, ", ".join(work.files))
            for work in WORKS
        ]
        result: list[nodes.Node] = [_table(("Work", "Version", "Licence", "Copyright", "Files"), rows)]
        for work in WORKS:
            text = licence_text(installed(work.package)) if work.version is None else None
            if text:
                result += [nodes.rubric("", work.name), nodes.literal_block(text, text, language="none")]
        return result


class LicencesOfPackages(SphinxDirective):
    """Directive ``{licences-of-packages}``: every package of ``requirements.txt``."""

    def run(self) -> list[nodes.Node]:
        file = Path(self.env.srcdir) / REQUIREMENTS
        self.env.note_dependency(str(file))
        pins = re.findall(r"^([\w.-]+)==([^\s;]+)", file.read_text("utf-8"), flags=re.M)
        rows = (
            (_link(name, f"https://pypi.org/project/{name}/{version}/"), version, licence_of(installed(name)))
            for name, version in sorted(pins, key=lambda pin: pin[0].lower())
        )
        return [_table(("Package", "Version", "Licence"), rows)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("licences-of-files", LicencesOfFiles)
    app.add_directive("licences-of-packages", LicencesOfPackages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
