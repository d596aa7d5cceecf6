"""The ledger collects unique claims, reports failures by name, and renders the same text everywhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from derivations import ledger
from derivations.claim import Claim
from derivations.proof import ProofFailed

ROOT = Path(__file__).parents[2]
EXAMPLE = Claim(
    id="an-example", title="An example", statement="$1 = 1$.", source="ours", verdict="verified", proof="Trivial."
)


def fails() -> Claim:
    raise ProofFailed("a-broken-claim", "x + 1")


def example() -> Claim:
    return EXAMPLE


def test_ids_are_unique() -> None:
    ids = [claim.id for claim in ledger.claims()]
    assert len(ids) == len(ledger.PROVERS) == len(set(ids))
    with pytest.raises(ValueError, match="an-example"):
        ledger.claims((example, lambda: EXAMPLE))


def test_a_failing_proof_is_named_and_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert ledger.run((example, fails)) == 1
    output = capsys.readouterr()
    assert "FAILED     a-broken-claim" in output.out
    assert "a-broken-claim" in output.err
    assert "x + 1" in output.err
    assert ledger.run((example,)) == 0


def test_the_page_links_and_proves_every_claim() -> None:
    page = ledger.render_markdown(ledger.claims())
    for claim in ledger.claims():
        assert f"{{ref}}`{claim.title} <ledger-{claim.id}>` | {claim.source} | {claim.verdict} |" in page
        assert f"(ledger-{claim.id})=\n### {claim.title}\n" in page
        assert claim.proof in page
    targets = set(re.findall(r"<ledger-([a-z0-9-]+)>`", page))
    assert targets == {claim.id for claim in ledger.claims()}


def test_the_page_is_safe_to_typeset() -> None:
    page = ledger.render_markdown(ledger.claims())
    assert "{{" not in page  # a substitution, to the book
    assert not re.search(r"<\w+>", page)  # a formula that was not filled in
    for claim in ledger.claims():
        for text in (claim.statement, claim.proof, claim.correction, claim.counterexample):
            assert text.count("$") % 2 == 0, claim.id
            assert text.count(r"\left") - text.count(r"\leftarrow") == text.count(r"\right"), claim.id
            for formula in re.findall(r"\$\$?(.+?)\$\$?", text, re.DOTALL):
                assert formula.count("{") == formula.count("}"), claim.id
    for row in (line for line in page.splitlines() if line.startswith("|")):
        assert not re.search(r"\$[^$|]*\|[^$|]*\$ \|$", row), row


def test_no_formula_that_wraps_reads_as_a_list() -> None:
    page = re.sub(r"```coq.*?```", "", ledger.render_markdown(ledger.claims()), flags=re.DOTALL)
    assert not re.findall(r"^\s*[-+*] .*", page, flags=re.MULTILINE)


def test_every_equation_is_one_of_the_book() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md"))
    labels = set(re.findall(r"(?::label: |\$\$ \()(eq-[a-z0-9-]+)", pages))
    assert {claim.equation for claim in ledger.claims() if claim.equation} <= labels


def test_the_page_does_not_depend_on_the_process() -> None:
    program = "from derivations import ledger; print(ledger.render_markdown(ledger.claims()), end='')"
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    other = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout == ledger.render_markdown(ledger.claims())
