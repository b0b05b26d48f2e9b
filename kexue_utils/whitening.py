r"""Linear maps of a cloud of vectors before they are compared by the cosine, whitening above all, and what they are worth.

Notation: the vectors are the rows of X, shape (N, d), with mean ``mu`` and covariance ``Sigma = U diag(lambda) U'`` (divided by N, which is
immaterial for cosines). The map is ``y = W' (x - mu)`` with ``W = U_k diag(lambda_1, ..., lambda_k)^(-alpha/2)``: alpha = 0 centres and rotates, alpha = 1
whitens, and k keeps the leading principal components. In the *signal model* ``x_i = a_i u_i + tau_i e_i`` the *share* of the signal in direction i is
``r_i = a_i^2 / (a_i^2 + tau_i^2)``, and a *weighted score* of two vectors is ``sum_i w_i x_i y_i / (a_i^2 + tau_i^2)``: w_i = 1 is whitening, 1 and 0 cut off,
``w_i = a_i^2 + tau_i^2`` is the plain inner product, ``w_i = r_i`` is best.

NumPy in gives NumPy out, torch in gives torch out with the same dtype, on the same device.
"""

from __future__ import annotations

import math
import warnings
from types import ModuleType
from typing import Any

import numpy as np

from .arguments import Array, alike, broadcast, finite, floating, held, integer, number, quiet, reals, require

__all__ = ["Whitening", "best_cut", "cosine_pairs", "mahalanobis_cosine", "predicted_auc", "predicted_correlation"]

_ASYMMETRY = 1e-8  # relative to the largest entry of a covariance


class Whitening:
    r"""The map ``y = W' (x - mu)``, fitted to a cloud: centring, whitening, and what lies between.

    Parameters
    ----------
    k : int, optional
        How many components to keep, by decreasing variance *before* the map (after it all are alike). Default: all.
    alpha : float
        Exponent, at least 0: variances lambda become lambda^(1 - alpha). 0 only centres, 1 whitens.
    eps : float
        Added to the variances before they are divided by; at least 0.

    Attributes
    ----------
    mean_ : (d,)
    covariance_ : (d, d), divided by the number of vectors.
    eigenvalues_ : (d,), decreasing.
    matrix_ : (d, k), the W. Of each column the entry of largest modulus is positive.
    count_ : int, the number of vectors seen.

    Raises
    ------
    ValueError
        If k < 1, or alpha or eps is negative or not finite; for `fit`, `partial_fit` and `transform` if X has not two dimensions (for
        `transform`, one or more, the last of length d), is empty, or not finite; if k is more than d; and where a component to be
        divided by has no variance: names the rank.
    TypeError
        If k is no integer, alpha or eps no number, or X not real numbers in single or double precision.

    Warns
    -----
    UserWarning
        When W is needed and at most 2d vectors were seen: at d + 1 of them all cosines of the fitted vectors are equal.

    Notes
    -----
    `sklearn.decomposition.PCA(whiten=True)` divides by N - 1: the same cosines. `partial_fit` merges mean and covariance of a batch into those seen
    before by differences of means, which in single precision keeps the digits that ``E xx' - mu mu'`` loses when the mean is large.

    Source: kexue.fm/archives/8069 and 8321; Su, Cao, Liu & Ou, arXiv:2103.15316.

    Examples
    --------
    >>> X = np.array([[1, 2], [3, 5], [2, 0], [6, 1], [3, 2]])
    >>> white = Whitening().fit(X)
    >>> print(white.mean_, white.covariance_.tolist())
    [3. 2.] [[2.8, -0.2], [-0.2, 2.8]]
    >>> Y = white.transform(X)
    >>> print(abs(Y.T @ Y / 5 - np.eye(2)).max() < 1e-12, cosine_pairs(Y[0], Y[2]).round(12))
    True 0.497095812801
    """

    mean_: Any
    covariance_: Any
    _variances: Any
    _matrix: Any

    def __init__(self, k: int | None = None, alpha: float = 1.0, eps: float = 0.0) -> None:
        self.k = None if k is None else integer("k", k, 1)
        self.alpha, self.eps = number("alpha", alpha, least=0), number("eps", eps, least=0)
        self.count_ = 0

    def fit(self, X: Array) -> Whitening:
        """Mean and covariance of the rows of X, shape (N, d); forgets what was seen before."""
        self.count_ = 0
        return self.partial_fit(X)

    def partial_fit(self, X: Array) -> Whitening:
        """Takes more rows into mean and covariance: the outcome is that of `fit` on all rows so far."""
        xp, X = _cloud(X)
        with quiet():
            mean = X.mean(0)
            covariance = (X - mean).T @ (X - mean) / len(X)
            if self.count_:
                if len(mean) != len(self.mean_):
                    raise ValueError(f"X must have {len(self.mean_)} columns, as before, got {len(mean)}")
                total = self.count_ + len(X)
                old, new = self.count_ / total, len(X) / total
                step = mean - self.mean_
                mean = self.mean_ + new * step
                covariance = old * self.covariance_ + new * covariance + old * new * xp.outer(step, step)
        held("X", covariance)
        self.count_ += len(X)
        self.mean_, self.covariance_ = held("X", mean), covariance
        self._decomposed = False
        return self

    def transform(self, X: Array) -> Any:
        """``(X - mu) W``, shape (..., k), for X of shape (..., d)."""
        W = self.matrix_
        _, mean, X = alike(mean=self.mean_, X=X, half=False)
        finite("X", X)
        if X.ndim < 1 or X.shape[-1] != len(mean):
            raise ValueError(f"X must have the shape (..., {len(mean)}), got {tuple(X.shape)}")
        with quiet():
            return held("X", (X - mean) @ W)

    @property
    def eigenvalues_(self) -> Any:
        return self._decompose()[0]

    @property
    def matrix_(self) -> Any:
        return self._decompose()[1]

    def _decompose(self) -> tuple[Any, Any]:
        if not self.count_:
            raise ValueError("X must be fitted first: call fit")
        if self._decomposed:
            return self._variances, self._matrix
        covariance, xp = floating("X", self.covariance_, half=False)
        d = len(covariance)
        k = d if self.k is None else integer("k", self.k, 1, d)
        with quiet():
            variances, U = xp.linalg.eigh(covariance)
        variances, U = variances.flip(0) if xp is not np else variances[::-1].copy(), U[:, _down(d)]
        signs = xp.sign(U[abs(U).argmax(0), _up(d)])
        rounding = d * xp.finfo(covariance.dtype).eps * variances[0].item()
        rank = int((variances > max(rounding, float(xp.finfo(covariance.dtype).tiny))).sum())
        if self.alpha > 0 and self.eps == 0 and rank < k:
            raise ValueError(
                f"X has the rank {rank} around its mean, k must not be above it, got k = {k}: choose k <= {rank}, or eps > 0"
            )
        if self.alpha > 0 and self.count_ <= 2 * d:
            warnings.warn(
                f"X has {self.count_} rows for {d} dimensions: whitening shrinks all differences between their cosines",
                stacklevel=4,
            )
        with quiet():
            scales = (xp.clip(variances[:k], 0, None) + self.eps) ** (-self.alpha / 2)
            self._matrix = held("X", (U * signs)[:, :k] * scales)
        self._variances, self._decomposed = variances, True
        return self._variances, self._matrix


