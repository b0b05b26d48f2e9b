"""What surrounds every experiment of the book, so that the chapters need not show it: device, seeds, scale, a training loop.

Three environment variables are read here: ``KEXUE_SCALE=full`` selects the larger experiments, ``KEXUE_CHECKPOINTS``
names the folder where long runs keep what they have reached, and ``KEXUE_BOOK``, which the book's build sets, silences
progress bars so that the outputs of two builds are the same. PyTorch is imported when a function that needs it is called.

Several processes, started by ``torchrun``, run the same notebook side by side, with the same seeds: each draws the whole
of a batch, takes its own `share` of it, and `data_parallel` averages the gradients. So all of them hold the same numbers
at all times, those of one process on the whole batch but for rounding.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from .arguments import checked_seed, integer, is_tensor, place
from .extras import needed_by

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Loss: TypeAlias = "float | torch.Tensor | NDArray[Any] | Sequence[float | torch.Tensor]"

__all__ = ["at_scale", "data_parallel", "device", "fit", "full_scale", "generator", "seed_all", "share"]

CHECKPOINT_SECONDS = 60.0  # what a crash may cost


def device(*, float64: bool = False) -> torch.device:
    """Where to compute: ``cuda`` if there is one, else Apple's ``mps``, else ``cpu``. Under ``torchrun`` the GPU of this
    process, ``cuda:0``, ``cuda:1`` and so on, else ``cpu``: processes cannot average gradients on mps.

    Parameters
    ----------
    float64 : bool
        Whether double precision is needed. mps has none, so then the CPU takes its place.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If torchrun started more processes on this machine than it has GPUs.
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> device().type in ("cuda", "mps", "cpu"), device(float64=True).type in ("cuda", "cpu")
    (True, True)
    """
    torch = _torch("device")
    several = _started_by_torchrun()
    if torch.cuda.is_available() and several:
        own, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if own >= gpus:
            raise ValueError(
                f"each process needs a GPU of its own, but this machine has {gpus}: torchrun --nproc-per-node {gpus}"
            )
        return torch.device("cuda", own)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available() and not float64 and not several:
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
        If the seed is out of range or not an integer, or `on` is no device.
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> import torch
    >>> a, b = (torch.randn(3, generator=generator(7, on="cpu")) for _ in range(2))
    >>> torch.equal(a, b)
    True
    """
    torch = _torch("generator")
    return torch.Generator(device() if on is None else place("on", on)).manual_seed(checked_seed(seed))


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
    torch = _torch("seed_all")
    seed = checked_seed(seed)
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


def data_parallel(model: torch.nn.Module) -> torch.nn.Module:
    """The model whose gradients are averaged over all processes of ``torchrun``; without torchrun, the model as it is.

    Parameters
    ----------
    model : torch.nn.Module
        On `device` (). Every process gets the weights of process 0.

    Returns
    -------
    torch.nn.Module
        To be called in the training step: a `torch.nn.parallel.DistributedDataParallel` around `model`, which shares its
        parameters. The first call joins the group of processes, by nccl on GPUs and by gloo else.

    Raises
    ------
    TypeError
        If model is none.
    ImportError
        If PyTorch is not installed.

    Notes
    -----
    The average of the gradients is the gradient on the whole batch if the loss is a *mean* over the batch and each
    process takes an equal `share` of it. With a sum it is too small, by the number of processes. Once joined, `fit`
    reports losses averaged over the processes.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(2, 1)
    >>> data_parallel(model) is model  # torchrun did not start this
    True
    """
    torch = _torch("data_parallel")
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not _started_by_torchrun():
        return model
    if not torch.distributed.is_initialized():
        on = next(model.parameters()).device
        if on.type == "cuda":
            torch.cuda.set_device(on)
        torch.distributed.init_process_group("nccl" if on.type == "cuda" else "gloo")
        atexit.register(torch.distributed.destroy_process_group)
    return torch.nn.parallel.DistributedDataParallel(model)


