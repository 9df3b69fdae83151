"""References between tables: declared once, at the foreign key, and read wherever a row is written or deleted.

A column says ``mapped_column(big_integer, refers_to("brands.id", unknown=BrandUnknown))``. From that follows what is
refused: one row (`constraints.refusing` and `save`), an item of a batch or a row of a file (`find_unknown_among`), and
the deletion of a row that others refer to (`constraints.delete_row`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Column, ForeignKey, Table, false, inspect, or_, select, true

from app.core.errors import Invalid
from app.extensions import Model, db

K = TypeVar("K")

#: Where a foreign key has the refusal of a value that names no row.
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reference:
    """A column of a model that holds keys of another table."""

    foreign_key: ForeignKey

    @property
    def member(self) -> str:
        """The name of the column, which is also the member of a body."""
        return str(self.foreign_key.parent.name)

    @property
    def key(self) -> Column[Any]:
        """The column that is referred to."""
        return self.foreign_key.column

    @property
    def unknown(self) -> type[Invalid]:
        """The refusal of a value that names no row."""
        refusal: type[Invalid] = self.foreign_key.info[_UNKNOWN]
        return refusal


def refers_to(key: str, *, unknown: type[Invalid]) -> ForeignKey:
    """A foreign key to ``key``, as ``table.column``; a value that names no row is refused with ``unknown``.

    The row that is referred to cannot be deleted.
    """
    return ForeignKey(key, ondelete="RESTRICT", info={_UNKNOWN: unknown})


@cache
def references_of(model: type[Model]) -> Sequence[Reference]:
    """The references that a model declares with `refers_to`, in the order of its columns."""
    keys = (key for column in _table_of(model).columns for key in column.foreign_keys)
    return [Reference(key) for key in keys if _UNKNOWN in key.info]


def refusals_of_references(model: type[Model]) -> dict[str, type[Invalid]]:
    """The refusals of a model's references, by the names of their constraints."""
    return {_constraint_of(reference.foreign_key): reference.unknown for reference in references_of(model)}


def stated_references(model: type[Model], values: Mapping[str, Any]) -> dict[Reference, Any]:
    """The references that ``values``, by the names of the members, state; a None refers to nothing."""
    references = references_of(model)
    return {one: values[one.member] for one in references if values.get(one.member) is not None}


def changed_references(row: Model) -> dict[Reference, Any]:
    """The references of a mapped row that its next flush writes; a None refers to nothing."""
    attributes = inspect(row).attrs
    changed = {
        one.member: getattr(row, one.member)
        for one in references_of(type(row))
        if attributes[one.member].history.has_changes()
    }
    return stated_references(type(row), changed)


def require_references(references: Mapping[Reference, Any]) -> None:
    """Raise the refusal of the first of ``references`` whose value names no row; at most one statement."""
    reference = find_unknown(references)
    if reference is not None:
        raise reference.unknown


def find_unknown(references: Mapping[Reference, Any]) -> Reference | None:
    """The first of ``references`` whose value names no row; at most one statement."""
    if not references:
        return None
    are_there = (_is_there(reference.key, value) for reference, value in references.items())
    answers = db.session.execute(select(*are_there)).one()
    return next((one for one, is_there in zip(references, answers, strict=True) if not is_there), None)


def find_unknown_among(model: type[Model], rows: Mapping[K, Mapping[str, Any]]) -> dict[K, Reference]:
    """The first unknown reference of each of ``rows`` that has one, under the row's key.

    One statement for each reference of ``model`` that a row states, however many rows there are. The rows that are
    referred to are locked against deletion until the transaction ends: they still exist when the rows are written.
    """
    unknown: dict[K, Reference] = {}
    for reference in references_of(model):
        stated = {
            key: values[reference.member] for key, values in rows.items() if values.get(reference.member) is not None
        }
        known = _lock_existing(reference.key, set(stated.values()))
        unknown = {key: reference for key, value in stated.items() if value not in known} | unknown
    return unknown


def is_referred_to(row: Model) -> bool:
    """Whether a row of any table refers to ``row`` and so keeps it from being deleted; one statement."""
    referring = [_is_there(key.parent, getattr(row, key.column.name)) for key in _keys_to(_table_of(type(row)))]
    return bool(db.session.scalar(select(or_(false(), *referring))))


def constraints_on_deletion(model: type[Model]) -> Sequence[str]:
    """The names of the constraints that keep a row of ``model`` from being deleted while others refer to it."""
    return [_constraint_of(key) for key in _keys_to(_table_of(model))]


def _keys_to(table: Table) -> Iterator[ForeignKey]:
    for _, other in sorted(table.metadata.tables.items()):
        for key in sorted(other.foreign_keys, key=_constraint_of):
            if key.column.table is table and key.ondelete == "RESTRICT":
                yield key


def _lock_existing(key: Column[Any], wanted: set[Any]) -> set[Any]:
    """The keys that exist; their rows are locked against deletion until the transaction ends."""
    if not wanted:
        return set()
    # In one order, so that two transactions never wait for each other here.
    rows = select(key).where(key.in_(wanted)).order_by(key)
    return set(db.session.scalars(rows.with_for_update(read=True, key_share=True)))


def _is_there(column: Any, value: Any) -> Any:
    return select(true()).where(column == value).exists()


def _constraint_of(key: ForeignKey) -> str:
    return str(key.constraint.name) if key.constraint is not None else ""


def _table_of(model: type[Model]) -> Table:
    return model.metadata.tables[model.__tablename__]
