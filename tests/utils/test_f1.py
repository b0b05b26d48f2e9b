"""Facts about the soft F1 and its best threshold. Exact values are fractions worked out by hand, or come from scikit-learn and from trying everything."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_curve
from torch.nn.functional import cross_entropy

from kexue_utils.f1 import f1_optimal_threshold, soft_macro_f1

BATCH = (128, 16, 8, 8)  # the shares of kexue.fm/archives/5505
NEVER = -800.0  # e^-800 is 0 in double precision


def members(counts):
    return np.repeat(np.arange(len(counts)), counts)


def constant(q, counts=BATCH):
    """Scores of a network that gives every sample the probabilities q."""
    with np.errstate(divide="ignore"):
        return np.tile(np.maximum(np.log(q), NEVER), (sum(counts), 1))


@pytest.mark.parametrize(
    ("q", "score"),
    [
        ([1 / 4] * 4, Fraction(29, 168)),  # 0.17261904761904762
        ([0.8, 0.1, 0.05, 0.05], Fraction(1, 4)),
        ([1, 0, 0, 0], Fraction(2, 9)),
    ],
)
def test_constant_predictions_on_the_batch_of_the_article(q, score):
    assert soft_macro_f1(constant(q), members(BATCH), loss=False) == pytest.approx(float(score), rel=1e-14)
    assert float(Fraction(29, 168)) == pytest.approx(0.17261904761904762, rel=1e-15)


def test_two_classes():
    scores = np.log([[0.9, 0.1]] * 8 + [[0.6, 0.4]] * 2)
    labels = members((8, 2))
    assert soft_macro_f1(scores, labels, loss=False) == pytest.approx(0.6612466124661247, rel=1e-15)
    assert soft_macro_f1(scores, labels) == pytest.approx(-np.log(0.6612466124661247), rel=1e-15)


def test_gradient_at_the_uniform_start():
    """Through the softmax, p (g - sum p g), of a member of a class of 8 among 160: it is pulled with 23/576, the other classes are pushed."""
    s = torch.zeros(160, 4, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(soft_macro_f1(s, torch.as_tensor(members(BATCH)), loss=False), s)[0]
    pushes = [Fraction(-2 * T, 4 * (T + 40) ** 2) for T in BATCH[:3]]
    assert pushes[2] == Fraction(-1, 576)
    g = [*pushes, Fraction(23, 576)]
    assert slope[-1, 3].item() == pytest.approx(float((g[3] - sum(g) / 4) / 16), rel=1e-12)
    assert slope[-1, 2].item() == pytest.approx(float((g[2] - sum(g) / 4) / 16), rel=1e-12)


@pytest.mark.parametrize("counts", [(9, 1), BATCH, (50, 30, 20), (40, 10, 6, 5, 3, 2, 1)])
def test_gradient_at_the_shares_is_that_of_cross_entropy(counts):
    labels = torch.as_tensor(members(counts))
    s = torch.log(torch.tensor(counts, dtype=torch.float64) / sum(counts)).repeat(sum(counts), 1).requires_grad_()
    soft, ce = (torch.autograd.grad(loss(s, labels), s)[0] for loss in (soft_macro_f1, cross_entropy))
    assert (soft - ce).abs().max() < 1e-16
    assert soft_macro_f1(s, labels, loss=False).item() == pytest.approx(1 / len(counts), rel=1e-13)


@given(st.integers(0, 2**32 - 1))
def test_hard_predictions_have_the_usual_macro_f1(seed):
    rng = np.random.default_rng(seed)
    true, said = rng.integers(0, 4, 12), rng.integers(0, rng.integers(1, 5), 12)
    scores = np.where(np.eye(4)[said] == 1, 0, NEVER)
    assert soft_macro_f1(scores, true, loss=False) == pytest.approx(
        f1_score(true, said, average="macro", zero_division=0, labels=range(4)), rel=1e-12
    )


@given(st.integers(0, 2**32 - 1))
def test_pull_at_a_score_is_bounded_by_its_probability(seed):
    generator = torch.Generator().manual_seed(seed)
    s = (5 * torch.randn(9, 3, dtype=torch.float64, generator=generator)).requires_grad_()
    labels = torch.tensor([0, 1, 2, *torch.randint(0, 3, (6,), generator=generator)])
    slope = torch.autograd.grad(soft_macro_f1(s, labels, loss=False), s)[0]
    assert (slope.abs() <= 4 / 3 * s.softmax(-1) * (1 + 1e-12)).all()


def test_a_hopeless_class_still_has_a_loss_and_a_gradient():
    """All probabilities of the true classes are e^-2000, which is 0 in double precision: 2 e^-2000 / (1 + 1) for each of two classes."""
    s = torch.tensor([[0.0, 2000.0], [2000.0, 0.0]], dtype=torch.float64, requires_grad=True)
    loss = soft_macro_f1(s, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(2000, rel=1e-14)
    assert torch.isfinite(torch.autograd.grad(loss, s)[0]).all()


def test_an_absent_class_counts_nothing():
    s = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    value = soft_macro_f1(s, labels, loss=False)
    p = s.detach().softmax(-1).numpy()
    expected = sum(2 * p[labels == c, c].sum() / (int((labels == c).sum()) + p[:, c].sum()) for c in (0, 1)) / 3
    assert value.item() == pytest.approx(expected, rel=1e-14)
    assert torch.isfinite(torch.autograd.grad(value, s)[0]).all()


def test_eps_is_added_to_each_denominator():
    s, labels = np.zeros((2, 2)), [0, 1]
    assert soft_macro_f1(s, labels, eps=2.0, loss=False) == pytest.approx(1 / (1 + 1 + 2), rel=1e-15)


def test_gradient_is_right():
    s = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    labels = torch.tensor([[0, 1, 2, 0, 1], [2, 2, 1, 0, 0]])
    assert torch.autograd.gradcheck(lambda z: soft_macro_f1(z, labels), s)
    assert torch.autograd.gradcheck(lambda z: soft_macro_f1(z, labels, eps=0.5, loss=False), s)


def test_batches_lead_and_both_libraries_agree():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(2, 3, 7, 4)), rng.integers(0, 4, (2, 3, 7))
    value = soft_macro_f1(scores, labels)
    assert value.shape == (2, 3)
    assert value[1, 2] == pytest.approx(soft_macro_f1(scores[1, 2], labels[1, 2]), rel=1e-14)
    of_torch = soft_macro_f1(torch.tensor(scores, dtype=torch.float32), torch.tensor(labels))
    assert of_torch.dtype == torch.float32
    assert of_torch.numpy() == pytest.approx(value, rel=1e-5)
    assert soft_macro_f1(scores.astype(np.float32), labels).dtype == np.float32


def best_by_trying(a):
    """The largest F1 over all choices of at least one sample, and a choice that has it."""
    choices = [c for c in itertools.product((0, 1), repeat=len(a)) if any(c)]
    return max((2 * sum(x for x, here in zip(a, c, strict=True) if here) / (sum(a) + sum(c)), c) for c in choices)


@given(st.lists(st.fractions(min_value=Fraction(1, 50), max_value=1, max_denominator=50), min_size=1, max_size=7))
def test_threshold_is_half_of_the_best_f1(a):
    value, _ = best_by_trying(a)
    best = f1_optimal_threshold([float(x) for x in a])
    assert best.f1 == pytest.approx(float(value), rel=1e-13)
    assert best.threshold == best.f1 / 2 <= 0.5
    above = [x for x in a if x > value / 2]
    assert 2 * sum(above) / (sum(a) + len(above)) == value


def test_threshold_of_uniform_posteriors_is_a_golden_ratio():
    a = (np.arange(100_000) + 0.5) / 100_000
    best = f1_optimal_threshold(a)
    assert best.threshold == pytest.approx(0.3819660112501051518, rel=1e-9)
    assert best.f1 == pytest.approx(0.7639320225002103036, rel=1e-9)


def test_threshold_agrees_with_trying_all_thresholds_on_labels():
    """Labels drawn from the probabilities: scikit-learn's best F1 over all thresholds is close to the predicted one."""
    rng = np.random.default_rng(0)
    a = rng.beta(0.4, 1.6, 200_000)
    precision, recall, _ = precision_recall_curve(rng.random(a.size) < a, a)
    measured = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
    assert f1_optimal_threshold(a).f1 == pytest.approx(measured, abs=0.005)


