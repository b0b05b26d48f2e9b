"""Facts about batch standardisation. Reference values: mpmath with 30 digits."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from kexue_utils.normalization import BatchStandardize

X = torch.tensor([[0.5], [2.0], [-1.0], [3.5]], dtype=torch.float64)
G = torch.tensor([[1.0], [-0.5], [0.25], [2.0]], dtype=torch.float64)
batches = st.builds(
    lambda seed, n, d, offset: torch.as_tensor(np.random.default_rng(seed).normal(offset, 2, (n, d))),
    st.integers(0, 2**32 - 1),
    st.integers(2, 9),
    st.integers(1, 4),
    st.floats(-10, 10),
)


def backward(layer, x, g):
    x = x.clone().requires_grad_()
    layer(x).backward(g)
    return x.grad


def close(expected, tolerance=1e-13):
    return pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_reference_values():
    found = BatchStandardize(eps=0)(X).flatten().tolist()
    assert found == close([-0.447213595499958, 0.447213595499958, -1.34164078649987, 1.34164078649987])
    assert (X.mean().item(), X.var(correction=0).item()) == (1.25, 2.8125)


def test_reference_gradient():
    found = backward(BatchStandardize(eps=0), X, G).flatten()
    assert found.tolist() == close([0.298142396999972, -0.819891591749923, 0.074535599249993, 0.447213595499958])
    assert found.square().sum().item() == close(0.966666666666667, 1e-14)


@given(batches)
def test_gradient_is_a_projection_over_the_standard_deviation(x):
    g = torch.sin(torch.arange(x.numel(), dtype=torch.float64)).reshape(x.shape)
    y = BatchStandardize(eps=0)(x)
    projected = g - g.mean(0) - y * (g * y).mean(0)
    # Two samples leave no direction at all; then only rounding of the size of g/sigma is left.
    scale = (g.abs().max() / x.std(0, correction=0).min()).item()
    torch.testing.assert_close(
        backward(BatchStandardize(eps=0), x, g), projected / x.std(0, correction=0), rtol=1e-9, atol=1e-9 * scale
    )


@pytest.mark.parametrize("eps", [1e-30, 1e-5, 0.1])
def test_torch_batch_norm_agrees_forward_and_backward(eps):
    x, g = torch.randn(2, 20, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    theirs = torch.nn.BatchNorm1d(7, eps=eps, affine=False).double()
    torch.testing.assert_close(BatchStandardize(eps)(x), theirs(x), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(backward(BatchStandardize(eps), x, g), backward(theirs, x, g), rtol=1e-12, atol=1e-15)


def test_running_variance_of_torch_is_unbiased_and_ours_is_not():
    theirs = torch.nn.BatchNorm1d(1, momentum=1.0, affine=False).double()
    theirs(X)
    assert theirs.running_var.item() == close(2.8125 * 4 / 3)


def test_scikit_learn_agrees():
    x = np.random.default_rng(0).normal(3, 2, (50, 4))
    expected = StandardScaler().fit_transform(x)
    np.testing.assert_allclose(BatchStandardize(eps=0)(torch.as_tensor(x)), expected, rtol=1e-12, atol=1e-13)


@given(batches, st.floats(0.1, 10), st.floats(-5, 5))
def test_scale_and_shift_of_the_input_change_nothing(x, factor, shift):
    layer = BatchStandardize(eps=0)
    # Rounding of the shifted input, in units of the spread that it is divided by.
    rounding = 1e-14 * (1 + (abs(x).max() + abs(shift / factor)) / x.std(0, correction=0).min()).item()
    torch.testing.assert_close(layer(factor * x + shift), layer(x), rtol=0, atol=10 * rounding)


@given(st.floats(-10, 10), st.floats(0.01, 10))
def test_a_batch_of_two_becomes_plus_and_minus_one(low, gap):
    found = BatchStandardize(eps=0)(torch.tensor([[low], [low + gap]], dtype=torch.float64))
    assert found.flatten().tolist() == pytest.approx([-1, 1], abs=1e-12)


def test_halves():
    torch.testing.assert_close(BatchStandardize(scale=False)(X), X - 1.25)
    torch.testing.assert_close(BatchStandardize(eps=0, center=False)(X), X / 2.8125**0.5)


def test_leading_dimensions_are_batches_of_their_own():
    x = torch.randn(3, 10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    layer = BatchStandardize()
    assert torch.equal(layer(x), torch.stack([layer(part) for part in x]))


def test_evaluation_mode_is_the_same():
    layer = BatchStandardize()
    assert torch.equal(layer.eval()(X), layer.train()(X))


def test_it_has_no_state():
    assert not BatchStandardize().state_dict()
    assert not list(BatchStandardize().parameters())
    assert repr(BatchStandardize(0.1, center=False)) == "BatchStandardize(eps=0.1, center=False, scale=True)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_format_is_kept(dtype):
    assert BatchStandardize()(X.to(dtype)).dtype == dtype


def test_constant_feature():
    x = torch.tensor([[0.1, 1.0]] * 3 + [[0.1, 2.0]], dtype=torch.float64)
    assert BatchStandardize()(x)[:, 0].abs().max() < 1e-12
    with pytest.raises(ValueError, match="x must have no constant feature at eps = 0"):
        BatchStandardize(eps=0)(x)


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (torch.ones(4), ValueError),
        (torch.ones(1, 4), ValueError),
        (torch.ones(3, 4, dtype=torch.int64), TypeError),
        (np.ones((3, 4)), TypeError),
    ],
)
def test_what_is_no_batch_is_refused(x, error):
    with pytest.raises(error, match=r"^x must"):
        BatchStandardize()(x)


@pytest.mark.gpu
def test_it_stays_on_the_gpu():
    found = BatchStandardize()(X.cuda())
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), BatchStandardize()(X))
