"""Traces: what was done because of which request, across processes (W3C Trace Context); the one door to OpenTelemetry.

Where OTEL_EXPORTER_OTLP_ENDPOINT is set, `set_up` begins to record spans, with `core.spans`. Elsewhere nothing of
OpenTelemetry is imported, and a hook costs a look at `recorder`; a trace that came in is in the log all the same, and
is sent on. A span is recorded only within an entry: a request, a run of a job, a delivery of a webhook.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from app.core.spans import SpanRecorder

#: The length of a `traceparent` of version 00, which is what is stored.
TRACEPARENT_LENGTH = 55
#: What a trace state may be at most; a longer one is dropped (https://www.w3.org/TR/trace-context/#tracestate-limits).
MAX_STATE_LENGTH = 512

#: https://www.w3.org/TR/trace-context/#traceparent-header-field-values. Later versions may append members.
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})"
    r"-(?P<trace_id>(?!0{32})[0-9a-f]{32})-(?P<span_id>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)

#: A list of keys with values in printable ASCII, some of which may be empty.
_STATE_MEMBER = r" *(?:[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~] *)?"
_TRACESTATE = re.compile(rf"{_STATE_MEMBER}(?:,{_STATE_MEMBER}){{0,31}}")

Attributes = Mapping[str, str | int]
_NOTHING: Attributes = MappingProxyType({})


class Kind(StrEnum):
    """What a span is to the one before it, in OpenTelemetry's words."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    CONSUMER = "consumer"


@dataclass(frozen=True, slots=True)
class Trace:
    """A place in a trace: the span that what follows belongs to. ``state`` is the `tracestate` that came with it."""

    trace_id: str
    span_id: str
    flags: str
    state: str = ""

    @property
    def traceparent(self) -> str:
        """The header, in version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def with_new_span(self) -> "Trace":
        """Another place in the same trace, for a request that is sent without a span of its own."""
        return replace(self, span_id=secrets.token_hex(8))


class Span(Protocol):
    """What is being recorded, or nothing."""

    def note(self, name: str, value: str | int) -> None:
        """Set an attribute. It must hold nothing that a log may not."""

    def fail(self, error: str) -> None:
        """Mark it as failed by an error of this name; messages of errors may quote values, so they are left out."""


class NoSpan:
    """Nothing is recorded."""

    def note(self, name: str, value: str | int) -> None:
        """Do nothing."""

    def fail(self, error: str) -> None:
        """Do nothing."""


NO_SPAN = NoSpan()
_no_block: AbstractContextManager[Span] = nullcontext(NO_SPAN)

#: What records the spans of this process; None where tracing is off. One for all applications of a process, because
#: listeners and clients that know no application look here.
recorder: "SpanRecorder | None" = None
#: The trace of the request or job at hand where no spans are recorded. A ContextVar, as OpenTelemetry has one.
_given: ContextVar[Trace | None] = ContextVar("given_trace", default=None)


def set_up(endpoint: str | None, *, version: str) -> None:
    """Record the spans of this process from now on, and send them to an ``endpoint``, if there is one; call it once.

    Call this after a fork: a thread sends the spans.
    """
    global recorder  # noqa: PLW0603 -- the one place where tracing begins
    if endpoint is not None and recorder is None:
        recorder = import_module("app.core.spans").record_to(endpoint, version=version)


def read_trace(traceparent: str | None, tracestate: str | None = None) -> Trace | None:
    """The trace in a `traceparent`; None where there is none, or it is not well-formed. Such a state is dropped."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    return Trace(found["trace_id"], found["span_id"], found["flags"], _state_in(tracestate or ""))


def current_trace() -> Trace | None:
    """The trace at hand: that of the span which is being recorded, or else the one that came in."""
    return _given.get() if recorder is None else recorder.current_trace()


def traceparent_to_store() -> str | None:
    """What is stored beside a job or a change, so that what follows from it belongs to this entry; None without one."""
    if recorder is None:
        return None
    trace = recorder.entry_trace()
    return None if trace is None else trace.traceparent


def pass_on(trace: Trace | None) -> None:
    """Send on the trace that came with a request, where no spans are recorded; None forgets that of the one before."""
    _given.set(trace)


@contextmanager
def entry(
    name: str,
    *,
    kind: Kind,
    parent: Trace | None,
    link: Trace | None = None,
    attributes: Attributes = _NOTHING,
) -> Iterator[Span]:
    """Record a block as a part of the trace of ``parent``, or as one of its own; its log lines have the trace's id.

    A ``link`` leads to a span of another trace in which this was done too.
    """
    if recorder is None:
        with _within(parent), _logging(parent):
            yield NO_SPAN
    else:
        with recorder.entry(name, kind, parent, link, attributes) as span, _logging(recorder.current_trace()):
            yield span


def span(name: str, *, kind: Kind = Kind.INTERNAL, attributes: Attributes = _NOTHING) -> AbstractContextManager[Span]:
    """Record a block within the entry at hand; without one, nothing is recorded."""
    return _no_block if recorder is None else recorder.span(name, kind, attributes)


def _state_in(tracestate: str) -> str:
    # It is sent on and recorded as it came.
    is_state = len(tracestate) <= MAX_STATE_LENGTH and _TRACESTATE.fullmatch(tracestate)
    return tracestate if is_state else ""


@contextmanager
def _within(trace: Trace | None) -> Iterator[None]:
    token = _given.set(trace)
    try:
        yield
    finally:
        _given.reset(token)


def _logging(trace: Trace | None) -> AbstractContextManager[None]:
    if trace is None:
        return nullcontext()
    return structlog.contextvars.bound_contextvars(trace_id=trace.trace_id)
