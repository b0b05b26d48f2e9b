"""Facts about integers as tensors. Python's own integers and mpmath are the judges."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from kexue_utils import bigint
from kexue_utils.bigint import FFTInt, balanced, chudnovsky_digits, chudnovsky_pi, convolve, standard

integers = st.one_of(st.integers(-(10**60), 10**60), st.integers(0, 60).map(lambda k: 10**k - 1))
widths = st.integers(1, 6)


def pi_digits(D):
    with mpmath.workdps(D + 30):
        return str(int(mpmath.floor(mpmath.pi * mpmath.mpf(10) ** (D - 1))))


@given(integers, integers, widths)
@settings(deadline=None)
def test_arithmetic_is_that_of_the_integers(a, b, width):
    x, y = FFTInt.from_int(a, width), FFTInt.from_int(b, width)
    assert int(x) == a
    assert (int(x + y), int(x - y), int(x * y), int(-x)) == (a + b, a - b, a * b, -a)
    assert str(x) == str(a)
    assert str(x * y) == str(a * b)


@given(integers, integers, widths)
@settings(deadline=None)
def test_limbs_stay_balanced_and_without_leading_zeros(a, b, width):
    for x in (FFTInt.from_int(a, width), FFTInt.from_int(a, width) * FFTInt.from_int(b, width)):
        assert x.limbs.abs().max() <= 10**width // 2 + 1
        assert len(x) == 1 or x.limbs[-1] != 0


def test_a_carry_stops_at_once_in_balanced_limbs():
    halves = FFTInt(torch.full((100_000,), 5000), width=4)
    one_more = halves + FFTInt.from_int(1, 4)
    assert one_more.limbs.tolist() == [5001] + [5000] * 99_999
    assert str(one_more) == "5000" * 99_999 + "5001"


def test_a_borrow_runs_through_all_digits_when_they_are_written_down():
    assert str(FFTInt.from_int(1, 4).shift(50_000) - FFTInt.from_int(1, 4)) == "9" * 200_000


def test_large_products_agree_with_python():
    rng = np.random.default_rng(0)
    a, b = (int("".join(map(str, rng.integers(0, 10, 4000)))) for _ in range(2))
    for width in (1, 3, 5, 6):
        assert int(FFTInt.from_int(a, width) * FFTInt.from_int(-b, width)) == -a * b


def test_multiplication_by_a_python_integer():
    assert int(FFTInt.from_int(7) * 12345678901) == 7 * 12345678901


def test_convolution_agrees_with_scipy_and_with_numpy():
    rng = np.random.default_rng(1)
    a, b = rng.integers(-50, 50, 300), rng.integers(-50, 50, 170)
    coefficients, residual = convolve(torch.tensor(a), torch.tensor(b))
    assert coefficients.tolist() == np.convolve(a, b).tolist()
    assert coefficients.numpy() == pytest.approx(fftconvolve(a, b), abs=1e-8)
    assert 0 <= residual < 1e-10


def test_single_precision_is_wrong_and_its_residual_does_not_say_so():
    a, b = torch.randint(10**4, (2, 1024), generator=torch.Generator().manual_seed(0))
    right, small = convolve(a, b)
    found, residual = convolve(a, b, dtype=torch.float32)
    assert small < 1e-4
    assert residual == 0  # beyond 2**24 all of its numbers are whole
    assert (found != right).double().mean() > 0.5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("L", [2**10, 2**13, 2**16])
def test_residual_of_balanced_digits_grows_like_a_root(L, seed):
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randint(10**4, (2, L), generator=generator)
    off = {shift: convolve(*(plain - shift))[1] for shift in (0, 5000)}
    u = 2.0**-53
    assert 2 < off[0] / (u * 10**8 * L / 4) < 10  # the largest of many errors is a few times their size
    assert 2 < off[5000] / (u * 10**8 / 12 * math.sqrt(L / 2 * math.log2(2 * L))) < 12


def test_a_residual_of_a_quarter_is_an_error():
    plain = FFTInt(torch.randint(10**6, (2**12,), generator=torch.Generator().manual_seed(0)), width=6)
    with pytest.raises(ArithmeticError, match="fewer digits"):
        plain * plain


def test_coefficients_beyond_double_precision_are_an_error_although_their_residual_is_small():
    plain = FFTInt(torch.full((2**15,), 10**7 - 1), width=7)
    assert convolve(plain.limbs, plain.limbs)[1] < 0.25
    with pytest.raises(ArithmeticError, match="do not add up"):
        plain * plain


def test_a_wrong_rounding_is_noticed(monkeypatch):
    def wrong(a, b):
        coefficients, residual = convolve(a, b)
        coefficients[2] += 1
        return coefficients, residual

    a = FFTInt.from_int(3**200)
    monkeypatch.setattr(bigint, "convolve", wrong)
    with pytest.raises(ArithmeticError, match="do not add up"):
        a * a


def test_residual_is_handed_on():
    a = FFTInt.from_int(3**2000)
    product = a * a
    assert product.residual > 0
    assert (product + FFTInt.from_int(1)).residual == product.residual == product.shift(3).residual


@pytest.mark.parametrize("D", [1, 2, 5, 57, 1000])
def test_digits_of_pi(D):
    assert chudnovsky_digits(D) == pi_digits(D)


@pytest.mark.parametrize("width", [1, 2, 4, 6])
def test_digits_of_pi_in_any_base(width):
    assert str(chudnovsky_pi(500, width))[:500] == pi_digits(500)


def test_a_hundred_thousand_digits():
    found = chudnovsky_pi(100_000)
    assert str(found)[99_990:100_000] == "5549362464"
    assert found.residual < 0.01


@pytest.mark.gpu
def test_the_gpu_finds_the_same_digits():
    on_gpu = chudnovsky_pi(100_000, device="cuda")
    assert on_gpu.limbs.is_cuda
    assert str(on_gpu)[:100_000] == chudnovsky_digits(100_000)
    assert chudnovsky_digits(1_000_000, "cuda")[-10:] == "0577945815"


def test_standard_limbs_follow_a_borrow_to_its_end():
    assert standard(torch.tensor([-1, 0, 0, 0, 1]), 1).tolist() == [9, 9, 9, 9]
    assert standard(torch.tensor([0, -1, 0, 2]), 1).tolist() == [0, 9, 9, 1]
    assert standard(torch.tensor([0, 0]), 1).tolist() == [0]


def test_balanced_limbs_of_large_coefficients():
    limbs = balanced(torch.tensor([10**17, -(10**17)]), 2)
    assert sum(x * 100**i for i, x in enumerate(limbs.tolist())) == 10**17 - 10**19


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: chudnovsky_digits(0), ValueError, "D must be"),
        (lambda: chudnovsky_digits(True), TypeError, "D must be"),
        (lambda: chudnovsky_pi(10, width=10), ValueError, "width must be"),
        (lambda: FFTInt.from_int(1.5), TypeError, "value must be an int"),
        (lambda: FFTInt.from_int(1, 3) + FFTInt.from_int(1, 4), ValueError, "one width"),
        (lambda: convolve(torch.ones(3), torch.ones(3)), TypeError, "a must be an int64 tensor"),
        (lambda: convolve(torch.tensor([1]), torch.tensor([[1]])), ValueError, "b must have shape"),
        (lambda: standard(torch.tensor([-1])), ValueError, "not negative"),
        (lambda: standard(torch.tensor([10**5])), ValueError, "must lie between"),
        (lambda: balanced([1, 2]), TypeError, "coefficients must be an int64 tensor"),
    ],
)
def test_errors_name_the_argument(call, error, match):
    with pytest.raises(error, match=match):
        call()
