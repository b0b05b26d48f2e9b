r"""Matrix identities for every size: letters that do not commute, and the words they form.

A *letter* stands for a real n × n matrix or a column of n numbers, a *word* is a product of letters. Only this is known: products do
not commute, ``A**-1 * A`` is 1, a transpose reverses a word, and what the letter's structure says (`STRUCTURES`). The number 1 beside
words is the identity. What follows from so little holds for every n, and `evidence.prove` takes such expressions as they are. It
attacks them first: each letter is replaced by random 2 × 2 and 3 × 3 matrices of integers or fractions, so a false identity is
rejected with matrices that refute it.

Written down with a capital, worked out by ``doit()``, as SymPy does with integrals:

==============  =========================================================================
`Transpose`     the word reversed, each letter transposed
`Tr`            linear; the same around the circle and for the transpose; of the identity n
`Det`           multiplicative; positive for a positive definite letter
`Mean`          over letters with E z = 0 and E zz' = I, at most two of them in a word
==============  =========================================================================

What the algebra cannot conclude: anything that needs entries, eigenvalues, roots or commuting letters (declare a root: ``P = A**2``),
and that a 1 × 1 word such as ``x.T * A * x`` is a number, which may change places or be transposed (compare its `Tr`). That the
inverses exist is assumed. Proofs say nothing about singular matrices, and the search tries square matrices only.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping
from typing import Any

import sympy as sp

__all__ = ["STRUCTURES", "Det", "Letter", "Mean", "Tr", "Transpose", "letters", "n", "transpose"]

n = sp.Symbol("n", positive=True, integer=True)
"""The number of rows of every letter."""

STRUCTURES = {
    "general": "matrices of any size",
    "symmetric": "symmetric matrices of any size",
    "positive definite": "positive definite matrices of any size",
    "orthogonal": "orthogonal matrices of any size",
    "column": "columns of any size",
    "standard": "random columns of any size with mean 0 and covariance I",
}
"""What a letter can be, and how the page says it."""

MARK = r"^{\mathsf{T}}"


class Letter(sp.Symbol):
    """A matrix or a column of any size; made by `letters`. ``A.T`` is its transpose."""

    __slots__ = ("structure",)
    is_commutative = False

    def __new__(cls, name: str, structure: str = "general") -> Letter:
        if not isinstance(name, str) or not name:
            raise TypeError(f"name: a string expected, {name!r} given")
        if not isinstance(structure, str) or structure not in STRUCTURES:
            raise ValueError(f"structure: {structure!r} given, one of {', '.join(STRUCTURES)} expected")
        letter = sp.Symbol.__xnew__(cls, name, commutative=False)
        letter.structure = structure
        return letter

    def __getnewargs_ex__(self) -> tuple[tuple, dict]:
        return (self.name, self.structure), {}

    def _hashable_content(self) -> tuple:
        return (*super()._hashable_content(), self.structure)

    @property
    def base(self) -> Letter:
        """The letter itself, also for its transpose."""
        return Letter(self.name.removesuffix(MARK), self.structure)

    @property
    def T(self) -> sp.Expr:
        if self.structure in ("symmetric", "positive definite"):
            return self
        if self.structure == "orthogonal":
            return self**-1
        return Letter(self.name + MARK, self.structure) if self == self.base else self.base


def letters(names: str, structure: str = "general") -> Letter | tuple[Letter, ...]:
    """Letters, named as for `sympy.symbols`: one for a single name, otherwise a tuple.

    Parameters
    ----------
    names : names separated by spaces.
    structure : ``general``, ``symmetric``, ``positive definite``, ``orthogonal`` (``O.T`` is ``O**-1``), ``column``, or
        ``standard``: a random column whose mean over `Mean` is 0 and whose covariance is the identity. Different standard columns
        are uncorrelated.

    Raises
    ------
    TypeError : names that are not a string.
    ValueError : no name, or an unknown structure.

    Examples
    --------
    >>> A, B = letters("A B")
    >>> S = letters("S", "symmetric")
    >>> transpose(A * S * B**-1) == B.T**-1 * S * A.T
    True
    >>> Tr(A * B - B * A).doit()
    0
    """
    if not isinstance(names, str):
        raise TypeError(f"names: a string expected, {names!r} given")
    made = tuple(Letter(name, structure) for name in names.split())
    if not made:
        raise ValueError(f"names: at least one name expected, {names!r} given")
    return made if len(made) > 1 else made[0]


def letters_of(e: sp.Basic) -> set[Letter]:
    """The letters in an expression, without the transposes."""
    return {symbol.base for symbol in e.free_symbols if isinstance(symbol, Letter)}


def in_letters(e: sp.Basic) -> bool:
    """Whether an expression has letters, or a function of letters."""
    return bool(e.has(_OfLetters) or letters_of(e))


def split(term: sp.Expr) -> tuple[sp.Expr, list[sp.Expr]]:
    """A product as a number and its word, a list of letters and inverse letters."""
    numbers, factors = term.args_cnc()
    word: list[sp.Expr] = []
    for factor in factors:
        base, exponent = factor.as_base_exp()
        word += [base ** sp.sign(exponent)] * abs(exponent) if exponent.is_Integer else [factor]
    return sp.Mul(*numbers), word


def transpose(e: sp.Expr) -> sp.Expr:
    """Transpose of an expression in letters.

    Raises
    ------
    TypeError : no expression, or a function of letters whose transpose is not known.
    """
    if not isinstance(e, sp.Expr):
        raise TypeError(f"e: an expression in letters expected, {e!r} given")
    if e.is_commutative:
        return e
    if isinstance(e, Letter):
        return e.T
    if e.is_Add:
        return sp.Add(*map(transpose, e.args))
    if e.is_Mul:
        return sp.Mul(*map(transpose, reversed(e.args)))
    if e.is_Pow and e.exp.is_commutative:
        return transpose(e.base) ** e.exp
    if isinstance(e, Mean):
        return Mean(transpose(e.args[0]))
    if isinstance(e, Transpose):
        return e.args[0]
    raise TypeError(f"{e}: sums, products, integer powers and Mean of letters expected")


class _OfLetters(sp.Function):
    """Base of the functions of one expression in letters."""

    nargs = 1
    latex = ""

    def __new__(cls, e: sp.Expr, **options: Any) -> _OfLetters:
        if not isinstance(e, sp.Expr | int):
            raise TypeError(f"e: an expression in letters expected, {e!r} given")
        return super().__new__(cls, e, **options)

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        text = rf"{self.latex}\left({printer._print(self.args[0])}\right)"
        return f"{text}^{{{exp}}}" if exp else text

    def _sympystr(self, printer: Any) -> str:
        return f"{type(self).__name__}({printer._print(self.args[0])})"

    def _eval_derivative(self, symbol: sp.Symbol) -> sp.Expr:
        if symbol not in self.free_symbols:
            return sp.S.Zero
        # SymPy's rule for powers assumes factors that commute.
        raise NotImplementedError(f"{self}: the derivative of a function of letters; expand it in powers of {symbol}")


class Transpose(_OfLetters):
    """Transpose of a word, written down; `transpose` does it at once.

    Examples
    --------
    >>> A, B = letters("A B")
    >>> Transpose(A * B).doit() == B.T * A.T
    True
    """

    latex = r"\operatorname{transpose}"

    def doit(self, **hints: bool) -> sp.Expr:
        return transpose(self.args[0].doit(**hints))

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        text = rf"\left({printer._print(self.args[0])}\right){MARK}"
        return rf"\left[{text}\right]^{{{exp}}}" if exp else text


class Tr(_OfLetters):
    """Trace of a matrix, or of a 1 × 1 word.

    Examples
    --------
    >>> X = letters("X")
    >>> A = letters("A", "symmetric")
    >>> (Tr(X * A) - Tr(A * X.T)).doit(), Tr(A**-1 * A).doit()
    (0, n)
    """

    is_commutative = True
    latex = r"\operatorname{tr}"

    def doit(self, **hints: bool) -> sp.Expr:
        return sp.Add(*map(self._of_word, sp.Add.make_args(sp.expand(self.args[0].doit(**hints)))))

    @classmethod
    def _of_word(cls, term: sp.Expr) -> sp.Expr:
        number, word = split(term)
        while len(word) > 1 and word[0] * word[-1] == 1:
            word = word[1:-1]
        if not word:
            return number * n
        rotations = [
            sp.Mul(*same[i:], *same[:i])
            for same in (word, [transpose(factor) for factor in reversed(word)])
            for i in range(len(word))
        ]
        return number * cls(min(rotations, key=str))


class Det(_OfLetters):
    """Determinant of a matrix.

    Examples
    --------
    >>> A, P = letters("A"), letters("P", "positive definite")
    >>> (Det(A.T * P * A) - Det(A) ** 2 * Det(P)).doit(), Det(P).is_positive, Det(A).is_positive
    (0, True, None)
    """

    is_commutative = True
    latex = r"\det"

    def doit(self, **hints: bool) -> sp.Expr:
        number, word = split(self.args[0].doit(**hints))
        return number**n * sp.Mul(*map(self._of_factor, word))

    @classmethod
    def _of_factor(cls, factor: sp.Expr) -> sp.Expr:
        base, exponent = factor.as_base_exp()
        return cls(base.base if isinstance(base, Letter) else base) ** exponent

    def _eval_is_positive(self) -> bool | None:
        return True if getattr(self.args[0], "structure", None) == "positive definite" else None

    def _eval_is_extended_real(self) -> bool | None:
        return True if isinstance(self.args[0], Letter) else None


class Mean(_OfLetters):
    """Mean over the standard columns, from their first two moments: E z'Wz = tr W, E zz' = 1.

    A word with more than two of them is left as it is, since its mean depends on more than that.

    Examples
    --------
    >>> W, z = letters("W"), letters("z", "standard")
    >>> Mean(z.T * W * z).doit(), Mean(z * z.T).doit(), Mean(W * z).doit()
    (Tr(W), 1, 0)
    """

    latex = r"\mathbb{E}"

    def doit(self, **hints: bool) -> sp.Expr:
        return sp.Add(*map(self._of_word, sp.Add.make_args(sp.expand(self.args[0].doit(**hints)))))

    @classmethod
    def _of_word(cls, term: sp.Expr) -> sp.Expr:
        number, word = split(term)
        if random_letters(number):
            factors = [factor for factor in sp.Mul.make_args(number) if random_letters(factor)]
            if factors == [(only := factors[0])] and isinstance(only, Tr) and not word:
                return number / only * Tr(cls(only.args[0])).doit()
            return cls(term)
        places = [i for i, factor in enumerate(word) if random_letters(factor)]
        if len(places) < 2:
            return term if not places else sp.S.Zero if isinstance(word[places[0]], Letter) else cls(term)
        if len(places) > 2 or not all(isinstance(word[i], Letter) for i in places):
            return cls(term)
        i, j = places
        first, second, between = word[i], word[j], sp.Mul(*word[i + 1 : j])
        if first.base != second.base:
            return sp.S.Zero
        if first == second:  # z c'z = zz'c
            value = transpose(between)
        elif second == first.base:  # z'Wz, a number
            value = Tr(between).doit()
        else:  # z s z' with a number s between
            value = Tr(between).doit() if word[i + 1 : j] else sp.S.One
        return sp.Mul(number, *word[:i], value, *word[j + 1 :])

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        text = rf"{self.latex}\left[{printer._print(self.args[0])}\right]"
        return rf"\left({text}\right)^{{{exp}}}" if exp else text


def random_letters(e: sp.Basic) -> set[Letter]:
    """The standard columns in an expression."""
    return {letter for letter in letters_of(e) if letter.structure == "standard"}


# ---------------------------------------------------------------- matrices in place of letters


def draw(wanted: Iterable[Letter], size: int, rng: random.Random) -> dict[sp.Symbol, sp.Basic]:
    """For each letter a random matrix of small integers (orthogonal: of fractions), invertible and with its structure; and the size `n`."""
    drawn = {letter: sp.ImmutableMatrix(_random(letter.structure, size, rng)) for letter in sorted(wanted, key=str)}
    return {n: sp.Integer(size), **drawn}


def _random(structure: str, size: int, rng: random.Random) -> sp.Matrix:
    identity = sp.eye(size)
    while True:
        X = sp.Matrix(size, size, lambda i, j: rng.randint(-3, 3))
        if structure in ("column", "standard"):
            X = X[:, 0]
            if not X.is_zero_matrix:
                return X
            continue
        if structure == "orthogonal":  # Cayley transform of a skew matrix, and a reflection in half of the cases
            mirror = sp.diag(rng.choice((-1, 1)), *[1] * (size - 1))
            return mirror * (identity - (X - X.T)) * (identity + (X - X.T)).inv()
        if structure == "symmetric":
            X = X + X.T
        elif structure == "positive definite":
            X = X * X.T
        if X.det() != 0:
            return X


def fits(letter: Letter, X: sp.Basic) -> bool:
    """Whether a value is a matrix of numbers with the structure of a letter."""
    if not isinstance(X, sp.MatrixBase) or X.free_symbols:
        return False
    if letter.structure in ("column", "standard"):
        return X.cols == 1
    if X.rows != X.cols or X.det() == 0:
        return False
    if letter.structure == "orthogonal":
        return (X.T * X - sp.eye(X.rows)).is_zero_matrix
    symmetric = X == X.T
    return {"symmetric": symmetric, "positive definite": symmetric and X.is_positive_definite}.get(
        letter.structure, True
    )


def respects(letter: Letter, value: sp.Expr) -> bool:
    """Whether the algebra sees that an expression in letters has a letter's symmetry."""
    if letter.structure in ("symmetric", "positive definite"):
        return sp.expand(transpose(value) - value) == 0
    return letter.structure != "orthogonal" or sp.expand(transpose(value) * value) == 1


