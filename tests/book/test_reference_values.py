"""Values computed elsewhere, with more digits than a page shows, of functions that a chapter defines for itself."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import jupytext
import mpmath
import pytest
import sympy as sp
from scipy import optimize

BOOK = Path(__file__).parents[2] / "book"


def defined(chapter: str, *names: str) -> SimpleNamespace:
    """What a chapter first defines under these names; of its code only this is executed, and what it imports."""
    cells = jupytext.read(BOOK / f"{chapter}.md").cells
    space: dict = {}
    for node in statements([ast.parse(cell.source) for cell in cells if cell.cell_type == "code"]):
        if isinstance(node, (ast.Import, ast.ImportFrom)) or given(node) & set(names) - space.keys():
            exec(compile(ast.Module([node], []), chapter, "exec"), space)
    return SimpleNamespace(**{name: space[name] for name in names})


def statements(blocks: Iterable[ast.Module | ast.With]) -> Iterator[ast.stmt]:
    """The statements of a chapter, those of its `with` blocks too, in their order."""
    for block in blocks:
        for node in block.body:
            yield from statements([node]) if isinstance(node, ast.With) else [node]


def given(node: ast.stmt) -> set[str]:
    """The names that a definition or an assignment gives."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    return {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}


@pytest.fixture(scope="module")
def accuracy():
    return defined("losses/train-your-accuracy", "b", "k", "margins", "cross_entropy", "viete")


@pytest.mark.parametrize(
    "scale, threshold",
    [
        (1, "0.700087524138414"),
        (2, "0.360427768890199"),
        (4, "0.20073359527901"),
        (5, "0.172641389357810864"),
        (8, "0.138593700267057"),
        (10, "0.131243951033381289"),
    ],
)
def test_best_threshold_by_cross_entropy(accuracy, scale, threshold):
    with mpmath.workdps(30):
        assert abs(accuracy.viete(scale) - mpmath.mpf(threshold)) < 5e-15


def test_least_cross_entropy_and_the_scale_at_which_it_finds_the_right_threshold(accuracy):
    with mpmath.workdps(30):
        least = sp.lambdify((accuracy.b, accuracy.k), accuracy.cross_entropy, "mpmath")(accuracy.viete(1), 1)
        assert abs(least - mpmath.mpf("1.6733913992037352299")) < 1e-18
        scale = mpmath.findroot(lambda k: accuracy.viete(k) - mpmath.mpf(1) / 4, 3)
        assert abs(scale - mpmath.mpf("3.02523045046385909470")) < 1e-18


@pytest.fixture(scope="module")
def spectra():
    network = ("Convolution", "Block", "SpectraNet", "ARTICLE")
    return defined("losses/spectra-conv1d", *network, "auc_mean", "auc_max", "pixel")


@pytest.mark.parametrize(
    "height, width, pixels, mean, largest",
    [
        (2.0, 16, 256, 0.9213503964748574, 0.9347878204539025),
        (2.0, 4, 256, 0.6381631950841185, 0.7410881613751150),
        (3.0, 4, 64, 0.8555778168267576, 0.9812903500009002),
    ],
)
def test_how_well_a_mean_and_a_maximum_find_a_line(spectra, height, width, pixels, mean, largest):
    assert spectra.auc_mean(height, width, pixels) == pytest.approx(mean, rel=1e-13)
    assert spectra.auc_max(height, width, pixels) == pytest.approx(largest, rel=1e-12)


def test_the_width_at_which_mean_and_maximum_are_as_good(spectra):
    width = optimize.brentq(lambda w: spectra.auc_mean(2, w, 256) - spectra.auc_max(2.0, w, 256), 10, 30, xtol=1e-13)
    assert width == pytest.approx(18.14593127663288, rel=1e-12)


@pytest.mark.parametrize("widths, dense, count", [("ARTICLE", 128, 748_324), ((8, 8, 16, 16, 24), 32, 21_564)])
def test_parameters_of_the_network(spectra, widths, dense, count):
    net = spectra.SpectraNet(spectra.ARTICLE if widths == "ARTICLE" else widths, dense=dense)
    assert sum(parameter.numel() for parameter in net.parameters()) == count


def test_pixels_by_which_a_redshift_of_a_tenth_moves_the_lines(spectra):
    moved = spectra.pixel(sp.Rational(4070)) - spectra.pixel(sp.Rational(3700))
    assert float(moved) == pytest.approx(41.06664118484233, rel=1e-15)


def test_ammonia_nitrite_and_nitrate_after_three_days():
    tank = defined("asides/ecological-tank", "s", "k1", "k2", "t", "ammonia", "nitrite")
    after = {tank.s: sp.Rational(1, 2), tank.k1: sp.Rational(4, 5), tank.k2: sp.Rational(2, 5), tank.t: 3}
    ammonia, nitrite = (float(formula.subs(after)) for formula in (tank.ammonia, tank.nitrite))
    parts = [ammonia, nitrite, 1.5 - ammonia - nitrite]
    assert parts == pytest.approx([0.56830127919412, 0.61041191183126, 0.32128680897462], rel=1e-13)
