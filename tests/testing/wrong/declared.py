"""Right programs of which something untrue is declared."""

from fguidance.testing import Declaration
from tests.testing.wrong.base import KL, Hellinger, Undeclared, found_by


@found_by("symmetry_is_as_declared")
class DeclaredSymmetric(KL):
    declaration = Declaration(symmetric=True)


@found_by("symmetry_is_as_declared")
class DeclaredNotSymmetric(Hellinger):
    declaration = Declaration(symmetric=False)


@found_by("value_is_bounded_as_declared")
class DeclaredBounded(Undeclared):
    declaration = Declaration(bounded=True)


@found_by("value_is_bounded_as_declared")
class DeclaredUnbounded(Hellinger):
    declaration = Declaration(bounded=False)


@found_by("saturation_is_as_declared")
class DeclaredToStay(KL):
    declaration = Declaration(saturation="stays")


@found_by("saturation_is_as_declared")
class DeclaredToGrow(Hellinger):
    declaration = Declaration(saturation="grows")


@found_by("weight_is_zero_at_equality")
class DeclaredInAnotherGauge(KL):
    declaration = Declaration(gauge=1.0)


@found_by("saturation_is_as_declared")
class DeclaredForTheDual(KL):
    generator = "-log(t)"


@found_by("dual_swaps_the_arguments")
class DeclaredTwiceAsLarge(Hellinger):
    generator = "2*(sqrt(t) - 1)**2"


@found_by("symmetry_is_as_declared")
class DeclaredAsANeighbour(Undeclared):
    """Jeffreys' generator for the forward KL: the same near equality up to a factor."""

    generator = "(t - 1)*log(t)/2"
