"""Random directions in n dimensions: the angle between two of them, its cosine, and many of them at once.

Notation: ``theta`` in [0, pi] is the angle (radians) between two independent vectors in R^n at least one of which is
uniform on the sphere, ``eta = cos(theta)``, ``a = (n - 1) / 2``. Then ``eta**2 ~ Beta(1/2, a)`` and
``(1 + eta) / 2 ~ Beta(a, a)``; both also make sense for real n > 1.

The distribution functions (``angle_*``, ``cosine_*``, ``max_cosine_quantile``) broadcast over NumPy arrays and compute
in float64 with SciPy's incomplete beta function; PyTorch has none, so they refuse tensors rather than drop a gradient
silently. ``random_directions``, ``effective_dimension``, ``coherence`` and ``welch_bound`` work in either library.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import Array, integer, is_tensor, points, reals, require, shown
from .extras import needed_by

if TYPE_CHECKING:
    import torch

Floats: TypeAlias = "np.float64 | NDArray[np.float64]"

__all__ = [
    "angle_cdf",
    "angle_pdf",
    "angle_variance",
    "coherence",
    "cosine_pdf",
    "cosine_tail",
    "effective_dimension",
    "max_cosine_quantile",
    "random_directions",
    "welch_bound",
]

# Rows of the Gram matrix that `coherence` holds at once: 50 000 vectors need 0.8 GB in float32 instead of 10 GB.
_GRAM_ROWS = 4096


def angle_pdf(theta: ArrayLike, n: ArrayLike) -> Floats:
    r"""Density of the angle between two random directions in R^n.

    .. math:: p_n(\theta) = \frac{\Gamma(n/2)}{\sqrt\pi\,\Gamma((n-1)/2)} \sin^{n-2}\theta, \qquad 0 \le \theta \le \pi

    Parameters
    ----------
    theta : array_like
        Angle in radians. The density is 0 outside [0, pi].
    n : array_like
        Dimension, real, n > 1; broadcasts against `theta`.

    Returns
    -------
    float64 array or scalar of the broadcast shape, per radian. For n < 2 it is infinite at 0.

    Raises
    ------
    ValueError
        If n <= 1 or above 1e150, an argument is NaN, or the shapes do not broadcast.
    TypeError
        If an argument is not real, or is a torch tensor.

    Notes
    -----
    Relative error below 1e-13 for n up to 10^6 around the bulk: ``log(sin)`` is taken from the cosine near pi/2, where
    the sine has forgotten the angle.

    Source: kexue.fm/archives/7076, the density of the angle; Cai, Fan & Jiang, JMLR 14 (2013).

    Examples
    --------
    >>> print(angle_pdf(np.pi / 2, 3))  # in space: sin(theta) / 2
    0.5
    """
    with needed_by("angle_pdf"):
        from scipy import special

    theta, n = reals(finite=False, theta=theta, n=n)
    _require_dimension(n)
    sine, cosine = _sine_cosine(theta)
    near_right_angle = np.abs(cosine) < np.sqrt(0.5)
    log_sine_power = np.where(
        near_right_angle,
        special.xlog1py((n - 2) / 2, -(cosine**2)),
        special.xlogy(n - 2, sine),
    )
    return _density(theta, (0, np.pi), n, log_sine_power)


def angle_cdf(theta: ArrayLike, n: ArrayLike) -> Floats:
    r"""Probability that two random directions in R^n enclose an angle of at most `theta`.

    .. math:: P(\Theta \le \theta) = \tfrac12 I_{\sin^2\theta}\bigl(\tfrac{n-1}2, \tfrac12\bigr), \qquad \theta \le \pi/2

    and one minus the value at pi - theta beyond; I is the regularised incomplete beta function.

    Parameters
    ----------
    theta : array_like
        Angle in radians; 0 below 0 and 1 above pi.
    n : array_like
        Dimension, real, n > 1; broadcasts against `theta`.

    Returns
    -------
    float64 array or scalar of the broadcast shape.

    Raises
    ------
    ValueError, TypeError
        As for `angle_pdf`.

    Notes
    -----
    The small left tail keeps its relative precision; for the right one use symmetry, ``angle_cdf(pi - theta, n)``.

    Source: the cap's surface, S. Li, Asian J. Math. Stat. 4 (2011); the density is kexue.fm/archives/7076.

    Examples
    --------
    >>> print(round(angle_cdf(np.radians(30), 3), 12))  # a spherical cap: (1 - cos 30 degrees) / 2
    0.066987298108
    """
    theta, n = reals(finite=False, theta=theta, n=n)
    _require_dimension(n)
    sine, cosine = _sine_cosine(theta)
    one_side = _two_sided_tail(cosine**2, sine**2, n) / 2
    return np.where(cosine >= 0, one_side, 1 - one_side)[()]


def angle_variance(n: ArrayLike) -> Floats:
    r"""Variance of the angle between two random directions in R^n, exactly :math:`\frac12\psi'(n/2)`.

    It lies between 1/(n-1) - 1/(3 (n-1)^3) and 1/(n-1).

    Parameters
    ----------
    n : array_like
        Dimension, real, n > 1.

    Returns
    -------
    float64 array or scalar of n's shape, in radians squared.

    Raises
    ------
    ValueError, TypeError
        As for `angle_pdf`.

    Notes
    -----
    Source: kexue.fm/archives/7076 tabulates it for seven n; the closed form follows from
    Var_n = Var_{n-2} - 2/(n-2)^2, the recursion of the trigamma function (DLMF 5.15.5).

    Examples
    --------
    >>> print(round(angle_variance(10), 12))
    0.110661477869
    """
    with needed_by("angle_variance"):
        from scipy import special

    (n,) = reals(finite=False, n=n)
    _require_dimension(n)
    return (special.zeta(2, n / 2) / 2)[()]


def cosine_pdf(eta: ArrayLike, n: ArrayLike) -> Floats:
    r"""Density of the cosine of the angle between two random directions in R^n.

    .. math:: p_n(\eta) = \frac{\Gamma(n/2)}{\sqrt\pi\,\Gamma((n-1)/2)} (1 - \eta^2)^{(n-3)/2}, \qquad -1 \le \eta \le 1

    Parameters
    ----------
    eta : array_like
        Cosine. The density is 0 outside [-1, 1]: clamp cosines that were computed in float32, they can exceed 1.
    n : array_like
        Dimension, real, n > 1; broadcasts against `eta`.

    Returns
    -------
    float64 array or scalar of the broadcast shape. For n < 3 it is infinite at -1 and 1.

    Raises
    ------
    ValueError, TypeError
        As for `angle_pdf`.

    Notes
    -----
    The same as ``scipy.stats.beta(a, a, loc=-1, scale=2).pdf(eta)`` with a = (n-1)/2.

    Source: kexue.fm/archives/7076, the density of the cosine.

    Examples
    --------
    >>> print(cosine_pdf([-0.9, 0.0, 0.5], 3))  # Archimedes: uniform
    [0.5 0.5 0.5]
    """
    with needed_by("cosine_pdf"):
        from scipy import special

    eta, n = reals(finite=False, eta=eta, n=n)
    _require_dimension(n)
    inside = np.clip(eta, -1, 1)
    power = (n - 3) / 2
    # (1 - eta)(1 + eta) is exact towards the ends; 1 - eta^2 is the better one where eta is small.
    log_kernel = np.where(
        np.abs(inside) < np.sqrt(0.5),
        special.xlog1py(power, -(inside**2)),
        special.xlog1py(power, -inside) + special.xlog1py(power, inside),
    )
    return _density(eta, (-1, 1), n, log_kernel)


def cosine_tail(t: ArrayLike, n: ArrayLike) -> Floats:
    r"""Probability that the cosine between two random directions in R^n is at least `t` in absolute value.

    .. math:: P(|\eta| \ge t) = I_{1-t^2}\bigl(\tfrac{n-1}2, \tfrac12\bigr) \le (1 - t^2)^{(n-1)/2} \le e^{-(n-1)t^2/2}

    So the angle is within `delta` of a right angle with probability ``1 - cosine_tail(sin(delta), n)``.

    Parameters
    ----------
    t : array_like
        Threshold; the probability is 1 for t <= 0 and 0 for t >= 1.
    n : array_like
        Dimension, real, n > 1; broadcasts against `t`.

    Returns
    -------
    float64 array or scalar of the broadcast shape, small values to their own relative precision (no 1 - (1 - p)).

    Raises
    ------
    ValueError, TypeError
        As for `angle_pdf`.

    Notes
    -----
    Source: eta^2 ~ Beta(1/2, (n-1)/2), from the density in kexue.fm/archives/7076; bounds of this kind in Ball,
    "An elementary introduction to modern convex geometry" (1997), lecture 2.

    Examples
    --------
    >>> print(round(cosine_tail(0.5, 3), 12), f"{cosine_tail(0.5, 1000):.4g}")
    0.5 1.972e-64
    """
    t, n = reals(finite=False, t=t, n=n)
    _require_dimension(n)
    t = np.clip(t, 0, 1)
    return _two_sided_tail(t**2, (1 - t) * (1 + t), n)[()]


def max_cosine_quantile(n: ArrayLike, N: ArrayLike, q: ArrayLike) -> Floats:
    r"""Quantile of the largest absolute cosine among all pairs of `N` random directions in R^n.

    Solves :math:`(1 - P(|\eta| \ge x))^{N(N-1)/2} = q` for x, as if all the pairs were independent.

    Parameters
    ----------
    n : array_like
        Dimension, real, n > 1.
    N : array_like
        Number of vectors, whole, N >= 2.
    q : array_like
        Level, 0 < q < 1; 0.5 is the median. All three broadcast.

    Returns
    -------
    float64 array or scalar of the broadcast shape.

    Raises
    ------
    ValueError
        If n <= 1, N is not a whole number >= 2, q is not inside (0, 1), an argument is NaN, or the shapes do not broadcast.
    TypeError
        If an argument is not real, or is a torch tensor.

    Notes
    -----
    Exact for N = 2. Otherwise the pairs are only pairwise independent, and the true level of x differs from q by at
    most about ``8 (1 - q) log(1/q) / N`` (Chen-Stein: Arratia, Goldstein & Gordon, Ann. Probab. 17 (1989), theorem 1,
    where only pairs that share a vector depend on each other). So it is for many vectors: for few of them and small q
    the answer can even fall below `welch_bound`.

    Source: limit laws of the extreme angles, Cai, Fan & Jiang, JMLR 14 (2013).

    Examples
    --------
    >>> print(max_cosine_quantile(100, 1000, [0.05, 0.5, 0.95]).round(4))
    [0.4333 0.4589 0.4999]
    """
    with needed_by("max_cosine_quantile"):
        from scipy import special

    n, N, q = reals(finite=False, n=n, N=N, q=q)
    _require_dimension(n)
    _require_whole("N", N, 2)
    require("q", q, (q > 0) & (q < 1), "0 < q < 1")
    pairs = N * (N - 1) / 2
    probability = -np.expm1(np.log(q) / pairs)
    return np.sqrt(special.betainccinv(0.5, (n - 1) / 2, probability))[()]


def random_directions(
    N: int, n: int, generator: np.random.Generator | torch.Generator, *, dtype: str | None = None
) -> Any:
    """Draw `N` independent vectors, uniform on the unit sphere of R^n: normal vectors divided by their length.

    Parameters
    ----------
    N, n : int
        Number of vectors and dimension, both >= 1, and 10**9 numbers at most.
    generator : numpy.random.Generator or torch.Generator
        Decides the library, and for torch the device.
    dtype : {"float64", "float32"}, optional
        Default: float64 for NumPy, torch's default dtype for torch. Apple's mps has no float64.

    Returns
    -------
    array or tensor of shape (N, n), rows of length 1.

    Raises
    ------
    ValueError
        If N or n is less than 1, their product above 10**9, or the dtype is another one.
    TypeError
        If N or n is not an integer, or the generator is neither kind.

    Notes
    -----
    Source: Muller, Comm. ACM 2 (1959). Like ``scipy.stats.uniform_direction(n).rvs(N)``, with torch and its devices.

    Examples
    --------
    >>> X = random_directions(5, 1000, np.random.default_rng(0))
    >>> X.shape, bool(np.allclose((X**2).sum(1), 1))
    ((5, 1000), True)
    """
    for name, value in (("N", N), ("n", n)):
        integer(name, value, least=1)
    if int(N) * int(n) > 10**9:
        raise ValueError(f"N and n must have a product of at most 10**9, got {shown(N)} and {shown(n)}")
    if dtype not in (None, "float64", "float32"):
        raise ValueError(f'dtype must be "float64" or "float32", got {dtype!r}')

    torch = sys.modules.get("torch")
    if isinstance(generator, np.random.Generator):
        X = generator.standard_normal((N, n), dtype=np.dtype(dtype or "float64"))
    elif torch is not None and isinstance(generator, torch.Generator):
        kind = getattr(torch, dtype) if dtype else torch.get_default_dtype()
        X = torch.randn(N, n, generator=generator, device=generator.device, dtype=kind)
    else:
        raise TypeError(
            "generator must be a numpy.random.Generator (numpy.random.default_rng(seed)) or a torch.Generator, "
            f"got {type(generator).__name__}"
        )
    X[(X == 0).all(-1), 0] = 1  # all but impossible, and it would be a row of NaN
    return _unit_rows(X)


def effective_dimension(X: Array) -> Any:
    r"""One over the mean squared cosine between different rows of `X`: the dimension that random directions would need.

    For independent rows with directions of second-moment matrix M, :math:`E\cos^2 = \mathrm{Tr}\,M^2 \ge 1/n` with
    equality only for isotropic ones, and the mean over different pairs estimates it without bias.

    Parameters
    ----------
    X : array or tensor, shape (..., N, n)
        N >= 2 nonzero rows, of any length. Subtract their mean first if a common direction is not the question.

    Returns
    -------
    array, tensor or scalar of shape (...): at least 1, around n for isotropic rows (it may exceed n by chance), and
    infinite for orthogonal ones. Same library, dtype and device as X; integers become the library's default float.
    Differentiable.

    Raises
    ------
    ValueError
        If X has fewer than two dimensions or rows, a zero row, or a value that is not finite.
    TypeError
        If X is not real.

    Notes
    -----
    Costs O(N n min(N, n)) and O(min(N, n)^2) memory. Counting each row with itself as well gives 1/Tr M^2 of the sample,
    which is too small by about n^2/N.

    Source: the second-moment identity is the corollary of kexue.fm/archives/7076 proved in this book's chapter on it.

    Examples
    --------
    >>> X = random_directions(2000, 30, np.random.default_rng(0))
    >>> print(effective_dimension(X).round(1), effective_dimension(X + X[0]).round(1))
    30.0 3.9
    """
    U = _unit_rows(_rows(X))
    N, n = U.shape[-2:]
    if n >= N:
        gram = U @ U.swapaxes(-1, -2)
        gram[..., range(N), range(N)] = 0
        total = (gram**2).sum((-1, -2))
    else:
        second_moment = U.swapaxes(-1, -2) @ U
        total = (second_moment**2).sum((-1, -2)) - ((U**2).sum(-1) ** 2).sum(-1)
    mean_square = total / (N * (N - 1))
    if is_tensor(mean_square):
        return 1 / mean_square.clamp(min=0)
    with np.errstate(divide="ignore"):
        return 1 / np.clip(mean_square, 0, None)


def coherence(X: Array) -> Any:
    """Largest absolute cosine between two different rows of `X` (the coherence of a frame or dictionary).

    Parameters
    ----------
    X : array or tensor, shape (..., N, n)
        N >= 2 nonzero rows, of any length.

    Returns
    -------
    array, tensor or scalar of shape (...), between 0 and 1. Same library, dtype and device as X; integers become the
    library's default float. Differentiable (a subgradient, of the worst pair).

    Raises
    ------
    ValueError
        If X has fewer than two dimensions or rows, a zero row, or a value that is not finite.
    TypeError
        If X is not real.

    Notes
    -----
    The Gram matrix is made in blocks of rows, so that memory grows like N rather than N^2.

    Source: Welch, IEEE Trans. Inf. Theory 20 (1974); never less than `welch_bound` (N, n).

    Examples
    --------
    >>> print(coherence([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).round(6))  # a cube's diagonals
    0.333333
    """
    U = _unit_rows(_rows(X))
    N = U.shape[-2]
    worst = None
    for start in range(0, N, _GRAM_ROWS):
        block = U[..., start : start + _GRAM_ROWS, :]
        gram = block @ U[..., start:, :].swapaxes(-1, -2)
        diagonal = range(block.shape[-2])
        gram[..., diagonal, diagonal] = 0
        if is_tensor(gram):
            here = gram.abs().amax((-2, -1)).clamp(max=1)
            worst = here if worst is None else worst.maximum(here)
        else:
            here = np.minimum(np.abs(gram).max((-2, -1)), gram.dtype.type(1))
            worst = here if worst is None else np.maximum(worst, here)
    return worst


def welch_bound(N: Array, n: Array) -> Any:
    r"""Least coherence that `N` directions in R^n can have by Welch's bound, :math:`\sqrt{(N-n)/(n(N-1))}`.

    Parameters
    ----------
    N : array_like or tensor
        Number of vectors, whole, N >= 1.
    n : array_like or tensor
        Dimension, whole, n >= 1; broadcasts against `N`.

    Returns
    -------
    float64 array or scalar, or (if either argument is a tensor) a tensor of the default dtype on that one's device.
    0 for N <= n, where orthogonal vectors exist.

    Raises
    ------
    ValueError
        If N or n is not a whole number >= 1, or the shapes do not broadcast.
    TypeError
        If an argument is not real.

    Notes
    -----
    Attained exactly by equiangular tight frames, which exist for few (N, n): the icosahedron's six axes, (28, 7).

    Source: Welch, IEEE Trans. Inf. Theory 20 (1974), the first of its bounds.

    Examples
    --------
    >>> print(welch_bound([3, 6, 28], [3, 3, 7]).round(6))
    [0.       0.447214 0.333333]
    """
    tensors = [x for x in (N, n) if is_tensor(x)]
    N, n = reals(finite=False, N=_to_numpy(N), n=_to_numpy(n))
    _require_whole("N", N, 1)
    _require_whole("n", n, 1)
    bound = np.sqrt(np.clip(N - n, 0, None) / (n * np.maximum(N - 1, 1)))
    if not tensors:
        return bound[()]
    torch = sys.modules["torch"]
    return torch.tensor(bound, dtype=torch.get_default_dtype(), device=tensors[0].device)


def _density_constant(n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gamma(n/2) / (sqrt(pi) Gamma((n-1)/2)) to a few units in the last place.

    A difference of two `gammaln` is wrong by 3e-10 at n = 10^6. For large n the logarithm of the ratio is an even series
    in 1/(2n - 3) whose coefficients are Euler numbers (DLMF 5.11.14); its next term is below 1e-16 at n = 128.
    """
    from scipy import special

    small = np.minimum(n, 128)
    large = np.maximum(n, 128)
    y = (2 * large - 3) ** -2.0
    series = np.sqrt((2 * large - 3) / 4) * np.exp(y * (1 / 4 - y * (5 / 8 - y * 61 / 12)))
    ratio = np.where(n < 128, special.gamma(small / 2) / special.gamma((small - 1) / 2), series)
    return ratio / np.sqrt(np.pi)


def _density(
    x: NDArray[np.float64], support: tuple[float, float], n: NDArray[np.float64], log_kernel: NDArray[np.float64]
) -> Floats:
    inside = (x >= support[0]) & (x <= support[1])
    with np.errstate(over="ignore"):  # below n = 2 (angle) or 3 (cosine) the density has poles at the ends
        return np.where(inside, _density_constant(n) * np.exp(log_kernel), 0.0)[()]


def _sine_cosine(theta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sine and cosine of theta clipped to [0, pi]; the float np.pi stands for pi, whose sine is 0, not 1.2e-16."""
    theta = np.clip(theta, 0, np.pi)
    return np.where(theta < np.pi, np.sin(theta), 0.0), np.cos(theta)


def _two_sided_tail(
    cosine2: NDArray[np.float64], sine2: NDArray[np.float64], n: NDArray[np.float64]
) -> NDArray[np.float64]:
    """P(eta^2 >= cosine2), given both squares so that neither is one minus the other."""
    with needed_by(__name__):
        from scipy import special

    a = (n - 1) / 2
    return np.where(cosine2 < 0.5, special.betaincc(0.5, a, cosine2), special.betainc(a, 0.5, sine2))


def _to_numpy(x: Any) -> Any:
    return x.detach().cpu().numpy() if is_tensor(x) else x


def _require_dimension(n: NDArray[np.float64]) -> None:
    require("n", n, (n > 1) & np.isfinite(n), "a finite dimension > 1")
    require("n", n, n <= 1e150, "at most 1e150")


def _require_whole(name: str, array: NDArray[np.float64], least: int) -> None:
    valid = np.isfinite(array) & (array >= least) & (array == np.floor(array))
    require(name, array, valid, f"a whole number >= {least}")
    require(name, array, array <= 1e150, "at most 1e150")


def _rows(X: Any) -> Any:
    """X as a floating-point array or tensor of shape (..., N, n) with N >= 2 finite, nonzero rows."""
    X = points("X", X)
    if X.shape[-2] < 2:
        raise ValueError(f"X must have shape (..., N, n) with N >= 2 rows, got {tuple(X.shape)}")
    if bool((X == 0).all(-1).any()):
        raise ValueError("X must have nonzero rows, got a zero row: it has no direction")
    return X


def _unit_rows(X: Any) -> Any:
    """Rows divided by their length, which may itself be beyond the range of the dtype."""
    scale = abs(X).max(-1)
    scale = scale.values if is_tensor(X) else scale
    Y = X / scale[..., None]
    return Y / (Y**2).sum(-1)[..., None] ** 0.5
