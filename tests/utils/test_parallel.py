"""Facts about data parallelism. Exact values come from rational arithmetic; processes are real, started by torchrun."""

import itertools
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from kexue_utils import training
from kexue_utils.parallel import combine, ring_all_reduce, run_torchrun, shard_gradients

X = torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64)
Y = torch.tensor([1.0, 3, 2, 5, 4], dtype=torch.float64)


def relative(expected, tolerance=1e-12):
    return pytest.approx(float(expected), rel=tolerance, abs=0)


def line(dtype=torch.float64):
    """w x with w = 1/2."""
    model = nn.Linear(1, 1, bias=False, dtype=dtype)
    nn.init.constant_(model.weight, 0.5)
    return model


def half_square(model, x, y):
    return ((model(x[:, None])[:, 0] - y) ** 2).mean() / 2


def shards(sizes):
    return list(zip(X.split(sizes), Y.split(sizes), strict=True))


# Gradients of shards -------------------------------------------------------------------------------------------------


def test_single_gradients_of_the_example():
    gradients, sizes = shard_gradients(half_square, line(), shards([1] * 5))
    assert gradients.flatten().tolist() == [-1 / 2, -4, -3 / 2, -12, -15 / 2]
    assert sizes.tolist() == [1] * 5
    assert combine(gradients).item() == relative(Fraction(-51, 10))


@pytest.mark.parametrize(
    ("sizes", "own", "plain", "error"),
    [
        ([2, 3], ["-9/4", "-7"], "-37/8", "19/40"),
        ([1, 1, 3], ["-1/2", "-4", "-7"], "-23/6", "19/15"),
    ],
)
def test_reference_values_of_unequal_shards(sizes, own, plain, error):
    gradients, counted = shard_gradients(half_square, line(), shards(sizes))
    assert counted.tolist() == sizes
    assert gradients.flatten().tolist() == [relative(Fraction(value)) for value in own]
    assert combine(gradients).item() == relative(Fraction(plain))
    assert combine(gradients, counted).item() == relative(Fraction(-51, 10))
    assert combine(gradients).item() - combine(gradients, counted).item() == relative(Fraction(error))
    K, N = len(sizes), sum(sizes)
    by_formula = sum((Fraction(1, K) - Fraction(n, N)) * Fraction(value) for n, value in zip(sizes, own, strict=True))
    assert by_formula == Fraction(error)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 10**6))
@settings(max_examples=30)
def test_the_weighted_mean_is_the_gradient_of_the_whole_batch_for_any_shards(sizes, seed):
    rng = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, sum(sizes), 1, generator=rng, dtype=torch.float64)
    training.seed_all(seed)
    model = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)).double()

    def loss(model, x, y):
        return F.mse_loss(model(x), y)

    dealt = list(zip(x.split(sizes), y.split(sizes), strict=True))
    gradients, counted = shard_gradients(loss, model, dealt)
    ((whole,), _) = shard_gradients(loss, model, [(x, y)])
    torch.testing.assert_close(combine(gradients, counted), whole, rtol=1e-12, atol=1e-13)


def test_parameters_that_take_no_part_have_gradient_zero_and_frozen_ones_are_left_out():
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1), "frozen": nn.Linear(2, 1)})
    model["frozen"].requires_grad_(False)
    gradients, sizes = shard_gradients(lambda m, x: m["used"](x).mean(), model, [torch.ones(4, 2)])
    assert gradients.tolist() == [[1, 1, 1, 0, 0, 0]]
    assert sizes.tolist() == [4]
    assert all(p.grad is None for p in model.parameters())


def test_an_empty_shard_is_refused():
    with pytest.raises(ValueError, match="shards must have a sample each, but shard 1 is empty"):
        shard_gradients(half_square, line(), [(X, Y), (X[:0], Y[:0])])


