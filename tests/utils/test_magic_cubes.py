"""Facts about magic cubes. The cubes are found a second time by backtracking, and one of them by integer programming."""

import itertools
import math
import re

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from kexue_utils.magic_cubes import cube_to_array, line_sums, magic_cubes3, plane_sums, symmetries

PRINTED = np.array(
    [
        [[4, 25, 11], [14, 22, 7], [24, 1, 18]],
        [[13, 27, 5], [8, 12, 22], [15, 3, 21]],
        [[9, 26, 6], [16, 8, 17], [23, 2, 19]],
    ]
)
FIRST = [
    [[1, 15, 26], [17, 19, 6], [24, 8, 10]],
    [[23, 7, 12], [3, 14, 25], [16, 21, 5]],
    [[18, 20, 4], [22, 9, 11], [2, 13, 27]],
]
SHAPES = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.integers(-(2**40), 2**40), min_size=n**3, max_size=n**3).map(
        lambda numbers: np.array(numbers).reshape(n, n, n)
    )
)


def unit_cubes(n):
    return np.eye(n**3, dtype=int).reshape(-1, n, n, n)


def rank(matrix):
    exact, floating = sp.Matrix(matrix.tolist()).rank(), np.linalg.matrix_rank(matrix)
    assert exact == floating
    return exact


# Sums ----------------------------------------------------------------------------------------------------------------


def test_the_printed_cube_has_equal_layers_and_unequal_lines():
    assert plane_sums(PRINTED).tolist() == [[126] * 3] * 3
    along_z, along_y, along_x, diagonals = np.split(line_sums(PRINTED), [9, 18, 27])
    assert along_z.tolist() == [26, 78, 22, 38, 42, 46, 62, 6, 58]
    assert along_y.tolist() == [42, 48, 36, 36, 42, 48, 48, 36, 42]
    assert along_x.tolist() == [40, 43, 43, 45, 42, 39, 41, 41, 44]
    assert diagonals.tolist() == [35, 46, 42, 39]


@given(SHAPES)
def test_sums_are_those_of_a_loop_over_the_cells(A):
    n = len(A)
    lines, planes = {}, {}
    for z, y, x in itertools.product(range(n), repeat=3):
        number = int(A[z, y, x])
        for key in (("z", y, x), ("y", z, x), ("x", z, y)):
            lines[key] = lines.get(key, 0) + number
        for key in (("z", z), ("y", y), ("x", x)):
            planes[key] = planes.get(key, 0) + number
    ends = [(0, 0), (0, 1), (1, 0), (1, 1)]
    diagonals = [sum(int(A[i, n - 1 - i if y else i, n - 1 - i if x else i]) for i in range(n)) for y, x in ends]
    in_order = [lines[d, i, j] for d in "zyx" for i in range(n) for j in range(n)]
    assert line_sums(A).tolist() == in_order + diagonals
    assert plane_sums(A).tolist() == [[planes[d, i] for i in range(n)] for d in "zyx"]


def test_batches_and_tensors_have_the_sums_of_their_cubes():
    batch = magic_cubes3()[:6].reshape(2, 3, 3, 3, 3).astype(np.int16)
    for sums in (line_sums, plane_sums):
        one_by_one = np.array([[sums(cube) for cube in row] for row in batch])
        np.testing.assert_array_equal(sums(batch), one_by_one)
        tensor = sums(torch.tensor(batch))
        assert tensor.dtype == torch.int64
        np.testing.assert_array_equal(tensor.numpy(), one_by_one)
        assert sums(batch[:0]).shape == one_by_one[:0].shape


def test_small_integers_do_not_overflow():
    assert plane_sums(np.full((3, 3, 3), 100, np.int8)).tolist() == [[900] * 3] * 3
    assert line_sums(torch.full((3, 3, 3), 100, dtype=torch.int8)).tolist() == [300] * 31


@pytest.mark.gpu
def test_sums_stay_on_the_gpu():
    A = torch.tensor(PRINTED, device="cuda")
    for sums in (line_sums, plane_sums):
        assert sums(A).device.type == "cuda"
        np.testing.assert_array_equal(sums(A).cpu().numpy(), sums(PRINTED))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_ranks_of_layers_and_lines(n):
    lines = line_sums(unit_cubes(n)).T
    assert rank(plane_sums(unit_cubes(n)).reshape(n**3, -1).T) == 3 * n - 2
    assert rank(lines[:-4]) == n**3 - (n - 1) ** 3
    if n == 3:
        assert rank(lines) == 23 and rank(lines[:-4]) == 19 and 3 * n - 2 == 7


