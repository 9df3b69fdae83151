"""No read after an acknowledged write is stale, from any of four workers, where rows move among lists and addresses.

Each write is a move of a shop (tests/moves.py): a product gets another category, price or key, a category another
parent, a user another role. What a read must show is computed from the shop, and not read from the server. Reads that
the move changes, and some that it does not, are sent before it, so that every worker can cache them, and after it.

STALENESS_PAIRS says how many moves there are, each with the reads before and after it.
"""

import logging
import os
import re
import threading
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any

import pytest
from flask import Flask

from app.api.tasks import TASKS
from app.core.worker import Worker
from app.features.facets.service import EDGES
from app.security.permissions import Role
from tests.conftest import Caller, body_of
from tests.live.conftest import environment, worker_pids
from tests.live.test_staleness import SETTINGS, WORKERS, Record
from tests.live.wire import API, Answer, Client, wait_for
from tests.moves import (
    BRAND_NAMES,
    MATERIALS,
    NAMES,
    NDJSON,
    PATHS,
    PRODUCT_KEYS,
    ROW_KEYS,
    SCOPES,
    TAGS,
    Move,
    Row,
    Shop,
)
from tests.servers import gunicorn_server

PAIRS = int(os.environ.get("STALENESS_PAIRS", "60"))
LANES = 3
#: Of a move, how many reads that it changes are compared, how many others, and how often each is sent.
CHANGED, OTHERS, COPIES = 7, 2, 5
#: Who reads with each move, of all who can.
READERS = 3
PER_PAGE = 4
MANY = 1000
#: Of a product, what is compared.
MEMBERS = (*PRODUCT_KEYS, "name", "price", "stock", "track_stock", "status", "tags", "description")

#: To be seen with --log-cli-level=INFO.
log = logging.getLogger(__name__)

pytestmark = [pytest.mark.live, pytest.mark.timeout(300 + 2 * PAIRS)]

SignIn = Callable[..., Caller]
#: What of the pages of an answer to look at, and what must be there.
Look = tuple[Callable[[list[Any]], Any], Any]
#: By the path.
Looks = dict[str, Look]
Credentials = Mapping[str, Mapping[str, str]]


# What is looked at. A read without cursor has one page.


def row_in(pages: list[Any]) -> Any:
    return {name: pages[0].get(name) for name in MEMBERS}


def rows_in(pages: list[Any]) -> Any:
    return {one["sku"]: row_in([one]) for one in pages[0]["items"]}, pages[0]["meta"]["total"]


def page_in(pages: list[Any]) -> Any:
    return [row_in([one]) for page in pages for one in page["items"]], pages[0]["meta"].get("total")


def embedded_in(pages: list[Any]) -> Any:
    return [pages[0][name] and pages[0][name]["name"] for name in ("category", "brand")]


def node_in(pages: list[Any]) -> Any:
    return {name: pages[0].get(name) for name in ("name", "slug", "external_id", "parent_id")}


def nodes_in(pages: list[Any]) -> Any:
    return [node_in([one]) for page in pages for one in page["items"]], pages[0]["meta"].get("total")


def coded_in(pages: list[Any]) -> Any:
    return coded(pages[0])


def all_coded_in(pages: list[Any]) -> Any:
    return [coded(one) for page in pages for one in page["items"]], pages[0]["meta"].get("total")


def coded(row: Row) -> Row:
    """What is compared of an attribute or a product type."""
    listed = [each["code"] for each in row.get("attributes", [])]
    return {"listed": listed, **{name: row.get(name) for name in ("code", "label", "filterable")}}


def parent_in(pages: list[Any]) -> Any:
    return pages[0]["parent"] and pages[0]["parent"]["name"]


def branch_of(category_id: int) -> Callable[[list[Any]], Any]:
    """The names in the branch of a root, with those below each."""

    def names(node: Any) -> Any:
        return node["name"], [names(one) for one in node["children"]]

    return lambda pages: next((names(one) for one in pages[0]["items"] if one["id"] == category_id), None)


def counts_in(pages: list[Any]) -> Any:
    facets = pages[0]
    return {
        "total": facets["total"],
        "category": {one["name"]: one["count"] for one in facets["category"]},
        "brand": {one["name"]: one["count"] for one in facets["brand"]},
        "tag": {one["value"]: one["count"] for one in facets["tag"]},
        "price": [one["count"] for one in facets["price"]],
        "stock": [one["count"] for one in facets["stock"]],
        "status": {one["value"]: one["count"] for one in facets["status"]},
    }


