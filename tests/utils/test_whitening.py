"""Facts about whitening. Reference values come from exact surds, from SciPy and scikit-learn, and from the formulas of the signal model."""

import warnings
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cosine, mahalanobis
from scipy.stats import norm, spearmanr
from sklearn.decomposition import PCA

from kexue_utils.whitening import (
    Whitening,
    best_cut,
    cosine_pairs,
    mahalanobis_cosine,
    predicted_auc,
    predicted_correlation,
)

FOUR = np.array([[1, 2], [3, 5], [2, 0], [6, 1]])
SIX = np.array([[1, 2, 0], [3, 1, 1], [0, 4, 2], [5, 0, 1], [2, 2, 5], [4, 3, 3]])
few = pytest.mark.filterwarnings("ignore:X has . rows")


def cloud(N=60, d=4, seed=0, move=3.0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, d)) @ rng.standard_normal((d, d)) + move


# Reference values ----------------------------------------------------------------------------------------------------


@few
def test_the_covariance_is_divided_by_the_number_of_vectors():
    white = Whitening().fit(FOUR)
    np.testing.assert_allclose(white.covariance_, [[3.5, -0.25], [-0.25, 3.5]], rtol=1e-15)
    np.testing.assert_allclose(white.eigenvalues_, [3.75, 3.25], rtol=1e-14)


@few
@pytest.mark.parametrize(("pair", "value"), [((0, 1), -0.07142857142857142), ((0, 2), 0.49709581280096005), ((1, 3), -0.2539664030967856)])  # fmt: skip
def test_whitened_cosines_of_four_vectors(pair, value):
    Y = Whitening().fit(FOUR).transform(FOUR)
    assert cosine_pairs(*Y[list(pair)]) == pytest.approx(value, rel=1e-12)


@few
def test_six_vectors_in_three_dimensions():
    white = Whitening().fit(SIX)
    np.testing.assert_allclose(white.eigenvalues_, [4.0246551493374, 2.7047915690803, 0.52055328158227], rtol=1e-13)
    for k, value in ((3, 0.4928319990088), (2, 0.4459706631252)):
        assert cosine_pairs(*Whitening(k=k).fit(SIX).transform(SIX[:2])) == pytest.approx(value, rel=1e-12)
    assert cosine_pairs(SIX[0], SIX[1]) == pytest.approx(0.6741998624632, rel=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "mean", "sigma", "value", "centred"),
    [
        ((3, 1), (2, 4), (1, 1), [[4, 1], [1, 2]], -0.125, 0.316227766016838),
        ((1, 2, 0), (2, -1, 1), (0.5, 0, 0), [[3, 1, 0], [1, 2, 0.5], [0, 0.5, 1]], -0.697683888869142, -0.294117647058824),
    ],
)  # fmt: skip
def test_mahalanobis_cosine_and_centred_cosine(x, y, mean, sigma, value, centred):
    assert mahalanobis_cosine(x, y, mean, sigma) == pytest.approx(value, rel=1e-13)
    assert mahalanobis_cosine(x, y, mean, np.eye(len(x))) == pytest.approx(centred, rel=1e-13)
    assert cosine_pairs(np.subtract(x, mean), np.subtract(y, mean)) == pytest.approx(centred, rel=1e-13)


@pytest.mark.parametrize(
    ("decay", "noise", "d", "full", "best", "at_best", "wiener", "raw"),
    [
        (0.7, 0.15, 128, 0.21004975178608573, 30, 0.26265233308879515, 0.3018458713038916, 0.2026724129792772),
        (0.5, 0.25, 64, 0.39618757142913064, 64, 0.39618757142913064, 0.4389320352518254, 0.3771237270726147),
        (1.0, 0.05, 768, 0.03957753854124833, 28, 0.12737462976226235, 0.14071916225034897, 0.05666950859296591),
    ],
)
def test_predicted_correlations(decay, noise, d, full, best, at_best, wiener, raw):
    a2 = np.arange(1.0, d + 1) ** (-2 * decay)
    r, variance = a2 / (a2 + noise**2), a2 + noise**2
    assert best_cut(r) == best
    kept = (np.arange(d) < best) * 1.0
    for weights, value in ((None, full), (kept, at_best), (r, wiener), (variance, raw)):
        assert predicted_correlation(r, weights) == pytest.approx(value, rel=1e-11)


