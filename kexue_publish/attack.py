"""The functions of `kexue_utils.evidence`, each of which attacks its own claim after it has accepted it.

`audit` runs ``install()`` in a kernel before the first cell of a chapter. From then on ``prove`` and the others first do what they
always do; then they are called again, on claims with a mistake in them (`mutations`), and have to reject each one. What became of
each mutant is left beside the outputs of the cell, as data of type `MIME`:

=============  ===================================================================================
`caught`       rejected: CheckFailed, VacuousCheck
`equivalent`   accepted, and shown to be the same claim
`implied`      accepted: an inequality with a wider bound, or with another one that is as true of what was checked; with its slack
`premise`      accepted: the claim holds without this premise, or with another one, and is proved so
`undecided`    not decided within the time limit, or accepted where SymPy cannot compare it with the original
`invalid`      no claim at all, such as matrices that do not fit; not counted as a mutant
`survived`     accepted, though it is another claim: a check that does not see the mistake
=============  ===================================================================================
"""

from __future__ import annotations

import functools
import inspect
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import sympy as sp
from IPython.display import display

from kexue_utils import evidence, goals
from kexue_utils.goals import CheckFailed, Goal, TimeLimitReached, VacuousCheck

from .mutations import Mutation, choose, of_expression, of_numbers, short, unchanged

MIME = "application/vnd.kexue.audit+json"
WATCHED = ("prove", "exact", "numeric", "sampled", "measured", "refute", "cite", "define")
TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}

Check = Callable[..., evidence.Evidence]
Verdict = tuple[str, str]


@dataclass(frozen=True)
class Settings:
    """How hard each piece of evidence is attacked."""

    mutants: int = 12  # three times as many, whatever they take, where not one is caught
    seconds: float = 6.0  # for one mutant, by the clock
    cpu_seconds: float = 5.0  # after these no more mutants of the same piece of evidence


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    operator: str
    where: str
    what: str
    outcome: str
    why: str = ""


@dataclass(frozen=True)
class Mutant:
    """One claim with a mistake: the arguments that differ, and what to say if the check accepts it."""

    mutation: Mutation
    arguments: Callable[..., dict[str, Any]]
    judge: Callable[..., Verdict]


def install(settings: Settings | None = None) -> None:
    """Put the attacking functions into `kexue_utils.evidence`, from where the cells of a chapter import them."""
    attacked: Counter[str] = Counter()
    for name in WATCHED:
        setattr(evidence, name, attacking(getattr(evidence, name), settings or Settings(), attacked))


def attacking(check: Check, settings: Settings, attacked: Counter[str] | None = None) -> Check:
    """A check that attacks its own claim once it has accepted it, and displays the outcomes as data of type `MIME`."""
    signature = inspect.signature(check)
    attacked = Counter() if attacked is None else attacked

    @functools.wraps(check)
    def attacked_check(*args: Any, **kwargs: Any) -> evidence.Evidence:
        arguments = _repeatable(signature, args, kwargs)
        sides: dict[str, Any] = {}
        if check.__name__ == "exact":
            arguments["claim"] = _remembering(arguments["claim"], sides)
        accepted = check(**arguments)
        attacked[accepted.label] += 1
        seed = f"{accepted.label} {attacked[accepted.label]}"
        outcomes = list(_attack(check, arguments, accepted, settings, seed))
        found = {"kind": check.__name__, "label": accepted.label, "step": accepted.step, "citation": accepted.citation}
        display({MIME: {**found, "outcomes": [asdict(outcome) for outcome in outcomes]}}, raw=True)
        return accepted

    return attacked_check


