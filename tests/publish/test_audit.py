"""What the audit finds in checks that are good, in checks that cannot fail, and in claims that a mistake leaves as they are."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

from kexue_publish import attack, audit
from kexue_publish.attack import Settings, attacking
from kexue_publish.mutations import choose, of_expression, of_numbers
from kexue_utils import evidence
from kexue_utils.words import letters

x, y = sp.symbols("x y", positive=True)
n, k = sp.symbols("n k", integer=True, positive=True)


@pytest.fixture
def outcomes(monkeypatch):
    """Runs a check that attacks itself; its outcomes."""
    shown = []
    monkeypatch.setattr(attack, "display", lambda data, raw: shown.append(data[attack.MIME]))

    def run(check, *args, settings=None, **kwargs):
        attacking(check, settings or Settings(mutants=30, seconds=60, cpu_seconds=60))(*args, **kwargs)
        return shown[-1]["outcomes"]

    return run


def words_of(found):
    return Counter(outcome["outcome"] for outcome in found)


def mutants(e, operator):
    return {str(mutation.apply()[0]) for mutation in of_expression(e) if mutation.operator == operator}


@pytest.mark.parametrize(
    "e, operator, expected",
    [
        (x**2, "exponent", {"x**3", "x", "x**4"}),
        (x - y, "sign", {"-x + y", "-x - y", "x + y"}),
        (x + y * k, "drop", {"x", "k*y", "x + y", "k + x"}),
        (sp.sin(x), "function", {"cos(x)"}),
        (sp.binomial(n, k), "swap", {"binomial(k, n)"}),
        (x - 2 * y, "symbols", {"-2*x + y"}),
        (sp.Sum(k, (k, 1, n)), "bound", {"Sum(k, (k, 2, n))", "Sum(k, (k, 1, n + 1))"}),
        (sp.Integral(x, (x, 0, sp.oo)), "bound", {"Integral(x, (x, 1, oo))", "Integral(x, (x, 0, 0))"}),
        (sp.Derivative(sp.exp(x), x), "order", {"Derivative(exp(x), (x, 2))"}),
        (sp.Function("f")(n), "index", {"f(n + 1)"}),
    ],
)
def test_mutations_of_an_expression(e, operator, expected):
    assert mutants(e, operator) == expected


def test_factors_that_do_not_commute_are_exchanged_and_transposed():
    A, B = letters("A B")
    assert mutants(A * B, "swap") == {"B*A"}
    assert mutants(A * B, "transpose") == {str(A.T * B), str(A * B.T)}


def test_entries_of_a_matrix_are_mutated_one_by_one():
    assert "Matrix([[2*x, 1], [0, y]])" in mutants(sp.Matrix([[x, 1], [0, y]]), "factor")


def test_mutations_of_numbers_keep_their_shape():
    a = np.arange(1.0, 10).reshape(3, 3)
    mutated = [mutation.apply()[0] for mutation in of_numbers(a)]
    assert {b.shape for b in mutated} == {(3, 3)}
    assert not any(np.array_equal(a, b) for b in mutated)


def test_the_choice_is_the_same_every_time_and_takes_every_operator_in_turn():
    candidates = list(of_expression(sp.sin(x) ** 2 + 3 * y))
    first, again = ([m.operator for m in choose(candidates, "eq-a 1")] for _ in range(2))
    assert first == again
    operators = set(first)
    assert set(first[: len(operators)]) == operators


@pytest.mark.parametrize(
    "check, args, kwargs",
    [
        (evidence.prove, ("eq-a", sp.sin(2 * x), 2 * sp.sin(x) * sp.cos(x)), {}),
        (evidence.prove, ("eq-a", sp.Sum(2 * k - 1, (k, 1, n)), n**2), {}),
        (evidence.exact, ("eq-a", range(1, 6), lambda m: (sum(range(m)), sp.Rational(m * (m - 1), 2))), {}),
        (evidence.numeric, ("eq-a", [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), {"rtol": 1e-9, "why": "rounding"}),
        (
            evidence.numeric,
            ("eq-a", sp.erf(x), sp.Integral(2 * sp.exp(-(y**2)) / sp.sqrt(sp.pi), (y, 0, x))),
            {"at": {x: 2}, "rtol": 1e-20, "why": "quadrature"},
        ),
        (evidence.sampled, ("eq-a", np.random.default_rng(0).normal([[1], [3]], 1, (2, 10_000)), [1, 3]), {}),
        (
            evidence.measured,
            ("eq-a", [[1.0, 1.1, 0.9], [3.0, 3.1, 2.9]], [1.0, 3.0]),
            {"within": 0.05, "why": "theory", "seeds": [0, 1, 2]},
        ),
        (evidence.measured, ("eq-a", [1.0, 1.1, 0.9], (0.8, 1.2)), {"why": "theory", "seeds": [0, 1, 2]}),
        (evidence.refute, ("eq-a", ((x + y) ** 2, x**2 + y**2), {x: 1, y: 1}), {}),
        (evidence.refute, ("eq-a", (x + y, x), {x: 1, y: 1}), {}),
        (evidence.refute, ("eq-a", lambda m: m % 2 == 1, 2), {"holds_at": [3, 5]}),
    ],
)
def test_every_mutant_of_a_good_check_is_caught(outcomes, check, args, kwargs):
    found = outcomes(check, *args, **kwargs)
    assert set(words_of(found)) == {"caught"}
    assert len(found) >= 2


def prove_anything(label, lhs, rhs, *, relation="=", given=(), by=(), seconds=60):
    return evidence.Evidence("proved", label, "", "")


prove_anything.__name__ = "prove"


def test_a_check_that_cannot_fail_is_reported(outcomes):
    found = words_of(outcomes(prove_anything, "eq-a", sp.sin(2 * x), 2 * sp.sin(x) * sp.cos(x)))
    assert set(found) == {"survived"}


def test_only_where_no_mutant_is_caught_more_are_tried_when_the_time_is_over(outcomes):
    claim, settings = ("eq-a", sp.sin(2 * x), 2 * sp.sin(x) * sp.cos(x)), Settings(mutants=2, cpu_seconds=0)
    assert words_of(outcomes(evidence.prove, *claim, settings=settings)) == {"caught": 1}
    assert words_of(outcomes(prove_anything, *claim, settings=settings)) == {"survived": 6}


def test_a_comparison_that_is_too_coarse_is_reported(outcomes):
    found = outcomes(evidence.numeric, "eq-a", [1.01, 0.99], [1.01, 0.99], rtol=0.1, why="a guess")
    assert {o["operator"] for o in found if o["outcome"] == "survived"} == {"exponent", "swap"}


def test_points_at_which_a_mistake_does_not_show_are_reported(outcomes):
    integral = sp.Integral(2 * sp.exp(-(y**2)) / sp.sqrt(sp.pi), (y, 0, x))
    found = outcomes(evidence.numeric, "eq-a", sp.erf(x), integral, at={x: 1}, rtol=1e-20, why="quadrature")
    assert [o["what"] for o in found if o["outcome"] == "survived"] == ["x → x**2"]


@pytest.mark.parametrize(
    "lhs, rhs, what",
    [
        (sp.Limit(x / (x + n), n, sp.oo), 0, "x → 2*x"),  # whatever the factor, the limit is 0
        ((x - y) ** 2, x**2 + y**2 - 2 * x * y, "(x, y) → (y, x)"),
    ],
)
def test_a_mistake_that_leaves_the_claim_as_it_is_counts_as_equivalent(outcomes, lhs, rhs, what):
    found = {o["what"]: o for o in outcomes(evidence.prove, "eq-a", lhs, rhs) if o["where"] == "lhs"}
    assert found[what]["outcome"] == "equivalent"
    assert "original is 0" in found[what]["why"]


def test_what_a_premise_makes_vanish_is_equivalent_by_the_premises(outcomes):
    mean = sp.Symbol("m", real=True)
    found = outcomes(evidence.prove, "eq-a", x**2 - 3 * mean**2, x**2, given=[sp.Eq(mean, 0)])
    assert {o["why"] for o in found if o["outcome"] == "equivalent"} == {
        "the difference to the original is 0 by the premises: evaluation"
    }


def test_nothing_becomes_one():
    assert mutants(sp.S.Zero, "constant") == {"1"}


def test_an_inequality_with_room_is_implied_and_its_slack_is_told(outcomes):
    found = outcomes(evidence.prove, "eq-a", sp.log(x), x - 1, relation="<=")
    implied = {o["what"]: o["why"] for o in found if o["outcome"] == "implied"}
    assert implied and all("slack" in why for why in implied.values())
    assert {o["outcome"] for o in found if o["operator"] == "relation"} == {"caught"}


def test_a_premise_that_is_not_needed_is_told_apart_from_one_that_is(outcomes):
    found = outcomes(evidence.prove, "eq-a", sp.log(x), 0, relation=">", given=[x > 1, y > 2])
    left_out = {o["where"]: o["outcome"] for o in found if o["operator"] == "premise"}
    assert left_out == {"premise x > 1": "caught", "premise y > 2": "premise"}


@pytest.mark.parametrize("wrong", audit._other_keys("su2019"))
def test_a_citation_without_its_paper_is_reported_by_the_ledger(wrong):
    record = {"label": "eq-a", "page": "page", "line": 1, "citation": "su2019"}
    assert audit._wrong_key(record, {"su2019": None}, wrong)["outcome"] == "caught"
    assert audit._wrong_key(record, {"su2019": None, wrong: None}, wrong)["outcome"] == "survived"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book of one chapter, which is still to be written."""
    (tmp_path / "_config.yml").write_text("title: Tiny\n")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n- file: one\n")
    (tmp_path / "index.md").write_text("# Index\n")
    return tmp_path


