"""Uploads: files as the body itself or as a part of a form, written to a temporary file while they arrive.

A file arrives at its client's pace and may be larger than memory; no transaction is open meanwhile.
"""

import hashlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import IO

import orjson
from flask import request
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from app.core.errors import ContentTooLarge, Fault, Invalid, Malformed, UnsupportedMediaType
from app.web.body import BLOCK_BYTES, UNREAD, read_blocks

FORM = "multipart/form-data"
#: The name of the part that is the file.
PART = "file"
MAX_FIELD_BYTES = 8 * 1024
MAX_FIELDS = 20
MAX_BOUNDARY_LENGTH = 200


class FormMalformed(Malformed):
    """The request body is not a valid form of its Content-Type (RFC 7578)."""


class FileMissing(Invalid):
    """The form has no part named file."""

    pointer = f"/{PART}"


#: What is refused of a file, sent as it is or in a form.
REFUSALS = (*UNREAD, FormMalformed, FileMissing)


@dataclass
class Upload:
    """A complete file. ``media_type``, ``charset`` and ``name`` are what the client claims, and may be empty."""

    stream: IO[bytes]
    size: int = 0
    media_type: str = ""
    #: The charset that its media type states; empty where it states none.
    charset: str = ""
    name: str = ""
    #: The other fields of the form.
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def value(self) -> None:
        """None: a file is no JSON."""

    def fingerprint(self) -> bytes:
        """Bytes that differ for every other file and other fields."""
        digest = hashlib.sha256()
        while block := self.stream.read(BLOCK_BYTES):
            digest.update(block)
        self.stream.seek(0)
        stated = [self.media_type, self.charset, self.name, self.fields]
        return digest.digest() + orjson.dumps(stated, option=orjson.OPT_SORT_KEYS)


@contextmanager
def receive(*, limit: int, accepted: tuple[str, ...], others: tuple[str, ...] = ()) -> Iterator[Upload]:
    """The file of this request, until the end of the block deletes it.

    Refuses another media type or content coding (415, which names ``others`` beside those that are files), more than
    ``limit`` bytes (413), and a form that is broken (400) or has no file (422).
    """
    if request.mimetype not in accepted or request.content_encoding:
        raise UnsupportedMediaType(accepted=[*accepted, *others])
    with tempfile.TemporaryFile() as stream:
        upload = Upload(stream)
        if request.mimetype == FORM:
            _receive_form(read_blocks(limit), upload)
        else:
            upload.media_type, upload.charset = request.mimetype, request.mimetype_params.get("charset", "")
            stream.writelines(read_blocks(limit))
        upload.size = stream.tell()
        stream.seek(0)
        yield upload


def _receive_form(blocks: Iterator[bytes], upload: Upload) -> None:
    boundary = request.mimetype_params.get("boundary", "").encode("latin-1", "replace")
    # RFC 2046 section 5.1.1 allows 70 characters, but well-known clients use a few more.
    if not 0 < len(boundary) <= MAX_BOUNDARY_LENGTH:
        raise FormMalformed
    parts: dict[str, IO[bytes]] = {}
    part: IO[bytes] = io.BytesIO()
    for event in _events(blocks, boundary):
        if isinstance(event, File | Field):
            part = _begin_part(event, parts, upload)
        elif isinstance(event, Data):
            part.write(event.data)
            if part is not upload.stream and part.tell() > MAX_FIELD_BYTES:
                raise ContentTooLarge(limit=MAX_FIELD_BYTES)
    if parts.pop(PART, None) is None:
        raise FileMissing
    upload.fields = {name: _text(part) for name, part in parts.items()}


def _begin_part(event: File | Field, parts: dict[str, IO[bytes]], upload: Upload) -> IO[bytes]:
    """The stream that receives the part, which is added to ``parts``; that of the file is the upload's."""
    if not event.name:
        raise FormMalformed
    if event.name in parts:
        raise Invalid(Fault("Given more than once.", "repeated", pointer=f"/{event.name}"))
    if event.name == PART:
        media_type, parameters = parse_options_header(event.headers.get("Content-Type"))
        upload.media_type, upload.charset = media_type.lower(), parameters.get("charset", "")
        upload.name = (event.filename or "") if isinstance(event, File) else ""
        parts[PART] = upload.stream
    else:
        parts[event.name] = io.BytesIO()
    return parts[event.name]


def _text(part: IO[bytes]) -> str:
    part.seek(0)
    try:
        return part.read().decode()
    except UnicodeDecodeError:
        raise FormMalformed from None


def _events(blocks: Iterator[bytes], boundary: bytes) -> Iterator[Event]:
    # Not Werkzeug's form parser, which would store all fields in memory and the file on disk before we could refuse
    # them. max_form_memory_size bounds what the decoder buffers before it can parse it, such as a preamble.
    decoder = MultipartDecoder(boundary, max_form_memory_size=4 * BLOCK_BYTES, max_parts=MAX_FIELDS + 1)
    try:
        for block in chain(blocks, [None]):
            decoder.receive_data(block)
            while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
                yield event
    except (ValueError, HTTPException):
        raise FormMalformed from None
