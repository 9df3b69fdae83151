"""Slugs: the part of an address that names a row. A row that gets another slug keeps its former ones reserved.

Readers that follow an old address are sent to the new one. A former slug belongs to its row as long as that lives: no
other row of the kind can take it, and the row itself can take it back.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, ClassVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Index,
    Select,
    String,
    and_,
    delete,
    event,
    inspect,
    or_,
    tuple_,
)
from sqlalchemy.orm import Mapped, Mapper, mapped_column

from app.core.constraints import refusing
from app.core.errors import Conflict, Refusal
from app.core.membership import among
from app.core.model import big_integer, ordered_text
from app.core.text import slugify
from app.core.upserts import insert_into
from app.extensions import Model, db

MAX_SLUG_LENGTH = 140
#: What is left for the name, so that a slug can be distinguished from others of that name.
MAX_BASE_LENGTH = 120


class SlugTaken(Conflict):
    """Another has this slug, or had it before; choose another."""


class Moved(Exception):
    """The row has another slug now."""

    def __init__(self, slug: str) -> None:
        super().__init__()
        self.slug = slug


class FormerSlug(Model):
    """A slug that a row had before the one it has now."""

    __tablename__ = "former_slugs"

    resource_type: Mapped[str] = mapped_column(String(32), primary_key=True)
    slug: Mapped[str] = mapped_column(ordered_text(MAX_SLUG_LENGTH), primary_key=True)
    resource_id: Mapped[int] = mapped_column(big_integer)


Index("ix_former_slugs_resource_type_resource_id", FormerSlug.resource_type, FormerSlug.resource_id)

_FORMER = FormerSlug.metadata.tables["former_slugs"]


class Slugged:
    """A model whose rows have a slug, unique among the living. Its mapper keeps the slugs that rows give up."""

    audited_as: ClassVar[str]
    id: Mapped[int]
    name: Mapped[str]
    slug: Mapped[str]


@dataclass(frozen=True)
class SlugChange:
    """A row that gets another slug."""

    row_id: int
    before: str
    after: str


def make_slug(name: str, fallback: str) -> str:
    """The slug to try first for a name; ``fallback`` for a name without ASCII letters and digits."""
    return slugify(name)[:MAX_BASE_LENGTH].strip("-") or fallback


def make_spare_slug(slug: str, key: str) -> str:
    """The slug to try next, where another row has this one: with the row's own ``key`` at its end."""
    return f"{slug}-{slugify(key)[:MAX_BASE_LENGTH].strip('-')}"[:MAX_SLUG_LENGTH].strip("-")


def make_random_slug(slug: str) -> str:
    """The slug to try last: with eight random hexadecimal digits at its end, which no other row is likely to have."""
    return f"{slug[:MAX_BASE_LENGTH].strip('-')}-{secrets.token_hex(4)}"


def find_holder(rows: Select[Any], slug: str) -> str | None:
    """The present slug of the one of ``rows`` that had ``slug`` before; None where there is none."""
    model = rows.column_descriptions[0]["entity"]
    found = _with_former(rows).with_only_columns(model.slug).where(_FORMER.c.slug == slug)
    holder: str | None = db.session.scalar(found)
    return holder


def find_reserved(rows: Select[Any], slugs: Collection[str]) -> Mapping[str, int]:
    """Which of ``slugs`` are former slugs of ``rows``, each with the id of its row; one statement."""
    return {row.slug: row.resource_id for row in db.session.execute(select_reserved(rows, slugs))}


def select_reserved(rows: Select[Any], slugs: Collection[str]) -> Select[str, int]:
    """The statement that finds which of ``slugs`` are former slugs of ``rows``, each with the id of its row."""
    former = _FORMER.c
    return _with_former(rows).with_only_columns(former.slug, former.resource_id).where(among(former.slug, slugs))


def find_free_slug(rows: Select[Any], name: str, fallback: str) -> str:
    """The first of name, name-2, name-3 ... that none of ``rows`` has or had; one statement.

    A concurrent request may still take it. ``fallback`` is as in `make_slug`.
    """
    slug = make_slug(name, fallback)
    taken = _find_like(rows, slug)
    numbered = (f"{slug}-{number}" for number in count(2))
    return next(one for one in chain([slug], numbered) if one not in taken)


