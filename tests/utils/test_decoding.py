"""Facts about repetition in decoding. Exact values come from rational arithmetic in SymPy, or from counting words."""

import itertools
import pydoc_data.topics
import re
import subprocess
import sys
from fractions import Fraction
from math import inf, log

import numpy as np
import pytest
import scipy.linalg
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from kexue_utils.decoding import (
    count_squares,
    loop_bounds,
    loop_mass,
    loop_radius,
    loop_rate,
    merge_pair,
    square_starts,
    stationary,
    truncate,
)

P1 = sp.Matrix([["1/2", "1/2"], ["1/4", "3/4"]])
P2 = sp.Matrix([["1/2", "1/3", "1/6"], ["1/5", "3/5", "1/5"], ["1/4", "1/4", "1/2"]])
P3 = sp.Matrix([[0, "9/10", "1/10"], ["1/10", 0, "9/10"], ["9/10", "1/10", 0]])
U5 = sp.ones(5, 5) / 5


def floats(M):
    return np.array(M.tolist(), dtype=float)


def relative(expected, tolerance=1e-12):
    return pytest.approx(expected, rel=tolerance, abs=0)


def random_chains(seed, n, count=1, zeros=0.3, end=0.0):
    """Rows with about a share `zeros` of zeros; a share of at most `end` of each row is the end of the text."""
    rng = np.random.default_rng(seed)
    P = rng.exponential(size=(count, n, n)) * (rng.random((count, n, n)) >= zeros)
    P += 1e-3 * np.eye(n)
    return P / P.sum(-1, keepdims=True) * (1 - end * rng.random((count, n, 1)))


chains = st.builds(
    lambda seed, n, zeros, end: random_chains(seed, n, zeros=zeros, end=end)[0],
    st.integers(0, 10**6),
    st.integers(1, 8),
    st.floats(0, 0.9),
    st.sampled_from([0.0, 0.3]),
)


def closed_words(P, k):
    """Weight with which each word of k tokens closes: the product of its k transitions."""
    n = len(P)
    return [np.prod([P[w[t], w[(t + 1) % k]] for t in range(k)]) for w in itertools.product(range(n), repeat=k)]


# Reference values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("P", "R", "mass", "rho", "S"),
    [
        (P1, Fraction(9, 5), 1.163150809805681, 0.6063476324197765, Fraction(16, 15)),
        (P2, Fraction(6535, 5088), 1.040343380544134, 0.4174225203133891, Fraction(135019, 300192)),
        (P3, Fraction(273821, 74043), 0.8113498042310694, 0.82, Fraction(273821, 222129)),
        (U5, Fraction(1, 4), log(5 / 4), 0.2, Fraction(1, 20)),
    ],
)
def test_reference_chains(P, R, mass, rho, S):
    P_ = floats(P)
    assert loop_rate(P_) == relative(float(R))
    assert loop_mass(P_) == relative(mass)
    assert loop_radius(P_) == relative(rho)
    assert loop_rate(P_, stationary(P_)) == relative(float(S))
    H = P.multiply_elementwise(P)
    n = P.rows
    exact = (H * (sp.eye(n) - H).inv()).trace()
    assert exact == sp.Rational(R.numerator, R.denominator)
    assert float(-sp.log((sp.eye(n) - H).det())) == relative(mass)


def test_reference_masses_in_closed_form():
    assert loop_mass(floats(P1)) == relative(log(16 / 5))
    assert loop_mass(floats(P2)) == relative(log(150 / 53))
    assert loop_rate(floats(P2)) == relative(1.284394654088050, 1e-15)
    assert loop_rate(floats(P3)) == relative(3.698134867576949, 1e-15)


@pytest.mark.parametrize(
    ("P", "pooled", "per_start"),
    [(P1, 1.3179723502, 1.4009216590), (P2, 1.0669954344, 1.0793394967), (P3, 0.9333331689, 0.9333331689)],
)
def test_reference_lower_bounds(P, pooled, per_start):
    bounds = loop_bounds(floats(P))
    assert bounds.pooled == pytest.approx(pooled, abs=5e-11)
    assert bounds.per_start == pytest.approx(per_start, abs=5e-11)


