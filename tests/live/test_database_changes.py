"""A database that changes under the server: a migration, a demotion, a pooler in between."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy import make_url

from tests.conftest import Caller
from tests.live.conftest import Site, environment
from tests.live.test_failures import assert_not_ready, assert_unavailable, conninfo, database_url, locked, terminate
from tests.live.wire import Client, ask, asking, at_once, wait_for, wait_for_more
from tests.servers import GunicornServer, gunicorn_server, pgbouncer

pytestmark = pytest.mark.live

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]


@pytest.fixture
def backend() -> str:
    """SQLite is no server."""
    return "postgresql"


class TestAnExpandMigration:
    @pytest.fixture
    def widened(self, app: Flask) -> Iterator[Callable[[str], None]]:
        """Changes the type of a column that every product's answer has."""

        def alter(kind: str) -> None:
            with psycopg.connect(conninfo(app), autocommit=True) as connection:
                connection.execute(f"ALTER TABLE products ALTER COLUMN external_id TYPE {kind}")

        yield alter
        alter("varchar(128)")

    def test_under_load_costs_no_request(
        self, site: Site, alice: Caller, make_product: Make, connect: Connect, widened: Callable[[str], None]
    ) -> None:
        product = make_product()
        path, content = f"/products/{product['id']}", {"name": "C", "price": "1", "category_id": product["category_id"]}
        with asking(site.port, alice.token, path) as answers:
            clients = [connect(alice) for _ in range(4)]
            for kind in ("text", "varchar(100)", "text", "varchar(128)"):
                wait_for_more(answers)
                posted = at_once([partial(client.post, "/products", content) for client in clients])
                widened(kind)
                posted += at_once([partial(client.post, "/products", content) for client in clients])
                assert {answer.status for answer in posted} == {201}, site.server.log()[-3000:]
            wait_for_more(answers)

        assert {answer.status for answer in answers} == {200}


class TestADemotedPrimary:
    @contextmanager
    def demoted(self, app: Flask) -> Iterator[None]:
        """Let every session of the database be read-only, as on a standby."""
        name = make_url(database_url(app)).database
        with psycopg.connect(conninfo(app, "postgres"), autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
            terminate(app)
            try:
                yield
            finally:
                connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
                terminate(app)

    def test_is_503_and_not_ready_until_it_takes_writes(
        self, site: Site, app: Flask, alice: Caller, make_product: Make, connect: Connect
    ) -> None:
        client, product = connect(alice), make_product()
        path = f"/products/{product['id']}"
        with self.demoted(app):
            assert_unavailable(client.post("/categories", {"name": "Stools"}))
            assert_unavailable(client.patch(path, {"name": "New"}))
            assert_not_ready(site.port)
            assert client.get(path).status == 200
            assert ask(site.port, "//livez").status == 200

        wait_for(lambda: ask(site.port, "//readyz").status == 200)
        assert client.post("/categories", {"name": "Stools"}).status == 201


@pytest.mark.skipif(not shutil.which("pgbouncer"), reason="PgBouncer is not installed")
class TestPgBouncer:
    @pytest.fixture
    def bouncer(self, postgres_url: str, app: Flask) -> Iterator[str]:
        """The application's database through PgBouncer, which has fewer connections than there are clients."""
        with pgbouncer(postgres_url, server_connections=3) as url:
            there = url.set(database=make_url(database_url(app)).database)
            yield there.render_as_string(hide_password=False)

    @pytest.fixture
    def server(self, bouncer: str) -> Iterator[GunicornServer]:
        with gunicorn_server(environment(bouncer, DATABASE_POOLING="transaction"), workers=2, threads=8) as server:
            yield server

    @pytest.fixture
    def site(self, server: GunicornServer, app: Flask) -> Site:
        return Site(server, app)

    def test_in_transaction_mode_serves_reads_and_writes(
        self, site: Site, alice: Caller, make_product: Make, connect: Connect
    ) -> None:
        product = make_product(stock=3)
        assert ask(site.port, "//readyz").status == 200
        clients = [connect(alice) for _ in range(8)]
        for number in range(3):
            reads = [partial(client.get, f"/products?per_page=5&search={n}") for n, client in enumerate(clients)]
            assert {answer.status for answer in at_once(reads)} == {200}
            content = {"name": "C", "price": "1", "category_id": product["category_id"], "stock": 2}
            writes = [
                partial(client.post, "/products", {**content, "sku": f"B-{number}-{n}"})
                for n, client in enumerate(clients)
            ]
            assert {answer.status for answer in at_once(writes)} == {201}
        path = f"/products/{product['id']}"
        edits = at_once([partial(client.patch, path, {"name": "New"}, '"1"') for client in clients])
        assert sorted(answer.status for answer in edits) == [200] + [412] * 7
        assert "Traceback" not in site.server.log()

    def test_in_transaction_mode_exports_one_moment(
        self, site: Site, alice: Caller, make_product: Make, connect: Connect
    ) -> None:
        make_product(sku="A")
        client = connect(alice)

        # More than there are connections to the server: each gives its own back.
        exports = [client.get("/products/export") for _ in range(5)]
        make_product(sku="B", status="draft")

        assert {answer.status for answer in exports} == {200}
        for answer in exports:
            events = client.get(f"/events?cursor={answer.headers['Events-Cursor']}").json["items"]
            assert [item["data"]["sku"] for item in events if item["resource_type"] == "product"] == ["B"]

    def test_keeps_the_time_limits_to_each_transaction(
        self, app: Flask, alice: Caller, make_product: Make, connect: Connect, bouncer: str
    ) -> None:
        product = make_product()
        with locked(app, product["id"]):
            assert_unavailable(connect(alice).patch(f"/products/{product['id']}", {"name": "New"}), "database_busy")

        with psycopg.connect(bouncer.replace("+psycopg", ""), prepare_threshold=None) as other:
            assert other.execute("SHOW lock_timeout").fetchone() == ("0",)
