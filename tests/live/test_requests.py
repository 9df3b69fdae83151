"""Requests as bytes on a socket: cut, broken, too long, forged, or sent before the last one was answered."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Caller, rows_of
from tests.live.conftest import MAX_BODY_BYTES, Site, environment
from tests.live.wire import Answer, Wire, ask, wire
from tests.servers import GunicornServer, gunicorn_server

pytestmark = pytest.mark.live

Make = Callable[..., dict[str, Any]]

EVIL = "evil.example"
#: Of clients whom nobody has counted yet.
ADDRESSES = map("203.0.113.{}".format, range(1, 255))


@pytest.fixture
def connection(site: Site) -> Iterator[Wire]:
    """A raw connection."""
    with wire(site.port) as connection:
        yield connection


@pytest.fixture
def content(make_category: Make) -> bytes:
    """A product to be made, as JSON."""
    return json.dumps({"name": "Chair", "price": "1.00", "category_id": make_category()["id"]}).encode()


def head(method: str, path: str, caller: Caller | None = None, **headers: object) -> bytes:
    """A request line and header fields, to the empty line."""
    fields: dict[str, object] = {"host": "catalog.test", **headers}
    if caller:
        fields["authorization"] = f"Bearer {caller.token}"
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def create(caller: Caller, **headers: object) -> bytes:
    """The head of a request that makes a product."""
    return head("POST", "/api/v1/products", caller, content_type="application/json", **headers)


def chunks(body: bytes, size: int = 1000) -> bytes:
    """A body in the chunked coding, whole."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def read(connection: Wire, method: str = "GET") -> Answer:
    """The next answer, which has to come."""
    answer = connection.read(method)
    assert answer is not None
    return answer


def assert_in_service(connection: Wire) -> None:
    """The connection answers the next request as itself, or is closed: what was left unread is not taken for one."""
    try:
        connection.send(head("GET", "/health"))
        answer = connection.read()
    except (BrokenPipeError, ConnectionResetError):
        return
    assert answer is None or (answer.status, answer.json["status"]) == (200, "ok")
    while answer is not None:
        connection.finish()
        answer = connection.read()
        assert answer is None, answer


class TestBodiesInChunks:
    def test_are_read_up_to_the_limit(self, alice: Caller, connection: Wire, content: bytes) -> None:
        connection.send(create(alice, transfer_encoding="chunked") + chunks(content.ljust(MAX_BODY_BYTES)))

        assert read(connection).status == 201
        assert_in_service(connection)

    @pytest.mark.parametrize("excess", [1, 1000, 5 * MAX_BODY_BYTES])
    def test_past_the_limit_are_refused_and_not_cut(
        self, app: Flask, alice: Caller, connection: Wire, content: bytes, excess: int
    ) -> None:
        # What fits into the limit is a whole JSON text: cut there, it would be another request than was sent.
        connection.send(create(alice, transfer_encoding="chunked") + chunks(content.ljust(MAX_BODY_BYTES + excess)))

        answer = read(connection)
        assert (answer.status, answer.code) == (413, "content_too_large")
        assert rows_of(app, "products") == []
        assert_in_service(connection)

    @pytest.mark.parametrize(
        "body",
        [
            b"zz\r\n{}\r\n0\r\n\r\n",
            b"-5\r\n{}\r\n0\r\n\r\n",
            b"0x2\r\n{}\r\n0\r\n\r\n",
            b"\r\n{}\r\n0\r\n\r\n",
            b"ffffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
            b"2\r\n{}XX0\r\n\r\n",
            b"1\r\n{}\r\n0\r\n\r\n",
            b"2;\x00=1\r\n{}\r\n0\r\n\r\n",
            b"2\r\n{}\r\n0\r\nbad trailer\r\n\r\n",
            b"2\r\n{}\r\n0\r\nTrailer : x\r\n\r\n",
            b"2" + b"0" * 20_000,
        ],
        ids=[
            "no number", "below zero", "prefixed", "no size", "past 64 bits", "no end", "shorter than it is",
            "control character", "bad trailer", "blank in a trailer", "endless size",
        ],
    )  # fmt: skip
    def test_that_are_broken_are_refused(
        self, app: Flask, alice: Caller, connection: Wire, content: bytes, body: bytes
    ) -> None:
        connection.send(create(alice, transfer_encoding="chunked") + b"%x\r\n%s\r\n" % (len(content), content) + body)
        connection.finish()

        answer = read(connection)
        assert answer.status == 400
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert connection.read() is None
        assert rows_of(app, "products") == []

    def test_that_end_too_soon_are_refused(self, app: Flask, alice: Caller, connection: Wire, content: bytes) -> None:
        connection.send(create(alice, transfer_encoding="chunked") + b"%x\r\n%s\r\n" % (len(content), content))
        connection.finish()

        assert read(connection).status == 400
        assert rows_of(app, "products") == []


