"""Where a generator may bend quickly, found from the zeros of its parts."""

import pytest

from fguidance.parsing import parse_generator
from fguidance.places import places


@pytest.mark.parametrize(
    ("text", "expected"),
    (
        ("t*log(t)", []),
        ("(t-1)**2", []),
        ("(t-1)**-2", [(1, 0)]),
        ("sqrt((t-1)**2 + 1e-4) - 0.01", [(1, 0.01)]),
        ("sqrt((t-3)**2 + 1e-10) - sqrt(4 + 1e-10)", [(3, 1e-5)]),
        ("(t-1)*atan(1e20*(t-1))", [(1, 0)]),
        ("(t-2)*tanh(t**2 - 4)", [(2, 0)]),
        ("sqrt(1 + t**2) - sqrt(2)", []),
        ("exp(t-1) - 1", []),
        ("-log((t + 1)/2)", []),
        ("sqrt(log(t)**2 + 1) - 1", []),
        ("sqrt((t**13 - 2)**2 + 1)", []),
    ),
)
def test_places(text: str, expected: list[tuple[float, float]]) -> None:
    found = places(parse_generator(text))
    assert len(found) == len(expected)
    for (place, distance), (right_place, right_distance) in zip(found, expected, strict=True):
        assert place == pytest.approx(right_place, rel=1e-12)
        assert distance == pytest.approx(right_distance, rel=1e-9, abs=1e-12)


def test_a_pair_of_zeros_is_one_place() -> None:
    ((place, distance),) = places(parse_generator("1/((t-1)**2 + 0.01) + t"))
    assert (place, distance) == (pytest.approx(1), pytest.approx(0.1))


def test_zeros_far_from_the_axis_are_left_out() -> None:
    found = places(parse_generator("sqrt((t-1)**2 + 0.3) + sqrt((t-1)**2 + 0.2)"))
    assert found == ((pytest.approx(1), pytest.approx(0.2**0.5)),)
