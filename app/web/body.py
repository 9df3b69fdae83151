"""Request bodies: read to their end, within a limit, and parsed as exactly one JSON text, or refused."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, NoReturn, Protocol

import orjson
from flask import Response, request
from flask.json.provider import JSONProvider

from app.core.errors import ContentTooLarge, Malformed, RequestTimeout, UnsupportedMediaType
from app.core.model import MAX_ID

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
FORM = "application/x-www-form-urlencoded"
#: Bytes per read of the stream.
BLOCK_BYTES = 64 * 1024
#: For a body that is read without credentials, such as a login's.
MAX_SMALL_BODY_BYTES = 16 * 1024
#: Values of one JSON text; a full batch has 115,000. The limit on bytes is not enough: an empty array has two bytes,
#: and costs microseconds.
MAX_VALUES = 150_000


class BodyUnreadable(Malformed):
    """The request body could not be read to its end."""


class JsonMalformed(Malformed):
    """The request body is not one JSON text in UTF-8 (RFC 8259)."""


class DuplicateKey(Malformed):
    """An object in the request body has the same key twice."""


class NumberOutOfRange(Malformed):
    """A number in the request body does not fit 64 bits."""


class TooManyValues(Malformed):
    """The request body has more than 150,000 values."""


#: What is refused before any body is understood, beside what is so of every request, such as ``RequestTimeout``.
UNREAD = (BodyUnreadable, ContentTooLarge, UnsupportedMediaType)
#: What is refused of a JSON body.
REFUSALS = (*UNREAD, JsonMalformed, DuplicateKey, NumberOutOfRange, TooManyValues)


class Body(Protocol):
    """The body of a request, as the pipeline passes it on."""

    @property
    def value(self) -> Any:
        """Its JSON value; None where it is something else."""

    @property
    def fields(self) -> Mapping[str, str]:
        """The fields of a form beside its file."""

    def fingerprint(self) -> bytes:
        """Bytes that differ for every other body, for `Idempotency-Key`."""


@dataclass(frozen=True)
class JsonBody:
    """A JSON body: its bytes as received, and its value."""

    content: bytes = b""
    value: Any = None
    fields: Mapping[str, str] = field(default_factory=dict)

    def fingerprint(self) -> bytes:
        """The bytes as received: a retry repeats them, and comparing values would need rules for JSON's equality."""
        return self.content


#: The body of a request for an operation that takes none.
NO_BODY = JsonBody()


class OrjsonProvider(JSONProvider):
    """Flask's JSON provider, on orjson."""

    def dumps(self, obj: Any, **_: Any) -> str:
        """Compact JSON text."""
        return orjson.dumps(obj).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        """The value of a JSON text, parsed by `parse_json`."""
        return parse_json(s.encode() if isinstance(s, str) else s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """A JSON response with the arguments as its content."""
        content = self._prepare_response_obj(args, kwargs)
        return Response(orjson.dumps(content), mimetype=JSON)


def read_json(*, limit: int, accepted: tuple[str, ...]) -> JsonBody:
    """The request's body as JSON.

    Refuses another media type, charset or content coding (415), more than ``limit`` bytes, by Content-Length or when
    they arrive (413), and what is not strict JSON (400).
    """
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype not in accepted or charset not in {"utf-8", "utf8"} or request.content_encoding:
        raise UnsupportedMediaType(accepted=list(accepted))
    content = b"".join(read_blocks(limit))
    return JsonBody(content, parse_json(content))


def read_blocks(limit: int) -> Iterator[bytes]:
    """The request's body in blocks of at most BLOCK_BYTES.

    Refuses a body that breaks off (400), is too slow (408), or has more than ``limit`` bytes (413).
    """
    if (request.content_length or 0) > limit:
        raise ContentTooLarge(limit=limit)
    # This overrides Flask's MAX_CONTENT_LENGTH, which is one limit for all requests.
    request.max_content_length = limit
    # A chunked body has no Content-Length: Flask would truncate it at the limit, and half a body is another request. A
    # server that ends the stream itself sets wsgi.input_terminated; reading one byte past the limit shows the excess.
    chunked = request.environ.get("wsgi.input_terminated")
    stream = request.environ["wsgi.input"] if chunked else request.stream
    length = 0
    while block := _read_block(stream, min(BLOCK_BYTES, limit + 1 - length)):
        length += len(block)
        if length > limit:
            raise ContentTooLarge(limit=limit)
        yield block
    if request.content_length is not None and length < request.content_length:
        raise BodyUnreadable


def _read_block(stream: IO[bytes], size: int) -> bytes:
    try:
        return stream.read(size)
    except TimeoutError:
        raise RequestTimeout from None
    except Exception:  # noqa: BLE001 -- each server has its own class for a broken chunk; gunicorn's are no OSError
        raise BodyUnreadable from None


def parse_json(content: bytes) -> Any:
    """Parse one JSON text strictly: UTF-8, no NaN, no lone surrogate, no duplicate key, no number past 64 bits."""
    # A text has no more values than bytes, and most have fewer bytes than the limit on values.
    if len(content) > MAX_VALUES and _count_values(content) > MAX_VALUES:
        raise TooManyValues
    try:
        # orjson validates the syntax, the encoding and a nesting below 1024. The standard library then builds the
        # value, because orjson converts integers past 64 bits to floats and silently drops all but the last of equal
        # keys.
        orjson.loads(content)
        return _DECODER.decode(content.decode())
    except (ValueError, RecursionError):
        raise JsonMalformed from None


def _count_values(content: bytes) -> int:
    """A lower bound of the values in a JSON text: its arrays and objects, and what commas separate."""
    count = sum(map(content.count, b"[{,"))
    # Brackets and commas within strings count too, which is cheap; only near the limit are the strings removed.
    return sum(map(_STRING.sub(b"", content).count, b"[{,")) if count > MAX_VALUES else count


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise DuplicateKey
    return members


def _integer(digits: str) -> int:
    if len(digits) > len(str(-MAX_ID)) or abs(int(digits)) > MAX_ID:
        raise NumberOutOfRange
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise NumberOutOfRange
    return number


def _refuse(_: str) -> NoReturn:
    raise JsonMalformed


# Possessive, and the closing quote is optional: the pattern never backtracks, so that its time is linear.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=_finite, parse_constant=_refuse)
