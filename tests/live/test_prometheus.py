"""A real Prometheus scrapes a server, its streams and a worker: the panels show something, and faults are alerts."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import text

from app import create_app
from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.security.permissions import Role
from app.security.tokens import issue_access_token
from tests import pictures
from tests.conftest import PASSWORD, insert_user_with_session, settings_for
from tests.dashboard import PANELS, queries_of
from tests.leaks import SEARCHED
from tests.live.conftest import SECRETS, environment, process
from tests.live.followers import EventSource, WebSocket
from tests.live.wire import Client, wait_for, wire
from tests.prometheus import WINDOW, Prometheus, needs_prometheus, prometheus
from tests.receiver import Receiver, receiver
from tests.servers import PROJECT, create_database, free_port, gunicorn_server, hung_postgres, valkey_server

pytestmark = [pytest.mark.live, needs_prometheus, pytest.mark.timeout(400)]

TOKEN = "t0ken-0f-the-metrics-0123456789ab"
#: Panels that show nothing on a healthy day: the first is looked at where requests fail, and nothing is deprecated yet.
OF_FAULTS, OF_OLD_VERSIONS = {"Errors by route"}, {"Calls of what is deprecated"}
#: How long a request takes is the machine's, and other tests keep it busy.
OF_THE_MACHINE = {"CatalogSlow"}
#: How late work is made, in minutes: the threshold of the alerts stays as it is.
LATE = timedelta(minutes=10)
#: Seconds of a busy machine until an alert fires, or ends.
PATIENCE = 90


@dataclass
class World:
    """Everything that runs: to be asked, and to be broken."""

    app: Flask
    postgres: str
    env: dict[str, str]
    folder: Path
    editor: str
    admin: str
    ports: dict[str, int] = field(default_factory=dict)
    redis: ExitStack = field(default_factory=ExitStack)
    redis_port: int = 0
    worker: ExitStack = field(default_factory=ExitStack)
    worker_process: subprocess.Popen[bytes] | None = None
    over: threading.Event = field(default_factory=threading.Event)

    def start_redis(self) -> None:
        self.redis.enter_context(valkey_server(port=self.redis_port))

    def start_worker(self) -> None:
        env = {**self.env, "METRICS_PORT": str(self.ports["catalog-worker"])}
        started = process(["-m", "flask", "worker"], env, self.folder / "worker.log")
        self.worker_process = self.worker.enter_context(started)

    def kill_worker(self) -> None:
        assert self.worker_process is not None
        os.kill(self.worker_process.pid, signal.SIGKILL)
        self.worker.close()

    def execute(self, statement: str, **values: Any) -> None:
        with self.app.app_context(), unit_of_work():
            db.session.execute(text(statement), values)

    @contextmanager
    def client(self, token: str | None) -> Iterator[Client]:
        client = Client(self.ports["http"], token)
        try:
            yield client
        finally:
            client.close()


def make_callers(app: Flask, password_hash: str) -> dict[Role, str]:
    """A token for an editor and for an administrator."""
    tokens = {}
    with app.app_context(), unit_of_work():
        for name, role in (("alice", Role.EDITOR), ("root", Role.ADMIN)):
            user_id, session_id = insert_user_with_session(name, role, password_hash)
            tokens[role] = issue_access_token(user_id=user_id, session_id=session_id, role=role)
    return tokens


@pytest.fixture(scope="module")
def world(postgres_url: str, password_hash: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two workers for requests, one for streams, one `flask worker`, PostgreSQL and Valkey."""
    folder, url = tmp_path_factory.mktemp("world"), create_database(postgres_url, "observed")
    keys = {name.lower(): secret for name, secret in SECRETS.items()}
    app = create_app(settings_for(url, **keys))
    with app.app_context():
        upgrade()
    tokens = make_callers(app, password_hash)
    redis_port = free_port()
    env = environment(
        url,
        REDIS_URL=f"redis://127.0.0.1:{redis_port}/0",
        RATE_LIMIT_ENABLED="true",
        RATE_LIMIT_DEFAULT="100000 per minute",
        RATE_LIMIT_LOGIN="100 per minute",
        MEDIA_STORE=(folder / "media").as_uri(),
        WEBHOOK_ALLOWED_PRIVATE_HOSTS="127.0.0.1",
        METRICS_TOKEN=TOKEN,
        LOG_LEVEL="INFO",
    )
    world = World(app, postgres_url, env, folder, tokens[Role.EDITOR], tokens[Role.ADMIN], redis_port=redis_port)
    world.ports = {f"catalog-{name}": free_port() for name in ("api", "streams", "worker")}
    with ExitStack() as stack:
        stack.callback(world.redis.close)
        world.start_redis()
        for name, size in {"api": {"MAX_STREAMS": "0"}, "streams": {"MAX_STREAMS": "10"}}.items():
            own = {**env, **size, "METRICS_PORT": str(world.ports[f"catalog-{name}"])}
            server = stack.enter_context(gunicorn_server(own, workers=2 if name == "api" else 1, threads=4))
            world.ports["http" if name == "api" else "live"] = server.port
        stack.callback(world.worker.close)
        world.start_worker()
        yield world
    with app.app_context():
        db.engine.dispose()


