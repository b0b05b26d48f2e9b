"""Distances between Gaussians, and the optimal transport from one to the other.

Notation: ``p = N(mu_p, sigma_p)`` and ``q = N(mu_q, sigma_q)`` on R^n; ``mu`` has shape (..., n), ``sigma`` is a *covariance*
matrix, shape (..., n, n), neither a standard deviation nor a Cholesky factor. Batch dimensions lead and broadcast. NumPy in
gives NumPy out, torch in gives torch out with the same dtype, on the same device.

The Kullback-Leibler and Bhattacharyya distances compare densities: they need positive definite covariances, and do not
change under a linear change of coordinates. Wasserstein-2 compares places: it has the unit of ``mu`` (length), and also
takes singular covariances, point masses included.

All functions are differentiable in torch, as often as wanted. Gradients with respect to a covariance are symmetric matrices:
``d f = (gradient * d sigma).sum()`` for symmetric ``d sigma``.
"""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from .arguments import Array, alike, broadcast, finite, held, is_tensor, namespace, quiet

__all__ = [
    "bhattacharyya_distance",
    "fid_bias",
    "hellinger_squared",
    "kl_divergence",
    "sqrtm_psd",
    "transport_map",
    "wasserstein2_distance",
    "wasserstein2_squared",
]

# What counts as symmetric and as positive semidefinite, relative to the largest entry and to the largest eigenvalue.
_ASYMMETRY = 1e-8
_NEGATIVE = 1e-10
_ALL_FOUR = "mu_p, sigma_p, mu_q and sigma_q"


def kl_divergence(mu_p: Array, sigma_p: Array, mu_q: Array, sigma_q: Array) -> Any:
    r"""Kullback-Leibler divergence KL(p || q) of two Gaussians, in nats.

    .. math:: \mathrm{KL}(p\|q) = \tfrac12\bigl[(\mu_p-\mu_q)^\top\Sigma_q^{-1}(\mu_p-\mu_q)
       - \log\det(\Sigma_q^{-1}\Sigma_p) + \mathrm{Tr}(\Sigma_q^{-1}\Sigma_p) - n\bigr]

    Parameters
    ----------
    mu_p, mu_q : array or tensor, shape (..., n)
        Means.
    sigma_p, sigma_q : array or tensor, shape (..., n, n)
        Covariances, symmetric positive definite.

    Returns
    -------
    array, tensor or scalar of the broadcast batch shape; never negative. Differentiable.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite or too large or small, or a covariance is not symmetric (to 1e-8 of its
        largest entry) or not positive definite.
    TypeError
        If an argument is not real, or is of half precision.

    Notes
    -----
    With Cholesky factors L and ``M = L_q^{-1} L_p`` the formula is a sum of terms none of which is negative, so that the
    divergence of two nearly equal Gaussians keeps its digits: ``|L_q^{-1}(mu_p - mu_q)|^2``, the squares of the entries of M off
    the diagonal, and ``m^2 - 1 - log(m^2)`` on it. `torch.distributions.kl_divergence` of two ``MultivariateNormal`` computes
    the same from differences that cancel.

    Source: kexue.fm/archives/8512.

    Examples
    --------
    >>> print(kl_divergence([0], [[1]], [0], [[4]]).round(4), kl_divergence([0], [[4]], [0], [[1]]).round(4))
    0.3181 0.8069
    """
    xp, mu_p, sigma_p, mu_q, sigma_q = _gaussians(mu_p, sigma_p, mu_q, sigma_q)
    factor_p, factor_q = _definite_factor("sigma_p", sigma_p), _definite_factor("sigma_q", sigma_q)
    with quiet():
        M = _solve_lower(factor_q, factor_p)
        m = xp.diagonal(M, 0, -2, -1)
        on_diagonal = ((m - 1) * (m + 1) - 2 * xp.log1p(m - 1)).sum(-1)
        off_diagonal = (xp.tril(M, -1) ** 2).sum((-2, -1))
        divergence = (_mahalanobis(mu_p - mu_q, factor_q) + off_diagonal + on_diagonal)[()] / 2
        return held(_ALL_FOUR, divergence)


