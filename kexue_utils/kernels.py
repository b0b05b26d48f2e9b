r"""Tangent kernels: how a model that learns by gradients puts its answers together from its training samples.

Notation: ``f(theta, x)`` is what a model answers to ONE input x, a number or a vector of d numbers; theta are its P parameters, as one
flat tensor. :math:`\nabla f(x)` is the gradient in theta, and :math:`K_\theta(x, x') = \langle\nabla f(x), \nabla f(x')\rangle` the
neural tangent kernel (`ntk`). A step :math:`\Delta = \eta\sum_i\alpha_i\nabla f(x_i)` changes the answer to x by exactly
:math:`\eta\sum_i\alpha_i\bar K(x, x_i)`, where :math:`\bar K` is the kernel averaged over the chord of the step
(`chord_contributions`); summed over all steps of a training run, that is `path_kernel`.

Everything is torch: gradients come from `torch.func`. Use float64, since float32 hides these identities below 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from .arguments import finite, floating, held, integer, is_tensor, number
from .extras import needed_by

with needed_by(__name__):
    import torch
    from torch.func import functional_call, grad, jacrev, vmap

if TYPE_CHECKING:
    from torch import Tensor

    Model: TypeAlias = Callable[[Any, Tensor], Tensor]
    Parameters: TypeAlias = Tensor | Mapping[str, Tensor]

__all__ = ["PathKernel", "chord_contributions", "flat_model", "jacobian", "ntk", "path_kernel"]

MOST_NODES = 64


class PathKernel(NamedTuple):
    """What `path_kernel` returns: contributions and kernel, each of shape (n, m), and the residual of shape (n,)."""

    contributions: Any
    kernel: Any
    residual: Any


def flat_model(model: torch.nn.Module) -> tuple[Model, Tensor]:
    """A module as a function of one flat tensor of parameters and one input.

    Parameters
    ----------
    model : torch.nn.Module
        Whose answer to one input depends on that input only: no batch normalisation, no dropout.

    Returns
    -------
    f : function
        ``f(theta, x)`` for one input x; an answer of shape (1,) becomes a number.
    theta : tensor, shape (P,)
        A copy of the module's parameters, in the order of ``model.parameters()``.

    Raises
    ------
    TypeError : model is no module.
    ValueError : it has no parameters.

    Examples
    --------
    >>> f, theta = flat_model(torch.nn.Linear(2, 1))
    >>> theta.shape, f(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 100.0]))
    (torch.Size([3]), tensor(213.))
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    parts = {name: p.detach() for name, p in model.named_parameters()}
    if not parts:
        raise ValueError("model must have parameters, got one without")
    sizes, shapes = [p.numel() for p in parts.values()], [p.shape for p in parts.values()]

    def f(theta: Any, x: Tensor) -> Tensor:
        pieces = (piece.reshape(shape) for piece, shape in zip(theta.split(sizes), shapes, strict=True))
        out: Tensor = functional_call(model, dict(zip(parts, pieces, strict=True)), (x,))
        return out.reshape(()) if out.shape == (1,) else out

    return f, torch.cat([p.reshape(-1) for p in parts.values()])


def jacobian(f: Model, params: Parameters, X: Tensor) -> Tensor:
    r"""Gradients in the parameters, one row for each input.

    Parameters
    ----------
    f : function
        ``f(params, x)`` of one input: a number, or a vector of d numbers.
    params : tensor, or dict of tensors
        As `f` takes them; P numbers altogether.
    X : tensor, shape (n, ...)
        n >= 1 inputs.

    Returns
    -------
    tensor, shape (n, P), or (n, d, P) where f is a vector. Device and dtype of params.

    Raises
    ------
    ValueError : no input, NaN or an infinity, or an f whose answer is neither a number nor a vector.
    TypeError : f is no function, params or X no floating-point tensors.

    Examples
    --------
    >>> jacobian(lambda theta, x: theta[0] * theta[1] * x, torch.tensor([2.0, 3.0]), torch.tensor([1.0, 10.0]))
    tensor([[ 3.,  2.],
            [30., 20.]])
    """
    if not callable(f):
        raise TypeError(f"f must be a function f(params, x), got {f!r}")
    if isinstance(params, Mapping):
        if not params:
            raise ValueError("params must hold at least one tensor, got none")
        params = {name: _tensor("params", p) for name, p in params.items()}
    else:
        params = _tensor("params", params)
    X = _inputs("X", X)
    answer = f(params, X[0])
    if not is_tensor(answer) or answer.ndim > 1:
        given = f"shape {tuple(answer.shape)}" if is_tensor(answer) else type(answer).__name__
        raise ValueError(f"f must return a number or a vector for one input, as a tensor, got {given}")
    rows = _rows(f, params, X, answer.shape)
    held("params and X", rows.detach())
    return rows


