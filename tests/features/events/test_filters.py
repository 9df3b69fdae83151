"""The change feed of a reader that wants some changes alone: it is the whole feed of the reader, less the others."""

import random
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from typing import Any

import pytest

from app.features.events import pages
from app.features.events.names import all_filters
from tests.conftest import Caller, body_of, faults_of
from tests.features.events.reading import now_cursor, read_on

Make = Callable[..., dict[str, Any]]
RESOURCES = ("brand", "category", "import", "product")


def make_changes(root: Caller, make_product: Make, choose: random.Random) -> None:
    """Changes of every kind, in any order."""
    products = [make_product(stock=choose.randrange(3), low_stock_at=1)["id"] for _ in range(4)]
    for number in range(40):
        path = f"/products/{choose.choice(products)}"
        match choose.randrange(8):
            case 0:
                root.patch(path, {"price": f"{choose.randrange(1, 4)}.00"})
            case 1:
                root.patch(path, {"status": choose.choice(["active", "draft"])})
            case 2:
                root.delete(path)
            case 3:
                root.post(f"{path}/restore")
            case 4:
                root.post(f"{path}/stock-movements", {"delta": choose.choice([-1, 1]), "reason": "correction"})
            case 5:
                root.delete(f"/brands/{body_of(root.post('/brands', {'name': f'Brand {number}'}))['id']}")
            case 6:
                root.post("/categories", {"name": f"Category {number}"})
            case _:
                sent = root.call("POST", "/imports", data="sku\n", headers={"Content-Type": "text/csv"})
                root.post(f"/imports/{body_of(sent)['id']}/cancel")


def fits(item: dict[str, Any], types: Collection[str], resources: Collection[str]) -> bool:
    is_of_type = not types or any(fnmatchcase(name, each) for name in item["types"] for each in types)
    return is_of_type and (not resources or item["resource_type"] in resources)


def query_of(types: Collection[str], resources: Collection[str], per_page: int) -> str:
    stated = {"types": ",".join(types), "resource": ",".join(resources), "per_page": str(per_page)}
    return "&".join(f"{name}={value}" for name, value in stated.items() if value)


@pytest.mark.parametrize("seed", range(3))
def test_is_what_fits_of_the_whole(
    root: Caller, bob: Caller, make_product: Make, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    choose, cursor = random.Random(seed), now_cursor(root)
    make_changes(root, make_product, choose)
    for reader in (root, bob):
        whole = read_on(reader, cursor)
        assert whole
        for _ in range(30):
            monkeypatch.setattr(pages, "MAX_READ", choose.choice([1, 5, 1000]))
            monkeypatch.setattr(pages, "MIN_PRESENTED", choose.choice([1, 100]))
            types = choose.sample(sorted(all_filters()), choose.randrange(4))
            resources = choose.sample(RESOURCES, choose.randrange(3))
            query = query_of(types, resources, choose.choice([1, 2, 7, 100]))

            found = read_on(reader, cursor, query)

            assert found == [item for item in whole if fits(item, types, resources)], query


class TestAPage:
    def test_may_be_empty_although_more_follow(
        self, root: Caller, make_product: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pages, "MAX_READ", 5)
        cursor = now_cursor(root)
        products = [make_product()["id"] for _ in range(6)]
        root.delete(f"/products/{products[0]}")

        empty = body_of(root.get(f"/events?cursor={cursor}&types=*.deleted"))
        then = body_of(root.get(empty["links"]["next"].removeprefix("/api/v1")))

        assert (empty["items"], empty["meta"]["has_more"]) == ([], True)
        assert [item["type"] for item in then["items"]] == ["product.deleted"]
        assert then["meta"]["has_more"] is False

    def test_has_no_more_events_than_are_wanted(self, root: Caller, make_product: Make) -> None:
        cursor = now_cursor(root)
        for _ in range(3):
            make_product()

        page = body_of(root.get(f"/events?cursor={cursor}&types=product.published&per_page=2"))

        assert (len(page["items"]), page["meta"]["has_more"]) == (2, True)

    def test_ends_where_nothing_more_was_looked_at(self, root: Caller, make_product: Make) -> None:
        cursor = now_cursor(root)
        make_product()

        page = body_of(root.get(f"/events?cursor={cursor}&types=stock.*"))

        assert (page["items"], page["meta"]["has_more"]) == ([], False)
        assert page["meta"]["next_cursor"] == now_cursor(root)


class TestHiddenRows:
    def test_fit_by_what_the_reader_gets(self, root: Caller, bob: Caller, make_product: Make) -> None:
        cursor = now_cursor(root)
        make_product(status="draft")

        assert read_on(bob, cursor, "types=product.created") == []
        assert [item["types"] for item in read_on(bob, cursor, "types=product.hidden")] == [["product.hidden"]]
        assert [item["types"] for item in read_on(root, cursor, "types=product.created")] == [["product.created"]]
        assert read_on(root, cursor, "types=product.hidden") == []


class TestTheQuery:
    @pytest.mark.parametrize(
        ("query", "fault"),
        [
            ("types=product.moved", ("types", "event_unknown")),
            ("types=user.*", ("types", "event_unknown")),
            ("types=product", ("types", "malformed")),
            ("types=*.*", ("types", "malformed")),
            ("types=", ("types", "too_short")),
            ("types=price.changed,product.lost", ("types", "event_unknown")),
            ("resource=user", ("resource", "resource_unknown")),
            ("resource=Product", ("resource", "malformed")),
        ],
    )
    def test_is_refused_where_nothing_could_fit(self, root: Caller, query: str, fault: tuple[str, str]) -> None:
        answer = root.get(f"/events?{query}")

        assert (answer.status_code, faults_of(answer)) == (422, [fault])

    def test_is_kept_by_the_link_to_the_next_page(self, root: Caller) -> None:
        page = body_of(root.get("/events?from=now&types=stock.*&types=*.deleted&resource=product&per_page=7"))

        assert page["links"]["next"].endswith("&per_page=7&types=%2A.deleted%2Cstock.%2A&resource=product")
