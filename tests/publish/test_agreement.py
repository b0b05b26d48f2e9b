"""What the comparison of displayed and checked formulas finds, what it must not miss, and what it refuses to read."""

import json
from pathlib import Path

import mpmath as mp
import pytest
import yaml

from kexue_publish.agreement import compare, macros_of, notation_of
from kexue_publish.formulas import Point, Unreadable, parse, tokens

MACROS = {"d": r"\mathrm{d}", "tr": r"\operatorname{tr}", "T": r"^{\mathsf{T}}", "Var": r"\operatorname{Var}"}


def proved(checked: str, *assumptions: str, kind: str = "proved") -> dict:
    return {"kind": kind, "checked": checked, "assumptions": list(assumptions)}


DOUBLE = proved(r"\sin{\left(2 t \right)} = 2 \sin{\left(t \right)} \cos{\left(t \right)}", r"t\ \text{real}")
PRODUCT = proved(
    r"\operatorname{tr}\left(A B^{\mathsf{T}} C\right) = \operatorname{tr}\left(C A B^{\mathsf{T}}\right)",
    r"A, B, C\ \text{matrices of any size}",
)
SUM = proved(r"\sum_{k=1}^{n} k = \frac{n \left(n + 1\right)}{2}", r"n\ \text{integer positive}")
INTEGRAL = proved(r"\int\limits_{0}^{x} 2 t\, dt = x^{2}", r"x\ \text{positive}")
SLOPE = proved(r"\frac{d}{d x} \ln{\left(\cos{\left(x \right)} \right)} = - \tan{\left(x \right)}", r"x\ \text{real}")
BOUND = proved(r"x \le e^{x - 1}", r"x\ \text{real}")
SEQUENCE = proved(
    r"\sum_{i=1}^{n} \left(c{\left(i \right)} - m\right)^{2} = n m^{2} - 2 m \sum_{i=1}^{n} c{\left(i \right)} + \sum_{i=1}^{n} c^{2}{\left(i \right)}",
    r"n\ \text{integer positive}",
    r"m\ \text{real}",
)


@pytest.mark.parametrize(
    ("display", "record"),
    [
        (r"\sin2t=2\sin t\,\cos t .", DOUBLE),
        (r"2\sin t\cos t=\sin2t", DOUBLE),
        (r"\boxed{\begin{aligned}\sin2t&=2\sin t\\&\quad\cdot\cos t\end{aligned}}", DOUBLE),
        (r"\tr AB\T C=\tr CAB\T", PRODUCT),
        (r"\sum_{k=1}^nk=\tfrac12n(n+1),", SUM),
        (r"\int_0^x2s\,\d s=x^2", INTEGRAL),
        (r"\frac\d{\d x}\ln\cos x=-\tan x", SLOPE),
        (r"e^{x-1}\ge x", BOUND),
        (r"\sum_{i=1}^n(c_i-m)^2=nm^2-2m\sum_{i=1}^nc_i+\sum_{i=1}^nc_i^2", SEQUENCE),
    ],
)
def test_the_same_formula_written_by_hand_and_by_sympy_agrees(display, record):
    assert compare(display, [record], macros=MACROS).verdict == "both sides"


def test_an_upright_t_is_a_transpose_even_where_t_is_a_name():
    named = {**PRODUCT, "assumptions": [*PRODUCT["assumptions"], r"T\ \text{integer positive}"]}
    assert compare(r"\tr AB\T C=\tr CAB\T", [named], macros=MACROS).verdict == "both sides"


@pytest.mark.parametrize(
    ("display", "record"),
    [
        pytest.param(r"\sin2t=-2\sin t\cos t", DOUBLE, id="sign"),
        pytest.param(r"\sin2t=\sin t\cos t", DOUBLE, id="factor"),
        pytest.param(r"\sin2t=2\sin t\cos^2t", DOUBLE, id="exponent"),
        pytest.param(r"\tr AB\T C=\tr CB\T A", PRODUCT, id="swapped matrices"),
        pytest.param(r"\tr AB\T C=\tr CAB", PRODUCT, id="transpose"),
        pytest.param(r"\sum_{k=0}^nk=\tfrac12n(n-1)", SUM, id="term"),
        pytest.param(r"\sum_{k=1}^{n-1}k=\tfrac12n(n+1)", SUM, id="index"),
        pytest.param(r"\int_0^{2x}2s\,\d s=x^2", INTEGRAL, id="bound of an integral"),
        pytest.param(r"\frac\d{\d x}\ln\cos x=\tan x", SLOPE, id="sign of a derivative"),
        pytest.param(r"e^{x-1}<x", BOUND, id="relation"),
        pytest.param(r"\sum_{i=1}^n(c_i-m)^2=nm^2-m\sum_{i=1}^nc_i+\sum_{i=1}^nc_i^2", SEQUENCE, id="factor of a sum"),
    ],
)
def test_a_display_that_is_not_what_was_checked_is_found_with_a_point(display, record):
    found = compare(display, [record], macros=MACROS)
    assert found.verdict == "disagrees"
    assert "false at" in found.why


