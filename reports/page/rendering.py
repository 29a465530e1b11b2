"""Templates filled: text is escaped, and a browser runs the scripts of this package alone, by their hashes.

render("report.html.j2", outcome=outcome, ...)         # the page as text
as_json({"rows": [...]})                               # data for a script, inside the page
"""

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

HERE = Path(__file__).parent
LIBRARY = ("tabulator.min.js", "tabulator_simple.min.css")  # of tables; the licence lies beside them


def render(template: str, *, tables: bool = False, **values: Any) -> str:
    """Fill a template of this package; all text is escaped. With `tables` the page holds the library for them."""
    scripts = [_vendored(LIBRARY[0])] if tables else []
    scripts.append(_own("page.js"))
    styles = [_vendored(LIBRARY[1])] if tables else []
    styles.append(_own("page.css"))
    inside = {"scripts": [Markup(s) for s in scripts], "styles": [Markup(s) for s in styles]}
    filled: str = _templates().get_template(template).render(policy=_policy(scripts), **inside, **values)
    return filled


def as_json(value: Any) -> str:
    """JSON that a script element can hold: no text in it ends the element."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(HERE / "templates")
    templates = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    templates.filters["subscripts"] = _subscripts
    templates.filters["json"] = lambda value: Markup(as_json(value))
    return templates


def _subscripts(text: str) -> Markup:
    """Escaped text with D_c and D_u as subscripts."""
    return Markup(re.sub(r"D_([cu])\b", r"D<sub>\1</sub>", str(escape(text))))


@cache
def _own(name: str) -> str:
    return (HERE / "templates" / name).read_text(encoding="utf-8")


@cache
def _vendored(name: str) -> str:
    """A file of the library, without the line that asks for its source map."""
    text = (HERE / "vendored" / name).read_text(encoding="utf-8")
    return re.sub(r"\n?(//|/\*)# sourceMappingURL=\S+( \*/)?\s*$", "", text)


def _policy(scripts: list[str]) -> str:
    """What a browser may do with the page: run these scripts, show what is inside, and ask nobody for anything."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; base-uri 'none'; "
        "form-action 'none'"
    )
