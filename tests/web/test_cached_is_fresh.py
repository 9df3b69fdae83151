"""A cached response is the one that an application without a cache makes, whatever was written since it was cached.

A seeded random program of writes; after each, some reads of two applications on one database are compared byte for
byte. CACHE_WRITES says how many writes there are, a few hundred at least, and CACHE_SEED chooses others.
"""

import difflib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.api.tasks import TASKS
from app.core import clock
from app.core.listing import RELEVANCE
from app.core.worker import Worker
from app.extensions import cache
from app.features.products.listing import ListedKind
from app.features.products.models import ProductStatus
from app.security.permissions import Permission, Role
from app.web.operation import SAFE_METHODS, Operation, operation_of
from app.web.schemas import shared
from tests.conftest import API, Caller, body_of
from tests.moves import BRAND_NAMES, MATERIALS, NAMES, NDJSON, PRODUCT_KEYS, SCOPES, TAGS, Move, Shop
from tests.web.test_response_cache import Holder, keepable, key_of, queries_of, shown

WRITES = int(os.environ.get("CACHE_WRITES", "180"))
SEED = int(os.environ.get("CACHE_SEED", "1"))
#: How many reads are compared after each write, and how many of these then make room for others.
WATCHED, REPLACED = 14, 9
#: What a batch holds at most.
MANY = 1000
#: By a member of a row, the parameters that choose and order rows by it, where they have other names.
CHOOSERS: Mapping[str, tuple[str, ...]] = {
    "name": ("search", "sort_by"),
    "price": ("min_price", "max_price", "sort_by"),
    "stock": ("in_stock", "sort_by"),
    "track_stock": ("in_stock",),
    "tags": ("tag", "search"),
    "description": ("search",),
    "category_id": ("category_id", "below"),
    "brand_id": ("brand_id", "search"),
    "parent_id": ("parent_id", "below"),
    "sku": ("sku", "sort_by"),
    "slug": ("slug", "sort_by"),
    "label": ("search", "sort_by"),
}
#: What changes the rows that reads of the catalogue show.
WRITE_RIGHTS = {
    *(Permission.BRANDS_WRITE, Permission.CATEGORIES_WRITE, Permission.PRODUCTS_WRITE, Permission.STOCK_WRITE),
    *(Permission.BRANDS_DELETE, Permission.CATEGORIES_DELETE, Permission.PRODUCTS_DELETE),
    *(Permission.TYPES_WRITE, Permission.TYPES_DELETE),
}
#: Of these, the ones that change no such row.
HARMLESS = {"cancel_import"}
#: What the shop has none of; tests/features/products/test_family_caches.py compares it.
ELSEWHERE = {"add_variant", "replace_media_of_product"}

#: To be seen with --log-cli-level=INFO.
log = logging.getLogger(__name__)

pytestmark = pytest.mark.timeout(300 + 2 * WRITES)

AppWith = Callable[..., Flask]
SignIn = Callable[..., Caller]
#: Who reads, and the path with the query.
Read = tuple[str, str]


