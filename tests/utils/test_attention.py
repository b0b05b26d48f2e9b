"""Facts about attention and its key size. Independent references: PyTorch, SciPy, and whole-numbered logits to base 2."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from kexue_utils.attention import attention, attention_flops, fit_attention, log_odds_rank, reachable_dimension

Q, K, V = np.array([[1, 2], [0, -1], [3, 1]]), np.array([[1, 0], [2, 1], [-1, 1]]), np.array([[1], [2], [4]])
THREE = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]])
MOSTLY_ITSELF = np.full((4, 4), 0.1) + 0.6 * np.eye(4)


def relative(expected, tolerance=1e-12):
    return pytest.approx(expected, rel=tolerance, abs=0)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def weights(logits):
    return scipy.special.softmax(logits, -1)


def divergence(P, fit):
    """Mean over the rows, with SciPy."""
    return scipy.special.rel_entr(P, weights(fit.q @ np.swapaxes(fit.k, -1, -2))).sum(-1).mean(-1)


# Attention -----------------------------------------------------------------------------------------------------------


def test_reference_values():
    assert attention(Q, K, V).out[:, 0] == relative([2.0966917430972, 1.9930203130309, 1.9475309176708], 1e-13)


@pytest.mark.parametrize("scale", [None, 0.0, 3.0])
def test_equals_torch_attention_in_any_batch(scale):
    q, k, v = draw(0, 2, 3, 5, 4), draw(1, 3, 7, 4), draw(2, 2, 1, 7, 6)
    out, P = attention(q, k, v, scale=scale)
    theirs = F.scaled_dot_product_attention(
        *(torch.as_tensor(np.broadcast_to(x, (2, 3, *x.shape[-2:])).copy()) for x in (q, k, v)), scale=scale
    )
    np.testing.assert_allclose(out, theirs, rtol=1e-11)
    assert P.shape == (2, 3, 5, 7) and P.sum(-1) == relative(np.ones((2, 3, 5)), 1e-14)


def test_equals_multihead_attention_with_its_own_projections():
    heads = torch.nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64)
    x = torch.as_tensor(draw(0, 2, 5, 12))
    with torch.no_grad():
        parts = zip(heads.in_proj_weight.chunk(3), heads.in_proj_bias.chunk(3), strict=True)
        split = [(x @ W.T + b).reshape(2, 5, 3, 4).transpose(1, 2) for W, b in parts]
        ours = heads.out_proj(attention(*split).out.transpose(1, 2).reshape(2, 5, 12))
        torch.testing.assert_close(ours, heads(x, x, x)[0], rtol=1e-12, atol=1e-12)


def test_boolean_and_added_masks_equal_those_of_torch():
    q, k, v = (torch.as_tensor(draw(seed, 6, 4)) for seed in range(3))
    causal, bias = torch.ones(6, 6, dtype=torch.bool).tril(), torch.as_tensor(draw(3, 6, 6))
    for mask in (causal, bias, bias.masked_fill(~causal, -math.inf)):
        theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        torch.testing.assert_close(attention(q, k, v, mask=mask).out, theirs, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(
            attention(q.numpy(), k.numpy(), v.numpy(), mask=mask.numpy()).out, theirs, rtol=1e-11
        )
    assert (attention(q, k, v, mask=causal).weights.triu(1) == 0).all()


def test_huge_logits_do_not_overflow():
    P = attention(1e4 * Q, K, V).weights
    assert np.isfinite(P).all() and P[2].tolist() == [0, 1, 0]


def test_key_bias_changes_nothing_and_query_bias_does():
    bias = np.array([0.7, -2.0])
    np.testing.assert_allclose(attention(Q, K + bias, V).weights, attention(Q, K, V).weights, rtol=1e-13)
    assert abs(attention(Q + bias, K, V).weights - attention(Q, K, V).weights).max() > 0.1


def test_talking_heads_are_one_wide_head():
    q, k, mix = draw(0, 4, 6, 2), draw(1, 4, 6, 2), draw(2, 4)
    logits = np.einsum("m,mir,mjr->ij", mix, q, k)
    wide_q, wide_k = (np.concatenate(list(part), -1) for part in (q * mix[:, None, None], k))
    np.testing.assert_allclose(attention(wide_q, wide_k, np.eye(6), scale=1).weights, weights(logits), rtol=1e-12)


@pytest.mark.parametrize(
    ("mix", "made"),
    [
        (0.5, [0.35067537628328, 0.32466231185836, 0.32466231185836]),
        (1.5, [0.90072507405594, 0.079419940755248, 0.019854985188812]),
        (2.0, [294 / 303, 8 / 303, 1 / 303]),
    ],
)
def test_mixing_logits_multiplies_distributions(mix, made):
    logs = np.log([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    mixed = attention([[1.0]], (np.array([mix, 1 - mix]) @ logs)[:, None], np.eye(3), scale=1).weights[0]
    assert mixed == relative(made, 1e-12)
    if mix == 0.5:
        gmean = scipy.stats.gmean(np.exp(logs), axis=0)
        assert gmean.sum() == relative(0.75447307966309) and mixed == relative(gmean / gmean.sum())


def test_gradients_are_those_of_torch():
    parts = [torch.as_tensor(draw(seed, 5, 3)).requires_grad_() for seed in range(3)]
    ours = torch.autograd.grad(attention(*parts).out.square().sum(), parts)
    theirs = torch.autograd.grad(F.scaled_dot_product_attention(*parts).square().sum(), parts)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_torch_stays_torch_in_its_dtype():
    out, P = attention(*(torch.as_tensor(draw(seed, 5, 3)).float() for seed in range(3)))
    assert out.dtype == P.dtype == torch.float32
    assert isinstance(fit_attention(P, 2).kl, torch.Tensor) and fit_attention(P, 2).q.dtype == torch.float32
    assert isinstance(attention(Q, K, V).out, np.ndarray)


# What a head can express ---------------------------------------------------------------------------------------------


def test_singular_values_of_the_log_odds():
    for P, expected in (
        (THREE, [1.3670377279048, 0.71116501289494]),
        (MOSTLY_ITSELF, [1.9459101490553] * 3),
    ):
        L = np.log(P) - np.log(P).mean(-1, keepdims=True)
        assert scipy.linalg.svdvals(L)[:-1] == relative(expected, 1e-13)
        assert log_odds_rank(P) == len(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(1, 8), st.integers(0, 10**6))
def test_rank_of_the_log_odds_of_a_head_is_its_key_size(n, r, seed):
    P = attention(draw(seed, n, r), draw([seed, 1], n, r), np.eye(n)).weights
    assert log_odds_rank(P) == np.linalg.matrix_rank(np.log(P[:, :-1] / P[:, -1:]), tol=1e-8) == min(r, n - 1)


def test_rank_in_batches_and_of_uniform_rows():
    P = np.stack([THREE, np.full((3, 3), 1 / 3), weights(np.outer([1, 2, 3], [0, 1, 2]))])
    assert log_odds_rank(P).tolist() == log_odds_rank(torch.as_tensor(P)).tolist() == [2, 0, 1]
    assert isinstance(log_odds_rank(THREE), int)


@pytest.mark.parametrize(("n", "det"), [(3, 2 / 147), (4, 28 / 82875), (5, 4064256 / 3459098699155)])
def test_key_size_one_may_have_weights_of_full_rank(n, det):
    P = attention(np.arange(n)[:, None] * math.log(2), np.arange(n)[:, None], np.eye(n), scale=1).weights
    assert log_odds_rank(P) == 1 and np.linalg.det(P) == relative(det, 1e-10)


def test_determinants_to_more_digits():
    expected = {3: 0.0136054421768707, 4: 0.000337858220211161, 5: 1.17494652609734e-6}
    for n, det in expected.items():
        P = np.array([[2.0 ** (i * j) for j in range(n)] for i in range(n)])
        assert np.linalg.det(P / P.sum(1, keepdims=True)) == relative(det, 1e-10)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_any_choice_of_k_tokens_needs_key_size_2k_only(k):
    t, rng = np.linspace(-1, 1, 10), np.random.default_rng(0)
    chosen = np.array([rng.choice(10, k, replace=False) for _ in range(40)])
    logits = -np.prod((t[None, :, None] - t[chosen][:, None, :]) ** 2, -1)
    assert log_odds_rank(weights(logits), tol=1e-7) == 2 * k
    assert (np.sort(np.argsort(-logits, -1)[:, :k], -1) == np.sort(chosen, -1)).all()


def test_reachable_dimensions():
    assert [reachable_dimension(*case) for case in ((128, 64), (512, 64), (7, 3), (64, 64), (5, 0))] == [
        12224,
        61376,
        30,
        4032,
        0,
    ]


@pytest.mark.parametrize("n", [2, 4, 6])
def test_dimension_is_the_rank_of_the_derivative(n):
    for r in range(1, n + 2):
        Q, K = (torch.as_tensor(draw(seed, n, r)) for seed in (0, 1))
        jacobians = torch.autograd.functional.jacobian(lambda Q, K: torch.softmax(Q @ K.T, -1), (Q, K))
        J = torch.cat([jacobian.reshape(n * n, -1) for jacobian in jacobians], 1)
        assert torch.linalg.matrix_rank(J, rtol=1e-10) == reachable_dimension(n, r)


# The best head -------------------------------------------------------------------------------------------------------


def test_best_divergence_of_small_tables():
    fit = fit_attention(THREE, 1)
    assert fit.kl == relative(0.0273046626895, 1e-9) and fit.kl == relative(divergence(THREE, fit), 1e-10)
    assert fit_attention(THREE, 2).kl < 1e-15


def test_more_starts_find_the_optimum_where_singular_values_are_equal():
    kl = [fit_attention(MOSTLY_ITSELF, r, starts=12).kl for r in (1, 2, 3)]
    assert kl[:2] == [relative(0.251054126385, 1e-8), relative(0.060356858421, 1e-8)] and kl[2] < 1e-15
    assert fit_attention(MOSTLY_ITSELF, 1).kl > kl[0]


def test_divergence_falls_with_the_key_size_to_zero_at_the_rank():
    P = weights(draw(0, 2, 8, 8))
    kl = np.array([fit_attention(P, r).kl for r in (1, 3, 5, 7, 9)])
    assert (np.diff(kl[:4], axis=0) < 0).all() and (kl[3:] < 1e-15).all() and (kl[2] > 1e-5).all()
    assert fit_attention(P, 9).q.shape == (2, 8, 9)


def test_weak_logits_follow_the_singular_values():
    P = weights(1e-3 * draw(0, 10, 10))
    singular = scipy.linalg.svdvals(np.log(P) - np.log(P).mean(-1, keepdims=True))
    for r in (1, 4, 7):
        assert fit_attention(P, r).kl == relative((singular[r:] ** 2).sum() / (2 * 10**2), 0.01)


def test_zeros_in_the_target_are_approached():
    assert 0 < fit_attention(np.eye(6), 2).kl < 0.02 < 1 < fit_attention(np.eye(6), 1).kl


# Costs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "h", "r", "v"), [(512, 768, 12, 64, 64), (512, 768, 12, 128, 64), (9, 20, 3, 5, 7)])
@pytest.mark.parametrize("talking", [0, 1, 2])
def test_cost_is_what_torch_counts(n, d, h, r, v, talking):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        x = torch.empty(n, d)
        q, k, values = ((x @ torch.empty(d, h * size)).reshape(n, h, size).transpose(0, 1) for size in (r, r, v))
        P = q @ k.mT
        for _ in range(talking):
            P = (torch.empty(h, h) @ P.reshape(h, n * n)).reshape(h, n, n)
        x = (P @ values).transpose(0, 1).reshape(n, h * v) @ torch.empty(h * v, d)
        x @ torch.empty(d, 4 * d) @ torch.empty(4 * d, d)
    assert attention_flops(n, d, h, r, v, talking=talking) == counter.get_total_flops() / 2


def test_costs_of_bert_base():
    base = attention_flops(512, 768, 12, 64, 64)
    assert (base, attention_flops(512, 768, 12, 128, 64)) == (4026531840, 4831838208)
    assert attention_flops(512, 768, 768, 1, 1, talking=1) / base == relative(39.4, 1e-14)
    assert attention_flops(512, 768, 12, 64, 64, ff=0) == base - 8 * 512 * 768**2


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: attention(Q, K[:, :1], V), ValueError, "same key size, got 2 and 1"),
        (lambda: attention(Q, K, V[:2]), ValueError, "same number of tokens, got 3 and 2"),
        (lambda: attention(Q[0], K, V), ValueError, "q must have shape"),
        (lambda: attention(Q, K, V, scale=math.inf), ValueError, "scale must be finite"),
        (lambda: attention(Q * math.nan, K, V), ValueError, "q must be finite numbers, got nan"),
        (lambda: attention(Q, torch.as_tensor(K), V), TypeError, "all NumPy or all torch"),
        (
            lambda: attention(*(torch.ones(2, 2, dtype=d) for d in (torch.float32, torch.float64, torch.float64))),
            TypeError,
            "one dtype",
        ),
        (
            lambda: attention(Q, K, V, mask=np.array([[True] * 3, [False] * 3, [True] * 3])),
            ValueError,
            "forbids everything",
        ),
        (lambda: attention(Q, K, V, mask=np.ones((2, 3))), ValueError, r"mask must broadcast .* got shape \(2, 3\)"),
        (lambda: attention(Q, K, V, mask=np.full((3, 3), math.nan)), ValueError, "mask must be numbers or -inf"),
        (lambda: attention(Q, K, V, mask=torch.ones(3, 3)), TypeError, "all NumPy or all torch"),
        (lambda: log_odds_rank([[0.5, 0.5], [1, 0]]), ValueError, "P must be positive, got 0.0"),
        (lambda: log_odds_rank([[0.5, 0.4], [0.5, 0.5]]), ValueError, "sum to 1, got a sum of 0.9"),
        (lambda: log_odds_rank(THREE, tol=0), ValueError, "tol must be between 0 and 1"),
        (lambda: fit_attention([[1.5, -0.5]], 1), ValueError, "P must be at least 0, got -0.5"),
        (lambda: fit_attention(THREE, 0), ValueError, "key_size must be at least 1, got 0"),
        (lambda: fit_attention(THREE[0], 1), ValueError, "P must have shape"),
        (lambda: reachable_dimension(4, 1.0), TypeError, "r must be an integer"),
        (lambda: attention_flops(4, 4, 1, 2, 2, talking=-1), ValueError, "talking must be at least 0"),
        (lambda: attention_flops(4, 4, 1, 2, 2, ff=math.nan), ValueError, "ff must be numbers, not NaN"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_numpy_users_do_not_import_torch():
    code = "import sys, numpy; from kexue_utils.attention import attention; attention(*numpy.ones((3, 2, 2))); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    q, k, v = (torch.as_tensor(draw(seed, 2, 6, 3)) for seed in range(3))
    out, P = attention(q.cuda(), k.cuda(), v.cuda())
    torch.testing.assert_close(out.cpu(), attention(q, k, v).out)
    assert log_odds_rank(P).is_cuda and log_odds_rank(P).tolist() == [3, 3]
    fit = fit_attention(P, 2)
    assert fit.kl.is_cuda
    torch.testing.assert_close(fit.kl.cpu(), fit_attention(P.cpu(), 2).kl, rtol=1e-6, atol=1e-9)
