"""What the subject modules share: checks of arguments, numbers in or an error that names the argument, and what NumPy and torch spell differently."""

from __future__ import annotations

import sys
from functools import reduce
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


def namespace(x: Any) -> ModuleType:
    """The library of `x`: torch for a tensor, else NumPy."""
    return sys.modules["torch"] if is_tensor(x) else np


def array_of(name: str, value: Any) -> NDArray[Any]:
    """`value` as a NumPy array of real numbers, of its own number format; bool counts as none.

    Raises
    ------
    TypeError : a torch tensor, or anything that is not real numbers in rows of one length.
    """
    if is_tensor(value):
        raise TypeError(f"{name} must be a number or NumPy array, got a torch tensor: pass {name}.numpy()")
    try:
        array = np.asarray(value)
    except ValueError:
        raise TypeError(f"{name} must be real numbers in rows of one length, got {type(value).__name__}") from None
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


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
    ValueError : NaN (or an infinity), a number beyond float64, or shapes that do not broadcast.

    Examples
    --------
    >>> reals(finite=True, a=2, b=[1, 3])
    (array(2.), array([1., 3.]))
    """
    arrays = {}
    for name, value in arguments.items():
        array = array_of(name, value)
        with np.errstate(over="ignore", under="ignore"):
            double = array.astype(np.float64)
        require(name, double, ~np.isnan(double), "numbers, not NaN")
        if finite:
            require(name, double, np.isfinite(double), "finite numbers")
        require(name, double, np.isfinite(double) | np.isinf(array), "numbers that float64 can hold")
        arrays[name] = double
    broadcast(**{name: array.shape for name, array in arrays.items()})
    return tuple(arrays.values())


def number(
    name: str, value: Any, *, least: float | None = None, most: float | None = None, positive: bool = False
) -> float:
    """`value` as a Python float, after a check that it is one finite real number, from `least` to `most`, or positive.

    Raises
    ------
    TypeError : anything that is not real numbers, or a torch tensor.
    ValueError : several numbers, NaN, an infinity, or one beyond its bounds.

    Examples
    --------
    >>> number("lr", 0, positive=True)
    Traceback (most recent call last):
    ...
    ValueError: lr must be positive, got 0
    """
    (array,) = reals(finite=True, **{name: value})
    if array.ndim:
        raise ValueError(f"{name} must be one number, got shape {array.shape}")
    if least is not None and array < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    if positive and array <= 0:
        raise ValueError(f"{name} must be positive, got {value}")
    if most is not None and array > most:
        raise ValueError(f"{name} must be at most {most}, got {value}")
    return float(array)


def floating(name: str, x: Any, *, half: bool = True) -> tuple[Any, ModuleType]:
    """A floating-point array or tensor with the values of `x`, and its library, NumPy or torch.

    Parameters
    ----------
    name : what errors call it.
    x : array or tensor, a number, or numbers in rows of one length. Integers become the library's default float.
    half : whether formats other than single and double precision pass; the linear algebra of both libraries has none.

    Raises
    ------
    TypeError : anything that is not real numbers, or has a format that does not pass.
    """
    if is_tensor(x):
        torch = sys.modules["torch"]
        if x.is_complex() or x.dtype == torch.bool:
            raise TypeError(f"{name} must be real numbers, got dtype {x.dtype}")
        x, xp = (x if x.is_floating_point() else x.to(torch.get_default_dtype())), torch
    else:
        x = array_of(name, x)
        x, xp = (x if x.dtype.kind == "f" else x.astype(np.float64)), np
    if not half and x.dtype.itemsize not in (4, 8):
        raise TypeError(f"{name} must be real numbers in single or double precision, got dtype {x.dtype}")
    return x, xp


def alike(*, half: bool = True, **arguments: Any) -> tuple[Any, ...]:
    """The library of the arguments, NumPy or torch, then each as a floating-point array or tensor of it.

    Numbers and lists go with either library; NumPy arrays and tensors do not go together. Floating-point arguments keep their
    formats. Beside tensors, integers, numbers and lists take the widest of their formats, and the device of the first tensor.

    Raises
    ------
    TypeError : NumPy arrays and tensors together, or as `floating`.

    Examples
    --------
    >>> alike(x=[1, 2], y=np.float32([3]))[1:]
    (array([1., 2.]), array([3.], dtype=float32))
    """
    tensors: list[Any] = [x for x in arguments.values() if is_tensor(x)]
    if not tensors:
        return np, *(floating(name, x, half=half)[0] for name, x in arguments.items())
    if any(isinstance(x, np.ndarray) for x in arguments.values()):
        given = ", ".join(f"{name} {type(x).__name__}" for name, x in arguments.items())
        raise TypeError(f"arguments must be all NumPy or all torch, got {given}")
    torch = sys.modules["torch"]
    dtypes = [x.dtype for x in tensors if x.is_floating_point()] or [torch.get_default_dtype()]
    widest = reduce(torch.promote_types, dtypes)
    there = {"dtype": widest, "device": tensors[0].device}
    like = [x if is_tensor(x) else torch.as_tensor(array_of(name, x), **there) for name, x in arguments.items()]
    floats = [floating(name, x, half=half)[0] for name, x in zip(arguments, like, strict=True)]
    return torch, *(x if given.is_floating_point() else x.to(widest) for x, given in zip(floats, like, strict=True))


def as_numbers(x: Any) -> Any:
    """Booleans as 0 and 1; everything else as it is."""
    if is_tensor(x):
        return x.to(sys.modules["torch"].get_default_dtype()) if x.dtype == sys.modules["torch"].bool else x
    try:
        array = np.asarray(x)
    except ValueError:
        return x
    return array.astype(np.float64) if array.dtype == np.bool_ else x


def in_format_of(like: Any, x: Any) -> Any:
    """Numbers, or an array or tensor of the library of `like`, in its number format and on its device."""
    if is_tensor(like):
        return sys.modules["torch"].as_tensor(x, dtype=like.dtype, device=like.device)
    return np.asarray(x, dtype=like.dtype)


def one_hot(labels: Any, n: int) -> Any:
    """Booleans of shape (..., n): which of n classes each of the `labels`, integers of shape (...), names."""
    return labels[..., None] == in_format_of(labels, np.arange(n))


def log_sum_exp(x: Any, axis: int = -1) -> Any:
    """The logarithm of the sum of the exponentials of an array or tensor along an axis."""
    return sys.modules["torch"].logsumexp(x, axis) if is_tensor(x) else np.logaddexp.reduce(x, axis=axis)


def finite(name: str, x: Any) -> Any:
    """`x`, an array or tensor, after a check that it has no NaN and no infinity.

    Raises
    ------
    ValueError : the first entry that is not finite.
    """
    require(name, x, namespace(x).isfinite(x), "finite numbers")
    return x


def integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """`value` as a Python int, after a check that it is an integer (True and 3.0 are none), from `least` to `most`.

    Raises
    ------
    TypeError : anything but an int or a NumPy integer.
    ValueError : below `least`, or above `most`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {shown(value)}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}, got {shown(value)}")
    return int(value)


