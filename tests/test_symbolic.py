"""The parser refuses everything that is not arithmetic in t, and the classification is right."""

import itertools
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sympy as sp
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fguidance as fg
from fguidance import symbolic
from fguidance.symbolic import parse_generator, t

SECONDS = 5
GENERATORS = {
    "rkl": -sp.log(t),
    "fkl": t * sp.log(t),
    "js": (t * sp.log(t) - (1 + t) * sp.log((1 + t) / 2)) / 2,
    "hellinger": (sp.sqrt(t) - 1) ** 2,
    "pearson": (t - 1) ** 2,
    "neyman": (t - 1) ** 2 / t,
    "jeffreys": (t - 1) * sp.log(t),
    "triangular": (t - 1) ** 2 / (t + 1),
}
every_generator = pytest.mark.parametrize("name", GENERATORS)


class OutOfTime(BaseException):
    """Not an Exception, so that nothing on the way swallows it."""


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise OutOfTime(f"not done in {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


class TestHostileText:
    """Each is refused with ValueError, quickly, and nothing in it runs."""

    @pytest.mark.parametrize(
        ("text", "place"),
        (
            ("t*log(t) + __import__('os').system('x')", "column 12"),
            ("t.real", "column 1"),
            ("(t-1)**2 + t.__class__", "column 12"),
            ("(lambda: 1)()", "column 1"),
            ("[t for t in (1,)]", "column 1"),
            ("(x := t)", "column 2"),
            ("f'{t}'", "column 1"),
            ("log(t, base=2)", "column 1"),
            ("log(x=t)", "column 1"),
            ("log(*t)", "column 5"),
            ("log()", "column 1"),
            ("t < 1", "column 1"),
            ("t if t else 1", "column 1"),
            ("t and 1", "column 1"),
            ("t**t", "column 1"),
            ("2**t", "column 1"),
            ("1 + t/0", "column 5"),
            ("1/0", "column 1"),
            ("t//2", "column 1"),
            ("t % 2", "column 1"),
            ("t @ 2", "column 1"),
            ("t << 2", "column 1"),
            ("~t", "column 1"),
            ("not t", "column 1"),
            ("t; t", "column 2"),
            ("t\nt", "column 2"),
            ("t\x00", "column 2"),
            ("1e400*t", "column 1"),
            ("0x10*t", "column 1"),
            ("1j*t", "column 1"),
            ("True*t", "column 1"),
            ("'a'*t", "column 1"),
            ("...", "column 1"),
            ("t[0]", "column 1"),
            ("{t}", "column 1"),
            ("(t,)", "column 1"),
            ("((t)", "column 1"),
            ("import os", "column 1"),
            ("print(t)", "column 1"),
            ("t + eval('t')", "column 5"),
            ("exp", "column 1"),
            ("t*log(t) + a", "column 12"),
            ("T*log(T)", "column 1"),
            ("__builtins__", "column 1"),
            ("(t-1)**65", "column 1"),
            ("9**9**9**9", "column 4"),
            ("(t-1)**9**9**9", "column 8"),
            ("т*log(t)", "column 1"),
            ("t∗log(t)", "column 2"),
            ("ｔ*log(t)", "column 1"),
            ("t*㏒(t)", "column 3"),
            ("t**²", "column 4"),
            ("t**(10**31)", "column"),
            ("t*" + "9" * 60, "column 3"),
        ),
    )
    def test_the_message_names_the_place(self, text: str, place: str) -> None:
        with at_most(SECONDS), pytest.raises(ValueError, match=place):
            fg.Divergence.from_generator(text)

    @pytest.mark.parametrize(
        "text",
        (
            "", "   ", "1" + "0" * 10_000, "t**" + "9" * 10_000, "(" * 200 + "t" + ")" * 200, "-" * 200 + "t",
            "- " * 150 + "t", "+-" * 150 + "t", "t" + "**t" * 100, "t" + "**2" * 100, "t-1+" * 2000 + "t",
            "2" + "**2" * 39, "log(" * 100 + "t" + ")" * 100, "t" + " " * 600, "[" * 150, "log(0)*t", "sqrt(-1)*t",
            "0**-1*t", "(-1)**0.5*t", "log(1-1)*t",
        ),
    )  # fmt: skip
    def test_refused(self, text: str) -> None:
        with at_most(SECONDS), pytest.raises(ValueError, match="generator"):
            fg.Divergence.from_generator(text)

    @pytest.mark.parametrize("source", (None, 5, 5.0, True, b"t*log(t)", ["t"], sp.Eq(t, 1), sp.Matrix([t]), object()))
    def test_neither_text_nor_expression(self, source: object) -> None:
        with pytest.raises(TypeError, match=f"generator must be .*{type(source).__name__}"):
            fg.Divergence.from_generator(source)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "text",
        (
            "((t-1)**64)**64", "(((t-1)**64)**64)**64", "(1+t+t**2+t**3)**64 - 4**64*t",
            "(1+t+t**2+t**3+t**4+t**5+t**6)**64*(t-1)**2", "*".join(["(t+1)"] * 80) + "*(t-1)**2",
            "exp(exp(exp(exp(t)))) - exp(exp(exp(exp(1))))", "exp(" * 39 + "t" + ")" * 39, "log(" * 39 + "t" + ")" * 39,
            "tanh(" * 30 + "t-1" + ")" * 30, "sqrt(" * 39 + "t" + ")" * 39, "exp(t**64) - exp(1)*(64*t - 63)",
            "(1+t)**64*(t-1)**2", "exp(1000000)*(t-1)**2", "exp(exp(100))*(t-1)**2", "(t-1)**2/exp(100000)",
        ),
    )  # fmt: skip
    def test_refused_or_usable_but_never_long(self, text: str) -> None:
        logits, log_q = torch.tensor([0.3, 0.1, -0.2]), torch.tensor([0.3, 0.4, 0.3]).log()
        with at_most(SECONDS):
            try:
                divergence = fg.Divergence.from_generator(text)
            except ValueError as error:
                assert "generator" in str(error)  # noqa: PT017
                return
            assert not divergence.logit_gradient(logits, log_q).isnan().any()
            assert not divergence.value(torch.log_softmax(logits, -1), log_q).isnan()
            assert divergence.generator is not None

    @pytest.mark.parametrize(
        "expression",
        (
            sp.Integer(1), sp.Symbol("a") * t, sp.Piecewise(((t - 1) ** 2, t < 1), (2 * (t - 1) ** 2, True)),
            sp.Integral(sp.log(t), (t, 1, t)), sp.Function("f")(t), (t - 1) ** 2 * sp.oo, sp.zoo * t, sp.nan * t,
            sp.gamma(t + 1) - 1, sp.Max(t, 1) - 1, sp.I * (t - 1) ** 2,
        ),
        ids=str,
    )  # fmt: skip
    def test_expressions_outside_the_grammar(self, expression: sp.Expr) -> None:
        with at_most(SECONDS), pytest.raises(ValueError, match="generator"):
            fg.Divergence.from_generator(expression)

    def test_nothing_is_executed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*arguments: object, **_: object) -> None:
            raise AssertionError(f"evaluated {arguments}")

        for name in ("eval", "exec"):
            monkeypatch.setattr(f"builtins.{name}", refuse)
        monkeypatch.setattr(sp, "sympify", refuse)
        assert parse_generator("t*log(t) - sqrt(t)/3 + 0.25") == t * sp.log(t) - sp.sqrt(t) / 3 + sp.Rational(1, 4)

    @settings(max_examples=300)
    @given(st.text(max_size=60) | st.text("t0123456789+-*/(). logexpsqrt", max_size=40))
    @example("t)(")
    @example("#")
    @example("\\")
    @example("t \\\n")
    @example("t if")
    def test_any_text_is_parsed_or_refused(self, text: str) -> None:
        with at_most(SECONDS):
            try:
                parsed = parse_generator(text)
            except ValueError as error:
                assert str(error).startswith("generator")  # noqa: PT017
                assert "column 0" not in str(error)  # noqa: PT017
                return
        assert parsed.free_symbols <= {t}