def bhattacharyya_distance(mu_p: Array, sigma_p: Array, mu_q: Array, sigma_q: Array) -> Any:
    r"""Bhattacharyya distance of two Gaussians, minus the logarithm of :math:`\int\sqrt{pq}`.

    .. math:: \tfrac12\log\frac{\det\Sigma}{\sqrt{\det\Sigma_p\det\Sigma_q}}
       + \tfrac18(\mu_p-\mu_q)^\top\Sigma^{-1}(\mu_p-\mu_q), \qquad \Sigma = \tfrac12(\Sigma_p+\Sigma_q)

    Parameters
    ----------
    mu_p, mu_q : array or tensor, shape (..., n)
        Means.
    sigma_p, sigma_q : array or tensor, shape (..., n, n)
        Covariances, symmetric positive definite.

    Returns
    -------
    array, tensor or scalar of the broadcast batch shape; never negative. Symmetric in p and q. Differentiable.

    Raises
    ------
    ValueError, TypeError
        As `kl_divergence`.

    Notes
    -----
    Three Cholesky factorisations. The logarithms of the determinants cancel for nearly equal covariances: the error is some
    n * 1e-16, absolute.

    Source: kexue.fm/archives/8512; Kailath, IEEE Trans. Commun. Technol. 15 (1967).

    Examples
    --------
    >>> print(bhattacharyya_distance([1, 0], [[2, 0.5], [0.5, 1]], [0, 2], [[1, -0.3], [-0.3, 3]]).round(12))
    0.491865044983
    """
    xp, mu_p, sigma_p, mu_q, sigma_q = _gaussians(mu_p, sigma_p, mu_q, sigma_q)
    factor_p, factor_q = _definite_factor("sigma_p", sigma_p), _definite_factor("sigma_q", sigma_q)
    with quiet():
        mean = held("sigma_p and sigma_q", (sigma_p + sigma_q) / 2)
    factor = _definite_factor("sigma_p + sigma_q", mean)
    log_p, log_q, log_mean = (xp.log(xp.diagonal(L, 0, -2, -1)).sum(-1) for L in (factor_p, factor_q, factor))
    volumes = _not_negative(log_mean - (log_p + log_q) / 2)
    with quiet():
        return held(_ALL_FOUR, (volumes + _mahalanobis(mu_p - mu_q, factor) / 8)[()])


def hellinger_squared(mu_p: Array, sigma_p: Array, mu_q: Array, sigma_q: Array) -> Any:
    r"""Squared Hellinger distance :math:`\tfrac12\int(\sqrt p-\sqrt q)^2` of two Gaussians, between 0 and 1.

    It is 1 - exp(-B) with the Bhattacharyya distance B.

    Parameters
    ----------
    mu_p, mu_q : array or tensor, shape (..., n)
        Means.
    sigma_p, sigma_q : array or tensor, shape (..., n, n)
        Covariances, symmetric positive definite.

    Returns
    -------
    array, tensor or scalar of the broadcast batch shape. Differentiable.

    Raises
    ------
    ValueError, TypeError
        As `kl_divergence`.

    Examples
    --------
    >>> print(hellinger_squared([0], [[1]], [2], [[1]]).round(6))  # 1 - exp(-1/2)
    0.393469
    """
    distance = bhattacharyya_distance(mu_p, sigma_p, mu_q, sigma_q)
    return -namespace(distance).expm1(-distance)


