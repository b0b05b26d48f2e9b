"""Every public function of kexue_utils on bad input: the error that names the argument, or the right answer.

`TABLE` has one entry for each public name: a valid call whose arguments are marked with what they are. From the marks follow the same
numbers in other forms, what is no such number, and numbers of every size; `truth`, where numbers of every size are allowed, is the
answer by its definition, in mpmath. A new function needs one entry.
"""

import copy
import dataclasses
import importlib
import inspect
import math
import pkgutil
import re
import resource
import signal
import warnings
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mpmath import mp

import kexue_utils
from kexue_utils import bigint, contracts, diffusion, normalization, optimizers, words

# What an argument is ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Mark:
    """An argument of a valid call: its value, and whether None may stand in its place."""

    value: Any
    optional: bool = False

    def wrong(self):
        """Values that are never right."""
        return []


@dataclasses.dataclass(frozen=True)
class Numbers(Mark):
    """Real numbers in an array; every one of its values is a float16. `infinite`: the infinities that have an answer; `booleans`: so have they."""

    infinite: tuple = ()
    booleans: bool = False

    def array(self):
        return np.array(self.value, dtype=float)

    def wrong(self):
        array = self.array()
        yield from ("0.5", {}, {1.0}, object(), [[1.0], [1.0, 2.0]], np.array(["0.5"]), np.array([None]), 10**400)
        yield from (array.astype(complex), array.astype(object), array.astype(str))
        yield torch.ones(array.shape, dtype=torch.complex64)
        if not self.booleans:
            yield from (array > 0, torch.ones(array.shape, dtype=torch.bool))
        yield np.zeros(array.shape, "datetime64[s]")
        for bad in {math.nan, math.inf, -math.inf} - set(self.infinite):
            for place in range(array.size):
                spoiled = array.astype(float)
                spoiled.flat[place] = bad
                yield spoiled


@dataclasses.dataclass(frozen=True)
class Indices(Numbers):
    """Whole numbers in an array of integers."""

    def array(self):
        return np.array(self.value)

    def wrong(self):
        yield from super().wrong()
        yield self.array() + 0.5


@dataclasses.dataclass(frozen=True)
class Number(Mark):
    """One real number, finite unless `infinite`."""

    infinite: tuple = ()

    def wrong(self):
        yield from ("0.5", [], [1.0, 2.0], {}, object(), True, 1j, np.array([0.5, 0.5]), math.nan, np.float64("nan"))
        yield from {math.inf, -math.inf} - set(self.infinite)


@dataclasses.dataclass(frozen=True)
class Whole(Mark):
    """An integer. `endless`: how long it takes is up to the caller's own function."""

    endless: bool = False

    def wrong(self):
        yield from ("1", [], [1], {}, object(), True, 1.0, 1.5, 1j, math.nan, math.inf, np.float64(2), np.array([1, 2]))


@dataclasses.dataclass(frozen=True)
class Choice(Mark):
    """One of a few words, or an object of one kind."""

    also_wrong: tuple = ()

    def wrong(self):
        yield from ("no such word", b"word", 3.5, {}, [], object(), *self.also_wrong)


@dataclasses.dataclass(frozen=True)
class Thing(Mark):
    """Anything else, with the values that are wrong in its place."""

    bad: tuple = (None, 3.5, "no such thing")

    def wrong(self):
        return self.bad


class Entry:
    """A valid call.

    `call`: what is called, if not the name itself. `library`: it takes tensors too, and answers in the number format of its input, unless
    `single` names the format of its answer to float32. `mixes`: arrays may stand beside tensors. `truth`: the answer by its definition,
    computed with so many `digits`; it is met to `good_to`, and to some roundings of `condition`. Then the arguments: marked, or fixed.
    """

    def __init__(self, name, call=None, /, *, library=False, single=None, mixes=False, truth=None, condition=None, good_to=1e-9, digits=60, **marks):  # fmt: skip
        self.name, self.call, self.marks = name, call or attribute(name), marks
        self.library, self.single, self.mixes = library, single or (np.float32 if library else np.float64), mixes
        self.truth, self.condition, self.good_to, self.digits = truth, condition, good_to, digits

    def __repr__(self):
        return self.name

    def of(self, kind):
        return {name: mark for name, mark in self.marks.items() if isinstance(mark, kind)}

    def arguments(self, **other):
        values = {name: mark.value if isinstance(mark, Mark) else mark for name, mark in self.marks.items()}
        values |= {name: mark.array() for name, mark in self.of(Numbers).items()}
        return {name: fresh(value) for name, value in values.items()} | other


def attribute(name):
    module, _, path = name.partition(".")
    found = importlib.import_module(f"kexue_utils.{module}")
    for part in path.split("."):
        found = getattr(found, part)
    return found


def fresh(value):
    """A copy, or what a function without arguments makes where a copy would not do."""
    if isinstance(value, Fresh):
        return value.make()
    return copy.deepcopy(value) if isinstance(value, list | dict | np.ndarray) else value


@dataclasses.dataclass(frozen=True)
class Fresh:
    make: Any


# The answers by their definitions --------------------------------------------------------------------------------------
# Arguments are arrays of mpmath numbers; so are sums, products and matrix products of them.

each = np.vectorize


def exp(x):
    return each(mp.exp, otypes=[object])(x)


def log(x):
    return each(lambda v: mp.log(v) if v else -mp.inf, otypes=[object])(x)


def row_softmax(logits):
    powers = exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def true_attention(q, k, v, scale, mask):
    weights = row_softmax(scale * (q @ k.T) + mask)
    return weights @ v, weights


def inverse(a):
    return np.array((mp.matrix(a.tolist()) ** -1).tolist(), dtype=object).reshape(a.shape)


def log_det(a):
    return mp.log(mp.det(mp.matrix(a.tolist())))


def identity(n):
    return np.array([[mp.mpf(i == j) for j in range(n)] for i in range(n)])


def visits(P, shape=None):
    H = P * P
    return H @ inverse(identity(len(P)) - H)


def true_radius(P):
    return max(abs(value) for value in mp.eig(mp.matrix((P * P).tolist()), left=False, right=False))


def true_stationary(P):
    ones = 0 * P + 1
    return ones[0] @ inverse(identity(len(P)) - P + ones)


def true_truncation(P, top_k, top_p, temperature):
    rows = []
    for row in P:
        kept = [v ** (1 / temperature) if v else mp.mpf(0) for v in row]
        order, total, so_far = sorted(range(len(row)), key=lambda i: -kept[i])[:top_k], None, 0
        total = sum(kept[i] for i in order)
        chosen = []
        for i in order:
            if so_far < top_p * total or not chosen:
                chosen.append(i)
            so_far += kept[i]
        total = sum(kept[i] for i in chosen)
        rows.append([kept[i] / total if i in chosen and total else mp.mpf(0) for i in range(len(row))])
    return rows


def true_squares(tokens, k):
    return [
        [all(row[t + i] == row[t + k + i] for i in range(k + 1)) for t in range(len(row) - 2 * k)] for row in tokens
    ]


def true_mixture_eps(x, abar, bbar, means, sd, weights):
    abar, bbar = abar[:, None], bbar[:, None]
    v = (abar * sd) ** 2 + bbar**2
    distance = np.array([[((point - a * m) ** 2).sum() for m in means] for point, a in zip(x, abar, strict=True)])
    p = row_softmax(log(weights) - distance / (2 * v))
    return bbar / v * (x - abar * (p @ means))


def half_ratio(n):
    """Gamma(n/2) / Gamma((n-1)/2), by its series where the two would have to be computed to hundreds of digits."""
    if n > 1e15:
        return mp.sqrt((n - mp.mpf("1.5")) / 2)
    return mp.gamma(n / 2) / mp.gamma((n - 1) / 2)


def power(base, exponent):
    return mp.inf if base == 0 and exponent < 0 else base**exponent if exponent else mp.mpf(1)


@each
def true_angle_pdf(theta, n):
    if not 0 <= theta <= np.pi:
        return mp.mpf(0)
    sine = mp.mpf(0) if theta == np.pi else mp.sin(theta)  # the float stands for the number
    return half_ratio(n) / mp.sqrt(mp.pi) * power(sine, n - 2)


@each
def true_cosine_pdf(eta, n):
    return half_ratio(n) / mp.sqrt(mp.pi) * power(1 - eta**2, (n - 3) / 2) if abs(eta) <= 1 else mp.mpf(0)


@each
def true_cosine_tail(t, n):
    t = min(max(t, mp.mpf(0)), mp.mpf(1))
    if n < 1e4:
        return mp.betainc((n - 1) / 2, mp.mpf(1) / 2, 0, 1 - t**2, regularized=True)
    if t**2 * n > 2000:
        return mp.mpf(0)
    return mp.quad(lambda x: mp.exp((n - 3) / 2 * mp.log1p(-(x**2) / n)), [t * mp.sqrt(n), *range(*map(int, map(mp.ceil, (t * mp.sqrt(n) + 1, t * mp.sqrt(n) + 12))))]) * 2 * half_ratio(n) / mp.sqrt(mp.pi * n)  # fmt: skip


def true_effective_dimension(X):
    N = len(X)
    cosines = cosines_of(X)
    return N * (N - 1) / sum(cosines[i, j] ** 2 for i in range(N) for j in range(N) if i != j)


