"""Whatever is written to families, their rows say what follows from it, and a cache answers as the database does.

A seeded random program of writes on a small catalogue. After each the rows are computed again, and some reads of two
applications on one database are compared. FAMILY_STEPS says how many writes there are, and FAMILY_SEED chooses others,
a hundred at least.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, NamedTuple

import pytest
from flask import Flask
from sqlalchemy import func, select

from app.api.tasks import TASKS
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db
from app.features.media import receiving, settling
from app.features.media.models import Asset, AssetStatus
from app.features.products import families
from app.features.products.ledger import MOVEMENTS
from app.features.products.models import INHERITED, PRODUCTS, ProductKind, ProductStatus, option_key, search_text
from app.features.products.values import TABLE, Definitions
from tests.conftest import Caller, body_of
from tests.web.test_response_cache import queries_of, shown

STEPS = int(os.environ.get("FAMILY_STEPS", "72"))
SEED = int(os.environ.get("FAMILY_SEED", "2"))
#: How many lists, and how many reads of one product, are compared after each write.
LISTS, DETAILS = 3, 2
ALL = "/products?kind=single,parent,variant&per_page=100"
#: Lists and facets of what the writes change.
PATHS = (
    *(ALL, "/products?per_page=100", "/products?per_page=100&include=variants,type", "/products?cursor=&per_page=5"),
    *("/products?tag=t1&per_page=100", "/products?attr.size=M&per_page=100", "/products?search=red&per_page=100"),
    *("/products?search=deep&per_page=100", "/products?complete=false&per_page=100"),
    *("/products?in_stock=false&per_page=100", "/products?attr.width=1..3&in_stock=true&per_page=100"),
    "/products?min_price=2.00&max_price=5.00&per_page=100",
    "/products?kind=sellable&sort_by=price&per_page=100",
    *("/products?kind=variant&status=active&per_page=100", "/products?status=draft&per_page=100"),
    *("/products?category_id={category}&per_page=100", "/products?category_id={category}&tag=t1&per_page=100"),
    *("/products?category_id={category}&attr.size=M&per_page=100", "/products?type_id={type}&per_page=100"),
    "/products?brand_id={brand}&in_stock=true&min_price=2.00&per_page=100",
    "/products?brand_id={brand}&attr.maker=x&per_page=100",
    *("/products?per_page=100&include=media", "/products?kind=variant&include=variants,media"),
    *("/products/facets", "/products/facets?attr.size=M", "/products/facets?tag=t1"),
    *("/products/facets?max_price=5.00&currency=USD", "/products/facets?category_id={category}"),
    "/products/facets?category_id={category}&attr.size=M,L&in_stock=true",
)
#: What is read of one product.
PARTS = ("", "?include=variants", "/variants", "?include=media", "/media")
#: What becomes of a picture, by what it is.
NEXT = {
    AssetStatus.PROCESSING: AssetStatus.READY,
    AssetStatus.READY: AssetStatus.FAILED,
    AssetStatus.FAILED: AssetStatus.PROCESSING,
}
#: In place of a method: a worker changes a picture, by its id.
RENDER = "RENDER"

pytestmark = pytest.mark.timeout(120 + 2 * STEPS)

Make = Callable[..., dict[str, Any]]
Row = Mapping[Any, Any]
#: Who reads, and the path with the query.
Read = tuple[str, str]


class Write(NamedTuple):
    """A request that writes, which may be refused."""

    method: str
    path: str
    content: Any = None


@dataclass(frozen=True)
class Rows:
    """Every product, and what the database has beside it."""

    products: Mapping[int, Row]
    index: Mapping[int, set[tuple[Any, ...]]]
    moved: Mapping[int, int]
    definitions: Definitions

    @classmethod
    def read(cls, app: Flask) -> "Rows":
        """The rows as they are now."""
        with app.app_context(), unit_of_work(reading=True):
            found = db.session.execute(select(PRODUCTS).order_by(PRODUCTS.c.id)).mappings()
            products = {row["id"]: dict(row) for row in found}
            index: dict[int, set[tuple[Any, ...]]] = {}
            for row in db.session.execute(select(TABLE)).mappings():
                index.setdefault(row["product_id"], set()).add(
                    (row["listed_id"], row["attribute_id"], row["text"], row["number"])
                )
            moved = select(MOVEMENTS.c.product_id, func.sum(MOVEMENTS.c.delta)).group_by(MOVEMENTS.c.product_id)
            sums = {product_id: int(each) for product_id, each in db.session.execute(moved)}
            return cls(products, index, sums, Definitions.of(products.values()))

    def living(self, *kinds: str) -> list[Row]:
        """The products that are not deleted, of these kinds."""
        return [row for row in self.products.values() if row["deleted_at"] is None and row["kind"] in kinds]

    @property
    def deleted(self) -> list[Row]:
        """The products that are deleted."""
        return [row for row in self.products.values() if row["deleted_at"] is not None]

    def faults(self) -> Iterator[tuple[Any, ...]]:
        """Where a row does not say what follows: its kind and sku, the column, what it says and what it should."""
        for row in self.products.values():
            said = {**row, "missing": row["missing"] or None, "index": self.index.get(row["id"], set())}
            for name, value in self._following(row).items():
                if said[name] != value:
                    yield row["kind"], row["sku"], name, said[name], value

    def _following(self, row: Row) -> dict[str, Any]:
        """What follows for a product from the rest."""
        follows: dict[str, Any] = {"index": self._indexed(row)}
        if row["kind"] != ProductKind.PARENT:
            follows["stock"] = self.moved.get(row["id"], 0)
        if row["deleted_at"] is None:
            follows |= self._copied(row) | self._assessed(row)
            follows |= {"search_text": search_text(**row), "option_key": option_key(row["options"])}
        return follows

    def _copied(self, row: Row) -> dict[str, Any]:
        """What a variant has of its parent, which lives."""
        if row["parent_id"] is None:
            return {}
        parent = self.products[row["parent_id"]]
        options = {name: row["options"].get(name) for name in parent["options"]} if row["options"] else {}
        of_parent = {"parent_status": parent["status"], "deleted_at": parent["deleted_at"]}
        return {name: parent[name] for name in INHERITED} | of_parent | {"options": options}

    def _assessed(self, row: Row) -> dict[str, Any]:
        """What follows from attributes, and for a parent from its variants."""
        columns = self.definitions.assess(row, self.products.get(row["parent_id"])).columns
        return columns | (families.totals_of(self._variants_of(row)) if row["kind"] == ProductKind.PARENT else {})

    def _variants_of(self, parent: Row) -> list[Row]:
        variants = [row for row in self.living(ProductKind.VARIANT) if row["parent_id"] == parent["id"]]
        return sorted(variants, key=lambda row: (row["position"], row["id"]))

    def _indexed(self, row: Row) -> set[tuple[Any, ...]]:
        """What a product is found by: lists show the parent for an active variant, but for its tags."""
        if row["deleted_at"] is not None:
            return set()
        listed = tags_listed = row["id"]
        if row["kind"] == ProductKind.VARIANT:
            listed = row["parent_id"] if row["status"] == ProductStatus.ACTIVE else None
            tags_listed = None
        found = self.definitions.assess(row, self.products.get(row["parent_id"])).values
        return {(tags_listed if value[0] is None else listed, *value) for value in found}


@dataclass
class Writer:
    """Makes up writes of the rows that there are."""

    chance: Random
    categories: Sequence[int]
    brands: Sequence[int]
    types: Sequence[int]
    media: Sequence[int]
    rows: Rows = field(init=False)
    turns: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def kinds(self) -> Mapping[str, tuple[int, Callable[[], Write | None]]]:
        """By the name of a kind of write: how often it has its turn, and what makes one where there is a row for it."""
        return {
            "create single": (1, self._create_single),
            "create parent": (2, self._create_parent),
            "add variant": (1, self._add_variant),
            "adopt": (2, self._adopt),
            "edit variant": (3, self._edit_variant),
            "edit parent": (3, self._edit_parent),
            "edit single": (3, self._edit_single),
            "name options": (2, self._name_options),
            "replace": (2, self._replace),
            "move stock": (2, self._move_stock),
            "delete": (1, self._delete),
            "restore": (2, self._restore),
            "batch": (4, self._batch),
            "place": (3, self._place),
            "render": (2, self._render),
        }

    def make(self, rows: Rows) -> tuple[str, Write]:
        """A write, and the name of its kind; each kind has its turn."""
        self.rows = rows
        while True:
            if not self.turns:
                self.turns = [name for name, (weight, _) in self.kinds.items() for _ in range(weight)]
                self.chance.shuffle(self.turns)
            name = self.turns.pop()
            write = self.kinds[name][1]()
            if write is not None:
                return name, write

    def _sku(self) -> str:
        return f"K{next(self.numbers)}"

    def _is(self, likelihood: float) -> bool:
        return self.chance.random() < likelihood

    def _any(self, *kinds: str) -> Row | None:
        rows = self.rows.living(*kinds)
        return self.chance.choice(rows) if rows else None

    def _some(self, possible: Mapping[str, tuple[float, Sequence[Any]]]) -> dict[str, Any]:
        """Some of the members, each as likely as stated, with one of its values."""
        return {name: self.chance.choice(values) for name, (each, values) in possible.items() if self._is(each)}

    def _options(self) -> dict[str, str]:
        return {"size": self.chance.choice("SML"), "colour": self.chance.choice(["red", "blue"])}

    def _attributes(self) -> dict[str, Any]:
        width, maker = self.chance.choice([1, 2, 5]), self.chance.choice(["x", "y z"])
        return self.chance.choice([{}, {"width": width}, {"maker": maker}, {"width": width, "maker": maker}])

    def _common(self) -> dict[str, Any]:
        """Members of a parent, which its variants have of it, and of a single."""
        return self._some(
            {
                "tags": (0.4, [[], ["t1"], ["t1", "t2"]]),
                "attributes": (0.4, [self._attributes()]),
                "type_id": (0.3, [None, *self.types]),
                "brand_id": (0.3, [None, *self.brands]),
                "category_id": (0.3, self.categories),
                "status": (0.4, ["active", "active", "draft", "archived"]),
                "name": (0.2, ["Red chair", "Blue table", "Lamp"]),
                "currency": (0.15, ["USD", "JPY"]),
            }
        )

    def _sold(self) -> dict[str, Any]:
        """Members of a single or a variant that a parent does not have itself."""
        return self._some(
            {
                "price": (0.5, ["1.00", "3.00", "4.50", "9.00"]),
                "attributes": (0.4, [self._attributes()]),
                "status": (0.4, ["active", "draft", "archived"]),
                "track_stock": (0.3, [True, False]),
                "mpn": (0.2, ["m-1", None]),
            }
        )

    def _own(self) -> dict[str, Any]:
        """Members of a variant."""
        return self._sold() | self._some({"options": (0.3, [self._options(), {}]), "position": (0.2, [0, 1, 2])})

    def _new_variant(self) -> dict[str, Any]:
        return {"price": "3.00", "stock": self.chance.choice([0, 2]), **self._own(), "sku": self._sku()}

    def _create_single(self) -> Write:
        home, stock = self.chance.choice(self.categories), self.chance.choice([0, 3])
        single = {"name": "Red chair", "price": "2.00", "category_id": home, "stock": stock, **self._common()}
        return Write("POST", "/products", {**single, "sku": self._sku()})

    def _new_parent(self, *options: list[str]) -> dict[str, Any]:
        home = self.chance.choice(self.categories)
        parent = {"name": "Shirt", "category_id": home, **self._common()}
        return {**parent, "options": self.chance.choice(options), "sku": self._sku()}

    def _create_parent(self) -> Write:
        variants = [self._new_variant() for _ in range(self.chance.randint(0, 3))]
        single = self._any(ProductKind.SINGLE)
        if single and self._is(0.3):
            variants.append({"id": single["id"]})
        parent = self._new_parent(["size", "colour"], ["size", "colour"], [])
        return Write("POST", "/products", {**parent, "variants": variants})

    def _add_variant(self) -> Write | None:
        parent = self._any(ProductKind.PARENT)
        return Write("POST", f"/products/{parent['id']}/variants", self._new_variant()) if parent else None

    def _adopt(self) -> Write | None:
        parent, single = self._any(ProductKind.PARENT), self._any(ProductKind.SINGLE)
        if not parent or not single:
            return None
        options = self.chance.choice([self._options(), {}])
        return Write("POST", f"/products/{parent['id']}/variants", {"id": single["id"], "options": options})

    def _edit_variant(self) -> Write | None:
        variant = self._any(ProductKind.VARIANT)
        return Write("PATCH", f"/products/{variant['id']}", self._own() or {"mpn": "x"}) if variant else None

    def _edit_parent(self) -> Write | None:
        parent = self._any(ProductKind.PARENT)
        return Write("PATCH", f"/products/{parent['id']}", self._common() or {"mpn": "p"}) if parent else None

    def _edit_single(self) -> Write | None:
        single = self._any(ProductKind.SINGLE)
        return Write("PATCH", f"/products/{single['id']}", self._common() | self._sold()) if single else None

    def _name_options(self) -> Write | None:
        parent = self._any(ProductKind.PARENT)
        options = self.chance.choice([["size"], ["colour", "size"], ["size", "colour"], []])
        return Write("PATCH", f"/products/{parent['id']}", {"options": options}) if parent else None

    def _replace(self) -> Write | None:
        row = self._any(ProductKind.PARENT, ProductKind.VARIANT)
        if row is None:
            return None
        same = {name: row[name] for name in (*INHERITED, "attributes", "status", "options")}
        if row["kind"] == ProductKind.PARENT:
            return Write("PUT", f"/products/{row['id']}", same | self._common())
        sold = {"price": str(row["price"]), "track_stock": row["track_stock"]}
        return Write("PUT", f"/products/{row['id']}", same | sold | self._own())

    def _move_stock(self) -> Write | None:
        row = self._any(ProductKind.SINGLE, ProductKind.VARIANT)
        movement = self.chance.choice([{"delta": 2, "reason": "receipt"}, {"delta": -1, "reason": "sale"}])
        return Write("POST", f"/products/{row['id']}/stock-movements", movement) if row else None

    def _place(self) -> Write | None:
        row = self._any(ProductKind.SINGLE, ProductKind.PARENT, ProductKind.PARENT)
        if row is None:
            return None
        ids = [each["id"] for each in self.rows.living(ProductKind.VARIANT) if each["parent_id"] == row["id"]]
        shown = self.chance.sample(self.media, self.chance.randint(0, len(self.media)))
        items = [{"media_id": each, "variants": self.chance.sample(ids, min(len(ids), 1))} for each in shown]
        return Write("PUT", f"/products/{row['id']}/media", items)

    def _render(self) -> Write:
        return Write(RENDER, str(self.chance.choice(self.media)))

    def _delete(self) -> Write | None:
        row = self._any(*ProductKind)
        return Write("DELETE", f"/products/{row['id']}") if row else None

    def _restore(self) -> Write | None:
        deleted = self.rows.deleted
        return Write("POST", f"/products/{self.chance.choice(deleted)['id']}/restore") if deleted else None

    def _batch(self) -> Write | None:
        living = self.rows.living(*ProductKind)
        items = [self._item(row) for row in self.chance.sample(living, min(len(living), self.chance.randint(0, 4)))]
        if self._is(0.6):
            items += self._new_family()
        self.chance.shuffle(items)
        mode = self.chance.choice(["partial", "partial", "atomic"])
        return Write("POST", "/products/bulk", {"mode": mode, "items": items}) if items else None

    def _item(self, row: Row) -> dict[str, Any]:
        """A change of a product, or a single that joins a family."""
        if row["kind"] == ProductKind.PARENT:
            return {"sku": row["sku"], **self._common()}
        item = {"sku": row["sku"], **self._some({"stock": (0.3, [0, 4])})}
        if row["kind"] == ProductKind.VARIANT:
            return item | self._own()
        parent = self._any(ProductKind.PARENT)
        if not parent or self._is(0.7):
            return item | self._sold() | self._common()
        options = self.chance.choice([self._options(), {}])
        return item | self._sold() | {"parent_sku": parent["sku"], "options": options}

    def _new_family(self) -> list[dict[str, Any]]:
        """A parent, and variants of it or of another."""
        parent, other = self._new_parent(["size", "colour"]), self._any(ProductKind.PARENT)
        skus = [parent["sku"]] * 2 + ([other["sku"]] if other else [])
        variants = [{**self._new_variant(), "parent_sku": self.chance.choice(skus)} for _ in range(3)]
        return [parent, *variants[: self.chance.randint(0, 3)]]


@dataclass
class Comparison:
    """Two applications on one database, of which one has a cache, and what readers saw of them."""

    cached: Flask
    plain: Flask
    readers: Mapping[str, Caller]
    #: By who read a path and the ETag that it had: the body.
    bodies: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    #: By a product and its counters: what an editor's list shows of it.
    items: dict[tuple[int, int, int], Any] = field(default_factory=dict)
    seen: dict[Read, dict[str, Any]] = field(default_factory=dict)
    changed: int = 0
    hits: int = 0

    def warm(self, paths: Sequence[str]) -> None:
        """Let the cache have what is read of these paths."""
        reads = [(who, path) for path in paths for who in self.readers]
        self.seen = {read: shown(self._get(read, self.cached)) for read in reads}

    def compare(self, write: Write) -> None:
        """Compare what was read before a write with what is there."""
        for read, before in self.seen.items():
            answer, there = self._get(read, self.cached), self._get(read, self.plain)
            assert shown(answer) == shown(there), (write, read)
            self.changed += shown(there) != before
            self.hits += answer.status_code == 200 and queries_of(answer) == 1
            if etag := there.headers.get("ETag"):
                body = self.bodies.setdefault((*read, etag), there.data)
                assert body == there.data, (write, read, "the ETag of another body")
        self._compare_items(write)

    def _compare_items(self, write: Write) -> None:
        """One version of a product is shown in one way."""
        for item in self._get(("alice", ALL), self.plain).json["items"]:
            counters = (item["id"], item["version"], item["live"])
            assert self.items.setdefault(counters, item) == item, write

    def _get(self, read: Read, app: Flask) -> Any:
        who, path = read
        return self.readers[who].on(app).get(path)


@pytest.fixture
def writer(alice: Caller, make_category: Make, make_brand: Make, make_attribute: Make, make_type: Make) -> Writer:
    """Writes in two categories, of two brands and two types, which need different attributes, and of four pictures."""
    make_attribute(code="size", filterable=True, searchable=True)
    make_attribute(code="colour", type="choice", filterable=True, searchable=True)
    make_attribute(code="width", type="integer", filterable=True)
    make_attribute(code="maker", filterable=True, searchable=True)
    size, colour = {"code": "size", "is_option": True}, {"code": "colour", "is_option": True}
    wide = make_type(attributes=[size, colour, {"code": "width", "required": True}, {"code": "maker"}])
    made = make_type(attributes=[size, {"code": "width"}, {"code": "maker", "required": True}])
    categories, brands = [make_category()["id"] for _ in range(2)], [make_brand()["id"] for _ in range(2)]
    urls = [f"https://pictures.example/{number}" for number in range(4)]
    media = [body_of(alice.post("/media", {"url": url}))["id"] for url in urls]
    return Writer(Random(SEED), categories, brands, [wide["id"], made["id"]], media)


def render(app: Flask, media_id: int) -> int:
    """Let a picture be ready, fail or begin again, and products follow, as workers do; the status of a response."""
    with app.app_context(), unit_of_work():
        asset = receiving.lock_asset(Asset.id == media_id)
        asset.status = NEXT[asset.status]
        is_ready = asset.status == AssetStatus.READY
        size = {"width": 8, "height": 8, "type": "image/webp"}
        asset.sources = [{"file": f"{media_id:064x}-8.webp", **size}] if is_ready else []
        asset.is_settled = False
        db.session.flush()
        settling.order_settling()
    Worker({settling.KIND: TASKS[settling.KIND]}, app.app_context).drain()
    return 200


def send(caller: Caller, write: Write) -> int:
    """The status of a write, which may be refused, but not fail."""
    if write.method == RENDER:
        return render(caller.app, int(write.path))
    headers = {} if write.method == "POST" else {"If-Match": "*"}
    content = {} if write.content is None else {"json": write.content}
    answer = caller.call(write.method, write.path, headers=headers, **content)
    assert answer.status_code < 500, (write, answer.get_data(as_text=True))
    return answer.status_code


@pytest.fixture
def comparison(app: Flask, app_with: Callable[..., Flask], alice: Caller, bob: Caller) -> Comparison:
    """An editor and a shopper read."""
    return Comparison(app, app_with(answer_cache_bytes=0), {"alice": alice, "bob": bob})


def test_every_write_of_a_family_leaves_what_follows_in_its_rows_and_in_the_cache(
    root: Caller, writer: Writer, comparison: Comparison
) -> None:
    names = {"category": writer.categories[0], "brand": writer.brands[0], "type": writer.types[0]}
    paths = [path.format(**names) for path in PATHS]
    # Apart from each other, so that the writes are the same whatever is read.
    chance = Random(SEED)
    succeeded: Counter[str] = Counter()
    rows = Rows.read(comparison.plain)

    for _ in range(STEPS):
        kind, write = writer.make(rows)
        details = [f"/products/{row['id']}{part}" for row in rows.living(*ProductKind) for part in PARTS]
        comparison.warm(chance.sample(paths, LISTS) + chance.sample(details, min(len(details), DETAILS)))
        # As one of two workers gets it.
        succeeded[kind] += send(root.on(chance.choice([comparison.cached, comparison.plain])), write) < 300
        rows = Rows.read(comparison.plain)
        assert [*rows.faults()] == [], (f"FAMILY_SEED={SEED}", write)
        comparison.compare(write)

    # It makes every kind of write, and compares what these change.
    assert {kind for kind, times in succeeded.items() if times} == set(writer.kinds)
    assert comparison.changed > STEPS / 2
    assert comparison.hits > 0
