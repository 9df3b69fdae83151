"""Fetching a picture from a URL that someone else has chosen, through the guarded client."""

from flask import current_app

from app.clients.errors import (
    AddressRefused,
    BadStatus,
    CircuitOpen,
    InvalidRequest,
    OutboundError,
    ResponseTooLarge,
    TimedOut,
    Unresolvable,
)
from app.clients.http import APIClient, Timeouts
from app.clients.outbound import current_outbound, guarded_client
from app.core.errors import Fault, Invalid
from app.core.jobs import TransientFailure
from app.features.media.images import TAKEN

#: In seconds; a slow server is given up after the total.
TIMEOUTS = Timeouts(read=10, total=30)

#: Why a URL has no picture for us, by the kind of error: a code, and a sentence.
_REASONS: dict[type[OutboundError], tuple[str, str]] = {
    InvalidRequest: ("url_malformed", "The URL cannot be requested as it stands."),
    AddressRefused: ("url_not_allowed", "The URL leads to an address that is not public."),
    Unresolvable: ("url_unresolvable", "The host of the URL has no address."),
    ResponseTooLarge: ("media_too_large", "The picture has more bytes than are accepted."),
    TimedOut: ("url_timed_out", "The server of the URL took too long."),
}
#: The statuses with which a server says that it may answer later.
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


class MediaUnfetchable(Invalid):
    """There is no picture at the URL."""

    def __init__(self, code: str = "", sentence: str = "") -> None:
        super().__init__(Fault(sentence or self.sentence(), code or self.code(), pointer="/url"))


def require_allowed(url: str) -> None:
    """Refuse a URL that would not be requested, as far as it shows without a lookup (``MediaUnfetchable``)."""
    try:
        current_outbound().guard.check_url(url)
    except AddressRefused:
        raise MediaUnfetchable(*_REASONS[AddressRefused]) from None


def fetch(url: str, *, is_last: bool) -> bytes:
    """The content at a URL, of MAX_MEDIA_BYTES at most.

    Raises ``MediaUnfetchable`` for what will not change, and ``TransientFailure`` for what may, unless this attempt
    ``is_last``. Redirects are not followed.
    """
    with _new_client() as client:
        try:
            return client.get(url, headers={"Accept": ", ".join(TAKEN)}).content
        except OutboundError as error:
            refusal = _refusal_of(error)
            if _may_pass(error) and not is_last:
                raise TransientFailure(refusal.faults[0].detail) from None
            raise refusal from None


def _new_client() -> APIClient:
    return guarded_client(
        timeouts=TIMEOUTS, attempts=1, has_breaker=False, max_response_bytes=current_app.config["MAX_MEDIA_BYTES"]
    )


def _may_pass(error: OutboundError) -> bool:
    if isinstance(error, BadStatus):
        return error.response.status in _LATER
    return not isinstance(error, AddressRefused | InvalidRequest | ResponseTooLarge)


def _refusal_of(error: OutboundError) -> MediaUnfetchable:
    if isinstance(error, BadStatus):
        status = error.response.status
        if 300 <= status < 400:
            return MediaUnfetchable("url_redirects", "The URL redirects to another, which is not followed: give that.")
        return MediaUnfetchable("url_refused", f"The server of the URL answers with the status {status}.")
    if type(error) in _REASONS:
        return MediaUnfetchable(*_REASONS[type(error)])
    if isinstance(error, CircuitOpen):
        return MediaUnfetchable("url_unreachable", "The server of the URL has failed repeatedly.")
    return MediaUnfetchable("url_unreachable", "The server of the URL cannot be reached.")
