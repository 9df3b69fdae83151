"""What the benchmarks rest on: they ask nothing twice or the same each time, and keep what they found."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.security.tokens import MAX_CACHED_TOKENS
from benchmarks.catalogue import EDITORS
from benchmarks.feedless import drop_feed
from benchmarks.load import Measured
from benchmarks.results import Results, Section, Steady, Workers
from benchmarks.scenarios import Subject
from benchmarks.shop import READS, Shop, Visits
from tests.conftest import Caller, body_of

#: More than a server answers in all the rounds of a scenario.
REQUESTS = 60_000

SUBJECT = Subject(
    tokens=["a", "b"],
    categories=list(range(1, 23)),
    trees=[30, 31],
    products=list(range(1, REQUESTS + 1)),
    stocked=list(range(1, REQUESTS + 1)),
    words=list(product(("oak", "ash", "elm"), ("chair", "table"))),
    category_of_new=40,
    forgives_typos=True,
)

SHOP = Shop(
    products=[*range(1, 1001)],
    stock=dict.fromkeys(range(1, 1001), 3),
    categories=[1, 2, 3],
    trees=[4, 1, 2, 3],
    names={number: f"Category {number}" for number in range(1, 5)},
    words=[("oak", "chair"), ("ash", "table")],
)


def section(name: str, *rates: float) -> Section:
    """A scenario with a round for each rate."""
    made = Section(name, 16, "how")
    for rate in rates:
        made.add("ours", Measured(rate, 1.0, 2.0, 300.0, 100.0, 10.0))
    return made


class TestSubject:
    @pytest.mark.parametrize("kind", ["list", "detail", "category", "search", "search_in_vain", "facets", "movement"])
    def test_asks_nothing_twice(self, kind: str) -> None:
        make = getattr(SUBJECT, kind)

        asked = {make(number) for number in range(REQUESTS)}

        assert len(asked) == REQUESTS

    def test_mixes_one_write_into_nineteen_reads(self) -> None:
        asked = [SUBJECT.mix(number) for number in range(2000)]

        assert sum(bool(request.body) for request in asked) == 100

    def test_has_more_tokens_than_are_remembered(self) -> None:
        assert EDITORS >= 5 * MAX_CACHED_TOKENS


class TestResults:
    def test_come_back_from_their_file(self, tmp_path: Path) -> None:
        results = Results([section("list", 10.5, 11.5)], {"ours": Workers(36.0, 0.5, 0.25)}, Steady(10, 0, 1.0, 2.0))

        results.write(tmp_path / "results.json")

        assert Results.read(tmp_path / "results.json") == results

    def test_of_a_scenario_replace_the_former_ones_in_their_place(self) -> None:
        results = Results([section("list", 1), section("detail", 1), section("create", 1)])

        results.replace([section("detail", 2)])

        assert [each.scenario for each in results.sections] == ["list", "detail", "create"]
        assert results.sections[1] == section("detail", 2)


class TestVisits:
    def test_are_the_same_for_the_same_seed(self) -> None:
        first, again, other = (Visits(SHOP, seed).take(200, writes=0.5) for seed in ("a", "a", "b"))

        assert first == again
        assert first != other

    def test_have_the_share_of_writes_that_was_asked_for(self) -> None:
        asked = Visits(SHOP, "a").take(2000, writes=0.05)

        assert sum(call.method != "GET" for call in asked) == 100

    @pytest.mark.parametrize("mix", READS)
    def test_have_the_reads_of_their_mix(self, mix: str) -> None:
        asked = Counter(call.kind for call in Visits(SHOP, "a", mix=mix).take(10_000, writes=0))

        assert asked.keys() == READS[mix].keys()
        assert sum(READS[mix].values()) == 100
        assert all(0.8 < asked[kind] / (100 * share) < 1.2 for kind, share in READS[mix].items())

    def test_have_the_same_writes_in_each_mix(self) -> None:
        kinds = [[call.kind for call in Visits(SHOP, "a", mix=mix).take(500, writes=1)] for mix in READS]

        assert kinds[0] == kinds[1]

    def test_ask_for_a_few_products_often(self) -> None:
        asked = Counter(call.path for call in Visits(SHOP, "a").take(5000, writes=0) if call.kind == "detail")

        assert asked["/api/v1/products/1"] > 4 * asked["/api/v1/products/10"] > 0

    def test_sell_no_more_of_a_product_than_there_was(self) -> None:
        moved = [call for call in Visits(SHOP, "a").take(5000, writes=1) if call.kind == "movement"]

        sold = Counter(call.path for call in moved if json.loads(call.body)["delta"] < 0)
        assert max(sold.values()) == 3
        assert len(moved) > sold.total()


@pytest.fixture
def without_feed() -> Iterator[None]:
    """The application as the benchmark of the feed compares it."""
    event.listen(Session, "before_commit", drop_feed, insert=True)
    yield
    event.remove(Session, "before_commit", drop_feed)


class TestFeedless:
    @pytest.mark.usefixtures("without_feed")
    def test_publishes_nothing_and_keeps_the_audit_trail(
        self, root: Caller, make_product: Callable[..., dict[str, Any]]
    ) -> None:
        product = make_product()
        root.patch(f"/products/{product['id']}", {"price": "12.00"})

        assert body_of(root.get("/events"))["items"] == []
        trail = body_of(root.get(f"/audit-events?resource=product/{product['id']}"))["items"]
        assert sorted(row["action"] for row in trail) == ["product.created", "product.updated"]