@dataclass
class Reads:
    """Makes up reads of the catalogue: of every cacheable operation, with every parameter that it takes.

    More than half of what it chooses has to do with the next move.
    """

    shop: Shop
    chance: Random
    operations: Mapping[str, Operation]
    people: list[str]
    #: Since when rows were created or updated.
    moments: list[str] = field(default_factory=lambda: [clock.now().isoformat()])

    def make(self, move: Move) -> Read:
        self._move = move
        rules = sorted(self.operations)
        (rule,) = self.chance.choices(rules, list(map(self._weight, rules)))
        operation, kind = self.operations[rule], kind_of(rule)
        query = urlencode(self._query(operation, kind), safe=",")
        return self.chance.choice(self.people), self._path(rule, operation, kind) + (f"?{query}" if query else "")

    def _weight(self, rule: str) -> int:
        """The operations that take more have more that can be wrong; and those of what moves, more to show."""
        weight = 3 + len(shared(self.operations[rule].parameters).fields)
        return 4 * weight if kind_of(rule) in self._move.about else weight

    def _path(self, rule: str, operation: Operation, kind: str) -> str:
        key = self.chance.choice(operation.keys) if operation.keys else ""
        values: dict[str, Any] = {"key": key, "value": key and self._key(kind, key)}
        for name in ("products", "categories", "brands", "attributes", "types"):
            values[f"{'category' if name == 'categories' else name[:-1]}_id"] = self._id(name)
        return re.sub(r"<(?:.+?:)?(\w+)>", r"{\1}", rule.removeprefix(API)).format_map(values)

    def _query(self, operation: Operation, kind: str) -> dict[str, str]:
        # The shop's products have values of no attribute (tests/features/products/test_family_caches.py has).
        names = [name for name in shared(operation.parameters).fields if name != "attr"]
        makers = self._makers(operation, kind)
        assert makers.keys() >= set(names), f"say here what {set(names) - makers.keys()} can be"
        if "tree" in names and self.chance.random() < 0.2:
            return {"tree": "true"}
        names = [name for name in names if name != "tree"]
        chosen = self._chosen(names)
        query = {name.rstrip("_"): makers[name]() for name in chosen}
        if query.get("sort_by") == RELEVANCE:
            query = {"search": makers["search"](), **query}
            query.pop("cursor", None)
        if "." in query.get("fields", ""):
            query["include"] = ",".join(operation.includes)
        return query

    def _chosen(self, names: list[str]) -> list[str]:
        """Some of the parameters: with one or two by which the members that move are chosen, or any."""
        members = sorted(self._members)
        related = [name for member in members for name in CHOOSERS.get(member, (member,)) if name in names]
        chosen = self.chance.sample(names, min(len(names), self.chance.choice([0, 0, 1, 1, 2, 3])))
        if related and self.chance.random() < 0.85:
            # With few others, which would leave too few rows to differ.
            chosen = [
                *self.chance.choices(related, k=self.chance.choice([1, 1, 2])),
                *chosen[: self.chance.choice([0, 1])],
            ]
        if "sort_by" in chosen:
            # On a page without the row that moves, only its place tells.
            chosen.append("per_page")
        if "page" in chosen and "cursor" in chosen:
            chosen.remove("page")
        return chosen

    def _makers(self, operation: Operation, kind: str) -> Mapping[str, Callable[[], str]]:
        """What makes a value of each parameter."""
        pick, words = self.chance.choice, [*NAMES, *BRAND_NAMES, *MATERIALS, *TAGS, self.shop.tag]
        sorts = shared(operation.parameters).fields.get("sort_by")
        shown = list(shared(operation.returns).dump_fields) if operation.returns else []
        embedded = list(operation.includes)
        # The members that a path has after a dot.
        inner = [f"{name}.name" for name in embedded if name != "links"] + ["links.edit"]
        return {
            "search": lambda: " ".join(pick(words)[:4] for _ in range(pick([1, 1, 1, 2]))),
            "id": lambda: self._ids(kind),
            "category_id": lambda: self._ids("categories"),
            "below": lambda: self._ids("categories"),
            "parent_id": lambda: self._ids("categories"),
            "brand_id": lambda: self._ids("brands"),
            **{key: lambda key=key: self._key(kind, key) for key in (*PRODUCT_KEYS, "code")},  # type: ignore[misc]
            "min_price": lambda: pick(["5.00", "30.00", "80.50", *self._prices()]),
            "max_price": lambda: pick(["5.00", "30.00", "80.50", *self._prices()]),
            "in_stock": lambda: pick(["true", "false"]),
            "status": lambda: pick([*ProductStatus, "draft,archived"]),
            "currency": lambda: pick(["USD", "USD", "EUR"]),
            "type": lambda: pick(["text", "text", "choice,text", "date"]),
            "filterable": lambda: pick(["true", "false"]),
            "tag": lambda: pick([*TAGS, ",".join(TAGS)]),
            "created_since": lambda: pick(self.moments),
            "updated_since": lambda: pick(self.moments),
            "sort_by": lambda: self._sort(sorts.metadata["enum"] if sorts else []),
            "order": lambda: pick(["asc", "desc"]),
            "per_page": lambda: pick(["1", "2", "3", "3", "5", "100"]),
            "page": lambda: pick(["1", "2", "3"]),
            "cursor": lambda: "",
            "fields": lambda: ",".join(self.chance.sample([*shown, *inner], 2)),
            "fields_": lambda: ",".join(self.chance.sample([*shown, *inner], 2)),
            "include": lambda: ",".join(self.chance.sample(embedded, self.chance.randint(1, len(embedded)))),
            "tree": lambda: "true",
            "kind": lambda: pick([*ListedKind, "parent,variant"]),
            "type_id": lambda: self._ids("types"),
            "complete": lambda: pick(["true", "false"]),
            "valid": lambda: pick(["true", "false"]),
        }

    def _id(self, kind: str) -> int:
        """The id of a row: of one that the move is about, of one that this refers to or will refer to, or of any."""
        about = [one["id"] for one in self._moved(kind)]
        names = {"categories": ("category_id", "parent_id"), "brands": ("brand_id",)}.get(kind, ())
        about += [item[name] for item in self._items for name in names if item.get(name)]
        rows: Mapping[int, Any] = getattr(self.shop, kind)
        others = [one["id"] for one in rows.values()]
        return int(self.chance.choice(about if about and self.chance.random() < 0.5 else others))

    def _moved(self, kind: str) -> list[Any]:
        """The rows of a kind that the move is about, or that the row that it is about refers to."""
        rows, about = getattr(self.shop, kind), self._move.about
        found = [rows[about[kind]]] if about.get(kind) in rows else []
        if kind in {"categories", "brands"}:
            member = {"categories": "category", "brands": "brand"}[kind]
            found += [rows[one[member]] for one in self._moved("products") if one[member] is not None]
        if kind == "categories":
            found += [rows[one["parent"]] for one in found if one["parent"] is not None]
        return found

    @property
    def _items(self) -> list[Mapping[str, Any]]:
        """What the move writes: the members of a row, or of the rows of a batch."""
        content = self._move.content if isinstance(self._move.content, dict) else {}
        items: list[Mapping[str, Any]] = content.get("items", [content])
        return items

    @property
    def _members(self) -> set[str]:
        """The members that move."""
        if re.search("/stock-movements|/confirm", self._move.path):
            return {"stock"}
        return {name for item in self._items for name in item}

    def _prices(self) -> list[str]:
        return [one["price"] for one in (*self._items, *self._moved("products")) if "price" in one]

    def _sort(self, sorts: list[str]) -> str:
        moved = [one for one in sorts if one in self._members]
        return self.chance.choice(moved if moved and self.chance.random() < 0.8 else sorts)

    def _ids(self, kind: str) -> str:
        return ",".join(str(self._id(kind)) for _ in range(self.chance.choice([1, 1, 2])))

    def _key(self, kind: str, key: str) -> str:
        """A value of a key: what the move is about has it, or will have it, or another has it, or any value."""
        about = [one.get(key) for one in (*self._moved(kind), *self._items)]
        others = [one[key] for one in getattr(self.shop, kind).values()] + self.shop.key_values(kind, key)[:5]
        chosen = [one for one in about if one] if self.chance.random() < 0.5 else []
        return str(self.chance.choice(chosen or [one for one in others if one]))


