"""No read after an acknowledged write is stale, from any of four workers, whatever Redis does.

STALENESS_PAIRS says how many writes there are in each situation, each followed by reads on connections of their own.
"""

import logging
import os
import re
import threading
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from random import Random
from typing import Any

import pytest
from flask import Flask

from app.features.facets.service import EDGES, price_band
from app.security.permissions import Role
from tests.conftest import Caller
from tests.live.conftest import environment, worker_pids
from tests.live.test_limits import keys_in, kill
from tests.live.wire import Answer, Client, wait_for
from tests.servers import free_port, gunicorn_server, valkey_server

PAIRS = int(os.environ.get("STALENESS_PAIRS", "100"))
WORKERS = 4
LANES = 6
READS = 5
#: Of a product, what is compared.
MEMBERS = ("name", "price", "stock", "status", "version", "live")
SETTINGS = {
    # High, and not off: every request is counted in Redis.
    "RATE_LIMIT_ENABLED": "true",
    "RATE_LIMIT_DEFAULT": "1000000000 per day",
    "CATALOG_PUBLIC_READ": "true",
    # gunicorn's own log tells which worker answered.
    "GUNICORN_CMD_ARGS": "--access-logfile - --access-logformat 'answered by %(p)s'",
}

#: To be seen with --log-cli-level=INFO.
log = logging.getLogger(__name__)

