"""Facts about the margin losses. Reference values: mpmath with 40 digits."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import eval_chebyt
from torch.nn import functional as F

from kexue_utils.losses import margin_cosine, margin_logits, margin_softmax, pairwise_ranking, triplet

C = [0.62, 0.31, -0.12, 0.48]
KINDS = {"am": 0.35, "arc": 0.5, "piecewise": 4, "min": 4}
kinds = pytest.mark.parametrize(("kind", "m"), KINDS.items())
seeds = st.integers(0, 2**32 - 1)


def relative(expected, tolerance=1e-14):
    return pytest.approx(expected, rel=tolerance, abs=0)


def at(degrees, kind, m):
    return np.asarray(margin_cosine(np.cos(np.radians(degrees)), kind, m)).tolist()


def draw(seed, batch=5, n=7, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (batch, n)).astype(dtype), rng.integers(0, n, batch)


def by_angles(cosine, kind, m):
    """psi as it is defined, with arccos, to 40 digits."""
    theta = mp.acos(mp.mpf(float(cosine)))
    if kind == "am":
        return mp.cos(theta) - m
    if kind == "arc":
        return mp.cos(theta + mp.mpf(m))
    if kind == "min":
        return min(mp.cos(m * theta), mp.cos(theta))
    k = min(int(mp.floor(m * theta / mp.pi)), m - 1)
    return (-1) ** k * mp.cos(m * theta) - 2 * k


def slow_loss(cosines, labels, kind, s, m):
    """The loss of each sample by its definition, to 40 digits."""
    with mp.workdps(40):
        losses = []
        for row, t in zip(cosines.tolist(), labels, strict=True):
            logits = [s * (by_angles(c, kind, m) if i == t else mp.mpf(c)) for i, c in enumerate(row)]
            losses.append(float(mp.log(sum(mp.exp(v) for v in logits)) - logits[t]))
        return losses


# Reference values


def test_am_softmax_has_the_reference_values():
    assert margin_softmax(C, 0) == relative(6.30790176523465521)
    assert margin_softmax(C, 0, m=0) == relative(0.0149743243675142953, 1e-13)
    assert margin_softmax(C, 3, s=10, m=0.2) == relative(3.47606594168653518)


def test_targets_have_the_reference_values():
    assert at([20, 50, 80, 130], "piecewise", 4) == relative(
        [0.173648177666930349, -1.06030737921409162, -2.76604444311897804, -4.93969262078590838], 3e-14
    )
    assert at([50, 80], "min", 4) == relative([-0.939692620785908384, 0.173648177666930349], 1e-13)
    assert at([20, 80], "arc", 0.5) == relative([0.660684666111380545, -0.319751374784933428])


def on_a_simplex(n):
    """Cosines of the first corner of a regular simplex to all n."""
    return np.r_[1.0, np.full(n - 1, -1 / (n - 1))]


@pytest.mark.parametrize(
    ("n", "m", "p", "s"),
    [
        (10, 0, 0.9, 3.95500423920519489),
        (1000, 0.35, 0.9, 13.9845858024583503),
        (100_000, 0.35, 0.99, 24.7812115391712006),
    ],
)
def test_the_least_scale_for_a_probability_has_the_reference_values(n, m, p, s):
    assert math.exp(-margin_softmax(on_a_simplex(n), 0, s=s, m=m)) == relative(p, 1e-13)


def test_the_best_probability_has_the_reference_values():
    assert math.exp(-margin_softmax(on_a_simplex(10), 0, s=1, m=0)) == relative(0.252350844300332795)
    assert math.exp(-margin_softmax(on_a_simplex(100_000), 0, s=1, m=0)) == relative(2.71826230353895504e-5, 1e-12)
    assert math.exp(-margin_softmax(on_a_simplex(100_000), 0, s=30, m=0)) == relative(0.999999990645277561)


@pytest.mark.parametrize(
    ("between", "m", "beta"), [(120, 0.35, 78.34181506792543), (90, 0.35, 75.6711224448497243), (180, 1, 60)]
)
def test_the_cap_of_a_class_ends_where_the_margin_does(between, m, beta):
    half, b = math.radians(between / 2), math.radians(beta)
    z = np.array([math.cos(b), 0, math.sin(b)])
    centres = np.array([[math.sin(half), math.cos(half), 0], [-math.sin(half), math.cos(half), 0]])
    c = centres @ z
    assert c[0] - c[1] == relative(m, 1e-14)
    assert margin_softmax(c, 0, s=7, m=m) == relative(math.log(2), 1e-14)


def test_at_half_the_distance_a_class_is_four_thirds_wide_and_a_third_from_the_next():
    inside, far, stranger = [1 / 3], [-1.0], [2 / 3]
    assert triplet(inside, far, stranger, 0) == relative(4 / 3 - 1 / 3)
    assert triplet(inside, inside, stranger, 1) == relative(1 - 1 / 3)


# What they are


@kinds
@pytest.mark.parametrize(("dtype", "rounding"), [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_the_target_is_its_definition_with_angles(kind, m, dtype, rounding):
    c = np.random.default_rng(0).uniform(-1, 1, 200).astype(dtype)
    with mp.workdps(40):
        slow = [float(by_angles(v, kind, m)) for v in c]
    ours = margin_cosine(c, kind, m)
    assert ours.dtype == dtype and ours.tolist() == pytest.approx(slow, abs=rounding)
    assert margin_cosine(torch.tensor(c), kind, m).tolist() == pytest.approx(slow, abs=rounding)


@kinds
@pytest.mark.parametrize(("dtype", "rounding"), [(np.float32, 3e-4), (np.float64, 1e-12)])
def test_the_loss_is_its_definition(kind, m, dtype, rounding):
    c, t = draw(0, 50, dtype=dtype)
    slow = slow_loss(c, t, kind, 30, m)
    assert margin_softmax(c, t, kind, 30, m, "none").tolist() == pytest.approx(slow, abs=rounding)
    tensors = margin_softmax(torch.tensor(c), torch.tensor(t), kind, 30, m, "none")
    assert tensors.tolist() == pytest.approx(slow, abs=rounding) and str(tensors.dtype) == f"torch.{np.dtype(dtype)}"


@kinds
def test_torchs_cross_entropy_of_the_logits_is_the_loss(kind, m):
    c, t = map(torch.tensor, draw(1, 20))
    theirs = F.cross_entropy(margin_logits(c, t, kind, 30, m), t)
    assert margin_softmax(c, t, kind, 30, m).item() == relative(theirs.item(), 1e-13)


@given(seeds, st.floats(1, 64), st.floats(0, 1))
def test_am_softmax_is_the_first_equation_of_circle_loss_with_one_positive(seed, s, m):
    c, t = draw(seed)
    theirs = pairwise_ranking(c, np.eye(7)[t], gamma=s, margin=m, reduction="none")
    assert margin_softmax(c, t, "am", s, m, "none").tolist() == pytest.approx(theirs.tolist(), rel=1e-11, abs=1e-300)


@given(seeds)
def test_no_margin_is_softmax_cross_entropy(seed):
    c, t = map(torch.tensor, draw(seed))
    plain = F.cross_entropy(30 * c, t, reduction="none").tolist()
    for kind, m in (("am", 0), ("arc", 0), ("piecewise", 1), ("min", 1)):
        assert margin_softmax(c, t, kind, 30, m, "none").tolist() == pytest.approx(plain, abs=1e-12)


@given(seeds)
def test_a_smaller_target_is_a_larger_loss(seed):
    c, t = draw(seed)
    plain = margin_softmax(c, t, "am", 8, 0, "none")
    for kind, m in (("am", 0.1), ("piecewise", 2), ("min", 3)):
        assert (margin_softmax(c, t, kind, 8, m, "none") >= plain).all()


@pytest.mark.parametrize("m", range(2, 9))
def test_cos_m_theta_is_scipys_chebyshev_polynomial(m):
    theta = np.linspace(0, np.pi / m, 50)[1:-1]  # the first piece
    ours = margin_cosine(np.cos(theta), "piecewise", m)
    np.testing.assert_allclose(ours, eval_chebyt(m, np.cos(theta)), atol=1e-13)
    np.testing.assert_allclose(ours, np.cos(m * theta), atol=1e-13)


@pytest.mark.parametrize("m", range(1, 9))
def test_the_piecewise_target_falls_without_jumps(m):
    psi = margin_cosine(np.cos(np.linspace(0, np.pi, 10_001)), "piecewise", m)
    assert (np.diff(psi) < 0).all() and (np.diff(psi) > -1.01 * m * np.pi / 10_000).all()
    joints = np.cos(np.arange(m + 1) * np.pi / m)
    np.testing.assert_allclose(margin_cosine(joints, "piecewise", m), 1 - 2 * np.arange(m + 1), atol=1e-13)


@pytest.mark.parametrize(("m", "trap"), [(2, 120), (3, 90), (4, 72), (5, 60)])
def test_the_minimum_has_a_local_maximum_where_training_gets_stuck(m, trap):
    theta = torch.deg2rad(torch.tensor([180 / m + 1, trap - 1.0, trap + 1.0], dtype=torch.float64)).requires_grad_()
    psi = margin_cosine(theta.cos(), "min", m)
    (slope,) = torch.autograd.grad(psi.sum(), theta)
    assert slope[0] > 0 and slope[1] > 0 > slope[2]  # rises up to the trap, and falls beyond
    assert at([trap], "min", m) == pytest.approx([math.cos(math.radians(trap))], abs=1e-14)


def test_half_a_triplet_of_centres_is_the_limit_of_large_s():
    rng = np.random.default_rng(0)
    z, centres = (
        x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (rng.normal(size=(6, 3)), rng.normal(size=(5, 3)))
    )
    c, t = z @ centres.T, rng.integers(0, 5, 6)
    rivals = np.where(np.eye(5)[t] > 0, -2, c).argmax(1)
    hinge = triplet(z, centres[t], centres[rivals], 2 * 0.35, squared=True, reduction="none") / 2
    assert (margin_softmax(c, t, s=1e6, reduction="none") / 1e6).tolist() == pytest.approx(hinge.tolist(), abs=2e-6)


# Gradients


@kinds
def test_gradients_are_right(kind, m):
    c, t = map(torch.tensor, draw(2, 3))
    c.requires_grad_()
    for f in (lambda c: margin_softmax(c, t, kind, 5, m), lambda c: margin_logits(c, t, kind, 5, m)):
        assert torch.autograd.gradcheck(f, c) and torch.autograd.gradgradcheck(f, c)


@kinds
def test_gradients_are_finite_at_the_poles(kind, m):
    c = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1 + 1e-5, 0.0]], requires_grad=True)
    (g,) = torch.autograd.grad(margin_softmax(c, torch.tensor([0, 0, 0]), kind, 30, m), c)
    assert torch.isfinite(g).all()


def test_the_slope_of_cos_m_theta_at_the_pole_is_m_squared():
    c = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(margin_cosine(c, "piecewise", 4), c)
    assert slope == 16


def test_gradient_of_the_target_logit_is_the_probability_missed():
    c, t = draw(3)
    logits = margin_logits(torch.tensor(c), torch.tensor(t)).requires_grad_()
    p = torch.softmax(logits, -1)[range(5), t]
    (g,) = torch.autograd.grad(F.cross_entropy(logits, torch.tensor(t), reduction="sum"), logits)
    assert g[range(5), t].tolist() == pytest.approx((p - 1).tolist(), abs=1e-14)


# Rounding


def test_tiny_losses_keep_their_digits():
    c = np.array([[0.99, -0.5, -0.6]], dtype=np.float32)
    ours = margin_softmax(c, [0], s=64, m=0.35, reduction="none")
    assert ours.tolist() == relative(slow_loss(c, [0], "am", 64, 0.35), 1e-4)
    assert (
        ours[0] > 0 and F.cross_entropy(margin_logits(torch.tensor(c), torch.tensor([0]), s=64), torch.tensor([0])) == 0
    )


def test_single_precision_keeps_what_the_sum_over_one_class_more_loses():
    rng = np.random.default_rng(0)
    c = np.c_[np.full(200, 0.95), rng.uniform(-0.2, 0.2, (200, 999))].astype(np.float32)
    t = np.zeros(200, int)
    logits = torch.tensor(30 * np.c_[c, c[:, :1] - np.float32(0.35)])
    log_z = logits.logsumexp(1)
    log_z = log_z + (1 - (logits[:, 0] - log_z).exp()).log()  # the sparse formula
    sparse = (log_z - logits[:, -1]).numpy()
    ours = margin_softmax(c, t, reduction="none")
    true = np.array(slow_loss(c[:20], t[:20], "am", 30, 0.35))
    assert ours.dtype == np.float32 and abs(ours[:20] / true - 1).max() < 1e-4
    assert 0.01 < np.sqrt(np.mean((sparse - ours) ** 2)) < 0.04  # e^(s m) roundings of 28.5


# Triplets


@given(seeds)
def test_triplet_is_torchs(seed):
    a, p, n = torch.tensor(np.random.default_rng(seed).normal(size=(3, 6, 4)))
    theirs = F.triplet_margin_loss(a, p, n, margin=0.3, eps=0, reduction="none")
    assert triplet(a, p, n, 0.3, reduction="none").tolist() == pytest.approx(theirs.tolist(), abs=1e-13)
    squared = (((a - p) ** 2).sum(-1) - ((a - n) ** 2).sum(-1) + 0.3).clip(0)
    assert triplet(a.numpy(), p.numpy(), n.numpy(), 0.3, True, "none").tolist() == pytest.approx(
        squared.tolist(), abs=1e-13
    )


def test_triplet_gradients_are_right_and_finite_at_distance_0():
    points = [torch.tensor(x, requires_grad=True) for x in np.random.default_rng(0).normal(size=(3, 4, 3))]
    for squared in (False, True):
        assert torch.autograd.gradcheck(lambda a, p, n, squared=squared: triplet(a, p, n, 3.0, squared), points)
    a = torch.zeros(2, 3, requires_grad=True)
    for p, n in ((a.detach(), a.detach()), (a.detach(), a.detach() + 1)):
        (g,) = torch.autograd.grad(triplet(a, p, n, 5.0, reduction="sum"), a)
        assert torch.isfinite(g).all()
    assert g.tolist() == [[pytest.approx(1 / math.sqrt(3))] * 3] * 2  # only the negative pulls


def test_triplet_keeps_the_digits_of_a_small_difference_of_large_distances():
    a, p, n = np.array([1000, 0], np.float32), np.array([0, 0], np.float32), np.array([0.001, 0], np.float32)
    assert triplet(a, p, n, 0.0) == relative(0.001, 1e-6)
    assert abs(np.linalg.norm(a - p) - np.linalg.norm(a - n) - 0.001) > 1e-5


# Formats and errors


@kinds
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_that_of_the_cosines(kind, m, dtype):
    c = torch.tensor([C], dtype=dtype)
    loss = margin_softmax(c, torch.tensor([0]), kind, 4.0, m)
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(margin_softmax([C], [0], kind, 4.0, m), rel=64 * torch.finfo(dtype).eps)


def test_reductions_and_shapes():
    c, t = np.random.default_rng(0).uniform(-1, 1, (2, 3, 5)), np.array([[0, 1, 2], [4, 3, 2]], np.uint8)
    each = margin_softmax(c, t, reduction="none")
    assert each.shape == (2, 3) and margin_logits(c, t).shape == (2, 3, 5)
    assert margin_softmax(c, t) == relative(each.mean()) and margin_softmax(c, t, reduction="sum") == relative(
        each.sum()
    )
    assert margin_softmax([0.5], 0) == 0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: margin_softmax([1.001, 0.0], 0), ValueError, "cosines must be cosines, from -1 to 1, got 1.001"),
        (lambda: margin_softmax([math.nan, 0.0], 0), ValueError, "cosines must be cosines"),
        (lambda: margin_softmax(C, 4), ValueError, "labels must be a class from 0 to 3, got 4"),
        (lambda: margin_softmax(C, -1), ValueError, "labels must be a class"),
        (lambda: margin_softmax(C, [0]), ValueError, "labels must have the batch shape"),
        (lambda: margin_softmax(C, 0.0), TypeError, "labels must be integers, got dtype float64"),
        (lambda: margin_softmax(C, torch.tensor(0)), ValueError, None),
        (lambda: margin_softmax(np.array(C), torch.tensor(0)), TypeError, "all NumPy or all torch"),
        (lambda: margin_softmax(C, 0, "cos"), ValueError, "kind must be one of am, arc, piecewise, min, got 'cos'"),
        (lambda: margin_softmax(C, 0, s=0), ValueError, "s must be positive"),
        (lambda: margin_softmax(C, 0, m=-0.1), ValueError, "m must be at least 0"),
        (lambda: margin_softmax(C, 0, "arc", m=3.2), ValueError, "m must be an angle from 0 to pi, got 3.2"),
        (lambda: margin_softmax(C, 0, "min"), TypeError, "m must be an integer, got 0.35"),
        (lambda: margin_softmax(C, 0, "min", m=0), ValueError, "m must be at least 1"),
        (lambda: margin_softmax(C, 0, reduction="max"), ValueError, "reduction must be one of"),
        (
            lambda: margin_softmax(np.zeros((0, 3)), np.zeros(0, int)),
            ValueError,
            "cosines must have at least one sample",
        ),
        (lambda: triplet([0.0], [1.0], [1.0, 2.0]), ValueError, "must have one shape"),
        (lambda: triplet([0.0], [math.inf], [1.0]), ValueError, "positive must be finite"),
        (lambda: triplet([0.0], [1.0], [1.0], -1), ValueError, "margin must be at least 0"),
        (lambda: triplet([0.0], [1.0], [1.0], squared=1), TypeError, "squared must be True or False"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    if words is None:  # a list goes with either library
        assert call().item() == pytest.approx(6.307901765, rel=1e-5)
        return
    with pytest.raises(error, match=words):
        call()


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    c, t = map(torch.tensor, draw(0, 20))
    for kind, m in KINDS.items():
        on_gpu = margin_softmax(c.cuda(), t.cuda(), kind, 30, m)
        assert on_gpu.device.type == "cuda"
        torch.testing.assert_close(on_gpu.cpu(), margin_softmax(c, t, kind, 30, m))
        torch.testing.assert_close(
            margin_logits(c.cuda(), t.tolist(), kind, 30, m).cpu(), margin_logits(c, t, kind, 30, m)
        )
    a, p, n = torch.randn(3, 5, 4)
    torch.testing.assert_close(triplet(a.cuda(), p.cuda(), n.cuda()).cpu(), triplet(a, p, n))
