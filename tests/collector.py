"""A collector of traces on the loopback: it takes OTLP over HTTP, and draws what it got as a tree."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.leaks import require_no_leak
from tests.receiver import Receiver, receiver

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
ERROR = 2


@dataclass(frozen=True)
class Collected:
    """A span as it arrived."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: Sequence[str]
    is_error: bool
    started: int
    text: str


class Collector:
    """What has arrived so far, of all processes. Safe to use by many threads."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.endpoint = receiver.url

    @property
    def spans(self) -> list[Collected]:
        """All spans."""
        return [span for message in self.receiver.at("/v1/traces") for span in _spans_in(message.body)]

    def trace(self, trace_id: str) -> list[Collected]:
        """The spans of a trace, in the order of their beginning."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.started)


@contextmanager
def collector(port: int = 0) -> Iterator[Collector]:
    """Run a collector."""
    with receiver(port) as endpoint:
        endpoint.reply(200)
        kept = Collector(endpoint)
        yield kept
    require_no_leak("\n".join(span.text for span in kept.spans), "What a collector got")


def path_to(span: Collected, spans: Sequence[Collected]) -> list[Collected]:
    """The spans from the first of a trace to this one."""
    by_id = {each.span_id: each for each in spans}
    path = [span]
    while path[0].parent_id in by_id:
        path.insert(0, by_id[path[0].parent_id])
    return path


def draw(spans: Sequence[Collected]) -> str:
    """A trace as a tree; statements that follow each other in one span are one line."""
    by_id = {span.span_id for span in spans}
    lines: list[str] = []

    def add(parent: str | None, depth: int) -> None:
        for span in spans:
            is_child = span.parent_id == parent if parent is not None else span.parent_id not in by_id
            if is_child:
                lines.append("   " * depth + _line_of(span))
                add(span.span_id, depth + 1)

    add(None, 0)
    return "\n".join(_merge_repeated(lines))


def _merge_repeated(lines: Sequence[str]) -> Iterator[str]:
    previous, times = "", 0
    for line in [*lines, ""]:
        if line == previous:
            times += 1
            continue
        if previous:
            yield f"{previous} x {times}" if times > 1 else previous
        previous, times = line, 1


def _line_of(span: Collected) -> str:
    shown = ("http.response.status_code", "catalog.job.status", "db.system.name", "error.type")
    values = " ".join(str(span.attributes[name]) for name in shown if name in span.attributes)
    process = span.resource["process"]
    return " ".join(part for part in (span.name, f"[{span.kind}, {process}]", values) if part)


def _spans_in(body: bytes) -> Iterator[Collected]:
    request = ExportTraceServiceRequest.FromString(body)
    for group in request.resource_spans:
        resource = _attributes_in(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Collected(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    name=span.name,
                    kind=KINDS[span.kind],
                    attributes=_attributes_in(span.attributes),
                    resource=resource,
                    links=[link.trace_id.hex() for link in span.links],
                    is_error=span.status.code == ERROR,
                    started=span.start_time_unix_nano,
                    text=str(span),
                )


def _attributes_in(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