def wasserstein2_squared(mu_p: Array, sigma_p: Array, mu_q: Array, sigma_q: Array) -> Any:
    r"""Squared 2-Wasserstein (Fréchet) distance of two Gaussians; FID is this, of the moments of image features.

    .. math:: W_2^2 = \|\mu_p-\mu_q\|^2 + \mathrm{Tr}\,\Sigma_p + \mathrm{Tr}\,\Sigma_q
       - 2\,\mathrm{Tr}\bigl(\Sigma_p^{1/2}\Sigma_q\Sigma_p^{1/2}\bigr)^{1/2}

    Parameters
    ----------
    mu_p, mu_q : array or tensor, shape (..., n)
        Means.
    sigma_p, sigma_q : array or tensor, shape (..., n, n)
        Covariances, symmetric positive semidefinite: singular ones are welcome, and 0 is a point mass.

    Returns
    -------
    array, tensor or scalar of the broadcast batch shape, in the unit of mu squared; never negative. Differentiable: the
    gradient is ``I - transport_map(sigma_p, sigma_q)`` with respect to sigma_p, 0 for equal Gaussians. Where the derivative
    is infinite, because sigma_p is singular in a direction in which sigma_q is not, that direction's part is left out; the
    gradient with respect to any L with ``sigma_p = L @ L.T`` is then a subgradient.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite or too large, or a covariance is not symmetric (to 1e-8 of its largest entry) or has
        an eigenvalue below -1e-10 of its largest (some n * 1e-6 in float32).
    TypeError
        If an argument is not real, or is of half precision.

    Notes
    -----
    The covariance part is the squared distance of two factors after the best rotation, ``|L_p - L_q O|^2`` (Procrustes).
    Computed that way it keeps its digits for nearly equal and for nearly singular covariances, where the traces cancel and the
    root of a matrix product loses half of them. Batches are first computed from the traces, and only the pairs for which
    that costs more than 1e-11 (float64) are computed again.

    `ot.gaussian.bures_wasserstein_distance` (POT) and ``scipy.linalg.sqrtm(sigma_p @ sigma_q)`` compute the same from the traces.

    Source: kexue.fm/archives/8512; Givens & Shortt, Michigan Math. J. 31 (1984); Bhatia, Jain & Lim, Expo. Math. 37 (2019).

    Examples
    --------
    >>> print(wasserstein2_squared([1, 0], [[2, 0.5], [0.5, 1]], [0, 2], [[1, -0.3], [-0.3, 3]]).round(12))
    5.929311854968
    """
    xp, mu_p, sigma_p, mu_q, sigma_q = _gaussians(mu_p, sigma_p, mu_q, sigma_q)
    sigma_p, sigma_q = _broadcast(xp, sigma_p, sigma_q)
    with quiet():
        apart = _derivatives().Bures.apply(sigma_p, sigma_q) if xp is not np else _bures(xp, sigma_p, sigma_q)
        return held(_ALL_FOUR, (((mu_p - mu_q) ** 2).sum(-1) + apart)[()])


def wasserstein2_distance(mu_p: Array, sigma_p: Array, mu_q: Array, sigma_q: Array) -> Any:
    """2-Wasserstein distance of two Gaussians, the root of `wasserstein2_squared`.

    Parameters
    ----------
    mu_p, mu_q : array or tensor, shape (..., n)
        Means.
    sigma_p, sigma_q : array or tensor, shape (..., n, n)
        Covariances, symmetric positive semidefinite.

    Returns
    -------
    array, tensor or scalar of the broadcast batch shape, in the unit of mu. Differentiable; a distance has a kink where it is
    0, and the gradient given there is 0, which is a subgradient.

    Raises
    ------
    ValueError, TypeError
        As `wasserstein2_squared`.

    Examples
    --------
    >>> print(wasserstein2_distance([0], [[1]], [3], [[25]]))  # 3 apart, and 4 wider
    5.0
    """
    squared = wasserstein2_squared(mu_p, sigma_p, mu_q, sigma_q)
    if not is_tensor(squared):
        return np.sqrt(squared)
    apart = squared > 0
    return squared.where(apart, squared.new_ones(())).sqrt() * apart


