"""Facts about random directions. `angle` is in radians, `mp` values have 30 digits."""

import subprocess
import sys

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial.legendre import leggauss
from scipy import special, stats
from scipy.integrate import quad

from kexue_utils.directions import (
    angle_cdf,
    angle_pdf,
    angle_variance,
    coherence,
    cosine_pdf,
    cosine_tail,
    effective_dimension,
    max_cosine_quantile,
    random_directions,
    welch_bound,
)

RIGHT_ANGLE = np.pi / 2
dimensions = st.one_of(st.integers(2, 1_000_000).map(float), st.floats(1.01, 1e6))


def relative(expected, tolerance):
    """Within a relative tolerance only: pytest.approx alone also lets 1e-12 pass for 1e-64."""
    return pytest.approx(expected, rel=tolerance, abs=0)


def integrate(f, low, high, pieces=60):
    """Gauss-Legendre with 20 nodes on each of `pieces` intervals: plenty for a needle that fills the range."""
    nodes, weights = leggauss(20)
    edges = np.linspace(low, high, pieces + 1)
    half = np.diff(edges)[:, None] / 2
    x = (edges[:-1, None] + half) + half * nodes
    return (f(x) * weights * half).sum()


def angle_moment(f, n):
    """E f(theta - pi/2), over +-12/sqrt(n) only: a rule on [0, pi] misses the needle (see the last test here)."""
    reach = min(RIGHT_ANGLE, 12 / np.sqrt(n))
    return integrate(lambda u: f(u) * angle_pdf(RIGHT_ANGLE + u, n), -reach, reach)


def mp_tail(t, n):
    t, n = mp.mpf(t), mp.mpf(n)
    return mp.betainc((n - 1) / 2, mp.mpf(1) / 2, 0, 1 - t * t, regularized=True)


# The variance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "variance"),
    [
        (2, 0.8224670334241132),
        (3, 0.4674011002723397),
        (4, 0.3224670334241132),
        (10, 0.1106614778685577),
        (20, 0.05258316784084287),
        (50, 0.02040533162861279),
        (100, 0.01010066661334856),
        (200, 0.005025083331666786),
        (1000, 0.001001000666666133),
    ],
)
def test_variance_has_its_reference_value_and_is_that_of_the_density(n, variance):
    assert angle_variance(n) == relative(variance, 5e-16)
    assert angle_moment(np.square, n) == relative(variance, 1e-12)


def test_variance_of_the_plane_and_of_space_in_closed_form():
    assert angle_variance([2, 3]) == relative([np.pi**2 / 12, np.pi**2 / 4 - 2], 1e-15)


@pytest.mark.parametrize("n", [1.001, 1.5, 2.5, 77.7, 1e6])
def test_variance_is_half_the_trigamma_function_for_real_n(n):
    assert angle_variance(n) == relative(special.polygamma(1, n / 2) / 2, 1e-15)
    assert angle_variance(n) == relative(float(mp.psi(1, mp.mpf(n) / 2) / 2), 1e-15)


@given(st.floats(2.01, 1e4))
def test_variance_drops_by_two_over_n_squared_every_second_dimension(n):
    assert angle_variance(n) - angle_variance(n + 2) == relative(2 / n**2, 1e-9)


@given(st.floats(1.01, 3000))  # beyond, the gap to the bounds is less than float64 resolves
def test_variance_lies_between_its_bounds(n):
    upper = 1 / (n - 1)
    assert upper - upper**3 / 3 < angle_variance(n) < upper


def test_one_over_n_minus_one_is_closer_than_the_articles_one_over_n_minus_two():
    exact = angle_variance(10)
    assert (1 / 8) / exact - 1 == pytest.approx(0.13, abs=0.005)
    assert (1 / 9) / exact - 1 == pytest.approx(0.004, abs=0.0005)


@pytest.mark.parametrize(("n", "kappa4"), [(3, -0.176136379250305), (10, -0.00267847852409438)])
def test_fourth_cumulant_has_its_reference_value(n, kappa4):
    got = angle_moment(lambda u: u**4, n) - 3 * angle_variance(n) ** 2
    assert got == relative(kappa4, 1e-10)
    assert got == relative(-special.polygamma(3, n / 2) / 8, 1e-10)


