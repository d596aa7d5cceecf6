"""What the tests of the suite share."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings


@pytest.fixture(scope="module")
def unshrunk() -> Iterator[None]:
    """The active profile without shrinking, which takes most of the time of a failing check."""
    settings.register_profile("unshrunk", settings(), phases=[Phase.explicit, Phase.generate])
    settings.load_profile("unshrunk")
    yield
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
