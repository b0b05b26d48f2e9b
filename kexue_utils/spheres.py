r"""The unit sphere: tangent vectors, steps of gradient descent that keep length 1, and the von Mises-Fisher law.

Notation: x is a point of the unit sphere in R^n, G the gradient of a function f of x, φ the angle between the two,
``g = G - x (x . G)`` what is left of G along the sphere, of length ``|G| sin(φ)``. The von Mises-Fisher density on the sphere in R^p
with mean direction μ and concentration κ is ``C_p(κ) exp(κ μ . v)`` per area.

Every function works on NumPy arrays and on torch tensors (same device and number format out), with batch dimensions in front.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial

from .arguments import (
    Array,
    alike,
    finite,
    floating,
    held,
    integer,
    is_tensor,
    namespace,
    number,
    one_of,
    quiet,
    require,
)

__all__ = ["project_tangent", "sphere_step", "von_mises_fisher_log_constant", "von_mises_fisher_mean_length"]

FACTORS = ("jose",)
MAPS = ("retraction", "exp")

_UNIT = 1e-6  # how far the length of a point of the sphere may be from 1
_HIGH_ORDER = 64  # from this order on, the series of Bessel functions below is good to double precision
_TERMS = 7


def project_tangent(x: Array, v: Array) -> Any:
    r"""What is left of a vector along the sphere, :math:`(I - xx^\top)\,v`: the part perpendicular to x.

    Parameters
    ----------
    x : array_like or tensor, shape (..., n)
        Points of the unit sphere, of length 1 within 1e-6.
    v : array_like or tensor, the shape of x

    Returns
    -------
    array or tensor, the shape of x. Differentiable.

    Raises
    ------
    ValueError
        If x is not of length 1, the shapes differ or have no axis, or a number is not finite or too large.
    TypeError
        If an argument is not real numbers in single or double precision, or one is a tensor and the other an array.

    Notes
    -----
    As the gradient of f is to that of f(θ/‖θ‖), but for the factor 1/‖θ‖: kexue.fm/archives/7063.

    Examples
    --------
    >>> print(project_tangent([0.6, 0.8], [1.0, 0.0]).round(12))
    [ 0.64 -0.48]
    """
    xp, x, v = _point_and_vector("v", x, v)
    with quiet():
        length, direction = _polar(v, xp)
        return held("v", _along_the_sphere(x, direction) * length)


def sphere_step(x: Array, grad: Array, lr: float, factor: str | None = None, map: str = "retraction") -> Any:
    r"""One step of gradient descent that stays on the unit sphere.

    .. math:: x' = \frac{x - \eta\,g}{\lVert x - \eta\,g\rVert}, \qquad g = (I - xx^\top)\,G

    It turns x by the angle :math:`\arctan(\eta\lVert g\rVert)`, against g; with the exponential map by :math:`\eta\lVert g\rVert`.

    Parameters
    ----------
    x : array_like or tensor, shape (..., n)
        Points of the unit sphere, of length 1 within 1e-6.
    grad : array_like or tensor, the shape of x
        G, the gradient at x. What it has along x makes no difference but in the factor.
    lr : float > 0
        :math:`\eta`, in the inverse units of the gradient.
    factor : {None, "jose"}
        "jose" multiplies g by :math:`1 + x^\top G/\lVert G\rVert = 1 + \cos\varphi`.
    map : {"retraction", "exp"}
        How a step leads back to the sphere: divide by the length, or walk along the great circle.

    Returns
    -------
    array or tensor, the shape of x, of length 1. x itself (of length 1) where g = 0. Differentiable where g is not 0.

    Raises
    ------
    ValueError
        If x is not of length 1, the shapes differ or have no axis, a number is not finite or too large, lr <= 0, or factor
        or map is none of those above.
    TypeError
        If an argument is not real numbers in single or double precision, or one is a tensor and the other an array.

    Notes
    -----
    The denominator is at least 1, as g is perpendicular to x. The factor is computed as :math:`\frac12\lVert x + G/\lVert G\rVert\rVert^2`,
    which keeps its digits where G is nearly -x and 1 + cos(φ) would lose them.

    Source: kexue.fm/archives/7063; Y. Meng et al., Spherical text embedding, NeurIPS 2019, arXiv:1911.01196; retractions and the
    exponential map: P.-A. Absil, R. Mahony and R. Sepulchre, Optimization algorithms on matrix manifolds (2008).

    Examples
    --------
    >>> print(sphere_step([0.6, 0.8], [-1.0, 0.0], lr=0.5).round(6))
    [0.854199 0.519947]
    >>> print(sphere_step([0.6, 0.8], [-1.0, 0.0], lr=0.5, factor="jose").round(6))
    [0.718857 0.695158]
    """
    rate = number("lr", lr, positive=True)
    if factor is not None:
        one_of("factor", factor, FACTORS)
    one_of("map", map, MAPS)
    xp, x, grad = _point_and_vector("grad", x, grad)
    with quiet():
        size, direction = _polar(grad, xp)
        turned, tangent = _polar(_along_the_sphere(x, direction), xp)
        length = turned if factor is None else turned * ((x + direction) ** 2).sum(-1)[..., None] / 2
        step = xp.where(length > 0, rate * size * length, 0 * length)
        angle = xp.arctan(step) if map == "retraction" else step
        _, there = _polar(x * xp.cos(angle) - tangent * xp.sin(angle), xp)
    return held("lr and grad", there)


def von_mises_fisher_log_constant(dim: int, kappa: Array) -> Any:
    r"""Logarithm of the constant that makes :math:`e^{\kappa\mu^\top v}` a density on the unit sphere of R^p.

    .. math:: C_p(\kappa) = \frac{\kappa^{p/2-1}}{(2\pi)^{p/2}\,I_{p/2-1}(\kappa)}, \qquad C_p(0) = \frac{\Gamma(p/2)}{2\pi^{p/2}}

    with the modified Bessel function I.

    Parameters
    ----------
    dim : int, from 2 to 10**9
        p, the dimension of the space around the sphere.
    kappa : array_like or tensor, >= 0, any shape
        The concentration; 0 is the uniform law.

    Returns
    -------
    array, tensor or scalar, the shape of kappa. Differentiable: the derivative is minus `von_mises_fisher_mean_length`.

    Raises
    ------
    ValueError
        If dim is out of range, or kappa negative or not finite.
    TypeError
        If dim is not an integer, or kappa not real numbers.

    Notes
    -----
    Good to 13 digits of the largest of log C, kappa and dim, for every kappa and dim: no Bessel function is computed that could
    overflow or underflow. Orders from 64 on come from the uniform expansion (DLMF 10.41), lower ones from it by the recurrence,
    downwards, in which errors shrink.

    Source: K. V. Mardia and P. E. Jupp, Directional statistics (2000), section 9.3.2. ``scipy.stats.vonmises_fisher`` has the same density.

    Examples
    --------
    >>> print(np.exp(von_mises_fisher_log_constant(3, 2.0)).round(12))  # 2 / (4 pi sinh 2)
    0.043882290796
    """
    p, kappa, there = _law(dim, kappa)
    log_scaled, _ = _scaled_bessel(p / 2 - 1, kappa)
    return held("kappa", there(-p / 2 * math.log(2 * math.pi) - log_scaled))


def von_mises_fisher_mean_length(dim: int, kappa: Array) -> Any:
    r"""Length of the mean of a von Mises-Fisher vector, :math:`A_p(\kappa) = I_{p/2}(\kappa)/I_{p/2-1}(\kappa)`.

    Parameters
    ----------
    dim : int, from 2 to 10**9
        p, the dimension of the space around the sphere.
    kappa : array_like or tensor, >= 0, any shape
        The concentration.

    Returns
    -------
    array, tensor or scalar, the shape of kappa, from 0 (uniform) up to 1; also the mean cosine to the mean direction. Close to kappa / dim
    where that is small. Differentiable.

    Raises
    ------
    ValueError, TypeError
        As `von_mises_fisher_log_constant`.

    Notes
    -----
    Good to some 14 digits, small values to their own.

    Source: as `von_mises_fisher_log_constant`.

    Examples
    --------
    >>> print(von_mises_fisher_mean_length(100, [1.0, 50.0]).round(8))
    [0.00999902 0.41506859]
    """
    p, kappa, there = _law(dim, kappa)
    _, ratio = _scaled_bessel(p / 2 - 1, kappa)
    return held("kappa", there(kappa * ratio))


def _point_and_vector(name: str, x: Any, v: Any) -> tuple[Any, Any, Any]:
    """The library, the point scaled to length 1 to rounding, and the vector of its shape."""
    xp, x, v = alike(half=False, x=x, **{name: v})
    if x.shape != v.shape:
        raise ValueError(f"x and {name} must have one shape, got {tuple(x.shape)} and {tuple(v.shape)}")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x and {name} must have shape (..., n), got {tuple(x.shape)}")
    finite("x", x), finite(name, v)
    with quiet():
        length, point = _polar(x, xp)
    off = abs(length - 1) if not is_tensor(x) else (length.detach() - 1).abs()
    require("x", length, off <= _UNIT, "of length 1 within 1e-6: the length of each row")
    return xp, point, v


def _polar(v: Any, xp: Any) -> tuple[Any, Any]:
    """Length, of shape (..., 1), and direction of vectors of any size; of a zero vector 0 and 0."""
    largest = xp.amax(abs(v), -1)[..., None]
    zero = largest == 0
    scaled = v / xp.where(zero, xp.ones_like(largest), largest)
    norm = (xp.where(zero, xp.ones_like(v), scaled) ** 2).sum(-1)[..., None] ** 0.5
    return xp.where(zero, 0 * norm, largest * norm), scaled / norm


def _along_the_sphere(x: Any, v: Any) -> Any:
    return v - x * (x * v).sum(-1)[..., None]


def _law(dim: Any, kappa: Any) -> tuple[int, Any, Any]:
    """The dimension, kappa in double precision, and the way back to the number format of kappa."""
    p = integer("dim", dim, least=2, most=10**9)
    given, xp = floating("kappa", kappa)
    finite("kappa", given)
    require("kappa", given, given >= 0, "at least 0")
    if xp is np:
        return p, given.astype(np.float64), lambda result: result.astype(given.dtype)[()]
    on = "cpu" if given.device.type == "mps" else given.device  # mps has no double precision
    return p, given.to(on, xp.float64), lambda result: result.to(given.device, given.dtype)


@cache
def _uniform_coefficients() -> tuple[list[list[float]], list[list[float]]]:
    """Coefficients of the polynomials U_k and V_k in DLMF 10.41.10 and 10.41.11, lowest power first."""
    U = V = [Polynomial([1.0])]
    for _ in range(_TERMS):
        u = U[-1]
        after = Polynomial([0, 0, 0.5, 0, -0.5]) * u.deriv() + (Polynomial([1, 0, -5]) * u).integ() / 8
        V = [*V, after - Polynomial([0, 0.5, 0, -0.5]) * u - Polynomial([0, 0, 1, 0, -1]) * u.deriv()]
        U = [*U, after]
    return [u.coef.tolist() for u in U], [v.coef.tolist() for v in V]


def _scaled_bessel(order: float, kappa: Any) -> tuple[Any, Any]:
    """log(I_v(kappa) / kappa^v) and I_(v+1)(kappa) / (kappa I_v(kappa)) for the order v, kappa in double precision."""
    xp = namespace(kappa)
    top = order + 1 + max(0, math.ceil(_HIGH_ORDER - order - 1))
    w = xp.hypot(kappa, 0 * kappa + top)
    u, v = (_uniform_series(coefficients, top / w, top) for coefficients in _uniform_coefficients())
    log_scaled = w - top * xp.log(top + w) - math.log(2 * math.pi) / 2 - xp.log(w) / 2 + xp.log(u)
    ratio = 1 / (top + w * (v / u))  # I_top / (kappa I_(top-1))
    k = top
    while True:
        log_scaled = log_scaled - xp.log(ratio)
        if k <= order + 1:
            return log_scaled, ratio
        k -= 1
        ratio = 1 / (2 * k + kappa * (kappa * ratio))


def _uniform_series(coefficients: list[list[float]], p: Any, order: float) -> Any:
    total = 0 * p
    for k in reversed(range(len(coefficients))):
        polynomial = 0 * p
        for c in reversed(coefficients[k]):
            polynomial = polynomial * p + c
        total = total / order + polynomial
    return total