@pytest.mark.parametrize(
    ("n", "t", "value"),
    [(3, 2, 1 / 3), (10, 1, 0.9460660635347349), (50, 0.7, 0.9950130003908679)],
)
def test_characteristic_function_has_its_reference_value(n, t, value):
    assert angle_moment(lambda u: np.cos(t * u), n) == relative(value, 1e-13)


# Densities and distribution functions ------------------------------------------------------------------------------


@given(dimensions)
def test_density_integrates_to_one(n):
    if n < 2:  # a pole at both ends; the cosine's distribution function covers these n
        return
    assert angle_moment(np.ones_like, n) == pytest.approx(1, abs=1e-4 if n < 3 else 1e-10)


@pytest.mark.parametrize("n", [2, 3, 4.5, 127.9, 128, 129, 343, 344, 5000, 19_999, 1e6, 1e9])
def test_density_at_the_right_angle_needs_no_gamma_function_that_overflows(n):
    with mp.workdps(40):
        height = mp.exp(mp.loggamma(mp.mpf(n) / 2) - mp.loggamma((mp.mpf(n) - 1) / 2)) / mp.sqrt(mp.pi)
    assert angle_pdf(RIGHT_ANGLE, n) == relative(float(height), 2e-15)
    assert cosine_pdf(0, n) == relative(float(height), 2e-15)


@pytest.mark.parametrize("n", [1.5, 2, 3, 10, 1000, 1e6])
@pytest.mark.parametrize("z", [0.01, 0.5, 3, 8])
def test_densities_agree_with_30_digits(n, z):
    with mp.workdps(40):
        scale = mp.exp(mp.loggamma(mp.mpf(n) / 2) - mp.loggamma((mp.mpf(n) - 1) / 2)) / mp.sqrt(mp.pi)
        theta = RIGHT_ANGLE + z / np.sqrt(n) / 6
        of_angle = scale * mp.sin(mp.mpf(theta)) ** (mp.mpf(n) - 2)
        eta = np.tanh(z / np.sqrt(n))
        of_cosine = scale * (1 - mp.mpf(eta) ** 2) ** ((mp.mpf(n) - 3) / 2)
    assert angle_pdf(theta, n) == relative(float(of_angle), 1e-13)
    assert cosine_pdf(eta, n) == relative(float(of_cosine), 1e-13)


@given(st.floats(-1, 1), st.floats(1.01, 1e5))
def test_cosine_density_is_scipys_beta_density(eta, n):
    a = (n - 1) / 2
    # SciPy takes (1 + eta)/2, which loses eta at the left end
    if abs(eta) < 0.999:
        peer = stats.beta.pdf((1 + eta) / 2, a, a) / 2
        assert cosine_pdf(eta, n) == pytest.approx(peer, rel=1e-9, abs=1e-300)


@given(st.floats(-0.999, 0.999), st.floats(1.01, 1e5))
def test_change_of_variable_joins_the_two_densities(eta, n):
    expected = cosine_pdf(eta, n) * np.sqrt(1 - eta**2)
    assert angle_pdf(np.arccos(eta), n) == pytest.approx(expected, rel=1e-9, abs=1e-290)


@given(st.floats(0, RIGHT_ANGLE), dimensions.filter(lambda n: n >= 2))
def test_angle_is_symmetric_about_the_right_angle(u, n):
    low, high = RIGHT_ANGLE - u, np.pi - (RIGHT_ANGLE - u)
    # pi - theta is itself rounded, by 4e-16: its effect on a density is that times the slope of the logarithm
    slack = 1e-15 * n * abs(np.tan(u)) if u < 1.5 else 1.0
    if slack < 1e-3:
        assert angle_pdf(low, n) == pytest.approx(angle_pdf(high, n), rel=1e-12 + 2 * slack, abs=1e-300)
    assert angle_cdf(low, n) + angle_cdf(high, n) == pytest.approx(1, abs=1e-12)


@given(st.lists(st.floats(0, np.pi), min_size=2, max_size=20), dimensions)
def test_distribution_function_is_monotone_from_zero_to_one(thetas, n):
    values = angle_cdf([0, *sorted(thetas), np.pi], n)
    assert values[0] == 0
    assert values[-1] == 1
    assert (np.diff(values) >= -1e-15).all()


