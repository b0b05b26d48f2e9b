"""Facts about curvature and stable steps. Reference values: mpmath with 30 digits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from kexue_utils.curvature import max_stable_step, second_moment, top_eigenvalue

X = np.array([0.5, 2.0, -1.0, 3.5])[:, None]


def relative(expected, tolerance=1e-13):
    return pytest.approx(expected, rel=tolerance, abs=0)


def leaf(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def quadratic(A):
    """A loss with the Hessian A, and its parameters."""
    A = torch.as_tensor(A, dtype=torch.float64)
    theta = torch.ones(len(A), dtype=torch.float64, requires_grad=True)
    return (lambda: theta @ A @ theta / 2), [theta]


def network(seed):
    """A small net with a smooth loss of 34 parameters."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2), torch.nn.Tanh()).double()
    x = torch.randn(20, 3, dtype=torch.float64)
    return model, lambda: ((model(x) - 0.7) ** 2).mean()


def full_hessian(model, loss):
    """By torch.autograd.functional.hessian, with the parameters as one vector."""
    names, values = zip(*model.named_parameters(), strict=True)
    x = torch.randn(20, 3, dtype=torch.float64)

    def of_vector(theta):
        parts = dict(
            zip(
                names,
                (p.view_as(v) for p, v in zip(theta.split([v.numel() for v in values]), values, strict=True)),
                strict=True,
            )
        )
        return loss(lambda inputs: torch.func.functional_call(model, parts, (inputs,)), x)

    flat = torch.cat([v.detach().reshape(-1) for v in values])
    return torch.autograd.functional.hessian(of_vector, flat), x


def squares(call, x):
    return ((call(x) - 0.7) ** 2).mean()


# second_moment -----------------------------------------------------------------------------------------------------------


def extremes(J):
    values = np.linalg.eigvalsh(J)
    return values[-1], values[0], values[-1] / values[0]


def test_reference_eigenvalues_raw_centred_and_standardised():
    assert extremes(second_moment(X)) == relative((4.78753720205143, 0.58746279794857, 8.14951554169829))
    assert extremes(second_moment(X - X.mean())) == relative((2.8125, 1, 2.8125))
    assert extremes(second_moment((X - X.mean()) / X.std())) == relative((1, 1, 1))


def test_logistic_constant_is_a_quarter():
    largest = extremes(second_moment(X))[0] / 4
    assert largest == relative(1.19688430051286)
    assert 2 / largest == relative(1.6710052919426)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (lambda x: x, 11.443528389172316),
        (lambda x: x - x.mean(0), 1.0),
        (StandardScaler().fit_transform, 7.340688819618298),
    ],
    ids=["raw", "centred", "standardised"],
)
def test_digits(inputs, expected):
    digits = load_digits().data / 16
    digits = digits[:, digits.std(0) > 0]
    assert digits.shape[1] == 61
    assert extremes(second_moment(inputs(digits)))[0] == relative(expected, 1e-12)


def test_second_moment_names_what_it_cannot_take():
    with pytest.raises(ValueError, match=r"^x "):
        second_moment(np.ones(3))
    with pytest.raises(ValueError, match=r"^x "):
        second_moment(np.full((3, 2), 1e200))
    with pytest.raises(TypeError, match=r"^bias "):
        second_moment(np.ones((3, 2)), bias=1)


def test_last_row_is_the_mean_and_one():
    x = np.random.default_rng(0).normal(size=(3, 20, 4))
    J = second_moment(x)
    assert J.shape == (3, 5, 5)
    np.testing.assert_allclose(J[:, -1, :-1], x.mean(1), rtol=1e-14)
    assert (J[:, -1, -1] == 1).all()
    np.testing.assert_allclose(J[:, :-1, :-1], second_moment(x, bias=False))


def test_it_is_the_hessian_of_least_squares():
    rng = np.random.default_rng(1)
    x, y = (torch.as_tensor(rng.normal(size=size)) for size in ((30, 3), 30))

    def loss(theta):
        return ((x @ theta[:3] + theta[3] - y) ** 2).mean() / 2

    hessian = torch.autograd.functional.hessian(loss, torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(second_moment(x), hessian)


clouds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(clouds, st.integers(1, 6), st.floats(0, 5))
def test_centring_never_raises_the_largest_eigenvalue_nor_the_condition_number(rng, d, offset):
    x = rng.normal(size=(4 * d + 4, d)) * rng.uniform(0.2, 3, d) + offset * rng.normal(size=d)
    raw, centred = extremes(second_moment(x)), extremes(second_moment(x - x.mean(0)))
    rounding = 1 + 1e-12 * raw[2]
    assert centred[0] <= raw[0] * (1 + 1e-12)
    assert centred[1] >= raw[1] / rounding
    assert centred[2] <= raw[2] * rounding


def test_tensors_keep_format_and_gradient():
    x = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    J = second_moment(x)
    assert J.dtype == torch.float32
    J[0, 0].backward()
    torch.testing.assert_close(x.grad, x.detach() / 2)  # of the mean of squares of four numbers


def test_unit_variances_can_worsen_the_condition_number():
    C = np.array([[3, -6, 7], [-6, 14, -16], [7, -16, 19]], dtype=float)
    R = C / np.sqrt(np.outer(C.diagonal(), C.diagonal()))
    assert extremes(C)[2] == relative(115.72907489506434, 1e-11)
    assert extremes(R)[2] == relative(152.3362750405947, 1e-11)


# top_eigenvalue ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("A", "expected"), [(np.diag([3.0, -7, 2]), -7), (np.diag([3.0, 1, 2]), 3), (np.diag([0.0, 0, 0]), 0)]
)
def test_value_has_the_sign_of_the_eigenvalue_of_largest_modulus(A, expected):
    value, residual = top_eigenvalue(*quadratic(A))
    assert value == pytest.approx(expected, abs=1e-12)
    assert residual < 1e-12