@contextmanager
def traffic(world: World) -> Iterator[None]:
    """A client that reads, searches and writes for as long as a block lasts, whatever the answers."""

    def work() -> None:
        count = 0
        while not world.over.wait(0.1):
            count += 1
            with suppress(OSError, HTTPException), world.client(world.editor) as client:
                client.get("/products")
                client.get(f"/products?search={SEARCHED}&min_price=0.{count % 100:02}")
                client.get(f"/products?search=no{SEARCHED}")
                if count % 10 == 0:
                    client.patch("/products/1", {"name": f"{SEARCHED.title()} {count}"})

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        world.over.set()
        thread.join()


def live_through(world: World, endpoint: Receiver) -> None:
    """A little of everything that is counted."""
    with world.client(world.admin) as root, world.client(world.editor) as alice, world.client(None) as anyone:
        hook = root.post("/webhooks", {"url": f"{endpoint.url}/hook", "events": ["product.*"]})
        assert hook.status == 201, hook.body
        category = alice.post("/categories", {"name": "Zebras"}).json["id"]
        assert [alice.post("/brands", {"name": "Savannah"}).status for _ in range(2)] == [201, 409]
        product = alice.post("/products", {"name": SEARCHED.title(), "price": "9.00", "category_id": category})
        assert (product.status, product.json["id"]) == (201, 1), product.body
        picture = alice.upload("/media", pictures.flat("red"), "image/png")
        assert picture.status == 201, picture.body
        assert alice.post("/media", {"url": f"{endpoint.url}/no-picture"}).status in {201, 202}
        anyone.post("/auth/login", {"email": "alice@example.com", "password": PASSWORD})
        for _ in range(12):
            anyone.post("/auth/login", {"email": "eve@example.com", "password": "wrong horse battery"})
        anyone.post("/auth/forgot-password", {"email": "alice@example.com"})
    with wire(world.ports["http"]) as garbage:
        garbage.send(b"GET / HTTP/9.9\r\n\r\n")
        garbage.read()
    wait_for(lambda: endpoint.at("/hook"))