def ntk(f: Model, params: Parameters, X: Tensor, Y: Tensor | None = None) -> Tensor:
    r"""The neural tangent kernel, :math:`K(x, y) = \langle\nabla f(x), \nabla f(y)\rangle` over all parameters.

    Parameters
    ----------
    f : function
        ``f(params, x)`` of one input: a number, or a vector of d numbers.
    params : tensor, or dict of tensors
    X : tensor, shape (n, ...)
    Y : tensor, shape (m, ...), optional
        Default: X.

    Returns
    -------
    tensor, shape (n, m), or (n, m, d, d) where f is a vector: then ``K[i, j, a, b]`` pairs the gradient of answer a at
    ``X[i]`` with that of answer b at ``Y[j]``, and exchanging the inputs transposes the matrix. Differentiable.

    Raises
    ------
    ValueError : inputs of different shapes in X and Y, no input, NaN or an infinity, or as `jacobian` for f.
    TypeError : as `jacobian`.

    Notes
    -----
    Needs n (times d) times P numbers. Source: A. Jacot, F. Gabriel and C. Hongler, Neural tangent kernel, arXiv:1806.07572.

    Examples
    --------
    >>> ntk(lambda theta, x: theta[0] * theta[1] * x, torch.tensor([2.0, 3.0]), torch.tensor([1.0, 10.0]))
    tensor([[  13.,  130.],
            [ 130., 1300.]])
    """
    X = _inputs("X", X)
    J = jacobian(f, params, X)
    if Y is None:
        G = J
    else:
        Y = _inputs("Y", Y)
        if Y.shape[1:] != X.shape[1:]:
            raise ValueError(f"X and Y must hold inputs of one shape, got {tuple(X.shape)} and {tuple(Y.shape)}")
        G = jacobian(f, params, Y)
    K = J @ G.T if J.ndim == 2 else torch.einsum("iap,jbp->ijab", J, G)
    held("params, X and Y", K.detach())
    return K


