"""One trace through the processes of a deployment, as a collector gets it; and collectors that are away or hang."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from tests import pictures
from tests.collector import Collected, Collector, collector, draw, path_to
from tests.conftest import Caller
from tests.live.conftest import environment, only, process, worker_pids
from tests.live.wire import Client, wait_for
from tests.receiver import Received, Receiver, Reply, receiver
from tests.servers import GunicornServer, free_port, gunicorn_server

pytestmark = pytest.mark.live

SECRET = "marker horse 17 battery"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
#: More than their spans find room for in the queue.
REQUESTS = 800


def traced(database_url: str, endpoint: str, **changed: str) -> dict[str, str]:
    """The environment of a process that records traces."""
    return environment(
        database_url,
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        **{
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_RESOURCE_ATTRIBUTES": "process=server",
            "LOG_LEVEL": "INFO",
            **changed,
        },
    )


@pytest.fixture
def sink() -> Iterator[Collector]:
    """A collector."""
    with collector() as sink:
        yield sink


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    """A host that serves a picture at one path and takes webhooks at another."""
    content = pictures.photo(64, 48, seed=5)
    with receiver() as endpoint:
        endpoint.replies = lambda asked: (
            Reply(200, {"Content-Type": "image/jpeg"}, content) if asked.path.startswith("/picture") else Reply()
        )
        yield endpoint


@dataclass(frozen=True)
class Traced:
    """A server and a worker that send their traces to a collector, and what the worker logs."""

    server: GunicornServer
    log: Path
    sink: Collector
    connect: Callable[[Caller | None], Client]


@pytest.fixture
def connections() -> Iterator[ExitStack]:
    """What is closed at the end of the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def site(app: Flask, sink: Collector, redis_url: str, tmp_path: Path, connections: ExitStack) -> Iterator[Traced]:
    """A server that counts in Redis, and a worker."""
    url, log = app.config["DATABASE_URL"], tmp_path / "worker.log"
    settings = {
        "WEBHOOK_ALLOWED_PRIVATE_HOSTS": "127.0.0.1",
        "REDIS_URL": redis_url,
        "RATE_LIMIT_ENABLED": "true",
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": str(free_port()),
        "MAIL_RESET_URL": "https://shop.example/reset",
    }
    served = traced(url, sink.endpoint, **settings)
    working = traced(url, sink.endpoint, **settings, OTEL_RESOURCE_ATTRIBUTES="process=worker")
    with gunicorn_server(served, workers=2, threads=2) as server, process(["-m", "flask", "worker"], working, log):
        yield Traced(server, log, sink, lambda caller: connect(connections, server, caller))


def connect(connections: ExitStack, server: GunicornServer, caller: Caller | None) -> Client:
    """A connection to a server for one of the cast, or without credentials."""
    return connections.enter_context(closing(Client(server.port, caller.token if caller else None)))


def end(server: GunicornServer) -> str:
    """End a server, and return what it has logged."""
    server.process.terminate()
    server.process.wait(30)
    return server.log()


def is_whole(trace: Sequence[Collected]) -> bool:
    """Whether both processes have sent their parts of a trace."""
    return {"server", "consumer"} <= {span.kind for span in trace} and any(span.name == "webhook" for span in trace)


def hooks_of(endpoint: Receiver) -> list[Received]:
    return endpoint.at("/hook")


