"""Rows that are written and deleted, and the refusals that stand for the constraints they violate."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy.exc import IntegrityError

from app.core.errors import Conflict, Refusal
from app.core.references import (
    Reference,
    changed_references,
    constraints_on_deletion,
    is_referred_to,
    require_references,
)
from app.core.transactions import release_connection
from app.extensions import Model, db

_NONE: Mapping[Reference, Any] = MappingProxyType({})


@contextlib.contextmanager
def refusing(refusals: Mapping[str, type[Refusal]], *, references: Mapping[Reference, Any] = _NONE) -> Iterator[None]:
    """Flush at the end of the block, and answer the constraints named in ``refusals`` with those refusals.

    ``references`` are those that the block writes, with their values. An unknown one is refused on both databases, and
    before a conflict: a wrong value comes before the state of the catalogue. Raises ``IntegrityError`` for a constraint
    that ``refusals`` does not name.
    """
    # An error in a savepoint leaves no connection to look them up with.
    looks_first = db.session().in_nested_transaction() or not _names_references()
    if looks_first:
        require_references(references)
    try:
        yield
        db.session.flush()
    except IntegrityError as error:
        refusal = refusals.get(violated_constraint(error) or "")
        if refusal is None:
            raise
        if references and not looks_first and issubclass(refusal, Conflict):
            # PostgreSQL checks unique indexes before references, and the error has aborted the transaction.
            release_connection()
            require_references(references)
        raise refusal from error


def save(row: Model, refusals: Mapping[str, type[Refusal]]) -> None:
    """Write a mapped row, new or changed, and refuse what `refusing` does; references that stay are not looked up."""
    with refusing(refusals, references=changed_references(row)):
        db.session.add(row)


def delete_row(row: Model, *, in_use: type[Conflict]) -> None:
    """Delete a mapped row; raises ``in_use`` where a row of any table refers to it."""
    # SQLite does not name the violated reference, so look first. One that is inserted in between still violates it.
    if is_referred_to(row):
        raise in_use
    with refusing(dict.fromkeys(constraints_on_deletion(type(row)), in_use)):
        db.session.delete(row)


def _names_references() -> bool:
    # PostgreSQL names the violated constraint, so no statement is needed before; SQLite does not.
    return db.engine.dialect.name == "postgresql"


def violated_constraint(error: IntegrityError) -> str | None:
    """The name of the constraint or unique index that was violated, where the database reports it."""
    diagnosis: Any = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        name: str | None = diagnosis.constraint_name
        return name
    # SQLite names CHECK constraints, but of a UNIQUE one only its columns: "UNIQUE constraint failed: users.email".
    text = str(error.orig)
    if index := re.fullmatch(r"UNIQUE constraint failed: index '(\w+)'", text):
        return index[1]
    if columns := re.fullmatch(r"UNIQUE constraint failed: (.+)", text):
        table, names = "", []
        for column in columns[1].split(", "):
            table, name = column.split(".")
            names.append(name)
        return f"uq_{table}_{'_'.join(names)}"
    if check := re.fullmatch(r"CHECK constraint failed: (\w+)", text):
        return check[1]
    return None