def test_predicted_auc_of_cuts_and_of_the_plain_product():
    s2 = np.arange(1.0, 257) ** -0.5
    r = s2 / (s2 + 0.5)
    for k, value in ((8, 0.8296749797718), (32, 0.9195228468527), (64, 0.9478181405514), (256, 0.9780952931523)):
        assert predicted_auc(r, (np.arange(256) < k) * 1.0) == pytest.approx(value, rel=1e-12)
        assert predicted_auc(r[:k]) == pytest.approx(value, rel=1e-12)
    n2 = np.arange(1.0, 257) ** -0.5
    same = 0.15 * n2 / (0.15 * n2 + n2)
    for k, value in ((8, 0.6025), (32, 0.6983), (256, 0.9291)):
        assert predicted_auc(same[:k]) == pytest.approx(value, abs=5e-5)
    assert predicted_auc(r, s2 + 0.5) == pytest.approx(0.9831, abs=5e-5)
    assert predicted_auc(same, 1.15 * n2) == pytest.approx(0.8717, abs=5e-5)


# The map -------------------------------------------------------------------------------------------------------------


def test_whitened_vectors_have_mean_zero_and_the_identity_as_covariance():
    X = cloud()
    Y = Whitening().fit(X).transform(X)
    np.testing.assert_allclose(Y.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(Y.T @ Y / len(Y), np.eye(4), atol=1e-12)


def test_the_first_k_columns_are_the_components_of_largest_variance():
    X = cloud()
    all_of_them, two = Whitening().fit(X), Whitening(k=2).fit(X)
    np.testing.assert_array_equal(two.matrix_, all_of_them.matrix_[:, :2])
    assert (np.diff(two.eigenvalues_) < 0).all() and len(two.eigenvalues_) == 4
    ours, theirs = two.transform(X), PCA(2, whiten=True).fit_transform(X)
    factor = sqrt(len(X) / (len(X) - 1))  # scikit-learn divides by N - 1
    np.testing.assert_allclose(abs(ours), abs(theirs) * factor, rtol=1e-9)
    np.testing.assert_allclose(cosine_pairs(ours[:-1], ours[1:]), cosine_pairs(theirs[:-1], theirs[1:]), rtol=1e-9)


def test_every_whitening_has_the_mahalanobis_cosine():
    X = cloud()
    sigma = np.cov(X.T, bias=True)
    expected = mahalanobis_cosine(X[0], X[1:], X.mean(0), sigma)
    values, U = np.linalg.eigh(sigma)
    for W in (Whitening().fit(X).matrix_, U / np.sqrt(values) @ U.T, np.linalg.inv(np.linalg.cholesky(sigma)).T):
        Y = (X - X.mean(0)) @ W
        np.testing.assert_allclose(W @ W.T, np.linalg.inv(sigma), rtol=1e-9)
        np.testing.assert_allclose(cosine_pairs(Y[0], Y[1:]), expected, rtol=1e-9)


def test_alpha_zero_centres_and_turns_and_in_between_the_variances_are_powers():
    X = cloud()
    Y = Whitening(alpha=0).fit(X).transform(X)
    centred = X - X.mean(0)
    np.testing.assert_allclose(Y @ Y.T, centred @ centred.T, rtol=1e-9, atol=1e-9)
    soft = Whitening(alpha=0.6).fit(X)
    np.testing.assert_allclose(soft.transform(X).var(0), soft.eigenvalues_**0.4, rtol=1e-10)


def test_batches_give_the_covariance_of_all():
    X = cloud(50)
    parts = Whitening()
    for part in np.split(X, [1, 2, 20]):
        parts.partial_fit(part)
    whole = Whitening().fit(X)
    assert parts.count_ == whole.count_ == 50
    np.testing.assert_allclose(parts.mean_, whole.mean_, rtol=1e-13)
    np.testing.assert_allclose(parts.covariance_, whole.covariance_, rtol=1e-12)
    np.testing.assert_allclose(parts.transform(X), whole.transform(X), rtol=1e-9)
    parts.fit(X[:30])
    np.testing.assert_allclose(parts.covariance_, np.cov(X[:30].T, bias=True), rtol=1e-12)


def test_a_far_mean_does_not_cost_single_precision_its_digits():
    X = (np.random.default_rng(0).standard_normal((20_000, 1)) + 1e4).astype(np.float32)
    parts = Whitening()
    for part in np.split(X, 200):
        parts.partial_fit(part)
    assert parts.covariance_.dtype == np.float32
    assert parts.covariance_[0, 0] == pytest.approx(X.astype(float).var(), rel=1e-3)
    assert abs((X**2).mean(dtype=np.float32) - X.mean(dtype=np.float32) ** 2 - 1) > 0.5  # what the obvious formula does


def test_eps_is_added_to_the_variances():
    X = np.concatenate([cloud(), np.zeros((60, 1))], 1)
    Y = Whitening(eps=1.0).fit(X)
    np.testing.assert_allclose(Y.transform(X).var(0), Y.eigenvalues_ / (Y.eigenvalues_ + 1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("N", [2, 5, 40])
def test_with_no_more_vectors_than_dimensions_all_cosines_are_equal(N):
    X = np.random.default_rng(N).standard_normal((N, 64))
    with pytest.warns(UserWarning, match=f"X has {N} rows for 64 dimensions"):
        Y = Whitening(k=N - 1).fit(X).transform(X)
    i, j = np.triu_indices(N, 1)
    np.testing.assert_allclose(cosine_pairs(Y[i], Y[j]), -1 / (N - 1), rtol=1e-11)


def test_twice_as_many_vectors_as_dimensions_are_warned_of_and_more_are_not():
    X = cloud(9)
    with pytest.warns(UserWarning, match="X has 8 rows for 4 dimensions"):
        Whitening().fit(X[:8]).transform(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Whitening().fit(X).transform(X)
        Whitening(alpha=0).fit(X[:3]).transform(X)  # nothing is divided by


def test_errors_name_the_rank_the_sizes_and_what_is_missing():
    flat = np.concatenate([cloud(), np.zeros((60, 2))], 1)
    with pytest.raises(ValueError, match=r"X has the rank 4 around its mean, k must not be above it, got k = 6"):
        Whitening().fit(flat).transform(flat)
    assert Whitening(k=4).fit(flat).transform(flat).shape == (60, 4)
    for call, message in (
        (lambda: Whitening(k=5).fit(cloud()).transform(cloud()), "k must be at most 4, got 5|k must be .*4"),
        (lambda: Whitening().transform(cloud()), "call fit"),
        (lambda: Whitening().matrix_, "call fit"),
        (lambda: Whitening().fit(cloud()).transform(cloud()[:, :3]), r"X must have the shape \(..., 4\)"),
        (lambda: Whitening().fit(cloud()).partial_fit(cloud()[:, :3]), "X must have 4 columns"),
        (lambda: Whitening().fit(cloud()[0]), r"X must have the shape \(N, d\)"),
        (lambda: cosine_pairs([[1, 0], [0, 0]], [1, 0]), "A must be no zero vector"),
        (lambda: cosine_pairs([1, 0], [1, 0, 0]), "A, B must have vectors of one length, got 2, 3"),
        (lambda: mahalanobis_cosine([1, 0], [0, 1], [0, 0], [[1, 2], [2, 1]]), "sigma must be positive definite"),
        (lambda: mahalanobis_cosine([1, 0], [0, 1], [0, 0], [[1, 0.1], [0, 1]]), "sigma must be symmetric"),
        (lambda: mahalanobis_cosine([1, 1], [0, 1], [1, 1], np.eye(2)), "x - mean must be no zero vector"),
        (lambda: predicted_correlation([0.5, 1.5]), "shares must be from 0 to 1"),
        (lambda: predicted_correlation([0.5, 0.5], [0, 0]), "weights must be not all zero"),
        (lambda: best_cut([[0.5]]), "shares must have one dimension"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# Cosines -------------------------------------------------------------------------------------------------------------

finite_vectors = arrays(float, (2, 5), elements=st.floats(-100, 100).map(lambda v: round(v, 3)))


@given(finite_vectors)
def test_cosine_pairs_is_that_of_scipy(pair):
    assume((abs(pair).max(1) > 0).all())
    assert cosine_pairs(*pair) == pytest.approx(1 - cosine(*pair), abs=1e-12)
    assert cosine_pairs(pair[0] * 1e300, pair[1] * 1e-300) == pytest.approx(cosine_pairs(*pair), abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_mahalanobis_cosine_survives_any_affine_map(seed, d):
    rng = np.random.default_rng(seed)
    x, y, mean, shift = rng.standard_normal((4, d))
    root, A = rng.standard_normal((2, d, d))
    assume(min(abs(np.linalg.det(root)), abs(np.linalg.det(A))) > 0.05)
    sigma = root @ root.T
    moved = mahalanobis_cosine(
        A @ x + shift, A @ y + shift, A @ mean + shift, (A @ sigma @ A.T + (A @ sigma @ A.T).T) / 2
    )
    assert moved == pytest.approx(mahalanobis_cosine(x, y, mean, sigma), abs=1e-6)


def test_mahalanobis_cosine_follows_from_scipys_distance():
    X = cloud()
    mean, inverse = X.mean(0), np.linalg.inv(np.cov(X.T, bias=True))
    a, b, c = mahalanobis(X[0], mean, inverse), mahalanobis(X[1], mean, inverse), mahalanobis(X[0], X[1], inverse)
    assert mahalanobis_cosine(X[0], X[1], mean, np.cov(X.T, bias=True)) == pytest.approx((a**2 + b**2 - c**2) / (2 * a * b), rel=1e-10)  # fmt: skip


# The signal model ----------------------------------------------------------------------------------------------------


@given(arrays(float, 6, elements=st.floats(0.01, 1)), arrays(float, 6, elements=st.floats(-3, 3)))
def test_no_weights_beat_the_shares(r, w):
    assume(abs(w).max() > 1e-3)
    assert predicted_correlation(r, w) <= predicted_correlation(r, r) * (1 + 1e-12)
    assert predicted_correlation(r, r) == pytest.approx(sqrt((r * r).mean()), rel=1e-12)
    assert predicted_correlation(r, 7e200 * r) == pytest.approx(predicted_correlation(r, r), rel=1e-12)


def test_predictions_hold_for_simulated_pairs():
    rng = np.random.default_rng(0)
    a2, noise2 = np.array([1, 0.5, 0.2, 0.1]), np.array([0.1, 0.4, 0.1, 0.9])
    r, N = a2 / (a2 + noise2), 200_000
    u, v, e, f = rng.standard_normal((4, N, 4))
    x, y = np.sqrt(a2) * u + np.sqrt(noise2) * e, np.sqrt(a2) * v + np.sqrt(noise2) * f
    for w in (np.ones(4), a2 + noise2, r, np.array([1.0, 0, 1, 0])):
        score = (w * x * y / (a2 + noise2)).sum(1)
        assert np.corrcoef(score, (u * v).sum(1))[0, 1] == pytest.approx(predicted_correlation(r, w), abs=5 / sqrt(N))
    same = x * (np.sqrt(a2) * u + np.sqrt(noise2) * f) / (a2 + noise2)
    assert same.var(0) == pytest.approx(1 + r**2, rel=0.03)


def test_a_normal_auc_has_mean_over_standard_deviation_of_the_difference():
    r, w = np.array([0.9, 0.4, 0.1]), np.array([1.0, 0.5, 0.2])
    assert predicted_auc(r, w) == pytest.approx(norm.cdf((w * r).sum() / sqrt((w**2).sum() + (w**2 * (1 + r**2)).sum())), rel=1e-13)  # fmt: skip


def test_the_best_cut_is_not_found_by_looking_at_the_next_direction_only():
    assert best_cut([1, 0.3, 0.3, 0.3]) == 1  # although the fourth raises the third: .9238 < .95
    assert best_cut([0.4] * 7 + [0] * 20) == 7
    assert best_cut(np.ones(9)) == 9


# Libraries -----------------------------------------------------------------------------------------------------------


def agree_on_tensors(device):
    X = cloud()
    Xt = torch.tensor(X, device=device)
    ours, theirs = Whitening(k=3, alpha=0.7).fit(X), Whitening(k=3, alpha=0.7).fit(Xt[:10]).partial_fit(Xt[10:])
    Y = theirs.transform(Xt)
    assert Y.device.type == torch.device(device).type and Y.dtype == torch.float64
    np.testing.assert_allclose(Y.cpu(), ours.transform(X), rtol=1e-8, atol=1e-10)
    r = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64, device=device)
    for f in (predicted_correlation, predicted_auc):
        assert f(r, r * r).item() == pytest.approx(f(r.cpu().numpy(), (r * r).cpu().numpy()), rel=1e-12)
    sigma = Xt.T.cov(correction=0)
    value = mahalanobis_cosine(Xt[0], Xt[1:], Xt.mean(0), sigma)
    np.testing.assert_allclose(value.cpu(), mahalanobis_cosine(X[0], X[1:], X.mean(0), np.cov(X.T, bias=True)), rtol=1e-8)  # fmt: skip


def test_torch_has_the_answers_of_numpy():
    agree_on_tensors("cpu")
    A = torch.tensor([[1.0, 2.0], [0.5, 1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda A: cosine_pairs(A, A.flip(1) + 1), A)


@pytest.mark.gpu
def test_the_gpu_has_the_answers_of_the_cpu():
    agree_on_tensors("cuda")


def test_whitening_levels_the_signal_model():
    """Two encoders with the same shares and different spectra: apart before, alike after."""
    rng = np.random.default_rng(4)
    r = np.full(16, 0.6)
    u, v, e, f = rng.standard_normal((4, 20_000, 16))
    x, y = np.sqrt(r) * u + np.sqrt(1 - r) * e, np.sqrt(r) * v + np.sqrt(1 - r) * f
    before, after = [], []
    for spectrum in (np.ones(16), np.arange(1.0, 17) ** -2):
        X, Y = x * spectrum, y * spectrum
        white = Whitening().fit(X)
        before.append(spearmanr(cosine_pairs(X, Y), cosine_pairs(u, v))[0])
        after.append(spearmanr(cosine_pairs(white.transform(X), white.transform(Y)), cosine_pairs(u, v))[0])
    assert before[0] - before[1] > 0.2
    assert after[0] == pytest.approx(after[1], abs=1e-9)