# All magic cubes of order 3 ------------------------------------------------------------------------------------------


def test_192_cubes_are_magic_and_different():
    cubes = magic_cubes3()
    assert cubes.shape == (192, 3, 3, 3) and cubes.dtype == np.int64
    assert cubes[0].tolist() == FIRST
    assert (np.sort(cubes.reshape(192, 27)) == np.arange(1, 28)).all()
    assert (line_sums(cubes) == 42).all() and (plane_sums(cubes) == 126).all()
    rows = [tuple(cube) for cube in cubes.reshape(192, 27).tolist()]
    assert rows == sorted(set(rows))


def test_backtracking_finds_the_same_cubes_with_their_smallest_corner_first():
    lines = [tuple(np.flatnonzero(line)) for line in line_sums(unit_cubes(3)).T]
    through = [[line for line in lines if cell in line] for cell in range(27)]
    order = [13, 0, 26, 2, 1, 24, 25, 6, 3, 20, 23, 8, 5, 7, 18, 21, 19, 9, 11, 15, 17, 4, 22, 10, 16, 12, 14]
    corners = (0, 2, 6, 8, 18, 20, 24, 26)
    cube, found = [0] * 27, []

    def fits(cell):
        for line in through[cell]:
            values = [cube[i] for i in line]
            if all(values) and sum(values) != 42:
                return False
        return True

    def fill(k, free):
        if k == 27:
            found.append(tuple(cube))
            return
        cell = order[k]
        forced = {
            42 - sum(cube[i] for i in line) for line in through[cell] if sum(cube[i] > 0 for i in line) == 2
        }  # two of three are known
        for number in free & forced if len(forced) == 1 else free if not forced else set():
            cube[cell] = number
            if fits(cell) and (cell not in corners or number >= cube[0]):
                fill(k + 1, free - {number})
            cube[cell] = 0

    cube[13] = 14  # 3 m = s, see the chapter; the other cells are searched
    fill(1, frozenset(range(1, 28)) - {14})
    listed = [tuple(cube) for cube in magic_cubes3().reshape(192, 27).tolist()]
    assert sorted(found) == [cube for cube in listed if cube[0] == min(cube[corner] for corner in corners)]
    assert len(found) == 192 / 8


def test_integer_programming_finds_one_of_them():
    # x[cell, number] in {0, 1}; nothing is told of centre or opposite cells
    numbers = np.arange(1, 28)
    per_cell = np.kron(np.eye(27), np.ones(27))
    per_number = np.kron(np.ones(27), np.eye(27))
    lines = np.kron(line_sums(unit_cubes(3)).T, numbers)
    fixed = np.zeros((2, 27 * 27))
    fixed[0, 0 * 27 + 0] = fixed[1, 1 * 27 + 14] = 1  # 1 in the first corner, 15 beside it
    constraints = [
        LinearConstraint(per_cell, 1, 1), LinearConstraint(per_number, 1, 1), LinearConstraint(lines, 42, 42), LinearConstraint(fixed, 1, 1),
    ]  # fmt: skip
    result = milp(np.zeros(27 * 27), constraints=constraints, integrality=np.ones(27 * 27), bounds=Bounds(0, 1))
    cube = result.x.round().astype(int).reshape(27, 27) @ numbers
    assert cube.tolist() in magic_cubes3().reshape(192, 27).tolist()


def test_the_centre_is_14_and_opposite_numbers_add_up_to_28():
    cubes = magic_cubes3()
    assert (cubes[:, 1, 1, 1] == 14).all()
    assert (cubes + cubes[:, ::-1, ::-1, ::-1] == 28).all()
    assert (cubes[:, ::2, ::2, ::2].sum((1, 2, 3)) == 112).all() and PRINTED[::2, ::2, ::2].sum() == 114


def test_four_classes_of_48():
    orbits = {}
    for cube in magic_cubes3().reshape(192, 27):
        images = {tuple(image) for image in cube[symmetries()].tolist()}
        assert len(images) == 48
        orbits[min(images)] = images
    assert [first[:3] for first in sorted(orbits)] == [(1, 15, 26), (2, 15, 25), (4, 17, 21), (6, 16, 20)]


