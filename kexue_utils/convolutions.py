"""Stacks of convolutions and poolings along one axis: how much of the input one cell of the output can see.

Notation: a layer is (kernel, dilation, stride): each of its cells looks at `kernel` cells of the layer below, `dilation` apart, and neighbours
look at places that are `stride` apart. A pooling over pairs is (2, 1, 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .arguments import integer

__all__ = ["receptive_field"]


def receptive_field(layers: Iterable[Sequence[int]]) -> int:
    r"""How many neighbouring inputs one cell at the top can depend on.

    .. math:: r = 1+\sum_l(k_l-1)\,d_l\prod_{m<l}s_m

    Parameters
    ----------
    layers : sequence of (kernel, dilation, stride)
        From the input to the output; each a positive integer.

    Returns
    -------
    int
        1 for no layer at all. A cell near the border sees less: what it would see beyond is padding.

    Raises
    ------
    ValueError
        If a layer has not three numbers, or one is below 1.
    TypeError
        If layers is no sequence of such triples of integers.

    Notes
    -----
    An upper bound for a given network: it is reached unless weights are 0 or a nonlinearity is switched off.

    Source: the counting is standard; Yu & Koltun, ICLR 2016, for dilations that double.

    Examples
    --------
    >>> block = [(3, 1, 1), (3, 2, 1), (3, 4, 1)]
    >>> receptive_field(block), receptive_field([*block, (2, 1, 2), *block])
    (15, 44)
    """
    if isinstance(layers, str | bytes) or not isinstance(layers, Iterable):
        raise TypeError(f"layers must be a sequence of (kernel, dilation, stride), got {layers!r}")
    field = jump = 1
    for layer in layers:
        if isinstance(layer, str | bytes) or not isinstance(layer, Sequence):
            raise TypeError(f"layers must be a sequence of (kernel, dilation, stride), got {layer!r} in it")
        if len(layer) != 3:
            raise ValueError(f"layers must be triples (kernel, dilation, stride), got {layer!r}")
        kernel, dilation, stride = (integer("layers", value, least=1) for value in layer)
        field += (kernel - 1) * dilation * jump
        jump *= stride
    return field
