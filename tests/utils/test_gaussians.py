"""Facts about distances of Gaussians. mpmath values have 50 digits; `ot` is POT, which not everybody has installed."""

import subprocess
import sys
import warnings

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from scipy.integrate import quad

from kexue_utils.gaussians import (
    bhattacharyya_distance,
    fid_bias,
    hellinger_squared,
    kl_divergence,
    sqrtm_psd,
    transport_map,
    wasserstein2_distance,
    wasserstein2_squared,
)

DENSITY_DISTANCES = [kl_divergence, bhattacharyya_distance, hellinger_squared]
ALL_DISTANCES = [*DENSITY_DISTANCES, wasserstein2_squared, wasserstein2_distance]
every_distance = pytest.mark.parametrize("distance", ALL_DISTANCES, ids=lambda f: f.__name__)
seeds = st.integers(0, 2**32 - 1)

HILBERT = linalg.hilbert(5) + 0.1 * np.eye(5)
DECAY = 0.5 ** abs(np.subtract.outer(np.arange(5), np.arange(5)))
CASES = {
    "A": ([1, 0], [[2, 0.5], [0.5, 1]], [0, 2], [[1, -0.3], [-0.3, 3]]),
    "B": ([0, 0], [[1, 0.9], [0.9, 1]], [0, 0], [[1, -0.9], [-0.9, 1]]),
    "C": ([0.5, -0.5], [[0.7, 0.2], [0.2, 0.4]], [0, 0], np.eye(2)),
    "D": ([1, 2], [[4, 1], [1, 0.5]], [-1, 0.5], [[0.3, 0.1], [0.1, 2]]),
    "E": ([0, 0.1, 0.2, 0.3, 0.4], HILBERT, np.zeros(5), DECAY),
}
# KL(p || q), KL(q || p), Bhattacharyya, W2 squared
REFERENCE = {
    "A": (1.505127753153199, 3.974302781947440, 0.491865044983464, 5.929311854967774),
    "B": (8.526315789473687, 8.526315789473687, 0.830365603410826, 2.256440422583731),
    "C": (0.513558177820073, 1.359358488846594, 0.182190279017802, 0.715700502989836),
    "D": (12.31669210353509, 5.738816371041186, 0.909144016034561, 9.082013533504067),
    "E": (1.738512653503538, 6.05549024553283, 0.644543224438237, 1.364156111667522),
}


def relative(expected, tolerance):
    """Within a relative tolerance only: pytest.approx alone also lets 1e-12 pass for 1e-64."""
    return pytest.approx(expected, rel=tolerance, abs=0)


def to_torch(case, dtype=torch.float64):
    return [torch.tensor(np.asarray(x), dtype=dtype) for x in case]


def covariance(rng, n, *batch, condition=10.0):
    """Random covariances with eigenvalues between 1/condition and 1."""
    Q = np.linalg.qr(rng.normal(size=(*batch, n, n)))[0]
    eigenvalues = condition ** -rng.uniform(size=(*batch, n, 1))
    sigma = Q @ (eigenvalues * Q.swapaxes(-1, -2))
    return (sigma + sigma.swapaxes(-1, -2)) / 2


def pair(seed, n=3, *batch, condition=10.0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(*batch, n)),
        covariance(rng, n, *batch, condition=condition),
        rng.normal(size=(*batch, n)),
        covariance(rng, n, *batch, condition=condition),
    )


def swapped(case):
    return case[2], case[3], case[0], case[1]


def mp_wasserstein2_squared(sigma_p, sigma_q):
    """By the definition of the article, from eigenvalues to 50 digits."""
    with mp.workdps(50):
        P, Q = mp.matrix(sigma_p.tolist()), mp.matrix(sigma_q.tolist())
        eigenvalues, U = mp.eigsy(P)
        root = U * mp.diag([mp.sqrt(mp.mpf(max(v, 0))) for v in eigenvalues]) * U.T
        squares = mp.eigsy(root * Q * root, eigvals_only=True)
        return float(sum(P[i, i] + Q[i, i] for i in range(P.rows)) - 2 * sum(mp.sqrt(max(v, 0)) for v in squares))


