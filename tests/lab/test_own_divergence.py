"""The tutorial's hand-written divergence is the one of its formula, and its wrong forms are wrong."""

from pathlib import Path

import pytest
import torch

import fguidance as fg
from lab import own_divergence


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 20, 5, generator=generator, dtype=torch.float64)
    return tuple(logits.log_softmax(-1))


DERIVED = fg.Divergence.from_generator(own_divergence.FORMULA)


@pytest.mark.parametrize("part", ["value", "weight"])
def test_the_hand_written_form_is_the_derived_one(part: str):
    torch.testing.assert_close(getattr(own_divergence.Floored(), part)(*pair()), getattr(DERIVED, part)(*pair()))


def test_the_gauge_moves_weights_and_no_force():
    log_p, log_q = pair()
    p = log_p.exp()
    forces = []
    for one in (own_divergence.NotInGauge(), own_divergence.Floored()):
        weight = one.weight(log_p, log_q)
        forces.append(weight - p * weight.sum(-1, keepdim=True))
    torch.testing.assert_close(*forces)


def test_the_cut_shows_only_where_p_is_tiny():
    right, cut = own_divergence.Floored(), own_divergence.SharpOnly()
    log_q = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    for missing, same in ((1e-2, True), (1e-5, False)):
        log_p = torch.tensor([1 - missing, missing], dtype=torch.float64).log()
        assert torch.equal(right.weight(log_p, log_q), cut.weight(log_p, log_q)) is same


def test_a_command_prints_its_end_and_how_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "test_one.py").write_text("def test_one():\n    assert 1 == 2\n")
    own_divergence.command("pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path, most_lines=3)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("lines above")
    assert printed[-1] == "exit status 1"
    assert len(printed) == 5