def test_where_small_numbers_sit():
    flat = magic_cubes3().reshape(192, 27)
    kind = (np.indices((3, 3, 3)) != 1).sum(0).ravel()  # 3 corner, 1 face, 2 edge
    for number, seats in {1: (48, 144, 0), 2: (96, 0, 96), 3: (48, 144, 0), 13: (0, 0, 192)}.items():
        at = kind[(flat == number).argmax(1)]
        assert tuple((at == which).sum() for which in (3, 1, 2)) == seats


def test_six_of_18_diagonals_of_layers_are_right():
    for cube in magic_cubes3():
        layers = [cube.take(i, axis) for axis in range(3) for i in range(3)]
        sums = [side for layer in layers for side in (np.trace(layer), np.trace(layer[:, ::-1]))]
        assert sum(side == 42 for side in sums) == 6


def test_a_caller_cannot_spoil_the_list():
    magic_cubes3()[0] = 0
    assert magic_cubes3()[0].tolist() == FIRST


# The printed cube ----------------------------------------------------------------------------------------------------


def test_it_can_be_mended_in_two_ways_with_four_cells_and_in_none_with_fewer():
    member = plane_sums(unit_cubes(3)).reshape(27, 9)
    flat = PRINTED.ravel().tolist()
    ways = {}
    for size in (2, 3, 4):
        ways[size] = set()
        for cells in itertools.combinations(range(27), size):
            old = [flat[cell] for cell in cells]
            if 8 in old and 22 in old:
                new = [*old, 10, 20]
                new.remove(8)
                new.remove(22)
                for order in set(itertools.permutations(new)):
                    change = np.array(order) - old
                    if change.all() and not (change @ member[list(cells)]).any():
                        ways[size].add((cells, order))
    assert ways[2] == ways[3] == set()
    assert ways[4] == {((3, 4, 21, 22), (16, 20, 14, 10)), ((3, 4, 21, 22), (20, 16, 10, 14))}


def test_counts_of_order_2_and_of_squares():
    cubes = np.array(list(itertools.permutations(range(1, 9)))).reshape(-1, 2, 2, 2)
    assert (plane_sums(cubes) == 18).all((1, 2)).sum() == 144
    squares = np.array(list(itertools.permutations(range(1, 10)))).reshape(-1, 3, 3)
    semi = squares[(squares.sum(1) == 15).all(1) & (squares.sum(2) == 15).all(1)]
    magic = [square for square in semi if np.trace(square) == np.trace(square[:, ::-1]) == 15]
    assert (len(semi), len(magic)) == (72, 8)


def test_how_many_cubes_have_equal_horizontal_layers():
    ways = np.zeros((10, 10, 127, 127), np.int64)  # sizes and sums of the first two layers
    ways[0, 0, 0, 0] = 1
    for number in range(1, 28):
        without = ways.copy()
        ways[1:, :, number:] += without[:-1, :, :-number]
        ways[:, 1:, :, number:] += without[:, :-1, :, :-number]
    assert ways[9, 9, 126, 126] == 104972070
    assert math.factorial(27) == 10888869450418352160768000000
    assert math.factorial(27) // math.factorial(9) ** 3 == 227873431500
    assert 1 / (2 * math.pi * math.sqrt(378**2 - 189**2)) == pytest.approx(0.0004861806837934674, rel=1e-15)