@pytest.mark.parametrize("P", [P1, P2, P3])
def test_reference_rates_are_the_sums_of_their_powers(P):
    H = floats(P) ** 2
    powers = [np.trace(np.linalg.matrix_power(H, k)) for k in range(1, 201)]
    assert loop_rate(floats(P)) == relative(sum(powers), 1e-13)
    assert loop_mass(floats(P)) == relative(sum(t / k for k, t in enumerate(powers, 1)), 1e-13)


def test_article_estimate_of_the_cyclic_chain_is_reproduced():
    # zeta n = 2 for two non-zero entries a row, where Tr B^k is the right number of closed walks
    estimate = sum(np.trace(np.linalg.matrix_power(floats(P3), k)) ** 2 / 2**k for k in range(1, 200))
    assert estimate == relative(0.7572013090, 5e-10)


def test_uniform_chain_has_rate_one_over_n_minus_one_and_attains_both_lower_bounds():
    for n in range(2, 20):
        U = np.full((n, n), 1 / n)
        bounds = loop_bounds(U)
        assert loop_rate(U) == relative(1 / (n - 1))
        assert bounds.pooled == relative(1 / (n - 1))
        assert bounds.per_start == relative(1 / (n - 1))


def test_multiples_of_the_identity_attain_the_upper_bound():
    for p in (0.1, 0.5, 0.99):
        assert loop_rate(p * np.eye(4)) == relative(loop_bounds(p * np.eye(4)).upper)


def test_truncation_may_lower_the_rate_or_the_radius():
    down = np.array([[0.6, 0, 0.4], [0.3, 0.2, 0.5], [0.8, 0, 0.2]])
    assert loop_rate(down) == relative(7 / 6)
    assert loop_rate(truncate(down, top_k=2)) == relative(9 / 8)
    slower = np.array([[0.35, 0.33, 0.32], [0.47, 0.53, 0], [0, 0.29, 0.71]])
    assert loop_radius(slower) == pytest.approx(0.5289, abs=5e-5)
    assert loop_radius(truncate(slower, top_k=2)) == pytest.approx(0.5041, abs=5e-5)


# The rate ------------------------------------------------------------------------------------------------------------


@given(chains, st.integers(1, 4))
@settings(max_examples=40)
def test_squares_of_length_k_are_counted_by_the_trace(P, k):
    if len(P) > 4:
        P = P[:4, :4]
    n = len(P)
    weight = sum(
        np.prod([P[a, b] for a, b in itertools.pairwise((*w, *w, w[0]))]) for w in itertools.product(range(n), repeat=k)
    )
    assert np.trace(np.linalg.matrix_power(P * P, k)) == pytest.approx(weight, rel=1e-12, abs=1e-300)


@given(chains)
@settings(max_examples=100)
def test_rate_and_mass_are_sums_over_eigenvalues(P):
    values = scipy.linalg.eigvals(P * P)
    if abs(values).max() > 0.999:
        return
    assert loop_rate(P) == pytest.approx((values / (1 - values)).sum().real, rel=1e-9, abs=1e-9)
    assert loop_mass(P) == pytest.approx(-np.log1p(-values).sum().real, rel=1e-9, abs=1e-9)
    assert loop_radius(P) == relative(abs(values).max(), 1e-9)


@given(chains)
def test_radius_lies_between_the_smallest_and_the_largest_row_sum_of_squares(P):
    q = (P**2).sum(-1)
    assert q.min() * (1 - 1e-9) <= loop_radius(P) <= q.max() * (1 + 1e-9)


@given(chains)
@settings(max_examples=100)
def test_bounds_enclose_the_rate(P):
    pooled, per_start, upper = loop_bounds(P)
    rate = loop_rate(P)
    assert pooled <= per_start * (1 + 1e-9) <= rate * (1 + 2e-9)
    assert rate <= upper * (1 + 1e-6)


@given(chains, st.integers(0, 1000))
def test_bounds_enclose_the_weighted_rate(P, seed):
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(P)))
    pooled, per_start, upper = loop_bounds(P, weights)
    rate = loop_rate(P, weights)
    assert pooled <= per_start * (1 + 1e-9) <= rate * (1 + 2e-9)
    assert rate <= upper * (1 + 1e-6)


