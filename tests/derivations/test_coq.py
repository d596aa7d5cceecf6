"""The kernel's theorems belong to claims, and what was not proved as it stands is not shown. Coq is not needed here."""

import shutil
from pathlib import Path

import pytest

from derivations import coq, ledger


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the kernel, which the module reads in its place."""
    shutil.copytree(coq.KERNEL, tmp_path / "kernel")
    monkeypatch.setattr(coq, "KERNEL", tmp_path / "kernel")
    coq.recorded.cache_clear()
    yield tmp_path / "kernel"
    coq.recorded.cache_clear()


def test_every_theorem_is_of_a_claim_and_says_how_it_differs() -> None:
    ids = {claim.id for claim in ledger.claims()}
    found = coq.theorems()
    assert len(found) >= 30
    assert coq.source("Statements").count("\nTheorem ") == len(found)
    for theorem in found:
        assert theorem.claim in ids, theorem.name
        assert theorem.note.endswith("."), theorem.name
        assert f"@{theorem.name}" in coq.source("Statements").partition("everything")[2]


def test_the_ledger_shows_each_theorem_beside_its_claim() -> None:
    page = ledger.render_markdown(ledger.claims())
    for theorem in coq.recorded():
        section = page.partition(f"(ledger-{theorem.claim})=")[2].partition("\n(ledger-")[0]
        assert theorem.statement in section
        assert theorem.note in section


def test_a_changed_file_is_not_shown_as_proved(copy: Path) -> None:
    assert coq.recorded()
    coq.recorded.cache_clear()
    (copy / "Sums.v").write_text((copy / "Sums.v").read_text() + "\n")
    with pytest.raises(coq.NotProvedError, match="make prove"):
        coq.recorded()


@pytest.mark.parametrize("text", ("Admitted.", "Axiom cheap : 0 = 1.", "Proof. admit. Qed."))
def test_a_step_that_is_not_proved_is_refused(copy: Path, tmp_path: Path, text: str) -> None:
    (copy / "Definitions.v").write_text(coq.source("Definitions") + text)
    with pytest.raises(coq.NotProvedError, match=r"Definitions\.v says"):
        coq._check(tmp_path)


def test_every_altered_theorem_alters_one_place() -> None:
    statements = {theorem.name: theorem.statement for theorem in coq.theorems()}
    for row in coq.altered():
        assert statements[row["theorem"]].count(row["old"]) == 1, row
        assert row["new"] != row["old"]
        assert row["what"]


def test_without_coq_the_command_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr("sys.argv", ["coq"])
    assert coq.main() == 3
    assert "apt-get install coq" in capsys.readouterr().err