def test_a_true_display_that_the_checks_reach_by_another_way_holds():
    step = proved(r"\cos^{2}{\left(t \right)} + \sin^{2}{\left(t \right)} = 1", r"t\ \text{real}")
    assert compare(r"\cos2t=1-2\sin^2t", [step]).verdict == "holds"


def test_a_name_that_the_checks_write_out_agrees_on_one_side_only():
    assert compare(r"V=2\sin t\cos t", [DOUBLE]).verdict == "one side"
    assert compare(r"V=3\sin t\cos t", [DOUBLE]).verdict == "not compared"


def test_of_several_statements_some_may_be_unreadable():
    found = compare(r"\sin2t=2\sin t\cos t,\qquad X\sim\mathcal N(0,1)", [DOUBLE])
    assert (found.verdict, found.tested) == ("in parts", True)


def test_notation_is_written_out_and_reported():
    display = r"g(t)=2\sin t\cos t"
    found = compare(display, [DOUBLE], notation={"g(#1)": r"\sin(2#1)"})
    assert (found.verdict, found.notation) == ("both sides", ("g(#1)",))
    assert compare(display, [DOUBLE], notation={"g(#1)": r"\sin(3#1)"}).verdict == "disagrees"


def test_notation_gives_the_kind_and_the_range_of_a_name():
    record = proved("1 = 1", kind="exact")
    assert compare("q^2<q", [record], notation={"q": r"\text{positive}, q < 1"}).verdict == "holds"
    assert compare("q^2<q", [record], notation={"q": r"\text{positive}"}).verdict == "disagrees"


def test_the_range_of_a_name_may_use_the_letters_of_constants():
    notation = {"i": r"\text{integer positive}, i < n", "n": r"\text{integer positive}"}
    assert compare(r"i^2\le(n-1)^2", [proved("1 = 1", kind="exact")], notation=notation).verdict == "holds"


def test_the_largest_of_endlessly_many_is_refused():
    with pytest.raises(Unreadable, match="endlessly many"):
        parse(tokens(r"\max_{k\ge1}\frac1k"))


def test_a_definition_inside_the_display_is_written_out():
    assert compare(r"\sin2t=2\,h\cos t,\qquad h=\sin t", [DOUBLE]).verdict == "both sides"
    assert compare(r"\sin2t=3\,h\cos t,\qquad h=\sin t", [DOUBLE]).verdict == "disagrees"


def test_a_condition_behind_the_display_limits_the_points():
    record = proved("x = x", r"x\ \text{positive}")
    assert compare(r"x^2<x\qquad(x<1)", [record]).verdict == "holds"
    assert compare(r"x^2<x\qquad(x<2)", [record]).verdict == "disagrees"


def test_decimals_are_true_to_the_digits_shown():
    record = proved(r"3.14159 \approx 3.14159", kind="numeric")
    assert compare(r"\pi=3.1416", [record]).verdict == "holds"
    assert compare(r"\pi=3.1415", [record]).verdict == "disagrees"
    assert compare(r"\pi=3.1415\ldots", [record]).verdict == "holds"


def test_a_refuted_formula_is_compared_with_the_claim_or_is_false_itself():
    claim = proved(r"\text{not always: }\left(a + b\right)^{2} = a^{2} + b^{2}", "a = 1", "b = 2", kind="refuted")
    kinds = {"a": r"\text{positive}", "b": r"\text{positive}"}
    assert compare(r"\text{(false)}\quad (a+b)^2=a^2+b^2", [claim], notation=kinds).verdict in (
        "both sides",
        "false there",
    )
    assert compare(r"\text{(false)}\quad (a+b)^2=a^2+2ab+b^2", [claim], notation=kinds).verdict == "not compared"


@pytest.mark.parametrize(("kind", "why"), [("definition", "a definition"), ("cited", "cited")])
def test_what_was_not_checked_is_not_compared(kind, why):
    found = compare("a=b", [proved("", kind=kind)])
    assert (found.verdict, found.tested) == ("not compared", False)
    assert why in found.why


@pytest.mark.parametrize(
    "formula",
    [
        r"\operatorname{rank}L",
        r"1\cdot3\cdots(2k-1)",
        r"\text{excess}",
        r"\sum_ix_i",
        r"\sum_{i=1}^nx_i",
        r"\int f\,\d x",
        r"\sin x(1+y)",
        r"\sin x/2",
        r"999\,999",
        r"\frac{\d y}{\d x}",
        r"\sqrt{",
        r"x\wedge y",
        r"f'(x)",
        r"a+",
    ],
)
def test_what_has_no_certain_meaning_is_refused(formula):
    with pytest.raises(Unreadable):
        parse(tokens(formula, MACROS))


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        (r"\tfrac12x^2", 4.5),
        (r"2x\,y", 30),
        (r"x^23", 27),
        (r"\sqrt[3]{y+3}", 2),
        (r"\binom53\Big/2", 5),
        (r"\ln^2e^x", 9),
        (r"\abs{-x}", 3),
        (r"\sum_{k\ge0}2^{-k}", 2),
        (r"\prod_{k=1}^x(k+1)", 24),
        (r"\max_{1\le k\le4}k(x-k)", 2),
        (r"\min_{k=0}^4k(x-k)", -4),
        (r"\frac{(2x)!}{x!^2}", 20),
        (r"(x)_2", 12),
        (r"\psi'(1)", float(mp.pi**2 / 6)),
    ],
)
def test_values(formula, value):
    macros = {"abs": [r"\lvert #1 \rvert", 1]}
    got = parse(tokens(formula, macros)).value(Point({"x": mp.mpf(3), "y": mp.mpf(5)}))
    assert float(mp.re(got)) == pytest.approx(value, rel=1e-12)


