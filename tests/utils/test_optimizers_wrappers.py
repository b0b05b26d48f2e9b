"""Facts about Lookahead and lazy Adam. Reference values: mpmath with 30 digits, or fractions."""

import copy
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from kexue_utils.optimizers import (
    ExponentiatedGradient,
    HypergradientGains,
    LazyAdam,
    Lookahead,
    adam_impulse_response,
    lookahead_multiplier,
    lookahead_step_limit,
    lookahead_variance_ratio,
)

INNER = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01),  # has a setting of its own called alpha
    "gains": lambda p: HypergradientGains(p, lr=0.1, gamma=0.1),
    "lazy": lambda p: LazyAdam(p, lr=0.01, variant="masked"),
}
inners = pytest.mark.parametrize("inner", INNER)
variants = pytest.mark.parametrize("variant", ["dense", "standard", "masked"])


def relative(expected, tolerance=1e-12):
    return pytest.approx(expected, rel=tolerance, abs=0)


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).to(dtype)


def descend(model, optimizer, steps, first=0, scheduler=None):
    """Train on batches that depend on the number of the step."""
    for k in range(first, first + steps):
        p = next(model.parameters())
        x = torch.sin(torch.arange(20.0, dtype=p.dtype, device=p.device).reshape(5, 4) + k)
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return [p.detach().clone() for p in model.parameters()]


def same(one, other):
    return all(map(torch.equal, one, other))


# Lookahead


@inners
def test_share_one_is_the_inner_optimizer_bit_for_bit(inner):
    model, plain = network(), network()
    ahead = Lookahead(INNER[inner](model.parameters()), k=3, alpha=1)
    assert same(descend(model, ahead, 10), descend(plain, INNER[inner](plain.parameters()), 10))


@inners
def test_lookahead_is_the_obvious_loop(inner):
    model, plain = network(), network()
    ahead = descend(model, Lookahead(INNER[inner](model.parameters()), k=4, alpha=0.3), 10)
    optimizer = INNER[inner](plain.parameters())
    for k in range(10):
        if k % 4 == 0:
            slow = [p.detach().clone() for p in plain.parameters()]
        descend(plain, optimizer, 1, first=k)
        if k % 4 == 3:
            with torch.no_grad():
                for p, s in zip(plain.parameters(), slow, strict=True):
                    p.copy_(s + 0.3 * (p - s))
    for ours, p in zip(ahead, plain.parameters(), strict=True):
        torch.testing.assert_close(ours, p.detach(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("k, alpha", [(1, 0.5), (5, 0.5), (4, 0.3), (2, 1.0)])
def test_a_cycle_on_a_parabola_is_one_multiplication(k, alpha):
    theta = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    optimizer = Lookahead(torch.optim.SGD([theta], lr=0.2), k, alpha)
    for _ in range(3 * k):
        optimizer.zero_grad()
        (1.5 * theta**2).sum().backward()  # h = 3
        optimizer.step()
    assert theta.item() == relative(2 * lookahead_multiplier(0.6, k, alpha) ** 3)


def test_slow_weights_are_torchs_moving_average_of_the_end_points():
    theta = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    holder = torch.nn.Module()
    holder.theta = theta
    # AveragedModel copies at its first update: that is the start
    average = torch.optim.swa_utils.AveragedModel(
        holder, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay=0.7)
    )
    average.update_parameters(holder)
    optimizer = Lookahead(torch.optim.SGD([theta], lr=0.1), k=2, alpha=0.3)
    for target in (3.0, -1.0, 0.5, 2.0):
        for _ in range(2):
            optimizer.zero_grad()
            ((theta - target) ** 2).sum().backward()
            fast = (theta - 0.1 * theta.grad).detach().clone()
            optimizer.step()
        slow = theta.detach().clone()
        with torch.no_grad():
            theta.copy_(fast)
            average.update_parameters(holder)
            theta.copy_(slow)
        torch.testing.assert_close(average.module.theta.detach(), slow, rtol=1e-13, atol=0)


@inners
@pytest.mark.parametrize("done", [0, 2, 3, 5])
def test_a_saved_run_goes_on_exactly_from_anywhere_in_a_cycle(inner, done, tmp_path):
    straight = network()
    expected = descend(straight, Lookahead(INNER[inner](straight.parameters()), k=3, alpha=0.6), 11)
    model = network()
    first = Lookahead(INNER[inner](model.parameters()), k=3, alpha=0.6)
    descend(model, first, done)
    torch.save({"model": model.state_dict(), "optimizer": first.state_dict()}, tmp_path / "run.pt")
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    again = network()
    second = Lookahead(INNER[inner](again.parameters()), k=7, alpha=0.1)
    again.load_state_dict(saved["model"])
    second.load_state_dict(saved["optimizer"])
    assert same(second.slow_params(), first.slow_params())
    assert same(descend(again, second, 11 - done, first=done), expected)


def test_copies_and_pickles_go_on_alone():
    model = network()
    optimizer = Lookahead(torch.optim.Adam(model.parameters()), k=3, alpha=0.5)
    descend(model, optimizer, 4)
    for copied_model, copied in (
        copy.deepcopy((model, optimizer)),
        pickle.loads(pickle.dumps((model, optimizer))),
    ):
        assert copied.param_groups is copied.inner.param_groups
        before = descend(model, copy.deepcopy(optimizer), 0)
        after = descend(copied_model, copied, 5, first=4)
        assert same(before, [p.detach() for p in model.parameters()])
        twin_model, twin = copy.deepcopy((model, optimizer))
        assert same(after, descend(twin_model, twin, 5, first=4))


def test_slow_weights_within_a_cycle_are_its_start():
    model = network()
    optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1), k=3)
    start = descend(model, optimizer, 0)
    assert same(optimizer.slow_params(), start)
    fast = descend(model, optimizer, 2)
    assert same(optimizer.slow_params(), start)
    assert not same(fast, start)
    ended = descend(model, optimizer, 1, first=2)
    assert same(optimizer.slow_params(), ended)
    optimizer.slow_params()[0].zero_()
    assert same(optimizer.slow_params(), ended)