# Values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [list, to_torch], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", CASES)
def test_reference_values(name, library):
    case = library(CASES[name])
    got = (
        kl_divergence(*case),
        kl_divergence(*swapped(case)),
        bhattacharyya_distance(*case),
        wasserstein2_squared(*case),
    )
    assert [float(x) for x in got] == relative(list(REFERENCE[name]), 2e-15)


def test_unrotated_roots_are_further_apart():
    mu_p, sigma_p, _, sigma_q = CASES["E"]
    unrotated = np.sum(np.square(mu_p)) + np.sum((sqrtm_psd(sigma_p) - sqrtm_psd(sigma_q)) ** 2)
    assert unrotated == relative(1.381462490877435, 1e-14)
    assert unrotated > REFERENCE["E"][3]


def test_kl_of_standard_deviations_one_and_two():
    assert kl_divergence([0], [[1]], [0], [[4]]).round(4) == 0.3181
    assert kl_divergence([0], [[4]], [0], [[1]]).round(4) == 0.8069


def test_one_dimension_by_quadrature():
    p, q = ([0.3], [[0.8]]), ([-1.0], [[2.5]])

    def log_density(x, mu, sigma):
        return -((x - mu[0]) ** 2) / (2 * sigma[0][0]) - np.log(2 * np.pi * sigma[0][0]) / 2

    def integral(f):
        return quad(f, -30, 30, epsabs=1e-14, epsrel=1e-13, points=[-1, 0.3])[0]

    kl = integral(lambda x: np.exp(log_density(x, *p)) * (log_density(x, *p) - log_density(x, *q)))
    overlap = integral(lambda x: np.exp((log_density(x, *p) + log_density(x, *q)) / 2))
    assert kl_divergence(*p, *q) == relative(kl, 1e-12)
    assert bhattacharyya_distance(*p, *q) == relative(-np.log(overlap), 1e-12)
    assert hellinger_squared(*p, *q) == relative(1 - overlap, 1e-12)
    assert wasserstein2_squared(*p, *q) == relative(1.3**2 + (np.sqrt(0.8) - np.sqrt(2.5)) ** 2, 1e-14)


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_kl_agrees_with_torch_distributions(n):
    case = to_torch(pair(n, n, 7))
    p, q = (torch.distributions.MultivariateNormal(mu, covariance_matrix=sigma) for mu, sigma in (case[:2], case[2:]))
    expected = torch.distributions.kl_divergence(p, q)
    assert kl_divergence(*case).numpy() == relative(expected.numpy(), 1e-11)


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_wasserstein_agrees_with_scipys_root_of_the_product(n):
    mu_p, sigma_p, mu_q, sigma_q = pair(n, n, 5)
    for i in range(5):
        root = linalg.sqrtm(sigma_p[i] @ sigma_q[i])
        expected = ((mu_p[i] - mu_q[i]) ** 2).sum() + np.trace(sigma_p[i] + sigma_q[i] - 2 * root.real)
        assert wasserstein2_squared(mu_p[i], sigma_p[i], mu_q[i], sigma_q[i]) == relative(expected, 1e-11)


@pytest.fixture
def pot():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("ot", reason="POT is not installed")


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_wasserstein_and_its_map_agree_with_pot(pot, n):
    mu_p, sigma_p, mu_q, sigma_q = pair(10 + n, n, 6)
    expected = pot.gaussian.bures_wasserstein_distance(mu_p, mu_q, sigma_p, sigma_q, paired=True)
    assert wasserstein2_distance(mu_p, sigma_p, mu_q, sigma_q) == relative(expected, 1e-11)
    for i in range(6):
        A, _ = pot.gaussian.bures_wasserstein_mapping(mu_p[i], mu_q[i], sigma_p[i], sigma_q[i])
        assert transport_map(sigma_p[i], sigma_q[i]) == pytest.approx(A, rel=1e-10, abs=1e-10)


