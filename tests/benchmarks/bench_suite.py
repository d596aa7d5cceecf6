"""How long the property suite takes on each registered divergence, and an import."""

import subprocess
import sys

import pytest
from hypothesis import settings

import fguidance as fg
from fguidance.testing import check_divergence


@pytest.mark.parametrize("name", fg.divergence_names())
def test_check_divergence(benchmark, name):
    default = settings.get_profile("default")
    report = benchmark.pedantic(check_divergence, (name,), {"max_examples": default.max_examples}, rounds=1)
    benchmark.extra_info |= {"examples": report.examples, "passed": report.passed}


@pytest.mark.parametrize("module", ("torch", "fguidance"))
def test_import(benchmark, module):
    no_sympy = "sys.exit('fguidance' in sys.modules and 'sympy' in sys.modules)"
    command = [sys.executable, "-c", f"import sys, {module}; {no_sympy}"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=5, warmup_rounds=1)