def test_a_group_added_later_begins_its_own_cycle():
    first, second = (torch.ones(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = Lookahead(torch.optim.SGD([first], lr=0.1), k=3, alpha=0.5)

    def step():
        optimizer.zero_grad()
        (first + second).sum().backward()
        optimizer.step()

    step()
    optimizer.add_param_group({"params": [second], "lr": 0.2, "lookahead_k": 2, "lookahead_alpha": 0.25})
    assert len(optimizer.inner.param_groups) == 2
    step()
    step()
    assert first.item() == relative(1 - 0.5 * 0.3)
    assert second.item() == relative(1 - 0.25 * 0.4)
    with pytest.raises(ValueError, match="lookahead_alpha must be at most 1, got 2"):
        optimizer.add_param_group({"params": [torch.ones(1, requires_grad=True)], "lookahead_alpha": 2})
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        optimizer.add_param_group({"params": [first]})
    assert len(optimizer.param_groups) == 2


@pytest.mark.parametrize("on", ["wrapper", "inner"])
def test_schedulers_work_on_either(on):
    model, plain = network(), network()
    ahead = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), k=1, alpha=1)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    make = lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.5, total_steps=12)  # noqa: E731
    ours = descend(model, ahead, 10, scheduler=make(ahead if on == "wrapper" else ahead.inner))
    theirs = descend(plain, optimizer, 10, scheduler=make(optimizer))
    assert same(ours, theirs)
    assert ahead.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_closures_also_those_that_are_called_often():
    theta = torch.tensor([3.0, -1.0], dtype=torch.float64, requires_grad=True)
    optimizer = Lookahead(torch.optim.LBFGS([theta], lr=0.5), k=2, alpha=0.5)
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = (theta**2).sum()
        loss.backward()
        calls.append(loss.item())
        return loss

    assert optimizer.step(closure).item() == 10
    assert len(calls) > 1
    optimizer.step(closure)
    plain = Lookahead(torch.optim.SGD([theta], lr=0.1))
    assert plain.step() is None