def chord_contributions(f: Model, theta: Tensor, delta: Tensor, X: Tensor, J_train: Tensor, nodes: int = 4) -> Tensor:
    r"""What each training sample adds to the answers in one step, per unit of its weight.

    .. math:: \bar K(x, x_i) = \int_0^1\langle\nabla f_{\theta+s\Delta}(x), \nabla f_\theta(x_i)\rangle\,ds, \qquad
              f_{\theta+\Delta}(x) - f_\theta(x) = \sum_i w_i\bar K(x, x_i) \ \text{ where } \ \Delta = \sum_i w_i\nabla f_\theta(x_i)

    No approximation but for the quadrature. Every rule whose step is a combination of gradients is covered: gradient descent
    (:math:`w_i = \eta\alpha_i`), its stochastic version (0 for those not in the batch), and, with the rows of earlier steps, momentum.

    Parameters
    ----------
    f : function
        ``f(theta, x)`` of one input: a number, or a vector of d numbers.
    theta, delta : tensors, shape (P,)
        The parameters before the step, and the step.
    X : tensor, shape (n, ...)
        Inputs whose answers are taken apart.
    J_train : tensor, shape (m, P)
        What the step is made of, one row for each sample: gradients of f at theta (`jacobian`), or of each sample's loss.
    nodes : int, 0 to 64
        Gauss-Legendre points on the chord. 0 takes the kernel at theta alone, which is symmetric but only right to first order.

    Returns
    -------
    tensor, shape (n, m), or (n, d, m) where f is a vector. Not symmetric in X and the training inputs: gradients of the training
    samples are taken before the step, those of X along it.

    Raises
    ------
    ValueError : shapes that do not fit, NaN or an infinity, or nodes out of range.
    TypeError : as `jacobian`, or nodes is no integer.

    Examples
    --------
    >>> f = lambda theta, x: theta[0] * theta[1] * x
    >>> theta, x = torch.tensor([2.0, 3.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    >>> J = jacobian(f, theta, x)
    >>> delta = 0.5 * J[0]  # one sample, weight 0.5
    >>> (0.5 * chord_contributions(f, theta, delta, x, J)).item(), (f(theta + delta, x) - f(theta, x)).item()
    (8.0, 8.0)
    """
    nodes = integer("nodes", nodes, 0, MOST_NODES)
    theta = _flat("theta", theta)
    delta, J_train, X = _tensor("delta", delta), _tensor("J_train", J_train), _inputs("X", X)
    if delta.shape != theta.shape:
        raise ValueError(f"delta must have the shape {tuple(theta.shape)} of theta, got {tuple(delta.shape)}")
    if J_train.ndim != 2 or J_train.shape[1] != len(theta):
        raise ValueError(
            f"J_train must have shape (m, {len(theta)}), a row for each sample, got {tuple(J_train.shape)}"
        )
    answer = jacobian(f, theta, X[:1]).shape[1:-1]
    K: Tensor = _mean_rows(f, theta, delta, X, answer, nodes) @ J_train.T
    held("theta, delta, X and J_train", K.detach())
    return K


def path_kernel(
    f: Model, trajectory: Tensor, alpha: Tensor, X: Tensor, X_train: Tensor, lr: float, nodes: int = 4
) -> PathKernel:
    r"""A whole run of gradient descent, taken apart into what each training sample contributed.

    The run is :math:`\theta_{t+1} = \theta_t + \eta\sum_i\alpha_{t,i}\nabla f_{\theta_t}(x_i)`, where for gradient descent on a sum of
    losses :math:`\alpha_{t,i}` is minus the slope of the loss of sample i in its answer.

    Parameters
    ----------
    f : function
        ``f(theta, x)`` of one input, a number.
    trajectory : tensor, shape (steps + 1, P)
        The parameters from first to last.
    alpha : tensor, shape (steps, m)
        0 for a sample that took no part in a step.
    X, X_train : tensors, shapes (n, ...) and (m, ...)
    lr : float > 0
        :math:`\eta`.
    nodes : int, 0 to 64
        As for `chord_contributions`; 0 is the sum over the left ends, off by O(lr).

    Returns
    -------
    PathKernel
        ``contributions[j, i]``, :math:`\eta\sum_t\alpha_{t,i}\bar K_t(x_j, x_i)`; ``kernel[j, i]``, :math:`\eta\sum_t\bar K_t(x_j, x_i)`,
        the path kernel in units of time t = steps times lr; and ``residual[j]``, the change of the answer less the sum of its
        contributions: rounding and quadrature, or a sign that the trajectory obeys another rule.

    Raises
    ------
    ValueError : shapes that do not fit, NaN or an infinity, an f of several answers, lr <= 0, or nodes out of range.
    TypeError : as `jacobian`, or lr or nodes is no such number.

    Notes
    -----
    Contributions of consecutive pieces of a run add up. Source: P. Domingos, Every model learned by gradient descent is approximately
    a kernel machine, arXiv:2012.00152, with finite steps.

    Examples
    --------
    >>> f = lambda theta, x: theta[0] * theta[1] * x
    >>> X, y, lr = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]), 0.05
    >>> run, alpha = [torch.tensor([0.5, 0.3])], []
    >>> for _ in range(20):
    ...     alpha.append(y - f(run[-1], X))
    ...     run.append(run[-1] + lr * alpha[-1] @ jacobian(f, run[-1], X))
    >>> found = path_kernel(f, torch.stack(run), torch.stack(alpha), X, X, lr)
    >>> print(found.contributions.numpy().round(3), bool(found.residual.abs().max() < 1e-5))
    [[-0.691  1.941]
     [-1.382  3.882]] True
    """
    lr = number("lr", lr, positive=True)
    nodes = integer("nodes", nodes, 0, MOST_NODES)
    trajectory, alpha = _tensor("trajectory", trajectory), _tensor("alpha", alpha)
    X, X_train = _inputs("X", X), _inputs("X_train", X_train)
    if trajectory.ndim != 2 or len(trajectory) < 2:
        raise ValueError(f"trajectory must have shape (steps + 1, P) with a step, got {tuple(trajectory.shape)}")
    if alpha.shape != (steps := len(trajectory) - 1, len(X_train)):
        raise ValueError(
            f"alpha must have shape ({steps}, {len(X_train)}), a row for each step and a column for each row of X_train, "
            f"got {tuple(alpha.shape)}"
        )
    if X.shape[1:] != X_train.shape[1:]:
        raise ValueError(
            f"X and X_train must hold inputs of one shape, got {tuple(X.shape)} and {tuple(X_train.shape)}"
        )
    first = jacobian(f, trajectory[0], X_train[:1])
    if first.ndim != 2:
        raise ValueError(f"f must return one number for one input, got {first.shape[1]} of them")
    contributions: Any = 0
    kernel: Any = 0
    for here, after, a in zip(trajectory[:-1], trajectory[1:], alpha, strict=True):
        K = lr * _mean_rows(f, here, after - here, X, (), nodes) @ _rows(f, here, X_train, ()).T
        kernel, contributions = kernel + K, contributions + a * K
    answers = vmap(f, (None, 0))
    residual = answers(trajectory[-1], X) - answers(trajectory[0], X) - contributions.sum(1)
    for part in (contributions, kernel, residual):
        held("trajectory, alpha and lr", part.detach())
    return PathKernel(contributions, kernel, residual)


