"""Live streams of gunicorn: loss and order while they are cut, places and threads, slow clients, signals, outages."""

import json
import signal
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Caller
from tests.live.conftest import Site, environment, worker_pids
from tests.live.followers import (
    Closed,
    EventSource,
    EventSourceFollower,
    Follower,
    Item,
    NotUpgraded,
    WebSocket,
    WebSocketFollower,
    following,
)
from tests.live.test_failures import shut, terminate
from tests.live.wire import API, Client, ask, wait_for, wire
from tests.servers import GunicornServer, gunicorn_server

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]

WRITERS, WRITES = 8, 25
NUMBERS = count()
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def server(app: Flask) -> Iterator[GunicornServer]:
    """A server of one process, with two threads for requests and places for few streams."""
    env = environment(app.config["DATABASE_URL"], MAX_STREAMS="3", CLIENT_TIMEOUT="1", LOG_LEVEL="INFO")
    with gunicorn_server(env, workers=1, threads=2) as server:
        yield server


@pytest.fixture(scope="module")
def server_of_sockets(databases: Callable[[str], Flask]) -> Iterator[GunicornServer]:
    """One server for many tests, with places also for streams of earlier ones whose end it has yet to notice."""
    env = environment(databases("sqlite").config["DATABASE_URL"], MAX_STREAMS="20", LOG_LEVEL="INFO")
    with gunicorn_server(env, workers=1, threads=2) as server:
        yield server


@pytest.fixture
def source(server: GunicornServer, bob: Caller) -> Iterator[Callable[..., EventSource]]:
    """Open streams as bob."""
    with ExitStack() as stack:

        def open_source(**options: str) -> EventSource:
            opened = EventSource(server.port, bob.token, **options)
            stack.callback(opened.cut)
            return opened

        yield open_source


def now(client: Client) -> str:
    cursor: str = client.get("/events?from=now").json["meta"]["next_cursor"]
    return cursor


def feed_after(client: Client, cursor: str) -> list[Item]:
    """All events after a cursor, as pages have them."""
    page = client.get(f"/events?cursor={cursor}&per_page=1000").json
    assert page["meta"]["has_more"] is False
    items: list[Item] = page["items"]
    return items


def write_much(connect: Connect, caller: Caller, products: Sequence[int]) -> None:
    """Change the same products from several threads at once."""

    def write(number: int, client: Client) -> None:
        for step in range(WRITES):
            product = products[(number + step) % len(products)]
            assert client.patch(f"/products/{product}", {"name": f"{number}-{step}"}).status == 200

    with ThreadPoolExecutor(WRITERS) as threads:
        for writing in [threads.submit(write, number, connect(caller)) for number in range(WRITERS)]:
            writing.result()


def assert_followed(follower: Follower, written: Sequence[Item]) -> None:
    """Nothing was missed, nothing came twice, and each product's versions came in their order."""
    assert [item["id"] for item in follower.items] == [item["id"] for item in written]
    versions = defaultdict(list)
    for item in follower.items:
        versions[item["resource_id"]].append(item["version"])
    for seen in versions.values():
        assert seen == sorted(set(seen))


def has_come(follower: Follower, number: int) -> bool:
    """Whether it has as many events."""
    return len(follower.items) >= number


class TestStreamsThatAreCut:
    def test_miss_nothing_and_repeat_nothing_beside_writers(
        self, site: Site, alice: Caller, bob: Caller, connect: Connect, make_product: Make
    ) -> None:
        products = [make_product()["id"] for _ in range(5)]
        reader = connect(bob)
        start = now(reader)
        followers: list[Follower] = [
            *(EventSourceFollower(site.port, bob.token, start, seed) for seed in range(2)),
            *(WebSocketFollower(site.port, bob.token, start, seed) for seed in range(2)),
        ]

        with following(*followers) as finish:
            write_much(connect, alice, products)
            # One more for those who wait for a number of events before they are cut.
            written = feed_after(reader, start)
            for follower in followers:
                wait_for(partial(has_come, follower, len(written)))
            finish()
            # Which lets each come to its end.
            for number in range(15):
                connect(alice).patch(f"/products/{products[0]}", {"name": f"The end {number}"})

        assert len(written) == WRITERS * WRITES
        for follower in followers:
            assert follower.cuts > 5
            after = feed_after(reader, start)
            assert_followed(follower, after[: len(follower.items)])
            assert len(follower.items) >= len(written)

    def test_go_on_while_workers_are_replaced(
        self, server: GunicornServer, alice: Caller, bob: Caller, make_product: Make
    ) -> None:
        product = make_product()["id"]
        client = Client(server.port, alice.token)
        start = now(client)
        client.close()
        followers = [
            EventSourceFollower(server.port, bob.token, start, 1), WebSocketFollower(server.port, bob.token, start, 2)
        ]  # fmt: skip

        def change() -> None:
            wait_for(lambda: ask_patch(server.port, alice, product) == 200)

        with following(*followers) as finish:
            for reloads in range(1, 4):
                for _ in range(10):
                    change()
                server.process.send_signal(signal.SIGHUP)
                worker_pids(server, 1 + reloads)
            for _ in range(10):
                change()
            client = Client(server.port, alice.token)
            written = feed_after(client, start)
            for follower in followers:
                wait_for(partial(has_come, follower, len(written)))
            finish()
            for _ in range(15):
                change()
            after = feed_after(client, start)
            client.close()

        for follower in followers:
            assert_followed(follower, after[: len(follower.items)])
        assert "Traceback" not in server.log()