def transport_map(sigma_p: Array, sigma_q: Array) -> Any:
    r"""The matrix T of the optimal transport ``x -> mu_q + T (x - mu_p)`` from p to q.

    .. math:: T = \Sigma_p^{-1/2}\bigl(\Sigma_p^{1/2}\Sigma_q\Sigma_p^{1/2}\bigr)^{1/2}\Sigma_p^{-1/2},
       \qquad T\Sigma_pT = \Sigma_q

    Parameters
    ----------
    sigma_p, sigma_q : array or tensor, shape (..., n, n)
        Covariances, symmetric positive semidefinite.

    Returns
    -------
    array or tensor, shape (..., n, n); symmetric positive semidefinite. Differentiable. If sigma_p is singular, T is 0 in the
    directions in which p has no spread.

    Raises
    ------
    ValueError
        As `wasserstein2_squared`; also if sigma_p is singular in a direction in which sigma_q is not: no map can spread
        what lies on a line over a plane.
    TypeError
        If an argument is not real, or is of half precision.

    Notes
    -----
    From the singular values of ``L_p.T @ L_q``, without an inverse of a covariance. `ot.gaussian.bures_wasserstein_mapping` (POT)
    has the same matrix for one pair of definite covariances.

    Source: Knott & Smith, J. Optim. Theory Appl. 43 (1984).

    Examples
    --------
    >>> T = transport_map([[4, 0], [0, 1]], [[1, 0], [0, 9]])
    >>> print(T.round(12))
    [[0.5 0. ]
     [0.  3. ]]
    """
    xp, sigma_p, sigma_q = _arrays(sigma_p=sigma_p, sigma_q=sigma_q)
    _require_covariance("sigma_p", sigma_p)
    _require_covariance("sigma_q", sigma_q)
    _require_same_n(sigma_p=sigma_p, sigma_q=sigma_q)
    sigma_p, sigma_q = _broadcast(xp, sigma_p, sigma_q)
    with quiet():
        T = _derivatives().Maps.apply(sigma_p, sigma_q)[0] if xp is not np else _maps(xp, sigma_p, sigma_q)[0][0]
        missed = _largest(held("sigma_p and sigma_q", T @ sigma_p @ T - sigma_q))
    if bool((missed > _eps(sigma_q) ** 0.4 * _largest(sigma_q)).any()):
        raise ValueError(
            "sigma_p must spread in every direction in which sigma_q does, got a singular one that does not: "
            "there is no transport map, though wasserstein2_distance is defined"
        )
    return T


def sqrtm_psd(sigma: Array) -> Any:
    r"""The symmetric positive semidefinite square root of a symmetric positive semidefinite matrix.

    Parameters
    ----------
    sigma : array or tensor, shape (..., n, n)

    Returns
    -------
    array or tensor, shape (..., n, n). Differentiable: the derivative X in direction G solves
    ``root @ X + X @ root = G``, so that repeated eigenvalues, where differentiating an eigendecomposition gives NaN, do no
    harm. In the null space of sigma the derivative is infinite, and given as 0.

    Raises
    ------
    ValueError
        If sigma is not square, not finite, not symmetric (to 1e-8 of its largest entry), or has an eigenvalue below -1e-10 of
        its largest (some n * 1e-6 in float32).
    TypeError
        If sigma is not real, or is of half precision.

    Notes
    -----
    `scipy.linalg.sqrtm` takes general matrices, and may return complex ones.

    Examples
    --------
    >>> print(sqrtm_psd([[5, 4], [4, 5]]).round(12))
    [[2. 1.]
     [1. 2.]]
    """
    xp, sigma = _arrays(sigma=sigma)
    _require_covariance("sigma", sigma)
    if xp is not np:
        return held("sigma", _derivatives().Root.apply(sigma))
    with quiet():
        return held("sigma", _root("sigma", sigma)[0])