def at_matrices(e: sp.Expr, values: Mapping[sp.Symbol, sp.Basic]) -> sp.Expr | sp.MatrixBase:
    """Value of an expression with a matrix for every letter, and the size for `n`: a matrix, or a number.

    `Mean` is worked out as the average over columns of signs, which have mean 0 and covariance 1; nothing of `Tr`, `Det`, `Mean`
    and `Transpose` as the algebra knows them is used.

    Raises
    ------
    ValueError : shapes do not fit, or a letter has no matrix.
    TypeError : a function that is not defined for matrices.
    """
    if isinstance(e, Letter):
        if e.base not in values:
            raise ValueError(f"no matrix given for the letter {e.base}")
        return values[e] if e == e.base else values[e.base].T
    if e == n:
        return values[n]
    if not in_letters(e) and not e.has(n):
        return e
    if isinstance(e, Mean):
        return _average(e.args[0], values)
    if isinstance(e, sp.Derivative):
        # expanded, so that the matrices that are multiplied have numbers for entries
        return at_matrices(sp.expand(e.expr), values).diff(*e.variables)
    if isinstance(e, sp.Subs):
        return at_matrices(e.expr, values).subs(dict(zip(e.variables, e.point, strict=True)))
    parts = [at_matrices(part, values) for part in e.args]
    if e.is_Add:
        return _sum(parts, e)
    if e.is_Mul:
        return _product(parts, e)
    if isinstance(e, _OfLetters):
        (X,) = parts
        X = X if isinstance(X, sp.MatrixBase) else X * sp.eye(values[n])
        return X.T if isinstance(e, Transpose) else X.trace() if isinstance(e, Tr) else X.det()
    if e.is_Pow and isinstance(parts[0], sp.MatrixBase):
        if not getattr(parts[1], "is_Integer", False):
            raise TypeError(f"{e}: integer powers of letters expected; declare a root as a letter, P = A**2")
        if parts[0].rows != parts[0].cols:
            raise ValueError(f"{e}: shapes do not fit: a power of {_shape(parts[0])}")
        return parts[0] ** parts[1]
    if any(isinstance(part, sp.MatrixBase) for part in parts):
        raise TypeError(f"{e}: sums, products, integer powers, Transpose, Tr, Det and Mean of letters expected")
    return e.func(*parts)


