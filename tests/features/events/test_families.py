"""Events of parents and variants."""

from collections.abc import Callable
from typing import Any

from tests.conftest import Caller, body_of

Make = Callable[..., dict[str, Any]]


def events_after(caller: Caller, cursor: str) -> list[dict[str, Any]]:
    """The events after a cursor."""
    return list(body_of(caller.get("/events", query_string={"cursor": cursor, "per_page": 100}))["items"])


def cursor_of(caller: Caller) -> str:
    """The cursor after all events."""
    return str(body_of(caller.get("/events?from=now"))["meta"]["next_cursor"])


def make_shirt(alice: Caller, category_id: int) -> dict[str, Any]:
    """A shirt in two sizes."""
    variants = [{"options": {"size": size}, "price": "10.00", "stock": 1} for size in ("M", "L")]
    body = {"name": "Shirt", "category_id": category_id, "options": ["size"], "variants": variants}
    return body_of(alice.post("/products", body))


def test_each_row_of_a_family_has_its_event_and_the_parent_has_its_variants(alice: Caller, make_category: Make) -> None:
    cursor = cursor_of(alice)

    shirt = make_shirt(alice, make_category()["id"])

    told = [event for event in events_after(alice, cursor) if event["resource_type"] == "product"]
    assert [event["type"] for event in told] == ["product.created"] * 3 + ["product.updated"]
    assert told[-1]["resource_id"] == shirt["id"]
    assert told[-1]["types"] == ["product.updated"]
    assert [one["options"]["size"] for one in told[-1]["data"]["variants"]] == ["M", "L"]
    assert "variants" not in told[1]["data"]


def test_the_last_sale_of_a_size_is_told_of_the_variant_and_of_the_parent(alice: Caller, make_category: Make) -> None:
    shirt = make_shirt(alice, make_category()["id"])
    first, second = (one["id"] for one in body_of(alice.get(f"/products/{shirt['id']}/variants"))["items"])
    cursor = cursor_of(alice)

    for variant_id in (first, second):
        alice.post(f"/products/{variant_id}/stock-movements", {"delta": -1, "reason": "sale"})

    told = [(event["resource_id"], set(event["types"])) for event in events_after(alice, cursor)]
    assert told == [
        (first, {"stock.moved", "stock.out"}),
        (shirt["id"], {"stock.moved"}),
        (second, {"stock.moved", "stock.out"}),
        (shirt["id"], {"stock.moved", "stock.out"}),
    ]


def test_what_hides_a_parent_hides_its_variants(alice: Caller, bob: Caller, make_category: Make) -> None:
    shirt = make_shirt(alice, make_category()["id"])
    cursor = cursor_of(bob)

    alice.patch(f"/products/{shirt['id']}", {"status": "archived"})

    told = events_after(bob, cursor)
    assert [event["type"] for event in told] == ["product.hidden"] * len(told)
    assert len({event["resource_id"] for event in told}) == 3
    assert all("product.hidden" in event["types"] for event in events_after(alice, cursor)[:3])
