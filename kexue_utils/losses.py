"""Losses for choosing among labels, from scores, and for telling classes apart with a margin, from cosines.

Notation: ``scores`` s has shape (..., n), one score a label, and batch dimensions lead. ``labels`` t has the same shape: 1 where a label
is wanted (positive, the set P), 0 where it is not (negative, the set N). NumPy in gives NumPy out, torch in gives torch out with the dtype
of the scores, on their device. Losses are in nats, of one sample: the labels of a sample are never averaged. Where exactly one of the n
labels is right, ``target`` has shape (...) and holds its index, and p is the probability that the scores give to it.

Margin losses: ``cosines`` c has shape (..., n), the cosine between a feature and the centre of each class, ``labels`` t holds the index
of the right class, shape (...), and only the cosine of that class is replaced, by a smaller psi(c_t).
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .arguments import (
    Array,
    alike,
    as_numbers,
    boolean,
    classes,
    finite,
    floating,
    held,
    in_format_of,
    integer,
    is_tensor,
    log_sum_exp,
    number,
    one_hot,
    one_of,
    quiet,
    require,
)
from .choice import log_perturbed_argmax

__all__ = [
    "GroupedOptimum",
    "generalized_cross_entropy",
    "grouped_cross_entropy",
    "grouped_optimum",
    "log_elementary_symmetric",
    "margin_cosine",
    "margin_logits",
    "margin_softmax",
    "multilabel_softmax",
    "pairwise_ranking",
    "smooth_accuracy",
    "symmetric_sinkhorn",
    "triplet",
]

REDUCTIONS = ("mean", "sum", "none")
MARGINS = ("am", "arc", "piecewise", "min")


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
    threshold = finite("threshold", in_format_of(scores, threshold))
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
    highest_negative = log_sum_exp(xp.where(negative | no_pair, gamma * scores, -math.inf))
    lowest_positive = log_sum_exp(xp.where(positive | no_pair, -gamma * scores, -math.inf))
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
    labels = in_format_of(scores, labels)
    if scores.shape != labels.shape:
        raise ValueError(
            f"labels must have the shape of the scores, got {tuple(labels.shape)} for scores of shape {tuple(scores.shape)}"
        )
    return xp, scores, _between_0_and_1(labels)


def _between_0_and_1(labels: Any) -> Any:
    outside = ~((labels >= 0) & (labels <= 1))  # also where NaN
    if bool(outside.any()):
        raise ValueError(f"labels must lie between 0 and 1, got {float(labels[outside].reshape(-1)[0])}")
    return labels


def _reduction(reduction: str, scores: Any, name: str = "scores") -> Any:
    one_of("reduction", reduction, REDUCTIONS)
    if reduction == "mean" and 0 in scores.shape:
        raise ValueError(f"{name} must have at least one sample for their mean, got shape {tuple(scores.shape)}")
    return {"mean": lambda loss: loss.mean(), "sum": lambda loss: loss.sum(), "none": lambda loss: loss[()]}[reduction]


def _log(xp: ModuleType, t: Any) -> Any:
    """log(t) with log(0) = -inf, where the gradient with respect to t is 0 and not NaN."""
    positive = t > 0
    return xp.where(positive, xp.log(xp.where(positive, t, 1)), -math.inf)


def _log_one_plus_sum(xp: ModuleType, x: Any) -> Any:
    """log(1 + sum of exp(x)): to full precision where it is small, and with gradient 0, not NaN, where every x is -inf."""
    value = x.detach() if is_tensor(x) else x
    largest = xp.amax(value, -1).clip(0)
    return largest + xp.log1p(xp.exp(x - largest[..., None]).sum(-1) + xp.expm1(-largest))


# Grouped cross-entropy: n choices among m classes, one logarithm for each class ----------------------------------------
# Here scores and labels have shape (..., n, m): a sample makes n choices, and the labels of a choice sum to 1.


class GroupedOptimum(NamedTuple):
    """What `grouped_optimum` returns."""

    probabilities: Any  # (..., n, m): softmax of the best scores
    weights: Any  # (..., m): W, one number a class
    minimum: Any  # (...)


def grouped_cross_entropy(scores: Array, labels: Array, reduction: str = "mean") -> Any:
    r"""Cross-entropy of n choices among m classes that balances the classes: the choices are added inside the logarithm.

    .. math:: \sum_j\log W_j,\qquad W_j=1+\sum_i t_{ij}\sum_{k\ne j}e^{s_{ik}-s_{ij}}=1+\sum_i t_{ij}\Bigl(\frac1{p_{ij}}-1\Bigr)

    with :math:`p_{ij}` the softmax of the scores of choice i.

    Parameters
    ----------
    scores : array or tensor, shape (..., n, m)
        Any real numbers, m at least 2; integers become the library's default float.
    labels : array or tensor, shape (..., n, m)
        One 1 and else 0 (or False and True) for each choice, or probabilities. They sum to 1 over the classes, up to 1e-4. For
        probabilities the best scores are not their logarithms: see `grouped_optimum`.
    reduction : {"mean", "sum", "none"}
        Over the samples.

    Returns
    -------
    array, tensor or scalar, shape (...) with ``reduction="none"``, else (). Convex in the scores, and differentiable in torch. Losses far
    below the rounding error of 1 keep their digits.

    Raises
    ------
    ValueError
        If the shapes differ, a number is NaN, infinite or too large, a label lies outside [0, 1], the labels of a choice do not sum to 1,
        there are fewer than two classes, the reduction is unknown, or there is no sample to take the mean of.
    TypeError
        If an argument is not real numbers, or NumPy and torch are mixed.

    Notes
    -----
    The choices of a sample belong together: choices of several samples under one logarithm make another loss. With one-hot labels, no class
    twice, it is the sum over the choices of `torch.nn.functional.cross_entropy`, else less. For m = 2 it is `multilabel_softmax` of the
    differences of the two scores. The cost is O(n m).

    Source: kexue.fm/archives/9158, the loss of its first attempt.

    Examples
    --------
    >>> scores = np.array([[0.3, -1.0, 0.8], [1.5, 0.2, -0.6]])
    >>> print(grouped_cross_entropy(scores, [[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]]).round(6))
    3.540169
    """
    xp, scores, labels = _scores_and_labels(scores, labels)
    reduce = _reduction(reduction, scores)
    _sums_to_one(xp, labels)
    with quiet():
        log_terms = _log(xp, labels) + (_log_sum_of_others(xp, scores) - scores)
        loss = _log_one_plus_sum(xp, xp.swapaxes(log_terms, -1, -2)).sum(-1)
        return held("scores", reduce(held("scores", loss)))


def grouped_optimum(labels: Array) -> GroupedOptimum:
    r"""Where `grouped_cross_entropy` is smallest, for labels that are probabilities: in closed form but for m numbers.

    .. math:: p_{ij}=\frac{v_j\sqrt{t_{ij}}}{\sum_kv_k\sqrt{t_{ik}}},\quad W_j=v_j^{-2},\quad \min=-2\sum_j\log v_j

    where :math:`v_j(Mv)_j=1` with :math:`M_{jk}=\sum_i\sqrt{t_{ij}t_{ik}}` and ones on the diagonal.

    Parameters
    ----------
    labels : array or tensor, shape (..., n, m)
        Probabilities that sum to 1 over the m classes, up to 1e-4, m at least 2. Double or single precision.

    Returns
    -------
    GroupedOptimum
        ``probabilities`` p, shape (..., n, m), of which best scores are the logarithms, ``weights`` W, shape (..., m), and ``minimum``,
        shape (...). Where a label is 0, so is its probability: the minimum is then approached and not reached. In torch without gradient.

    Raises
    ------
    ValueError
        If a label lies outside [0, 1], the labels of a choice do not sum to 1, or there are fewer than two classes.
    TypeError
        If labels is not real numbers in double or single precision.

    Notes
    -----
    The labels come back as the softmax over j of :math:`2s_{ij}+\log W_j`.

    Source: the question is that of kexue.fm/archives/9158, the answer that of this book's chapter on it.

    Examples
    --------
    >>> best = grouped_optimum([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]])
    >>> print(best.weights.round(6), best.minimum.round(6))
    [2.233733 2.081861 2.142778] 2.29904
    """
    labels, xp = floating("labels", as_numbers(labels), half=False)
    if 0 in labels.shape:
        raise ValueError(f"labels must have shape (..., n, m) without zeros in it, got {tuple(labels.shape)}")
    labels = _between_0_and_1(labels.detach() if is_tensor(labels) else labels)
    _sums_to_one(xp, labels)
    root = labels**0.5
    M = xp.swapaxes(root, -1, -2) @ root
    v = symmetric_sinkhorn(xp.where(_eye(xp, M), 1, M))
    p = v[..., None, :] * root
    return GroupedOptimum(p / p.sum(-1)[..., None], v**-2, -2 * xp.log(v).sum(-1)[()])


def symmetric_sinkhorn(M: Array, max_iter: int = 10_000) -> Any:
    r"""Positive numbers v such that the rows of :math:`v_jM_{jk}v_k` sum to 1: symmetric scaling of a matrix.

    Parameters
    ----------
    M : array or tensor, shape (..., m, m)
        Symmetric, no negative entry, and positive on the diagonal. Double or single precision.
    max_iter : int, 1 to 10**6
        So many steps are made at most.

    Returns
    -------
    array or tensor, shape (..., m), the only such v. The sums are 1 up to 4 (m + 2) roundings. In torch without gradient.

    Raises
    ------
    ValueError
        If M is not square, symmetric and finite, an entry has the wrong sign or is too large or small, or max_iter is out of range.
    TypeError
        If M is not real numbers in double or single precision, or max_iter not an integer.
    RuntimeError
        If the sums are not 1 after max_iter steps; gives the largest error.

    Notes
    -----
    Repeats :math:`v_j\leftarrow\sqrt{v_j/(Mv)_j}`. In :math:`\log v` each step contracts the distance to the answer, in the largest
    component, so it converges from any start; close to the answer the error falls at least by the factor :math:`1-\min_j M_{jj}v_j^2`.

    Source: Marshall & Olkin, Numer. Math. 12 (1968); Knight & Ruiz, IMA J. Numer. Anal. 33 (2013).

    Examples
    --------
    >>> M = np.array([[2.0, 1.0], [1.0, 8.0]])
    >>> v = symmetric_sinkhorn(M)
    >>> print((v[:, None] * M * v).round(12).sum(1))
    [1. 1.]
    """
    M, xp = floating("M", M, half=False)
    M = M.detach() if is_tensor(M) else M
    max_iter = integer("max_iter", max_iter, least=1, most=10**6)
    if M.ndim < 2 or M.shape[-1] != M.shape[-2] or 0 in M.shape:
        raise ValueError(f"M must have shape (..., m, m), got {tuple(M.shape)}")
    finite("M", M)
    m, eps = M.shape[-1], float(xp.finfo(M.dtype).eps)
    tol = 4 * (m + 2) * eps
    require("M", M, M >= 0, "without negative entries")
    diagonal = xp.diagonal(M, 0, -2, -1)
    require("M", diagonal, diagonal > 0, "positive on the diagonal")
    other = xp.swapaxes(M, -1, -2)
    require("M", M, abs(M - other) <= 8 * eps * M + 8 * eps * other, "symmetric")
    with quiet():
        scale = diagonal**-0.5  # then the diagonal is 1, and v at most 1
        M = scale[..., None] * M * scale[..., None, :]
        v = M.sum(-1) ** -0.5
        for _ in range(max_iter):
            row = (M @ v[..., None])[..., 0]
            if bool((abs(v * row - 1) <= tol).all()):
                return held("M", v * scale)
            v = (v / row) ** 0.5
    error = float(abs(v * row - 1).max())
    raise RuntimeError(f"M is not scaled after {max_iter} steps: its rows miss 1 by up to {error:.3g}")


def _sums_to_one(xp: ModuleType, labels: Any) -> None:
    """Whether the labels of each choice are a distribution over two or more classes."""
    if labels.ndim < 2 or labels.shape[-1] < 2 or labels.shape[-2] < 1:
        raise ValueError(
            f"labels and scores must have shape (..., n, m), n choices among m >= 2 classes, got {tuple(labels.shape)}"
        )
    total = labels.sum(-1)
    slack = max(1e-4, 4 * labels.shape[-1] * float(xp.finfo(labels.dtype).eps))
    off = abs(total - 1) > slack
    if bool(off.any()):
        raise ValueError(f"labels must sum to 1 over the classes, got the sum {float(total[off].reshape(-1)[0])}")


def _log_sum_of_others(xp: ModuleType, scores: Any) -> Any:
    """Entry j is the logarithm of the sum of the exponentials of all scores of its row but the j-th, without cancellation."""
    first = scores.argmax(-1)
    best = one_hot(first, scores.shape[-1])
    top = _target_of(xp, scores, first)[..., None]
    others = log_sum_exp(xp.where(best, -math.inf, scores))[..., None]
    total = xp.logaddexp(top, others)
    share = xp.where(best, 0, xp.exp(scores - total))  # at most a half, as another one is no smaller
    return xp.where(best, others, total + xp.log1p(-share))


def _eye(xp: ModuleType, M: Any) -> Any:
    return xp.eye(M.shape[-1], dtype=bool if xp is np else xp.bool, **({"device": M.device} if is_tensor(M) else {}))


# Accuracy and cross-entropy: one label of n is right ------------------------------------------------------------------


def generalized_cross_entropy(scores: Array, target: Array, q: float = 0.0, reduction: str = "mean") -> Any:
    r"""The losses between cross-entropy (q = 0) and one minus the smooth accuracy (q = 1).

    .. math:: L_q = \frac{1-p^q}{q}, \qquad L_0 = -\log p, \qquad p = \mathrm{softmax}(s)_t

    Each sample pulls on the scores with :math:`p^q` times its pull under cross-entropy. So q > 0 gives up on labels that look hopeless, which
    helps where labels may be wrong, and q < 0 insists on them.

    Parameters
    ----------
    scores : array or tensor, shape (..., n)
        Any real numbers; integers become the library's default float.
    target : array or tensor of integers, shape (...)
        The index of the right label, from 0 to n - 1.
    q : float, at most 1
    reduction : {"mean", "sum", "none"}
        Over the samples.

    Returns
    -------
    array, tensor or scalar, shape (...) with ``reduction="none"``, else (). Between 0 and 1/q for q > 0; differentiable in torch. Losses
    far below the rounding error of 1 keep their digits, also where p rounds to 1.

    Raises
    ------
    ValueError
        If q is larger than 1, the shapes do not fit, a score is NaN, infinite or too large, a target is no label, the reduction is
        unknown, or there is no sample to take the mean of.
    TypeError
        If an argument is not real numbers, target not integers, or NumPy and torch are mixed.

    Notes
    -----
    Where label j is right with probability :math:`\pi_j`, the best scores for q < 1 give :math:`p_j\propto\pi_j^{1/(1-q)}`: the same
    best label for all q, but probabilities only for q = 0. The softmax of ``(1 - q) * scores`` restores them. The share of wrong
    predictions is at most the mean loss divided by the loss at p = 1/2.

    q = 0 is `torch.nn.functional.cross_entropy`; :math:`-L_q` is ``scipy.special.boxcox(p, q)``.

    Source: Zhang and Sabuncu, Generalized cross entropy loss for training deep neural networks with noisy labels, NeurIPS 2018 (0 < q <= 1);
    kexue.fm/archives/9098 (the ends).

    Examples
    --------
    >>> scores = np.array([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
    >>> print(*(generalized_cross_entropy(scores, [0, 0], q).round(6) for q in (0, 0.5, 1)))
    0.817107 0.60056 0.462491
    """
    xp, scores, target = _scores_and_target(scores, target)
    reduce = _reduction(reduction, scores)
    q = number("q", q, most=1)
    with quiet():
        surprise = held("scores", _minus_log_p(xp, scores, target))
        x = held("q and scores", q * surprise)
        # expm1 is right where x is small, but its gradient in torch is not where x is large
        loss = xp.where(x > 1, 1 - xp.exp(-x), -xp.expm1(-x)) / q if q else surprise
        # where x is 0 to all digits of 1, the loss is -log p, and q may be too small to divide by
        loss = xp.where(abs(x) < 1e-17, surprise, loss)
        return held("q and scores", reduce(held("q and scores", loss)))


def smooth_accuracy(scores: Array, target: Array, noise: str = "gumbel", reduction: str = "mean") -> Any:
    r"""The probability that the right label has the largest score after independent noise was added to all scores.

    .. math:: p = P[\arg\max_i (s_i+\varepsilon_i) = t]

    The softmax probability of the right label for Gumbel noise, and with standard normal noise the model of EXACT. Multiply the scores by
    a large number, and it is the accuracy, wherever the largest score is not shared.

    Parameters
    ----------
    scores : array or tensor, shape (..., n), n >= 2 for normal noise
        Any real numbers; integers become the library's default float. Scale the scores rather than the noise.
    target : array or tensor of integers, shape (...)
        The index of the right label, from 0 to n - 1.
    noise : {"gumbel", "normal"}
    reduction : {"mean", "sum", "none"}
        Over the samples.

    Returns
    -------
    array, tensor or scalar, shape (...) with ``reduction="none"``, else (), to be maximised; differentiable in torch.

    Raises
    ------
    ValueError
        If the shapes do not fit, a score is NaN, infinite or too large, a target is no label, noise or reduction is unknown, or there
        is no sample to take the mean of.
    TypeError
        If the scores are not real numbers (with normal noise, in single or double precision), target not integers, or NumPy and torch
        are mixed.
    ImportError
        If the noise is normal, the scores are no tensor, and SciPy is not installed.

    Notes
    -----
    1 - p without cancellation is ``generalized_cross_entropy(scores, target, q=1)``, for Gumbel noise. Normal noise is integrated by
    `kexue_utils.choice.log_perturbed_argmax`, with as many nodes as the scores are wide; its relative error is below 1e-9.

    Source: kexue.fm/archives/9098; Karpukhin et al., EXACT: How to train your accuracy, arXiv:2205.09615.

    Examples
    --------
    >>> scores = np.array([0.5, -1.0, 2.0])
    >>> print(smooth_accuracy(scores, 2).round(6), smooth_accuracy([scores, -scores], [2, 1], reduction="none").round(6))
    0.785597 [0.785597 0.785597]
    """
    xp, scores, target = _scores_and_target(scores, target)
    reduce = _reduction(reduction, scores)
    if one_of("noise", noise, ("gumbel", "normal")) == "gumbel":
        with quiet():
            log_p = -held("scores", _minus_log_p(xp, scores, target))
    else:
        log_p = _target_of(xp, _log_normal_argmax(xp, scores), target)
    return reduce(xp.exp(log_p))


def _log_normal_argmax(xp: ModuleType, scores: Any) -> Any:
    """`log_perturbed_argmax` of scores that may lie far apart: 60 below the largest, a label has the probability 0 in any number format."""
    fixed = scores.detach() if is_tensor(scores) else scores
    highest = xp.amax(fixed, -1)[..., None]
    with quiet():
        below = xp.maximum(held("scores", scores - highest), xp.zeros_like(highest) - 60)
    width = min(60.0, float((highest[..., 0] - xp.amin(fixed, -1)).max())) if below.shape.count(0) == 0 else 0.0
    return log_perturbed_argmax(below, nodes=max(64, math.ceil(2.6 * (width + 15))))


def _minus_log_p(xp: ModuleType, scores: Any, target: Any) -> Any:
    """log(1 + sum of exp(s_i - s_t) over the other labels), which has all its digits where p is close to 1."""
    rivals = scores - _target_of(xp, scores, target)[..., None]
    return _log_one_plus_sum(xp, xp.where(one_hot(target, scores.shape[-1]), -math.inf, rivals))


def _target_of(xp: ModuleType, values: Any, target: Any) -> Any:
    take = xp.take_along_dim if is_tensor(values) else xp.take_along_axis
    return take(values, target[..., None], -1)[..., 0]


def _scores_and_target(scores: Any, target: Any) -> tuple[ModuleType, Any, Any]:
    xp, scores = _finite("scores", scores)
    return xp, scores, classes("target", target, scores)


# Margins: psi(c_t) in place of the target's cosine ------------------------------------------------------------------


def margin_cosine(cosine: Array, kind: str = "am", m: float = 0.35) -> Any:
    r"""What a margin loss puts in the place of the cosine of the right class, psi(theta) with cosine = cos(theta).

    ===========  =========================================================  =======================================
    kind         psi                                                        margin m
    ===========  =========================================================  =======================================
    am           cos(theta) - m  (AM-Softmax, CosFace)                      0 or more
    arc          cos(theta + m)  (ArcFace)                                  an angle, 0 to pi
    piecewise    (-1)^k cos(m theta) - 2k, k = floor(m theta / pi)          1 to 100, an integer
                 (L-Softmax, A-Softmax)
    min          min(cos(m theta), cos(theta))                              1 to 100, an integer
    ===========  =========================================================  =======================================

    Parameters
    ----------
    cosine : array or tensor
        From -1 to 1, give or take rounding: what is outside by at most 1e-4, or four roundings of its format, counts as -1 or 1.
    kind : {"am", "arc", "piecewise", "min"}
    m : number
        The margin.

    Returns
    -------
    array, tensor or scalar of the same shape. Differentiable in torch, as often as psi is; the slope of "arc" grows without bound
    towards -1 and 1, and at -1 and 1 the square root in it counts as constant.

    Raises
    ------
    ValueError
        If a cosine is further outside of -1 to 1 or not finite, the kind is unknown, or m is out of its range.
    TypeError
        If cosine is not real numbers, or m not a number, or no integer where it must be one.

    Notes
    -----
    Without arccos, whose slope is infinite at -1 and 1: cos(m theta) is the Chebyshev polynomial T_m of the cosine, and k counts the
    cos(j pi / m) above it. A minimiser of a loss that decreases with psi moves theta uphill on psi. "am" and "piecewise" fall from 0 to
    pi; "arc" rises again beyond pi - m; and "min" rises from pi/m to 2 pi/(m+1), a local maximum where training can get stuck.

    Source: kexue.fm/archives/5743 (min, there called simpler-a-softmax); arXiv:1801.05599 and 1801.09414 (am), 1801.07698 (arc),
    1612.02295 and 1704.08063 (piecewise).

    Examples
    --------
    >>> margin_cosine([1.0, 0.5, -1.0], "piecewise", 3).tolist()
    [1.0, -1.0, -5.0]
    >>> print(margin_cosine(0.5, "am", 0.25), margin_cosine(0.5, "min", 3))
    0.25 -1.0
    """
    cosine, xp = floating("cosine", cosine)
    _cosines("cosine", xp, cosine)
    with quiet():
        return held("m", _psi(xp, cosine, *_margin(kind, m)))[()]


def margin_logits(cosines: Array, labels: Array, kind: str = "am", s: float = 30.0, m: float = 0.35) -> Any:
    r"""Logits of a classifier with a margin: s cos(theta_i), and s psi(theta_t) for the right class t.

    Parameters
    ----------
    cosines : array or tensor, shape (..., n)
        Cosines between a feature and the n class centres, both normalised by the caller.
    labels : array or tensor of integers, shape (...)
        The right class of each feature, 0 to n - 1.
    kind, m : as in `margin_cosine`.
    s : float, positive
        Inverse temperature.

    Returns
    -------
    array or tensor, shape (..., n): for `torch.nn.functional.cross_entropy`, or `margin_softmax`, which does both.

    Raises
    ------
    ValueError
        As `margin_cosine`; if the shapes differ, a label is out of range, s is not positive, or the logits are too large.
    TypeError
        If labels are not integers, another argument is not real numbers, or NumPy and torch are mixed.

    Notes
    -----
    The margin is subtracted in place. The alternative, to sum over all classes and one more for the margin and then to take the
    target out of the sum again, loses digits like e^(s m): about 0.02 of a loss in single precision with s = 30 and m = 0.35.

    Examples
    --------
    >>> margin_logits([[0.5, 0.25, -1.0]], [0], s=8.0, m=0.25).tolist()
    [[2.0, 2.0, -8.0]]
    """
    xp, cosines, target, psi = _with_margin(cosines, labels, kind, m)
    s = number("s", s, positive=True)
    with quiet():
        return held("s, m and cosines", s * xp.where(target, psi[..., None], cosines))


def margin_softmax(
    cosines: Array, labels: Array, kind: str = "am", s: float = 30.0, m: float = 0.35, reduction: str = "mean"
) -> Any:
    r"""Softmax cross-entropy with a margin: AM-Softmax by default.

    .. math:: \log\Bigl(1+\sum_{i\ne t}e^{s\,(\cos\theta_i-\psi(\theta_t))}\Bigr)

    Parameters
    ----------
    cosines, labels, kind, s, m : as in `margin_logits`.
    reduction : {"mean", "sum", "none"}
        Over the samples.

    Returns
    -------
    array, tensor or scalar, shape (...) with ``reduction="none"``, else (). Differentiable in torch. Losses far below the rounding
    error of 1 keep their digits, which `torch.nn.functional.cross_entropy` of the logits rounds to 0.

    Raises
    ------
    ValueError, TypeError
        As `margin_logits`; and if the reduction is unknown, or there is no sample to take the mean of.

    Notes
    -----
    With "am" it is `pairwise_ranking` with gamma = s and one positive label, the first equation of Circle Loss (arXiv:2002.10857).
    Divided by s it tends to max(0, max_i cos(theta_i) - psi(theta_t)) as s grows: half of `triplet` with squared distances between
    feature, right centre and nearest wrong centre, of margin 2m.

    Examples
    --------
    >>> print(margin_softmax([0.62, 0.31, -0.12, 0.48], 0).round(6))
    6.307902
    """
    xp, cosines, target, psi = _with_margin(cosines, labels, kind, m)
    reduce = _reduction(reduction, cosines, "cosines")
    s = number("s", s, positive=True)
    with quiet():
        gaps = held("s, m and cosines", s * (cosines - psi[..., None]))
        return held("cosines", reduce(_log_one_plus_sum(xp, xp.where(target, -math.inf, gaps))))


def triplet(
    anchor: Array,
    positive: Array,
    negative: Array,
    margin: float = 0.2,
    squared: bool = False,
    reduction: str = "mean",
) -> Any:
    r"""Triplet loss: an anchor should be nearer to its positive than to its negative, by a margin.

    .. math:: \max\bigl(0,\ \lVert a-p\rVert-\lVert a-n\rVert+\text{margin}\bigr)

    Parameters
    ----------
    anchor, positive, negative : array or tensor, shape (..., d)
    margin : float, at least 0
    squared : bool
        Squared distances, as in FaceNet.
    reduction : {"mean", "sum", "none"}
        Over the samples.

    Returns
    -------
    array, tensor or scalar, shape (...) with ``reduction="none"``, else (). Differentiable in torch; a distance of 0 and a loss of 0
    have the gradient 0.

    Raises
    ------
    ValueError
        If the shapes differ, a number is not finite or too large, margin is negative, the reduction is unknown, or there is no sample to
        take the mean of.
    TypeError
        If an argument is not real numbers, squared not True or False, or NumPy and torch are mixed.

    Notes
    -----
    The difference of the distances is taken from their squares, <n - p, 2a - p - n> over their sum, so that it keeps its digits where
    both distances are large. `torch.nn.TripletMarginLoss` subtracts two rounded distances, and adds 1e-6 to every coordinate.

    Source: Schroff et al., FaceNet, CVPR 2015.

    Examples
    --------
    >>> print(triplet([0.0, 0.0], [3.0, 4.0], [0.0, 5.5], margin=1.0))
    0.5
    """
    xp, *points = alike(anchor=anchor, positive=positive, negative=negative)
    names = ("anchor", "positive", "negative")
    for name, x in zip(names, points, strict=True):
        if x.ndim == 0 or x.shape[-1] == 0 or x.shape != points[0].shape:
            given = ", ".join(f"{k} {tuple(v.shape)}" for k, v in zip(names, points, strict=True))
            raise ValueError(
                f"anchor, positive and negative must have one shape (..., d) with d at least 1, got {given}"
            )
        finite(name, x)
    a, p, n = points
    margin = number("margin", margin, least=0)
    boolean("squared", squared)
    reduce = _reduction(reduction, a, "anchor")
    with quiet():
        gap = ((n - p) * ((a - p) + (a - n))).sum(-1)  # |a - p|^2 - |a - n|^2
        if not squared:
            both = _length(xp, a - p) + _length(xp, a - n)
            gap = xp.where(both > 0, gap / xp.where(both > 0, both, 1), 0)
        loss = held("anchor, positive, negative and margin", gap + margin)
        return held("anchor", reduce(xp.where(loss > 0, loss, 0)))


def _margin(kind: str, m: Any) -> tuple[str, Any]:
    """The kind and its margin, checked."""
    if one_of("kind", kind, MARGINS) in ("piecewise", "min"):
        return kind, integer("m", m, least=1, most=100)
    m = number("m", m, least=0)
    if kind == "arc" and m > math.pi:
        raise ValueError(f"m must be an angle from 0 to pi, got {m}")
    return kind, m


def _cosines(name: str, xp: ModuleType, c: Any) -> None:
    require(name, c, abs(c) <= 1 + max(1e-4, 4 * float(xp.finfo(c.dtype).eps)), "cosines, from -1 to 1")


def _psi(xp: ModuleType, c: Any, kind: str, m: Any) -> Any:
    if kind == "am":
        return c - m
    c = c.clip(-1, 1)
    if kind == "arc":
        square = (1 - c) * (1 + c)
        inside = square > 0
        sine = xp.where(inside, xp.sqrt(xp.where(inside, square, 1)), 0)
        return c * math.cos(m) - sine * math.sin(m)
    previous, chebyshev = xp.ones_like(c), c
    for _ in range(m - 1):
        previous, chebyshev = chebyshev, 2 * c * chebyshev - previous
    if kind == "min":
        return xp.minimum(chebyshev, c)
    k = sum((in_format_of(c, c < math.cos(j * math.pi / m)) for j in range(1, m)), start=xp.zeros_like(c))
    return xp.where(k % 2 == 0, chebyshev, -chebyshev) - 2 * k


def _with_margin(cosines: Any, labels: Any, kind: str, m: Any) -> tuple[ModuleType, Any, Any, Any]:
    """The library, the cosines, where the target is, and psi of the target's cosine."""
    kind, m = _margin(kind, m)
    xp, cosines, _ = alike(cosines=cosines, labels=labels)
    if cosines.ndim == 0 or cosines.shape[-1] == 0:
        raise ValueError(f"cosines must have shape (..., n) with n at least 1, got {tuple(cosines.shape)}")
    _cosines("cosines", xp, cosines)
    labels = classes("labels", labels, cosines)
    target, cosine = one_hot(labels, cosines.shape[-1]), _target_of(xp, cosines, labels)
    with quiet():
        return xp, cosines, target, held("m", _psi(xp, cosine, kind, m))


def _length(xp: ModuleType, x: Any) -> Any:
    square = (x**2).sum(-1)
    return xp.where(square > 0, xp.sqrt(xp.where(square > 0, square, 1)), 0)
