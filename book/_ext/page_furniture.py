"""What every page carries: versions and licences, plain equation numbers, no script that needs a network."""

from __future__ import annotations

import platform
import re
from importlib.metadata import version

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

FOOTER = """
<p>Made with fguidance {fguidance}, PyTorch {torch}, SymPy {sympy}, NumPy {numpy} and Python {python}.
Text: <a href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a>; code: MIT.</p>
"""


def add_footer(app: Sphinx, config: Config) -> None:
    versions = {name: version(name) for name in ("fguidance", "torch", "sympy", "numpy")}
    config.html_theme_options["extra_footer"] = FOOTER.format(python=platform.python_version(), **versions)


def disconnect_thebe(app: Sphinx, config: Config) -> None:
    """Jupyter Book loads the live-code extension even when it is off; its script runs twice and fails."""
    for listeners in list(app.events.listeners.values()):
        for listener in list(listeners):
            if listener.handler.__module__.startswith("sphinx_thebe"):
                app.disconnect(listener.id)
    app.registry.css_files[:] = [entry for entry in app.registry.css_files if entry[0] != "sphinx-thebe.css"]


def bare_equation_numbers(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Write (2.3) for a reference that its author put in parentheses, not ((2.3))."""
    for reference in doctree.findall(nodes.reference):
        number = re.fullmatch(r"\(([\d.]+)\)", reference.astext())
        before = "".join(node.astext() for node in reference.parent[: reference.parent.index(reference)])
        if number and before.count("(") > before.count(")"):
            reference.children = [nodes.Text(number[1])]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", add_footer)
    app.connect("config-inited", disconnect_thebe)
    app.connect("doctree-resolved", bare_equation_numbers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
