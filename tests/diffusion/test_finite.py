"""The watch for NaN: at once on a CPU; elsewhere it looks at many results together and still names the first."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fguidance.diffusion import finite
from fguidance.diffusion.finite import EVERY, FiniteWatch

BAD = (math.nan, math.inf, -math.inf)


class Elsewhere:
    """A tensor on a device where reading a number waits, as far as the watch can see."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.device = values, torch.device("cuda")

    def numel(self) -> int:
        return self.values.numel()

    def isfinite(self) -> Tensor:
        return self.values.isfinite()


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many counts were read together, each time that counts were read."""
    found: list[int] = []

    def stacked(counts: list[Tensor]) -> Tensor:
        found.append(len(counts))
        return torch.stack(counts)

    monkeypatch.setattr(finite, "stack", stacked)
    return found


def values(*bad: float) -> Tensor:
    return torch.cat([torch.ones(5), torch.tensor(bad), torch.zeros(2)])


class TestOnACpu:
    @given(
        bad=st.lists(st.sampled_from(BAD), min_size=1, max_size=9), step=st.integers(0, 999), time=st.integers(0, 999)
    )
    def test_it_stops_at_once_and_says_where(self, bad: list[float], step: int, time: int) -> None:
        expected = (
            f"^the output has {len(bad)} of {7 + len(bad)} values that are NaN or infinite at step {step} "
            rf"\(timestep {time}\); sampling stops here$"
        )
        with pytest.raises(FloatingPointError, match=expected):
            FiniteWatch().look("the output", values(*bad), step, time)

    @pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16, torch.float16))
    def test_the_largest_numbers_are_numbers(self, dtype: torch.dtype) -> None:
        watch, largest = FiniteWatch(), torch.finfo(dtype).max
        watch.look("the output", torch.tensor([largest, -largest, 0.0], dtype=dtype), 0, 0)
        watch.settle()

    def test_a_watch_can_be_used_again(self) -> None:
        watch = FiniteWatch()
        with pytest.raises(FloatingPointError, match="at step 3 "):
            watch.look("the output", values(math.nan), 3, 3)
        watch.look("the output", values(), 2, 2)
        watch.settle()


class TestElsewhere:
    def test_nobody_waits_before_many_are_there(self, waited: list[int]) -> None:
        watch = FiniteWatch()
        for step in range(EVERY - 1):
            watch.look("the output", Elsewhere(values()), step, step)
        assert waited == []
        watch.look("the output", Elsewhere(values()), EVERY, EVERY)
        assert waited == [EVERY]
        watch.settle()
        assert waited == [EVERY]

    @given(bad=st.sets(st.integers(0, EVERY - 1), min_size=1))
    def test_the_first_is_named_however_many_follow(self, bad: set[int]) -> None:
        watch, first = FiniteWatch(), min(bad)
        for step in range(EVERY - 1):
            watch.look(f"result {step}", Elsewhere(values(*[math.nan] * (step in bad))), step, step)
        with pytest.raises(FloatingPointError, match=rf"^result {first} has 1 of 8 values .* at step {first} "):
            watch.look(f"result {EVERY - 1}", Elsewhere(values(*[math.nan] * (EVERY - 1 in bad))), EVERY - 1, EVERY - 1)

    def test_the_end_settles_what_is_left(self) -> None:
        watch = FiniteWatch()
        watch.look("the output", Elsewhere(values()), 2, 20)
        watch.look("the output", Elsewhere(values(math.inf)), 1, 10)
        watch.look("the output", Elsewhere(values(math.nan)), 0, 0)
        with pytest.raises(FloatingPointError, match=r"at step 1 \(timestep 10\)"):
            watch.settle()
        watch.settle()

    def test_a_result_on_the_cpu_settles_those_before_it(self) -> None:
        watch = FiniteWatch()
        watch.look("the output", Elsewhere(values(math.nan)), 2, 20)
        with pytest.raises(FloatingPointError, match="at step 2 "):
            watch.look("the gradient", values(), 2, 20)


def test_nothing_was_noted(waited: list[int]) -> None:
    FiniteWatch().settle()
    assert waited == []
