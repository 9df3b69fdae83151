"""When something else fails: the database, a worker, a lock, a setting."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy import make_url

from tests.conftest import BACKENDS, PASSWORD, Caller, rows_of
from tests.live.conftest import SECRETS, Site, environment, kill_workers, only, worker_pids
from tests.live.wire import PATIENCE, Answer, Client, ask, asking, at_once, wait_for, wait_for_more, wire
from tests.servers import INHERITED, PROJECT, GunicornServer, free_port, gunicorn_server

pytestmark = pytest.mark.live

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]


@pytest.fixture
def backend() -> str:
    """The database that can be broken from outside."""
    return "postgresql"


def conninfo(app: Flask, database: str | None = None) -> str:
    """Where psycopg finds the application's database, or another one of its server."""
    url = make_url(database_url(app))
    return url.set(drivername="postgresql", database=database or url.database).render_as_string(hide_password=False)


def database_url(app: Flask) -> str:
    url: str = app.config["DATABASE_URL"]
    return url


def run_flask(database_url: str, *command: str) -> None:
    """Run a command as an operator does."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    subprocess.run(
        [sys.executable, "-m", "flask", *command],
        cwd=PROJECT,
        env=inherited | environment(database_url),
        check=True,
        capture_output=True,
        timeout=60,
    )


def assert_unavailable(answer: Answer, code: str = "database_unavailable") -> None:
    assert (answer.status, answer.code) == (503, code)
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"


def assert_not_ready(port: int) -> None:
    """Wait until /readyz says so: it looks at the database once a second."""
    answer = wait_for(partial(ask, port, "//readyz"), until=lambda answer: answer.status == 503)
    assert_unavailable(answer, "database_not_ready")


class TestADatabaseThatIsNotThere:
    """A process in production that starts before its database."""

    @pytest.fixture
    def site(self, cut_off: GunicornServer, app: Flask) -> Site:
        return Site(cut_off, app)

    def test_does_not_keep_the_process_from_living(self, cut_off: GunicornServer) -> None:
        assert ask(cut_off.port, "//livez").status == 200
        assert ask(cut_off.port, "//health").status == 200
        assert ask(cut_off.port, "//docs").status == 200
        assert ask(cut_off.port, "//openapi.json").status == 200

    def test_makes_it_not_ready(self, cut_off: GunicornServer) -> None:
        assert_not_ready(cut_off.port)

    def test_is_what_every_operation_that_needs_it_answers(self, alice: Caller, connect: Connect) -> None:
        client, stranger = connect(alice), connect()

        for answer in [
            client.get("/products"),
            client.get("/products/1"),
            client.post("/products", {"name": "Chair", "price": "1.00", "category_id": 1}),
            client.patch("/products/1", {"name": "Chair"}),
            client.delete("/products/1"),
            stranger.post("/auth/login", {"email": "alice@example.com", "password": PASSWORD}),
            stranger.post("/auth/register", {"email": "dave@example.com", "username": "dave", "password": PASSWORD}),
        ]:
            assert_unavailable(answer)

    def test_is_not_needed_to_refuse(self, alice: Caller, connect: Connect) -> None:
        client, stranger, forger = connect(alice), connect(), connect()
        assert alice.token
        forger.token = alice.token[:-4] + ("AAAA" if not alice.token.endswith("AAAA") else "BBBB")

        assert client.get("/nowhere").status == 404
        assert client.get("/products/zero").status == 404
        assert client.call("PUT", "/products").status == 405
        assert stranger.get("/products").status == 401
        assert forger.get("/products").code == "token_invalid"
        assert client.get("/products", x_api_key="both").status == 400

    def test_is_noticed_by_every_thread_at_once(self, alice: Caller, connect: Connect) -> None:
        for answer in at_once([partial(connect(alice).get, "/products") for _ in range(32)]):
            assert_unavailable(answer)


@pytest.fixture(scope="module")
def cut_off() -> Iterator[GunicornServer]:
    """A server whose DATABASE_URL leads nowhere."""
    with gunicorn_server(environment(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")) as server:
        yield server


class TestADatabaseThatGoesAway:
    def test_is_used_again_once_it_is_back(self, alice: Caller, site: Site, connect: Connect) -> None:
        client = connect(alice)
        assert client.get("/products").status == 200

        with shut(site.app):
            assert_unavailable(client.get("/products"))
            assert_unavailable(client.post("/categories", {"name": "Chairs"}))
            assert_not_ready(site.port)
            assert ask(site.port, "//livez").status == 200

        wait_for(lambda: ask(site.port, "//readyz").status == 200)
        assert client.get("/products").status == 200
        assert client.post("/categories", {"name": "Chairs"}).status == 201

    def test_and_takes_idle_connections_along_costs_no_request(
        self, alice: Caller, site: Site, connect: Connect
    ) -> None:
        crowd = [connect(alice) for _ in range(16)]
        for number in range(5):
            at_once([partial(client.get, "/products") for client in crowd])

            terminate(site.app)

            answers = at_once([partial(client.get, "/products") for client in crowd])
            assert {answer.status for answer in answers} == {200}
            terminate(site.app)
            posted = [
                partial(client.post, "/categories", {"name": "C", "slug": f"c{number}-{n}"})
                for n, client in enumerate(crowd)
            ]
            assert {answer.status for answer in at_once(posted)} == {201}

    def test_and_takes_busy_connections_along_costs_no_read(
        self, alice: Caller, site: Site, make_product: Make
    ) -> None:
        path = f"/products/{make_product()['id']}"
        with asking(site.port, alice.token, path) as answers:
            for _ in range(10):
                wait_for_more(answers)
                assert terminate(site.app)

        # On a machine where no statement gets the CPU for half a second, that is said instead of waiting for it.
        refused = [answer for answer in answers if answer.status != 200]
        assert {answer.code for answer in refused} <= {"database_busy"}
        assert len(refused) < 10

    def test_and_takes_busy_connections_along_loses_no_acknowledged_write(
        self, alice: Caller, site: Site, make_product: Make, connect: Connect
    ) -> None:
        path = f"/products/{make_product(attributes={'edits': 0})['id']}"
        over = threading.Event()

        def edit(client: Client) -> list[int]:
            statuses = []
            while not over.is_set():
                before = client.get(path)
                content = {"attributes": {"edits": before.json["attributes"]["edits"] + 1}}
                statuses.append(client.patch(path, content, before.etag).status)
            return statuses

        with ThreadPoolExecutor(4) as threads:
            running = [threads.submit(edit, connect(alice)) for _ in range(4)]
            try:
                with asking(site.port, alice.token, path, connections=1) as answers:
                    for _ in range(10):
                        wait_for_more(answers, 20)
                        terminate(site.app)
            finally:
                over.set()
        statuses = [status for each in running for status in each.result()]

        assert set(statuses) <= {200, 412, 503}
        edits = connect(alice).get(path).json["attributes"]["edits"]
        # A connection that is cut during COMMIT leaves the client in doubt; it is told 503 and not 200.
        assert statuses.count(200) <= edits <= statuses.count(200) + statuses.count(503)


def terminate(app: Flask) -> int:
    """End every connection that anybody has to the application's database."""
    with psycopg.connect(conninfo(app, "postgres"), autocommit=True) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s",
            [make_url(database_url(app)).database],
        ).fetchone()
    assert ended
    return int(ended[0])


