"""Where a reader can run the book: the buttons of a chapter, and the cell that installs what its notebook needs.

Every address comes from the repository: ``GITHUB_REPOSITORY`` (GitHub Actions sets it), else the remote ``origin``.
A build that knows neither says so in one line and leaves out what would lead nowhere. The buttons open the branch
``notebooks``, to which the workflow pushes what `kexue_publish.notebooks` has made.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from docutils import nodes
from packaging.requirements import Requirement
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

from kexue_publish.execute import dependencies, import_graph, imported_names, syntax_tree

BRANCH = "notebooks"
ZIP = "derivations-that-run.zip"
NO_REPOSITORY = (
    "The repository has no address on GitHub (GITHUB_REPOSITORY, or a git remote named origin): "
    "the pages have no Binder and Colab buttons."
)
# Distributions whose module has another name.
MODULES = {"pillow": "PIL", "scikit-learn": "sklearn"}


@dataclass(frozen=True)
class Repository:
    """A repository on GitHub.

    Examples
    --------
    >>> book = Repository("ada/engine")
    >>> book.colab("book/losses/a b.ipynb")
    'https://colab.research.google.com/github/ada/engine/blob/notebooks/book/losses/a%20b.ipynb'
    >>> book.binder("book/losses/a.ipynb")
    'https://mybinder.org/v2/gh/ada/engine/notebooks?urlpath=lab%2Ftree%2Fbook%2Flosses%2Fa.ipynb'
    >>> book.source("book/losses/a.md")
    'https://github.com/ada/engine/blob/HEAD/book/losses/a.md'
    >>> book.archive
    'https://github.com/ada/engine/archive/refs/heads/notebooks.zip'
    """

    name: str

    def binder(self, path: str) -> str:
        """Address that starts a machine with everything installed and opens a notebook of the branch in JupyterLab."""
        return f"https://mybinder.org/v2/gh/{self.name}/{BRANCH}?{urlencode({'urlpath': f'lab/tree/{path}'})}"

    def colab(self, path: str) -> str:
        """Address that opens a notebook of the branch in Colab."""
        return f"https://colab.research.google.com/github/{self.name}/blob/{BRANCH}/{quote(path)}"

    def source(self, path: str) -> str:
        """Address of a file as it is on the default branch, whatever that is called."""
        return f"https://github.com/{self.name}/blob/HEAD/{quote(path)}"

    @property
    def archive(self) -> str:
        """Address of the whole branch, from which pip can install ``kexue_utils``."""
        return f"https://github.com/{self.name}/archive/refs/heads/{BRANCH}.zip"


def find_repository(folder: Path) -> Repository | None:
    """The GitHub repository that a checkout belongs to; None when nothing says so.

    Raises
    ------
    ConfigError
        If ``GITHUB_REPOSITORY`` is set to something else than ``owner/name``.
    """
    if name := os.environ.get("GITHUB_REPOSITORY"):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            raise ConfigError(f"GITHUB_REPOSITORY is {name!r}, expected owner/name")
        return Repository(name)
    asked = subprocess.run(
        ["git", "remote", "get-url", "origin"], cwd=folder, capture_output=True, text=True, check=False
    )
    return repository_at(asked.stdout.strip())


def repository_at(remote: str) -> Repository | None:
    """The GitHub repository that a git remote leads to; None for any other address.

    >>> repository_at("git@github.com:ada/engine.git")
    Repository(name='ada/engine')
    >>> repository_at("https://github.com/ada/engine")
    Repository(name='ada/engine')
    >>> repository_at("/work/engine") is repository_at("https://example.org/github.com/ada/engine") is None
    True
    """
    found = re.fullmatch(
        r"(?:https://(?:[^/@]+@)?|git://|ssh://git@|git@)github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?", remote
    )
    return Repository(found[1]) if found else None


def repository_of(config: Config) -> Repository | None:
    """The repository that the build has noted in its configuration."""
    return Repository(config.kexue_repository) if config.kexue_repository else None


# --- the first cell ---------------------------------------------------------------------------------------------------


def extras_for(code: Iterable[str], source: Path) -> dict[str, list[str]]:
    """The extras of ``kexue-utils`` that code needs, and the modules that show whether they are there.

    Parameters
    ----------
    code
        Cells of a notebook.
    source
        The folder with ``pyproject.toml`` and ``kexue_utils``.
    """
    asked = {name for cell in code for name in imported_names(syntax_tree(cell))}
    graph = _import_graph(source / "kexue_utils")
    for module in dependencies(asked, graph):
        asked |= graph[module][1]
    tops = {name.partition(".")[0] for name in asked}
    project = tomllib.loads((source / "pyproject.toml").read_text("utf8"))["project"]
    extras = {}
    for extra, requirements in project["optional-dependencies"].items():
        names = (Requirement(requirement).name for requirement in requirements)
        if modules := sorted({MODULES.get(name, name) for name in names} & tops):
            extras[extra] = modules
    return extras


# Every notebook of a build asks for the same graph, which takes a third of a second.
_import_graph = cache(import_graph)


def install_cell(extras: dict[str, list[str]], repository: Repository | None) -> str:
    """The code cell that installs what a notebook needs where something of it is missing."""
    modules = ["kexue_utils", *sorted({module for needed in extras.values() for module in needed})]
    wanted = f"kexue-utils[{','.join(extras)}]" if extras else "kexue-utils"
    if repository:
        remedy = f'%pip install --quiet "{wanted} @ {repository.archive}"'
    else:
        install = f"pip install '.{wanted.removeprefix('kexue-utils')}'"
        remedy = f'raise ImportError(f"{{missing}} missing: run {install} in the folder that holds kexue_utils")'
    return f"""\
