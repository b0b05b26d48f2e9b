"""Facts about pipe networks. Exact values come from rational arithmetic in SymPy; flows also from SciPy, which minimises the content."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_utils.hydraulics import h_tree, manifold_flows, pipe_network, water_change_peak

LOPSIDED = [(1, 0), (4, 0), (2, 4), (3, 4)]
SUCTION = {0: -1.0, 1: 0.0, 2: 0.0, 3: 0.0}


def relative(expected, tolerance=1e-12):
    return pytest.approx(expected, rel=tolerance, abs=0)


def ladder(n, returns):
    headers = [(a + i, a + i + 1) for a in (0, n) for i in range(n - 1)]
    return headers + [(i, n + i) for i in range(n)], {0: 0.0, 2 * n - 1 if returns == "reverse" else n: -1.0}


def branches(n, R, exponent, returns):
    """Shares of the branches of a ladder with header segments of resistance 1."""
    pipes, fixed = ladder(n, returns)
    q = pipe_network(pipes, [1.0] * (2 * n - 2) + [R] * n, exponent, fixed)[-n:]
    return q / q.sum()


def comb(n, R):
    pipes = [*((i + 1, i) for i in range(n - 1)), *((n + i, i) for i in range(n))]
    q = pipe_network(pipes, [1.0] * (n - 1) + [R] * n, 1, {0: -1, **dict.fromkeys(range(n, 2 * n), 0)})[-n:]
    return q / q.sum()


def inlet_shares(tree, resistance, exponent):
    q = pipe_network(tree.edges, resistance, exponent, {0: -1.0, **dict.fromkeys(map(int, tree.inlets), 0.0)})
    mouths = q[..., -len(tree.inlets) :]
    return mouths / mouths.sum(-1)[..., None]


def exact_flows(pipes, resistance, fixed):
    """The laminar network in fractions."""
    nodes = max(max(pipe) for pipe in pipes) + 1
    L = sp.zeros(nodes, nodes)
    for (i, j), r in zip(pipes, resistance, strict=True):
        for x, y in ((i, j), (j, i)):
            L[x, x] += sp.Rational(1) / r
            L[x, y] -= sp.Rational(1) / r
    free = [i for i in range(nodes) if i not in fixed]
    held = sp.Matrix([fixed.get(i, 0) for i in range(nodes)])
    P = held
    if free:
        values = L.extract(free, free).LUsolve(-(L * held).extract(free, [0]))
        P = sp.Matrix([values[free.index(i)] if i in free else held[i] for i in range(nodes)])
    return [(P[i] - P[j]) / r for (i, j), r in zip(pipes, resistance, strict=True)]


def random_network(seed):
    """A connected network of 4 to 7 nodes with a few loops."""
    rng = np.random.default_rng(seed)
    nodes = int(rng.integers(4, 8))
    tree = [(i, int(rng.integers(0, i))) for i in range(1, nodes)]
    loops = [tuple(map(int, rng.choice(nodes, 2, replace=False))) for _ in range(rng.integers(1, 4))]
    pipes = tree + loops
    return pipes, rng.uniform(0.2, 5, len(pipes)), {0: 0.0, nodes - 1: float(rng.uniform(0.5, 3))}


# Reference values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exponent", "shares"),
    [
        (1, (3 / 7, 2 / 7, 2 / 7)),
        (1.75, (0.43847612494076516, 0.2807619375296937, 0.2807619375296937)),
        (2, (2.5**0.5 / (2 + 2.5**0.5), 1 / (2 + 2.5**0.5), 1 / (2 + 2.5**0.5))),
    ],
)
def test_equal_paths_do_not_carry_equal_flows(exponent, shares):
    q = pipe_network(LOPSIDED, [1, 0.5, 0.5, 0.5], exponent, SUCTION)
    assert (q[[0, 2, 3]] / q[:2].sum()).tolist() == relative(list(shares))


def test_reference_values_of_ladders_and_combs():
    assert np.ptp(np.log(branches(8, 4, 1, "reverse"))) == relative(np.log(43 / 8))
    assert np.ptp(np.log(branches(8, 4, 1, "direct"))) == relative(np.log(85.3359375))
    shares = manifold_flows(8, 1, 4, "comb")
    assert shares[0] / shares[-1] == relative(19.868469238281, 1e-13)
    assert shares[[0, -1]].tolist() == [pytest.approx(0.39076333, abs=5e-9), pytest.approx(0.019667511, abs=5e-10)]
    reverse, direct = manifold_flows(8, 1, 400), manifold_flows(8, 1, 400, "direct")
    assert reverse.max() / reverse.min() == relative(1.030125125, 1e-10)
    assert direct.max() / direct.min() == relative(1.1431763533315, 1e-13)


@pytest.mark.parametrize(("R", "reverse", "direct"), [(4, 40.17, 43.94), (40, 1.927, 3.409), (400, 1.0844, 1.2556)])
def test_reference_values_of_turbulent_ladders(R, reverse, direct):
    for returns, expected in (("reverse", reverse), ("direct", direct)):
        shares = branches(8, R, 1.75, returns)
        assert float(f"{shares.max() / shares.min():.{5 if R == 400 else 4}g}") == expected
    if R == 4:
        first = branches(8, 4, 1.75, "reverse")
        assert first[0] == pytest.approx(0.310589067, abs=5e-10)
        assert first[3] == pytest.approx(0.007732642148, abs=5e-13)
    if R == 40:
        shares = branches(8, 40, 1.75, "direct")
        assert shares[0] / shares[-1] == relative(3.40858387477, 1e-11)


def test_reference_values_of_the_ladder_in_fractions():
    expected = {
        ("reverse", 2): "1/2 1/2",
        ("reverse", 3): "5/14 2/7 5/14",
        ("reverse", 4): "3/10 1/5 1/5 3/10",
        ("reverse", 5): "17/62 5/31 4/31 5/31 17/62",
        ("direct", 3): "11/21 2/7 4/21",
    }
    for (returns, n), shares in expected.items():
        pipes, fixed = ladder(n, returns)
        flows = exact_flows(pipes, [1] * (2 * n - 2) + [4] * n, {node: int(p) for node, p in fixed.items()})[-n:]
        assert [q / sum(flows) for q in flows] == [sp.Rational(share) for share in shares.split()]
        assert manifold_flows(n, 1, 4, returns).tolist() == relative(
            [float(Fraction(share)) for share in shares.split()]
        )


def test_reference_peaks_of_changed_water():
    assert water_change_peak(0.5, 0.05, 0.3, 45) == relative(9.6586151363827, 1e-13)
    assert water_change_peak(0.5, 0, 0.3, 45) == relative(75)
    assert round(float(water_change_peak(0.5, 0.02, 0.3, 45)), 1) == 20.7


# Networks ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.sampled_from([1.0, 1.25, 1.75, 2.0]))
@settings(max_examples=40)
def test_flows_obey_the_laws_of_the_network(seed, exponent):
    pipes, r, fixed = random_network(seed)
    q = pipe_network(pipes, r, exponent, fixed)
    net = np.zeros(max(map(max, pipes)) + 1)
    for (i, j), flow in zip(pipes, q, strict=True):
        net[i] += flow
        net[j] -= flow
    largest = abs(q).max()
    assert all(abs(net[i]) < 1e-9 * largest for i in range(len(net)) if i not in fixed)
    loss = r * q * abs(q) ** (exponent - 1)
    P = dict(fixed)  # pressures follow from pipe to pipe; every pipe has to agree
    while len(P) < len(net):
        for (i, j), h in zip(pipes, loss, strict=True):
            if j in P and i not in P:
                P[i] = P[j] + h
            elif i in P and j not in P:
                P[j] = P[i] - h
    scale = max(P.values()) - min(P.values())
    assert all(abs(P[i] - P[j] - h) < 1e-7 * scale for (i, j), h in zip(pipes, loss, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_flows_minimise_the_content(seed):
    pipes, r, fixed = random_network(seed)
    (low, high), e = sorted(fixed, key=fixed.get), 1.75
    q = pipe_network(pipes, r, e, fixed)
    incidence = np.zeros((max(map(max, pipes)) + 1, len(pipes)))
    for k, (i, j) in enumerate(pipes):
        incidence[i, k], incidence[j, k] = 1, -1
    free = [i for i in range(len(incidence)) if i not in fixed]

    def content(flow):
        return (r * abs(flow) ** (e + 1) / (e + 1)).sum() - sum(p * (incidence[i] @ flow) for i, p in fixed.items())

    start = np.random.default_rng(seed).normal(size=len(pipes))
    conserved = {"type": "eq", "fun": lambda flow: incidence[free] @ flow}
    found = scipy.optimize.minimize(
        content, start, constraints=conserved, method="SLSQP", options={"maxiter": 500, "ftol": 1e-14}
    )
    assert content(q) <= found.fun + 1e-9
    np.testing.assert_allclose(q, found.x, atol=1e-3 * abs(q).max())
    assert incidence[high] @ q > 0 > incidence[low] @ q


@pytest.mark.parametrize("seed", range(5))
def test_laminar_flows_are_those_of_the_linear_system(seed):
    pipes, r, fixed = random_network(seed)
    r, fixed = (
        [Fraction(float(x)).limit_denominator(100) for x in r],
        {node: round(10 * p) for node, p in fixed.items()},
    )
    exact = exact_flows(pipes, [sp.Rational(x.numerator, x.denominator) for x in r], fixed)
    got = pipe_network(pipes, [float(x) for x in r], 1, fixed)
    np.testing.assert_allclose(got, [float(x) for x in exact], rtol=1e-11, atol=1e-12)


def test_turbulent_ladder_agrees_with_shooting():
    """Header by header from a guess of the first branch, corrected until the total fits."""
    n, R, e = 8, 4.0, 1.75

    def flows(first):
        q, total = [first], first
        P = R * first**e
        for _ in range(n - 1):
            P += np.copysign(abs(total) ** e, total) - np.copysign(abs(1 - total) ** e, 1 - total)
            q.append(np.copysign((abs(P) / R) ** (1 / e), P))
            total += q[-1]
        return np.array(q)

    first = scipy.optimize.brentq(lambda x: flows(x).sum() - 1, 0.305, 0.32, xtol=1e-15)
    np.testing.assert_allclose(branches(n, R, e, "reverse"), flows(first), rtol=1e-8)


def test_flow_scales_with_pressure_and_resistance_like_a_power():
    pipes, r, fixed = random_network(3)
    q = pipe_network(pipes, r, 1.75, fixed)
    more = pipe_network(pipes, 10 * r, 1.75, {node: 1e6 * p + 7 for node, p in fixed.items()})
    np.testing.assert_allclose(more, q * 1e5 ** (1 / 1.75), rtol=1e-9)
    assert (pipe_network(pipes, r, 1.75, dict.fromkeys(fixed, 2.0)) == 0).all()


def test_a_batch_is_its_members():
    tree = h_tree(60, 40, 1)
    r = np.random.default_rng(0).uniform(0.5, 2, (2, 3, len(tree.edges)))
    together = inlet_shares(tree, r, 1.75)
    for place in itertools.product(range(2), range(3)):
        np.testing.assert_allclose(together[place], inlet_shares(tree, r[place], 1.75), rtol=1e-12)


@pytest.mark.parametrize("exponent", [1.0, 1.75])
def test_gradient_is_that_of_finite_differences(exponent):
    def flows(r):
        return pipe_network(LOPSIDED, r, exponent, SUCTION)

    r = torch.tensor([1.0, 0.5, 0.7, 0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(flows, r, eps=1e-6, atol=1e-6)


@pytest.mark.gpu
def test_a_gpu_gives_the_flows_of_the_cpu():
    tree = h_tree(60, 40, 2)
    r = torch.rand(50, len(tree.edges), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    there = inlet_shares(tree, r.cuda(), 1.75)
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), inlet_shares(tree, r, 1.75), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("edges", "resistance", "exponent", "fixed", "message"),
    [
        (
            [(0, 1), (2, 3)],
            [1, 1],
            1,
            {0: 0, 1: 1},
            "edges must lead from every node to a fixed one, got none from node 2",
        ),
        ([(0, 1), (1, 3)], [1, 1], 1, {0: 0}, "from node 2"),
        ([(0, 0)], [1], 1, {0: 0}, "edges must join two different nodes"),
        ([(0, 1)], [1, 1], 1, {0: 0}, r"resistance must have shape \(..., 1\)"),
        ([(0, 1)], [0], 1, {0: 0}, "resistance must be positive"),
        ([(0, 1), (1, 2)], [1, 1e-13], 1, {0: 0}, "within a factor of 1e12"),
        ([(0, 1)], [1], 2.5, {0: 0}, "exponent must be from 1 to 2, got 2.5"),
        ([(0, 1)], [1], 1, {5: 0}, "fixed must name nodes from 0 to 1, got 5"),
        ([(0, 1)], [1], 1, {}, "fixed must hold the pressure of at least one node"),
        ([(-1, 1)], [1], 1, {0: 0}, "edges must number the nodes from 0"),
        ([(0, 1)], [1e-300], 1, {0: 1e200, 1: 0}, "resistance and fixed"),
        ([(0, 1)], [1], 1, {0: 1e308, 1: -1e308}, "fixed must hold pressures whose difference"),
    ],
)
def test_networks_without_an_answer_are_refused(edges, resistance, exponent, fixed, message):
    with pytest.raises(ValueError, match=message):
        pipe_network(edges, resistance, exponent, fixed)


# The H-tree ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rounds", "path", "pipe"), [(1, 25, 70), (2, 37.5, 210), (3, 43.75, 490), (4, 46.875, 1050)])
def test_tree_fills_the_tank_with_equal_paths(rounds, path, pipe):
    tree = h_tree(60, 40, rounds)
    parent = {int(child): (int(node), length) for (node, child), length in zip(tree.edges, tree.length, strict=True)}

    def way(node):
        return parent[node][1] + way(parent[node][0]) if node else 0.0

    assert {way(int(inlet)) for inlet in tree.inlets} == {path}
    assert tree.length.sum() == pipe
    side = 2**rounds
    centres = {(60 * (a + 0.5) / side, 40 * (b + 0.5) / side) for a, b in itertools.product(range(side), repeat=2)}
    assert set(map(tuple, tree.points[tree.inlets].tolist())) == centres
    assert np.abs(np.diff(tree.points[tree.edges], axis=1)).sum((1, 2)).tolist() == tree.length.tolist()
    assert np.bincount(tree.level)[1:].tolist() == [2**k for k in range(1, 2 * rounds + 1)]


@given(st.integers(1, 3), st.floats(1, 2), st.lists(st.floats(0.1, 10), min_size=6, max_size=6))
@settings(max_examples=30)
def test_tree_is_fair_whatever_the_levels_and_the_friction(rounds, exponent, levels):
    tree = h_tree(60, 40, rounds)
    shares = inlet_shares(tree, np.array(levels)[tree.level - 1], exponent)
    np.testing.assert_allclose(shares, 4.0**-rounds, rtol=1e-8)


def test_a_blocked_inlet_leaves_four_kinds_of_inlets():
    tree = h_tree(60, 40, 2)
    fixed = {0: -1.0, **dict.fromkeys(map(int, tree.inlets[1:]), 0.0)}
    q = abs(pipe_network(tree.edges, tree.length, 1, fixed)[-16:])
    assert q[0] < 1e-12 * q.max()
    values, counts = np.unique(np.round(q[1:] / q[1], 9), return_counts=True)
    assert counts.tolist() == [8, 4, 2, 1] and (np.diff(values) > 0).all()


# Manifolds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 8, 21])
@pytest.mark.parametrize("R", [0.01, 1.0, 4.0, 400.0])
def test_closed_forms_are_the_flows_of_the_network(n, R):
    if n > 1:
        for returns in ("reverse", "direct"):
            np.testing.assert_allclose(
                manifold_flows(n, 1, R, returns), branches(n, R, 1, returns), rtol=1e-7, atol=1e-11
            )
        np.testing.assert_allclose(manifold_flows(n, 1, R, "comb"), comb(n, R), rtol=1e-7, atol=1e-11)
    assert manifold_flows(n, 0, R).tolist() == relative([1 / n] * n)
    assert manifold_flows(n, 1, R).sum() == relative(1)


@pytest.mark.parametrize("n", range(3, 12))
def test_equal_paths_cure_a_factor_that_depends_on_parity(n):
    reverse, direct = (manifold_flows(n, 1, 1e6, kind) for kind in ("reverse", "direct"))
    cured = (direct.max() / direct.min() - 1) / (reverse.max() / reverse.min() - 1)
    assert cured == relative(4 * n / (n - 1) if n % 2 else 4 * (n - 1) / (n - 2), 1e-4)


def test_manifolds_broadcast_and_do_not_overflow():
    shares = manifold_flows(5, [[1.0], [2.0]], [4.0, 8.0, 1e-9])
    assert shares.shape == (2, 3, 5)
    assert np.isfinite(manifold_flows(1000, 1, 1e-3)).all()
    with pytest.raises(ValueError, match="kind must be one of reverse, direct, comb"):
        manifold_flows(3, 1, 1, "forward")


# Changed water -------------------------------------------------------------------------------------------------------


@given(st.floats(0.1, 5), st.floats(0.001, 0.5), st.floats(0.05, 1), st.floats(1, 100))
@settings(max_examples=25)
def test_peak_is_the_fixed_point_of_one_period(s, p, phi, T):
    peak = water_change_peak(s, p, phi, T)
    after = scipy.integrate.solve_ivp(lambda t, N: s - p * N, (0, T), [(1 - phi) * peak], rtol=1e-10, atol=1e-12).y[
        0, -1
    ]
    assert after == relative(peak, 1e-7)
    assert peak < s / p * (1 + 1e-12)


def test_peak_has_the_limits_of_no_plants_and_of_no_change():
    assert water_change_peak(2.0, 1e-12, 0.5, 3.0) == relative(12.0, 1e-11)
    assert water_change_peak(2.0, 0.5, 0.5, 1e4) == relative(4.0)
    p = torch.zeros((), dtype=torch.float64, requires_grad=True)
    water_change_peak(torch.tensor(1.0, dtype=torch.float64), p, 0.5, 2.0).backward()
    step = 1e-6
    slope = (water_change_peak(1.0, step, 0.5, 2.0) - water_change_peak(1.0, 0.0, 0.5, 2.0)) / step
    assert p.grad.item() == relative(float(slope), 1e-4)


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"phi": 0}, "phi"), ({"phi": 1.5}, "phi"), ({"T": 0}, "T must"), ({"p": -1}, "p must"), ({"s": -1}, "s must")],
)
def test_water_that_cannot_be_changed_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        water_change_peak(**({"s": 1.0, "p": 0.1, "phi": 0.3, "T": 7.0} | bad))
