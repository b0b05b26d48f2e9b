"""Data parallelism: gradients of shards and their mean, the ring that adds them up, and real processes to try it on.

Notation: N samples are dealt to K shards. Shard k has n_k of them, and the gradient of its own mean loss is row k of an
array of shape (K, ...). The gradient on all samples together is the mean of the rows with weights n_k (`combine`); what
`torch.nn.parallel.DistributedDataParallel` computes is their plain mean.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from .arguments import Array, alike, finite, held, in_format_of, integer, is_tensor, number, quiet, require
from .extras import needed_by

if TYPE_CHECKING:
    import torch

__all__ = ["RingState", "combine", "ring_all_reduce", "run_torchrun", "shard_gradients"]


def combine(gradients: Array, weights: Array | None = None) -> Any:
    r"""Mean of the gradients of K shards, weighted by how much each shard counts, or plain.

    .. math:: g = \frac{\sum_k W_k\,\bar g_k}{\sum_k W_k}

    Parameters
    ----------
    gradients : array_like or tensor, shape (K, ...)
        The gradient of each shard's mean loss.
    weights : array_like or tensor, shape (K,), optional
        Not negative, not all zero: numbers of samples, of tokens that count, or sums of class weights. By default all
        shards count the same, as for ``DistributedDataParallel``.

    Returns
    -------
    array or tensor of shape (...), in the number format of `gradients`.

    Raises
    ------
    ValueError
        If there is no shard, a number is not finite, a weight negative, all weights zero, or shapes do not fit.
    TypeError
        If an argument is not real numbers in single or double precision, or one is a tensor and the other an array.

    Notes
    -----
    The weighted mean is the gradient on all samples together, for every loss that is a mean of one term a sample. The
    plain mean is it for all gradients only if all weights are equal.

    Source: this book's chapter on kexue.fm/archives/7055.

    Examples
    --------
    >>> print(combine([[-9 / 4], [-7.0]]), combine([[-9 / 4], [-7.0]], [2, 3]))
    [-4.625] [-5.1]
    """
    given: dict[str, Any] = {"gradients": gradients} | ({} if weights is None else {"weights": weights})
    _, g, *rest = alike(half=False, **given)
    if g.ndim < 1 or 0 in g.shape:
        raise ValueError(f"gradients must have shape (K, ...) and not be empty, got {tuple(g.shape)}")
    finite("gradients", g)
    w = rest[0] if rest else g.reshape(len(g), -1)[:, 0] * 0 + 1
    if tuple(w.shape) != (len(g),):
        raise ValueError(f"weights must have shape ({len(g)},), one for each shard, got {tuple(w.shape)}")
    finite("weights", w)
    require("weights", w, w >= 0, "not negative")
    if not bool((w > 0).any()):
        raise ValueError("weights must not all be 0")
    with quiet():
        w = w / w.max()
        w = in_format_of(g, w / w.sum())
        mean = (w.reshape(-1, *[1] * (g.ndim - 1)) * g).sum(0)
    return held("gradients", mean)


def shard_gradients(
    loss: Callable[..., torch.Tensor],
    module: torch.nn.Module,
    shards: Sequence[torch.Tensor | tuple[torch.Tensor, ...]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of a loss on each shard by itself, as K processes would compute it, here one after the other.

    Parameters
    ----------
    loss : callable
        ``loss(module, *tensors of a shard)`` returns a tensor of one number.
    module : torch.nn.Module
        All parameters that require a gradient take part, in the order of ``module.parameters()``.
    shards : sequence of tensors, or of tuples of tensors
        Samples lead: a shard has as many as its first tensor is long.

    Returns
    -------
    gradients : tensor, shape (K, number of parameters)
    sizes : tensor of integers, shape (K,)
        So ``combine(*shard_gradients(...))`` is the gradient on all samples, where the loss is a mean over them.

    Raises
    ------
    ValueError
        If there is no shard, a shard has no sample, the loss is not one number, or nothing requires a gradient.
    TypeError
        If loss is no function, module no module, or shards are not tensors.
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> import torch
    >>> line = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    >>> _ = torch.nn.init.constant_(line.weight, 0.5)
    >>> x, y = torch.tensor([1.0, 2, 3, 4, 5]).double()[:, None], torch.tensor([1.0, 3, 2, 5, 4]).double()[:, None]
    >>> half_square = lambda model, x, y: ((model(x) - y) ** 2).mean() / 2
    >>> gradients, sizes = shard_gradients(half_square, line, [(x[:2], y[:2]), (x[2:], y[2:])])
    >>> gradients.flatten().tolist(), sizes.tolist(), round(combine(gradients, sizes).item(), 12)
    ([-2.25, -7.0], [2, 3], -5.1)
    """
    torch = _torch("shard_gradients")
    if not callable(loss):
        raise TypeError(f"loss must be a function of the module and a shard, got {loss!r}")
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if is_tensor(shards) or isinstance(shards, str) or not hasattr(shards, "__iter__"):
        raise TypeError(f"shards must be a sequence of tensors or of tuples of tensors, got {type(shards).__name__}")
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("module must have a parameter that requires a gradient, got none")
    rows: list[Any] = []
    sizes: list[int] = []
    for k, shard in enumerate(shards):
        tensors = shard if isinstance(shard, tuple) else (shard,)
        if not tensors or not all(is_tensor(tensor) and tensor.ndim for tensor in tensors):
            raise TypeError(f"shards must be tensors with samples or tuples of them, got {shard!r} as shard {k}")
        if not len(tensors[0]):
            raise ValueError(f"shards must have a sample each, but shard {k} is empty")
        value = loss(module, *tensors)
        if not is_tensor(value) or value.numel() != 1:
            raise ValueError(f"loss must be a tensor of one number, got {value!r}")
        found = torch.autograd.grad(value.reshape(()), parameters, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in found]))
        sizes.append(len(tensors[0]))
    if not rows:
        raise ValueError("shards must have at least one shard, got none")
    return torch.stack(rows), torch.tensor(sizes, device=rows[0].device)


