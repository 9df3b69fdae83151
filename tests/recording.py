"""Spans that a test records in memory, in place of a collector's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.core import tracing
from app.core.spans import SpanRecorder
from tests.leaks import require_no_leak


class Recording:
    """The spans that have ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """All of them, in the order of their ends."""
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        """The one span with this name."""
        [found] = [span for span in self.spans if span.name == name]
        return found

    def below(self, parent: ReadableSpan) -> list[ReadableSpan]:
        """Those that belong to a span directly."""
        assert parent.context is not None
        return [span for span in self.spans if span.parent and span.parent.span_id == parent.context.span_id]

    @property
    def text(self) -> str:
        """All that they hold."""
        return "".join(span.to_json() for span in self.spans)


@contextmanager
def recording() -> Iterator[Recording]:
    """Record spans for the length of a block; applications that are made within record their statements."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    before, recorder = tracing.recorder, SpanRecorder(provider)
    tracing.recorder = recorder
    recorded = Recording(exporter)
    try:
        yield recorded
    finally:
        tracing.recorder = before
        recorder.shut_down()
    require_no_leak(recorded.text, "What was recorded")


def hex_id(span: ReadableSpan) -> str:
    """The id of a span as headers have it."""
    assert span.context is not None
    return f"{span.context.span_id:016x}"


def trace_of(span: ReadableSpan) -> str:
    """The id of the trace of a span as headers have it."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}"
