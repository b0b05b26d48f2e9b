"""The contract of a layer: what it says about itself is enough to build it again.

A module that keeps it has a method `config`, which returns the keyword arguments of its own constructor. Then
``type(module)(**module.config())`` with the parameters copied is the same function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .arguments import is_tensor
from .extras import needed_by

if TYPE_CHECKING:
    import torch

__all__ = ["assert_clonable"]


def assert_clonable(module: torch.nn.Module, *inputs: torch.Tensor, seed: int = 0) -> None:
    """Check that a module can be built again from its `config`, by the outputs of the clone at parameters drawn at random.

    With the parameters that a constructor sets, often 0 or 1, a clone that lost a setting may still agree.

    Parameters
    ----------
    module : torch.nn.Module
        With a method `config`. Left as it was.
    *inputs : tensors
        What the module is called with. Its output is one tensor, and does not depend on chance in evaluation mode.
    seed : int
        Of the parameters at which the outputs are compared, uniform between 1/2 and 3/2. Buffers are copied.

    Raises
    ------
    ValueError
        If the module has no config, cannot be built from it, or if the clone has other parameters or another output.
    TypeError
        If module is no module, inputs are no tensors, config is no mapping, or seed no integer.
    ImportError
        If PyTorch is not installed.

    Notes
    -----
    Source: the test by ``clone_model`` in kexue.fm/archives/7055, made sharper in this book's chapter on it.

    Examples
    --------
    >>> import torch
    >>> class Power(torch.nn.Module):
    ...     def __init__(self, power=1):
    ...         super().__init__()
    ...         self.power, self.weight = power, torch.nn.Parameter(torch.ones(()))
    ...     def forward(self, x):
    ...         return x * self.weight**self.power
    ...     def config(self):
    ...         return {}
    >>> assert_clonable(Power(2), torch.ones(3))
    Traceback (most recent call last):
    ...
    ValueError: module must be rebuilt by its config, got a clone of Power with other outputs
    """
    with needed_by("assert_clonable"):
        import torch
    from .training import generator

    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if not inputs or not all(map(is_tensor, inputs)):
        raise TypeError(f"inputs must be tensors, at least one, got {inputs!r}")
    name, draw = type(module).__name__, generator(seed, "cpu")
    says: Any = getattr(module, "config", None)
    if not callable(says):
        raise ValueError(f"module must have a method config, got a {name} without")
    config = says()
    if not isinstance(config, Mapping):
        raise TypeError(f"module must have a config that returns a mapping, got {config!r}")
    try:
        clone = type(module)(**config)
        # to where the module is: a constructor builds on the CPU, in torch's default format
        example = next(module.parameters(), inputs[0])
        clone = clone.to(device=example.device, dtype=example.dtype if example.is_floating_point() else None)
    except TypeError as error:
        raise ValueError(f"module must be rebuilt by its config, but {name}(**config) says: {error}") from error
    was = {key: value.clone() for key, value in module.state_dict().items()}
    drawn = dict(was)
    for key, parameter in module.named_parameters():
        drawn[key] = (torch.rand(parameter.shape, generator=draw) + 0.5).to(parameter)
    modes = [(part, part.training) for part in module.modules()]
    try:
        try:
            clone.load_state_dict(drawn)
        except RuntimeError as error:
            raise ValueError(
                f"module must be rebuilt by its config, got a clone of {name} with other parameters"
            ) from error
        module.load_state_dict(drawn)
        with torch.no_grad():
            outputs = [part.eval()(*inputs) for part in (module, clone)]
    finally:
        module.load_state_dict(was)
        for part, training in modes:
            part.training = training
    if not all(map(is_tensor, outputs)):
        raise TypeError(f"module must return one tensor, got {type(outputs[0]).__name__}")
    if not torch.equal(*outputs):
        raise ValueError(f"module must be rebuilt by its config, got a clone of {name} with other outputs")
