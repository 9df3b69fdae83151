"""What facets cost: CPU of the application and of the database, by filters, on both databases.

Run with ``make bench-facets``, or alone as ``python -m benchmarks.facets --products 100000``. The requests go straight
into the application. To compare with another version, run this file in a checkout of that one as well.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask import Flask
from flask_migrate import upgrade

from app import create_app
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.samples import service as samples
from app.features.users import service as users
from app.security.permissions import Role
from benchmarks.catalogue import PASSWORD, SECRETS, catalogue
from config import Config, Environment

_FACETS = "/api/v1/products/facets"
_WARM_UP, _REQUESTS = 3, 15
_POSTGRES = {"shared_buffers": "1GB", "max_wal_size": "8GB", "max_parallel_workers_per_gather": "0"}
_READER = "facets@example.com"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.facets", description=__doc__)
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    arguments = parser.parse_args()
    for name in arguments.databases:
        with (_sqlite if name == "sqlite" else _postgresql)() as (app, cpu_seconds):
            _fill(app, arguments.products)
            for query, cost in _costs(app, cpu_seconds):
                print(f"{name} {arguments.products:>9,} {query or 'everything'}: {cost:.1f} ms of CPU", flush=True)


@contextmanager
def _sqlite() -> Iterator[tuple[Flask, Callable[[], float]]]:
    with tempfile.TemporaryDirectory() as folder:
        yield _application(f"sqlite:///{folder}/bench.db"), time.process_time


@contextmanager
def _postgresql() -> Iterator[tuple[Flask, Callable[[], float]]]:
    with catalogue(1, options=_POSTGRES) as made:
        app = _application(made.url)
        yield app, lambda: time.process_time() + made.cpu_seconds()
        with app.app_context():
            db.engine.dispose()


def _application(url: str) -> Flask:
    settings = {"app_env": Environment.TESTING, "database_url": url, "rate_limit_enabled": False, "log_level": "ERROR"}
    return create_app(Config.from_environment({"ANSWER_CACHE_BYTES": "0"}, **settings, **SECRETS))


def _fill(app: Flask, products: int) -> None:
    with app.app_context():
        upgrade()
        with unit_of_work():
            users.create_user(username="reader", email=_READER, password=PASSWORD, role=Role.USER)
            tree = samples.plant_tree()
        for start in range(1, products, samples.PRODUCTS_PER_CHUNK):
            with unit_of_work():
                samples.generate_products(1, range(start, start + samples.PRODUCTS_PER_CHUNK), tree, currency="USD")
        with unit_of_work():
            samples.refresh_statistics()


def _costs(app: Flask, cpu_seconds: Callable[[], float]) -> Iterator[tuple[str, float]]:
    client = app.test_client()
    token = client.post("/api/v1/auth/login", json={"email": _READER, "password": PASSWORD}).get_json()
    headers = {"Authorization": f"Bearer {token['access_token']}"}

    def ask(query: str) -> dict[str, list[dict[str, object]]]:
        answer = client.get(f"{_FACETS}?{query}", headers=headers)
        if answer.status_code != 200:
            sys.exit(f"{query}: {answer.status_code} {answer.get_data(as_text=True)}")
        counted: dict[str, list[dict[str, object]]] = answer.get_json()
        return counted

    shown = ask("")
    category, tag = shown["category"][0]["id"], shown["tag"][0]["value"]
    filters = ("", "currency=USD", f"tag={tag}", f"category_id={category}", f"category_id={category}&tag={tag}")
    for query in (*filters, f"category_id={category}&currency=USD&min_price=50", "in_stock=true"):
        for _ in range(_WARM_UP):
            ask(query)
        before = cpu_seconds()
        for _ in range(_REQUESTS):
            ask(query)
        yield query, (cpu_seconds() - before) / _REQUESTS * 1000


if __name__ == "__main__":
    main()