class TestBodiesOfAnnouncedLength:
    def test_are_read_up_to_the_limit(self, alice: Caller, connection: Wire, content: bytes) -> None:
        connection.send(create(alice, content_length=MAX_BODY_BYTES) + content.ljust(MAX_BODY_BYTES))

        assert read(connection).status == 201
        assert_in_service(connection)

    @pytest.mark.parametrize("sent", [True, False], ids=["sent", "held back"])
    def test_past_the_limit_are_refused(
        self, app: Flask, alice: Caller, connection: Wire, content: bytes, sent: bool
    ) -> None:
        body = content.ljust(MAX_BODY_BYTES + 1)
        connection.send(create(alice, content_length=len(body)) + (body if sent else b""))

        answer = read(connection)
        assert (answer.status, answer.code) == (413, "content_too_large")
        assert rows_of(app, "products") == []
        if sent:
            assert_in_service(connection)

    def test_that_end_too_soon_are_refused(self, app: Flask, alice: Caller, connection: Wire, content: bytes) -> None:
        connection.send(create(alice, content_length=len(content) + 1) + content)
        connection.finish()

        answer = read(connection)
        assert (answer.status, answer.code) == (400, "body_unreadable")
        assert rows_of(app, "products") == []

    def test_with_a_client_that_left_store_nothing(self, app: Flask, alice: Caller, site: Site, content: bytes) -> None:
        for sent in range(0, len(content), 10):
            with wire(site.port) as connection:
                connection.send(create(alice, content_length=len(content)) + content[:sent])

        # All threads of both workers have to be done with the above before they answer these.
        for _ in range(4):
            assert ask(site.port, "//health").status == 200
        assert rows_of(app, "products") == []

    def test_that_come_slowly_keep_nobody_from_writing(
        self, alice: Caller, connection: Wire, site: Site, content: bytes
    ) -> None:
        connection.send(create(alice, content_length=len(content), expect="100-continue") + content[:10])
        assert read(connection).status == 100

        with wire(site.port) as other:
            for _ in range(5):
                other.send(create(alice, content_length=len(content)) + content)
                assert read(other).status == 201

        connection.send(content[10:])
        assert read(connection).status == 201

    @pytest.mark.parametrize(
        "length",
        [
            b"Content-Length: 5\r\nContent-Length: 6",
            b"Content-Length: 5\r\nContent-Length: 5",
            b"Content-Length: 5, 5",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Content-Length: +5",
            b"Content-Length: 5.0",
            b"Content-Length: 0x5",
            "Content-Length: ５".encode(),
            b"Content-Length:",
            b"Transfer-Encoding: chunked, chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding : chunked",
            b"Content-Length : 5",
        ],
    )
    def test_that_can_be_read_two_ways_are_refused(self, connection: Wire, length: bytes) -> None:
        # The bytes after are a request to whoever reads a shorter body than the next hop did.
        request = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\n"
        connection.send(request + b"0\r\n\r\n" + head("GET", "/health"))

        answer = read(connection)
        assert 400 <= answer.status < 500
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert connection.read() is None

    def test_of_enormous_length_are_refused(self, alice: Caller, connection: Wire) -> None:
        connection.send(create(alice, content_length="9" * 30) + b"{}")

        assert read(connection).status in {400, 413}


class TestKeepingAConnection:
    def test_answers_requests_sent_together_in_their_order(self, alice: Caller, connection: Wire) -> None:
        paths = ["/health", "/api/v1/nowhere", "/api/v1/users/me", "/livez"]

        connection.send(b"".join(head("GET", path, alice) for path in paths))

        assert [read(connection).status for _ in paths] == [200, 404, 200, 200]

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("POST", "/api/v1/nowhere", 404),
            ("PUT", "/api/v1/products", 405),
            ("GET", "/health", 200),
            ("DELETE", "/api/v1/products/1", 401),
            ("POST", "/api/v1/products", 401),
            ("POST", "/api/v1/auth/logout", 401),
        ],
    )
    @pytest.mark.parametrize("coding", ["length", "chunked"])
    def test_does_not_take_an_unread_body_for_a_request(
        self, connection: Wire, method: str, path: str, status: int, coding: str
    ) -> None:
        body = head("GET", "/api/v1/smuggled")
        if coding == "length":
            connection.send(head(method, path, content_length=len(body)) + body)
        else:
            connection.send(head(method, path, transfer_encoding="chunked") + chunks(body))

        assert read(connection).status == status
        assert_in_service(connection)

    def test_goes_on_after_a_body_that_is_no_json(self, alice: Caller, connection: Wire) -> None:
        for _ in range(3):
            connection.send(create(alice, content_length=1) + b"{")
            assert read(connection).status == 400
        assert_in_service(connection)

    def test_is_given_up_when_asked(self, connection: Wire) -> None:
        connection.send(head("GET", "/health", connection="close"))

        assert read(connection).headers["Connection"] == "close"
        assert connection.read() is None

    def test_is_not_stalled_by_others_who_send_slowly(self, site: Site) -> None:
        slow = [Wire(site.port) for _ in range(6)]
        try:
            for connection in slow:
                connection.send(b"GET /health HTTP/1.1\r\nHo")

            assert {ask(site.port, "//health").status for _ in range(20)} == {200}

            for connection in slow:
                connection.send(b"st: x\r\n\r\n")
            assert {read(connection).status for connection in slow} == {200}
        finally:
            for connection in slow:
                connection.close()