def cosine_pairs(A: Array, B: Array) -> Any:
    """Cosine of each row of A with the row of B at the same place.

    Parameters
    ----------
    A, B : array or tensor, shapes (..., d), which broadcast.

    Returns
    -------
    array, tensor or scalar of shape (...), between -1 and 1. Differentiable.

    Raises
    ------
    ValueError
        If a vector is zero (an empty sentence has no direction), a value is not finite, or shapes do not fit.
    TypeError
        If an argument is not real, or of half precision, or one is a tensor and the other an array.

    Examples
    --------
    >>> print(cosine_pairs([[1, 0], [1, 1]], [[0, 2], [3, 3]]).round(12))
    [0. 1.]
    """
    xp, A, B = alike(A=A, B=B, half=False)
    A, B = _unit("A", A, xp), _unit("B", B, xp)
    _same_length(A=A, B=B)
    return xp.clip((A * B).sum(-1), -1, 1)[()]


def mahalanobis_cosine(x: Array, y: Array, mean: Array, sigma: Array) -> Any:
    r"""Cosine of x - mean and y - mean in the inner product of the inverse covariance.

    .. math:: \cos_\Sigma(x,y)=\frac{(x-\mu)^\top\Sigma^{-1}(y-\mu)}{\sqrt{(x-\mu)^\top\Sigma^{-1}(x-\mu)}\,\sqrt{(y-\mu)^\top\Sigma^{-1}(y-\mu)}}

    It is the cosine after any whitening, and does not change when x, y, mean and sigma go through an invertible affine map.

    Parameters
    ----------
    x, y, mean : array or tensor, shapes (..., d), which broadcast.
    sigma : array or tensor, shape (..., d, d)
        Covariance, symmetric positive definite.

    Returns
    -------
    array, tensor or scalar of the broadcast batch shape. Differentiable.

    Raises
    ------
    ValueError
        If x or y is the mean, sigma is not symmetric (to 1e-8 of its largest entry) or not positive definite, a value is not finite, or shapes do
        not fit.
    TypeError
        As `cosine_pairs`.

    Notes
    -----
    Source: kexue.fm/archives/8069. `scipy.spatial.distance.mahalanobis` has the distance.

    Examples
    --------
    >>> print(mahalanobis_cosine([3, 1], [2, 4], [1, 1], [[4, 1], [1, 2]]).round(12))
    -0.125
    """
    xp, x, y, mean, sigma = alike(x=x, y=y, mean=mean, sigma=sigma, half=False)
    for name, value in (("x", x), ("y", y), ("mean", mean), ("sigma", sigma)):
        finite(name, value)
    if sigma.ndim < 2 or sigma.shape[-1] != sigma.shape[-2]:
        raise ValueError(f"sigma must be square, shape (..., d, d), got {tuple(sigma.shape)}")
    _same_length(x=x, y=y, mean=mean, sigma=sigma[..., 0, :])
    with quiet():
        transposed = xp.swapaxes(sigma, -1, -2)
        largest = abs(sigma).max()
        require(
            "sigma",
            abs(sigma - transposed),
            abs(sigma - transposed) <= _ASYMMETRY * largest,
            "symmetric: the difference from its transpose must be 0",
        )
        # To a unit diagonal, so that no entry is out of range for being large or small.
        scale = xp.sqrt(abs(xp.diagonal(sigma, 0, -2, -1)))
        require(
            "sigma",
            xp.diagonal(sigma, 0, -2, -1),
            xp.diagonal(sigma, 0, -2, -1) > 0,
            "positive definite: its diagonal positive",
        )
        correlation = held("sigma", sigma / scale[..., :, None] / scale[..., None, :])
        u, v = held("x and mean", (x - mean) / scale), held("y and mean", (y - mean) / scale)
    factor = _cholesky(correlation, xp)
    return _cosine_after(_unit("x - mean", u, xp), _unit("y - mean", v, xp), factor, xp)