@dataclass
class View:
    """What somebody must see of a shop."""

    shop: Shop
    who: str

    def looks(self) -> Looks:
        """Where it can be seen, and what must be there. Rows without an id are seen in lists and by their keys."""
        looks: Looks = {}
        for permission, kinds in (
            ("products:read", [self._lists, self._pages, self._products, self._facets]),
            ("categories:read", [self._categories]),
            ("brands:read", [self._brands]),
            ("types:read", [self._attributes, self._types]),
        ):
            found = {path: look for kind in kinds for path, look in kind()}
            looks |= found if self.may(permission) else {path: (see, (403, "")) for path, (see, _) in found.items()}
        return looks

    def may(self, permission: str) -> bool:
        if self.who == "key":
            return permission in self.shop.scopes
        is_editor = self.who in {"root", "alice"} or (self.who == "dora" and self.shop.role == "editor")
        return permission.endswith(":read") or is_editor

    @property
    def products(self) -> list[Row]:
        """The products that are seen, in the order in which they were made."""
        is_editor = self.may("products:write")
        living = sorted(self.shop.living().items())
        return [one for _, one in living if is_editor or one["status"] == "active"]

    def _filters(self) -> Iterator[tuple[str, Callable[[Row], bool]]]:
        shop = self.shop
        yield "", lambda _: True
        yield "&status=active", lambda one: one["status"] == "active"
        yield "&status=draft,archived", lambda one: one["status"] != "active"
        yield "&in_stock=true", in_stock
        yield "&in_stock=false", lambda one: not in_stock(one)
        yield "&min_price=30", lambda one: Decimal(one["price"]) >= 30
        yield "&max_price=8.50", lambda one: Decimal(one["price"]) <= Decimal("8.50")
        yield "&min_price=8.50&max_price=80.50", lambda one: 8.5 <= Decimal(one["price"]) <= 80.5
        for word in (*NAMES, *BRAND_NAMES, *MATERIALS):
            yield f"&search={word[:5].lower()}", partial(self._has_word, word)
        for number, category in there(shop.categories):
            yield f"&category_id={category['id']}", partial(refers_to, "category", number)
            yield f"&below={category['id']}", partial(self._is_filed_below, number)
        for number, brand in there(shop.brands):
            yield f"&brand_id={brand['id']}", partial(refers_to, "brand", number)

    def _lists(self) -> Iterator[tuple[str, Look]]:
        tagged = f"tag={self.shop.tag}"
        for query, fits in self._filters():
            yield f"/products?{tagged}{query}&per_page=100", (rows_in, rows_of(filter(fits, self.products)))
        root = self.shop.categories[self.shop.root]["id"]
        for tag in TAGS:
            found = [one for one in self.products if tag in one["tags"]]
            yield f"/products?tag={tag}&below={root}&per_page=100", (rows_in, rows_of(found))
        for key in PRODUCT_KEYS:
            for value in self.shop.key_values("products", key):
                found = [one for one in self.products if one[key] == value]
                yield f"/products?{key}={value}", (rows_in, rows_of(found))
        for number, category in there(self.shop.categories):
            found = [one for one in self.products if self._is_filed_below(number, one)]
            yield f"/categories/{category['id']}/products?per_page=100", (rows_in, rows_of(found))

    def _pages(self) -> Iterator[tuple[str, Look]]:
        orders: Mapping[str, Callable[[Row], Any]] = {
            "price": lambda one: Decimal(one["price"]),
            "name": lambda one: one["name"],
            "stock": lambda one: one["stock"],
            "sku": lambda one: one["sku"],
            "created_at": lambda _: 0,
        }
        tagged = f"tag={self.shop.tag}"
        for query, fits in (("", lambda _: True), ("&in_stock=true", in_stock)):
            found = [one for one in self.products if fits(one)]
            for sort, key in orders.items():
                for order in ("asc", "desc"):
                    path = f"/products?{tagged}{query}&sort_by={sort}&order={order}&per_page={PER_PAGE}"
                    # The ids, which end every order, are in the order in which the products were made.
                    ordered = [row_of(one) for one in sorted(found, key=key)]
                    if order == "desc":
                        ordered.reverse()
                    yield f"{path}&cursor=", (page_in, (ordered, None))
                    for page in (1, 2):
                        shown = ordered[(page - 1) * PER_PAGE : page * PER_PAGE]
                        yield f"{path}&page={page}", (page_in, (shown, len(found)))

    def _products(self) -> Iterator[tuple[str, Look]]:
        seen = self.products
        for _, one in there(self.shop.products):
            yield f"/products/{one['id']}", (row_in, row_of(one) if one in seen else (404, ""))
            names = [self._name("categories", one["category"]), self._name("brands", one["brand"])]
            path = f"/products/{one['id']}?include=category,brand"
            yield path, (embedded_in, names if one in seen else (404, ""))
        yield from self._by_key("products", PRODUCT_KEYS, row_in, row_of)

    def _by_key(
        self, kind: str, keys: tuple[str, ...], see: Callable[[list[Any]], Any], expect: Callable[[Row], Any]
    ) -> Iterator[tuple[str, Look]]:
        rows = getattr(self.shop, kind)
        seen = self.products if kind == "products" else list(rows.values())
        for key in keys:
            for value in self.shop.key_values(kind, key):
                path = f"/{PATHS.get(kind, kind)}/by/{key}/{value}"
                now = next((one for one in seen if one[key] == value), None)
                former = rows.get(self.shop.former_holder(kind, value)) if key == "slug" else None
                if now:
                    yield path, (see, expect(now))
                elif former and former in seen:
                    yield path, (see, (308, former["slug"]))
                else:
                    yield path, (see, (404, ""))

    def _facets(self) -> Iterator[tuple[str, Look]]:
        for number, category in there(self.shop.categories):
            found = [one for one in self.products if self._is_filed_below(number, one)]
            yield f"/products/facets?below={category['id']}&currency=USD", (counts_in, self._counts(found))
            for word in (NAMES[0], BRAND_NAMES[0]):
                path = f"/products/facets?below={category['id']}&currency=USD&search={word[:5].lower()}"
                yield path, (counts_in, self._counts([one for one in found if self._has_word(word, one)]))

    def _counts(self, found: list[Row]) -> Any:
        categories = Counter(self._name("categories", one["category"]) for one in found)
        brands = Counter(self._name("brands", one["brand"]) for one in found if one["brand"])
        bands = Counter(bisect(EDGES, Decimal(one["price"])) for one in found)
        stocked, statuses = sum(map(in_stock, found)), Counter(one["status"] for one in found)
        return {
            "total": len(found),
            "category": dict(categories) if self.may("categories:read") else {},
            "brand": dict(brands) if self.may("brands:read") else {},
            "tag": dict(Counter(tag for one in found for tag in one["tags"])),
            "price": [count for _, count in sorted(bands.items())],
            "stock": [stocked, len(found) - stocked],
            "status": {status: statuses[status] for status in ("draft", "active", "archived")},
        }

    def _categories(self) -> Iterator[tuple[str, Look]]:
        shop, numbers = self.shop, {one["slug"]: number for number, one in self.shop.categories.items()}
        root = shop.categories[shop.root]["id"]
        by_name = sorted(shop.categories.values(), key=lambda one: one["name"])
        below = f"/categories?below={root}"
        yield f"{below}&per_page={PER_PAGE}&cursor=", (nodes_in, (list(map(self._node, by_name)), None))
        for page in (1, 2):
            shown = by_name[(page - 1) * PER_PAGE : page * PER_PAGE]
            path = f"{below}&per_page={PER_PAGE}&page={page}"
            yield path, (nodes_in, (list(map(self._node, shown)), len(by_name)))
        for word in NAMES:
            found = [self._node(one) for one in by_name if has_in_name_or_slug(word, one)]
            yield f"{below}&search={word.upper()}&per_page=100", (nodes_in, (found, len(found)))
        for number, category in there(shop.categories):
            yield f"/categories/{category['id']}", (node_in, self._node(category))
            above = None if category["parent"] is None else self._name("categories", category["parent"])
            yield f"/categories/{category['id']}?include=parent", (parent_in, above)
            for name, rows in (
                ("parent_id", [one for one in by_name if one["parent"] == number]),
                ("below", [one for one in by_name if shop.is_below(numbers[one["slug"]], number)]),
            ):
                found = list(map(self._node, rows))
                yield f"/categories?{name}={category['id']}&per_page=100", (nodes_in, (found, len(found)))
        for key in ROW_KEYS:
            for value in shop.key_values("categories", key):
                found = [self._node(one) for one in by_name if one[key] == value]
                yield f"/categories?{key}={value}", (nodes_in, (found, len(found)))
        yield "/categories?tree=true", (branch_of(root), self._branch(shop.root))
        yield from self._by_key("categories", ROW_KEYS, node_in, self._node)

    def _branch(self, number: int) -> Any:
        children = [other for other, one in self.shop.categories.items() if one["parent"] == number]
        children.sort(key=lambda other: self.shop.categories[other]["name"])
        return self.shop.categories[number]["name"], [self._branch(other) for other in children]

    def _brands(self) -> Iterator[tuple[str, Look]]:
        by_name = sorted(self.shop.brands.values(), key=lambda one: one["name"])
        for query, found in (
            (f"search={self.shop.tag}", by_name),
            *(
                (f"search={word.upper()}%20{self.shop.tag}", [one for one in by_name if has_in_name_or_slug(word, one)])
                for word in BRAND_NAMES
            ),
        ):
            shown = list(map(self._node, found))
            yield f"/brands?{query}&per_page=100", (nodes_in, (shown, len(shown)))
            yield f"/brands?{query}&per_page=2&cursor=", (nodes_in, (shown, None))
        for _, brand in there(self.shop.brands):
            yield f"/brands/{brand['id']}", (node_in, self._node(brand))
        for key in ROW_KEYS:
            for value in self.shop.key_values("brands", key):
                found = [self._node(one) for one in by_name if one[key] == value]
                yield f"/brands?{key}={value}", (nodes_in, (found, len(found)))
        yield from self._by_key("brands", ROW_KEYS, node_in, self._node)

    def _attributes(self) -> Iterator[tuple[str, Look]]:
        yield from self._coded("attributes")
        rows = sorted(self.shop.attributes.values(), key=lambda one: one["label"])
        for filterable in (True, False):
            found = [coded(one) for one in rows if one["filterable"] is filterable]
            path = f"/attributes?search={self.shop.tag}&filterable={str(filterable).lower()}"
            yield path, (all_coded_in, (found, len(found)))

    def _types(self) -> Iterator[tuple[str, Look]]:
        yield from self._coded("types")

    def _coded(self, kind: str) -> Iterator[tuple[str, Look]]:
        path, rows = f"/{PATHS.get(kind, kind)}", getattr(self.shop, kind)
        shown = [coded(one) for one in sorted(rows.values(), key=lambda one: one["label"])]
        yield f"{path}?search={self.shop.tag}", (all_coded_in, (shown, len(shown)))
        yield f"{path}?search={self.shop.tag}&per_page=2&cursor=", (all_coded_in, (shown, None))
        for _, one in there(rows):
            yield f"{path}/{one['id']}", (coded_in, coded(one))
        yield from self._by_key(kind, ("code",), coded_in, coded)

    def _node(self, row: Row) -> Row:
        parent = row.get("parent")
        above = None if parent is None else self.shop.categories[parent]["id"]
        return {**{name: row[name] for name in ("name", "slug", "external_id")}, "parent_id": above}

    def _name(self, kind: str, number: int | None) -> Any:
        """The name of a row; None where there is none, or the row may not be read."""
        if number is None or not self.may(f"{kind}:read"):
            return None
        return getattr(self.shop, kind)[number]["name"]

    def _is_filed_below(self, number: int, product: Row) -> bool:
        return self.shop.is_below(product["category"], number)

    def _has_word(self, word: str, product: Row) -> bool:
        brand = self.shop.brands[product["brand"]]["name"] if product["brand"] else ""
        return word in f"{product['name']} {product['description']} {brand}"


