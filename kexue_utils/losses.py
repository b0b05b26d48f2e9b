"""Losses for choosing among labels, from scores: any real numbers, without sigmoid or softmax.

Notation: ``scores`` s has shape (..., n), one score a label, and batch dimensions lead. ``labels`` t has the same shape: 1 where a label
is wanted (positive, the set P), 0 where it is not (negative, the set N). NumPy in gives NumPy out, torch in gives torch out with the dtype
of the scores, on their device. Losses are in nats, of one sample: the labels of a sample are never averaged.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from .arguments import Array, alike, as_numbers, finite, floating, held, integer, is_tensor, number, quiet

__all__ = ["log_elementary_symmetric", "multilabel_softmax", "pairwise_ranking"]

REDUCTIONS = ("mean", "sum", "none")


def multilabel_softmax(
    scores: Array,
    labels: Array,
    threshold: Array = 0.0,
    reduction: str = "mean",
) -> Any:
    r"""Softmax cross-entropy for any number of wanted labels ("ZLPR").

    .. math:: \log\Bigl(1+\sum_i(1-t_i)\,e^{s_i-s_0}\Bigr) + \log\Bigl(1+\sum_i t_i\,e^{s_0-s_i}\Bigr)

    Predict the labels with ``scores > threshold``.

    Parameters
    ----------
    scores : array or tensor, shape (..., n)
        Any real numbers; integers become the library's default float.
    labels : array or tensor, shape (..., n)
        0 or 1 (or False and True), or probabilities in between. For soft labels alone in their bracket the best score is ``logit(t) / 2``.
    threshold : float, array or tensor, shape (...)
        The score :math:`s_0` that separates wanted from unwanted labels.
    reduction : {"mean", "sum", "none"}
        Over the samples.

    Returns
    -------
    array, tensor or scalar, shape (...) with ``reduction="none"``, else (). Convex in the scores, and differentiable in torch. Losses far
    below the rounding error of 1 keep their digits.

    Raises
    ------
    ValueError
        If the shapes differ, a number is NaN, infinite or too large, a label lies outside [0, 1], the reduction is unknown, or there is
        no sample to take the mean of.
    TypeError
        If an argument is not real numbers, or NumPy and torch are mixed.

    Notes
    -----
    The absolute gradients over the negatives sum to less than 1, whatever their number, and so do those over the positives. With at most
    one label on each side this is the sum of `torch.nn.functional.binary_cross_entropy_with_logits`, else less. It is no mean over labels,
    as `torch.nn.MultiLabelSoftMarginLoss` is.

    Source: kexue.fm/archives/7359 (hard labels) and kexue.fm/archives/9064 (soft labels).

    Examples
    --------
    >>> print(multilabel_softmax(np.array([0.5, -1.2, 2.0, 0.3, -0.7]), [1, 0, 1, 0, 0]).round(6))
    1.701609
    """
    xp, scores, labels = _scores_and_labels(scores, labels)
    reduce = _reduction(reduction, scores)
    _, threshold, _ = alike(threshold=threshold, scores=scores)
    threshold = finite("threshold", _like(threshold, scores))
    if threshold.shape not in ((), scores.shape[:-1]):
        raise ValueError(
            f"threshold must be one number or have the batch shape {tuple(scores.shape[:-1])} of the scores, got shape {tuple(threshold.shape)}"
        )
    with quiet():
        scores = held("scores and threshold", scores - threshold[..., None])
        negative, positive = _log(xp, 1 - labels), _log(xp, labels)
        loss = _log_one_plus_sum(xp, scores + negative) + _log_one_plus_sum(xp, positive - scores)
        return held("scores", reduce(held("scores", loss)))


def pairwise_ranking(
    scores: Array,
    labels: Array,
    gamma: float = 1.0,
    margin: float = 0.0,
    reduction: str = "mean",
) -> Any:
    r"""Smooth penalty for every negative label that is not at least `margin` below every positive one.

    .. math:: \log\Bigl(1+\sum_{i\in N,\,j\in P}e^{\gamma(s_i-s_j+m)}\Bigr)

    The double sum factors, so that the cost is O(n). With a single positive label, ``gamma=1`` and ``margin=0`` this is
    `torch.nn.functional.cross_entropy`.

    Parameters
    ----------
    scores : array or tensor, shape (..., n)
        Any real numbers; integers become the library's default float.
    labels : array or tensor, shape (..., n)
        0 or 1 (or False and True).
    gamma : float, positive
        How sharply the largest violation is singled out.
    margin : float
        In units of the scores.
    reduction : {"mean", "sum", "none"}
        Over the samples.

    Returns
    -------
    array, tensor or scalar, shape (...) with ``reduction="none"``, else (). 0, with gradient 0, where a side is empty.

    Raises
    ------
    ValueError
        If the shapes differ, a number is NaN, infinite or too large, a label is neither 0 nor 1, gamma is not positive, the reduction is
        unknown, or there is no sample to take the mean of.
    TypeError
        If an argument is not real numbers, or NumPy and torch are mixed.

    Notes
    -----
    Source: Sun et al., Circle Loss, CVPR 2020, eq. (1), with the pairs of kexue.fm/archives/7359.

    Examples
    --------
    >>> print(pairwise_ranking(np.array([0.5, -1.2, 2.0, 0.3, -0.7]), [1, 0, 1, 0, 0]).round(6))
    0.952916
    """
    xp, scores, labels = _scores_and_labels(scores, labels)
    reduce = _reduction(reduction, scores)
    if bool(((labels != 0) & (labels != 1)).any()):
        raise ValueError("labels must be 0 or 1 for pairs of labels, got values in between")
    gamma, margin = number("gamma", gamma, positive=True), number("margin", margin)
    with quiet():
        held("gamma and scores", gamma * scores)
    positive, negative = labels > 0, labels == 0
    no_pair = ~(positive.any(-1) & negative.any(-1))[..., None]
    highest_negative = _logsumexp(xp, xp.where(negative | no_pair, gamma * scores, -math.inf))
    lowest_positive = _logsumexp(xp, xp.where(positive | no_pair, -gamma * scores, -math.inf))
    with quiet():
        exponent = held("scores, gamma and margin", gamma * margin + highest_negative + lowest_positive)
        loss = _log_one_plus_sum(xp, exponent[..., None])
        # a sum without terms, whose logarithm has no gradient
        return held("scores", reduce(xp.where(no_pair[..., 0], 0, loss)))


def log_elementary_symmetric(log_x: Array, k: int) -> Any:
    r"""Logarithms of the elementary symmetric polynomials :math:`Z_j=\sum_{|A|=j}\prod_{i\in A}x_i`, for j = 0..k.

    With ``log_x`` = scores, ``Z_k`` is the normaliser of a softmax over all subsets of k labels, and in torch the gradient of entry k
    with respect to the scores holds the probabilities of the labels to be in the subset.

    Parameters
    ----------
    log_x : array or tensor, shape (..., n)
        Finite: logarithms of positive numbers.
    k : int
        Highest order, 0 to 10**6.

    Returns
    -------
    array or tensor, shape (..., k + 1). Minus infinity where j > n. Differentiable in torch.

    Raises
    ------
    ValueError
        If k is out of range, or an entry is NaN, infinite or too large.
    TypeError
        If k is not an integer or log_x is not real numbers.

    Notes
    -----
    One label after the other, ``Z_j <- Z_j + x Z_{j-1}``: O(n k) positive terms, hence a relative error of the Z of a few n roundings.
    Newton's identities, whose terms alternate, lose all digits from k = 10 or so. ``np.poly(-x)`` is this recursion without logarithms.

    Source: kexue.fm/archives/7359; Macdonald, Symmetric Functions and Hall Polynomials, I.2.

    Examples
    --------
    >>> np.exp(log_elementary_symmetric(np.log([1.0, 2.0, 3.0]), 4)).round(12).tolist()
    [1.0, 6.0, 11.0, 6.0, 0.0]
    """
    k = integer("k", k, least=0, most=10**6)
    xp, log_x = _finite("log_x", log_x)
    first = log_x[..., :1]
    # Only the orders that exist so far are kept: logaddexp of two minus infinities has no gradient.
    log_z = xp.zeros_like(first)
    for i in range(log_x.shape[-1]):
        with quiet():
            with_it = held("log_x", log_z + log_x[..., i : i + 1])
        longer = [log_z[..., :1], xp.logaddexp(log_z[..., 1:], with_it[..., :-1]), with_it[..., -1:]]
        log_z = xp.concatenate(longer, -1)[..., : k + 1]
    shape = (*log_z.shape[:-1], k + 1 - log_z.shape[-1])
    impossible = np.full(shape, -math.inf, log_z.dtype) if xp is np else log_z.new_full(shape, -math.inf)
    return xp.concatenate([log_z, impossible], -1)


# Input, and what NumPy and torch call differently -------------------------------------------------------------------


def _finite(name: str, x: Any) -> tuple[ModuleType, Any]:
    """The library and the values, finite and at least one along the last axis."""
    x, xp = floating(name, x)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (..., n) with n at least 1, got {tuple(x.shape)}")
    return xp, finite(name, x)


def _scores_and_labels(scores: Any, labels: Any) -> tuple[ModuleType, Any, Any]:
    xp, scores = _finite("scores", scores)
    if is_tensor(labels) or not is_tensor(scores):
        labels = as_numbers(labels)
    _, labels, _ = alike(labels=labels, scores=scores)
    labels = _like(labels, scores)
    if scores.shape != labels.shape:
        raise ValueError(
            f"labels must have the shape of the scores, got {tuple(labels.shape)} for scores of shape {tuple(scores.shape)}"
        )
    outside = ~((labels >= 0) & (labels <= 1))  # also where NaN
    if bool(outside.any()):
        raise ValueError(f"labels must lie between 0 and 1, got {float(labels[outside].reshape(-1)[0])}")
    return xp, scores, labels


def _like(x: Any, scores: Any) -> Any:
    return x.to(scores) if is_tensor(scores) else x.astype(scores.dtype)


def _reduction(reduction: str, scores: Any) -> Any:
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if reduction == "mean" and 0 in scores.shape:
        raise ValueError(f"scores must have at least one sample for their mean, got shape {tuple(scores.shape)}")
    return {"mean": lambda loss: loss.mean(), "sum": lambda loss: loss.sum(), "none": lambda loss: loss[()]}[reduction]


def _log(xp: ModuleType, t: Any) -> Any:
    """log(t) with log(0) = -inf, where the gradient with respect to t is 0 and not NaN."""
    positive = t > 0
    return xp.where(positive, xp.log(xp.where(positive, t, 1)), -math.inf)


def _logsumexp(xp: ModuleType, x: Any) -> Any:
    return xp.logsumexp(x, -1) if is_tensor(x) else np.logaddexp.reduce(x, axis=-1)


def _log_one_plus_sum(xp: ModuleType, x: Any) -> Any:
    """log(1 + sum of exp(x)): to full precision where it is small, and with gradient 0, not NaN, where every x is -inf."""
    value = x.detach() if is_tensor(x) else x
    largest = xp.amax(value, -1).clip(0)
    return largest + xp.log1p(xp.exp(x - largest[..., None]).sum(-1) + xp.expm1(-largest))
