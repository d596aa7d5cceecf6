"""Right programs of which something untrue is declared."""

from fguidance.testing import Declaration
from tests.testing.wrong.base import KL, Hellinger, Undeclared, changes

change = changes(__name__)

change(KL, "DeclaredSymmetric", "symmetry_is_as_declared",
       declaration=Declaration(symmetric=True))
change(Hellinger, "DeclaredNotSymmetric", "symmetry_is_as_declared",
       declaration=Declaration(symmetric=False))
change(Undeclared, "DeclaredBounded", "value_is_bounded_as_declared",
       declaration=Declaration(bounded=True))
change(Hellinger, "DeclaredUnbounded", "value_is_bounded_as_declared",
       declaration=Declaration(bounded=False))
change(KL, "DeclaredToStay", "saturation_is_as_declared",
       declaration=Declaration(saturation="stays"))
change(Hellinger, "DeclaredToGrow", "saturation_is_as_declared",
       declaration=Declaration(saturation="grows"))
change(KL, "DeclaredInAnotherGauge", "weight_is_zero_at_equality",
       declaration=Declaration(gauge=1.0))
change(KL, "DeclaredForTheDual", "saturation_is_as_declared",
       generator="-log(t)")
change(Hellinger, "DeclaredTwiceAsLarge", "dual_swaps_the_arguments",
       generator="2*(sqrt(t) - 1)**2")
change(Undeclared, "DeclaredAsANeighbour", "symmetry_is_as_declared",
       doc="Jeffreys' generator for the forward KL: the same near equality up to a factor.",
       generator="(t - 1)*log(t)/2")
