"""The spans of this process, recorded with OpenTelemetry and sent over OTLP; imported where tracing is on alone.

No span has a value of a statement, a query string, an address, or the message of an error. A collector that is slow or
down delays nothing: spans wait in a queue, of which those that are too many are dropped.
"""

import atexit
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import structlog
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import Span as OpenTelemetrySpan

from app.core.tracing import NO_SPAN, Attributes, Kind, Span, Trace

SERVICE_NAME = "catalog-api"
#: Seconds that the end of a process waits for its last spans to be sent.
FLUSH_SECONDS = 2.0
#: Statements of one entry that have spans; an import may execute a hundred times as many.
MAX_STATEMENTS = 500
#: Of a statement, this many characters are recorded.
MAX_STATEMENT_TEXT = 2000
#: How many statements the process has the texts of.
CACHED_STATEMENTS = 1000

KINDS = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.CONSUMER: SpanKind.CONSUMER,
}

#: The texts and numbers in a statement, without the numbers in names and parameters.
_LITERALS = re.compile(r"'(?:[^']|'')*'|(?<![\w$%.:\"])\d+(?:\.\d+)?\b")

log = structlog.get_logger(__name__)


class Entry:
    """What the process began to do for a trace, and how many statements it has executed for it."""

    def __init__(self, span: OpenTelemetrySpan) -> None:
        self.span = span
        self.statements = 0
        self.is_recording = span.is_recording()


#: Of the thread at hand. A ContextVar, because statements are recorded by listeners that see neither request nor job.
_entry: ContextVar[Entry | None] = ContextVar("trace_entry", default=None)


class RecordedSpan:
    """A span of OpenTelemetry."""

    def __init__(self, span: OpenTelemetrySpan) -> None:
        self._span = span

    def note(self, name: str, value: str | int) -> None:
        """Set an attribute."""
        self._span.set_attribute(name, value)

    def fail(self, error: str) -> None:
        """Mark it as failed by an error of this name."""
        self._span.set_attribute("error.type", error)
        self._span.set_status(Status(StatusCode.ERROR))


class RequestSpan(RecordedSpan):
    """The entry of a request, which begins and ends in two hooks."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.span)
        self._entry = entry
        self._token = attach(set_span_in_context(entry.span, Context()))
        _entry.set(entry)

    def rename(self, name: str) -> None:
        """Give it another name."""
        self._span.update_name(name)

    def end(self) -> None:
        """End it; from here on nothing is recorded until the next one begins."""
        _entry.set(None)
        detach(self._token)
        _end(self._entry)


class SpanRecorder:
    """Records spans with a provider of OpenTelemetry's."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE_NAME)
        self._is_over = threading.Event()
        # Made now: while the interpreter ends, Python 3.12 and later make no thread.
        self._closer = threading.Thread(target=self._close, name="traces-end", daemon=True)
        self._closer.start()

    @staticmethod
    def current_trace() -> Trace | None:
        """The place of the span at hand."""
        return _place_of(get_current_span())

    @staticmethod
    def entry_trace() -> Trace | None:
        """The place of the entry at hand, whatever is being done within it."""
        entry = _entry.get()
        return None if entry is None else _place_of(entry.span)

    def begin_request(self, parent: Trace | None, *, name: str, attributes: Attributes) -> RequestSpan:
        """Begin the entry of a request."""
        return RequestSpan(self._begin(name, Kind.SERVER, parent, None, attributes))

    @contextmanager
    def entry(
        self, name: str, kind: Kind, parent: Trace | None, link: Trace | None, attributes: Attributes
    ) -> Iterator[Span]:
        """Record a block as an entry."""
        entry = self._begin(name, kind, parent, link, attributes)
        token, before = attach(set_span_in_context(entry.span, Context())), _entry.set(entry)
        span = RecordedSpan(entry.span)
        try:
            yield span
        except Exception as error:
            span.fail(type(error).__name__)
            raise
        finally:
            _entry.reset(before)
            detach(token)
            _end(entry)

    @contextmanager
    def span(self, name: str, kind: Kind, attributes: Attributes) -> Iterator[Span]:
        """Record a block within the entry at hand."""
        entry = _entry.get()
        if entry is None or not entry.is_recording:
            yield NO_SPAN
            return
        with self._tracer.start_as_current_span(
            name, kind=KINDS[kind], attributes=dict(attributes), record_exception=False, set_status_on_exception=False
        ) as begun:
            span = RecordedSpan(begun)
            try:
                yield span
            except Exception as error:
                span.fail(type(error).__name__)
                raise

    def record_statement(self, system: str, sql: str, seconds: float, *, error: str | None = None) -> None:
        """Record a statement that the database has just answered, or refused, after so many seconds."""
        entry = _entry.get()
        if entry is None or not entry.is_recording:
            return
        entry.statements += 1
        if entry.statements > MAX_STATEMENTS and error is None:
            return
        operation, text = describe_statement(sql)
        ended = time.time_ns()
        attributes = {"db.system.name": system, "db.operation.name": operation, "db.query.text": text}
        span = self._tracer.start_span(
            operation, kind=SpanKind.CLIENT, attributes=attributes, start_time=ended - int(seconds * 1e9)
        )
        if error is not None:
            RecordedSpan(span).fail(error)
        span.end(ended)

    def shut_down(self) -> None:
        """Send what is left, and wait for that for FLUSH_SECONDS at most."""
        self._is_over.set()
        self._closer.join(FLUSH_SECONDS)

    def _close(self) -> None:
        self._is_over.wait()
        self._provider.shutdown()

    def _begin(self, name: str, kind: Kind, parent: Trace | None, link: Trace | None, attributes: Attributes) -> Entry:
        before = Context() if parent is None else set_span_in_context(NonRecordingSpan(_context_of(parent)), Context())
        links = None if link is None else [Link(_context_of(link))]
        span = self._tracer.start_span(name, before, kind=KINDS[kind], attributes=dict(attributes), links=links)
        return Entry(span)


