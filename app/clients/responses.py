"""A response of another server: its body, read up to a limit, and when it wants to be asked again."""

import json
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from app.clients.errors import ResponseTooLarge
from app.core import clock

_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class APIResponse:
    """A response. ``seconds`` is how long it took, from the first byte sent to the last one read, without retries."""

    status: int
    headers: httpx2.Headers
    #: Decompressed.
    content: bytes
    #: Whether the body has more bytes than ``content``.
    is_truncated: bool
    seconds: float
    #: Which attempt this is the response to; the first is 1.
    attempt: int
    #: Seconds to wait, as `Retry-After` asks; None where it is missing or malformed.
    retry_after: float | None

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as UTF-8, with U+FFFD in place of what is none."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """The body parsed as JSON. Raises ``ValueError`` where it is none, or too deep to be parsed."""
        try:
            return json.loads(self.content)
        except RecursionError:
            raise ValueError("it is too deep") from None


def read_body(response: httpx2.Response, limit: int, *, truncate: bool) -> tuple[bytes, bool]:
    """The decompressed body, and whether it was truncated.

    Memory is bounded by ``limit`` and a mebibyte, the most that httpx2 decompresses at once. Raises
    ``ResponseTooLarge``, and ``DecodingError`` of httpx2 for broken compression, unless it may ``truncate``.
    """
    body = bytearray()
    try:
        for chunk in response.iter_bytes():
            body += chunk
            _require_at_most(limit, len(body))
    except (ResponseTooLarge, httpx2.DecodingError):
        if not truncate:
            raise
        return bytes(body[:limit]), True
    return bytes(body), False


def _require_at_most(limit: int, length: int) -> None:
    if length > limit:
        raise ResponseTooLarge(limit)


def parse_retry_after(value: str | None) -> float | None:
    """The seconds that a `Retry-After` header asks to wait, 0 for a past date; None where it is malformed.

    It has seconds or a date: RFC 9110 section 10.2.3.
    """
    if value is None:
        return None
    if _SECONDS.fullmatch(value.strip()):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - clock.now()).total_seconds())
    except (ValueError, TypeError, OverflowError):
        # TypeError is for a date without a time zone.
        return None
