"""Distances between two samples of points: how far apart are the laws that they were drawn from?

Notation: ``x`` of shape (n, d) and ``y`` of shape (m, d) are independent samples, one point a row. NumPy in gives NumPy out, torch in
gives torch out on the device of the input, differentiable.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arguments import Array, alike, held, is_tensor, points, quiet
from .extras import needed_by

__all__ = ["energy_distance"]

# Distances held at once: 4096 rows against 50 000 points need 1.6 GB in float64 instead of 20 GB.
_ROWS = 4096


def energy_distance(x: Array, y: Array) -> Any:
    r"""Unbiased estimate of the energy distance between the laws of two samples.

    .. math:: 2\,\mathbb{E}\|X-Y\| - \mathbb{E}\|X-X'\| - \mathbb{E}\|Y-Y'\|

    X' and Y' are independent copies. It is 0 only for equal laws, and the square of a metric.

    Parameters
    ----------
    x : array or tensor, shape (n, d)
    y : array or tensor, shape (m, d)
        n and m at least 2. In torch on the device of `x`.

    Returns
    -------
    float64 or 0-d tensor, in the units of the points. Pairs of a point with itself are left out, so that the mean over samples is right;
    the price is that for equal laws the estimate falls on both sides of 0, by about the spread of the data divided by n.

    Raises
    ------
    ValueError
        If a sample is not of shape (at least 2, d), the dimensions differ, or an entry is NaN, infinite or too large.
    TypeError
        If an argument is not real numbers, or NumPy and torch are mixed.

    Notes
    -----
    In one dimension `scipy.stats.energy_distance` is the square root of the biased version, which keeps the pairs of a point with itself.
    Time O((n + m)^2 d), memory O(n + m).

    Source: Székely & Rizzo, Energy statistics, J. Stat. Plan. Inference 143 (2013), equation (5).

    Examples
    --------
    >>> print(energy_distance([[0.0], [2.0]], [[1.0], [5.0]]))  # 2 * 10/4 - 2 - 4
    -1.0
    """
    xp, x, y = alike(x=x, y=y)
    x, y = _sample("x", x), _sample("y", y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must have the same dimension, got shapes {tuple(x.shape)} and {tuple(y.shape)}")
    n, m = len(x), len(y)
    largest = [abs(cloud.detach() if is_tensor(cloud) else cloud).max() for cloud in (x, y)]
    size, info = max(map(float, largest)), xp.finfo(x.dtype)
    if size and not float(info.tiny) ** 0.25 < size < float(info.max) ** 0.25:  # where squares would be lost
        with quiet():
            return held("x and y", size * energy_distance(x / size, y / size))
    return (
        2 * _sum(x, y) / (n * m) - _sum(x, x) / (n * (n - 1)) - _sum(y, y) / (m * (m - 1))
    )  # a point is at distance 0 from itself, so the sums need not leave it out


def _sample(name: str, x: Any) -> Any:
    x = points(name, x)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"{name} must have shape (at least 2, d), got {tuple(x.shape)}")
    return x


def _sum(x: Any, y: Any) -> Any:
    """Sum of all distances. Not by way of the inner products: near points would lose their digits."""
    blocks = range(0, len(x), _ROWS)
    if not is_tensor(x):
        with needed_by("energy_distance"):
            from scipy.spatial.distance import cdist
        return np.float64(sum(cdist(x[i : i + _ROWS], y).sum() for i in blocks))
    import torch

    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y = x.to(dtype), y.to(dtype)
    exact = "donot_use_mm_for_euclid_dist"
    return sum(torch.cdist(x[i : i + _ROWS], y, compute_mode=exact).sum() for i in blocks)
