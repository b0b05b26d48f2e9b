"""Facts about the grouped cross-entropy of n choices among m classes. Reference values: mpmath with 40 digits, by brute force."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from torch.nn import functional as F

from kexue_utils.losses import grouped_cross_entropy, grouped_optimum, multilabel_softmax, symmetric_sinkhorn

S = np.array([[0.3, -1.0, 0.8], [1.5, 0.2, -0.6]])
T = np.array([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]])
H = np.array([[0, 0, 1], [1, 0, 0]])
S_2, T_2 = S[:, :2], np.array([[0.2, 0.8], [0.7, 0.3]])
cases = st.builds(lambda seed, n, m: draw(seed, n, m), st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(2, 6))


def relative(expected, tolerance=1e-14):
    return pytest.approx(expected, rel=tolerance, abs=0)


def draw(seed, n=4, m=3, *batch, alpha=1.0):
    """Scores, labels that are probabilities, and one-hot labels."""
    rng = np.random.default_rng(seed)
    hard = np.eye(m)[rng.integers(0, m, (*batch, n))]
    return rng.normal(0, 3, (*batch, n, m)), rng.dirichlet(np.full(m, alpha), (*batch, n)), hard


def by_hand(scores, labels):
    """The double sum as it stands, in 40 digits."""
    n, m = np.shape(scores)
    with mp.workdps(40):
        s = [[mp.mpf(float(x)) for x in row] for row in scores]
        inside = [
            1 + sum(mp.mpf(float(labels[i][j])) * mp.exp(s[i][k] - s[i][j]) for i in range(n) for k in range(m) if k != j)
            for j in range(m)
        ]  # fmt: skip
        return float(sum(map(mp.log, inside)))


def cross_entropy(scores, labels):
    return F.cross_entropy(torch.tensor(scores), torch.tensor(labels, dtype=torch.float64), reduction="sum").item()


def third_loss(scores, labels):
    """The other loss of the article, which looks at scores less their mean."""
    return np.log1p((labels * np.exp(scores.mean(-1, keepdims=True) - scores)).sum(-2)).sum(-1)


def minimised(loss, labels):
    def value(s):
        s = torch.tensor(s, requires_grad=True)
        total = loss(s.reshape(labels.shape), torch.tensor(labels))
        return total.item(), torch.autograd.grad(total, s)[0].numpy()

    return optimize.minimize(value, np.zeros(labels.size), jac=True, method="BFGS", options={"gtol": 1e-11})


# Reference values ----------------------------------------------------------------------------------------------------


def test_losses_have_the_reference_values():
    assert grouped_cross_entropy(S, T) == relative(3.54016917151990323)
    assert grouped_cross_entropy(S, H) == relative(0.904898627361254061)
    assert grouped_cross_entropy(S_2, T_2) == relative(1.83601634946606169)
    assert cross_entropy(S, T) == relative(2.45489862736125406)
    assert cross_entropy(S, H) == relative(0.904898627361254061)
    assert third_loss(S, T) == relative(1.75656815907719173)
    assert third_loss(S, H) == relative(0.660668363448962216)
    assert third_loss(S_2, T_2) == relative(1.51884254483419883)


def test_gradient_has_the_reference_values():
    s = torch.tensor(S, requires_grad=True)
    (g,) = torch.autograd.grad(grouped_cross_entropy(s, torch.tensor(T)), s)
    assert [g[0, 0].item(), g[1, 2].item()] == relative([0.116146695245886407, -0.569138631358964652], 1e-13)


def test_optimum_has_the_reference_values():
    best = grouped_optimum(T)
    assert best.weights.tolist() == relative([2.23373274157388867, 2.08186089687781177, 2.14277835702984826])
    assert best.minimum == relative(2.29903950160345141)
    row = [0.257184190569847285, 0.421215189363937105, 0.321600620066215610]
    assert best.probabilities[0].tolist() == relative(row)
    assert grouped_optimum(T_2).minimum == relative(1.23927851613760339)


def test_the_other_loss_has_its_reference_minimum_at_the_geometric_mean():
    assert 3 * math.log1p(np.cbrt(T.prod(1)).sum()) == relative(1.31812576813231718)
    assert third_loss(np.log(T), T) == relative(1.31812576813231718)


def test_the_other_loss_is_small_where_the_class_is_wrong():
    wrong, target = np.array([[5.0, 10.0, -15.0]]), [[1, 0, 0]]
    assert third_loss(wrong, np.array(target)) == relative(0.00671534848911807, 1e-12)
    assert grouped_cross_entropy(wrong, target) == relative(5.00671534850291)
    assert cross_entropy(wrong, target) == relative(5.00671534850291)


# What the loss is ----------------------------------------------------------------------------------------------------


@given(cases)
@settings(max_examples=50)
def test_it_is_the_double_sum(case):
    s, soft, hard = case
    for t in (soft, hard):
        assert grouped_cross_entropy(s, t) == relative(by_hand(s, t), 1e-13)
        single = grouped_cross_entropy(torch.tensor(s).float(), torch.tensor(t))
        assert single.dtype == torch.float32
        assert single.item() == pytest.approx(by_hand(s.astype(np.float32), t.astype(np.float32)), rel=1e-5)


@given(cases)
def test_gradient_is_softmax_less_labels_with_a_weight_for_each_choice(case):
    s, t, _ = case
    p = special.softmax(s, -1)
    r = t / p / (1 + (t * (1 / p - 1)).sum(0))
    expected = r.sum(-1, keepdims=True) * p - r
    s = torch.tensor(s, requires_grad=True)
    (g,) = torch.autograd.grad(grouped_cross_entropy(s, torch.tensor(t)), s)
    np.testing.assert_allclose(g, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0])
def test_gradients_are_right(spread):
    """With spread 0 all scores are tied, where a maximum has no derivative."""
    s, soft, hard = draw(0, 3, 4, 2)
    s = torch.tensor(spread * s, requires_grad=True)
    for t in (torch.tensor(soft), torch.tensor(hard)):
        assert torch.autograd.gradcheck(lambda s, t=t: grouped_cross_entropy(s, t), s)
        assert torch.autograd.gradgradcheck(lambda s, t=t: grouped_cross_entropy(s, t), s)
    logits = torch.tensor(soft).log().requires_grad_()
    assert torch.autograd.gradcheck(lambda s, z: grouped_cross_entropy(s, z.softmax(-1)), (s, logits))


@given(cases)
def test_one_choice_is_cross_entropy(case):
    s, _, hard = case
    assert grouped_cross_entropy(s[:1], hard[:1]) == pytest.approx(cross_entropy(s[:1], hard[:1]), rel=1e-12, abs=1e-13)


@given(st.integers(0, 2**32 - 1))
def test_choices_of_different_classes_are_summed_cross_entropies(seed):
    s, _, _ = draw(seed, 4, 6)
    different = np.eye(6)[np.random.default_rng(seed).permutation(6)[:4]]
    assert grouped_cross_entropy(s, different) == pytest.approx(cross_entropy(s, different), rel=1e-12)


@given(cases)
def test_never_above_cross_entropy_for_one_hot_labels(case):
    s, _, hard = case
    assert grouped_cross_entropy(s, hard) <= cross_entropy(s, hard) + 1e-13  # differences of scores near 10
    if hard.sum(0).max() > 1:
        assert grouped_cross_entropy(s, hard) < cross_entropy(s, hard)


@given(cases)
def test_a_single_soft_choice_is_never_below_cross_entropy(case):
    s, soft, _ = case
    assert grouped_cross_entropy(s[:1], soft[:1]) >= cross_entropy(s[:1], soft[:1]) - 1e-13


@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_two_classes_are_the_multilabel_loss_of_the_differences(seed, n):
    s, t, _ = draw(seed, n, 2)
    assert grouped_cross_entropy(s, t) == relative(multilabel_softmax(s[:, 0] - s[:, 1], t[:, 0]).item(), 1e-13)


@given(cases)
def test_convex_along_any_line(case):
    s, t, _ = case
    other = s[::-1, ::-1] + 1
    ends = (grouped_cross_entropy(s, t) + grouped_cross_entropy(other, t)) / 2
    assert grouped_cross_entropy((s + other) / 2, t) <= ends * (1 + 1e-12)


@given(cases)
def test_a_constant_added_to_the_scores_of_a_choice_changes_nothing(case):
    s, t, _ = case
    shift = np.arange(len(s))[:, None] - 1.5
    assert grouped_cross_entropy(s + shift, t) == relative(grouped_cross_entropy(s, t), 1e-12)


def test_samples_are_independent_of_each_other():
    s, t, _ = draw(0, 4, 3, 2, 5)
    each = grouped_cross_entropy(s, t, reduction="none")
    assert each.shape == (2, 5)
    assert each[1, 2] == relative(by_hand(s[1, 2], t[1, 2]))
    assert grouped_cross_entropy(s, t) == relative(each.mean())
    assert grouped_cross_entropy(s, t, reduction="sum") == relative(each.sum())
    together = grouped_cross_entropy(s.reshape(-1, 3), t.reshape(-1, 3))
    assert together < 0.9 * each.sum()  # another loss


def test_tiny_and_huge_losses_keep_their_digits():
    assert grouped_cross_entropy(np.array([[60.0, 0.0, -5.0]]), [[1, 0, 0]]) == relative(math.exp(-60) + math.exp(-65))
    assert grouped_cross_entropy(np.array([[-1e6, 1e6]]), [[1, 0]]) == 2e6
    s = torch.tensor([[60.0, 0.0]], requires_grad=True)
    (g,) = torch.autograd.grad(grouped_cross_entropy(s, torch.tensor([[1, 0]])), s)
    assert g[0].tolist() == relative([-math.exp(-60), math.exp(-60)], 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_that_of_the_scores(dtype):
    loss = grouped_cross_entropy(torch.tensor(S, dtype=dtype), torch.tensor(H))
    assert loss.dtype == dtype and loss.item() == pytest.approx(0.904898627361254, rel=16 * torch.finfo(dtype).eps)


# Its minimum ---------------------------------------------------------------------------------------------------------


@given(cases)
def test_gradient_vanishes_at_the_optimum_and_nowhere_is_it_lower(case):
    s, t, _ = case
    t = 0.98 * t + 0.02 / t.shape[-1]
    best = grouped_optimum(t)
    at_best = torch.tensor(np.log(best.probabilities), requires_grad=True)
    loss = grouped_cross_entropy(at_best, torch.tensor(t))
    assert torch.autograd.grad(loss, at_best)[0].abs().max() < 1e-12
    assert loss.item() == relative(best.minimum, 1e-13)
    assert grouped_cross_entropy(s, t) > best.minimum


@pytest.mark.parametrize("seed", range(4))
def test_free_minimisation_over_all_scores_finds_the_same(seed):
    _, t, _ = draw(seed, 6, 4)
    found, best = minimised(grouped_cross_entropy, t), grouped_optimum(t)
    assert found.fun == relative(best.minimum, 1e-12)
    np.testing.assert_allclose(special.softmax(found.x.reshape(t.shape), -1), best.probabilities, atol=1e-6)


@given(cases)
def test_labels_come_back_from_scores_and_weights(case):
    _, t, _ = case
    best = grouped_optimum(t)
    with np.errstate(divide="ignore"):
        back = special.softmax(2 * np.log(best.probabilities) + np.log(best.weights), -1)
    np.testing.assert_allclose(back, t, atol=1e-12)
    odds = np.where(t > 0, t / np.where(t > 0, best.probabilities, 1) - t, 0)
    np.testing.assert_allclose(best.weights, 1 + odds.sum(0), rtol=1e-11)


def test_two_classes_have_the_minimum_of_the_multilabel_loss():
    _, t, _ = draw(0, 9, 2)
    assert grouped_optimum(t).minimum == relative(2 * math.log1p(np.sqrt(t.prod(1)).sum()), 1e-13)


def test_one_hot_labels_have_minimum_0_that_is_not_reached():
    best = grouped_optimum(H)
    assert best.minimum == 0 and best.weights.tolist() == [1, 1, 1] and best.probabilities.tolist() == H.tolist()
    assert grouped_cross_entropy(40.0 * H, H) == relative(4 * math.exp(-40), 1e-13)


def test_labels_with_zeros_have_a_minimum_that_is_approached():
    t = np.array([[0.0, 0.4, 0.6], [0.7, 0.3, 0.0]])
    best = grouped_optimum(t)
    losses = [grouped_cross_entropy(np.log(best.probabilities + 10.0**-k), t) for k in (4, 8, 12)]
    assert losses[0] > losses[1] > losses[2] > best.minimum
    assert losses[2] == pytest.approx(best.minimum, rel=1e-11)


def test_a_single_even_choice_has_weights_in_closed_form():
    for m in range(2, 9):
        best = grouped_optimum(np.full((1, m), 1 / m))
        assert best.weights.tolist() == relative([(2 * m - 1) / m] * m, 1e-13)
        assert best.probabilities[0].tolist() == relative([1 / m] * m, 1e-14)


# Scaling -------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_rows_sum_to_one_and_two_sided_scaling_agrees(seed, m):
    rng = np.random.default_rng(seed)
    M = rng.exponential(1, (m, m))
    M += M.T + np.eye(m)
    v = symmetric_sinkhorn(M)
    np.testing.assert_allclose(v * (M @ v), 1, atol=1e-13)
    rows, columns = np.ones(m), np.ones(m)
    for _ in range(3000):  # Sinkhorn's own iteration, which scales rows and columns in turn
        rows = 1 / (M @ columns)
        columns = 1 / (M.T @ rows)
    np.testing.assert_allclose(v, np.sqrt(rows * columns), rtol=1e-6)


def test_batches_are_scaled_one_by_one():
    M = np.random.default_rng(0).exponential(1, (3, 2, 4, 4))
    M += np.swapaxes(M, -1, -2)
    together = symmetric_sinkhorn(M)
    assert together.shape == (3, 2, 4)
    assert together[2, 1].tolist() == relative(symmetric_sinkhorn(M[2, 1]).tolist(), 1e-13)


def test_units_do_not_matter():
    M = np.array([[2.0, 1.0, 0.5], [1.0, 8.0, 0.25], [0.5, 0.25, 1.0]])
    d = np.array([1e-100, 3.0, 1e120])
    assert symmetric_sinkhorn(d[:, None] * M * d).tolist() == relative((symmetric_sinkhorn(M) / d).tolist(), 1e-13)


def test_scaling_says_how_far_it_got():
    with pytest.raises(RuntimeError, match=r"not scaled after 3 steps: its rows miss 1 by up to 0\.0"):
        symmetric_sinkhorn([[2.0, 1.0, 0.5], [1.0, 8.0, 0.25], [0.5, 0.25, 1.0]], max_iter=3)


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: grouped_cross_entropy(S, T[:, :2]), ValueError, "labels must have the shape of the scores"),
        (lambda: grouped_cross_entropy(S, T / 2), ValueError, r"labels must sum to 1 over the classes, got the sum 0\.5"),
        (lambda: grouped_cross_entropy(S, [[1, 1, -1], [1, 0, 0]]), ValueError, "labels must lie between 0 and 1, got -1"),
        (lambda: grouped_cross_entropy(S[0], T[0]), ValueError, r"must have shape \(\.\.\., n, m\)"),
        (lambda: grouped_cross_entropy(S[:, :1], np.ones((2, 1))), ValueError, "m >= 2 classes"),
        (lambda: grouped_cross_entropy(S / 0.0, T), ValueError, "scores must be finite"),
        (lambda: grouped_cross_entropy(S, torch.tensor(T)), TypeError, "all NumPy or all torch"),
        (lambda: grouped_cross_entropy(S, T, reduction="max"), ValueError, "reduction must be one of"),
        (lambda: grouped_optimum(T * 1.001), ValueError, "labels must sum to 1"),
        (lambda: grouped_optimum(T.astype(np.float16)), TypeError, "labels must be real numbers in single or double"),
        (lambda: symmetric_sinkhorn(T), ValueError, r"M must have shape \(\.\.\., m, m\), got \(2, 3\)"),
        (lambda: symmetric_sinkhorn([[1.0, 2.0], [2.1, 1.0]]), ValueError, "M must be symmetric"),
        (lambda: symmetric_sinkhorn([[1.0, -2.0], [-2.0, 1.0]]), ValueError, "M must be without negative entries, got -2"),
        (lambda: symmetric_sinkhorn([[0.0, 2.0], [2.0, 1.0]]), ValueError, "M must be positive on the diagonal"),
        (lambda: symmetric_sinkhorn(np.eye(2), 0), ValueError, "max_iter must be at least 1"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("library", [np.array, torch.tensor])
def test_both_libraries_give_the_same(library):
    assert float(grouped_cross_entropy(library(S), library(T))) == relative(3.54016917151990323)
    best = grouped_optimum(library(T))
    assert type(best.minimum) is type(library(1.0).sum()) or isinstance(best.minimum, np.floating)
    assert float(best.minimum) == relative(2.29903950160345141)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    s, t, _ = draw(0, 4, 5, 3)
    s, t = torch.tensor(s), torch.tensor(t)
    torch.testing.assert_close(grouped_cross_entropy(s.cuda(), t.cuda()).cpu(), grouped_cross_entropy(s, t))
    for there, here in zip(grouped_optimum(t.cuda()), grouped_optimum(t), strict=True):
        assert there.is_cuda
        torch.testing.assert_close(there.cpu(), here)