def there(rows: Mapping[int, Row]) -> list[tuple[int, Row]]:
    """The rows with ids, which can be named."""
    return [(number, one) for number, one in rows.items() if one["id"]]


def refers_to(member: str, number: int, row: Row) -> bool:
    return bool(row[member] == number)


def has_in_name_or_slug(word: str, row: Row) -> bool:
    """Whether a search for categories or brands finds a row: its slug may have a word that its name no longer has."""
    return word.lower() in f"{row['name']} {row['slug']}".lower()


def in_stock(product: Row) -> bool:
    return product["stock"] > 0 or not product["track_stock"]


def row_of(product: Row) -> Row:
    return {name: product[name] for name in MEMBERS}


def rows_of(products: Any) -> Any:
    rows = {one["sku"]: row_of(one) for one in products}
    return rows, len(rows)


@dataclass
class Reader:
    """Sends requests on connections of their own, and compares what is read."""

    port: int
    credentials: Credentials
    record: Record
    threads: ThreadPoolExecutor
    chance: Random

    def call(self, who: str, method: str, path: str, content: Any = None, **headers: str) -> Answer:
        client = Client(self.port)
        try:
            return client.call(method, path, content, connection="close", **self.credentials[who], **headers)
        finally:
            client.close()

    def write(self, move: Move) -> Any:
        """Send what must be acknowledged, as an administrator."""
        headers = {} if move.creates_by_key or move.method == "POST" else {"if_match": "*"}
        answer = self.call("root", move.method, move.path, move.content, **headers)
        assert 200 <= answer.status < 300, (str(move), answer)
        return answer.json if answer.body else None

    def compare(self, looks: Mapping[tuple[str, str], Look], when: str) -> None:
        """Send each read several times, all of them at once, so that every worker gets some."""
        reads = [(who, path, *look) for (who, path), look in looks.items()] * COPIES
        self.chance.shuffle(reads)
        for (who, path, _, expected), seen in zip(reads, self.threads.map(self._see, reads), strict=True):
            fault = f"{when}\n{who} {path}:\n{seen}, and not\n{expected}"
            self.record.add("reads", None if seen == expected else fault)

    def _see(self, read: tuple[str, str, Callable[[list[Any]], Any], Any]) -> Any:
        who, path, see, _ = read
        pages: list[Any] = []
        following: str | None = path
        while following:
            answer = self.call(who, "GET", following)
            if answer.status != 200:
                return answer.status, answer.headers.get("Location", "").rpartition("/")[2]
            pages.append(answer.json)
            following = pages[-1]["links"]["next"] if "cursor=" in path else None
            following = following and following.removeprefix(API)
        return see(pages)