def test_wasserstein_of_singular_covariances_agrees_with_pot(pot):
    sigma_p, sigma_q = np.diag([1.0, 2, 0]), np.diag([0.0, 1, 4])
    expected = pot.gaussian.bures_wasserstein_distance(np.zeros(3), np.ones(3), sigma_p, sigma_q)
    assert wasserstein2_distance(np.zeros(3), sigma_p, np.ones(3), sigma_q) == relative(expected, 1e-12)


# Digits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("n", [2, 6])
def test_nearly_equal_covariances_keep_their_digits(step, n):
    rng = np.random.default_rng(n)
    sigma_p, sigma_q = covariance(rng, n), covariance(rng, n)
    sigma_q = sigma_p + step * (sigma_q - sigma_p)
    sigma_q = (sigma_q + sigma_q.T) / 2
    expected = mp_wasserstein2_squared(sigma_p, sigma_q)
    zero = np.zeros(n)
    # The distance is known as well as the factors are, to some 1e-16; what it is relative to is of order `step`.
    assert wasserstein2_distance(zero, sigma_p, zero, sigma_q) == relative(np.sqrt(expected), 1e-11 + 1e-14 / step)
    assert wasserstein2_squared(zero, sigma_p, zero, sigma_q) > 0


@pytest.mark.parametrize("condition", [1e4, 1e8, 1e12])
@pytest.mark.parametrize("n", [2, 5])
def test_nearly_singular_covariances_keep_their_digits(condition, n):
    _, sigma_p, _, sigma_q = pair(n, n, condition=condition)
    sigma_p[-1, -1] += 1e-16  # an eigenvalue of 1e-16 may be rounded to either side of 0
    zero = np.zeros(n)
    # An eigenvalue is known to 1e-16 of the largest, and its root, at worst 1e-6, to 1e-16 / (2 * 1e-6).
    tolerance = 1e-15 * np.sqrt(condition) + 1e-12
    assert wasserstein2_squared(zero, sigma_p, zero, sigma_q) == relative(
        mp_wasserstein2_squared(sigma_p, sigma_q), 10 * tolerance
    )


def test_equal_gaussians_have_distance_zero_to_sixteen_digits():
    mu, sigma, _, _ = pair(0, 6, 50)
    assert wasserstein2_distance(mu, sigma, mu, sigma) == pytest.approx(0, abs=1e-14)
    for distance in DENSITY_DISTANCES:
        assert distance(mu, sigma, mu, sigma) == pytest.approx(0, abs=1e-14)
        assert (distance(mu, sigma, mu, sigma) >= 0).all()


@pytest.mark.parametrize("step", [1e-3, 1e-6])
def test_kl_of_nearly_equal_gaussians_is_half_the_fisher_norm(step):
    _, sigma, _, direction = pair(1, 4)
    K = np.linalg.solve(sigma, direction)
    expected = step**2 / 4 * np.trace(K @ K)
    got = kl_divergence(np.zeros(4), sigma + step * direction, np.zeros(4), sigma)
    assert got == relative(expected, 20 * step + 1e-9)
    assert kl_divergence(np.zeros(4), sigma + step * direction, np.zeros(4), sigma + step * direction) < 1e-28


def test_float32_is_as_good_as_float32_can_be():
    case = pair(3, 8, 20)
    single = [x.astype(np.float32) for x in case]
    for distance in ALL_DISTANCES:
        assert distance(*single).dtype == np.float32
        assert distance(*single) == relative(distance(*case), 1e-4)


# What singular covariances mean -------------------------------------------------------------------------------------


def test_distance_to_a_point_is_the_root_mean_square_distance():
    mu, sigma, nu, _ = pair(4, 5)
    expected = ((mu - nu) ** 2).sum() + np.trace(sigma)
    assert wasserstein2_squared(mu, sigma, nu, np.zeros((5, 5))) == relative(expected, 1e-14)
    assert wasserstein2_squared(nu, np.zeros((5, 5)), mu, sigma) == relative(expected, 1e-14)
    assert wasserstein2_distance(mu, np.zeros((5, 5)), nu, np.zeros((5, 5))) == relative(np.linalg.norm(mu - nu), 1e-14)


