"""Facts about tangent kernels. Reference values: SciPy's DOP853 at 1e-13 for flows, mpmath with 25 digits for steps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from sklearn.kernel_ridge import KernelRidge
from torch import nn

from kexue_utils.kernels import chord_contributions, flat_model, jacobian, ntk, path_kernel

START = (0.8, 1.2, -0.1)
seeds = st.integers(0, 2**32 - 1)


def double(*values, **options):
    return torch.tensor(*values, dtype=torch.float64, **options)


def relative(expected, tolerance=1e-12):
    return pytest.approx(expected, rel=tolerance, abs=0)


def toy(theta, x):
    """a tanh(bx) + c, for one number x."""
    return theta[0] * torch.tanh(theta[1] * x) + theta[2]


def product(theta, x):
    return theta[0] * theta[1] * x


def squared(y, u):
    return y - u


def logistic(y, u):
    return y * torch.sigmoid(-y * u)


def flow(f, start, samples, T, places, push=squared, decay=0.0):
    """Parameters, contributions and path kernel along the gradient flow, as one differential equation."""
    xs, ys = map(double, zip(*samples, strict=True))
    places, P = double(places), len(start)
    shape = (len(places), len(xs))

    def rate(_, state):
        theta = double(state[:P])
        alpha = push(ys, torch.stack([f(theta, x) for x in xs]))
        rows = jacobian(f, theta, torch.cat([places, xs]))
        K = rows[: len(places)] @ rows[len(places) :].T
        parts = double(state[P : P + K.numel()]).reshape(shape)
        step = alpha @ rows[len(places) :] - decay * theta
        return torch.cat([step, (alpha * K - 2 * decay * parts).ravel(), K.ravel()]).numpy()

    begin = np.concatenate([start, np.zeros(2 * shape[0] * shape[1])])
    end = integrate.solve_ivp(rate, (0, T), begin, method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1]
    parts, K = end[P:].reshape(2, *shape)
    return end[:P], parts, K


def descend(f, start, samples, lr, steps):
    """The parameters of gradient descent on half the squared residuals, and the residuals."""
    xs, ys = map(double, zip(*samples, strict=True))
    path, alphas = [double(start)], []
    for _ in range(steps):
        alphas.append(ys - torch.stack([f(path[-1], x) for x in xs]))
        path.append(path[-1] + lr * alphas[-1] @ jacobian(f, path[-1], xs))
    return torch.stack(path), torch.stack(alphas), xs


def network(seed=0, outputs=1):
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, outputs)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return model, torch.randn(7, 4, generator=generator, dtype=torch.float64)


TWO = ((1.0, 1.0), (-0.5, 0.3))

# The kernel at a point


def test_kernel_of_the_toy_has_the_reference_values():
    K = ntk(toy, double(START), double([0.5]), double([-0.3, 0.5]))
    assert K[0].tolist() == relative([0.75443235099324, 1.3694371033662])


def test_kernel_of_the_toy_is_its_closed_form():
    a, b, _ = START
    x = np.linspace(-2, 2, 9)
    h = np.tanh(b * x)
    closed = 1 + np.outer(h, h) + a**2 * np.outer(x * (1 - h**2), x * (1 - h**2))
    np.testing.assert_allclose(ntk(toy, double(START), torch.tensor(x)), closed, rtol=1e-13)


def test_kernel_is_that_of_torch_func_on_a_network():
    model, X = network()
    params = {name: p.detach() for name, p in model.named_parameters()}

    def f(p, x):
        return torch.func.functional_call(model, p, (x,))[0]

    rows = torch.func.jacrev(lambda p: torch.func.functional_call(model, p, (X,))[:, 0])(params)
    J = torch.cat([piece.reshape(7, -1) for piece in rows.values()], 1)
    torch.testing.assert_close(ntk(f, params, X), J @ J.T, rtol=1e-13, atol=1e-12)
    g, theta = flat_model(model)
    torch.testing.assert_close(ntk(g, theta, X, X[:3]), J @ J[:3].T, rtol=1e-13, atol=1e-12)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_kernel_is_symmetric_and_has_no_negative_eigenvalue(seed):
    f, theta = flat_model(network(seed)[0])
    K = ntk(f, theta, network(seed)[1])
    torch.testing.assert_close(K, K.T, rtol=0, atol=1e-13)  # sums of 47 products in another order
    eigenvalues = torch.linalg.eigvalsh(K)
    assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]  # rounding of 7 x 7 entries


def test_kernel_of_two_answers_is_a_matrix_that_exchanging_inputs_transposes():
    f, theta = flat_model(network(outputs=2)[0])
    X = network()[1]
    K = ntk(f, theta, X[:3], X[3:])
    assert K.shape == (3, 4, 2, 2)
    torch.testing.assert_close(K, ntk(f, theta, X[3:], X[:3]).permute(1, 0, 3, 2))
    assert (K - K.mT).abs().max() > 0.01  # with one hidden layer it would be symmetric
    one = ntk(lambda p, x: f(p, x)[1], theta, X[:3], X[3:])
    torch.testing.assert_close(K[..., 1, 1], one)


def test_kernel_is_differentiable():
    theta = double(START, requires_grad=True)
    ntk(product, theta[:2], double([2.0]), double([3.0])).backward(torch.ones(1, 1, dtype=torch.float64))
    assert theta.grad[:2].tolist() == relative([12 * START[0], 12 * START[1]])  # (a² + b²) 2 · 3


def test_a_flat_model_answers_as_the_module_does():
    model, X = network(outputs=2)
    f, theta = flat_model(model)
    torch.testing.assert_close(torch.stack([f(theta, x) for x in X]), model(X))
    assert theta.shape == (4 * 5 + 5 + 5 * 3 + 3 + 3 * 2 + 2,)
    theta += 1
    torch.testing.assert_close(torch.stack([f(theta - 1, x) for x in X]), model(X))  # a copy: the module is as it was


# The flow: scipy solves parameters, contributions and kernels as one equation


def test_flow_with_squared_loss_has_the_reference_values():
    theta, parts, K = flow(toy, START, TWO, 2, [0.7, -1.5])
    assert theta.tolist() == relative([0.6102711125779, 1.082642149873, 0.5416023851589])
    assert toy(double(theta), double(0.7)).item() == relative(0.9320590480569)
    assert parts[0].tolist() == relative([0.1738786027818, 0.3095331954918])
    assert K[0].tolist() == relative([3.193481051247, 1.189475034399])
    assert (parts / K)[0].tolist() == relative([0.05444798324823, 0.2602267273715])
    assert (parts / K)[1].tolist() == relative([0.04498340209912, 0.2700337561735])
    for row, x in zip(parts, (0.7, -1.5), strict=True):
        moved = toy(double(theta), double(x)) - toy(double(START), double(x))
        assert row.sum() == pytest.approx(moved.item(), abs=2e-14)


def test_flow_with_logistic_loss_has_the_reference_values():
    theta, parts, _ = flow(toy, START, ((1.0, 1.0), (-0.5, -1.0)), 3, [0.7], logistic)
    assert toy(double(theta), double(0.7)).item() == relative(1.45347460387, 1e-11)
    assert parts[0].tolist() == relative([1.298461071436, -0.2936337173488], 1e-11)


@pytest.mark.parametrize(
    "z0, T, z, K, alpha",
    [
        (0.1, 2, 0.85848644975821, 1.8499992893998, 0.4099928330266),
        (0.01, 3, 0.80295715277028, 1.614283739412, 0.49121299645817),
    ],
)
def test_flow_of_a_product_has_its_closed_form(z0, T, z, K, alpha):
    assert z0 * np.exp(2 * T) / (1 - z0 + z0 * np.exp(2 * T)) == relative(z)
    assert np.log(1 + z0 * (np.exp(2 * T) - 1)) == relative(K)
    theta, parts, kernel = flow(product, [z0**0.5] * 2, ((1.0, 1.0),), T, [1.0])
    assert theta.prod() == relative(z, 1e-11)
    assert kernel.item() == relative(K, 1e-11)
    assert parts.item() / kernel.item() == relative(alpha, 1e-11)


def test_weight_decay_makes_a_homogeneous_model_forget():
    theta, parts, _ = flow(product, (0.5, 0.3), ((1.0, 1.0),), 3, [2.0], decay=0.2)
    answer = 2 * theta.prod()
    assert answer == relative(1.550021958879)
    assert np.exp(-0.2 * 2 * 3) * 0.5 * 0.3 * 2 + parts.sum() == relative(answer, 1e-11)


# Finite steps


def test_one_step_has_the_reference_values():
    path, alpha, xs = descend(toy, START, TWO, 0.4, 1)
    found = path_kernel(toy, path, alpha, double([0.7]), xs, 0.4, nodes=12)
    assert toy(path[-1], double(0.7)).item() == relative(0.91534863377906)
    assert found.contributions[0].tolist() == relative([0.28343127474981, 0.18327010924598])
    assert abs(found.residual).max() < 1e-15
    left = path_kernel(toy, path, alpha, double([0.7]), xs, 0.4, nodes=0)
    assert -left.residual.item() == relative(-2.8014332e-4, 2e-8)


def test_five_steps_have_the_reference_values():
    path, alpha, xs = descend(toy, START, TWO, 0.4, 5)
    found = path_kernel(toy, path, alpha, double([0.7]), xs, 0.4, nodes=12)
    assert toy(path[-1], double(0.7)).item() == relative(0.93131792960286)
    assert found.contributions[0].tolist() == relative([0.16478753969319, 0.3178831401264])
    left = path_kernel(toy, path, alpha, double([0.7]), xs, 0.4, nodes=0)
    assert -left.residual.item() == relative(-1.7076236e-3, 2e-8)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_contributions_of_any_step_add_up_to_the_change(seed):
    model, X = network(seed)
    f, theta = flat_model(model)
    weights = 0.02 * torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    J = jacobian(f, theta, X[:3])
    delta = weights @ J
    parts = chord_contributions(f, theta, delta, X[3:], J, nodes=24) * weights
    change = torch.stack([f(theta + delta, x) - f(theta, x) for x in X[3:]])
    assert parts.shape == (4, 3)
    torch.testing.assert_close(parts.sum(1), change, rtol=0, atol=1e-7)  # steps of length 0.2 or so, weights of size 1


def test_contributions_of_several_answers_are_those_of_each():
    model, X = network(outputs=2)
    f, theta = flat_model(model)
    J = jacobian(f, theta, X[:3])[:, 0]
    delta = 0.01 * J.sum(0)
    both = chord_contributions(f, theta, delta, X, J)
    assert both.shape == (7, 2, 3)
    torch.testing.assert_close(both[:, 1], chord_contributions(lambda p, x: f(p, x)[1], theta, delta, X, J))


def test_kernel_of_a_step_is_not_symmetric_but_that_of_its_left_end_is():
    theta, X = double(START), double([1.0, -0.5, 2.0])
    J = jacobian(toy, theta, X)
    chord, left = (chord_contributions(toy, theta, 0.5 * J.sum(0), X, J, nodes) for nodes in (8, 0))
    assert (chord - chord.T).abs().max() > 1e-3
    torch.testing.assert_close(left, ntk(toy, theta, X), rtol=1e-14, atol=0)


def test_error_of_left_ends_is_of_first_order_and_that_of_nodes_of_high_order():
    left, chord = [], []
    for steps in (10, 20, 40):
        path, alpha, xs = descend(toy, START, TWO, 2 / steps, steps)
        left.append(path_kernel(toy, path, alpha, double([0.7]), xs, 2 / steps, nodes=0).residual.item())
        chord.append(abs(path_kernel(toy, path, alpha, double([0.7]), xs, 2 / steps).residual.item()))
    assert [left[0] / left[1], left[1] / left[2]] == pytest.approx([2, 2], rel=0.1)
    assert max(chord) < 1e-13


def test_momentum_needs_the_rows_of_earlier_steps():
    theta, X, y = double(START), double([1.0, -0.5]), double([1.0, 0.3])
    places, rows, weights, made = double([0.7, -1.5]), [], double([]), 0
    for _ in range(10):
        rows.append(jacobian(toy, theta, X))
        weights = torch.cat([0.9 * weights, 0.1 * (y - torch.stack([toy(theta, x) for x in X]))])
        J = torch.cat(rows)
        made = made + chord_contributions(toy, theta, weights @ J, places, J, nodes=8) @ weights
        theta = theta + weights @ J
    change = torch.stack([toy(theta, x) - toy(double(START), x) for x in places])
    torch.testing.assert_close(made, change, rtol=0, atol=1e-12)


def test_residual_tells_that_a_path_obeys_another_rule():
    path, alpha, xs = descend(toy, START, TWO, 0.1, 5)
    path = path + torch.linspace(0, 0.1, 6, dtype=torch.float64)[:, None]
    assert path_kernel(toy, path, alpha, double([0.7]), xs, 0.1).residual.abs().item() > 0.01


def test_contributions_of_consecutive_pieces_add_up():
    path, alpha, xs = descend(toy, START, TWO, 0.2, 6)
    x = double([0.7, 2.0])
    whole = path_kernel(toy, path, alpha, x, xs, 0.2)
    first = path_kernel(toy, path[:3], alpha[:2], x, xs, 0.2)
    second = path_kernel(toy, path[2:], alpha[2:], x, xs, 0.2)
    for part in ("contributions", "kernel", "residual"):
        both = getattr(first, part) + getattr(second, part)
        torch.testing.assert_close(getattr(whole, part), both, rtol=1e-12, atol=1e-14)


def test_path_kernel_of_a_linear_model_is_time_times_its_kernel():
    rng = np.random.default_rng(0)
    features, new = torch.tensor(rng.standard_normal((8, 20))), torch.tensor(rng.standard_normal((5, 20)))
    theta, y = torch.tensor(rng.standard_normal(20)), torch.tensor(rng.standard_normal(8))

    def linear(theta, x):
        return theta @ x

    path, alphas = [theta], []
    for _ in range(50):
        alphas.append(y - features @ path[-1])
        path.append(path[-1] + 0.01 * alphas[-1] @ features)
    found = path_kernel(linear, torch.stack(path), torch.stack(alphas), new, features, 0.01)
    torch.testing.assert_close(found.kernel, 0.5 * new @ features.T, rtol=1e-11, atol=1e-12)
    strengths = found.contributions / found.kernel
    torch.testing.assert_close(strengths, strengths[:1].expand(5, 8), rtol=1e-9, atol=1e-9)


def test_a_linear_model_trained_to_the_end_is_kernel_regression():
    rng = np.random.default_rng(1)
    features, new, y = rng.standard_normal((8, 20)), rng.standard_normal((5, 20)), rng.standard_normal(8)
    K = ntk(lambda theta, x: theta @ x, torch.zeros(20, dtype=torch.float64), torch.tensor(features)).numpy()
    ridge = KernelRidge(alpha=1e-12, kernel="precomputed").fit(K, y)
    values, vectors = np.linalg.eigh(K)
    grown = (1 - (1 - 0.02 * values) ** 20_000) / values  # of K⁻¹(1 - (1 - ηK)ⁿ)
    theta = np.zeros(20)
    for _ in range(20_000):
        theta += 0.02 * (y - features @ theta) @ features
    np.testing.assert_allclose(new @ theta, new @ features.T @ (vectors * grown) @ vectors.T @ y, rtol=0, atol=1e-12)
    np.testing.assert_allclose(new @ theta, ridge.predict(new @ features.T), rtol=0, atol=1e-9)


# Devices, formats, errors


@pytest.mark.gpu
def test_on_a_gpu_the_same():
    model, X = network()
    f, theta = flat_model(model)
    J = jacobian(f, theta, X)
    on_cpu = chord_contributions(f, theta, 0.01 * J.sum(0), X, J)
    g, there = flat_model(model.cuda())
    on_gpu = chord_contributions(g, there, 0.01 * J.sum(0).cuda(), X.cuda(), J.cuda())
    assert on_gpu.device.type == "cuda"
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-10, atol=1e-12)


def test_single_precision_is_kept():
    theta, X = double(START).float(), double([1.0, 2.0]).float()
    J = jacobian(toy, theta, X)
    assert J.dtype == ntk(toy, theta, X).dtype == chord_contributions(toy, theta, J[0], X, J).dtype == torch.float32


ONE, THETA = double([1.0]), double(START)
ROWS = jacobian(toy, THETA, ONE)
PATH = torch.stack([THETA, THETA])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: ntk(toy, THETA, double([[1.0]]), ONE), ValueError, r"X and Y must hold inputs of one shape, got \(1, 1\) and \(1,\)"),
        (lambda: ntk(toy, THETA, double([])), ValueError, r"X must hold numbers, got shape \(0,\)"),
        (lambda: ntk(toy, THETA, double(1.0)), ValueError, r"X must have shape \(n, ...\)"),
        (lambda: ntk(toy, THETA, [1.0]), TypeError, "X must be a torch tensor, got list"),
        (lambda: ntk(toy, THETA, torch.tensor([1])), TypeError, "X must be a floating-point tensor, got dtype torch.int64"),
        (lambda: ntk(toy, THETA, ONE, double([float("nan")])), ValueError, "Y must be finite numbers, got nan"),
        (lambda: ntk(product, THETA * 1e200, ONE), ValueError, "params, X and Y must be of a size"),
        (lambda: jacobian(None, THETA, ONE), TypeError, "f must be a function"),
        (lambda: jacobian(toy, {}, ONE), ValueError, "params must hold at least one tensor"),
        (lambda: jacobian(lambda p, x: p[:, None] * x, THETA, ONE), ValueError, r"f must return a number or a vector .* got shape \(3, 1\)"),
        (lambda: jacobian(lambda p, x: 1.0, THETA, ONE), ValueError, "f must return a number or a vector .* got float"),
        (lambda: flat_model(toy), TypeError, "model must be a torch.nn.Module, got function"),
        (lambda: flat_model(nn.Tanh()), ValueError, "model must have parameters"),
        (lambda: chord_contributions(toy, THETA, THETA[:2], ONE, ROWS), ValueError, r"delta must have the shape \(3,\) of theta, got \(2,\)"),
        (lambda: chord_contributions(toy, THETA, THETA, ONE, ROWS[0]), ValueError, r"J_train must have shape \(m, 3\)"),
        (lambda: chord_contributions(toy, THETA, THETA, ONE, ROWS, nodes=65), ValueError, "nodes must be at most 64, got 65"),
        (lambda: chord_contributions(toy, PATH, PATH, ONE, ROWS), ValueError, r"theta must have shape \(P,\)"),
        (lambda: path_kernel(toy, THETA, ROWS, ONE, ONE, 0.1), ValueError, r"trajectory must have shape \(steps \+ 1, P\)"),
        (lambda: path_kernel(toy, PATH, double([[1.0, 2.0]]), ONE, ONE, 0.1), ValueError, r"alpha must have shape \(1, 1\)"),
        (lambda: path_kernel(toy, PATH, double([[1.0]]), ONE[:, None], ONE, 0.1), ValueError, "X and X_train must hold inputs of one shape"),
        (lambda: path_kernel(toy, PATH, double([[1.0]]), ONE, ONE, 0), ValueError, "lr must be positive"),
        (lambda: path_kernel(lambda p, x: p * x, PATH, double([[1.0]]), ONE, ONE, 0.1), ValueError, "f must return one number for one input, got 3"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()