@contextmanager
def shut(app: Flask) -> Iterator[None]:
    """Let nobody connect to the application's database for the length of a block."""
    name = make_url(database_url(app)).database
    with psycopg.connect(conninfo(app, "postgres"), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        terminate(app)
        try:
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


class TestASchemaThatIsNotKnown:
    @pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
    def test_makes_the_process_not_ready_until_it_is_migrated(
        self, kind: str, new_database: Callable[[str], str]
    ) -> None:
        url = new_database(kind)
        with gunicorn_server(environment(url), workers=1) as server:
            assert_not_ready(server.port)
            assert ask(server.port, "//livez").status == 200

            run_flask(url, "db", "upgrade")

            wait_for(lambda: ask(server.port, "//readyz").status == 200)

    def test_or_is_newer_makes_the_process_not_ready(self, site: Site, app: Flask) -> None:
        with psycopg.connect(conninfo(app), autocommit=True) as connection:
            [known] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
            try:
                assert_not_ready(site.port)
            finally:
                connection.execute("UPDATE alembic_version SET version_num = %s", known)

        wait_for(lambda: ask(site.port, "//readyz").status == 200)


@contextmanager
def locked(app: Flask, product_id: int) -> Iterator[psycopg.Connection]:
    """Hold the lock on a product's row."""
    with psycopg.connect(conninfo(app)) as connection:
        connection.execute("SELECT 1 FROM products WHERE id = %s FOR UPDATE", [product_id])
        yield connection


def waiting(app: Flask) -> int:
    """How many connections to the application's database wait for a lock."""
    with psycopg.connect(conninfo(app, "postgres")) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
            [make_url(database_url(app)).database],
        ).fetchone()
    assert found
    return int(found[0])