def integers(name: str, value: Any) -> Any:
    """`value` as an array of integers, or a tensor of them as it is; bool counts as none.

    Raises
    ------
    TypeError : anything else.
    """
    if is_tensor(value):
        other = value.is_floating_point() or value.is_complex() or value.dtype == sys.modules["torch"].bool
    else:
        value = array_of(name, value)
        other = value.dtype.kind == "f"
    if other:
        raise TypeError(f"{name} must be integers, got dtype {value.dtype}")
    return value


def checked_seed(seed: Any) -> int:
    """`seed` as a Python int, after a check that it is 0 <= seed < 2**32, so that NumPy takes it as well as torch.

    Raises
    ------
    TypeError : no integer.
    ValueError : out of range.
    """
    seed = integer("seed", seed)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in 0 <= seed < 2**32, got {seed}")
    return seed


def boolean(name: str, value: Any) -> bool:
    """`value`, after a check that it is True or False.

    Raises
    ------
    TypeError : anything else, 0 and 1 too.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def one_library(**arguments: Any) -> None:
    """Refuse NumPy arrays beside tensors; numbers and lists go with either.

    Raises
    ------
    TypeError : names all arguments and their types.
    """
    values = arguments.values()
    if any(map(is_tensor, values)) and any(isinstance(x, np.ndarray) for x in values):
        given = " and ".join(type(x).__name__ for x in values)
        raise TypeError(f"{' and '.join(arguments)} must be all NumPy or all torch, got {given}")


def classes(name: str, labels: Any, scores: Any) -> Any:
    """`labels`, one class for each row of n `scores`, as int64 in the library of the scores and on their device.

    Raises
    ------
    TypeError : anything but integers, or an array beside a tensor.
    ValueError : not the shape of the scores but for their last axis, or a label that is none of 0 to n - 1.
    """
    one_library(**{name: labels, "scores": scores})
    labels = integers(name, labels)
    *batch, n = scores.shape
    if tuple(labels.shape) != tuple(batch):
        raise ValueError(
            f"{name} must have the batch shape {tuple(batch)} of the scores, got shape {tuple(labels.shape)}"
        )
    require(name, labels, (labels >= 0) & (labels < n), f"a class from 0 to {n - 1}")
    if is_tensor(scores):
        torch = sys.modules["torch"]
        return torch.as_tensor(labels, dtype=torch.int64, device=scores.device)
    return labels.astype(np.int64)


def one_of(name: str, value: Any, options: tuple[str, ...]) -> str:
    """`value`, after a check that it is one of the words `options`.

    Raises
    ------
    ValueError : anything else.

    Examples
    --------
    >>> one_of("reduction", "average", ("mean", "sum"))
    Traceback (most recent call last):
    ...
    ValueError: reduction must be one of mean, sum, got 'average'
    """
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}")
    return value


def shown(value: Any) -> str:
    """A number for an error: one of thousands of digits, which Python refuses to write, by its length in bits."""
    return (
        f"an integer of {value.bit_length()} bits"
        if isinstance(value, int) and value.bit_length() > 200
        else f"{value}"
    )


def place(name: str, value: Any) -> Any:
    """`value` as a torch.device.

    Raises
    ------
    ValueError : it names none.
    """
    torch = sys.modules["torch"]
    try:
        return torch.device(value)
    except (RuntimeError, TypeError):
        raise ValueError(f'{name} must be a torch device, such as "cpu" or "cuda:0", got {value!r}') from None


def points(name: str, X: Any) -> Any:
    """`X` as a floating-point array or tensor of shape (..., N, n): clouds of N >= 1 points, finite.

    Raises
    ------
    TypeError : anything that is not real numbers.
    ValueError : fewer than two dimensions, no point or no coordinate, NaN or an infinity.
    """
    X, _ = floating(name, X)
    if X.ndim < 2 or 0 in X.shape[-2:]:
        raise ValueError(f"{name} must have shape (..., N, n), got {tuple(X.shape)}")
    return finite(name, X)


def broadcast(**shapes: Any) -> tuple[int, ...]:
    """The shape that shapes broadcast to.

    Raises
    ------
    ValueError : there is none; names all shapes.
    """
    try:
        return np.broadcast_shapes(*map(tuple, shapes.values()))
    except ValueError:
        given = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise ValueError(f"shapes must broadcast, got {given}") from None


def held(names: str, result: Any) -> Any:
    """`result`, after a check that it has no NaN and no infinity: what finite numbers give unless they are too large or small.

    Raises
    ------
    ValueError : the arguments `names` lead beyond the number format of the result.
    """
    xp = namespace(result)
    if not bool(xp.isfinite(result).all()):
        raise ValueError(
            f"{names} must be of a size that {result.dtype} can compute with, got numbers too large or too small"
        )
    return result


def quiet() -> np.errstate:
    """Around a computation whose result is `held`: NumPy's warnings would say the same without a name."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def require(name: str, array: Any, valid: Any, expected: str) -> None:
    """Raise ValueError with the first entry of an array or tensor that is not `valid`."""
    if not bool(valid.all()):
        raise ValueError(f"{name} must be {expected}, got {array[~valid].reshape(-1)[0].item()}")
