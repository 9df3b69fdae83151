"""ETag, If-None-Match and If-Match (RFC 9110 section 13)."""

import re
from typing import Any, Protocol

from flask import Response, request

from app.core.errors import Malformed, PreconditionFailed, PreconditionRequired

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# Every blank belongs to one place only: where it could belong to two, a pattern tries them all, and never ends.
_TAGS = re.compile(rf"[ \t]*(?:,[ \t]*)*{_TAG}[ \t]*(?:,[ \t]*(?:{_TAG}[ \t]*)?)*")


class EntityTagMalformed(Malformed):
    """A precondition is * or a list of entity tags in double quotes, as ETag carries them."""


class HasVersion(Protocol):
    """A row that counts its own changes."""

    version: Any


def entity_tag(row: HasVersion) -> str:
    """The strong entity tag of a row: its version."""
    return f'"{row.version}"'


def read_if_match() -> frozenset[str] | None:
    """The tags of If-Match, or None when it is missing. ``*`` stands for whatever is there."""
    return _read_tags("If-Match")


def check_if_match(tags: frozenset[str] | None, row: HasVersion) -> None:
    """Refuse without tags (428), and when none is the row's (412)."""
    if tags is None:
        raise PreconditionRequired
    if "*" not in tags and entity_tag(row) not in tags:
        raise PreconditionFailed


def apply_if_none_match(response: Response) -> None:
    """Answer a read with 304 and without content when the client holds this representation already."""
    tag = response.headers.get("ETag")
    if tag is not None and is_not_modified(tag):
        response.status_code = 304
        response.response = ()


def is_not_modified(tag: str) -> bool:
    """Whether the client holds this representation already."""
    try:
        tags = _read_tags("If-None-Match")
    except EntityTagMalformed:
        # Unlike a precondition of a write, this one is an optimisation: what cannot be read does not match.
        return False
    return tags is not None and (tag in tags or "*" in tags)


def _read_tags(name: str) -> frozenset[str] | None:
    header = request.headers.get(name)
    if header is None:
        return None
    if header.strip() == "*":
        return frozenset({"*"})
    if len(header) > 4096 or not _TAGS.fullmatch(header):
        raise EntityTagMalformed
    # A proxy that compresses weakens our tags; the row's version inside is as good (and decides inside the UPDATE).
    return frozenset(tag.removeprefix("W/") for tag in re.findall(_TAG, header))