def test_lookahead_around_sparse_adam():
    torch.manual_seed(0)
    table = torch.nn.Embedding(6, 3, sparse=True)
    start = table.weight.detach().clone()
    optimizer = Lookahead(torch.optim.SparseAdam(list(table.parameters()), lr=0.1), k=2, alpha=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        table(torch.tensor([1, 4])).sum().backward()
        optimizer.step()
    moved = table.weight.detach() - start
    assert (moved[[0, 2, 3, 5]] == 0).all()
    torch.testing.assert_close(moved[[1, 4]], torch.full((2, 3), -0.1), rtol=1e-4, atol=0)


def test_zero_grad_hooks_and_errors_of_the_inner_optimizer():
    theta = torch.tensor([300.0], dtype=torch.float64, requires_grad=True)
    optimizer = Lookahead(HypergradientGains([theta], lr=0.1, gamma=3.0), k=2)
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(theta.item()))
    (theta**2 / 2).sum().backward()
    optimizer.step()
    before = theta.item()
    optimizer.zero_grad()
    assert theta.grad is None
    (theta**2 / 2).sum().backward()
    with pytest.raises(FloatingPointError, match="a gain or a parameter becomes infinite"):
        optimizer.step()
    assert (theta.item(), seen) == (before, [before])
    assert optimizer.slow_params()[0].item() == 300


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"k": 2.0}, TypeError, "k must be an integer, got 2.0"),
        ({"alpha": 0}, ValueError, "alpha must be positive, got 0"),
        ({"alpha": 1.5}, ValueError, "alpha must be at most 1, got 1.5"),
    ],
)
def test_lookahead_refuses_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        Lookahead(torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1), **settings)


def test_lookahead_refuses_what_it_cannot_wrap_or_load():
    with pytest.raises(TypeError, match=r"inner must be a torch\.optim\.Optimizer, got list"):
        Lookahead([torch.ones(1)])
    optimizer = Lookahead(torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1))
    with pytest.raises(ValueError, match="state_dict must be that of a Lookahead, got one without inner, lookahead"):
        optimizer.load_state_dict(optimizer.inner.state_dict())


def test_wrapping_again_takes_the_new_settings():
    theta = torch.ones(1, dtype=torch.float64, requires_grad=True)
    inner = torch.optim.SGD([theta], lr=0.1)
    Lookahead(inner, k=5)
    optimizer = Lookahead(inner, k=1, alpha=0.5)
    theta.grad = torch.ones_like(theta)
    optimizer.step()
    assert theta.item() == relative(0.95)


# The closed forms of Lookahead


@pytest.mark.parametrize(
    "x, k, alpha, ratio",
    [
        (0.1, 5, 0.5, 0.44297296469284),
        (0.5, 5, 0.5, 0.34020618556701),
        (0.1, 5, 0.8, 0.7608216255519),
        (0.01, 10, 0.5, 0.48775505020331),
    ],
)
def test_variance_ratios_have_the_reference_values(x, k, alpha, ratio):
    assert lookahead_variance_ratio(x, k, alpha) == relative(ratio)
    assert lookahead_variance_ratio(torch.tensor([x], dtype=torch.float64), k, alpha).item() == relative(ratio)


def test_variances_have_the_reference_values():
    x, k, alpha = 0.1, 5, 0.5
    rho, m = 1 - x, lookahead_multiplier(x, k, alpha)
    plain = x**2 / (1 - rho**2)
    settled = plain * lookahead_variance_ratio(x, k, alpha)
    assert (plain, settled) == (relative(0.052631578947368), relative(0.023314366562781))
    growing = 0.0
    for _ in range(3):
        growing = m**2 * growing + alpha**2 * plain * (1 - rho ** (2 * k))
    assert growing == relative(0.017417391330161)
    matched = 1 - m ** (1 / k)
    assert matched == relative(0.04478707682, 1e-9)
    assert settled / (matched / (2 - matched)) == relative(1.01780589487, 1e-9)


@pytest.mark.parametrize(
    "x, k, alpha, excess, tolerance", [(0.5, 5, 0.5, 1.7146, 5e-5), (0.2, 4, 0.3, 1.0580, 5e-5), (1.5, 5, 0.5, 13.5, 5e-3)]
)  # fmt: skip
def test_equal_speed_has_the_reference_values(x, k, alpha, excess, tolerance):
    matched = 1 - lookahead_multiplier(x, k, alpha) ** (1 / k)
    found = lookahead_variance_ratio(x, k, alpha) * (x / (2 - x)) / (matched / (2 - matched))
    assert found == relative(excess, tolerance)


@given(st.floats(0.01, 0.99), st.integers(2, 20), st.floats(0.01, 0.99))
def test_at_equal_speed_lookahead_is_never_less_noisy(x, k, alpha):
    matched = -np.expm1(np.log1p(-alpha * (1 - (1 - x) ** k)) / k)
    found = lookahead_variance_ratio(x, k, alpha) * (x / (2 - x)) / (matched / (2 - matched))
    assert found >= 1 - 1e-12