def record_to(endpoint: str, *, version: str) -> SpanRecorder:
    """A recorder that sends its spans to a collector's ``endpoint``, over HTTP.

    The variables of OpenTelemetry's SDK determine the rest: the sampler, headers, timeouts, more about the resource.
    """
    _log_once()
    exporter = WatchedExporter(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces"))
    recorder = SpanRecorder(_provider_for(BatchSpanProcessor(exporter), version))
    atexit.register(recorder.shut_down)
    return recorder


def _provider_for(processor: SpanProcessor, version: str) -> TracerProvider:
    ours = Resource.create({"service.name": SERVICE_NAME, "service.version": version})
    # Its own end waits for half a minute.
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


class WatchedExporter(SpanExporter):
    """Says once that the collector cannot be reached, and once that it can again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_lost = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, from one thread at a time."""
        result = self._exporter.export(spans)
        is_lost = result is not SpanExportResult.SUCCESS
        if is_lost != self._is_lost:
            self._is_lost = is_lost
            log.warning("traces_lost" if is_lost else "traces_back")
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send what the exporter has kept."""
        return self._exporter.force_flush(timeout_millis)


class OnceHandler(logging.Handler):
    """Logs each message of OpenTelemetry's once, such as one of a sampler that it does not know, without its values."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Log a message, unless `WatchedExporter` says what it does."""
        message = str(record.msg)
        if record.name.startswith("opentelemetry.exporter") or message in self._seen:
            return
        self._seen.add(message)
        log.warning("opentelemetry", message=message)


def _log_once() -> None:
    library = logging.getLogger("opentelemetry")
    library.propagate = False
    if not any(isinstance(handler, OnceHandler) for handler in library.handlers):
        library.addHandler(OnceHandler())


@lru_cache(CACHED_STATEMENTS)
def describe_statement(sql: str) -> tuple[str, str]:
    """The operation of a statement, and its text with a question mark for each literal."""
    text = " ".join(_LITERALS.sub("?", sql).split())
    return text.partition(" ")[0].upper()[:20], text[:MAX_STATEMENT_TEXT]


def _end(entry: Entry) -> None:
    if entry.statements:
        entry.span.set_attribute("catalog.database.statements", entry.statements)
    entry.span.end()


def _place_of(span: OpenTelemetrySpan) -> Trace | None:
    here = span.get_span_context()
    if not here.is_valid:
        return None
    flags = f"{here.trace_flags:02x}"
    state = here.trace_state.to_header() if here.trace_state else ""
    return Trace(format_trace_id(here.trace_id), format_span_id(here.span_id), flags, state)


def _context_of(trace: Trace) -> SpanContext:
    state: Any = TraceState.from_header([trace.state]) if trace.state else None
    flags = TraceFlags(int(trace.flags, 16))
    return SpanContext(
        int(trace.trace_id, 16), int(trace.span_id, 16), is_remote=True, trace_flags=flags, trace_state=state
    )
