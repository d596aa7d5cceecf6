"""What every derivation returns: a statement, where it comes from, and what its proof made of it."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

Verdict = Literal["verified", "corrected", "refuted"]

PAPER = "arXiv:2511.05844"
OURS = "ours"


@dataclass(frozen=True)
class Claim:
    """One statement with its verdict.

    Attributes:
        id: A unique slug in lower case, the anchor of the claim in the book.
        title: A short name in plain text.
        statement: What is claimed, as its source has it, in Markdown with LaTeX.
        source: Where the statement comes from: the paper with its number, or ``"ours"``.
        verdict: ``"verified"``, ``"corrected"`` (``correction`` has the right form) or ``"refuted"``
            (``counterexample`` has the case in which it fails).
        proof: The steps a reader can follow, with the formulas that SymPy produced.
        correction: The right form of a corrected claim.
        counterexample: The exact case that refutes a claim.
        equation: The label of the book's equation that the claim concerns, or nothing.

    Raises:
        ValueError: If the slug is malformed, a text is missing, or the verdict lacks what it needs.
    """

    id: str
    title: str
    statement: str
    source: str
    verdict: Verdict
    proof: str
    correction: str = ""
    counterexample: str = ""
    equation: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id):
            raise ValueError(f"id must be words in lower case joined by hyphens, got {self.id!r}")
        if self.verdict not in get_args(Verdict):
            raise ValueError(f"verdict of {self.id} must be one of {get_args(Verdict)}, got {self.verdict!r}")
        needed = ["title", "statement", "source", "proof"]
        needed += {"verified": [], "corrected": ["correction"], "refuted": ["counterexample"]}[self.verdict]
        for name in needed:
            if not getattr(self, name).strip():
                raise ValueError(f"{name} of {self.id} must not be empty for a {self.verdict} claim")
