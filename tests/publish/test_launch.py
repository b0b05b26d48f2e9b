"""The buttons of a chapter and the first cell of its notebook, on a tiny book with and without an address."""

from __future__ import annotations

import ast
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from sphinx.errors import ConfigError

from kexue_publish.launch import Repository, extras_for, find_repository, install_cell, repository_at

ADA = Repository("ada/engine")


# --- the address ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/ada/engine",
        "https://github.com/ada/engine.git",
        "https://github.com/ada/engine/",
        "https://token@github.com/ada/engine.git",
        "git@github.com:ada/engine.git",
        "ssh://git@github.com/ada/engine.git",
        "git://github.com/ada/engine.git",
    ],
)
def test_every_way_to_write_a_remote_on_github_names_the_same_repository(remote):
    assert repository_at(remote) == ADA


def test_a_name_may_hold_dots():
    assert repository_at("https://github.com/ada/ada.github.io.git") == Repository("ada/ada.github.io")


@pytest.mark.parametrize(
    "remote",
    [
        "",
        "/work/engine",
        "https://gitlab.com/ada/engine",
        "https://example.org/github.com/ada/engine",
        "git@github.com:engine",
    ],
)
def test_no_other_remote_has_buttons(remote):
    assert repository_at(remote) is None


def test_the_workflow_knows_better_than_the_remote(monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_REPOSITORY", "ada/engine")
    assert find_repository(tmp_path) == ADA


def test_a_folder_that_is_no_checkout_has_no_address(monkeypatch, tmp_path):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert find_repository(tmp_path) is None


def test_a_malformed_address_stops_the_build(monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_REPOSITORY", "https://github.com/ada/engine")
    with pytest.raises(
        ConfigError, match=r"GITHUB_REPOSITORY is 'https://github\.com/ada/engine', expected owner/name"
    ):
        find_repository(tmp_path)


# --- the links, in the forms that the services document ---------------------------------------------------------------


def test_binder_gets_owner_repository_branch_and_the_path_in_jupyterlab():
    # mybinder.readthedocs.io: https://mybinder.org/v2/gh/<owner>/<repo>/<ref>?urlpath=lab/tree/<path>
    address = urlsplit(ADA.binder("book/losses/a+b.ipynb"))
    assert (address.scheme, address.netloc) == ("https", "mybinder.org")
    assert address.path == "/v2/gh/ada/engine/notebooks"
    assert parse_qs(address.query, strict_parsing=True) == {"urlpath": ["lab/tree/book/losses/a+b.ipynb"]}


def test_colab_gets_the_path_of_the_file_on_github():
    # colab-github-demo: https://colab.research.google.com/github/<owner>/<repo>/blob/<ref>/<path>.ipynb
    assert re.fullmatch(
        r"https://colab\.research\.google\.com/github/ada/engine/blob/notebooks/book/losses/a\.ipynb",
        ADA.colab("book/losses/a.ipynb"),
    )


# --- the first cell ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    (folder / "pyproject.toml").write_text(
        '[project.optional-dependencies]\ntorch = ["torch>=2", "tqdm"]\nwidgets = ["pillow"]\nscience = ["scikit-learn"]\n'
    )
    package = folder / "kexue_utils"
    package.mkdir()
    modules = {
        "__init__": "",
        "plain": "import math",
        "learned": "def fit():\n    import torch",
        "above": "from . import learned",
    }
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("code", "extras"),
    [
        ("import numpy", {}),
        ("from kexue_utils import plain", {}),
        ("import torch.nn", {"torch": ["torch"]}),
        ("from kexue_utils.above import learned", {"torch": ["torch"]}),
        ("%matplotlib inline\nfrom PIL import Image", {"widgets": ["PIL"]}),
        ("from sklearn import datasets\nimport tqdm", {"torch": ["tqdm"], "science": ["sklearn"]}),
    ],
)
def test_a_notebook_asks_for_the_extras_that_its_code_imports(source, code, extras):
    assert extras_for([code], source) == extras


def run(cell: str) -> list[str]:
    """What the cell would install here."""
    ran: list[str] = []
    code = re.sub(r"^(\s*)%(pip install .*)$", r"\1ran.append(\2)", cell, flags=re.M)
    code = re.sub(r"ran\.append\((.*)\)", lambda found: f"ran.append({found[1]!r})", code)
    exec(compile(code, "cell", "exec"), {"ran": ran})
    return ran


def test_nothing_is_installed_where_nothing_is_missing():
    assert run(install_cell({"torch": ["torch"]}, ADA)) == []


def test_what_is_missing_is_installed_from_the_branch_with_its_extras():
    wanted = "kexue-utils[torch,widgets] @ https://github.com/ada/engine/archive/refs/heads/notebooks.zip"
    cell = install_cell({"torch": ["no_such_module"], "widgets": ["json"]}, ADA)
    assert run(cell) == [f'pip install --quiet "{wanted}"']


def test_without_an_address_the_cell_says_what_is_missing_and_what_to_do():
    with pytest.raises(ImportError, match=r"\['no_such_module'\] missing: run pip install '\.\[torch\]' in the folder"):
        run(install_cell({"torch": ["no_such_module"]}, None))


def test_a_notebook_that_needs_no_extra_installs_none():
    assert '"kexue-utils @ https' in install_cell({}, ADA)
    ast.parse(install_cell({}, None))