def test_the_same_input_gives_the_same_verdict_twice():
    assert compare(r"\sin2t=\sin t", [DOUBLE]) == compare(r"\sin2t=\sin t", [DOUBLE])


def test_notation_that_cannot_be_read_is_an_error_and_not_a_silent_page():
    with pytest.raises(ValueError, match=r"notation: \\frac Q cannot be read as x: a command without"):
        compare("Q=x", [DOUBLE], notation={r"\frac Q": "x"})


def test_notation_keeps_its_meaning_in_a_product_and_a_power():
    notation = {"Q": "x+1", "x": r"\text{real}"}
    assert compare("2Q^2=2x^2+4x+2", [DOUBLE], notation=notation).verdict == "holds"
    assert compare("2Q^2=2x+2", [DOUBLE], notation=notation).verdict == "disagrees"


def test_a_transpose_is_one_although_the_page_has_a_matrix_T():
    kinds = {"T": r"\text{matrices}", "x": r"\text{columns}", "y": r"\text{columns}"}
    macros = {"T": r"^{\mathsf{T}}"}
    assert compare(r"x\T Ty=y\T T\T x", [DOUBLE], macros=macros, notation=kinds).verdict == "holds"
    assert compare(r"x\T Ty=y\T Tx", [DOUBLE], macros=macros, notation=kinds).verdict == "disagrees"


def test_a_matrix_may_have_blocks_and_numbers_beside_them():
    shown = r"\begin{pmatrix}1&C\\0&1\end{pmatrix}^2=\begin{pmatrix}1&%sC\\0&1\end{pmatrix}"
    kinds = {"C": r"\text{matrices}"}
    assert compare(shown % 2, [DOUBLE], notation=kinds).verdict == "holds"
    assert compare(shown % 3, [DOUBLE], notation=kinds).verdict == "disagrees"


def test_matrices_are_summed():
    kinds = {"C": r"\text{matrices}"}
    assert compare(r"\sum_{k=1}^3kC=6C", [DOUBLE], notation=kinds).verdict == "holds"
    assert compare(r"\sum_{k=1}^3kC=5C", [DOUBLE], notation=kinds).verdict == "disagrees"


def test_a_remainder_is_tested_by_its_order():
    notation = {"x": r"\text{positive}"}
    assert compare(r"\cos x=1-\frac{x^2}2+O(x^4)", [DOUBLE], notation=notation).verdict == "holds"
    assert compare(r"\cos x=1-\frac{x^2}3+O(x^4)", [DOUBLE], notation=notation).verdict == "disagrees"


def test_an_integral_that_is_not_exact_decides_nothing():
    found = compare(
        r"\int_0^1\abs{x-\frac13}\d x=\frac5{18}", [DOUBLE], macros={**MACROS, "abs": [r"\lvert #1 \rvert", 1]}
    )
    assert (found.verdict, "not exact" in found.why) == ("not compared", True)


def test_an_integral_whose_integrand_falls_twice_exponentially_is_decided():
    shown = r"\int_{-\infty}^\infty e^{-x-e^{-x}}\d x=%s"
    assert compare(shown % 1, [DOUBLE], macros=MACROS).verdict == "holds"
    assert compare(shown % 2, [DOUBLE], macros=MACROS).verdict != "holds"


def test_notation_of_a_page_is_a_mapping_of_texts():
    assert notation_of("# no front matter") == {}
    with pytest.raises(ValueError, match=r"a mapping of LaTeX to LaTeX expected, \['x'\] given"):
        notation_of("---\nnotation: [x]\n---\n")


# Most equations of the first eleven chapters, as they stood on the page and as they were checked, with the verdict.
BOOK = json.loads(Path(__file__).with_name("agreement.json").read_text("utf8"))


@pytest.mark.parametrize("page", BOOK)
def test_equations_of_the_book_keep_their_verdicts(page):
    root = Path(__file__).parents[2]
    macros = macros_of(yaml.safe_load((root / "_config.yml").read_text("utf8"))["sphinx"]["config"]["mathjax3_config"])
    said, changed = BOOK[page], {}
    for equation in said["equations"]:
        found = compare(
            equation["displayed"], equation["records"], macros=macros, notation=said["notation"], page=said["facts"]
        )
        if found.verdict != equation["verdict"]:
            changed[equation["label"]] = found
    assert changed == {}
