"""The envelope's ``meta`` and ``links``; links are relative to the origin, so no forged Host can enter one."""

from collections.abc import Mapping
from urllib.parse import quote_plus

from app.core.listing import Criteria, CursorPage, NumberedPage

Links = dict[str, str | None]


def encode_parameters(query: Mapping[str, str]) -> dict[str, str]:
    """Each parameter of a query as a link spells it."""
    return {name: f"{quote_plus(name)}={quote_plus(value)}" for name, value in query.items()}


def describe_page(
    page: NumberedPage | CursorPage, criteria: Criteria, path: str, parameters: Mapping[str, str]
) -> tuple[dict[str, object], Links]:
    """``meta`` and ``links`` of a page; the links keep every parameter of the request, encoded as they come.

    Where not all rows were counted, ``total`` and ``pages`` are the least that there are, and nobody knows the last.
    """

    def link(name: str = "", value: object = "") -> str:
        # Numbers and cursors need no encoding.
        parts = {**parameters, name: f"{name}={value}"} if name else parameters
        return f"{path}?{'&'.join(parts.values())}"

    if isinstance(page, CursorPage):
        more = page.next_cursor
        meta: dict[str, object] = {"per_page": criteria.per_page, "has_more": bool(more), "next_cursor": more}
        return meta, {
            "self": link(),
            "first": link("cursor"),
            "next": link("cursor", more) if more else None,
        }
    pages = -(-page.total // criteria.per_page)
    here = criteria.page
    meta = {"page": here, "per_page": criteria.per_page, "total": page.total, "pages": pages}
    if not page.total_is_exact:
        meta["total_is_exact"] = False
    return meta, {
        "self": link("page", here),
        "first": link("page", 1),
        "prev": link("page", min(here - 1, max(pages, 1))) if here > 1 else None,
        "next": link("page", here + 1) if page.has_more else None,
        "last": link("page", max(pages, 1)) if page.total_is_exact else None,
    }


def link_header(links: Links) -> str:
    """The links that lead elsewhere, as RFC 8288 has them in ``Link``."""
    return ", ".join(f'<{link}>; rel="{name}"' for name, link in links.items() if link and name != "self")
