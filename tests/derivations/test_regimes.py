"""What is said of the three regimes holds for the numbers that the library computes."""

import math

import pytest
import sympy as sp
import torch

import fguidance as fg
from derivations import library, regimes
from derivations.divergences import DIVERGENCES
from fguidance import symbolic

NAMES = [row.name for row in DIVERGENCES]
MEMBERS = {row.name: library.member(row) for row in DIVERGENCES}
by_name = pytest.mark.parametrize("name", NAMES)
SMALL = 1e-9
Q = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)


def force(name: str, one_hot_on: int, small: float) -> torch.Tensor:
    """The force for the label 0 with p = 1 - small on one class, the rest shared 2 to 1."""
    rest = [2 * small / 3, small / 3]
    log_p = [0.0] * 3
    for index, other in enumerate(sorted({0, 1, 2} - {one_hot_on})):
        log_p[other] = math.log(rest[index])
    log_p[one_hot_on] = math.log1p(-small)
    return fg.divergence(name).logit_gradient(torch.tensor(log_p, dtype=torch.float64), Q.log())


def slope_at(name: str, q: float) -> float:
    return float(symbolic.slope(MEMBERS[name]).subs(symbolic.t, 1 / sp.Float(q, 30)))


def predicted(name: str, i: int, p_i: float, sure_of: int) -> float:
    """The leading term of F_i for i != k, from the leading term of the slope at 0."""
    end, q_i = regimes.at_zero(MEMBERS[name]), float(Q[i])
    if end.kind == "finite":
        return p_i * (float(end.value) - slope_at(name, float(Q[sure_of])))
    if end.kind == "logarithm":
        return float(end.value) * p_i * math.log(p_i / q_i)
    return float(end.value) * q_i ** -float(end.power) * p_i ** (1 + float(end.power))


@by_name
def test_the_force_when_sure_of_another_class(name: str) -> None:
    p_y = 2 * SMALL / 3
    found = float(force(name, 1, SMALL)[0])
    logarithmic = regimes.at_zero(MEMBERS[name]).kind == "logarithm"
    assert found == pytest.approx(predicted(name, 0, p_y, 1), rel=0.2 if logarithmic else 1e-3)


@by_name
def test_the_force_when_sure_of_the_label(name: str) -> None:
    shares = ((1, 2 * SMALL / 3), (2, SMALL / 3))
    expected = -sum(predicted(name, i, p_i, 0) for i, p_i in shares)
    logarithmic = regimes.at_zero(MEMBERS[name]).kind == "logarithm"
    assert float(force(name, 0, SMALL)[0]) == pytest.approx(expected, rel=0.2 if logarithmic else 1e-3)


@by_name
def test_the_fate_of_the_force(name: str) -> None:
    near, nearer = (float(force(name, 1, small).norm()) for small in (1e-9, 1e-11))
    fates = {"stays": 1.0, "grows": 10.0}
    found = regimes.fate(MEMBERS[name])
    if found in fates:
        assert nearer / near == pytest.approx(1.0, rel=1e-3) if found == "stays" else nearer / near > fates[found]
    else:
        assert nearer / near < (0.05 if found == "vanishes" else 0.5)


@by_name
def test_the_divergence_at_agreement(name: str) -> None:
    c, m = regimes.at_agreement(MEMBERS[name])
    step = 1e-3 * torch.tensor([0.3, -0.2, -0.1], dtype=torch.float64)
    found = fg.divergence(name).value((Q + step).log(), Q.log())
    expected = float(c) * (step.abs() ** float(m) * Q ** (1 - float(m))).sum()
    assert float(found) == pytest.approx(float(expected), rel=0.02)


@by_name
def test_the_slope_far_out(name: str) -> None:
    end = regimes.at_infinity(MEMBERS[name])
    if end.kind == "exponential":
        assert slope_at(name, 1e-2) > 1e30
        return
    expected = {"finite": 1.0, "logarithm": math.log(1e9), "power": 1e9 ** float(end.power)}[end.kind]
    found = slope_at(name, 1e-9)
    assert found == pytest.approx(float(end.value) * expected, rel=0.1 if end.kind == "logarithm" else 2e-3)


def test_the_words() -> None:
    assert regimes.sure_of_label(MEMBERS["rkl"]) == r"stays: $F_y \to (1 - q_y)$"
    assert regimes.sure_of_another(MEMBERS["rkl"]) == r"stays: $F_y \to -q_y$"
    assert regimes.sure_of_label(MEMBERS["fkl"]) == r"vanishes: $F_y \approx \sum_{i \neq y} p_i \log \frac{q_i}{p_i}$"
    assert regimes.sure_of_another(MEMBERS["fkl"]) == r"vanishes: $F_y \approx -p_y \log \frac{q_y}{p_y}$"
    assert regimes.sure_of_label(MEMBERS["pearson"]) == r"vanishes: $F_y \approx \left(f'(1/q_y) + 2\right) (1 - p_y)$"
    assert regimes.sure_of_another(MEMBERS["pearson"]) == r"vanishes: $F_y \approx -\left(f'(1/q_k) + 2\right) p_y$"
    assert regimes.sure_of_another(MEMBERS["neyman"]) == r"grows: $F_y \approx -q_y^{2}\, p_y^{-1}$"
    assert regimes.agreement(MEMBERS["total_variation"]) == (
        r"$D_f \approx \frac{1}{2}\, \sum_i \lvert p_i - q_i \rvert$"
    )
    assert regimes.slope_on_the_wrong_class(MEMBERS["pearson"]) == r"like $2\, q_k^{-1}$"
