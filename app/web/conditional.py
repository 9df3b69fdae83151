"""ETag, If-None-Match and If-Match (RFC 9110 section 13)."""

import re
from collections.abc import Callable
from typing import Any, Protocol

from flask import Response, request

from app.core.errors import Malformed, PreconditionFailed, PreconditionRequired

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# Each blank can match in one place only: with two, backtracking would take exponential time (ReDoS).
_TAGS = re.compile(rf"[ \t]*(?:,[ \t]*)*{_TAG}[ \t]*(?:,[ \t]*(?:{_TAG}[ \t]*)?)*")


class EntityTagMalformed(Malformed):
    """A precondition is * or a list of entity tags in double quotes, as ETag carries them."""


class HasVersion(Protocol):
    """A row that counts its own changes; one that is `core.model.Live` has a second counter, ``live``."""

    version: Any


def entity_tag(row: HasVersion) -> str:
    """The strong entity tag of a row: ``"version"``, or ``"version.live"`` where it has both counters."""
    live = getattr(row, "live", None)
    return f'"{row.version}"' if live is None else f'"{row.version}.{live}"'


def read_if_match() -> frozenset[str] | None:
    """The tags of If-Match, or None when it is missing; ``*`` matches any existing row."""
    return _read_tags("If-Match")


def check_if_match(tags: frozenset[str] | None, row: HasVersion) -> None:
    """Refuse a request without If-Match (428), or with tags of which none is of the row's version (412).

    Of the two counters of a row only the version is compared: ``live`` stands for members that no such write touches,
    so a sale does not make an edit stale (decision 29).
    """
    if tags is None:
        raise PreconditionRequired
    if "*" not in tags and not any(_is_of_version(tag, row) for tag in tags):
        raise PreconditionFailed


def read_preconditions() -> Callable[[HasVersion | None], None]:
    """The preconditions of a write that needs none, to be called with the row, or with None where there is none.

    If-Match wants a row of that version, ``If-None-Match: *`` no row: else it raises ``PreconditionFailed``. Refuses
    malformed headers at once (400).
    """
    wanted, unwanted = _read_tags("If-Match"), _read_tags("If-None-Match")

    def require(row: HasVersion | None) -> None:
        if row is None:
            if wanted is not None:
                raise PreconditionFailed
            return
        if wanted is not None:
            check_if_match(wanted, row)
        if unwanted is not None and ("*" in unwanted or entity_tag(row) in unwanted):
            raise PreconditionFailed

    return require


def apply_if_none_match(response: Response) -> None:
    """Make the response to a read 304, without content, when the client already has this representation."""
    tag = response.headers.get("ETag")
    if tag is not None and is_not_modified(tag):
        response.status_code = 304
        response.response = ()


def is_not_modified(tag: str) -> bool:
    """Whether If-None-Match lists ``tag``, so that the client already has this representation."""
    try:
        tags = _read_tags("If-None-Match")
    except EntityTagMalformed:
        # Unlike a precondition of a write, this one is an optimisation: a malformed header matches nothing.
        return False
    return tags is not None and (tag in tags or "*" in tags)


def _is_of_version(tag: str, row: HasVersion) -> bool:
    if tag == f'"{row.version}"':
        return True
    return hasattr(row, "live") and re.fullmatch(rf'"{row.version}\.[0-9]{{1,19}}"', tag) is not None


def _read_tags(name: str) -> frozenset[str] | None:
    header = request.headers.get(name)
    if header is None:
        return None
    if header.strip() == "*":
        return frozenset({"*"})
    if len(header) > 4096 or not _TAGS.fullmatch(header):
        raise EntityTagMalformed
    # RFC 9110 section 13.1.1 wants a strong comparison, but a proxy that compresses weakens our tags. The version in
    # them is as good, and the UPDATE compares it again.
    return frozenset(tag.removeprefix("W/") for tag in re.findall(_TAG, header))