def cosines_of(X):
    lengths = each(mp.sqrt, otypes=[object])((X**2).sum(-1))
    U = X / lengths[:, None]
    return U @ U.T


def mean_distance(x, y, pairs):
    return sum(mp.sqrt(((a - b) ** 2).sum()) for a in x for b in y) / pairs


def true_energy_distance(x, y):
    n, m = len(x), len(y)
    return 2 * mean_distance(x, y, n * m) - mean_distance(x, x, n * (n - 1)) - mean_distance(y, y, m * (m - 1))


def true_kl(mu_p, sigma_p, mu_q, sigma_q):
    precision, gap = inverse(sigma_q), mu_p - mu_q
    return (gap @ precision @ gap + log_det(sigma_q) - log_det(sigma_p) + (precision @ sigma_p).trace() - len(gap)) / 2


def true_bhattacharyya(mu_p, sigma_p, mu_q, sigma_q):
    mean, gap = (sigma_p + sigma_q) / 2, mu_p - mu_q
    return (log_det(mean) - (log_det(sigma_p) + log_det(sigma_q)) / 2) / 2 + gap @ inverse(mean) @ gap / 8


def true_wasserstein(mu_p, sigma_p, mu_q, sigma_q):
    """In two dimensions the trace of the root of a matrix is the root of its trace plus twice the root of its determinant."""
    product = sigma_p @ sigma_q
    roots = mp.sqrt(product.trace() + 2 * mp.sqrt(abs(mp.det(mp.matrix(product.tolist())))))
    return ((mu_p - mu_q) ** 2).sum() + sigma_p.trace() + sigma_q.trace() - 2 * roots


def true_fid_bias(eigenvalues, N):
    return [(2 * sum(row) + sum(a * b * (1 + (i == j)) / (a + b) for i, a in enumerate(row) for j, b in enumerate(row) if a + b)) / size
            for row, size in zip(eigenvalues, N, strict=True)]  # fmt: skip


def true_choice(scores, nodes):
    """Logarithms of the means over the midpoints, normal noise."""
    q = [quantile(mp.mpf(2 * k + 1) / (2 * nodes)) for k in range(nodes)]
    rivals = [(i, [m - v for j, v in enumerate(scores) if j != i]) for i, m in enumerate(scores)]
    return log(np.array([sum(mp.fprod(mp.ncdf(gap + x) for gap in gaps) for x in q) / nodes for _, gaps in rivals]))


def log_one_plus(x):
    return each(mp.log1p, otypes=[object])(x)


def true_multilabel(scores, labels, threshold):
    s = scores - threshold[:, None]
    return log_one_plus(((1 - labels) * exp(s)).sum(-1)) + log_one_plus((labels * exp(-s)).sum(-1))


def true_soft_f1(scores, labels, eps, loss):
    p = row_softmax(scores)
    members = [[i for i, label in enumerate(labels) if int(label) == c] for c in range(p.shape[1])]
    scores = [2 * sum(p[i, c] for i in those) / (len(those) + p[:, c].sum() + eps) for c, those in enumerate(members)]
    return -mp.log(sum(scores) / len(scores))


def true_ranking(scores, labels, gamma, margin):
    pairs = [
        sum(mp.exp(gamma * (a - b + margin)) for a, s in zip(row, t, strict=True) if not s for b, u in zip(row, t, strict=True) if u)
        for row, t in zip(scores, labels, strict=True)
    ]  # fmt: skip
    return log_one_plus(np.array(pairs))


def true_grouped(scores, labels):
    terms = [[t * sum(mp.exp(b - a) for k, b in enumerate(row) if k != j) for j, (a, t) in enumerate(zip(row, choice, strict=True))] for row, choice in zip(scores, labels, strict=True)]  # fmt: skip
    return log_one_plus(np.array(terms).sum(0)).sum()


def true_scaling(M):
    v = 0 * M[0] + 1 / each(mp.sqrt, otypes=[object])(M.diagonal())
    for _ in range(700):
        v = each(mp.sqrt, otypes=[object])(v / (M @ v))
    return v


def true_grouped_optimum(labels):
    root = each(mp.sqrt, otypes=[object])(labels)
    M = root.T @ root
    np.fill_diagonal(M, mp.mpf(1))
    v = true_scaling(M)
    return v * root / (v * root).sum(1)[:, None], v**-2, -2 * log(v).sum()


def true_power_loss(scores, target, q, reduction):
    p = [row[label] for row, label in zip(row_softmax(scores), target.astype(int), strict=True)]
    return [-mp.log(v) if q == 0 else mp.mpf(1) / q if v == 0 and q > 0 else (1 - v**q) / q for v in p]


def margin_of_am(cosines, labels, s, m):
    return np.array([[s * (c - m * (i == t)) for i, c in enumerate(row)] for row, t in zip(cosines, labels, strict=True)])  # fmt: skip


def true_margin_softmax(cosines, labels, s, m):
    logits = margin_of_am(cosines, labels, s, m)
    return log_one_plus(np.array([sum(mp.exp(v - row[t]) for i, v in enumerate(row) if i != t) for row, t in zip(logits, labels, strict=True)]))  # fmt: skip


def true_triplet(anchor, positive, negative, margin):
    near, far = (each(mp.sqrt, otypes=[object])(((anchor - x) ** 2).sum(-1)) for x in (positive, negative))
    return each(lambda v: max(v, mp.mpf(0)), otypes=[object])(near - far + margin)


def true_symmetric(log_x, k):
    sums = [mp.mpf(1)] + [mp.mpf(0)] * k
    for x in exp(log_x):
        sums = [sums[0], *(sums[j] + x * sums[j - 1] for j in range(1, k + 1))]
    return log(np.array(sums))


def true_hub_rate(g, N, k, v):
    x = (mp.sqrt(v + 4) * quantile(k / (N - 1)) - mp.sqrt(v) * g) / 2
    return (N - 1) * (mp.ncdf(x) if abs(x) < 1e5 else mp.mpf(x > 0))


def quantile(p):
    return mp.sqrt(2) * mp.erfinv(2 * p - 1)


def true_manifold(n, r, R, kind):
    rows = []
    for ratio in np.atleast_1d(r / R).ravel():
        rate = mp.acosh(1 + ratio)
        shape = [mp.cosh(rate * (i - mp.mpf(n + 1) / 2)) for i in range(1, n + 1)]
        rows.append([value / sum(shape) for value in shape])
    return np.array(rows, dtype=object).reshape((*np.shape(r / R), n))


def true_step(theta, grad, lr):
    return theta * exp(-lr * grad)


def true_second_moment(x, bias):
    z = np.array([[*row, mp.mpf(1)] for row in x])
    return z.T @ z / len(x)


def true_generalized_kl(a, b):
    return sum(x * mp.log(x / y) - x + y if x and y else mp.inf if x else y for x, y in zip(a, b, strict=True))


def true_tangent(x, v):
    return v - x * ((x * v).sum(-1) / (x * x).sum(-1))[:, None]


def true_sphere_step(x, grad, lr, **_):
    moved = x / each(mp.sqrt, otypes=[object])((x * x).sum(-1))[:, None] - lr * true_tangent(x, grad)
    return moved / each(mp.sqrt, otypes=[object])((moved * moved).sum(-1))[:, None]


def true_scaled_bessel(order, kappa):
    """I_order(kappa) / kappa^order."""
    return mp.hyp0f1(order + 1, kappa**2 / 4) / (2**order * mp.gamma(order + 1)) if kappa < 1e4 else mp.besseli(order, kappa) / kappa**order  # fmt: skip


def true_rogers_ramanujan(q, levels):
    value = 1 + 0 * q
    for level in range(levels, 0, -1):
        value = 1 + q**level / value
    return q ** (mp.mpf(1) / 5) / value


# One entry for each public name ------------------------------------------------------------------------------------------

CHAIN = [[0.25, 0.5, 0.25], [0.5, 0.125, 0.375], [0.0, 0.75, 0.25]]
WEIGHTS = [[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]]
COVARIANCES = {"sigma_p": Numbers([[2.0, 0.5], [0.5, 1.0]]), "sigma_q": Numbers([[1.0, -0.25], [-0.25, 3.0]])}
GAUSSIANS = {"mu_p": Numbers([1.0, 0.0]), "mu_q": Numbers([0.0, 2.0]), **COVARIANCES}
CLOUD = [[1.0, 2.0, 0.5], [-1.0, 3.0, 0.25], [0.0, -2.0, 4.0], [2.0, 2.0, 2.0]]
SCORES = [[0.5, -1.25, 2.0], [1.0, 0.0, -0.5]]
LABELS = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
REDUCTION = Choice("none", also_wrong=(None,))
TEXT = (None, 3.5, [], b"x")
LABEL = Thing("eq-label", bad=(*TEXT, "", "two words"))
NOT_NUMBERS = (None, "0.5", [], [[1.0], [1.0, 2.0]], [math.nan] * 3, [math.inf] * 3, object())
A, B = words.letters("A B")
X = sp.Symbol("x", real=True)
LIMBS = Fresh(lambda: torch.tensor([3, 2, 1]))
ANY_SIGN = (math.inf, -math.inf)
SEED = Whole(3)
MODEL = Fresh(lambda: torch.nn.Linear(2, 1))
CURVED = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)