def _sum(parts: list, e: sp.Expr) -> sp.Expr | sp.MatrixBase:
    """Sum in which a number beside square matrices counts as that multiple of the identity."""
    matrices = [part for part in parts if isinstance(part, sp.MatrixBase)]
    number = sp.Add(*(part for part in parts if not isinstance(part, sp.MatrixBase)))
    if not matrices:
        return number
    if len({X.shape for X in matrices}) > 1 or (number != 0 and matrices[0].rows != matrices[0].cols):
        shapes = ", ".join(sorted({_shape(part) for part in parts}))
        raise ValueError(f"{e}: shapes do not fit: a sum of {shapes}")
    total = number * sp.eye(matrices[0].rows) if number != 0 else sp.zeros(*matrices[0].shape)
    for X in matrices:
        total += X
    return total


def _product(parts: list, e: sp.Expr) -> sp.Expr | sp.MatrixBase:
    number = sp.Mul(*(part for part in parts if not isinstance(part, sp.MatrixBase)))
    product = None
    for X in (part for part in parts if isinstance(part, sp.MatrixBase)):
        if product is not None and product.cols != X.rows:
            raise ValueError(f"{e}: shapes do not fit: {_shape(product)} times {_shape(X)}")
        product = X if product is None else product * X
    return number if product is None else number * product


