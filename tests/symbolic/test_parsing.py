"""The parser reads arithmetic in t as Python does, refuses everything else, and executes nothing."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import sympy as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fguidance
from fguidance.symbolic.parsing import FUNCTIONS, in_t, parse_generator, t
from tests.support.hostile import HARD, PARSED_AWAY, TOO_LONG_OR_EMPTY

PLAIN = {
    "sqrt": math.sqrt, "log": math.log, "ln": math.log, "exp": math.exp, "abs": abs, "tanh": math.tanh,
    "atan": math.atan, "log1p": math.log1p, "expm1": math.expm1, "log2": math.log2, "sinh": math.sinh,
    "cosh": math.cosh,
}  # fmt: skip


class TestHostileText:

    @pytest.mark.parametrize(("text", "expected"), PARSED_AWAY.items(), ids=lambda part: ascii(part)[:40])
    def test_the_message_names_the_column_and_quotes_the_part(self, text: str, expected: tuple[int, str]) -> None:
        column, part = expected
        with pytest.raises(ValueError, match=r"^generator") as caught:
            parse_generator(text)
        _, found, message = str(caught.value).rpartition(f"column {column}: ")
        assert found, caught.value
        assert part in message or part in message.encode("unicode_escape").decode()

    @pytest.mark.parametrize("text", TOO_LONG_OR_EMPTY, ids=lambda text: ascii(text)[:20])
    def test_too_long_or_empty(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"^generator must (not be empty|have at most 500 characters)"):
            parse_generator(text)

    def test_nothing_is_compiled_imported_or_run(self) -> None:
        """An audit hook sees every exec, compile, import and process that Python starts; it cannot be taken out."""
        script = f"""
import sys
sys.path[:0] = {[str(Path(fguidance.__file__).parents[1]), str(Path(__file__).parents[1])]!r}
from fguidance.symbolic.parsing import parse_generator
from tests.support.hostile import HARD, PARSED_AWAY, TOO_LONG_OR_EMPTY
for text in HARD:  # what SymPy imports late is imported here
    try:
        parse_generator(text)
    except ValueError:
        pass
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event.startswith(
    ("exec", "compile", "import", "os.", "open", "subprocess", "socket", "ctypes", "builtins.")) else None)
for text in (*PARSED_AWAY, *TOO_LONG_OR_EMPTY, *HARD):
    try:
        parse_generator(text)
    except ValueError:
        pass