def test_step_limits_have_the_reference_values():
    assert lookahead_step_limit(3, 0.5) == relative(2.4422495703074)
    assert lookahead_step_limit(5, 0.5) == relative(2.2457309396155)
    assert [lookahead_step_limit(k, 0.3) for k in (2, 4, 10)] == [2, 2, 2]
    assert [lookahead_step_limit(k, 1) for k in (1, 2, 3)] == [2, 2, 2]


def test_multipliers_beyond_two_have_the_reference_values():
    exact = [Fraction(n) for n in ("-1/20", "221/200", "-331/2000", "24641/20000", "-61051/200000", "2771561/2000000")]
    assert [lookahead_multiplier(2.1, k, 0.5) for k in range(1, 7)] == [relative(float(m), 1e-11) for m in exact]


@given(st.integers(1, 12), st.floats(0.05, 1), st.booleans())
def test_the_step_limit_is_where_the_multiplier_has_size_one(k, alpha, above):
    limit = lookahead_step_limit(k, alpha)
    size = abs(lookahead_multiplier(limit * (1.001 if above else 0.999), k, alpha))
    assert size > 1 if above else size < 1


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: lookahead_variance_ratio(2.0, 5, 0.5), ValueError, "x must be more than 0 and less than 2, got 2"),
        (lambda: lookahead_variance_ratio(0.5, 0, 0.5), ValueError, "k must be at least 1, got 0"),
        (lambda: lookahead_multiplier(0.5, 5, 1.1), ValueError, "alpha must be at most 1, got 1.1"),
        (lambda: lookahead_multiplier("x", 5, 1), TypeError, "x must be real numbers"),
        (lambda: lookahead_step_limit(5, 0), ValueError, "alpha must be positive, got 0"),
        (lambda: adam_impulse_response(1.0, 0.9, 1, 1), ValueError, "beta1 must be less than 1, got 1.0"),
        (lambda: adam_impulse_response(0.5, 0.0, 1, 1), ValueError, "beta2 must be positive, got 0.0"),
        (lambda: adam_impulse_response(0.9, 0.8, 0, 1), ValueError, "tau must be at least 1, got 0"),
        (lambda: adam_impulse_response(0.9, 1e-9, 1, 500), ValueError, "beta1, beta2 and n must be of a size"),
    ],
)
def test_closed_forms_refuse_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Adam and a word that is seen once


@pytest.mark.parametrize(
    "betas, total",
    [((0.9, 0.999), 6.0055079025515), ((0.9, 0.99), 6.1215088877135), ((0.5, 0.999), 2.0079926954701)],
)
def test_total_motion_after_a_first_sighting_has_the_reference_values(betas, total):
    assert adam_impulse_response(*betas, 1, 600).sum() == relative(total)


@pytest.mark.parametrize("tau, total", [(10, 5.1556551835781), (100, 10.202676327275), (1000, 25.325078059667)])
def test_total_motion_after_a_later_sighting_has_the_reference_values(tau, total):
    assert adam_impulse_response(0.9, 0.999, tau, 600).sum() == relative(total)


def test_impulse_response_late_and_after_nine_steps_has_the_reference_values():
    late = adam_impulse_response(0.9, 0.999, 10**6, 600)
    assert (late[0], late.sum()) == (relative(3.1622776601684), relative(31.765830136394))
    assert adam_impulse_response(0.9, 0.999, 1, 10)[9] == relative(0.1885235802039)


@pytest.mark.parametrize("tau, total", [(1, 6.00550790255), (10, 5.15565518358), (100, 10.2026763273), (1000, 25.3250780597), (5000, 31.6598594423)])  # fmt: skip
def test_torchs_adam_moves_as_the_impulse_response_says(tau, total):
    word = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([word], lr=1.0, eps=1e-30)
    for t in range(1, tau + 300):
        word.grad = torch.full_like(word, -1e-3 if t == tau else 0.0)
        optimizer.step()
    assert word.item() == relative(total, 1e-11)
    assert word.item() == relative(adam_impulse_response(0.9, 0.999, tau, 300).sum(), 1e-11)


# LazyAdam