@pytest.mark.timeout(180)
class TestOneTrace:
    def test_leads_from_a_request_over_a_job_to_a_receiver(
        self, site: Traced, endpoint: Receiver, root: Caller
    ) -> None:
        sink, client = site.sink, site.connect(root)
        hook = client.post("/webhooks", {"url": f"{endpoint.url}/hook", "events": ["media.updated"]})
        assert hook.status == 201, hook.json

        answer = client.post(
            "/media", {"url": f"{endpoint.url}/picture.jpg?SECRETURL"}, traceparent=TRACEPARENT, tracestate="shop=1"
        )

        assert answer.status == 202, answer.json
        wait_for(lambda: hooks_of(endpoint))
        trace = wait_for(lambda: sink.trace(TRACE_ID), until=is_whole)
        sent = next(span for span in trace if span.name == "POST" and span.resource["process"] == "worker")
        names = [span.name for span in path_to(sent, trace)]
        assert names == ["POST /api/v1/media", "job media", "webhook", "POST"], draw(trace)
        # The receivers got the spans that called them.
        assert hooks_of(endpoint)[-1].headers["traceparent"] == f"00-{TRACE_ID}-{sent.span_id}-01"
        fetched = next(span for span in trace if span.name == "GET")
        [picture] = endpoint.at("/picture.jpg?SECRETURL")
        assert picture.headers["traceparent"] == f"00-{TRACE_ID}-{fetched.span_id}-01"
        # Each part of it has its statements, with placeholders; the server has asked Redis.
        by_id = {span.span_id: span for span in trace}
        callers = {
            by_id[span.parent_id].name for span in trace if span.attributes.get("db.system.name") != "redis"
            and "db.query.text" in span.attributes
        }  # fmt: skip
        assert {"POST /api/v1/media", "job media"} <= callers
        assert any(span.attributes.get("db.system.name") == "redis" for span in trace)
        assert trace[0].parent_id == "00f067aa0ba902b7"
        assert {span.resource["service.name"] for span in trace} == {"catalog-api"}
        assert "SECRETURL" not in "".join(span.text for span in sink.spans)
        self.require_logged(site.log, answer.headers["X-Request-ID"])

    @staticmethod
    def require_logged(log: Path, request_id: str) -> None:
        """Check that what the worker logs of the job has the ids of the trace and of the request."""
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        of_job = [line for line in lines if line.get("kind") == "media"]
        assert {line["event"] for line in of_job} >= {"job_started", "outbound", "job_ended"}
        assert {(line["trace_id"], line["request_id"]) for line in of_job} == {(TRACE_ID, request_id)}
        assert len({line["job_id"] for line in of_job}) == 1
        sent = [line for line in lines if line["event"] == "outbound" and line["method"] == "POST"]
        assert [line["trace_id"] for line in sent] == [TRACE_ID]


@pytest.mark.timeout(120)
class TestWorkersOfAServer:
    def test_send_what_they_have_recorded_as_they_end(
        self, app: Flask, sink: Collector, bob: Caller, connections: ExitStack
    ) -> None:
        env = traced(app.config["DATABASE_URL"], sink.endpoint)
        # Nothing is sent before the end.
        with gunicorn_server({**env, "OTEL_BSP_SCHEDULE_DELAY": "60000"}, workers=2, threads=2) as server:
            for pid in worker_pids(server):
                with only(pid, server):
                    assert connect(connections, server, bob).get("/users/me").status == 200
            assert not sink.spans

        entries = [span for span in sink.spans if span.attributes.get("http.route") == "/api/v1/users/me"]
        assert len({span.trace_id for span in entries}) == len(entries) == 2
        # Each of the two has its own recorder.
        assert len({span.resource["service.instance.id"] for span in sink.spans}) == 2

    def test_record_what_the_sampler_takes(
        self, app: Flask, sink: Collector, bob: Caller, connections: ExitStack
    ) -> None:
        env = traced(app.config["DATABASE_URL"], sink.endpoint, OTEL_TRACES_SAMPLER="parentbased_always_off")
        with gunicorn_server(env, workers=1, threads=1) as server:
            client = connect(connections, server, bob)
            refused = client.get("/products/0", traceparent=f"00-{'5' * 32}-00f067aa0ba902b7-00")
            client.get("/users/me")
            client.get("/users/me", traceparent=TRACEPARENT)
            log = end(server)
        assert {span.trace_id for span in sink.spans} == {TRACE_ID}
        # The log and the problems have the ids of those that are not recorded too.
        assert refused.json["trace_id"] == "5" * 32
        assert f'"trace_id":"{"5" * 32}"' in log