@given(st.floats(-6, 6), st.floats(-6, 6), st.one_of(st.floats(3, 1e6), st.integers(2, 10).map(float)))
def test_distribution_function_is_the_integral_of_the_density(x, y, n):
    low, high = np.clip(RIGHT_ANGLE + np.sort([x, y]) / np.sqrt(n), 0, np.pi)
    area = integrate(lambda theta: angle_pdf(theta, n), low, high)
    assert angle_cdf(high, n) - angle_cdf(low, n) == pytest.approx(area, abs=2e-9)


def test_distribution_function_has_its_reference_values():
    assert angle_cdf(np.radians(75), 10) == relative(0.2210992158640498, 1e-15)
    assert angle_cdf(np.radians(30), 3) == relative(0.06698729810778068, 2e-15)


@given(st.floats(0, 1), dimensions)
def test_tail_is_the_complement_of_the_middle(t, n):
    middle = angle_cdf(np.arccos(-t), n) - angle_cdf(np.arccos(t), n)
    assert cosine_tail(t, n) + middle == pytest.approx(1, abs=1e-9)


@given(st.floats(0, 0.999), st.floats(1.01, 1e5))
def test_tail_is_scipys_beta_tail(t, n):
    expected = stats.beta.sf(t**2, 0.5, (n - 1) / 2)
    assert cosine_tail(t, n) == pytest.approx(expected, rel=1e-9, abs=1e-290)


def test_tail_keeps_its_digits_where_it_is_tiny():
    assert cosine_tail(0.5, 1000) == relative(1.971912779542819546e-64, 1e-12)
    for t, n in [(0.02, 1000), (0.3, 1000), (1 - 1e-12, 10), (0.9, 2.5), (1e-9, 3), (1 - 2.0**-53, 2)]:
        with mp.workdps(40):
            expected = float(mp_tail(t, n))
        assert cosine_tail(t, n) == relative(expected, 1e-12)


def test_left_tail_of_the_angle_keeps_its_digits():
    with mp.workdps(40):
        expected = float(mp_tail(mp.cos(mp.mpf(0.01)), 10) / 2)
    assert 0 < expected < 1e-18
    assert angle_cdf(0.01, 10) == relative(expected, 1e-12)


@given(st.floats(0, 1), dimensions)
def test_tail_is_below_its_exponential_bound(t, n):
    power = np.exp((n - 1) / 2 * np.log1p(-t * t)) if t < 1 else 0
    assert cosine_tail(t, n) <= power * (1 + 1e-9)
    assert power <= np.exp(-(n - 1) * t * t / 2) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("degrees", "n", "probability"),
    [
        (10, 3, 0.17364817766693),
        (10, 10, 0.390384905946823),
        (10, 100, 0.917549225831055),
        (5, 100, 0.613867548381907),
        (5, 1000, 0.994207306819163),
    ],
)
def test_probability_to_be_near_a_right_angle_has_its_reference_value(degrees, n, probability):
    assert 1 - cosine_tail(np.sin(np.radians(degrees)), n) == relative(probability, 1e-14)


def test_506_is_the_first_dimension_with_95_percent_within_five_degrees():
    n = np.arange(2, 2000)
    enough = 1 - cosine_tail(np.sin(np.radians(5)), n) >= 0.95
    assert n[enough.argmax()] == 506
    assert enough[504:].all()


@pytest.mark.parametrize(("n", "mean"), [(3, 0.5), (10, 0.258689939247779), (100, 0.0799881734348841)])
def test_mean_absolute_cosine_is_the_area_under_the_tail(n, mean):
    assert integrate(lambda t: cosine_tail(t, n), 0, 1) == relative(mean, 1e-12)


def test_plane_has_uniform_angle_and_space_uniform_cosine():
    assert angle_pdf(np.linspace(0, np.pi, 7), 2) == relative(1 / np.pi, 1e-15)
    assert cosine_pdf(np.linspace(-1, 1, 7), 3) == relative(0.5, 1e-15)


def test_densities_at_and_beyond_the_ends_of_their_range():
    assert list(angle_pdf([-0.1, 0, 3.2], 3)) == [0, 0, 0]
    assert list(cosine_pdf([-1.1, -1, 1, 1.1], 5)) == [0, 0, 0, 0]
    assert list(cosine_pdf([-1.1, -1, 1, 1.1], 2)) == [0, np.inf, np.inf, 0]
    assert angle_pdf(0, 1.5) == np.inf
    assert list(angle_cdf([-1, 4], 5)) == [0, 1]
    assert list(cosine_tail([-0.5, 0, 1, 1.5, np.inf], 4)) == [1, 1, 0, 0, 0]