@given(chains, st.integers(1, 3))
@settings(max_examples=30)
def test_lower_bounds_are_those_over_closed_walks(P, k):
    if len(P) > 4:
        P = P[:4, :4]
    before = loop_bounds(P, max_k=k)
    weights = [np.array(closed_words(P, j)) for j in range(1, k + 1)]
    expected = sum((w.sum() ** 2 / (w > 0).sum() if w.any() else 0.0) for w in weights)
    assert before.pooled == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_rate_is_infinite_exactly_with_a_deterministic_cycle():
    """Against an independent way to see it: a strong component all of whose rows are one-hot inside it."""
    rows = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0.9], [0, 0, 0]]
    found = 0
    for P in map(np.array, itertools.product(rows, repeat=3)):
        _, component = connected_components(P > 0, connection="strong")
        inside = [np.flatnonzero(component == c) for c in set(component)]
        cycle = any(np.all(P[np.ix_(c, c)].max(1) == 1) for c in inside)
        assert np.isinf(loop_rate(P)) == np.isinf(loop_mass(P)) == np.isinf(loop_bounds(P, max_k=3).upper) == cycle
        found += cycle
    assert 50 < found < 300


def test_every_greedy_decoder_is_infinite():
    for targets in itertools.product(range(3), repeat=3):
        assert loop_rate(np.eye(3)[list(targets)]) == inf
    assert loop_rate(truncate(random_chains(0, 12)[0], top_k=1)) == inf


def test_rate_next_to_a_deterministic_cycle_stays_finite_and_right():
    s = 1 - 1e-6
    P = np.array([[0, s], [1.0, 0]])
    assert loop_rate(P) == relative(2 * s**2 / (1 - s**2), 1e-9)
    assert loop_rate(np.array([[0, 1 - 4e-13], [1, 0]])) == inf  # rho above 1 - 1e-12


def test_a_cycle_of_zero_weight_does_not_matter():
    P = np.array([[0.5, 0.5, 0], [0.2, 0.3, 0.5], [0, 0, 1]])
    assert loop_rate(P) == inf
    assert loop_rate(P, [1, 1, 0]) == relative(float(loop_rate(P[:2, :2])))
    assert loop_rate(P, [0, 0, 1]) == inf


def test_transient_certain_step_costs_nothing():
    P = np.zeros((5, 5))
    P[0, 1] = 1
    P[1:, 1:] = 1 / 4
    assert (P**2).sum(-1).max() == 1
    assert loop_radius(P) == relative(1 / 4)
    assert loop_rate(P) == relative(1 / 3)


def test_acyclic_chain_never_repeats():
    P = np.triu(np.full((4, 4), 0.2), 1)
    assert loop_rate(P) == loop_mass(P) == loop_radius(P) == 0
    assert [float(b) for b in loop_bounds(P)] == [0, 0, 0]


# Merging -------------------------------------------------------------------------------------------------------------


@given(chains, st.data())
@settings(max_examples=100)
def test_merging_keeps_the_mass_and_lowers_the_rate_by_the_visits_of_the_pair(P, data):
    n = len(P)
    if n < 2 or loop_radius(P) > 0.99:
        return
    i, j = data.draw(st.permutations(range(n)))[:2]
    Q = merge_pair(P, i, j)
    assert loop_mass(Q) == pytest.approx(loop_mass(P), rel=1e-9, abs=1e-9)
    H = P * P
    fall = H[i, j] * np.linalg.inv(np.eye(n) - H)[j, i]
    assert loop_rate(P) - loop_rate(Q) == pytest.approx(fall, rel=1e-7, abs=1e-9)


def test_merged_chain_is_the_law_of_the_respelled_text():
    P = floats(P2)
    rng = np.random.default_rng(0)
    text, edges = [0], P.cumsum(-1)
    for u in rng.random(60_000):
        text.append(int((u > edges[text[-1]]).sum()))
    spelled, t = [], 0
    while t < len(text) - 1:
        pair = text[t] == 0 and text[t + 1] == 1
        spelled.append(3 if pair else text[t])
        t += 1 + pair
    counts = np.zeros((4, 4))
    np.add.at(counts, (spelled[:-1], spelled[1:]), 1)
    expected = merge_pair(P, 0, 1)
    error = np.sqrt(expected * (1 - expected) / counts.sum(-1, keepdims=True))
    assert (abs(counts / counts.sum(-1, keepdims=True) - expected) <= 5 * error).all()


