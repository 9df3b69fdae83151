"""What a dead endpoint with a long queue does to the others, and to those who read the API.

Run with ``make bench-webhooks``. One server and one `flask worker` on PostgreSQL. Each measurement is made in turn
while no endpoint is dead and while one is, which accepts every message and never answers it, and for which
``--queued`` deliveries wait. Figures are ratios to quiet time.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import func, select

from app import create_app
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.users import service as users
from app.features.webhooks.models import Delivery, DeliveryStatus
from app.security.permissions import Role
from config import Config, Environment
from tests.live.conftest import SECRETS, environment, process
from tests.receiver import Received, Receiver, Reply, receiver
from tests.servers import GunicornServer, create_database, gunicorn_server, postgres_server

PASSWORD = "correct horse battery"  # noqa: S105 -- of an account that lives as long as the benchmark
#: Seconds that an endpoint may take; a message that is on its way for longer is a failure of the benchmark.
PATIENCE = 30


@dataclass
class Sample:
    """Seconds from a change to its message, and of reading a list."""

    lags: list[float]
    reads: list[float]


@dataclass(frozen=True)
class Place:
    """The server, its endpoint, and an administrator's session at it."""

    server: GunicornServer
    endpoint: Receiver
    session: requests.Session
    product_id: int

    def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The body of an answer; exits on an error."""
        answer = self.session.request(method, f"{self.server.url}/api/v1{path}", timeout=PATIENCE, **options)
        if answer.status_code >= 400:
            sys.exit(f"{method} {path}: {answer.status_code} {answer.text}")
        return dict(answer.json()) if answer.content else {}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.webhooks", description=__doc__)
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=40, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with _place(arguments.queued) as (app, place):
        place.call("POST", "/webhooks", json={"url": f"{place.endpoint.url}/fine", "events": ["price.changed"]})
        dead = place.call("POST", "/webhooks", json={"url": f"{place.endpoint.url}/dead", "events": ["*"]})
        place.call("POST", f"/webhooks/{dead['id']}/replay", json={"cursor": ""})
        _wait_for_queue(app, arguments.queued)
        quiet, busy = Sample([], []), Sample([], [])
        for _ in range(arguments.rounds):
            for sample, is_enabled in ((quiet, False), (busy, True)):
                _enable(place, dead["id"], is_enabled=is_enabled)
                _measure(place, sample, arguments.changes)
        waiting = _queued(app)
    print(f"{waiting} deliveries wait for the endpoint that answers nothing")
    print(_line("a change to its message at another endpoint", quiet.lags, busy.lags))
    print(_line("a list", quiet.reads, busy.reads))


def _line(what: str, quiet: list[float], busy: list[float]) -> str:
    ratios = [_percentile(busy, share) / _percentile(quiet, share) for share in (50, 99)]
    p50, busy_p50, p99, busy_p99 = (1000 * _percentile(each, share) for share in (50, 99) for each in (quiet, busy))
    absolute = f"p50 {p50:.0f} -> {busy_p50:.0f} ms, p99 {p99:.0f} -> {busy_p99:.0f} ms"
    return f"{what}: p50 {ratios[0]:.2f} and p99 {ratios[1]:.2f} of quiet time ({absolute})"


def _percentile(sample: list[float], share: int) -> float:
    return statistics.quantiles(sample, n=100, method="inclusive")[share - 1]


@contextmanager
def _place(products: int) -> Iterator[tuple[Flask, Place]]:
    with ExitStack() as stack:
        url = create_database(stack.enter_context(postgres_server()), "catalog")
        keys = {name.lower(): value for name, value in SECRETS.items()}
        settings = {"app_env": Environment.TESTING, "database_url": url, "rate_limit_enabled": False, **keys}
        app = create_app(Config.from_environment({}, **settings))
        with app.app_context():
            upgrade()
            with unit_of_work():
                users.create_user(email="root@example.com", username="root", password=PASSWORD, role=Role.ADMIN)
        command = ["catalog", "generate", "--count", str(products), "--parents", "0"]
        app.test_cli_runner().invoke(args=command, catch_exceptions=False)
        endpoint = stack.enter_context(receiver())
        released = threading.Event()
        stack.callback(released.set)
        endpoint.replies = lambda message: _reply(message, released)
        env = environment(url, WEBHOOK_ALLOWED_PRIVATE_HOSTS="127.0.0.1")
        server = stack.enter_context(gunicorn_server(env, workers=2, threads=3))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="catalog-bench-")))
        stack.enter_context(process(["-m", "flask", "worker", "--concurrency", "4"], env, folder / "worker.log"))
        session = requests.Session()
        login = session.post(
            f"{server.url}/api/v1/auth/login",
            json={"email": "root@example.com", "password": PASSWORD},
            timeout=PATIENCE,
        )
        session.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
        product = session.get(f"{server.url}/api/v1/products?per_page=1", timeout=PATIENCE).json()["items"][0]
        yield app, Place(server, endpoint, session, product["id"])


def _reply(message: Received, released: threading.Event) -> Reply:
    if message.path == "/dead":
        released.wait()
    return Reply()


def _queued(app: Flask) -> int:
    with app.app_context(), unit_of_work(reading=True):
        waits = Delivery.status.in_([DeliveryStatus.PENDING, DeliveryStatus.SENDING])
        return db.session.scalar(select(func.count()).where(waits)) or 0


def _wait_for_queue(app: Flask, number: int) -> None:
    deadline = time.monotonic() + 120
    while _queued(app) < number:
        if time.monotonic() > deadline:
            sys.exit(f"{_queued(app)} of {number} deliveries are queued after two minutes")
        time.sleep(0.2)


def _enable(place: Place, webhook_id: int, *, is_enabled: bool) -> None:
    place.call("PATCH", f"/webhooks/{webhook_id}", json={"is_enabled": is_enabled}, headers={"If-Match": "*"})
    # The attempts that are on their way end, and the next begin.
    time.sleep(2)


def _measure(place: Place, sample: Sample, changes: int) -> None:
    """Change a price again and again, and wait for each message; lists are read meanwhile."""
    over = threading.Event()
    reader = threading.Thread(target=_read, args=(place, sample.reads, over))
    reader.start()
    try:
        for number in range(changes):
            seen, started = len(place.endpoint.at("/fine")), time.monotonic()
            price = f"{10 + (time.monotonic_ns() + number) % 90_000 / 100:.2f}"
            place.call("PATCH", f"/products/{place.product_id}", json={"price": price}, headers={"If-Match": "*"})
            while len(place.endpoint.at("/fine")) == seen:
                if time.monotonic() - started > PATIENCE:
                    sys.exit("a message did not arrive")
                time.sleep(0.002)
            sample.lags.append(time.monotonic() - started)
    finally:
        over.set()
        reader.join()


def _read(place: Place, seconds: list[float], over: threading.Event) -> None:
    with requests.Session() as session:
        session.headers.update(place.session.headers)
        page = 0
        while not over.is_set():
            page += 1
            started = time.monotonic()
            url = f"{place.server.url}/api/v1/products?per_page=20&page={page % 400 + 1}"
            if session.get(url, timeout=PATIENCE).status_code != 200:
                sys.exit("a list was not answered")
            seconds.append(time.monotonic() - started)
            time.sleep(0.01)


if __name__ == "__main__":
    main()
