"""The right divergences that the wrong ones change in one place, and the list that those join."""

from fguidance.testing import Declaration
from tests.testing import right

WRONG = []


def found_by(*checks):
    """Add a class or a function that makes a subject to `WRONG`, with the checks that must fail it."""

    def register(make):
        WRONG.append((make, checks))
        return make

    return register


def changes(module):
    """Make a function that adds a class to `WRONG` which differs from another in some parts."""

    def change(base, name, *checks, doc=None, **parts):
        parts = {part: new.of(base, part) if isinstance(new, after) else new for part, new in parts.items()}
        return found_by(*checks)(type(name, (base,), {"__module__": module, "__doc__": doc, **parts}))

    return change


class after:
    """A part that changes the result of the base's: `change(result, first, log_q)`."""

    def __init__(self, change):
        self.change = change

    def of(self, base, part):
        return lambda its, first, log_q: self.change(getattr(base, part)(its, first, log_q), first, log_q)


def doing(action):
    """A part that does something beside giving the result of the base's."""

    def change(result, first, log_q):
        action()
        return result

    return after(change)


def pq(function):
    """A part written in p and q."""
    return lambda its, log_p, log_q: function(log_p.exp(), log_q.exp())


class KL(right.ForwardKL):
    """With its force."""

    def logit_gradient(self, logits, log_q):
        log_p = logits.log_softmax(-1)
        weight = self.weight(log_p, log_q)
        return weight - log_p.exp() * weight.sum(-1, keepdim=True)


class Undeclared(KL):
    """Without a generator, so that only consistency can find a mistake."""

    generator = None


class ReverseKL:
    """Undeclared, value and weight alone."""

    def value(self, log_p, log_q):
        return (log_q.exp() * (log_q - log_p)).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()


class Hellinger:
    """Undeclared, value and weight alone."""

    def value(self, log_p, log_q):
        return (((log_p / 2).exp() - (log_q / 2).exp()) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() - ((log_p + log_q) / 2).exp()


class TotalVariation(right.TotalVariation):
    """Undeclared, but for its kink."""

    declaration = Declaration(smooth=False)