class TestNoDivergence:
    """Well-formed functions that generate no divergence are refused with the reason."""

    @pytest.mark.parametrize(
        ("text", "reason"),
        (
            ("t**2", r"f\(1\) = 0, not 1"),
            ("t*log(t) + 1", r"f\(1\) = 0, not 1"),
            ("log(t - 1)", r"f\(1\) = 0"),
            ("1/(t-1)", r"f\(1\) = 0"),
            ("log(-t)", r"f\(1\) = 0|real"),
            ("log(t)", r"not convex: f''\("),
            ("1 - t**2", r"not convex: f''\("),
            ("sqrt(t) - 1", r"not convex: f''\("),
            ("(t-1)**3", r"not convex: f''\("),
            ("tanh(t-1)", r"not convex: f''\("),
            ("1/(t-2) + 1", "not convex|real"),
            ("sqrt(t-1)", "not real"),
            ("(t-1)**1.9", "not real"),
            ("t - 1", "linear"),
            ("3*t - 3", "linear"),
            ("1", "depend on t"),
            ("0", "depend on t"),
            ("t - t", "depend on t"),
            ("abs(t-1)", "twice differentiable"),
            ("sqrt((t-1)**2)", "twice differentiable"),
        ),
    )
    def test_reason(self, text: str, reason: str) -> None:
        with at_most(SECONDS), pytest.raises(ValueError, match=f"generator.*({reason})"):
            fg.Divergence.from_generator(text)

    @pytest.mark.parametrize("dent", ("0.001", "0.01"))
    def test_a_small_dent_is_found(self, dent: str) -> None:
        with pytest.raises(ValueError, match="not convex"):
            fg.Divergence.from_generator(f"(t-1)**2/100 - {dent}*20*tanh(3*(t-2))**2 + {dent}*20*tanh(3)**2")