def test_a_million_dimensions_are_a_gaussian_of_variance_one_over_n():
    n, u = 10**6, np.linspace(-5, 5, 41) / 1000
    gaussian = stats.norm.pdf(u, scale=1 / np.sqrt(n - 1))
    assert angle_pdf(RIGHT_ANGLE + u, n) == relative(gaussian, 1e-4)
    assert angle_cdf(RIGHT_ANGLE + u, n) == pytest.approx(stats.norm.cdf(u, scale=1 / np.sqrt(n)), abs=1e-5)
    assert cosine_tail(0.01, n) == relative(2 * stats.norm.sf(10), 0.01)


def test_functions_broadcast_and_scalars_stay_scalars():
    theta, n = np.linspace(0.1, 3, 5)[:, None], np.array([2, 3, 50])
    assert angle_pdf(theta, n).shape == angle_cdf(theta, n).shape == (5, 3)
    assert angle_pdf(theta, n)[1, 2] == angle_pdf(theta[1, 0], 50)
    assert cosine_tail(np.zeros((0,)), 3).shape == (0,)
    assert max_cosine_quantile(n, 10, np.full((4, 1), 0.5)).shape == (4, 3)
    for value in (angle_pdf(1, 3), angle_cdf(1, 3), angle_variance(3), cosine_tail(0, 3), welch_bound(3, 2)):
        assert isinstance(value, np.float64)
    assert isinstance(max_cosine_quantile(5, 10, 0.5), np.float64)


# The worst of many pairs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "low", "median", "high"),
    [(100, 0.433, 0.4589, 0.500), (1000, 0.1425, 0.1519, 0.1672)],
)
def test_largest_cosine_of_1000_vectors_has_the_reference_band(n, low, median, high):
    got = max_cosine_quantile(n, 1000, [0.05, 0.5, 0.95])
    band_digits = 3 if n == 100 else 4
    assert got[[0, 2]].round(band_digits) == pytest.approx([low, high])
    assert got[1].round(4) == pytest.approx(median)


def test_largest_cosine_in_ten_dimensions_has_the_reference_median():
    assert max_cosine_quantile(10, 1000, 0.5).round(4) == pytest.approx(0.9659)


@given(dimensions, st.integers(2, 10**6), st.floats(1e-6, 1 - 1e-6))
def test_largest_cosine_quantile_solves_its_equation(n, N, q):
    x = max_cosine_quantile(n, N, q)
    assert 0 <= x <= 1
    if x < 1 - 1e-9:  # nearer to 1 the float64 next to x already has another probability
        level = np.exp(N * (N - 1) / 2 * np.log1p(-cosine_tail(x, n)))
        assert level == pytest.approx(q, abs=1e-6)


def test_one_pair_follows_the_tail_exactly():
    assert cosine_tail(max_cosine_quantile(7, 2, 0.3), 7) == relative(0.7, 1e-13)


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95])
def test_largest_cosine_of_sampled_vectors_stays_within_the_chen_stein_error(q):
    N, n, draws = 60, 8, 2000
    X = random_directions(draws * N, n, np.random.default_rng(7076)).reshape(draws, N, n)
    level = np.mean(coherence(X) <= max_cosine_quantile(n, N, q))
    chen_stein = 8 * (1 - q) * np.log(1 / q) / N
    assert abs(level - q) < chen_stein + 4 * np.sqrt(q * (1 - q) / draws)


def test_poisson_and_independent_pairs_agree_to_one_over_the_number_of_pairs():
    pairs = 1000 * 999 / 2
    x = max_cosine_quantile(100, 1000, 0.5)
    assert pairs * cosine_tail(x, 100) == relative(np.log(2), 1 / pairs)


# Vectors -----------------------------------------------------------------------------------------------------------


def generators():
    return [np.random.default_rng(1), torch.Generator().manual_seed(1)]


@pytest.mark.parametrize("generator", generators(), ids=["numpy", "torch"])
def test_random_directions_have_length_one_and_angles_from_the_distribution(generator):
    X = np.asarray(random_directions(20_000, 7, generator, dtype="float64"))
    assert (X**2).sum(1) == pytest.approx(1, abs=1e-14)
    cosines = (X[::2] * X[1::2]).sum(1)
    theta = np.arccos(cosines)
    assert stats.kstest(theta, lambda t: angle_cdf(t, 7)).pvalue > 1e-3
    assert stats.ks_2samp(X[:, 3], stats.uniform_direction(7, seed=2).rvs(20_000)[:, 0]).pvalue > 1e-3


