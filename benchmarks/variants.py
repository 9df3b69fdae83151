"""What variants cost: a catalogue of parents with their variants beside a flat one with as many products.

Run with ``make bench-variants``. Both are on PostgreSQL, and requests go straight into the application: for each, the
statements, the median time, and the CPU in the application and in the database, whose sum is compared.
"""

import argparse
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from flask.testing import FlaskClient

from app import create_app
from app.extensions import db
from benchmarks import report
from benchmarks.catalogue import EMAIL, PASSWORD, SECRETS, Catalogue, catalogue
from config import Config, Environment

_PRODUCTS = "/api/v1/products"
_WARM_UP = 20


@dataclass(frozen=True)
class Request:
    """A request, by its method, path and body."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Cost:
    """What a request costs: its statements, its median time, and its mean CPU."""

    statements: float
    ms: float
    app_ms: float
    database_ms: float

    @property
    def cpu_ms(self) -> float:
        """The CPU in the application and in the database."""
        return self.app_ms + self.database_ms

    def __str__(self) -> str:
        return f"{self.statements:g}; {self.ms:.1f} ({self.app_ms:.1f} + {self.database_ms:.1f})"


@dataclass(frozen=True)
class Place:
    """One of the catalogues, with an editor's session in front of it."""

    client: FlaskClient
    headers: Mapping[str, str]
    made: Catalogue

    def ask(self, request: Request) -> tuple[float, int]:
        """The milliseconds and the statements of a request; exits on an error."""
        started = time.perf_counter()
        answer = self.client.open(request.path, method=request.method, headers=self.headers, json=request.body)
        took = (time.perf_counter() - started) * 1000
        if answer.status_code >= 400:
            sys.exit(f"{request}: {answer.status_code} {answer.get_data(as_text=True)}")
        found = re.search(r"(\d+) queries", answer.headers["Server-Timing"])
        return took, int(found[1]) if found else 0

    def measure(self, requests: Sequence[Request]) -> Cost:
        """The cost of requests, once the plans and caches have settled."""
        for request in requests[:_WARM_UP]:
            self.ask(request)
        app, database = time.process_time(), self.made.cpu_seconds()
        told = [self.ask(request) for request in requests[_WARM_UP:]]
        used = (time.process_time() - app, self.made.cpu_seconds() - database)
        times, statements = zip(*told, strict=True)
        app_ms, database_ms = (each / len(told) * 1000 for each in used)
        return Cost(statistics.mean(statements), statistics.median(times), app_ms, database_ms)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variants", description=__doc__)
    parser.add_argument("--products", type=int, default=100_000, help="of each catalogue, without variants")
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    arguments = parser.parse_args()
    number = arguments.requests + _WARM_UP
    with _place(arguments.products, 0) as flat, _place(arguments.products, 100) as families:
        ((variants,),) = families.made.rows("SELECT count(*) FROM products WHERE parent_id IS NOT NULL")
        pairs = zip(_requests(flat, number), _requests(families, number), strict=True)
        rows = []
        for (name, plain), (_, of_families) in pairs:
            costs = flat.measure(plain), families.measure(of_families)
            rows.append([name, *map(str, costs), f"{costs[1].cpu_ms / costs[0].cpu_ms:.2f}"])
        version = flat.made.version
    print(f"{version}: {arguments.products:,} products, and as many parents with {variants:,} variants.")
    print("Statements; median milliseconds (CPU in the application + in the database).")
    print("\n".join(report.table(["", "flat", "with variants", "CPU with / flat"], rows)))


@contextmanager
def _place(products: int, parents: int) -> Iterator[Place]:
    with catalogue(products, parents=parents) as made:
        app = create_app(
            Config.from_environment(
                {"ANSWER_CACHE_BYTES": "0"},
                app_env=Environment.TESTING,
                database_url=made.url,
                rate_limit_enabled=False,
                log_level="ERROR",
                access_token_ttl=86400,
                **SECRETS,
            )
        )
        client = app.test_client()
        login = client.post("/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD}).get_json()
        headers = {"Authorization": f"Bearer {login['access_token']}", "If-Match": "*"}
        yield Place(client, headers, made)
        with app.app_context():
            db.engine.dispose()


def _requests(place: Place, number: int) -> Iterator[tuple[str, list[Request]]]:
    """The requests of each kind: a catalogue with variants is asked for these as well, where it has them."""
    made = place.made
    ((category,),) = made.rows("SELECT category_id FROM products GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1")
    listed = _ids(made, "parent_id IS NULL", number)
    sold = _ids(made, "kind <> 'parent' AND status = 'active' AND track_stock", number)
    is_flat = not made.rows("SELECT 1 FROM products WHERE kind = 'parent' LIMIT 1")
    embedded = "" if is_flat else "?include=variants"
    cheap = {"in_stock": "true", "max_price": "100.00"}
    yield "list by price", [_list(sort_by="price", order="asc", cursor="")] * number
    yield "list by price, in stock and below 100", [_list(sort_by="price", order="asc", cursor="", **cheap)] * number
    yield "facets of a category", [Request("GET", f"{_PRODUCTS}/facets?category_id={category}")] * number
    yield "detail, with its variants", [Request("GET", f"{_PRODUCTS}/{each}{embedded}") for each in listed]
    receipt = {"delta": 1, "reason": "receipt"}
    yield "movement", [Request("POST", f"{_PRODUCTS}/{each}/stock-movements", receipt) for each in sold]
    yield "price of one that is sold", [Request("PATCH", f"{_PRODUCTS}/{each}", {"price": "7.00"}) for each in sold]
    yield "name", [Request("PATCH", f"{_PRODUCTS}/{each}", {"name": "Another"}) for each in listed]


def _ids(made: Catalogue, condition: str, number: int) -> list[int]:
    """The ids of so many products, from everywhere in the table."""
    statement = f"SELECT id FROM products WHERE {condition} ORDER BY md5(id::text) LIMIT {number}"
    return [each for (each,) in made.rows(statement)]


def _list(**parameters: str) -> Request:
    return Request("GET", f"{_PRODUCTS}?{urlencode(parameters)}")


if __name__ == "__main__":
    main()