def ask_patch(port: int, caller: Caller, product: int) -> int:
    client = Client(port, caller.token)
    try:
        return client.patch(f"/products/{product}", {"name": f"Another {next(NUMBERS)}"}).status
    except OSError:
        return 0
    finally:
        client.close()


@on_sqlite
class TestPlaces:
    def test_are_not_those_of_requests(
        self, server: GunicornServer, source: Callable[..., EventSource], bob: Caller
    ) -> None:
        assert [source().status for _ in range(3)] == [200] * 3

        assert [ask(server.port, "/products", bob.token).status for _ in range(10)] == [200] * 10

    def test_are_not_those_of_requests_however_the_path_is_spelt(self, server: GunicornServer, bob: Caller) -> None:
        with ExitStack() as stack:
            for spelt in ("%73tream", "strea%6d", "str%65am"):
                connection = stack.enter_context(wire(server.port))
                connection.send(request_for(f"/events/{spelt}", bob))
            wait_for(lambda: server.log().count('"path":"/api/v1/events/stream"') >= 3)

            assert ask(server.port, "//livez").status == 200

    def test_that_are_all_taken_are_refused(
        self, server: GunicornServer, source: Callable[..., EventSource], bob: Caller
    ) -> None:
        for _ in range(3):
            source()

        refused = [source() for _ in range(20)]

        assert {one.status for one in refused} == {503}
        assert {json.loads(one.response.read())["code"] for one in refused} == {"too_many_streams"}
        assert all(int(one.response.headers["Retry-After"]) >= 1 for one in refused)
        with pytest.raises(NotUpgraded) as refusal:
            WebSocket(server.port, bob.token)
        assert refusal.value.args == (503,)

    @pytest.mark.parametrize("is_reset", [False, True])
    def test_are_free_as_soon_as_clients_leave(self, server: GunicornServer, bob: Caller, is_reset: bool) -> None:
        """Long before a heartbeat finds out, which takes 15 seconds."""
        for _ in range(3):
            for one in [self.take_place(server, bob) for _ in range(3)]:
                one.cut(is_reset=is_reset)

    def test_are_free_when_web_sockets_end(self, server: GunicornServer, bob: Caller) -> None:
        for leave in (WebSocket.close, WebSocket.cut):
            sockets = [WebSocket(server.port, bob.token) for _ in range(3)]
            for one in sockets:
                assert one.receive()["type"] == "stream.position"
                leave(one)
            sources = [self.take_place(server, bob) for _ in range(3)]
            for source in sources:
                source.cut()
            wait_for(lambda: server.log().count('"event":"stream"') % 6 == 0)

    @staticmethod
    def take_place(server: GunicornServer, caller: Caller) -> EventSource:
        """Open a stream as soon as there is a place, and long before a heartbeat finds out who has left."""

        def try_to() -> EventSource | None:
            opened = EventSource(server.port, caller.token)
            if opened.status == 200:
                return opened
            opened.cut()
            return None

        opened = wait_for(try_to, seconds=10)
        assert opened is not None
        return opened


@on_sqlite
class TestSlowClients:
    def test_lose_their_place_and_no_event(
        self, server: GunicornServer, alice: Caller, bob: Caller, make_category: Make
    ) -> None:
        """A client that takes nothing, of more than fits into the buffers of the system."""
        category = make_category()["id"]
        client = Client(server.port, alice.token)
        start = now(client)
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", server.port))
        slow.sendall(request_for("/events/stream", bob))
        wait_for(lambda: "/api/v1/events/stream" in server.log())

        for round_ in range(4):
            items = [
                {"sku": f"S-{round_}-{n}", "name": "N", "price": "1", "category_id": category, "status": "active",
                 "description": "x" * 1500} for n in range(1000)
            ]  # fmt: skip
            assert client.post("/products/bulk", {"items": items}).status == 200

        wait_for(lambda: "took nothing of its response" in server.log(), seconds=30)
        for opened in [TestPlaces.take_place(server, bob) for _ in range(3)]:
            opened.cut()
        slow.close()
        again = wait_for(lambda: EventSource(server.port, bob.token, start), until=lambda one: one.status == 200)
        events = again.events()
        assert [next(events).data["id"] for _ in range(4000)] == ids_after(client, start)
        again.cut()
        client.close()