class TestVersionsAndMethods:
    def test_http_1_0_is_answered_and_closed(self, connection: Wire) -> None:
        connection.send(b"GET /health HTTP/1.0\r\n\r\n")

        assert read(connection).json["status"] == "ok"
        assert connection.read() is None

    @pytest.mark.parametrize(
        "path",
        ["/health", "/readyz", "/docs", "/openapi.json", "/api/v1/products", "/api/v1/nowhere", "/api/v1/users/me"],
    )
    def test_head_answers_as_get_does_without_a_body(self, alice: Caller, connection: Wire, path: str) -> None:
        connection.send(head("GET", path, alice))
        wanted = read(connection)
        connection.send(head("HEAD", path, alice) + head("GET", "/health"))

        answer = read(connection, "HEAD")

        assert answer.status == wanted.status
        assert answer.headers["Content-Type"] == wanted.headers["Content-Type"]
        assert answer.headers["ETag"] == wanted.headers["ETag"]
        # Were there a body, it would be read as the beginning of the next answer.
        assert read(connection).json["status"] == "ok"

    @pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "BREW", "get"])
    def test_unknown_methods_are_refused(self, connection: Wire, method: str) -> None:
        connection.send(head(method, "/api/v1/products"))

        answer = read(connection)
        assert answer.status in {400, 405, 501}
        assert answer.headers["Content-Type"] == "application/problem+json"