def fid_bias(eigenvalues: Array, N: Array) -> Any:
    r"""What `wasserstein2_squared` of two estimated Gaussians is on average when both samples come from the *same* Gaussian.

    .. math:: \frac1N\Bigl[2\sum_i\lambda_i + \sum_{i,j}\frac{\lambda_i\lambda_j(1+\delta_{ij})}{\lambda_i+\lambda_j}\Bigr]

    Parameters
    ----------
    eigenvalues : array or tensor, shape (..., d)
        Eigenvalues of the covariance, not negative.
    N : array_like
        Size of each of the two samples, at least 2; broadcasts against the batch.

    Returns
    -------
    array, tensor or scalar, shape (...): the leading term for large N; the next is of order d^3/N^2.

    Raises
    ------
    ValueError
        If an eigenvalue is negative, not finite or too large, N < 2, or the shapes do not broadcast.
    TypeError
        If an argument is not real.

    Examples
    --------
    >>> print(fid_bias(np.ones(2048), 50_000).round(2))  # the dimension of Inception features: d (d + 5) / (2 N)
    42.05
    """
    xp, eigenvalues, N = _arrays(eigenvalues=eigenvalues, N=N)
    if eigenvalues.ndim < 1 or bool((eigenvalues < 0).any()):
        raise ValueError(f"eigenvalues must be at least one number >= 0, got {eigenvalues}")
    if bool((N < 2).any()):
        raise ValueError(f"N must be at least 2, got {N}")
    broadcast(eigenvalues=eigenvalues.shape[:-1], N=N.shape)
    row, column = eigenvalues[..., None, :], eigenvalues[..., :, None]
    with quiet():
        total = xp.where(row + column > 0, row + column, 1)
        pairs = (row * column / total).sum((-2, -1)) + eigenvalues.sum(-1) / 2
        return held("eigenvalues", ((2 * eigenvalues.sum(-1) + pairs) / N)[()])


# Values ------------------------------------------------------------------------------------------------------------
# `xp` is numpy or torch: the few functions used here have the same names in both.


def _bures(xp: ModuleType, sigma_p: Any, sigma_q: Any) -> Any:
    """Tr(sigma_p) + Tr(sigma_q) - 2 Tr(R), quickly where that is accurate and carefully where it is not."""
    n = sigma_p.shape[-1]
    batch = sigma_p.shape[:-2]
    sigma_p, sigma_q = sigma_p.reshape(-1, n, n), sigma_q.reshape(-1, n, n)
    quick = _bures_from_traces(xp, sigma_p, sigma_q)
    if quick is None:
        return _bures_from_factors(xp, sigma_p, sigma_q).reshape(batch)
    value, error = quick
    doubtful = ~(error < _eps(value) ** 0.7 * value)  # also where it is NaN
    if bool(doubtful.any()):
        value[doubtful] = _bures_from_factors(xp, sigma_p[doubtful], sigma_q[doubtful])
    return value.reshape(batch)


def _bures_from_traces(xp: ModuleType, sigma_p: Any, sigma_q: Any) -> tuple[Any, Any] | None:
    """Values and what rounding may have done to them; None unless all covariances are clearly definite."""
    factor_p = _cholesky(sigma_p)
    if factor_p is None:
        return None
    squares = xp.linalg.eigvalsh(factor_p.swapaxes(-1, -2) @ sigma_q @ factor_p)
    smallest = xp.where(squares[..., 0] > 0, squares[..., 0], math.nan)
    trace_root = xp.sqrt(squares.clip(0)).sum(-1)
    condition = xp.sqrt(squares[..., -1] / smallest)
    traces = _trace(sigma_p) + _trace(sigma_q)
    return traces - 2 * trace_root, _eps(traces) * (1 + condition) * traces


def _bures_from_factors(xp: ModuleType, sigma_p: Any, sigma_q: Any) -> Any:
    """min over rotations O of |L_p - L_q O|^2."""
    factor_p, factor_q = _factor("sigma_p", sigma_p), _factor("sigma_q", sigma_q)
    U, _, Vt = xp.linalg.svd(factor_p.swapaxes(-1, -2) @ factor_q)
    rotation = (U @ Vt).swapaxes(-1, -2)
    value = ((factor_p - factor_q @ rotation) ** 2).sum((-2, -1))
    # The factors are known to some eps: below that the covariances are equal, and a distance that is not 0 would be noise.
    return value * (value > (4 * sigma_p.shape[-1] * _eps(value)) ** 2 * (_trace(sigma_p) + _trace(sigma_q)))


