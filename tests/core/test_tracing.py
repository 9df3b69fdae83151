"""The one door to OpenTelemetry: what it costs where it is closed, and what goes through where it is open."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from app.core import spans, tracing
from app.core.spans import MAX_STATEMENTS, OnceHandler, SpanRecorder, WatchedExporter, describe_statement
from app.core.tracing import NO_SPAN, Kind, Trace, read_trace
from tests.recording import Recording, recording, trace_of
from tests.servers import PROJECT

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PARENT = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "01")


@pytest.fixture
def recorded() -> Iterator[Recording]:
    with recording() as recorded:
        yield recorded


@pytest.fixture(autouse=True)
def nothing_bound() -> None:
    """No ids of an earlier test in the log."""
    structlog.contextvars.clear_contextvars()
    tracing.pass_on(None)


class TestReadTrace:
    def test_finds_the_parts(self) -> None:
        assert read_trace(TRACEPARENT, "shop=1,other=2") == Trace(
            "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "01", "shop=1,other=2"
        )
        assert PARENT.traceparent == TRACEPARENT

    def test_takes_what_later_versions_append(self) -> None:
        assert read_trace(f"cc{TRACEPARENT[2:]}-what-comes") == PARENT

    @pytest.mark.parametrize(
        "given",
        [
            None, "", "x", TRACEPARENT.upper(), TRACEPARENT[:-1], f"{TRACEPARENT}-x", f"{TRACEPARENT}0",
            f"ff{TRACEPARENT[2:]}", f"00-{'0' * 32}-b7ad6b7169203331-01", f"{TRACEPARENT}\n", f" {TRACEPARENT}",
            f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", f"cc{TRACEPARENT[2:]}more",
        ],
    )  # fmt: skip
    def test_refuses_others(self, given: str | None) -> None:
        assert read_trace(given) is None

    @pytest.mark.parametrize(
        "state",
        ["shop=1", "a=1, b=2 3", "1tenant@shop=x", "a_-*/=!~", "a=1,,b=2", ",".join(["a=1"] * 32)],
    )
    def test_takes_a_state_as_it_came(self, state: str) -> None:
        assert read_trace(TRACEPARENT, state) == replace(PARENT, state=state)

    @pytest.mark.parametrize(
        "state",
        [
            f"a={'b' * 511}", f"a={'b' * 257}", "x", "a=", "=1", "A=1", "a=b=c", "a=1\nb=2", "a=\x7f", "a=\t1",
            "a=caf\u00e9", "a b=1", "a=1,x", ",".join(["a=1"] * 33),
        ],
    )  # fmt: skip
    def test_drops_a_state_that_is_too_long_or_not_well_formed(self, state: str) -> None:
        assert read_trace(TRACEPARENT, state) == PARENT


class TestWithoutTracing:
    def test_nothing_of_opentelemetry_is_imported(self, tmp_path: Path) -> None:
        # Of an application as the server makes it, after a request and a job.
        program = """
import sys
from app import create_app
from app.api.tasks import TASKS
from app.core.worker import Worker
from flask_migrate import upgrade
app = create_app()
with app.app_context():
    upgrade()
Worker(TASKS, app.app_context).drain()
assert app.test_client().get("/api/v1/products", headers={"traceparent": sys.argv[1]}).status_code == 401
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
        env = {"DATABASE_URL": f"sqlite:///{tmp_path / 'catalog.db'}", "LOG_LEVEL": "ERROR"}
        ran = subprocess.run(
            [sys.executable, "-c", program, TRACEPARENT],
            check=False,
            cwd=PROJECT,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
        )

        assert ran.stdout.strip() == "[]", ran.stderr

    def test_a_span_is_always_the_same_nothing(self) -> None:
        with tracing.span("one") as one, tracing.span("other", attributes={"a": 1}) as other:
            one.note("b", 2)
            one.fail("c")

        assert one is other is NO_SPAN
        assert tracing.span("one") is tracing.span("other")

    def test_an_entry_passes_its_trace_on(self) -> None:
        with tracing.entry("job", kind=Kind.CONSUMER, parent=PARENT):
            assert tracing.current_trace() == PARENT
            assert structlog.contextvars.get_contextvars() == {"trace_id": PARENT.trace_id}
            # What follows from it was recorded nowhere.
            assert tracing.traceparent_to_store() is None

        assert tracing.current_trace() is None
        assert structlog.contextvars.get_contextvars() == {}