class Clonable(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 1)

    def config(self):
        return {}


def true_spearman(auc, p, n):
    return mp.sqrt(3 * p * (1 - p)) * (2 * auc - 1) / mp.sqrt((1 - 1 / n) * (1 + 1 / n))


WIDE_CLOUD = [[1.0, 2.0], [3.0, 1.0], [0.0, 4.0], [5.0, 0.5], [2.0, 2.0], [4.0, 3.0]]


def limbs(**more):
    bad = (None, [1, 2], np.array([1, 2]), torch.ones(3), torch.ones(0, dtype=torch.int64), torch.ones(2, 2, dtype=int), torch.tensor([True]))  # fmt: skip
    return Choice(LIMBS, also_wrong=bad, **more)


def sum_of_ffts(a, b, width):
    first, second = bigint.FFTInt(a, width), bigint.FFTInt(b, width)
    return [int(x) for x in (first + second, first - second, first * second, -first, first.shift(2))] + [str(first)]


def one_step(optimizer, value):
    def call(**settings):
        parameter = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        chosen = optimizer([parameter], **settings)
        for _ in range(2):
            chosen.zero_grad()
            (parameter**2).sum().backward()
            chosen.step()
        return parameter

    return call


def true_impulse(beta1, beta2, tau, n):
    return np.array(
        [
            (1 - beta1)
            * beta1**j
            / (1 - beta1 ** (tau + j))
            * mp.sqrt((1 - beta2 ** (tau + j)) / ((1 - beta2) * beta2**j))
            for j in range(n)
        ]
    )


def of_a_parameter(params):
    return optimizers.ExponentiatedGradient([params], lr=0.1).param_groups[0]["params"]


def doubles(*values, **more):
    bad = (3.5, "x", [1.0], np.array([1.0]), torch.tensor([1]), torch.ones(0), torch.tensor([math.nan]), torch.tensor([math.inf]), torch.ones(2, dtype=torch.complex64))  # fmt: skip
    return Thing(
        Fresh(lambda: torch.tensor(values, dtype=torch.float64)), bad=(*bad, *(() if more else (None,))), **more
    )


FUNCTION = Thing(
    lambda theta, x: theta[0] * theta[1] * x,
    bad=(None, 3, "x", lambda theta, x: 1.0, lambda theta, x: torch.ones(2, 2)),
)


def drawing(n):
    figure, axes = plt.subplots()
    axes.plot([0, n])
    return figure


