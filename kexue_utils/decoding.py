"""Repetition in decoding: how often a decoder that only sees its last token says the same phrase twice in a row.

Notation: ``P[..., i, j]`` is the probability that token j follows token i. Rows sum to at most 1; what is missing is the
probability that the text ends there. ``H = P * P`` entry by entry. A *square* of length k is ``w_1 ... w_k w_1 ... w_k w_1``,
and ``(H^k)_ii`` is the probability that one starts at a given i. A *deterministic cycle* is a set of tokens each of which is
followed by the next with certainty; on it the expected number of squares is infinite.

Every function works on NumPy arrays and on torch tensors (same device and dtype out), with batch dimensions in front.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .arguments import Array, alike, finite, floating, integer, integers, namespace, number, quiet, require

__all__ = [
    "LoopBounds",
    "count_squares",
    "loop_bounds",
    "loop_mass",
    "loop_radius",
    "loop_rate",
    "merge_pair",
    "square_starts",
    "stationary",
    "truncate",
]

_CERTAIN = 1e-12  # an entry of H this close to 1 is a step that is always taken


class LoopBounds(NamedTuple):
    """What `loop_bounds` returns: two lower bounds and an upper bound for `loop_rate`, each of shape (...)."""

    pooled: Any
    per_start: Any
    upper: Any


def loop_rate(P: Array, weights: Array | None = None) -> Any:
    r"""Expected number of squares that start at a token, over all lengths, summed over the tokens.

    .. math:: R = \sum_{k\ge1} \mathrm{Tr}\,H^k = \mathrm{Tr}\,H (I - H)^{-1}, \qquad
              S = \sum_i \pi_i \bigl[H (I - H)^{-1}\bigr]_{ii}, \qquad H = P \circ P

    Parameters
    ----------
    P : array_like or tensor, shape (..., n, n)
        Transition probabilities; row sums at most 1.
    weights : array_like or tensor, shape (..., n), optional
        Weight of each start token, at most 1e150 (1e18 in float32). Default: 1 each, which gives R, an expected count and no
        probability. With the `stationary` distribution it is S, the expected number of lengths k such that a square of length k
        starts at a given position of a long text.

    Returns
    -------
    array, tensor or scalar of shape (...), in squares per start. Infinite where a token of positive weight lies on a
    deterministic cycle (each entry of H on it at least 1 - 1e-12).

    Raises
    ------
    ValueError
        If P is not square, has a negative or non-finite entry, or a row sum above 1 + 1e-9 (more in float32); if
        weights has another shape than the tokens, or a negative, non-finite or too large entry.
    TypeError
        If an argument is not real numbers in single or double precision, or one is a tensor and the other an array.

    Notes
    -----
    Solves one linear system; sums of powers cut off at a fixed k are wrong for sticky chains. Differentiable.

    Source: kexue.fm/archives/8128, equation (5), with the closed form and the finiteness of this book's chapter on it.

    Examples
    --------
    >>> P = np.array([[1 / 2, 1 / 2], [1 / 4, 3 / 4]])
    >>> print(loop_rate(P).round(12), loop_rate(P, stationary(P)).round(12))
    1.8 1.066666666667
    """
    P, xp = _chain(P)
    pi = _weights(weights, P, xp)
    visits, certain = _diagonal(P * P, xp)
    finite = (pi * visits).sum(-1)
    return xp.where((certain & (pi > 0)).any(-1), _infinity(finite, xp), finite)[()]


def loop_mass(P: Array) -> Any:
    r"""Expected number of squares with each loop counted once, whatever token it is entered at.

    .. math:: \Lambda = \sum_{k\ge1} \tfrac1k \mathrm{Tr}\,H^k = -\log\det(I - H), \qquad H = P \circ P

    Unlike `loop_rate` it does not change when a pair of tokens is merged into one (`merge_pair`).

    Parameters
    ----------
    P : array_like or tensor, shape (..., n, n)
        Transition probabilities; row sums at most 1.

    Returns
    -------
    array, tensor or scalar of shape (...); infinite where P contains a deterministic cycle.

    Raises
    ------
    ValueError, TypeError
        As `loop_rate` for P.

    Notes
    -----
    Source: the invariant is this book's addition to kexue.fm/archives/8128. Differentiable.

    Examples
    --------
    >>> P = np.array([[1 / 2, 1 / 2], [1 / 4, 3 / 4]])
    >>> print(loop_mass(P).round(12), loop_mass(merge_pair(P, 0, 1)).round(12), round(np.log(16 / 5), 12))
    1.163150809806 1.163150809806 1.163150809806
    """
    P, xp = _chain(P)
    H = P * P
    certain = _certain_cycle(H, xp)
    mass = -xp.linalg.slogdet(_identity(H, xp) - _without_rows(H, certain, xp))[1]
    return xp.where(certain.any(-1), _infinity(mass, xp), mass)[()]


def loop_radius(P: Array) -> Any:
    r"""Perron root of H = P * P: squares of length k become rarer like its k-th power.

    ``-log(loop_radius(P))`` is the Rényi entropy rate of order 2 in nats a token, when every token can be reached.

    Parameters
    ----------
    P : array_like or tensor, shape (..., n, n)
        Transition probabilities; row sums at most 1.

    Returns
    -------
    array, tensor or scalar of shape (...), between the least and the largest :math:`\sum_j P_{ij}^2`.

    Raises
    ------
    ValueError, TypeError
        As `loop_rate` for P.

    Notes
    -----
    Largest modulus among ``linalg.eigvals`` of H, as ``scipy.linalg.eigvals`` would give it.

    Source: kexue.fm/archives/8128; Rached, Alajaji & Campbell, IEEE Trans. Inf. Theory 47 (2001).

    Examples
    --------
    >>> print(loop_radius([[0, 0.9, 0.1], [0.1, 0, 0.9], [0.9, 0.1, 0]]).round(12))
    0.82
    """
    P, xp = _chain(P)
    moduli = abs(xp.linalg.eigvals(P * P))
    return (moduli.max(-1) if xp is np else moduli.amax(-1))[()]


def loop_bounds(P: Array, weights: Array | None = None, *, max_k: int = 1000) -> LoopBounds:
    r"""Two lower bounds and an upper bound for `loop_rate`; all three hold for every P.

    With the support matrix B (1 where P > 0), D the diagonal matrix of the weights and rho = `loop_radius` (P),

    .. math:: \sum_k \frac{(\mathrm{Tr}\,D P^k)^2}{\mathrm{Tr}\,D B^k}
              \;\le\; \sum_k \sum_i D_{ii} \frac{(P^k)_{ii}^2}{(B^k)_{ii}}
              \;\le\; \sum_k \mathrm{Tr}\,D H^k \;\le\; \max_i D_{ii}\, \frac{n\,\rho}{1 - \rho}

    Parameters
    ----------
    P : array_like or tensor, shape (..., n, n)
        Transition probabilities; row sums at most 1.
    weights : array_like or tensor, shape (..., n), optional
        As in `loop_rate`; default 1 each.
    max_k : int, at most 10**6
        The lower bounds stop at this length, at the latest, and remain lower bounds. They stop before where the rest
        cannot matter in floating point.

    Returns
    -------
    LoopBounds
        ``pooled``, ``per_start`` and ``upper``, each of shape (...). ``upper`` is infinite where P has a deterministic
        cycle.

    Raises
    ------
    ValueError, TypeError
        As `loop_rate`; and if max_k is not an integer from 1 to 10**6.

    Notes
    -----
    The lower bounds are Cauchy-Schwarz over the closed walks of the support, of which there are Tr B^k. Both are attained
    by the uniform chain, the upper one by multiples of the identity.

    Source: kexue.fm/archives/8128, equations (9) and (12) with the number of closed walks in place of its estimate, and
    the bound after equation (13); Fu, Lam, So & Shi, AAAI 2021, definition 2.3.

    Examples
    --------
    >>> bounds = loop_bounds([[1 / 2, 1 / 2], [1 / 4, 3 / 4]])
    >>> print([round(float(value), 10) for value in bounds])
    [1.3179723502, 1.400921659, 3.0806248475]
    """
    P, xp = _chain(P)
    pi = _weights(weights, P, xp)
    max_k = integer("max_k", max_k, least=1, most=10**6)
    n = P.shape[-1]
    rho = loop_radius(P)
    infinite = _certain_cycle(P * P, xp).any(-1)
    heaviest = pi.max(-1) if xp is np else pi.amax(-1)
    gap = _at_least(xp.where(infinite, 1.0, 1 - rho), float(xp.finfo(P.dtype).eps), xp)
    upper = xp.where(infinite, _infinity(rho, xp), heaviest * n * rho / gap)

    # Both counts and probabilities are scaled so that neither overflows: B by its spectral radius, P by the root of that.
    B = xp.where(P > 0, xp.ones_like(P), 0.0)
    growth = abs(xp.linalg.eigvals(B))
    growth = _at_least(growth.max(-1) if xp is np else growth.amax(-1), 1.0, xp)[..., None, None]
    A, C = P / growth**0.5, B / growth
    A_k, C_k = A, C
    pooled = per_start = heaviest * 0
    tail = upper
    for _ in range(max_k):
        returns, walks = _diag(A_k), _diag(C_k)
        pooled = pooled + _ratio((pi * returns).sum(-1) ** 2, (pi * walks).sum(-1), xp)
        per_start = per_start + (pi * _ratio(returns**2, walks, xp)).sum(-1)
        tail = tail * rho
        if bool((tail <= 1e-17 * pooled).all()):
            break
        A_k, C_k = A_k @ A, C_k @ C
    return LoopBounds(pooled[()], per_start[()], upper[()])


def stationary(P: Array) -> Any:
    """Stationary distribution of a chain: how often each token occurs in a long text.

    Parameters
    ----------
    P : array_like or tensor, shape (..., n, n)
        Transition probabilities; row sums 1. Some token can be reached from every token, so that the answer is unique.

    Returns
    -------
    array or tensor of shape (..., n), sums to 1.

    Raises
    ------
    ValueError
        As `loop_rate` for P; if a row does not sum to 1; or if the chain can end up in more than one closed class.
    TypeError
        As `loop_rate` for P.

    Notes
    -----
    For closed classes themselves see ``scipy.sparse.csgraph.connected_components(P, connection="strong")``.

    Examples
    --------
    >>> print(stationary([[0.5, 0.5], [0.25, 0.75]]).round(12))
    [0.33333333 0.66666667]
    """
    P, xp = _chain(P)
    sums = P.sum(-1)
    if not bool((abs(sums - 1) <= _slack(P, xp)).all()):
        raise ValueError(f"P must have row sums 1 for a stationary distribution, got {float(sums.min())}")
    reach = xp.where(P + _identity(P, xp) > 0, 1.0, 0.0)
    for _ in range(P.shape[-1].bit_length()):
        reach = xp.where(reach @ reach > 0, 1.0, 0.0)
    if not bool((reach > 0).all(-2).any(-1).all()):
        raise ValueError("P must have a token that every other leads to, got a chain with several closed classes")
    ones = xp.ones_like(P)
    # pi (I - P + J) = 1' has one solution, because pi J = 1' for every distribution.
    system = (_identity(P, xp) - P + ones).swapaxes(-1, -2)
    pi = xp.linalg.solve(system, ones[..., :1])[..., 0]
    pi = _at_least(pi, 0.0, xp)  # transient tokens may come out as -1e-17
    return pi / pi.sum(-1)[..., None]


def truncate(P: Array, top_k: int | None = None, top_p: float | None = None, temperature: float = 1.0) -> Any:
    """What a decoder makes of next-token probabilities: temperature, then top-k, then top-p (nucleus); rows rescaled.

    Parameters
    ----------
    P : array_like or tensor, shape (..., n)
        Rows of non-negative numbers, proportional to probabilities. A row of zeros stays as it is. If texts end with a
        token of their own, keep its column here and delete it afterwards.
    top_k : int, optional
        Keep the k largest entries of each row (all, if k exceeds n). Of equal ones the first are kept. 1 is greedy decoding.
    top_p : float, optional
        0 < top_p <= 1: keep the fewest largest entries that together have at least this share of what top-k left.
    temperature : float
        Positive; each probability is raised to the power 1/temperature.

    Returns
    -------
    array or tensor of the shape of P, rows summing to 1 (or 0).

    Raises
    ------
    ValueError
        If P has a negative or non-finite entry or no axis, or if top_k, top_p or temperature is out of range.
    TypeError
        If P, top_p or temperature is not real, or top_k is not an integer.

    Notes
    -----
    Order and meaning are those of the ``LogitsProcessor`` classes of the library transformers, for probabilities.

    Source: kexue.fm/archives/7500 lists the decoders; top-p: Holtzman et al., ICLR 2020.

    Examples
    --------
    >>> print(truncate([0.5, 0.3, 0.2], top_k=2), truncate([0.5, 0.3, 0.2], temperature=0.5).round(3))
    [0.625 0.375 0.   ] [0.658 0.237 0.105]
    """
    P, xp = floating("P", P)
    if P.ndim < 1 or P.shape[-1] < 1:
        raise ValueError(f"P must have shape (..., n) with n >= 1, got {tuple(P.shape)}")
    _require_probabilities("P", P, xp)
    if top_k is not None:
        top_k = min(integer("top_k", top_k, least=1), P.shape[-1])
    if top_p is not None and not 0 < (top_p := number("top_p", top_p)) <= 1:
        raise ValueError(f"top_p must be in 0 < top_p <= 1, got {top_p}")
    temperature = number("temperature", temperature, positive=True)

    largest = (P.max(-1) if xp is np else P.amax(-1))[..., None]
    positive = P > 0
    # Relative to the largest, so that a low temperature does not underflow a whole row; 1 where 0 would spoil a gradient.
    Q = xp.where(positive, P, 1.0) / xp.where(largest > 0, largest, 1.0)
    Q = xp.where(positive, Q ** (1 / temperature), 0.0)
    if top_k is not None or top_p is not None:
        order = np.argsort(-Q, axis=-1, kind="stable") if xp is np else Q.argsort(dim=-1, descending=True, stable=True)
        back = order.argsort(-1)
        take = np.take_along_axis if xp is np else xp.take_along_dim
        ranked = take(Q, order, -1)
        n = Q.shape[-1]
        ranks = xp.arange(n) if xp is np else xp.arange(n, device=Q.device)
        keep = (ranks < (top_k or n)) & (ranked >= 0)
        if top_p is not None:
            share = _ratio(ranked * keep, (ranked * keep).sum(-1)[..., None], xp)
            before = share.cumsum(-1) - share
            keep = keep & (before < top_p - 4 * n * float(xp.finfo(Q.dtype).eps))
            keep[..., 0] = True
        Q = Q * take(keep, back, -1)
    return _ratio(Q, Q.sum(-1)[..., None], xp)


def merge_pair(P: Array, i: int, j: int) -> Any:
    """The same chain, spelled with one more token: every j right after an i becomes, with it, the new token n.

    The text is the same text, and can be spelled back; so this changes nothing but the counting. `loop_mass` stays as it
    is, and `loop_rate` falls by ``H_ij [(I - H)^-1]_ji``.

    Parameters
    ----------
    P : array_like or tensor, shape (..., n, n)
        Transition probabilities; row sums at most 1.
    i, j : int
        Two different tokens, 0 <= i, j < n. (For i = j the spelling of iii would be ambiguous.)

    Returns
    -------
    array or tensor of shape (..., n + 1, n + 1). The row of i is that of an i which is *not* followed by j; it is zero if
    there is no such i.

    Raises
    ------
    ValueError
        As `loop_rate` for P; or if i, j are equal or out of range.
    TypeError
        As `loop_rate` for P; or if i or j is not an integer.

    Notes
    -----
    Source: the merging of frequent pairs is the remedy of Fu, Lam, So & Shi, AAAI 2021 ("rebalanced encoding").

    Examples
    --------
    >>> print(merge_pair([[0.5, 0.5], [0.25, 0.75]], 0, 1))
    [[0.5   0.    0.5  ]
     [0.125 0.75  0.125]
     [0.125 0.75  0.125]]
    """
    P, xp = _chain(P)
    n = P.shape[-1]
    for name, token in (("i", i), ("j", j)):
        if not 0 <= integer(name, token) < n:
            raise ValueError(f"{name} must be a token, 0 <= {name} < {n}, got {token}")
    if i == j:
        raise ValueError(f"i and j must be two different tokens, got {i} twice")
    join = xp.concatenate if xp is np else xp.cat
    others = [token for token in range(n) if token != j]
    followed = P[..., i, j, None]
    # 1 - P_ij, but not less than what the row really has left: a row may exceed 1 by rounding.
    alone = xp.maximum(1 - followed, P[..., i, others].sum(-1)[..., None])
    to_pair = P[..., :, i] * followed
    rows = join([P, to_pair[..., None]], -1)
    rows[..., :, i] = P[..., :, i] * alone
    row_i = rows[..., i, :] + 0
    row_i[..., j] = 0
    rows[..., i, :] = _ratio(row_i, alone, xp)
    return join([rows, rows[..., j : j + 1, :]], -2)


def square_starts(tokens: Array, k: int) -> Any:
    """Where squares of length `k` start: positions t with tokens[t : t+k+1] equal to tokens[t+k : t+2k+1].

    Parameters
    ----------
    tokens : array_like or tensor of integers, shape (..., T)
        Texts, one a row.
    k : int
        Length of the phrase, at least 1.

    Returns
    -------
    boolean array or tensor of shape (..., max(T - 2k, 0)): a start needs 2k + 1 tokens.

    Raises
    ------
    ValueError
        If tokens has no axis or k < 1.
    TypeError
        If tokens or k are not integers.

    Examples
    --------
    >>> print(square_starts([7, 1, 2, 1, 2, 1, 2], 2))
    [False  True  True]
    """
    tokens, xp = _tokens(tokens)
    k = min(integer("k", k, least=1), tokens.shape[-1] + 1)
    length = max(tokens.shape[-1] - k, 0)
    # k + 1 equal pairs in a row, not k: the square ends with its first token.
    mismatches = (tokens[..., k:] != tokens[..., :length]).cumsum(-1)
    start = xp.zeros_like(mismatches[..., :1])
    mismatches = (xp.concatenate if xp is np else xp.cat)([start, mismatches], -1)
    return mismatches[..., k + 1 :] == mismatches[..., : max(length - k, 0)]


def count_squares(tokens: Array, max_k: int) -> Any:
    """Number of squares ``w_1 ... w_k w_1 ... w_k w_1`` in a text, for each length k.

    Parameters
    ----------
    tokens : array_like or tensor of integers, shape (..., T)
        Texts, one a row.
    max_k : int
        The longest phrase to look for, 1 to 10**6.

    Returns
    -------
    int64 array or tensor of shape (..., max_k): entry k - 1 counts the T - 2k possible starts of length k at which a
    square of that length stands (so aaaaa has three of length 1 and one of length 2).

    Raises
    ------
    ValueError, TypeError
        As `square_starts`.

    Notes
    -----
    O(T max_k). ``(count_squares(texts, K) / (T - 2 * np.arange(1, K + 1))).sum(-1)`` estimates, without bias, the part of
    ``loop_rate(P, stationary(P))`` with k <= K.

    Examples
    --------
    >>> print(count_squares([1, 1, 1, 1, 1], 3))
    [3 1 0]
    """
    tokens, xp = _tokens(tokens)
    max_k = integer("max_k", max_k, least=1, most=10**6)
    longest = min(max_k, max(tokens.shape[-1] - 1, 0) // 2)
    shape = (*tokens.shape[:-1], max_k)
    counts = np.zeros(shape, np.int64) if xp is np else tokens.new_zeros(shape, dtype=xp.int64)
    for k in range(1, longest + 1):
        counts[..., k - 1] = square_starts(tokens, k).sum(-1)
    return counts


# ---------------------------------------------------------------------------------------------------------------------


def _diagonal(H: Any, xp: ModuleType) -> tuple[Any, Any]:
    """Diagonal of H (I - H)^-1, and which tokens are on a deterministic cycle, where it is infinite (0 is given there).

    Nothing that happens on such a cycle leads back to another token, so its rows may be taken out for the others.
    """
    certain = _certain_cycle(H, xp)
    H = _without_rows(H, certain, xp)
    return _diag(xp.linalg.solve(_identity(H, xp) - H, H)), certain


def _certain_cycle(H: Any, xp: ModuleType) -> Any:
    """Tokens on a deterministic cycle, shape (..., n): those that n sure steps lead to."""
    threshold = 1 - max(_CERTAIN, 4 * float(xp.finfo(H.dtype).eps))
    sure = xp.where(threshold <= H, xp.ones_like(H), 0.0)
    return (xp.linalg.matrix_power(sure, H.shape[-1]) > 0).any(-2)


def _without_rows(H: Any, rows: Any, xp: ModuleType) -> Any:
    return xp.where(rows[..., None], 0.0, H)


def _diag(M: Any) -> Any:
    return M.diagonal(0, -2, -1)


def _identity(like: Any, xp: ModuleType) -> Any:
    n = like.shape[-1]
    return np.eye(n, dtype=like.dtype) if xp is np else xp.eye(n, dtype=like.dtype, device=like.device)


def _infinity(like: Any, xp: ModuleType) -> Any:
    return xp.full_like(like, float("inf"))


def _at_least(x: Any, low: float, xp: ModuleType) -> Any:
    return np.maximum(x, low) if xp is np else x.clamp(min=low)


def _ratio(a: Any, b: Any, xp: ModuleType) -> Any:
    """a / b, and 0 where b is 0."""
    return xp.where(b > 0, a / xp.where(b > 0, b, 1.0), 0.0)


def _slack(P: Any, xp: ModuleType) -> float:
    return 1e-9 + 4 * P.shape[-1] * float(xp.finfo(P.dtype).eps)


def _require_probabilities(name: str, x: Any, xp: ModuleType) -> None:
    finite(name, x)
    if bool((x < 0).any()):
        raise ValueError(f"{name} must not be negative, got {float(x.min())}")


def _chain(P: Any) -> tuple[Any, ModuleType]:
    """P as floating-point array or tensor of shape (..., n, n) with non-negative entries and row sums up to 1."""
    P, xp = floating("P", P, half=False)
    if P.ndim < 2 or P.shape[-1] != P.shape[-2] or P.shape[-1] < 1:
        raise ValueError(f"P must have shape (..., n, n) with n >= 1, got {tuple(P.shape)}")
    _require_probabilities("P", P, xp)
    with quiet():
        sums = P.sum(-1)
    if bool((sums > 1 + _slack(P, xp)).any()):
        raise ValueError(f"P must have row sums of at most 1, got {float(sums.max())}")
    return P, xp


def _weights(weights: Any, P: Any, xp: ModuleType) -> Any:
    if weights is None:
        return xp.ones_like(P[..., 0])
    _, weights, _ = alike(half=False, weights=weights, P=P)
    if weights.ndim < 1 or weights.shape[-1] != P.shape[-1]:
        raise ValueError(
            f"weights must have shape (..., {P.shape[-1]}), one for each token, got {tuple(weights.shape)}"
        )
    _require_probabilities("weights", weights, xp)
    most = 1e150 if float(xp.finfo(weights.dtype).max) > 1e300 else 1e18
    require("weights", weights, weights <= most, f"at most {most:g}, since they are squared and added")
    try:
        shape = np.broadcast_shapes(tuple(weights.shape), tuple(P.shape[:-1]))
    except ValueError:
        raise ValueError(
            f"weights must broadcast against P, got shapes {tuple(weights.shape)} and {tuple(P.shape)}"
        ) from None
    return np.broadcast_to(weights, shape) if xp is np else weights.expand(shape)


def _tokens(tokens: Any) -> tuple[Any, ModuleType]:
    tokens = integers("tokens", tokens)
    if tokens.ndim < 1:
        raise ValueError("tokens must have shape (..., T), got a single number")
    return tokens, namespace(tokens)
