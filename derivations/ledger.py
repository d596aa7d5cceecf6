"""The ledger of all claims, in the paper's order: proved, printed, and written as a page of the book.

`make derive` proves them; it exits with an error that names every claim whose proof fails.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import get_args

from derivations import (
    calibration,
    conventions,
    coq,
    entropy,
    families,
    js_printed,
    motivation,
    proposition_2,
    proposition_3,
    rkl_fkl_js,
    saturation,
    smooth_ece,
    stable_forms,
    tempered,
    tilted,
)
from derivations.claim import PAPER, Claim, Verdict
from derivations.proof import ProofFailed

Prover = Callable[[], Claim]

PROVERS: tuple[Prover, ...] = (
    *motivation.PROVERS,
    *proposition_2.PROVERS,
    *tempered.PROVERS,
    *rkl_fkl_js.PROVERS,
    *js_printed.PROVERS,
    *saturation.PROVERS,
    *families.PROVERS,
    *proposition_3.PROVERS,
    *tilted.PROVERS,
    *entropy.PROVERS,
    *smooth_ece.PROVERS,
    *calibration.PROVERS,
    *conventions.PROVERS,
    *stable_forms.PROVERS,
)


def prove(prover: Prover) -> Claim:
    """What a prover returns; a function of its own for another process."""
    return prover()


@cache
def claims(provers: tuple[Prover, ...] = PROVERS) -> tuple[Claim, ...]:
    """Every claim with its verdict, in order.

    Args:
        provers: The functions that prove one claim each.

    Returns:
        The claims; their ids are unique.

    Raises:
        ProofFailed: If a proof does not close.
        ValueError: If two claims have the same id.
    """
    proved = tuple(prover() for prover in provers)
    check_unique(proved)
    return proved


def check_unique(proved: Iterable[Claim]) -> None:
    """Raise ValueError if two claims have the same id, for then one could not be linked to."""
    repeated = [name for name, times in Counter(claim.id for claim in proved).items() if times > 1]
    if repeated:
        raise ValueError(f"claims must have unique ids, repeated: {', '.join(repeated)}")


def _theorems(claim: Claim) -> list[coq.Theorem]:
    return [theorem for theorem in coq.recorded() if theorem.claim == claim.id]


def _row(claim: Claim) -> str:
    method = "Coq, SymPy" if _theorems(claim) else "SymPy, prose"
    return f"| {{ref}}`{claim.title} <ledger-{claim.id}>` | {claim.source} | {claim.verdict} | {method} |"


def _in_coq(theorem: coq.Theorem) -> str:
    """The theorem and how it differs from the claim's sentence."""
    return f"**In Coq**, for every number of classes. {theorem.note}\n\n```coq\n{theorem.statement}\n```"


def _section(claim: Claim) -> str:
    concerns = f" Equation {{eq}}`{claim.equation}`." if claim.equation else ""
    parts = [
        f"(ledger-{claim.id})=\n### {claim.title}",
        f"**Claim** ({claim.source}). {claim.statement}",
        f"**Verdict: {claim.verdict}.**{concerns}",
    ]
    if claim.correction:
        parts.append(f"**Correct form.** {claim.correction}")
    if claim.counterexample:
        parts.append(f"**Counterexample.** {claim.counterexample}")
    return "\n\n".join([*parts, f"**Proof.** {claim.proof}", *map(_in_coq, _theorems(claim))])


def summary(proved: Sequence[Claim]) -> str:
    """How many claims have which verdict."""
    count = Counter(claim.verdict for claim in proved)
    verdicts = ", ".join(f"{count[verdict]} {verdict}" for verdict in get_args(Verdict))
    return f"{len(proved)} claims: {verdicts}; {sum(bool(_theorems(claim)) for claim in proved)} with a theorem in Coq"


def render_markdown(proved: Sequence[Claim]) -> str:
    """The body of the ledger's page: a table of the paper's claims, one of the others, then one section each.

    Args:
        proved: The claims, in the order in which they are to appear.

    Returns:
        MyST Markdown with headings from the second level down and an anchor ``ledger-<id>`` per claim.
        The text depends on the claims alone, not on the run.
    """
    head = ["| claim | source | verdict | method |", "| --- | --- | --- | --- |"]
    parts = ["## All claims", f"{summary(proved)}."]
    for title, paper in (("Of the paper", True), ("Of others, most of them ours", False)):
        rows = [_row(claim) for claim in proved if claim.source.startswith(PAPER) == paper]
        parts += [f"### {title}", "\n".join([*head, *rows])] * bool(rows)
    return "\n\n".join([*parts, "## Claims and proofs", *(_section(claim) for claim in proved)]) + "\n"


def run(provers: Sequence[Prover] = PROVERS) -> int:
    """Prove everything with a line of progress each, and return the exit status."""
    proved: list[Claim] = []
    failures: list[ProofFailed] = []
    for prover in provers:
        start = time.perf_counter()
        try:
            claim = prover()
        except ProofFailed as failure:
            failures.append(failure)
            print(f"FAILED     {failure.claim_id}", flush=True)
            continue
        proved.append(claim)
        seconds = time.perf_counter() - start
        print(f"{claim.verdict:10} {claim.id:28} {claim.title} ({seconds:.2f} s)", flush=True)
    check_unique(proved)
    print(summary(proved))
    for failed in failures:
        print(f"error: {failed}", file=sys.stderr)
    return 1 if failures else 0