TABLE = [
    Entry("arguments.reals", lambda x: kexue_utils.arguments.reals(finite=True, x=x), x=Numbers([1.0, 2.0]), truth=lambda x: x),
    Entry("arguments.floating", lambda x: kexue_utils.arguments.floating("x", x)[0], x=Numbers([1.0, 2.0], infinite=(*ANY_SIGN, math.nan)), library=True, truth=lambda x: x),
    Entry("arguments.integer", lambda k: kexue_utils.arguments.integer("k", k, 1), k=Whole(3), truth=lambda k: k),
    Entry("arguments.points", lambda X: kexue_utils.arguments.points("X", X), X=Numbers(CLOUD), library=True, truth=lambda X: X),
    Entry("attention.attention", q=Numbers([[1.0, 2.0], [0.0, -1.0]]), k=Numbers([[1.0, 0.0], [2.0, 1.0], [-1.0, 1.0]]), v=Numbers([[1.0], [2.0], [4.0]]),
          scale=Number(0.5, optional=True), mask=Numbers([[0.0, 1.0, -1.0], [0.5, 0.0, 0.0]], infinite=(-math.inf,), optional=True, booleans=True), library=True, truth=true_attention,
          condition=lambda q, k, v, scale, mask: 1 + abs(scale * (abs(q) @ abs(k.T))).max() + max([abs(m) for m in mask.flat if mp.isfinite(m)], default=0)),
    Entry("attention.log_odds_rank", P=Numbers(WEIGHTS), tol=Number(0.001), library=True),
    Entry("attention.reachable_dimension", n=Whole(9), r=Whole(3), truth=lambda n, r: (r := min(r, n - 1)) * (2 * n - 1 - r)),
    Entry("attention.attention_flops", n=Whole(9), d=Whole(8), heads=Whole(2), key_size=Whole(4), head_size=Whole(4), ff=Number(4.0), talking=Whole(1),
          truth=lambda n, d, heads, key_size, head_size, ff, talking: 2 * n * d * heads * (key_size + head_size) + heads * n**2 * (key_size + head_size) + 2 * n * d * round(ff * d) + talking * heads**2 * n**2),
    Entry("attention.fit_attention", P=Numbers(WEIGHTS), key_size=Whole(1), steps=Whole(20), starts=Whole(2), library=True),
    Entry("bigint.convolve", a=limbs(), b=limbs()),
    Entry("bigint.balanced", coefficients=limbs(), width=Whole(2)),
    Entry("bigint.standard", limbs=limbs(), width=Whole(2)),
    Entry("bigint.FFTInt", lambda limbs, width: int(bigint.FFTInt(limbs, width)), limbs=limbs(), width=Whole(2)),
    Entry("bigint.FFTInt.__mul__", sum_of_ffts, a=LIMBS, b=LIMBS, width=Whole(2)),
    Entry("bigint.FFTInt.from_int", lambda value, width: int(bigint.FFTInt.from_int(value, width)), value=Whole(12345), width=Whole(2), truth=lambda value, width: value),
    Entry("bigint.chudnovsky_digits", D=Whole(30), device=Choice("cpu", optional=True)),
    Entry("bigint.chudnovsky_pi", lambda **a: str(bigint.chudnovsky_pi(**a))[:20], D=Whole(30), width=Whole(5), device=Choice("cpu", optional=True)),
    Entry("choice.perturbed_argmax_probabilities", scores=Numbers(SCORES), noise=Choice("gumbel", also_wrong=(None,)), nodes=Whole(3), rule=Choice("line", also_wrong=(None,)), normalise=Choice(False, also_wrong=(None, 1)), library=True,
          truth=lambda scores, **_: row_softmax(scores), condition=lambda scores, **_: abs(scores).max()),
    Entry("choice.log_perturbed_argmax", scores=Numbers([0.5, -1.25, 2.0]), noise=Choice("normal", also_wrong=(None,)), nodes=Whole(3), rule=Choice("midpoint", also_wrong=(None,)), normalise=Choice(False, also_wrong=(None, 1)), library=True,
          truth=lambda scores, nodes, **_: true_choice(scores, nodes), condition=lambda scores, **_: 1 + abs(scores).max()),
    Entry("choice.deficit", n=Whole(10), K=Whole(100), truth=lambda n, K: mp.mpf(n - 2) / (2 * K)),
    Entry("contracts.assert_clonable", lambda module, inputs, seed: contracts.assert_clonable(module, *([None] if inputs is None else inputs), seed=seed), module=Thing(Fresh(Clonable), bad=(3, "x", torch.nn.Linear(2, 1))), inputs=Thing([torch.ones(2)], bad=([], [3.0], ["x"])), seed=SEED),
    Entry("convolutions.receptive_field", layers=Thing([(3, 2, 1), (2, 1, 2), (3, 1, 1)], bad=(None, 3, "ab", [3], ["abc"], [(3, 1)], [(3, 0, 1)], [(3.0, 1, 1)]))),
    Entry("curvature.top_eigenvalue", lambda loss_fn, **a: kexue_utils.curvature.top_eigenvalue((lambda: loss_fn(CURVED)) if callable(loss_fn) else loss_fn, **a),
          loss_fn=Thing(lambda p: (p**3).sum(), bad=(None, 3, "loss", lambda p: 3.0, lambda p: p, lambda p: p.detach().sum(), lambda p: torch.ones(()))), params=Thing(Fresh(lambda: [CURVED]), bad=(None, 3, "params", [], [3], torch.ones(2), [torch.ones(2)])), iters=Whole(3), seed=SEED),
    Entry("curvature.second_moment", x=Numbers([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]]), bias=Choice(True, also_wrong=(None, 1)), library=True, truth=true_second_moment, condition=lambda x, bias: abs(x).max() ** 2),
    Entry("curvature.max_stable_step", stable=Thing(lambda lr: lr < 1, bad=(None, 3, "yes", lambda lr: None, lambda lr: 1, lambda lr: "no")), lo=Number(0.25), hi=Number(4.0), rtol=Number(0.001)),
    Entry("decoding.loop_rate", P=Numbers(CHAIN), weights=Numbers([0.5, 0.25, 0.25], optional=True), library=True, truth=lambda P, weights: weights @ visits(P).diagonal()),
    Entry("decoding.loop_mass", P=Numbers(CHAIN), library=True, truth=lambda P: -log_det(identity(3) - P * P)),
    Entry("decoding.loop_radius", P=Numbers(CHAIN), library=True, truth=true_radius),
    Entry("decoding.loop_bounds", P=Numbers(CHAIN), weights=Numbers([0.5, 0.25, 0.25], optional=True), max_k=Whole(1000), library=True),
    Entry("decoding.stationary", P=Numbers(CHAIN), library=True, truth=true_stationary),
    Entry("decoding.truncate", P=Numbers(WEIGHTS), top_k=Whole(2, optional=True), top_p=Number(0.875, optional=True), temperature=Number(0.5), library=True, truth=true_truncation),
    Entry("decoding.merge_pair", P=Numbers(CHAIN), i=Whole(0), j=Whole(1), library=True),
    Entry("decoding.square_starts", tokens=Indices([[7, 1, 2, 1, 2, 1, 2], [0, 0, 0, 0, 1, 0, 1]]), k=Whole(2), library=True, truth=true_squares, single=bool),
    Entry("decoding.count_squares", tokens=Indices([[7, 1, 2, 1, 2, 1, 2], [0, 0, 0, 0, 1, 0, 1]]), max_k=Whole(3), library=True, single=np.int64,
          truth=lambda tokens, max_k: [[sum(true_squares([row], k)[0]) for k in range(1, max_k + 1)] for row in tokens]),
    Entry("diffusion.Schedule", lambda beta: (s := diffusion.Schedule(beta), [s.alpha, s.abar, s.bbar, s.tilde])[1], beta=Numbers([0.5, 0.75, 0.25])),
    Entry("diffusion.linear_schedule", lambda T, total: diffusion.linear_schedule(T, total).beta, T=Whole(40), total=Number(20.0),
          truth=lambda T, total: [mp.sqrt(total * t) / T for t in range(1, T + 1)]),
    Entry("diffusion.gaussian_mixture_eps", x=Numbers([[0.25, 1.0], [2.0, -0.5]]), abar=Numbers([0.5, 0.25]), bbar=Numbers([0.75, 1.0]), means=Numbers([[-1.0, 0.0], [1.0, 2.0]]), sd=Number(0.5),
          weights=Numbers([1.0, 3.0], optional=True), library=True, truth=true_mixture_eps, mixes=True,
          condition=lambda x, abar, bbar, means, sd, weights: max(abs(b) / ((a * sd) ** 2 + b**2) * (abs(x).max() + abs(a) * abs(means).max()) for a, b in zip(abar, bbar, strict=True))),
    Entry("diffusion.ancestral", eps=Choice(lambda x, t: x / 2, also_wrong=(None,)), schedule=Choice(diffusion.Schedule([0.5, 0.75]), also_wrong=(None,)), start=Numbers([[1.0], [2.0]]), sigma=Number(0.0),
          generator=Choice(None, optional=True), visit=Choice(None, optional=True), library=True),
    Entry("directions.angle_pdf", theta=Numbers([0.5, 1.5, 3.0], infinite=ANY_SIGN), n=Numbers([3.0, 10.0, 2.0]), truth=true_angle_pdf, digits=400),
    Entry("directions.angle_cdf", theta=Numbers([0.5, 1.5, 3.0], infinite=ANY_SIGN), n=Numbers([3.0, 10.0, 2.0])),
    Entry("directions.angle_variance", n=Numbers([3.0, 10.0, 2.0]), truth=each(lambda n: mp.zeta(2, n / 2) / 2 if n < 1e10 else 1 / n + 1 / n**2)),
    Entry("directions.cosine_pdf", eta=Numbers([0.5, -0.875, 0.0], infinite=ANY_SIGN), n=Numbers([3.0, 10.0, 2.0]), truth=true_cosine_pdf, digits=400),
    Entry("directions.cosine_tail", t=Numbers([0.5, 0.875, 0.0], infinite=ANY_SIGN), n=Numbers([3.0, 10.0, 2.0]), truth=true_cosine_tail),
    Entry("directions.max_cosine_quantile", n=Numbers([3.0, 100.0]), N=Numbers([2.0, 1000.0]), q=Numbers([0.5, 0.25])),
    Entry("directions.random_directions", lambda generator, **a: kexue_utils.directions.random_directions(generator=generator, **a), N=Whole(3), n=Whole(4), generator=Choice(Fresh(lambda: np.random.default_rng(0)), also_wrong=(None, np.random)), dtype=Choice("float64", optional=True)),
    Entry("directions.effective_dimension", X=Numbers(CLOUD), library=True, truth=true_effective_dimension),
    Entry("directions.coherence", X=Numbers(CLOUD), library=True, truth=lambda X: max(abs(c) for i, row in enumerate(cosines_of(X)) for c in row[:i])),
    Entry("directions.welch_bound", N=Numbers([3.0, 28.0]), n=Numbers([3.0, 7.0]), truth=each(lambda N, n: mp.sqrt((N - n) / (n * (N - 1))) if n < N else mp.mpf(0))),
    Entry("distances.energy_distance", x=Numbers([[0.0, 1.0], [2.0, 0.5]]), y=Numbers([[1.0, 1.0], [5.0, 2.0], [0.0, 0.0]]), library=True, single=np.float64, truth=true_energy_distance,
          condition=lambda x, y: max(abs(x).max(), abs(y).max())),
    Entry("ellipse.arc_length", t=Numbers([0.5, -2.0, 7.0]), a=Numbers([2.0, 1.0, 0.5]), b=Numbers([1.0, 1.0, 3.0]), truth=each(lambda t, a, b: b * mp.ellipe(t, 1 - (a / b) ** 2))),
    Entry("ellipse.quarter_perimeter", a=Numbers([2.0, 1.0, 0.5]), b=Numbers([1.0, 1.0, 3.0]), truth=each(lambda a, b: max(a, b) * mp.ellipe(1 - (min(a, b) / max(a, b)) ** 2))),
    Entry("ellipse.parameter_at_arc_length", s=Numbers([0.5, 0.25, 0.0]), a=Numbers([2.0, 1.0, 0.5]), b=Numbers([1.0, 1.0, 3.0])),
    Entry("ellipse.tangent_angle", t=Numbers([0.5, -2.0, 7.0]), a=Numbers([2.0, 1.0, 0.5]), b=Numbers([1.0, 1.0, 3.0]),
          truth=each(lambda t, a, b: mp.atan2(a * mp.sin(t), b * mp.cos(t)) + 2 * mp.pi * mp.nint((t - mp.atan2(mp.sin(t), mp.cos(t))) / (2 * mp.pi))), condition=lambda t, a, b: abs(t).max()),
    Entry("ellipse.angle_excess", s=Numbers([0.5, 0.25]), a=Numbers([2.0, 1.0]), b=Numbers([1.0, 1.0]), other=Choice(None, optional=True)),
    Entry("ellipse.seam", a=Numbers([2.0, 1.0]), b=Numbers([1.0, 1.0]), other=Choice(None, optional=True, also_wrong=((2.0,), ("a", "b"))), n=Whole(5)),
    Entry("ellipse.cut_out", a=Number(80.0), b=Number(40.0), other=Choice(None, optional=True), marks=Whole(3)),
    Entry("f1.soft_macro_f1", scores=Numbers(SCORES), labels=Indices([2, 0]), eps=Number(0.25), loss=Choice(True, also_wrong=(None, 1)), library=True, truth=true_soft_f1, condition=lambda scores, **_: abs(scores).max()),
    Entry("f1.f1_optimal_threshold", probabilities=Numbers([0.5, 0.25, 0.875]), library=True,
          truth=lambda probabilities: (lambda best: (best / 2, best))(max(2 * sum(sorted(probabilities)[-m:]) / (sum(probabilities) + m) for m in range(1, len(probabilities) + 1)))),
    Entry("gaussians.kl_divergence", **GAUSSIANS, library=True, truth=true_kl, digits=700),
    Entry("gaussians.bhattacharyya_distance", **GAUSSIANS, library=True, truth=true_bhattacharyya, digits=700),
    Entry("gaussians.hellinger_squared", **GAUSSIANS, library=True, truth=lambda **a: 1 - mp.exp(-true_bhattacharyya(**a)), digits=700),
    Entry("gaussians.wasserstein2_squared", **GAUSSIANS, library=True, truth=true_wasserstein),
    Entry("gaussians.wasserstein2_distance", **GAUSSIANS, library=True, truth=lambda **a: mp.sqrt(true_wasserstein(**a))),
    Entry("gaussians.transport_map", **COVARIANCES, library=True),
    Entry("gaussians.sqrtm_psd", sigma=COVARIANCES["sigma_p"], library=True),
    Entry("gaussians.fid_bias", eigenvalues=Numbers([[1.0, 0.5, 0.0], [2.0, 1.0, 1.0]]), N=Numbers([50.0, 20.0]), library=True, truth=true_fid_bias),
    Entry("hydraulics.h_tree", width=Number(60.0), height=Number(40.0), rounds=Whole(2)),
    Entry("hydraulics.pipe_network", edges=Thing([(1, 0), (4, 0), (2, 4), (3, 4)], bad=(None, 3, "ab", [], [(1.0, 0.0)] * 4, [(1, 1)] * 4, [(0, -1)] * 4, [(0, 10**30)] * 4, [(4, 5), (1, 0), (2, 0), (3, 0)], [1, 0, 4, 0])), resistance=Numbers([1.0, 0.5, 0.25, 0.5]),
          exponent=Number(1.75), fixed=Thing({0: -1.0, 1: 0.0, 2: 0.0, 3: 0.0}, bad=(None, 3, [0], {}, {9: 0.0}, {0: math.nan}, {0: math.inf}, {0: "1"}, {"0": 1.0}, {0.0: 1.0})), library=True),
    Entry("hydraulics.manifold_flows", n=Whole(3), r=Numbers([1.0, 0.5, 2.0]), R=Numbers([4.0, 8.0, 0.25]), kind=Choice("reverse", also_wrong=(None,)), library=True, truth=true_manifold),
    Entry("hydraulics.water_change_peak", s=Numbers([0.5, 1.0, 2.0]), p=Numbers([0.25, 0.0, 0.5]), phi=Numbers([0.25, 0.5, 1.0]), T=Numbers([8.0, 4.0, 30.0]), library=True,
          truth=each(lambda s, p, phi, T: s * (mp.expm1(p * T) / (p * (phi + mp.expm1(p * T))) if p * T < 1e5 else 1 / p) if p else s * T / phi)),
    Entry("losses.multilabel_softmax", scores=Numbers(SCORES), labels=Numbers([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]], booleans=True), threshold=Numbers([0.5, -1.0]), reduction=REDUCTION, library=True,
          truth=lambda scores, labels, threshold, reduction: true_multilabel(scores, labels, threshold), condition=lambda scores, threshold, **_: abs(scores).max() + abs(threshold).max()),
    Entry("losses.pairwise_ranking", scores=Numbers(SCORES), labels=Numbers(LABELS, booleans=True), gamma=Number(2.0), margin=Number(0.25), reduction=REDUCTION, library=True,
          truth=lambda scores, labels, gamma, margin, reduction: true_ranking(scores, labels, gamma, margin), condition=lambda scores, gamma, margin, **_: gamma * (abs(scores).max() + abs(margin))),
    Entry("losses.grouped_cross_entropy", scores=Numbers(SCORES), labels=Numbers([[0.0, 0.5, 0.5], [0.75, 0.25, 0.0]], booleans=True), reduction=REDUCTION, library=True,
          truth=lambda scores, labels, reduction: true_grouped(scores, labels), condition=lambda scores, **_: abs(scores).max()),
    Entry("losses.grouped_optimum", labels=Numbers([[0.0, 0.5, 0.5], [0.75, 0.25, 0.0]], booleans=True), library=True, truth=true_grouped_optimum),
    Entry("losses.symmetric_sinkhorn", M=Numbers([[2.0, 1.0], [1.0, 2.0]]), max_iter=Whole(10_000), library=True, truth=lambda M, max_iter: true_scaling(M)),
    Entry("losses.generalized_cross_entropy", scores=Numbers(SCORES), target=Indices([2, 1]), q=Number(0.5), reduction=REDUCTION, library=True, truth=true_power_loss,
          condition=lambda scores, target, q, reduction: 1 + abs(q) * abs(scores).max()),
    Entry("losses.smooth_accuracy", scores=Numbers(SCORES), target=Indices([2, 1]), noise=Choice("gumbel", also_wrong=(None,)), reduction=REDUCTION, library=True,
          truth=lambda scores, target, noise, reduction: row_softmax(scores)[np.arange(2), target.astype(int)], condition=lambda scores, **_: 1 + abs(scores).max()),
    Entry("losses.log_elementary_symmetric", log_x=Numbers([0.5, -1.0, 2.0]), k=Whole(2), library=True, truth=true_symmetric),
    Entry("losses.margin_cosine", cosine=Numbers([0.5, -1.0, 0.25]), kind=Choice("am", also_wrong=(None,)), m=Number(0.25), library=True, truth=lambda cosine, kind, m: cosine - m, condition=lambda cosine, kind, m: 1 + m),
    Entry("losses.margin_logits", cosines=Numbers([[0.5, -1.0, 0.25], [0.75, 0.0, 1.0]]), labels=Indices([0, 2]), kind=Choice("am", also_wrong=(None,)), s=Number(8.0), m=Number(0.25), library=True,
          truth=lambda cosines, labels, kind, s, m: margin_of_am(cosines, labels, s, m), condition=lambda s, m, **_: s * (1 + m)),
    Entry("losses.margin_softmax", cosines=Numbers([[0.5, -1.0, 0.25], [0.75, 0.0, 1.0]]), labels=Indices([0, 2]), kind=Choice("am", also_wrong=(None,)), s=Number(8.0), m=Number(0.25), reduction=REDUCTION, library=True,
          truth=lambda cosines, labels, kind, s, m, reduction: true_margin_softmax(cosines, labels, s, m), condition=lambda s, m, **_: s * (1 + m)),
    Entry("losses.triplet", anchor=Numbers([[0.5, -1.0], [1.0, 2.0]]), positive=Numbers([[1.5, 0.0], [1.0, 0.5]]), negative=Numbers([[0.25, -1.0], [3.0, 2.0]]), margin=Number(0.25), squared=Thing(False, bad=(3, "no", [])), reduction=REDUCTION, library=True,
          truth=lambda anchor, positive, negative, margin, squared, reduction: true_triplet(anchor, positive, negative, margin), condition=lambda anchor, positive, negative, margin, **_: max(abs(x).max() for x in (anchor, positive, negative)) + margin),
    Entry("magic_cubes.plane_sums", A=Indices([[[1, 8], [7, 2]], [[6, 3], [4, 5]]]), library=True),
    Entry("magic_cubes.line_sums", A=Indices([[[1, 8], [7, 2]], [[6, 3], [4, 5]]]), library=True),
    Entry("magic_cubes.magic_cubes3"),
    Entry("magic_cubes.symmetries", n=Whole(3), dim=Whole(3)),
    Entry("magic_cubes.cube_to_array", A=Thing([[[1, 8], [7, 2]], [[6, 3], [4, 5]]], bad=(None, 3, "no cube", [[[0.5]]], [[1]], [[[1, 2]]])), step=Thing((5, -2, 5), bad=(None, 3, "5,-2,5", (5, -2), (5, 2, 5), (1, -1, 1), (0, -2, 5), (5, -2.0, 5)))),
    Entry("neighbours.hub_counts", X=Numbers([[-11.0, 0.0], [-10.0, 1.0], [0.0, 2.0], [10.0, 0.5], [11.0, 1.0]]), k=Whole(2), metric=Choice("l2", also_wrong=(None,)), chunk=Whole(2), library=True, single=np.int64),
    Entry("neighbours.hub_rate", g=Numbers([-3.0, 0.0, 2.0]), N=Numbers([1000.0, 50.0, 20.0]), k=Numbers([10.0, 5.0, 1.0]), v=Numbers([2.0, 0.75, 5.0]), truth=each(true_hub_rate), digits=400),
    Entry("neighbours.hub_law", N=Number(1000), k=Number(10), v=Number(2.0)),
    Entry("neighbours.topk_hit", embeddings=Numbers([[1.0, 0.25], [0.75, 0.5], [0.0, 1.0], [-0.5, 1.0]]), groups=Indices([0, 1, 1, 0]), k=Thing((1, 2), bad=(None, 3.0, "1", (1.0,), (0,), (4,), 0, 10**30, {}, True, [[1]])), chunk=Whole(2), library=True),
    Entry("normalization.BatchStandardize", lambda x, **a: normalization.BatchStandardize(**a)(x), x=Thing(Fresh(lambda: torch.tensor([[1.0], [3.0]])), bad=(None, 3, [[1.0]], np.ones((2, 2)), torch.ones(2), torch.ones(1, 2), torch.ones(2, 2, dtype=torch.int64))),
          eps=Number(0.25), center=Choice(True, also_wrong=(None, 1)), scale=Choice(True, also_wrong=(None, 1))),
    Entry("kernels.flat_model", lambda model: kexue_utils.kernels.flat_model(model)[1], model=Thing(MODEL, bad=(None, 3, "x", torch.ones(2), torch.nn.Tanh()))),
    Entry("kernels.jacobian", f=FUNCTION, params=doubles(0.5, 2.0), X=doubles(1.0, -3.0)),
    Entry("kernels.ntk", f=FUNCTION, params=doubles(0.5, 2.0), X=doubles(1.0, -3.0), Y=doubles(2.0, optional=True)),
    Entry("kernels.chord_contributions", f=FUNCTION, theta=doubles(0.5, 2.0), delta=doubles(0.25, -0.5), X=doubles(1.0, -3.0), J_train=doubles([2.0, 0.5], [1.0, 0.0]), nodes=Whole(4)),
    Entry("kernels.path_kernel", f=FUNCTION, trajectory=doubles([0.5, 2.0], [1.0, 2.25]), alpha=doubles([0.5, -1.0]), X=doubles(1.0), X_train=doubles(1.0, -3.0), lr=Number(0.25), nodes=Whole(4)),
    Entry("optimizers.exponentiated_gradient_step", theta=Numbers([0.5, 2.0]), grad=Numbers([1.0, -0.25]), lr=Number(0.25), library=True, truth=true_step),
    Entry("optimizers.generalized_kl", a=Numbers([0.5, 2.0]), b=Numbers([0.25, 4.0]), library=True, truth=true_generalized_kl),
    Entry("optimizers.ExponentiatedGradient", one_step(optimizers.ExponentiatedGradient, [0.5, 2.0]), lr=Number(0.25)),
    Entry("optimizers.ExponentiatedGradient.add_param_group", of_a_parameter, params=Thing(Fresh(lambda: torch.tensor([0.5, 2.0])), bad=(torch.tensor([-1.0]), torch.tensor([math.nan]), torch.tensor([math.inf]), torch.ones(1, dtype=torch.complex64)))),
    Entry("optimizers.LazyAdam", one_step(optimizers.LazyAdam, [0.5, 2.0]), lr=Number(0.25), betas=Thing((0.5, 0.75), bad=(None, 0.9, (), (0.5,), (0.5, 0.5, 0.5), (0.5, 1.0), (-0.1, 0.5), ("0.5", 0.5), (math.nan, 0.5), "ab", {0.5, 0.75})), eps=Number(0.125), variant=Choice("masked", also_wrong=(None,))),
    Entry("optimizers.Lookahead", one_step(lambda p, inner, **settings: optimizers.Lookahead(inner(p, lr=0.1) if callable(inner) else inner, **settings), [0.5, 2.0]), inner=Thing(torch.optim.SGD, bad=(None, 3.5, "SGD", [])), k=Whole(2), alpha=Number(0.5)),
    Entry("optimizers.adam_impulse_response", beta1=Number(0.75), beta2=Number(0.875), tau=Whole(3), n=Whole(4), truth=true_impulse),
    Entry("optimizers.lookahead_multiplier", x=Numbers([0.5, 1.5, 2.0]), k=Whole(3), alpha=Number(0.5), library=True, truth=lambda x, k, alpha: 1 - alpha + alpha * (1 - x) ** k, condition=lambda x, k, alpha: 1 + k * alpha * (1 + abs(x).max()) ** k),
    Entry("optimizers.lookahead_step_limit", k=Whole(3), alpha=Number(0.5), truth=lambda k, alpha: 1 + (2 / alpha - 1) ** (mp.mpf(1) / k) if k % 2 else mp.mpf(2)),
    Entry("optimizers.lookahead_variance_ratio", x=Numbers([0.5, 1.5, 1.25]), k=Whole(3), alpha=Number(0.5), library=True, truth=lambda x, k, alpha: alpha * (1 + (1 - x) ** k) / (2 - alpha + alpha * (1 - x) ** k), condition=lambda x, k, alpha: 1 + k),
    Entry("optimizers.HypergradientGains", one_step(optimizers.HypergradientGains, [0.5, 2.0]), lr=Number(0.25), gamma=Number(0.5), rule=Choice("product", also_wrong=(None,))),
    Entry("parallel.combine", gradients=Numbers([[1.0, -2.0], [3.0, 0.5]]), weights=Numbers([2.0, 0.5], optional=True), library=True,
          truth=lambda gradients, weights: weights @ gradients / weights.sum(), condition=lambda gradients, weights: abs(gradients).max()),
    Entry("parallel.ring_all_reduce", vectors=Thing([[1, 2], [3, 4]], bad=(3, "ab", [1, 2], ["ab"], [[1], [1, 2]], [], [["a"], ["b"]])), steps=Whole(2, optional=True)),
    Entry("parallel.run_torchrun", script=Thing("result = 1", bad=(*TEXT, "", " ")), processes=Thing(2, bad=(0, -1, 65, 10**30, 2.0, True, "2", [])), inputs=Thing({"a": 1}, bad=(3, "a", ["a"], {"a b": 1}, {3: 1}, {"a": object()}), optional=True),
          timeout=Thing(1.0, bad=(0, -1.0, "1", True, [], math.nan, math.inf))),
    Entry("parallel.shard_gradients", loss=Thing(lambda module, x: module(x).sum(), bad=(3, "x", lambda module, x: 3.0, lambda module, x: module(x))), module=Thing(MODEL, bad=(3, "x", torch.nn.ReLU())),
          shards=Thing([torch.ones(3, 2)], bad=(3, "ab", [], [3], [()], [torch.ones(0, 2)], torch.ones(3, 2)))),
    Entry("ranking.spearman_from_auc", auc=Numbers([0.75, 0.5, 1.0]), p=Numbers([0.5, 0.25, 0.125]), n=Numbers([8.0, 100.0, 2.0], optional=True), truth=each(true_spearman)),
    Entry("ranking.auc_from_spearman", rho=Numbers([0.25, 0.5, -0.125]), p=Numbers([0.5, 0.25, 0.125]), n=Numbers([8.0, 100.0, 2.0], optional=True),
          truth=each(lambda rho, p, n: mp.mpf(0.5) + rho / true_spearman(1, p, n) / 2), condition=lambda rho, p, n: 1),
    Entry("ramanujan.rogers_ramanujan", q=Numbers([0.25, 0.5, 0.875]), levels=Whole(4), truth=true_rogers_ramanujan),
    Entry("training.at_scale", quick=1, full=2),
    Entry("training.data_parallel", model=Thing(MODEL)),
    Entry("training.device", float64=True),
    Entry("training.fit", step=Thing(lambda k: 1.0 / (k + 1), bad=(None, 3, lambda k: None, lambda k: "1", lambda k: [1.0, [2.0]], lambda k: [])), steps=Whole(2, endless=True), optimizer=Thing(None, bad=(3, "SGD")),
          scheduler=Thing(None, bad=(3, "step")), name=Thing("fit", bad=TEXT), keep=Thing(None, bad=(3, "model", [3]))),
    Entry("training.full_scale"),
    Entry("training.generator", seed=SEED, on=Choice("cpu", optional=True)),
    Entry("training.seed_all", seed=SEED),
    Entry("training.share", batch=Thing(Fresh(lambda: torch.arange(6)), bad=(None, 3, [1, 2], np.arange(6))), dim=Whole(0)),
    Entry("spheres.project_tangent", x=Numbers([[0.5, -0.5, 0.5, 0.5], [0.0, 1.0, 0.0, 0.0]]), v=Numbers([[1.0, 2.0, 0.5, -1.0], [3.0, 1.0, 0.0, -0.5]]), library=True,
          truth=true_tangent, condition=lambda x, v: abs(v).max()),
    Entry("spheres.sphere_step", x=Numbers([[0.5, -0.5, 0.5, 0.5], [0.0, 1.0, 0.0, 0.0]]), grad=Numbers([[1.0, 2.0, 0.5, -1.0], [3.0, 1.0, 0.0, -0.5]]), lr=Number(0.25), factor=Choice(None, optional=True), map=Choice("retraction", also_wrong=(None,)), library=True,
          truth=true_sphere_step, condition=lambda x, grad, lr, **_: 1 + lr * abs(grad).max()),
    Entry("spheres.von_mises_fisher_log_constant", dim=Whole(3), kappa=Numbers([0.5, 2.0, 30.0]), library=True, condition=lambda dim, kappa: max(dim, kappa.max()),
          truth=lambda dim, kappa: each(lambda k: -mp.mpf(dim) / 2 * mp.log(2 * mp.pi) - mp.log(true_scaled_bessel(mp.mpf(dim) / 2 - 1, k)), otypes=[object])(kappa)),
    Entry("spheres.von_mises_fisher_mean_length", dim=Whole(3), kappa=Numbers([0.5, 2.0, 30.0]), library=True,
          truth=lambda dim, kappa: each(lambda k: k * true_scaled_bessel(mp.mpf(dim) / 2, k) / true_scaled_bessel(mp.mpf(dim) / 2 - 1, k), otypes=[object])(kappa)),
    Entry("style.figure", lambda **a: plt.close(kexue_utils.style.figure(**a)[0]), rows=Whole(1), columns=Whole(2), height=Number(3.0), width=Number(6.0)),
    Entry("style.in_book"),
    Entry("style.table", lambda **a: kexue_utils.style.table(**a).data, header=Thing(["n", "n!"], bad=(None, 3, "ab", [1, 2], [])), rows=Thing([(3, 6)], bad=(None, 3, "ab", [3], ["ab"], [(1,)], [("|", 1)])), align=Thing("lr", bad=(3, [], "x", "lrr"), optional=True)),
    Entry("style.use"),
    Entry("explore.explore", draw=Thing(drawing, bad=(None, 3, "x")), alt=Thing("a line to {n}", bad=(None, 3, "", " ")), start=Thing({"n": 2}, bad=(3, "n", ["n"], {"m": 1}, {"n": 9}), optional=True),
          labels=Thing({"n": "end n"}, bad=(3, "n", {"m": "x"}, {"n": 3}, {"n": ""}, {"n": "$n$"}), optional=True), caption=Thing("look", bad=(3, "", []), optional=True), budget=Whole(750_000),
          n=Thing([1, 2, 3], bad=(None, 3, "abc", [], [1], [2, 1], [1, "a"], [1, math.nan], [1, math.inf], [1, 1j], [1, True], [None, None], ["a", "a"]))),
    Entry("extras.needed_by", what="this"),
    Entry("strategies.cases", d=Thing(abs(X) - sp.sqrt(X**2))),
    Entry("strategies.gamma", d=Thing(sp.gamma(X + 1) - X * sp.gamma(X))),
    Entry("strategies.polynomial", d=Thing((X + 1) ** 2 - X**2)),
    Entry("strategies.powers", d=Thing(2 ** (X + 1) - 2 * 2**X)),
    Entry("strategies.products", d=Thing(X)),
    Entry("strategies.simplify", d=Thing(X / X**2)),
    Entry("strategies.sums", d=Thing(X)),
    Entry("strategies.trigonometric", d=Thing(sp.sin(X) ** 2)),
    Entry("whitening.Whitening", lambda X, **a: (y := kexue_utils.whitening.Whitening(**a).fit(X).transform(X)) @ y.swapaxes(-1, -2), X=Numbers(WIDE_CLOUD), k=Whole(2, optional=True), alpha=Number(0.5), eps=Number(0.25), library=True),
    Entry("whitening.cosine_pairs", A=Numbers([[1.0, 2.0], [0.5, -1.0]]), B=Numbers([[2.0, 1.0], [0.25, 1.0]]), library=True, condition=lambda A, B: 1,
          truth=lambda A, B: [mp.fdot(a, b) / mp.sqrt(mp.fdot(a, a) * mp.fdot(b, b)) for a, b in zip(A, B, strict=True)]),
    Entry("whitening.mahalanobis_cosine", x=Numbers([3.0, 1.0]), y=Numbers([2.0, 4.0]), mean=Numbers([1.0, 1.5]), sigma=Numbers([[4.0, 1.0], [1.0, 2.0]]), library=True),
    Entry("whitening.predicted_correlation", shares=Numbers([0.5, 0.25, 1.0]), weights=Numbers([1.0, 2.0, -0.5], optional=True), library=True, condition=lambda shares, weights: 1,
          truth=lambda shares, weights: mp.fdot(shares, weights) / mp.sqrt(3 * mp.fdot(weights, weights))),
    Entry("whitening.predicted_auc", shares=Numbers([0.5, 0.25, 1.0]), weights=Numbers([1.0, 2.0, -0.5], optional=True), library=True, condition=lambda shares, weights: 1,
          truth=lambda shares, weights: mp.ncdf(mp.fdot(shares, weights) / mp.sqrt(sum(w**2 * (2 + r**2) for r, w in zip(shares, weights, strict=True))))),
    Entry("whitening.best_cut", shares=Numbers([0.5, 0.25, 1.0])),
    *(Entry(f"words.{name}", e=Thing(A * B, bad=(None, "A", 1.5, [], 1j, math.nan, sp.Eq(X, 1)))) for name in ("Det", "Mean", "Tr", "Transpose", "transpose")),
    Entry("words.Letter", name=Thing("A", bad=(*TEXT, "")), structure=Choice("general")),
    Entry("words.letters", names=Thing("A B", bad=(*TEXT, "")), structure=Choice("general")),
    Entry("evidence.cite", label=LABEL, key=Thing("key", bad=(*TEXT, "", "a b")), where=Thing("page 1", bad=(*TEXT, " "))),
    Entry("evidence.define", label=LABEL, meaning=Thing("a name", bad=(*TEXT, " "))),
    Entry("evidence.exact", label=LABEL, cases=Thing(range(1, 5), bad=(None, 3, [], [1, 1])), claim=Thing(lambda n: (sum(range(n + 1)), sp.Rational(n * (n + 1), 2)), bad=(None, 3, lambda n: True, lambda n: (1,), lambda n: (n, n, n))),
          seconds=Thing(60.0, bad=(None, "60", [], 1j, True, 0, -1.0, math.nan)), using=Thing(["eq-a"], bad=(None, 3, "eq-a", [3], ["eq-label"])), step=Thing("one step", bad=(3, ""), optional=True)),
    Entry("evidence.measured", label=LABEL, runs=Thing([1.0, 1.5, 1.25], bad=NOT_NUMBERS), predicted=Thing(1.25, bad=(*NOT_NUMBERS, (1.0,), ("a", "b"))), why=Thing("a reason", bad=(*TEXT, " ")),
          seeds=Thing([0, 1, 2], bad=(None, 3, [0, 0, 1], [0, 1])), within=Number(0.25), sigmas=Number(4.0)),
    Entry("evidence.numeric", label=LABEL, got=Thing([1.0, 2.0, 3.0], bad=NOT_NUMBERS), expected=Thing([1.0, 2.0, 3.0], bad=NOT_NUMBERS), rtol=Number(0.125), why=Thing("a reason", bad=(*TEXT, " ")),
          relation=Thing("=", bad=(None, 3, "<>")), scale=Number(1.0, optional=True), seed=Whole(3, optional=True)),
    Entry("evidence.prove", label=LABEL, lhs=Thing((X + 1) ** 2, bad=(None, "x", True, [], 0.5)), rhs=Thing(X**2 + 2 * X + 1, bad=(None, "x", True, [], 0.5)), relation=Thing("=", bad=(None, 3, "<>")), given=Thing((), bad=(None, 3, [3], "x > 1")),
          by=Thing((), bad=(None, 3, "polynomial")), seconds=Thing(60.0, bad=(None, "60", [], 1j, True, 0, -1.0, math.nan))),
    Entry("evidence.refute", label=LABEL, claim=Thing(sp.Eq(X**2, X), bad=(None, 3, "x", (1,))), at=Thing({X: 2}, bad=(None, 3, [2], {X: sp.I}))),
    Entry("evidence.sampled", label=LABEL, samples=Thing(1 + np.random.default_rng(0).standard_normal(400), bad=NOT_NUMBERS), expected=Thing(1.0, bad=NOT_NUMBERS), sigmas=Number(4.0), scale=Number(1.0, optional=True), seed=Whole(3, optional=True)),
]  # fmt: skip

