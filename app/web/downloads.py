"""Downloads: files that are made while they are sent; a failure after the first bytes breaks the connection."""

import codecs
import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import TypeVar

from flask import Response, stream_with_context

from app.core.breaker import breaker
from app.core.snapshots import Snapshot
from app.core.transactions import current_unit, unit_of_work

Batch = TypeVar("Batch")


def read_in_batches(batches: Iterator[Batch], snapshot: Snapshot | None = None) -> Iterator[Batch]:
    """The batches, each fetched in a unit of work of its own, so that a slow client occupies no place in the database.

    Nor does it hold a connection, unless all are read in a snapshot, which is closed after the last.
    """
    while True:
        # The first is fetched within the request's own unit of work, the others while the response is being sent.
        guard = None if current_unit() else breaker
        with unit_of_work(reading=True, guard=guard) if snapshot is None else snapshot.reading(guard):
            batch = next(batches, None)
        if batch is None:
            break
        yield batch
    if snapshot is not None:
        snapshot.close()


def download(
    pieces: Iterator[str],
    *,
    media_type: str,
    name: str,
    encoding: str = "utf-8",
    snapshot: Snapshot | None = None,
) -> Response:
    """A response that sends these pieces of text as a file with this name; what the encoding lacks becomes a ``?``.

    It has no Content-Length, so that the server uses chunked transfer coding (RFC 9112 section 7.1): its last chunk
    marks a complete file, and after a failure the server closes the connection without it. A ``snapshot`` that the
    pieces read is closed at the end, whether the file was sent, the client has gone, or it failed.
    """
    try:
        # The first pieces are made now, so that an unavailable database is a 503 and not an incomplete file.
        first = list(islice(pieces, 2))
    except BaseException:
        if snapshot is not None:
            snapshot.close()
        raise
    encoder = codecs.getincrementalencoder(encoding)("replace")
    content = stream_with_context(encoder.encode(piece) for piece in chain(first, pieces))
    response = Response(content, mimetype=media_type)
    if snapshot is not None:
        # The server calls this in every case (PEP 3333), also for a HEAD, which reads nothing of the content.
        response.call_on_close(snapshot.close)
    if (charset := charset_of(encoding)) != "utf-8":
        response.content_type = f"{media_type}; charset={charset}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def charset_of(encoding: str) -> str:
    """The name of an encoding in a media type (IANA), for one of Python's."""
    name = encoding.removesuffix("-sig").replace("mac-roman", "macintosh").replace("iso8859", "iso-8859")
    return re.sub(r"^cp(125[0-8])$", r"windows-\1", name)