@pytest.mark.timeout(120)
class TestSecrets:
    def test_are_in_no_span_and_no_line(self, site: Traced, alice: Caller, root: Caller, endpoint: Receiver) -> None:
        sink, editor, boss, nobody = site.sink, *map(site.connect, (alice, root, None))
        category = editor.post("/categories", {"name": "Chairs"}).json["id"]
        account = {"email": "marker-mail@shop.example", "username": "marker-name", "password": SECRET}
        assert nobody.post("/auth/register", account).status == 201
        tokens = nobody.post("/auth/login", {"email": account["email"], "password": SECRET}).json
        nobody.post("/auth/login", {"email": account["email"], "password": "marker wrong horse"})
        nobody.post("/auth/password-reset", {"email": account["email"]})
        hook = boss.post("/webhooks", {"url": f"{endpoint.url}/hook/markerpath", "events": ["*"]}).json
        product = {"sku": "MARKER-1", "name": "marker name", "price": "48273.91", "category_id": category}
        assert editor.post("/products", product).status == 201
        # The second is refused by the database, whose message quotes the value.
        assert editor.post("/products", product).status == 409
        assert editor.get("/products?search=markersearch").status == 200
        assert editor.get("/products?cursor=markercursor").status == 422
        wait_for(lambda: endpoint.messages)
        wait_for(lambda: [span for span in sink.spans if span.name == "mail"])
        spans = "".join(span.text for span in sink.spans)
        everything = spans + end(site.server) + site.log.read_text()
        given = [tokens["access_token"], tokens["refresh_token"], hook["secret"], str(alice.token), str(root.token)]
        assert len(sink.spans) > 50
        assert [each for each in ("marker", "48273.91", *given) if each.lower() in everything.lower()] == []


class HangingCollector:
    """Takes connections and answers nothing."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self) -> "HangingCollector":
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()


@contextmanager
def away(kind: str) -> Iterator[str]:
    """The endpoint of a collector that is down, or that hangs."""
    if kind == "down":
        yield f"http://127.0.0.1:{free_port()}"
        return
    with HangingCollector() as hanging:
        yield hanging.endpoint


@pytest.mark.timeout(120)
class TestCollectorsThatAreAway:
    @pytest.mark.parametrize("kind", ["down", "hangs"])
    def test_delay_nothing_and_are_logged_once(
        self, app: Flask, bob: Caller, connections: ExitStack, kind: str
    ) -> None:
        with away(kind) as endpoint:
            env = traced(
                app.config["DATABASE_URL"], endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="60" if kind == "hangs" else "1"
            )
            with gunicorn_server(env, workers=1, threads=1) as server:
                client = connect(connections, server, bob)
                begun = time.monotonic()
                for _ in range(REQUESTS):
                    assert client.get("/users/me").status == 200
                if kind == "down":
                    wait_for(lambda: "traces_lost" in server.log())
                    assert client.get("/users/me").status == 200
                elapsed, ending = time.monotonic() - begun, time.monotonic()
                log = end(server)
            ended = time.monotonic() - ending
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        assert [line["event"] for line in lines].count("traces_lost") == (kind == "down")
        assert [line for line in lines if line["event"] == "opentelemetry"][1:] == []
        # An export that hangs would take a minute, each.
        assert elapsed < 30
        assert ended < 15
        assert "Traceback" not in log


@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
class TestCelery:
    @pytest.fixture
    def server(self, app: Flask, sink: Collector, redis_url: str, tmp_path: Path) -> Iterator[GunicornServer]:
        """A server whose jobs are run by processes of Celery's pool."""
        settings = {"CELERY_BROKER_URL": redis_url, "WEBHOOK_ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
        env = traced(app.config["DATABASE_URL"], sink.endpoint, **settings)
        command = ["-m", "celery", "--app", "worker", "worker", "--beat", "--concurrency", "2"]
        with gunicorn_server(env, workers=1, threads=1) as server, process(command, env, tmp_path / "celery.log"):
            yield server

    def test_sends_what_its_processes_record(
        self, server: GunicornServer, sink: Collector, endpoint: Receiver, root: Caller
    ) -> None:
        with closing(Client(server.port, root.token)) as client:
            answer = client.post("/media", {"url": f"{endpoint.url}/picture.jpg"}, traceparent=TRACEPARENT)

        assert answer.status == 202
        [job] = wait_for(lambda: [span for span in sink.trace(TRACE_ID) if span.name == "job media"])
        [request] = wait_for(lambda: [span for span in sink.trace(TRACE_ID) if span.kind == "server"])
        assert job.parent_id == request.span_id
