"""Facts about the losses for many labels. Reference values: mpmath with 40 digits, by brute force."""

import math
from itertools import combinations

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from kexue_utils.losses import log_elementary_symmetric, multilabel_softmax, pairwise_ranking

S = np.array([0.5, -1.2, 2.0, 0.3, -0.7])
TWO, NONE, ALL = [1, 0, 1, 0, 0], [0] * 5, [1] * 5
seeds = st.integers(0, 2**32 - 1)


def relative(expected, tolerance=1e-14):
    return pytest.approx(expected, rel=tolerance, abs=0)


def draw(seed, *batch, n=7):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, (*batch, n)), rng.integers(0, 2, (*batch, n))


def tensors(scores, labels):
    return torch.tensor(scores, requires_grad=True), torch.tensor(labels, dtype=torch.float64)


# Reference values


def test_multilabel_softmax_has_the_reference_values():
    assert multilabel_softmax(S, TWO) == relative(1.701609352643567915)
    assert multilabel_softmax(S, NONE) == relative(2.500239801629475221)
    assert multilabel_softmax(S, ALL) == relative(2.056243766099194094)
    assert multilabel_softmax(S, TWO, threshold=0.4) == relative(1.636974999682171562)


def test_pairwise_ranking_has_the_reference_values():
    assert pairwise_ranking(S, TWO) == relative(0.9529156672995357439)
    assert pairwise_ranking(S, TWO, gamma=2, margin=0.25) == relative(0.8649856501753617548)


def test_subset_sums_have_the_reference_values():
    Z = np.exp(log_elementary_symmetric(S, 5))
    assert Z.tolist() == relative(
        [1, 11.185415692910393, 32.818829321990638, 37.449944715593985, 16.766016918692624, 2.4596031111569496]
    )
    assert log_elementary_symmetric(S, 2)[2] - 2.5 == relative(0.9910024153728315780)
    x0 = math.exp(0.4)
    padded = [sum(x0**j * Z[K - j] for j in range(K + 1)) for K in range(6)]
    assert padded[3] == relative(114.62360219532368689)
    assert math.log(padded[3]) - 2.5 - 0.4 == relative(1.8416537359140404052)
    assert math.log(padded[5]) - 2.5 - 3 * 0.4 == relative(1.9439301270392502597)
    bce = F.binary_cross_entropy_with_logits(*map(torch.tensor, (S - 0.4, np.array(TWO) * 1.0)), reduction="sum")
    assert bce.item() == relative(1.9439301270392502597)


def test_inclusion_probabilities_have_the_reference_values():
    s = torch.tensor(S, requires_grad=True)
    (inclusion,) = torch.autograd.grad(log_elementary_symmetric(s, 2)[2], s)
    assert inclusion.tolist() == relative(
        [0.479095423904402, 0.0998897455812195, 0.854738410575592, 0.404542555702536, 0.16173386423625], 1e-13
    )


def test_soft_labels_have_the_reference_minimum():
    t = np.array([0.9, 0.2, 0.5])
    best = np.log(t / (1 - t)) / 2
    assert best.tolist() == pytest.approx([1.09861228866811, -0.693147180559945, 0], abs=1e-14)
    assert multilabel_softmax(best, t) == relative(1.5769147207285403389)
    steps = np.random.default_rng(0).normal(0, 1, (100, 3))
    assert (multilabel_softmax(best + steps, np.tile(t, (100, 1)), reduction="none") > 1.5769147207285403).all()


# What the losses are


@given(seeds)
def test_multilabel_softmax_is_its_definition(seed):
    s, t = draw(seed, 4)
    by_hand = np.log1p((np.exp(s) * (1 - t)).sum(-1)) + np.log1p((np.exp(-s) * t).sum(-1))
    assert multilabel_softmax(s, t, reduction="none").tolist() == relative(by_hand.tolist(), 1e-13)


@given(seeds)
def test_multilabel_softmax_is_the_mask_trick_of_the_article(seed):
    s, t = draw(seed, 4)
    negative, positive = s * (1 - 2 * t) - t * 1e12, s * (1 - 2 * t) - (1 - t) * 1e12
    article = sum(np.logaddexp.reduce(np.c_[x, np.zeros(4)], axis=-1) for x in (negative, positive))
    assert multilabel_softmax(s, t, reduction="none").tolist() == pytest.approx(article.tolist(), abs=1e-13)


@given(seeds)
def test_pairwise_ranking_is_the_sum_over_pairs(seed):
    s, t = draw(seed)
    pairs = [math.exp(1.5 * (s[i] - s[j] + 0.2)) for i in np.flatnonzero(t == 0) for j in np.flatnonzero(t)]
    assert pairwise_ranking(s, t, gamma=1.5, margin=0.2) == pytest.approx(math.log1p(sum(pairs)), rel=1e-12, abs=1e-300)


