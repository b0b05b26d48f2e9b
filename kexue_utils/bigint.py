"""Integers of a million digits as tensors, multiplied by the fast Fourier transform.

A number is a tensor of *limbs* in base ``B = 10**width``, least significant first. Limbs are *balanced*: each lies between
``-B/2 - 1`` and ``B/2 + 1``. That makes the rounding error of a product grow like the square root of its length instead of its
length, gives negative numbers for free, and lets a carry stop after a few steps, because a limb has room for one more. Only the
last step, writing the digits down, has to follow a carry to its end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .arguments import integer, place, shown
from .extras import needed_by

with needed_by(__name__):
    import torch
    from scipy import fft

__all__ = ["FFTInt", "balanced", "chudnovsky_digits", "chudnovsky_pi", "convolve", "standard"]

WIDTH = 5  # decimal digits in a limb
MOST_DIGITS = 10**8  # more would not fit a machine's memory
LARGEST_RESIDUAL = 0.25  # a coefficient further than this from an integer may have been rounded to the wrong one

Device: TypeAlias = "torch.device | str | None"


def convolve(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, float]:
    """Coefficients of the product of two polynomials with integer coefficients, by FFT, and the rounding residual.

    Parameters
    ----------
    a, b : int64 tensors, shapes (m,) and (n,), on one device.
    dtype : precision of the transform, float64 or float32.

    Returns
    -------
    coefficients : int64 tensor, shape (m + n - 1,), the transform's output rounded to integers.
    residual : the largest distance of an output from the integer that it was rounded to, between 0 and 1/2.

    Raises
    ------
    TypeError : limbs that are not int64 tensors.
    ValueError : empty tensors, or more than one dimension.

    Examples
    --------
    >>> convolve(torch.tensor([3, 2, 1]), torch.tensor([1, 10]))[0].tolist()
    [3, 32, 21, 10]
    """
    for name, limbs in (("a", a), ("b", b)):
        _check_limbs(name, limbs)
    length = len(a) + len(b) - 1
    size = fft.next_fast_len(length, real=True)
    product = torch.fft.rfft(a.to(dtype), size) * torch.fft.rfft(b.to(dtype), size)
    values = torch.fft.irfft(product, size)[:length]
    rounded = values.round()
    return rounded.long(), (values - rounded).abs().max().item()


def balanced(coefficients: torch.Tensor, width: int = WIDTH) -> torch.Tensor:
    """Limbs between ``-B/2 - 1`` and ``B/2 + 1`` of the number whose coefficients in base ``B = 10**width`` are given.

    Parameters
    ----------
    coefficients : int64 tensor, shape (L,), least significant first, between -2**62 and 2**62.
    width : decimal digits in a limb, 1 to 9.

    Returns
    -------
    int64 tensor without leading zeros, at least one limb long.

    Raises
    ------
    TypeError : coefficients that are not an int64 tensor, or a width that is not an integer.
    ValueError : an empty tensor, more than one dimension, a larger coefficient, or another width.

    Examples
    --------
    >>> balanced(torch.tensor([1234567]), width=2).tolist()
    [-33, 46, 23, 1]
    """
    width = _check_width(width)
    _check_limbs("coefficients", coefficients)
    if not bool(((coefficients >= -(2**62)) & (coefficients <= 2**62)).all()):
        raise ValueError("coefficients must lie between -2**62 and 2**62, got one that leaves no room for a carry")
    base, limbs = 10**width, coefficients
    while limbs.abs().max() > base // 2 + 1:
        carry = torch.div(limbs + base // 2, base, rounding_mode="floor")
        limbs = torch.nn.functional.pad(limbs - base * carry, (0, 1))
        limbs[1:] += carry
    return _trimmed(limbs)


def standard(limbs: torch.Tensor, width: int = WIDTH) -> torch.Tensor:
    """Limbs between 0 and ``B - 1`` of a number that is not negative: every borrow is followed to its end, all at once.

    A limb below 0 borrows from the next one, whatever comes in; a limb 0 passes a borrow on; a larger limb stops it. So
    whether a borrow arrives is decided by the last limb below that is not 0, and a running maximum finds it.

    Parameters
    ----------
    limbs : int64 tensor, shape (L,), balanced (see `balanced`).

    Raises
    ------
    ValueError : a negative number, or a limb outside of ``-B < limb < B``.

    Examples
    --------
    >>> standard(torch.tensor([-1, 0, 0, 1]), width=2).tolist()
    [99, 99, 99]
    """
    width = _check_width(width)
    _check_limbs("limbs", limbs)
    limbs = _trimmed(limbs)
    outside = (limbs <= -(10**width)) | (limbs >= 10**width)
    if bool(outside.any()):
        raise ValueError(f"limbs must lie between -10**{width} and 10**{width}, got {limbs[outside][0].item()}")
    if limbs[-1] < 0:
        raise ValueError("limbs must be those of a number that is not negative; write the sign separately")
    place = torch.arange(1, len(limbs) + 1, device=limbs.device)
    decided_at = torch.where(limbs != 0, place, 0).cummax(0).values  # 0: nothing but zeros so far
    lowest = torch.cat([limbs.new_zeros(1), limbs])
    borrows = (lowest[decided_at] < 0).long()
    arrives = torch.nn.functional.pad(borrows[:-1], (1, 0))
    return _trimmed(limbs - arrives + 10**width * borrows)


@dataclass(frozen=True, eq=False)
class FFTInt:
    """An integer as a tensor of balanced limbs; products by FFT, checked.

    Parameters
    ----------
    limbs : int64 tensor, shape (L,), least significant first.
    width : decimal digits in a limb; operands must agree.
    residual : the largest rounding residual of all products that led to this number.

    Raises
    ------
    ArithmeticError : a product whose residual is 1/4 or more, or whose coefficients fail two checks by sums: the coefficients of
        a product add up to the product of the sums, with alternating signs as well. (The residual alone says nothing about
        coefficients beyond 2**53: there every double is a whole number.)
    ValueError : limbs beyond 2**62, operands of different width, or on different devices.
    TypeError : limbs that are not an int64 tensor, or an operand that is no such number (a product with an int has a meaning).

    Examples
    --------
    >>> a, b = FFTInt.from_int(2**200), FFTInt.from_int(-(3**100))
    >>> int(a * b) == -(2**200 * 3**100), int(a - b) == 2**200 + 3**100
    (True, True)
    >>> (a * b).residual < 1e-5
    True
    """

    limbs: torch.Tensor
    width: int = WIDTH
    residual: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", _check_width(self.width))
        _check_limbs("limbs", self.limbs)

    @classmethod
    def from_int(cls, value: int, width: int = WIDTH, device: Device = None) -> FFTInt:
        """A Python integer as limbs. Takes quadratic time: for numbers of some thousand digits."""
        value = integer("value", value)
        width = _check_width(width)
        base, digits, rest = 10**width, [], abs(value)
        while rest:
            rest, digit = divmod(rest, base)
            digits.append(digit if value > 0 else -digit)
        return cls(balanced(torch.tensor(digits or [0], device=_device(device)), width), width)

    def __int__(self) -> int:
        value = 0
        for limb in reversed(self.limbs.tolist()):
            value = value * 10**self.width + limb
        return value

    def __len__(self) -> int:
        return len(self.limbs)

    def __neg__(self) -> FFTInt:
        return FFTInt(-self.limbs, self.width, self.residual)

    def __add__(self, other: FFTInt) -> FFTInt:
        if not isinstance(other, FFTInt):
            return NotImplemented
        self._check_same(other)
        size = max(len(self), len(other))
        a, b = (torch.nn.functional.pad(x.limbs, (0, size - len(x))) for x in (self, other))
        return FFTInt(balanced(a + b, self.width), self.width, max(self.residual, other.residual))

    def __sub__(self, other: FFTInt) -> FFTInt:
        return self + (-other) if isinstance(other, FFTInt) else NotImplemented

    def __mul__(self, other: FFTInt | int) -> FFTInt:
        if isinstance(other, int):
            other = FFTInt.from_int(other, self.width, self.limbs.device)
        if not isinstance(other, FFTInt):
            return NotImplemented
        self._check_same(other)
        coefficients, residual = convolve(self.limbs, other.limbs)
        if not residual < LARGEST_RESIDUAL:
            raise ArithmeticError(
                f"rounding residual {residual:.2g} in a product of {len(self)} and {len(other)} limbs of {self.width} digits; "
                f"below {LARGEST_RESIDUAL} expected: use fewer digits in a limb"
            )
        for signs in (False, True):
            sums = [_sum(x, signs) for x in (self.limbs, other.limbs, coefficients)]
            if (sums[0] * sums[1] - sums[2]) % 2**64:
                raise ArithmeticError(
                    f"the coefficients of a product of {len(self)} and {len(other)} limbs do not add up: rounding went wrong"
                )
        return FFTInt(balanced(coefficients, self.width), self.width, max(residual, self.residual, other.residual))

    def shift(self, count: int) -> FFTInt:
        """Times ``B**count``; for a negative count the lowest limbs are dropped, an error below one unit of the new last limb.

        Raises
        ------
        TypeError, ValueError : count that is not an integer, or above 10**8.
        """
        count = integer("count", count, most=MOST_DIGITS)
        if count >= 0:
            limbs = torch.nn.functional.pad(self.limbs, (count, 0))
        else:
            limbs = self.limbs[-count:] if -count < len(self) else self.limbs.new_zeros(1)
        return FFTInt(_trimmed(limbs), self.width, self.residual)

    def __str__(self) -> str:
        """All decimal digits."""
        sign = "-" if self.limbs[-1] < 0 else ""
        limbs = standard(-self.limbs if sign else self.limbs, self.width).cpu().numpy()[::-1]
        digits = (limbs[:, None] // 10 ** np.arange(self.width)[::-1] % 10 + ord("0")).astype(np.uint8)
        return sign + (digits.tobytes().decode().lstrip("0") or "0")

    def _check_same(self, other: FFTInt) -> None:
        if self.width != other.width:
            raise ValueError(f"operands must have limbs of one width, got {self.width} and {other.width} digits")
        if self.limbs.device != other.limbs.device:
            raise ValueError(f"operands must be on one device, got {self.limbs.device} and {other.limbs.device}")


def chudnovsky_digits(D: int, device: Device = None) -> str:
    r"""The first D digits of π, the 3 included and without a point.

    .. math:: \frac1\pi = \frac{12}{640320^{3/2}} \sum_{k\ge0} \frac{(6k)!\,(545140134k + 13591409)}{(3k)!\,k!^3\,(-640320^3)^k}

    Parameters
    ----------
    D : number of digits, 1 to 10**8. Memory is about 150 bytes a digit.
    device : where the tensors live; the CPU by default. It needs float64.

    Raises
    ------
    TypeError, ValueError : D that is not an integer, or out of range; device that is none.
    ArithmeticError : rounding errors in a product (see `FFTInt`), from some 10**8 digits on.

    References
    ----------
    D. V. and G. V. Chudnovsky, Approximations and complex multiplication according to Ramanujan, 1988.
    R. P. Brent and P. Zimmermann, Modern Computer Arithmetic, 2010, section 4.9 (binary splitting).

    Examples
    --------
    >>> chudnovsky_digits(20)
    '31415926535897932384'
    """
    return str(chudnovsky_pi(D, device=device))[:D]


def chudnovsky_pi(D: int, width: int = WIDTH, device: Device = None) -> FFTInt:
    """π times a power of ``10**width``, good to D digits and a few more; `chudnovsky_digits` with the residual and the limbs.

    Parameters
    ----------
    D : number of digits, 1 to 10**8.
    width : decimal digits in a limb.
    device : where the tensors live; the CPU by default.

    Examples
    --------
    >>> pi = chudnovsky_pi(1000)
    >>> str(pi)[991:1001], pi.residual < 1e-4
    ('2164201989', True)
    """
    D = integer("D", D, least=1, most=MOST_DIGITS)
    width = _check_width(width)
    device = _device(device)
    n = -(-D // width) + 12  # limbs: the last few are wrong, and what they carry must not reach the digits
    terms = int(n * width / 14.18) + 2
    _, Q, T = _split(0, terms, width, device)
    Q, T = (x.shift(min(0, n - len(x))) for x in (Q, T))
    # pi = 426880 * 10005 * Q / sqrt(10005 * T**2): one inverse square root instead of a root and a quotient
    pi = Q * (426880 * 10005) * _inverse_root(T * T * 10005, n)
    return pi.shift(min(0, n - len(pi)))


def _split(first: int, last: int, width: int, device: Device) -> tuple[FFTInt, FFTInt, FFTInt]:
    """P, Q, T of the terms first, ..., last - 1 of the series: their sum is T/Q times what stands before them."""
    if last - first <= _LEAF:
        return tuple(FFTInt.from_int(x, width, device) for x in _leaf(first, last))  # type: ignore[return-value]
    middle = (first + last) // 2
    (P1, Q1, T1), (P2, Q2, T2) = _split(first, middle, width, device), _split(middle, last, width, device)
    return P1 * P2, Q1 * Q2, Q2 * T1 + P1 * T2


_LEAF = 100  # terms that Python's integers add up: longer, and turning them into limbs takes over; shorter, and small tensors do


def _leaf(first: int, last: int) -> tuple[int, int, int]:
    P, Q, T = 1, 1, 0
    for k in range(first, last):
        p = (6 * k - 5) * (2 * k - 1) * (6 * k - 1) if k else 1
        q = k**3 * (640320**3 // 24) if k else 1
        P, Q = -P * p if k else P, Q * q
        T = T * q + P * (545140134 * k + 13591409)
    return P, Q, T


def _inverse_root(x: FFTInt, n: int) -> FFTInt:
    """``1/sqrt(x)`` times a power of B, good to about n limbs: Newton's iteration, twice the limbs each time."""
    base, width, device = 10**x.width, x.width, x.limbs.device
    half = -(-len(x) // 2)  # x / B**(2 half) lies between B**-2 / 2 and 1
    limbs, target = 16, n + 6
    root = FFTInt.from_int(math.isqrt(base ** (3 * limbs) // int(x.shift(limbs - 2 * half))), width, device)
    while limbs < target:
        more = min(2 * limbs - 6, target)
        root, limbs = root.shift(more - limbs), more
        one = FFTInt.from_int(1, width, device).shift(limbs)
        error = one - ((x.shift(limbs - 2 * half) * root).shift(-limbs) * root).shift(-limbs)
        root = root + (root * error * (base // 2)).shift(-limbs - 1)  # root (1 + error / 2)
    return root


def _sum(limbs: torch.Tensor, alternating: bool) -> int:
    """Sum of the limbs, or with alternating signs, modulo 2**64."""
    total = limbs.sum() - 2 * limbs[1::2].sum() * alternating
    return int(total)


def _trimmed(limbs: torch.Tensor) -> torch.Tensor:
    used = int(torch.nonzero(limbs)[-1]) + 1 if bool(limbs.any()) else 1
    return limbs[:used]


def _device(device: Device) -> torch.device | None:
    return None if device is None else place("device", device)


def _check_limbs(name: str, limbs: torch.Tensor) -> None:
    if not isinstance(limbs, torch.Tensor) or limbs.dtype != torch.int64:
        given = f"dtype {limbs.dtype}" if isinstance(limbs, torch.Tensor) else f"{type(limbs).__name__}"
        raise TypeError(f"{name} must be an int64 tensor, got {given}")
    if limbs.ndim != 1 or not len(limbs):
        raise ValueError(f"{name} must have shape (L,) with L >= 1, got {tuple(limbs.shape)}")


def _check_width(width: int) -> int:
    if not 1 <= integer("width", width) <= 9:
        raise ValueError(f"width must be 1 to 9 decimal digits, got {shown(width)}")
    return int(width)