class TestGrammar:
    @given(st.recursive(
        st.sampled_from(("t", "2*t", "(t+0.5)", "3/t")),
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+*"), inner).map(lambda parts: f"({''.join(parts)})"),
            inner.map(lambda text: f"exp(-({text})**2)"), inner.map(lambda text: f"(({text})**2+1)**0.5"),
        ),
        max_leaves=6,
    ))  # fmt: skip
    def test_means_what_python_means(self, text: str) -> None:
        names = {"t": 1.7, "exp": math.exp, "__builtins__": {}}
        expected = eval(text, names)  # noqa: S307 - the text is made above
        assert float(parse_generator(text).subs(t, sp.Rational(17, 10))) == pytest.approx(expected, rel=1e-9, abs=1e-9)

    def test_numbers_are_exact(self) -> None:
        assert parse_generator("0.1*t") == t / 10
        assert parse_generator("1_000.5*t") == sp.Rational(2001, 2) * t

    @every_generator
    def test_printed_generators_are_read_back(self, name: str) -> None:
        assert sp.simplify(parse_generator(str(GENERATORS[name])) - GENERATORS[name]) == 0

    def test_parameters(self) -> None:
        assert parse_generator("a*(t-1)**2", {"a": 0.5}) == (t - 1) ** 2 / 2
        with pytest.raises(ValueError, match="'b'"):
            parse_generator("b*t", {"a": 0.5})