@given(clouds, st.integers(1, 20))
def test_residual_bounds_the_distance_to_an_eigenvalue(rng, iters):
    A = rng.normal(size=(12, 12))
    A = A + A.T
    value, residual = top_eigenvalue(*quadratic(A), iters=iters)
    exact = np.linalg.eigvalsh(A)
    rounding = 1e-13 * abs(exact).max()
    assert abs(exact - value).min() <= residual + rounding
    assert max(abs(value), residual) <= abs(exact).max() + rounding
    if iters >= 12:
        assert abs(value) == pytest.approx(abs(exact).max(), rel=1e-10)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_net_has_the_eigenvalue_of_its_full_hessian(seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()
    hessian, x = full_hessian(model, squares)
    exact = np.linalg.eigvalsh(hessian.numpy())
    value, residual = top_eigenvalue(lambda: squares(model, x), model.parameters(), iters=32)
    assert value == relative(exact[abs(exact).argmax()], 1e-10)
    assert residual < 1e-6


def test_arpack_finds_the_same_with_the_same_products():
    model, loss = network(3)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss(), parameters, create_graph=True)

    def product(v):
        parts = torch.as_tensor(v.ravel()).split([p.numel() for p in parameters])
        directions = [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]
        rows = torch.autograd.grad(gradients, parameters, directions, retain_graph=True)
        return torch.cat([row.reshape(-1) for row in rows]).numpy()

    size = sum(p.numel() for p in parameters)
    (expected,) = eigsh(LinearOperator((size, size), product, dtype=float), k=1, which="LM", return_eigenvectors=False)
    assert top_eigenvalue(loss, parameters, iters=size).value == relative(expected, 1e-9)


def test_parameters_are_left_alone_and_unused_ones_are_no_trouble():
    used, unused = leaf([1.0, 2.0]), leaf([5.0])
    assert top_eigenvalue(lambda: (used**4).sum() / 12, [unused, used]).value == relative(4)
    assert used.tolist() == [1, 2]
    assert used.grad is None


def test_a_linear_loss_is_flat():
    theta = leaf([1.0, 2.0])
    assert top_eigenvalue(lambda: 3 * theta.sum(), [theta]) == (0, 0)


def test_partly_linear_loss_counts_only_what_is_curved():
    a, b = leaf([1.0]), leaf([2.0])
    assert top_eigenvalue(lambda: (2 * a**2 + 5 * b).sum(), [b, a]).value == relative(4)


def test_loss_without_a_graph_is_refused():
    theta = leaf([1.0])
    with pytest.raises(
        ValueError, match=r"^loss_fn must return a loss with a graph that leads to params, got one without$"
    ):
        top_eigenvalue(lambda: (theta**2).sum().detach(), [theta])
    with torch.no_grad(), pytest.raises(ValueError, match="loss_fn"):
        top_eigenvalue(lambda: (theta**2).sum(), [theta])
    with pytest.raises(ValueError, match="leads to params"):
        top_eigenvalue(lambda: (theta**2).sum(), [leaf([2.0])])


@pytest.mark.parametrize(("result", "given"), [(3.0, "float"), (torch.ones(2), r"shape \(2,\)")])
def test_what_is_no_loss_is_refused(result, given):
    with pytest.raises(ValueError, match=f"^loss_fn must return a tensor of one number, got {given}$"):
        top_eigenvalue(lambda: result, [leaf([1.0])])


def test_what_is_no_function_and_no_number_of_steps_is_refused():
    with pytest.raises(TypeError, match=r"^loss_fn must be a function, got Tensor$"):
        top_eigenvalue(torch.ones(()), [leaf([1.0])])
    with pytest.raises(ValueError, match=r"^iters must .* got 0$"):
        top_eigenvalue(lambda: torch.ones(()), [leaf([1.0])], iters=0)


