"""The description of a generator agrees with its definition, and the code that it prints is accurate."""

import functools
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import mpmath
import numpy as np
import pytest
import sympy as sp
from mpmath import mpf

import fguidance as fg
from fguidance import describe as module
from fguidance.describe import Description, as_text, conjugate, degree_in_roots, describe
from fguidance.symbolic.evaluate import MPMATH, evaluate
from fguidance.symbolic.parsing import parse_generator, t
from fguidance.symbolic.printed import print_code

MULTIPLES_OF_ALPHA = ("amari", "cressie_read", "tsallis")
KINKED = [name for name in fg.divergence_names() if not fg.divergence(name).is_smooth]
NAMES = [name for name in fg.divergence_names() if name not in (*MULTIPLES_OF_ALPHA, *KINKED, "js_printed")]
OWN = (
    "(t-1)**4", "sqrt(1+t**2) - (1+t)/sqrt(2)", "tanh(t-1)**2 + 3*(t-1)**2", "(t-1)*atan(t-1)", "-log(0.99*t + 0.01)",
    "exp(t-1) - t", "(t-1)**2/(3*t+2)**2 + (t-1)**2", "t**1.5 - t", "(t-1)**2/t**2 + (t-1)**2",
)  # fmt: skip
SOURCES = (*NAMES, *OWN)
RATIOS = (0.0, 1e-12, -1e-8, 1e-3, -0.1, -0.49, 0.51, -1.1, 3.0, 29.0, 31.0, -80.0, 150.0, 300.0, -300.0)


@pytest.fixture(scope="module")
def described() -> dict[str, Description]:
    return {source: describe(fg.divergence(source) if source in NAMES else source) for source in SOURCES}


@functools.cache
def exact(generator: sp.Expr, log_p: float, log_q: float) -> tuple[mpf, mpf]:
    """The weight and the share of one class in the value, to 300 digits."""
    slope = sp.diff(generator, t)
    with mpmath.workdps(300):
        p, q = mpmath.exp(mpf(log_p)), mpmath.exp(mpf(log_q))
        tangent = evaluate(slope, t, mpf(1), MPMATH)
        weight = p * (evaluate(slope, t, p / q, MPMATH) - tangent)
        return weight, q * (evaluate(generator, t, p / q, MPMATH) - tangent * (p / q - 1))


def pairs(dtype: str, reach: float) -> list[tuple[float, float]]:
    lowest = {"float64": -320, "float32": -80}[dtype]
    starts = [(log_p, log_p - u) for u in RATIOS if abs(u) <= reach for log_p in (-0.5, lowest + 10)]
    found = np.array([pair for pair in starts if lowest <= pair[1] <= 0], dtype=dtype)
    return [(float(a), float(b)) for a, b in found]


RUNNER = """
import importlib, json, sys, warnings
warnings.simplefilter("ignore")
asked, found = json.load(open("asked.json")), {}
for name, (library, dtype, log_p, log_q) in asked.items():
    array = importlib.import_module(library)
    make = array.tensor if library == "torch" else array.array
    log_p, log_q = (make(part, dtype=getattr(array, dtype)) for part in (log_p, log_q))
    code = importlib.import_module(name.rpartition("_")[0])
    results = code.weight(log_p, log_q), code.value(log_p[:, None], log_q[:, None])
    assert all(str(result.dtype).endswith(dtype) for result in results)
    found[name] = [result.tolist() for result in results]
json.dump(found, open("found.json", "w"))
"""


def run(folder: Path, codes: dict[str, str], asked: dict[str, tuple]) -> dict[str, list]:
    """Weights and shares of the value by printed code, in a process that knows nothing of the library."""
    for name, text in codes.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "asked.json").write_text(json.dumps(asked))
    where = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", RUNNER], cwd=folder, check=True, env=where)
    return json.loads((folder / "found.json").read_text())