def chapter(folder: Path, code: str) -> None:
    head = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n# One\n\n"
    imports = "import numpy as np\nfrom kexue_utils.evidence import cite, define, numeric, prove"
    cells = "\n\n".join(f"```{{code-cell}}\n{cell}\n```" for cell in (imports, code))
    (folder / "one.md").write_text(f"{head}{cells}\n")


def test_a_survivor_is_reported_with_its_place_and_the_exit_status_says_so(book, capsys):
    chapter(book, "numeric('eq-near-one', [1.01, 0.99], [1.01, 0.99], rtol=0.1, why='a guess')")
    assert audit.main(["--source", str(book), "--output", str(book / "audit"), "--workers", "1"]) == 1
    text = capsys.readouterr().out
    assert "one.md:14 eq-near-one\n      numeric, expected, exponent" in text
    assert text == (book / "audit.txt").read_text("utf8")
    assert json.loads((book / "audit.json").read_text("utf8"))[0]["label"] == "eq-near-one"


def test_definitions_are_counted_and_have_nothing_to_mutate(book):
    chapter(book, "define('eq-a', 'a name')")
    (record,), _ = audit.audit_book(book, workers=1)
    assert (record["kind"], record["outcomes"]) == ("define", [])


def test_a_chapter_that_does_not_run_is_said(book, capsys):
    chapter(book, "1 / 0")
    assert audit.main(["--source", str(book), "--output", str(book / "audit")]) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err
