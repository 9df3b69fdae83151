"""Keys that others know a row by: a sku, a GTIN, the slug of an address, the id of another system.

A model names its keys in a mapping from the member to a `Key`. From it follow the paths ``/by/{key}/{value}``: reading,
changing and deleting a row by a key, and creating or replacing it (`upsert_by_key`).
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select

from app.core.errors import Conflict, Invalid, NotFound
from app.core.fastsql import find_row
from app.core.slugs import Moved, find_holder
from app.extensions import db

Row = TypeVar("Row")

#: How often a row is created that another request creates at the same moment, or whose made slug it takes.
ATTEMPTS = 3


class ExternalIdTaken(Conflict):
    """Another has this external id."""


class KeyDiffers(Invalid):
    """The body states another value than the path."""


class CannotChange(Invalid):
    """This is set at creation, and stays; it may be left out, or stated as it is."""


def _as_written(value: str) -> str:
    return value


@dataclass(frozen=True, kw_only=True)
class Key:
    """A member that identifies a row among the living: how it is compared, and what is refused when it is taken."""

    #: The column, or the expression of its unique index.
    column: Any
    taken: type[Conflict]
    #: What the column or expression has for a written value.
    normalize: Callable[[str], str] = _as_written


def read_by_key(rows: Select[Any], keys: Mapping[str, Key], name: str, value: str) -> Any:
    """The one of ``rows`` with this value of a key, to read and not to change.

    Raises ``NotFound``, and `Moved` for the former slug of a row that ``rows`` has.
    """
    key = keys[name]
    try:
        return find_row(rows, key.column, key.normalize(value))
    except NotFound:
        _raise_if_moved(rows, name, value)
        raise


def get_by_key(rows: Select[Any], keys: Mapping[str, Key], name: str, value: str, *, lock: bool = False) -> Any:
    """The one of ``rows`` with this value of a key, to be changed; raises what `read_by_key` raises."""
    key = keys[name]
    try:
        return get_row(rows, key.column, key.normalize(value), lock=lock)
    except NotFound:
        _raise_if_moved(rows, name, value)
        raise


def get_row(rows: Select[Any], column: Any, value: Any, *, lock: bool = False) -> Any:
    """The one of ``rows`` with this value of a unique column, to be changed; ``NotFound`` when there is none.

    ``lock`` locks it (FOR NO KEY UPDATE).
    """
    found = rows.where(column == value)
    row = db.session.scalar(found.with_for_update(key_share=True) if lock else found)
    if row is None:
        raise NotFound
    return row


def upsert_by_key(
    find: Callable[[], Row],
    create: Callable[[], Row],
    replace: Callable[[Row], Row],
    *,
    require: Callable[[Row | None], None],
) -> tuple[Row, bool]:
    """The row that ``find`` locks, replaced, or else the one that ``create`` makes; and whether it is new.

    ``find`` raises ``NotFound`` where there is none; ``require`` checks the preconditions of the request against the
    row, or None. Of several requests at once one creates the row; the others wait for it, and replace it. Raises the
    refusals of ``create`` and ``replace``.
    """
    for attempt in range(1, ATTEMPTS + 1):
        row = None
        with suppress(NotFound):
            row = find()
        require(row)
        if row is not None:
            return replace(row), False
        try:
            # The savepoint keeps the transaction, so that the row can be looked for again.
            with db.session.begin_nested():
                return create(), True
        except Conflict:
            if attempt == ATTEMPTS:
                # It is not this key that is taken.
                raise
    raise AssertionError


def require_same(keys: Mapping[str, Key], name: str, value: str, stated: str | None) -> None:
    """Raise ``KeyDiffers`` where a body states another value of the key than the path, or none."""
    normalize = keys[name].normalize
    if stated is None or normalize(stated) != normalize(value):
        raise KeyDiffers.at(name)


def require_unchanged(row: Any, stated: Mapping[str, Any], members: Iterable[str]) -> None:
    """Raise ``CannotChange`` where one of ``members`` is stated with another value than a row has."""
    if changed := [name for name in members if name in stated and stated[name] != getattr(row, name)]:
        raise CannotChange.at(*changed)


def _raise_if_moved(rows: Select[Any], name: str, value: str) -> None:
    if name == "slug" and (slug := find_holder(rows, value)) is not None:
        raise Moved(slug)
