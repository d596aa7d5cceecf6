"""Malformed claims are rejected when they are made, and the tools of the proofs do what they say."""

from typing import Any

import pytest
import sympy
from sympy import IndexedBase, S, Symbol, log

from derivations.claim import Claim
from derivations.notation import N, i, p, q, t
from derivations.proof import ProofFailed, fill, in_gauge, require, require_zero, sum_over, weight_of

GOOD: dict[str, Any] = {
    "id": "a-claim",
    "title": "A claim",
    "statement": "$a = a$.",
    "source": "ours",
    "verdict": "verified",
    "proof": "By inspection.",
}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"id": "A claim"}, "id must be words"),
        ({"id": "a--claim"}, "id must be words"),
        ({"verdict": "true"}, "verdict of a-claim must be one of"),
        ({"proof": " "}, "proof of a-claim must not be empty"),
        ({"verdict": "corrected"}, "correction of a-claim must not be empty"),
        ({"verdict": "refuted"}, "counterexample of a-claim must not be empty"),
    ],
)
def test_a_malformed_claim_is_rejected(changes: dict[str, Any], message: str) -> None:
    Claim(**GOOD)
    with pytest.raises(ValueError, match=message):
        Claim(**{**GOOD, **changes})


def test_a_residual_stops_the_proof() -> None:
    require_zero("a-claim", (p + q) ** 2 - p**2 - 2 * p * q - q**2, log(p / q) - log(p) + log(q))
    with pytest.raises(ProofFailed, match="'a-claim' does not close; left over: 2\\*p\\*q") as failure:
        require_zero("a-claim", (p + q) ** 2 - p**2 - q**2)
    assert failure.value.residual == 2 * p * q


@pytest.mark.parametrize("condition", [False, None, sympy.false, Symbol("z") > 0, Symbol("z").is_positive])
def test_an_undecided_condition_stops_the_proof(condition: object) -> None:
    with pytest.raises(ProofFailed, match="a-claim"):
        require("a-claim", condition, "not shown")


def test_sums_take_constants_out_and_put_known_totals_in() -> None:
    probability = IndexedBase("p")
    assert sum_over(3 * p * probability[i] + q, {probability[i]: S.One}) == 3 * p + N * q
    squares = sum_over(p * probability[i] ** 2)
    assert squares == p * sympy.Sum(probability[i] ** 2, (i, 1, N))
    assert squares.subs(N, 2).doit() == p * (probability[1] ** 2 + probability[2] ** 2)


def test_the_gauge_removes_the_slope_at_one() -> None:
    assert in_gauge(-log(t)).diff(t).subs(t, 1) == 0
    assert sympy.simplify(weight_of(in_gauge(-log(t))) - (p - q)) == 0


def test_a_text_is_filled_completely() -> None:
    assert fill("  $<a>$ and $<b>$", a=p / 2, b=q) == r"$\frac{p}{2}$ and $q$"
    with pytest.raises(ValueError, match="the text has"):
        fill("$<a>$", b=q)
    with pytest.raises(ValueError, match="the text has"):
        fill("nothing", a=p)
