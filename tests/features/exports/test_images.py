"""The column of the pictures in exports, which an import takes back."""

import csv
import io
import json
from typing import Any

import pytest

from app.core.query_stats import QueryStats, current_stats
from app.core.transactions import unit_of_work
from app.features.exports import service as exports
from app.features.exports.files import MEDIA_TYPES, FileFormat
from tests.conftest import body_of, rows_of
from tests.features.conftest import Shop, sha256_of


def save(shop: Shop, *items: dict[str, Any]) -> None:
    """Write products, in one category."""
    answer = shop.alice.post("/products/bulk", {"items": items})
    assert answer.status_code == 200, answer.get_data(as_text=True)


@pytest.fixture
def catalogue(shop: Shop) -> Shop:
    """A single product and a family, with pictures that are kept, links, pending and failed, in a mixed order."""
    category = body_of(shop.alice.post("/categories", {"name": "Things"}))["id"]
    own = {"name": "Thing", "category_id": category}
    save(
        shop,
        {"sku": "A", "price": "1.00", **own, "images": [shop.url(1), shop.url("no")]},
        {"sku": "P", "options": ["size"], **own, "images": [shop.url(number) for number in (3, 4, 5)]},
        {
            "sku": "S",
            "parent_sku": "P",
            "price": "1.00",
            "options": {"size": "S"},
            "images": [shop.url(3), shop.url(6)],
        },
        {"sku": "M", "parent_sku": "P", "price": "1.00", "options": {"size": "M"}, "images": [shop.url(5)]},
    )
    shop.work()
    link = body_of(shop.alice.post("/media", {"url": shop.url(8), "keep": "link"}))["id"]
    placed = [*shop.placements("A"), {"media_id": link, "alt": "A link", "variants": []}]
    assert shop.alice.put(f"/products/{shop.product('A')['id']}/media", placed).status_code == 200
    save(shop, {"sku": "M", "images": [shop.url(9)]})
    return shop


def images_of(shop: Shop, query: str = "") -> dict[str, str]:
    """The cell of each product, by sku."""
    text = shop.alice.get(f"/products/export{query}").get_data(as_text=True)
    return {row["sku"]: row["images"] for row in csv.DictReader(io.StringIO(text, newline=""))}


class TestImagesOfExports:
    def test_are_hashes_of_copies_and_urls_of_others(self, catalogue: Shop) -> None:
        assert images_of(catalogue) == {
            "A": f"{sha256_of(1)}|{catalogue.url('no')}|{catalogue.url(8)}",
            "P": sha256_of(4),
            "S": f"{sha256_of(3)}|{sha256_of(6)}",
            "M": f"{sha256_of(5)}|{catalogue.url(9)}",
        }

    def test_of_a_variant_alone_are_its_own(self, catalogue: Shop) -> None:
        assert images_of(catalogue, "?sku=M") == {"M": f"{sha256_of(5)}|{catalogue.url(9)}"}

    def test_of_ndjson_are_lists(self, catalogue: Shop) -> None:
        lines = catalogue.alice.get("/products/export?format=ndjson&sku=S").get_data(as_text=True).splitlines()

        assert [json.loads(line)["images"] for line in lines] == [[sha256_of(3), sha256_of(6)]]

    @pytest.mark.parametrize("file_format", list(FileFormat))
    def test_come_back_and_change_nothing(self, catalogue: Shop, file_format: FileFormat) -> None:
        text = catalogue.alice.get(f"/products/export?format={file_format}").get_data(as_text=True)
        before = rows_of(catalogue.app, "products"), [catalogue.media_of(sku) for sku in "AP"]

        ordered = catalogue.order(text, "import", media_type=MEDIA_TYPES[file_format])

        assert [ordered[name] for name in ("unchanged", "rows_read", "images")] == [4, 4, 8]
        assert (rows_of(catalogue.app, "products"), [catalogue.media_of(sku) for sku in "AP"]) == before

    def test_of_the_release_before_are_exports_too(self, catalogue: Shop) -> None:
        text = catalogue.alice.get("/products/export?format=csv").get_data(as_text=True)
        rows = [row[:-1] for row in csv.reader(io.StringIO(text, newline=""))]
        rows[1][rows[0].index("name")] = "Two  blanks"
        old = io.StringIO(newline="")
        csv.writer(old).writerows(rows)

        catalogue.order(old.getvalue(), "import")

        assert catalogue.product("A")["name"] == "Two  blanks"
        assert len(catalogue.media_of("A")) == 3

    def test_cost_one_statement_more_for_each_batch(self, catalogue: Shop) -> None:
        token = current_stats.set(counted := QueryStats())
        with catalogue.app.app_context(), unit_of_work(reading=True):
            batches = list(exports.iter_products(batch=2))
        current_stats.reset(token)

        # Two batches of two, and one that finds no more; and the paths of the categories.
        assert [len(batch) for batch in batches] == [2, 2]
        assert counted.statements == 2 * 2 + 1 + 1