def kind_of(rule: str) -> str:
    """What an operation reads."""
    return str(re.findall("products|categories|brands|attributes|product-types", rule)[-1]).removeprefix("product-")


@dataclass
class Comparison:
    """Two applications on one database, of which one has a cache; and what was seen of them."""

    cached: Flask
    plain: Flask
    people: Mapping[str, Caller]
    chance: Random
    watched: dict[Read, dict[str, Any]] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    moves: Counter[str] = field(default_factory=Counter)
    #: How many moves of a name changed something that was watched.
    shown: Counter[str] = field(default_factory=Counter)
    stale: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    reads: int = 0
    hits: int = 0

    def watch(self, read: Read) -> TestResponse:
        """Read what is to be cached."""
        answer = self._get(read)
        self.watched[read] = shown(answer)
        return answer

    def send(self, move: Move) -> Any:
        """Send a move to one of the two, as another worker would get it; it must be acknowledged."""
        app = self.chance.choice([self.cached, self.plain])
        root = self.people["root"].on(app)
        if move.is_import:
            answer = root.post(move.path, data=move.content, headers={"Content-Type": NDJSON})
            Worker(TASKS, app.app_context).drain()
            report = body_of(root.get(answer.headers["Location"].removeprefix(API)))
            assert report["status"] == "succeeded", report
            assert report["failed"] == 0, report
        else:
            headers = {} if move.creates_by_key or move.method == "POST" else {"If-Match": "*"}
            answer = root.call(move.method, move.path, json=move.content, headers=headers)
        assert 200 <= answer.status_code < 300, f"{move}\n{answer.get_data(as_text=True)}"
        endpoint, _ = app.url_map.bind("localhost").match(answer.request.path, move.method)
        self.written.add(operation_of(app.view_functions[endpoint]).name)
        return answer.json

    def compare(self, move: Move) -> None:
        """Compare what is watched. What was stale is forgotten, so that the next move is judged by itself."""
        self.moves[move.name] += 1
        before, faults = dict(self.watched), []
        for read in before:
            answer = shown(self._get(read))
            who, path = read
            self.watched[read] = shown(self.people[who].on(self.plain).get(path))
            if answer != self.watched[read]:
                faults.append(f"{move}\n{who} GET {path}\n{difference(self.watched[read], answer)}")
        self.shown[move.name] += before != self.watched
        if faults:
            self.stale[move.name] += 1
            self.faults += faults
            with self.cached.app_context():
                cache.clear()
        for read in [*self.watched][:3]:
            assert shown(self._get(read)) == self.watched[read], (move, read)

    def _get(self, read: Read) -> TestResponse:
        who, path = read
        answer = self.people[who].on(self.cached).get(path)
        self.reads += 1
        self.hits += answer.status_code == 200 and queries_of(answer) == 1
        return answer


