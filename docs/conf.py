"""How the documentation is built: `make docs` writes build/docs/index.html, which needs no network."""

import re
import sys
from importlib import metadata
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.docs_pages import write_pages  # noqa: E402
from tests.docs_texts import plain  # noqa: E402

project = "Scorescope"
author = "The Scorescope developers"
release = metadata.version("scorescope")

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser"]
exclude_patterns = ["generated/parts/*"]
default_role = "py:obj"

html_theme = "furo"
html_title = "Scorescope"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False

autodoc_typehints = "none"  # docstrings name types with their shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3


def mathml(writer: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers draw without a script."""
    block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=block)
    writer.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def as_plain_text(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Let a docstring's stars and bars stand for themselves."""
    lines[:] = plain("\n".join(lines)).split("\n")


def without_source_links(app: Sphinx, page: str, content: list[str]) -> None:
    """Name source files without leading to them: they are not among the pages that are built."""
    content[0] = re.sub(r"\[([^\]]+)\]\(\.\./[\w/]+\.py\)", r"\1", content[0])


def setup(app: Sphinx) -> None:
    """Write the generated pages first; draw formulas ourselves."""
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("source-read", without_source_links)
    app.connect("autodoc-process-docstring", as_plain_text, priority=100)  # before numpydoc takes it apart
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "generated"))
