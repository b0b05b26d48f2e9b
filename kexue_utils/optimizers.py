r"""Optimizers: rules that turn gradients into steps, as `torch.optim.Optimizer` subclasses, and the single steps behind them.

Notation: θ are the parameters, g the gradient of the loss at θ, η the learning rate (``lr``). `ExponentiatedGradient` multiplies,
θ ← θ e^(-ηg), and keeps positive numbers positive. `HypergradientGains` subtracts, θ ← θ - ηνg, with a gain ν for every parameter
that is itself learned by multiplication. Both keep parameter groups and `state_dict` as every torch optimizer does, work on any
device, and raise FloatingPointError instead of going on with an infinite number (the price: a step waits for the GPU).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .arguments import Array, alike, finite, floating, held, is_tensor, number, quiet, require
from .extras import needed_by

with needed_by(__name__):
    import torch
    from torch import Tensor

__all__ = ["ExponentiatedGradient", "HypergradientGains", "exponentiated_gradient_step", "generalized_kl"]

RULES = ("product", "sign")


def exponentiated_gradient_step(theta: Array, grad: Array, lr: float) -> Any:
    r"""One multiplicative step, :math:`\theta\,e^{-\eta g}`.

    It is the minimum over positive :math:`\theta'` of :math:`\langle g,\theta'\rangle+\mathrm{KL}(\theta'\|\theta)/\eta`, with the
    divergence of `generalized_kl`.

    Parameters
    ----------
    theta : array or tensor, any shape, >= 0
        A 0 stays 0 for ever, whatever the gradient says; this raises a RuntimeWarning.
    grad : array or tensor, the shape of theta
    lr : float > 0
        In the inverse units of the gradient.

    Returns
    -------
    array or tensor, the shape of theta; torch in gives torch out, with the dtype and device of theta.

    Raises
    ------
    ValueError : a negative or infinite theta, NaN, lr <= 0, or shapes that differ.
    TypeError : anything that is not real numbers, or NumPy and torch mixed.
    FloatingPointError : the result is too large for its number format.

    Notes
    -----
    Source: J. Kivinen and M. Warmuth, Exponentiated gradient versus gradient descent for linear predictors, Information and
    Computation 132 (1997), without their normalisation to sum 1.

    Examples
    --------
    >>> print(exponentiated_gradient_step([0.5, 2.0], [1.0, -0.3], 0.2).round(6))
    [0.409365 2.123673]
    """
    rate = number("lr", lr, positive=True)
    theta, grad, xp = _pair(theta=theta, grad=grad)
    _positive("theta", theta)
    with quiet():
        stepped = theta * xp.exp(-rate * grad)
    if not xp.isfinite(stepped).all():
        raise FloatingPointError("theta overflows in this step: try a smaller learning rate, or clip the gradient")
    return stepped


def generalized_kl(a: Array, b: Array) -> Any:
    r"""Kullback-Leibler divergence of positive vectors that need not sum to 1, :math:`\sum_i a_i\log(a_i/b_i)-a_i+b_i`.

    Never negative, and 0 only for equal vectors. `scipy.special.kl_div` has the same terms, not summed.

    Parameters
    ----------
    a, b : arrays or tensors, shape (..., n), >= 0

    Returns
    -------
    array, tensor or scalar, shape (...), in nats. 0 log 0 counts as 0; infinite where some b is 0 and its a is not.

    Raises
    ------
    ValueError : a negative, infinite or too large entry, NaN, shapes that differ, or no last axis.
    TypeError : anything that is not real numbers in single or double precision, or NumPy and torch mixed.

    Examples
    --------
    >>> print(generalized_kl([0.5, 2.0], [0.5, 2.0]), generalized_kl([1.0, 0.0], [1.0, 3.0]), generalized_kl([1.0], [0.0]))
    0.0 3.0 inf
    """
    a, b, xp = _pair(half=False, a=a, b=b)
    if a.ndim == 0:
        raise ValueError("a and b must have a last axis to sum over, got numbers")
    for name, x in (("a", a), ("b", b)):
        _nonnegative(name, x)
    with quiet():
        if xp is torch:
            terms = torch.special.xlogy(a, a) - torch.special.xlogy(a, b) - a + b
        else:
            with needed_by("generalized_kl"):
                from scipy.special import kl_div

            terms = kl_div(a, b)
        total = terms.sum(-1)
    held("a and b", xp.where(((a > 0) & (b == 0)).any(-1), 0, total))
    return total


class _Checked(torch.optim.Optimizer):
    """An optimizer that refuses a bad setting in any parameter group, and gradients that it cannot use."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with settings of its own, which are checked.

        Raises
        ------
        ValueError, TypeError : as for the constructor.
        """
        self._check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def _check(self, settings: dict[str, Any]) -> None:
        number("lr", settings["lr"], positive=True)

    def _with_gradients(self, group: dict[str, Any]) -> Iterable[tuple[Tensor, Tensor]]:
        for p in group["params"]:
            if p.grad is None:
                continue
            if p.grad.is_sparse:
                raise TypeError(
                    f"{type(self).__name__} needs dense gradients, got a sparse one of shape {tuple(p.shape)}"
                )
            yield p, p.grad

    @staticmethod
    def _loss(closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            return None
        with torch.enable_grad():
            return closure()


class ExponentiatedGradient(_Checked):
    r"""Gradient descent for positive parameters, :math:`\theta\leftarrow\theta\odot e^{-\eta g}`.

    Parameters
    ----------
    params : iterable of tensors, or of dicts that define parameter groups
        All entries positive. A 0 would never move: RuntimeWarning.
    lr : float > 0
        In the inverse units of the gradient, as for `torch.optim.SGD`. To first order in lr a step is that of SGD with learning
        rate ``lr * theta`` for every parameter.

    Raises
    ------
    ValueError : a negative parameter, NaN, or lr <= 0.
    TypeError : lr or a parameter is not real, or a sparse gradient.
    FloatingPointError : in `step`, when a parameter grows too large for its number format; the parameters are as before.

    See Also
    --------
    exponentiated_gradient_step : one step on arrays or tensors.

    Examples
    --------
    >>> theta = torch.tensor([2.0, 2.0], requires_grad=True)
    >>> optimizer = ExponentiatedGradient([theta], lr=0.5)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     ((theta - torch.tensor([1.0, -1.0])) ** 2).sum().backward()
    ...     optimizer.step()
    >>> print(theta.detach().numpy().round(6))
    [1. 0.]
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            _positive("params", floating("params", p.detach())[0])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Multiply every parameter by exp(-lr * grad); returns what the closure returned."""
        loss = self._loss(closure)
        moved = [
            (p, p * torch.exp(-float(group["lr"]) * g))
            for group in self.param_groups
            for p, g in self._with_gradients(group)
        ]
        _all_finite("a parameter", [new for _, new in moved])
        for p, new in moved:
            p.copy_(new)
        return loss


class HypergradientGains(_Checked):
    r"""Gradient descent with a learned gain for every parameter.

    .. math:: \nu\leftarrow\nu\odot e^{\gamma\,g_{t-1}\odot g_t},\qquad \theta\leftarrow\theta-\eta\,\nu\odot g_t

    Gains start at 1. They rise where two gradients in a row agree in sign, which on a quadratic means that the last step did not
    overshoot.

    Parameters
    ----------
    params : iterable of tensors, or of dicts that define parameter groups
    lr : float > 0
        :math:`\eta`, the learning rate of gain 1.
    gamma : float >= 0
        :math:`\gamma`. With 0 this is `torch.optim.SGD` without momentum. For ``rule="product"`` it has the units of 1/g²: a
        loss that is c times as large needs ``lr / c`` and ``gamma / c**2`` for the same path.
    rule : {"product", "sign"}
        "sign" replaces the product by its sign, so that the exponent is gamma, 0 or -gamma, whatever the size of the gradients.

    Raises
    ------
    ValueError : lr <= 0, gamma < 0, or an unknown rule.
    TypeError : lr or gamma is not a real number, or a sparse gradient.
    FloatingPointError : in `step`, when a gain or a parameter grows too large for its number format; both are as before.

    Notes
    -----
    As the step size goes to 0 with "product", the sum of all gains plus ``gamma / lr`` times the loss stays constant. Noise
    in the gradients, as from mini-batches, makes gains decay, even when successive batches are independent: a step follows the
    noise of its gradient, and the next gradient pulls back. On a parabola of steepness h, with x = lr * gain * h and noise of
    variance s², the mean of the product is -x s² / (2 - x) once the parameter has settled.

    Source: kexue.fm/archives/8968, which simplifies E. Amid, R. Anil, C. Fifty and M. Warmuth, Step-size adaptation using
    exponentiated gradient updates, arXiv:2202.00145.

    Examples
    --------
    >>> theta = torch.ones(1, dtype=torch.float64, requires_grad=True)
    >>> optimizer = HypergradientGains([theta], lr=0.1, gamma=0.05)
    >>> for _ in range(5):
    ...     optimizer.zero_grad()
    ...     (theta**2).sum().backward()
    ...     optimizer.step()
    >>> print(f"{theta.item():.6f} {optimizer.gains()[0].item():.6f}")
    0.236659 1.409775
    """

    def __init__(
        self, params: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float, gamma: float, rule: str = "product"
    ) -> None:
        super().__init__(params, {"lr": lr, "gamma": gamma, "rule": rule})

    def _check(self, settings: dict[str, Any]) -> None:
        super()._check(settings)
        number("gamma", settings["gamma"], least=0)
        if not isinstance(settings["rule"], str) or settings["rule"] not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}, got {settings['rule']!r}")

    def gains(self) -> list[Tensor]:
        """The gains, one tensor for each parameter, in their order and with their shapes; ones before the first step."""
        params = [p for group in self.param_groups for p in group["params"]]
        return [self.state[p]["gain"].clone() if p in self.state else torch.ones_like(p.detach()) for p in params]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the gains, then the parameters with the new gains; returns what the closure returned."""
        loss = self._loss(closure)
        moved = []
        for group in self.param_groups:
            for p, g in self._with_gradients(group):
                state = self.state.get(p, {})
                gain = state.get("gain", torch.ones_like(p))
                if "gradient" in state:
                    agreement = g * state["gradient"]
                    if group["rule"] == "sign":
                        agreement = agreement.sign()
                    gain = gain * torch.exp(float(group["gamma"]) * agreement)
                moved.append((p, torch.addcmul(p, gain, g, value=-float(group["lr"])), gain, g))
        _all_finite("a gain or a parameter", [x for _, new, gain, _ in moved for x in (new, gain)])
        for p, new, gain, g in moved:
            p.copy_(new)
            self.state[p] = {"gain": gain, "gradient": g.clone()}
        return loss


