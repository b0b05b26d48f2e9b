"""The continued fraction of Rogers and Ramanujan."""

from __future__ import annotations

from typing import Any

import mpmath

from .arguments import integer, reals, require

__all__ = ["rogers_ramanujan"]


def rogers_ramanujan(q: Any, levels: int) -> Any:
    r"""The continued fraction of Rogers and Ramanujan, cut off after some levels.

    .. math:: R_m(q) = \cfrac{q^{1/5}}{1 + \cfrac{q}{1 + \cfrac{q^2}{\ddots + q^m}}}

    Parameters
    ----------
    q : number or array_like of any shape, between 0 and 1; or an mpmath number, for more digits.
    levels : m, 0 to 10**5; level 0 is the numerator alone.

    Returns
    -------
    float64 array of the shape of `q`, or an mpmath number. Successive levels lie on alternating sides of the limit.

    Raises
    ------
    TypeError : q that is not real numbers, or a torch tensor; levels that are not an integer.
    ValueError : q outside of 0 < q < 1, NaN, or levels out of range.

    References
    ----------
    B. C. Berndt, Ramanujan's Notebooks, Part V, 1998, chapter 32.

    Examples
    --------
    >>> import math
    >>> round(float(rogers_ramanujan(math.exp(-2 * math.pi), 4)), 12)
    0.28407904384
    """
    levels = integer("levels", levels, least=0, most=10**5)
    if isinstance(q, mpmath.mpf):
        if not 0 < q < 1:
            raise ValueError(f"q must be between 0 and 1, got {q}")
    else:
        (q,) = reals(finite=True, q=q)
        require("q", q, (q > 0) & (q < 1), "between 0 and 1")
    value = 1 + 0 * q
    for level in range(levels, 0, -1):
        value = 1 + q**level / value
    root = mpmath.root(q, 5) if isinstance(q, mpmath.mpf) else q**0.2
    return root / value
