"""Diffusion by small steps of Gaussian noise: schedules, the exact noise predictor of a Gaussian mixture, and the sampler.

Notation, that of kexue.fm/archives/9119: one step is ``x_t = alpha_t x_{t-1} + beta_t eps_t`` with ``alpha_t**2 + beta_t**2 = 1``, and t of
them are ``x_t = abar_t x_0 + bbar_t eps``. The Greek letters are factors of vectors, not variances: what Ho et al. (2020) call beta_t and
alpha-bar_t is here ``beta_t**2`` and ``abar_t**2``. Steps are counted from 1, so step t is entry ``t - 1`` of an array.

A *noise predictor* is a function ``eps(x, t)`` that guesses the noise ``eps`` of unit variance in ``x = x_t``; the best one is
``-bbar_t`` times the score, the gradient of the log density of x_t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import (
    Array,
    alike,
    array_of,
    broadcast,
    finite,
    floating,
    held,
    in_format_of,
    integer,
    is_tensor,
    number,
    quiet,
    reals,
    require,
)

if TYPE_CHECKING:
    import torch

__all__ = ["Schedule", "ancestral", "gaussian_mixture_eps", "linear_schedule"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """How much noise each step adds, and what follows from it. All arrays are float64 of shape (T,), entry ``t - 1`` for step t.

    Parameters
    ----------
    beta : array_like, shape (T,)
        Noise of the steps, 1e-150 < beta < 1: the square of a smaller one is lost.

    Attributes
    ----------
    alpha : what a step keeps of the signal, sqrt(1 - beta**2).
    abar, bbar : signal and noise after all steps so far, abar**2 + bbar**2 = 1. Small ones keep their digits.
    bbar_before : bbar of the step before, 0 for the first.
    tilde : noise of the way back if there is a single data point, beta * bbar_before / bbar; 0 for the first step.

    Raises
    ------
    ValueError, TypeError
        If beta is not a list of real numbers between 0 and 1.

    Examples
    --------
    >>> schedule = Schedule([0.6, 0.8])
    >>> print(schedule.abar, (schedule.abar**2 + schedule.bbar**2).round(12))
    [0.8  0.48] [1. 1.]
    """

    beta: NDArray[np.float64]

    def __post_init__(self) -> None:
        (beta,) = reals(finite=True, beta=self.beta)
        if beta.ndim != 1 or not beta.size:
            raise ValueError(f"beta must have shape (T,) with T at least 1, got {beta.shape}")
        require("beta", beta, (beta > 0) & (beta < 1), "between 0 and 1")
        require("beta", beta, beta > 1e-150, "greater than 1e-150, or its square is lost")
        object.__setattr__(self, "beta", beta)

    def __len__(self) -> int:
        return len(self.beta)

    @cached_property
    def alpha(self) -> NDArray[np.float64]:
        return np.sqrt((1 - self.beta) * (1 + self.beta))

    @cached_property
    def _log_abar(self) -> NDArray[np.float64]:
        return np.cumsum(np.log1p(-(self.beta**2))) / 2

    @cached_property
    def abar(self) -> NDArray[np.float64]:
        return np.exp(self._log_abar)

    @cached_property
    def bbar(self) -> NDArray[np.float64]:
        return np.sqrt(-np.expm1(2 * self._log_abar))

    @cached_property
    def bbar_before(self) -> NDArray[np.float64]:
        return np.concatenate([[0.0], self.bbar[:-1]])

    @cached_property
    def tilde(self) -> NDArray[np.float64]:
        return self.beta * self.bbar_before / self.bbar


def linear_schedule(T: int, total: float = 20.0) -> Schedule:
    r"""Variances that grow in proportion to the step.

    .. math:: \beta_t^2 = \frac{\text{total}}{T}\,\frac tT

    Their sum is about total / 2, so that abar at the end is near exp(-total / 4) for every T: what is left of the signal does not depend on
    the number of steps. With total = 20, T = 1000 this is close to the schedule of Ho et al. (2020), which starts from 1e-4 instead of 2e-5.

    Parameters
    ----------
    T : int
        Number of steps, at most 10**7.
    total : float
        T times the variance of the last step. Positive, and so large that the first step has a standard deviation above 1e-150.

    Returns
    -------
    Schedule

    Raises
    ------
    ValueError
        If T is out of range, or total is not between 0 and T: the last step would need a variance of 1 or more.
    TypeError
        If T is not an integer, or total not a number.

    Source: kexue.fm/archives/9119, "hyperparameters", with 0.02 replaced by total / T.

    Examples
    --------
    >>> print(linear_schedule(1000).abar[-1].round(8), linear_schedule(100).abar[-1].round(8))
    0.00648203 0.00439584
    """
    T = integer("T", T, least=1, most=10**7)
    (size,) = reals(finite=True, total=total)
    if size.ndim or not 0 < size < T:
        raise ValueError(
            f"total must be one number between 0 and T = {T}, or the last step has variance 1 or more; got {total}"
        )
    if not np.sqrt(size) / T > 1e-150:
        raise ValueError(f"total must leave the first step a standard deviation above 1e-150, got {total}")
    return Schedule(np.sqrt(size * np.arange(1, T + 1)) / T)


def gaussian_mixture_eps(
    x: Array,
    abar: Array,
    bbar: Array,
    means: Array,
    sd: float,
    weights: Array | None = None,
) -> Any:
    r"""The best noise predictor when the data are a mixture of round Gaussians.

    .. math:: \hat\varepsilon^*(x) = \mathbb{E}[\varepsilon \mid \bar\alpha x_0+\bar\beta\varepsilon = x]
        = \frac{\bar\beta}{v}\Bigl(x - \bar\alpha\sum_k p_k(x)\,m_k\Bigr), \qquad v = \bar\alpha^2s^2+\bar\beta^2

    where p_k(x) is the probability that x came from component k. The score of x is this divided by -bbar.

    Parameters
    ----------
    x : array or tensor, shape (..., d)
        Noisy points.
    abar, bbar : float, array or tensor, shape broadcasting with (...,)
        Signal and noise; not both 0 where sd is.
    means : array or tensor, shape (k, d)
        The centres m_k.
    sd : float, at least 0
        Standard deviation s of each component in every coordinate. 0: the data are the centres themselves.
    weights : array or tensor, shape (k,), optional
        Positive; need not add up to 1. Equal by default.

    Returns
    -------
    array or tensor of x's shape, dtype and device. Where x is a tensor, the others may be NumPy arrays.

    Raises
    ------
    ValueError
        If shapes do not fit, sd is negative, v is 0, a number is not finite or too large or small to compute with.
    TypeError
        If an argument is not real numbers, or x is an array and another a tensor.

    Source: Bayes' rule; the link with the score is Tweedie's formula, see Vincent, Neural Computation 23 (2011).

    Examples
    --------
    >>> print(gaussian_mixture_eps([[0.3], [2.0]], 0.6, 0.8, [[-1.0], [1.0]], 0.0).round(4).ravel())
    [0.1695 1.7845]
    """
    x, xp = floating("x", x)
    if x.ndim < 1:
        raise ValueError("x must have shape (..., d), got a single number")
    finite("x", x)
    means, abar, bbar = (
        _parameter(name, value, x) for name, value in (("means", means), ("abar", abar), ("bbar", bbar))
    )
    broadcast(x=x.shape[:-1], abar=abar.shape, bbar=bbar.shape)
    if means.ndim != 2 or means.shape[1] != x.shape[-1]:
        raise ValueError(
            f"means must have shape (k, {x.shape[-1]}), as x has {x.shape[-1]} coordinates, got {tuple(means.shape)}"
        )
    sd = number("sd", sd, least=0)
    with quiet():
        v = held("abar, bbar and sd", (abar * sd) ** 2 + bbar**2)
        if not (v > 0).all():
            raise ValueError("abar * sd and bbar must not both be 0: without any spread there is no noise to predict")
        # |x - a m|^2 without what all components share
        log_p = (abar[..., None] * (x @ means.T) - abar[..., None] ** 2 * (means**2).sum(-1) / 2) / v[..., None]
        if weights is not None:
            prior = _parameter("weights", weights, x)
            if prior.shape != (len(means),) or not (prior > 0).all():
                raise ValueError(f"weights must be {len(means)} positive numbers, got {prior}")
            log_p = log_p + xp.log(prior)
        held("x, abar, bbar, means and sd", log_p)
        p = xp.exp(log_p - (log_p.amax(-1, keepdim=True) if is_tensor(x) else log_p.max(-1, keepdims=True)))
        expected = (p @ means) / p.sum(-1)[..., None]
        return held("x, abar, bbar, means and sd", (bbar / v)[..., None] * (x - abar[..., None] * expected))


def _parameter(name: str, value: Any, x: Any) -> Any:
    """`value` in the library, number format and on the device of x; only a tensor x takes arrays as well."""
    if is_tensor(x) and isinstance(value, np.ndarray):
        value = array_of(name, value).tolist()
    _, value, _ = alike(**{name: value, "x": x})
    return finite(name, in_format_of(x, value))


def ancestral(
    eps: Callable[[Any, int], Any],
    schedule: Schedule,
    start: Array,
    sigma: str | float | ArrayLike = "beta",
    *,
    last_noise: bool = False,
    generator: np.random.Generator | torch.Generator | None = None,
    visit: Callable[[int, Any], None] | None = None,
) -> Any:
    r"""Walk back from noise to data, one step of the schedule at a time.

    .. math:: x_{t-1} = \frac1{\alpha_t}\Bigl(x_t - \frac{\beta_t^2}{\bar\beta_t}\,\hat\varepsilon(x_t,t)\Bigr) + \sigma_t z

    Parameters
    ----------
    eps : callable
        ``eps(x, t)`` predicts the noise of unit variance in x, for t = T, ..., 1; same shape as x.
    schedule : Schedule
    start : array or tensor, shape (n, ...)
        x_T; usually standard normal.
    sigma : {"beta", "tilde"}, float or array of shape (T,)
        Standard deviation of the fresh noise: that of the way there, that for a single data point, or numbers. 0: no noise, which is the
        mean of each step and *not* a sampler.
    last_noise : bool
        Whether the step to x_0 gets noise too.
    generator : numpy.random.Generator, or torch.Generator on start's device
        Where the noise comes from; needed unless sigma is 0.
    visit : callable, optional
        ``visit(t, x_t)`` is called for t = T, ..., 0.

    Returns
    -------
    x_0 : array or tensor of start's shape, dtype and device. In torch without a gradient.

    Raises
    ------
    ValueError
        If sigma is an unknown word, negative, or of another length than the schedule, if a generator is missing, or if start or x_0 is
        not finite.
    TypeError
        If start is not real numbers, eps or visit cannot be called, schedule is none, or the generator is not of start's library.

    Source: Ho, Jain & Abbeel (2020), algorithm 2; kexue.fm/archives/9119, the last two equations of "recursive generation".

    Examples
    --------
    >>> schedule = linear_schedule(100)
    >>> point = lambda x, t: (x - 3 * schedule.abar[t - 1]) / schedule.bbar[t - 1]  # all data are the number 3
    >>> print(ancestral(point, schedule, np.array([-1.0, 0.5]), "tilde", generator=np.random.default_rng(0)))
    [3. 3.]
    """
    x, xp = floating("start", start)
    finite("start", x)
    if not isinstance(schedule, Schedule):
        raise TypeError(f"schedule must be a Schedule, got {type(schedule).__name__}")
    for name, function in (("eps", eps), ("visit", visit)):
        if not (callable(function) or (name == "visit" and function is None)):
            raise TypeError(f"{name} must be a function, got {function!r}")
    fits = hasattr(generator, "standard_normal") if xp is np else isinstance(generator, xp.Generator)
    if generator is not None and not fits:
        raise TypeError(f"generator must be one of {xp.__name__}, as start is, got {type(generator).__name__}")
    spread = _spread(sigma, schedule)
    if not last_noise:
        spread[0] = 0
    if spread.any() and generator is None:
        raise ValueError("generator must be given where sigma is not 0: the noise needs a source")
    source: Any = generator  # of the library of start
    if xp is not np:
        with xp.no_grad():
            return held("start", _walk(eps, schedule, x.detach(), spread, lambda: _torch_noise(xp, x, source), visit))
    with quiet():
        walked = _walk(eps, schedule, x, spread, lambda: source.standard_normal(x.shape).astype(x.dtype), visit)
    return held("start", walked)


def _spread(sigma: Any, schedule: Schedule) -> NDArray[np.float64]:
    """sigma as a new array of shape (T,)."""
    if isinstance(sigma, str):
        if sigma not in ("beta", "tilde"):
            raise ValueError(f'sigma must be "beta", "tilde" or numbers, got {sigma!r}')
        return getattr(schedule, sigma).copy()
    (spread,) = reals(finite=True, sigma=sigma)
    require("sigma", spread, spread >= 0, "at least 0")
    if spread.shape not in ((), schedule.beta.shape):
        raise ValueError(f"sigma must be one number or have shape {schedule.beta.shape}, got {spread.shape}")
    return np.broadcast_to(spread, schedule.beta.shape).copy()


def _torch_noise(torch: Any, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


def _walk(
    eps: Callable, schedule: Schedule, x: Any, spread: NDArray, noise: Callable[[], Any], visit: Callable | None
) -> Any:
    # Python floats, so that float32 stays float32
    rows = zip(schedule.alpha.tolist(), (schedule.beta**2 / schedule.bbar).tolist(), spread.tolist(), strict=True)
    for t, (alpha, share, sigma) in reversed(list(enumerate(rows, start=1))):
        if visit is not None:
            visit(t, x)
        x = (x - share * eps(x, t)) / alpha
        if sigma:
            x = x + sigma * noise()
    if visit is not None:
        visit(0, x)
    return x
