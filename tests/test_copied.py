"""The file that `fguidance copy` prints runs by itself and calculates what the library calculates."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fguidance as fg
from fguidance import closed_forms
from fguidance.copied import ONLY_SOME_ROWS, copied

RUNNER = """
import importlib, json, sys, torch
logits, target = (torch.tensor(part, dtype=torch.float64) for part in json.load(open("asked.json")))
log_p, log_q = torch.log_softmax(logits, -1), torch.log_softmax(target, -1)
labels, found = torch.tensor([0, 1]), {}
for name in sys.argv[1:]:
    module = importlib.import_module(f"copy_{name}")
    tables = {**getattr(module, "DIVERGENCES", {}), **{n: f() for n, f in getattr(module, "FAMILIES", {}).items()}}
    (divergence,) = tables.values()
    found[name] = [list(tables), module.weight(divergence, log_p, log_q).tolist(),
        module.logit_gradient(divergence, logits, log_q).tolist(),
        None if divergence.value is None else module.value(divergence, log_p, log_q).tolist(),
        module.guidance_gradient(divergence, logits, labels, 0.5, 0.9, 1.0, 0.5).tolist(),
        module.smooth_ece_gradient(logits, labels, 0.01).tolist()]
print(json.dumps([found, sorted(name for name in sys.modules if name.startswith("fguidance"))]))
"""


def test_every_row_alone_runs_in_an_empty_folder(tmp_path: Path) -> None:
    logits, target = 3 * torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name in fg.divergence_names():
        (tmp_path / f"copy_{name}.py").write_text(copied([name], "1.2"), encoding="utf-8")
    (tmp_path / "asked.json").write_text(json.dumps([logits.tolist(), target.tolist()]))
    where = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", RUNNER, *fg.divergence_names()]
    found, library = json.loads(subprocess.check_output(command, cwd=tmp_path, env=where))
    assert library == []
    log_p, log_q, labels = torch.log_softmax(logits, -1), torch.log_softmax(target, -1), torch.tensor([0, 1])
    for name in fg.divergence_names():
        definition = fg.divergence(name).definition
        value = None if definition.value is None else closed_forms.value(definition, log_p, log_q).tolist()
        assert found[name] == [
            [name], closed_forms.weight(definition, log_p, log_q).tolist(),
            closed_forms.logit_gradient(definition, logits, log_q).tolist(), value,
            closed_forms.guidance_gradient(definition, logits, labels, 0.5, 0.9, 1.0, 0.5).tolist(),
            closed_forms.smooth_ece_gradient(logits, labels, 0.01).tolist(),
        ]  # fmt: skip


def test_the_three_of_the_paper_leave_out_what_they_do_not_use() -> None:
    text = copied(["rkl", "fkl", "js"], "1.2")
    assert len(text.splitlines()) < 240
    assert not any(f"{name}(" in text.replace(f"_{name}(", "") for name in ONLY_SOME_ROWS)
    assert "FAMILIES" not in text
    assert text.endswith('= {\n    "rkl": rkl(),\n    "fkl": fkl(),\n    "js": js(),\n}\n')
    for part in ("fguidance copy rkl fkl js", "fguidance 1.2", "arXiv:2511.05844", "MIT", 'DIVERGENCES["rkl"]'):
        assert part in text.split('"""')[1]


def test_what_a_row_calls_comes_with_it() -> None:
    text = copied(["tsallis", "osterreicher_vajda"], "1.2")
    assert all(f"def {name}(" in text for name in ("scaled", "alpha_family", "gan", "relative_power", "softplus"))
    assert "DIVERGENCES" not in text


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^copy: 'kl' is not one of rkl, fkl, js"):
        copied(["js", "kl"], "1.2")