@dataclass
class Lane:
    """A shop whose moves are sent one after the other, each with the reads that it changes."""

    shop: Shop
    reader: Reader
    #: Runs the jobs that are due, in this process.
    work: Callable[[], None]
    moves: Counter[str] = field(default_factory=Counter)

    def open(self) -> None:
        for move in self.shop.opening():
            move.effect(self.shop, self.reader.write(move))

    def run(self) -> None:
        """Move and look, until all lanes together have done enough."""
        for move in self.shop.moves():
            if next(self.reader.record.pairs) > PAIRS:
                return
            before, after = self._choose(move)
            self.reader.compare(before, f"before {move}")
            answer = self._send(move)
            move.effect(self.shop, answer)
            self.reader.compare(after, f"after {move}")
            for kind, row in self.shop.without_ids():
                row["id"] = self.reader.call("root", "GET", f"/{kind}/by/slug/{row['slug']}").json["id"]
            self.reader.record.add("pairs")
            self.moves[move.name] += 1

    def _choose(self, move: Move) -> tuple[dict[tuple[str, str], Look], dict[tuple[str, str], Look]]:
        """Reads that the move changes, and some others: what they must show before and after it."""
        chance, moved = self.reader.chance, deepcopy(self.shop)
        move.effect(moved, None)
        people = chance.sample(list(self.reader.credentials), READERS)
        # Whose rights change must see that.
        people += [who for who in ("dora", "key") if "/users/" in move.path or "/api-keys/" in move.path]
        before, after = (
            {(who, path): look for who in people for path, look in View(shop, who).looks().items()}
            for shop in (self.shop, moved)
        )
        common = [read for read in before if read in after]
        changed = [read for read in common if before[read][1] != after[read][1]]
        others = [read for read in common if before[read][1] == after[read][1]]
        chosen = chance.sample(changed, min(CHANGED, len(changed))) + chance.sample(others, OTHERS)
        self.reader.record.add("moves that show" if changed else "moves that do not show")
        return {read: before[read] for read in chosen}, {read: after[read] for read in chosen}

    def _send(self, move: Move) -> Any:
        if not move.is_import:
            return self.reader.write(move)
        client = Client(self.reader.port, self.reader.credentials["root"]["authorization"].removeprefix("Bearer "))
        try:
            sent = client.upload(move.path, move.content.encode(), NDJSON)
        finally:
            client.close()
        assert sent.status == 202, sent
        self.work()
        path = f"/imports/{sent.json['id']}"
        report = wait_for(lambda: self.reader.call("root", "GET", path).json, until=lambda seen: seen["finished_at"])
        assert (report["status"], report["failed"]) == ("succeeded", 0), report
        return report


