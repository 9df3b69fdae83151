"""The resilient client against a real server that misbehaves."""

import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest
import stamina
from structlog.testing import capture_logs

from app.clients.errors import (
    BadStatus,
    CircuitOpen,
    ConnectFailed,
    Interrupted,
    InvalidRequest,
    OutboundError,
    Phase,
    ResponseTooLarge,
    TimedOut,
    Unresolvable,
)
from app.clients.http import APIClient, Exchange, Timeouts
from app.clients.resolver import Resolver
from app.clients.responses import parse_retry_after
from app.core import clock
from tests.outbound.misbehaving import DRIPS, Server, gzipped
from tests.servers import PROJECT

#: For a server that never answers.
SHORT = Timeouts(write=0.3, read=0.3, total=20)
#: For one that never answers at first, and then does.
FAIR = Timeouts(read=1.5, total=60)
#: For one that answers, however busy this machine is.
LONG = Timeouts(pool=60, connect=60, write=60, read=60, total=60)


@pytest.fixture
def api(server: Server) -> Iterator[APIClient]:
    """A client of the server, whose breaker does not interfere."""
    with APIClient(server.url, timeouts=LONG, has_breaker=False) as api:
        yield api


def refused_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class TestRequest:
    def test_sends_what_it_is_given(self, api: APIClient, server: Server) -> None:
        answer = api.put("/ok?a=1", params={"b": "x y"}, json={"c": 2}, headers={"X-Own": "d"})

        (request,) = server.requests
        assert (request.method, request.target, request.body) == ("PUT", "/ok?a=1&b=x+y", b'{"c":2}')
        assert request.headers["x-own"] == "d"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["user-agent"] == "catalog-api"
        assert (answer.status, answer.json(), answer.attempt, answer.is_truncated) == (200, {"ok": True}, 1, False)
        assert answer.seconds > 0

    @pytest.mark.parametrize("method", ["get", "head", "post", "put", "patch", "delete"])
    def test_has_a_method_for_each_of_http(self, api: APIClient, server: Server, method: str) -> None:
        # Nothing follows the head of a response to HEAD.
        getattr(api, method)("/status/204")

        assert server.requests[0].method == method.upper()

    def test_sends_a_form(self, api: APIClient, server: Server) -> None:
        api.post("/ok", form={"grant_type": "client_credentials"})

        assert server.requests[0].body == b"grant_type=client_credentials"

    def test_is_below_the_path_of_the_base_url(self, server: Server) -> None:
        with APIClient(f"{server.url}/ok/v1/") as api:
            api.get("/users")
            api.get("users")

        assert [each.target for each in server.requests] == ["/ok/v1/users"] * 2

    @pytest.mark.parametrize("url", ["http://127.0.0.1/ok", "https://evil.test/", "//evil.test/ok", "ftp:/x"])
    def test_goes_to_no_other_host_than_that_of_the_base_url(self, api: APIClient, server: Server, url: str) -> None:
        with pytest.raises(InvalidRequest):
            api.get(url)

        assert server.connections == 0

    @pytest.mark.parametrize(
        "url",
        ["", "/ok", "ok", "ftp://a.test/", "http://", "http:///x", "http://u:hunter2@a.test/", "http://a.test:0/",
         "http://a.test:65536/", "http://a.test:x/", "http://[::1/", "http://a\nb.test/", "http://" + "a" * 70000],
    )  # fmt: skip
    def test_refuses_a_url_that_is_none(self, url: str) -> None:
        with APIClient() as api, pytest.raises(InvalidRequest) as refused:
            api.get(url)

        assert "hunter2" not in str(refused.value)

    @pytest.mark.parametrize("header", ["a\r\nX-Injected: 1", "a\0", "€"])
    def test_refuses_a_header_that_http_does_not_allow(self, api: APIClient, server: Server, header: str) -> None:
        with pytest.raises(InvalidRequest):
            api.get("/ok", headers={"X-Own": header})

        assert server.requests == []

    def test_overrides_the_headers_of_the_client_whatever_their_case(self, server: Server) -> None:
        with APIClient(server.url, headers={"Authorization": "ours", "accept-encoding": "identity"}) as api:
            api.get("/ok", headers={"AUTHORIZATION": "theirs", "User-agent": "own"})

        headers = server.requests[0].headers
        assert (headers["authorization"], headers["user-agent"]) == ("theirs", "own")
        assert headers["accept-encoding"] == "identity"

    @pytest.mark.parametrize("url", ["a.test", "/v1", "ftp://a.test"])
    def test_needs_a_base_url_that_is_absolute(self, url: str) -> None:
        with pytest.raises(InvalidRequest):
            APIClient(url)

    def test_is_refused_once_the_client_is_closed(self, server: Server) -> None:
        with APIClient(server.url) as api:
            api.get("/ok")

        with pytest.raises(RuntimeError):
            api.get("/ok")

    def test_keeps_no_cookies(self, api: APIClient, server: Server) -> None:
        api.get("/cookie")
        api.get("/ok")

        assert "cookie" not in server.requests[1].headers

    def test_uses_no_proxy_of_the_environment(
        self, api: APIClient, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{refused_port()}")

        assert api.get("/ok").is_success


class TestErrors:
    @pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 410, 422])
    def test_have_the_response_with_another_status(self, api: APIClient, server: Server, status: int) -> None:
        with pytest.raises(BadStatus) as raised:
            api.get(f"/status/{status}?retry-after=7")

        answer = raised.value.response
        assert (answer.status, answer.retry_after, answer.attempt) == (status, 7, 1)
        assert answer.text == ("" if status == 304 else "Sorry.")
        assert server.counted(f"/status/{status}") == 1

    def test_are_raised_for_a_redirect_which_is_not_followed(self, api: APIClient, server: Server) -> None:
        with Server() as other, pytest.raises(BadStatus) as raised:
            api.get(f"/redirect?{other.url}/ok")

        assert raised.value.response.status == 302
        assert raised.value.response.headers["location"] == f"{other.url}/ok"
        assert other.connections == 0

    def test_say_that_nothing_listens(self) -> None:
        with APIClient(f"http://127.0.0.1:{refused_port()}", attempts=1) as api, pytest.raises(ConnectFailed):
            api.get("/secret?token=hunter2")

    def test_say_that_there_is_no_such_name(self) -> None:
        def look_up(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        with APIClient("http://a.test", attempts=1, resolver=Resolver(look_up)) as api, pytest.raises(Unresolvable):
            api.get("/")

    @pytest.mark.parametrize(
        "path", ["/cut", "/cut-body", "/garbage", "/endless-head", "/upgrade", "/broken-gzip/200", "/too-many-layers"]
    )
    def test_say_that_no_whole_response_came(self, server: Server, path: str) -> None:
        with APIClient(server.url, attempts=1) as api, pytest.raises(Interrupted):
            api.get(path)

    def test_say_that_the_server_is_silent(self, server: Server) -> None:
        with APIClient(server.url, timeouts=SHORT, attempts=1) as api, pytest.raises(TimedOut) as raised:
            api.get("/silent")

        assert raised.value.phase is Phase.READ

    def test_say_that_the_server_reads_nothing(self, server: Server) -> None:
        with APIClient(server.url, timeouts=SHORT) as api, pytest.raises(TimedOut) as raised:
            api.post("/deaf", content=b"x" * 50_000_000)

        assert raised.value.phase is Phase.WRITE

    def test_say_that_every_connection_is_in_use(self, server: Server) -> None:
        timeouts = Timeouts(pool=0.1, read=20)
        with (
            APIClient(server.url, timeouts=timeouts, max_connections=1, attempts=1) as api,
            ThreadPoolExecutor(1) as threads,
        ):
            first = threads.submit(api.get, "/wait-for-two")
            wait_until(lambda: server.counted("/wait-for-two") == 1)

            with pytest.raises(TimedOut) as raised:
                api.get("/ok")

            with APIClient(server.url) as other:
                other.get("/wait-for-two")
            assert first.result(timeout=20).is_success
        assert raised.value.phase is Phase.POOL

    @pytest.mark.parametrize("path", ["/status/404", "/cut", "/garbage", "/silent", "/bytes/70000", "/redirect"])
    def test_quote_no_secret(self, server: Server, path: str) -> None:
        headers = {"Authorization": "Bearer hunter2"}
        with APIClient(server.url, timeouts=SHORT, headers=headers) as api, pytest.raises(OutboundError) as raised:
            api.post(f"{path}?hunter2", content="hunter2")

        assert "hunter2" not in f"{raised.value!r} {raised.value}"
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


class TestDeadline:
    @pytest.mark.parametrize("path", ["/drip-head", "/drip-body", "/informational"])
    def test_ends_what_no_timeout_of_a_read_does(self, server: Server, path: str) -> None:
        # Each byte comes in time; all of them would take twenty seconds and then be a success.
        with APIClient(server.url, timeouts=Timeouts(read=10, total=1)) as api, pytest.raises(TimedOut) as raised:
            api.get(path)

        assert raised.value.phase is Phase.TOTAL
        assert len(server.requests) == 1

    def test_ends_a_server_that_reads_slowly(self, server: Server) -> None:
        with APIClient(server.url, timeouts=Timeouts(write=10, total=0.5)) as api, pytest.raises(TimedOut) as raised:
            api.post("/sips", content=b"x" * 50_000_000)

        assert raised.value.phase is Phase.TOTAL
        # All of it would have been more than 700.
        assert server.times < 350

    def test_ends_a_handshake_of_tls_that_drips(self) -> None:
        # The head of a record of 16 KiB with a ServerHello, and then zeros.
        with Server(drips=b"\x16\x03\x03\x40\x00\x02" + b"\0" * DRIPS) as server:
            api = APIClient(f"https://127.0.0.1:{server.port}", timeouts=Timeouts(connect=30, total=0.5))
            with api, pytest.raises(TimedOut) as raised:
                api.get("/")

            assert raised.value.phase is Phase.TOTAL
            assert server.times < DRIPS / 2

    def test_ends_the_retries(self, server: Server, no_pauses: None) -> None:
        api = APIClient(server.url, timeouts=Timeouts(read=0.2, total=2), attempts=100, has_breaker=False)
        with api, pytest.raises(TimedOut):
            api.get("/silent")

        assert 1 < len(server.requests) <= 10

    def test_ends_a_lookup_that_hangs(self) -> None:
        hangs = threading.Event()

        def look_up(*_: Any, **__: Any) -> Any:
            hangs.wait(60)
            return []

        with APIClient("http://a.test", timeouts=Timeouts(total=0.3), resolver=Resolver(look_up)) as api:
            with pytest.raises(TimedOut):
                api.get("/")
            hangs.set()

    def test_refuses_a_pause_that_would_last_beyond_it(self, server: Server) -> None:
        with APIClient(server.url, timeouts=Timeouts(total=15)) as api, pytest.raises(BadStatus) as raised:
            api.get("/flaky/1?3600")

        assert raised.value.response.retry_after == 3600
        assert len(server.requests) == 1

    def test_is_of_one_request_and_not_of_its_connection(self, api: APIClient, server: Server) -> None:
        api.get("/ok")
        with pytest.raises(TimedOut) as raised:
            api.get("/silent", timeouts=Timeouts(read=100, total=0.3))

        assert raised.value.phase is Phase.TOTAL
        assert server.connections == 1


class TestRetries:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    @pytest.mark.parametrize("path", ["/flaky/2", "/cut-first/2"])
    def test_repeat_safe_methods(self, api: APIClient, server: Server, no_pauses: None, method: str, path: str) -> None:
        answer = api.request(method, path)

        assert (answer.status, answer.attempt) == (200, 3)
        assert server.counted(path) == 3

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    @pytest.mark.parametrize("path", ["/flaky/2", "/cut-first/2"])
    def test_never_repeat_others(self, api: APIClient, server: Server, no_pauses: None, method: str, path: str) -> None:
        with pytest.raises(OutboundError):
            api.request(method, path, content="once")

        assert server.counted(path) == 1

    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    @pytest.mark.parametrize("path", ["/flaky/2", "/cut-first/2"])
    def test_repeat_others_with_an_idempotency_key(
        self, api: APIClient, server: Server, no_pauses: None, method: str, path: str
    ) -> None:
        answer = api.request(method, path, content="body", idempotency_key="order-7")

        assert answer.attempt == 3
        assert {(each.headers["idempotency-key"], each.body) for each in server.requests} == {("order-7", b"body")}
        assert len(server.requests) == 3

    def test_follow_a_timeout_of_a_read(self, server: Server, no_pauses: None) -> None:
        with APIClient(server.url, timeouts=FAIR) as api:
            answers = [api.get("/silent-first/1"), api.post("/silent-first/2", idempotency_key="order-7")]

        assert [answer.attempt for answer in answers] == [2, 3]

    def test_never_follow_a_timeout_of_a_read_without_a_key(self, server: Server, no_pauses: None) -> None:
        with APIClient(server.url, timeouts=FAIR) as api, pytest.raises(TimedOut) as raised:
            api.post("/silent-first/1")

        assert raised.value.phase is Phase.READ
        assert len(server.requests) == 1

    def test_end_with_the_last_error(self, api: APIClient, server: Server, no_pauses: None) -> None:
        with pytest.raises(BadStatus) as raised:
            api.get("/flaky/9")

        assert raised.value.response.attempt == 3
        assert len(server.requests) == 3

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_follow_a_transient_status(self, api: APIClient, server: Server, no_pauses: None, status: int) -> None:
        with pytest.raises(BadStatus):
            api.get(f"/status/{status}")

        assert len(server.requests) == 3

    @pytest.mark.parametrize("path", ["/status/501", "/bytes/70000", "/status/302"])
    def test_do_not_follow_what_would_be_the_same_again(
        self, api: APIClient, server: Server, no_pauses: None, path: str
    ) -> None:
        with pytest.raises(OutboundError):
            api.get(path)

        assert len(server.requests) == 1

    def test_wait_as_long_as_the_server_asks(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses: list[float] = []
        monkeypatch.setattr("tenacity.nap.time.sleep", pauses.append)

        with APIClient(server.url) as api:
            api.get("/flaky/2?4")

        assert len(pauses) == 2
        assert all(4 <= pause < 5 for pause in pauses)

    def test_back_off_with_jitter(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses: list[float] = []
        monkeypatch.setattr("tenacity.nap.time.sleep", pauses.append)

        with APIClient(server.url, attempts=4, has_breaker=False) as api:
            for _ in range(5):
                with pytest.raises(BadStatus):
                    api.get("/status/503")

        firsts, lasts = pauses[::3], pauses[2::3]
        assert all(0.1 <= pause <= 0.3 for pause in firsts)
        assert all(0.4 <= pause <= 0.6 for pause in lasts)
        assert len(set(pauses)) == 15

    def test_are_off_where_they_are_off_for_the_process(self, api: APIClient, server: Server) -> None:
        stamina.set_active(False)
        try:
            with pytest.raises(BadStatus):
                api.get("/flaky/1")
        finally:
            stamina.set_active(True)

        assert len(server.requests) == 1


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [("0", 0), ("120", 120), (" 5 ", 5), (None, None), ("", None), ("-1", None), ("1.5", None), ("٣", None),
         ("soon", None), ("9" * 400, None), ("Sun, 06 Nov 1994 08:49:37 GMT", 0), ("Sun, 99 Nov 1994", None)],
    )  # fmt: skip
    def test_is_seconds_or_a_date(self, value: str | None, seconds: float | None) -> None:
        assert parse_retry_after(value) == seconds

    def test_is_the_time_until_a_date(self) -> None:
        seconds = parse_retry_after(format_datetime(clock.now() + timedelta(hours=1), usegmt=True))

        assert seconds is not None
        assert 3500 < seconds <= 3600


class TestSize:
    @pytest.mark.parametrize("path", ["/bytes/65537", "/endless", "/gzipped/50000000", "/layers", "/empty-blocks"])
    def test_is_limited(self, api: APIClient, server: Server, path: str) -> None:
        with pytest.raises(ResponseTooLarge):
            api.get(path)

    @pytest.mark.parametrize("path", ["/bytes/65536", "/gzipped/65536"])
    def test_may_be_the_limit(self, api: APIClient, path: str) -> None:
        assert api.get(path).content == b"x" * 65536

    @pytest.mark.parametrize("path", ["/bytes/65537", "/endless", "/gzipped/50000000"])
    def test_is_truncated_where_the_caller_wants_it(self, api: APIClient, path: str) -> None:
        answer = api.post(path, truncate=True)

        assert (answer.content, answer.is_truncated) == (b"x" * 65536, True)

    def test_limits_the_memory_too(self, api: APIClient) -> None:
        gzipped(50_000_000, layers=1)
        api.get("/ok")
        tracemalloc.start()
        try:
            with pytest.raises(ResponseTooLarge):
                api.get("/gzipped/50000000")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert peak < 5_000_000

    def test_of_an_error_is_truncated(self, api: APIClient) -> None:
        with pytest.raises(BadStatus) as raised:
            api.post("/page/1000000")

        assert (raised.value.response.status, raised.value.response.is_truncated) == (500, True)
        assert len(raised.value.response.content) == 65536

    def test_of_an_error_does_not_matter_where_it_is_broken(self, api: APIClient) -> None:
        with pytest.raises(BadStatus) as raised:
            api.post("/broken-gzip/410")

        assert (raised.value.response.status, raised.value.response.is_truncated) == (410, True)

    def test_of_a_connection_that_is_given_up_disturbs_no_other(self, api: APIClient, server: Server) -> None:
        with pytest.raises(ResponseTooLarge):
            api.get("/endless")

        assert api.get("/ok").json() == {"ok": True}
        assert server.connections == 2


class TestPool:
    def test_keeps_connections(self, api: APIClient, server: Server) -> None:
        for _ in range(10):
            api.get("/ok")
            with pytest.raises(BadStatus):
                api.get("/status/404")

        assert server.connections == 1

    def test_is_shared_by_threads(self, server: Server) -> None:
        with APIClient(server.url, max_connections=4) as api, ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda _: api.get("/ok").status, range(200)))

        assert answers == [200] * 200
        assert server.connections <= 4

    @pytest.mark.parametrize(
        "path",
        ["/status/500", "/upgrade", "/cut", "/cut-body", "/garbage", "/endless", "/endless-head", "/broken-gzip/200",
         "/silent", "/drip-head", "/drip-body", "/layers", "/too-many-layers", "/redirect"],
    )  # fmt: skip
    def test_loses_no_place_to_a_failure(self, server: Server, path: str) -> None:
        timeouts = Timeouts(pool=5, read=0.2, total=0.4)
        with APIClient(server.url, timeouts=timeouts, max_connections=1, has_breaker=False, attempts=1) as api:
            for _ in range(3):
                with pytest.raises(OutboundError):
                    api.get(path)

            assert api.get("/ok", timeouts=LONG).is_success

    def test_is_shared_by_requests_that_fail_and_others(self, server: Server) -> None:
        paths = ["/ok", "/status/404", "/cut", "/endless", "/garbage", "/bytes/1000", "/redirect"]

        api = APIClient(server.url, timeouts=LONG, max_connections=4, has_breaker=False, attempts=1)

        def get(number: int) -> bool:
            try:
                return api.get(paths[number % len(paths)]).is_success
            except OutboundError:
                return False

        with api, ThreadPoolExecutor(16) as threads:
            succeeded = list(threads.map(get, range(700)))

        assert succeeded == [path in {"/ok", "/bytes/1000"} for path in paths * 100]

    def test_lets_requests_to_one_server_overlap(self, server: Server) -> None:
        # Neither is answered before both are there: a breaker that lets one at a time through would stop them.
        with APIClient(server.url) as api, ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(lambda _: api.get("/wait-for-two").status, range(2)))

        assert answers == [200, 200]

    def test_is_not_shared_with_a_fork(self, server: Server) -> None:
        # In a process of its own, because this one has threads.
        program = (
            "import os, sys\n"
            "from app.clients.http import APIClient, Timeouts\n"
            "api = APIClient(sys.argv[1], timeouts=Timeouts(connect=60, read=60, total=60))\n"
            "api.get('/ok')\n"
            "child = os.fork()\n"
            "ended = os.waitpid(child, 0)[1] if child else 0\n"
            "api.get('/ok')\n"
            "sys.exit(ended)\n"
        )
        subprocess.run([sys.executable, "-c", program, server.url], cwd=PROJECT, check=True, timeout=100)

        first, of_child, _ = server.requests
        assert first.port != of_child.port