class TestClassification:
    @every_generator
    def test_gauge(self, name: str) -> None:
        fixed = symbolic.gauge_fixed(GENERATORS[name])
        assert sp.simplify(fixed.subs(t, 1)) == 0
        assert sp.simplify(sp.diff(fixed, t).subs(t, 1)) == 0
        assert sp.simplify(sp.diff(fixed - GENERATORS[name], t, 2)) == 0

    @every_generator
    def test_dual_swaps_the_distributions(self, name: str) -> None:
        generator = GENERATORS[name]
        assert sp.simplify(symbolic.dual(symbolic.dual(generator)) - generator) == 0
        p, q = sp.Rational(2, 7), sp.Rational(3, 5)
        swapped = q * symbolic.dual(generator).subs(t, p / q) - p * generator.subs(t, q / p)
        assert abs(sp.N(swapped, 30)) < 1e-25

    @pytest.mark.parametrize(("name", "other"), (("rkl", "fkl"), ("pearson", "neyman")))
    def test_duals_of_each_other(self, name: str, other: str) -> None:
        assert sp.simplify(symbolic.dual(GENERATORS[name]) - GENERATORS[other]) == 0

    @pytest.mark.parametrize(
        ("name", "limit"),
        (
            ("rkl", -1), ("fkl", 0), ("js", 0), ("hellinger", 0), ("pearson", 0), ("neyman", -sp.oo), ("jeffreys", -1),
            ("triangular", 0),
        ),
    )  # fmt: skip
    def test_saturation(self, name: str, limit: sp.Expr) -> None:
        assert symbolic.saturation_limit(GENERATORS[name]) == limit

    @pytest.mark.parametrize(
        ("name", "powers"),
        (
            ("rkl", (-1, 0)), ("fkl", (0, 0)), ("js", (0, 0)), ("hellinger", (sp.Rational(-1, 2), 0)),
            ("pearson", (0, 1)), ("neyman", (-2, 0)), ("jeffreys", (-1, 0)), ("triangular", (0, 0)),
        ),
    )  # fmt: skip
    def test_growth(self, name: str, powers: tuple) -> None:
        assert symbolic.growth_powers(GENERATORS[name]) == powers

    @every_generator
    def test_end_values_are_limits_of_f(self, name: str) -> None:
        fixed = symbolic.gauge_fixed(GENERATORS[name])
        for limit, near in zip(
            symbolic.end_values(GENERATORS[name]),
            (fixed.subs(t, sp.Rational(1, 10**40)), (fixed / t).subs(t, 10**40)),
            strict=True,
        ):
            assert sp.N(near, 60) > 50 if limit == sp.oo else abs(sp.N(near - limit, 60)) < 1e-15

    @every_generator
    def test_weight_is_p_times_slope(self, name: str) -> None:
        p, q = sp.symbols("p q", positive=True)
        found = symbolic.weight(GENERATORS[name], p, q)
        expected = p * symbolic.slope(GENERATORS[name]).subs(t, p / q)
        assert abs(sp.N((found - expected).subs({p: sp.Rational(2, 7), q: sp.Rational(3, 5)}), 30)) < 1e-25

    @every_generator
    def test_weight_is_homogeneous_of_degree_one(self, name: str) -> None:
        p, q, c = sp.symbols("p q c", positive=True)
        found = symbolic.weight(GENERATORS[name], p, q)
        assert sp.simplify(sp.expand_log(found.subs({p: c * p, q: c * q}, simultaneous=True) - c * found)) == 0

    @every_generator
    def test_pieces_increase(self, name: str) -> None:
        assert all(piece.derivative_sign > 0 for piece in symbolic.pieces(GENERATORS[name]))

    @every_generator
    def test_tails_are_f_and_its_dual(self, name: str) -> None:
        fixed = symbolic.gauge_fixed(GENERATORS[name])
        for tail, function in zip(symbolic.tails(GENERATORS[name]), (fixed, symbolic.dual(fixed)), strict=True):
            for y in (-1, -5, sp.Rational(-71, 2)):
                difference = tail.subs(symbolic.log_ratio, y) - function.subs(t, sp.exp(y))
                assert abs(sp.N(difference, 60)) < 1e-40

    @pytest.mark.parametrize("text", ("(t-1)**4", "exp(t-1)-t", "sqrt(1+t**2)-(1+t)/2**0.5"))
    def test_what_has_no_pieces_says_so(self, text: str) -> None:
        assert symbolic.pieces(parse_generator(text)) is None


def test_every_registered_generator_is_quick_to_derive() -> None:
    began = time.monotonic()
    for text in itertools.islice(map(str, GENERATORS.values()), 4):
        fg.Divergence.from_generator(text)
    assert time.monotonic() - began < 4 * SECONDS