def _shape(part: Any) -> str:
    return f"{part.rows} × {part.cols}" if isinstance(part, sp.MatrixBase) else "number"


def _average(e: sp.Expr, values: Mapping[sp.Symbol, sp.Basic]) -> sp.Expr | sp.MatrixBase:
    averaged = sorted(random_letters(e), key=str)
    signs = [sp.ImmutableMatrix(vector) for vector in itertools.product((-1, 1), repeat=values[n])]
    runs = [
        at_matrices(e, {**values, **dict(zip(averaged, columns, strict=True))})
        for columns in itertools.product(signs, repeat=len(averaged))
    ]
    return _sum(runs, e) / sp.Integer(len(runs))


def sides_at(left: sp.Expr, right: sp.Expr, values: Mapping[sp.Symbol, sp.Basic]) -> list[tuple[sp.Expr, sp.Expr]]:
    """The pairs of entries of two sides, with a matrix for every letter."""
    sides = [at_matrices(side, values) for side in (left, right)]
    shapes = {side.shape for side in sides if isinstance(side, sp.MatrixBase)}
    if not shapes:
        return [tuple(sides)]
    rows, cols = next(iter(shapes))
    if len(shapes) > 1 or (rows != cols and not all(isinstance(side, sp.MatrixBase) or side == 0 for side in sides)):
        raise ValueError(f"{left} and {right}: shapes do not fit: {_shape(sides[0])} against {_shape(sides[1])}")
    sides = [
        side if isinstance(side, sp.MatrixBase) else sp.zeros(rows, cols) if side == 0 else side * sp.eye(rows)
        for side in sides
    ]
    return list(zip(*sides, strict=True))
