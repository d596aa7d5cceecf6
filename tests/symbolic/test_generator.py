"""What is no generator is refused with the reason and in time, and the classification is right."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import mpmath
import pytest
import sympy as sp
import torch

import fguidance as fg
from fguidance.symbolic import generator as symbolic
from fguidance.symbolic import parse_generator, t
from tests.support import cases
from tests.support.hostile import HARD, NO_GENERATORS

SECONDS = 5
NAMES = ("rkl", "fkl", "js", "hellinger", "pearson", "neyman", "jeffreys", "triangular")
GENERATORS = {name: parse_generator(cases.GENERATORS[name]) for name in NAMES}
every_generator = pytest.mark.parametrize("name", GENERATORS)


class OutOfTime(BaseException):
    """Not an Exception, so that nothing on the way swallows it."""


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Processor time, as a busy machine is no reason to fail."""

    def stop(*_: object) -> None:
        raise OutOfTime(f"not done in {seconds} s")

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


@pytest.mark.usefixtures("limits_of_users")
class TestSources:
    @pytest.mark.parametrize("source", (None, 5, 5.0, True, b"t*log(t)", ["t"], sp.Eq(t, 1), sp.Matrix([t]), object()))
    def test_neither_text_nor_expression(self, source: object) -> None:
        with pytest.raises(TypeError, match=f"generator must be .*{type(source).__name__}"):
            fg.Divergence.from_generator(source)  # type: ignore[arg-type]

    def test_parameters(self) -> None:
        found = fg.Divergence.from_generator("a*(t-1)**2", name="mine", parameters={"a": 0.5})
        assert (found.generator, found.name) == ((t - 1) ** 2 / 2, "mine")
        with pytest.raises(TypeError, match="parameters belong to a generator given as a string"):
            fg.Divergence.from_generator((t - 1) ** 2, parameters={"a": 0.5})
        with pytest.raises(TypeError, match="name must be a string"):
            fg.Divergence.from_generator("(t-1)**2", name=5)  # type: ignore[arg-type]

    @pytest.mark.parametrize("text", HARD, ids=lambda text: text[:40])
    def test_hard_text_is_refused_or_usable_and_never_long(self, text: str) -> None:
        logits, log_q = torch.tensor([0.3, 0.1, -0.2]), torch.tensor([0.3, 0.4, 0.3]).log()
        with at_most(SECONDS):
            try:
                divergence = fg.Divergence.from_generator(text)
            except ValueError as error:
                assert "generator" in str(error)  # noqa: PT017
                return
            assert not divergence.logit_gradient(logits, log_q).isnan().any()
            assert not divergence.value(torch.log_softmax(logits, -1), log_q).isnan()

    def test_work_without_an_end_is_stopped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(symbolic, "SECONDS", 0.2)
        precision = mpmath.mp.prec
        with pytest.raises(ValueError, match=r"generator .* cannot be analysed: not done within 0.[24]"):
            fg.Divergence.from_generator("(1+t+t**2+t**3+t**4+t**5+t**6)**10*(t-1)**2")
        assert mpmath.mp.prec == precision
        assert (t.is_positive, t.is_real, t.is_zero) == (True, True, False)

    def test_what_the_checks_leave_is_for_what_follows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(symbolic, "SECONDS", 1.0)
        monkeypatch.setattr(symbolic, "check_generator", lambda *_: None)

        def work(seconds: float) -> float:
            until = time.thread_time() + seconds
            while time.thread_time() < until:
                pass
            return seconds

        assert symbolic.derived_from("t*log(t)", None, lambda _: work(1.3)) == (t * sp.log(t), 1.3)
        with pytest.raises(ValueError, match=r"not done within 1\."):
            symbolic.derived_from("t*log(t)", None, lambda _: work(3.0))

    def test_unexpected_errors_of_sympy_become_a_value_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise NotImplementedError("no limit")

        monkeypatch.setattr(symbolic, "check_generator", fail)
        with pytest.raises(ValueError, match="cannot be analysed: NotImplementedError: no limit"):
            symbolic.as_generator("t*log(t)")