def test_generator_decides_library_dtype_and_values():
    assert random_directions(3, 4, np.random.default_rng(0)).dtype == np.float64
    assert random_directions(3, 4, np.random.default_rng(0), dtype="float32").dtype == np.float32
    X = random_directions(3, 4, torch.Generator().manual_seed(5))
    assert (X.dtype, X.shape) == (torch.float32, (3, 4))
    assert random_directions(3, 4, torch.Generator(), dtype="float64").dtype == torch.float64
    assert torch.equal(X, random_directions(3, 4, torch.Generator().manual_seed(5)))


def test_one_dimension_has_two_directions():
    X = random_directions(100, 1, np.random.default_rng(0))
    assert set(X.ravel()) == {-1.0, 1.0}


def test_a_draw_of_zeros_is_a_direction_and_not_nan():
    class Zeros(np.random.Generator):
        def standard_normal(self, size, dtype):
            return np.zeros(size, dtype)

    assert random_directions(2, 3, Zeros(np.random.PCG64(0))).tolist() == [[1, 0, 0], [1, 0, 0]]


@pytest.mark.gpu
def test_random_directions_stay_on_the_generators_gpu():
    X = random_directions(10_000, 50, torch.Generator("cuda").manual_seed(0), dtype="float64")
    assert X.is_cuda
    assert coherence(X).is_cuda
    assert effective_dimension(X).item() == relative(50, 0.01)
    assert coherence(X).item() == relative(coherence(X.cpu().numpy()), 1e-12)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (3, 2, 9, 5), (2, 1)])
def test_coherence_and_effective_dimension_by_their_definitions(shape):
    X = np.random.default_rng(3).normal(size=shape) * 5
    U = X / np.linalg.norm(X, axis=-1, keepdims=True)
    pairs = np.triu_indices(shape[-2], 1)
    cosines = (U @ U.swapaxes(-1, -2))[..., pairs[0], pairs[1]]
    assert coherence(X) == relative(np.abs(cosines).max(-1), 1e-14)
    assert effective_dimension(X) == relative(1 / (cosines**2).mean(-1), 1e-12)


def test_blocks_of_the_gram_matrix_cover_all_pairs(monkeypatch):
    X = np.random.default_rng(4).normal(size=(23, 5))
    whole = coherence(X)
    for rows in (1, 2, 5, 22):
        monkeypatch.setattr("kexue_utils.directions._GRAM_ROWS", rows)
        assert coherence(X) == relative(whole, 1e-15)
        assert coherence(torch.from_numpy(X)).item() == relative(whole, 1e-15)


@pytest.mark.parametrize("function", [coherence, effective_dimension])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (2, 5, 3)])
def test_torch_agrees_with_numpy_and_differentiates(function, shape):
    X = np.random.default_rng(5).normal(size=shape)
    tensor = torch.from_numpy(X).requires_grad_()
    assert function(tensor).detach().numpy() == relative(function(X), 1e-13)
    assert function(tensor.detach().float()).dtype == torch.float32
    assert function(X.astype(np.float32)).dtype == np.float32
    assert torch.autograd.gradcheck(function, tensor)


@pytest.mark.parametrize("function", [coherence, effective_dimension])
def test_input_is_left_as_it_was(function):
    X = np.random.default_rng(5).normal(size=(6, 4))
    copy, tensor = X.copy(), torch.from_numpy(X.copy())
    function(X)
    function(tensor)
    assert (copy == X).all()
    assert (copy == tensor.numpy()).all()


@given(st.integers(-300, 300), st.integers(0, 2**32 - 1))
def test_only_directions_count(exponent, seed):
    X = np.random.default_rng(seed).normal(size=(5, 3))
    scaled = X * np.array([10.0**exponent, 1, -1, 2, 1])[:, None]
    assert coherence(scaled) == relative(coherence(X), 1e-12)
    assert effective_dimension(scaled) == relative(effective_dimension(X), 1e-12)


