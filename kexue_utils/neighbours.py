r"""Who is whose nearest neighbour: how often each point of a cloud is named, and the law of that number in high dimension.

Every one of N points names its k nearest others; the *hub count* N_k of a point says how often it was named, k on average.
For independent coordinates of unit variance and fourth moment ``v + 1``, ``g`` is the standardised squared length
:math:`(|x|^2 - n)/\sqrt{vn}`. As the dimension n grows, a point with excess g is named with the probability
:math:`p(g) = \Phi(\frac12(\sqrt{v+4}\,z - \sqrt v\,g))`, :math:`z = \Phi^{-1}(k/(N-1))`, by each of the N - 1 others,
and N_k is Poisson with mean :math:`\lambda(g) = (N-1)\,p(g)`, mixed over standard normal g.

`topk_hit` judges an encoder by the neighbours of its embeddings. It and `hub_counts` work in NumPy or PyTorch; `hub_rate` and
`hub_law` compute in float64 with SciPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import (
    Array,
    in_format_of,
    integer,
    integers,
    is_tensor,
    namespace,
    number,
    one_library,
    points,
    reals,
    require,
)
from .extras import needed_by

if TYPE_CHECKING:
    import torch

__all__ = ["HubLaw", "hub_counts", "hub_law", "hub_rate", "topk_hit"]

# Nodes of the trapezoidal rule over g. For a smooth function times a Gaussian it converges faster than any power of the step.
_G = np.linspace(-15, 15, 3001)
_WEIGHTS = np.exp(-(_G**2) / 2) * (_G[1] - _G[0]) / np.sqrt(2 * np.pi)


def hub_counts(
    X: Array, k: int, *, metric: Literal["l2", "cosine"] = "l2", chunk: int = 4096
) -> NDArray[np.int64] | torch.Tensor:
    """How often each row of `X` is among the `k` nearest neighbours of another row.

    Parameters
    ----------
    X : array or tensor, shape (..., N, n)
        N points in n dimensions.
    k : int
        Neighbours that every point names, 1 <= k < N. No point names itself.
    metric : {"l2", "cosine"}
        Euclidean distance, or one minus the cosine.
    chunk : int
        Points whose distances to all others are held at once: memory is chunk x N.

    Returns
    -------
    int64 array or tensor of shape (..., N), with sum k N along the last axis; same library and device as `X`.

    Raises
    ------
    ValueError
        If `X` has fewer than two dimensions, is not finite, or has a zero row under the cosine; if k is not in 1 <= k < N,
        chunk < 1 or the metric is another one.
    TypeError
        If `X` is not real, or k or chunk is not an integer.

    Notes
    -----
    Of neighbours at equal distance those with the smaller index are named. Distances are compared as
    |x_j|^2 - 2 <x_i, x_j> about the mean of the cloud, in the precision of `X` (integers in the library's default): points whose
    squared distances differ by less than its rounding may change places.

    Like ``numpy.bincount(NearestNeighbors(n_neighbors=k).fit(X).kneighbors(return_distance=False).ravel(), minlength=N)`` of
    scikit-learn, with torch, its devices and batches. More measures of hubness: the package scikit-hubness.

    Source: Radovanović, Nanopoulos & Ivanović, JMLR 11 (2010).

    Examples
    --------
    >>> print(hub_counts([[-11.0], [-10.0], [0.0], [10.0], [11.0]], k=1))  # nobody names the one in the middle
    [1 2 0 1 1]
    """
    X = points("X", X)
    N = X.shape[-2]
    k, chunk = integer("k", k), integer("chunk", chunk, least=1)
    if not 1 <= k < N:
        raise ValueError(f"k must be in 1 <= k < N = {N}, got {k}")
    if metric == "cosine":
        X = _directions("X", X)
    elif metric == "l2":
        X = _in_range(X, (-2, -1))
        X = X - X.mean(-2)[..., None, :]  # the same distances with less rounding
    else:
        raise ValueError(f'metric must be "l2" or "cosine", got {metric!r}')
    clouds = X.reshape(-1, N, X.shape[-1])
    counts = [_counts(cloud, k, chunk) for cloud in clouds]
    return namespace(X).stack(counts).reshape(X.shape[:-1])


def hub_rate(g: ArrayLike, N: ArrayLike, k: ArrayLike, v: ArrayLike) -> np.float64 | NDArray[np.float64]:
    r"""Expected number of times that a point of standardised squared length `g` is named, in the limit of high dimension.

    .. math:: \lambda(g) = (N-1)\,\Phi\bigl(\tfrac12(\sqrt{v+4}\,\Phi^{-1}(\tfrac k{N-1}) - \sqrt v\,g)\bigr)

    Parameters
    ----------
    g : array_like
        :math:`(|x|^2 - n)/\sqrt{vn}`, standard normal in the limit.
    N, k : array_like
        Number of points and of neighbours that each names, 0 < k < N - 1, and N at most 10**15.
    v : array_like
        Variance of a squared coordinate of unit variance, v >= 0: 2 for the normal law, 4/5 for the uniform one, 5 for Laplace's.
        All four broadcast.

    Returns
    -------
    float64 array or scalar of the broadcast shape, between 0 and N - 1.

    Raises
    ------
    ValueError
        If k or v is out of range, an argument is not finite, or the shapes do not broadcast.
    TypeError
        If an argument is not real numbers.

    Notes
    -----
    Small values keep their relative precision. The k-th smallest distance is replaced by a quantile, which is exact for large N.
    Source: Angiulli, JMLR 18 (2018), the limit law of the number of k-occurrences; derived in this book's chapter on hubness.

    Examples
    --------
    >>> print(hub_rate([-3, 0, 3], 1000, 10, 2).round(4))
    [2.332562e+02 2.192600e+00 3.000000e-04]
    """
    with needed_by("hub_rate"):
        from scipy import special

    g, N, k, v = reals(finite=True, g=g, N=N, k=k, v=v)
    if not ((k > 0) & (k < N - 1)).all():
        raise ValueError(f"k must be in 0 < k < N - 1, got k = {k} and N = {N}")
    require("N", N, N <= 1e15, "at most 10**15")
    if not (v >= 0).all():
        raise ValueError(f"v must be a finite number >= 0, got {v}")
    z = special.ndtri(k / (N - 1))
    with np.errstate(over="ignore"):  # a normal law has no mass out there
        return (N - 1) * special.ndtr((np.sqrt(v + 4) * z - np.sqrt(v) * g) / 2)


@dataclass(frozen=True)
class HubLaw:
    """Moments of the hub count N_k in the limit of high dimension; see `hub_law`.

    `correlation` is that of N_k with minus the squared length, `orphans` the probability of N_k = 0, `top_share` the share of all
    votes that goes to the fifth of the points with the most.
    """

    mean: float
    variance: float
    skewness: float
    correlation: float
    orphans: float
    top_share: float


def hub_law(N: int, k: int, v: float) -> HubLaw:
    """Moments of the hub count as the dimension goes to infinity: Poisson of mean `hub_rate` (g), mixed over standard normal g.

    Parameters
    ----------
    N, k, v : numbers
        As in `hub_rate`, with k from 1e-100 to 10**4.

    Returns
    -------
    HubLaw

    Raises
    ------
    ValueError
        As in `hub_rate`, or several numbers in an argument.
    TypeError
        As in `hub_rate`.

    Notes
    -----
    Trapezoidal rule over g, good to about 12 digits; `top_share` sums the Poisson probabilities up to N.

    Examples
    --------
    >>> law = hub_law(1000, 10, 2)
    >>> print(f"{law.variance:.7f} {law.skewness:.7f} {law.correlation:.7f} {law.orphans:.7f} {law.top_share:.4f}")
    557.8099949 6.1748605 0.6514380 0.3119575 0.8052
    """
    N, k, v = (number(name, value) for name, value in (("N", N), ("k", k), ("v", v)))  # type: ignore[assignment]
    if not 1e-100 <= k <= 1e4:
        raise ValueError(f"k must be between 1e-100 and 10**4, got {k}")
    rate = np.asarray(hub_rate(_G, N, k, v))
    mean = _WEIGHTS @ rate
    spread = _WEIGHTS @ (rate - mean) ** 2
    variance = mean + spread
    third = _WEIGHTS @ (rate - mean) ** 3 + 3 * spread + mean
    return HubLaw(
        mean=float(mean),
        variance=float(variance),
        skewness=float(third / variance**1.5),
        correlation=float(-(_WEIGHTS @ (rate * _G)) / np.sqrt(variance)),
        orphans=float(_WEIGHTS @ np.exp(-rate)),
        top_share=_top_share(rate, float(mean)),
    )


def topk_hit(embeddings: Array, groups: Array, k: int | Sequence[int] = (1, 5, 10), *, chunk: int = 4096) -> Any:
    """How often one of the `k` nearest other rows, by cosine, belongs to the row's own group: top-k accuracy of a retrieval.

    Parameters
    ----------
    embeddings : array or tensor, shape (N, n)
        One row an item.
    groups : array or tensor of integers, shape (N,)
        Items with equal numbers belong together, say paraphrases. Each group needs two of them.
    k : int or sequence of ints
        1 <= k < N. No item finds itself.
    chunk : int
        Rows whose cosines to all others are held at once: memory is chunk x N.

    Returns
    -------
    array or tensor of the shape of `k`, from 0 to 1, in the format and on the device of the embeddings.

    Raises
    ------
    ValueError
        If the shapes do not fit, a row is zero or not finite, a group has a single item, or k or chunk is out of range.
    TypeError
        If embeddings are not real numbers, groups, k or chunk not integers, or NumPy and torch are mixed.

    Notes
    -----
    A row of another group that is exactly as near as the nearest of the own group counts as nearer: a constant encoder hits nothing.

    Examples
    --------
    >>> topk_hit([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]], [0, 1, 1, 0], k=(1, 2, 3)).tolist()
    [0.0, 0.5, 1.0]
    """
    X = points("embeddings", embeddings)
    if X.ndim != 2:
        raise ValueError(f"embeddings must have shape (N, n), got {tuple(X.shape)}")
    N, chunk = X.shape[0], integer("chunk", chunk, least=1)
    if isinstance(k, str | bytes) or not isinstance(k, Sequence | int | np.integer):
        raise TypeError(f"k must be an integer or a sequence of integers, got {k!r}")
    wanted = [integer("k", one, 1, N - 1) for one in (k if isinstance(k, Sequence) else [k])]
    groups = _groups(groups, X)
    X = _directions("embeddings", X)
    xp = namespace(X)
    place = xp.arange(N, device=X.device) if is_tensor(X) else xp.arange(N)
    before: list[Any] = []
    for start in range(0, N, chunk):
        cosine = X[start : start + chunk] @ X.T
        rows = slice(start, start + len(cosine))
        own = groups[rows, None] == groups
        others = own & (place[rows, None] != place)
        best = xp.amax(xp.where(others, cosine, -2), -1)
        before.append(((cosine >= best[:, None]) & ~own).sum(-1))
    ranks = xp.concatenate(before)
    shares = in_format_of(X, [float((ranks < one).sum()) / N for one in wanted])
    return shares if isinstance(k, Sequence) else shares[0]


def _groups(groups: Any, X: Any) -> Any:
    """Groups of the rows of X, in its library."""
    one_library(embeddings=X, groups=groups)
    groups = integers("groups", groups)
    if tuple(groups.shape) != (X.shape[0],):
        raise ValueError(
            f"groups must have one number for each of the {X.shape[0]} rows, got shape {tuple(groups.shape)}"
        )
    if is_tensor(X):
        groups = namespace(X).as_tensor(groups, device=X.device)
        names, sizes = groups.unique(return_counts=True)
    else:
        names, sizes = np.unique(groups, return_counts=True)
    if bool((sizes == 1).any()):
        raise ValueError(f"groups must have two items each, got one of group {names[sizes == 1][0].item()}")
    return groups


def _directions(name: str, X: Any) -> Any:
    """The rows, at length 1."""
    if bool((X == 0).all(-1).any()):
        raise ValueError(f"{name} must have nonzero rows for the cosine, got a zero row: it has no direction")
    X = _in_range(X, -1)
    return X / ((X**2).sum(-1) ** 0.5)[..., None]


def _top_share(rate: NDArray[np.float64], mean: float, share: float = 0.2) -> float:
    """Share of the votes held by the top `share` of the points: from P(N_k >= m), by which E max(N_k - m, 0) is a sum."""
    from scipy import special

    tail, m, above = 1.0, 0, mean
    while tail > share:  # E(N_k; above the quantile) = sum of P(N_k >= j) over j > m, plus m times the share
        m += 1
        tail = float(_WEIGHTS @ special.gammainc(m, rate))
        above -= tail
    return (above + tail + (m - 1) * share) / mean


def _in_range(X: Any, axes: Any) -> Any:
    """X, divided by its largest entry along the axes where squares would leave the range of the dtype."""
    info = namespace(X).finfo(X.dtype)
    largest = abs(X).amax(axes, keepdim=True) if is_tensor(X) else abs(X).max(axes, keepdims=True)
    far = (largest > float(info.max) ** 0.25) | ((largest < float(info.tiny) ** 0.25) & (largest > 0))
    return X / (largest * far + ~far)


def _counts(X: Any, k: int, chunk: int) -> Any:
    """Hub counts of one cloud, shape (N,), chunk by chunk of the voters."""
    N = X.shape[0]
    squares = (X**2).sum(-1)
    total: Any = 0
    for start in range(0, N, chunk):
        voters = X[start : start + chunk]
        distance = squares - 2 * voters @ X.T  # without the voter's own square, which does not change its ranking
        rows = range(len(voters))
        distance[rows, range(start, start + len(voters))] = float("inf")
        if is_tensor(X):
            nearest = distance.topk(k + 1, dim=1, largest=False)
            named, kth, next_one = nearest.indices[:, :k], nearest.values[:, k - 1 : k], nearest.values[:, k:]
        else:
            order = np.argpartition(distance, (k - 1, k), axis=1)[:, : k + 1]
            named, values = order[:, :k], np.take_along_axis(distance, order, 1)
            kth, next_one = values[:, k - 1 : k], values[:, k:]
        if bool((kth == next_one).any()):  # a tie at the border, and either library would pick any of the two
            nearer, tied = distance < kth, distance == kth
            chosen = nearer | (tied & (tied.cumsum(1) <= k - nearer.sum(1)[:, None]))
            total = total + chosen.sum(0)
        else:
            total = total + (
                named.flatten().bincount(minlength=N) if is_tensor(X) else np.bincount(named.ravel(), minlength=N)
            )
    return total
