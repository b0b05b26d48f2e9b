r"""Rank statistics of scores against labels: Spearman's correlation and the area under the ROC curve.

Notation: n items, a share p of which has the label 1 and the others 0; scores without ties. ``AUC`` is the chance that a random item with label 1 has
the higher score of a random pair, ``rho`` is Spearman's correlation of scores and labels, where equal labels have their mean rank. Then

.. math:: \rho = \sqrt{3p(1-p)}\,(2\,\mathrm{AUC}-1)\,\frac{n}{\sqrt{n^2-1}}

so that even a perfect ranking has no rho of 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arguments import reals, require

__all__ = ["auc_from_spearman", "spearman_from_auc"]


def spearman_from_auc(auc: ArrayLike, p: ArrayLike, n: ArrayLike | None = None) -> Any:
    """Spearman's correlation with 0/1 labels, from the area under the ROC curve.

    Parameters
    ----------
    auc : array_like
        From 0 to 1. At 1 the result is the ceiling of rho.
    p : array_like
        Share of the label 1, between 0 and 1.
    n : array_like, optional
        Number of items, at least 2. Default: infinitely many.

    Returns
    -------
    array or scalar, float64, of the broadcast shape.

    Raises
    ------
    ValueError
        If an argument is NaN or out of its range, or shapes do not broadcast.
    TypeError
        If an argument is a torch tensor or not real numbers.

    Notes
    -----
    Exact for scores without ties. `scipy.stats.spearmanr` and `sklearn.metrics.roc_auc_score` compute the two from data.

    Examples
    --------
    >>> print(spearman_from_auc(0.8, 0.2, 100).round(12), spearman_from_auc(1, 0.5).round(12))
    0.415712979985 0.866025403784
    """
    area, ceiling = _ceiling(p, n, auc=auc)
    require("auc", area, (area >= 0) & (area <= 1), "from 0 to 1")
    return ((2 * area - 1) * ceiling)[()]


def auc_from_spearman(rho: ArrayLike, p: ArrayLike, n: ArrayLike | None = None) -> Any:
    """Area under the ROC curve, from Spearman's correlation with 0/1 labels.

    Parameters
    ----------
    rho : array_like
        Not further from 0 than its ceiling (`spearman_from_auc` at 1).
    p, n : as in `spearman_from_auc`.

    Returns
    -------
    array or scalar, float64, of the broadcast shape.

    Raises
    ------
    ValueError, TypeError
        As `spearman_from_auc`.

    Examples
    --------
    >>> print(auc_from_spearman(0.3, 0.2).round(12))
    0.716506350946
    """
    correlation, ceiling = _ceiling(p, n, rho=rho)
    within = abs(correlation) <= ceiling * (1 + 4 * np.finfo(float).eps)
    require("rho", correlation + 0 * ceiling, within, "not above the ceiling of labels with this p")
    return (0.5 + np.clip(correlation / ceiling, -1, 1) / 2)[()]


def _ceiling(p: ArrayLike, n: ArrayLike | None, **value: ArrayLike) -> tuple[Any, Any]:
    """The value as an array, and the ceiling of rho."""
    items: Any = None
    if n is None:
        given, share = reals(finite=True, **value, p=p)
    else:
        given, share, items = reals(finite=True, **value, p=p, n=n)
        require("n", items, items >= 2, "at least 2")
    require("p", share, (share > 0) & (share < 1), "between 0 and 1")
    ceiling = np.sqrt(3 * share) * np.sqrt(1 - share)
    return given, ceiling if items is None else ceiling / np.sqrt((1 - 1 / items) * (1 + 1 / items))
