r"""Optimizers: rules that turn gradients into steps, as `torch.optim.Optimizer` subclasses, and the single steps behind them.

Notation: θ are the parameters, g the gradient of the loss at θ, η the learning rate (``lr``). `ExponentiatedGradient` multiplies,
θ ← θ e^(-ηg), and keeps positive numbers positive. `HypergradientGains` subtracts, θ ← θ - ηνg, with a gain ν for every parameter
that is itself learned by multiplication. `Lookahead` goes k steps with any other optimizer and most of the way back; `LazyAdam` is
Adam for embeddings, which need not move a word that is not in the batch. All keep parameter groups and `state_dict` as every torch
optimizer does and work on any device. All but `Lookahead`, which leaves that to the optimizer inside, raise FloatingPointError
instead of going on with an infinite number (the price: a step waits for the GPU).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .arguments import Array, alike, finite, floating, held, integer, is_tensor, number, one_of, quiet, require
from .extras import needed_by

with needed_by(__name__):
    import torch
    from torch import Tensor

__all__ = [
    "ExponentiatedGradient",
    "HypergradientGains",
    "LazyAdam",
    "Lookahead",
    "adam_impulse_response",
    "exponentiated_gradient_step",
    "generalized_kl",
    "lookahead_multiplier",
    "lookahead_step_limit",
    "lookahead_variance_ratio",
]

RULES = ("product", "sign")
VARIANTS = ("dense", "standard", "masked")


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
        one_of("rule", settings["rule"], RULES)

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
                gain = state["gain"] if "gain" in state else torch.ones_like(p)
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
    # The largest entry of all is NaN or infinite where any is. One answer for all tensors of a device: a step waits for each GPU once.
    largest: dict[Any, list[Tensor]] = {}
    for x in tensors:
        if x.numel():
            largest.setdefault(x.device, []).append(x.abs().max())
    if not all(bool(torch.stack(of_device).isfinite().all()) for of_device in largest.values()):
        raise FloatingPointError(
            f"{what} becomes infinite or NaN in this step. Try a smaller lr (or gamma), or clip the gradients"
        )


# Lookahead, and Adam for words that are rare --------------------------------------------------------------------------------


class Lookahead(torch.optim.Optimizer):
    r"""k steps of another optimizer, then back most of the way: :math:`\phi\leftarrow\phi+\alpha(\theta_k-\phi)`.

    The parameters are the *fast* weights :math:`\theta`. Where a cycle of k steps begins they are copied; these copies are the
    *slow* weights :math:`\phi`. Where it ends the parameters are pulled back towards the copies. The state of the inner optimizer
    (momentum and the like) is kept across the pull-back.

    Parameters
    ----------
    inner : torch.optim.Optimizer
        Any; its parameter groups become those of the wrapper, the same objects, so that a learning-rate scheduler may be attached
        to either. What it can do, closures, sparse gradients, any number format and device, the wrapper can do.
    k : int >= 1
        Steps of a cycle. A parameter group may have its own, as ``lookahead_k``.
    alpha : float, 0 < alpha <= 1
        How much of the way is kept. With 1 this is the inner optimizer, bit for bit. Of a group: ``lookahead_alpha``.

    Raises
    ------
    ValueError : k < 1, or alpha outside (0, 1], here or in `add_param_group`.
    TypeError : inner is no optimizer, k no integer, or alpha no real number.

    Notes
    -----
    To first order in the learning rate this is the inner optimizer with alpha times its learning rate. Evaluate a model at the
    slow weights: after a whole number of cycles they are the parameters, in between `slow_params`. Buffers of a model, such as
    the running means of a batch norm, are not averaged.

    The copies cost the memory of the parameters once. All parameters of a group are copied and pulled back in one call
    (`torch._foreach_lerp_`), which on the CPU was measured to pay for many small parameters and to cost nothing for large ones.
    `state_dict` holds that of the inner optimizer as ``"inner"``, so that a run goes on exactly, also from within a cycle.

    Source: M. Zhang, J. Lucas, G. Hinton and J. Ba, Lookahead optimizer: k steps forward, 1 step back, arXiv:1907.08610.

    Examples
    --------
    >>> theta = torch.ones(1, dtype=torch.float64, requires_grad=True)
    >>> optimizer = Lookahead(torch.optim.SGD([theta], lr=0.1), k=5, alpha=0.5)
    >>> for _ in range(5):
    ...     optimizer.zero_grad()
    ...     (theta**2 / 2).sum().backward()
    ...     optimizer.step()
    >>> print(f"{theta.item():.6f} {lookahead_multiplier(0.1, 5, 0.5):.6f}")
    0.795245 0.795245
    """

    def __init__(self, inner: torch.optim.Optimizer, k: int = 5, alpha: float = 0.5) -> None:
        if not isinstance(inner, torch.optim.Optimizer):
            raise TypeError(f"inner must be a torch.optim.Optimizer, got {type(inner).__name__}")
        self.inner = inner
        settings = {"lookahead_k": integer("k", k, 1), "lookahead_alpha": number("alpha", alpha, positive=True, most=1)}
        super().__init__(list(inner.param_groups), {**inner.defaults, **settings})

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of the inner optimizer, the same objects."""
        return self.inner.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        pass  # what the base class puts here is a copy, or empty

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimizer; it may have ``lookahead_k`` and ``lookahead_alpha`` of its own.

        Its first cycle begins with the next step.

        Raises
        ------
        ValueError, TypeError : as for the constructor, and as the inner optimizer.
        """
        settings = {**self.defaults, **param_group}
        integer("lookahead_k", settings["lookahead_k"], 1)
        number("lookahead_alpha", settings["lookahead_alpha"], positive=True, most=1)
        if not any(param_group is mine for mine in self.inner.param_groups):
            self.inner.add_param_group(param_group)

    def slow_params(self) -> list[Tensor]:
        """Copies of the slow weights, one for each parameter, in their order: where the pull-back starts from."""
        slow = []
        for group in self.param_groups:
            k, _ = self._cycle(group)
            for p in group["params"]:
                state = self.state.get(p, {"step": 0})
                slow.append((state["slow"] if state["step"] % k else p.detach()).clone())
        return slow

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the inner optimizer, and the pull-back where a cycle ends; returns what the inner step returned."""
        for group in self.param_groups:
            k, _ = self._cycle(group)
            self._to_slow([p for p in group["params"] if self.state.get(p, {"step": 0})["step"] % k == 0])
        result = self.inner.step(closure)
        for group in self.param_groups:
            k, alpha = self._cycle(group)
            ended = []
            for p in group["params"]:
                self.state[p]["step"] += 1
                if self.state[p]["step"] % k == 0:
                    ended.append(p)
            if ended:
                torch._foreach_lerp_(ended, [self.state[p]["slow"] for p in ended], 1 - alpha)
        return result

    def state_dict(self) -> dict[str, Any]:
        """As for every optimizer, and the state of the inner one."""
        settings = {name: self.defaults[name] for name in ("lookahead_k", "lookahead_alpha")}
        return {**super().state_dict(), "inner": self.inner.state_dict(), "lookahead": settings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as the optimizer that gave this `state_dict`, with its k and alpha.

        Raises
        ------
        ValueError : the state of an optimizer that is no `Lookahead`, or of other parameter groups.
        """
        missing = {"state", "param_groups", "inner", "lookahead"} - set(state_dict)
        if missing:
            raise ValueError(f"state_dict must be that of a Lookahead, got one without {', '.join(sorted(missing))}")
        super().load_state_dict(state_dict)
        self.inner.load_state_dict(state_dict["inner"])
        self.defaults.update(state_dict["lookahead"])

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "inner": self.inner}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({name: value for name, value in state.items() if name != "param_groups"})

    def _cycle(self, group: dict[str, Any]) -> tuple[int, float]:
        """Steps of a cycle, and the share kept, in a group."""
        k, alpha = (group.get(name, self.defaults[name]) for name in ("lookahead_k", "lookahead_alpha"))
        return k, alpha

    def _to_slow(self, params: list[Tensor]) -> None:
        for p in params:
            if p not in self.state:
                self.state[p] = {"step": 0, "slow": torch.empty_like(p)}
        if params:
            torch._foreach_copy_([self.state[p]["slow"] for p in params], params)


class LazyAdam(_Checked):
    r"""Adam for embeddings: a row whose word is not in the batch does not move.

    A *row* is an entry of the first dimension of a parameter. It is *present* in a step if the gradient has it: a sparse gradient
    (`torch.nn.Embedding` with ``sparse=True``) lists its rows, of a dense gradient it is those that are not all zero.

    Parameters
    ----------
    params : iterable of tensors, or of dicts that define parameter groups
        Give all that is no embedding a group with ``variant="dense"``.
    lr : float > 0
    betas : pair of floats, >= 0 and < 1
    eps : float > 0
    variant : {"standard", "masked", "dense"}
        What happens to an absent row. "standard": nothing, neither it nor its moments change. "masked": it does not move, but its
        moments decay, as in the Keras implementation of the source. "dense": it coasts on its old momentum, as under
        `torch.optim.Adam`, with which this agrees bit for bit on the CPU.

    Raises
    ------
    ValueError : lr <= 0, a beta outside [0, 1), eps <= 0, or an unknown variant.
    TypeError : lr, eps or a beta is not a real number, or betas is no pair.
    FloatingPointError : in `step`, when a parameter or a squared gradient grows too large for its number format; all is as before.

    Notes
    -----
    All variants count steps for the bias correction over all batches, as `torch.optim.SparseAdam` does; "standard" agrees with
    it but for eps, which stands here where `torch.optim.Adam` has it. With sparse gradients a "standard" or "masked" step takes
    time in proportion to the rows present: moments of absent rows are not touched, and decay by the betas of the step in which
    the row is back. With a dense gradient it takes one pass over the gradient more. There is no foreach variant: tables are few and large, and for
    rows that are picked from them torch has no such operations.

    A dense gradient can miss a word: with max pooling a present word may have a zero gradient, and weight decay that is added to
    the gradient makes every row present.

    Source: kexue.fm/archives/6869; D. Kingma and J. Ba, Adam: a method for stochastic optimization, arXiv:1412.6980.

    Examples
    --------
    A word is seen in the first step, then never again.

    >>> for variant in ("dense", "standard", "masked"):
    ...     table = torch.nn.Embedding(2, 1, _weight=torch.zeros(2, 1, dtype=torch.float64))
    ...     optimizer = LazyAdam(table.parameters(), lr=1.0, variant=variant)
    ...     for word in [0] + 300 * [1]:
    ...         optimizer.zero_grad()
    ...         table(torch.tensor([word])).sum().backward()
    ...         optimizer.step()
    ...     print(f"{variant:8} {table.weight[0].item():.6f}")
    dense    -6.005508
    standard -1.000000
    masked   -1.000000
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        variant: str = "standard",
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "variant": variant})

    def _check(self, settings: dict[str, Any]) -> None:
        super()._check(settings)
        betas = settings["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise TypeError(f"betas must be a pair of numbers, got {betas!r}")
        for beta in betas:
            _below_one("betas", beta)
        number("eps", settings["eps"], positive=True)
        one_of("variant", settings["variant"], VARIANTS)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the rows that are present, under "dense" all of them; returns what the closure returned."""
        loss = self._loss(closure)
        moved = [
            (p, self._moved(p, p.grad, group))
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        _all_finite("a parameter or a squared gradient", [x for _, new in moved for x in (new["p"], new["exp_avg_sq"])])
        for p, new in moved:
            state, rows, step = self.state[p], new["rows"], new["step"]
            if not state:
                state.update(exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
            for old, name in ((p, "p"), (state["exp_avg"], "exp_avg"), (state["exp_avg_sq"], "exp_avg_sq")):
                _put(_in_rows(old), rows, new[name])
            state["step"] = step
            if new["masked"]:
                if "last" not in state:  # the step that the moments of a row are those of
                    state["last"] = torch.full((len(_in_rows(p)),), step - 1, device=p.device)
                state["last"][rows] = step
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As for every optimizer."""
        super().load_state_dict(state_dict)
        saved = [i for group in state_dict["param_groups"] for i in group["params"]]
        for i, p in zip(saved, (p for group in self.param_groups for p in group["params"]), strict=True):
            if "last" in state_dict["state"].get(i, {}):  # the base class has made floats of these counts
                self.state[p]["last"] = state_dict["state"][i]["last"].to(p.device, copy=True)

    def _moved(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """The rows that move, and what they and their moments become."""
        (beta1, beta2), state = group["betas"], self.state.get(p, {})
        masked, step = group["variant"] == "masked", state.get("step", 0) + 1
        rows, g = _present(grad, everything=group["variant"] == "dense")
        old = _pick(_in_rows(p), rows)
        m, v = (
            _pick(_in_rows(state[name]), rows) if name in state else torch.zeros_like(old)
            for name in ("exp_avg", "exp_avg_sq")
        )
        if masked and "last" in state:
            gap = (step - 1 - state["last"][rows]).to(old.dtype).reshape(-1, *[1] * (old.ndim - 1))
            m, v = m * beta1**gap, v * beta2**gap
        m = torch.lerp(m, g, 1 - beta1)
        v = torch.addcmul(v * beta2, g, g, value=1 - beta2)
        denominator = (v.sqrt() / (1 - beta2**step) ** 0.5).add_(group["eps"])
        new = torch.addcdiv(old, m, denominator, value=-group["lr"] / (1 - beta1**step))
        return {"p": new, "exp_avg": m, "exp_avg_sq": v, "rows": rows, "step": step, "masked": masked}


def adam_impulse_response(beta1: float, beta2: float, tau: int, n: int) -> Any:
    r"""How Adam moves a parameter whose gradient is zero but for one step: n moves, from that step on.

    In units of the learning rate, against the sign of that one gradient, whatever its size (``eps=0``):
    :math:`\frac{(1-\beta_1)\beta_1^j}{1-\beta_1^{\tau+j}}\sqrt{\frac{1-\beta_2^{\tau+j}}{(1-\beta_2)\beta_2^j}}` for j = 0, ..., n - 1.

    Parameters
    ----------
    beta1 : float, >= 0 and < 1
    beta2 : float, > 0 and < 1
    tau : int >= 1, at most 2**53
        The step with the gradient; the first step is 1.
    n : int >= 1, at most a million

    Returns
    -------
    array, shape (n,). Their sum over all n is finite if and only if ``beta1 < sqrt(beta2)``.

    Raises
    ------
    ValueError : a number outside its range, or moves too large for float64.
    TypeError : a beta that is no real number, or tau or n that is no integer.

    Examples
    --------
    >>> moves = adam_impulse_response(0.9, 0.999, tau=1, n=400)
    >>> print(f"{moves[0]:.6f} {moves.sum():.6f}")
    1.000000 6.005508
    """
    first, second = _below_one("beta1", beta1), _below_one("beta2", number("beta2", beta2, positive=True))
    tau, j = integer("tau", tau, 1, 2**53), np.arange(integer("n", n, 1, 10**6))
    with quiet():
        # 1 - beta^t with all its digits, also for a beta close to 1
        mean, square = (-np.expm1((float(tau) + j) * np.log(beta)) for beta in (first, second))
        moves = (1 - first) / mean * (first / np.sqrt(second)) ** j * np.sqrt(square / (1 - second))
    return held("beta1, beta2 and n", moves)


def lookahead_multiplier(x: Array, k: int, alpha: float) -> Any:
    r"""What one cycle of `Lookahead` around gradient descent multiplies the slow weight by on a parabola, :math:`1-\alpha+\alpha(1-x)^k`.

    Parameters
    ----------
    x : array or tensor, any shape
        Learning rate times curvature.
    k : int >= 1, at most 10**6
    alpha : float, 0 < alpha <= 1

    Returns
    -------
    array, tensor or scalar, the shape of x; torch in gives torch out.

    Raises
    ------
    ValueError : k or alpha outside its range, or x so large that the result is infinite.
    TypeError : anything that is not real numbers, or a k that is no integer.

    Examples
    --------
    >>> print(lookahead_multiplier([0.0, 1.0, 2.0], k=2, alpha=0.5))
    [1.  0.5 1. ]
    """
    x, _ = floating("x", x)
    share = number("alpha", alpha, positive=True, most=1)
    with quiet():
        return held("x and k", 1 - share + share * (1 - finite("x", x)) ** integer("k", k, 1, 10**6))


def lookahead_step_limit(k: int, alpha: float) -> float:
    r"""The learning rate times curvature below which `Lookahead` around gradient descent converges on a parabola.

    2 for an even k, as for gradient descent itself; :math:`1+(2/\alpha-1)^{1/k}` for an odd one.

    Parameters
    ----------
    k : int >= 1, at most 10**6
    alpha : float, 0 < alpha <= 1

    Raises
    ------
    ValueError : k or alpha outside its range, or an alpha so small that the limit is infinite.
    TypeError : an alpha that is no real number, or a k that is no integer.

    Examples
    --------
    >>> print(f"{lookahead_step_limit(5, 0.5):.6f}, {lookahead_step_limit(6, 0.5):.6f}")
    2.245731, 2.000000
    """
    k, share = integer("k", k, 1, 10**6), number("alpha", alpha, positive=True, most=1)
    with quiet():
        limit = np.float64(2) if k % 2 == 0 else 1 + (2 / np.float64(share) - 1) ** (1 / k)
    return float(held("alpha", limit))


def lookahead_variance_ratio(x: Array, k: int, alpha: float) -> Any:
    r"""Variance of the slow weight of `Lookahead` over that of gradient descent with the same learning rate.

    Both on a parabola with the same noise of constant variance in every step, once they have settled:
    :math:`\frac{\alpha(1+\rho^k)}{2-\alpha+\alpha\rho^k}` with :math:`\rho=1-x`.

    Parameters
    ----------
    x : array or tensor, any shape, 0 < x < 2
        Learning rate times curvature.
    k : int >= 1, at most 10**6
    alpha : float, 0 < alpha <= 1

    Returns
    -------
    array, tensor or scalar, the shape of x; torch in gives torch out.

    Raises
    ------
    ValueError : a number outside its range; for other x gradient descent does not settle.
    TypeError : anything that is not real numbers, or a k that is no integer.

    Notes
    -----
    Source: Zhang et al., arXiv:1907.08610, Proposition 2, simplified.

    Examples
    --------
    >>> print(f"{lookahead_variance_ratio(0.1, k=5, alpha=0.5):.6f}")
    0.442973
    """
    x, _ = floating("x", x)
    require("x", x, (finite("x", x) > 0) & (x < 2), "more than 0 and less than 2")
    share, power = number("alpha", alpha, positive=True, most=1), (1 - x) ** integer("k", k, 1, 10**6)
    return held("x and k", share * (1 + power) / (2 - share + share * power))


def _below_one(name: str, value: Any) -> float:
    beta = number(name, value, least=0)
    if beta >= 1:
        raise ValueError(f"{name} must be less than 1, got {value}")
    return beta


def _in_rows(p: Tensor) -> Tensor:
    return p if p.ndim else p.unsqueeze(0)


def _present(g: Tensor, *, everything: bool) -> tuple[Tensor | None, Tensor]:
    """The rows that a gradient has (None: all), and the gradient in them."""
    if g.is_sparse and g.sparse_dim() == 1 and not everything:
        g = g.coalesce()
        return g.indices()[0], g.values()
    g = _in_rows(g.to_dense() if g.is_sparse else g)
    if everything:
        return None, g
    rows = (g != 0).reshape(len(g), -1).any(1).nonzero()[:, 0]
    return rows, g.index_select(0, rows)


def _pick(table: Tensor, rows: Tensor | None) -> Tensor:
    return table if rows is None else table.index_select(0, rows)


def _put(table: Tensor, rows: Tensor | None, values: Tensor) -> None:
    if rows is None:
        table.copy_(values)
    else:
        table.index_copy_(0, rows, values)