def save_with_made_slug(
    row: Slugged, rows: Select[Any], refusals: Mapping[str, type[Refusal]], *, fallback: str
) -> None:
    """Insert a row with a slug made from its ``name``, or with random digits where another takes that meanwhile.

    Raises the refusals of the violated constraints, but for that of the slug.
    """
    row.slug = find_free_slug(rows, row.name, fallback)
    try:
        with db.session.begin_nested(), refusing(refusals):
            db.session.add(row)
    except SlugTaken:
        row.slug = make_random_slug(make_slug(row.name, fallback))
        with refusing(refusals):
            db.session.add(row)


def _find_like(rows: Select[Any], slug: str) -> set[str]:
    """The slugs that ``rows`` have or had: ``slug`` itself, and those with more behind a hyphen."""
    former, present = _FORMER.c.slug, rows.column_descriptions[0]["entity"].slug

    def is_like(column: Any) -> ColumnElement[bool]:
        return or_(column == slug, column.startswith(f"{slug}-", autoescape=True))

    reserved = _with_former(rows).with_only_columns(former).where(is_like(former))
    return set(db.session.scalars(rows.with_only_columns(present).where(is_like(present)).union_all(reserved)))


def is_reserved(rows: Select[Any], slug: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether one of ``rows`` had a slug before, in SQL."""
    return _with_former(rows).where(_FORMER.c.slug == slug).exists()


def _with_former(rows: Select[Any]) -> Select[Any]:
    model, former = rows.column_descriptions[0]["entity"], _FORMER.c
    return rows.join(_FORMER, and_(former.resource_type == model.audited_as, former.resource_id == model.id))


def require_unreserved(row: Slugged, rows: Select[Any]) -> None:
    """Raise ``SlugTaken`` where another of ``rows`` had the slug of ``row``, which is written, before.

    It is looked up after the row is written: where another transaction gives the slug up at the same moment, the unique
    index has made this one wait for it.
    """
    if any(holder != row.id for holder in find_reserved(rows, [row.slug]).values()):
        raise SlugTaken


def retire_slugs(connection: Connection, resource_type: str, changes: Sequence[SlugChange]) -> None:
    """Reserve the slugs that rows give up, and let each have back what it had before; two statements."""
    if not changes:
        return
    taken_back = tuple_(_FORMER.c.slug, _FORMER.c.resource_id).in_([(one.after, one.row_id) for one in changes])
    connection.execute(delete(_FORMER).where(_FORMER.c.resource_type == resource_type, taken_back))
    keep = insert_into(_FORMER, dialect=connection.dialect.name)
    # Another row may have had it that was deleted since: the one that had it last has it.
    keep = keep.on_conflict_do_update(
        index_elements=["resource_type", "slug"], set_={"resource_id": keep.excluded.resource_id}
    )
    rows = [{"resource_type": resource_type, "slug": one.before, "resource_id": one.row_id} for one in changes]
    connection.execute(keep, rows)


@event.listens_for(Slugged, "before_update", propagate=True)
def _retire(_mapper: Mapper[Any], connection: Connection, row: Slugged) -> None:
    attributes = inspect(row).attrs
    history = attributes.slug.history
    # A row that is restored gives nothing up: another row may have its former slug, or have had it, by now.
    is_restored = "deleted_at" in attributes and attributes.deleted_at.history.has_changes()
    if history.has_changes() and history.deleted and not is_restored:
        retire_slugs(connection, row.audited_as, [SlugChange(row.id, history.deleted[0], row.slug)])


@event.listens_for(Slugged, "before_delete", propagate=True)
def _forget(_mapper: Mapper[Any], connection: Connection, row: Slugged) -> None:
    is_of_row = (_FORMER.c.resource_type == row.audited_as, _FORMER.c.resource_id == row.id)
    connection.execute(delete(_FORMER).where(*is_of_row))