def batches(steps=12, words=7, seed=0):
    """Indices with repetitions; some words never occur, some once, some often."""
    rng = np.random.default_rng(seed)
    return [torch.tensor(np.minimum(rng.geometric(0.4, size=3) - 1, words - 2)) for _ in range(steps)]


def embeddings(sparse, dtype=torch.float64, device="cpu"):
    torch.manual_seed(1)
    return torch.nn.Embedding(7, 3, sparse=sparse, dtype=dtype, device=device)


def learn(table, optimizer, indices, first=0):
    for k, index in enumerate(indices, start=first):
        index = index.to(table.weight.device)
        optimizer.zero_grad()
        (table(index) - k).pow(2).mean().backward()
        optimizer.step()
    return table.weight.detach().clone()


def obvious(variant, indices, lr=0.05, beta1=0.9, beta2=0.999, eps=1e-8):
    """One number at a time."""
    table = embeddings(False)
    weight = table.weight.tolist()
    m, v = ([[0.0] * 3 for _ in range(7)] for _ in range(2))
    for t, index in enumerate(indices, start=1):
        with torch.no_grad():
            table.weight.copy_(torch.tensor(weight, dtype=torch.float64))
        table.weight.grad = None
        (table(index) - (t - 1)).pow(2).mean().backward()
        for word in range(7):
            present = word in index.tolist()
            for d in range(3):
                if variant == "standard" and not present:
                    continue
                g = table.weight.grad[word, d].item()
                m[word][d] = beta1 * m[word][d] + (1 - beta1) * g
                v[word][d] = beta2 * v[word][d] + (1 - beta2) * g**2
                if present or variant == "dense":
                    mean, square = m[word][d] / (1 - beta1**t), v[word][d] / (1 - beta2**t)
                    weight[word][d] -= lr * mean / (square**0.5 + eps)
    return torch.tensor(weight, dtype=torch.float64)


