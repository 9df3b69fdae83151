"""Requests of this application to URLs that someone else has chosen: the one guard, and what each request carries."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

import httpx2
import structlog
from flask import Flask, current_app

from app.clients.addresses import Guard
from app.clients.http import APIClient, Exchange
from app.core import tracing
from app.core.audit import origin
from app.core.metrics import OUTBOUND_DURATION
from app.core.tracing import Trace

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outbound:
    """What all requests to foreign URLs share in this process."""

    guard: Guard


def init_app(app: Flask) -> None:
    """Register the guard, with the exceptions of WEBHOOK_ALLOWED_PRIVATE_HOSTS."""
    guard = Guard(allowed_hosts=app.config["WEBHOOK_ALLOWED_PRIVATE_HOSTS"])
    app.extensions["outbound"] = Outbound(guard=guard)


def current_outbound() -> Outbound:
    """The guard of the application at hand."""
    outbound: Outbound = current_app.extensions["outbound"]
    return outbound


def guarded_client(**options: Any) -> APIClient:
    """A client for URLs that someone else has chosen; keep it, for it has the pool. ``options`` are `APIClient`'s."""
    outbound = current_outbound()
    return APIClient(
        guard=outbound.guard,
        on_request=(add_request_id, add_traceparent),
        on_response=(count_exchange, log_exchange),
        **options,
    )


def add_request_id(outgoing: httpx2.Request) -> None:
    """Send the id of the request at hand, if there is one, unless the caller has set another."""
    if request_id := origin.get().request_id:
        outgoing.headers.setdefault("X-Request-ID", request_id)


def add_traceparent(outgoing: httpx2.Request) -> None:
    """Send the trace that the request or job at hand belongs to, or a new one, unless the caller has set another."""
    if "traceparent" not in outgoing.headers:
        trace = _outgoing_trace()
        outgoing.headers["traceparent"] = trace.traceparent
        if trace.state:
            outgoing.headers["tracestate"] = trace.state


def _outgoing_trace() -> Trace:
    here = tracing.current_trace()
    if here is not None:
        return here if tracing.recorder is not None else here.with_new_span()
    request_id = origin.get().request_id
    # By the request id, so that all that one request sends is in one trace. 00: it was not recorded here.
    trace_id = hashlib.sha256(request_id.encode()).hexdigest()[:32] if request_id else secrets.token_hex(16)
    return Trace(trace_id, secrets.token_hex(8), "00")


def count_exchange(exchange: Exchange) -> None:
    """Count an attempt by its outcome: "2xx", "5xx", or the name of an error."""
    outcome = f"{exchange.status // 100}xx" if exchange.status else type(exchange.error).__name__
    OUTBOUND_DURATION.labels(outcome).observe(exchange.seconds)


def log_exchange(exchange: Exchange) -> None:
    """Log an attempt in one line. The path is left out, because that of a webhook often is a secret."""
    log.info(
        "outbound",
        method=exchange.method,
        origin=exchange.origin,
        attempt=exchange.attempt,
        status=exchange.status,
        error=type(exchange.error).__name__ if exchange.error else None,
        ms=round(exchange.seconds * 1000, 3),
    )