def share(batch: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """What this process of ``torchrun`` takes of a batch that all have drawn alike; without torchrun, all of it.

    Draw the whole batch from a `generator` with the same seed in every process, indices rather than data: then a run is
    the same on any number of processes, and every process can go on from the same checkpoint.

    Parameters
    ----------
    batch : tensor
    dim : int
        The dimension of the samples.

    Returns
    -------
    tensor, a view of batch: with W processes, the r-th of W equal parts for process r.

    Raises
    ------
    ValueError
        If the size of the batch is not a multiple of the number of processes, or it has no such dimension.
    TypeError
        If batch is no tensor, or dim not an integer.

    Examples
    --------
    >>> import torch
    >>> share(torch.arange(6))
    tensor([0, 1, 2, 3, 4, 5])
    """
    if not is_tensor(batch):
        raise TypeError(f"batch must be a tensor, got {type(batch).__name__}")
    if not -batch.ndim <= integer("dim", dim) < batch.ndim:
        raise ValueError(f"dim must be a dimension of the batch, of shape {tuple(batch.shape)}, got {dim}")
    rank, processes = _rank()
    size = batch.shape[dim]
    if size % processes:
        raise ValueError(
            f"batch must be a multiple of the {processes} processes, to be shared equally, got {size} samples"
        )
    return batch.narrow(dim, rank * (size // processes), size // processes)


def fit(
    step: Callable[[int], Loss],
    steps: int,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    name: str = "fit",
    keep: Sequence[Any] | None = None,
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
        Stands before the progress bar and in the error, and names the checkpoint: unique in the book, such as
        ``"ddpm-1 two noises"``.
    keep : sequence, optional
        Makes a run that can be interrupted. It lists what `step` changes beside the parameters of `optimizer`: models
        (for the buffers of a batch norm; all of them, where `step` does the update) and anything else with ``state_dict``
        and ``load_state_dict``, tensors, generators of torch and of NumPy; ``()`` where nothing else changes.

    Returns
    -------
    array, float64, shape (steps,), or (steps, \\*shape of what one step returns): ``critic, generator = fit(...).T``.
    Entry k is the loss before the k-th update, if `step` returns it so. In several processes that called
    `data_parallel`, the average of theirs.

    Raises
    ------
    FloatingPointError
        If a loss is NaN or infinite; names the step. With an `optimizer` the parameters are still those that gave it.
    ValueError
        If steps < 1, if a scheduler comes without optimizer, if losses differ in shape, if keep comes without a name that
        can name a file, or if the checkpoint of that name cannot be read or belongs to another run.
    TypeError
        If step, steps, optimizer, scheduler, name or keep is not what is said above, if a loss is not numeric (None: the step forgot to return it), if it is not a
        single torch loss where an optimizer minimises it, or if keep lists something that it cannot keep.

    Notes
    -----
    The progress bar appears in a notebook or terminal, and never where ``KEXUE_BOOK=1``. To read the loss is to wait for
    the GPU at every step, which is what lets the error name the step; it is read after backward and before the update,
    so that the GPU has work meanwhile.

    Checkpoints: with `keep`, the run writes ``<folder>/<name>.pt`` every minute and at its end, and goes on from that
    file when it is called again, after a crash say; on the CPU the outcome is the same bit for bit. The folder is
    ``KEXUE_CHECKPOINTS``, by default ``checkpoints`` at full scale, and none, so that nothing is written, at quick scale.
    The file also holds the global random states. A run whose start differs (seed, weights, learning rate, number of steps)
    is refused instead of being continued; what `step` does is not compared. Process 0 alone writes and reads, and
    tells the others, whose random states must be the same.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(2, requires_grad=True)
    >>> losses = fit(lambda k: ((x - 3) ** 2).sum(), 50, optimizer=torch.optim.SGD([x], lr=0.25))
    >>> losses[:3].tolist(), x.tolist()
    ([18.0, 4.5, 1.125], [3.0, 3.0])
    """
    steps = integer("steps", steps, least=1)
    if not callable(step):
        raise TypeError(f"step must be a function, got {step!r}")
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}")
    for argument, part, has in (("optimizer", optimizer, "zero_grad"), ("scheduler", scheduler, "step")):
        if part is not None and not hasattr(part, has):
            raise TypeError(f"{argument} must be one of torch.optim, got {type(part).__name__}")
    if keep is not None and (isinstance(keep, str) or not hasattr(keep, "__iter__")):
        raise TypeError(f"keep must be a sequence, got {keep!r}")
    if scheduler is not None and optimizer is None:
        raise ValueError("scheduler needs the optimizer whose learning rate it sets, got optimizer=None")
    checkpoint = None if keep is None else _Checkpoint(name, steps, optimizer, scheduler, keep)

    losses: list[NDArray[np.float64]] = [] if checkpoint is None else checkpoint.resume()
    with _progress(steps, name, first=len(losses)) as bar:
        for k in range(len(losses), steps):
            loss = step(k)
            if optimizer is not None:
                if not is_tensor(loss) or loss.numel() != 1:
                    kind = f"{type(loss).__name__} of shape {np.shape(_as_numbers(loss))}"
                    raise TypeError(f"step must return one torch loss for the optimizer to minimise, got {kind}")
                optimizer.zero_grad()
                loss.backward()
            value = _averaged(_as_numbers(loss))
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
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
            if checkpoint is not None:
                checkpoint.write(losses)
            bar.update()
            bar.set_postfix_str("loss " + " ".join(f"{v:.4g}" for v in value.flat[:4]), refresh=False)
    return np.array(losses)


class _Checkpoint:
    """What one `fit` has reached, in a file that is replaced whole. It holds tensors, numbers, strings, lists and dicts only,
    so that it is read without running code from it."""

    def __init__(
        self,
        name: str,
        steps: int,
        optimizer: torch.optim.Optimizer | None,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None,
        keep: Sequence[Any],
    ) -> None:
        if name == "fit" or not re.fullmatch(r"[\w .,=+-]+", name):
            expected = "letters, digits, spaces and any of . , = + - _"
            raise ValueError(
                f"name must be given with keep, and can name its checkpoint if it has only {expected}; got {name!r}"
            )
        parameters = [] if optimizer is None else [p for group in optimizer.param_groups for p in group["params"]]
        self.kept = [*parameters, *(part for part in (optimizer, scheduler) if part is not None), *keep]
        start = [_state(part) for part in self.kept]
        folder = os.environ.get("KEXUE_CHECKPOINTS") or ("checkpoints" if full_scale() else None)
        self.file = None if folder is None else Path(folder) / f"{name}.pt"
        if self.file is not None:
            tensors = [part for part in _leaves(start) if is_tensor(part)]
            # By this a run knows its own checkpoint.
            self.run: dict[str, Any] = {
                "name": name,
                "steps": steps,
                "tensor": [f"{part.dtype} {tuple(part.shape)} on {part.device.type}" for part in tensors],
                "start": _digest(start),
            }
        self.written = time.monotonic()

    def resume(self) -> list[NDArray[np.float64]]:
        """Put everything back as the file has it, and return the losses so far; none if there is no file."""
        if self.file is None:
            return []
        distributed = _group()
        found = [self._read(self.file) if distributed is None or _rank()[0] == 0 else None]
        if distributed is not None:
            distributed.broadcast_object_list(found)
        saved = found[0]
        if saved is None:
            return []
        for part, state in zip(self.kept, saved["state"], strict=True):
            _restore(part, state)
        _restore_random(saved["random"])
        losses = list(saved["losses"].numpy())
        if _rank()[0] == 0 and os.environ.get("KEXUE_BOOK") != "1":
            print(f"{self.run['name']}: goes on from step {len(losses)} of {self.run['steps']}, kept in {self.file}")
        return losses

    def _read(self, file: Path) -> dict[str, Any] | None:
        if not file.exists():
            return None
        remedy = "delete it, or name another folder in KEXUE_CHECKPOINTS"
        try:
            saved: dict[str, Any] = _torch("a checkpoint").load(file, map_location="cpu", weights_only=True)
            there = saved["run"]
            differs = next(((key, there[key], here) for key, here in self.run.items() if there[key] != here), None)
        except Exception as error:
            raise ValueError(f"{file} cannot be read as a checkpoint ({type(error).__name__}): {remedy}") from error
        if differs is not None:
            what, old, new = differs
            if what == "tensor":
                old, new = next(pair for pair in zip_longest(old, new) if pair[0] != pair[1])
            other = f"with {what} {old}, not {new}"
            if what == "start":
                other = "which started from other weights, another seed or another learning rate"
            raise ValueError(f"{file} is the checkpoint of another run, {other}: {remedy}")
        return saved

    def write(self, losses: list[NDArray[np.float64]]) -> None:
        """Write, if it is time to or this was the last step."""
        last = self.file is not None and len(losses) == self.run["steps"]
        if self.file is None or not (last or time.monotonic() - self.written >= CHECKPOINT_SECONDS):
            return
        torch = _torch("a checkpoint")
        if _rank()[0] == 0:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            part = self.file.with_name(f"{self.file.name}.{os.getpid()}.part")
            content = {
                "run": self.run,
                "losses": torch.tensor(np.array(losses)),
                "state": [_state(kept) for kept in self.kept],
                "random": _random_state(),
            }
            try:
                with part.open("wb") as stream:
                    torch.save(content, stream)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(part, self.file)
            finally:
                part.unlink(missing_ok=True)
        self.written = time.monotonic()


def _state(thing: Any) -> Any:
    """What is to be kept of one object, in a form that `torch.load` reads with ``weights_only``. Tensors are not copied."""
    if is_tensor(thing):
        return thing.detach()
    if isinstance(thing, np.random.Generator):
        return _plain(thing.bit_generator.state)
    if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        return _plain(thing.state_dict())
    if hasattr(thing, "get_state") and hasattr(thing, "set_state"):  # a torch.Generator
        return thing.get_state()
    raise TypeError(
        f"keep must list models, optimizers, tensors or generators of torch or NumPy, got {type(thing).__name__}"
    )


def _plain(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(_plain, state)) if type(state) in (list, tuple) else list(map(_plain, state))
    if isinstance(state, np.ndarray | np.generic):
        return state.tolist()
    if state is None or isinstance(state, bool | int | float | str) or is_tensor(state):
        return state
    raise TypeError(
        f"keep: a state holds a {type(state).__name__}; only tensors, numbers, strings, lists and dicts are kept"
    )


def _restore(thing: Any, state: Any) -> None:
    if is_tensor(thing):
        thing.detach().copy_(state)
    elif isinstance(thing, np.random.Generator):
        thing.bit_generator.state = _like(thing.bit_generator.state, state)
    elif hasattr(thing, "load_state_dict"):
        thing.load_state_dict(state)
    else:
        thing.set_state(state)


def _like(example: Any, state: Any) -> Any:
    """NumPy's states with their arrays, which `_plain` has made lists."""
    if isinstance(example, dict):
        return {key: _like(value, state[key]) for key, value in example.items()}
    return np.array(state, dtype=example.dtype) if isinstance(example, np.ndarray) else state


def _random_state() -> dict[str, Any]:
    """The global states, which initial weights, dropout and other libraries draw from."""
    torch, on = _torch("a checkpoint"), device()
    state = {
        "cpu": torch.get_rng_state(),
        "numpy": _plain(np.random.get_state(legacy=False)),  # noqa: NPY002
        "python": random.getstate(),
    }
    if on.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(on)
    elif on.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def _restore_random(state: dict[str, Any]) -> None:
    torch, on = _torch("a checkpoint"), device()
    torch.set_rng_state(state["cpu"])
    np.random.set_state(_like(np.random.get_state(legacy=False), state["numpy"]))  # noqa: NPY002
    random.setstate(state["python"])
    if on.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], on)
    elif on.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


def _leaves(state: Any) -> Iterator[Any]:
    if isinstance(state, dict):
        for key in state:
            yield key
            yield from _leaves(state[key])
    elif isinstance(state, list | tuple):
        for part in state:
            yield from _leaves(part)
    else:
        yield state


def _digest(state: Any) -> str:
    sha = hashlib.sha256()
    for leaf in _leaves(state):
        if is_tensor(leaf):
            sha.update(leaf.detach().cpu().contiguous().flatten().view(_torch("a checkpoint").uint8).numpy().tobytes())
        else:
            sha.update(repr(leaf).encode())
    return sha.hexdigest()


def _started_by_torchrun() -> bool:
    return "WORLD_SIZE" in os.environ


def _rank() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def _group() -> Any:
    """`torch.distributed`, if `data_parallel` has joined the processes."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    return (
        distributed if distributed is not None and distributed.is_available() and distributed.is_initialized() else None
    )


def _averaged(value: NDArray[np.float64]) -> NDArray[np.float64]:
    distributed = _group()
    if distributed is None:
        return value
    on = device() if distributed.get_backend() == "nccl" else "cpu"
    total = _torch("fit").tensor(value, device=on)
    distributed.all_reduce(total)
    average: NDArray[np.float64] = total.cpu().numpy() / distributed.get_world_size()
    return average


def _torch(by: str) -> ModuleType:
    with needed_by(by):
        import torch
    return torch


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


def _progress(steps: int, name: str, first: int) -> Any:
    with needed_by("fit"):
        from tqdm.auto import tqdm

    silent = os.environ.get("KEXUE_BOOK") == "1" or _rank()[0] > 0
    # None shows the bar in notebooks and terminals only, not in a log file.
    return tqdm(total=steps, initial=first, desc=name, disable=True if silent else None)