@dataclass
class Crowd:
    """A thousand products of one category, which all change at once."""

    reader: Reader
    category_id: int = 0

    def run(self) -> None:
        made = self.reader.call("root", "POST", "/categories", {"name": "Crowd", "slug": "crowd"})
        self.category_id = made.json["id"]
        before = self._looks(0, "5.00", "active")
        steps: list[Row] = [
            {"name": "One of many", "price": "5.00", "status": "active", "category_id": self.category_id},
            {"price": "70.00"},
            {"status": "draft"},
        ]
        now: Row = {}
        for step in steps:
            now |= step
            after = self._looks(MANY, now["price"], now["status"])
            self.reader.compare(before, f"before {step}")
            items = [{"sku": f"crowd-{number}", **step} for number in range(MANY)]
            self.reader.write(Move("save a batch", "POST", "/products/bulk", {"items": items}, lambda *_: None))
            self.reader.compare(after, f"after {step}")
            before = after

    def _looks(self, number: int, price: str, status: str) -> dict[tuple[str, str], Look]:
        filed, shown = f"category_id={self.category_id}", number if status == "active" else 0
        dear, total = "min_price=50", lambda pages: pages[0]["meta"]["total"]
        return {
            ("alice", f"/products?{filed}&per_page=1"): (total, number),
            ("bob", f"/products?{filed}&per_page=1"): (total, shown),
            ("bob", f"/products?{filed}&{dear}&per_page=1"): (total, shown if price == "70.00" else 0),
            ("alice", f"/products?{filed}&{dear}&per_page=1"): (total, number if price == "70.00" else 0),
            ("anonymous", f"/categories/{self.category_id}/products?per_page=1"): (total, shown),
            ("anonymous", f"/products/facets?{filed}"): (lambda pages: pages[0]["total"], shown),
            ("alice", f"/products/facets?{filed}&status=draft"): (lambda pages: pages[0]["total"], number - shown),
        }