@variants
@pytest.mark.parametrize("sparse", [False, True])
def test_lazy_adam_is_the_obvious_loop(variant, sparse):
    table = embeddings(sparse)
    ours = learn(table, LazyAdam(table.parameters(), lr=0.05, variant=variant), batches())
    torch.testing.assert_close(ours, obvious(variant, batches()), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dense_is_torchs_adam_bit_for_bit(dtype):
    one, other = embeddings(False, dtype), embeddings(False, dtype)
    ours = learn(one, LazyAdam(one.parameters(), lr=0.05, variant="dense"), batches())
    assert torch.equal(ours, learn(other, torch.optim.Adam(other.parameters(), lr=0.05), batches()))
    assert ours.dtype == dtype


@pytest.mark.parametrize("eps, tolerance", [(1e-30, 1e-12), (1e-8, 1e-6)])
def test_standard_is_torchs_sparse_adam(eps, tolerance):
    one, other = embeddings(True), embeddings(True)
    ours = learn(one, LazyAdam(one.parameters(), lr=0.05, eps=eps), batches())
    theirs = learn(other, torch.optim.SparseAdam(list(other.parameters()), lr=0.05, eps=eps), batches())
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@given(st.integers(0, 2**32 - 1))
def test_absent_rows_never_move_under_a_lazy_rule_and_all_rules_agree_when_none_is_absent(seed):
    for variant in ("standard", "masked"):
        table = embeddings(True)
        start = table.weight.detach().clone()
        seen = batches(4, seed=seed)
        moved = (learn(table, LazyAdam(table.parameters(), variant=variant), seen) != start).any(1)
        present = torch.zeros(7, dtype=torch.bool)
        present[torch.cat(seen)] = True
        assert torch.equal(moved, present)
    everything = [torch.randperm(7, generator=torch.Generator().manual_seed(seed % 1000)) for _ in range(4)]
    tables = {v: embeddings(False) for v in ("dense", "standard", "masked")}
    ends = [learn(t, LazyAdam(t.parameters(), lr=0.1, variant=v), everything) for v, t in tables.items()]
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_a_listed_row_with_zero_gradient_is_present_only_for_sparse_gradients():
    for sparse, expected in ((True, True), (False, False)):
        table = embeddings(sparse)
        optimizer = LazyAdam(table.parameters(), lr=0.1)
        learn(table, optimizer, [torch.tensor([2])])
        before = table.weight[2].detach().clone()
        optimizer.zero_grad()
        (0 * table(torch.tensor([2]))).sum().backward()
        optimizer.step()
        assert bool((table.weight[2] != before).any()) == expected


def test_rows_are_entries_of_the_first_dimension_whatever_the_shape():
    for shape in ((), (4,), (4, 2), (4, 2, 3)):
        p = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        p.grad = torch.zeros_like(p)
        if shape:
            p.grad[1] = 1
        else:
            p.grad.fill_(1)
        LazyAdam([p], lr=0.5, variant="masked").step()
        expected = torch.zeros_like(p)
        expected[1 if shape else ...] = -0.5
        torch.testing.assert_close(p.detach(), expected, rtol=1e-6, atol=0)


def test_a_gradient_that_is_sparse_in_both_dimensions_is_taken_row_by_row():
    p = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    p.grad = torch.sparse_coo_tensor(
        torch.tensor([[1], [0]]), torch.tensor([1.0], dtype=torch.float64), (3, 2), check_invariants=True
    )
    LazyAdam([p], lr=0.5).step()
    assert p.tolist() == [[0, 0], [relative(-0.5, 1e-6), 0], [0, 0]]


@variants
@pytest.mark.parametrize("sparse", [False, True])
def test_lazy_adam_goes_on_exactly_from_a_saved_state(variant, sparse, tmp_path):
    straight = embeddings(sparse)
    expected = learn(straight, LazyAdam(straight.parameters(), lr=0.05, variant=variant), batches() + batches())
    table = embeddings(sparse)
    first = LazyAdam(table.parameters(), lr=0.05, variant=variant)
    learn(table, first, batches())
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = LazyAdam(table.parameters(), lr=1.0, betas=(0.5, 0.5), eps=1.0)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    if variant == "masked":
        assert second.state[table.weight]["last"].dtype == torch.int64
    assert torch.equal(learn(table, second, batches(), first=12), expected)


def test_half_precision_keeps_count_of_the_steps():
    table = torch.nn.Embedding(3, 2, sparse=True, dtype=torch.bfloat16)
    optimizer = LazyAdam(table.parameters(), lr=0.1, variant="masked")
    optimizer.state[table.weight] = {
        "exp_avg": torch.ones_like(table.weight),
        "exp_avg_sq": torch.ones_like(table.weight),
        "step": 1000,
        "last": torch.tensor([1000, 999, 257]),
    }
    again = LazyAdam(table.parameters(), lr=0.1, variant="masked")
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert again.state[table.weight]["last"].tolist() == [1000, 999, 257]


def test_groups_have_their_own_rule_and_can_be_added():
    table, other = embeddings(False), embeddings(False)
    optimizer = LazyAdam([{"params": table.parameters(), "variant": "masked"}], lr=0.1)
    optimizer.add_param_group({"params": list(other.parameters()), "variant": "dense", "lr": 0.2})
    for word in (1, 2, 2):
        optimizer.zero_grad()
        (table(torch.tensor([word])).sum() + other(torch.tensor([word])).sum()).backward()
        optimizer.step()
    start = embeddings(False).weight
    way = adam_impulse_response(0.9, 0.999, 1, 3)
    assert (start - table.weight)[1, 0].item() == pytest.approx(0.1 * way[0], rel=1e-6)
    assert (start - other.weight)[1, 0].item() == pytest.approx(0.2 * way.sum(), rel=1e-6)
    with pytest.raises(ValueError, match="variant must be one of dense, standard, masked, got 'lazy'"):
        optimizer.add_param_group({"params": [torch.ones(1, requires_grad=True)], "variant": "lazy"})


def test_schedulers_and_closures_work_on_lazy_adam():
    one, other = embeddings(False), embeddings(False)
    lazy, dense = LazyAdam(one.parameters(), variant="dense"), torch.optim.Adam(other.parameters())
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(o, 0.5) for o in (lazy, dense)]
    for table, optimizer, scheduler in ((one, lazy, schedulers[0]), (other, dense, schedulers[1])):
        for index in batches():

            def closure(table=table, optimizer=optimizer, index=index):
                optimizer.zero_grad()
                loss = table(index).pow(2).sum()
                loss.backward()
                return loss

            assert optimizer.step(closure) > 0
            scheduler.step()
    assert torch.equal(one.weight, other.weight)


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"lr": 0}, ValueError, "lr must be positive, got 0"),
        ({"betas": 0.9}, TypeError, "betas must be a pair of numbers, got 0.9"),
        ({"betas": (0.9, 0.99, 0.999)}, TypeError, "betas must be a pair"),
        ({"betas": (0.9, 1.0)}, ValueError, "betas must be less than 1, got 1.0"),
        ({"betas": (-0.1, 0.9)}, ValueError, "betas must be at least 0, got -0.1"),
        ({"eps": 0}, ValueError, "eps must be positive, got 0"),
        ({"variant": None}, ValueError, "variant must be one of dense, standard, masked, got None"),
    ],
)
def test_lazy_adam_refuses_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        LazyAdam([torch.ones(2, requires_grad=True)], **settings)


