"""The envelope's ``meta`` and ``links``. Links are relative to the origin, so that a forged Host cannot enter them."""

from collections.abc import Callable, Mapping
from urllib.parse import quote_plus

from app.core.listing import Criteria, CursorPage, NumberedPage
from app.web.query import Parameters

Links = dict[str, str | None]


def encode_parameters(query: Parameters) -> dict[str, str]:
    """Each parameter of a query, percent-encoded for links and as often as it was given, by its name."""
    texts = {name: [given] if isinstance(given, str) else given for name, given in query.items()}
    return {name: "&".join(f"{quote_plus(name)}={quote_plus(text)}" for text in given) for name, given in texts.items()}


def describe_page(
    page: NumberedPage | CursorPage, criteria: Criteria, path: str, parameters: Mapping[str, str]
) -> tuple[dict[str, object], Links]:
    """``meta`` and ``links`` of a page; the links repeat every parameter of the request, which comes encoded.

    Where not all rows were counted, ``total`` and ``pages`` are lower bounds, and there is no link to the last page.
    """

    def link(name: str = "", value: object = "") -> str:
        # Numbers and cursors need no encoding.
        parts = {**parameters, name: f"{name}={value}"} if name else parameters
        return f"{path}?{'&'.join(parts.values())}"

    if isinstance(page, CursorPage):
        return _describe_keyset_page(page, criteria, link)
    return _describe_numbered_page(page, criteria, link)


def _describe_keyset_page(
    page: CursorPage, criteria: Criteria, link: Callable[..., str]
) -> tuple[dict[str, object], Links]:
    cursor = page.next_cursor
    return {"per_page": criteria.per_page, "has_more": bool(cursor), "next_cursor": cursor}, {
        "self": link(),
        "first": link("cursor"),
        "next": link("cursor", cursor) if cursor else None,
    }


def _describe_numbered_page(
    page: NumberedPage, criteria: Criteria, link: Callable[..., str]
) -> tuple[dict[str, object], Links]:
    number, pages = criteria.page, -(-page.total // criteria.per_page)
    meta: dict[str, object] = {"page": number, "per_page": criteria.per_page, "total": page.total, "pages": pages}
    if not page.total_is_exact:
        meta["total_is_exact"] = False
    return meta, {
        "self": link("page", number),
        "first": link("page", 1),
        "prev": link("page", min(number - 1, max(pages, 1))) if number > 1 else None,
        "next": link("page", number + 1) if page.has_more else None,
        "last": link("page", max(pages, 1)) if page.total_is_exact else None,
    }


def link_header(links: Links) -> str:
    """The value of ``Link`` (RFC 8288): all links but that to the page itself."""
    return ", ".join(f'<{link}>; rel="{name}"' for name, link in links.items() if link and name != "self")