class RingState(NamedTuple):
    """What `ring_all_reduce` returns: what each process holds, and how many numbers each has sent."""

    held: list[list[Any]]
    sent: list[int]


def ring_all_reduce(vectors: Sequence[Sequence[Any]], steps: int | None = None) -> RingState:
    """Add up one vector of each of K processes on a ring, in 2(K - 1) steps, so that all hold the sum.

    Process r talks to process r + 1 only. The vector is cut into K chunks. In the first K - 1 steps each process passes on
    a chunk, which its neighbour adds to its own; then each holds one chunk of the sum, and passes it round in K - 1 more.

    Parameters
    ----------
    vectors : K sequences of M numbers each, of any kind that can be added: int, Fraction, float.
    steps : int, optional
        Stop after so many steps, 0 to 2(K - 1). Default: all.

    Returns
    -------
    RingState
        ``held[r]``, a list of M numbers, after all steps the same for every r, also in its last bit; and ``sent[r]``,
        after all steps 2(K - 1)M/K numbers if K divides M.

    Raises
    ------
    ValueError
        If there is no process, vectors differ in length, or there are not so many steps.
    TypeError
        If vectors are not sequences of numbers, or steps is not an integer.

    Notes
    -----
    Source: P. Patarasuk and X. Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, JPDC 69 (2009).

    Examples
    --------
    >>> ring_all_reduce([[1, 2, 3], [10, 20, 30], [100, 200, 300]])
    RingState(held=[[111, 222, 333], [111, 222, 333], [111, 222, 333]], sent=[4, 4, 4])
    >>> ring_all_reduce([[1, 2, 3], [10, 20, 30], [100, 200, 300]], steps=1).held
    [[1, 2, 303], [11, 20, 30], [100, 220, 300]]
    """
    if isinstance(vectors, str) or not hasattr(vectors, "__iter__"):
        raise TypeError(f"vectors must be a sequence of sequences of numbers, got {vectors!r}")
    rows = list(vectors)
    if any(isinstance(row, str) or not hasattr(row, "__iter__") for row in rows):
        raise TypeError(f"vectors must be a sequence of sequences of numbers, got {vectors!r}")
    state = [list(row) for row in rows]
    if any(isinstance(v, str) or not hasattr(v, "__add__") for row in state for v in row):
        raise TypeError("vectors must be numbers, got something that cannot be added")
    if not state or len({len(row) for row in state}) > 1:
        raise ValueError(f"vectors must be at least one, all of one length, got lengths {[len(row) for row in state]}")
    K, M = len(state), len(state[0])
    every = 2 * (K - 1)
    steps = every if steps is None else integer("steps", steps, least=0, most=every)
    ends = [M * c // K for c in range(K + 1)]
    sent = [0] * K
    for step in range(steps):
        adding = step < K - 1
        messages = []
        for r in range(K):
            c = (r - step) % K if adding else (r + K - step) % K  # in step K - 1 process r holds the sum of chunk r + 1
            messages.append((r, slice(ends[c], ends[c + 1]), state[r][ends[c] : ends[c + 1]]))
        for r, chunk, values in messages:
            there = state[(r + 1) % K]
            there[chunk] = [a + b for a, b in zip(there[chunk], values, strict=True)] if adding else values
            sent[r] += len(values)
    return RingState(state, sent)


LAUNCHER = """\
import faulthandler, os, pathlib, runpy, sys, traceback
import torch

folder, rank = pathlib.Path(__file__).parent, os.environ["RANK"]
faulthandler.dump_traceback_later(float(sys.argv[1]), exit=True, file=open(folder / f"late-{rank}.txt", "w"))
try:
    left = runpy.run_path(str(folder / "script.py"), torch.load(folder / "inputs.pt", weights_only=True), "__main__")
except BaseException:
    (folder / f"error-{rank}.txt").write_text(traceback.format_exc())
    raise
if torch.distributed.is_initialized():
    torch.distributed.barrier()
if rank == "0":
    torch.save(left.get("result"), folder / "result.part")
    os.replace(folder / "result.part", folder / "result.pt")
faulthandler.cancel_dump_traceback_later()
"""


def run_torchrun(script: str, processes: int, inputs: Mapping[str, Any] | None = None, *, timeout: float = 120) -> Any:
    """Run a Python script in several processes that `torchrun` starts on this machine, and return what it leaves in `result`.

    Parameters
    ----------
    script : str
        Source code, run by every process. ``kexue_utils`` can be imported, `training.data_parallel` joins the processes.
        What process 0 has in its variable `result` at the end is returned: tensors, numbers, strings, lists, dicts.
    processes : int
        How many, 1 to 64. Each has a GPU if the machine has so many; else all run on the CPU, with one thread each.
    inputs : mapping, optional
        Variables that the script finds, by name: the same kinds of values as in `result`, on the CPU.
    timeout : float
        Seconds after which processes that still run are ended.

    Returns
    -------
    The value of `result`, or None.

    Raises
    ------
    TimeoutError
        If the script is not done in time, as when one process waits for another that never comes; says in which line.
    RuntimeError
        If a process fails; with the last lines of its traceback.
    ValueError, TypeError
        If script is empty or no string, if there are too few or too many processes, if timeout is not positive, or if
        inputs cannot be passed on.
    ImportError
        If PyTorch is not installed.

    Notes
    -----
    The files are in a temporary folder that is gone afterwards. Processes meet at a free port of 127.0.0.1, by gloo on
    the loopback interface, and nothing is forked from the calling process.

    Examples
    --------
    >>> script = '''
    ... import torch
    ... torch.distributed.init_process_group("gloo")
    ... result = start + torch.distributed.get_rank()
    ... torch.distributed.all_reduce(result)
    ... torch.distributed.destroy_process_group()
    ... '''
    >>> import torch
    >>> run_torchrun(script, 2, {"start": torch.tensor(10)})
    tensor(21)
    """
    torch = _torch("run_torchrun")
    if not isinstance(script, str):
        raise TypeError(f"script must be a string of Python, got {type(script).__name__}")
    if not script.strip():
        raise ValueError("script must not be empty")
    processes = integer("processes", processes, least=1, most=64)
    timeout = number("timeout", timeout, positive=True)
    if inputs is not None and not isinstance(inputs, Mapping):
        raise TypeError(f"inputs must be a mapping from names of variables, got {inputs!r}")
    inputs = dict(inputs or {})
    if not all(isinstance(name, str) and name.isidentifier() for name in inputs):
        raise ValueError(f"inputs must have names of variables, got {list(inputs)}")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")))),
    }
    if gpus < processes:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory(prefix="torchrun-") as name:
        folder = Path(name)
        torch.save(inputs, folder / "inputs.pt")
        try:
            torch.load(folder / "inputs.pt", weights_only=True)
        except Exception as error:
            raise TypeError("inputs must be tensors, numbers, strings, lists and dicts of these") from error
        (folder / "script.py").write_text(script, encoding="utf-8")
        (folder / "launch.py").write_text(LAUNCHER, encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        said = _ends(
            [*command, str(folder / "launch.py"), repr(timeout)], environment, timeout + 30, folder / "said.txt"
        )
        if said is None:
            if (folder / "result.pt").exists():
                return torch.load(folder / "result.pt", weights_only=True)
            said = "no process was left to write the result"
        errors = sorted(folder.glob("error-*.txt"))
        late = [path for path in sorted(folder.glob("late-*.txt")) if path.stat().st_size]
        if late and not errors:
            raise TimeoutError(f"script was not done after {timeout:g} s:\n{_last_lines(late[0].read_text())}")
        if errors:
            said = f"in process {errors[0].stem.removeprefix('error-')}:\n{_last_lines(errors[0].read_text())}"
        raise RuntimeError(f"script failed {said}")


def _ends(command: list[str], environment: Mapping[str, str], seconds: float, log: Path) -> str | None:
    """Run a command; None if it ended well, else what it said last. It has ended in any case when this returns or raises."""
    with log.open("wb") as stream:
        started = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=log.parent
        )
        try:
            code = started.wait(seconds)
        except BaseException as error:  # also when the reader interrupts the cell
            started.terminate()  # torchrun passes it on to its processes
            try:
                started.wait(35)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return f"to end within {seconds:g} s"
    return None if code == 0 else f"with exit status {code}:\n{_last_lines(log.read_text(errors='replace'))}"


def _last_lines(text: str, count: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-count:])


def _torch(by: str) -> ModuleType:
    with needed_by(by):
        import torch
    return torch