@pytest.fixture(scope="module")
def calculated(described: dict, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    codes, asked = {}, {}
    for number, source in enumerate(SOURCES):
        reach = 3 if described[source].generator.has(sp.exp) else 300
        for library in ("torch", "numpy"):
            codes[f"{library}{number}"] = getattr(described[source], library)
            for dtype in ("float64", "float32"):
                asked[f"{library}{number}_{dtype}"] = (library, dtype, *zip(*pairs(dtype, reach), strict=True))
    return run(tmp_path_factory.mktemp("codes"), codes, asked)


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("library", ("torch", "numpy"))
@pytest.mark.parametrize("source", SOURCES)
def test_the_printed_code_is_accurate(described: dict, calculated: dict, source: str, library: str, dtype: str) -> None:
    generator, compared = described[source].generator, 0
    unit, largest, smallest = (float(getattr(np.finfo(dtype), name)) for name in ("eps", "max", "tiny"))
    results = zip(*calculated[f"{library}{SOURCES.index(source)}_{dtype}"], strict=True)
    for place, found in zip(pairs(dtype, 3 if generator.has(sp.exp) else 300), results, strict=True):
        weight, value = exact(generator, *place)
        scales = 32 * max(abs(weight), mpmath.exp(place[0])), 64 * value
        for number, right, scale in zip(found, (weight, value), scales, strict=True):
            if 1000 * smallest < abs(right) < largest:
                compared += 1
                assert abs(mpf(number) - right) <= unit * scale, (place, number, right)
    assert compared > 10


@pytest.mark.parametrize("source", SOURCES)
def test_printed_text_imports_its_module_and_nothing_else(described: dict, source: str) -> None:
    for library in ("torch", "numpy"):
        text = getattr(described[source], library)
        assert re.findall(r"^\s*(?:import|from) .*$", text, re.MULTILINE) == [f"import {library}"]
        assert max(map(len, text.splitlines())) < 1000


@pytest.mark.parametrize(("name", "largest"), (("total_variation", 1), ("puri_vincze", 1)))
def test_a_kinked_generator_is_described_but_not_printed(name: str, largest: int) -> None:
    found = describe(fg.divergence(name))
    assert name in KINKED
    assert (found.torch, found.numpy, found.curvature) == (None, None, None)
    assert (found.largest_value, found.saturation_limit, found.saturation_exponent) == (largest, 0, 0)
    assert found.weight_is_bounded


class TestProperties:
    @pytest.mark.parametrize(
        ("source", "curvature", "largest", "bounded", "exponent"),
        (
            ("rkl", 1, sp.oo, True, -1), ("fkl", 1, sp.oo, False, 0), ("js", sp.Rational(1, 4), sp.log(2), True, 0),
            ("hellinger", sp.Rational(1, 2), 2, True, -sp.Rational(1, 2)), ("pearson", 2, sp.oo, False, 0),
            ("neyman", 2, sp.oo, False, -2), ("triangular", 1, 2, True, 0), ("(t-1)**4", 0, sp.oo, False, 0),
        ),
    )  # fmt: skip
    def test_known(
        self, described: dict, source: str, curvature: sp.Expr, largest: sp.Expr, bounded: bool, exponent: sp.Expr
    ) -> None:
        found = described[source]
        assert (found.curvature, found.weight_is_bounded, found.saturation_exponent) == (curvature, bounded, exponent)
        assert found.largest_value == largest if largest == sp.oo else sp.simplify(found.largest_value - largest) == 0

    @pytest.mark.parametrize(
        ("source", "conjugate"), (("fkl", "exp(s - 1)"), ("pearson", "s + s**2/4"), ("rkl", "-1 - log(-s)"))
    )
    def test_conjugate(self, described: dict, source: str, conjugate: str) -> None:
        found = described[source].conjugate.subs(module.slope_symbol, -sp.Rational(3, 7))
        expected = {"exp(s - 1)": sp.exp(-sp.Rational(10, 7)), "s + s**2/4": -sp.Rational(3, 7) + sp.Rational(9, 196)}
        assert abs(sp.N(found - expected.get(conjugate, -1 - sp.log(sp.Rational(3, 7))), 30)) < 1e-20

    @pytest.mark.parametrize("source", SOURCES)
    def test_conjugate_is_the_largest_gap(self, described: dict, source: str) -> None:
        found = described[source]
        if found.conjugate is None:
            return
        for at in (0.4, 1.0, 3.0):
            slope = sp.diff(found.generator, t).subs(t, at)
            expected = slope * at - found.generator.subs(t, at)
            assert complex(found.conjugate.subs(module.slope_symbol, slope).evalf()) == pytest.approx(
                float(expected), abs=1e-9
            )

    @pytest.mark.parametrize("source", SOURCES)
    def test_conjugate_holds_between_the_ends_of_the_slopes(self, described: dict, source: str) -> None:
        found = described[source]
        low, high = (float(end) for end in found.conjugate_range)
        slope = sp.diff(found.generator, t)
        slopes = [float(sp.N(slope.subs(t, at), 30)) for at in (1e-6, 0.5, 2.0, 20.0)]
        assert all(low <= taken <= high for taken in slopes)
        if math.isfinite(low):
            assert float(sp.N(slope.subs(t, sp.Rational(1, 10**40)), 60)) == pytest.approx(low, abs=1e-3)
        if math.isfinite(high) and found.conjugate is not None:
            gap = (high + 0.1) * 10**9 - found.generator.subs(t, 10**9)
            assert float(sp.N(gap, 30)) > 10**7

    @pytest.mark.parametrize(
        ("source", "text"),
        (
            ("t**4-1", "s > 0; for smaller s, f* is constant"), ("t*log(t)", "all s"),
            ("-log(t)", "s < 0; for larger s, f* is infinite"),
            ("t/(1+t) - 1/2 - t/2 + 1/2 + 2*(1-t/(1+t)) - 1", "-3/2 < s < -1/2; for smaller s, f* is constant; "),
        ),
    )  # fmt: skip
    def test_the_slopes_for_which_a_conjugate_holds_are_printed(self, source: str, text: str) -> None:
        assert f"\n{'which holds for':22}{text}" in as_text(describe(source))

    @pytest.mark.parametrize("source", SOURCES)
    def test_weight_slope_and_dual(self, described: dict, source: str) -> None:
        found, at = described[source], {module.p: sp.Rational(2, 7), module.q: sp.Rational(3, 5)}
        ratio, slope = sp.Rational(10, 21), sp.diff(found.generator, t)
        rise = slope.subs(t, ratio) - slope.subs(t, 1)
        assert abs(sp.N(found.slope.subs(t, ratio) - rise, 30)) < 1e-20
        assert abs(sp.N(found.weight.subs(at) - sp.Rational(2, 7) * rise, 30)) < 1e-20
        assert abs(sp.N(found.dual.subs(t, ratio) - ratio * found.gauge_fixed.subs(t, 1 / ratio), 30)) < 1e-20
        assert {"generator", "slope", "weight"} <= set(found.latex)

    @pytest.mark.parametrize("source", SOURCES)
    def test_as_json(self, described: dict, source: str) -> None:
        found = json.loads(json.dumps(described[source].as_dict()))
        assert {"generator", "torch", "numpy", "latex", "accuracy", "end_values"} <= set(found)
        assert found["generator"] == str(described[source].generator)


class TestSources:
    def test_parameters(self) -> None:
        assert describe("a*(t-1)**2", {"a": 0.5}).curvature == 1

    def test_a_printed_weight_has_no_generator(self) -> None:
        with pytest.raises(ValueError, match="js_printed is a printed weight"):
            describe(fg.divergence("js_printed"))

    @pytest.mark.parametrize("source", ("t$2", "(t-1)**3", "__import__('os')"))
    def test_no_generator(self, source: str) -> None:
        with pytest.raises(ValueError, match="generator"):
            describe(source)

    def test_code_of_a_kink_is_refused(self) -> None:
        with pytest.raises(ValueError, match="must be twice differentiable"):
            print_code(sp.Abs(t - 1) / 2, "torch")

    def test_a_conjugate_is_sought_for_so_long(self) -> None:
        start = time.thread_time()
        assert conjugate(parse_generator("(1+t)*log((1+t)/(2*sqrt(t)))/2"), 0.3) is None
        assert time.thread_time() - start < 5
        assert conjugate(t * sp.log(t)) == sp.exp(module.slope_symbol - 1)

    def test_what_takes_too_long_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "ALTOGETHER", 1e-9)
        found = describe("t*log(t)")
        assert (found.torch, found.conjugate, found.end_values, found.domain) == (None, None, None, "t > 0")
        assert float(found.slope.subs(t, 2)) == pytest.approx(math.log(2))

    @pytest.mark.parametrize("source", ("t**63.99-1", "t**-63.99-1"))
    def test_polynomials_of_a_high_degree_are_left_as_they_are(self, source: str) -> None:
        start = time.thread_time()
        found = describe(source)
        assert time.thread_time() - start < 3
        assert found.conjugate is None
        assert float(found.weight.subs({module.p: 1, module.q: 1})) == 0
        assert found.curvature == sp.Rational(6399, 100) * (sp.Rational(6399, 100) + (1 if "-6" in source else -1))

    @pytest.mark.parametrize(
        ("source", "degree"),
        (
            ("t**1.94-1", 97), ("(t**1.94+1)**3-8", 291), ("t**-0.5-1", 1), ("t**2*sqrt(t)-1", 5),
            ("t**2*(t+1)**3-8", 5), ("exp(t*63.99)-exp(63.99)", 6399), ("exp(t)**64-exp(64)", 64),
        ),
    )  # fmt: skip
    def test_the_degree_in_roots(self, source: str, degree: int) -> None:
        assert degree_in_roots(parse_generator(source)) == degree

    def test_only_two_libraries(self) -> None:
        with pytest.raises(ValueError, match="module must be 'torch' or 'numpy', not 'jax'"):
            print_code(t * sp.log(t), "jax")
