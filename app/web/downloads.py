"""Files that clients download, made while they are read; a failure on the way breaks the connection."""

from collections.abc import Iterator
from itertools import chain, islice
from typing import TypeVar

from flask import Response, stream_with_context

from app.core.breaker import breaker
from app.core.transactions import current_unit, unit_of_work

Batch = TypeVar("Batch")


def read_in_turns(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches, each fetched in a read of its own: no connection is held while its reader is slow."""
    while True:
        # The first is fetched within the request's own unit of work, the others while the answer is being sent.
        with unit_of_work(reading=True, guard=None if current_unit() else breaker):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def download(pieces: Iterator[str], *, media_type: str, name: str) -> Response:
    """A file of these pieces of text.

    No length is announced, so that the server sends chunks and the last of them says that the file is whole: after a
    failure it closes the connection instead.
    """
    # The first pieces are made now: a database that is down is an answer of its own, and not half a file.
    first = list(islice(pieces, 2))
    content = stream_with_context(piece.encode() for piece in chain(first, pieces))
    response = Response(content, mimetype=media_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