# Installs what this page needs, where something is missing: on Colab, say. On Binder all of it is there.
from importlib.util import find_spec

needed = {json.dumps(modules)}
missing = [name for name in needed if find_spec(name) is None]
if missing:
    {remedy}"""


# --- the buttons ------------------------------------------------------------------------------------------------------


def buttons(config: Config, docname: str) -> nodes.paragraph:
    """Links that run a chapter: on Binder and Colab if the repository is known, as a notebook, and its source."""
    repository = repository_of(config)
    notebook, source, up = f"{docname}.ipynb", f"{docname}.md", "../" * docname.count("/")
    links = {"Notebook": f"{up}{BRANCH}/{notebook}", "Source": f"{up}_sources/{source}"}
    if repository:
        links = {"Binder": repository.binder(notebook), "Colab": repository.colab(notebook)} | links
        links["Source"] = repository.source(source)
    line = nodes.paragraph("", "", classes=["kx-launch"])
    for text, address in links.items():
        line += nodes.reference(text, text, refuri=address, internal=False)
    return line


def _note_repository(app: Sphinx, config: Config) -> None:
    repository = find_repository(Path(app.srcdir))
    config.kexue_repository = repository.name if repository else ""


def _offer_zip(app: Sphinx, config: Config) -> None:
    """Name the zip of the whole book in the footer of a published site; the workflow puts it there."""
    if home := config.html_baseurl.rstrip("/"):
        config.html_theme_options["extra_footer"] = f'<a href="{home}/{ZIP}">The whole book as one zip file</a>'


def _say_what_is_missing(app: Sphinx) -> None:
    if app.builder.name == "html" and not app.config.kexue_repository:
        print(NO_REPOSITORY, file=sys.stderr)  # where a quiet build shows it, and no warning: it is not one


def setup(app: Sphinx) -> dict[str, Any]:
    """Note the repository, which the pages depend on."""
    app.add_config_value("kexue_repository", "", "env", types=(str,))
    app.connect("config-inited", _note_repository)
    app.connect("config-inited", _offer_zip, priority=900)  # after the site's address is known
    app.connect("builder-inited", _say_what_is_missing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
