"""A sample of the generic alterations, each refused; `make alter` tries them all."""

import json

import pytest
import sympy

from derivations import alter
from derivations.notation import p, q, tau_1, tau_2

SAMPLE = [case for number, case in enumerate(alter.cases()) if number % 9 == 0]


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: f"{case[0].__name__}-{case[1]}-{case[2]}")
def test_an_altered_object_is_refused(case) -> None:
    prover, name, _, other = case
    assert not alter.survives(prover, name, other) or (prover().id, name) in alter.HARMLESS


def test_what_is_altered() -> None:
    assert dict(alter.altered(p / q)) == {
        "sign": -p / q, "factor of two": 2 * p / q, "one more": p / q + 1, "names swapped": q / p
    }  # fmt: skip
    assert ("names swapped", tau_2 - tau_1) in alter.altered(tau_1 - tau_2)
    assert list(alter.altered(sympy.Integer(0))) == [("one more", 1)]
    assert list(alter.altered(True)) == [("the opposite", False)]
    assert dict(alter.altered(frozenset({"a", "b"}))) == {"without a": {"b"}, "without b": {"a"}}
    assert ("sign, at x", {"x": -p, "y": "text"}) in alter.altered({"x": p, "y": "text"})
    assert ("sign, entry 1", (-p, 1)) in alter.altered((p, 1))


def test_the_record_explains_every_survivor() -> None:
    record = json.loads(alter.RECORD.read_text(encoding="utf-8"))
    assert record["claims"] == len(alter.ledger.PROVERS)
    assert record["alterations"] == len(list(alter.cases()))
    assert all((row["claim"], row["object"]) in alter.HARMLESS for row in record["survivors"])