def test_merging_a_certain_pair_leaves_no_lonely_first_token():
    Q = merge_pair([[0, 1, 0], [0.2, 0.3, 0.5], [0.6, 0, 0.4]], 0, 1)
    assert (Q[0] == 0).all() and (Q[:, 0] == 0).all()
    assert Q[2, 3] == relative(0.6)


def test_merging_keeps_the_ends_of_texts():
    P = random_chains(3, 4, end=0.4)[0]
    Q = merge_pair(P, 1, 2)
    assert Q[4].sum() == relative(P[2].sum())  # after the pair the text ends as after its second token
    assert 1 - Q[1].sum() == relative((1 - P[1].sum()) / (1 - P[1, 2]), 1e-9)


# Decoders ------------------------------------------------------------------------------------------------------------


def test_truncation_keeps_the_largest_and_rescales():
    row = [0.1, 0.4, 0.2, 0.3]
    assert truncate(row, top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7])
    assert truncate(row, top_p=0.7) == pytest.approx([0, 4 / 7, 0, 3 / 7])
    assert truncate(row, top_p=0.71) == pytest.approx([0, 4 / 9, 2 / 9, 3 / 9])
    assert truncate(row, top_p=1) == pytest.approx(row)
    assert truncate(row, top_k=1) == pytest.approx([0, 1, 0, 0])
    assert truncate(row, top_k=10) == pytest.approx(row)
    assert truncate([1, 1, 1], top_k=2) == pytest.approx([0.5, 0.5, 0])
    assert truncate([0.0, 0.0], top_p=0.5) == pytest.approx([0, 0])


@given(st.integers(0, 1000), st.integers(1, 6), st.floats(0.05, 1), st.floats(0.05, 4))
def test_truncation_against_logits(seed, top_k, top_p, temperature):
    """The same steps on logits, one row at a time."""
    P = random_chains(seed, 6, zeros=0.2)[0]
    expected = []
    for row in P:
        with np.errstate(divide="ignore"):
            logits = np.log(row) / temperature
        p = np.exp(logits - logits.max())
        p[np.argsort(-p, kind="stable")[top_k:]] = 0
        p /= p.sum()
        kept, total = [], 0.0
        for token in np.argsort(-p, kind="stable"):
            if total >= top_p - 1e-12:
                break
            kept.append(token)
            total += p[token]
        q = np.zeros_like(p)
        q[kept] = p[kept]
        expected.append(q / q.sum())
    assert truncate(P, top_k, top_p, temperature) == pytest.approx(np.array(expected), abs=1e-9)


def test_low_temperature_is_greedy_without_underflow():
    P = random_chains(1, 50, zeros=0)[0]
    assert truncate(P, temperature=1e-6) == pytest.approx(truncate(P, top_k=1), abs=1e-6)


def test_squares_are_counted_with_their_last_token():
    assert count_squares([0, 1, 2, 0, 1, 2, 0], 4).tolist() == [0, 0, 1, 0]
    assert count_squares([0, 1, 2, 0, 1, 2, 1], 4).tolist() == [0, 0, 0, 0]
    assert count_squares([5, 5, 5, 5, 5], 3).tolist() == [3, 1, 0]
    assert count_squares([5], 2).tolist() == [0, 0]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(1, 20))
def test_squares_against_slices(tokens, k):
    expected = [tokens[t : t + k + 1] == tokens[t + k : t + 2 * k + 1] for t in range(len(tokens) - 2 * k)]
    assert square_starts(tokens, k).tolist() == expected
    assert count_squares(tokens, k)[k - 1] == sum(expected)