class TestALock:
    def test_is_waited_for(self, alice: Caller, app: Flask, connect: Connect, make_product: Make) -> None:
        product = make_product()
        client = connect(alice)
        with ThreadPoolExecutor(1) as thread, locked(app, product["id"]) as holder:
            editing = thread.submit(client.patch, f"/products/{product['id']}", {"name": "New"})
            wait_for(lambda: waiting(app))
            holder.rollback()

            assert editing.result().status == 200

    def test_that_is_held_too_long_is_503_and_changes_nothing(
        self, alice: Caller, app: Flask, connect: Connect, make_product: Make
    ) -> None:
        product = make_product()
        path = f"/products/{product['id']}"
        with locked(app, product["id"]):
            any_version, this_version = at_once(
                [partial(connect(alice).patch, path, {"name": "New"}, tag) for tag in ("*", '"1"')]
            )

        assert_unavailable(any_version, "database_busy")
        assert_unavailable(this_version, "database_busy")
        assert connect(alice).get(path).json == product

    def test_that_makes_a_circle_is_never_a_fault_of_ours(
        self, alice: Caller, app: Flask, connect: Connect, make_product: Make
    ) -> None:
        first, second = make_product(), make_product()
        with ThreadPoolExecutor(1) as thread, locked(app, first["id"]) as holder:
            editing = thread.submit(connect(alice).patch, f"/products/{second['id']}", {"sku": "MINE"})
            assert editing.result().status == 200
            holder.execute("UPDATE products SET name = 'x' WHERE id = %s", [second["id"]])
            editing = thread.submit(connect(alice).patch, f"/products/{first['id']}", {"name": "New"})
            wait_for(lambda: waiting(app))
            holder.commit()

            assert editing.result().status == 200


class TestALockedFile:
    @pytest.fixture
    def backend(self) -> str:
        return "sqlite"

    @pytest.fixture
    def holder(self, app: Flask) -> Iterator[sqlite3.Connection]:
        """Another process that writes and does not end."""
        connection = sqlite3.connect(str(make_url(database_url(app)).database), isolation_level=None)
        yield connection
        connection.close()

    def test_is_waited_for_while_others_read(self, alice: Caller, connect: Connect, holder: sqlite3.Connection) -> None:
        reader = connect(alice)
        holder.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as thread:
            writing = thread.submit(connect(alice).post, "/categories", {"name": "Chairs"})

            assert {reader.get("/categories").status for _ in range(5)} == {200}
            assert not writing.done()
            holder.execute("ROLLBACK")

            assert writing.result().status == 201

    def test_that_stays_so_is_503_and_changes_nothing(
        self, alice: Caller, app: Flask, connect: Connect, holder: sqlite3.Connection
    ) -> None:
        holder.execute("BEGIN IMMEDIATE")

        answers = at_once([partial(connect(alice).post, "/categories", {"name": "Chairs"}) for _ in range(4)])

        for answer in answers:
            assert_unavailable(answer, "database_busy")
        assert rows_of(app, "categories") == []
        holder.execute("ROLLBACK")
        assert connect(alice).post("/categories", {"name": "Chairs"}).status == 201


@pytest.fixture
def server(app: Flask) -> Iterator[GunicornServer]:
    """A server that need not survive the test, and whose clients may be slow, as on a busy machine."""
    with gunicorn_server(environment(database_url(app), CLIENT_TIMEOUT="60")) as server:
        for worker in worker_pids(server):
            with only(worker, server):
                assert ask(server.port, "//livez").status == 200
        yield server