@given(seeds)
def test_two_needles_differ_by_the_angle_between_them(seed):
    u, v = np.random.default_rng(seed).normal(size=(2, 3))
    expected = u @ u + v @ v - 2 * abs(u @ v)
    got = wasserstein2_squared(np.zeros(3), np.outer(u, u), np.zeros(3), np.outer(v, v))
    assert got == pytest.approx(expected, rel=1e-6, abs=1e-7 * (u @ u + v @ v))


@pytest.mark.parametrize("distance", DENSITY_DISTANCES, ids=lambda f: f.__name__)
def test_densities_need_definite_covariances(distance):
    singular = np.diag([1.0, 0])
    with pytest.raises(ValueError, match=r"sigma_p must be positive definite, got a singular matrix"):
        distance([0, 0], singular, [0, 0], np.eye(2))
    with pytest.raises(ValueError, match=r"sigma_q must be positive definite"):
        distance(*to_torch(([0, 0], np.eye(2), [0, 0], singular)))


# Invariance --------------------------------------------------------------------------------------------------------


@given(seeds)
def test_bhattacharyya_and_wasserstein_are_symmetric(seed):
    case = pair(seed)
    for distance in (bhattacharyya_distance, hellinger_squared, wasserstein2_squared, wasserstein2_distance):
        assert distance(*case) == relative(distance(*swapped(case)), 1e-11)


@given(seeds)
def test_kl_and_bhattacharyya_do_not_see_linear_maps(seed):
    case = pair(seed)
    M = np.random.default_rng(seed).normal(size=(3, 3)) + 3 * np.eye(3)
    image = (M @ case[0], M @ case[1] @ M.T, M @ case[2], M @ case[3] @ M.T)
    image = [x if x.ndim == 1 else (x + x.T) / 2 for x in image]
    for distance in (kl_divergence, bhattacharyya_distance):
        assert distance(*image) == relative(distance(*case), 1e-8)


@given(seeds, st.floats(1e-3, 1e3))
def test_wasserstein_scales_like_a_length_and_does_not_see_rotations(seed, scale):
    case = pair(seed)
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    image = [scale * Q @ x if x.ndim == 1 else scale**2 * Q @ x @ Q.T for x in case]
    image = [x if x.ndim == 1 else (x + x.T) / 2 for x in image]
    assert wasserstein2_distance(*image) == relative(scale * wasserstein2_distance(*case), 1e-10)


@given(seeds)
def test_triangle_inequality(seed):
    (mu_p, sigma_p, mu_q, sigma_q), (mu_r, sigma_r, _, _) = pair(seed), pair(seed + 1)
    through = wasserstein2_distance(mu_p, sigma_p, mu_r, sigma_r) + wasserstein2_distance(mu_r, sigma_r, mu_q, sigma_q)
    assert wasserstein2_distance(mu_p, sigma_p, mu_q, sigma_q) <= through * (1 + 1e-12)
    hellinger = [
        np.sqrt(hellinger_squared(*a, *b))
        for a, b in (
            ((mu_p, sigma_p), (mu_q, sigma_q)),
            ((mu_p, sigma_p), (mu_r, sigma_r)),
            ((mu_r, sigma_r), (mu_q, sigma_q)),
        )
    ]
    assert hellinger[0] <= (hellinger[1] + hellinger[2]) * (1 + 1e-12)


@given(seeds)
def test_talagrand_and_jensen(seed):
    mu, sigma, nu, tau = pair(seed)
    zero, eye = np.zeros(3), np.eye(3)
    assert wasserstein2_squared(mu, sigma, zero, eye) <= 2 * kl_divergence(mu, sigma, zero, eye) * (1 + 1e-12)
    assert kl_divergence(mu, sigma, nu, tau) >= 2 * bhattacharyya_distance(mu, sigma, nu, tau) * (1 - 1e-12)