# Symmetries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "dim"), [(2, 2), (3, 2), (2, 3), (3, 3), (4, 3), (2, 4)])
def test_symmetries_are_a_group_of_the_right_size(n, dim):
    group = symmetries(n, dim)
    assert group[0].tolist() == list(range(n**dim))
    elements = set(map(tuple, group.tolist()))
    assert len(elements) == len(group) == 2**dim * math.factorial(dim)
    generators = group[:: max(1, len(group) // 5)]
    assert all(tuple(p[q]) in elements for p in generators for q in group)


def test_symmetries_keep_the_distances_of_cells():
    cells = np.stack(np.unravel_index(np.arange(27), (3, 3, 3)), 1)
    distance = ((cells[:, None] - cells) ** 2).sum(2)
    assert all((distance[np.ix_(p, p)] == distance).all() for p in symmetries())


# LaTeX ---------------------------------------------------------------------------------------------------------------


def numbers_in(latex):
    """{(row, column): (number, red)} of an array."""
    rows = latex.split("\n")[1:-1]
    found = {}
    for row, line in enumerate(rows):
        for column, cell in enumerate(line.removesuffix(" \\\\").split("&")):
            if match := re.fullmatch(r"\\color\{red\}\{(\d+)\}|(\d+)", cell.strip()):
                found[row, column] = (int(match[1] or match[2]), bool(match[1]))
    return found


def test_the_array_places_and_colours_the_numbers_as_the_article_does():
    placed = {
        (2 * y + 5 * z, 4 + 5 * x - 2 * y): (int(PRINTED[z, y, x]), x <= 1 and y <= 1 and z >= 1)
        for z, y, x in itertools.product(range(3), repeat=3)
    }
    assert numbers_in(cube_to_array(PRINTED)) == placed
    assert sorted(number for number, red in placed.values() if red) == sorted([13, 27, 8, 12, 9, 26, 16, 8])
    assert placed[0, 4] == (4, False) and placed[14, 10] == (19, False) and placed[5, 4] == (13, True)


def test_strokes_of_a_small_cube():
    assert cube_to_array([[[1, 8], [7, 2]], [[6, 3], [4, 5]]], step=(4, -2, 3)) == "\n".join(
        [
            r"\begin{array}{ccccccc}",
            r" &  & 1 & - & - & - & 8 \\",
            r" & \diagup & \color{red}{\vdots} &  &  & \diagup & | \\",
            r"7 & - & - & - & 2 &  & | \\",
            r"| &  & \color{red}{6} & \color{red}{\cdots} & | & \color{red}{\cdots} & 3 \\",
            r"| & \color{red}{\cdot} &  &  & | & \diagup &  \\",
            r"4 & - & - & - & 5 &  & ",
            r"\end{array}",
        ]
    )


@pytest.mark.parametrize(
    ("step", "places"), [((1, -1, 1), 19), ((2, -1, 2), 23), ((1, -2, 1), 25), ((3, -1, 3), 27), ((5, -2, 5), 27)]
)
def test_cells_that_would_collide_are_refused(step, places):
    a, b, c = step
    assert len({(a * x + b * y, -b * y + c * z) for z, y, x in itertools.product(range(3), repeat=3)}) == places
    if places == 27:
        assert len(numbers_in(cube_to_array(PRINTED, step))) == 27
    else:
        with pytest.raises(ValueError, match="step must keep cells apart"):
            cube_to_array(PRINTED, step)


def test_the_article_s_steps_are_good_up_to_order_5():
    for n in range(1, 6):
        assert len(numbers_in(cube_to_array(np.arange(1, n**3 + 1).reshape(n, n, n)))) == n**3
    with pytest.raises(ValueError, match=r"\(0, 0, 2\) and \(2, 5, 0\)"):
        cube_to_array(np.arange(216).reshape(6, 6, 6))


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: plane_sums(np.ones((3, 3, 3))), TypeError, "A must be integers"),
        (lambda: line_sums(torch.ones(3, 3, 3)), TypeError, "A must be integers"),
        (lambda: line_sums(np.ones((3, 3, 2), int)), ValueError, r"A must have shape \(..., n, n, n\), got \(3, 3, 2\)"),
        (lambda: plane_sums(np.ones((3, 3), int)), ValueError, "A must have shape"),
        (lambda: plane_sums(np.full((2, 2, 2), 2**41)), ValueError, r"A must be numbers up to 2\*\*40"),
        (lambda: line_sums(-torch.full((2, 2, 2), 2**41)), ValueError, r"A must be numbers up to 2\*\*40"),
        (lambda: cube_to_array(np.ones((2, 3, 3, 3), int)), ValueError, r"A must have shape \(n, n, n\)"),
        (lambda: cube_to_array(PRINTED, (5, 2, 5)), ValueError, "step must be positive, negative, positive"),
        (lambda: cube_to_array(PRINTED, (0, -1, 1)), ValueError, "step must be positive, negative, positive"),
        (lambda: cube_to_array(PRINTED, (5, -2)), TypeError, "step must be three integers"),
        (lambda: cube_to_array(PRINTED, (5, -2.0, 5)), TypeError, "step must be an integer"),
        (lambda: cube_to_array(PRINTED, (1000, -2, 1000)), ValueError, "step must be smaller"),
        (lambda: symmetries(0), ValueError, "n must be at least 1"),
        (lambda: symmetries(3, 7), ValueError, "dim must be at most 6"),
        (lambda: symmetries(100, 3), ValueError, "n must be smaller"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call, error, said):
    with pytest.raises(error, match=said):
        call()