class TestSignals:
    @pytest.fixture
    def site(self, server: GunicornServer, app: Flask) -> Site:
        return Site(server, app)

    def test_sigterm_answers_what_was_accepted(
        self, server: GunicornServer, alice: Caller, make_category: Make
    ) -> None:
        content = json.dumps({"name": "Chair", "price": "1.00", "category_id": make_category()["id"]}).encode()
        with ExitStack() as stack:
            crowd = [stack.enter_context(wire(server.port)) for _ in range(8)]
            for connection in crowd:
                connection.send(
                    b"POST /api/v1/products HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Expect: 100-continue\r\nContent-Length: %d\r\nAuthorization: Bearer %s\r\n\r\n"
                    % (len(content), (alice.token or "").encode())
                )
                started = connection.read()
                assert started
                assert started.status == 100

            server.process.send_signal(signal.SIGTERM)
            # Nobody new is let in, and who is in can finish.
            wait_for(lambda: not accepts(server.port))
            for connection in crowd:
                connection.send(content)
            answers = [connection.read() for connection in crowd]

        assert [answer and answer.status for answer in answers] == [201] * 8
        assert server.process.wait(timeout=60) == 0
        assert "Traceback" not in server.log()

    @pytest.mark.parametrize("keeping", [True, False], ids=["kept connections", "new connections"])
    def test_sighup_reloads_without_an_error(
        self, server: GunicornServer, alice: Caller, make_product: Make, keeping: bool
    ) -> None:
        path = f"/products/{make_product()['id']}"
        with asking(server.port, alice.token, path, keeping=keeping) as answers:
            for reloads in range(1, 3):
                old = worker_pids(server)
                wait_for_more(answers)
                server.process.send_signal(signal.SIGHUP)
                worker_pids(server, 2 + 2 * reloads)
                wait_for(partial(have_left, server, old))
            wait_for_more(answers)

        assert {answer.status for answer in answers} == {200}
        assert "Traceback" not in server.log()


def have_left(server: GunicornServer, workers: list[int]) -> bool:
    return all(f"Worker exiting (pid: {pid})" in server.log() for pid in workers)


def accepts(port: int) -> bool:
    """Whether anybody listens there.

    Nothing is asked: a connection that was taken into the queue of a server that ends gets no answer, and waiting for
    one would use up the time in which those who were let in can finish.
    """
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True


class TestKillingWorkers:
    @pytest.fixture(params=BACKENDS)
    def backend(self, request: pytest.FixtureRequest) -> str:
        name: str = request.param
        return name

    @pytest.fixture
    def site(self, server: GunicornServer, app: Flask) -> Site:
        return Site(server, app)

    def test_loses_no_acknowledged_write(
        self, server: GunicornServer, app: Flask, alice: Caller, connect: Connect, make_category: Make
    ) -> None:
        category = make_category()
        over = threading.Event()
        acknowledged: list[int] = []
        faults: list[Answer] = []

        def write() -> None:
            client = connect(alice)
            while not over.is_set():
                try:
                    answer = client.post("/products", {"name": "Chair", "price": "1.00", "category_id": category["id"]})
                except (OSError, HTTPException):
                    client.close()  # the worker is gone, and whether it had committed nobody knows
                    continue
                if answer.status == 201:
                    acknowledged.append(answer.json["id"])
                else:
                    faults.append(answer)

        with ThreadPoolExecutor(8) as threads:
            running = [threads.submit(write) for _ in range(8)]
            try:
                kill_workers(server, acknowledged)
            finally:
                over.set()
        for each in running:
            each.result()

        assert faults == []
        stored = {row[0] for row in rows_of(app, "products")}
        assert set(acknowledged) <= stored
        assert len(set(acknowledged)) == len(acknowledged)


class TestProduction:
    """It does not start with a setting that would be a hole; tests/test_config.py knows all of them."""

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"SECRET_KEY": None}, "SECRET_KEY"),
            ({"SECRET_KEY": "hunter2"}, "SECRET_KEY"),
            ({"JWT_SECRET_KEY": SECRETS["SECRET_KEY"]}, "JWT_SECRET_KEY"),
            ({"FLASK_DEBUG": "1"}, "DEBUG"),
            ({"CORS_ORIGINS": r"https://shop.example.com,https://.*\.example\.com"}, "CORS_ORIGINS"),
            ({"DATABASE_URL": "postgresql://shop:hunter2@db:hunter2/shop"}, "DATABASE_URL"),
        ],
        ids=lambda value: None if isinstance(value, dict) else value,
    )
    def test_does_not_start(self, tmp_path: Path, changed: dict[str, str | None], named: str) -> None:
        settings = {**environment(f"sqlite:///{tmp_path / 'catalog.db'}"), **changed}
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}

        ended = subprocess.run(
            [sys.executable, "-m", "gunicorn", "wsgi:app"],
            cwd=PROJECT,
            env=inherited | {name: value for name, value in settings.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

        assert ended.returncode != 0
        assert re.fullmatch(rf"catalog-api: {named} [^\n]+\n", ended.stderr)
        for value in changed.values():
            assert not value or len(value) < 5 or value not in ended.stderr
        assert "hunter2" not in ended.stderr