def predicted_correlation(shares: Array, weights: Array | None = None) -> Any:
    r"""Correlation of a weighted score with the true similarity, in the signal model.

    .. math:: \rho=\frac{\sum_i w_i r_i}{\sqrt{d\,\sum_i w_i^2}}

    The true similarity of two vectors is :math:`\sum_i u_iu'_i`, over all d directions.

    Parameters
    ----------
    shares : array or tensor, shape (..., d)
        Shares r of the signal, each from 0 to 1.
    weights : array or tensor, shape (..., d), optional
        Weights w, not all zero; their size does not matter. Default: 1 each, whitening.

    Returns
    -------
    array, tensor or scalar of the broadcast batch shape; at most :math:`\sqrt{\sum r_i^2/d}`, attained at w = r.

    Raises
    ------
    ValueError
        If a share is not from 0 to 1, a weight not finite, all weights are zero, or shapes do not fit.
    TypeError
        As `cosine_pairs`.

    Examples
    --------
    >>> a2 = np.arange(1.0, 129) ** -1.4
    >>> r, variance, first_30 = a2 / (a2 + 0.15**2), a2 + 0.15**2, np.arange(128) < 30
    >>> print(*(predicted_correlation(r, w).round(4) for w in (None, first_30 * 1.0, r, variance)))
    0.21 0.2627 0.3018 0.2027
    """
    xp, r, w = _shares(shares, weights)
    return ((w * r).sum(-1) / xp.sqrt((w * w).sum(-1)) / math.sqrt(r.shape[-1]))[()]


def predicted_auc(shares: Array, weights: Array | None = None) -> Any:
    r"""Chance that two vectors with the same signal get a higher weighted score than two with independent signals.

    .. math:: \Phi\Bigl(\frac{\sum_i w_i r_i}{\sqrt{\sum_i w_i^2(2+r_i^2)}}\Bigr)

    Parameters
    ----------
    shares, weights : as in `predicted_correlation`.

    Returns
    -------
    array, tensor or scalar of the broadcast batch shape. The scores are sums over the directions and are treated as normal.

    Raises
    ------
    ValueError, TypeError
        As `predicted_correlation`.

    Examples
    --------
    >>> s2 = np.arange(1.0, 257) ** -0.5
    >>> r = s2 / (s2 + 0.5)
    >>> print(predicted_auc(r).round(4), predicted_auc(r, s2 + 0.5).round(4))
    0.9781 0.9831
    """
    xp, r, w = _shares(shares, weights)
    z = (w * r).sum(-1) / xp.sqrt((w * w * (2 + r * r)).sum(-1))
    if xp is not np:
        return xp.special.ndtr(z)
    return np.vectorize(lambda z: math.erfc(-z / math.sqrt(2)) / 2, otypes=[z.dtype])(z)[()]