def request_for(path: str, caller: Caller) -> bytes:
    """A request of raw bytes."""
    return f"GET {API}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {caller.token}\r\n\r\n".encode()


def ids_after(client: Client, cursor: str) -> list[int]:
    ids: list[int] = []
    has_more = True
    while has_more:
        page = client.get(f"/events?cursor={cursor}&per_page=1000").json
        ids += [item["id"] for item in page["items"]]
        has_more, cursor = page["meta"]["has_more"], page["meta"]["next_cursor"]
    return ids


@on_sqlite
class TestWebSockets:
    @pytest.fixture
    def server(self, app: Flask, server_of_sockets: GunicornServer) -> GunicornServer:
        """On an empty database."""
        return server_of_sockets

    @pytest.fixture
    def connection(self, server: GunicornServer, bob: Caller) -> WebSocket:
        connection = WebSocket(server.port, bob.token)
        assert connection.receive()["type"] == "stream.position"
        return connection

    def test_speak_the_subprotocol_that_was_offered(self, connection: WebSocket) -> None:
        assert connection.subprotocol == "catalog.events.v1"
        connection.close()

    def test_have_items_as_the_feed_has_them(
        self, server: GunicornServer, connection: WebSocket, alice: Caller, bob: Caller
    ) -> None:
        client = Client(server.port, alice.token)
        start = now(client)
        client.post("/brands", {"name": "Oakworks"})

        item = connection.receive()

        assert [{**one, "cursor": now(client)} for one in feed_after(client, start)] == [item]
        connection.close()
        client.close()

    @pytest.mark.parametrize(("text", "code"), [("hello", 1003), ("x" * 5000, 1009)])
    def test_are_closed_when_the_client_speaks(self, connection: WebSocket, text: str, code: int) -> None:
        connection.say(text)

        assert closed(connection) == code

    def test_are_closed_when_the_session_ends(self, connection: WebSocket, server: GunicornServer, bob: Caller) -> None:
        bob.post("/auth/logout")

        # It is noticed before the next event, or by the heartbeat.
        assert closed(connection) == 4401

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Sec-WebSocket-Version": "8"}, 426),
            ({"Sec-WebSocket-Key": None}, 400),
            ({"Upgrade": "h2c"}, 426),
            ({"Authorization": "Bearer x"}, 401),
        ],
    )
    def test_are_not_made_of_other_handshakes(
        self, server: GunicornServer, bob: Caller, headers: dict[str, str | None], status: int
    ) -> None:
        handshake = {
            "Host": "x", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Authorization": f"Bearer {bob.token}", **headers,
        }  # fmt: skip
        lines = [f"{name}: {value}" for name, value in handshake.items() if value is not None]
        with wire(server.port) as connection:
            connection.send("\r\n".join([f"GET {API}/events/ws HTTP/1.1", *lines, "", ""]).encode())

            answer = connection.read()

        assert answer is not None
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")


def closed(connection: WebSocket) -> int:
    """The code with which the server closes the connection; events may come before."""
    try:
        while True:
            connection.receive()
    except Closed as end:
        return end.code


@on_sqlite
class TestAServerThatStops:
    def test_ends_its_streams_at_once(
        self, server: GunicornServer, source: Callable[..., EventSource], bob: Caller
    ) -> None:
        streams, connection = [source() for _ in range(2)], WebSocket(server.port, bob.token)

        server.process.terminate()

        for stream in streams:
            assert [block for block in stream.blocks() if not block.is_comment] == []
        assert closed(connection) == 1001
        # Far within graceful_timeout.
        assert server.process.wait(timeout=10) == 0
        assert "Traceback" not in server.log()


@on_postgresql
class TestADatabaseThatGoesAway:
    def test_costs_a_stream_nothing(
        self, server: GunicornServer, source: Callable[..., EventSource], app: Flask, alice: Caller, make_brand: Make
    ) -> None:
        stream = source()
        events = stream.events()
        first = make_brand()["id"]
        assert next(events).data["resource_id"] == first

        for _ in range(3):
            with shut(app):
                wait_for(lambda: ask(server.port, "//readyz").status == 503)
            brand = wait_for(lambda: self.make_brand(server.port, alice))
            assert next(events).data["resource_id"] == brand
            terminate(app)

        last = wait_for(lambda: self.make_brand(server.port, alice))
        assert next(events).data["resource_id"] == last

    @staticmethod
    def make_brand(port: int, caller: Caller) -> int | None:
        client = Client(port, caller.token)
        answer = client.post("/brands", {"name": f"Brand {next(NUMBERS)}"})
        client.close()
        return answer.json["id"] if answer.status == 201 else None
