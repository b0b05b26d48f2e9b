"""Facts about receptive fields, against the inputs that have a gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from kexue_utils.convolutions import receptive_field


def blocks(count, dilations=(1, 2, 4)):
    one = [(3, d, 1) for d in dilations]
    return one + [layer for _ in range(count - 1) for layer in [(2, 1, 2), *one]]


@pytest.mark.parametrize(("count", "field"), [(1, 15), (2, 44), (3, 102), (4, 218), (5, 450), (8, 3698)])
def test_blocks_of_the_spectral_network(count, field):
    assert receptive_field(blocks(count)) == field == 29 * 2 ** (count - 1) - 14


def test_without_dilation_eight_blocks_see_less_than_half():
    assert receptive_field(blocks(8, (1, 1, 1))) == 1658
    assert receptive_field(blocks(5, (1, 3, 9))) == 822


def test_no_layer_sees_one_input():
    assert receptive_field([]) == 1


layer = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=30, deadline=None)
@given(st.lists(layer, min_size=1, max_size=3))
def test_as_many_inputs_have_a_gradient(layers):
    """Kernels of ones without padding: the span between the first and the last input that the first output depends on."""
    x = torch.ones(1, 1, receptive_field(layers) + 5, dtype=torch.float64, requires_grad=True)
    h = x
    for kernel, dilation, stride in layers:
        h = F.conv1d(h, torch.ones(1, 1, kernel, dtype=torch.float64), dilation=dilation, stride=stride)
    (slope,) = torch.autograd.grad(h[0, 0, 0], x)
    seen = slope[0, 0].nonzero()
    assert int(seen.max() - seen.min()) + 1 == receptive_field(layers)


@pytest.mark.parametrize(
    ("layers", "error"),
    [(3, TypeError), ("ab", TypeError), ([3], TypeError), ([(3, 1)], ValueError), ([(3, 0, 1)], ValueError), ([(3.0, 1, 1)], TypeError)],
)  # fmt: skip
def test_errors_name_the_argument(layers, error):
    with pytest.raises(error, match="layers"):
        receptive_field(layers)
