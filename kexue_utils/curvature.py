r"""Curvature of a loss and the learning rates that it allows: the largest eigenvalue of a Hessian, second moments of data, stability.

Notation: θ are the parameters of a loss f, H its Hessian, η a learning rate. Gradient descent on a quadratic is stable for η < 2/λ_max(H). For a
layer of one neuron whose data are the rows of x, H is at most a constant times the *second moment* E[zz'] of z = (x, 1), and equal to it
for least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arguments import Array, boolean, checked_seed, held, integer, is_tensor, namespace, number, points, quiet
from .extras import needed_by

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TopEigenvalue", "max_stable_step", "second_moment", "top_eigenvalue"]


class TopEigenvalue(NamedTuple):
    """What `top_eigenvalue` returns: the eigenvalue with its sign, and how far it is from one at most."""

    value: float
    residual: float


def top_eigenvalue(
    loss_fn: Callable[[], Tensor], params: Iterable[Tensor], iters: int = 25, seed: int = 0
) -> TopEigenvalue:
    r"""The eigenvalue of largest modulus of the Hessian of a loss, from `iters` products of the Hessian with a vector.

    Lanczos iteration: from a random start v the best that can be had from v, Hv, ..., H^iters v. The Hessian itself, which has as
    many entries as the square of the number of parameters, is never built, and its eigenvalues may have both signs.

    Parameters
    ----------
    loss_fn : callable
        Without arguments, returns the loss, a tensor of one number that depends on `params`. Called once.
    params : iterable of tensors
        That require gradients, on one device: ``model.parameters()``.
    iters : int
        Number of products, at least 1; fewer are made when there are fewer parameters. Each costs two gradients, and one copy of the
        parameters is kept for each.
    seed : int
        Of the start, 0 <= seed < 2**32; the same start on every device.

    Returns
    -------
    TopEigenvalue
        ``value``, in units of the loss per squared unit of the parameters, and ``residual`` = \|Hv - value v\| for a unit vector v: within
        this distance of ``value`` there is an eigenvalue. That none is larger in modulus is likely but not certain.

    Raises
    ------
    ValueError
        If loss_fn returns no single number or one without a graph (under ``no_grad``, say, or a loss that does not depend on
        params), if its derivatives are not finite, if params is empty or on several devices, or if iters or seed is out of range.
    TypeError
        If loss_fn is no function, params are no floating-point tensors that require gradients, or iters or seed is no integer.
    ImportError
        If PyTorch is not installed.

    Notes
    -----
    A loss that is linear in its parameters has the eigenvalue 0. Functions with kinks (ReLU) have the Hessian of the piece that the
    parameters are on. `scipy.sparse.linalg.eigsh` does the same with vectors that live on the CPU.

    Source: C. Lanczos, J. Res. Nat. Bur. Standards 45 (1950); products by B. Pearlmutter, Neural Computation 6 (1994).

    Examples
    --------
    >>> import torch
    >>> theta = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    >>> value, residual = top_eigenvalue(lambda: (theta[0] ** 2 - 3 * theta[1] ** 2) / 2, [theta])
    >>> round(value, 12), residual < 1e-12
    (-3.0, True)
    """
    with needed_by("top_eigenvalue"):
        import torch

    if not callable(loss_fn):
        raise TypeError(f"loss_fn must be a function, got {type(loss_fn).__name__}")
    params = _parameters(params)
    iters = integer("iters", iters, least=1)
    seed = checked_seed(seed)

    loss = loss_fn()
    if not is_tensor(loss) or loss.numel() != 1:
        given = f"shape {tuple(loss.shape)}" if is_tensor(loss) else type(loss).__name__
        raise ValueError(f"loss_fn must return a tensor of one number, got {given}")
    gradient = torch.autograd.grad(loss, params, create_graph=True, allow_unused=True) if loss.requires_grad else []
    used = [(p, g) for p, g in zip(params, gradient, strict=True) if g is not None] if gradient else []
    if not used:
        raise ValueError("loss_fn must return a loss with a graph that leads to params, got one without")
    curved = [(p, g) for p, g in used if g.requires_grad]
    if not curved:
        return TopEigenvalue(0.0, 0.0)
    params, gradients = [p for p, _ in used], [g for _, g in curved]

    def product(v: Tensor) -> Tensor:
        parts = dict(zip(map(id, params), v.split([p.numel() for p in params]), strict=True))
        directions = [parts[id(p)].reshape(p.shape).to(p.dtype) for p, _ in curved]
        rows = torch.autograd.grad(gradients, params, directions, retain_graph=True, allow_unused=True)
        flat = [
            (torch.zeros_like(p) if row is None else row).reshape(-1).to(v) for p, row in zip(params, rows, strict=True)
        ]
        return torch.cat(flat)

    size = sum(p.numel() for p in params)
    widest = max((p.dtype for p in params), key=lambda dtype: torch.finfo(dtype).bits)
    random = torch.Generator("cpu").manual_seed(seed)
    v = torch.randn(size, generator=random, dtype=torch.float64).to(device=params[0].device, dtype=widest)
    v = v / v.norm()
    basis: list[Tensor] = []
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(iters, size)):
        basis.append(v)
        w = product(v)
        diagonal.append(float(v @ w))
        Q = torch.stack(basis)
        for _ in range(2):  # rounding brings back directions that are used up; twice is enough
            w = w - Q.T @ (Q @ w)
        beside.append(float(w.norm()))
        if not np.isfinite([diagonal[-1], beside[-1]]).all():
            raise ValueError("loss_fn must have finite derivatives, got NaN or infinity")
        if beside[-1] <= size * torch.finfo(widest).eps * max(map(abs, (*diagonal, *beside))):
            break
        v = w / beside[-1]
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1))
    top = int(abs(values).argmax())
    return TopEigenvalue(float(values[top]), float(beside[-1] * abs(vectors[-1, top])))


def second_moment(x: Array, bias: bool = True) -> Any:
    r"""Second moment of data, :math:`\frac1N\sum_i z_iz_i^\top` with :math:`z=(x,1)`: the Hessian of least squares with a bias.

    Parameters
    ----------
    x : array_like or tensor, shape (..., N, d)
        N inputs of a layer, one a row.
    bias : bool
        Whether a 1 is appended to every row. Without it the result is E[xx'].

    Returns
    -------
    array or tensor of shape (..., d + 1, d + 1), or (..., d, d) without bias; symmetric. The last row is the mean, then 1.

    Raises
    ------
    ValueError
        If x has fewer than two dimensions, no row or no column, NaN, an infinity, or numbers too large to square.
    TypeError
        If x is not real numbers, or bias not True or False.

    Notes
    -----
    Gradient descent on :math:`\frac1{2N}\sum_i(\langle w,x_i\rangle+b-y_i)^2` is stable for steps below 2 over its largest eigenvalue.

    Source: kexue.fm/archives/6992, with the matrix in place of its trace and the bias included, as in this book's chapter on it.

    Examples
    --------
    >>> J = second_moment([[0.5], [2.0], [-1.0], [3.5]])
    >>> print(J.tolist(), (2 / np.linalg.eigvalsh(J)[-1]).round(12))
    [[4.375, 1.25], [1.25, 1.0]] 0.417751322986
    """
    x = points("x", x)
    if boolean("bias", bias):
        xp = namespace(x)
        x = xp.concatenate([x, xp.ones_like(x[..., :1])], -1)
    with quiet():
        moment = x.swapaxes(-1, -2) @ x / x.shape[-2]
    return held("x", (moment + moment.swapaxes(-1, -2)) / 2)


def max_stable_step(stable: Callable[[float], bool], lo: float, hi: float, rtol: float = 1e-6) -> float:
    """The largest learning rate with which training is stable, by bisection between one that is and one that is not.

    Parameters
    ----------
    stable : callable
        ``stable(lr)`` trains with the learning rate and says, True or False, whether that went well. All rates below the answer go well, and
        none above; otherwise one of the places where the answer changes is found.
    lo, hi : float
        0 < lo < hi: a stable rate, and one that is not.
    rtol : float
        How close, relatively: the trainings cost log2(log(hi/lo)/rtol) calls. At least 1e-15.

    Returns
    -------
    float, a rate found stable, while ``(1 + rtol)`` times it is above one found unstable.

    Raises
    ------
    ValueError
        If lo is not stable or hi is, if not 0 < lo < hi, or rtol is below 1e-15.
    TypeError
        If stable is no function or returns anything but True or False, or lo, hi or rtol is not a number.

    Notes
    -----
    "Still finite after so many steps" is a generous test: just above the limit the loss needs many steps to grow. A loss not larger than at the
    start is a better one. Source: this book's chapter on kexue.fm/archives/6992.

    Examples
    --------
    >>> print(round(max_stable_step(lambda lr: abs(1 - 4 * lr) <= 1, 0.01, 10), 5))  # descent on 2 theta^2
    0.5
    """
    if not callable(stable):
        raise TypeError(f"stable must be a function, got {type(stable).__name__}")
    lo, hi = number("lo", lo, positive=True), number("hi", hi, positive=True)
    rtol = number("rtol", rtol, least=1e-15)
    if lo >= hi:
        raise ValueError(f"lo must be below hi, got {lo} and {hi}")

    def goes_well(lr: float) -> bool:
        answer = stable(lr)
        if not isinstance(answer, bool | np.bool_):
            raise TypeError(f"stable must return True or False, got {answer!r}")
        return bool(answer)

    if not goes_well(lo):
        raise ValueError(f"lo must be a stable learning rate, got {lo}, which is not")
    if goes_well(hi):
        raise ValueError(f"hi must be an unstable learning rate, got {hi}, which is stable")
    while hi > lo * (1 + rtol):
        middle = float(np.sqrt(lo) * np.sqrt(hi))
        if not lo < middle < hi:
            break
        lo, hi = (middle, hi) if goes_well(middle) else (lo, middle)
    return lo


def _parameters(params: Any) -> list[Any]:
    if is_tensor(params) or not isinstance(params, Iterable):
        raise TypeError(f"params must be an iterable of tensors, got {type(params).__name__}")
    params = list(params)
    if not params:
        raise ValueError("params must not be empty")
    for p in params:
        if not is_tensor(p) or not p.is_floating_point() or not p.requires_grad:
            raise TypeError(f"params must be floating-point tensors that require gradients, got {_kind(p)}")
    if len({p.device for p in params}) > 1:
        raise ValueError(f"params must be on one device, got {sorted({str(p.device) for p in params})}")
    return params


def _kind(p: Any) -> str:
    return f"one of {p.dtype} without" if is_tensor(p) else type(p).__name__