def difference(expected: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """The lines in which two answers differ: a header or a member of the body each."""
    without, with_cache = (
        [*map(str, (one["status"], *one["headers"])), *one["body"].decode().replace(",", ",\n").splitlines()]
        for one in (expected, answer)
    )
    return "\n".join(difflib.unified_diff(without, with_cache, "without a cache", "with a cache", lineterm=""))


def many(shop: Shop, title: str, /, **members: Any) -> Move:
    """Save as many products at once as a batch holds."""
    items = [{"sku": f"{shop.tag}-many-{number}", **members} for number in range(MANY)]
    return Move(title, "POST", "/products/bulk", {"items": items}, lambda _shop, _answer: None)


def program(shop: Shop) -> Iterator[Move]:
    """The moves; towards the end, while few others are slowed down by so many products, two of many products."""
    for number, move in enumerate(islice(shop.moves(), WRITES)):
        if number == WRITES - 12:
            home = shop.categories[shop.root]["id"]
            yield many(shop, "create many products", name="Walnut", price="8.00", category_id=home)
        if number == WRITES - 6:
            yield many(shop, "hide many products", status="draft", price="80.00")
        yield move


@pytest.fixture
def people(sign_in: SignIn, root: Caller, alice: Caller, bob: Caller, anonymous: Caller) -> dict[str, Caller]:
    """Who reads: each role, one whose role changes, and a key whose scopes do."""
    key = key_of(alice, *SCOPES[0])
    return {
        "root": root,
        "alice": alice,
        "bob": bob,
        "anonymous": anonymous,
        "dora": sign_in("dora", Role.USER),
        "key": Holder(anonymous.app, key["key"], key["id"]),
    }


def test_every_cached_read_is_fresh(app_with: AppWith, people: dict[str, Caller]) -> None:
    cached, plain = (app_with(catalog_public_read=True, **more) for more in ({}, {"answer_cache_bytes": 0}))
    # Apart from each other, so that the moves are the same whatever is read.
    moving, chance = Random(SEED), Random(SEED)
    dora, key = people["dora"].user_id, people["key"].user_id
    assert dora
    assert key
    shop = Shop("shop", moving, user_id=dora, key_id=key)
    seen = Comparison(cached, plain, people, chance)
    for move in shop.opening():
        move.effect(shop, seen.send(move))
    reads = Reads(shop, chance, keepable(cached), sorted(people))

    for move in program(shop):
        while len(seen.watched) < WATCHED:
            read = reads.make(move)
            page = seen.watch(read).json or {}
            if "meta" in page and page["links"]["next"] and chance.random() < 0.5:
                seen.watch((read[0], page["links"]["next"].removeprefix(API)))
        answer = seen.send(move)
        move.effect(shop, answer)
        for kind, row in shop.without_ids():
            row["id"] = body_of(people["root"].on(plain).get(f"/{kind}/by/slug/{row['slug']}"))["id"]
        reads.moments.append(clock.now().isoformat())
        seen.compare(move)
        for read in chance.sample([*seen.watched], REPLACED):
            del seen.watched[read]

    log.info("%s reads, %s hits; moves %s; shown %s", seen.reads, seen.hits, dict(seen.moves), dict(seen.shown))
    assert not seen.stale, f"{dict(seen.stale)}, CACHE_SEED={SEED}:\n" + "\n\n".join(seen.faults[:3])
    assert seen.hits > 0
    # It compares what the moves change, and makes every kind of move.
    assert seen.shown.total() > WRITES / 2
    assert not writes_of(cached) - HARMLESS - ELSEWHERE - seen.written


def writes_of(app: Flask) -> set[str]:
    """The operations that write what reads of the catalogue show."""
    operations = [
        getattr(app.view_functions[rule.endpoint], "operation", None)
        for rule in app.url_map.iter_rules()
        if not SAFE_METHODS & (rule.methods or set())
    ]
    return {one.name for one in operations if one and one.access and one.access.permission in WRITE_RIGHTS}
