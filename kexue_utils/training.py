"""What surrounds every experiment of the book, so that the chapters need not show it: device, seeds, scale, a training loop.

Two environment variables are read here: ``KEXUE_SCALE=full`` selects the larger experiments, and ``KEXUE_BOOK``, which
the book's build sets, silences progress bars so that the outputs of two builds are the same. PyTorch is imported when a
function that needs it is called.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from .arguments import integer

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Loss: TypeAlias = "float | torch.Tensor | NDArray[Any] | Sequence[float | torch.Tensor]"

__all__ = ["at_scale", "device", "fit", "full_scale", "generator", "seed_all"]


def device(*, float64: bool = False) -> torch.device:
    """Where to compute: ``cuda`` if there is one, else Apple's ``mps``, else ``cpu``.

    Parameters
    ----------
    float64 : bool
        Whether double precision is needed. mps has none, so then the CPU takes its place.

    Returns
    -------
    torch.device

    Raises
    ------
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> device().type in ("cuda", "mps", "cpu"), device(float64=True).type in ("cuda", "cpu")
    (True, True)
    """
    torch = _torch()
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available() and not float64:
        return torch.device("mps")
    return torch.device("cpu")


def generator(seed: int, on: torch.device | str | None = None) -> torch.Generator:
    """A generator on a device, for every random draw that takes ``generator=``.

    Parameters
    ----------
    seed : int
        0 <= seed < 2**32, so that NumPy takes it too.
    on : torch.device or str, optional
        The device, by default `device` (). The same seed gives other numbers on another kind of device.

    Returns
    -------
    torch.Generator

    Raises
    ------
    ValueError, TypeError
        If the seed is out of range, or not an integer.
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> import torch
    >>> a, b = (torch.randn(3, generator=generator(7, on="cpu")) for _ in range(2))
    >>> torch.equal(a, b)
    True
    """
    torch = _torch()
    return torch.Generator(device() if on is None else on).manual_seed(_checked_seed(seed))


def seed_all(seed: int) -> None:
    """Seed what takes no generator: initial weights and dropout (torch, on all devices), NumPy's global state, `random`.

    Draws of your own should rather take a `generator` or ``numpy.random.default_rng(seed)``: they then stay the same
    when a cell above draws one number more.

    Parameters
    ----------
    seed : int
        0 <= seed < 2**32.

    Raises
    ------
    ValueError, TypeError
        If the seed is out of range, or not an integer.
    ImportError
        If PyTorch is not installed.

    Notes
    -----
    On the CPU with one thread this repeats a training run bit by bit. On a GPU some sums are taken in varying order
    unless ``torch.use_deterministic_algorithms(True)`` is also set.

    Examples
    --------
    >>> import torch
    >>> seed_all(0)
    >>> first = torch.nn.Linear(2, 1).weight
    >>> seed_all(0)
    >>> torch.equal(first, torch.nn.Linear(2, 1).weight)
    True
    """
    torch = _torch()
    seed = _checked_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (libraries that we call may draw from the global state)
    torch.manual_seed(seed)


def full_scale() -> bool:
    """Whether ``KEXUE_SCALE=full`` asks for the larger experiments. Unset, empty and ``quick`` mean no.

    Raises
    ------
    ValueError
        If the variable has any other value.

    Examples
    --------
    >>> full_scale() == (os.environ.get("KEXUE_SCALE") == "full")
    True
    """
    scale = os.environ.get("KEXUE_SCALE", "")
    if scale not in ("", "quick", "full"):
        raise ValueError(f'the environment variable KEXUE_SCALE must be "quick" or "full", got {scale!r}')
    return scale == "full"


def at_scale(quick: T, full: T) -> T:
    """`full` if ``KEXUE_SCALE=full``, else `quick`.

    Raises
    ------
    ValueError
        As `full_scale`.

    Examples
    --------
    >>> number_of_vectors = at_scale(quick=1_000, full=50_000)
    >>> number_of_vectors == (50_000 if full_scale() else 1_000)
    True
    """
    return full if full_scale() else quick


def fit(
    step: Callable[[int], Loss],
    steps: int,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    name: str = "fit",
) -> NDArray[np.float64]:
    """Train for a fixed number of steps, with progress, and return the losses.

    Parameters
    ----------
    step : callable
        Called with k = 0, 1, ..., steps - 1, returns the loss. With an `optimizer` it only computes the loss, and `fit`
        does zero_grad, backward and step. Without one it does the whole update itself, as many as it likes (critic and
        generator, say), and may return several losses: a tuple of numbers, or a tensor.
    steps : int
        How many, at least 1.
    optimizer : torch.optim.Optimizer, optional
        Minimises a single loss.
    scheduler : torch.optim.lr_scheduler.LRScheduler, optional
        Stepped after each step of `optimizer`, which it needs.
    name : str
        Stands before the progress bar and in the error.

    Returns
    -------
    array, float64, shape (steps,), or (steps, \\*shape of what one step returns): ``critic, generator = fit(...).T``.
    Entry k is the loss before the k-th update, if `step` returns it so.

    Raises
    ------
    FloatingPointError
        If a loss is NaN or infinite; names the step. With an `optimizer` the parameters are still those that gave it.
    ValueError
        If steps < 1, if a scheduler comes without optimizer, or if losses differ in shape.
    TypeError
        If steps is not an integer, if a loss is not numeric (None: the step forgot to return it), or if it is not a
        single torch loss where an optimizer minimises it.

    Notes
    -----
    The progress bar appears in a notebook or terminal, and never where ``KEXUE_BOOK=1``. To read the loss is to wait for
    the GPU at every step, which is what lets the error name the step.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(2, requires_grad=True)
    >>> losses = fit(lambda k: ((x - 3) ** 2).sum(), 50, optimizer=torch.optim.SGD([x], lr=0.25))
    >>> losses[:3].tolist(), x.tolist()
    ([18.0, 4.5, 1.125], [3.0, 3.0])
    """
    integer("steps", steps, least=1)
    if scheduler is not None and optimizer is None:
        raise ValueError("scheduler needs the optimizer whose learning rate it sets, got optimizer=None")

    losses: list[NDArray[np.float64]] = []
    with _progress(steps, name) as bar:
        for k in range(steps):
            loss = step(k)
            value = _as_numbers(loss)
            if losses and value.shape != losses[0].shape:
                raise ValueError(f"step must return losses of one shape, got {value.shape} after {losses[0].shape}")
            if not np.isfinite(value).all():
                before = f", after {losses[-1]} one step before" if losses else ""
                raise FloatingPointError(
                    f"{name}: the loss is {value} at step {k} of {steps}{before}. "
                    "Try a smaller learning rate, or look for a logarithm or a division that meets 0"
                )
            losses.append(value)
            if optimizer is not None:
                if value.size != 1 or not hasattr(loss, "backward"):
                    kind = f"{type(loss).__name__} of shape {value.shape}"
                    raise TypeError(f"step must return one torch loss for the optimizer to minimise, got {kind}")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
            bar.update()
            bar.set_postfix_str("loss " + " ".join(f"{v:.4g}" for v in value.flat[:4]), refresh=False)
    return np.array(losses)


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError:
        raise ImportError("this needs PyTorch, which is not installed: pip install torch") from None
    return torch


def _checked_seed(seed: int) -> int:
    seed = integer("seed", seed)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in 0 <= seed < 2**32, got {seed}")
    return seed


def _as_numbers(loss: Any) -> NDArray[np.float64]:
    """A loss in float64, by way of the CPU because mps has none."""
    if isinstance(loss, tuple | list):
        parts = [_as_numbers(part) for part in loss]
        if len({part.shape for part in parts}) != 1:
            raise ValueError(f"step must return losses of one shape, got {[part.shape for part in parts]}")
        return np.array(parts)
    array = loss.detach().cpu().double().numpy() if hasattr(loss, "detach") else np.asarray(loss)
    if array.dtype.kind not in "iuf" or array.size == 0:
        raise TypeError(f"step must return its loss as a number, a tensor or a tuple of these, got {loss!r}")
    return array.astype(np.float64)


def _progress(steps: int, name: str) -> Any:
    from tqdm.auto import tqdm

    in_book = os.environ.get("KEXUE_BOOK") == "1"
    # None shows the bar in notebooks and terminals only, not in a log file.
    return tqdm(total=steps, desc=name, disable=True if in_book else None)