def test_parameters_of_two_formats_make_one_vector_of_the_wider():
    A = np.array([[3.0, 1.0, 0.5], [1.0, -4.0, 2.0], [0.5, 2.0, 1.0]])
    first, rest = torch.ones(1, requires_grad=True), leaf([1.0, 2.0])

    def loss():
        theta = torch.cat([first.double(), rest])
        return theta @ torch.as_tensor(A) @ theta / 2

    exact = np.linalg.eigvalsh(A)
    assert top_eigenvalue(loss, [first, rest]).value == relative(exact[abs(exact).argmax()], 1e-6)


def test_twenty_five_steps_from_one_start_are_the_default():
    loss, parameters = quadratic(np.diag(np.linspace(1, 2, 200)))
    assert top_eigenvalue(loss, parameters) == top_eigenvalue(loss, parameters, iters=25, seed=0)


def test_infinite_curvature_is_refused():
    theta = leaf([0.0])
    with pytest.raises(ValueError, match=r"^loss_fn must have finite derivatives, got NaN or infinity$"):
        top_eigenvalue(lambda: theta.sqrt().sum(), [theta])


@pytest.mark.parametrize(
    ("params", "error", "said"),
    [
        ([], ValueError, "not be empty"),
        (torch.ones(2), TypeError, "be an iterable of tensors, got Tensor"),
        (
            [torch.ones(2)],
            TypeError,
            "be floating-point tensors that require gradients, got one of torch.float32 without",
        ),
        (["w"], TypeError, "be floating-point tensors that require gradients, got str"),
        (
            [torch.ones(1, device=device, requires_grad=True) for device in ("cpu", "meta")],
            ValueError,
            r"be on one device, got \['cpu', 'meta'\]",
        ),
    ],
)
def test_params_that_are_none_are_refused(params, error, said):
    with pytest.raises(error, match=f"^params must {said}$"):
        top_eigenvalue(lambda: torch.ones(()), params)


def test_seed_fixes_the_start():
    loss, parameters = quadratic(np.diag(np.linspace(1, 2, 200)))
    first, again, other = (top_eigenvalue(loss, parameters, iters=5, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    model, _ = network(0)
    x = torch.randn(20, 3, dtype=torch.float64)
    here = top_eigenvalue(lambda: squares(model, x), model.parameters())
    model.cuda()
    there = top_eigenvalue(lambda: squares(model, x.cuda()), model.parameters())
    assert there.value == relative(here.value, 1e-9)
    torch.testing.assert_close(second_moment(x.cuda()).cpu(), second_moment(x))


# max_stable_step ---------------------------------------------------------------------------------------------------------


def test_descent_on_least_squares_is_stable_up_to_two_over_the_largest_eigenvalue():
    J = second_moment(X)

    def stable(lr):
        theta = np.array([1.0, -1.0])
        for _ in range(20_000):
            theta = theta - lr * J @ theta
            if abs(theta).max() > 10:
                return False
        return True

    # Above the limit by a share of 1e-3 the error grows by 2e-3 a step: to ten times its start within 20 000 steps.
    assert max_stable_step(stable, 0.01, 10, rtol=1e-4) == relative(2 / 4.78753720205143, 1e-3)


def test_answer_is_stable_and_a_little_more_is_not():
    found = max_stable_step(lambda lr: lr < math.pi, 1e-3, 1e9, rtol=1e-12)
    assert found < math.pi <= found * (1 + 1e-12)


def test_a_millionth_is_close_enough_by_default():
    assert max_stable_step(lambda lr: lr < 1, 0.1, 10) == max_stable_step(lambda lr: lr < 1, 0.1, 10, rtol=1e-6)


def test_neighbours_among_the_numbers_end_the_search():
    smallest = math.ulp(0.0)
    assert max_stable_step(lambda lr: lr < 2 * smallest, smallest, 2 * smallest) == smallest


def test_what_is_no_training_and_no_accuracy_is_refused():
    with pytest.raises(TypeError, match=r"^stable must be a function, got bool$"):
        max_stable_step(True, 0.1, 1)
    with pytest.raises(ValueError, match=r"^rtol must be at least 1e-15"):
        max_stable_step(lambda lr: lr < 1, 0.1, 2, rtol=1e-16)


def test_trainings_cost_a_logarithm():
    calls = []
    max_stable_step(lambda lr: calls.append(lr) or lr < 1, 1e-6, 1e6, rtol=1e-3)
    assert len(calls) <= 2 + math.ceil(math.log2(math.log(1e12) / math.log1p(1e-3)))


@pytest.mark.parametrize(
    ("lo", "hi", "said"),
    [
        (2, 3, "lo must be a stable"),
        (0.1, 0.5, "hi must be an unstable"),
        (1, 1, "lo must be below hi"),
        (-1, 2, "lo must be positive"),
        (1, 0, "hi must be positive"),
    ],
)
def test_bracket_that_does_not_hold_the_limit_is_refused(lo, hi, said):
    with pytest.raises(ValueError, match=said):
        max_stable_step(lambda lr: lr < 1, lo, hi)


def test_answer_that_is_not_yes_or_no_is_refused():
    with pytest.raises(TypeError, match="stable must return True or False, got 1"):
        max_stable_step(lambda lr: 1, 0.1, 1)