class TestBreaker:
    @pytest.mark.parametrize("path", ["/status/500", "/cut", "/silent"])
    def test_opens_after_failures_in_a_row(self, server: Server, path: str) -> None:
        with APIClient(server.url, timeouts=FAIR, attempts=1, max_failures=3) as api:
            for _ in range(3):
                with pytest.raises(OutboundError):
                    api.get(path)
            for _ in range(5):
                with pytest.raises(CircuitOpen):
                    api.get("/ok")

        assert len(server.requests) == 3

    def test_opens_where_nothing_listens(self) -> None:
        with APIClient(f"http://127.0.0.1:{refused_port()}", attempts=1, max_failures=2) as api:
            for expected in (ConnectFailed, ConnectFailed, CircuitOpen):
                with pytest.raises(expected):
                    api.get("/")

    @pytest.mark.parametrize("path", ["/status/404", "/status/429", "/bytes/70000"])
    def test_stays_closed_where_the_server_responds(self, server: Server, path: str) -> None:
        with APIClient(server.url, attempts=1, max_failures=1) as api:
            for _ in range(3):
                with pytest.raises(OutboundError):
                    api.get(path)

            assert api.get("/ok").is_success

    def test_is_one_for_each_destination(self, server: Server) -> None:
        with Server() as other, APIClient(attempts=1, max_failures=1) as api:
            with pytest.raises(BadStatus):
                api.get(f"{server.url}/status/500")
            with pytest.raises(CircuitOpen):
                api.get(f"{server.url}/ok")

            assert api.get(f"{other.url}/ok").is_success

    def test_can_be_left_out(self, server: Server) -> None:
        with APIClient(server.url, attempts=1, max_failures=1, has_breaker=False) as api:
            for _ in range(3):
                with pytest.raises(BadStatus):
                    api.get("/status/500")

            assert api.get("/ok").is_success