def _pair(half: bool = True, **pair: Any) -> tuple[Any, Any, Any]:
    """Two floating-point arrays or tensors of one shape, and their library."""
    xp, a, b = alike(half=half, **pair)
    first, second = pair
    if a.shape != b.shape:
        raise ValueError(f"{first} and {second} must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    return finite(first, a), finite(second, b), xp


def _nonnegative(name: str, x: Any) -> None:
    x = x.detach() if is_tensor(x) else x
    require(name, x, (x >= 0) & (x < np.inf), "finite and not negative")


def _positive(name: str, x: Any) -> None:
    _nonnegative(name, x)
    if (x == 0).any():
        warnings.warn(
            f"{name} has an entry 0, which no multiplicative step will ever change", RuntimeWarning, stacklevel=3
        )


def _all_finite(what: str, tensors: list[Tensor]) -> None:
    # One answer for all tensors of a device, so that a step waits for each GPU once.
    answers: dict[Any, list[Tensor]] = {}
    for x in tensors:
        answers.setdefault(x.device, []).append(torch.isfinite(x).all())
    if not all(bool(torch.stack(answer).all()) for answer in answers.values()):
        raise FloatingPointError(
            f"{what} becomes infinite or NaN in this step. Try a smaller learning rate or gamma, or clip the gradients"
        )