@pytest.mark.parametrize(
    ("loss", "module", "given", "error", "said"),
    [
        (half_square, line(), [], ValueError, "shards must have at least one"),
        (half_square, line(), X, TypeError, "shards must be a sequence"),
        (half_square, line(), [3], TypeError, "got 3 as shard 0"),
        (lambda m, x, y: m(x[:, None]), line(), [(X, Y)], ValueError, "loss must be a tensor of one number"),
        (half_square, nn.ReLU(), [(X, Y)], ValueError, "module must have a parameter"),
        (half_square, "line", [(X, Y)], TypeError, "module must be a torch.nn.Module"),
        (None, line(), [(X, Y)], TypeError, "loss must be a function"),
    ],
)
def test_bad_arguments_of_shard_gradients_are_named(loss, module, given, error, said):
    with pytest.raises(error, match=said):
        shard_gradients(loss, module, given)


@pytest.mark.gpu(mps=True)
def test_gradients_of_shards_on_an_accelerator():
    model = line(torch.float32).to(training.device())
    on_device = [tuple(part.float().to(training.device()) for part in shard) for shard in shards([2, 3])]
    gradients, sizes = shard_gradients(half_square, model, on_device)
    assert gradients.device.type == training.device().type == combine(gradients, sizes).device.type
    assert combine(gradients, sizes).item() == relative(-5.1, 1e-6)


# Their mean ----------------------------------------------------------------------------------------------------------


def test_combine_keeps_format_and_library():
    for like in (np.float32([[1, 2], [3, 5]]), torch.tensor([[1.0, 2.0], [3.0, 5.0]])):
        mean = combine(like, [1, 3] if isinstance(like, np.ndarray) else torch.tensor([1, 3]))
        assert type(mean) is type(like)
        assert mean.dtype == like.dtype
        assert mean.tolist() == [2.5, 4.25]


def test_only_the_ratio_of_weights_counts_whatever_their_size():
    gradients = np.array([[1.0], [5.0]])
    for scale in (5e-324, 1e-300, 1.0, 1e300):
        assert combine(gradients, np.array([scale, scale])).tolist() == [3.0]
    assert combine(gradients, [0, 2]).tolist() == [5.0]


@pytest.mark.parametrize(
    ("gradients", "weights", "said"),
    [
        ([[1.0], [2.0]], [1, -1], "weights must be not negative, got -1"),
        ([[1.0], [2.0]], [0, 0], "weights must not all be 0"),
        ([[1.0], [2.0]], [1, 2, 3], r"weights must have shape \(2,\)"),
        ([], None, "gradients must have shape"),
        (3.0, None, "gradients must have shape"),
        ([1.0, np.nan], None, "gradients must be finite"),
    ],
)
def test_bad_arguments_of_combine_are_named(gradients, weights, said):
    with pytest.raises(ValueError, match=said):
        combine(gradients, weights)


# The ring ------------------------------------------------------------------------------------------------------------


def fractions(K, M, seed=0):
    rng = np.random.default_rng([seed, K, M])
    return [
        [Fraction(int(p), int(q)) for p, q in zip(rng.integers(-99, 100, M), rng.integers(1, 100, M), strict=True)]
        for _ in range(K)
    ]