class TestEntry:
    def test_continues_the_trace_of_its_parent(self, recorded: Recording) -> None:
        with tracing.entry("job", kind=Kind.CONSUMER, parent=PARENT, attributes={"catalog.job.id": 7}):
            here = tracing.current_trace()
            assert structlog.contextvars.get_contextvars() == {"trace_id": PARENT.trace_id}

        span = recorded.named("job")
        assert here is not None
        assert tracing.current_trace() is None
        assert here.traceparent == f"00-{PARENT.trace_id}-{here.span_id}-01"
        assert (trace_of(span), span.attributes) == (PARENT.trace_id, {"catalog.job.id": 7})
        assert span.parent is not None
        assert (f"{span.parent.span_id:016x}", span.parent.is_remote) == (PARENT.span_id, True)

    def test_begins_a_trace_without_one_whatever_is_at_hand(self, recorded: Recording) -> None:
        with tracing.entry("job", kind=Kind.CONSUMER, parent=PARENT):
            job = tracing.current_trace()
            with tracing.entry("webhook", kind=Kind.CONSUMER, parent=None, link=job):
                pass
            assert tracing.current_trace() == job

        span = recorded.named("webhook")
        assert trace_of(span) != PARENT.trace_id
        assert [f"{link.context.trace_id:032x}" for link in span.links] == [PARENT.trace_id]

    def test_keeps_the_state_of_the_trace(self, recorded: Recording) -> None:
        with tracing.entry("job", kind=Kind.CONSUMER, parent=Trace(PARENT.trace_id, PARENT.span_id, "01", "shop=1")):
            here = tracing.current_trace()

        assert here is not None
        assert here.state == "shop=1"

    def test_records_nothing_that_the_caller_does_not(self, recorded: Recording) -> None:
        with tracing.entry("job", kind=Kind.CONSUMER, parent=Trace(PARENT.trace_id, PARENT.span_id, "00")):
            record("SELECT 1")
            with tracing.span("mail"):
                here = tracing.current_trace()

        assert recorded.spans == ()
        assert here is not None
        assert (here.trace_id, here.flags) == (PARENT.trace_id, "00")

    def test_says_which_error_ended_it_and_not_its_message(self, recorded: Recording) -> None:
        with pytest.raises(ValueError, match="hunter2"), tracing.entry("job", kind=Kind.CONSUMER, parent=None):
            raise ValueError("hunter2")

        span = recorded.named("job")
        assert (span.attributes, span.status.is_ok, span.events) == ({"error.type": "ValueError"}, False, ())
        assert "hunter2" not in recorded.text


class TestSpan:
    def test_belongs_to_what_is_recorded(self, recorded: Recording) -> None:
        with (
            tracing.entry("job", kind=Kind.CONSUMER, parent=None),
            tracing.span("mail", kind=Kind.CLIENT) as span,
        ):
            span.note("server.address", "mail.example")
            record("SELECT 1")

        [mail] = recorded.below(recorded.named("job"))
        [statement] = recorded.below(mail)
        assert (mail.name, mail.attributes, statement.name) == ("mail", {"server.address": "mail.example"}, "SELECT")

    def test_is_not_recorded_on_its_own(self, recorded: Recording) -> None:
        with tracing.span("mail") as span:
            record("SELECT 1")

        assert span is NO_SPAN
        assert recorded.spans == ()

    def test_says_which_error_ended_it_and_not_its_message(self, recorded: Recording) -> None:
        with (
            tracing.entry("job", kind=Kind.CONSUMER, parent=None),
            pytest.raises(KeyError),
            tracing.span("mail"),
        ):
            raise KeyError("hunter2")

        assert recorded.named("mail").attributes == {"error.type": "KeyError"}
        assert recorded.named("job").status.is_ok
        assert "hunter2" not in recorded.text


