"""What a read costs of CPU, as a part of what the Flask of the textbooks takes for the same answer.

Both are in this process, on the same rows of one PostgreSQL, and are sent the same requests in turns. What counts is
the CPU time of this thread and not the clock, and the ratio within a round and not the time itself: a busy or a slow
machine makes both dearer.
"""

import gc
import io
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
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
from config import Config, Environment
from tests.servers import create_database, drop_database

#: The textbooks' CPU per request as a multiple of ours: four fifths of what was measured when this was last set.
FLOORS = {"list": 3.0, "detail": 2.3}

PRODUCTS = 2_000
ROUNDS = 15
SECRET = "j" * 32

Answer = tuple[str, bytes]
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Any]


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


@pytest.fixture(scope="module")
def token(ours: Flask, password_hash: str) -> str:
    """An editor's."""
    with ours.app_context(), unit_of_work():
        user = User(email="alice@example.com", username="alice", password_hash=password_hash, role=Role.EDITOR)
        db.session.add(user)
        db.session.flush()
        session = UserSession(
            user_id=user.id, device="tests", address="127.0.0.1", expires_at=clock.now() + timedelta(days=1)
        )
        db.session.add(session)
        db.session.flush()
        return issue_access_token(user_id=user.id, session_id=session.id, role=user.role)


@pytest.fixture(scope="module")
def paths(ours: Flask) -> dict[str, list[str]]:
    """What is asked for: pages of the largest categories, and products."""
    with ours.app_context(), unit_of_work(reading=True):
        largest = "SELECT category_id FROM products GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 4"
        categories = db.session.scalars(text(largest)).all()
        products = db.session.scalars(text("SELECT id FROM products ORDER BY id LIMIT 12 OFFSET 500")).all()
    query = "sort_by=price&order=asc&per_page=20"
    return {
        "list": [f"?category_id={category}&{query}&page={page}" for category in categories for page in (1, 2)],
        "detail": [f"/{product}" for product in products],
    }


def ask(app: Wsgi, path: str, token: str) -> Answer:
    """Send a request straight into the application."""
    where, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": f"/api/v1/products{where}",
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:8000",
        "HTTP_AUTHORIZATION": f"Bearer {token}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    statuses: list[str] = []
    chunks = app(environ, lambda status, _headers, _error=None: statuses.append(status))
    try:
        return statuses[0], b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()


def cpu_of(app: Wsgi, path: str, token: str) -> float:
    """The CPU seconds of this thread for a request."""
    started = time.thread_time()
    ask(app, path, token)
    return time.thread_time() - started


def ratio_of_a_round(ours: Wsgi, theirs: Wsgi, paths: Sequence[str], token: str) -> float:
    """Their CPU for some requests as a multiple of ours; request by request in turns, so that both meet the same."""
    gc.collect()
    our_cpu = their_cpu = 0.0
    for path in paths:
        our_cpu += cpu_of(ours, path, token)
        their_cpu += cpu_of(theirs, path, token)
    return their_cpu / our_cpu


@pytest.mark.parametrize("kind", list(FLOORS))
def test_reads_stay_cheap(kind: str, ours: Flask, theirs: Flask, token: str, paths: dict[str, list[str]]) -> None:
    for path in paths[kind]:  # which also warms both
        (status, body), (their_status, their_body) = ask(ours, path, token), ask(theirs, path, token)
        assert status == their_status == "200 OK", (path, status, their_status)
        assert json.loads(body) == json.loads(their_body), path

    ratios = [ratio_of_a_round(ours, theirs, paths[kind], token) for _ in range(ROUNDS)]

    assert statistics.median(ratios) >= FLOORS[kind], [f"{ratio:.2f}" for ratio in sorted(ratios)]