def test_sampled_squares_match_the_stationary_rate():
    P = floats(P2)
    rng = np.random.default_rng(1)
    states = rng.choice(3, size=4000, p=stationary(P))
    text = [states]
    for _ in range(80):
        states = (rng.random((4000, 1)) > P.cumsum(-1)[states]).sum(-1)
        text.append(states)
    counts = count_squares(np.array(text).T, 30) / (81 - 2 * np.arange(1, 31))
    per_text = counts.sum(-1)
    error = per_text.std(ddof=1) / np.sqrt(4000)
    assert abs(per_text.mean() - loop_rate(P, stationary(P))) < 4 * error < 0.03


@given(chains)
def test_stationary_distribution_is_that_of_the_left_eigenvector(P):
    P = P / P.sum(-1, keepdims=True)
    components, _ = connected_components(P > 0, connection="strong")
    if components > 1:
        return
    values, vectors = scipy.linalg.eig(P.T)
    vector = vectors[:, abs(values - 1).argmin()].real
    assert stationary(P) == pytest.approx(vector / vector.sum(), abs=1e-8)


def test_stationary_distribution_of_transient_tokens_is_zero():
    assert stationary([[0, 1, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]]) == pytest.approx([0, 0.5, 0.5])
    with pytest.raises(ValueError, match="several closed classes"):
        stationary([[1, 0, 0], [0, 1, 0], [0.3, 0.3, 0.4]])
    with pytest.raises(ValueError, match="row sums 1"):
        stationary([[0.5, 0.4], [0.5, 0.5]])


# The letters of Python's help pages: values that the chapter states ----------------------------------------------------

LETTERS = re.sub("[^a-z]+", " ", " ".join(pydoc_data.topics.topics.values()).lower())
same_text = pytest.mark.skipif(len(LETTERS) != 375_757, reason="another version of Python, and so of its help pages")


def letter_table():
    tokens = np.frombuffer(LETTERS.encode(), np.uint8).astype(int)
    tokens = np.where(tokens == ord(" "), 26, tokens - ord("a"))
    counts = np.bincount(27 * tokens[:-1] + tokens[1:], minlength=27**2).reshape(27, 27)
    return counts / counts.sum(1, keepdims=True)


@same_text
@pytest.mark.parametrize(
    ("top_k", "R", "rho", "S"),
    [
        (27, "0.04001", "0.1352", "0.002392"),
        (5, "0.09865", "0.2534", "0.008894"),
        (3, "0.1639", "0.3834", "0.02374"),
        (2, "0.5033", "0.5461", "0.09781"),
    ],
)
def test_letters_with_fewer_choices_repeat_more(top_k, R, rho, S):
    P = truncate(letter_table(), top_k=top_k)
    for value, stated in ((loop_rate(P), R), (loop_radius(P), rho), (loop_rate(P, stationary(P)), S)):
        assert value == pytest.approx(float(stated), abs=1.01 * 10.0 ** -len(stated.partition(".")[2]))


@same_text
def test_letters_have_their_least_rate_near_temperature_one():
    rates = [loop_rate(truncate(letter_table(), temperature=t)) for t in (2, 1, 0.7, 0.5, 0.3)]
    assert rates == pytest.approx([0.0446, 0.0400, 0.0457, 0.0787, 0.329], abs=5e-4)
    assert np.argmin(rates) == 1


@same_text
def test_gluing_qu_changes_the_rate_and_the_worst_row_but_not_the_mass():
    P = letter_table()
    glued = merge_pair(P, ord("q") - ord("a"), ord("u") - ord("a"))
    assert loop_mass(glued) == relative(loop_mass(P), 1e-14)
    assert loop_mass(P) == relative(0.0318811088852821, 1e-14)
    assert (loop_rate(P), loop_rate(glued)) == pytest.approx((0.0400095, 0.0400077), abs=5.1e-8)
    assert ((P**2).sum(1).max(), (glued**2).sum(1).max()) == pytest.approx((0.879, 1), abs=5e-4)


@same_text
def test_letters_collide_at_the_renyi_rate():
    P = letter_table()
    agree, coincidence = stationary(P) ** 2, {}
    for k in range(1, 61):
        agree = agree @ (P * P)
        coincidence[k] = -np.log(agree.sum()) / k
    assert [coincidence[k] for k in (5, 20, 60)] == pytest.approx([2.528, 2.132, 2.045], abs=2e-3)
    assert -np.log(loop_radius(P)) == pytest.approx(2.000683, abs=5.1e-7)