# Classes that functions return, and their functions; modules whose functions are only called by others here.
RESULTS = {
    "attention.Attention": "attention.attention",
    "attention.AttentionFit": "attention.fit_attention",
    "curvature.TopEigenvalue": "curvature.top_eigenvalue",
    "decoding.LoopBounds": "decoding.loop_bounds",
    "ellipse.CutOut": "ellipse.cut_out",
    "ellipse.Seam": "ellipse.seam",
    "evidence.Evidence": "evidence.define",
    "explore.Explorer": "explore.explore",
    "f1.OptimalThreshold": "f1.f1_optimal_threshold",
    "hydraulics.HTree": "hydraulics.h_tree",
    "kernels.PathKernel": "kernels.path_kernel",
    "losses.GroupedOptimum": "losses.grouped_optimum",
    "neighbours.HubLaw": "neighbours.hub_law",
    "parallel.RingState": "parallel.ring_all_reduce",
}
INTERNAL = {"arguments", "goals"}


# How an answer is looked at ------------------------------------------------------------------------------------------------


def leaves(result):
    """The numbers of a result, as arrays, and what else is in it."""
    if isinstance(result, torch.Tensor):
        return [result.detach().cpu().numpy()]
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return [leaf for name, part in vars(result).items() if name != "seconds" for leaf in leaves(part)]
    if isinstance(result, tuple | list):
        return [leaf for part in result for leaf in leaves(part)]
    return [np.asarray(result)]


