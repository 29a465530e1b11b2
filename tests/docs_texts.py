"""Texts of the code as pages of the documentation have them: Markdown, and reStructuredText of docstrings."""

import ast
import re
import textwrap


def escape(text: str) -> str:
    """Plain text as Markdown, with code in backticks as it is."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_{}\[\]<>#|$~^])", r"\\\1", part) for part in parts)


def plain(text: str) -> str:
    """Text as reStructuredText in which backticks alone mean anything: `(n, *shape)` and `|D|` stand as they are."""
    parts = re.split(r"((?:``.+?``|`[^`]+`)(?:\w*))", text, flags=re.DOTALL)
    signs = r"[*|]|(?<=\w)_(?!\w)"
    return "".join(_code_apart(part) if part.startswith("`") else re.sub(signs, r"\\\g<0>", part) for part in parts)


def _code_apart(text: str) -> str:
    """Code and the letters that follow it without a space, as in `Denoiser`s."""
    code, letters = text[: text.rindex("`") + 1], text[text.rindex("`") + 1 :]
    return f"{code}\\ {letters}" if letters else code


def rst(docstring: str) -> str:
    """A module's docstring as reStructuredText: indented blocks are code, and so is a rest that parses as code."""
    first, _, rest = docstring.partition("\n\n")
    if _is_code(rest):
        return f"{plain(first)}\n\n{_code(rest)}"
    blocks = re.split(r"\n\s*\n", rest)
    shown = [
        _code(textwrap.dedent(block)) if block.startswith("    ") else plain(block) + "\n" for block in blocks if block
    ]
    return "\n".join([f"{plain(first)}\n", *shown])


def _is_code(text: str) -> bool:
    try:
        return bool(ast.parse(text).body)
    except SyntaxError:
        return False


def _code(text: str) -> str:
    language = "python" if _is_code(text) else "none"
    return f".. code-block:: {language}\n\n{textwrap.indent(text, '   ')}\n"