@given(seeds)
def test_one_positive_label_is_cross_entropy(seed):
    s, _ = draw(seed, 4)
    target = np.random.default_rng(seed).integers(0, 7, 4)
    theirs = F.cross_entropy(torch.tensor(s), torch.tensor(target), reduction="none")
    ours = pairwise_ranking(s, np.eye(7)[target], reduction="none")
    assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-12, abs=1e-13)


@given(seeds)
def test_never_above_the_sum_of_sigmoid_cross_entropies(seed):
    s, t = tensors(*draw(seed, 4))
    bce = F.binary_cross_entropy_with_logits(s, t, reduction="none").sum(-1)
    assert (
        multilabel_softmax(s, t, reduction="none") < bce
    ).all()  # equal only up to one label a side, and here are seven


def test_two_labels_one_each_are_two_sigmoids():
    s, t = torch.randn(50, 2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64).expand(50, 2)
    bce = F.binary_cross_entropy_with_logits(s, t, reduction="none").sum(-1)
    torch.testing.assert_close(multilabel_softmax(s, t, reduction="none"), bce, rtol=1e-13, atol=0)


@given(seeds)
def test_gradient_on_each_side_sums_to_less_than_one(seed):
    s, t = tensors(*draw(seed, 4))
    (g,) = torch.autograd.grad(multilabel_softmax(s, t, reduction="sum"), s)
    assert ((g * t).sum(-1) > -1).all() and ((g * (1 - t)).sum(-1) < 1).all()
    assert (g * t <= 0).all() and (g * (1 - t) >= 0).all()


@given(seeds)
def test_a_loss_below_log_2_has_no_mistake(seed):
    s, t = draw(seed, 50, n=3)
    loss = multilabel_softmax(s, t, reduction="none")
    assert ((s > 0) == t)[loss < math.log(2)].all()


@given(seeds)
def test_threshold_shifts_the_scores(seed):
    s, t = draw(seed, 3)
    each = np.array([0.3, -1.0, 2.0])
    for s0 in (0.7, each):
        shifted = s - np.reshape(s0, (-1, 1))
        assert multilabel_softmax(s, t, s0).tolist() == relative(multilabel_softmax(shifted, t).tolist(), 1e-13)