def best_cut(shares: Array) -> int:
    r"""How many directions to keep after whitening: the first k at which :math:`\sum_{i\le k}r_i/\sqrt k` is largest.

    Parameters
    ----------
    shares : array_like, shape (d,)
        Shares r of the signal in the order in which directions are kept, each from 0 to 1.

    Returns
    -------
    int, from 1 to d.

    Raises
    ------
    ValueError, TypeError
        As `predicted_correlation`; and if shares has not one dimension, or is a torch tensor.

    Notes
    -----
    All k are looked at: even for decreasing shares the sum may have several local maxima.

    Examples
    --------
    >>> best_cut([1, 0.3, 0.3, 0.3]), best_cut([1, 0.3, 0.3, 0.3, 0.3, 0.3])
    (1, 6)
    """
    (r,) = reals(finite=True, shares=shares)
    if r.ndim != 1 or not len(r):
        raise ValueError(f"shares must have one dimension, and entries, got shape {r.shape}")
    require("shares", r, (r >= 0) & (r <= 1), "from 0 to 1")
    return int((np.cumsum(r) / np.sqrt(np.arange(1, len(r) + 1))).argmax()) + 1


# ---------------------------------------------------------------- private


def _cloud(X: Array) -> tuple[ModuleType, Any]:
    X, xp = floating("X", X, half=False)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"X must have the shape (N, d), N and d at least 1, got {tuple(X.shape)}")
    return xp, finite("X", X)


def _down(d: int) -> list[int]:
    return list(range(d - 1, -1, -1))


def _up(d: int) -> list[int]:
    return list(range(d))


def _unit(name: str, x: Any, xp: ModuleType) -> Any:
    """Vectors scaled to length 1, without overflow on the way."""
    if x.ndim < 1 or x.shape[-1] == 0:
        raise ValueError(f"{name} must have at least one dimension, and entries, got shape {tuple(x.shape)}")
    finite(name, x)
    largest = abs(x).max(-1, keepdims=True) if xp is np else abs(x).amax(-1, keepdim=True)
    require(name, largest, largest > 0, "no zero vector, which has no direction: its largest entry positive")
    x = x / largest
    return x / xp.sqrt((x * x).sum(-1))[..., None]


def _same_length(**vectors: Any) -> None:
    lengths = {name: v.shape[-1] if v.ndim else None for name, v in vectors.items()}
    if len(set(lengths.values())) > 1 or None in lengths.values():
        raise ValueError(
            f"{', '.join(vectors)} must have vectors of one length, got {', '.join(map(str, lengths.values()))}"
        )
    broadcast(**{name: tuple(v.shape[:-1]) for name, v in vectors.items()})


def _cholesky(correlation: Any, xp: ModuleType) -> Any:
    try:
        return xp.linalg.cholesky(correlation)
    except (np.linalg.LinAlgError, RuntimeError):
        raise ValueError("sigma must be positive definite, it has a direction without variance") from None


def _cosine_after(u: Any, v: Any, factor: Any, xp: ModuleType) -> Any:
    """Cosine of ``L^-1 u`` and ``L^-1 v``."""
    if xp is np:
        solved = [np.linalg.solve(factor, vector[..., None])[..., 0] for vector in (u, v)]
    else:
        solved = [xp.linalg.solve_triangular(factor, vector[..., None], upper=False)[..., 0] for vector in (u, v)]
    u, v = (_unit(name, vector, xp) for name, vector in zip(("x - mean", "y - mean"), solved, strict=True))
    return xp.clip((u * v).sum(-1), -1, 1)[()]


def _shares(shares: Array, weights: Array | None) -> tuple[ModuleType, Any, Any]:
    if weights is None:
        r, xp = floating("shares", shares, half=False)
        w = xp.ones_like(r)
    else:
        xp, r, w = alike(shares=shares, weights=weights, half=False)
        _same_length(shares=r, weights=w)
    if r.ndim < 1 or r.shape[-1] == 0:
        raise ValueError(f"shares must have at least one dimension, and entries, got shape {tuple(r.shape)}")
    require("shares", r, (r >= 0) & (r <= 1), "from 0 to 1")
    finite("weights", w)
    largest = abs(w).max(-1, keepdims=True) if xp is np else abs(w).amax(-1, keepdim=True)
    require("weights", largest, largest > 0, "not all zero: the largest positive")
    return xp, r, w / largest