def assert_same(got, expected, rtol=1e-13):
    got, expected = leaves(got), leaves(expected)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        if one.dtype.kind in "biuf":
            np.testing.assert_allclose(one.astype(float), other.astype(float), rtol=rtol, atol=rtol)
        else:
            assert one.tolist() == other.tolist()


class TooLong(Exception):
    """The call took longer than it may, or more memory."""


@contextmanager
def bounded(seconds=3, gigabytes=1):
    """Interrupts what takes too long, and refuses memory, so that a size without a limit is seen."""

    def stop(*_):
        raise TooLong(f"more than {seconds} s")

    with open("/proc/self/statm") as pages:
        used = int(pages.read().split()[0]) * resource.getpagesize()
    limits, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + gigabytes * 2**30, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except MemoryError:
        raise TooLong(f"more than {gigabytes} GB") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)


CALLS = 0


def outcome(entry, arguments, blamed):
    """What a call returns, or None where it refuses by the name of one of `blamed`; whatever else happens is a failure."""
    global CALLS
    CALLS += 1
    before = copy.deepcopy({name: value for name, value in arguments.items() if isinstance(value, np.ndarray)})
    try:
        with bounded(), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", ".*no multiplicative step")  # documented
            return entry.call(**arguments)
    except (TypeError, ValueError, FloatingPointError) as error:
        message = str(error)
        assert any(re.search(rf"(?<!\w){name}(?!\w)", message) for name in blamed), f"names none of {blamed}: {message}"
        return None
    finally:
        for name, value in before.items():
            np.testing.assert_array_equal(arguments[name], value, err_msg=f"{name} was changed")


