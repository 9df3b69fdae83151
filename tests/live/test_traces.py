"""One trace through the processes of a deployment, as a collector gets it; and collectors that are away or hang."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from flask import Flask

from tests import pictures
from tests.collector import Collector, collector, draw, path_to
from tests.conftest import Caller
from tests.live.conftest import environment, process
from tests.live.wire import Client, wait_for
from tests.receiver import Received, Receiver, Reply, receiver
from tests.servers import GunicornServer, gunicorn_server

pytestmark = pytest.mark.live

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
#: The library's own default is ten seconds.
EXPORT_TIMEOUT = 1


def traced(database_url: str, endpoint: str, **changed: str) -> dict[str, str]:
    """The environment of a process that records traces."""
    return environment(
        database_url,
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_EXPORTER_OTLP_TIMEOUT=str(EXPORT_TIMEOUT),
        OTEL_BSP_SCHEDULE_DELAY="100",
        LOG_LEVEL="INFO",
        **changed,
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


Connect = Callable[[GunicornServer, Caller], Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open a connection to a server for one of the cast."""
    with ExitStack() as stack:

        def connect(server: GunicornServer, caller: Caller) -> Client:
            return stack.enter_context(closing(Client(server.port, caller.token)))

        yield connect


def hooks_of(endpoint: Receiver) -> list[Received]:
    return endpoint.at("/hook")


@pytest.mark.timeout(180)
class TestOneTrace:
    @pytest.fixture
    def processes(
        self, app: Flask, sink: Collector, redis_url: str, tmp_path: Path
    ) -> Iterator[tuple[GunicornServer, Path]]:
        """A server of two processes that counts in Redis, and a worker; and the worker's log."""
        url = app.config["DATABASE_URL"]
        allowed = {"WEBHOOK_ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
        served = traced(
            url, sink.endpoint, REDIS_URL=redis_url, RATE_LIMIT_ENABLED="true",
            OTEL_RESOURCE_ATTRIBUTES="process=server", **allowed,
        )  # fmt: skip
        working = traced(url, sink.endpoint, OTEL_RESOURCE_ATTRIBUTES="process=worker", **allowed)
        log = tmp_path / "worker.log"
        with gunicorn_server(served, workers=2, threads=2) as server, process(["-m", "flask", "worker"], working, log):
            yield server, log

    def test_leads_from_a_request_over_a_job_to_a_receiver(
        self,
        processes: tuple[GunicornServer, Path],
        sink: Collector,
        endpoint: Receiver,
        root: Caller,
        connect: Connect,
    ) -> None:
        server, log = processes
        client = connect(server, root)
        hook = client.post("/webhooks", {"url": f"{endpoint.url}/hook", "events": ["media.updated"]})
        assert hook.status == 201, hook.json

        answer = client.post(
            "/media", {"url": f"{endpoint.url}/picture.jpg?SECRETURL"}, traceparent=TRACEPARENT, tracestate="shop=1"
        )

        assert answer.status == 202, answer.json
        wait_for(lambda: hooks_of(endpoint))
        trace = wait_for(lambda: sink.trace(TRACE_ID), until=lambda spans: any(s.name == "webhook" for s in spans))
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
        print(draw(trace))
        self.require_logged(log, answer.headers["X-Request-ID"])

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
