"""What is said of a record, as text that is safe to print."""

from fguidance.testing.record import Record


def printable(text: object) -> str:
    """The text with its control characters written out, so that no terminal and no page obeys them."""
    return "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in str(text))


def details(record: Record) -> tuple[str, ...]:
    """What a reader wants to know of a record besides its status: reason, counterexample, how to bring it back."""
    counterexample = f"counterexample: {record.counterexample}" if record.counterexample else ""
    reproduce = f"reproduce: {record.reproduce_call}" if record.reproduce_call else ""
    return tuple(printable(part) for part in (record.reason, counterexample, reproduce) if part)