def _repeatable(signature: inspect.Signature, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, with lists in place of what can be gone through only once."""
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    for name in ("given", "cases", "using", "seeds"):
        if name in arguments and not isinstance(arguments[name], str):
            arguments[name] = list(arguments[name])
    if "by" in arguments and not callable(arguments["by"]):
        arguments["by"] = list(arguments["by"])
    return arguments


def _remembering(claim: Callable, sides: dict[str, Any]) -> Callable:
    @functools.wraps(claim)
    def remembered(case: Any) -> Any:
        if repr(case) not in sides:
            sides[repr(case)] = claim(case)
        return sides[repr(case)]

    return remembered


def _attack(
    check: Check,
    arguments: Mapping[str, Any],
    accepted: evidence.Evidence,
    settings: Settings,
    seed: str,
) -> Iterator[Outcome]:
    find = {
        "prove": _of_proof,
        "exact": _of_cases,
        "numeric": _of_comparison,
        "sampled": _of_comparison,
        "measured": _of_comparison,
        "refute": _of_refutation,
    }.get(check.__name__)
    if find is None:
        return
    mutants = {id(mutant.mutation): mutant for mutant in find(arguments, accepted)}
    deadline = time.process_time() + settings.cpu_seconds
    tried: Counter[str] = Counter()
    seen: set[str] = set()
    for mutation in choose([mutant.mutation for mutant in mutants.values()], seed):
        enough = tried.total() >= settings.mutants or time.process_time() > deadline
        if enough and (tried["caught"] or tried.total() >= 3 * settings.mutants):
            return
        outcome = _try(check, arguments, mutants[id(mutation)], settings.seconds, accepted.label, seen)
        if outcome is not None:
            tried[outcome.outcome] += outcome.outcome != "invalid"
            yield outcome


def _try(
    check: Check, arguments: Mapping[str, Any], mutant: Mutant, limit: float, label: str, seen: set[str]
) -> Outcome | None:
    """What became of one mutant; None when it is no mutant, or was tried already."""
    mutation = mutant.mutation
    try:
        mutated, what = mutation.apply()
        changed = mutant.arguments(mutated)
    except Exception:  # SymPy cannot even write it down
        return None
    spoken = f"{mutation.where} {mutated.tolist() if isinstance(mutated, np.ndarray) else mutated}"
    if spoken in seen or not changed:
        return None
    seen.add(spoken)

    def said(outcome: str, why: object = "") -> Outcome:
        return Outcome(mutation.operator, mutation.where, what, outcome, short(why, 300))

    try:
        if "seconds" in inspect.signature(check).parameters:
            check(**{**arguments, **changed, "seconds": limit})
        else:
            goals.within(limit, label, lambda: check(**{**arguments, **changed}))
    except (CheckFailed, VacuousCheck):
        return said("caught")
    except TimeLimitReached:
        return said("undecided", f"not decided within {limit:.0f} s")
    except Exception as error:
        return said("invalid", error)
    try:
        return said(*goals.within(3 * limit, label, lambda: mutant.judge(mutated)))
    except TimeLimitReached:
        return said("undecided", "accepted; whether it is the same claim was not decided in time")
    except NotImplementedError as error:
        return said("undecided", f"accepted; SymPy cannot compare it with the original: {error}")
    except Exception as error:
        if "shapes do not fit" in str(error):  # a check that knows the matrix to be 1 does not look at it
            return said("invalid", error)
        return said("survived", f"accepted, and not shown to be the same claim: {error}")


# ---------------------------------------------------------------- prove


def _of_proof(arguments: Mapping[str, Any], accepted: evidence.Evidence) -> Iterator[Mutant]:
    sides = {side: goals.as_sympy(arguments[side], side) for side in ("lhs", "rhs")}
    given, relation = tuple(arguments["given"]), arguments["relation"]
    by = (arguments["by"],) if callable(arguments["by"]) else tuple(arguments["by"])

    def judge_side(side: str) -> Callable[[Any], Verdict]:
        def judge(mutated: Any) -> Verdict:
            same = _same_value(mutated, sides[side], given, by)
            if same or relation == "=":
                return ("equivalent", same) if same else ("survived", "accepted, though this side has another value")
            both = {**sides, side: mutated}
            return _still_true(both["lhs"], both["rhs"], relation, given)

        return judge

    for side, e in sides.items():
        for mutation in of_expression(e):
            yield Mutant(
                mutation.inside(unchanged, side),
                lambda mutated, side=side: _if_other(mutated, sides[side], {side: mutated}),
                judge_side(side),
            )
    if relation != "=":
        turned = Mutation("relation", relation, lambda: TURNED[relation], unchanged, "relation")
        yield Mutant(turned, lambda mutated: {"relation": mutated}, lambda _: ("survived", "the opposite holds too"))
    yield from _of_premises(given)


def _of_premises(given: tuple) -> Iterator[Mutant]:
    def without(i: int) -> list:
        return [premise for j, premise in enumerate(given) if j != i]

    for i, premise in enumerate(given):
        where = f"premise {short(premise, 40)}"
        if premise not in (True, sp.true):
            yield Mutant(
                Mutation("premise", premise, lambda: "left out", unchanged, where),
                lambda _, i=i: {"given": without(i)},
                lambda _: ("premise", "proved without it"),
            )
        if not isinstance(premise, sp.Eq):
            continue
        for mutation in of_expression(premise.rhs):
            yield Mutant(
                mutation.inside(unchanged, where),
                lambda value, i=i, p=premise: _if_other(
                    value, p.rhs, {"given": [*given[:i], sp.Eq(p.lhs, value, evaluate=False), *given[i + 1 :]]}
                ),
                lambda _: ("premise", "proved with this premise too"),
            )


def _if_other(mutated: Any, original: Any, changed: dict[str, Any]) -> dict[str, Any]:
    return {} if mutated == original or mutated.has(sp.nan, sp.zoo) else changed


def _same_value(mutated: Any, original: Any, given: tuple, by: tuple) -> str:
    """Why one side is the same as before, whatever stands on the other; empty if it is not."""
    goal = Goal("mutant", mutated, original, "=", given)
    try:
        points = goal.search_counterexample()
    except (CheckFailed, VacuousCheck):
        return ""
    values = [premise for premise in given if isinstance(premise, sp.Eq)]
    why = "by the premises" if values and not _same_value(mutated, original, (), by) else ""
    why = why or ("in the limit" if isinstance(original, sp.Basic) and original.has(sp.Limit) else "")
    with suppress(CheckFailed, VacuousCheck):
        return f"the difference to the original is 0 {why}: {goals.closed_by(goal.close(by))}".replace(" :", ":")
    return f"no difference to the original at {points} random points" if points else ""


def _still_true(lhs: Any, rhs: Any, relation: str, given: tuple) -> Verdict:
    """An inequality other than the claimed one, that is accepted as well: it has to hold at four times as many points."""
    goal = Goal("mutant", lhs, rhs, relation, given)
    try:
        points = goal.search_counterexample(wanted=40)
    except CheckFailed as error:
        return "survived", str(error)
    slack = _smallest_gap(goal)
    return "implied", f"true with slack {slack:.2g} at {points} random points"


def _smallest_gap(goal: Goal) -> float:
    """The smallest gap between the two sides of an inequality, relative to the larger one, at random points."""
    gaps = []
    for point in goals._points(goal.symbols, goal.conditions, 40, False):
        with suppress(TypeError, ValueError, ArithmeticError):
            a, b = (complex(goals.value_at(side, point, 15)) for side in (goal.lhs, goal.rhs))
            gaps.append(abs(a - b) / max(abs(a), abs(b), 1e-300))
    return min(gaps, default=float("nan"))


# ---------------------------------------------------------------- exact


def _of_cases(arguments: Mapping[str, Any], accepted: evidence.Evidence) -> Iterator[Mutant]:
    """A mistake in the first, a middle or the last case, or the right sides moved on by one case."""
    cases, claim = arguments["cases"], arguments["claim"]
    results = [evidence._exact_sides(accepted.label, case, claim(case)) for case in cases]

    def with_result(i: int, result: tuple) -> dict[str, Any]:
        """The wrong case first, so that it is found at once."""
        order = [i, *(j for j in range(len(cases)) if j != i)]
        changed = {repr(cases[j]): result if j == i else results[j] for j in order}
        return {"cases": [cases[j] for j in order], "claim": lambda case: changed[repr(case)]}

    def judge(i: int, place: int) -> Callable[[Any], Verdict]:
        def verdict(mutated: Any) -> Verdict:
            left, relation, right = results[i]
            same = _same_value(mutated, results[i][place], (), ())
            if same or relation == "=":
                return ("equivalent", same) if same else ("survived", "accepted, though this side has another value")
            return _other_bound((left, relation, right), place, mutated)

        return verdict

    for i in sorted({0, len(cases) // 2, len(cases) - 1}):
        left, _, right = results[i]
        for place, side in ((0, left), (2, right)):
            where = f"{'left' if place == 0 else 'right'} side of case {short(cases[i], 30)}"
            for mutation in of_expression(side):
                yield Mutant(
                    mutation.inside(unchanged, where),
                    lambda mutated, i=i, place=place: _if_other(
                        mutated,
                        results[i][place],
                        with_result(i, tuple(mutated if k == place else part for k, part in enumerate(results[i]))),
                    ),
                    judge(i, place),
                )
    if any(relation != "=" for _, relation, _ in results):
        opposite = [(left, TURNED.get(relation, relation), right) for left, relation, right in results]
        yield Mutant(
            Mutation("relation", "each relation", lambda: "its opposite", unchanged, "all cases"),
            lambda _: {"claim": lambda case: opposite[[repr(c) for c in cases].index(repr(case))]},
            lambda _: ("survived", "the opposite holds too: both sides are equal in every case"),
        )
    moved = [(left, relation, results[i - 1][2]) for i, (left, relation, _) in enumerate(results)]
    if moved != results:
        yield Mutant(
            Mutation("shift", "each right side", lambda: "that of the case before", unchanged, "all cases"),
            lambda _: {"claim": lambda case: moved[[repr(c) for c in cases].index(repr(case))]},
            lambda _: _judge_moved(results),
        )


def _other_bound(result: tuple, place: int, mutated: Any) -> Verdict:
    """Of one case of an inequality: a wider bound is implied; a narrower one is as true, exactly and in this case."""
    (left, relation, right), before = result, result[place]
    upwards = (relation in ("<", "<=")) == (place == 2)
    wider = mutated >= before if upwards else mutated <= before
    slack = abs(float((right - left) / right)) if right != 0 else float(abs(right - left))
    return "implied", f"{'a wider' if wider else 'another'} bound that holds exactly; slack of the true one {slack:.2g}"


def _judge_moved(results: list) -> Verdict:
    """The right sides moved on by one case, which is accepted: of equations an error."""
    if all(relation == "=" for _, relation, _ in results):
        return "survived", "every case has the right side of another case"
    return next(_other_bound(result, 2, results[i - 1][2]) for i, result in enumerate(results) if result[1] != "=")


# ---------------------------------------------------------------- numeric, sampled, measured


def _of_comparison(arguments: Mapping[str, Any], accepted: evidence.Evidence) -> Iterator[Mutant]:
    """Mistakes in what was expected: in the formula where there is one, else in the numbers."""
    name = "predicted" if "predicted" in arguments else "expected"
    relation = arguments.get("relation", "=")
    if arguments.get("at") is not None:
        yield from _of_formulas(arguments, relation)
    elif isinstance(arguments[name], tuple) and name == "predicted":
        yield from _of_interval(arguments[name])
    else:
        expected = evidence._array(arguments[name], name)
        scale = arguments.get("scale") or 1.0

        def judge(mutated: Any) -> Verdict:
            before, after = (evidence._numbers(accepted.label, a, name) for a in (expected, mutated))
            change = np.abs(after - before)
            size = np.where(before == 0, scale, np.abs(before))
            largest = float(np.max(change / size))
            if relation != "=":
                wider = after >= before if relation == "<=" else after <= before
                slack = f"the smallest slack of the true bound is {accepted.resolution:.2g}"
                return "implied", f"{'a wider' if np.all(wider) else 'another'} bound that all numbers keep; {slack}"
            if largest == 0:
                return "equivalent", "the numbers are the same"
            return "survived", f"a change of {largest:.2g}, seen from {accepted.resolution:.2g} on"

        for mutation in of_numbers(expected, scale):
            yield Mutant(
                mutation.inside(unchanged, name),
                lambda mutated: {} if np.array_equal(mutated, expected) else {name: mutated},
                judge,
            )
    if relation != "=":
        turned = Mutation("relation", relation, lambda: TURNED[relation], unchanged, "relation")
        yield Mutant(turned, lambda mutated: {"relation": mutated}, lambda _: ("survived", "the opposite holds too"))


def _of_formulas(arguments: Mapping[str, Any], relation: str) -> Iterator[Mutant]:
    points = [arguments["at"]] if isinstance(arguments["at"], Mapping) else list(arguments["at"])

    def judge(original: Any) -> Callable[[Any], Verdict]:
        def verdict(mutated: Any) -> Verdict:
            values = [[goals.value_at(e, point, 30) for e in (original, mutated)] for point in points]
            change = max(abs(complex((b - a) / (a or 1))) for a, b in values)
            same = _same_value(mutated, original, (), ())
            if same:
                return "equivalent", same
            if relation != "=":
                return "implied", f"true with a change of {change:.2g}, too"
            return "survived", f"a change of {change:.2g}"

        return verdict

    for side in ("got", "expected"):
        original = goals.as_sympy(arguments[side], side)
        for mutation in of_expression(original):
            yield Mutant(
                mutation.inside(unchanged, side),
                lambda mutated, side=side, original=original: _if_other(mutated, original, {side: mutated}),
                judge(original),
            )


def _of_interval(predicted: tuple) -> Iterator[Mutant]:
    """An interval may be wider than it need be; one beside it, or on the other side of 0, has to be rejected."""
    low, high = (float(end) for end in predicted)
    width = high - low
    others = {
        "sign": (-high, -low),
        "factor": (2 * low, 2 * high),
        "constant": (low + width, high + width) if np.isfinite(width) else (-high, low),
        "shift": (low - width, low) if np.isfinite(width) else (high, -low),
    }
    for operator, interval in others.items():
        yield Mutant(
            Mutation(operator, predicted, lambda interval=interval: interval, unchanged, "predicted"),
            lambda mutated: {} if mutated == (low, high) or not mutated[0] < mutated[1] else {"predicted": mutated},
            lambda mutated: (
                ("implied", "a wider interval")
                if mutated[0] <= low and mutated[1] >= high
                else ("implied", "another bound that all runs keep")
                if not np.isfinite(width)
                else ("survived", "no wider interval, and yet all runs lie in it")
            ),
        )


# ---------------------------------------------------------------- refute


def _of_refutation(arguments: Mapping[str, Any], accepted: evidence.Evidence) -> Iterator[Mutant]:
    """True claims in place of the false one, and cases in which the claim holds in place of the counter-example."""
    claim, at = arguments["claim"], arguments["at"]

    def survived(_: Any) -> Verdict:
        return "survived", "a true claim is refuted"

    def replaced(operator: str, what: str, **changed: Any) -> Mutant:
        return Mutant(Mutation(operator, "", lambda: what, unchanged, next(iter(changed))), lambda _: changed, survived)

    if callable(claim) and not isinstance(claim, sp.Basic):
        yield replaced("true claim", "always true", claim=lambda case: True)
        yield replaced("true claim", "always false", claim=lambda case: False)
        yield replaced("true claim", "its opposite", claim=lambda case: not claim(case))
        for case in arguments["holds_at"]:
            yield replaced("true case", short(case), at=case)
        return
    left, relation, right = evidence._relation_sides(claim)
    relations = {**evidence.RELATIONS, "!=": sp.Ne}
    opposite = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}[relation]
    yield replaced("relation", f"{relation} → {opposite}", claim=relations[opposite](left, right, evaluate=False))
    if relation in ("=", "<=", ">="):
        yield replaced("true claim", "both sides the same", claim=relations[relation](left, left, evaluate=False))
    at = evidence._exact_point(at)
    for symbol in (s for s in arguments["at"] if isinstance(s, sp.Symbol) and s.is_commutative):
        for value in (0, 1, 2, -1):
            other = {**at, symbol: sp.Integer(value)}
            if not goals.satisfies(symbol, sp.Integer(value)):
                continue
            with suppress(TypeError, ValueError, ArithmeticError):
                values = [goals.value_at(side, other, 30) for side in (left, right)]
                if relation == "=" and abs(values[0] - values[1]) < 1e-20:
                    yield replaced("true case", f"{symbol} = {value}", at=other)