def _maps(xp: ModuleType, sigma_p: Any, sigma_q: Any) -> tuple[Any, Any]:
    """(T, K, K^-1, s) with T = K' diag(s) K and K sigma_p K' = I, for the map from p to q and for the map back."""
    factor_p, factor_q = _factor("sigma_p", sigma_p), _factor("sigma_q", sigma_q)
    U, s, Vt = xp.linalg.svd(factor_p.swapaxes(-1, -2) @ factor_q)
    smallest = s.shape[-1] * _eps(s) * s[..., :1]
    inverse = xp.where(s > smallest, 1 / xp.where(s > smallest, s, 1), 0)
    s = s * (inverse > 0)
    to_p, to_q = factor_p @ U, factor_q @ Vt.swapaxes(-1, -2)

    def map_and_basis(source: Any, target: Any) -> tuple[Any, Any, Any, Any]:
        K = inverse[..., :, None] * target.swapaxes(-1, -2)
        return target @ K, K, source, s

    return map_and_basis(to_p, to_q), map_and_basis(to_q, to_p)


def _root(name: str, sigma: Any) -> tuple[Any, Any, Any]:
    """The root of sigma, its eigenvectors and its eigenvalues."""
    eigenvalues, U = _eigh(name, sigma)
    roots = eigenvalues**0.5
    return (U * roots[..., None, :]) @ U.swapaxes(-1, -2), U, roots


def _factor(name: str, sigma: Any) -> Any:
    """Some L with L L' = sigma, whether definite or not."""
    eigenvalues, U = _eigh(name, sigma)
    return U * (eigenvalues**0.5)[..., None, :]


def _eigh(name: str, sigma: Any) -> tuple[Any, Any]:
    """Eigenvalues, those that are negative by rounding set to 0, and eigenvectors."""
    eigenvalues, U = namespace(sigma).linalg.eigh(sigma)
    smallest, largest = (
        eigenvalues[..., 0],
        abs(eigenvalues).max(-1) if not is_tensor(sigma) else abs(eigenvalues).amax(-1),
    )
    tolerance = max(_NEGATIVE, 10 * sigma.shape[-1] * _eps(sigma))
    bad = smallest < -tolerance * largest
    if bool(bad.any()):
        raise ValueError(
            f"{name} must be positive semidefinite, got eigenvalues from {float(smallest[bad][0]):.3g} to {float(largest[bad][0]):.3g}"
        )
    return eigenvalues.clip(0), U


def _definite_factor(name: str, sigma: Any) -> Any:
    L = _cholesky(sigma)
    if L is None:
        smallest = float(_eigh(name, sigma.detach() if is_tensor(sigma) else sigma)[0][..., 0].min())
        raise ValueError(
            f"{name} must be positive definite, got a singular matrix (smallest eigenvalue {smallest:.3g}): there is no density to "
            "compare. wasserstein2_distance takes singular covariances"
        )
    return L


def _cholesky(sigma: Any) -> Any:
    """Lower triangular factors, or None if some matrix is not positive definite."""
    if is_tensor(sigma):
        L, failed = namespace(sigma).linalg.cholesky_ex(sigma)
        return None if bool(failed.any()) else L
    try:
        return np.linalg.cholesky(sigma)
    except np.linalg.LinAlgError:
        return None


def _solve_lower(L: Any, B: Any) -> Any:
    if is_tensor(B):
        return namespace(L).linalg.solve_triangular(L, B, upper=False)
    return np.linalg.solve(L, B)  # NumPy has no triangular solver, and SciPy's loops over the batch in Python


