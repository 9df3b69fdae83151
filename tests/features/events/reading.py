"""Reading the change feed as a client does."""

from typing import Any

from tests.conftest import Caller, body_of


def now_cursor(caller: Caller) -> str:
    """The cursor after everything so far."""
    cursor: str = body_of(caller.get("/events?from=now"))["meta"]["next_cursor"]
    return cursor


def read_on(caller: Caller, cursor: str, query: str = "per_page=100") -> list[dict[str, Any]]:
    """Every event after a cursor, by the links of the pages."""
    path, items, pages = f"/events?cursor={cursor}&{query}", list[dict[str, Any]](), 0
    while True:
        page = body_of(caller.get(path))
        items += page["items"]
        path = page["links"]["next"].removeprefix("/api/v1")
        pages += 1
        assert pages < 10_000
        if not page["meta"]["has_more"]:
            return items