class TestStatements:
    @pytest.mark.parametrize(
        ("sql", "operation", "text"),
        [
            ("SELECT a\n  FROM b WHERE c = $1 LIMIT 20", "SELECT", "SELECT a FROM b WHERE c = $1 LIMIT ?"),
            ("select 'it''s', x FROM t1", "SELECT", "select ?, x FROM t1"),
            ("UPDATE a SET b = %(b_1)s, c = 1.5", "UPDATE", "UPDATE a SET b = %(b_1)s, c = ?"),
            ("INSERT INTO a VALUES (?, :b, -3)", "INSERT", "INSERT INTO a VALUES (?, :b, -?)"),
            ("BEGIN IMMEDIATE", "BEGIN", "BEGIN IMMEDIATE"),
            ("SET LOCAL x = '5 s'; SELECT '", "SET", "SET LOCAL x = ?; SELECT '"),
        ],
    )
    def test_have_no_literals(self, sql: str, operation: str, text: str) -> None:
        assert describe_statement(sql) == (operation, text)

    def test_are_cut(self) -> None:
        assert len(describe_statement("SELECT " + "a, " * 5000)[1]) == spans.MAX_STATEMENT_TEXT

    def test_are_counted_beyond_those_that_are_recorded(self, recorded: Recording) -> None:
        with tracing.entry("job", kind=Kind.CONSUMER, parent=None):
            for _ in range(MAX_STATEMENTS + 5):
                record("SELECT 1")
            record("SELECT 2", error="40001")

        job = recorded.named("job")
        assert job.attributes == {"catalog.database.statements": MAX_STATEMENTS + 6}
        assert len(recorded.below(job)) == MAX_STATEMENTS + 1
        assert (recorded.spans[-2].attributes or {})["error.type"] == "40001"

    def test_end_now_and_began_before(self, recorded: Recording) -> None:
        with tracing.entry("job", kind=Kind.CONSUMER, parent=None):
            record("SELECT 1", seconds=2.5)

        span = recorded.named("SELECT")
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.end_time - span.start_time == 2_500_000_000
        assert span.attributes == {
            "db.system.name": "postgresql", "db.operation.name": "SELECT", "db.query.text": "SELECT ?",
        }  # fmt: skip


def record(sql: str, *, seconds: float = 0.001, error: str | None = None) -> None:
    assert tracing.recorder is not None
    tracing.recorder.record_statement("postgresql", sql, seconds, error=error)


class Exporter(SpanExporter):
    """Answers as a test says, or waits."""

    def __init__(self) -> None:
        self.results: list[bool] = []
        self.hold = threading.Event()
        self.has_ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS if self.results.pop(0) else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.hold.wait(60)
        self.has_ended = True


class TestExporting:
    def test_logs_the_loss_of_the_collector_once_and_its_return(self) -> None:
        exporter = Exporter()
        watched = WatchedExporter(exporter)
        exporter.results = [True, False, False, True, True]

        with capture_logs() as lines:
            for _ in range(5):
                watched.export([])

        assert [line["event"] for line in lines] == ["traces_lost", "traces_back"]

    def test_is_given_up_at_the_end_of_the_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(spans, "FLUSH_SECONDS", 0.1)
        exporter, provider = Exporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        recorder = SpanRecorder(provider)

        recorder.shut_down()

        assert not exporter.has_ended
        exporter.hold.set()

    def test_logs_what_the_library_says_once_and_without_values(self) -> None:
        logger = logging.getLogger("opentelemetry.sdk.any")
        logger.propagate, logger.handlers = False, [OnceHandler()]

        with capture_logs() as lines:
            for value in ("hunter2", "hunter3"):
                logger.warning("Unknown sampler %s", value)
            logger.info("A detail")
        said: list[dict[str, Any]] = [dict(line) for line in lines]

        assert said == [{"event": "opentelemetry", "message": "Unknown sampler %s", "log_level": "warning"}]