@pytest.mark.usefixtures("limits_of_users")
class TestNoDivergence:
    """Well-formed functions that generate no divergence are refused with the reason."""

    @pytest.mark.parametrize(("text", "reason"), NO_GENERATORS.items())
    def test_reason(self, text: str, reason: str) -> None:
        with at_most(SECONDS), pytest.raises(ValueError, match=f"generator.*({reason})"):
            fg.Divergence.from_generator(text)

    def test_a_kink_in_the_large_is_not_called_linear(self) -> None:
        assert symbolic.as_generator("(t-1)*tanh(10**9*(t-1))").has(sp.tanh)


class TestZeroAtOne:
    @pytest.mark.parametrize(
        "text", ("(t-1)**2 + 0.1 + 0.2 - 0.3", "t*log(t) + log(4) - 2*log(2)", "t**2 - cosh(1)**2 + sinh(1)**2")
    )
    def test_text_is_exact(self, text: str) -> None:
        symbolic.as_generator(text)

    def test_floating_point_numbers_leave_what_rounding_explains(self) -> None:
        symbolic.as_generator((t - 1) ** 2 + sp.Float(0.1 + 0.2) - sp.Rational(3, 10))
        symbolic.as_generator("(t-1)**2 + a - 0.3", {"a": 0.1 + 0.2})
        with pytest.raises(ValueError, match=r"f\(1\) = 0, not 1\.00000E-14"):
            symbolic.as_generator("(t-1)**2 + a", {"a": 1e-14})


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

    @pytest.mark.parametrize(
        ("name", "limit", "powers"),
        (
            ("rkl", -1, (-1, 0)), ("fkl", 0, (0, 0)), ("js", 0, (0, 0)), ("hellinger", 0, (sp.Rational(-1, 2), 0)),
            ("pearson", 0, (0, 1)), ("neyman", -sp.oo, (-2, 0)), ("jeffreys", -1, (-1, 0)), ("triangular", 0, (0, 0)),
        ),
    )  # fmt: skip
    def test_saturation_and_growth(self, name: str, limit: sp.Expr, powers: tuple) -> None:
        assert symbolic.saturation_limit(GENERATORS[name]) == limit
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
    def test_tails_are_f_and_its_dual(self, name: str) -> None:
        fixed = symbolic.gauge_fixed(GENERATORS[name])
        for tail, function in zip(symbolic.tails(GENERATORS[name]), (fixed, symbolic.dual(fixed)), strict=True):
            for y in (-1, -5, sp.Rational(-71, 2)):
                difference = tail.subs(symbolic.log_ratio, y) - function.subs(t, sp.exp(y))
                assert abs(sp.N(difference, 60)) < 1e-40

    @pytest.mark.parametrize(
        ("text", "powers"),
        (
            ("tanh(t-1)**2 + 3*(t-1)**2", (0, 1)), ("exp(t-1) - t", (0, sp.oo)), ("exp(exp(t)) - exp(e)", (0, sp.oo)),
            ("exp(1/t) - e", (-sp.oo, 0)), ("t**1.237 - 1", (0, sp.Rational(237, 1000))),
            ("t*log(t)**2 + 9*t**2", (0, 1)),
            ("tanh(1/t)*tanh(t) + t**-3 + t**4", (-4, 3)),
        ),
    )  # fmt: skip
    def test_growth_is_read_off_far_out(self, text: str, powers: tuple) -> None:
        assert symbolic.growth_powers(parse_generator(text)) == powers

    @pytest.mark.parametrize("text", ("exp(1/t) - e", "cosh(1/t)**2 - cosh(1)**2", "exp(t**-2) - e", "exp(t-1) - t"))
    def test_exponential_growth_is_taken_out_at_either_end(self, text: str) -> None:
        _, growths = symbolic.scaled_slope(parse_generator(text))
        assert any(growth.has(sp.exp) for growth in growths)
        divergence = fg.Divergence.from_generator(text)
        for spread in (1.0, 30.0, 300.0):
            logits = spread * torch.tensor([0.3, 0.1, -0.2], dtype=torch.float64)
            log_q = torch.tensor([0.3, 0.4, 0.3], dtype=torch.float64).log()
            assert not divergence.logit_gradient(logits, log_q).isnan().any()
            assert not divergence.value(torch.log_softmax(logits, -1), log_q).isnan()
