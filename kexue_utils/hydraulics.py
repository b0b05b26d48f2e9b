r"""Pipe networks with laminar or turbulent friction, and a tank whose water is changed: who gets how much of a common flow.

Notation: a pipe of resistance r that carries the flow q loses the pressure ``r * q * abs(q) ** (alpha - 1)``. Its exponent alpha is 1
for laminar flow, 7/4 for turbulent flow in smooth pipes (Blasius), 2 in rough ones. Any coherent units do. At a junction as much flows
in as out. Where pressures are held at some nodes there is one such flow and no other, since it minimises the strictly convex
*content*, the sum of ``r * abs(q) ** (alpha + 1) / (alpha + 1)`` less the work done at those nodes.

`pipe_network`, `manifold_flows` and `water_change_peak` take NumPy arrays and torch tensors (same device and dtype out), with batch
dimensions in front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    number,
    one_of,
    quiet,
    require,
)

__all__ = ["HTree", "h_tree", "manifold_flows", "pipe_network", "water_change_peak"]

_RANGE = 1e12  # resistances that differ by more leave no digits in a linear system
_SMALL = 1e-7  # a turbulent pipe with a smaller share of the largest flow is nearly without friction, which would spoil the linear system


class HTree(NamedTuple):
    """What `h_tree` returns: a tree of pipes in the plane, with N nodes, E = N - 1 segments and 4**rounds inlets.

    points : (N, 2), where the nodes are; node 0, the outlet, is in the middle of the tank.
    edges : (E, 2), the two nodes of each segment, the one nearer to the outlet first.
    level : (E,), 1 for the segments at the outlet, 2 for those behind them, and so on up to 2 * rounds.
    length : (E,), in the unit of width and height.
    inlets : (4**rounds,), the nodes at which water enters.
    """

    points: NDArray[np.float64]
    edges: NDArray[np.int64]
    level: NDArray[np.int64]
    length: NDArray[np.float64]
    inlets: NDArray[np.int64]


def h_tree(width: float, height: float, rounds: int) -> HTree:
    """The pipe that is an H whose four ends are H's of half the size, and so on.

    Parameters
    ----------
    width, height : float
        Sides of the tank, positive; the bar of the H lies along the width.
    rounds : int
        How often an H is drawn at every end, 1 to 8.

    Returns
    -------
    HTree
        The inlets are the centres of a grid of 2**rounds by 2**rounds cells. Every path from an inlet to the outlet has the
        length ``(width + height) / 2 * (1 - 2**-rounds)``.

    Raises
    ------
    ValueError, TypeError
        If width or height is not a positive number of usual size, or rounds not an integer from 1 to 8.

    Notes
    -----
    Source: the pipe of kexue.fm/archives/7961; H-trees: Mandelbrot, The Fractal Geometry of Nature, 1982.

    Examples
    --------
    >>> tree = h_tree(60, 40, 1)
    >>> print(tree.points[tree.inlets].tolist(), tree.length.sum())
    [[15.0, 10.0], [15.0, 30.0], [45.0, 10.0], [45.0, 30.0]] 70.0
    """
    width, height = number("width", width, positive=True), number("height", height, positive=True)
    for name, side in (("width", width), ("height", height)):
        if not 1e-150 <= side <= 1e150:
            raise ValueError(f"{name} must be between 1e-150 and 1e150, got {side}")
    rounds = integer("rounds", rounds, least=1, most=8)
    points = [np.array([[width, height]]) / 2]
    edges, level, length = [], [], []
    first = 0  # number of the first end of the level before
    for k in range(1, 2 * rounds + 1):
        ends = points[-1]
        along = np.array([width, 0.0] if k % 2 else [0.0, height]) / 2 ** ((k + 3) // 2)
        points.append(np.stack([ends - along, ends + along], 1).reshape(-1, 2))
        number_of = first + len(ends) + np.arange(2 * len(ends))
        edges.append(np.stack([first + np.arange(len(ends)).repeat(2), number_of], 1))
        level.append(np.full(2 * len(ends), k))
        length.append(np.full(2 * len(ends), along.sum()))
        first += len(ends)
    return HTree(
        np.concatenate(points), np.concatenate(edges), np.concatenate(level), np.concatenate(length), edges[-1][:, 1]
    )


def pipe_network(edges: Any, resistance: Array, exponent: float, fixed: Mapping[int, float]) -> Any:
    r"""Flows in a network of pipes between nodes whose pressure is held, by Newton's method on the content.

    .. math:: P_i - P_j = r_{ij}\, q_{ij} |q_{ij}|^{\alpha-1}, \qquad
              \sum_j q_{ij} = 0 \text{ at every node whose pressure is not held}

    Parameters
    ----------
    edges : sequence of pairs of int, E of them
        The nodes that each pipe joins, numbered from 0; every number up to the largest is a node. Two pipes may join the same nodes.
    resistance : array_like or tensor, shape (..., E)
        Positive, and within a factor of 1e12 of each other.
    exponent : float
        alpha, from 1 (laminar) to 2 (rough turbulent).
    fixed : mapping of int to float
        Pressure of the nodes where it is held, at least one.

    Returns
    -------
    array or tensor of shape (..., E): the flow in each pipe, positive from its first node to its second.

    Raises
    ------
    ValueError
        If edges are no pairs of different nodes, resistances not positive or too far apart, the exponent not from 1 to 2, a
        fixed node unknown or its pressure not finite, a node without a way to a fixed one, or flows beyond the number format.
    TypeError
        If resistance, exponent or a pressure is not real numbers, a node not an integer, or fixed no mapping.

    Notes
    -----
    Computed in double precision, to about 1e-8 of the largest flow. Differentiable in `resistance`. For resistances in series and
    in parallel no iteration is needed; for alpha = 1 the flows solve one linear system, as ``networkx.resistance_distance`` does.

    Source: Birkhoff & Diaz, Quart. Appl. Math. 13 (1956), for the content.

    Examples
    --------
    One pipe of length 1, beside it one of length 1/2 that forks into two of length 1/2: three equal paths, unequal flows.

    >>> q = pipe_network([(1, 0), (4, 0), (2, 4), (3, 4)], [1, 0.5, 0.5, 0.5], 1, {0: -1, 1: 0, 2: 0, 3: 0})
    >>> print((q / q[:2].sum() * 7).round(12))
    [3. 4. 2. 2.]
    """
    pipes, nodes = _pipes(edges)
    r, xp = floating("resistance", resistance)
    if r.ndim < 1 or r.shape[-1] != len(pipes):
        raise ValueError(f"resistance must have shape (..., {len(pipes)}), one for each pipe, got {tuple(r.shape)}")
    require("resistance", r, r > 0, "positive")
    finite("resistance", r)
    e = number("exponent", exponent)
    if not 1 <= e <= 2:
        raise ValueError(f"exponent must be from 1 to 2, got {exponent}")
    pressures = _held_pressures(fixed, nodes)
    _require_way_out(pipes, nodes, pressures)

    given, r = r, (r.astype(np.float64) if xp is np else r.to(xp.float64))
    largest = _most(r, xp)
    relative = r / largest
    require("resistance", relative, relative >= 1 / _RANGE, "within a factor of 1e12 of the others")
    low, high = min(pressures.values()), max(pressures.values())
    if not math.isfinite(high - low):
        raise ValueError(f"fixed must hold pressures whose difference float64 can hold, got {low} and {high}")
    if high == low:
        return in_format_of(given, r * 0)

    incidence = np.zeros((len(pipes), nodes))
    incidence[np.arange(len(pipes)), pipes[:, 0]] = 1
    incidence[np.arange(len(pipes)), pipes[:, 1]] = -1
    at = sorted(pressures)
    drive = incidence[:, at] @ [(pressures[i] - low) / (high - low) for i in at]
    rest = np.delete(incidence, at, axis=1)
    if xp is not np:
        rest, drive = (xp.as_tensor(x, dtype=xp.float64, device=r.device) for x in (rest, drive))
        with xp.no_grad():
            q = _minimise_content(relative.detach(), e, drive, rest, xp)
    else:
        q = _minimise_content(relative, e, drive, rest, xp)
    q = q + _conserving(_newton(q, relative, e, drive, rest, xp) - q, relative, rest, xp)  # once more, for the gradient
    with quiet():
        scaled = in_format_of(given, q * ((high - low) ** (1 / e) / largest ** (1 / e)))
    return held("resistance and fixed", scaled)


def manifold_flows(n: int, r: Array, R: Array, kind: str = "reverse") -> Any:
    r"""Shares of n equal branches between two headers, or of n holes in one, for laminar flow.

    ============  ==========================================  ==================================================
    ``reverse``   in at one end, out at the other             :math:`\cosh\lambda(i - \frac{n+1}2)`
    ``direct``    in and out at the same end, before i = 1    :math:`\cosh\lambda(n - i + \frac12)`
    ``comb``      holes in one header, outlet before i = 1    the same with :math:`2\cosh\lambda - 2 = r/R`
    ============  ==========================================  ==================================================

    divided by their sum, with :math:`2\cosh\lambda - 2 = 2r/R` for the first two.

    Parameters
    ----------
    n : int
        Number of branches, 1 to 10**6.
    r, R : array_like or tensor, shapes that broadcast
        Resistance of one segment of a header, not negative, and of one branch, positive.
    kind : str
        ``"reverse"``, ``"direct"`` or ``"comb"``.

    Returns
    -------
    array or tensor of shape (..., n): the shares of branch 1, 2, ..., n; they sum to 1.

    Raises
    ------
    ValueError
        If n, r, R or kind is out of range, or r / R beyond the number format.
    TypeError
        If n is not an integer, or r or R not real numbers.

    Notes
    -----
    Source: derived in the chapter of this book on kexue.fm/archives/7961. Differentiable.

    Examples
    --------
    >>> print(manifold_flows(3, 1, 4) * 14, (manifold_flows(3, 1, 4, "direct") * 21).round(12))
    [5. 4. 5.] [11.  6.  4.]
    """
    n = integer("n", n, least=1, most=10**6)
    one_of("kind", kind, ("reverse", "direct", "comb"))
    xp, r, R = alike(r=r, R=R)
    finite("r", r)
    finite("R", R)
    require("r", r, r >= 0, "not negative")
    require("R", R, R > 0, "positive")
    broadcast(r=r.shape, R=R.shape)
    with quiet():
        ratio = held("r and R", r / R)
    half = ratio / (4 if kind == "comb" else 2)  # (cosh(lambda) - 1) / 2 = sinh(lambda / 2)^2
    rate = 2 * xp.arcsinh(half**0.5)[..., None]
    i = xp.arange(1, n + 1) if xp is np else xp.arange(1, n + 1, device=rate.device)
    place = in_format_of(rate, abs(i - (n + 1) / 2 if kind == "reverse" else n - i + 0.5))
    # cosh, divided by its largest value before it can overflow
    shape = xp.exp(rate * (place - float(place.max()))) * (1 + xp.exp(-2 * rate * place))
    return shape / shape.sum(-1)[..., None]


def water_change_peak(s: Array, p: Array, phi: Array, T: Array) -> Any:
    r"""Highest concentration in a tank that gains s a day, loses the share p a day, and has the share phi of its water changed.

    .. math:: N^* = \frac{s\,(e^{pT} - 1)}{p\,(\varphi + e^{pT} - 1)}, \qquad N^* \to \frac{sT}\varphi \text{ for } p \to 0

    just before each change, once the saw-tooth repeats itself. The same formula serves repeated doses of a drug, upside down.

    Parameters
    ----------
    s : array_like or tensor
        Gain per unit of time, not negative.
    p : array_like or tensor
        Rate of loss (plants), not negative.
    phi : array_like or tensor
        Share of the water that is changed, 0 < phi <= 1.
    T : array_like or tensor
        Time between two changes, positive. All four broadcast.

    Returns
    -------
    array, tensor or number, in the unit of s times that of T.

    Raises
    ------
    ValueError
        If an argument is out of range, shapes do not broadcast, or the result is beyond the number format.
    TypeError
        If an argument is not real numbers, or tensors and arrays are mixed.

    Notes
    -----
    Source: derived in the chapter of this book on kexue.fm/archives/7961. Differentiable, at p = 0 as well.

    Examples
    --------
    >>> print(water_change_peak(0.5, [0, 0.05], 0.3, 45).round(10))
    [75.          9.65861514]
    """
    xp, s, p, phi, T = alike(s=s, p=p, phi=phi, T=T)
    for name, x in (("s", s), ("p", p), ("phi", phi), ("T", T)):
        finite(name, x)
    require("s", s, s >= 0, "not negative")
    require("p", p, p >= 0, "not negative")
    require("phi", phi, (phi > 0) & (phi <= 1), "above 0 and at most 1")
    require("T", T, T > 0, "positive")
    broadcast(s=s.shape, p=p.shape, phi=phi.shape, T=T.shape)
    with quiet():
        x = held("p and T", p * T)
        small = x < 1e-4
        powers = xp.expm1(xp.where(small, 1.0, x))
        # x / (e^x - 1), which is 1 - x/2 + x²/12 at 0 and vanishes where e^x is infinite
        bernoulli = xp.where(small, 1 - x / 2 + x**2 / 12, xp.where(small, 1.0, x) / powers)
        peak = s * (T / (x + phi * bernoulli))
    return held("s, p, phi and T", peak)[()]


# ---------------------------------------------------------------------------------------------------------------------


def _pipes(edges: Any) -> tuple[NDArray[np.int64], int]:
    pipes = array_of("edges", edges)
    if pipes.dtype.kind not in "iu":
        raise TypeError(f"edges must be pairs of integers, got dtype {pipes.dtype}")
    if pipes.ndim != 2 or pipes.shape[-1] != 2 or not len(pipes):
        raise ValueError(f"edges must have shape (E, 2) with E >= 1, got {pipes.shape}")
    if pipes.min() < 0 or pipes.max() > 2 * len(pipes) - 1:
        raise ValueError(f"edges must number the nodes from 0 on, got {pipes.min()} to {pipes.max()}")
    if (pipes[:, 0] == pipes[:, 1]).any():
        raise ValueError(f"edges must join two different nodes, got {pipes[pipes[:, 0] == pipes[:, 1]][0].tolist()}")
    return pipes.astype(np.int64), int(pipes.max()) + 1


def _held_pressures(fixed: Any, nodes: int) -> dict[int, float]:
    if not isinstance(fixed, Mapping):
        raise TypeError(f"fixed must be a mapping of nodes to pressures, got {fixed!r}")
    pressures = {integer("fixed", node): number("fixed", pressure) for node, pressure in fixed.items()}
    if not pressures:
        raise ValueError("fixed must hold the pressure of at least one node, got none")
    for node in pressures:
        if not 0 <= node < nodes:
            raise ValueError(f"fixed must name nodes from 0 to {nodes - 1}, got {node}")
    return pressures


def _require_way_out(pipes: NDArray[np.int64], nodes: int, pressures: Sequence[int] | Mapping[int, float]) -> None:
    joined = np.zeros(nodes, bool)
    joined[list(pressures)] = True
    while True:
        touched = pipes[joined[pipes].any(1)].ravel()
        if joined[touched].all():
            break
        joined[touched] = True
    if not joined.all():
        raise ValueError(f"edges must lead from every node to a fixed one, got none from node {int(joined.argmin())}")


def _most(x: Any, xp: ModuleType) -> Any:
    return x.max(-1, keepdims=True) if xp is np else x.amax(-1, keepdim=True)


def _newton(q: Any, r: Any, e: float, drive: Any, rest: Any, xp: ModuleType) -> Any:
    """Flows after one Newton step. They conserve the flow at every free node, whatever q was; for alpha = 1 they are the solution."""
    size = abs(q)
    slope = e * r * xp.maximum(size, _SMALL * _most(size, xp)) ** (e - 1)
    aim = q + (drive - r * q * size ** (e - 1)) / slope  # flows if all free pressures were 0
    if not rest.shape[-1]:
        return aim
    weighted = rest / slope[..., None]
    system = rest.swapaxes(-1, -2) @ weighted
    P = xp.linalg.solve(system, -(aim[..., None, :] @ rest).swapaxes(-1, -2))
    return aim + (weighted @ P)[..., 0]


def _conserving(step: Any, r: Any, rest: Any, xp: ModuleType) -> Any:
    """A change of the flows without the rounding that would leave water at free nodes: much where a pipe is nearly at rest."""
    if not rest.shape[-1]:
        return step
    weighted = rest / r[..., None]
    left = (step[..., None, :] @ rest).swapaxes(-1, -2)
    return step - (weighted @ xp.linalg.solve(rest.swapaxes(-1, -2) @ weighted, left))[..., 0]


def _minimise_content(r: Any, e: float, drive: Any, rest: Any, xp: ModuleType) -> Any:
    """Newton's method with halved steps where a full one does not lower the content, from the laminar flow, well scaled."""

    def content(q: Any) -> Any:
        return (r * abs(q) ** (e + 1) / (e + 1) - drive * q).sum(-1)[..., None]

    q = _newton(xp.zeros_like(r), r, 1.0, drive, rest, xp)
    if e == 1:
        return q
    q = q * ((drive * q).sum(-1)[..., None] / (r * abs(q) ** (e + 1)).sum(-1)[..., None]) ** (1 / e)
    for _ in range(200):
        step = _conserving(_newton(q, r, e, drive, rest, xp) - q, r, rest, xp)
        largest = _most(abs(q), xp)
        if bool((abs(step) <= 1e-11 * largest).all()):
            break
        now = content(q)
        for _ in range(50):
            worse = content(q + step) > now + 1e-14 * abs(now)
            if not bool(worse.any()):
                break
            step = xp.where(worse, step / 2, step)
        q = q + step
    return q