pytestmark = [pytest.mark.live, pytest.mark.timeout(120 + PAIRS // 5)]

SignIn = Callable[..., Caller]
Products = dict[int, dict[str, Any]]
#: Where to look, what of the answer to look at, and what must be there.
Look = tuple[str, Callable[[Answer], Any], Any]


@dataclass
class Record:
    """What happened in all lanes together."""

    pairs: Iterator[int] = field(default_factory=lambda: count(1))
    counts: Counter[str] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, fault: str | None = None) -> None:
        with self._lock:
            self.counts[what] += 1
            if fault:
                self.stale.append(fault)


@dataclass
class Lane:
    """One writer with a category and products of its own, and what they must look like after its last write."""

    tag: str
    port: int
    cast: dict[str, str | None]
    record: Record
    chance: Random
    products: Products = field(default_factory=dict)

    def __post_init__(self) -> None:
        home = self.call("root", "POST", "/categories", {"name": self.tag, "slug": self.tag}).json
        self.category_id, self.category_name = home["id"], home["name"]
        self.create()
        #: The product that is changed; the others come and go.
        self.product_id = next(iter(self.products))

    def call(self, who: str, method: str, path: str, content: Any = None, **headers: str) -> Answer:
        """Send one request on a connection of its own; a write must be acknowledged."""
        client = Client(self.port, self.cast[who])
        try:
            answer = client.call(method, path, content, connection="close", **headers)
        finally:
            client.close()
        assert method == "GET" or 200 <= answer.status < 300, (method, path, answer)
        return answer

    # Writes.

    def reprice(self) -> None:
        self._patch(price=f"{self.chance.choice([1, 3, 7, 30, 70, 300])}.{self.chance.randrange(10, 100)}")

    def rename(self) -> None:
        self._patch(name=f"Chair {self.chance.random()}")

    def publish(self) -> None:
        self._patch(status="draft" if self.products[self.product_id]["status"] == "active" else "active")

    def move_stock(self) -> None:
        stock = self.products[self.product_id]["stock"]
        movement = {"delta": -stock, "reason": "sale"} if stock else {"delta": 5, "reason": "receipt"}
        self.call("root", "POST", f"/products/{self.product_id}/stock-movements", movement)
        self._now(stock=stock + movement["delta"])

    def save_batch(self) -> None:
        there = self.products[self.product_id]
        item = {"sku": there["sku"], "price": f"{2 + there['version']}.50"}
        self.call("root", "POST", "/products/bulk", {"items": [item]})
        self._now(price=item["price"])

    def create(self) -> None:
        content = {"name": "Chair", "price": "5.00", "stock": 3, "category_id": self.category_id, "tags": [self.tag]}
        made = self.call("root", "POST", "/products", content).json
        self.products[made["id"]] = {name: made[name] for name in (*MEMBERS, "sku")}

    def delete(self) -> None:
        gone = max(self.products)
        self.call("root", "DELETE", f"/products/{gone}", if_match="*")
        del self.products[gone]
        self.look("bob", (f"/products/{gone}", lambda answer: answer.status, 404))
        self.look("root", (f"/products/{gone}", lambda answer: answer.status, 404))

    def rename_category(self) -> None:
        name = f"{self.tag} {self.chance.random()}"
        self.call("root", "PATCH", f"/categories/{self.category_id}", {"name": name}, if_match="*")
        self.category_name = name

    def _patch(self, **members: Any) -> None:
        self.call("root", "PATCH", f"/products/{self.product_id}", members, if_match="*")
        self._now(**members)

    def _now(self, **members: Any) -> None:
        # In one step: the poller reads it meanwhile.
        there = self.products[self.product_id]
        counter = "live" if "stock" in members else "version"
        self.products[self.product_id] = there | members | {counter: there[counter] + 1}

    # Reads.

    def looks(self, who: str) -> list[Look]:
        """Where somebody can see the last write, and what must be there."""
        seen = {
            product_id: {name: product[name] for name in MEMBERS}
            for product_id, product in self.products.items()
            if who in {"root", "alice"} or product["status"] == "active"
        }
        in_stock = {product_id: product for product_id, product in seen.items() if product["stock"]}
        active = {product_id: product for product_id, product in seen.items() if product["status"] == "active"}
        changed = {product_id: product for product_id, product in seen.items() if product_id == self.product_id}
        sku, home = self.products[self.product_id]["sku"], f"category_id={self.category_id}"
        here, name = self.category_id, self.category_name
        return [
            (f"/products/{self.product_id}", product_in, changed.get(self.product_id)),
            (f"/products?{home}", products_in, seen),
            (f"/products?{home}&sort_by=price&order=asc&page=1&per_page=50", products_in, seen),
            (f"/products?{home}&sort_by=name&cursor=", products_in, seen),
            (f"/products?{home}&in_stock=true", products_in, in_stock),
            (f"/products?{home}&status=active", products_in, active),
            (f"/products?tag={self.tag}", products_in, seen),
            (f"/products?sku={sku}", products_in, changed),
            (f"/categories/{here}/products", products_in, seen),
            (
                f"/products/facets?{home}&currency=USD",
                facets_in,
                facets_of(seen, here, name, self.tag),
            ),
            (f"/categories/{here}", lambda answer: answer.json["name"], name),
            (f"/categories?slug={self.tag}", lambda answer: name_in(answer, here), name),
            ("/categories?tree=true", lambda answer: name_in(answer, here), name),
            ("/categories?per_page=100&cursor=", lambda answer: name_in(answer, here), name),
        ]

    def look(self, who: str, look: Look) -> None:
        path, see, expected = look
        answer = self.call(who, "GET", path)
        seen = see(answer) if answer.status in {200, 404} else answer.status
        self.record.add("reads", None if seen == expected else f"{who} {path}: {seen}, and not {expected}")

    def run(self, halfway: Callable[[], None]) -> None:
        """Write and look, until all lanes together have done enough."""
        writes = [self.reprice, self.create, self.publish, self.move_stock, self.rename_category]
        writes += [self.save_batch, self.delete, self.rename]
        for turn in count():
            pair = next(self.record.pairs)
            if pair > PAIRS:
                return
            if pair == PAIRS // 2:
                halfway()
            if pair % 1000 == 0:
                log.info("%s, %s stale", dict(self.record.counts), len(self.record.stale))
            writes[turn % len(writes)]()
            for who in self.chance.choices(list(self.cast), k=READS):
                self.look(who, self.chance.choice(self.looks(who)))
            self.record.add("pairs")

    @staticmethod
    def changes_of(product: dict[str, Any]) -> int:
        """How often a product has changed."""
        return int(product["version"] + product["live"])

    def poll(self, over: threading.Event) -> None:
        """Ask again and again for what has changed, as whoever holds an answer does; never shown an older state."""
        held: dict[str, tuple[str, int]] = {}
        newest = 0
        # Often enough for others to change something in between, and seldom enough to leave them the machine.
        while not over.wait(0.05):
            for path in (f"/products/{self.product_id}", f"/products?tag={self.tag}&sort_by=id&order=asc"):
                tag, version = held.get(path, ('"none"', 0))
                newest = max(newest, self.changes_of(self.products[self.product_id]))
                answer = self.call("root", "GET", path, if_none_match=tag)
                if answer.status == 200:
                    shown = product_in(answer) if "?" not in path else products_in(answer)[self.product_id]
                    version = self.changes_of(shown)
                    held[path] = answer.etag, version
                is_right = answer.status == 200 or (answer.status, answer.etag, answer.body) == (304, tag, b"")
                fault = f"poll {path}: {answer.status}, {version} after {newest}"
                self.record.add(f"polls {answer.status}", None if is_right and version >= newest else fault)
                newest = max(newest, version)


def product_in(answer: Answer) -> Any:
    return {name: answer.json[name] for name in MEMBERS} if answer.status == 200 else None


def products_in(answer: Answer) -> Any:
    return {item["id"]: {name: item[name] for name in MEMBERS} for item in answer.json["items"]}


def name_in(answer: Answer, category_id: int) -> Any:
    return {item["id"]: item["name"] for item in answer.json["items"]}.get(category_id)


def facets_in(answer: Answer) -> Any:
    """The facets, without the categories that others write to at the same time."""
    return answer.json | {"category": [one for one in answer.json["category"] if one["selected"]]}


def facets_of(products: Products, category_id: int, name: str, tag: str) -> dict[str, Any]:
    """The facets of some products of one category, which is selected, with one tag."""
    of_all, shown = len(products), products.values()
    in_stock = sum(product["stock"] > 0 for product in shown)
    bands = Counter(bisect(EDGES, Decimal(product["price"])) for product in shown)
    statuses = Counter(product["status"] for product in shown)
    return {
        "total": of_all,
        "category": [{"id": category_id, "name": name, "count": of_all, "selected": True}],
        "brand": [],
        "tag": [{"value": tag, "count": of_all, "selected": False}] if of_all else [],
        "price": [
            dict(zip(("min_price", "max_price"), (f"{end:.2f}" for end in price_band(band, "USD")), strict=True))
            | {"count": number, "selected": False}
            for band, number in sorted(bands.items())
        ],
        "stock": [
            {"value": value, "count": count, "selected": False}
            for value, count in ((True, in_stock), (False, of_all - in_stock))
        ],
        "status": [
            {"value": status, "count": statuses[status], "selected": False}
            for status in ("draft", "active", "archived")
        ],
        "attributes": [],
    }


@contextmanager
def redis_that(situation: str) -> Iterator[tuple[dict[str, str], Callable[[], None]]]:
    """The settings that name a Redis in this situation, and what happens to it halfway: half of the pairs have it."""
    if situation == "without":
        yield {}, lambda: None
        return
    with valkey_server(port=free_port()) as url:

        def halfway() -> None:
            # The workers have found it, and count there.
            wait_for(lambda: keys_in(url))
            kill(url)

        yield {"REDIS_URL": url}, halfway


@pytest.mark.parametrize("situation", ["without", "with, and then killed"])
def test_every_read_shows_the_last_write(app: Flask, situation: str, sign_in: SignIn) -> None:
    record, over = Record(), threading.Event()
    people = {"root": sign_in("root", Role.ADMIN), "alice": sign_in("alice", Role.EDITOR), "bob": sign_in("bob")}
    cast = {name: person.token for name, person in people.items()} | {"anonymous": None}
    with ExitStack() as stack:
        redis_settings, halfway = stack.enter_context(redis_that(situation))
        settings = environment(app.config["DATABASE_URL"], **SETTINGS, **redis_settings)
        server = stack.enter_context(gunicorn_server(settings, workers=WORKERS, threads=8))
        threads = stack.enter_context(ThreadPoolExecutor(2 * LANES))
        # Reached before the threads are waited for, also when a lane fails.
        stack.callback(over.set)
        lanes = [Lane(f"lane-{number}", server.port, cast, record, Random(number)) for number in range(LANES)]
        polling = [threads.submit(lane.poll, over) for lane in lanes]
        writing = [threads.submit(lane.run, halfway) for lane in lanes]
        for writer in writing:
            writer.result()
        over.set()
        for poller in polling:
            poller.result()
        answered = Counter(re.findall(r"answered by <(\d+)>", server.log()))
        workers = {str(pid) for pid in worker_pids(server, WORKERS)}

    log.info("%s, answered by %s", dict(record.counts), dict(answered))
    assert record.stale == []
    assert record.counts["pairs"] == PAIRS
    assert record.counts["polls 304"] > 0
    assert answered.keys() == workers
    assert min(answered.values()) > PAIRS / 10