@same_text
def test_upper_bound_of_the_letters_is_a_hundred_times_too_large():
    assert loop_bounds(letter_table()).upper == pytest.approx(4.22, abs=5e-3)


# Values of exercises and counter-examples ------------------------------------------------------------------------------


def test_estimate_without_self_loops_exceeds_the_rate():
    P = (np.ones((3, 3)) - np.eye(3)) / 2
    estimate = sum(np.trace(np.linalg.matrix_power(P, k)) ** 2 / 2**k for k in range(1, 60))
    assert loop_rate(P) == relative(3 / 5)
    assert estimate == pytest.approx(0.7714, abs=5e-5)
    assert loop_bounds(P).per_start <= loop_rate(P)


def test_sticky_chain_has_equal_row_sums_and_so_its_radius():
    for n, p in ((2, 0.3), (5, 0.9), (7, 1 / 7)):
        P = np.full((n, n), (1 - p) / (n - 1))
        np.fill_diagonal(P, p)
        assert loop_radius(P) == relative(p**2 + (1 - p) ** 2 / (n - 1))


def test_least_radius_for_given_frequencies_is_not_that_of_independent_tokens():
    x = np.arange(1, 10_000) * 1e-4
    P = np.stack([np.stack([x, 1 - x], -1), np.stack([(1 - x) / 2, (1 + x) / 2], -1)], -2)
    assert stationary(P) == pytest.approx(np.broadcast_to([1 / 3, 2 / 3], (9999, 2)))
    rho = loop_radius(P)
    assert (x[rho.argmin()], rho.min()) == pytest.approx((0.2735, 0.55154), abs=5.1e-6)
    assert loop_radius([[1 / 3, 2 / 3], [1 / 3, 2 / 3]]) == pytest.approx(0.5556, abs=5e-5)


def test_radius_of_a_random_table_is_that_of_its_mean_row():
    for alpha, stated in ((1, 0.0100), (0.1, 0.0524)):
        P = np.random.default_rng(0).dirichlet(np.full(200, alpha), 200)
        assert (alpha + 1) / (200 * alpha + 1) == pytest.approx(stated, abs=5.1e-5)
        assert loop_radius(P) == pytest.approx(stated, rel=0.08)


# Libraries, shapes, errors -------------------------------------------------------------------------------------------

RANDOM = random_chains(7, 5, count=6, end=0.2).reshape(2, 3, 5, 5)


@pytest.mark.parametrize(
    "function",
    [
        loop_rate,
        loop_mass,
        loop_radius,
        lambda P: loop_bounds(P, max_k=50).per_start,
        lambda P: loop_bounds(P, max_k=50).pooled,
        lambda P: loop_bounds(P, max_k=50).upper,
        lambda P: stationary(P / P.sum(-1)[..., None]),
        lambda P: truncate(P, top_k=3, top_p=0.9, temperature=0.7),
        lambda P: merge_pair(P, 3, 1),
    ],
)
def test_batches_and_torch_agree_with_one_at_a_time(function):
    together = function(RANDOM)
    for index in np.ndindex(2, 3):
        assert together[index] == pytest.approx(function(RANDOM[index]), rel=1e-10)
    tensor = function(torch.tensor(RANDOM))
    assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64
    assert tensor.numpy() == pytest.approx(together, rel=1e-10)
    single = function(torch.tensor(RANDOM, dtype=torch.float32))
    assert single.dtype == torch.float32
    assert single.numpy() == pytest.approx(together, rel=2e-3)


def test_infinities_in_a_batch_stay_where_they_are():
    batch = np.stack([np.eye(2), np.full((2, 2), 0.5), np.array([[0.0, 1], [1, 0]])])
    for P in (batch, torch.tensor(batch)):
        assert np.asarray(loop_rate(P)).tolist() == [inf, relative(1.0), inf]
        assert np.asarray(loop_mass(P)).tolist() == [inf, relative(log(2)), inf]
        assert np.asarray(loop_bounds(P, max_k=5).upper).tolist() == [inf, relative(2.0), inf]