def test_gradients_are_right():
    s, t = tensors(*draw(0, 3))
    soft = torch.rand(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for f in (
        lambda s: multilabel_softmax(s, t, 0.3),
        lambda s: pairwise_ranking(s, t, 1.5, 0.2),
        lambda s: log_elementary_symmetric(s, 4),
    ):
        assert torch.autograd.gradcheck(f, s) and torch.autograd.gradgradcheck(f, s)
    assert torch.autograd.gradcheck(multilabel_softmax, (s, soft))


# Extremes


@pytest.mark.parametrize("labels", [NONE, ALL])
def test_an_empty_side_has_a_gradient(labels):
    s = torch.tensor(S, requires_grad=True)
    (g,) = torch.autograd.grad(multilabel_softmax(s, torch.tensor(labels)), s)
    assert torch.isfinite(g).all() and (g != 0).all()
    (g,) = torch.autograd.grad(pairwise_ranking(s, torch.tensor(labels)), s)
    assert pairwise_ranking(S, labels) == 0 and (g == 0).all()


def test_a_sample_without_pairs_has_derivatives_0_of_every_order_beside_others():
    s = torch.tensor([[0.5, -1.0], [1.0, 2.0], [0.3, 0.4]], dtype=torch.float64, requires_grad=True)
    loss = pairwise_ranking(s, torch.tensor([[0, 0], [1, 1], [0, 1]]), reduction="sum")
    (g,) = torch.autograd.grad(loss, s, create_graph=True)
    (h,) = torch.autograd.grad((g**2).sum(), s)
    for derivative in (g, h):
        assert (derivative[:2] == 0).all() and (derivative[2] != 0).all()


def test_tiny_and_huge_losses_keep_their_digits():
    assert multilabel_softmax(np.array([50.0, -60.0]), [1, 0]) == relative(math.exp(-50) + math.exp(-60), 1e-15)
    assert multilabel_softmax(np.array([-1e6, 1e6]), [1, 0]) == 2e6
    assert pairwise_ranking(np.array([100.0, -100.0]), [1, 0]) == relative(math.exp(-200), 1e-13)
    assert pairwise_ranking(np.array([-100.0, 100.0]), [1, 0], gamma=10) == 2000


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_that_of_the_scores(dtype):
    loss = multilabel_softmax(torch.tensor(S, dtype=dtype), torch.tensor(TWO))
    assert loss.dtype == dtype and loss.item() == pytest.approx(1.701609352643568, rel=8 * torch.finfo(dtype).eps)
    assert log_elementary_symmetric(torch.tensor(S, dtype=dtype), 2).dtype == dtype


def test_numpy_stays_numpy():
    assert multilabel_softmax(S.astype(np.float32), TWO).dtype == np.float32
    assert multilabel_softmax(np.ones((2, 3, 4)), np.ones((2, 3, 4)), reduction="none").shape == (2, 3)
    assert isinstance(log_elementary_symmetric(S, 3), np.ndarray)


def test_reductions():
    s, t = draw(0, 4)
    each = multilabel_softmax(s, t, reduction="none")
    assert multilabel_softmax(s, t) == relative(each.mean())
    assert multilabel_softmax(s, t, reduction="sum") == relative(each.sum())


# Elementary symmetric polynomials


@given(seeds)
def test_subset_sums_are_sums_over_subsets(seed):
    s, _ = draw(seed, n=6)
    by_hand = [sum(math.exp(sum(A)) for A in combinations(s, k)) for k in range(7)]
    assert np.exp(log_elementary_symmetric(s, 8)).tolist() == pytest.approx([*by_hand, 0, 0], rel=1e-12, abs=0)


def test_subset_sums_are_coefficients_of_a_polynomial():
    s, _ = draw(1, n=20)
    assert np.exp(log_elementary_symmetric(s, 20)).tolist() == relative(np.poly(-np.exp(s)).tolist(), 1e-11)


@given(seeds)
def test_inclusion_probabilities_sum_to_the_size_of_the_subset(seed):
    s = torch.tensor(draw(seed, 2)[0], requires_grad=True)
    for k in range(8):
        (inclusion,) = torch.autograd.grad(log_elementary_symmetric(s, k)[:, k].sum(), s)
        assert inclusion.sum(-1).tolist() == pytest.approx([k, k], abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_no_digits_are_lost_where_newton_loses_all(seed):
    s = np.random.default_rng(seed).normal(0, 3, 100).astype(np.float32)
    with mp.workdps(80):
        E = [mp.mpf(1)] + [mp.mpf(0)] * 12
        for x in s:
            E = [E[0]] + [E[k] + mp.exp(mp.mpf(float(x))) * E[k - 1] for k in range(1, 13)]
        exact = [float(mp.log(e)) for e in E]
    ours = log_elementary_symmetric(s, 12)
    assert ours.dtype == np.float32
    assert abs(ours.astype(float) - exact).max() < 1e-4
    assert abs(log_elementary_symmetric(s.astype(float), 12) - exact).max() < 1e-12


# Errors


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: multilabel_softmax(S, TWO[:4]), ValueError, "labels must have the shape"),
        (lambda: multilabel_softmax(S, [2, 0, 0, 0, 0]), ValueError, "labels must lie between 0 and 1, got 2"),
        (lambda: multilabel_softmax(S, [math.nan, 0, 0, 0, 0]), ValueError, "labels must lie"),
        (lambda: multilabel_softmax(S / 0.0, TWO), ValueError, "scores must be finite"),
        (lambda: multilabel_softmax(S * 1j, TWO), TypeError, "scores must be real numbers, got dtype complex128"),
        (lambda: multilabel_softmax(np.array(1.0), 1), ValueError, "scores must have shape"),
        (lambda: multilabel_softmax(S, TWO, reduction="max"), ValueError, "reduction must be one of"),
        (lambda: multilabel_softmax(S, TWO, threshold=np.zeros(3)), ValueError, "threshold must be one number"),
        (lambda: multilabel_softmax(S, torch.tensor(TWO)), TypeError, "all NumPy or all torch"),
        (lambda: pairwise_ranking(S, [0.5, 0, 0, 0, 0]), ValueError, "labels must be 0 or 1"),
        (lambda: pairwise_ranking(S, TWO, gamma=0), ValueError, "gamma must be positive"),
        (lambda: pairwise_ranking(S, TWO, margin=math.inf), ValueError, "margin must be finite"),
        (lambda: log_elementary_symmetric(S, -1), ValueError, "k must be at least 0, got -1"),
        (lambda: log_elementary_symmetric(S, 1.0), TypeError, "k must be an integer"),
        (lambda: log_elementary_symmetric(np.array([0, -math.inf]), 1), ValueError, "log_x must be finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("library", [np.array, torch.tensor])
def test_the_first_wrong_entry_of_a_batch_is_named(library):
    batch = library([[0.5, 0.25], [-3.0, 2.0]])
    with pytest.raises(ValueError, match=r"^labels must lie between 0 and 1, got -3\.0$"):
        multilabel_softmax(batch, batch)
    with pytest.raises(ValueError, match=r"^scores must be finite numbers, got inf$"):
        multilabel_softmax(library([[0.5, 0.25], [math.inf, math.nan]]), batch)
    with pytest.raises(ValueError, match=r"^labels must be 0 or 1 for pairs of labels, got values in between$"):
        pairwise_ranking(abs(batch), abs(batch) / 4)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    s, t = tensors(*draw(0, 4))
    for f in (multilabel_softmax, pairwise_ranking):
        torch.testing.assert_close(f(s.cuda(), t.cuda()).cpu(), f(s, t))
    torch.testing.assert_close(log_elementary_symmetric(s.cuda(), 4).cpu(), log_elementary_symmetric(s, 4))