def _mahalanobis(difference: Any, factor: Any) -> Any:
    return (_solve_lower(factor, difference[..., None]) ** 2).sum((-2, -1))


# Derivatives -------------------------------------------------------------------------------------------------------


@cache
def _derivatives() -> Any:
    """The autograd functions, made when torch is there. Their backward passes are made of them, hence differentiable again."""
    import torch

    class Lyapunov(torch.autograd.Function):
        """Y with A Y + Y A' = G, where A = K^-1 diag(s) K; the part with s_i + s_j = 0 is left out."""

        @staticmethod
        def forward(ctx: Any, A: Any, G: Any, K: Any, K_inverse: Any, s: Any) -> Any:
            sums = s[..., :, None] + s[..., None, :]
            inside = torch.where(sums > 0, (K @ G @ K.mT) / torch.where(sums > 0, sums, 1), 0)
            Y = K_inverse @ inside @ K_inverse.mT
            ctx.save_for_backward(A, Y, K, K_inverse, s)
            return Y

        @staticmethod
        def backward(ctx: Any, H: Any) -> tuple[Any, ...]:
            A, Y, K, K_inverse, s = ctx.saved_tensors
            X = Lyapunov.apply(A.mT, H, K_inverse.mT, K.mT, s)
            return -(X @ Y.mT + X.mT @ Y), X, None, None, None

    class Root(torch.autograd.Function):
        """The square root; d root solves root d + d root = d sigma."""

        @staticmethod
        def forward(ctx: Any, sigma: Any) -> Any:
            root, U, roots = _root("sigma", sigma)
            ctx.save_for_backward(root, U, roots)
            return root

        @staticmethod
        def backward(ctx: Any, G: Any) -> Any:
            root, U, roots = ctx.saved_tensors
            return Lyapunov.apply(root, (G + G.mT) / 2, U.mT, U, roots)

    class Maps(torch.autograd.Function):
        """The transport maps T and T^-1; from T sigma_p T = sigma_q follows what their derivatives solve."""

        @staticmethod
        def forward(ctx: Any, sigma_p: Any, sigma_q: Any) -> tuple[Any, Any]:
            (T, *there), (T_inverse, *back) = _maps(torch, sigma_p, sigma_q)
            ctx.save_for_backward(sigma_p, sigma_q, T, T_inverse, *there, *back)
            return T, T_inverse

        @staticmethod
        def backward(ctx: Any, G: Any, G_inverse: Any) -> tuple[Any, Any]:
            sigma_p, sigma_q, T, T_inverse, *bases = ctx.saved_tensors
            Y = Lyapunov.apply(sigma_p @ T, (G + G.mT) / 2, *bases[:3])
            Z = Lyapunov.apply(sigma_q @ T_inverse, (G_inverse + G_inverse.mT) / 2, *bases[3:])
            return Z - T @ Y @ T, Y - T_inverse @ Z @ T_inverse

    class Bures(torch.autograd.Function):
        """The covariance part of the squared Wasserstein distance; its gradients are I - T and I - T^-1."""

        @staticmethod
        def forward(ctx: Any, sigma_p: Any, sigma_q: Any) -> Any:
            ctx.save_for_backward(sigma_p, sigma_q)
            return _bures(torch, sigma_p, sigma_q)

        @staticmethod
        def backward(ctx: Any, g: Any) -> tuple[Any, Any]:
            sigma_p, sigma_q = ctx.saved_tensors
            eye = torch.eye(sigma_p.shape[-1], dtype=sigma_p.dtype, device=sigma_p.device)
            return tuple(g[..., None, None] * (eye - T) for T in Maps.apply(sigma_p, sigma_q))

    return SimpleNamespace(Bures=Bures, Lyapunov=Lyapunov, Maps=Maps, Root=Root)


# Arguments ---------------------------------------------------------------------------------------------------------


def _eps(x: Any) -> float:
    return float(namespace(x).finfo(x.dtype).eps)