def test_counting_in_torch_agrees():
    tokens = np.random.default_rng(0).integers(0, 3, (4, 5, 40))
    counts = count_squares(torch.tensor(tokens), 25)
    assert counts.dtype == torch.int64
    assert (counts.numpy() == count_squares(tokens, 25)).all()
    assert count_squares(tokens, 25)[1, 2].tolist() == count_squares(tokens[1, 2], 25).tolist()


@pytest.mark.parametrize("function", [loop_rate, loop_mass, lambda P: loop_rate(merge_pair(P, 0, 2))])
def test_gradients_are_right(function):
    logits = torch.tensor(np.log(RANDOM[0, 0] + 0.01), requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: function(0.9 * torch.softmax(z, -1)), logits)


def test_gradient_of_temperature_at_a_zero_is_finite():
    P = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64, requires_grad=True)
    truncate(P, temperature=2)[0, 0].backward()
    assert torch.isfinite(P.grad).all()


def test_gradient_of_the_mass_counts_visits_of_each_step():
    """The identity behind merging: d mass / d log H_ij is the expected number of steps i to j in a loop."""
    P = torch.tensor(floats(P2), requires_grad=True)
    loop_mass(P).backward()
    H = floats(P2) ** 2
    visits = H * np.linalg.inv(np.eye(3) - H).T
    assert (P.grad * P.detach() / 2).numpy() == pytest.approx(visits, rel=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "names"),
    [
        (lambda: loop_rate([[0.5, 0.6], [0.5, 0.5]]), ValueError, "P .*row sums.*1.1"),
        (lambda: loop_rate([[-0.1, 0.6], [0.5, 0.5]]), ValueError, "P .*negative.*-0.1"),
        (lambda: loop_rate([[0.5, np.nan], [0.5, 0.5]]), ValueError, "P .*finite"),
        (lambda: loop_rate([0.5, 0.5]), ValueError, r"P .*\(\.\.\., n, n\).*\(2,\)"),
        (lambda: loop_rate([[1j]]), TypeError, "P .*real.*complex"),
        (lambda: loop_mass([[True]]), TypeError, "P .*bool"),
        (lambda: loop_rate([[0.5]], [1, 1]), ValueError, "weights .*shape"),
        (lambda: loop_rate([[0.5]], [-1]), ValueError, "weights .*negative"),
        (lambda: loop_rate([[0.5]], torch.ones(1)), TypeError, "all NumPy or all torch"),
        (lambda: loop_rate(np.ones((3, 1, 1)) / 2, np.ones((2, 1))), ValueError, "weights .*broadcast"),
        (lambda: loop_bounds([[0.5]], max_k=0), ValueError, "max_k"),
        (lambda: truncate([0.5, 0.5], top_k=0), ValueError, "top_k"),
        (lambda: truncate([0.5, 0.5], top_k=1.5), TypeError, "top_k"),
        (lambda: truncate([0.5, 0.5], top_p=0), ValueError, "top_p"),
        (lambda: truncate([0.5, 0.5], temperature=0), ValueError, "temperature"),
        (lambda: truncate(0.5), ValueError, "P .*shape"),
        (lambda: merge_pair([[0.5, 0.5], [0.5, 0.5]], 1, 1), ValueError, "i and j"),
        (lambda: merge_pair([[0.5]], 0, 1), ValueError, "j .*token"),
        (lambda: merge_pair([[0.5]], 0.0, 1), TypeError, "i .*integer"),
        (lambda: count_squares([0.5, 1], 2), TypeError, "tokens"),
        (lambda: count_squares(3, 2), ValueError, "tokens"),
        (lambda: square_starts([1, 2], 0), ValueError, "k must be"),
    ],
)
def test_errors_name_the_argument(call, error, names):
    with pytest.raises(error, match=names):
        call()


def test_row_sums_a_little_above_one_are_rounding():
    P = np.array([[0.5, 0.5 + 5e-10], [0.25, 0.75]])
    assert loop_rate(P) == relative(1.8, 1e-8)
    assert np.isfinite(merge_pair(P, 0, 1)).all()


def test_module_does_not_need_torch():
    code = (
        "import sys; sys.modules['torch'] = None; from kexue_utils import decoding; print(decoding.loop_rate([[0.5]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("0.333"), done.stderr
