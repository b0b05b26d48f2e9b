"""Facts about how often an item finds its own group among its nearest neighbours."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from kexue_utils.neighbours import topk_hit


def by_scikit_learn(X, groups, k):
    found = NearestNeighbors(n_neighbors=k, metric="cosine").fit(X).kneighbors(return_distance=False)
    return (groups[found] == groups[:, None]).any(1).mean()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_shares_are_those_of_scikit_learn_in_either_library_and_any_chunk(seed, chunk):
    rng = np.random.default_rng(seed)
    X, groups = rng.normal(size=(36, 4)), rng.permutation(np.repeat(np.arange(12), 3))
    expected = [by_scikit_learn(X, groups, k) for k in (1, 5, 10)]
    np.testing.assert_allclose(topk_hit(X, groups, chunk=chunk), expected)
    np.testing.assert_allclose(topk_hit(torch.tensor(X), torch.tensor(groups), chunk=chunk).numpy(), expected)


def test_lengths_do_not_matter_and_k_may_be_one_number():
    X, groups = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) // 2
    assert topk_hit(X, groups, 4) == topk_hit(X * np.arange(1, 31)[:, None], groups, (1, 4))[1]


def test_perfect_embeddings_hit_always_and_constant_ones_never():
    groups = np.arange(12) // 3
    assert topk_hit(np.eye(4)[groups], groups, 1) == 1
    assert topk_hit(np.ones((12, 2)), groups, (1, 8, 10)).tolist() == [0, 0, 1]


def test_nobody_finds_itself():
    assert topk_hit([[1.0, 0.0], [-1.0, 0.1], [0.9, 0.1], [-1.0, 0.0]], [0, 0, 1, 1], (1, 2, 3)).tolist() == [0, 0.5, 1]


def test_format_is_that_of_the_embeddings():
    X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    assert topk_hit(X, np.arange(8) // 2, 3).dtype == np.float32
    assert topk_hit(torch.tensor(X), [0, 0, 1, 1, 2, 2, 3, 3], [3]).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda X: topk_hit(X, [0, 0, 1, 2]), ValueError, "k must be at most 3"),
        (lambda X: topk_hit(X, [0, 0, 1, 2], 1), ValueError, "groups must have two items each, got one of group 1"),
        (lambda X: topk_hit(X, [0, 0, 1], 1), ValueError, "groups must have one number for each of the 4 rows"),
        (lambda X: topk_hit(X, [0.0, 0.0, 1.0, 1.0], 1), TypeError, "groups must be integers"),
        (lambda X: topk_hit(X, torch.tensor([0, 0, 1, 1]), 1), TypeError, "all NumPy or all torch"),
        (lambda X: topk_hit(0 * X, [0, 0, 1, 1], 1), ValueError, "embeddings must have nonzero rows"),
        (lambda X: topk_hit(X[None], [0, 0, 1, 1], 1), ValueError, r"embeddings must have shape \(N, n\)"),
        (lambda X: topk_hit(X, [0, 0, 1, 1], "1"), TypeError, "k must be an integer"),
        (lambda X: topk_hit(X, [0, 0, 1, 1], 1, chunk=0), ValueError, "chunk must be at least 1"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]]))


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    X, groups = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) // 4
    found = topk_hit(X.cuda(), groups.cuda())
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), topk_hit(X, groups))
