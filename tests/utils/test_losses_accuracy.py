"""Facts about the losses between cross-entropy and accuracy. Reference values: mpmath with 30 digits, by quadrature."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special, stats
from sklearn.metrics import accuracy_score, log_loss
from torch.nn import functional as F

from kexue_utils.losses import generalized_cross_entropy, smooth_accuracy

THREE = np.array([0.5, -1.0, 2.0])
seeds = st.integers(0, 2**32 - 1)
powers = st.sampled_from([1.0, 0.7, 0.5, 0.01, 0.0, -0.5, -1.0])


def relative(expected, tolerance=1e-14):
    return pytest.approx(expected, rel=tolerance, abs=0)


def draw(seed, *batch, n=7):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, (*batch, n)), rng.integers(0, n, batch)


def given_probability(p, n=2):
    """Scores of n labels, label 0 with the probability p and the others alike."""
    return np.log([p, *[(1 - p) / (n - 1)] * (n - 1)])


def by_hand(scores, target, q):
    """The definition in 40 digits: softmax, then the power."""
    with mp.workdps(40):
        powers = [mp.exp(mp.mpf(float(s))) for s in scores]
        p = powers[target] / sum(powers)
        return float(-mp.log(p) if q == 0 else (1 - p ** mp.mpf(q)) / mp.mpf(q))


def gaussian(scores, t):
    """The integral of phi(z) times the product of Phi(z + s_t - s_i) over i other than t, to many digits."""
    with mp.workdps(25):
        return mp.quad(lambda z: mp.npdf(z) * mp.fprod(mp.ncdf(z + scores[t] - s) for i, s in enumerate(scores) if i != t), mp.linspace(-15, 45, 61))  # fmt: skip


# Reference values


@pytest.mark.parametrize(
    ("p", "q", "value"),
    [
        (0.3, 0.5, 0.904554884989668),
        (0.3, -0.5, 1.65148371670111),
        (0.3, 0.01, 1.19675405140863),
        (0.9, 0.5, 0.102633403898972),
        (0.9, -0.5, 0.10818510677892),
        (0.3, 1, 0.7),
        (0.3, 0, -math.log(0.3)),
    ],
)
def test_generalized_cross_entropy_has_the_reference_values(p, q, value):
    for n in (2, 5):
        assert generalized_cross_entropy(given_probability(p, n), 0, q) == relative(value, 2e-14)


@pytest.mark.parametrize(
    ("scores", "values"),
    [
        (THREE, [0.141700969595546, 0.00983432017002049, 0.848464710234433]),
        ([3.0, 0.0], [0.983052573237655, 1 - 0.983052573237655]),
        (
            [-2.0, 0, 0, 0, 1],
            [0.00253342461591472, 0.148827670017825, 0.148827670017825, 0.148827670017825, 0.550983565330609],
        ),
    ],
)
def test_smooth_accuracy_with_normal_noise_has_the_reference_values(scores, values):
    for t, value in enumerate(values):
        assert smooth_accuracy(np.array(scores), t, "normal") == relative(value, 2e-13)
    assert smooth_accuracy(np.array([3.0, 0.0]), 0, "normal") == relative(stats.norm.cdf(3 / math.sqrt(2)), 1e-13)


def test_smooth_accuracy_with_gumbel_noise_has_the_reference_values():
    for t, value in enumerate([0.175290392140037, 0.0391125732706875, 0.785597034589276]):
        assert smooth_accuracy(THREE, t) == relative(value, 1e-14)


# What the losses are


@given(seeds, powers)
def test_it_is_its_definition(seed, q):
    s, t = draw(seed, 3)
    expected = [by_hand(row, label, q) for row, label in zip(s, t, strict=True)]
    assert generalized_cross_entropy(s, t, q, "none").tolist() == relative(expected, 1e-12)


@given(seeds)
def test_q_0_is_cross_entropy(seed):
    s, t = draw(seed, 4)
    assert generalized_cross_entropy(s, t) == relative(log_loss(t, special.softmax(s, -1), labels=range(7)), 1e-11)
    theirs = F.cross_entropy(torch.tensor(s), torch.tensor(t), reduction="none")
    ours = generalized_cross_entropy(s, t, reduction="none")
    assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-12, abs=1e-14)


@given(seeds, powers)
def test_it_is_minus_a_box_cox_transform_of_the_softmax(seed, q):
    s, t = draw(seed)
    p = special.softmax(s)[t]
    assert generalized_cross_entropy(s, t, q) == pytest.approx(-special.boxcox(p, q), rel=1e-12, abs=1e-14)


@given(seeds)
def test_q_1_is_the_complement_of_smooth_accuracy(seed):
    s, t = draw(seed, 4)
    left = generalized_cross_entropy(s, t, 1, "none") + smooth_accuracy(s, t, reduction="none")
    assert left.tolist() == relative([1.0] * 4, 1e-15)


@given(seeds)
def test_the_loss_falls_as_q_rises(seed):
    s, t = draw(seed, 4)
    several = [generalized_cross_entropy(s, t, q, "none") for q in (-1, -0.1, 0, 0.1, 0.9, 1)]
    assert (np.diff(several, axis=0) <= 0).all() and (several[-1] >= 0).all()


@given(seeds, st.sampled_from([-0.5, 0.0, 0.3, 1.0]))
def test_the_pull_is_that_of_cross_entropy_times_p_to_the_q(seed, q):
    s, t = (torch.tensor(v) for v in draw(seed, 4))
    s.requires_grad_()
    (pull,) = torch.autograd.grad(generalized_cross_entropy(s, t, q, "sum"), s)
    p = torch.softmax(s, -1)
    by_formula = p.gather(-1, t[:, None]) ** q * (p - F.one_hot(t, 7))
    torch.testing.assert_close(pull, by_formula, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("q", [-1.0, 0.0, 0.3, 0.8])
def test_the_best_probabilities_are_powers_of_the_posterior(q):
    posterior = np.array([0.55, 0.25, 0.15, 0.05])

    def expected_loss(s):  # with its exact slope: the minimum is flat
        s = torch.tensor(s, requires_grad=True)
        loss = torch.tensor(posterior) @ generalized_cross_entropy(s.expand(4, 4), torch.arange(4), q, "none")
        loss.backward()
        return loss.item(), s.grad.numpy()

    best = optimize.minimize(expected_loss, np.zeros(4), jac=True, options={"gtol": 1e-13}).x
    power = posterior ** (1 / (1 - q))
    assert special.softmax(best).tolist() == pytest.approx((power / power.sum()).tolist(), abs=1e-6)
    assert special.softmax((1 - q) * best).tolist() == pytest.approx(posterior.tolist(), abs=1e-6)


@given(seeds, powers)
def test_wrong_predictions_are_bounded_by_the_loss(seed, q):
    s, t = draw(seed, 50, n=3)
    wrong = 1 - accuracy_score(t, s.argmax(-1))
    assert wrong <= generalized_cross_entropy(s, t, q) / generalized_cross_entropy(np.zeros(2), 0, q)


@given(seeds)
def test_a_symmetric_change_of_labels_only_scales_the_complement_of_accuracy(seed):
    s, t = draw(seed)
    each = generalized_cross_entropy(np.tile(s, (7, 1)), np.arange(7), 1, "none")
    noisy = 0.7 * each[t] + 0.3 / 6 * (each.sum() - each[t])
    assert noisy == pytest.approx((1 - 0.3 * 7 / 6) * each[t] + 0.3, abs=1e-14)


@given(seeds)
def test_normal_noise_is_a_normal_probability(seed):
    s, t = draw(seed, n=3)
    gaps = np.delete(s[t] - s, t)
    theirs = stats.multivariate_normal.cdf(gaps, cov=[[2, 1], [1, 2]])
    assert smooth_accuracy(s, t, "normal") == pytest.approx(theirs, abs=1e-7)


@pytest.mark.parametrize("scores", [[0.0, 12.0, -9.0, 3.0], [30.0, 0.0, -30.0], [-1.0, 0.5] * 6])
def test_normal_noise_is_its_integral(scores):
    for t in range(3):
        assert smooth_accuracy(np.array(scores), t, "normal") == pytest.approx(
            float(gaussian(scores, t)), rel=1e-8, abs=1e-300
        )


@pytest.mark.parametrize("noise", ["gumbel", "normal"])
@given(seeds)
def test_it_is_the_accuracy_where_scores_are_far_apart(noise, seed):
    s, t = draw(seed, 20, n=4)
    ranks = s.argsort(-1).argsort(-1)
    expected = accuracy_score(t, ranks.argmax(-1))
    assert smooth_accuracy(200.0 * ranks, t, noise) == pytest.approx(expected, rel=1e-13, abs=1e-40)


@pytest.mark.parametrize("noise", ["gumbel", "normal"])
def test_equal_scores_share(noise):
    assert smooth_accuracy(np.array([0.0, 0, 0, -1e3]), 1, noise) == relative(1 / 3, 1e-12)
    assert smooth_accuracy(np.array([1e300, 1e300]), 0, noise) == relative(1 / 2, 1e-12)


@pytest.mark.parametrize("q", [-0.5, 0.0, 1e-9, 0.5, 1.0])
def test_gradients_are_right(q):
    s, t = (torch.tensor(v) for v in draw(0, 3))
    s.requires_grad_()
    for f in (lambda s: generalized_cross_entropy(s / 3, t, q), lambda s: smooth_accuracy(s, t)):
        assert torch.autograd.gradcheck(f, s) and torch.autograd.gradgradcheck(f, s)
    assert torch.autograd.gradcheck(lambda s: smooth_accuracy(s, t, "normal"), s)


# Extremes


def test_tiny_and_huge_losses_keep_their_digits():
    assert generalized_cross_entropy(np.array([50.0, 0.0, -800.0]), 0) == relative(math.exp(-50))
    assert generalized_cross_entropy(np.array([50.0, 0.0]), 0, 0.5) == relative(math.exp(-50))
    assert generalized_cross_entropy(np.array([-1e6, 1e6]), 0) == 2e6
    assert generalized_cross_entropy(np.array([-1e6, 1e6]), 0, 0.25) == 4
    assert generalized_cross_entropy(np.array([3.0, 1.0]), 1, 1e-300) == generalized_cross_entropy([3.0, 1.0], 1)
    with pytest.raises(ValueError, match="q and scores must be of a size"):
        generalized_cross_entropy(np.array([-1e6, 1e6]), 0, -0.5)


def test_a_hopeless_label_has_a_gradient():
    for q, pull in ((0, 1.0), (0.5, math.exp(-20)), (1, math.exp(-40))):
        s = torch.tensor([-40.0, 0.0], dtype=torch.float64, requires_grad=True)
        (g,) = torch.autograd.grad(generalized_cross_entropy(s, torch.tensor(0), q), s)
        assert g.tolist() == relative([-pull, pull], 1e-12)
    (g,) = torch.autograd.grad(generalized_cross_entropy(s, torch.tensor(1), 5e-324), s)
    assert torch.isfinite(g).all()


def test_a_single_label_is_always_right():
    s = torch.tensor([[3.0], [-1.0]], requires_grad=True)
    loss = generalized_cross_entropy(s, [0, 0], 0.5, "none")
    (g,) = torch.autograd.grad(loss.sum(), s)
    assert (loss == 0).all() and (g == 0).all() and smooth_accuracy(s, [0, 0]) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
def test_dtype_is_that_of_the_scores(dtype, kind):
    s, t = torch.tensor(THREE, dtype=dtype), torch.tensor(1, dtype=kind)
    for got, expected in (
        (generalized_cross_entropy(s, t, 0.5), 2 * (1 - math.sqrt(0.0391125732706875))),
        (smooth_accuracy(s, t), 0.0391125732706875),
    ):
        assert got.dtype == dtype and got.item() == pytest.approx(expected, rel=16 * torch.finfo(dtype).eps)


@given(seeds, st.sampled_from([0.0, 0.5, 1.0]))
def test_single_precision_agrees_with_double(seed, q):
    s, t = (torch.tensor(v) for v in draw(seed, 4))
    for f in (lambda s: generalized_cross_entropy(s, t, q), lambda s: smooth_accuracy(s, t), lambda s: smooth_accuracy(s, t, "normal")):  # fmt: skip
        single, double = s.float().requires_grad_(), s.float().double().requires_grad_()
        values = f(single), f(double)
        torch.testing.assert_close(values[0].double(), values[1], rtol=1e-5, atol=1e-7)
        gradients = [torch.autograd.grad(v, x)[0].double() for v, x in zip(values, (single, double), strict=True)]
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


def test_numpy_stays_numpy():
    single = generalized_cross_entropy(THREE.astype(np.float32), 0, 0.5)
    assert single.dtype == np.float32 and isinstance(single, np.floating)
    assert smooth_accuracy(np.ones((2, 3, 4)), np.ones((2, 3), int), reduction="none").shape == (2, 3)


def test_reductions():
    s, t = draw(0, 4)
    for f in (generalized_cross_entropy, smooth_accuracy):
        each = f(s, t, reduction="none")
        assert f(s, t) == relative(each.mean()) and f(s, t, reduction="sum") == relative(each.sum())


# Errors


@pytest.mark.parametrize("f", [generalized_cross_entropy, smooth_accuracy])
@pytest.mark.parametrize(
    ("scores", "target", "error", "words"),
    [
        (THREE, 3, ValueError, "target must be a class from 0 to 2, got 3"),
        (THREE, -1, ValueError, "target must be a class from 0 to 2, got -1"),
        (THREE, 1.0, TypeError, "target must be integers, got dtype float64"),
        (THREE, True, TypeError, "target must be real numbers, got dtype bool"),
        (THREE, [1], ValueError, r"target must have the batch shape \(\) of the scores, got shape \(1,\)"),
        (THREE * math.inf, 1, ValueError, "scores must be finite"),
        (np.array(1.0), 0, ValueError, "scores must have shape"),
        (THREE, torch.tensor(1), TypeError, "all NumPy or all torch, got Tensor and ndarray"),
        (torch.tensor(THREE), np.array(1), TypeError, "all NumPy or all torch, got ndarray and Tensor"),
        (torch.tensor(THREE), torch.tensor(1.0), TypeError, "target must be integers, got dtype torch.float32"),
    ],
)
def test_errors_name_the_argument(f, scores, target, error, words):
    with pytest.raises(error, match=words):
        f(scores, target)


def test_the_other_arguments_are_checked():
    with pytest.raises(ValueError, match=r"q must be at most 1, got 1\.5"):
        generalized_cross_entropy(THREE, 0, 1.5)
    with pytest.raises(ValueError, match="noise must be one of gumbel, normal, got 'cauchy'"):
        smooth_accuracy(THREE, 0, "cauchy")
    with pytest.raises(ValueError, match="reduction must be one of"):
        smooth_accuracy(THREE, 0, reduction="max")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gpu_agrees_with_cpu(dtype):
    s, t = draw(0, 4)
    s, t = torch.tensor(s, dtype=dtype), torch.tensor(t)
    for f in (lambda s, t: generalized_cross_entropy(s, t, 0.5), smooth_accuracy, lambda s, t: smooth_accuracy(s, t, "normal")):  # fmt: skip
        here, there = s.clone().requires_grad_(), s.cuda().requires_grad_()
        values = f(here, t), f(there, t.cuda())
        torch.testing.assert_close(values[1].cpu(), values[0])
        gradients = [torch.autograd.grad(v, x)[0].cpu() for v, x in zip(values, (here, there), strict=True)]
        torch.testing.assert_close(*gradients)
