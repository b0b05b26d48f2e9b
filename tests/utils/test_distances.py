"""Facts about distances between samples."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kexue_utils.distances import energy_distance

seeds = st.integers(0, 2**32 - 1)


def draw(seed, n=20, m=30, d=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), 0.5 + 2 * rng.standard_normal((m, d))


def by_hand(x, y):
    def mean(a, b, same):
        total = sum(math.dist(p, q) for p in a for q in b)
        return total / (len(a) * (len(b) - same))

    return 2 * mean(x, y, 0) - mean(x, x, 1) - mean(y, y, 1)


@given(seeds)
def test_energy_distance_is_its_definition(seed):
    x, y = draw(seed)
    assert energy_distance(x, y) == pytest.approx(by_hand(x.tolist(), y.tolist()), rel=1e-12)


@given(seeds)
def test_one_dimensional_samples_agree_with_scipy_up_to_the_diagonal(seed):
    x, y = (p[:, 0] for p in draw(seed))
    theirs = stats.energy_distance(x, y) ** 2  # with the pairs of a point with itself
    within = [np.abs(p[:, None] - p).sum() * (1 / (len(p) * (len(p) - 1)) - 1 / len(p) ** 2) for p in (x, y)]
    assert energy_distance(x[:, None], y[:, None]) == pytest.approx(theirs - sum(within), rel=1e-10, abs=1e-12)


@given(seeds)
def test_symmetric_and_blind_to_shifts_and_rotations(seed):
    x, y = draw(seed)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    assert energy_distance(y, x) == pytest.approx(energy_distance(x, y), rel=1e-12)
    assert energy_distance(x @ turn + 7, y @ turn + 7) == pytest.approx(energy_distance(x, y), rel=1e-10)


def test_unbiased_for_normal_numbers():
    # E|X - Y| = 2 phi(mu/s) s + mu (2 Phi(mu/s) - 1) for a difference of mean mu and standard deviation s
    rng = np.random.default_rng(0)
    estimates = [energy_distance(rng.standard_normal((5, 1)), 1 + rng.standard_normal((4, 1))) for _ in range(20_000)]
    s = math.sqrt(2)
    apart = 2 * s * stats.norm.pdf(1 / s) + 2 * stats.norm.cdf(1 / s) - 1
    truth = 2 * apart - 2 * 2 / math.sqrt(math.pi)
    assert np.mean(estimates) == pytest.approx(truth, abs=4 * np.std(estimates) / math.sqrt(20_000))


def test_equal_laws_fall_on_both_sides_of_zero():
    rng = np.random.default_rng(1)
    estimates = [energy_distance(rng.standard_normal((50, 2)), rng.standard_normal((50, 2))) for _ in range(200)]
    assert min(estimates) < 0 < max(estimates)
    assert abs(np.mean(estimates)) < 4 * np.std(estimates) / math.sqrt(200)


def test_samples_longer_than_a_block():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((4500, 1)), rng.standard_normal((3, 1))
    assert energy_distance(x, y) == pytest.approx(energy_distance(y, x), rel=1e-12)


def test_near_points_keep_their_digits():
    x = 1e4 + torch.tensor([[0.0], [1e-2]])
    assert energy_distance(x, x + 0.5).item() == pytest.approx(2 * 0.5 - 2 * 0.01, rel=0.1)


def test_torch_agrees_and_has_a_gradient():
    x, y = map(torch.tensor, draw(3))
    assert energy_distance(x, y).item() == pytest.approx(energy_distance(x.numpy(), y.numpy()), rel=1e-12)
    assert energy_distance(x.float(), y).dtype == torch.float64
    assert torch.autograd.gradcheck(energy_distance, (x.requires_grad_(), y.requires_grad_()))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: energy_distance([[1.0]], [[1.0], [2.0]]), ValueError, "x must have shape"),
        (lambda: energy_distance([1.0, 2.0], [[1.0], [2.0]]), ValueError, "x must have shape"),
        (lambda: energy_distance([[1.0], [2.0]], [[1.0, 2.0]] * 2), ValueError, "same dimension"),
        (lambda: energy_distance([[1.0], [math.nan]], [[1.0], [2.0]]), ValueError, "x must be finite"),
        (lambda: energy_distance(torch.tensor([[1.0], [math.inf]]), torch.ones(2, 1)), ValueError, "x must be finite"),
        (lambda: energy_distance(torch.ones(2, 1), np.ones((2, 1))), TypeError, "all NumPy or all torch"),
        (lambda: energy_distance([["a"], ["b"]], [[1.0], [2.0]]), TypeError, "x must be real"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.gpu
def test_result_stays_on_the_gpu():
    x, y = (torch.tensor(p).cuda() for p in draw(4))
    assert energy_distance(x, y).is_cuda
    assert energy_distance(x, y).item() == pytest.approx(energy_distance(x.cpu(), y.cpu()).item(), rel=1e-10)