# The facts -----------------------------------------------------------------------------------------------------------------


def public_callables():
    for module in pkgutil.iter_modules(kexue_utils.__path__):
        found = importlib.import_module(f"kexue_utils.{module.name}")
        names = getattr(found, "__all__", None) or [name for name in vars(found) if not name.startswith("_")]
        for name in names if module.name not in INTERNAL else ():
            value = getattr(found, name)
            own = getattr(value, "__module__", found.__name__) == found.__name__
            if own and (inspect.isfunction(value) or inspect.isclass(value)):
                yield f"{module.name}.{name}", value


def test_every_public_function_and_class_has_an_entry():
    expected = {name for name, value in public_callables() if not (inspect.isclass(value) and issubclass(value, Exception))}  # fmt: skip
    assert expected - {entry.name for entry in TABLE} == RESULTS.keys()


@pytest.mark.parametrize(("result", "maker"), RESULTS.items())
def test_the_other_classes_are_what_their_functions_return(result, maker):
    (entry,) = (entry for entry in TABLE if entry.name == maker)
    assert isinstance(entry.call(**entry.arguments()), attribute(result))


@pytest.fixture(scope="module", autouse=True)
def what_torch_imports_late():
    """The first step of an optimizer imports half of torch, which must not be interrupted."""
    one_step(torch.optim.SGD, [1.0])(lr=0.1)


