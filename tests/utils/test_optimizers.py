"""Facts about the optimizers. Reference values: mpmath with 30 digits."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special

from kexue_utils.optimizers import (
    ExponentiatedGradient,
    HypergradientGains,
    exponentiated_gradient_step,
    generalized_kl,
)

THETA, GRAD, LR = np.array([0.5, 2.0]), np.array([1.0, -0.3]), 0.2
STEPPED = [0.40936537653899, 2.1236730930907]
seeds = st.integers(0, 2**32 - 1)


def relative(expected, tolerance=1e-12):
    return pytest.approx(expected, rel=tolerance, abs=0)


def leaf(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def descend(optimizer, loss, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def on_parabola(h, theta0, lr, gamma, steps, rule="product"):
    """Gain and parameter after some steps on h/2 theta²."""
    theta = leaf([theta0])
    optimizer = HypergradientGains([theta], lr=lr, gamma=gamma, rule=rule)
    descend(optimizer, lambda: (h / 2 * theta**2).sum(), steps)
    return optimizer.gains()[0].item(), theta.item()


# The multiplicative step


def test_step_has_the_reference_values():
    assert exponentiated_gradient_step(THETA, GRAD, LR).tolist() == relative(STEPPED)
    assert exponentiated_gradient_step(*map(torch.tensor, (THETA, GRAD)), LR).tolist() == relative(STEPPED)


def test_divergence_has_the_reference_values():
    assert generalized_kl(STEPPED, THETA) == relative(0.012508840647935, 1e-11)
    assert generalized_kl(THETA, STEPPED) == relative(0.01303846962971, 1e-11)


def test_step_minimises_slope_plus_divergence():
    for theta, g, stepped in zip(THETA, GRAD, exponentiated_gradient_step(THETA, GRAD, LR), strict=True):
        found = optimize.minimize_scalar(
            lambda v, g=g, theta=theta: g * v + generalized_kl([v], [theta]) / LR,
            bounds=(1e-3, 10),
            method="bounded",
            options={"xatol": 1e-10},
        )
        assert found.x == pytest.approx(stepped, rel=1e-7)


@given(seeds)
def test_objective_exceeds_its_minimum_by_the_divergence(seed):
    rng = np.random.default_rng(seed)
    theta, other = rng.uniform(0.1, 3, (2, 5))
    g = rng.normal(size=5)
    stepped = exponentiated_gradient_step(theta, g, 0.7)

    def objective(v):
        return g @ v + generalized_kl(v, theta) / 0.7

    assert objective(other) - objective(stepped) == pytest.approx(generalized_kl(other, stepped) / 0.7, abs=1e-12)


def test_divergence_is_scipys_summed():
    rng = np.random.default_rng(0)
    a, b = rng.exponential(size=(2, 4, 6))
    a[0, 0] = b[1, 1] = a[2, 2] = b[2, 2] = 0
    assert generalized_kl(a, b).tolist() == special.kl_div(a, b).sum(-1).tolist()
    ours = generalized_kl(torch.tensor(a), torch.tensor(b)).numpy()
    np.testing.assert_allclose(ours, special.kl_div(a, b).sum(-1), rtol=1e-12)
    assert generalized_kl([1.0], [0.0]) == math.inf
    assert generalized_kl([0.0, 0.0], [0.0, 2.0]) == 2


def test_divergence_is_differentiable():
    a = leaf([0.5, 2.0])
    generalized_kl(a, torch.tensor([1.0, 3.0], dtype=torch.float64)).backward()
    assert a.grad.tolist() == relative([math.log(0.5), math.log(2 / 3)])


def test_zero_is_absorbing_and_says_so():
    with pytest.warns(RuntimeWarning, match="theta has an entry 0"):
        assert exponentiated_gradient_step([0.0, 1.0], [-5.0, 0.0], 1.0).tolist() == [0, 1]
    with pytest.warns(RuntimeWarning, match="params has an entry 0"):
        ExponentiatedGradient([leaf([0.0])], lr=1.0)


@pytest.mark.parametrize(
    "theta, grad, lr, error, message",
    [
        ([-1.0], [0.0], 1.0, ValueError, "theta must be finite and not negative, got -1"),
        ([math.inf], [0.0], 1.0, ValueError, "theta must be finite"),
        ([1.0], [math.nan], 1.0, ValueError, "grad must be finite numbers, got nan"),
        ([1.0], [0.0, 1.0], 1.0, ValueError, r"one shape, got \(1,\) and \(2,\)"),
        ([1.0], [0.0], 0.0, ValueError, "lr must be positive, got 0"),
        ([1.0], [0.0], "1", TypeError, "lr must be real"),
        ([1.0 + 1j], [0.0], 1.0, TypeError, "theta must be real"),
        (np.ones(1), torch.zeros(1), 1.0, TypeError, "all NumPy or all torch"),
        ([1.0], [-800.0], 1.0, FloatingPointError, "overflows"),
    ],
)
def test_step_refuses_bad_input(theta, grad, lr, error, message):
    with pytest.raises(error, match=message):
        exponentiated_gradient_step(theta, grad, lr)


def test_divergence_refuses_bad_input():
    with pytest.raises(ValueError, match="b must be finite and not negative, got -1"):
        generalized_kl([1.0], [-1.0])
    with pytest.raises(ValueError, match="last axis"):
        generalized_kl(1.0, 1.0)


# ExponentiatedGradient


def test_optimizer_takes_the_step():
    theta = leaf(THETA.tolist())
    theta.grad = torch.tensor(GRAD)
    ExponentiatedGradient([theta], lr=LR).step()
    assert theta.tolist() == relative(STEPPED)


def test_optimizer_finds_non_negative_least_squares():
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(30, 8)), rng.normal(size=30)
    theta = leaf([0.5] * 8)
    A_, b_ = torch.tensor(A), torch.tensor(b)
    descend(ExponentiatedGradient([theta], lr=0.05), lambda: ((A_ @ theta - b_) ** 2).sum() / 2, 2000)
    best = optimize.nnls(A, b)[0]
    assert (best == 0).any()
    assert theta.tolist() == pytest.approx(best.tolist(), abs=1e-5)


def test_parameter_groups_have_their_own_rates():
    first, second = leaf([1.0]), leaf([1.0])
    optimizer = ExponentiatedGradient([{"params": [first]}, {"params": [second], "lr": 2.0}], lr=1.0)
    descend(optimizer, lambda: first.sum() + second.sum(), 1)
    assert (first.item(), second.item()) == (relative(math.exp(-1)), relative(math.exp(-2)))


def test_closure_and_missing_gradients():
    theta, unused = leaf([1.0]), leaf([3.0])
    optimizer = ExponentiatedGradient([theta, unused], lr=1.0)

    def closure():
        optimizer.zero_grad()
        loss = theta.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1
    assert theta.item() == relative(math.exp(-1))
    assert unused.item() == 3


def test_exponentiated_gradient_refuses_bad_input():
    with pytest.raises(ValueError, match="params must be finite and not negative, got -1"):
        ExponentiatedGradient([leaf([1.0, -1.0])], lr=1.0)
    with pytest.raises(ValueError, match="lr must be positive, got 0"):
        ExponentiatedGradient([leaf([1.0])], lr=0)
    with pytest.raises(ValueError, match="lr must be positive, got -1"):
        ExponentiatedGradient([{"params": [leaf([1.0])], "lr": -1.0}], lr=1.0)
    theta = leaf([1.0])
    theta.grad = torch.tensor([-1e4], dtype=torch.float64)
    with pytest.raises(FloatingPointError, match="a parameter becomes infinite"):
        ExponentiatedGradient([theta], lr=1.0).step()
    assert theta.item() == 1


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(5, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(
        TypeError, match=r"HypergradientGains needs dense gradients, got a sparse one of shape \(5, 2\)"
    ):
        HypergradientGains(table.parameters(), lr=0.1, gamma=0.1).step()


# HypergradientGains


@pytest.mark.parametrize(
    "h, theta0, lr, gamma, steps, gain, theta",
    [
        (2, 1, 0.1, 0.05, 5, 1.4097747762503, 0.23665859887909),
        (2, 1, 0.1, 0.05, 50, 1.4552948656965, 4.5431679848902e-8),
        (2, 1, 0.1, 0.5, 50, 5.012944198815, None),
        (1, 3, 0.01, 0.002, 3000, 1.8974929966135, None),
        (0.5, 2, 0.1, 0.3, 40, 4.0320518442398, 5.9691066275813e-4),
    ],
)
def test_gains_on_a_parabola_have_the_reference_values(h, theta0, lr, gamma, steps, gain, theta):
    found_gain, found_theta = on_parabola(h, theta0, lr, gamma, steps)
    assert found_gain == relative(gain)
    if theta is not None:
        assert found_theta == relative(theta, 1e-10)


def test_gains_earn_what_the_loss_spends():
    theta = leaf([1.5, -2.0])

    def loss():
        return torch.logsumexp(torch.stack([theta[0], -theta[1], theta[1] - theta[0]]), 0)

    before = loss().item()
    optimizer = HypergradientGains([theta], lr=0.1, gamma=0.5)
    descend(optimizer, loss, 20)
    assert optimizer.gains()[0].tolist() == relative([3.558688385487, 5.403421364405])
    assert (optimizer.gains()[0] - 1).sum().item() == relative(6.9621097498919)
    assert 5 * (before - loss().item()) == relative(6.8776815990031)


def test_gain_is_the_exponential_of_summed_products():
    theta = leaf([0.3, -1.0, 2.0])
    optimizer = HypergradientGains([theta], lr=0.1, gamma=0.02)
    gradients = []
    for _ in range(6):
        optimizer.zero_grad()
        (theta**4 / 4 + theta.sin()).sum().backward()
        gradients.append(theta.grad.clone())
        optimizer.step()
    total = sum(a * b for a, b in pairwise(gradients))
    assert optimizer.gains()[0].tolist() == relative((0.02 * total).exp().tolist())


def network(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()


def train(model, optimizer, steps):
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(5, 4)
    descend(optimizer, lambda: (model(x) - 1).square().mean(), steps)
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("rule", ["product", "sign"])
def test_without_meta_rate_it_is_sgd(rule):
    model, same = network(0), network(0)
    ours = train(model, HypergradientGains(model.parameters(), lr=0.1, gamma=0, rule=rule), 10)
    theirs = train(same, torch.optim.SGD(same.parameters(), lr=0.1), 10)
    assert all(map(torch.equal, ours, theirs))


def test_sign_rule_counts_agreements_whatever_the_scale():
    assert on_parabola(1, 1, 0.1, 0.01, 11, rule="sign")[0] == relative(math.exp(0.1))
    assert on_parabola(1, 1e-6, 0.1, 0.01, 11, rule="sign")[0] == relative(math.exp(0.1))
    assert on_parabola(1, 1, 1.5, 0.01, 11, rule="sign")[0] == relative(math.exp(-0.1))  # every step overshoots


@given(st.floats(0.1, 10))
def test_scaled_loss_needs_lr_over_c_and_gamma_over_c_squared(c):
    gain, theta = on_parabola(1, 1, 0.1, 0.5, 8)
    assert on_parabola(c, 1, 0.1 / c, 0.5 / c**2, 8) == (relative(gain, 1e-10), relative(theta, 1e-10))


def test_training_continues_from_a_saved_state():
    straight = network(0)
    expected = train(straight, HypergradientGains(straight.parameters(), lr=0.1, gamma=0.5), 10)
    model = network(0)
    first = HypergradientGains(model.parameters(), lr=0.1, gamma=0.5)
    train(model, first, 4)
    second = HypergradientGains(model.parameters(), lr=1.0, gamma=1.0, rule="sign")
    second.load_state_dict(first.state_dict())
    assert second.param_groups[0]["rule"] == "product"
    assert all(map(torch.equal, second.gains(), first.gains()))
    assert all(map(torch.equal, train(model, second, 6), expected))


def test_gains_start_at_one_and_are_copies():
    theta = leaf([1.0, 2.0])
    optimizer = HypergradientGains([theta], lr=0.1, gamma=0.1)
    assert optimizer.gains()[0].tolist() == [1, 1]
    descend(optimizer, lambda: (theta**2).sum(), 3)
    optimizer.gains()[0].zero_()
    assert (optimizer.gains()[0] > 1).all()


def test_a_parameter_without_gradient_keeps_its_gain():
    theta, other = leaf([1.0]), leaf([1.0])
    optimizer = HypergradientGains([theta, other], lr=0.1, gamma=0.5)
    descend(optimizer, lambda: (theta**2 + other**2).sum(), 3)
    frozen = optimizer.gains()[1].clone()
    descend(optimizer, lambda: (theta**2).sum(), 3)
    assert torch.equal(optimizer.gains()[1], frozen)


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"lr": 0, "gamma": 0}, ValueError, "lr must be positive, got 0"),
        ({"lr": 1, "gamma": -1}, ValueError, "gamma must be at least 0, got -1"),
        ({"lr": math.nan, "gamma": 0}, ValueError, "lr must be numbers, not NaN"),
        ({"lr": [1, 2], "gamma": 0}, ValueError, r"lr must be one number, got shape \(2,\)"),
        ({"lr": 1, "gamma": torch.tensor(1.0)}, TypeError, "gamma must be a number"),
        ({"lr": 1, "gamma": 1, "rule": "products"}, ValueError, "rule must be one of product, sign, got 'products'"),
    ],
)
def test_hypergradient_gains_refuse_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        HypergradientGains([leaf([1.0])], **settings)


def test_overflow_is_an_error_and_leaves_everything_as_it_was():
    theta = leaf([300.0])
    optimizer = HypergradientGains([theta], lr=0.1, gamma=3.0)
    descend(optimizer, lambda: (theta**2 / 2).sum(), 1)
    before = theta.item()
    with pytest.raises(FloatingPointError, match="a gain or a parameter becomes infinite"):
        descend(optimizer, lambda: (theta**2 / 2).sum(), 1)
    assert (theta.item(), optimizer.gains()[0].item()) == (before, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype):
    theta = leaf([1.0, 2.0], dtype)
    for optimizer in (ExponentiatedGradient([theta], lr=0.1), HypergradientGains([theta], lr=0.1, gamma=0.1)):
        descend(optimizer, lambda: (theta**2).sum(), 2)
    assert theta.dtype == optimizer.gains()[0].dtype == dtype
    stepped = exponentiated_gradient_step(theta.detach(), torch.ones(2, dtype=dtype), 0.1)
    assert stepped.dtype == generalized_kl(stepped, stepped).dtype == dtype


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu():
    results = {}
    for device in ("cpu", "cuda"):
        theta = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64, device=device, requires_grad=True)
        descend(ExponentiatedGradient([theta], lr=0.1), lambda theta=theta: (theta**4).sum(), 5)
        optimizer = HypergradientGains([theta], lr=0.1, gamma=0.2)
        descend(optimizer, lambda theta=theta: (theta**4).sum(), 5)
        assert optimizer.gains()[0].device.type == device
        results[device] = theta.tolist() + optimizer.gains()[0].tolist()
    assert results["cuda"] == relative(results["cpu"], 1e-10)


@pytest.mark.parametrize("make", [ExponentiatedGradient, lambda params, lr: HypergradientGains(params, lr, gamma=0.1)])
def test_an_empty_parameter_beside_others_is_no_hindrance(make):
    params = [torch.ones(0, requires_grad=True), torch.ones(2, requires_grad=True)]
    optimizer = make(params, lr=0.1)
    sum(p.sum() for p in params).backward()
    optimizer.step()
    assert params[1].max() < 1 and params[0].shape == (0,)
