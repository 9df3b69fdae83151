"""Fifteen thousand products, or PLANNED_PRODUCTS: what the planners choose by themselves, with statistics of them."""

import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.facets.service import FACETS
from app.features.products.listing import LISTING
from app.features.samples import service as samples
from tests.conftest import Caller, body_of, empty

pytestmark = pytest.mark.timeout(400)

PRODUCTS = int(os.environ.get("PLANNED_PRODUCTS", "15000"))
#: The filters without which a facet is counted.
OWNED = {name for facet in FACETS for name in facet.filters}
WHOLE_TABLE = re.compile(r"Seq Scan on products|SCAN products\b(?! USING)")
ORDERS = [f"sort_by={sort}&order={order}" for sort in LISTING.sorts for order in ("asc", "desc")]


@pytest.fixture
def shelves(app: Flask) -> None:
    """So many products."""
    with app.app_context():
        with unit_of_work():
            tree = samples.plant_tree()
        for start in range(1, PRODUCTS, samples.PRODUCTS_PER_CHUNK):
            with unit_of_work():
                samples.generate_products(1, range(start, start + samples.PRODUCTS_PER_CHUNK), tree, currency="USD")
        with unit_of_work():
            samples.refresh_statistics()
            write_waiting_words()


#: Of every index that lets entries wait, which readers read one by one until autovacuum has come.
WRITE_WAITING = """
    SELECT gin_clean_pending_list(pg_class.oid) FROM pg_class JOIN pg_am ON pg_am.oid = relam
    WHERE amname = 'gin' AND relkind = 'i' AND relname LIKE 'ix_products%'
"""


def write_waiting_words() -> None:
    """Into their indexes, as autovacuum does: otherwise plans depend on whether it came between."""
    if db.engine.dialect.name == "postgresql":
        assert db.session.scalars(text(WRITE_WAITING)).all()


#: Words that a brand has: alone, with words of products, and with those of another brand.
OF_BRANDS = ("inglenook", "ingle", "inglenook chair", "inglenook zzzyx", "inglenook lathom", "jessamine lane lamp")


def reads_the_whole_table(steps: str) -> bool:
    return bool(WHOLE_TABLE.search(steps))


def sorts(steps: str) -> bool:
    # An incremental sort reads an index in its order, and puts only equal values, of which a sku has one, into theirs.
    return bool(re.search(r"^\W*Sort$|TEMP B-TREE FOR ORDER BY", steps, re.MULTILINE))


@pytest.mark.usefixtures("shelves")
def test_lists_searches_and_facets_read_an_index(bob: Caller, explain: Callable[..., str]) -> None:
    newest = body_of(bob.get("/products"))["items"][0]
    word = newest["name"].split()[0]
    narrowed = [f"category_id={newest['category_id']}", f"search={word}", f"sku={newest['sku']}", "search=zzzyx"]
    narrowed += [f"search={words}" for words in OF_BRANDS]

    narrowed += several_values(bob, newest)
    lists = {f"/products?cursor=&{order}" for order in ORDERS}
    walks = {body_of(bob.get(f"{path}&per_page=5"))["links"]["next"].removeprefix("/api/v1") for path in lists}
    plans = {path: explain(bob, path) for path in lists | walks}
    found = {path: explain(bob, path) for path in [f"/products?{one}" for one in narrowed]}
    ranked = {path: explain(bob, path) for path in [f"/products?search={word}&sort_by=relevance"]}
    kinds = {one.partition("&sort_by")[0] for one in narrowed}
    chosen = {one for one in kinds if one.partition("=")[0] in OWNED}
    facets = {path: explain(bob, path) for path in [f"/products/facets?{one}" for one in kinds - chosen]}
    wider = {path: explain(bob, path) for path in [f"/products/facets?{one}" for one in chosen]}

    assert {path: steps for path, steps in plans.items() if sorts(steps)} == {}
    everything = plans | found | ranked | facets
    assert {path: steps for path, steps in everything.items() if reads_the_whole_table(steps)} == {}
    # Of all products is the facet itself, and what shows the others is found by an index.
    assert len(wider) == 6
    assert {path: steps for path, steps in wider.items() if len(WHOLE_TABLE.findall(steps)) > 1} == {}


def several_values(caller: Caller, newest: dict[str, Any]) -> list[str]:
    """Filters that few products pass: with several values, by branch, and by time."""
    some = body_of(caller.get("/products?per_page=5&sort_by=sku"))["items"]
    category = body_of(caller.get(f"/categories/{newest['category_id']}"))
    brands = [one["id"] for one in body_of(caller.get("/brands?per_page=2"))["items"]]
    pairs = {name: ",".join(str(one[name]) for one in some) for name in ("id", "sku", "slug", "category_id")}
    return [
        *(
            f"{name}={values}&sort_by={sort}"
            for name, values in pairs.items()
            for sort in ("created_at", "name", "price")
        ),
        f"id={newest['id']}",
        *(f"brand_id={brands[0]}&sort_by={sort}" for sort in ("created_at", "name", "price")),
        f"brand_id={brands[0]},{brands[1]}",
        f"below={category['parent_id'] or category['id']}",
        f"below={pairs['category_id']}&sort_by=name",
        *(f"{name}_since={newest[f'{name}_at']}&sort_by=price" for name in ("created", "updated")),
        "currency=EUR,CHF&sort_by=name",
        "status=draft,archived",
        *("external_id=erp-1", "external_id=erp-1,erp-2&sort_by=name", "slug=no-such-slug"),
        *("gtin=4006381333931", "gtin=4006381333931,96385074&sort_by=price"),
        "tag=no-such-tag,nor-this",
    ]


#: Words that nothing begins with, that never come together, that few and that many products have; and their mistakes.
SEARCHES = [
    *OF_BRANDS,
    "zzzyx",
    "zzzyx qqqwv",
    "kitchen bathroom",
    "kitchen zzzyx",
    "x" * 64,
    "prairie",
    "kitchen",
    "kichen",
]


class TestASearch:
    """On Debian's PostgreSQL, which compares words that are alike."""

    @pytest.fixture
    def backend(self) -> str:
        """The database that forgives typos."""
        return "postgresql"

    @pytest.fixture
    def app(self, debian_app: Flask) -> Flask:
        """An application on it."""
        empty(debian_app)
        return debian_app

    @pytest.mark.usefixtures("shelves")
    def test_asks_the_indexes_of_words_first(self, bob: Caller, explain: Callable[..., str]) -> None:
        orders = ("sort_by=created_at", "sort_by=name&order=asc", "sort_by=relevance", "sort_by=price&cursor=")
        plans = {
            path: explain(bob, path, every=True)
            for words in SEARCHES
            for path in [f"/products?search={words}&{order}" for order in orders] + [f"/products/facets?search={words}"]
        }

        # What a fifth of the products have is soon found by looking at one after the other.
        rare = {path: steps for path, steps in plans.items() if not re.search(r"search=kitchen(&|$)", path)}
        assert {path: steps for path, steps in rare.items() if reads_the_whole_table(steps)} == {}
        # By the index of the ids, they are looked up; by any other, walked.
        walked = {path for path, steps in rare.items() if re.search(r"using ix_products_(?!id\b)", steps)}
        assert walked == set()
        assert all("Bitmap Index Scan on ix_products_search_vector" in steps for steps in rare.values())
        forgiven = {path for path, steps in plans.items() if "ix_products_search_trigrams" in steps}
        assert {path for path in forgiven if "cursor" in path} == set()
        assert any("search=kichen" in path for path in forgiven)
