"""The README as a page, in development: there the home page can lead to its sections, wherever the source is from."""

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flask import Response, current_app

from app.core.errors import NotFound
from app.web import docs, pages

if TYPE_CHECKING:
    from markdown_it.token import Token

FILE = Path(__file__).parents[2] / "README.md"
#: What lies elsewhere in the source, which this server does not serve.
IS_ELSEWHERE = re.compile(r"(?!#|https?://)")


class Section(NamedTuple):
    """A section of the README: its heading, and the anchor of that."""

    heading: str
    anchor: str


class Readme(NamedTuple):
    """The README as HTML, with its sections."""

    html: str
    sections: tuple[Section, ...]


def page() -> Response:
    """The README; raises ``NotFound`` outside development, and where the file is not there."""
    content = _read()
    if content is None:
        raise NotFound
    values = {"version": docs.version(), "html": content.html}
    return pages.render_page("readme.html", values, policy=pages.STATIC_POLICY)


def sections() -> tuple[Section, ...]:
    """The sections that `page` has; none where there is no page."""
    content = _read()
    return content.sections if content else ()


def anchor_of(heading: str) -> str:
    """The anchor of a heading, as the sites make it that show READMEs."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _read() -> Readme | None:
    if not current_app.config["SHOWS_README"]:
        return None
    try:
        return _rendered(FILE.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=1)
def _rendered(_changed_at: int) -> Readme:
    from markdown_it import MarkdownIt  # noqa: PLC0415 -- only development needs it

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(FILE.read_text("utf-8"))
    found = []
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[position + 1].content
            token.attrSet("id", anchor_of(heading))
            if token.tag == "h2":
                found.append(Section(heading, anchor_of(heading)))
        elif token.type == "fence":
            # It may be scrolled, and so must be reachable by the keyboard (WCAG 2.1.1).
            token.attrSet("tabindex", "0")
        if token.children:
            token.children = _without_links_elsewhere(token.children)
    # A table on its own could not be scrolled: as a block, it would be no table for screen readers.
    html = markdown.renderer.render(tokens, markdown.options, {})
    html = html.replace("<table>", '<div class="scrolled" tabindex="0"><table>').replace("</table>", "</table></div>")
    return Readme(html, tuple(found))


def _without_links_elsewhere(tokens: "list[Token]") -> "list[Token]":
    """The tokens of a text without images, and with the text alone of links to other files."""
    kept, dropped = [], False
    for token in tokens:
        if token.type == "link_open":
            dropped = IS_ELSEWHERE.match(str(token.attrGet("href"))) is not None
        if not (token.type == "image" or (dropped and token.type in {"link_open", "link_close"})):
            kept.append(token)
    return kept
