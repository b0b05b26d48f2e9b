"""Attention from scores to weights: what a head of a given key size can express, what it costs, and the best it can do.

Notation: ``q`` has shape (..., n, r), ``k`` (..., m, r) and ``v`` (..., m, v): n queries, m keys, *key size* r, *head size* v. The logits
are ``scale * q @ k^T``, and the weights P, of shape (..., n, m), are their softmax over the last axis. The *log-odds* of P are the
differences ``log P_ij - log P_il`` within a row, and their rank is what the key size has to reach.

Functions of arrays take NumPy arrays and torch tensors (same device and dtype out), with batch dimensions in front.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arguments import (
    Array,
    alike,
    as_numbers,
    broadcast,
    finite,
    held,
    in_format_of,
    integer,
    is_tensor,
    number,
    quiet,
    require,
)
from .extras import needed_by

if TYPE_CHECKING:
    import torch

__all__ = [
    "Attention",
    "AttentionFit",
    "attention",
    "attention_flops",
    "fit_attention",
    "log_odds_rank",
    "reachable_dimension",
]


class Attention(NamedTuple):
    """What `attention` returns: the output, shape (..., n, v), and the weights, shape (..., n, m)."""

    out: Any
    weights: Any


class AttentionFit(NamedTuple):
    """What `fit_attention` returns: queries and keys of shape (..., n, r), and the mean divergence of a row, shape (...), in nats."""

    q: Any
    k: Any
    kl: Any


def attention(q: Array, k: Array, v: Array, scale: float | None = None, mask: Array | None = None) -> Attention:
    r"""Scaled dot-product attention, with its weights.

    .. math:: \mathrm{softmax}\bigl(s\,Q K^{\mathsf T} + M\bigr)\,V

    Parameters
    ----------
    q : array or tensor, shape (..., n, r)
    k : array or tensor, shape (..., m, r)
    v : array or tensor, shape (..., m, v)
        Batch dimensions broadcast. Heads are a batch dimension.
    scale : float, optional
        Factor s of the logits. Default: :math:`1/\sqrt r`.
    mask : array or tensor, shape broadcastable to (..., n, m), optional
        Boolean: True where a query may look. Real: the matrix M that is added to the logits (a relative position bias, say);
        -inf forbids.

    Returns
    -------
    Attention
        ``out`` and ``weights``; the rows of the weights sum to 1. Differentiable in torch.

    Raises
    ------
    ValueError
        If shapes do not fit, a number is not finite or too large, or a row of the mask forbids everything.
    TypeError
        If an argument is not real numbers, or NumPy and torch are mixed.

    Notes
    -----
    The output is that of `torch.nn.functional.scaled_dot_product_attention` with ``attn_mask=mask``, which is faster and does not
    return the weights. ``kdim`` of `torch.nn.MultiheadAttention` is the width of the input, not the key size.

    Source: Vaswani et al., Attention is all you need (2017), eq. (1).

    Examples
    --------
    >>> Q, K = np.array([[1, 2], [0, -1], [3, 1]]), np.array([[1, 0], [2, 1], [-1, 1]])
    >>> print(attention(Q, K, np.array([[1], [2], [4]])).out[:, 0])
    [2.09669174 1.99302031 1.94753092]
    """
    (q, k, v), xp = _floats(q=q, k=k, v=v)
    for name, array in {"q": q, "k": k, "v": v}.items():
        if array.ndim < 2 or 0 in array.shape[-2:]:
            raise ValueError(
                f"{name} must have shape (..., tokens, size), at least 1 of each, got shape {tuple(array.shape)}"
            )
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"q and k must have the same key size, got {q.shape[-1]} and {k.shape[-1]}")
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"k and v must have the same number of tokens, got {k.shape[-2]} and {v.shape[-2]}")
    broadcast(q=q.shape[:-2], k=k.shape[:-2], v=v.shape[:-2])
    scale = q.shape[-1] ** -0.5 if scale is None else number("scale", scale)
    with quiet():
        logits = held("scale, q and k", scale * (q @ xp.swapaxes(k, -1, -2)))
        if mask is not None:
            added = _added(mask, logits, xp)
            held("mask, q and k", xp.where(added == -math.inf, 0.0, logits + added))
            logits = logits + added
        weights = _softmax(logits, xp)
        return Attention(held("v", weights @ v), weights)


def log_odds_rank(P: Array, tol: float = 1e-9) -> Any:
    r"""Smallest key size with which one head has exactly the weights P.

    The rank of :math:`\log P\,(I - \frac1m 11^{\mathsf T})`: the logarithms, less their mean in each row. It is the rank of the
    log-odds, and at most m - 1; the rank of P itself says nothing.

    Parameters
    ----------
    P : array or tensor, shape (..., n, m)
        Positive weights, rows that sum to 1.
    tol : float
        A singular value counts when it exceeds ``tol`` times the largest. Uniform rows have rank 0.

    Returns
    -------
    int, or integer array or tensor of shape (...).

    Raises
    ------
    ValueError
        If P has an entry that is not positive, a row that does not sum to 1, or tol is not in (0, 1).
    TypeError
        If P is not real numbers in single or double precision.

    Notes
    -----
    Tiny probabilities have inaccurate logarithms: choose `tol` accordingly.

    Source: the converse of the bound in Bhojanapalli et al., Low-rank bottleneck in multi-head attention models (2020).

    Examples
    --------
    >>> log_odds_rank([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]])
    2
    """
    (P,), xp = _floats(half=False, P=P)
    _check_weights(P, xp, positive=True)
    if not 0 < number("tol", tol) < 1:
        raise ValueError(f"tol must be between 0 and 1, got {tol}")
    singular = xp.linalg.svd(_centred(xp.log(P)), **({"compute_uv": False} if xp is np else {}))
    singular = singular if xp is np else singular.S
    # rounding of logarithms of the size of 1 must not count where all rows are uniform
    floor = 1e2 * xp.finfo(P.dtype).eps
    rank = (singular > xp.clip(tol * singular[..., :1], floor, None)).sum(-1)
    return rank if rank.ndim else int(rank)


def reachable_dimension(n: int, r: int) -> int:
    r"""Dimension of the set of n x n attention matrices that one head of key size r reaches.

    .. math:: r\,(2n - 1 - r) \quad (r \le n - 1), \qquad n\,(n - 1) \text{ for larger } r

    Parameters
    ----------
    n : int, at least 1
        Number of tokens, queries and keys alike.
    r : int, at least 0
        Key size.

    Returns
    -------
    int, out of the n (n - 1) of all positive matrices with rows that sum to 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is too small or not an integer.

    Examples
    --------
    >>> reachable_dimension(128, 64), reachable_dimension(512, 64), reachable_dimension(7, 3)
    (12224, 61376, 30)
    """
    n, r = integer("n", n, 1), integer("r", r, 0)
    r = min(r, n - 1)
    return r * (2 * n - 1 - r)


def attention_flops(n: int, d: int, heads: int, key_size: int, head_size: int, ff: float = 4, talking: int = 0) -> int:
    r"""Multiply-adds of one Transformer layer for a text of n tokens.

    .. math:: 2 n d h r + 2 n d h v + h n^2 (r + v) + 2 f n d^2 + t\,h^2 n^2

    Projections to queries and keys; to values and back; logits and weighted sums; the two layers of the feed-forward network; and
    t mixings of the heads. Softmax, normalisations and biases are not counted.

    Parameters
    ----------
    n, d : int
        Number of tokens, width of the model.
    heads, key_size, head_size : int
        h, r and v. All sizes are at most 10**12.
    ff : float
        Width f of the feed-forward network in units of d, at most 10**12; 0 counts the attention alone.
    talking : int
        How often the heads are mixed with an h x h matrix: 0, 1 (before or after the softmax) or 2 (before and after).

    Returns
    -------
    int, multiply-adds. A multiply-add is two floating-point operations.

    Raises
    ------
    ValueError, TypeError
        If an argument is negative or too small, or not an integer where one is expected.

    Examples
    --------
    >>> attention_flops(512, 768, 12, 64, 64), attention_flops(512, 768, 12, 128, 64)
    (4026531840, 4831838208)
    """
    sizes = {"n": n, "d": d, "heads": heads, "key_size": key_size, "head_size": head_size}
    n, d, h, r, v = (integer(name, value, 1, 10**12) for name, value in sizes.items())
    talking = integer("talking", talking, 0)
    if number("ff", ff, least=0) > 1e12:
        raise ValueError(f"ff must be at most 10**12, got {ff}")
    return 2 * n * d * h * (r + v) + h * n**2 * (r + v) + 2 * n * d * round(ff * d) + talking * h**2 * n**2


def fit_attention(P: Array, key_size: int, steps: int = 600, starts: int = 1) -> AttentionFit:
    r"""Queries and keys of a given size whose attention comes closest to P.

    Minimises the mean over the rows of :math:`\mathrm{KL}(P_i \,\|\, \mathrm{softmax}(Q K^{\mathsf T})_i)`, without a scale, starting from
    the singular value decomposition of the centred log P.

    Parameters
    ----------
    P : array or tensor, shape (..., n, m)
        Target weights; rows that sum to 1. Zeros are allowed; they are only approached.
    key_size : int, at least 1 and at most 10**4
    steps : int, at most 10**6
        Most iterations of L-BFGS, for each matrix of the batch.
    starts : int, at most 10**4
        How often to start. The first start is the singular value decomposition, further ones are random (always the same); the best
        result counts.

    Returns
    -------
    AttentionFit
        ``q`` (..., n, key_size), ``k`` (..., m, key_size), ``kl`` (...) in nats. A local optimum; where the key size reaches
        `log_odds_rank`, the exact one.

    Raises
    ------
    ValueError
        If P has a negative entry or a row that does not sum to 1, or an integer is too small or too large.
    TypeError
        If P is not real numbers in single or double precision, or an argument is not an integer.

    Notes
    -----
    The problem is not convex. For random targets the SVD is a better start than random numbers, for targets with equal singular values,
    such as multiples of the identity, it can be a bad one. Computes in float64 with torch on
    the device of P, on the CPU where that device has no float64.

    Examples
    --------
    >>> P = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]])
    >>> print(fit_attention(P, 1).kl.round(9), fit_attention(P, 2).kl < 1e-15)
    0.027304663 True
    """
    with needed_by("fit_attention"):
        import torch

    key_size, steps, starts = (
        integer("key_size", key_size, 1, 10**4),
        integer("steps", steps, 1, 10**6),
        integer("starts", starts, 1, 10**4),
    )
    (P,), xp = _floats(half=False, P=P)
    _check_weights(P, xp, positive=False)
    target = torch.as_tensor(P if is_tensor(P) else np.array(P)).detach()
    target = (target.cpu() if target.device.type == "mps" else target).double()
    flat = target.reshape(-1, *target.shape[-2:])
    fits = [
        min((_fit(matrix, key_size, steps, seed) for seed in range(starts)), key=lambda fit: fit[2]) for matrix in flat
    ]
    shaped = [torch.stack(part).reshape((*target.shape[:-2], *part[0].shape)) for part in zip(*fits, strict=True)]
    if xp is np:
        return AttentionFit(*(part.numpy().astype(P.dtype)[()] for part in shaped))
    return AttentionFit(*(part.to(P) for part in shaped))


def _fit(P: torch.Tensor, key_size: int, steps: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """From the singular value decomposition if the seed is 0, else from random numbers."""
    import torch

    if seed == 0:
        # A zero has no logarithm: start from one that is e^8 times rarer than chance.
        floor = math.exp(-8) / P.shape[-1]
        U, S, Vh = torch.linalg.svd(_centred(torch.log(P.clip(floor))), full_matrices=False)
        missing = max(0, key_size - len(S))
        parts = [torch.nn.functional.pad(X[:, :key_size] * S[:key_size].sqrt(), (0, missing)) for X in (U, Vh.mT)]
    else:
        rng = np.random.default_rng([seed, key_size])
        parts = [torch.as_tensor(rng.normal(size=(size, key_size)) * key_size**-0.25).to(P) for size in P.shape]
    q, k = (part.contiguous().requires_grad_() for part in parts)  # contiguous, since L-BFGS takes views
    entropy = torch.special.xlogy(P, P).sum(-1)

    def divergence() -> torch.Tensor:
        return (entropy - (P * torch.log_softmax(q @ k.mT, -1)).sum(-1)).mean()

    optimizer = torch.optim.LBFGS(
        [q, k], max_iter=steps, max_eval=2 * steps, tolerance_grad=1e-10, tolerance_change=1e-15, history_size=20, line_search_fn="strong_wolfe"
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = divergence()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        return q.detach(), k.detach(), divergence().clip(0)


def _floats(half: bool = True, **arguments: Any) -> tuple[list[Any], ModuleType]:
    xp, *arrays = alike(half=half, **arguments)
    if len({array.dtype for array in arrays}) > 1 and xp is not np:
        raise TypeError(
            f"{', '.join(arguments)} must have one dtype, got {', '.join(str(array.dtype) for array in arrays)}"
        )
    return [finite(name, array) for name, array in zip(arguments, arrays, strict=True)], xp


def _added(mask: Any, logits: Any, xp: ModuleType) -> Any:
    """The mask as a matrix to add to the logits, in their dtype."""
    given, mask = mask, as_numbers(mask)
    boolean = mask is not given
    _, mask, _ = alike(mask=mask, logits=logits)
    try:
        shape = np.broadcast_shapes(tuple(mask.shape), tuple(logits.shape))
    except ValueError:
        shape = ()
    if shape[-2:] != tuple(logits.shape[-2:]):
        raise ValueError(
            f"mask must broadcast to the logits, shape {tuple(logits.shape)}, got shape {tuple(mask.shape)}"
        )
    if boolean:
        added = xp.where(mask > 0, 0.0, -math.inf)
    else:
        added = mask
        require("mask", added, added < math.inf, "numbers or -inf")
    if bool((added == -math.inf).all(-1).any()):
        raise ValueError("mask must leave every query something to look at, got a row that forbids everything")
    return in_format_of(logits, added)


def _softmax(logits: Any, xp: ModuleType) -> Any:
    if xp is not np:
        return xp.softmax(logits, -1)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _centred(logits: Any) -> Any:
    return logits - logits.mean(-1)[..., None]


def _check_weights(P: Any, xp: ModuleType, *, positive: bool) -> None:
    if P.ndim < 2 or 0 in P.shape[-2:]:
        raise ValueError(f"P must have shape (..., n, m) with at least one row and column, got shape {tuple(P.shape)}")
    wrong = P <= 0 if positive else P < 0
    if bool(wrong.any()):
        raise ValueError(f"P must be {'positive' if positive else 'at least 0'}, got {float(P[wrong][0])}")
    with quiet():
        sums = P.sum(-1)
    allowed = 1e-9 if xp.finfo(P.dtype).eps < 1e-12 else 1e-4
    off = ~(abs(sums - 1) <= allowed)
    if bool(off.any()):
        raise ValueError(f"P must have rows that sum to 1, got a sum of {float(sums[off][0])}")
