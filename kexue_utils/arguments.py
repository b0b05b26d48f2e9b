"""Checks of arguments that the subject modules share: numbers in, or an error that names the argument."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

# A NumPy array, anything that becomes one, or a torch tensor. The two libraries share names but no type, so that what is
# computed from it counts as Any.
Array: TypeAlias = "ArrayLike | Tensor | Any"


def is_tensor(x: Any) -> TypeGuard[Tensor]:
    """Whether `x` is a torch tensor; does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def reals(*, finite: bool, **arguments: Any) -> tuple[NDArray[np.float64], ...]:
    """The arguments as float64 arrays, after a check that they are real numbers without NaN whose shapes broadcast.

    Parameters
    ----------
    finite : whether infinities are refused as well.
    arguments : numbers or array_like, by the names that errors call them.

    Returns
    -------
    One array for each argument, in order, each of its own shape.

    Raises
    ------
    TypeError : a torch tensor, or anything that is not real numbers.
    ValueError : NaN (or an infinity), or shapes that do not broadcast.

    Examples
    --------
    >>> reals(finite=True, a=2, b=[1, 3])
    (array(2.), array([1., 3.]))
    """
    arrays = {}
    for name, value in arguments.items():
        if is_tensor(value):
            raise TypeError(f"{name} must be a number or NumPy array, got a torch tensor: pass {name}.numpy()")
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
        array = array.astype(np.float64)
        require(name, array, ~np.isnan(array), "numbers, not NaN")
        if finite:
            require(name, array, np.isfinite(array), "finite numbers")
        arrays[name] = array
    try:
        np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"shapes must broadcast, got {shapes}") from None
    return tuple(arrays.values())


def floating(name: str, x: Any) -> tuple[Any, ModuleType]:
    """A floating-point array or tensor with the values of `x`, and its library, NumPy or torch.

    Raises
    ------
    TypeError : anything that is not real numbers.
    """
    if is_tensor(x):
        torch = sys.modules["torch"]
        if x.is_complex() or x.dtype == torch.bool:
            raise TypeError(f"{name} must be real numbers, got dtype {x.dtype}")
        return (x if x.is_floating_point() else x.to(torch.get_default_dtype())), torch
    x = np.asarray(x)
    if x.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be real numbers, got dtype {x.dtype}")
    return (x if x.dtype.kind == "f" else x.astype(np.float64)), np


def integer(name: str, value: Any, least: int | None = None) -> int:
    """`value` as a Python int, after a check that it is an integer (True and 3.0 are none), `least` or more.

    Raises
    ------
    TypeError : anything but an int or a NumPy integer.
    ValueError : below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def points(name: str, X: Any) -> Any:
    """`X` as a floating-point array or tensor of shape (..., N, n): clouds of N >= 1 points, finite.

    Raises
    ------
    TypeError : anything that is not real numbers.
    ValueError : fewer than two dimensions, no point or no coordinate, NaN or an infinity.
    """
    X, xp = floating(name, X)
    if X.ndim < 2 or 0 in X.shape[-2:]:
        raise ValueError(f"{name} must have shape (..., N, n), got {tuple(X.shape)}")
    if not bool(xp.isfinite(X).all()):
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return X


def require(name: str, array: NDArray[np.float64], valid: NDArray[np.bool_], expected: str) -> None:
    """Raise ValueError with the first entry of `array` that is not `valid`."""
    if not valid.all():
        raise ValueError(f"{name} must be {expected}, got {array[~valid].reshape(-1)[0]}")