def _rows(f: Model, params: Parameters, X: Tensor, answer: Sequence[int]) -> Tensor:
    """`jacobian` of an f whose answers have the shape `answer`, without a look at what is given."""
    rows = vmap((jacrev if len(answer) else grad)(f), (None, 0))(params, X)
    pieces = list(rows.values()) if isinstance(rows, dict) else [rows]
    return torch.cat([piece.reshape(len(X), *answer, -1) for piece in pieces], -1)


def _mean_rows(f: Model, theta: Tensor, delta: Tensor, X: Tensor, answer: Sequence[int], nodes: int) -> Any:
    """`_rows` averaged over the chord from theta to theta + delta, by Gauss-Legendre quadrature."""
    points, weights = np.polynomial.legendre.leggauss(nodes) if nodes else (np.array([-1.0]), np.array([2.0]))
    steps = zip(((points + 1) / 2).tolist(), (weights / 2).tolist(), strict=True)
    return sum(w * _rows(f, theta + s * delta, X, answer) for s, w in steps)


def _tensor(name: str, x: Any) -> Tensor:
    """A finite floating-point tensor."""
    if not is_tensor(x):
        raise TypeError(f"{name} must be a torch tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got dtype {x.dtype}")
    floating(name, x, half=False)
    if not x.numel():
        raise ValueError(f"{name} must hold numbers, got shape {tuple(x.shape)}")
    finite(name, x.detach())
    return x


def _flat(name: str, x: Any) -> Tensor:
    x = _tensor(name, x)
    if x.ndim != 1:
        raise ValueError(f"{name} must have shape (P,), one flat tensor of parameters, got {tuple(x.shape)}")
    return x


def _inputs(name: str, X: Any) -> Tensor:
    X = _tensor(name, X)
    if X.ndim == 0:
        raise ValueError(f"{name} must have shape (n, ...), an input in each row, got {tuple(X.shape)}")
    return X
