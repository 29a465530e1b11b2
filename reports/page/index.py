"""The page that links to several reports, and the links from those back to it and to each other."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.reports.page.facts import environment, told_facts
from scorescope.reports.page.files import make_folder, write_file
from scorescope.reports.page.pages import Outcome
from scorescope.reports.page.rendering import render
from scorescope.reports.page.texts import encoded

_PLACE = re.compile(rb"(?<=<!--others-->).*?(?=<!--/others-->)", re.DOTALL)  # of the links on a page; text is escaped


@checked
def write_index(out: Path | str, outcomes: list[Outcome]) -> Path:
    """Write a page that links to several reports below `out`; their pages get links back, and to each other."""
    out = Path(out)
    make_folder(out)
    rows = [{**vars(o), "href": _href(o.path, out)} for o in outcomes]
    page = render("index.html.j2", reports=rows, facts=told_facts(environment()))
    write_file(out / "index.html", encoded(page))
    link_pages(out / "index.html", "All reports", {o.path: o.title for o in outcomes})
    return out / "index.html"


def link_pages(index: Path, words: str, pages: Mapping[Path, str]) -> None:
    """Put a link to `index` that says `words` on each page, and one to each of the others by its title."""
    for page in pages:
        if not page.is_file():
            continue
        links = [(_from(page, index), f"← {words}"), *((_from(page, to), pages[to]) for to in pages)]
        write_file(page, _with_links(page.read_bytes(), links))


def _with_links(page: bytes, links: list[tuple[str, str]]) -> bytes:
    filled = encoded(render("others.html.j2", links=links)).strip()
    return _PLACE.sub(lambda _: filled, page, count=1)


def _href(path: Path, out: Path) -> str:
    """The link from a page in `out`."""
    if not path.is_relative_to(out):
        raise InputError("outcomes", found=f"a report at {path}", expected=f"reports below {out}")
    return _quoted(path.relative_to(out))


def _from(page: Path, to: Path) -> str:
    """The link from a page to another one; empty to itself."""
    return "" if page == to else _quoted(Path(os.path.relpath(to, page.parent)))


def _quoted(path: Path) -> str:
    return quote(os.fsencode(path.as_posix()))
