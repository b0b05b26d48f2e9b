"""Facts about the distribution kexue-utils: what is in it, and what it can do with NumPy and SymPy alone."""

import ast
import doctest
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "kexue_utils").glob("[!_]*.py"))
OPTIONAL = {"IPython", "PIL", "ipywidgets", "matplotlib", "scipy", "sklearn", "torch", "tqdm"}
NEED_AN_EXTRA = {"bigint", "explore", "kernels", "normalization", "optimizers", "style"}  # already for their import


def run(python, *arguments, **options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KEXUE"))}
    done = subprocess.run(
        [python, *arguments], capture_output=True, text=True, check=False, env=environment, timeout=120, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source, out):
    """Wheel and sdist of a source tree, by the setuptools that is installed here."""
    out.mkdir()
    code = f"from setuptools import build_meta as b; b.build_sdist({str(out)!r}); b.build_wheel({str(out)!r})"
    run(sys.executable, "-W", "error", "-c", code, cwd=source)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")  # a copy of everything, since setuptools writes into the source tree
    tree = shutil.copytree(
        ROOT, folder / "tree", ignore=shutil.ignore_patterns(".*", "_build", "__pycache__", "*.egg-info")
    )
    return build(tree, folder / "out")


@pytest.fixture(scope="module")
def core(built, tmp_path_factory):
    """Python of a new environment that has the wheel, NumPy, SymPy and what these bring along, and nothing else."""
    environment = tmp_path_factory.mktemp("core")
    venv.create(environment, symlinks=True)
    (site,) = environment.glob("[Ll]ib/**/site-packages")
    for distribution in map(metadata.distribution, ("mpmath", "numpy", "sympy")):
        for name in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            (site / name).symlink_to(distribution.locate_file(name))
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(sys.executable, "-m", "pip", f"--python={python}", "install", "--no-index", "--no-compile", built[1])
    return python


def files_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# What is in it -------------------------------------------------------------------------------------------------------


def test_wheel_holds_the_modules_their_metadata_and_nothing_else(built):
    names = set(files_of(built[1]))
    info = {name for name in names if name.startswith("kexue_utils-")}
    assert names - info == {f"kexue_utils/{name}.py" for name in ("__init__", *MODULES)} | {"kexue_utils/py.typed"}
    assert {name.partition("/")[2] for name in info} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "licenses/LICENSE",
        "top_level.txt",
    }


def test_sdist_holds_the_package_and_builds_the_same_wheel(built, tmp_path):
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("kexue_utils-*")
    made = {"PKG-INFO", "kexue_utils.egg-info", "setup.cfg"}
    assert {path.name for path in source.iterdir()} - made == {"LICENSE", "README.md", "kexue_utils", "pyproject.toml"}
    again = build(source, tmp_path / "out")[1]
    assert files_of(again) == files_of(wheel)


def test_metadata_name_the_extras_that_errors_name_and_describe_the_package(built):
    (data,) = (content for name, content in files_of(built[1]).items() if name.endswith("/METADATA"))
    about = message_from_bytes(data)
    source = ast.parse((ROOT / "kexue_utils/extras.py").read_text(encoding="utf-8"))
    (named,) = (
        ast.literal_eval(n.value) for n in source.body if isinstance(n, ast.Assign) and n.targets[0].id == "EXTRAS"
    )
    assert set(named) == OPTIONAL - {"sklearn"}
    assert set(named.values()) == set(about.get_all("Provides-Extra"))
    assert "Typing :: Typed" in about.get_all("Classifier")
    description = data.decode().partition("\n\n")[2]
    assert description.startswith("# kexue-utils\n")
    assert re.findall(r"\]\((?!https://)[^)]*\)", description) == [], "links that lead nowhere on PyPI"


# What it can do alone ------------------------------------------------------------------------------------------------


def test_nothing_is_missing_from_the_small_environment_nor_from_this_one(core):
    for environment in (core, sys.executable):
        check = run(sys.executable, "-m", "pip", f"--python={environment}", "check")
        assert check == "No broken requirements found.\n"


def test_readme_examples_run(core, tmp_path):
    text = re.sub(r"(?m)^```.*$", "", (ROOT / "kexue_utils/README.md").read_text(encoding="utf-8"))
    assert len(doctest.DocTestParser().get_examples(text)) > 4
    (tmp_path / "README.txt").write_text(text, encoding="utf-8")
    run(core, "-X", "utf8", "-m", "doctest", tmp_path / "README.txt")


# Runs the examples of all docstrings in the modules named; prints what could not be done, and which examples passed.
EXAMPLES = """
import doctest, importlib, json, sys

errors, passed = {}, []

class Runner(doctest.DocTestRunner):
    def report_unexpected_exception(self, out, test, example, exc_info):
        errors.setdefault(test.name, f"{exc_info[0].__name__}: {exc_info[1]}")
    def report_failure(self, out, test, example, got):
        errors.setdefault(test.name, f"{example.source} gives {got}")

for name in sys.argv[1:]:
    try:
        module = importlib.import_module(f"kexue_utils.{name}")
    except ImportError as error:
        errors[f"kexue_utils.{name}"] = f"ImportError: {error}"
        continue
    for test in doctest.DocTestFinder().find(module):
        if test.examples and "import torch" not in test.docstring and not Runner().run(test).failed:
            passed.append(test.name)
print(json.dumps([errors, passed]))
"""


@pytest.fixture(scope="module")
def examples(core):
    """The error of every place in kexue_utils whose example fails, and the places whose examples work."""
    errors, passed = json.loads(run(core, "-X", "utf8", "-c", EXAMPLES, *MODULES))
    return {place.removeprefix("kexue_utils."): said for place, said in errors.items()}, set(passed)


def test_what_is_missing_is_said_in_one_line_of_one_wording(examples):
    errors, _ = examples
    modules = {}
    for place, said in errors.items():
        match = re.fullmatch(r'ImportError: [\w.]+ needs \w+: pip install "kexue-utils\[(\w+)\]"', said)
        assert match, f"{place}: {said}"
        modules.setdefault(match[1], set()).add(place.partition(".")[0])
    assert modules == {
        "science": {"choice", "directions", "distances", "ellipse", "neighbours"},
        "torch": {"attention", "bigint", "kernels", "normalization", "optimizers", "training"},
        "widgets": {"explore", "style"},
    }
    assert {place for place in errors if "." not in place} == NEED_AN_EXTRA
    assert (
        errors["attention.fit_attention"] == 'ImportError: fit_attention needs torch: pip install "kexue-utils[torch]"'
    )


def test_everything_that_needs_only_numpy_and_sympy_works(examples):
    errors, passed = examples
    assert {place.split(".")[0] for place in errors} & {"evidence", "words", "decoding", "gaussians", "losses"} == set()
    for works in (
        *("prove", "exact", "numeric", "sampled", "measured", "refute", "cite", "define"),
        *(
            "attention",
            "loop_rate",
            "ancestral",
            "coherence",
            "hub_counts",
            "rogers_ramanujan",
            "wasserstein2_distance",
        ),
    ):
        assert any(place.endswith(f".{works}") for place in passed), works


def test_no_module_of_the_core_imports_an_optional_package():
    missing = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
    assert missing == [], "not installed here, so this test would see nothing"
    core = [module for module in MODULES if module not in NEED_AN_EXTRA]
    code = f"import sys; from kexue_utils import {', '.join(core)}; print({OPTIONAL} & sys.modules.keys())"
    assert run(sys.executable, "-c", code) == "set()\n"
