"""Ellipses by arc length, and the solids that two bent elliptic sheets enclose.

Notation: the point ``(a cos t, b sin t)`` of the ellipse has *parameter* ``t`` (radians), and ``s`` is the length of the
arc from the tip ``(a, 0)`` to it; ``L`` is a quarter of the perimeter, ``psi`` the angle by which the tangent has turned
since the tip. Either of ``a`` and ``b`` may be the longer one. Lengths have whatever unit ``a`` and ``b`` have; only
`cut_out` needs to know it, and takes millimetres.

A *sheet* ``(a, b)`` is such an ellipse of paper, bent into a cylinder along its axis ``a``: that axis becomes curved, and
the straight lines (rulings) of the cylinder are parallel to the axis ``b``. Two sheets with rims of equal length, one
turned by a right angle, are taped rim to rim: arc length ``s`` from the tip of the first meets ``L - s`` of the second.

All functions broadcast over NumPy arrays and compute in float64. They refuse torch tensors: PyTorch has no elliptic
integrals, and a conversion would drop a gradient silently.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import held, integer, quiet, reals, require
from .extras import needed_by

Floats: TypeAlias = "np.float64 | NDArray[np.float64]"
Sheet: TypeAlias = tuple[ArrayLike, ArrayLike]

__all__ = [
    "CutOut",
    "NotGluable",
    "Seam",
    "angle_excess",
    "arc_length",
    "cut_out",
    "parameter_at_arc_length",
    "quarter_perimeter",
    "seam",
    "tangent_angle",
]

_ROUNDING = 256 * np.finfo(float).eps  # relative, after the few operations that lead to an angle
_PANELS, _NODES = 200, 8  # of the Gauss-Legendre rule along the seam
_A4 = (210.0, 297.0)


# The ellipse by arc length ------------------------------------------------------------------------------------------


def arc_length(t: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    r"""Length of the arc of an ellipse from its tip (a, 0) to the point (a cos t, b sin t).

    .. math:: s(t) = \int_0^t \sqrt{a^2\sin^2\tau + b^2\cos^2\tau}\,d\tau = b\,E(t \mid 1 - a^2/b^2)

    Parameters
    ----------
    t : array_like
        Parameter in radians, any finite number; the arc is negative for t < 0, and a whole turn has 4 L.
    a, b : array_like
        Semi-axes, from 1e-75 to 1e75; all three broadcast.

    Returns
    -------
    float64 array or scalar of the broadcast shape, in the unit of a and b.

    Raises
    ------
    ValueError
        If a semi-axis is out of range, t is not finite or too large, or the shapes do not broadcast.
    TypeError
        If an argument is not real, or is a torch tensor.

    Notes
    -----
    This is ``b * scipy.special.ellipeinc(t, 1 - (a / b) ** 2)``, with the parameter m = k^2 as in SciPy and SymPy.

    Source: DLMF 19.30.2; kexue.fm/archives/6818, the arc length as an integral over y.

    Examples
    --------
    >>> print(arc_length(np.pi / 2, 2, 1).round(12))
    2.422112055137
    """
    with needed_by("arc_length"):
        from scipy import special

    t, a, b = reals(finite=True, t=t, a=a, b=b)
    _require_axes(a=a, b=b)
    with quiet():
        return held("t, a and b", (b * special.ellipeinc(t, 1 - (a / b) ** 2))[()])


def quarter_perimeter(a: ArrayLike, b: ArrayLike) -> Floats:
    r"""A quarter of the perimeter of an ellipse, :math:`L = a\,E(1 - b^2/a^2)`.

    Parameters
    ----------
    a, b : array_like
        Semi-axes, from 1e-75 to 1e75, in either order; they broadcast.

    Returns
    -------
    float64 array or scalar of the broadcast shape, in the unit of a and b.

    Raises
    ------
    ValueError, TypeError
        As for `arc_length`.

    Notes
    -----
    This is ``a * scipy.special.ellipe(1 - (b / a) ** 2)`` for a >= b.

    Source: DLMF 19.30.5.

    Examples
    --------
    >>> print(quarter_perimeter([1, 2, 3], [1, 1, 2]).round(8))
    [1.57079633 2.42211206 3.9663599 ]
    """
    with needed_by("quarter_perimeter"):
        from scipy import special

    a, b = reals(finite=True, a=a, b=b)
    _require_axes(a=a, b=b)
    long, short = np.maximum(a, b), np.minimum(a, b)
    return (long * special.ellipe(1 - (short / long) ** 2))[()]


def parameter_at_arc_length(s: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    """The parameter t of the point at arc length `s` from the tip (a, 0), on the first quarter: inverse of `arc_length`.

    Parameters
    ----------
    s : array_like
        Arc length, 0 <= s <= `quarter_perimeter` (a, b). The other quarters follow by symmetry.
    a, b : array_like
        Semi-axes, from 1e-75 to 1e75; all three broadcast.

    Returns
    -------
    float64 array or scalar of the broadcast shape: t in [0, pi/2], in radians.

    Raises
    ------
    ValueError
        If s is outside its range (rounding of its ends is forgiven), or as for `arc_length`.
    TypeError
        As for `arc_length`.

    Notes
    -----
    Newton's method, with bisection wherever a step would leave the bracket. The error is a few roundings of t, also
    relative to a small t. SciPy has no inverse of the incomplete elliptic integral of the second kind; to
    differentiate t, use dt/ds = 1/sqrt(a^2 sin^2 t + b^2 cos^2 t).

    Source: kexue.fm/archives/6818 tabulates the integral and swaps the columns.

    Examples
    --------
    >>> t = parameter_at_arc_length(1.0, 2, 1)
    >>> print(t.round(12), arc_length(t, 2, 1).round(12))
    0.806975265332 1.0
    """
    s, a, b = reals(finite=True, s=s, a=a, b=b)
    L = quarter_perimeter(a, b)
    s, a, b, L = np.broadcast_arrays(s, a, b, L)
    require("s", s, (s >= 0) & (s <= L * (1 + _ROUNDING)), "an arc length between 0 and quarter_perimeter(a, b)")
    low, high = np.zeros(s.shape), np.full(s.shape, np.pi / 2)
    t = np.minimum(np.pi / 2 * s / L, np.pi / 2)
    for _ in range(100):
        miss = arc_length(t, a, b) - s
        low, high = np.where(miss <= 0, t, low), np.where(miss >= 0, t, high)
        newton = t - miss / np.hypot(a * np.sin(t), b * np.cos(t))
        # The ends belong to the bracket: after the last step Newton's point rounds to one of them.
        previous, t = t, np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        if (np.abs(t - previous) <= 2 * np.finfo(float).eps * t).all():
            break
    return t[()]


def tangent_angle(t: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    r"""Angle by which the tangent of an ellipse has turned between its tip (a, 0) and the point of parameter `t`.

    .. math:: \tan\psi = \frac ab \tan t, \qquad \frac{dy}{ds} = \cos\psi, \qquad \frac{dx}{ds} = -\sin\psi

    Parameters
    ----------
    t : array_like
        Parameter in radians, any finite number; psi grows continuously by a whole turn as t does.
    a, b : array_like
        Semi-axes, from 1e-75 to 1e75; all three broadcast.

    Returns
    -------
    float64 array or scalar of the broadcast shape, in radians.

    Raises
    ------
    ValueError, TypeError
        As for `arc_length`.

    Notes
    -----
    The curvature is its derivative by arc length, a b / (a^2 sin^2 t + b^2 cos^2 t)^(3/2).

    Source: any textbook on curves; this book's chapter on kexue.fm/archives/6818 puts the gluing into these terms.

    Examples
    --------
    >>> print(np.degrees(tangent_angle(np.radians([0, 45, 90, 360]), 2, 1)).round(3))
    [  0.     63.435  90.    360.   ]
    """
    t, a, b = reals(finite=True, t=t, a=a, b=b)
    _require_axes(a=a, b=b)
    sine, cosine = np.sin(t), np.cos(t)
    # psi and t agree at every quarter turn and are never a right angle apart, so the arctangent needs no branch.
    return (t + np.arctan((a - b) * sine * cosine / (a * sine**2 + b * cosine**2)))[()]


# The seam of two sheets ---------------------------------------------------------------------------------------------


class NotGluable(ValueError):
    """Two bent sheets do not fit rim to rim.

    Attributes
    ----------
    s : float
        Arc length from the tip of the first sheet to the worst place.
    slope_squared : float
        (dx/ds)^2 there, which is negative.
    excess : float
        `angle_excess` there, in radians, which is negative.
    index : tuple of int
        Which pair of sheets, where several were given.
    """

    def __init__(self, s: float, slope_squared: float, excess: float, L: float, index: tuple[int, ...] = ()) -> None:
        self.s, self.slope_squared, self.excess, self.index = s, slope_squared, excess, index
        which = f" (pair {index})" if index else ""
        super().__init__(
            f"the sheets{which} do not fit: at arc length s = {s:.6g} of {L:.6g} their tangent angles miss a right angle "
            f"by {-excess:.4g} rad, so that (dx/ds)^2 would be {slope_squared:.4g}, expected >= 0"
        )


@dataclass(frozen=True)
class Seam:
    """One quarter of the curve along which two sheets meet; the other three are its mirror images in y and z.

    The first sheet is ``{(x(s), eta, z(s)) : |eta| <= y(s)}`` and its mirror image in z; the second is
    ``{(x(s), y(s), zeta) : |zeta| <= z(s)}`` and its mirror image in y. Between them the slice of the solid at every x is the rectangle
    |y| <= y(s), |z| <= z(s).

    Attributes
    ----------
    s : array, shape (..., n)
        Arc length from the tip of the first sheet, from 0 to L, denser towards the ends.
    x, y, z : array, shape (..., n)
        The point of the seam at s; x and y start at 0, z ends at 0.
    depth : float or array, shape (...)
        x(L), the distance between the middle lines of the two sheets.
    volume : float or array, shape (...)
        Volume of the solid, unit cubed.
    """

    s: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    depth: Floats
    volume: Floats


def angle_excess(s: ArrayLike, a: ArrayLike, b: ArrayLike, other: Sheet | None = None) -> Floats:
    r"""By how much the tangent angles of two rims, where they meet, exceed a right angle: psi_1(s) + psi_2(L - s) - pi/2.

    The sheets fit where it is not negative, because (dx/ds)^2 = sin(excess) cos(psi_1 - psi_2) along the seam.

    Parameters
    ----------
    s : array_like
        Arc length from the tip of the first sheet, 0 <= s <= L.
    a, b : array_like
        The first sheet: bent along its semi-axis a, with rulings parallel to b.
    other : pair of array_like, optional
        Semi-axes (bent, ruled) of the second sheet, with a rim of the same length. Default: the same as the first.

    Returns
    -------
    float64 array or scalar of the broadcast shape, in radians.

    Raises
    ------
    ValueError
        If the rims differ in length by more than 1e-9 of it, or as for `parameter_at_arc_length`.
    TypeError
        If `other` is not a pair, or as for `arc_length`.

    Notes
    -----
    Source: this book's chapter on kexue.fm/archives/6818.

    Examples
    --------
    >>> L = quarter_perimeter(2, 1)
    >>> print(angle_excess(L / 2, 2, 1).round(6), angle_excess(L / 2, 1, 2).round(6))
    0.862665 -0.862665
    """
    s, a, b = reals(finite=True, s=s, a=a, b=b)
    c, d, L = _second_sheet(a, b, other)
    require("s", s, (s >= 0) & (s <= L * (1 + _ROUNDING)), "an arc length between 0 and quarter_perimeter(a, b)")
    near = s <= L / 2
    share = np.where(near, s, np.maximum(L - s, 0)) / L
    alpha, beta, _, _ = _where_rims_meet(share, near, a, b, c, d)
    return (alpha - beta)[()]


def seam(a: ArrayLike, b: ArrayLike, other: Sheet | None = None, *, n: int = 201) -> Seam:
    r"""Glue two bent elliptic sheets rim to rim: the curve of the seam, and depth and volume of the solid.

    .. math:: x(s) = \int_0^s \sqrt{\sin(\psi_1 + \psi_2 - \tfrac\pi2)\,\cos(\psi_1 - \psi_2)}\,d\sigma,
        \qquad V = 4\int_0^L y\,z\,x'\,ds

    with psi_1 taken at s on the first rim and psi_2 at L - s on the second.

    Parameters
    ----------
    a, b : array_like
        The first sheet: bent along its semi-axis a, with rulings parallel to b. They broadcast.
    other : pair of array_like, optional
        Semi-axes (bent, ruled) of the second sheet, with a rim of the same length. Default: the same as the first.
    n : int
        Number of points of the curve, 2 to 10**5. Depth and volume do not depend on it.

    Returns
    -------
    Seam
        With s = L sin^2(u) for n evenly spaced u in [0, pi/2].

    Raises
    ------
    NotGluable
        If the sheets do not fit somewhere; names the worst place.
    ValueError, TypeError
        As for `angle_excess`, or if n is not an integer from 2 to 10**5.

    Notes
    -----
    Gauss-Legendre on at least 200 panels; the product form of (dx/ds)^2 keeps it exact to rounding where it goes to 0. Depth and
    volume agree with 30-digit quadrature to 1e-12 for a/b up to 10, and to 1e-9 for a/b = 300. Two angles
    that are equal to rounding count as equal, so that two circles give the flat disc and not the noise of a square root.

    Source: kexue.fm/archives/6818, the equation of the edge; the product form and V from this book's chapter on it.

    Examples
    --------
    >>> body = seam(2, 1)
    >>> print(body.depth.round(9), body.volume.round(9))
    1.569757379 3.167463592
    >>> seam(1, 2)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    kexue_utils.ellipse.NotGluable: the sheets do not fit: at arc length s = 1.21068 of 2.42211 ...
    """
    a, b = reals(finite=True, a=a, b=b)
    n = integer("n", n, least=2, most=10**5)
    c, d, L = _second_sheet(a, b, other)
    a, b, c, d, L = (v[..., None] for v in np.broadcast_arrays(a, b, c, d, L))
    panels = (n - 1) * -(-_PANELS // (n - 1))
    ends = np.linspace(0, np.pi / 2, panels + 1)
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    half = np.pi / 4 / panels
    u = (ends[:-1, None] + half * (1 + node)).ravel()

    alpha, beta, y, z = _along_seam(u, a, b, c, d)
    excess = np.where(np.abs(alpha - beta) <= _ROUNDING * alpha, 0, alpha - beta)
    slope_squared = np.sin(excess) * np.sin(alpha + beta)
    if (slope_squared < 0).any():
        *index, k = map(int, np.unravel_index(np.argmin(slope_squared), slope_squared.shape))
        where = (*index, k)
        L_there = float(L[(*index, 0)])
        raise NotGluable(
            L_there * np.sin(u[k]) ** 2, float(slope_squared[where]), float(excess[where]), L_there, tuple(index)
        )
    ds = L * np.sin(2 * u) * half
    dx = np.sqrt(slope_squared) * ds * np.tile(weight, panels)
    steps = dx.reshape(*dx.shape[:-1], n - 1, panels // (n - 1) * _NODES).sum(-1)
    x = np.concatenate([np.zeros((*steps.shape[:-1], 1)), steps.cumsum(-1)], -1)
    volume = 4 * (y * z * dx).sum(-1)
    u = ends[:: panels // (n - 1)]
    _, _, y, z = _along_seam(u, a, b, c, d)
    return Seam(L * np.sin(u) ** 2, x, y, z, x[..., -1][()], volume[()])


def _along_seam(
    u: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    c: NDArray[np.float64],
    d: NDArray[np.float64],
) -> tuple[NDArray[np.float64], ...]:
    """`_where_rims_meet` at s = L sin^2(u)."""
    near = u <= np.pi / 4
    return _where_rims_meet(np.sin(np.where(near, u, np.pi / 2 - u)) ** 2, near, a, b, c, d)


def _where_rims_meet(
    share: NDArray[np.float64],
    near: NDArray[np.bool_],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    c: NDArray[np.float64],
    d: NDArray[np.float64],
) -> tuple[NDArray[np.float64], ...]:
    """Angles alpha and beta, and the coordinates y and z, where a point of the seam is at `share` of its length from an end.

    `near` says from which: the tip of the first sheet, or that of the second. From there alpha is the tangent angle of the
    sheet with its tip there, and beta what the tangent angle of the other sheet falls short of a right angle: that is the
    angle of the ellipse with exchanged axes. Both are small near the end, so their difference, the excess, is precise to
    rounding; psi_1 + psi_2 - pi/2 is not.
    """
    p, q, r, w = (np.where(near, one, two) for one, two in ((a, c), (b, d), (c, a), (d, b)))
    t = parameter_at_arc_length(share * quarter_perimeter(p, q), p, q)
    tau = parameter_at_arc_length(share * quarter_perimeter(w, r), w, r)
    own, others = q * np.sin(t), w * np.cos(tau)
    y, z = np.where(near, own, others), np.where(near, others, own)
    return np.asarray(tangent_angle(t, p, q)), np.asarray(tangent_angle(tau, w, r)), y, z


# Paper --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class CutOut:
    """Two sheets to print and cut out, in millimetres; made by `cut_out`. A notebook shows them, with links that save the files.

    Attributes
    ----------
    sheets : tuple
        Semi-axes (bent, ruled) of the two sheets.
    outlines : array, shape (2, K, 4, 2)
        For each sheet K cubic Bezier arcs from mark to mark, four control points each, seen from the sheet's centre with
        the bent axis to the right. Arc k of the first sheet is taped to arc k of the second.
    """

    sheets: tuple[tuple[float, float], tuple[float, float]]
    outlines: NDArray[np.float64]

    @property
    def marks(self) -> NDArray[np.float64]:
        """Where the numbers stand, shape (2, K, 2): mark k of one sheet meets mark k of the other."""
        return self.outlines[:, :, 0]

    def edge_lengths(self) -> NDArray[np.float64]:
        """Lengths of the drawn arcs between marks, shape (2, K), measured along the curves that are cut.

        Returns
        -------
        array, shape (2, K), in millimetres. All entries are equal up to the error of the curves, below 1e-6 of them for
        axes in ratios up to 20: this does not use the elliptic integrals that placed the marks.

        Examples
        --------
        >>> lengths = cut_out(80, 40).edge_lengths()
        >>> bool(np.ptp(lengths) < 1e-4 < lengths.min())
        True
        """
        node, weight = np.polynomial.legendre.leggauss(24)
        u = (1 + node[:, None]) / 2
        steps = np.diff(self.outlines, axis=-2)[..., None, :, :]
        basis = np.concatenate([(1 - u) ** 2, 2 * u * (1 - u), u**2], -1)[..., None]
        speed = np.hypot(*np.moveaxis(3 * (basis * steps).sum(-2), -1, 0))
        return speed @ weight / 2

    def svg(self) -> str:
        """The page as SVG at true scale; the outlines are the paths inside the groups ``edge-1`` and ``edge-2``."""
        return self._drawn("svg").decode()

    def pdf(self) -> bytes:
        """The page as PDF at true scale, to be printed at 100 %."""
        return self._drawn("pdf")

    def __repr__(self) -> str:
        (a, b), (c, d) = self.sheets
        return f"<two sheets to cut out, semi-axes {a:.6g} x {b:.6g} mm and {c:.6g} x {d:.6g} mm>"

    def _repr_html_(self) -> str:
        # Data URIs work with a kernel, on a web server and from a folder alike.
        svg, pdf = (base64.b64encode(file).decode() for file in (self.svg().encode(), self.pdf()))
        svg, pdf = f"data:image/svg+xml;base64,{svg}", f"data:application/pdf;base64,{pdf}"
        name = "elliptic-sheets-" + "-".join(f"{axis:.4g}" for sheet in self.sheets for axis in sheet)
        about = "Two ellipses with numbered marks along their rims and thin parallel lines across, ready to cut out"
        return (
            # Paper is white in dark themes too.
            '<div style="background:#fff;color:#222;max-width:26rem;padding:0.5rem;border:1px solid #ccc">'
            f'<img src="{svg}" alt="{about}" style="width:100%;filter:none">'
            f'<p>Save the true-scale page: <a download="{name}.pdf" href="{pdf}" style="color:#0b5c8f">PDF</a>, '
            f'<a download="{name}.svg" href="{svg}" style="color:#0b5c8f">SVG</a>.</p></div>'
        )

    def _drawn(self, kind: str) -> bytes:
        with needed_by("CutOut"):
            import matplotlib as mpl
            from matplotlib.figure import Figure
            from matplotlib.patches import PathPatch
            from matplotlib.path import Path

        (a, b), (c, d) = self.sheets
        margin, gap, foot = 10.0, 8.0, 22.0
        width = max(2 * max(a, c) + 2 * margin, 120.0)
        height = 2 * (b + d) + 2 * margin + gap + foot
        if width <= _A4[0] and height <= _A4[1]:  # printers scale what is not a size of paper
            width, height = _A4
        middles = [(width / 2, height - margin - b), (width / 2, height - margin - 2 * b - gap - d)]

        settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "kexue", "pdf.use14corefonts": True}
        font: dict[str, Any] = {"family": "DejaVu Sans"}
        if kind == "pdf":  # one of the fonts that every reader has, so that none is embedded
            font = {"family": "Helvetica", "weight": "medium"}
        with mpl.rc_context(settings):
            # Matplotlib's own type hints do not know the layout "none".
            figure = Figure(figsize=(width / 25.4, height / 25.4), layout="none", facecolor="none")  # type: ignore[arg-type]
            ax = figure.add_axes((0, 0, 1, 1))
            ax.set(xlim=(0, width), ylim=(0, height))
            ax.axis("off")
            for sheet, (outline, middle) in enumerate(zip(self.outlines, middles, strict=True), 1):
                marks = outline[:, 0]
                inwards = -marks / np.array(self.sheets[sheet - 1]) ** 2
                inwards /= np.hypot(*inwards.T)[:, None]
                upper = marks[marks[:, 1] > 1e-9 * b]
                gaps = np.full_like(upper, np.nan)  # one path for all lines of a kind keeps the file small
                rulings = np.stack([upper, upper * [1, -1], gaps], 1).reshape(-1, 2) + middle
                ticks = np.stack([marks, marks + 2 * inwards, marks * np.nan], 1).reshape(-1, 2) + middle
                ax.plot(*rulings.T, color="#BBBBBB", lw=0.4, clip_on=False)
                ax.plot(*ticks.T, color="k", lw=0.6, clip_on=False)
                codes = [Path.MOVETO, *[Path.CURVE4] * (3 * len(outline)), Path.CLOSEPOLY]
                points = [outline[0, 0], *outline[:, 1:].reshape(-1, 2), outline[0, 0]]
                path = Path(np.array(points) + middle, codes)
                ax.add_patch(PathPatch(path, fill=False, lw=0.8, clip_on=False, gid=f"edge-{sheet}"))
                for number, (x, y) in enumerate(marks + 4.5 * inwards + middle, 1):
                    ax.text(x, y, str(number), size=6.5, ha="center", va="center", **font)
                ax.text(*middle, "AB"[sheet - 1], size=16, ha="center", va="center", color="#777777", **font)
            ax.plot([margin, margin + 50], [margin, margin], color="k", lw=1.2, gid="ruler")
            ax.text(margin + 52, margin, "50 mm: check it with a ruler, print at 100 %", size=8, va="center", **font)
            about = (
                f"Cut out A ({2 * a:.4g} x {2 * b:.4g} mm) and B ({2 * c:.4g} x {2 * d:.4g} mm). Roll each so that the "
            )
            ax.text(margin, margin + 10, about + "grey lines stay straight.", size=8, **font)
            ax.text(
                margin,
                margin + 5,
                "Turn B by 90 degrees, tape number to equal number, all on the outside.",
                size=8,
                **font,
            )
            file = io.BytesIO()
            date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
            figure.savefig(file, format=kind, metadata={"Title": "Two elliptic sheets to glue", **date})
        return file.getvalue()


def cut_out(a: float, b: float, other: tuple[float, float] | None = None, *, marks: int = 6) -> CutOut:
    """The flat pattern of two sheets: outlines to cut, numbers that meet, and the rulings that stay straight.

    Sheets that do not fit can be printed all the same, to see where they do not.

    Parameters
    ----------
    a, b : float
        The first sheet in millimetres: bent along its semi-axis a, with rulings parallel to b.
    other : pair of float, optional
        Semi-axes (bent, ruled) of the second sheet, with a rim of the same length. Default: the same as the first.
    marks : int
        Numbered marks on each quarter of the rim, at equal arc length; 3 to 1000.

    Returns
    -------
    CutOut
        With ``svg()``, ``pdf()`` and ``edge_lengths()``. The page is A4 where the sheets fit on it, otherwise as large as they need.

    Raises
    ------
    ValueError
        If the rims differ in length, a semi-axis is not positive, or marks is out of range.
    TypeError
        If an argument is not a number, or marks not an integer.

    Notes
    -----
    The outline is made of cubic Bezier arcs, each the affine image of the usual one for a circle: between marks it is off by less
    than a thousandth of a millimetre on paper.

    Source: this book's chapter on kexue.fm/archives/6818.

    Examples
    --------
    >>> pattern = cut_out(80, 40)
    >>> pattern.outlines.shape, pattern.svg()[:5], pattern.pdf()[:5]
    ((2, 24, 4, 2), '<?xml', b'%PDF-')
    """
    bent, ruled = reals(finite=True, a=a, b=b)
    if bent.ndim or ruled.ndim:
        raise TypeError(f"a and b must be single numbers, got shapes {bent.shape} and {ruled.shape}")
    marks = integer("marks", marks, least=3, most=1000)
    c, d, _ = _second_sheet(bent, ruled, other)
    if c.ndim or d.ndim:
        raise TypeError(f"other must be a pair of single numbers, got shapes {c.shape} and {d.shape}")
    first = _outline(bent, ruled, marks)
    # The tip of A meets the end of B's axis of rulings, and the two rims run against each other.
    second = np.roll(_outline(c, d, marks), -marks, axis=0)[::-1, ::-1]
    return CutOut(((float(bent), float(ruled)), (float(c), float(d))), np.stack([first, second]))


def _outline(a: NDArray[np.float64], b: NDArray[np.float64], marks: int) -> NDArray[np.float64]:
    """Bezier arcs, shape (4 marks, 4, 2), counter-clockwise from the tip (a, 0), of equal arc length."""
    quarter = parameter_at_arc_length(np.arange(marks) / marks * quarter_perimeter(a, b), a, b)
    # Counted from the other end of the quarter, the same marks serve the second one.
    back = parameter_at_arc_length(np.arange(1, marks + 1) / marks * quarter_perimeter(a, b), a, b)
    half = np.concatenate([np.asarray(quarter), np.pi - np.flip(back)])
    t = np.concatenate([half, half + np.pi, [2 * np.pi]])
    point = np.stack([a * np.cos(t), b * np.sin(t)], -1)
    velocity = np.stack([-a * np.sin(t), b * np.cos(t)], -1)
    handle = 4 / 3 * np.tan(np.diff(t) / 4)[:, None]
    return np.stack([point[:-1], point[:-1] + handle * velocity[:-1], point[1:] - handle * velocity[1:], point[1:]], 1)


# Arguments ----------------------------------------------------------------------------------------------------------


def _second_sheet(
    a: NDArray[np.float64], b: NDArray[np.float64], other: Sheet | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Semi-axes of the second sheet, and the length L of a quarter of the first rim."""
    L = np.asarray(quarter_perimeter(a, b))
    if other is None:
        return a, b, L
    if not isinstance(other, tuple | list) or len(other) != 2:
        raise TypeError(f"other must be a pair of semi-axes (bent, ruled), got {other!r}")
    c, d = reals(finite=True, **{"other[0]": other[0], "other[1]": other[1]})
    _require_axes(**{"other[0]": c, "other[1]": d})
    try:
        ratio = L / quarter_perimeter(c, d)
    except ValueError:
        raise ValueError(f"shapes must broadcast, got first sheet {L.shape}, other {c.shape}, {d.shape}") from None
    if (np.abs(ratio - 1) > 1e-9).any():
        worst = ratio.flat[np.argmax(np.abs(ratio - 1))]
        raise ValueError(
            f"other must have a rim as long as the first sheet's, got one that is {1 / worst:.10g} times as long: "
            f"multiply its semi-axes by {worst:.12g}"
        )
    return c, d, L


def _require_axes(**axes: NDArray[np.float64]) -> None:
    for name, axis in axes.items():
        require(name, axis, axis > 0, "a positive semi-axis")
        require(name, axis, (axis >= 1e-75) & (axis <= 1e75), "a semi-axis from 1e-75 to 1e75")