@variants
@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e200])
def test_what_is_too_large_is_refused_and_leaves_everything_as_it_was(variant, bad):
    p = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    optimizer = LazyAdam([p], lr=0.1, variant=variant)
    p.grad = torch.zeros_like(p)
    p.grad[0] = 1.0
    optimizer.step()
    before, state = p.detach().clone(), copy.deepcopy(optimizer.state_dict())
    p.grad[1, 1] = bad
    with pytest.raises(FloatingPointError, match="a parameter or a squared gradient becomes infinite or NaN"):
        optimizer.step()
    assert torch.equal(p, before)
    assert optimizer.state_dict()["state"][0]["step"] == state["state"][0]["step"]
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], state["state"][0]["exp_avg"])


def test_a_batch_without_words_changes_nothing_but_the_count():
    table = embeddings(False)
    optimizer = LazyAdam(table.parameters(), variant="masked")
    table.weight.grad = torch.zeros_like(table.weight)
    before = table.weight.detach().clone()
    optimizer.step()
    assert torch.equal(table.weight, before)
    assert optimizer.state[table.weight]["step"] == 1


def test_max_pooling_leaves_present_words_without_gradient():
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(2000, 20, 64, generator=draw, dtype=torch.float64, requires_grad=True)
    (vectors.amax(1) @ torch.randn(64, generator=draw, dtype=torch.float64)).sum().backward()
    share = (vectors.grad == 0).all(-1).double().mean().item()
    assert share == pytest.approx((1 - 1 / 20) ** 64, abs=5 * (0.0375 / 40_000) ** 0.5)
    mean = torch.randn(200, 20, 64, generator=draw, dtype=torch.float64, requires_grad=True)
    F.logsigmoid(mean.mean(1).sum(1)).sum().backward()
    assert (mean.grad != 0).all()


# On the GPU


@pytest.mark.gpu
@inners
def test_lookahead_on_the_gpu_agrees_with_the_cpu(inner):
    ends = {}
    for device in ("cpu", "cuda"):
        model = network().to(device)
        optimizer = Lookahead(INNER[inner](model.parameters()), k=3, alpha=0.5)
        ends[device] = descend(model, optimizer, 7)
        assert all(s.device.type == device for s in optimizer.slow_params())
        again = Lookahead(INNER[inner](model.parameters()))
        again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert same(again.slow_params(), optimizer.slow_params())
    for one, other in zip(ends["cuda"], ends["cpu"], strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-9, atol=1e-10)


@pytest.mark.gpu
@variants
@pytest.mark.parametrize("sparse", [False, True])
def test_lazy_adam_on_the_gpu_agrees_with_the_cpu(variant, sparse):
    table = embeddings(sparse).to("cuda")
    optimizer = LazyAdam(table.parameters(), lr=0.05, variant=variant)
    ours = learn(table, optimizer, batches())
    torch.testing.assert_close(ours.cpu(), obvious(variant, batches()), rtol=1e-10, atol=1e-11)
    again = LazyAdam(table.parameters(), variant=variant)
    again.load_state_dict(optimizer.state_dict())
    assert all(x.device.type == "cuda" for x in again.state[table.weight].values() if isinstance(x, torch.Tensor))


def test_lookahead_around_an_optimizer_for_positive_numbers():
    theta = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    optimizer = Lookahead(ExponentiatedGradient([theta], lr=0.5), k=2, alpha=0.5)
    for _ in range(40):
        optimizer.zero_grad()
        ((theta - 1) ** 2).sum().backward()
        optimizer.step()
    assert theta.item() == pytest.approx(1, abs=1e-4)
