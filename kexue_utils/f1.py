r"""The F1 score in a form that has a gradient, and the threshold that maximises it.

Notation: N samples and k classes; ``p[i, c]`` is the probability that sample i is given class c, ``y[i, c]`` is 1 for its true class and 0
else. A class has ``M = sum_i y p`` matches, ``T = sum_i y`` true members and ``P = sum_i p`` predicted ones, and ``F1 = 2 M / (T + P)``. With
hard predictions, every p being 0 or 1, this is the usual F1; the mean over the classes is called macro-F1. NumPy in gives NumPy out, torch in
gives torch out with the dtype of the input, on its device.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .arguments import (
    Array,
    boolean,
    classes,
    finite,
    floating,
    held,
    in_format_of,
    log_sum_exp,
    number,
    one_hot,
    quiet,
    require,
)

__all__ = ["OptimalThreshold", "f1_optimal_threshold", "soft_macro_f1"]


class OptimalThreshold(NamedTuple):
    """What `f1_optimal_threshold` returns: predict what is more probable than `threshold`, and the expected counts give `f1`; shape (...)."""

    threshold: Any
    f1: Any


def soft_macro_f1(scores: Array, labels: Array, eps: float = 0.0, loss: bool = True) -> Any:
    r"""Macro-F1 with probabilities in place of decisions, or minus its logarithm, a loss.

    .. math:: S = \frac1k\sum_{c=1}^k\frac{2\sum_iy_{ic}\,p_{ic}}{\sum_iy_{ic}+\sum_ip_{ic}+\epsilon},\qquad p_{ic}=\mathrm{softmax}(s_i)_c

    Parameters
    ----------
    scores : array or tensor, shape (..., N, k)
        Any real numbers; integers become the library's default float. One batch of N >= 1 samples, k >= 1 classes.
    labels : array or tensor of integers, shape (..., N)
        The true classes, 0 to k - 1.
    eps : float
        Not negative; added to each denominator. Only a class that is neither in the batch nor predicted needs it, and it counts 0 anyway.
    loss : bool
        Whether to return -log S instead of S.

    Returns
    -------
    array, tensor or scalar, shape (...). Differentiable in torch, also where S is too small for the number format.

    Raises
    ------
    ValueError
        If the shapes do not fit, a label is no class, a score is NaN, infinite or too large, or eps is negative.
    TypeError
        If scores are not real numbers or labels not integers, or arrays stand beside tensors.

    Notes
    -----
    A class that is not in the batch counts 0, as in ``sklearn.metrics.f1_score(..., average="macro", zero_division=0)``; so keep every class
    in every batch. A mean of this over batches is no macro-F1 of the whole: a ratio of sums is biased in small samples. At scores that give the
    frequencies of the classes in the batch, the gradient of the loss is that of cross-entropy; for a class with p = 0 on every sample it vanishes.

    Source: kexue.fm/archives/5505; with k = 1 and pixels for samples it is the Dice score of Milletari, Navab & Ahmadi, 3DV 2016.

    Examples
    --------
    >>> p = np.array([[0.9, 0.1]] * 8 + [[0.6, 0.4]] * 2)
    >>> print(soft_macro_f1(np.log(p), [0] * 8 + [1] * 2, loss=False).round(12))
    0.661246612466
    """
    scores, xp = floating("scores", scores)
    if scores.ndim < 2 or 0 in scores.shape[-2:]:
        raise ValueError(f"scores must have shape (..., N, k) with N and k at least 1, got {tuple(scores.shape)}")
    eps = number("eps", eps, least=0)
    boolean("loss", loss)
    labels = classes("labels", labels, finite("scores", scores))
    member = one_hot(labels, scores.shape[-1])
    with quiet():
        shifted = scores - xp.amax(scores, -1)[..., None]
        log_p = held("scores", shifted - xp.log(xp.exp(shifted).sum(-1))[..., None])
        present = member.any(-2)
        # Logarithms, because all probabilities of a class may be below the smallest float and the loss still has a gradient.
        # An absent class gets a harmless number instead of the logarithm of 0, which has no gradient, and is left out at the end.
        matches = log_sum_exp(xp.where(member | ~present[..., None, :], log_p, -math.inf), -2)
        total = in_format_of(scores, member.sum(-2)) + xp.exp(log_p).sum(-2) + eps
        log_f1 = xp.where(present, matches - xp.log(xp.where(present, total, 1)), -math.inf)
        log_s = log_sum_exp(log_f1, -1) + math.log(2 / scores.shape[-1])
        return held("scores and eps", -log_s if loss else xp.exp(log_s))[()]


def f1_optimal_threshold(probabilities: Array) -> OptimalThreshold:
    r"""Which probable members of a class to predict, so that F1 is largest: those above half of that largest F1.

    .. math:: F^* = \max_A\frac{2\sum_{i\in A}a_i}{\sum_ia_i+|A|},\qquad A^* = \{i: a_i > F^*/2\}

    Parameters
    ----------
    probabilities : array or tensor, shape (..., N)
        For each of N >= 1 samples the probability :math:`a_i` that it belongs to the class, 0 to 1; best calibrated.

    Returns
    -------
    OptimalThreshold
        ``threshold`` :math:`F^*/2`, never above one half, and ``f1`` :math:`F^*`, each of shape (...). Where all probabilities are 0, both are 0.

    Raises
    ------
    ValueError
        If a probability is NaN or not between 0 and 1, or there is none.
    TypeError
        If probabilities are not real numbers.

    Notes
    -----
    One sort: only the m most probable samples can be the best choice of m. The expected counts stand for the counts, so this is the limit of many
    samples; the best F1 in expectation for few samples needs more (Ye, Chai, Lee & Chieu, ICML 2012). `sklearn.metrics.precision_recall_curve` tries
    the thresholds on labels instead.

    Source: Lipton, Elkan & Naryanaswamy, ECML PKDD 2014, theorem 1.

    Examples
    --------
    >>> best = f1_optimal_threshold([0.9, 0.5, 0.35, 0.1])
    >>> print(best.threshold.round(12), best.f1.round(12))
    0.363636363636 0.727272727273
    """
    a, xp = floating("probabilities", probabilities)
    if a.ndim < 1 or a.shape[-1] < 1:
        raise ValueError(f"probabilities must have shape (..., N) with N at least 1, got {tuple(a.shape)}")
    require("probabilities", a, (a >= 0) & (a <= 1), "from 0 to 1")
    ranked = np.sort(a, -1)[..., ::-1] if xp is np else a.sort(-1, descending=True).values
    count = in_format_of(a, range(1, a.shape[-1] + 1))
    matches = ranked.cumsum(-1)
    f1 = xp.amax(2 * matches / (matches[..., -1:] + count), -1)
    return OptimalThreshold((f1 / 2)[()], f1[()])