# The map and the root ----------------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 6))
def test_the_map_carries_p_to_q_and_back(seed, n):
    _, sigma_p, _, sigma_q = pair(seed, n)
    there = transport_map(sigma_p, sigma_q)
    assert there - there.T == pytest.approx(0, abs=1e-12)
    assert np.linalg.eigvalsh(there)[0] > 0
    assert there @ sigma_p @ there == pytest.approx(sigma_q, abs=1e-12)
    assert there @ transport_map(sigma_q, sigma_p) == pytest.approx(np.eye(n), abs=1e-10)


@given(seeds)
def test_the_map_costs_what_the_distance_says(seed):
    _, sigma_p, _, sigma_q = pair(seed)
    moved = np.eye(3) - transport_map(sigma_p, sigma_q)
    cost = np.trace(moved @ sigma_p @ moved)
    assert wasserstein2_squared(np.zeros(3), sigma_p, np.zeros(3), sigma_q) == pytest.approx(cost, rel=1e-9, abs=1e-14)


def test_the_map_of_singular_covariances():
    line, plane = np.diag([1.0, 0]), np.diag([4.0, 1])
    assert transport_map(plane, line) == pytest.approx(np.diag([0.5, 0]), abs=1e-12)
    assert transport_map(line, 9 * line) == pytest.approx(np.diag([3.0, 0]), abs=1e-12)
    with pytest.raises(ValueError, match="sigma_p must spread in every direction in which sigma_q does"):
        transport_map(line, plane)


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_the_root_squares_to_the_matrix_and_is_scipys(n):
    sigma = covariance(np.random.default_rng(n), n, 4, condition=1e4)
    root = sqrtm_psd(sigma)
    assert root @ root == pytest.approx(sigma, abs=1e-14)
    assert np.linalg.eigvalsh(root).min() > 0
    for i in range(4):
        assert root[i] == pytest.approx(linalg.sqrtm(sigma[i]), abs=1e-12)


def test_roots_of_singular_matrices():
    assert (sqrtm_psd(np.zeros((3, 3))) == 0).all()
    assert sqrtm_psd([[1, 1], [1, 1]]) == pytest.approx(np.full((2, 2), np.sqrt(0.5)), abs=1e-15)
    assert np.isfinite(sqrtm_psd(np.diag([1.0, -1e-17]))).all()


# Derivatives -------------------------------------------------------------------------------------------------------


def symmetric(X):
    return (X + X.mT) / 2


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@every_distance
def test_distances_are_twice_differentiable(distance, check):
    mu, *rest = to_torch(pair(5, 3, 2))
    inputs = [x.requires_grad_() for x in (mu, *rest)]
    assert check(lambda a, P, b, Q: distance(a, symmetric(P), b, symmetric(Q)), inputs)


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_map_and_root_are_twice_differentiable(check):
    _, P, _, Q = (x.requires_grad_() for x in to_torch(pair(6, 3, 2)))
    assert check(lambda P, Q: transport_map(symmetric(P), symmetric(Q)), (P, Q))
    assert check(lambda P: sqrtm_psd(symmetric(P)), (P,))


def gradients(distance, case):
    inputs = [x.requires_grad_() for x in to_torch(case)]
    return torch.autograd.grad(distance(*inputs), inputs)


@every_distance
@pytest.mark.parametrize("sigma", [np.eye(3), DECAY[:3, :3], np.diag([1, 1, 1e-12])], ids=["I", "full", "thin"])
def test_gradients_vanish_at_equal_gaussians(distance, sigma):
    scale = np.linalg.inv(sigma).max()  # of what rounding is a multiple of
    for gradient in gradients(distance, (np.ones(3), sigma, np.ones(3), sigma)):
        assert gradient.numpy() == pytest.approx(0, abs=1e-13 * scale)


@pytest.mark.parametrize("distance", [wasserstein2_squared, wasserstein2_distance], ids=lambda f: f.__name__)
@pytest.mark.parametrize("tiny", [0, 1e-300, 1e-30, 1e-14])
def test_gradients_of_wasserstein_are_finite_for_singular_and_nearly_singular_covariances(distance, tiny):
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    thin = turn @ np.diag([1.0, tiny, tiny]) @ turn.T
    thin = (thin + thin.T) / 2
    for sigma_p, sigma_q in ((thin, np.eye(3)), (np.eye(3), thin), (thin, thin), (thin, np.diag([1.0, 0, 0]))):
        for gradient in gradients(distance, (np.ones(3), sigma_p, np.zeros(3), sigma_q)):
            assert gradient.isfinite().all()


