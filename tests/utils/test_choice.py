"""Facts about probabilities by adding noise. Reference values: mpmath with 30 digits; fractions by exact sums."""

import itertools
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from kexue_utils.choice import deficit, log_perturbed_argmax, perturbed_argmax_probabilities

MU = [1.0, 0.5, -0.3]
REFERENCE = {
    "normal": [0.57768593982038, 0.31998939065441, 0.10232466952521],
    "gumbel": [0.53218028945142, 0.32278366204703, 0.14503604850155],
    "logistic": [0.48267826579385, 0.33748464038925, 0.1798370938169],
    "laplace": [0.54411283324651, 0.322938518915, 0.13294864783849],
    "cauchy": [0.47009911566323, 0.3340374661779, 0.19586341815887],
    "exponential": [0.61556840303387, 0.27571551515272, 0.10871608181341],
    "uniform": [7 / 8, 1 / 8, 0],
}
LAWS = {
    "normal": stats.norm,
    "gumbel": stats.gumbel_r,
    "logistic": stats.logistic,
    "laplace": stats.laplace,
    "cauchy": stats.cauchy,
    "exponential": stats.expon,
    "uniform": stats.uniform,
    "reversed gumbel": stats.gumbel_l,
}
NOISES = ["normal", "gumbel", "logistic", "exponential"]
seeds = st.integers(0, 2**32 - 1)


def relative(expected, tolerance):
    return pytest.approx(expected, rel=tolerance, abs=0)


def by_definition(mu, noise):
    """The integral over the height of the winner, by Gauss's rule on short pieces that end where an integrand has a kink."""
    law, kinks = LAWS[noise], sorted({m + shift for m in mu for shift in (0, 1)})
    ends = np.unique([*kinks, *np.arange(kinks[0], kinks[0] - 39, -3), *np.arange(kinks[-1], kinks[-1] + 42, 3)])
    if noise == "cauchy":
        ends = np.unique(np.r_[ends, np.geomspace(50, 1e16, 300), -np.geomspace(50, 1e16, 300)])
    nodes, weights = np.polynomial.legendre.leggauss(40)
    middle, half = (ends[1:] + ends[:-1])[:, None] / 2, np.diff(ends)[:, None] / 2
    x = (middle + half * nodes).ravel()
    cdf = [law.cdf(x - m) for m in mu]
    wins = [law.pdf(x - m) * np.prod(np.delete(cdf, i, 0), axis=0) for i, m in enumerate(mu)]
    return (np.array(wins) @ (half * weights).ravel()).tolist()


def draw(seed, *shape, scale=1.5):
    return np.random.default_rng(seed).normal(0, scale, shape)


# Reference values


@pytest.mark.parametrize("noise", REFERENCE)
def test_the_definition_has_the_reference_values(noise):
    assert by_definition(MU, noise) == pytest.approx(REFERENCE[noise], abs=2e-13)


@pytest.mark.parametrize("noise", NOISES)
def test_the_function_has_the_reference_values(noise):
    p = perturbed_argmax_probabilities(np.array(MU), noise, nodes=128)
    assert p.tolist() == pytest.approx(REFERENCE[noise], abs=2e-14)


def test_the_rule_of_the_article_has_the_reference_values():
    p = perturbed_argmax_probabilities(np.array(MU), "normal", 10, "interior")
    assert p.tolist() == relative([0.5852267455035983, 0.30451376570907407, 0.07614731842868686], 1e-13)
    assert p.sum() == relative(0.96588782, 1e-8)


