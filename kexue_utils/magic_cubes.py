"""Magic cubes: sums of lines and planes, all cubes of order 3, the symmetries of a cube, and a cube written in LaTeX.

Notation: ``A[..., z, y, x]`` is the number in a cell; x runs to the right, y from the back to the front, z down. A cube of order n has
3 n² *lines* along its edges, four *space diagonals* between opposite corners, and 3 n *planes* parallel to its faces. It is *magic*
when it holds 1, 2, ..., n³ and all lines and space diagonals have the same sum.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations, product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .arguments import Array, integer, integers, is_tensor, namespace, require

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["cube_to_array", "line_sums", "magic_cubes3", "plane_sums", "symmetries"]

_LARGEST = 2**40  # so that no sum of a cube that fits into memory leaves int64


def plane_sums(A: Array) -> Any:
    """Sums over the planes of a cube.

    Parameters
    ----------
    A : array_like or tensor of integers, shape (..., n, n, n)
        Cubes, at most 2**40 in modulus in every cell.

    Returns
    -------
    int64 array or tensor of shape (..., 3, n), on the same device: the n planes of constant z, then of constant y, then of constant x.

    Raises
    ------
    TypeError
        If A is not integers.
    ValueError
        If A is not cubic, or a number is too large.

    Examples
    --------
    >>> print(plane_sums(np.arange(1, 9).reshape(2, 2, 2)).tolist())
    [[10, 26], [14, 22], [16, 20]]
    """
    A, xp = _cube("A", A)
    return xp.stack([A.sum((-2, -1)), A.sum((-3, -1)), A.sum((-3, -2))], -2)


def line_sums(A: Array) -> Any:
    """Sums over the lines and the space diagonals of a cube.

    Parameters
    ----------
    A : array_like or tensor of integers, shape (..., n, n, n)
        Cubes, at most 2**40 in modulus in every cell.

    Returns
    -------
    int64 array or tensor of shape (..., 3 n**2 + 4), on the same device: the n² lines along z, in the order of (y, x); those along y,
    by (z, x); those along x, by (z, y); then the space diagonals that start at the corners (z, y, x) = (0, 0, 0), (0, 0, n - 1),
    (0, n - 1, 0) and (0, n - 1, n - 1).

    Raises
    ------
    TypeError, ValueError
        As `plane_sums`.

    Notes
    -----
    Linear in A: ``line_sums(np.eye(n**3, dtype=int).reshape(-1, n, n, n)).T`` is the incidence matrix of lines and cells.

    Examples
    --------
    >>> print(line_sums(np.arange(1, 9).reshape(2, 2, 2)).tolist())
    [6, 8, 10, 12, 4, 6, 12, 14, 3, 7, 11, 15, 9, 9, 9, 9]
    """
    A, xp = _cube("A", A)
    n = A.shape[-1]
    lines = [A.sum(axis).reshape(*A.shape[:-3], n * n) for axis in (-3, -2, -1)]
    up = list(range(n))
    down = up[::-1]
    diagonals = [A[..., up, y, x].sum(-1) for y, x in ((up, up), (up, down), (down, up), (down, down))]
    return xp.concatenate([*lines, xp.stack(diagonals, -1)], -1)


def magic_cubes3() -> NDArray[np.int64]:
    """All magic cubes of order 3, in lexicographic order.

    Returns
    -------
    int64 array of shape (192, 3, 3, 3).

    Notes
    -----
    The lines and space diagonals say that the centre is 14, that opposite cells add up to 28, and that the corners decide the rest:
    14 less the corners a and b gives the middle of their edge, 14 plus all four that of a face, when every number is counted from 14.
    So four corners decide a cube, and the 27**4 choices are tried.

    Examples
    --------
    >>> cubes = magic_cubes3()
    >>> print(len(cubes), cubes[0, 0].tolist())
    192 [[1, 15, 26], [17, 19, 6], [24, 8, 10]]
    """
    return _magic_cubes3().copy()


@cache
def _magic_cubes3() -> NDArray[np.int64]:
    t = np.arange(-13, 14, dtype=np.int64)
    a, b, c, d = (corner.ravel() for corner in np.meshgrid(t, t, t, t, indexing="ij"))
    half = [a, -a - b, b, -a - c, a + b + c + d, -b - d, c, -c - d, d, d - a, a + b - c - d, c - b, a - b + c - d]
    bit = np.array([0, *(1 << k for k in range(1, 14)), *[0] * 39])  # beyond 13 there is no number
    found = np.flatnonzero(np.bitwise_or.reduce([bit[abs(v)] for v in half]) == bit.sum())
    first = np.array(half)[:, found].T
    cubes = 14 + np.concatenate([first, np.zeros((len(found), 1), np.int64), -first[:, ::-1]], axis=1)
    return cubes[np.lexsort(cubes.T[::-1])].reshape(-1, 3, 3, 3)


def symmetries(n: int = 3, dim: int = 3) -> NDArray[np.int64]:
    """The symmetries of the cube, as permutations of its cells: rotations and reflections.

    Parameters
    ----------
    n : int, at least 1
        Order of the cube: cells along an edge.
    dim : int, 1 to 6
        Dimension: 2 for squares. The result holds at most 10**7 numbers.

    Returns
    -------
    int64 array of shape (2**dim * dim!, n**dim), the identity first: ``A.reshape(-1)[symmetries()[k]].reshape(A.shape)`` is the cube A
    in its k-th position. Rows are different for n >= 2.

    Raises
    ------
    TypeError, ValueError
        If n or dim is not an integer or out of range, or the result too large.

    Examples
    --------
    >>> print(symmetries(2, 2).tolist())
    [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0], [0, 2, 1, 3], [2, 0, 3, 1], [1, 3, 0, 2], [3, 1, 2, 0]]
    """
    n, dim = integer("n", n, least=1, most=10**7), integer("dim", dim, least=1, most=6)
    cells = np.arange(n**dim).reshape((n,) * dim) if n**dim <= 10**7 else None
    orders = list(permutations(range(dim)))
    if cells is None or 2**dim * len(orders) * cells.size > 10**7:
        raise ValueError(f"n must be smaller: at most 10**7 numbers are returned, got n={n} in dimension {dim}")
    flips = list(product((1, -1), repeat=dim))
    positions = [
        cells.transpose(order)[tuple(slice(None, None, sign) for sign in signs)].ravel()
        for order in orders
        for signs in flips
    ]
    return np.array(positions, dtype=np.int64)


def cube_to_array(A: Array, step: tuple[int, int, int] = (5, -2, 5)) -> str:
    r"""A cube as a LaTeX ``array``: the numbers, with the edges between them; what is hidden is red and dotted.

    The cell (x, y, z) stands in column ``step[0] * x + step[1] * y``, counted from the leftmost, and row ``-step[1] * y + step[2] * z``.

    Parameters
    ----------
    A : array_like or tensor of integers, shape (n, n, n)
        The cube.
    step : three integers, positive, negative, positive
        Columns from one cell to the next on the right, columns to the one in front, and rows to the one below.

    Returns
    -------
    str
        LaTeX for math mode, with ``\diagup`` of amssymb and ``\color`` of xcolor; MathJax knows both, in every kind of output.

    Raises
    ------
    TypeError
        If A or step is not integers.
    ValueError
        If A is not cubic, step has a wrong sign, two cells fall on one place, or the array would have more than 10**5 places.

    Notes
    -----
    Source: the drawing of kexue.fm/archives/6534, which turns its strokes by a style of HTML.

    Examples
    --------
    >>> print(cube_to_array([[[1]]]))
    \begin{array}{c}
    1
    \end{array}
    """
    A, _ = _cube("A", A)
    n = A.shape[-1]
    if A.ndim != 3:
        raise ValueError(f"A must have shape (n, n, n), got {tuple(A.shape)}")
    right, front, down = _step(step)
    rows, columns = (n - 1) * (front + down) + 1, (n - 1) * (right + front) + 1
    if rows * columns > 10**5:
        raise ValueError(f"step must be smaller: the array would have {rows} rows and {columns} columns")

    def place(x: int, y: int, z: int) -> tuple[int, int]:
        return front * y + down * z, right * x + front * (n - 1 - y)

    cells = [(x, y, z) for x in range(n) for y in range(n) for z in range(n)]
    taken: dict[tuple[int, int], tuple[int, int, int]] = {}
    for cell in cells:
        other = taken.setdefault(place(*cell), cell)
        if other != cell:
            raise ValueError(
                f"step must keep cells apart, got {step}: (x, y, z) = {other} and {cell} fall on one place"
            )

    page = [[""] * columns for _ in range(rows)]
    strokes = {
        # direction: rows and columns of one stroke, visible, hidden
        (1, 0, 0): (0, 1, right, "-", r"\cdots"),
        (0, 1, 0): (1, -1, front, r"\diagup", r"\cdot"),
        (0, 0, 1): (1, 0, down, "|", r"\vdots"),
    }
    for seen in (False, True):  # what is in front is drawn last
        for cell, (direction, (row, column, length, mark, dots)) in product(cells, strokes.items()):
            end = (cell[0] + direction[0], cell[1] + direction[1], cell[2] + direction[2])
            if max(end) < n and _on_same_visible_face(cell, end, n) == seen:
                top, left = place(*cell)
                for k in range(1, length):
                    page[top + k * row][left + k * column] = mark if seen else rf"\color{{red}}{{{dots}}}"
    for x, y, z in cells:
        row, column = place(x, y, z)
        number = str(int(A[z, y, x]))
        page[row][column] = number if _visible(x, y, z, n) else rf"\color{{red}}{{{number}}}"
    body = " \\\\\n".join(" & ".join(line) for line in page)
    return f"\\begin{{array}}{{{'c' * columns}}}\n{body}\n\\end{{array}}"


# ---------------------------------------------------------------------------------------------------------------------


def _visible(x: int, y: int, z: int, n: int) -> bool:
    return x == n - 1 or y == n - 1 or z == 0


def _on_same_visible_face(one: tuple[int, int, int], other: tuple[int, int, int], n: int) -> bool:
    return one[0] == other[0] == n - 1 or one[1] == other[1] == n - 1 or (one[2] == other[2] == 0)  # right, front, top


def _step(step: Any) -> tuple[int, int, int]:
    """The lengths of the three steps, all positive."""
    if not isinstance(step, tuple | list) or len(step) != 3:
        raise TypeError(f"step must be three integers, got {step!r}")
    right, front, down = (integer("step", value) for value in step)
    if right < 1 or front > -1 or down < 1:
        raise ValueError(f"step must be positive, negative, positive, got {step}")
    return right, -front, down


def _cube(name: str, A: Any) -> tuple[Any, ModuleType]:
    """`A` as int64, and its library."""
    A = integers(name, A)
    A, xp = A.long() if is_tensor(A) else A, namespace(A)
    if A.ndim < 3 or not 1 <= A.shape[-1] == A.shape[-2] == A.shape[-3]:
        raise ValueError(f"{name} must have shape (..., n, n, n), got {tuple(A.shape)}")
    require(name, A, (A <= _LARGEST) & (A >= -_LARGEST), "numbers up to 2**40 in modulus")
    return (A if is_tensor(A) else A.astype(np.int64)), xp