def test_gradient_of_wasserstein_is_identity_minus_map():
    case = pair(7)
    _, by_p, _, by_q = gradients(wasserstein2_squared, case)
    assert by_p.numpy() == pytest.approx(np.eye(3) - transport_map(case[1], case[3]), abs=1e-12)
    assert by_q.numpy() == pytest.approx(np.eye(3) - transport_map(case[3], case[1]), abs=1e-12)


def test_where_the_limit_exists_singular_gradients_have_it():
    line = np.diag([1.0, 0])
    _, by_plane, _, _ = gradients(wasserstein2_squared, ([0, 0], np.diag([4.0, 1]), [0, 0], line))
    assert by_plane.numpy() == pytest.approx(np.diag([0.5, 1]), abs=1e-12)  # of (sqrt a - 1)² + b, at a = 4, b = 1


def test_gradient_with_respect_to_a_factor_is_finite_even_where_that_of_the_covariance_is_not():
    L = torch.tensor([[1.0, 0], [0, 0]], dtype=torch.float64, requires_grad=True)
    zero, eye = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(wasserstein2_squared(zero, L @ L.T, zero, eye), L)
    assert gradient.numpy() == pytest.approx(0, abs=1e-14)


def test_root_and_map_have_finite_gradients_at_repeated_and_zero_eigenvalues():
    for sigma in (torch.eye(3), torch.zeros(3, 3), torch.diag(torch.tensor([1.0, 1, 0]))):
        sigma = sigma.double().requires_grad_()
        (gradient,) = torch.autograd.grad(sqrtm_psd(sigma).sum(), sigma)
        assert gradient.isfinite().all()
    eye = torch.eye(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(transport_map(eye, 4 * torch.eye(3, dtype=torch.float64)).trace(), eye)
    assert gradient.numpy() == pytest.approx(-np.eye(3), abs=1e-14)  # T = 2 / sqrt(sigma): slope -1 at sigma = 1


def hessian_at_equality(distance, sigma, direction):
    """Second derivative of distance(sigma + t direction, sigma) at t = 0."""
    mu, sigma, direction = to_torch((np.zeros(len(sigma)), sigma, direction))
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(distance(mu, sigma + t * direction, mu, sigma), t, create_graph=True)
    return torch.autograd.grad(slope, t)[0].item()


@pytest.mark.parametrize("eigenvalues", [[1.0, 1, 1], [3.0, 1, 0.2]])
def test_second_derivatives_at_equality_are_the_bures_and_fisher_metrics(eigenvalues):
    D = covariance(np.random.default_rng(8), 3)
    a = np.array(eigenvalues)
    bures = (D**2 / np.add.outer(a, a)).sum()
    fisher = (D**2 / np.multiply.outer(a, a)).sum() / 2
    assert hessian_at_equality(wasserstein2_squared, np.diag(a), D) == relative(bures, 1e-11)
    assert hessian_at_equality(kl_divergence, np.diag(a), D) == relative(fisher, 1e-11)
    assert hessian_at_equality(bhattacharyya_distance, np.diag(a), D) == relative(fisher / 4, 1e-11)


# Shapes and libraries ----------------------------------------------------------------------------------------------


@every_distance
def test_batches_broadcast_and_agree_with_single_pairs(distance):
    mu_p, sigma_p, mu_q, sigma_q = pair(9, 3, 4)
    together = distance(mu_p[:, None], sigma_p[:, None], mu_q, sigma_q)
    assert together.shape == (4, 4)
    single = [[distance(mu_p[i], sigma_p[i], mu_q[j], sigma_q[j]) for j in range(4)] for i in range(4)]
    assert together == pytest.approx(np.array(single), rel=1e-10)
    assert np.ndim(single[0][0]) == 0
    assert distance(mu_p, sigma_p, mu_q, np.eye(3)).shape == (4,)
    assert distance(mu_p[:0], sigma_p[:0], mu_q[:0], sigma_q[:0]).shape == (0,)


@every_distance
def test_torch_agrees_with_numpy_and_keeps_dtype(distance):
    case = pair(10, 5, 3)
    assert distance(*to_torch(case)).numpy() == relative(distance(*case), 1e-11)
    single = distance(*to_torch(case, torch.float32))
    assert single.dtype == torch.float32
    assert single.numpy() == relative(distance(*case), 1e-4)
    with_lists = distance(case[0].tolist(), torch.tensor(case[1]), case[2].tolist(), torch.tensor(case[3]))
    assert with_lists.dtype == torch.float64


def test_hard_and_easy_pairs_share_a_batch():
    _, P, _, Q = pair(11, 3, 6)
    Q[1], P[2], Q[4] = P[1], 0, np.diag([1.0, 0, 0])
    zero = np.zeros(3)
    together = wasserstein2_squared(zero, P, zero, Q)
    assert together == pytest.approx(
        [wasserstein2_squared(zero, p, zero, q) for p, q in zip(P, Q, strict=True)], abs=1e-14
    )
    assert together[1] < 1e-28


def test_input_is_left_as_it_was():
    case = pair(12)
    before = [x.copy() for x in case]
    for distance in ALL_DISTANCES:
        distance(*case)
    assert all((x == y).all() for x, y in zip(case, before, strict=True))


def test_whole_numbers_are_not_divided_as_whole_numbers():
    assert wasserstein2_squared([0, 0], [[2, 1], [1, 2]], [0, 0], [[1, 0], [0, 1]]) == relative(
        (np.sqrt(3) - 1) ** 2, 1e-13
    )
    assert sqrtm_psd(torch.tensor([[4, 0], [0, 9]])).tolist() == [[2, 0], [0, 3]]


@pytest.mark.gpu
def test_results_stay_on_the_gpu():
    case = pair(13, 4, 10)
    on_gpu = [x.cuda() for x in to_torch(case)]
    for distance in ALL_DISTANCES:
        assert distance(*on_gpu).is_cuda
        assert distance(*on_gpu).cpu().numpy() == relative(distance(*case), 1e-10)


# The bias of FID ---------------------------------------------------------------------------------------------------


def test_bias_has_its_reference_values():
    assert fid_bias(np.ones(8), 500) == relative(0.104, 1e-14)
    assert fid_bias(np.ones(32), 500) == relative(1.184, 1e-14)
    assert fid_bias(np.ones(64), 2000) == relative(69 * 64 / 4000, 1e-14)
    assert fid_bias(1 / np.arange(1, 65), 2000).round(6) == 0.048015
    assert fid_bias(np.ones(2048), 50_000).round(2) == 42.05
    assert fid_bias(torch.ones(3, 8), torch.tensor(500)).tolist() == pytest.approx([0.104] * 3)


def test_bias_is_what_sampling_shows():
    d, N, repetitions = 4, 400, 400
    root = np.diag([2, 1, 0.5, 0.1]) ** 0.5
    X, Y = np.random.default_rng(8512).normal(size=(2, repetitions, N, d)) @ root

    def moments(X):
        centred = X - X.mean(1, keepdims=True)
        return X.mean(1), centred.swapaxes(1, 2) @ centred / (N - 1)

    plugged_in = wasserstein2_squared(*moments(X), *moments(Y))
    error = plugged_in.std() / np.sqrt(repetitions)
    assert abs(plugged_in.mean() - fid_bias([2, 1, 0.5, 0.1], N)) < 4 * error
    assert error < 0.04 * plugged_in.mean()


# Refusals ----------------------------------------------------------------------------------------------------------

EYE, ZERO = np.eye(2), np.zeros(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wasserstein2_squared(ZERO, [[1, 0.5], [0, 1]], ZERO, EYE), "sigma_p must be symmetric, got .* 0.5"),
        (lambda: kl_divergence(ZERO, EYE, ZERO, [[1, 0.5], [0, 1]]), "sigma_q must be symmetric"),
        (
            lambda: wasserstein2_distance(ZERO, EYE, ZERO, -EYE),
            "sigma_q must be positive semidefinite, got eigenvalues",
        ),
        (lambda: wasserstein2_distance(ZERO, np.diag([1, -1e-3]), ZERO, EYE), "sigma_p must be positive semidefinite"),
        (lambda: kl_divergence(ZERO, np.diag([1, -1e-3]), ZERO, EYE), "sigma_p must be positive semidefinite"),
        (lambda: bhattacharyya_distance(ZERO, EYE, ZERO, -EYE), "sigma_q must be positive semidefinite"),
        (lambda: sqrtm_psd([[1, 2], [2, 1]]), "sigma must be positive semidefinite, got eigenvalues from -1 to 3"),
        (lambda: sqrtm_psd(torch.tensor([[1.0, 2], [2, 1]])), "sigma must be positive semidefinite"),
        (lambda: transport_map(EYE, [[1, 2], [2, 1]]), "sigma_q must be positive semidefinite"),
        (lambda: sqrtm_psd([1, 2]), r"sigma must be a matrix of shape \(..., n, n\), got shape \(2,\)"),
        (lambda: sqrtm_psd(np.ones((2, 3))), r"got shape \(2, 3\)"),
        (lambda: kl_divergence(0, [[1]], [0], [[1]]), r"mu_p must have shape \(..., n\)"),
        (lambda: kl_divergence([0], EYE, ZERO, EYE), "n = 1 for mu_p, 2 for sigma_p, 2 for mu_q, 2 for sigma_q"),
        (lambda: transport_map(EYE, np.eye(3)), "n = 2 for sigma_p, 3 for sigma_q"),
        (
            lambda: wasserstein2_squared(np.ones((2, 2)), EYE, np.ones((3, 2)), EYE),
            r"batch shapes must broadcast, got mu_p \(2, 2\)",
        ),
        (lambda: kl_divergence([np.nan, 0], EYE, ZERO, EYE), "mu_p must be finite"),
        (lambda: sqrtm_psd([[np.inf]]), "sigma must be finite"),
        (lambda: fid_bias([-1, 1], 10), "eigenvalues must be"),
        (lambda: fid_bias([1, 1], 1), "N must be at least 2"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: sqrtm_psd(1j * EYE),
        lambda: sqrtm_psd([["a"]]),
        lambda: sqrtm_psd([[True]]),
        lambda: sqrtm_psd(EYE.astype(np.float16)),
        lambda: sqrtm_psd(torch.eye(2, dtype=torch.bfloat16)),
        lambda: sqrtm_psd(torch.eye(2, dtype=torch.complex64)),
    ],
)
def test_bad_types_are_named(call):
    with pytest.raises(TypeError, match=r"sigma must be real numbers.*, got dtype"):
        call()


def test_scipys_root_loses_what_the_factors_keep():
    """Why the root of a product is not how this module computes: needles 0.06 degrees apart, 1e-14 thick."""
    angle = 1e-3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    thin = np.diag([1, 1e-14])
    turned = turn @ thin @ turn.T
    turned = (turned + turned.T) / 2
    exact = mp_wasserstein2_squared(thin, turned)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        usual = np.trace(thin + turned) - 2 * np.trace(linalg.sqrtm(thin @ turned)).real
    ours = wasserstein2_squared(ZERO, thin, ZERO, turned)
    assert abs(ours / exact - 1) < 0.1 * abs(usual / exact - 1)
    assert ours == relative(exact, 1e-2)


@settings(max_examples=20)
@given(seeds)
def test_a_symmetric_error_of_rounding_is_accepted(seed):
    case = list(pair(seed))
    case[1] = case[1] + 1e-12 * np.random.default_rng(seed).normal(size=(3, 3))
    assert np.isfinite(wasserstein2_squared(*case))


def test_torch_is_not_imported():
    code = "import sys, kexue_utils.gaussians; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
