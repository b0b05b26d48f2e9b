"""Facts about the checks of arguments that the subject modules share."""

import numpy as np
import pytest
import torch

from kexue_utils.arguments import floating, in_format_of, integer, integers, is_tensor, one_of, points, reals


def test_numbers_and_lists_become_arrays_of_their_own_shape():
    a, b = reals(finite=True, a=2, b=[[1, 3]])
    assert a.shape == () and b.shape == (1, 2) and a.dtype == b.dtype == np.float64


def test_infinity_passes_only_where_it_may():
    assert reals(finite=False, t=[np.inf, -np.inf])[0].tolist() == [np.inf, -np.inf]
    with pytest.raises(ValueError, match="t must be finite numbers, got -inf"):
        reals(finite=True, t=[0.0, -np.inf])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([1, np.nan], ValueError, "n must be numbers, not NaN, got nan"),
        ([1 + 2j], TypeError, "n must be real numbers, got dtype complex128"),
        (["3"], TypeError, "n must be real numbers, got dtype <U1"),
        ([True], TypeError, "n must be real numbers, got dtype bool"),
        (torch.ones(2), TypeError, "n must be a number or NumPy array, got a torch tensor"),
    ],
)
def test_what_is_no_real_number_is_refused_by_name(value, error, message):
    with pytest.raises(error, match=message):
        reals(finite=False, n=value)


def test_shapes_that_do_not_broadcast_are_named():
    with pytest.raises(ValueError, match=r"shapes must broadcast, got a \(2,\), b \(3,\)"):
        reals(finite=True, a=[1, 2], b=[1, 2, 3])


def test_arguments_are_not_changed():
    given = np.array([1.0, 2.0])
    (checked,) = reals(finite=True, x=given)
    checked[0] = 7
    assert given[0] == 1


def test_is_tensor():
    assert is_tensor(torch.ones(1)) and not is_tensor(np.ones(1))


def test_floating_keeps_the_library_and_the_precision():
    for given, library, dtype in (
        (np.float32([1, 2]), np, np.float32),
        ([1, 2], np, np.float64),
        (torch.ones(2, dtype=torch.float16), torch, torch.float16),
        (torch.ones(2, dtype=torch.int32), torch, torch.get_default_dtype()),
    ):
        x, xp = floating("x", given)
        assert xp is library and x.dtype == dtype


@pytest.mark.parametrize("value", [[1j], [True], torch.ones(1, dtype=torch.bool), torch.ones(1, dtype=torch.complex64)])
def test_floating_refuses_what_is_no_real_number_by_name(value):
    with pytest.raises(TypeError, match="x must be real numbers"):
        floating("x", value)


def test_points_are_finite_clouds_in_their_own_library():
    assert points("X", [[1, 2]]).dtype == np.float64
    assert points("X", torch.ones(5, 3, 2)).shape == (5, 3, 2)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.ones(3), ValueError, r"X must have shape \(..., N, n\), got \(3,\)"),
        (np.ones((0, 2)), ValueError, r"X must have shape \(..., N, n\), got \(0, 2\)"),
        (torch.tensor([[1.0, torch.inf]]), ValueError, "X must be finite numbers, got inf"),
        ([["a", "b"]], TypeError, "X must be real numbers"),
    ],
)
def test_what_is_no_cloud_is_refused_by_name(value, error, message):
    with pytest.raises(error, match=message):
        points("X", value)


def test_integer_takes_whole_numbers_of_python_and_numpy():
    assert integer("k", 3) == integer("k", np.int64(3), least=3) == 3
    assert type(integer("k", np.int8(3))) is int


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (3.0, TypeError, "k must be an integer, got 3.0"),
        (True, TypeError, "k must be an integer, got True"),
        (0, ValueError, "k must be at least 1, got 0"),
    ],
)
def test_what_is_no_such_integer_is_refused_by_name(value, error, message):
    with pytest.raises(error, match=message):
        integer("k", value, least=1)


@pytest.mark.parametrize("value", ["average", "", None, ("mean",), np.array(["mean", "sum"])])
def test_what_is_no_word_of_the_options_is_refused_with_all_of_them(value):
    with pytest.raises(ValueError, match="reduction must be one of mean, sum, got "):
        one_of("reduction", value, ("mean", "sum"))


@pytest.mark.parametrize("x", [1 / 3, [1 / 3], np.array([1 / 3])])
def test_numbers_take_the_format_of_an_array_or_tensor_rounded_once(x):
    for like in (np.ones(2, np.float32), np.ones(2), torch.ones(2), torch.ones(2, dtype=torch.float64)):
        converted = in_format_of(like, x)
        assert (type(converted), converted.dtype) == (type(like), like.dtype)
        assert converted.reshape(-1)[0].item() == (1 / 3 if "64" in str(like.dtype) else float(np.float32(1 / 3)))


def test_a_tensor_in_another_format_keeps_its_gradient():
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    in_format_of(torch.ones(1), x).sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_integers_stay_what_they_are_and_numbers_in_rows_become_an_array():
    tensor, array = torch.tensor([1, 2], dtype=torch.uint8), np.array([3], np.int8)
    assert integers("A", tensor) is tensor and integers("A", array) is array
    assert integers("A", [[1, 2]]).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "value", [1.0, [True], torch.ones(1), torch.ones(1, dtype=torch.bool), torch.ones(1, dtype=torch.complex64), "1"]
)
def test_what_is_no_array_of_integers_is_refused_by_name(value):
    with pytest.raises(TypeError, match=r"A must be .*, got dtype"):
        integers("A", value)
