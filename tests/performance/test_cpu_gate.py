"""What a request costs of CPU, as a part of what the Flask of the textbooks takes for the same answer.

Both are in this process, on the same rows of one PostgreSQL, and are sent the same requests in turns. No token and no
query is sent twice, so that nothing is remembered of them. What counts is the CPU time of this thread and not the
clock, and the ratio within a round and not the time itself: a busy or a slow machine makes both dearer.
"""

import gc
import io
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import text

from app import create_app
from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.samples import service as samples
from app.features.sessions.models import UserSession
from app.features.users.models import User
from app.security.permissions import Role
from app.security.tokens import issue_access_token
from benchmarks.peers.naive_flask import app as naive
from benchmarks.scenarios import NEW_PRODUCT
from config import Config, Environment
from tests.servers import create_database, drop_database

#: The textbooks' CPU per request as a multiple of ours: about nine tenths of what was measured when this was set. Ours
#: counts metrics, and theirs do not.
FLOORS = {"list": 2.6, "detail": 2.0, "create": 1.4}

PRODUCTS = 2_000
ROUNDS = 15
#: Of a kind in each round.
REQUESTS = 8
SECRET = "j" * 32
#: What each application makes up for itself when it creates a product.
VOLATILE = ("id", "sku", "slug", "external_id", "created_at", "updated_at")

Answer = tuple[str, bytes]


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    """An empty database."""
    name = "cpu_gate"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.fixture(scope="module")
def ours(database: str) -> Iterator[Flask]:
    """This application as it is benchmarked: no limits, and nothing remembered between requests."""
    config = Config.from_environment(
        {"ANSWER_CACHE_BYTES": "0"},
        app_env=Environment.TESTING,
        database_url=database,
        secret_key="s" * 32,
        jwt_secret_key=SECRET,
        rate_limit_enabled=False,
        log_level="ERROR",
    )
    app = create_app(config)
    with app.app_context():
        upgrade()
        with unit_of_work():
            samples.generate_products(1, range(PRODUCTS), samples.plant_tree(), currency="USD")
        with unit_of_work():
            samples.refresh_statistics()
        yield app
        db.engine.dispose()


@pytest.fixture(scope="module")
def theirs(database: str) -> Iterator[Flask]:
    """The Flask of the textbooks."""
    app = naive.create_app(database, SECRET, threads=1)
    yield app
    with app.app_context():
        naive.db.engine.dispose()


@dataclass(frozen=True)
class Request:
    """A request; with a ``body`` it is a POST, and each @ in it stands for the application that it is sent to."""

    path: str
    token: str
    body: str = ""


@pytest.fixture(scope="module")
def tokens(ours: Flask, password_hash: str) -> Iterator[str]:
    """An editor's tokens, each another."""
    with ours.app_context(), unit_of_work():
        user = User(email="alice@example.com", username="alice", password_hash=password_hash, role=Role.EDITOR)
        db.session.add(user)
        db.session.flush()
        session = UserSession(
            user_id=user.id, device="tests", address="127.0.0.1", expires_at=clock.now() + timedelta(days=1)
        )
        db.session.add(session)
        db.session.flush()
        named: dict[str, Any] = {"user_id": user.id, "session_id": session.id, "role": user.role}

    def issue() -> Iterator[str]:
        while True:
            with ours.app_context():
                token = issue_access_token(**named)
            yield token

    return issue()


@pytest.fixture(scope="module")
def requests(ours: Flask, tokens: Iterator[str]) -> dict[str, Iterator[Request]]:
    """What is asked for, each time something else: pages of the largest categories, products, and new products."""
    with ours.app_context(), unit_of_work(reading=True):
        largest = "SELECT category_id FROM products GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 4"
        categories = db.session.scalars(text(largest)).all()
        products = db.session.scalars(text("SELECT id FROM products ORDER BY id")).all()
    query = "sort_by=price&order=asc&per_page=20"

    def lists() -> Iterator[Request]:
        # Nothing costs less, so that each page has as many rows as without it.
        for cents in itertools.count(1):
            for category, page in itertools.product(categories, (1, 2)):
                yield Request(f"?category_id={category}&min_price={cents / 100:.2f}&{query}&page={page}", next(tokens))

    def details() -> Iterator[Request]:
        return (Request(f"/{product}", next(tokens)) for product in itertools.cycle(products))

    def creates() -> Iterator[Request]:
        for number in itertools.count():
            product = {**NEW_PRODUCT, "category_id": categories[-1], "sku": f"@-{number}", "external_id": f"@-{number}"}
            yield Request("", next(tokens), json.dumps(product))

    return {"list": lists(), "detail": details(), "create": creates()}


def ask(app: Flask, request: Request) -> Answer:
    """Send a request straight into the application."""
    where, _, query = request.path.partition("?")
    body = request.body.replace("@", app.import_name).encode()
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST" if body else "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": f"/api/v1/products{where}",
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:8000",
        "HTTP_AUTHORIZATION": f"Bearer {request.token}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "CONTENT_TYPE": "application/json" if body else "",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    statuses: list[str] = []
    wsgi: Callable[..., Any] = app
    chunks = wsgi(environ, lambda status, _headers, _error=None: statuses.append(status))
    try:
        return statuses[0], b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()


def cpu_of(app: Flask, request: Request) -> float:
    """The CPU seconds of this thread for a request."""
    started = time.thread_time()
    ask(app, request)
    return time.thread_time() - started


def ratio_of_a_round(ours: Flask, theirs: Flask, requests: Iterator[Request]) -> float:
    """Their CPU for some requests as a multiple of ours; request by request in turns, so that both meet the same."""
    gc.collect()
    our_cpu = their_cpu = 0.0
    for request in list(itertools.islice(requests, REQUESTS)):
        our_cpu += cpu_of(ours, request)
        their_cpu += cpu_of(theirs, request)
    return their_cpu / our_cpu


def read(answer: Answer) -> tuple[str, dict[str, Any]]:
    """The status, and the members of the body that both applications answer with alike."""
    status, body = answer
    members = json.loads(body)
    return status, {name: value for name, value in members.items() if status == "200 OK" or name not in VOLATILE}


@pytest.mark.parametrize("kind", list(FLOORS))
def test_requests_stay_cheap(kind: str, ours: Flask, theirs: Flask, requests: dict[str, Iterator[Request]]) -> None:
    for request in itertools.islice(requests[kind], REQUESTS):  # which also warms both
        status, body = read(ask(ours, request))
        assert status in {"200 OK", "201 CREATED"}, body
        assert read(ask(theirs, request)) == (status, body), request

    ratios = [ratio_of_a_round(ours, theirs, requests[kind]) for _ in range(ROUNDS)]

    assert statistics.median(ratios) >= FLOORS[kind], [f"{ratio:.2f}" for ratio in sorted(ratios)]
