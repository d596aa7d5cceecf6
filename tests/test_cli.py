"""The command: what it prints, what it writes, and its exit status."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fguidance as fg
from fguidance import cli
from fguidance.cli import main
from fguidance.copied import copied

CHECK = "value_is_not_negative"
MODULE = """
from tests.testing.test_subject import InTorch


class Right(InTorch):
    pass


class Wrong(InTorch):
    def value(self, log_p, log_q):
        return -super().value(log_p, log_q)


class Broken(InTorch):
    value = property(lambda self: 1 / 0)


class Unknowable:
    __class__ = property(lambda self: 1 / 0)


broken, unknowable, value = Broken(), Unknowable(), InTorch().value


def __getattr__(name):
    if name != "nothing":
        raise AttributeError(name)
    raise RuntimeError("no such thing")
"""


class Ended(NamedTuple):
    status: int
    out: str
    error: str


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "cli_module.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("cli_module", None)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return command


def require_one_line(ended: Ended, message: str) -> None:
    assert ended.status == 2
    assert ended.error.startswith("fguidance: ")
    assert ended.error.count("\n") == 1
    assert message in ended.error


class TestHelp:
    def test_the_version_and_the_commands(self, run: Any) -> None:
        assert run("--version") == (0, f"fguidance {fg.__version__}\n", "")
        for arguments in ((), ("--help",)):
            ended = run(*arguments)
            assert ended.status == 0
            assert all(name in ended.out for name in ("list", "derive", "check"))
        assert "--baseline" in run("check", "--help").out

    def test_the_commands_module_loads_nothing_that_computes(self) -> None:
        program = (
            "import sys, types; package = types.ModuleType('fguidance');"
            f"package.__path__ = {fg.__path__!r}; sys.modules['fguidance'] = package;"
            "from fguidance.cli import main\n"
            "try: main(['check', '--help'])\n"
            "except SystemExit: pass\n"
            "print(*sorted({'torch', 'sympy', 'numpy', 'hypothesis', 'matplotlib'} & set(sys.modules)), 'were loaded')"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "were loaded"


class TestList:
    def test_plain_lines(self, run: Any) -> None:
        lines = run("list").out.splitlines()
        assert [line.split()[0] for line in lines] == list(fg.divergence_names())
        (alpha,) = (line for line in lines if line.startswith("alpha "))
        assert "alpha from " in alpha

    def test_json(self, run: Any) -> None:
        rows = json.loads(run("list", "--json").out)
        assert [row["name"] for row in rows] == list(fg.divergence_names())
        assert all(set(row) == {"name", "generator", "parameter", "source"} for row in rows)

    def test_a_table_in_a_terminal(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        assert "│" in run("list").out


class TestDerive:
    def test_everything_is_said(self, run: Any) -> None:
        ended = run("derive", "(t-1)**2")
        assert ended.status == 0
        found = dict(line.split("  ", 1) for line in ended.out.split("\n\n")[0].splitlines())
        told = {name.strip(): text.strip() for name, text in found.items()}
        assert told["weight p f'(p/q)"] == "2*p*(p - q)/q"
        assert told["f(t)/t at infinity"] == "infinity"
        assert (told["curvature f''(1)"], told["weight is bounded"]) == ("2", "no")
        assert {"generator f(t)", "gauge-fixed", "dual t f(1/t)", "conjugate f*(s)", "domain"} <= set(told)
        for part in ("import torch", "import numpy", r"\left(t - 1\right)^{2}", "units in the last place"):
            assert part in ended.out

    def test_json_and_parameters(self, run: Any) -> None:
        assert json.loads(run("derive", "a*(t-1)**2", "-p", "a=3", "--json").out)["curvature"] == "6"
        found = json.loads(run("derive", "alpha", "--parameter", "alpha=0.5", "--json").out)
        assert found["generator"] == str(fg.divergence("alpha", alpha=0.5).generator)
        assert {"torch", "numpy", "latex", "conjugate"} <= set(found)

    def test_a_formula_that_begins_with_a_minus(self, run: Any) -> None:
        assert json.loads(run("derive", "-log(t)", "--json").out)["generator"] == "-log(t)"

    @pytest.mark.usefixtures("limits_of_users")
    @pytest.mark.parametrize(
        "generator",
        (
            "t**63.99-1", "t**-63.99-1", "cosh(t)**64-cosh(1)**64", "exp(t)**64/1e27-exp(64)/1e27",
            "(t+1/3)**64-(4/3)**64", "t/(t**1.94+1)-1/2+(t-1)**2",
        ),
    )  # fmt: skip
    def test_hard_formulas_give_what_is_found_in_time(
        self, run: Any, monkeypatch: pytest.MonkeyPatch, generator: str
    ) -> None:
        monkeypatch.setattr(cli, "SECONDS", 10)  # the rest of the work takes longer on a slow machine
        start = os.times()
        ended = run("derive", generator)
        spent = os.times()
        assert ended.status == 0
        assert "conjugate f*(s)       not found in the time allowed" in ended.out
        seconds = [getattr(spent, name) - getattr(start, name) for name in ("user", "children_user")]
        assert sum(seconds) < 6

    @pytest.mark.usefixtures("limits_of_users")
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
    def test_a_formula_on_which_sympy_cannot_be_interrupted(self, run: Any) -> None:
        ended = run("derive", "(t**0.9999-1)**2/(t**0.9998+1)")
        require_one_line(ended, "not done within")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        (
            (("t$2",), "'$' is not allowed"),
            (("__import__('os').system('touch here')",), "generator"),
            (("(t-1)**3",), "not convex"),
            (("js_printed",), "it has no generator"),
            (("alpha", "-p", "alpha=x"), "--parameter must be NAME=NUMBER, not 'alpha=x'"),
            (("alpha", "-p", "alpha"), "--parameter must be NAME=NUMBER, not 'alpha'"),
            (("alpha", "-p", "beta=1"), "takes the parameter alpha"),
            (("js", "-p", "alpha=1"), "takes no parameter"),
            (("t*log(t)", "-p", "a=1"), "parameters: a does not occur in generator 't*log(t)'"),
            (("e*(t-1)**2", "-p", "e=1"), "parameters: 'e' has a meaning of its own"),
            (("a*(t-1)**2", "-p", "a=1", "-p", "a=2"), "--parameter a is given twice"),
            ((), "Missing argument"),
        ),
    )
    def test_bad_input(self, run: Any, folder: Path, arguments: tuple[str, ...], message: str) -> None:
        require_one_line(run("derive", *arguments), message)
        assert not (folder / "here").exists()


class TestCopy:
    def test_it_prints_the_file(self, run: Any) -> None:
        assert run("copy", "js", "alpha", "js") == (0, copied(["js", "alpha"], fg.__version__), "")
        require_one_line(run("copy", "js", "kl"), "'kl' is not one of rkl, fkl")


class TestCheck:
    def test_what_passes_and_what_fails(self, run: Any) -> None:
        ended = run("check", "cli_module:Right", "--check", CHECK, "--max-examples", "7", "--seed", "1")
        assert ended.status == 0
        assert ended.out.splitlines()[-1] == "Right: 1 checks, 7 examples: 1 passed, 0 failed, 0 expected, 0 skipped"
        ended = run("check", "cli_module:Right", "cli_module:Wrong", "--check", CHECK)
        assert ended.status == 1
        assert "counterexample: {" in ended.out
        assert ended.error == ""

    def test_formulas_and_parameters(self, run: Any) -> None:
        ended = run("check", "-log(t)", "--check", CHECK, "--max-examples", "3")
        assert (ended.status, ended.out.splitlines()[-1][:17]) == (0, "-log(t): 1 checks")
        ended = run("check", "alpha", "-p", "alpha=0.3", "--check", CHECK, "--max-examples", "3")
        assert "alpha(alpha=0.3): 1 checks, 3 examples" in ended.out
        ended = run("check", "a*(t-1)**2", "-p", "a=2", "--check", CHECK, "--max-examples", "3")
        assert "a*(t-1)**2(a=2): 1 checks, 3 examples" in ended.out

    def test_files(self, run: Any, folder: Path) -> None:
        arguments = ("--check", CHECK, "--max-examples", "3", "--html=./out.html", "--json", str(folder / "out.json"))
        assert run("check", "cli_module:Right", "js", *arguments).status == 0
        page = (folder / "out.html").read_text(encoding="utf-8")
        assert page.count("<h1>") == 2
        found = json.loads((folder / "out.json").read_text())
        assert [report["name"] for report in found] == ["Right", "js"]
        assert run("check", "cli_module:Wrong", *arguments).status == 1
        assert (folder / "out.html").read_text(encoding="utf-8").count("<h1>") == 1

    def test_a_baseline(self, run: Any, folder: Path) -> None:
        arguments = ("--check", "baseline", "--baseline", "base.npz")
        assert "recorded in base.npz" in run("check", "js", *arguments).out
        kept = (folder / "base.npz").read_bytes()
        assert run("check", "js", *arguments, "--baseline-ulps", "0").status == 0
        require_one_line(run("check", "hellinger", *arguments), "base.npz was recorded of 'js', not of 'hellinger'")
        with np.load(io.BytesIO(kept)) as file, (folder / "base.npz").open("wb") as changed:
            np.savez(changed, **{**file, "0.value": np.array(8.0)})
        ended = run("check", "js", *arguments)
        assert ended.status == 1
        assert "'old': 8.0" in ended.out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        (
            (("t$2",), "'$' is not allowed"),
            (("js", "t$2"), "'$' is not allowed"),
            (("cli_module:Nothing",), "the module cli_module has no Nothing"),
            (("cli_module:MODULE",), "the module cli_module has no MODULE"),
            (("nowhere:Mine",), "cannot import nowhere"),
            (("cli_module:Right", "-p", "a=1"), "takes no --parameter"),
            (("cli_module:Broken",), "cannot be read: ZeroDivisionError: division by zero"),
            (("cli_module:broken.value",), "broken.value cannot be read: ZeroDivisionError: division by zero"),
            (("js", "cli_module:unknowable"), "unknowable cannot be read: ZeroDivisionError: division by zero"),
            (("cli_module:nothing",), "nothing cannot be read: RuntimeError: no such thing"),
            (("cli_module:value",), "or a pair (value, weight)"),
            (("t*log(t)", "-p", "a=1"), "parameters: a does not occur in generator 't*log(t)'"),
            (("js", "--check", "nope"), "checks: 'nope' is not one of"),
            (("js", "--max-examples", "0"), "--max-examples"),
            (("js", "--seed", "x"), "--seed"),
            (("js", "--html", "none/out.html"), "--html none/out.html cannot be written"),
            (("js", "--json", "."), "--json . cannot be written"),
            (("js", "--baseline", "none/base.json"), "there is no folder none"),
            (("js", "--baseline", "cli_module.py"), "cli_module.py is damaged"),
            (("js", "--baseline", "base.json", "--json", "./base.json"), "are the same file"),
            (("js", "hellinger", "--baseline", "base.json"), "--baseline takes one divergence, not 2"),
            (("js", "--frob"), "No such option"),
        ),
    )
    def test_bad_input(self, run: Any, arguments: tuple[str, ...], message: str) -> None:
        ended = run("check", *arguments)
        require_one_line(ended, message)
        assert ended.out == ""

    def test_a_missing_extra_says_how_to_install_it(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "hypothesis" else name)
        require_one_line(run("check", "js"), "hypothesis is missing; install it with: pip install 'fguidance[testing]'")

    def test_an_unknown_command(self, run: Any) -> None:
        require_one_line(run("frob"), "No such command")


def test_the_package_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "fguidance", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"fguidance {fg.__version__}\n")