class TestInterceptors:
    def test_see_each_attempt(self, server: Server, no_pauses: None) -> None:
        seen: list[Exchange] = []
        numbers = iter("123")

        def sign(request: httpx2.Request) -> None:
            request.headers["X-Signature"] = next(numbers)

        with APIClient(server.url, on_request=[sign], on_response=[seen.append]) as api:
            api.get("/flaky/2?0")

        assert [each.headers["x-signature"] for each in server.requests] == ["1", "2", "3"]
        assert [(each.method, each.origin, each.attempt, each.status) for each in seen] == [
            ("GET", server.url, 1, 503), ("GET", server.url, 2, 503), ("GET", server.url, 3, 200),
        ]  # fmt: skip
        assert [type(each.error).__name__ for each in seen] == ["BadStatus", "BadStatus", "NoneType"]
        assert all(each.seconds > 0 for each in seen)

    def test_see_a_failure_without_a_response(self, server: Server) -> None:
        seen: list[Exchange] = []
        with APIClient(server.url, on_response=[seen.append]) as api, pytest.raises(Interrupted):
            api.post("/cut?hunter2")

        (exchange,) = seen
        assert (exchange.status, type(exchange.error)) == (None, Interrupted)
        assert "hunter2" not in repr(exchange)

    def test_stop_the_request_that_they_raise_for(self, server: Server) -> None:
        def refuse(request: httpx2.Request) -> None:
            raise PermissionError

        with APIClient(server.url, on_request=[refuse]) as api, pytest.raises(PermissionError):
            api.get("/ok")

        assert server.connections == 0

    def test_retries_log_no_secret(self, api: APIClient, server: Server, no_pauses: None) -> None:
        with capture_logs() as lines, pytest.raises(BadStatus):
            api.get("/status/503?hunter2", headers={"Authorization": "hunter2"})

        assert len(lines) == 2
        assert "hunter2" not in repr(lines)


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait, at most ten seconds, until a condition holds."""
    for _ in range(1000):
        if holds():
            return
        threading.Event().wait(0.01)
    pytest.fail("the condition never held")