print(sorted(set(seen)))
compile("1", "x", "eval")
print(seen)
"""
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert found.stdout.splitlines() == ["[]", "['compile']"]

    @settings(max_examples=300)
    @given(st.text(max_size=60) | st.text("t0123456789+-*/(). logexpsqrt", max_size=40))
    @example("t)(")
    @example("t if")
    def test_any_text_is_parsed_or_refused(self, text: str) -> None:
        try:
            parsed = parse_generator(text)
        except ValueError as error:
            assert str(error).startswith("generator")  # noqa: PT017
            assert "column 0" not in str(error)  # noqa: PT017
            return
        assert parsed.free_symbols <= {t}


def trees() -> st.SearchStrategy[tuple]:
    """Syntax trees: the text is printed from them, and the value is calculated from them, not from the text."""
    leaves = st.one_of(
        st.just(("t",)), st.integers(0, 99).map(lambda n: ("number", str(n), float(n))),
        st.sampled_from(("0.5", "2.25", ".1", "3.", "1e-3", "1_0.5")).map(
            lambda text: ("number", text, float(text.replace("_", "")))),
    )  # fmt: skip
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(st.sampled_from("+-*/"), inner, inner),
            st.tuples(st.just("**"), inner, st.sampled_from((2, 3, -1, 0.5))),
            st.tuples(st.just("minus"), inner),
            st.tuples(st.sampled_from(sorted(PLAIN)), inner),
        ),
        max_leaves=8,
    )


LEVELS = {"+": 1, "-": 1, "*": 2, "/": 2, "minus": 3, "**": 4}


def printed(tree: tuple, level: int = 0) -> str:
    """The text of a tree with no more parentheses than precedence asks for."""
    kind = tree[0]
    if kind == "t":
        return "t"
    if kind == "number":
        return str(tree[1])
    if kind in PLAIN:
        return f"{kind}({printed(tree[1])})"
    own = LEVELS[kind]
    if kind == "minus":
        text = f"-{printed(tree[1], own)}"
    elif kind == "**":
        text = f"{printed(tree[1], own + 1)}**{tree[2]}"
    else:
        text = f"{printed(tree[1], own)} {kind}{printed(tree[2], own + 1)}"
    return f"({text})" if own < level else text


def calculated(tree: tuple, at: float) -> float:
    kind = tree[0]
    if kind == "t":
        return at
    if kind == "number":
        return float(tree[2])
    first = calculated(tree[1], at)
    if kind == "minus":
        return -first
    if kind == "**":
        power = first ** tree[2]
        if isinstance(power, complex):
            raise ValueError("not real")
        return power
    if kind in PLAIN:
        return float(PLAIN[kind](first))
    second = calculated(tree[2], at)
    return {"+": first + second, "-": first - second, "*": first * second}[kind] if kind != "/" else first / second


class TestGrammar:
    @settings(max_examples=300)
    @given(trees())
    @example(("-", ("t",), ("-", ("t",), ("number", "3", 3.0))))
    @example(("/", ("t",), ("*", ("number", "2", 2.0), ("t",))))
    @example(("minus", ("**", ("t",), 2)))
    @example(("**", ("minus", ("t",)), 2))
    def test_means_what_an_independent_calculation_says(self, tree: tuple) -> None:
        try:
            parsed = parse_generator(printed(tree))
            expected = [calculated(tree, at) for at in (0.7, 1.7)]
        except (ValueError, ArithmeticError):
            return
        for at, value in zip((sp.Rational(7, 10), sp.Rational(17, 10)), expected, strict=True):
            if abs(value) < 1e12:
                assert complex(parsed.subs(t, at).evalf(30)) == pytest.approx(value, rel=1e-6, abs=1e-6)

    @pytest.mark.parametrize(
        ("text", "value"),
        (
            ("-t**2", -4), ("2**-1*t", 1), ("t**2**3", 256), ("t-1-1", 0), ("t/2/2", 0.5), ("t--1", 3), ("-t*-t", 4),
            ("+t", 2), ("t**-2", 0.25), ("2*t**2", 8), ("-2**2*t", -8), ("  ( t ) ", 2), ("1_000.5*t", 2001),
            ("1e2*t", 200), ("1.5E-1*t", 0.3), (".5*t", 1), ("5.*t", 10), ("Abs(t)", 2),
            ("t^3", 8), ("-t^2", -4), ("t^2^3", 256), ("max(t, 3*t - 1)", 5), ("min(t, 3*t - 1)", 2),
            ("max(1, 2)*t", 4),
        ),
    )  # fmt: skip
    def test_precedence_and_numbers_are_python_s(self, text: str, value: float) -> None:
        assert float(parse_generator(text).subs(t, 2)) == value

    @pytest.mark.parametrize("name", PLAIN)
    def test_every_function(self, name: str) -> None:
        assert set(FUNCTIONS) == {*PLAIN, "max", "min"}
        found = parse_generator(f"{name}(t/3 + 1)").subs(t, sp.Rational(3, 2))
        assert float(found) == pytest.approx(PLAIN[name](1.5), rel=1e-14)

    def test_numbers_are_exact(self) -> None:
        assert parse_generator("0.1*t") == t / 10
        assert parse_generator("pi*t - e") == sp.pi * t - sp.E

    def test_parameters(self) -> None:
        assert parse_generator("a*(t-1)**2", {"a": 0.5}) == (t - 1) ** 2 / 2
        assert parse_generator("t**k_1 - 1", {"k_1": 3}) == t**3 - 1
        with pytest.raises(ValueError, match="column 1: 'b' is not a name that is known here: use t, pi, e, a"):
            parse_generator("b*t", {"a": 0.5})

    @pytest.mark.parametrize(
        "parameters",
        (
            {"t": 1.0}, {"log": 1.0}, {"a b": 1.0}, {"": 1.0}, {"a": math.nan}, {"a": math.inf}, {"a": True},
            {"a": "1"}, {"a": 1j}, {"e": 1.0}, {"pi": 3.0}, {"Abs": 3.0}, {"max": 1.0},
        ),
        ids=str,
    )  # fmt: skip
    def test_wrong_parameters(self, parameters: dict) -> None:
        with pytest.raises(ValueError, match=r"^parameters: "):
            parse_generator("t", parameters)

    def test_a_parameter_that_does_not_occur(self) -> None:
        with pytest.raises(ValueError, match=r"^parameters: b does not occur in generator 'a\*\(t-1\)\*\*2'$"):
            parse_generator("a*(t-1)**2", {"a": 0.5, "b": 1})

    @pytest.mark.parametrize("number", ("9" * 30, "1e30", "1e-30", "0." + "0" * 27 + "1"))
    def test_the_largest_and_the_smallest_numbers(self, number: str) -> None:
        assert parse_generator(f"{number}*t") == sp.Rational(number) * t

    @pytest.mark.parametrize(
        ("text", "complaint"),
        (
            ("1e-31*t", r"a constant is 1\.00000e-31 in size, but must be 0 or between 1e-30 and 1e\+30"),
            ("1.01e30*t", r"a constant is 1\.01000e\+30 in size, but must be 0 or between 1e-30 and 1e\+30"),
            ("exp(70)*t", r"exp\(70\) is 2\.51544e\+30 in size, but must be 0 or between"),
        ),
    )
    def test_the_rule_for_numbers_is_said(self, text: str, complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            parse_generator(text)

    @pytest.mark.parametrize(
        ("text", "hint"),
        (
            ("max(t)", "needs two arguments"),
            ("log(t, 2)", "only max and min take two"),
            ("sin(t)", "they are sqrt, log"),
        ),
    )
    def test_hints(self, text: str, hint: str) -> None:
        with pytest.raises(ValueError, match=hint):
            parse_generator(text)


class Stranger(sp.Function):
    """A function whose every method would do harm."""

    @property
    def free_symbols(self) -> set:
        raise AssertionError("a method of a stranger was called")

    def _eval_evalf(self, *_: object) -> None:
        raise AssertionError("a method of a stranger was called")

    def _sympystr(self, *_: object) -> str:
        raise AssertionError("a method of a stranger was called")

    fdiff = _eval_subs = _latex = _eval_derivative = _eval_is_real = _eval_evalf


class StrangeLogarithm(sp.log):
    """It is an instance of log and passes isinstance."""

    def _sympystr(self, *_: object) -> str:
        raise AssertionError("a method of a stranger was called")


x = sp.Symbol("x")


class TestExpressions:
    @pytest.mark.parametrize(
        "expression",
        (
            sp.Integer(1), sp.Symbol("a") * t, sp.Piecewise(((t - 1) ** 2, t < 1), (2 * (t - 1) ** 2, True)),
            sp.Integral(sp.log(t), (t, 1, t)), sp.Function("f")(t), (t - 1) ** 2 * sp.oo, sp.zoo * t, sp.nan * t,
            sp.gamma(t + 1) - 1, sp.I * (t - 1) ** 2, sp.Derivative(sp.Function("f")(t), t), t**t,
            2**t, sp.rootof(x**5 - x - 1, 0) * t, sp.Sum(t**x, (x, 0, 3)), sp.Limit(t, t, 0), sp.Heaviside(t - 1),
            sp.DiracDelta(t - 1), sp.sign(t - 2), sp.floor(t), sp.Wild("w"), sp.MatrixSymbol("M", 2, 2)[0, 0] * t,
            sp.UnevaluatedExpr(t), t ** sp.pi, (t - 1) ** 65, 1e31 * t, sp.Symbol("x", negative=True) ** 2,
            sp.Symbol("n", integer=True) ** 2, sp.Symbol("c", commutative=False) ** 2,
            sp.Symbol("i", imaginary=True) ** 2,
            sp.exp(sp.exp(sp.exp(sp.exp(t)))), t * sp.exp(sp.exp(100)), sp.zeta(t), sp.Mod(t, 2), t**0.1 ** sp.pi,
        ),
        ids=lambda expression: type(expression).__name__,
    )  # fmt: skip
    def test_outside_the_grammar(self, expression: sp.Expr) -> None:
        with pytest.raises(ValueError, match=r"^generator"):
            in_t(expression)

    @pytest.mark.parametrize("kind", (Stranger, StrangeLogarithm))
    def test_no_method_of_a_stranger_is_called(self, kind: type) -> None:
        for expression in (kind(t), (t - 1) ** 2 + kind(t)):
            with pytest.raises(ValueError, match=f"type {kind.__name__} is not allowed"):
                in_t(expression)

    def test_any_symbol_that_can_be_positive_stands_for_t(self) -> None:
        for symbol in (x, sp.Symbol("y", positive=True), sp.Symbol("z", real=True), sp.Dummy("d", nonnegative=True)):
            assert in_t((symbol - 1) ** 2) == (t - 1) ** 2

    def test_sympys_other_functions_are_rewritten(self) -> None:
        for written, text in (
            (sp.cosh(x) + sp.sinh(x / 2), "cosh(t) + sinh(t/2)"), (sp.Max(x - 1, 0), "max(0, t - 1)"),
            (sp.Min(x, 2), "min(2, t)"), (sp.sech(x) + sp.csch(x), "1/cosh(t) + 1/sinh(t)"), (sp.coth(x), "1/tanh(t)"),
        ):  # fmt: skip
            assert in_t(written) == parse_generator(text)

    def test_floats_are_taken_as_they_are_written(self) -> None:
        assert in_t(x**0.5 * 0.1) == sp.sqrt(t) / 10


def test_what_is_hard_for_the_analysis_is_easy_to_parse() -> None:
    for text in HARD:
        try:
            assert parse_generator(text).free_symbols <= {t}
        except ValueError as error:
            assert "column" in str(error) or "degree" in str(error)  # noqa: PT017
