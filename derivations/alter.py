"""Every object that a proof checks, altered in generic ways: the proof must then fail. `make alter`."""

import inspect
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sympy

from derivations import ledger
from derivations.notation import p, p_, q, q_, tau_1, tau_2
from derivations.proof import ProofFailed

RECORD = Path(__file__).parents[1] / "book" / "results" / "alterations.json"
SWAPPED = {p: q, q: p, p_: q_, q_: p_, tau_1: tau_2, tau_2: tau_1}
WEAKER, FALSE_TOO = "a weaker bound, which holds", "another false form, which is refuted as well"
HARMLESS: dict[tuple[str, str], str] = {
    ("nonnegativity", "tangent"): "the slope is free, and so is a multiple of it",
    ("centred-gradients", "under"): "a multiple of zero",
    ("entropy-saturation", "component"): "a multiple of zero",
    ("smooth-ece-decreases", "second"): "a bandwidth enters by its square",
    ("js-weight-as-printed", "weight"): FALSE_TOO,
    ("proposition-3", "stated"): FALSE_TOO,
    ("js-weight-bounds", "lower"): WEAKER,
    ("js-weight-bounds", "upper"): WEAKER,
    ("js-printed-bounded", "bound"): WEAKER,
    ("smooth-ece-bounds", "upper"): WEAKER,
    ("smooth-ece-bounds-binned", "scale"): WEAKER,
    ("binned-loss-bounds", "floor"): WEAKER,
    ("binned-loss-bounds", "largest"): WEAKER,
}
"""Claims and objects whose altered forms are true, or as false as they were: why they may survive."""


def altered(value: Any) -> Iterator[tuple[str, Any]]:
    """What is altered, and the object altered so: each expression in it by sign, factor, constant and names."""
    if isinstance(value, bool):
        yield "the opposite", not value
    elif isinstance(value, sympy.Expr):
        swapped = value.xreplace(SWAPPED)
        for what, other in (
            ("sign", -value), ("factor of two", 2 * value), ("one more", value + 1), ("names swapped", swapped),
        ):  # fmt: skip
            if sympy.simplify(other - value) != 0 and not (other - value).has(sympy.nan):
                yield what, other
    elif isinstance(value, tuple):
        for place, entry in enumerate(value):
            for what, other in altered(entry):
                yield f"{what}, entry {place + 1}", (*value[:place], other, *value[place + 1 :])
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            for what, other in altered(entry):
                yield f"{what}, at {key}", {**value, key: other}
    elif isinstance(value, frozenset):
        for member in sorted(value):
            yield f"without {member}", value - {member}


def cases() -> Iterator[tuple[ledger.Prover, str, str, Any]]:
    """A prover, one of its objects, what is altered in it, and the altered object."""
    for prover in ledger.PROVERS:
        for name, parameter in inspect.signature(prover).parameters.items():
            for what, other in altered(parameter.default):
                yield prover, name, what, other


def survives(prover: ledger.Prover, name: str, other: Any) -> bool:
    """Whether the proof still closes with one of its objects altered."""
    try:
        prover(**{name: other})
    except ProofFailed:
        return False
    return True


def main() -> int:
    """Alter everything, write the record, and fail on a survivor that is not explained."""
    ids = {prover: prover().id for prover in ledger.PROVERS}
    tried: Counter[str] = Counter()
    left, kept = [], []
    for prover, name, what, other in cases():
        tried[ids[prover]] += 1
        if survives(prover, name, other):
            reason = HARMLESS.get((ids[prover], name))
            kept.append({"claim": ids[prover], "object": name, "altered": what, "reason": reason or "not explained"})
            if reason is None:
                left.append(f"{ids[prover]}: {what} of {name}")
    without = sorted(set(ids.values()) - set(tried))
    record = {"claims": len(ids), "alterations": tried.total(), "claims_without": without, "survivors": kept}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{tried.total()} alterations of {len(tried)} claims, {len(kept)} survive, {len(left)} without a reason")
    for line in left:
        print(f"survived: {line}", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
