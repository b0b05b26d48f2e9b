"""Facts about descent on the unit sphere and the von Mises-Fisher law. Exact values come from mpmath, SciPy and PyTorch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from scipy import special, stats

from kexue_utils.directions import random_directions
from kexue_utils.spheres import (
    project_tangent,
    sphere_step,
    von_mises_fisher_log_constant,
    von_mises_fisher_mean_length,
)

X, G = np.array([1.0, 2.0, 2.0]) / 3, np.array([0.5, -1.0, 0.3])
EPS = np.finfo(float).eps


def relative(expected, tolerance=1e-13):
    return pytest.approx(expected, rel=tolerance, abs=0)


def in_numpy(values):
    return np.array(values)


def in_torch(values):
    return torch.tensor(values, dtype=torch.float64)


libraries = pytest.mark.parametrize("make", [in_numpy, in_torch])


def angle(x, c):
    """Angle between two vectors, to its own relative precision."""
    return np.arctan2(np.linalg.norm(project_tangent(x, c), axis=-1), (x * c).sum(-1))


def plain(psi, a):
    return psi - math.atan(a * math.sin(psi))


def jose(psi, a):
    return psi - math.atan(a * math.sin(psi) * 2 * math.sin(psi / 2) ** 2)


def iterate(rule, psi, a, steps):
    for _ in range(steps):
        psi = rule(psi, a)
    return psi


# Reference values ----------------------------------------------------------------------------------------------------


@libraries
def test_reference_steps(make):
    assert np.asarray(sphere_step(make(X), make(G), 0.1)) == pytest.approx(
        [0.27164085059997, 0.74204329919993, 0.61284826049994], abs=5e-15
    )
    assert np.asarray(sphere_step(make(X), make(G), 0.1, factor="jose")) == pytest.approx(
        [0.28789708840651, 0.72345641578494, 0.62747596045319], abs=5e-15
    )


def test_reference_factor():
    factor = 1 + X @ G / np.linalg.norm(G)
    assert factor == pytest.approx(0.740839472325592, abs=5e-16)
    by_hand = X - 0.1 * factor * (G - X * (X @ G))
    np.testing.assert_allclose(
        sphere_step(X, G, 0.1, factor="jose"), by_hand / np.linalg.norm(by_hand), atol=4 * EPS, rtol=0
    )


@pytest.mark.parametrize(
    ("rule", "steps", "angle", "digits"),
    [
        (plain, 10, 0.118885044944, 5e-13),
        (jose, 10, 0.59502465619353, 5e-15),
        (plain, 100, 1.36447377647e-15, 5e-27),
        (jose, 100, 0.18334288889786, 5e-15),
        (jose, 1000, 0.057764900716845, 5e-16),
    ],
)
def test_reference_angles_of_the_linear_model(rule, steps, angle, digits):
    assert iterate(rule, 2.0, 0.3, steps) == pytest.approx(angle, abs=digits)


def test_reference_squared_length_after_ten_sideways_steps():
    theta = np.array([1.0, 0.0])
    for _ in range(10):
        x = theta / np.linalg.norm(theta)
        theta = theta - 0.5 / np.linalg.norm(theta) * np.array([-x[1], x[0]])
    assert theta @ theta == pytest.approx(2.4987663522467, abs=5e-14)
    assert theta @ theta > math.sqrt(6)  # the bound without the third sum


@libraries
@pytest.mark.parametrize(
    ("dim", "kappa", "constant", "mean"),
    [(3, 2.0, 0.043882290795518, 0.53731472072755), (5, 2.0, 0.025996248473691, 0.36110665020671)],
)
def test_reference_constants(make, dim, kappa, constant, mean):
    assert np.exp(float(von_mises_fisher_log_constant(dim, make(kappa)))) == pytest.approx(constant, abs=1.5e-15)
    assert float(von_mises_fisher_mean_length(dim, make(kappa))) == pytest.approx(mean, abs=5e-15)


@libraries
def test_reference_mean_lengths_in_a_hundred_dimensions(make):
    assert float(von_mises_fisher_mean_length(100, make(50.0))) == pytest.approx(0.41506858526585, abs=5e-15)
    assert float(von_mises_fisher_mean_length(100, make(1.0))) == pytest.approx(0.0099990198, abs=5e-11)


def test_reference_flow_time_and_arctangent():
    def F(psi):
        return math.log(math.tan(psi / 2)) / 2 - 1 / (4 * math.sin(psi / 2) ** 2)

    assert F(math.pi / 2) - F(0.1) == pytest.approx(101.08082424342, abs=5e-12)
    x, down = np.array([1.0, 0.0]), np.array([0.0, -1.0])
    assert angle(x, sphere_step(x, down, 0.5)) == pytest.approx(0.46364760900081, abs=5e-15)


# Tangent vectors -----------------------------------------------------------------------------------------------------


def test_projection_is_perpendicular_idempotent_and_keeps_tangent_vectors():
    rng = np.random.default_rng(0)
    x, v = random_directions(20, 7, rng), rng.normal(size=(20, 7))
    once = project_tangent(x, v)
    assert abs((x * once).sum(-1)).max() < 20 * EPS
    np.testing.assert_allclose(project_tangent(x, once), once, atol=20 * EPS)
    P = np.eye(7) - x[:, :, None] * x[:, None, :]
    np.testing.assert_allclose(once, np.einsum("kij,kj->ki", P, v), atol=20 * EPS)


def test_projected_gradient_is_that_of_a_normalised_parameter():
    theta = torch.tensor([0.3, -2.0, 1.1, 0.7], dtype=torch.float64, requires_grad=True)
    c = torch.tensor([1.0, 0.5, -0.25, 2.0], dtype=torch.float64)

    def f(x):
        return (c * x).sum() ** 3 + x.exp().sum()

    (direct,) = torch.autograd.grad(f(theta / theta.norm()), theta)
    x = (theta.detach() / theta.detach().norm()).requires_grad_()
    (G,) = torch.autograd.grad(f(x), x)
    torch.testing.assert_close(direct, project_tangent(x.detach(), G) / theta.detach().norm(), rtol=1e-13, atol=1e-14)


def test_weight_normalisation_takes_the_step_of_the_rate_over_the_squared_length():
    torch.manual_seed(0)
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(6, 1, bias=False, dtype=torch.float64))
    v, size = layer.parametrizations.weight.original1, layer.parametrizations.weight.original0
    size.data.fill_(1.0)
    x, squared_length = layer.weight.detach().clone(), float((v.detach() ** 2).sum())
    inputs = torch.randn(20, 6, dtype=torch.float64)
    (layer(inputs) ** 3).mean().backward()
    G = 3 * ((inputs @ x.T) ** 2 * inputs).mean(0, keepdim=True)
    torch.optim.SGD([v], lr=0.1).step()
    torch.testing.assert_close(layer.weight, sphere_step(x, G, 0.1 / squared_length), rtol=1e-13, atol=1e-14)


def test_projection_of_large_and_small_vectors_keeps_its_digits():
    for size in (1e300, 1e-300):
        np.testing.assert_allclose(project_tangent(X, size * G), size * project_tangent(X, G), rtol=1e-14)


# Steps ---------------------------------------------------------------------------------------------------------------

angles = st.floats(0.001, 3.14)
rates = st.floats(1e-3, 1e3)


@settings(max_examples=50, deadline=None)
@given(angles, rates, st.sampled_from([None, "jose"]), st.sampled_from(["retraction", "exp"]))
def test_a_step_on_a_linear_loss_turns_by_the_formula(psi, a, factor, how):
    turned = a * math.sin(psi) * (1 if factor is None else 2 * math.sin(psi / 2) ** 2)
    turn = math.atan(turned) if how == "retraction" else turned
    x = sphere_step([math.cos(psi), math.sin(psi)], [-2.0, 0.0], a / 2, factor=factor, map=how)
    there = [math.cos(psi - turn), math.sin(psi - turn)]
    np.testing.assert_allclose(x, there, rtol=0, atol=10 * EPS * (1 + a) / min(1, math.sin(psi)))


def test_normalised_sum_is_what_the_step_is():
    rng = np.random.default_rng(1)
    x, grad = random_directions(50, 9, rng), rng.normal(size=(50, 9))
    moved = x - 0.3 * project_tangent(x, grad)
    lengths = np.linalg.norm(moved, axis=-1, keepdims=True)
    assert lengths.min() >= 1
    np.testing.assert_allclose(sphere_step(x, grad, 0.3), moved / lengths, atol=20 * EPS)
    np.testing.assert_allclose(
        torch.nn.functional.normalize(torch.tensor(moved), dim=-1).numpy(), sphere_step(x, grad, 0.3), atol=20 * EPS
    )


def test_gradients_that_are_mirrored_differ_only_by_the_factor():
    mirrored = G - 2 * X * (X @ G)
    np.testing.assert_allclose(sphere_step(X, mirrored, 0.4), sphere_step(X, G, 0.4), atol=10 * EPS)
    less, more = angle(X, sphere_step(X, G, 0.01, "jose")), angle(X, sphere_step(X, mirrored, 0.01, "jose"))
    cosine = X @ G / np.linalg.norm(G)
    assert math.tan(more) / math.tan(less) == relative((1 - cosine) / (1 + cosine), 1e-12)


def test_factor_keeps_its_digits_where_the_goal_is_near():
    for psi in (1e-3, 1e-6, 1e-9):
        x, lr = np.array([math.cos(psi), math.sin(psi)]), psi**-3
        turned = lr * math.sin(psi) * 2 * math.sin(psi / 2) ** 2  # about 1/2
        there = sphere_step(x, [-1.0, 0.0], lr, factor="jose")
        # x is rounded to EPS, a relative EPS / psi of its distance; 1 + cos(phi) as it stands would be wrong by EPS / psi²
        assert angle(x, there) == relative(math.atan(turned), 4 * EPS / psi)


def test_exponential_step_of_the_right_length_arrives():
    rng = np.random.default_rng(2)
    for x, c in zip(random_directions(3, 16, rng), random_directions(3, 16, rng), strict=True):
        psi = angle(x, c)
        np.testing.assert_allclose(sphere_step(x, -c, psi / math.sin(psi), map="exp"), c, atol=20 * EPS)


def test_steps_in_many_dimensions_follow_the_angle():
    rng = np.random.default_rng(3)
    x, c = random_directions(2, 40, rng)
    for factor, rule in ((None, plain), ("jose", jose)):
        at, psi = x, float(angle(x, c))
        for _ in range(10):
            at, psi = sphere_step(at, -c, 0.3, factor), rule(psi, 0.3)
        assert angle(at, c) == relative(psi, 1e-12)


@pytest.mark.parametrize("factor", [None, "jose"])
@pytest.mark.parametrize("how", ["retraction", "exp"])
@libraries
def test_no_gradient_no_step(make, factor, how):
    x = make([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
    grad = make([[0.0, 0.0], [3.0, 0.0], [0.0, -2.0]])  # none, and two along x
    np.testing.assert_allclose(sphere_step(x, grad, 0.5, factor, how), x, atol=EPS)


def test_steps_are_differentiable_in_the_gradient():
    x = torch.tensor([[1.0, 2.0, 2.0], [2.0, -1.0, 2.0]], dtype=torch.float64) / 3
    grad = torch.tensor([[0.5, -1.0, 0.3], [0.2, 0.1, 1.0]], dtype=torch.float64, requires_grad=True)
    for factor in (None, "jose"):
        for how in ("retraction", "exp"):
            assert torch.autograd.gradcheck(lambda v: sphere_step(x, v, 0.3, factor, how), grad)  # noqa: B023
    assert torch.autograd.gradcheck(lambda v: project_tangent(x, v), grad)


def test_huge_steps_turn_by_a_right_angle():
    assert sphere_step([1.0, 0.0], [0.0, 1e300], 1e300) == pytest.approx([0.0, -1.0], abs=1e-15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 0.1], [0.0, 1.0], 0.1), "x must be of length 1 within 1e-6"),
        (([1.0, 0.0], [0.0, 1.0, 0.0], 0.1), r"x and grad must have one shape, got \(2,\) and \(3,\)"),
        (([1.0, 0.0], [0.0, math.nan], 0.1), "grad must be finite numbers"),
        (([1.0, 0.0], [0.0, 1.0], 0), "lr must be positive"),
        (([1.0, 0.0], [0.0, 1.0], 0.1, "newton"), "factor must be one of jose, got 'newton'"),
        (([1.0, 0.0], [0.0, 1.0], 0.1, None, "log"), "map must be one of retraction, exp, got 'log'"),
        ((1.0, 1.0, 0.1), r"x and grad must have shape \(\.\.\., n\)"),
    ],
)
def test_bad_steps_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sphere_step(*arguments)


def test_points_within_a_millionth_of_the_sphere_are_taken_as_on_it():
    near = X * (1 + 9e-7)
    np.testing.assert_allclose(sphere_step(near, G, 0.1), sphere_step(X, G, 0.1), atol=4 * EPS)
    with pytest.raises(ValueError, match="length 1"):
        sphere_step(X * (1 + 2e-6), G, 0.1)


# Von Mises-Fisher ----------------------------------------------------------------------------------------------------


def true_law(p, kappa):
    """log C and A from the series of the Bessel function, in mpmath."""
    with mp.workdps(40):
        kappa = mp.mpf(kappa)

        def log_scaled(v):  # log(I_v(kappa) / kappa^v)
            if kappa > 1e4:
                return mp.log(mp.besseli(v, kappa)) - v * mp.log(kappa)
            return -v * mp.log(2) - mp.loggamma(v + 1) + mp.log(mp.hyp0f1(v + 1, kappa**2 / 4))

        v = mp.mpf(p) / 2 - 1
        one = log_scaled(v)
        return float(-mp.mpf(p) / 2 * mp.log(2 * mp.pi) - one), float(kappa * mp.exp(log_scaled(v + 1) - one))


@pytest.mark.parametrize("p", [2, 3, 4, 7, 50, 129, 130, 131, 1000, 100_000])
def test_law_agrees_with_the_series(p):
    kappa = np.array([0.0, 1e-300, 1e-8, 0.1, 1.0, 10.0, 100.0, 3000.0])
    constants, means = np.array([true_law(p, k) for k in kappa]).T
    size = np.maximum(np.maximum(abs(constants), kappa), p)
    # some 70 logarithms of size up to log(200) are added for low orders
    assert (abs(von_mises_fisher_log_constant(p, kappa) - constants) <= 300 * EPS * size).all()
    np.testing.assert_allclose(von_mises_fisher_mean_length(p, kappa), means, rtol=20 * EPS)


@pytest.mark.parametrize("p", [2, 3, 10, 200])
def test_law_agrees_with_scaled_bessel_functions(p):
    kappa, v = np.array([0.5, 3.0, 40.0, 700.0, 1e5]), p / 2 - 1
    constant = v * np.log(kappa) - p / 2 * np.log(2 * np.pi) - np.log(special.ive(v, kappa)) - kappa
    np.testing.assert_allclose(von_mises_fisher_log_constant(p, kappa), constant, rtol=1e-11, atol=1e-12)
    ratio = special.ive(v + 1, kappa) / special.ive(v, kappa)
    np.testing.assert_allclose(von_mises_fisher_mean_length(p, kappa), ratio, rtol=1e-12)


def test_density_is_that_of_scipy():
    mu = np.array([1.0, 0.0, 0.0])
    v = random_directions(20, 3, np.random.default_rng(0))
    ours = np.exp(von_mises_fisher_log_constant(3, 2.0) + 2.0 * v @ mu)
    np.testing.assert_allclose(stats.vonmises_fisher(mu, 2).pdf(v), ours, rtol=1e-13)


def test_closed_forms_on_the_circle_and_the_sphere():
    kappa = np.array([1e-6, 0.3, 2.0, 25.0])
    constant = np.log(kappa / (2 * np.pi * -np.expm1(-2 * kappa))) - kappa
    np.testing.assert_allclose(von_mises_fisher_log_constant(3, kappa), constant, atol=1e-13)
    np.testing.assert_allclose(von_mises_fisher_mean_length(3, kappa[1:]), 1 / np.tanh(kappa[1:]) - 1 / kappa[1:], rtol=1e-13)  # fmt: skip
    np.testing.assert_allclose(von_mises_fisher_log_constant(2, kappa), -np.log(2 * np.pi * special.i0(kappa)), atol=1e-13)  # fmt: skip
    assert von_mises_fisher_log_constant(3, 0.0) == relative(-math.log(4 * math.pi))


def test_extreme_concentrations_and_dimensions_stay_finite():
    assert von_mises_fisher_log_constant(10**9, 1e-300) == relative(
        math.lgamma(5e8) - math.log(2) - 5e8 * math.log(math.pi), 1e-14
    )
    assert von_mises_fisher_log_constant(3, 1e300) == -1e300 + math.log(1e300 / (2 * math.pi)) + 1e300 - 1e300
    assert von_mises_fisher_mean_length(3, 1e300) == 1
    assert von_mises_fisher_mean_length(10**9, 1.0) == relative(1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 500), st.floats(1e-3, 1e4))
def test_mean_length_lies_between_its_bounds(p, kappa):
    """Amos's bounds for ratios of Bessel functions, which are tight for large orders and arguments."""
    v, mean = p / 2, von_mises_fisher_mean_length(p, kappa)
    assert mean <= kappa / (v - 1 / 2 + math.hypot(v - 1 / 2, kappa)) * (1 + 20 * EPS)
    assert mean >= kappa / (v + math.hypot(v, kappa)) * (1 - 20 * EPS)


