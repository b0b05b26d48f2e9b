"""What Binder installs for the notebooks: the book's own versions, and nothing that it would have to choose."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(path: str) -> dict[str, str]:
    return {
        canonicalize_name(name): version
        for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / path).read_text("utf-8"), flags=re.M)
    }


BINDER = pins("binder/requirements.txt")


def test_binder_has_the_versions_of_the_book():
    book = pins("requirements.txt")
    assert BINDER
    assert {name: book.get(name) for name in BINDER} == BINDER


def test_the_package_comes_with_all_its_extras():
    (extras,) = re.findall(r"^\.\[(.*)\]$", (ROOT / "binder" / "requirements.txt").read_text("utf-8"), flags=re.M)
    assert sorted(extras.split(",")) == sorted(EXTRAS)


def test_whatever_the_package_asks_for_has_a_version():
    asked = [Requirement(text) for text in chain(PROJECT["dependencies"], *EXTRAS.values())]
    assert {canonicalize_name(requirement.name) for requirement in asked} == set(BINDER)
    assert [str(requirement) for requirement in asked if BINDER[requirement.name] not in requirement.specifier] == []


def test_torch_comes_from_the_index_of_its_cpu_builds():
    lines = (ROOT / "binder" / "requirements.txt").read_text("utf-8").splitlines()
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in lines


def test_python_is_one_that_the_package_supports():
    name, version = (ROOT / "binder" / "runtime.txt").read_text("utf-8").strip().split("-")
    assert name == "python"
    assert version in SpecifierSet(PROJECT["requires-python"])
