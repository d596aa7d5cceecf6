"""Part of the closed forms as a file that stands alone: what `fguidance copy` prints.

The text of `closed_forms.py` is taken apart by its syntax tree and not executed.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

ONLY_SOME_ROWS = {"scaled", "softplus", "relative_power", "difference", "power"}
"""Functions that nothing but some divergences calls."""
HEADER = '''"""f-divergence guidance and the Smooth ECE loss in closed form (arXiv:2511.05844), with PyTorch alone.

Printed by `fguidance copy {names}`
of fguidance {version}, MIT licence. Its ledger of claims proves the formulas. To cite it: the fguidance contributors,
"fguidance: f-divergence classifier guidance, derived and tested", version {version}, and Javid, Bagheri and
González-Prelcic 2025, arXiv:2511.05844.

    logit_gradient({example}, logits, log_q)    # (..., classes)
    guidance_gradient({example}, logits, labels, alpha=0.5, epsilon=0.9, tau_joint=1.0, tau_marginal=0.5)

{conventions}
"""
'''


def copied(names: Sequence[str], version: str) -> str:
    """The closed forms with the named divergences and families only, as source text that needs PyTorch alone.

    Args:
        names: registered names, at least one.
        version: of the library, for the header.

    Raises:
        ValueError: a name is not registered.
    """
    text = Path(__file__).with_name("closed_forms.py").read_text(encoding="utf-8")
    body = ast.parse(text).body
    functions = {part.name: part for part in body if isinstance(part, ast.FunctionDef)}
    tables = {table: dict(_entries(body, table)) for table in ("DIVERGENCES", "FAMILIES")}
    rows = tables["DIVERGENCES"] | tables["FAMILIES"]
    for name in names:
        if name not in rows:
            raise ValueError(f"copy: {name!r} is not one of {', '.join(rows)}")
    kept: set[str] = set()
    waiting = [name for name in functions if name not in ONLY_SOME_ROWS.union(rows.values())]
    waiting += [rows[name] for name in names]
    while waiting:
        kept.add(name := waiting.pop())
        waiting += {found for found in _names(functions[name]) if found in functions} - kept
    tables = {table: {name: row[name] for name in row if name in names} for table, row in tables.items()}
    used = set().union(*(_names(functions[name]) for name in kept))
    lines, parts = text.splitlines(), []
    for part, end in zip(body[1:], [following.lineno - 1 for following in body[2:]] + [len(lines)], strict=True):
        start, table = part.lineno - 1, _target(part)
        if (isinstance(part, ast.FunctionDef) and part.name not in kept) or tables.get(table, True) == {}:
            continue
        if not isinstance(part, ast.Import) or part.names[0].name != "math" or "math" in used:
            parts += [
                line for line in lines[start:end]
                if table not in tables or not line.startswith('    "') or line.split('"')[1] in names
            ]  # fmt: skip
    example = f'DIVERGENCES["{names[0]}"]' if names[0] in tables["DIVERGENCES"] else f'FAMILIES["{names[0]}"]()'
    conventions = text.split('"""')[1].strip().rpartition("\n\n")[2]
    header = HEADER.format(names=" ".join(names), version=version, example=example, conventions=conventions)
    return header + "\n" + "\n".join(parts).strip() + "\n"


def _target(part: ast.stmt) -> str:
    return part.target.id if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) else ""


def _names(part: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(part) if isinstance(inner, ast.Name)}


def _entries(body: Sequence[ast.stmt], table: str) -> Iterator[tuple[str, str]]:
    """The names of a table and the function that each stands for."""
    (found,) = (part.value for part in body if isinstance(part, ast.AnnAssign) and _target(part) == table)
    assert isinstance(found, ast.Dict)
    for key, value in zip(found.keys, found.values, strict=True):
        assert isinstance(key, ast.Constant)
        yield str(key.value), min(_names(value))