def test_slope_of_the_constant_is_minus_the_mean_length():
    kappa = torch.tensor([0.01, 0.5, 3.0, 80.0, 4000.0], dtype=torch.float64, requires_grad=True)
    for p in (2, 3, 30, 300):
        (slope,) = torch.autograd.grad(von_mises_fisher_log_constant(p, kappa).sum(), kappa)
        torch.testing.assert_close(-slope, von_mises_fisher_mean_length(p, kappa).detach(), rtol=1e-11, atol=1e-14)


def test_mean_length_is_the_mean_cosine_of_samples():
    mu = np.eye(5)[0]
    cosines = stats.vonmises_fisher(mu, 4).rvs(20_000, random_state=0) @ mu
    assert abs(cosines.mean() - von_mises_fisher_mean_length(5, 4.0)) < 4 * cosines.std() / math.sqrt(20_000)


def test_number_format_of_kappa_is_kept():
    assert von_mises_fisher_log_constant(3, np.float32([1, 2])).dtype == np.float32
    assert von_mises_fisher_mean_length(3, torch.tensor([1.0, 2.0])).dtype == torch.float32
    assert von_mises_fisher_mean_length(3, [[1, 2], [3, 4]]).shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 1.0), "dim must be at least 2"),
        ((10**10, 1.0), "dim must be at most"),
        ((3, -0.5), "kappa must be at least 0, got -0.5"),
        ((3, math.inf), "kappa must be finite"),
    ],
)
def test_bad_laws_are_refused(arguments, message):
    for function in (von_mises_fisher_log_constant, von_mises_fisher_mean_length):
        with pytest.raises(ValueError, match=message):
            function(*arguments)


@pytest.mark.gpu
def test_steps_and_laws_on_the_gpu_are_those_of_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    x, grad = torch.tensor(X, device="cuda"), torch.tensor(G, device="cuda")
    for factor in (None, "jose"):
        there = sphere_step(x, grad, 0.1, factor)
        assert there.device.type == "cuda"
        np.testing.assert_allclose(there.cpu().numpy(), sphere_step(X, G, 0.1, factor), atol=10 * EPS)
    kappa = torch.tensor([0.5, 20.0], device="cuda", dtype=torch.float64)
    np.testing.assert_allclose(
        von_mises_fisher_log_constant(9, kappa).cpu().numpy(),
        von_mises_fisher_log_constant(9, kappa.cpu().numpy()),
        rtol=1e-12,
    )
