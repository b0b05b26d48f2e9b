"""The licences of what stands in the site, and of what made it."""

from importlib.metadata import Distribution
from pathlib import Path

import pytest
from sphinx.errors import ExtensionError

from kexue_publish.licences import WORKS, Work, installed, licence_of, licence_text, version_of, works_in

every_work = pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
# Words of each licence.
WORDS = {
    "MIT": "Permission is hereby granted",
    "BSD-2-Clause": "Redistribution and use",
    "BSD-3-Clause": "Neither the name",
}


def package(folder: Path, *metadata: str, **texts: str) -> Distribution:
    """A distribution as pip would have installed it."""
    info = folder / "a-1.dist-info"
    files = {"METADATA": "\n".join(("Metadata-Version: 2.1", "Name: a", "Version: 1", *metadata)), **texts}
    for name, content in files.items():
        (info / name).parent.mkdir(parents=True, exist_ok=True)
        (info / name).write_text(content, "utf-8")
    (info / "RECORD").write_text("".join(f"a-1.dist-info/{name},,\n" for name in files), "utf-8")
    return Distribution.at(info)


@every_work
def test_the_version_is_that_of_the_files_in_the_site(work):
    assert version_of(work)[0].isdigit()
    # What one package takes from another has a version of its own.
    assert (version_of(work) != installed(work.package).version) == (work.version is not None)


@pytest.mark.parametrize("work", [work for work in WORKS if work.version is None], ids=lambda work: work.name)
def test_the_licence_is_the_one_whose_text_comes_with_it(work):
    text = " ".join((licence_text(installed(work.package)) or "").split())
    assert {name for name, words in WORDS.items() if words in text} >= set(work.licence.split(" AND "))


def test_a_file_may_hold_several_works_and_ours_hold_none():
    assert [work.name for work in works_in("styles/pydata-sphinx-theme.css")] == [
        "Bootstrap, with Popper",
        "Font Awesome Free",
        "PyData Sphinx theme",
    ]
    assert works_in("mathjax/input/tex/extensions/cancel.js") == works_in("mathjax/tex-svg.js") != []
    assert works_in("ledger.js") == works_in("kexue.css") == []


def test_a_version_that_cannot_be_found_stops_the_build():
    work = Work("MyST", "me", "MIT", "https://example.org", "myst-nb", (), ("mystnb.css", "no such words "))
    with pytest.raises(ExtensionError, match=r"no version of MyST .* expected 'no such words '"):
        version_of(work)


def test_a_package_that_is_not_there_stops_the_build():
    with pytest.raises(ExtensionError, match=r"no-such-package is not installed"):
        installed("no-such-package")


@pytest.mark.parametrize(
    "metadata, name",
    [
        (("License-Expression: BSD-3-Clause", "License: other"), "BSD-3-Clause"),
        (("Classifier: License :: OSI Approved :: MIT License", "License: a page of text"), "MIT License"),
        (("Classifier: License :: OSI Approved", "License: Apache 2.0"), "Apache 2.0"),
        ((), "ISC License"),
    ],
    ids=["expression", "classifier", "field", "text"],
)
def test_a_package_names_its_licence_in_one_of_four_places(tmp_path, metadata, name):
    assert licence_of(package(tmp_path, *metadata, **{"licenses/LICENSE": "ISC License\n\nPermission to use"})) == name


def test_a_package_without_a_licence_stops_the_build(tmp_path):
    with pytest.raises(ExtensionError, match="a does not name its licence"):
        licence_of(package(tmp_path))