@pytest.fixture(scope="module")
def seen(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, which scrapes while there is traffic and streams are open."""
    targets = {job: port for job, port in world.ports.items() if job.startswith("catalog-")}
    with ExitStack() as stack:
        endpoint = stack.enter_context(receiver())
        watching = stack.enter_context(prometheus(tmp_path_factory.mktemp("prometheus"), targets, token=TOKEN))
        stack.enter_context(traffic(world))
        stack.callback(EventSource(world.ports["live"], world.editor).cut)
        stack.callback(WebSocket(world.ports["live"], world.editor).cut)
        live_through(world, endpoint)
        yield watching


@pytest.fixture(scope="module")
def empty_panels(seen: Prometheus) -> list[str]:
    """The panels that show nothing, and their queries; looked at before any fault is made."""
    queries = {
        query: panel["title"]
        for panel in PANELS
        if panel["title"] not in OF_FAULTS | OF_OLD_VERSIONS
        for query in queries_of(panel, window=WINDOW)
    }
    # Each has had something to show at some time.
    for _ in range(PATIENCE):
        queries = {query: title for query, title in queries.items() if not seen.query(query)}
        if not queries:
            break
        time.sleep(1)
    return [f"{title}: {query}" for query, title in queries.items()]


@pytest.fixture
def quiet(seen: Prometheus, empty_panels: list[str]) -> Prometheus:
    """Prometheus, when no alert fires, after a look at the panels: it may have to see a fault of another test end."""
    with suppress(AssertionError):
        wait_for(lambda: not seen.firing() - OF_THE_MACHINE, seconds=PATIENCE)
    assert seen.firing() - OF_THE_MACHINE == set()
    return seen


def wait_for_alert(seen: Prometheus, *alerts: str) -> None:
    """Wait until each of these alerts has fired, whatever else does: one of a change ends before another may begin."""
    awaited = set(alerts)

    def have_fired() -> bool:
        awaited.difference_update(seen.firing())
        return not awaited

    with suppress(AssertionError):
        wait_for(have_fired, seconds=PATIENCE)
    assert awaited == set()


class TestAHealthyRun:
    def test_has_something_to_show_in_every_panel(self, empty_panels: list[str]) -> None:
        assert not empty_panels, "\n".join(empty_panels)

    def test_has_no_alert_and_every_process(self, quiet: Prometheus) -> None:
        def up() -> dict[str, float]:
            return {labels["job"]: value for labels, value in quiet.query("up")}

        # A scrape may be late on a busy machine.
        wait_for(lambda: up() == {"catalog-api": 1, "catalog-streams": 1, "catalog-worker": 1})
        wait_for(lambda: quiet.query("count_over_time(up[1m])"), until=lambda found: min(n for _, n in found) > 5)
        assert quiet.firing() - OF_THE_MACHINE == set()

    def test_has_nothing_to_show_of_old_versions(self) -> None:
        # Where something is deprecated, the panel is one of those that show something.
        assert '"deprecated": true' not in (PROJECT / "openapi.json").read_text()


class TestAFaultIsAnAlert:
    def test_where_the_database_hangs(self, world: World, quiet: Prometheus) -> None:
        with hung_postgres(world.postgres):
            wait_for_alert(quiet, "CatalogDatabaseDown")

    def test_where_redis_is_lost(self, world: World, quiet: Prometheus) -> None:
        world.redis.close()
        try:
            wait_for_alert(quiet, "CatalogRedisLost")
            assert "CatalogErrors" not in quiet.firing()
        finally:
            world.start_redis()

    def test_where_requests_fail(self, world: World, quiet: Prometheus) -> None:
        (errors,) = (panel for panel in PANELS if panel["title"] in OF_FAULTS)

        world.execute("ALTER TABLE products RENAME TO gone")
        try:
            wait_for_alert(quiet, "CatalogErrors", "CatalogDatabaseErrors")
            assert all(quiet.query(query) for query in queries_of(errors, window=WINDOW))
        finally:
            world.execute("ALTER TABLE gone RENAME TO products")

    def test_where_the_worker_dies_and_deliveries_wait(self, world: World, quiet: Prometheus) -> None:
        world.kill_worker()
        try:
            with world.client(world.editor) as alice:
                assert alice.patch("/products/1", {"name": "Okapi"}).status == 200
            long_ago = clock.now() - LATE
            for table, column in {
                "change_log": "created_at",
                "change_events": "created_at",
                "workers": "seen_at",
            }.items():
                world.execute(f"UPDATE {table} SET {column} = :then", then=long_ago)

            wait_for_alert(quiet, "CatalogTargetDown", "CatalogNoWorker", "CatalogWorkerDied", "CatalogWebhooksLate")
        finally:
            world.start_worker()