def test_the_slope_has_the_reference_value_and_its_closed_form():
    mu = torch.tensor(MU, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(perturbed_argmax_probabilities(mu)[0], mu)
    assert g[1].item() == relative(-0.21315992679376, 1e-13)
    d12, d13 = 0.5, 1.3
    closed = -stats.norm.pdf(d12 / 2**0.5) / 2**0.5 * special.ndtr((2 * d13 - d12) / 6**0.5)
    assert g[1].item() == relative(closed, 1e-12)


def test_the_mean_height_has_the_reference_value():
    law = stats.gumbel_r

    def weighted(x):
        return x * sum(law.pdf(x - m) * np.prod([law.cdf(x - v) for v in MU if v != m]) for m in MU)

    height = integrate.quad(weighted, -6, 50, epsabs=1e-13, limit=200)[0]
    assert height == relative(2.20798862201, 1e-11)
    assert special.logsumexp(MU) + np.euler_gamma == relative(2.20798862201, 1e-11)


def test_reversed_gumbel_noise_has_the_reference_fractions():
    def by_sets(w, i):
        others = [v for j, v in enumerate(w) if j != i]
        return sum(
            (-1) ** r / (1 + sum((w[i] / v for v in S), Fraction(0))) for r in range(len(w)) for S in itertools.combinations(others, r)
        )  # fmt: skip

    table = {
        (1, 2, 4, 8): ["227/9009", "134/1365", "64/231", "27008/45045"],
        (3, 2, 1): ["117/220", "56/165", "17/132"],
    }
    for w, expected in table.items():
        w = [Fraction(v) for v in w]
        assert [by_sets(w, i) for i in range(len(w))] == list(map(Fraction, expected))
    assert by_definition(np.log([3, 2, 1]), "reversed gumbel") == pytest.approx([117 / 220, 56 / 165, 17 / 132], abs=1e-13)  # fmt: skip


def test_exponential_noise_has_the_reference_fractions():
    p = perturbed_argmax_probabilities(np.log([3, 2, 1]), "exponential")
    assert p.tolist() == relative([31 / 54, 8 / 27, 7 / 54], 1e-14)


@pytest.mark.parametrize("n", range(2, 9))
def test_exponential_noise_is_exact_with_half_as_many_nodes_as_labels(n):
    w = [Fraction(3 * j % 7 + 1, 2 * j + 1) for j in range(n)]
    q = [v / max(w) for v in w]

    def chance(i):
        polynomial = [q[i]]  # times the factors 1 - q_j u, lowest power first
        for j in set(range(n)) - {i}:
            polynomial = [a - q[j] * b for a, b in zip([*polynomial, 0], [0, *polynomial], strict=True)]
        return sum(a / (power + 1) for power, a in enumerate(polynomial))

    p = perturbed_argmax_probabilities(np.log(np.array(w, float)), "exponential")
    assert p.tolist() == relative([float(chance(i)) for i in range(n)], 1e-13)
    assert sum(map(chance, range(n))) == 1


def test_both_ends_take_the_limit_away_and_overshoot_for_few_nodes_or_scores_far_apart():
    many = np.random.default_rng(0).standard_normal((40, 30))
    for scores, K, help_ in [
        ([MU], 50, True),
        ([[2, 0, -2]], 800, False),
        (many[:20], 50, False),
        (many[20:], 200, True),
    ]:
        n, rules = len(scores[0]), ("interior", "midpoint")
        p, midpoint = (perturbed_argmax_probabilities(np.array(scores, float), "normal", K, rule) for rule in rules)
        both_ends = (0.5 + K * p) / (K + 1)
        less, ends, middle = (1 - q.sum(-1).mean() for q in (p, both_ends, midpoint))
        assert ends == pytest.approx(K / (K + 1) * (less - deficit(n, K)), abs=1e-12)
        assert (abs(ends) < less) == help_
        assert ends < 0 < middle < min(less, -ends)


@pytest.mark.parametrize(
    ("lead", "returned"), [(6, [0.20315864, 0.39968136, 0.76613989]), (10, [8.9182e-5, 7.78735e-4, 0.01491720])]
)
def test_midpoints_lose_the_tail_by_the_reference_factors_and_the_line_does_not(lead, returned):
    behind, truth = np.array([0.0, -lead]), special.ndtr(-lead / 2**0.5)
    got = [perturbed_argmax_probabilities(behind, "normal", K, "midpoint")[1] / truth for K in (32, 100, 1000)]
    assert got == relative(returned, 1e-5)
    assert perturbed_argmax_probabilities(behind, "normal", 64)[1] == relative(truth, 1e-13)


def test_missing_sum_has_the_reference_values():
    lost = {K: K * (1 - perturbed_argmax_probabilities(np.array(MU), "normal", K, "interior").sum()) for K in (10, 100, 1000, 10**5)}  # fmt: skip
    assert list(lost.values()) == pytest.approx([0.341, 0.462, 0.492, 0.4998], abs=5e-4)


# What the probabilities are


@pytest.mark.parametrize("noise", NOISES)
def test_probabilities_are_the_definition(noise):
    for seed in range(2):
        mu = draw(seed, 4)
        p = perturbed_argmax_probabilities(mu, noise, nodes=128)
        assert p.tolist() == relative(by_definition(mu.tolist(), noise), 1e-10)


@pytest.mark.parametrize("noise", NOISES)
@given(seed=seeds)
def test_they_add_up_to_one_follow_the_scores_and_ignore_a_shift(noise, seed):
    mu = draw(seed, 3, 6)
    p = perturbed_argmax_probabilities(mu, noise)
    assert p.sum(-1).tolist() == pytest.approx([1, 1, 1], abs=1e-5 if noise == "logistic" else 1e-12)
    assert (p.argsort(-1) == mu.argsort(-1)).all()
    shifted = perturbed_argmax_probabilities(mu + 17.5, noise)
    np.testing.assert_allclose(shifted, p, rtol=1e-10)


@settings(max_examples=15)
@given(seed=seeds)
def test_the_jacobian_is_symmetric_and_its_rows_add_up_to_zero(seed):
    mu = torch.tensor(draw(seed, 5))
    for noise in NOISES:
        f = partial(perturbed_argmax_probabilities, noise=noise, nodes=128)
        J = torch.autograd.functional.jacobian(f, mu)
        torch.testing.assert_close(J, J.T, rtol=0, atol=1e-10)
        assert J.sum(-1).abs().max() < 1e-12
        assert torch.linalg.eigvalsh((J + J.T) / 2).min() > -1e-12


@given(seed=seeds)
def test_two_labels_have_their_closed_forms(seed):
    d = abs(draw(seed, 1, scale=3)[0])
    pair = np.array([d, 0.0])
    assert perturbed_argmax_probabilities(pair, "gumbel")[1] == relative(1 / (1 + np.exp(d)), 1e-13)
    assert perturbed_argmax_probabilities(pair, "normal")[1] == relative(special.ndtr(-d / 2**0.5), 1e-12)
    assert perturbed_argmax_probabilities(pair, "exponential")[1] == relative(np.exp(-d) / 2, 1e-13)


def test_three_normal_scores_are_a_bivariate_normal_probability():
    theirs = stats.multivariate_normal.cdf(np.array([0.5, 1.3]) / 2**0.5, cov=[[1, 0.5], [0.5, 1]])
    assert perturbed_argmax_probabilities(np.array(MU))[0] == relative(theirs, 1e-8)


def test_simulated_winners_are_as_frequent():
    rng, N = np.random.default_rng(0), 200_000
    for noise, sample in {
        "normal": rng.standard_normal,
        "gumbel": lambda shape: rng.gumbel(size=shape),
        "logistic": lambda shape: rng.logistic(size=shape),
        "exponential": rng.standard_exponential,
    }.items():
        wins = np.bincount((np.array(MU) + sample((N, 3))).argmax(-1)) / N
        p = perturbed_argmax_probabilities(np.array(MU), noise)
        assert (abs(wins - p) < 4.5 * np.sqrt(p * (1 - p) / N)).all()


# The rules


@pytest.mark.parametrize("rule", ["midpoint", "interior"])
@pytest.mark.parametrize("noise", ["normal", "gumbel", "logistic"])
def test_a_rule_is_the_mean_over_its_nodes(noise, rule):
    mu, K = draw(3, 4), 7
    law = {"normal": stats.norm, "gumbel": stats.gumbel_r, "logistic": stats.logistic}[noise]
    t = np.array([(k - 0.5) / K if rule == "midpoint" else k / (K + 1) for k in range(1, K + 1)])
    by_hand = [
        np.mean(np.prod([law.cdf(mu[i] - m + law.ppf(t)) for j, m in enumerate(mu) if j != i], 0)) for i in range(4)
    ]
    assert perturbed_argmax_probabilities(mu, noise, K, rule).tolist() == relative(by_hand, 1e-12)


@pytest.mark.parametrize("K", [1, 2, 10, 33])
def test_gumbel_powers_are_faulhabers_sums(K):
    p = perturbed_argmax_probabilities(np.log([3.0, 2.0, 1.0]), "gumbel", K, "interior")
    faulhaber = [1 / 2, (2 * K + 1) / (6 * (K + 1)), K * (2 * K**2 + 2 * K - 1) / (12 * (K + 1) ** 3)]
    assert p.tolist() == relative(faulhaber, 1e-13)


@pytest.mark.parametrize(("noise", "tolerance"), [("gumbel", 0.01), ("logistic", 0.05)])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_missing_sum_tends_to_the_deficit(n, noise, tolerance):
    mu = draw(n, n, scale=0.3)
    lost = 1 - perturbed_argmax_probabilities(mu, noise, 2000, "interior").sum()
    assert lost == relative(deficit(n, 2000), tolerance)
    assert abs(1 - perturbed_argmax_probabilities(mu, noise, 2000, "midpoint").sum()) < 0.01 * deficit(n, 2000)


@given(seed=seeds)
def test_two_labels_with_symmetric_noise_miss_nothing(seed):
    for noise in ("normal", "logistic"):
        assert perturbed_argmax_probabilities(draw(seed, 2), noise, 9, "interior").sum() == relative(1, 1e-13)


@pytest.mark.parametrize(("noise", "tolerance"), [("normal", 1e-10), ("logistic", 1e-6)])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_64_nodes_on_the_line_are_as_good_as_stated(n, noise, tolerance):
    for mu in (np.linspace(0, 10, n), np.zeros(n), draw(1, n)):
        fine = perturbed_argmax_probabilities(mu, noise, 4000)
        assert perturbed_argmax_probabilities(mu, noise).tolist() == relative(fine.tolist(), tolerance)


def test_normalise_makes_the_sum_one():
    p = perturbed_argmax_probabilities(draw(0, 4, 6), "normal", 10, "interior", normalise=True)
    assert p.sum(-1).tolist() == relative([1] * 4, 1e-14)


def test_more_labels_for_exponential_noise():
    p = perturbed_argmax_probabilities(draw(0, 300), "exponential")
    assert p.sum() == relative(1, 1e-11) and (p > 0).all()


# Numbers, formats, extremes


def test_logarithms_keep_what_probabilities_lose():
    assert log_perturbed_argmax(np.array([0.0, -60.0]), nodes=256)[1] == relative(special.log_ndtr(-60 / 2**0.5), 1e-12)
    assert log_perturbed_argmax(np.array([0.0, -900.0]), "gumbel")[1] == -900
    assert log_perturbed_argmax(np.array([0.0, -900.0]), "exponential")[1] == relative(-900 - np.log(2), 1e-15)
    many = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(log_perturbed_argmax(many)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise", NOISES)
def test_dtype_is_kept_and_gradients_flow(noise, dtype):
    mu = torch.tensor(MU, dtype=dtype, requires_grad=True)
    p = perturbed_argmax_probabilities(mu, noise, 128)
    assert p.dtype == dtype and p.tolist() == pytest.approx(REFERENCE[noise], abs=100 * torch.finfo(dtype).eps)
    (g,) = torch.autograd.grad(log_perturbed_argmax(mu, noise)[2], mu)
    assert torch.isfinite(g).all() and (g != 0).all()
    assert perturbed_argmax_probabilities(np.array(MU, np.float32), noise).dtype == np.float32


def test_gradients_are_right():
    mu = torch.tensor(draw(0, 2, 4), requires_grad=True)
    for noise, rule in [*((noise, "line") for noise in NOISES), ("normal", "interior"), ("gumbel", "midpoint")]:
        f = partial(log_perturbed_argmax, noise=noise, nodes=128 if rule == "line" else 9, rule=rule)
        assert torch.autograd.gradcheck(f, mu)


def test_deficit():
    assert [deficit(2, 7), deficit(10, 100), deficit(3, 1)] == [0, 0.04, 0.5]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: perturbed_argmax_probabilities(np.array([1.0])), ValueError, r"scores must have shape .* at least 2"),
        (lambda: perturbed_argmax_probabilities(np.array([1.0, np.nan])), ValueError, "scores must be finite"),
        (lambda: perturbed_argmax_probabilities(np.array([1e200, 0.0])), ValueError, "scores must be of a size"),
        (lambda: perturbed_argmax_probabilities(np.float16([1, 0])), TypeError, "scores must be real numbers in single"),
        (lambda: perturbed_argmax_probabilities(np.array(MU), "cauchy"), ValueError, "noise must be one of gumbel"),
        (lambda: perturbed_argmax_probabilities(np.array(MU), rule="left"), ValueError, "rule must be one of line"),
        (lambda: perturbed_argmax_probabilities(np.array(MU), "exponential", 9, "midpoint"), ValueError, 'rule must be "line"'),
        (lambda: perturbed_argmax_probabilities(np.array(MU), nodes=0), ValueError, "nodes must be at least 1, got 0"),
        (lambda: perturbed_argmax_probabilities(np.array(MU), normalise=1), TypeError, "normalise must be True or False"),
        (lambda: deficit(1, 5), ValueError, "n must be at least 2"),
        (lambda: deficit(5, 0), ValueError, "K must be at least 1"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.gpu
@pytest.mark.parametrize("noise", NOISES)
def test_gpu_agrees_with_cpu(noise):
    mu = torch.tensor(draw(0, 3, 5))
    torch.testing.assert_close(log_perturbed_argmax(mu.cuda(), noise).cpu(), log_perturbed_argmax(mu, noise))
