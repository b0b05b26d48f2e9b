"""Facts about diffusion in small steps. Reference values: mpmath with 30 digits."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kexue_utils.diffusion import Schedule, ancestral, gaussian_mixture_eps, linear_schedule

seeds = st.integers(0, 2**32 - 1)
SPREADS = ("beta", "tilde")


def relative(expected, tolerance=1e-12):
    return pytest.approx(expected, rel=tolerance, abs=0)


def article(T):
    """The schedule of the article, whose last variance is 0.02 for every T."""
    return linear_schedule(T, total=0.02 * T)


# Schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("T", "log_abar"), [(1000, -5.0387214146097), (500, -2.52188607122974), (2000, -10.0723921268798)]
)
def test_what_is_left_at_the_end_has_its_reference_value(T, log_abar):
    assert math.log(article(T).abar[-1]) == relative(log_abar)


def test_the_articles_schedule_leaves_most_of_the_data_after_a_hundred_steps():
    assert article(100).abar[-1] == relative(0.601446363384045)
    assert linear_schedule(100).abar[-1] < 0.01


def test_the_papers_schedule_has_its_reference_value():
    paper = Schedule(np.sqrt(np.linspace(1e-4, 0.02, 1000)))
    assert math.log(paper.abar[-1]) == relative(-5.05885677120655)
    assert paper.abar[-1] == relative(0.00635281808757)


@pytest.mark.parametrize(
    ("t", "correlation"), [(2, 0.816502024292), (10, 0.426503777753), (100, 0.144241291518), (500, 0.104313481250)]
)
def test_correlation_of_one_noise_with_all_noise(t, correlation):
    schedule = linear_schedule(1000)
    assert schedule.beta[t - 1] / schedule.bbar[t - 1] == relative(correlation, 1e-11)


@pytest.mark.parametrize(("T", "mean"), [(50, 3.8061305334), (200, 14.6094513733), (1000, 72.2066646816)])
def test_price_of_the_second_noise(T, mean):
    schedule = linear_schedule(T)
    price = (schedule.bbar / schedule.beta) ** 2
    assert price.mean() == relative(mean, 1e-11)
    if T == 1000:
        assert (price.max(), price.argmax() + 1) == (relative(101.166022113119), 353)


def test_divergence_at_the_end_has_its_reference_value():
    assert -math.log1p(-(linear_schedule(1000).abar[-1] ** 2)) / 2 == relative(2.10088033477e-5, 1e-11)


def test_final_signal_hardly_depends_on_the_number_of_steps():
    assert [linear_schedule(T).abar[-1] for T in (100, 1000, 10_000)] == pytest.approx([math.exp(-5)] * 3, rel=0.4)


@given(st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=30))
def test_signal_and_noise_are_those_of_the_recursion(beta):
    schedule = Schedule(beta)
    variance = 0.0
    for a, b, signal, noise, before in zip(
        schedule.alpha, schedule.beta, schedule.abar, schedule.bbar, schedule.bbar_before, strict=True
    ):
        assert a**2 + b**2 == relative(1)
        assert before == pytest.approx(math.sqrt(variance), rel=1e-9)
        variance = a**2 * variance + b**2
        assert noise == relative(math.sqrt(variance), 1e-9)
        assert signal**2 + noise**2 == relative(1)
    assert (schedule.tilde <= schedule.beta).all() and schedule.tilde[0] == 0


def test_tiny_steps_keep_their_digits():
    beta = [1e-9, 2e-9]
    assert Schedule(beta).bbar.tolist() == relative([1e-9, math.sqrt(5) * 1e-9], 1e-14)


# The exact predictor -----------------------------------------------------------------------------------------------

MEANS = np.array([[1.0, 0.5], [-1.0, 0.0], [0.2, -2.0]])


@given(seeds)
def test_predictor_is_minus_bbar_times_the_score(seed):
    rng = np.random.default_rng(seed)
    x = torch.tensor(2 * rng.standard_normal((7, 2)), requires_grad=True)
    weights, abar = rng.uniform(0.2, 2, 3), rng.uniform(0.05, 0.95)
    bbar = math.sqrt(1 - abar**2)
    law = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor(weights)),
        torch.distributions.Independent(
            torch.distributions.Normal(abar * torch.tensor(MEANS), math.hypot(0.3 * abar, bbar)), 1
        ),
    )
    (score,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    ours = gaussian_mixture_eps(x.detach(), abar, bbar, MEANS, 0.3, weights)
    torch.testing.assert_close(ours, -bbar * score, rtol=1e-9, atol=1e-11)
    numpy = gaussian_mixture_eps(x.detach().numpy(), abar, bbar, MEANS, 0.3, weights)
    assert numpy == pytest.approx(ours.numpy(), rel=1e-12, abs=1e-13)


def test_predictor_is_the_mean_of_the_noise():
    with mp.workdps(30):
        a, b, x = mp.mpf("0.6"), mp.mpf("0.8"), mp.mpf("0.3")
        density = lambda e: mp.npdf(e) * sum(mp.npdf((x - b * e) / a, m, mp.mpf("0.1")) for m in (-1, 1))  # noqa: E731
        peaks = [-10, *sorted((x - a * m) / b for m in (-1, 1)), 10]
        mean = mp.quad(lambda e: e * density(e), peaks) / mp.quad(density, peaks)
        assert gaussian_mixture_eps([[0.3]], 0.6, 0.8, [[-1.0], [1.0]], 0.1)[0, 0] == relative(float(mean))


def test_every_sample_may_have_its_own_noise_level():
    x = np.random.default_rng(0).standard_normal((2, 4, 2))
    abar = np.linspace(0.1, 0.9, 4)
    together = gaussian_mixture_eps(x, abar, np.sqrt(1 - abar**2), MEANS, 0.2)
    one_by_one = [gaussian_mixture_eps(x[:, i], a, math.sqrt(1 - a**2), MEANS, 0.2) for i, a in enumerate(abar)]
    assert together == pytest.approx(np.stack(one_by_one, 1), rel=1e-13)


def test_far_away_points_are_no_numerical_problem():
    eps = gaussian_mixture_eps(np.full((1, 2), 1e4), 0.999, 0.001, MEANS, 0.0)
    assert np.isfinite(eps).all() and (eps > 1e6).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype):
    assert gaussian_mixture_eps(torch.zeros(3, 2, dtype=dtype), 0.6, 0.8, MEANS, 0.1).dtype == dtype
    assert gaussian_mixture_eps(np.zeros((3, 2), np.float32), 0.6, 0.8, MEANS, 0.1).dtype == np.float32


# The way back ------------------------------------------------------------------------------------------------------


def linear_eps(schedule, s2):
    """The best predictor for N(0, s2), which is linear: so the sampler is, too, and its variance can be had from its steps."""
    v = schedule.abar**2 * s2 + schedule.bbar**2
    return lambda x, t: schedule.bbar[t - 1] / v[t - 1] * x


class Unit:
    """A generator whose noise is +1: with it the sampler shows the factor in front of each noise."""

    def standard_normal(self, shape):
        return np.ones(shape)


@pytest.mark.parametrize(
    ("s2", "sigma", "variance"),
    [
        (0.25, 0, 2.62621076256e-6),
        (0.25, "tilde", 0.246226098422),
        (0.25, "beta", 0.250852677939),
        (4, 0, 6.7209813664e-4),
        (4, "tilde", 3.9748413953),
        (4, "beta", 3.99065185569),
    ],
)
def test_final_variance_has_its_reference_value(s2, sigma, variance):
    schedule = linear_schedule(1000)
    eps = linear_eps(schedule, s2)
    gain = ancestral(eps, schedule, np.array([1.0]), 0)[0]  # of the start
    total, spread = gain**2, {"beta": schedule.beta, "tilde": schedule.tilde, 0: 0 * schedule.beta}[sigma]
    onward = np.array([1.0])  # gain of a noise that enters before step t is undone
    for t in range(1, 1001):
        total += (onward[0] * spread[t - 1]) ** 2
        onward = onward * (1 - schedule.beta[t - 1] ** 2 / schedule.bbar[t - 1] * eps(1.0, t)) / schedule.alpha[t - 1]
    assert total == relative(variance, 1e-10)
    one_of_each = ancestral(eps, schedule, np.zeros(1), sigma, last_noise=True, generator=Unit())[0]
    gains = np.cumprod((1 - schedule.beta**2 / schedule.bbar * [eps(1.0, t) for t in range(1, 1001)]) / schedule.alpha)
    assert one_of_each == relative(spread @ np.concatenate([[1.0], gains[:-1]]), 1e-10)


@pytest.mark.parametrize("sigma", SPREADS)
def test_a_single_data_point_is_hit(sigma):
    schedule = linear_schedule(60)
    start = np.random.default_rng(0).standard_normal((50, 2))
    eps = lambda x, t: gaussian_mixture_eps(x, schedule.abar[t - 1], schedule.bbar[t - 1], [[3.0, -1.0]], 0)  # noqa: E731
    x = ancestral(eps, schedule, start, sigma, generator=np.random.default_rng(1))
    assert x == pytest.approx(np.tile([3.0, -1.0], (50, 1)), abs=1e-12)
    blurred = ancestral(eps, schedule, start, "beta", last_noise=True, generator=np.random.default_rng(1))
    assert blurred.std() != 0 and (blurred - x).std() == pytest.approx(schedule.beta[0], rel=0.3)


def test_standard_normal_data_stay_standard_normal():
    schedule = linear_schedule(40)
    rng = np.random.default_rng(0)
    x = ancestral(linear_eps(schedule, 1.0), schedule, rng.standard_normal(200_000), last_noise=True, generator=rng)
    assert x.var() == pytest.approx(1, abs=4 * math.sqrt(2 / 200_000))


def test_numpy_and_torch_walk_alike_and_visit_every_step():
    schedule = linear_schedule(30)
    eps = lambda x, t: gaussian_mixture_eps(x, schedule.abar[t - 1], schedule.bbar[t - 1], MEANS, 0.2)  # noqa: E731
    start, seen = np.random.default_rng(0).standard_normal((5, 2)), []
    ours = ancestral(eps, schedule, start, 0, visit=lambda t, x: seen.append((t, x)))
    theirs = ancestral(eps, schedule, torch.tensor(start, requires_grad=True), 0)
    assert not theirs.requires_grad and theirs.numpy() == pytest.approx(ours, rel=1e-10)
    assert [t for t, _ in seen] == list(range(30, -1, -1))
    assert seen[0][1] is start or (seen[0][1] == start).all()
    assert (seen[-1][1] == ours).all()


def test_float32_stays_float32_and_a_seed_repeats():
    schedule = linear_schedule(30)
    run = lambda: ancestral(  # noqa: E731
        lambda x, t: x, schedule, torch.ones(4, 2), generator=torch.Generator().manual_seed(5)
    )
    assert run().dtype == torch.float32 and torch.equal(run(), run())


def test_start_is_left_as_it_was():
    schedule, start = linear_schedule(30), np.ones(3)
    ancestral(lambda x, t: 0 * x, schedule, start, 0)
    assert (start == 1).all()


# Errors ------------------------------------------------------------------------------------------------------------

SCHEDULE = linear_schedule(30)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: linear_schedule(20), ValueError, "total must be one number between 0 and T = 20"),
        (lambda: linear_schedule(100, total=0), ValueError, "total must be"),
        (lambda: linear_schedule(0), ValueError, "T must be at least 1"),
        (lambda: linear_schedule(10.0), TypeError, "T must be an integer"),
        (lambda: Schedule([0.5, 1.0]), ValueError, "beta must be between 0 and 1, got 1.0"),
        (lambda: Schedule([]), ValueError, "beta must have shape"),
        (lambda: Schedule([math.nan]), ValueError, "beta must be numbers, not NaN"),
        (lambda: gaussian_mixture_eps(1.0, 0.6, 0.8, MEANS, 0), ValueError, "x must have shape"),
        (lambda: gaussian_mixture_eps([[1.0]], 0.6, 0.8, MEANS, 0), ValueError, r"means must have shape \(k, 1\)"),
        (lambda: gaussian_mixture_eps([[1.0, 1.0]], 0.6, 0.8, MEANS, -1), ValueError, "sd must be at least 0"),
        (lambda: gaussian_mixture_eps([[1.0, 1.0]], 1.0, 0.0, MEANS, 0), ValueError, "must not both be 0"),
        (
            lambda: gaussian_mixture_eps([[1.0, 1.0]], 0.6, 0.8, MEANS, 0, [1.0, 0.0, 1.0]),
            ValueError,
            "weights must be 3 positive",
        ),
        (lambda: ancestral(lambda x, t: x, SCHEDULE, [0.0], "gamma"), ValueError, 'sigma must be "beta", "tilde"'),
        (lambda: ancestral(lambda x, t: x, SCHEDULE, [0.0], -1), ValueError, "sigma must be at least 0"),
        (lambda: ancestral(lambda x, t: x, SCHEDULE, [0.0], [1, 2]), ValueError, "sigma must be one number or"),
        (lambda: ancestral(lambda x, t: x, SCHEDULE, [0.0]), ValueError, "generator must be given"),
        (lambda: ancestral(lambda x, t: x, SCHEDULE, ["a"]), TypeError, "start must be real numbers"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.gpu
def test_samples_stay_on_the_gpu():
    eps = lambda x, t: gaussian_mixture_eps(x, SCHEDULE.abar[t - 1], SCHEDULE.bbar[t - 1], MEANS, 0.2)  # noqa: E731
    start = torch.randn(5, 2, dtype=torch.float64)
    on_gpu = ancestral(eps, SCHEDULE, start.cuda(), 0)
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), ancestral(eps, SCHEDULE, start, 0))
    noisy = ancestral(eps, SCHEDULE, start.cuda(), generator=torch.Generator("cuda").manual_seed(0))
    assert noisy.is_cuda and torch.isfinite(noisy).all()