table = pytest.mark.parametrize("entry", TABLE, ids=repr)
with_numbers = pytest.mark.parametrize("entry", [e for e in TABLE if e.of(Numbers)], ids=repr)


def forms(array):
    """The same numbers in other clothes."""
    yield "list", array.tolist()
    yield "strided", np.repeat(array, 2, -1)[..., ::2]
    yield "reversed", np.flip(np.flip(array).copy())
    yield "transposed", np.asfortranarray(array)
    yield "swapped bytes", array.astype(array.dtype.newbyteorder())
    yield "long double", array.astype(np.longdouble)
    still = array.copy()
    still.flags.writeable = False
    yield "read-only", still
    if (array == array.round()).all():
        kinds = [np.int64, np.int16, *([np.uint8] if array.min() >= 0 and array.max() < 256 else [])]
        yield from ((kind.__name__, array.astype(kind)) for kind in kinds)


@with_numbers
def test_the_same_numbers_in_another_form_have_the_same_answer(entry):
    expected = entry.call(**entry.arguments())
    for name, mark in entry.of(Numbers).items():
        for form, other in forms(mark.array()):
            if form == "long double" and mark.array().dtype.kind != "f":
                continue
            got = outcome(entry, entry.arguments(**{name: other}), [name])
            assert got is not None or form == "long double", form
            if got is not None:
                assert_same(got, expected)


@with_numbers
def test_single_and_half_precision_are_kept_or_half_is_refused(entry):
    names = [name for name, mark in entry.of(Numbers).items() if mark.array().dtype.kind == "f"]
    expected = leaves(entry.call(**entry.arguments()))
    for kind in (np.float32, np.float16):
        got = outcome(entry, entry.arguments(**{name: entry.arguments()[name].astype(kind) for name in names}), names)
        assert got is not None or kind == np.float16
        for one, other in zip(leaves(got) if got is not None else [], expected, strict=got is not None):
            if one.dtype.kind == "f":
                assert one.dtype == (entry.single if kind == np.float32 else one.dtype)
            np.testing.assert_allclose(one.astype(float), other, rtol=40 * np.finfo(kind).eps, atol=40 * np.finfo(kind).eps)  # fmt: skip


TENSORS = {
    "double": lambda x: torch.tensor(x),
    "single": lambda x: torch.tensor(x).float() if x.dtype.kind == "f" else torch.tensor(x),
    "strided": lambda x: torch.tensor(np.repeat(x, 2, -1))[..., ::2],
    "transposed": lambda x: torch.tensor(np.moveaxis(x, 0, -1).copy()).movedim(-1, 0),
    "with a gradient": lambda x: torch.tensor(x, requires_grad=x.dtype.kind == "f"),
}


@pytest.mark.parametrize("entry", [e for e in TABLE if e.library and e.of(Numbers)], ids=repr)
def test_tensors_have_the_answer_of_arrays(entry):
    names, expected = entry.of(Numbers), entry.call(**entry.arguments())
    for form, make in TENSORS.items():
        values = {name: make(mark.array()) for name, mark in names.items()}
        got = outcome(entry, entry.arguments(**values), names)
        assert got is not None, form
        for tensor in got if isinstance(got, tuple) else (got,):
            assert isinstance(tensor, torch.Tensor | int | bool), form
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                assert tensor.dtype == (torch.float32 if form == "single" else torch.float64)
        assert_same(got, expected, 2e-5 if form == "single" else 1e-9)


@pytest.mark.parametrize("entry", [e for e in TABLE if len(e.of(Numbers)) > 1 and not e.mixes], ids=repr)
def test_arrays_and_tensors_do_not_mix(entry):
    names = list(entry.of(Numbers))
    for name in names:
        got = outcome(entry, entry.arguments(**{name: torch.tensor(entry.marks[name].array())}), [name])
        assert got is None or entry.name == "directions.welch_bound"


@pytest.mark.parametrize("entry", [e for e in TABLE if not e.library and e.of(Numbers)], ids=repr)
def test_tensors_are_refused_where_they_would_lose_their_gradient(entry):
    for name in entry.of(Numbers):
        got = outcome(entry, entry.arguments(**{name: torch.tensor(entry.marks[name].array(), requires_grad=True)}), [name])  # fmt: skip
        assert got is None or entry.name in (
            "directions.welch_bound",
            "optimizers.ExponentiatedGradient.add_param_group",
        )


@table
def test_what_is_no_value_of_its_argument_is_refused_by_name(entry):
    for name, mark in entry.of(Mark).items():
        nothing = [] if mark.optional or mark.value is None or isinstance(mark, Choice) else [None]
        for wrong in [*nothing, *mark.wrong()]:
            assert outcome(entry, entry.arguments(**{name: wrong}), [name]) is None, f"{name}={wrong!r}"


@with_numbers
def test_wrong_shapes_are_refused_or_broadcast_and_never_give_nan(entry):
    for name, mark in entry.of(Numbers).items():
        array = mark.array()
        for other in (array[..., None], array[None], array.ravel()[:1], array.ravel()[0], array[..., :0], array[:0], array[..., :-1], np.concatenate([array, array[-1:]])):  # fmt: skip
            got = outcome(entry, entry.arguments(**{name: other}), entry.marks)
            assert not any(np.isnan(leaf).any() for leaf in leaves(got) if leaf.dtype.kind == "f"), f"{name}: {other.shape}"  # fmt: skip


@pytest.mark.parametrize("entry", [e for e in TABLE if e.of(Whole)], ids=repr)
def test_any_integer_is_quickly_answered_or_refused(entry):
    for name, mark in entry.of(Whole).items():
        sizes = (2**31, 2**63, 10**30, 10**400, np.uint64(2**64 - 1)) if not mark.endless else ()
        for value in (-(10**30), -1, 0, 1, 2, np.int8(1), *sizes):
            got = outcome(entry, entry.arguments(**{name: value}), entry.marks)
            if got is not None and entry.truth:
                assert_right(entry, entry.arguments(**{name: value}), got)


EXTREMES = [1e300, -1e300, 1e-300, -1e-300, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 1e154, 1e-162, 1e16, 1 + 2**-52, 1 - 2**-53, 0.0, -0.0, 1.0, -1.0, 2.0]  # fmt: skip


def exactly(value, mark):
    if isinstance(mark, Numbers) and not isinstance(mark, Indices):
        return np.vectorize(mp.mpf, otypes=[object])(np.asarray(value, dtype=float))
    return mp.mpf(float(value)) if isinstance(mark, Number) else int(value) if isinstance(mark, Whole) else value


def assert_right(entry, arguments, got):
    with mp.workdps(entry.digits):
        exact = {name: exactly(value, entry.marks[name]) for name, value in arguments.items()}
        truth = entry.truth(**exact)
        slack = float(64 * 2.2e-16 * entry.condition(**exact)) if entry.condition else 0.0
        true = [np.asarray(part, dtype=object) for part in (truth if isinstance(truth, tuple) else (truth,))]
        for one, other in zip(leaves(got), true, strict=True):
            assert one.shape == other.shape
            for g, t in zip(one.ravel().tolist(), other.ravel(), strict=True):
                if isinstance(t, int):
                    assert g == t
                elif slack >= 1:
                    assert not math.isnan(g)
                elif mp.isinf(t):
                    assert g == t
                else:
                    assert math.isfinite(g) and abs(g - t) <= entry.good_to * abs(t) + slack + 1e-290, f"{g}, not {mp.nstr(t, 17)}"  # fmt: skip


def assert_right_or_refused(entry, arguments):
    got = outcome(entry, arguments, entry.marks)
    if got is not None and entry.truth:
        assert_right(entry, arguments, got)
    elif got is not None:
        assert not any(np.isnan(leaf).any() for leaf in leaves(got) if leaf.dtype.kind == "f")


sized = pytest.mark.parametrize("entry", [e for e in TABLE if e.of(Numbers | Number) and not e.of(Indices)], ids=repr)


@sized
def test_an_extreme_number_has_the_right_answer_or_is_refused(entry):
    for name, mark in entry.of(Numbers | Number).items():
        for value in EXTREMES:
            arguments = entry.arguments()
            if isinstance(mark, Numbers):
                arguments[name].flat[0] = value
            else:
                arguments[name] = value
            assert_right_or_refused(entry, arguments)


@sized
@settings(max_examples=15, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_numbers_of_every_size_have_the_right_answer_or_are_refused(entry, data):
    marks = entry.of(Numbers | Number)
    arguments = entry.arguments()
    for _ in range(data.draw(st.integers(1, 2), label="how many")):
        name = data.draw(st.sampled_from(sorted(marks)), label="argument")
        value = data.draw(st.sampled_from(EXTREMES) | st.floats(allow_nan=False, allow_infinity=False), label="value")
        if isinstance(marks[name], Numbers):
            arguments[name].flat[data.draw(st.integers(0, arguments[name].size - 1), label="place")] = value
        else:
            arguments[name] = value
    assert_right_or_refused(entry, arguments)
