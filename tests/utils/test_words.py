"""Matrix identities for every size: what follows from the letters is proved, everything else meets matrices that refute it."""

import pickle
import random

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as draw
from sympy import Eq

from kexue_utils import words
from kexue_utils.evidence import CheckFailed, VacuousCheck, exact, prove, refute
from kexue_utils.words import Det, Mean, Tr, Transpose, letters, n, transpose

A, B, X, L, C = letters("A B X L C")
S, K, M = letters("S K M", "symmetric")
P, Q = letters("P Q", "positive definite")
O = letters("O", "orthogonal")  # noqa: E741
x, y, mu = letters("x y mu", "column")
z, w = letters("z w", "standard")
t, lam = sp.Symbol("t", real=True), sp.Symbol("lambda")

TRUE = {
    "a trace around the circle": (Tr(A * B), Tr(B * A), {}),
    "a trace of three": (Tr(A * B * X), Tr(B * X * A), {}),
    "a trace of the transpose": (Tr(Transpose(X * A)), Tr(X * A), {}),
    "a trace of a similar matrix": (Tr(A * B * A**-1), Tr(B), {}),
    "three symmetric letters may be swapped": (Tr(S * K * M), Tr(K * S * M), {}),
    "a trace is linear": (Tr(2 * A - t * B + 1), 2 * Tr(A) - t * Tr(B) + n, {}),
    "a transpose reverses": (Transpose(A * B), B.T * A.T, {}),
    "and commutes with inverses": (Transpose((A * B.T) ** -1), (B * A.T) ** -1, {}),
    "a rotation keeps the trace": (Tr(O * A * O.T), Tr(A), {}),
    "and every length": (Tr(Transpose(O * x) * (O * x)), Tr(x.T * x), {}),
    "completing the square": (
        Tr(transpose(x - S**-1 * y) * S * (x - S**-1 * y)),
        Tr(x.T * S * x - 2 * x.T * y + y.T * S**-1 * y),
        {},
    ),
    "Cholesky": (transpose(L**-1 * x) * L**-1 * x, x.T * S**-1 * x, {"given": [Eq(S, L * L.T)]}),
    "the mean of a form": (Mean(z.T * A * z), Tr(A), {}),
    "the mean of a shifted form": (Mean(transpose(x + L * z) * Q**-1 * (x + L * z)), Tr(Q**-1 * P) + x.T * Q**-1 * x, {"given": [Eq(P, L * L.T)]}),
    "the covariance": (Mean(L * z * transpose(L * z)), L * L.T, {}),
    "the norm": (Mean(z.T * z), n, {}),
    "a number between": (Mean(z * (x.T * y) * z.T), Tr(x.T * y), {}),
    "a column against z": (Mean(z * (x.T * z)), x, {}),
    "and its transpose": (Mean((z.T * x) * z.T), x.T, {}),
    "uncorrelated columns": (Mean(transpose(z + w) * A * (z + w)), 2 * Tr(A), {}),
    "a trace inside": (Mean(Tr(z * z.T * A)), Tr(A), {}),
    "an outer product": (Tr(x * y.T), Tr(y.T * x), {}),
    "the determinant of a congruence": (Det(A.T * P * A), Det(A) ** 2 * Det(P), {}),
    "of a multiple": (Det(-3 * A), (-3) ** n * Det(A), {}),
    "of an inverse": (Det(A**-2), 1 / Det(A) ** 2, {}),
    "its logarithm": (sp.log(Det(Q**-1 * P)), sp.log(Det(P)) - sp.log(Det(Q)), {}),
    "the resolvent": ((1 - A) * (1 + A + A**2), 1 - A**3, {}),
    "similar pencils": (A**-1 * (A * X * A**-1 - lam) * A, X - lam, {}),
    "a derivative": (sp.Subs(sp.Derivative(sp.expand((A + t * B) ** 2), t), t, 0), A * B + B * A, {}),
    "a given transpose": (Transpose(C), B * A.T, {"given": [Eq(C, A * B.T)]}),
    "a block matrix": (
        sp.Matrix([[1, 0], [C.T * P**-1, 1]]) * sp.diag(P, S) * sp.Matrix([[1, P**-1 * C], [0, 1]]),
        sp.Matrix([[P, C], [C.T, Q]]),
        {"given": [Eq(S, Q - C.T * P**-1 * C)]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE)
def test_proves(name):
    lhs, rhs, arguments = TRUE[name]
    proof = prove("eq-true", lhs, rhs, **arguments)
    assert "10 random choices of matrices, 2 × 2 and 3 × 3, agree" in proof.method
    assert not any("complex" in a and "lambda" not in a for a in proof.assumptions)
    assert any("of any size" in a for a in proof.assumptions)


FALSE = {
    "factors commute": (A * B, B * A, {}),
    "symmetric factors commute": (S * K, K * S, {}),
    "three factors may be swapped in a trace": (Tr(A * B * X), Tr(B * A * X), {}),
    "a missing transpose": (Tr(A.T * B), Tr(A * B), {}),
    "a transpose keeps the order": (Transpose(A * B), A.T * B.T, {}),
    "every letter is symmetric": (Transpose(A), A, {}),
    "every letter is orthogonal": (A.T * A, 1, {}),
    "a sign": (Tr(transpose(x - y) * (x - y)), Tr(x.T * x + 2 * x.T * y + y.T * y), {}),
    "a factor": (Tr(transpose(x - y) * (x - y)), Tr(x.T * x - x.T * y + y.T * y), {}),
    "a similar matrix is the same": (A * B * A**-1, B, {}),
    "the inverse of a product keeps the order": ((A * B) ** -1, A**-1 * B**-1, {}),
    "the inverse of a sum": ((A + B) ** -1, A**-1 + B**-1, {}),
    "the transpose of an inverse sum": (Tr((A + B) ** -1 * X), Tr((A + B) ** -1 * X.T), {}),
    "binomial": ((A + B) ** 2, A**2 + 2 * A * B + B**2, {}),
    "the other Cholesky factor": (S, L.T * L, {"given": [Eq(S, L * L.T)]}),
    "the trace of the identity": (Tr(A * A**-1 + A), 1 + Tr(A), {}),
    "the mean of a form with a factor": (Mean(z.T * A * z), 2 * Tr(A), {}),
    "the mean of a covariance": (Mean(A * z * z.T * B), B * A, {}),
    "the mean of a square of a form": (Mean((z.T * A * z) * (z.T * A * z)), Tr(A) ** 2, {}),
    "correlated columns": (Mean(z * w.T), 1, {}),
    "an outer product is symmetric": (x * y.T, y * x.T, {}),
    "a form of a matrix that is not symmetric": (x.T * A * y, y.T * A * x, {}),
    "a determinant is linear": (Det(A + B), Det(A) + Det(B), {}),
    "a determinant of a multiple": (Det(2 * A), 2 * Det(A), {}),
    "a determinant of a congruence": (Det(A.T * P * A), Det(A) * Det(P), {}),
    "every determinant is positive": (sp.sqrt(Det(A) ** 2), Det(A), {}),
    "a reflection has determinant 1": (Det(O), 1, {}),
    "a derivative as if factors commuted": (sp.Subs(sp.Derivative((A + t * B) ** 2, t), t, 0), 2 * A * B, {}),
    "a block": (sp.diag(A, B) * sp.Matrix([[0, 1], [1, 0]]), sp.Matrix([[0, B], [A, 0]]), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FALSE)
def test_a_false_identity_meets_matrices_that_refute_it(name):
    lhs, rhs, arguments = FALSE[name]
    with pytest.raises(CheckFailed, match=r"false at n = [23], .* = \[\[.*left side .*, right side"):
        prove("eq-false", lhs, rhs, **arguments)


@pytest.mark.parametrize("factor", [sp.Rational(9, 8), -1], ids=str)
@pytest.mark.parametrize("name", [name for name in TRUE if TRUE[name][1] != 0])
def test_a_true_identity_times_a_number_is_false(name, factor):
    lhs, rhs, arguments = TRUE[name]
    with pytest.raises(CheckFailed, match="false at"):
        prove("eq-false", lhs, factor * rhs, **arguments)


# ---------------------------------------------------------------- the letters and NumPy agree

LETTERS = [A, B, S, P, O]
factors = draw.sampled_from([f for a in LETTERS for f in (a, a.T, a**-1, a.T**-1)])
random_words = draw.lists(factors, min_size=1, max_size=4)
numbers = draw.integers(-3, 3).filter(bool)


def as_numpy(structure, size, rng):
    X = rng.standard_normal((size, size))
    if structure == "orthogonal":
        return np.linalg.qr(X)[0]
    return {"symmetric": X + X.T, "positive definite": X @ X.T + np.eye(size)}.get(structure, X)


def value(word, matrices):
    result = np.eye(len(next(iter(matrices.values()))))
    for factor in word:
        base, e = factor.as_base_exp()
        X = matrices[base.base] if base == base.base else matrices[base.base].T
        result = result @ np.linalg.matrix_power(X, int(e))
    return result


def value_of(e, matrices):
    """The value of a sum of words, from the parts that the algebra made."""
    size = len(next(iter(matrices.values())))
    total = np.zeros((size, size))
    for term in sp.Add.make_args(sp.expand(e)):
        number, word = words.split(term)
        total += float(number) * value(word, matrices)
    return total


@settings(max_examples=40, deadline=None)
@given(random_words, random_words, numbers, draw.integers(2, 4), draw.integers(0, 10**6))
def test_transpose_trace_and_determinant_keep_their_values(first, second, c, size, seed):
    rng = np.random.default_rng(seed)
    matrices = {a: as_numpy(a.structure, size, rng) for a in LETTERS}
    e = sp.Mul(*first) + c * sp.Mul(*second)
    expected = value(first, matrices) + c * value(second, matrices)
    rounding = 1e-9 * sum(np.prod([np.linalg.norm(value([f], matrices)) for f in word]) for word in (first, second))
    assert np.allclose(value_of(transpose(e), matrices), expected.T, atol=4 * rounding)

    trace = Tr(e).doit().subs(n, size)
    traces = {word: np.trace(value_of(word.args[0], matrices)) for word in trace.atoms(Tr)}
    assert np.isclose(float(trace.subs(traces)), np.trace(expected), atol=8 * rounding)

    det = Det(c * sp.Mul(*first)).doit().subs(n, size)
    assert all(isinstance(d.args[0], words.Letter) for d in det.atoms(Det))
    dets = {d: np.linalg.det(matrices[d.args[0]]) for d in det.atoms(Det)}
    assert np.isclose(float(det.subs(dets)), np.linalg.det(c * value(first, matrices)), rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(random_words, random_words)
def test_two_random_words_are_proved_equal_only_where_they_are(first, second):
    left, right = sp.Mul(*first), sp.Mul(*second)
    assume(left != right)
    rng = np.random.default_rng(0)
    matrices = {a: as_numpy(a.structure, 3, rng) for a in LETTERS}
    equal = np.allclose(value(first, matrices), value(second, matrices))
    same_trace = np.isclose(np.trace(value(first, matrices)), np.trace(value(second, matrices)))
    try:
        prove("eq-random", left, right)
    except CheckFailed:
        assert not equal
    else:
        assert equal
    try:
        prove("eq-random", Tr(left), Tr(right))
    except CheckFailed:
        assert not same_trace
    else:
        assert same_trace


# ---------------------------------------------------------------- the matrices that are tried


@pytest.mark.parametrize("structure", words.STRUCTURES)
def test_matrices_have_the_structure_of_their_letter_and_an_inverse(structure):
    letter = letters("Y", structure)
    for seed in range(20):
        drawn = words.draw([letter], 2 + seed % 2, random.Random(seed))
        assert drawn[n] == 2 + seed % 2 == drawn[letter].rows
        assert words.fits(letter, drawn[letter])
        if letter.structure not in ("column", "standard"):
            assert drawn[letter].det() != 0


def test_a_structure_is_more_than_its_superset():
    rotation, general = sp.Matrix([[0, 1], [-1, 0]]), sp.Matrix([[1, 2], [3, 4]])
    assert words.fits(O, rotation) and not words.fits(O, general) and not words.fits(S, general)
    assert words.fits(S, sp.diag(1, -1)) and not words.fits(P, sp.diag(1, -1))
    assert not words.fits(A, sp.diag(1, 0)) and not words.fits(A, sp.Integer(1)) and not words.fits(x, general)


def test_the_average_over_signs_has_the_two_moments_that_the_mean_is_worked_out_from():
    values = words.draw([A, x], 3, random.Random(0))
    assert words.at_matrices(Mean(z * z.T), values) == sp.eye(3)
    assert words.at_matrices(Mean(z * w.T), values) == sp.zeros(3)
    assert words.at_matrices(Mean(z.T * A * z), values) == sp.Matrix([[values[A].trace()]])
    assert words.at_matrices(Mean(x + A * z), values) == values[x]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "lhs, rhs, message",
    [
        (x.T * x + A, B, "shapes do not fit"),
        (A * x.T, B, "shapes do not fit"),
        (A * x, y.T, "shapes do not fit"),
        (x, 1, "shapes do not fit"),
        (x * x, A, "shapes do not fit"),
    ],
)
def test_shapes_have_to_fit(lhs, rhs, message):
    with pytest.raises(ValueError, match=message):
        prove("eq-shapes", lhs, rhs)


@pytest.mark.parametrize("e", [sp.sqrt(A), sp.exp(A), sp.exp(A) * sp.exp(B)], ids=str)
def test_functions_of_a_matrix_are_refused(e):
    with pytest.raises(TypeError, match="of letters expected"):
        prove("eq-function", e, B)
    with pytest.raises(TypeError, match="letters expected"):
        transpose(sp.exp(A))


def test_a_given_value_must_have_the_structure_of_its_letter():
    for letter, wrong in ((S, A * B), (P, A), (O, A)):
        with pytest.raises(ValueError, match="was declared"):
            prove("eq-given", letter * X, X * letter, given=[Eq(letter, wrong)])


def test_names_and_structures():
    assert letters("A") == A != letters("A", "symmetric")
    with pytest.raises(ValueError, match="structure"):
        letters("A", "square")
    with pytest.raises(ValueError, match="names"):
        letters(" ")
    with pytest.raises(ValueError, match="two different symbols are called A"):
        prove("eq-twice", A * letters("A", "symmetric"), B)
    assert A.T.T == A.T.base == A and S.T == S and O.T == O**-1 and A.T != A
    assert pickle.loads(pickle.dumps(P.base)).structure == "positive definite"


def test_the_same_side_twice_is_refused():
    with pytest.raises(VacuousCheck, match="same expression"):
        prove("eq-same", A * B, A * B)


def test_a_mean_of_more_than_two_standard_letters_stays():
    fourth = Mean((z.T * z) * (z.T * z))
    assert fourth.doit() == fourth
    assert Mean(Tr(z * z.T) * z.T * z).doit().has(Mean)
    assert Mean((1 + z * z.T) ** -1).doit().has(Mean)


def test_an_own_strategy_for_letters_must_keep_the_value():
    proof = prove("eq-inverse", (A * B) ** -1, B**-1 * A**-1, by=lambda d: d.subs((A * B) ** -1, B**-1 * A**-1))
    assert "own rewriting" in proof.method
    with pytest.raises(VacuousCheck, match="changes the value"):
        prove("eq-inverse", (A * B) ** -1, B**-1 * A**-1, by=lambda d: d.subs((A * B) ** -1, B**-1 * A**-1) / 2)
    # a derivative of the trace would need the chain rule for letters
    with pytest.raises(NotImplementedError, match="expand"):
        Tr((A + t * B) ** -1).diff(t)


def test_refute_and_exact_take_letters():
    shear, back = sp.Matrix([[1, 1], [0, 1]]), sp.Matrix([[1, 0], [1, 1]])
    false = refute("eq-commute", (A * B, B * A), {A: shear, B: back})
    assert "left side is 2, the right side 1" in false.method
    with pytest.raises(CheckFailed, match="not false"):
        refute("eq-commute", (A * B, B * A), {A: shear, B: shear})
    with pytest.raises(ValueError, match="declared"):
        refute("eq-commute", (S * K, K * S), {S: shear, K: back})
    with pytest.raises(ValueError, match="no matrix given"):
        refute("eq-commute", (A * B, B * A), {A: shear})
    powers = exact("eq-powers", [2, 3], lambda k: (Tr((A * B) ** k), Tr((B * A) ** k)))
    assert powers.resolution == 0
    with pytest.raises(CheckFailed, match="false in case 2"):
        exact("eq-powers", [2, 3], lambda k: (Tr((A * B) ** k), Tr(A**k * B**k)))


def test_the_page_says_what_the_letters_are():
    proof = prove("eq-page", Mean(z.T * A * z) + Tr(P) * Det(P) ** 2, Tr(A) + Tr(P) * Det(P * P))
    assert proof.assumptions == (
        r"A\ \text{matrices of any size}",
        r"P\ \text{positive definite matrices of any size}",
        r"z\ \text{random columns of any size with mean 0 and covariance I}",
    )
    assert r"\mathbb{E}\left[z^{\mathsf{T}} A z\right]" in proof.checked
    assert r"\det\left(P\right)^{2}" in proof.checked and r"\operatorname{tr}\left(P\right)" in proof.checked
    assert r"\left(A B\right)^{\mathsf{T}}" in sp.latex(Transpose(A * B))


def test_functions_of_words_are_printed_by_name():
    A, B = letters("A B")
    assert [str(f(A * B)) for f in (Transpose, Tr, Det)] == ["Transpose(A*B)", "Tr(A*B)", "Det(A*B)"]