def test_effective_dimension_of_known_arrangements():
    assert effective_dimension([[1, 1], [2, 2], [-3, -3]]) == relative(1, 1e-15)
    assert effective_dimension(np.eye(4)) == np.inf
    assert effective_dimension(torch.eye(4)).item() == np.inf
    simplex = np.eye(5) - 1 / 5  # five vectors in R^4, cosines -1/4
    assert effective_dimension(simplex) == relative(16, 1e-12)


def test_effective_dimension_estimates_the_second_moment_without_bias():
    # Directions +-e_i with probabilities p: E cos^2 = sum p^2 exactly.
    p = np.array([0.5, 0.25, 0.125, 0.125])
    rng = np.random.default_rng(6)
    inverse = [1 / effective_dimension(np.eye(4)[rng.choice(4, size=20, p=p)]) for _ in range(3000)]
    error = np.std(inverse) / np.sqrt(len(inverse))
    assert abs(np.mean(inverse) - (p**2).sum()) < 4 * error
    assert error < 0.01 * (p**2).sum()  # counting rows with themselves would add (1 - sum p^2)/20 = 0.033


def test_images_of_digits_have_few_effective_dimensions():
    digits = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed").load_digits().data
    centred = digits - digits.mean(0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    whitened = left[:, singular > 1e-8]
    assert whitened.shape[1] == 61
    assert effective_dimension(digits).round(2) == 2.07
    assert effective_dimension(centred).round(1) == 13.4
    assert effective_dimension(whitened).round(1) == 53.0


# Welch's bound -----------------------------------------------------------------------------------------------------


def icosahedron_axes():
    golden = (1 + np.sqrt(5)) / 2
    return np.array([[0, 1, golden], [0, 1, -golden], [1, golden, 0], [1, -golden, 0], [golden, 0, 1], [-golden, 0, 1]])


def twenty_eight_lines():
    """All permutations of (3, 3, -1, -1, -1, -1, -1, -1): they lie in the hyperplane of R^8 with zero sum."""
    return np.array([[3 if k in (i, j) else -1 for k in range(8)] for i in range(8) for j in range(i)])


@pytest.mark.parametrize(
    ("X", "n", "value"),
    [
        (icosahedron_axes(), 3, 0.447214),
        (np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]), 3, 0.333333),
        (twenty_eight_lines(), 7, 0.333333),
    ],
    ids=["icosahedron", "cube", "28 lines in R^7"],
)
def test_equiangular_lines_attain_welchs_bound(X, n, value):
    bound = welch_bound(len(X), n)
    assert bound == pytest.approx(value, abs=5e-7)
    assert coherence(X) == relative(bound, 1e-14)
    assert effective_dimension(X) == relative(1 / bound**2, 1e-12)


def test_welch_bound_has_its_reference_values():
    assert welch_bound([10, 16, 32], [5, 8, 16]).round(3) == pytest.approx([0.333, 0.258, 0.180])


