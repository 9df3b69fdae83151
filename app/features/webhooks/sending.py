"""One attempt to send a message to an endpoint, through the guarded client."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.clients.errors import AddressRefused, BadStatus, OutboundError
from app.clients.http import APIClient
from app.clients.outbound import current_outbound, guarded_client
from app.clients.responses import APIResponse
from app.core import clock, tracing
from app.core.tracing import Attributes, Kind, Trace
from app.features.webhooks.models import UrlNotAllowed
from app.features.webhooks.queue import Outcome
from app.security.signatures import signed_headers


@dataclass(frozen=True)
class Message:
    """A message for an endpoint; without secrets it cannot be signed, because they cannot be decrypted."""

    delivery_id: int
    id: str
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    secrets: Sequence[str] = field(repr=False)
    #: That of the change.
    trace: Trace | None = None


def require_allowed(url: str) -> None:
    """Refuse a URL to which nothing would be sent (``UrlNotAllowed``), as far as it shows without a lookup.

    It must be https, unless the operator allows its host (WEBHOOK_ALLOWED_PRIVATE_HOSTS).
    """
    guard = current_outbound().guard
    try:
        guard.check_url(url)
    except AddressRefused:
        raise UrlNotAllowed from None
    if not url.lower().startswith("https:") and not guard.has_exception_for(url):
        raise UrlNotAllowed


def new_client() -> APIClient:
    """The client that sends messages, for many threads: one attempt each, since a delivery has retries of its own.

    It has no circuit breaker: two endpoints may share a host, and each has its own pauses.
    """
    return guarded_client(attempts=1, has_breaker=False)


def send(client: APIClient, message: Message) -> Outcome:
    """Send a message once and say what became of it; needs neither a transaction nor a context of the application."""
    attributes: Attributes = {"catalog.delivery.id": message.delivery_id, "messaging.message.id": message.id}
    # The job sends the changes of many requests, so this belongs to the trace of the change.
    with tracing.entry(
        "webhook", kind=Kind.CONSUMER, parent=message.trace, link=tracing.current_trace(), attributes=attributes
    ) as span:
        outcome = _send(client, message)
        if not outcome.is_success:
            span.fail("undelivered" if outcome.status is None else str(outcome.status))
        return outcome


def _send(client: APIClient, message: Message) -> Outcome:
    text = message.body.decode()
    if not message.secrets:
        reason = "The secret cannot be decrypted with SECRET_KEY or PREVIOUS_SECRET_KEYS; rotate it."
        return Outcome(delivery_id=message.delivery_id, error=reason, request_text=text)
    signed = signed_headers(
        message_id=message.id, sent_at=clock.now(), body=message.body, signing_secrets=message.secrets
    )
    started = time.monotonic()
    response, error = _post(client, message, {"Content-Type": "application/json", **signed})
    return Outcome(
        delivery_id=message.delivery_id,
        status=response.status if response else None,
        latency_ms=round((time.monotonic() - started) * 1000),
        error=error,
        request_text=text,
        response_text=response.text if response else None,
        retry_after=response.retry_after if response else None,
    )


def _post(client: APIClient, message: Message, headers: Mapping[str, str]) -> tuple[APIResponse | None, str | None]:
    """The answer, whatever its status, or else what went wrong."""
    try:
        return client.post(message.url, content=message.body, headers=headers, truncate=True), None
    except BadStatus as refusal:
        return refusal.response, None
    except OutboundError as failure:
        return None, str(failure)