def test_every_read_shows_where_rows_have_moved(app: Flask, sign_in: SignIn) -> None:
    record, working = Record(), threading.Lock()
    root, alice, bob = sign_in("root", Role.ADMIN), sign_in("alice", Role.EDITOR), sign_in("bob")
    cast: Credentials = {
        **{name: bearer(one) for name, one in (("root", root), ("alice", alice), ("bob", bob))},
        "anonymous": {},
    }

    def work() -> None:
        # One import after the other: each lane finds its own done.
        with working:
            Worker(TASKS, app.app_context).drain()

    with ExitStack() as stack:
        settings = environment(app.config["DATABASE_URL"], **SETTINGS)
        server = stack.enter_context(gunicorn_server(settings, workers=WORKERS, threads=8))
        reading = stack.enter_context(ThreadPoolExecutor(2 * WORKERS))
        writing = stack.enter_context(ThreadPoolExecutor(LANES + 1))

        def reader(number: int, more: Credentials) -> Reader:
            return Reader(server.port, {**cast, **more}, record, reading, Random(number))

        lanes = []
        for number in range(LANES):
            tag, dora = f"lane{'abcdefgh'[number]}", sign_in(f"dora-{number}")
            key = body_of(alice.post("/api-keys", {"name": tag, "scopes": list(SCOPES[0])}))
            assert dora.user_id
            shop = Shop(tag, Random(number), user_id=dora.user_id, key_id=key["id"])
            lanes.append(Lane(shop, reader(number, {"dora": bearer(dora), "key": {"x_api_key": key["key"]}}), work))
            lanes[-1].open()
        running = [writing.submit(run) for run in (Crowd(reader(LANES, {})).run, *(lane.run for lane in lanes))]
        for one in running:
            one.result()
        answered = Counter(re.findall(r"answered by <(\d+)>", server.log()))
        workers = {str(pid) for pid in worker_pids(server, WORKERS)}

    made = sum((lane.moves for lane in lanes), Counter[str]())
    log.info("%s, %s kinds of moves, answered by %s", dict(record.counts), len(made), dict(answered))
    assert not record.stale, f"{len(record.stale)} of {record.counts['reads']}:\n" + "\n\n".join(record.stale[:5])
    assert record.counts["pairs"] == PAIRS
    assert record.counts["moves that show"] > PAIRS / 2
    assert answered.keys() == workers
    assert min(answered.values()) > PAIRS


def bearer(caller: Caller) -> dict[str, str]:
    return {"authorization": f"Bearer {caller.token}"}