def test_threshold_of_batches_of_tensors_and_of_nothing():
    a = torch.tensor([[0.9, 0.5, 0.35, 0.1], [0.0, 0.0, 0.0, 0.0]])
    best = f1_optimal_threshold(a)
    assert best.f1.dtype == torch.float32
    assert best.f1.numpy() == pytest.approx([8 / 11, 0], rel=1e-6)
    assert best.threshold.numpy() == pytest.approx([4 / 11, 0], rel=1e-6)


@pytest.mark.gpu
def test_soft_macro_f1_on_the_gpu():
    s = torch.randn(64, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 4, (64,), generator=torch.Generator().manual_seed(1))
    there = soft_macro_f1(s.cuda(), labels.cuda())
    assert there.device.type == "cuda"
    assert there.item() == pytest.approx(soft_macro_f1(s, labels).item(), rel=1e-12)
    assert f1_optimal_threshold(s.softmax(-1).cuda()).f1.cpu().numpy() == pytest.approx(
        f1_optimal_threshold(s.softmax(-1)).f1.numpy(), rel=1e-12
    )


@pytest.mark.parametrize(
    ("call", "error", "names"),
    [
        (lambda: soft_macro_f1(np.zeros(4), [0]), ValueError, r"scores .*\(\.\.\., N, k\).*\(4,\)"),
        (lambda: soft_macro_f1(np.zeros((2, 3)), [0]), ValueError, r"labels .*shape.*\(1,\)"),
        (lambda: soft_macro_f1(np.zeros((2, 3)), [0, 3]), ValueError, "labels .*0 to 2.*3"),
        (lambda: soft_macro_f1(np.zeros((2, 3)), [0, -1]), ValueError, "labels .*-1"),
        (lambda: soft_macro_f1(np.zeros((2, 3)), [0.0, 1.0]), TypeError, "labels .*integers"),
        (lambda: soft_macro_f1(torch.zeros(2, 3), torch.zeros(2)), TypeError, "labels .*integers"),
        (
            lambda: soft_macro_f1(torch.zeros(2, 3), np.zeros(2, int)),
            TypeError,
            "labels and scores must be all NumPy or all torch",
        ),
        (lambda: soft_macro_f1([[0, np.nan]], [0]), ValueError, "scores .*finite"),
        (lambda: soft_macro_f1([[0, 1]], [0], eps=-1), ValueError, "eps .*at least 0"),
        (lambda: soft_macro_f1([[0, 1]], [0], loss=1), TypeError, "loss .*True or False"),
        (lambda: f1_optimal_threshold([0.5, 1.5]), ValueError, "probabilities .*0 to 1.*1.5"),
        (lambda: f1_optimal_threshold([]), ValueError, "probabilities .*N at least 1"),
        (lambda: f1_optimal_threshold(["a"]), TypeError, "probabilities .*real"),
    ],
)
def test_errors_name_the_argument(call, error, names):
    with pytest.raises(error, match=names):
        call()
