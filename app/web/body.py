"""The strict door: a request body is read whole, within its limit, as exactly one JSON text, or refused."""

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
#: Bytes that are read at a time.
BLOCK_BYTES = 64 * 1024
#: Of a body that needs no credentials, such as a login.
MAX_SMALL_BODY_BYTES = 16 * 1024
#: Values of one JSON text; a full batch has 115,000. An empty array is two bytes and costs microseconds.
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


class Body(Protocol):
    """The body of a request, as the pipeline hands it on."""

    @property
    def value(self) -> Any:
        """Its JSON value; None where it is something else."""

    @property
    def fields(self) -> Mapping[str, str]:
        """The fields of a form beside its file."""

    def fingerprint(self) -> bytes:
        """Bytes that no other body has, for `Idempotency-Key`."""


@dataclass(frozen=True)
class JsonBody:
    """A JSON body: its bytes as they came, and its value."""

    content: bytes = b""
    value: Any = None
    fields: Mapping[str, str] = field(default_factory=dict)

    def fingerprint(self) -> bytes:
        """The bytes as they came: a client that retries repeats them, and no rule of JSON's equality has to count."""
        return self.content


#: Of a request for an operation that takes none.
NO_BODY = JsonBody()


class OrjsonProvider(JSONProvider):
    """Flask's JSON by orjson."""

    def dumps(self, obj: Any, **_: Any) -> str:
        """Compact JSON text."""
        return orjson.dumps(obj).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        """Strict JSON."""
        return parse_json(s.encode() if isinstance(s, str) else s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """A JSON response of the arguments."""
        content = self._prepare_response_obj(args, kwargs)
        return Response(orjson.dumps(content), mimetype=JSON)


def read_json(*, limit: int, accepted: tuple[str, ...]) -> JsonBody:
    """The request's body as JSON.

    Refuses another media type, charset or content coding (415), more than ``limit`` bytes, announced or chunked (413),
    and what is not strict JSON (400).
    """
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype not in accepted or charset not in {"utf-8", "utf8"} or request.content_encoding:
        raise UnsupportedMediaType(accepted=list(accepted))
    content = b"".join(read_blocks(limit))
    return JsonBody(content, parse_json(content))


def read_blocks(limit: int) -> Iterator[bytes]:
    """The request's body, piece by piece. Refuses one that breaks off (400), is too slow (408), or too large (413)."""
    if (request.content_length or 0) > limit:
        raise ContentTooLarge(limit=limit)
    # Flask has the one limit of all requests in mind.
    request.max_content_length = limit
    # A chunked body announces no length: Flask would cut it at the limit, and half a body is another request. A server
    # that ends the stream itself says so, and one byte past the limit tells.
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
    # Most texts are shorter than what is counted.
    if len(content) > MAX_VALUES and _count_values(content) > MAX_VALUES:
        raise TooManyValues
    try:
        # orjson proves the syntax, the encoding and a nesting below 1024. The standard library then builds the value,
        # because orjson turns integers past 64 bits into floats and keeps the last of two equal keys in silence.
        orjson.loads(content)
        return _DECODER.decode(content.decode())
    except (ValueError, RecursionError):
        raise JsonMalformed from None


def _count_values(content: bytes) -> int:
    """At least how many values a JSON text has: each array and object, and what a comma separates."""
    count = sum(map(content.count, b"[{,"))
    # Few texts come near the limit; in those, what stands in strings is left out.
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


# Possessive, and content with the end left out: it never looks at a byte twice.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=_finite, parse_constant=_refuse)