def _trace(sigma: Any) -> Any:
    return namespace(sigma).diagonal(sigma, 0, -2, -1).sum(-1)


def _largest(sigma: Any) -> Any:
    """The largest absolute entry of each matrix."""
    return abs(sigma).amax((-2, -1)) if is_tensor(sigma) else abs(sigma).max((-2, -1))


def _not_negative(value: Any) -> Any:
    """The value, with what rounding took it below 0 added again: unlike a maximum, this leaves derivatives alone."""
    below = value.detach() if is_tensor(value) else value
    return value - (below < 0) * below


def _broadcast(xp: ModuleType, sigma_p: Any, sigma_q: Any) -> tuple[Any, Any]:
    broadcast = xp.broadcast_tensors if xp is not np else np.broadcast_arrays
    sigma_p, sigma_q = broadcast(sigma_p, sigma_q)
    return sigma_p, sigma_q


def _arrays(**arguments: Any) -> tuple[Any, ...]:
    """The library, then the arguments as finite float arrays or tensors of one dtype."""
    xp, *arrays = alike(half=False, **arguments)
    if xp is np:
        # integers, numbers and lists take the format of the others, as they do beside tensors
        floats = [x.dtype for x in arguments.values() if isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f"]
        dtype = np.result_type(*floats) if floats else np.dtype(float)
        arrays = [x.astype(dtype, copy=False) for x in arrays]
    else:
        arrays = [x.to(max((x.dtype for x in arrays), key=lambda dtype: dtype.itemsize)) for x in arrays]
    return xp, *map(finite, arguments, arrays)


def _require_covariance(name: str, sigma: Any) -> None:
    if sigma.ndim < 2 or sigma.shape[-1] != sigma.shape[-2] or sigma.shape[-1] < 1:
        raise ValueError(f"{name} must be a matrix of shape (..., n, n), got shape {tuple(sigma.shape)}")
    value = sigma.detach() if is_tensor(sigma) else sigma
    if bool((value == value.swapaxes(-1, -2)).all()):  # the usual case, at half the price; also empty batches
        return
    gap, size = _largest(value - value.swapaxes(-1, -2)), _largest(value)
    bad = gap > max(_ASYMMETRY, 100 * _eps(value)) * size
    if bool(bad.any()):
        raise ValueError(
            f"{name} must be symmetric, got a matrix that differs from its transpose by {float(gap[bad][0]):.3g} (largest entry {float(size[bad][0]):.3g})"
        )


def _require_same_n(**arguments: Any) -> None:
    sizes = {name: x.shape[-1] for name, x in arguments.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"dimensions must agree, got n = {', '.join(f'{n} for {name}' for name, n in sizes.items())}")
    batches = [tuple(x.shape[: -2 if name.startswith("sigma") else -1]) for name, x in arguments.items()]
    try:
        np.broadcast_shapes(*batches)
    except ValueError:
        given = ", ".join(f"{name} {tuple(x.shape)}" for name, x in arguments.items())
        raise ValueError(f"batch shapes must broadcast, got {given}") from None


def _gaussians(mu_p: Any, sigma_p: Any, mu_q: Any, sigma_q: Any) -> tuple[Any, ...]:
    xp, *arrays = _arrays(mu_p=mu_p, sigma_p=sigma_p, mu_q=mu_q, sigma_q=sigma_q)
    mu_p, sigma_p, mu_q, sigma_q = arrays
    for name, mu in (("mu_p", mu_p), ("mu_q", mu_q)):
        if mu.ndim < 1:
            raise ValueError(f"{name} must have shape (..., n), got a single number; for n = 1 give [{float(mu)}]")
    _require_covariance("sigma_p", sigma_p)
    _require_covariance("sigma_q", sigma_q)
    _require_same_n(mu_p=mu_p, sigma_p=sigma_p, mu_q=mu_q, sigma_q=sigma_q)
    return xp, mu_p, sigma_p, mu_q, sigma_q