@pytest.mark.parametrize("K", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("M", [0, 1, 7, 24])
def test_every_process_ends_with_the_exact_sum(K, M):
    vectors = fractions(K, M)
    held, sent = ring_all_reduce(vectors)
    assert held == [[sum(column) for column in zip(*vectors, strict=True)]] * K
    assert sum(sent) == 2 * (K - 1) * M


@pytest.mark.parametrize("K", [2, 3, 4, 5, 8])
def test_each_sends_twice_the_vector_but_for_one_part_in_K(K):
    M = 3 * K
    assert ring_all_reduce([[1] * M] * K).sent == [2 * (K - 1) * M // K] * K


def test_reference_value_of_the_traffic():
    assert ring_all_reduce([[0] * 24] * 8).sent == [42] * 8


def test_floats_end_in_the_same_bits_everywhere():
    vectors = np.random.default_rng(3).standard_normal((7, 50)).tolist()
    held, _ = ring_all_reduce(vectors)
    assert all(row == held[0] for row in held)
    assert held[0] == pytest.approx(np.sum(vectors, 0), rel=1e-12)


def test_after_the_first_half_each_process_has_one_complete_chunk():
    K = 5
    held, sent = ring_all_reduce([[1] * K for _ in range(K)], steps=K - 1)
    assert [row.count(K) for row in held] == [1] * K
    assert [row.index(K) for row in held] == [(r + 1) % K for r in range(K)]
    assert sent == [K - 1] * K


def test_no_step_changes_nothing_and_the_input_is_left_as_it_was():
    vectors = fractions(3, 6)
    before = [list(row) for row in vectors]
    assert ring_all_reduce(vectors, steps=0) == (before, [0, 0, 0])
    ring_all_reduce(vectors)
    assert vectors == before


@pytest.mark.parametrize(
    ("vectors", "steps", "error", "said"),
    [
        ([], None, ValueError, "vectors must be at least one"),
        ([[1], [1, 2]], None, ValueError, r"lengths \[1, 2\]"),
        ([[1], [2]], 3, ValueError, "steps must be at most 2"),
        ([[1], [2]], -1, ValueError, "steps must be at least 0"),
        ([1, 2], None, TypeError, "vectors must be a sequence of sequences"),
        (["ab", "cd"], None, TypeError, "vectors must be a sequence of sequences"),
        ([["a"], ["b"]], None, TypeError, "vectors must be numbers"),
    ],
)
def test_bad_arguments_of_the_ring_are_named(vectors, steps, error, said):
    with pytest.raises(error, match=said):
        ring_all_reduce(vectors, steps)


# Reference values of what a chapter computes by itself ---------------------------------------------------------------


def test_variance_is_that_within_shards_and_that_of_their_means():
    x = [Fraction(v) for v in (1, 2, 3, 10)]

    def variance(values):
        return sum((v - sum(values) / len(values)) ** 2 for v in values) / len(values)

    within = [variance(x[:2]), variance(x[2:])]
    assert variance(x) == Fraction(25, 2)
    assert within == [Fraction(1, 4), Fraction(49, 4)]
    assert variance([sum(x[:2]) / 2, sum(x[2:]) / 2]) == Fraction(25, 4)
    assert variance(x) == sum(within) / 2 + Fraction(25, 4)


def local_and_synchronous(steps, h=(1, 3), c=(0, 2), x=Fraction(1), eta=Fraction(1, 10)):
    local = [x, x]
    for _ in range(steps):
        local = [v - eta * h[k] * (v - c[k]) for k, v in enumerate(local)]
        x = x - eta * sum(h[k] * (x - c[k]) for k in (0, 1)) / 2
    return sum(local) / 2, x


def test_local_steps_of_the_example():
    assert local_and_synchronous(2) == (Fraction(29, 25), Fraction(59, 50))
    assert local_and_synchronous(5) == (Fraction("1.21121"), relative("1.33616", 5e-6))


@pytest.mark.parametrize(("steps", "rest"), [(1, 1.5), (2, 1.45714), (5, 1.34027), (50, 1.00258)])
def test_rounds_of_local_steps_come_to_rest_elsewhere(steps, rest):
    x = 1.0
    for _ in range(2000):
        x, _ = local_and_synchronous(steps, x=x, eta=0.1)
    assert x == pytest.approx(rest, abs=5e-6)


def test_root_of_the_mean_loss():
    loss, slope = torch.tensor([1.0, 4.0]), torch.tensor([1.0, -1.0])
    assert (slope / (2 * loss.sqrt())).mean().item() == 1 / 8
    assert slope.mean().item() / (2 * loss.mean().sqrt().item()) == 0


def test_speed_up_of_the_model():
    t_1, M, bandwidth = Fraction(1), 10**8, 10**9

    def seconds(K):
        return t_1 / K + Fraction(2 * (K - 1), K) * Fraction(M, bandwidth)

    assert seconds(8) == Fraction(3, 10)
    assert t_1 / seconds(8) == relative(3.3333333333, 1e-10)
    assert t_1 / seconds(8) / 8 == relative(0.4166666667, 1e-9)
    assert [float(t_1 / seconds(K)) for K in (2, 8, 64)] == pytest.approx([1.667, 3.333, 4.706], abs=5e-4)


# Real processes ------------------------------------------------------------------------------------------------------

SCRIPT = """
import os
import torch
from torch import nn
from kexue_utils import training

rank, K = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
on = training.device(float64=True)
model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
nn.init.constant_(model.weight, 0.5)
parallel = training.data_parallel(model.to(on))


def run(scale):
    x, y = (part.split(sizes)[rank].to(on) for part in (X, Y))
    model.zero_grad()
    (scale(len(x)) * ((parallel(x[:, None])[:, 0] - y) ** 2).mean() / 2).backward()
    return model.weight.grad.item()


result = {
    "plain": run(lambda n: 1),
    "cured": run(lambda n: K * n / len(X)),
    "sum": run(lambda n: n),
    "threads": torch.get_num_threads(),
}
"""


@pytest.fixture(scope="module")
def processes():
    return run_torchrun(SCRIPT, 2, {"X": X, "Y": Y, "sizes": [2, 3]}, timeout=150)


def test_two_processes_average_plainly(processes):
    assert processes["plain"] == relative(Fraction(-37, 8))


def test_two_processes_are_right_once_losses_are_scaled(processes):
    assert processes["cured"] == relative(Fraction(-51, 10))


def test_a_sum_of_losses_is_too_small_by_the_number_of_processes(processes):
    assert processes["sum"] == relative(Fraction(-51, 2) / 2)


def test_each_process_has_one_thread(processes):
    assert processes["threads"] == 1


def test_a_process_that_fails_is_named_with_its_error():
    with pytest.raises(RuntimeError, match=r"(?s)in process 1.*ZeroDivisionError"):
        run_torchrun("import os\nresult = 1 / (1 - int(os.environ['RANK']))", 2, timeout=100)


def test_a_process_that_waits_for_ever_is_ended_and_its_line_named():
    script = "import time\n\n\ndef wait():\n    time.sleep(1000)\n\n\nwait()\n"
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r'(?s)not done after 8 s.*script.py", line 5 in wait'):
        run_torchrun(script, 1, timeout=8)
    assert time.monotonic() - started < 120


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ((3, 2), TypeError, "script must be a string"),
        ((" ", 2), ValueError, "script must not be empty"),
        (("result = 1", 0), ValueError, "processes must be at least 1"),
        (("result = 1", 65), ValueError, "processes must be at most 64"),
        (("result = 1", 2.0), TypeError, "processes must be an integer"),
        (("result = 1", 2, [1]), TypeError, "inputs must be a mapping"),
        (("result = 1", 2, {"a b": 1}), ValueError, "inputs must have names of variables"),
        (("result = 1", 2, {"a": object()}), TypeError, "inputs must be tensors"),
    ],
)
def test_bad_arguments_of_torchrun_are_named(arguments, error, said):
    with pytest.raises(error, match=said):
        run_torchrun(*arguments)


def test_the_time_limit_is_positive():
    with pytest.raises(ValueError, match="timeout must be positive, got 0"):
        run_torchrun("result = 1", 1, timeout=0)


# The sampler ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("drop_last", "times"), [(False, [2] * 2 + [1] * 8), (True, [1] * 8 + [0] * 2)])
def test_the_sampler_pads_or_drops(drop_last, times):
    dealt = list(
        itertools.chain.from_iterable(
            torch.utils.data.DistributedSampler(range(10), 4, rank, shuffle=False, drop_last=drop_last)
            for rank in range(4)
        )
    )
    assert [dealt.count(i) for i in range(10)] == times
