r"""Probabilities by adding noise: how often each of n scores wins when every score gets an independent noise of the same law.

Notation: ``scores`` :math:`\mu` has shape (..., n), n >= 2, and batch dimensions lead. :math:`F` is the distribution function of the noise and
:math:`f` its density. The probability that label i wins,

.. math:: p_i = P[\arg\max(\mu + \varepsilon) = i] = \int f(x-\mu_i) \prod_{j\ne i} F(x-\mu_j)\,dx ,

is the softmax for Gumbel noise. NumPy in gives NumPy out, torch in gives torch out with the dtype of the scores, on their device.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from .arguments import (
    Array,
    boolean,
    finite,
    floating,
    held,
    in_format_of,
    integer,
    is_tensor,
    log_sum_exp,
    one_of,
    quiet,
)
from .extras import needed_by

__all__ = ["deficit", "log_perturbed_argmax", "perturbed_argmax_probabilities"]

NOISES = ("gumbel", "normal", "logistic", "exponential")
RULES = ("line", "midpoint", "interior")


def perturbed_argmax_probabilities(
    scores: Array, noise: str = "normal", nodes: int = 64, rule: str = "line", normalise: bool = False
) -> Any:
    r"""Probability of each label to have the largest score after independent noise was added to all scores.

    Parameters
    ----------
    scores : array or tensor, shape (..., n), n >= 2
        Any real numbers; integers become the library's default float. Scale the scores rather than the noise.
    noise : {"normal", "gumbel", "logistic", "exponential"}
        Its law: standard normal, standard Gumbel, standard logistic, or exponential with mean 1.
    nodes : int, 1 to 10**6
        How many nodes K the quadrature has; not used where the answer is exact.
    rule : {"line", "midpoint", "interior"}
        ``"line"``: the softmax for Gumbel noise and a polynomial integrated exactly for exponential noise; for the others the
        trapezoidal rule on the real line, with the same nodes for all labels. ``"midpoint"`` and ``"interior"``: the mean of
        :math:`g_i(t)=\prod_{j\ne i}F(\mu_i-\mu_j+F^{-1}(t))` over the nodes (k - 1/2)/K or k/(K + 1), which are other nodes for each label.
    normalise : bool
        Divide by the sum, which the rules with nodes miss: ``"interior"`` by about `deficit`.

    Returns
    -------
    array or tensor, shape (..., n); differentiable in torch.

    Raises
    ------
    ValueError
        If there are fewer than two scores, a score is NaN, infinite or too large, nodes is out of range, noise or rule is unknown, or
        exponential noise is asked for with another rule than "line".
    TypeError
        If the scores are not real numbers in single or double precision, nodes not an integer, or normalise not a bool.

    Notes
    -----
    "line" holds n K numbers for a sample, the other rules n² K, exponential noise n²/2. With scores that are at most 10 apart and
    64 nodes its relative error is below 1e-10 (normal) and 1e-6 (logistic), in the smallest probability too; wider scores
    need more nodes, in proportion. The error of "midpoint" and "interior" falls no faster than 1/K in the tails.

    Source: kexue.fm/archives/9085 (the integral, and "interior"); this book's chapter on it (the other rules, the exponential noise).

    Examples
    --------
    >>> perturbed_argmax_probabilities(np.array([1.0, 0.5, -0.3])).round(8).tolist()
    [0.57768594, 0.31998939, 0.10232467]
    >>> perturbed_argmax_probabilities(np.log([5.0, 4.0, 1.0]), "gumbel").round(12).tolist()
    [0.5, 0.4, 0.1]
    """
    log_p = log_perturbed_argmax(scores, noise, nodes, rule, normalise)
    return log_p.exp() if is_tensor(log_p) else np.exp(log_p)


def log_perturbed_argmax(
    scores: Array, noise: str = "normal", nodes: int = 64, rule: str = "line", normalise: bool = False
) -> Any:
    """Logarithms of `perturbed_argmax_probabilities`, computed without the probabilities, so that small ones keep their digits.

    Parameters
    ----------
    scores, noise, nodes, rule, normalise
        As for `perturbed_argmax_probabilities`.

    Returns
    -------
    array or tensor, shape (..., n); differentiable in torch.

    Raises
    ------
    ValueError, TypeError
        As `perturbed_argmax_probabilities`.

    Examples
    --------
    >>> print(log_perturbed_argmax(np.array([0.0, -20.0]))[1].round(6))  # log of the normal distribution function at -20/√2
    -103.573036
    """
    scores, xp = floating("scores", scores, half=False)
    if scores.ndim == 0 or scores.shape[-1] < 2:
        raise ValueError(f"scores must have shape (..., n) with n at least 2, got {tuple(scores.shape)}")
    finite("scores", scores)
    noise, rule = one_of("noise", noise, NOISES), one_of("rule", rule, RULES)
    nodes = integer("nodes", nodes, 1, 10**6)
    boolean("normalise", normalise)
    if noise == "exponential" and rule != "line":
        raise ValueError(f'rule must be "line" for exponential noise, got {rule!r}')
    with quiet():
        if rule != "line":
            log_p = _mean_over_quantiles(scores, xp, noise, nodes, rule)
        elif noise == "gumbel":
            log_p = scores - log_sum_exp(scores)[..., None]
        elif noise == "exponential":
            log_p = _exponential(scores, xp)
        else:
            log_p = _on_the_line(scores, xp, noise, nodes)
        if normalise:
            log_p = log_p - log_sum_exp(log_p)[..., None]
    return held("scores", log_p)


def deficit(n: int, K: int) -> float:
    r"""What the rule "interior" of `perturbed_argmax_probabilities` leaves out: 1 minus the sum of its n estimates, to first order in 1/K.

    .. math:: 1-\sum_i\hat p_i=\frac{n-2}{2K}+o(1/K)

    Parameters
    ----------
    n : int, 2 to 10**9
        Number of labels.
    K : int, 1 to 10**9
        Number of nodes.

    Raises
    ------
    ValueError, TypeError
        If n or K is out of range, or not an integer.

    Notes
    -----
    For noise with a density that is positive everywhere. With many labels and normal noise much less is missing while K is not large;
    the two known end values, (1/2 + K p̂_i)/(K + 1), which take K/(K + 1) times this number away, then make the sum too large.

    Source: this book's chapter on kexue.fm/archives/9085.

    Examples
    --------
    >>> deficit(10, 100)
    0.04
    """
    return (integer("n", n, 2, 10**9) - 2) / (2 * integer("K", K, 1, 10**9))


# The integrals ---------------------------------------------------------------------------------------------------------


def _on_the_line(scores: Any, xp: ModuleType, noise: str, nodes: int) -> Any:
    """The integrals over x by the trapezoidal rule, from where to where no integrand matters outside."""
    fixed = scores.detach() if is_tensor(scores) else scores
    lowest, highest = xp.amin(fixed, -1), xp.amax(fixed, -1)
    below, above = _reach(noise, nodes)
    first = ((lowest + highest) / 2 if noise == "normal" else lowest) - below
    step = (highest + above - first) / max(nodes - 1, 1)
    x = first[..., None] + step[..., None] * in_format_of(scores, np.arange(nodes))
    y = x[..., None, :] - scores[..., :, None]  # (..., n, K)
    log_F, log_f = _log_cdf(xp, noise, y), _log_density(xp, noise, y)
    all_lower = log_F.sum(-2)[..., None, :]
    return log_sum_exp(log_f + (all_lower - log_F)) + xp.log(step)[..., None]


def _reach(noise: str, nodes: int) -> tuple[float, float]:
    """How far the grid goes below the middle of the scores (normal) or the lowest (logistic), and above the highest."""
    if noise == "normal":
        return 6.5, 8.5
    above = min(3.4 * math.sqrt(nodes), 36.0)  # where what is cut off weighs as much as the error of the step
    return above / 2, above


def _mean_over_quantiles(scores: Any, xp: ModuleType, noise: str, nodes: int, rule: str) -> Any:
    """The means of g_i over nodes between 0 and 1."""
    k = np.arange(1, nodes + 1)
    t = (k - 0.5) / nodes if rule == "midpoint" else k / (nodes + 1)
    if noise == "normal":
        with needed_by("log_perturbed_argmax"):
            from scipy import special
        quantiles = special.ndtri(t)
    else:
        quantiles = np.log(t) - np.log1p(-t) if noise == "logistic" else -np.log(-np.log(t))
    difference = scores[..., :, None] - scores[..., None, :]  # (..., n, n)
    y = difference[..., None] + in_format_of(scores, quantiles)
    log_g = _log_cdf(xp, noise, y).sum(-2) - in_format_of(scores, np.log(t))  # without j = i
    return log_sum_exp(log_g) - math.log(nodes)


def _exponential(scores: Any, xp: ModuleType) -> Any:
    """q_i times the integral over [0, 1] of the product of 1 - q_j u over j other than i, q_j = exp(scores_j - max): exact by Gauss."""
    n = scores.shape[-1]
    u, weight = _gauss((n + 1) // 2)
    log_q = scores - xp.amax(scores, -1)[..., None]
    log_factor = xp.log1p(-xp.exp(log_q)[..., None] * in_format_of(scores, u))  # (..., n, nodes)
    log_others = log_factor.sum(-2)[..., None, :] - log_factor
    return log_q + log_sum_exp(log_others + in_format_of(scores, np.log(weight)))


@lru_cache(maxsize=32)
def _gauss(nodes: int) -> tuple[Any, Any]:
    x, weight = np.polynomial.legendre.leggauss(nodes)
    return (1 + x) / 2, weight / 2


# What NumPy and torch call differently ---------------------------------------------------------------------------------


def _log_sigmoid(xp: ModuleType, x: Any) -> Any:
    return xp.nn.functional.logsigmoid(x) if is_tensor(x) else -np.logaddexp(0, -x)


def _log_cdf(xp: ModuleType, noise: str, x: Any) -> Any:
    if noise == "gumbel":
        return -xp.exp(-x)
    if noise == "logistic":
        return _log_sigmoid(xp, x)
    if is_tensor(x):
        return xp.special.log_ndtr(x)
    with needed_by("log_perturbed_argmax"):
        from scipy import special
    return special.log_ndtr(x)


def _log_density(xp: ModuleType, noise: str, x: Any) -> Any:
    if noise == "logistic":
        return _log_sigmoid(xp, x) + _log_sigmoid(xp, -x)
    return -(x**2) / 2 - math.log(2 * math.pi) / 2