class TestForgedHosts:
    @pytest.mark.parametrize(
        "path",
        [
            "/", "/health", "/docs", "/docs/", "/openapi.json", "/api/v1/products", "/api/v1/products/",
            "/api/v1/products?per_page=1", "/api/v1/products?cursor=&per_page=1", "/api/v1//products",
            "//evil.example/api/v1/products", "/api/v1/categories/", "/api/v1/products/1/", "/livez/", "/./docs",
            "http://evil.example/api/v1/products?per_page=1",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
    def test_are_not_echoed(self, alice: Caller, connection: Wire, make_product: Make, method: str, path: str) -> None:
        make_product()
        make_product()
        forged = dict.fromkeys(("x_forwarded_host", "x_forwarded_server", "x_original_host", "x_host"), EVIL)

        request = head(
            method, path, alice, host=EVIL, forwarded=f"host={EVIL}", x_forwarded_prefix=f"/{EVIL}", **forged
        )
        connection.send(request)

        answer = read(connection)
        assert answer.status < 500
        assert EVIL not in str(answer.headers)
        # A path is the client's own, and is named by the problem about it.
        assert EVIL not in answer.body.decode().replace("/evil.example/api/v1/products", "")

    def test_are_not_in_the_location_of_what_was_made(self, alice: Caller, connection: Wire, content: bytes) -> None:
        connection.send(create(alice, host=EVIL, x_forwarded_host=EVIL, content_length=len(content)) + content)

        answer = read(connection)
        assert answer.status == 201
        assert answer.headers["Location"].startswith("/api/v1/products/")
        assert EVIL not in str(answer.headers)

    @pytest.mark.parametrize("host", ["a b", "x\ty", "[", "[::1", "x:99999999", "x:port", "<script>", "x/y", "é"])
    def test_that_are_no_hosts_are_no_fault_of_ours(self, connection: Wire, host: str) -> None:
        connection.send(head("GET", "/api/v1/products", host=host))

        assert read(connection).status in {400, 401, 421}

    def test_may_be_missing_or_repeated(self, site: Site) -> None:
        for field in (b"", b"Host: a\r\nHost: b\r\n"):
            with wire(site.port) as connection:
                connection.send(b"GET /health HTTP/1.1\r\n" + field + b"\r\n")
                assert read(connection).status in {200, 400}


class TestRequestIds:
    @pytest.mark.parametrize("given", ["short", "x" * 65, "with blank in it", "quote\"'<>", "semi;colon", "ünïcode-id"])
    def test_that_do_not_fit_are_not_echoed(self, connection: Wire, given: str) -> None:
        connection.send(head("GET", "/api/v1/nowhere", x_request_id=given))

        answer = read(connection)
        assert answer.headers["X-Request-ID"] == answer.json["request_id"]
        assert given not in answer.headers["X-Request-ID"]

    def test_that_fit_come_back(self, connection: Wire) -> None:
        connection.send(head("GET", "/api/v1/nowhere", x_request_id="Order-12.34_56"))

        answer = read(connection)
        assert answer.headers["X-Request-ID"] == answer.json["request_id"] == "Order-12.34_56"


@pytest.fixture(scope="module")
def behind_one(databases: Callable[[str], Flask]) -> Iterator[GunicornServer]:
    settings = environment(
        databases("sqlite").config["DATABASE_URL"],
        TRUSTED_PROXIES="1",
        TRUSTED_HOSTS="catalog.test,.shop.test",
        RATE_LIMIT_ENABLED="true",
        RATE_LIMIT_DEFAULT="10 per day",
    )
    with gunicorn_server(settings, workers=1) as server:
        yield server


@pytest.fixture(scope="module")
def behind_none(databases: Callable[[str], Flask]) -> Iterator[GunicornServer]:
    settings = environment(
        databases("sqlite").config["DATABASE_URL"], RATE_LIMIT_ENABLED="true", RATE_LIMIT_DEFAULT="10 per day"
    )
    with gunicorn_server(settings, workers=1) as server:
        yield server


class TestTheProxiesThatAreTrusted:
    """What a header says of the client is believed as far as the settings say, and not one hop further."""

    def left(self, server: GunicornServer, forwarded_for: str) -> str:
        """How many requests the limiter leaves to whoever it takes the client for."""
        with wire(server.port) as connection:
            connection.send(head("GET", "/api/v1/nowhere", x_forwarded_for=forwarded_for))
            answer = read(connection)
            assert answer.status == 404
            return str(answer.headers["RateLimit"]).partition(";t=")[0]

    def test_decide_by_whom_requests_are_counted(self, behind_one: GunicornServer) -> None:
        assert self.left(behind_one, "192.0.2.1") == '"default";r=9'
        assert self.left(behind_one, "192.0.2.2") == '"default";r=9'
        assert self.left(behind_one, "192.0.2.1") == '"default";r=8'
        # Only the last entry was written by the proxy that is trusted; the client wrote the others.
        assert self.left(behind_one, "198.51.100.7, 192.0.2.1") == '"default";r=7'
        assert self.left(behind_one, "192.0.2.1, 198.51.100.7") == '"default";r=9'

    def test_are_none_by_default(self, behind_none: GunicornServer) -> None:
        assert self.left(behind_none, "192.0.2.1") == '"default";r=9'
        assert self.left(behind_none, "192.0.2.2") == '"default";r=8'
        assert self.left(behind_none, "127.0.0.2, 192.0.2.3") == '"default";r=7'

    def test_tell_whether_the_client_came_by_tls(self, behind_one: GunicornServer, behind_none: GunicornServer) -> None:
        for server, believed in ((behind_one, True), (behind_none, False)):
            with wire(server.port) as connection:
                connection.send(head("GET", "/health", x_forwarded_proto="https"))
                assert ("Strict-Transport-Security" in read(connection).headers) == believed

    @pytest.mark.parametrize("host", ["catalog.test", "catalog.test:8000", "eu.shop.test"])
    def test_hosts_that_are_ours_are_served(self, behind_one: GunicornServer, host: str) -> None:
        with wire(behind_one.port) as connection:
            connection.send(head("GET", "/docs", host=host, x_forwarded_for=next(ADDRESSES)))
            assert read(connection).status == 200

    @pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
    def test_probes_may_use_any_host(self, behind_one: GunicornServer, path: str) -> None:
        with wire(behind_one.port) as connection:
            connection.send(head("GET", path, host="10.0.0.7:8000"))
            assert read(connection).status == 200

    @pytest.mark.parametrize("path", ["/api/v1/products", "/nowhere", "/docs"])
    @pytest.mark.parametrize(
        "host", [EVIL, "catalog.test.evil.example", "evilshop.test", "catalog.test@evil.example", ""]
    )
    def test_hosts_of_others_are_refused(self, behind_one: GunicornServer, host: str, path: str) -> None:
        with wire(behind_one.port) as connection:
            forwarded: dict[str, Any] = {"x_forwarded_host": "catalog.test", "x_forwarded_for": next(ADDRESSES)}
            connection.send(head("GET", path, host=host, **forwarded))
            answer = read(connection)

        assert answer.status in {400, 421}
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json["request_id"] == answer.headers["X-Request-ID"]
        assert EVIL not in str(answer.headers) + answer.body.decode()