@given(st.integers(2, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_no_vectors_have_less_coherence_than_welchs_bound(N, n, seed):
    X = random_directions(N, n, np.random.default_rng(seed))
    assert coherence(X) >= welch_bound(N, n) * (1 - 1e-12)


def test_welch_bound_is_zero_where_orthogonal_vectors_exist_and_one_on_a_line():
    assert list(welch_bound([1, 2, 3, 4], [1, 2, 3, 100])) == [0, 0, 0, 0]
    assert welch_bound(5, 1) == 1


def test_welch_bound_of_tensors_is_a_tensor():
    bound = welch_bound(torch.tensor([6, 28]), torch.tensor([3, 7]))
    assert bound.dtype == torch.get_default_dtype()
    assert bound.numpy() == relative([0.4472136, 1 / 3], 1e-6)
    assert isinstance(welch_bound(6, torch.tensor(3)), torch.Tensor)


# Refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 0, -3, np.nan, np.inf, [3, 1]])
@pytest.mark.parametrize(
    "call",
    [
        lambda n: angle_pdf(1, n),
        lambda n: angle_cdf(1, n),
        lambda n: angle_variance(n),
        lambda n: cosine_pdf(0, n),
        lambda n: cosine_tail(0, n),
        lambda n: max_cosine_quantile(n, 10, 0.5),
    ],
)
def test_dimension_must_exceed_one(call, n):
    with pytest.raises(ValueError, match="n must be"):
        call(n)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: angle_pdf(np.nan, 3), "theta must be numbers, not NaN"),
        (lambda: cosine_tail([0, np.nan], 3), "t must be numbers, not NaN"),
        (lambda: angle_cdf([1, 2], [2, 3, 4]), r"shapes must broadcast, got theta \(2,\), n \(3,\)"),
        (lambda: max_cosine_quantile(5, 10, 0), "q must be 0 < q < 1, got 0"),
        (lambda: max_cosine_quantile(5, 10, 1), "q must be 0 < q < 1, got 1"),
        (lambda: max_cosine_quantile(5, 1, 0.5), "N must be a whole number >= 2, got 1"),
        (lambda: max_cosine_quantile(5, 2.5, 0.5), "N must be a whole number >= 2, got 2.5"),
        (lambda: welch_bound(0, 3), "N must be a whole number >= 1"),
        (lambda: welch_bound(4, 2.5), "n must be a whole number >= 1, got 2.5"),
        (lambda: welch_bound(np.nan, 3), "N must be numbers, not NaN"),
        (lambda: welch_bound(4, np.inf), "n must be a whole number"),
        (lambda: coherence([1, 2, 3]), r"X must have shape .* got \(3,\)"),
        (lambda: coherence([[1, 2, 3]]), r"N >= 2 rows, got \(1, 3\)"),
        (lambda: effective_dimension(np.zeros((3, 0))), r"got \(3, 0\)"),
        (lambda: coherence([[1, 0], [0, 0]]), "zero row"),
        (lambda: effective_dimension(torch.tensor([[1.0, 0], [0, 0]])), "zero row"),
        (lambda: coherence([[1, np.nan], [0, 1]]), "X must be finite"),
        (lambda: coherence(torch.tensor([[1.0, np.inf], [0, 1]])), "X must be finite"),
        (lambda: random_directions(0, 3, np.random.default_rng(0)), "N must be at least 1, got 0"),
        (lambda: random_directions(3, 0, np.random.default_rng(0)), "n must be at least 1, got 0"),
        (lambda: random_directions(3, 3, np.random.default_rng(0), dtype="float16"), "dtype must be"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: angle_pdf(1j, 3), "theta must be real numbers, got dtype complex128"),
        (lambda: angle_variance("three"), "n must be real numbers"),
        (lambda: angle_variance(True), "n must be real numbers, got dtype bool"),
        (lambda: cosine_pdf(torch.tensor(0.5), 3), r"eta must be .* pass eta.numpy\(\)"),
        (lambda: coherence(np.ones((2, 2), complex)), "X must be real numbers"),
        (lambda: coherence(torch.ones(2, 2, dtype=torch.complex64)), "X must be real numbers"),
        (lambda: random_directions(3.0, 3, np.random.default_rng(0)), "N must be an integer, got 3.0"),
        (lambda: random_directions(3, True, np.random.default_rng(0)), "n must be an integer, got True"),
        (lambda: random_directions(3, 3, 0), "generator must be a numpy.random.Generator .* got int"),
        (lambda: random_directions(3, 3, None), "got NoneType"),
    ],
)
def test_bad_types_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()


# Traps -------------------------------------------------------------------------------------------------------------


def test_float32_cosines_of_parallel_vectors_never_exceed_one():
    rng = np.random.default_rng(8)
    for _ in range(50):
        x = rng.normal(size=100).astype(np.float32)
        X = np.stack([x, 3 * x])
        assert coherence(X) <= 1
        assert coherence(torch.from_numpy(X)) <= 1


def test_integers_are_not_divided_as_integers():
    X = np.array([[3, 4], [4, 3]])
    assert coherence(X) == relative(24 / 25, 1e-15)
    assert coherence(torch.from_numpy(X)).item() == relative(24 / 25, 1e-6)


def test_blind_quadrature_misses_the_needle():
    """Why every integral above stops at 12/sqrt(n)."""
    m = 99_998
    blind, claimed_error = quad(lambda theta: np.sin(theta) ** m, 0, 2.5)
    needle = integrate(lambda u: np.exp(m / 2 * np.log1p(-(np.sin(u) ** 2))), -12 / np.sqrt(m), 12 / np.sqrt(m))
    assert blind < 1e-20
    assert claimed_error < 1e-20
    assert needle == relative(7.9e-3, 0.01)
    assert needle == relative(1 / angle_pdf(RIGHT_ANGLE, m + 2), 1e-12)


def test_torch_is_not_imported():
    code = "import sys, kexue_utils.directions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
