"""Facts about hub counts, and about their law in high dimension."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.neighbors import NearestNeighbors

from kexue_utils.neighbours import hub_counts, hub_law, hub_rate


def by_scikit_learn(X, k, metric="euclidean"):
    neighbours = NearestNeighbors(n_neighbors=k, metric=metric).fit(X).kneighbors(return_distance=False)
    return np.bincount(neighbours.ravel(), minlength=len(X))


def cloud(N, n, seed=0):
    return np.random.default_rng(seed).standard_normal((N, n))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(1, 20), st.data())
def test_counts_are_those_of_scikit_learn_in_either_library_and_any_chunk(N, n, data):
    k = data.draw(st.integers(1, N - 1))
    X = cloud(N, n, seed=data.draw(st.integers(0, 99)))
    expected = by_scikit_learn(X, k)
    chunk = data.draw(st.integers(1, N + 3))
    np.testing.assert_array_equal(hub_counts(X, k, chunk=chunk), expected)
    np.testing.assert_array_equal(hub_counts(torch.from_numpy(X), k, chunk=chunk).numpy(), expected)


def test_cosine_counts_are_those_of_scikit_learn_and_ignore_lengths():
    X = cloud(60, 7) + 1
    expected = by_scikit_learn(X, 5, "cosine")
    np.testing.assert_array_equal(hub_counts(X, 5, metric="cosine"), expected)
    lengths = np.arange(1, 61)[:, None]
    np.testing.assert_array_equal(hub_counts(lengths * X, 5, metric="cosine"), expected)


@pytest.mark.parametrize("to", [np.asarray, torch.from_numpy])
def test_batches_are_counted_one_by_one(to):
    X = cloud(2 * 3 * 10, 4).reshape(2, 3, 10, 4)
    counts = hub_counts(to(X), 3)
    assert type(counts) is type(to(X))
    assert tuple(counts.shape) == (2, 3, 10)
    np.testing.assert_array_equal(np.asarray(counts[1, 2]), hub_counts(X[1, 2], 3))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(0, 1000), st.data())
def test_every_point_names_exactly_k_also_where_points_coincide(N, seed, data):
    k = data.draw(st.integers(1, N - 1))
    X = np.random.default_rng(seed).integers(0, 2, (N, 2))
    for counts in (hub_counts(X, k), hub_counts(torch.from_numpy(X), k)):
        assert int(counts.sum()) == k * N


def test_ties_go_to_the_smaller_index():
    np.testing.assert_array_equal(hub_counts(np.zeros((5, 3)), 2), [4, 4, 2, 0, 0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=30, unique=True), st.data())
def test_on_a_line_nobody_is_named_more_than_2k_times(xs, data):
    k = data.draw(st.integers(1, len(xs) - 1))
    noise = np.random.default_rng(0).uniform(0, 0.2, len(xs))  # no ties
    assert hub_counts((np.array(xs) + noise)[:, None], k).max() <= 2 * k


@pytest.mark.parametrize("to", [np.asarray, torch.from_numpy])
def test_points_far_from_the_origin_keep_their_neighbours(to):
    X = cloud(200, 3)
    np.testing.assert_array_equal(np.asarray(hub_counts(to(X + 1e5), 4)), hub_counts(X, 4))


def test_torch_keeps_its_device_and_takes_half_the_digits():
    counts = hub_counts(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)), 3)
    assert counts.dtype == torch.int64
    assert int(counts.sum()) == 150


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"k": 4}, ValueError, "1 <= k < N = 4, got 4"),
        ({"k": 0}, ValueError, "got 0"),
        ({"k": 1.0}, TypeError, "k must be an integer, got 1.0"),
        ({"chunk": 0}, ValueError, "chunk must be at least 1, got 0"),
        ({"metric": "l1"}, ValueError, "'l1'"),
        ({"X": np.ones(4)}, ValueError, r"shape \(..., N, n\), got \(4,\)"),
        ({"X": np.full((4, 2), np.nan)}, ValueError, "finite"),
        ({"X": np.ones((4, 2), complex)}, TypeError, "complex128"),
        ({"X": torch.ones(4, 2, dtype=torch.bool)}, TypeError, "bool"),
        ({"X": np.zeros((4, 2)), "metric": "cosine"}, ValueError, "zero row"),
    ],
)
def test_bad_input_is_named(change, error, words):
    with pytest.raises(error, match=words):
        hub_counts(**{"X": cloud(4, 2), "k": 2} | change)


# The law -----------------------------------------------------------------------------------------------------------

REFERENCE = {
    (1000, 10, 2): (557.8099948822, 6.1748605218, 0.6514380120, 0.3119575109),
    (1000, 10, 0.8): (193.1086221866, 3.7156742489, 0.7828893981, 0.1071359343),
    (2000, 5, 2): (287.2633636602, 10.9837993450, 0.5287132113, 0.5053536156),
    (500, 20, 2): (1005.3639164110, 3.3415332955, 0.7842596632, 0.1304751699),
    (10_000, 10, 2): (1796.738671, 16.177790, 0.458614814, 0.468603453),
}


@pytest.mark.parametrize(("settings_", "moments"), REFERENCE.items())
def test_law_has_its_reference_values(settings_, moments):
    law = hub_law(*settings_)
    got = law.variance, law.skewness, law.correlation, law.orphans
    assert got == pytest.approx(moments, rel=1e-9 if settings_[0] < 10_000 else 1e-8)


@pytest.mark.parametrize("v", [0, 0.8, 2, 5])
def test_the_mean_is_k_whatever_the_coordinates(v):
    assert hub_law(1000, 10, v).mean == pytest.approx(10, rel=1e-12)


@pytest.mark.parametrize("v", [0.8, 2, 5])
@pytest.mark.parametrize(("N", "k"), [(1000, 10), (500, 20), (10_000, 1)])
def test_variance_is_a_bivariate_normal_probability(N, k, v):
    rho, z = v / (v + 4), special.ndtri(k / (N - 1))
    both = stats.multivariate_normal.cdf([z, z], cov=[[1, rho], [rho, 1]], abseps=1e-14, releps=1e-14)
    assert hub_law(N, k, v).variance == pytest.approx(k + (N - 1) ** 2 * both - k**2, rel=1e-9)


def test_correlation_in_closed_form():
    z = special.ndtri(10 / 999)
    law = hub_law(1000, 10, 2)
    assert law.correlation == pytest.approx(999 * np.sqrt(1 / 3) * stats.norm.pdf(z) / np.sqrt(law.variance), rel=1e-12)


def test_without_spread_of_lengths_the_law_is_poisson():
    law = hub_law(1000, 10, 0)
    assert (law.variance, law.skewness, law.correlation) == pytest.approx((10, 10**-0.5, 0), rel=1e-10, abs=1e-12)
    assert law.orphans == pytest.approx(np.exp(-10), rel=1e-10)
    counts = np.sort(stats.poisson(10).ppf((np.arange(200_000) + 0.5) / 200_000))
    assert law.top_share == pytest.approx(counts[-40_000:].sum() / counts.sum(), rel=1e-4)


def test_top_share_is_that_of_a_large_sample():
    rng = np.random.default_rng(0)
    counts = np.sort(rng.poisson(hub_rate(rng.standard_normal(400_000), 1000, 10, 2)))
    assert hub_law(1000, 10, 2).top_share == pytest.approx(counts[-80_000:].sum() / counts.sum(), abs=0.002)


def test_rate_keeps_tiny_values_and_falls_with_length():
    rate = hub_rate(np.linspace(-30, 30, 61), 1000, 10, 2)
    assert (np.diff(rate) < 0)[1:].sum() > 40
    assert 0 < rate[-1] < 1e-80


def test_measured_votes_follow_the_rate():
    """In 2000 dimensions, ten clouds: votes of the points with g in (-2, -1), against the mean rate there."""
    got, expected = [], []
    for seed in range(3):
        X = cloud(600, 2000, seed)
        g = ((X**2).sum(1) - 2000) / np.sqrt(2 * 2000)
        chosen = (g > -2) & (g < -1)
        got.append(hub_counts(X, 10)[chosen].mean())
        expected.append(hub_rate(g[chosen], 600, 10, 2).mean())
    assert np.mean(got) == pytest.approx(np.mean(expected), rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.nan, 10, 2, 2), "g must be numbers"),
        ((0, 10, 9, 2), "k must be in 0 < k < N - 1"),
        ((0, 10, 2, -1), "v must be a finite number >= 0, got -1"),
    ],
)
def test_bad_law_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        hub_rate(*arguments)
